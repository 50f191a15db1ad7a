//! An answer as it comes over a connection: HTTP/1.1 (RFC 9112), read by what this client needs of it.
//!
//! The head is bounded by [`MAX_HEAD`], what frames chunks by [`MAX_EXTRA`]; what is read of a body, the connection bounds.
//! Nothing here waits or allocates for more than the three headers that somebody asks for.

use std::mem::MaybeUninit;

use super::error::ExchangeError;
use super::request::RetryAfter;

/// Longest head of an answer.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most extensions of chunks and trailers together: nobody has use for them.
const MAX_EXTRA: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// Longest text that is kept of a header.
const MAX_KEPT_HEADER: usize = 1024;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) retry_after: Option<Box<RetryAfter>>,
    pub(super) content_type: Option<String>,
    pub(super) location: Option<String>,
    pub(super) body: Body,
    /// The server means to take another request on this connection.
    pub(super) keeps: bool,
    /// Its own bytes.
    pub(super) length: usize,
}

/// How a body is framed, and what of it is still to come (RFC 9112 section 6.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) data: &'a [u8],
    /// Bytes that were read for it, framing included. None, and not the last: there have to be more.
    pub(super) used: usize,
    /// The body ends with it.
    pub(super) last: bool,
}

impl Head {
    /// The head at the beginning of `bytes`, of which the first `known` were looked at before; `None` while it is not
    /// whole.
    ///
    /// # Errors
    /// It is not HTTP, too long, or does not say where its body ends.
    pub(super) fn read(bytes: &[u8], known: usize) -> Result<Option<Self>, ExchangeError> {
        if !ends(bytes, known) {
            // Garbage is not waited for to end.
            let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
            let (start, http) = (&bytes[start..], b"HTTP/1.");
            let same = start.len().min(http.len());
            return match start[..same] == http[..same] {
                false => Err(ExchangeError::NoHttp),
                true if bytes.len() >= MAX_HEAD => Err(ExchangeError::LongHead),
                true => Ok(None),
            };
        }
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut answer, bytes, &mut headers)
            .map_err(|error| match error {
                httparse::Error::TooManyHeaders => ExchangeError::LongHead,
                _ => ExchangeError::NoHttp,
            })?;
        let httparse::Status::Complete(length) = parsed else {
            return if bytes.len() >= MAX_HEAD { Err(ExchangeError::LongHead) } else { Ok(None) };
        };
        let status = answer.code.filter(|code| *code >= 100).ok_or(ExchangeError::NoHttp)?;
        Self::of(status, answer.version == Some(1), answer.headers, length).map(Some)
    }

    fn of(
        status: u16,
        is_1_1: bool,
        headers: &[httparse::Header<'_>],
        length: usize,
    ) -> Result<Self, ExchangeError> {
        let mut head = Self {
            status,
            retry_after: None,
            content_type: None,
            location: None,
            body: Body::UntilClose,
            keeps: is_1_1,
            length,
        };
        let (mut said, mut coded, mut wish, mut date) = (None, None, None, None);
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let text = std::str::from_utf8(header.value).ok().map(str::trim);
                let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number: u64 = digits.and_then(|text| text.parse().ok()).ok_or(ExchangeError::Framing)?;
                if said.is_some_and(|other| other != number) {
                    return Err(ExchangeError::Framing);
                }
                said = Some(number);
            } else if is("transfer-encoding") {
                coded = tokens(header.value).last().map(|last| last.eq_ignore_ascii_case(b"chunked"));
            } else if is("connection") {
                for token in tokens(header.value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        head.keeps = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") && !is_1_1 {
                        head.keeps = true;
                    }
                }
            } else if is("retry-after") {
                wish.get_or_insert(header.value);
            } else if is("date") {
                date.get_or_insert(header.value);
            } else if is("content-type") {
                head.content_type.get_or_insert_with(|| kept(header.value));
            } else if is("location") {
                head.location.get_or_insert_with(|| kept(header.value));
            }
        }
        head.retry_after = wish.map(|wish| Box::new(RetryAfter { value: kept(wish), date: date.map(kept) }));
        head.body = match (coded, said) {
            _ if status < 200 || matches!(status, 204 | 304) => Body::Length(0),
            (Some(true), _) if is_1_1 => Body::Chunked(Chunked::default()),
            (Some(_), _) | (None, None) => Body::UntilClose,
            (None, Some(length)) => Body::Length(length),
        };
        // Whoever says both may mean something else by one of them, and whoever switches speaks no HTTP any more.
        head.keeps &= !(coded.is_some() && said.is_some()) && head.body != Body::UntilClose && status != 101;
        Ok(head)
    }

    /// Another answer follows to the same request (RFC 9110 section 15.2).
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Whether an empty line comes behind the first `known` bytes, or at their end.
fn ends(bytes: &[u8], known: usize) -> bool {
    let from = known.saturating_sub(3).min(bytes.len());
    let rest = &bytes[from..];
    rest.iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && matches!(&rest[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

fn tokens(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn kept(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(MAX_KEPT_HEADER).collect()
}

impl Body {
    /// The next piece, which `bytes` begins with.
    ///
    /// # Errors
    /// Chunks that are none.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Piece<'a>, ExchangeError> {
        match self {
            Self::UntilClose => Ok(Piece { data: bytes, used: bytes.len(), last: false }),
            Self::Length(left) => {
                let data = first(bytes, *left);
                *left -= data.len() as u64;
                Ok(Piece { data, used: data.len(), last: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.next(bytes),
        }
    }
}

/// At most so many.
fn first(bytes: &[u8], most: u64) -> &[u8] {
    &bytes[..usize::try_from(most).map_or(bytes.len(), |most| bytes.len().min(most))]
}

/// Where in a chunked body it is (RFC 9112 section 7.1).
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of extensions and trailers so far.
    extra: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A chunk's size, of which so many digits came.
    Size {
        digits: u8,
        size: u64,
    },
    /// What stands behind a size.
    Extension {
        size: u64,
    },
    /// The end of a size's line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// The line's end behind data, and its second half.
    DataEnd,
    DataEnded,
    /// The beginning of a trailer, or the end of all.
    Trailer,
    WithinTrailer,
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Piece<'a>, ExchangeError> {
        for (used, byte) in bytes.iter().copied().enumerate() {
            if let At::Data { left } = self.at {
                let data = first(&bytes[used..], left);
                let left = left - data.len() as u64;
                self.at = if left == 0 { At::DataEnd } else { At::Data { left } };
                return Ok(Piece { data, used: used + data.len(), last: false });
            }
            if self.at == At::End && byte == b'\n' {
                return Ok(Piece { data: &[], used: used + 1, last: true });
            }
            self.at = self.step(byte).ok_or(ExchangeError::Framing)?;
        }
        Ok(Piece { data: &[], used: bytes.len(), last: false })
    }

    /// Where it is behind a byte that is no data.
    fn step(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Size { digits: 1.., size }, b'\r') => Some(At::SizeEnd { size }),
            (At::Size { digits: 1.., size }, b';' | b' ' | b'\t') => Some(At::Extension { size }),
            (At::Size { digits: digits @ ..16, size }, _) => {
                let digit = char::from(byte).to_digit(16)?;
                Some(At::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
            }
            (At::Extension { size }, b'\r') => Some(At::SizeEnd { size }),
            (At::Extension { .. } | At::Trailer | At::WithinTrailer, _) if self.extra >= MAX_EXTRA => None,
            (At::Extension { .. }, b'\n') => None,
            (At::Extension { size }, _) => self.passed(At::Extension { size }),
            (At::SizeEnd { size: 0 }, b'\n') => Some(At::Trailer),
            (At::SizeEnd { size }, b'\n') => Some(At::Data { left: size }),
            (At::DataEnd, b'\r') => Some(At::DataEnded),
            (At::DataEnded, b'\n') => Some(At::default()),
            (At::Trailer, b'\r') => Some(At::End),
            (At::WithinTrailer, b'\n') => self.passed(At::Trailer),
            (At::Trailer | At::WithinTrailer, _) => self.passed(At::WithinTrailer),
            (
                At::Size { .. }
                | At::SizeEnd { .. }
                | At::DataEnd
                | At::DataEnded
                | At::Data { .. }
                | At::End,
                _,
            ) => None,
        }
    }

    fn passed(&mut self, at: At) -> Option<At> {
        self.extra += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Head, String> {
        match Head::read(text.as_bytes(), 0) {
            Ok(head) => head.ok_or_else(|| "not whole".to_owned()),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn body(text: &str) -> Body {
        head(&format!("HTTP/1.1 {text}\r\n\r\n")).unwrap().body
    }

    #[test]
    fn bodies_end_where_the_head_says() {
        assert_eq!(body("204 x"), Body::Length(0));
        assert_eq!(body("304 x\r\nContent-Length: 5"), Body::Length(0));
        assert_eq!(body("200 x\r\nContent-Length: 5\r\ncontent-length:5"), Body::Length(5));
        assert_eq!(body("200 x"), Body::UntilClose);
        assert_eq!(body("200 x\r\ntransfer-encoding: gzip, Chunked"), Body::Chunked(Chunked::default()));
        assert_eq!(body("200 x\r\ntransfer-encoding: gzip\r\ncontent-length: 5"), Body::UntilClose);
        for wrong in ["5, 6", "-1", "+5", "", "0x5", "99999999999999999999", "5\r\ncontent-length: 6"] {
            let answer = head(&format!("HTTP/1.1 200 x\r\ncontent-length: {wrong}\r\n\r\n"));
            assert_eq!(answer.unwrap_err(), "Framing", "{wrong}");
        }
    }

    #[test]
    fn connections_are_kept_by_those_who_say_so() {
        let keeps = |text: &str| head(&format!("{text}\r\ncontent-length: 0\r\n\r\n")).unwrap().keeps;
        assert!(keeps("HTTP/1.1 200 x"));
        assert!(!keeps("HTTP/1.1 200 x\r\nconnection: keep-alive, Close"));
        assert!(!keeps("HTTP/1.0 200 x"));
        assert!(keeps("HTTP/1.0 200 x\r\nconnection: Keep-Alive"));
        assert!(!keeps("HTTP/1.1 200 x\r\ntransfer-encoding: chunked"));
        assert!(!keeps("HTTP/1.1 101 x"));
        assert!(!head("HTTP/1.1 200 x\r\n\r\n").unwrap().keeps);
    }

    #[test]
    fn heads_are_found_whole_or_waited_for() {
        let text = "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nretry-after: 9\r\nX: y\r\n\r\nbody";
        let whole = head(text).unwrap();
        assert_eq!(
            (whole.status, whole.retry_after.as_deref().map(|wish| &*wish.value), whole.length),
            (429, Some("7"), text.len() - 4)
        );
        for cut in 0..text.len() - 4 {
            assert_eq!(Head::read(&text.as_bytes()[..cut], 0).unwrap(), None, "{cut}");
            // Whatever was looked at before, the end is found.
            assert!(Head::read(text.as_bytes(), cut).unwrap().is_some(), "{cut}");
        }
        assert!(head("HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_interim());
        assert!(!head("HTTP/1.1 101 Switching\r\n\r\n").unwrap().is_interim());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for garbage in
            ["SSH-2.0", "HTTP/2 200\r\n", "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1 200 x\r\na b: c\r\n\r\n", "\0"]
        {
            assert_eq!(head(garbage).unwrap_err(), "NoHttp", "{garbage}");
        }
        let long = format!("HTTP/1.1 200 x\r\nx: {}", "y".repeat(MAX_HEAD));
        assert_eq!(head(&long).unwrap_err(), "LongHead");
        let many = format!("HTTP/1.1 200 x\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(head(&many).unwrap_err(), "LongHead");
    }

    /// What comes of a chunked body that arrives in parts of these sizes; whether it ended, and what stood behind it.
    fn unchunk(bytes: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, bool, usize), ExchangeError> {
        let (mut body, mut data) = (Body::Chunked(Chunked::default()), Vec::new());
        let (mut at, mut sizes) = (0, sizes.iter().cycle());
        while at < bytes.len() {
            let end = (at + sizes.next().unwrap()).min(bytes.len());
            while at < end {
                let piece = body.next(&bytes[at..end])?;
                data.extend_from_slice(piece.data);
                at += piece.used;
                if piece.last {
                    return Ok((data, true, bytes.len() - at));
                }
                assert!(piece.used > 0);
            }
        }
        Ok((data, false, 0))
    }

    #[test]
    fn chunks_are_read_strictly() {
        let read = |text: &str| unchunk(text.as_bytes(), &[usize::MAX]).map_err(|error| format!("{error:?}"));
        assert_eq!(read("5\r\nhello\r\n0\r\n\r\nX"), Ok((b"hello".to_vec(), true, 1)));
        assert_eq!(read("5;a=\"b\"\r\nhello\r\n00\r\nTrailer: x\r\n\r\n"), Ok((b"hello".to_vec(), true, 0)));
        assert_eq!(read("5\r\nhel"), Ok((b"hel".to_vec(), false, 0)));
        for wrong in [
            "\r\n",
            ";\r\n",
            "g\r\n",
            "5\nhello",
            "5\r\nhellox",
            "5\r\nhello\rx",
            "5\r\rhello",
            "-5\r\n",
            "0x5\r\n",
            "11111111111111111\r\n",
            "5;a\nb\r\n",
            "0\r\n\rx",
        ] {
            assert_eq!(read(wrong).unwrap_err(), "Framing", "{wrong:?}");
        }
        for endless in
            [format!("5;{}", "x".repeat(MAX_EXTRA + 1)), format!("0\r\n{}", "a: b\r\n".repeat(MAX_EXTRA))]
        {
            assert_eq!(read(&endless).unwrap_err(), "Framing");
        }
    }

    proptest! {
        #[test]
        fn chunks_give_what_was_put_into_them(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            sizes in proptest::collection::vec(1usize..30, 1..6),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(unchunk(&bytes, &sizes).unwrap(), (chunks.concat(), true, 0));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), known in 0usize..300) {
            let _ = Head::read(&bytes, known);
            let _ = Head::read(&[b"HTTP/1.1 200 x\r\n", bytes.as_slice(), b"\r\n\r\n"].concat(), 0);
            let _ = unchunk(&bytes, &[7]);
        }
    }
}
