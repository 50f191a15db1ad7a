//! Bodies unpacked for the eye. Signatures are checked over the bytes as they were sent.

use std::borrow::Cow;
use std::io::Read;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// The window that RFC 8878 asks decoders for: 8 MiB. A head that asks for more would have us allocate it.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body is shown as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InflateError {
    #[error("content-encoding {0} is not known here: the body is shown as it was sent")]
    Unknown(String),
    #[error("the body is not the {0} stream that content-encoding says")]
    Broken(&'static str),
    #[error("the body inflates to more than --max-body ({0} bytes)")]
    TooLarge(u64),
}

/// The body as it was before it was packed, of at most `max` bytes.
pub(super) fn inflate<'a>(
    headers: &HeaderMap,
    bytes: &'a [u8],
    max: u64,
) -> Result<Cow<'a, [u8]>, InflateError> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match encoding.as_deref().map(str::trim).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Cow::Borrowed(bytes)),
        "zstd" => {
            let broken = || InflateError::Broken("zstd");
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| broken())?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| broken())?;
            capped(decoder, max, broken()).map(Cow::Owned)
        }
        "gzip" | "x-gzip" => {
            let decoder = flate2::bufread::MultiGzDecoder::new(bytes);
            capped(decoder, max, InflateError::Broken("gzip")).map(Cow::Owned)
        }
        other => Err(InflateError::Unknown(other.to_owned())),
    }
}

fn capped(reader: impl Read, max: u64, broken: InflateError) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    reader.take(max.saturating_add(1)).read_to_end(&mut out).map_err(|_| broken)?;
    if out.len() as u64 > max { Err(InflateError::TooLarge(max)) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_packed_comes_out_and_a_bomb_stops_at_the_cap() {
        let plain = vec![b'x'; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let packed = [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(&plain[..], 1).unwrap())];
        for (name, packed) in packed {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, name.parse().unwrap())]);
            assert_eq!(inflate(&headers, &packed, 100_000).as_deref(), Ok(&plain[..]));
            assert_eq!(inflate(&headers, &packed, 99_999), Err(InflateError::TooLarge(99_999)));
            let cut = &packed[..packed.len() - 3];
            assert_eq!(inflate(&headers, cut, 100_000), Err(InflateError::Broken(name)));
        }
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, "br".parse().unwrap())]);
        assert_eq!(inflate(&headers, b"x", 9), Err(InflateError::Unknown("br".to_owned())));
        assert_eq!(inflate(&HeaderMap::new(), b"x", 9).as_deref(), Ok(&b"x"[..]));
    }
}
