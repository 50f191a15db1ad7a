//! Reading a body without trusting its sender, and inflating it once its sender is known.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

/// RFC 8878 asks decoders for a window of 8 MiB at least; levels up to 19 stay within it, and a head that asks for more
/// would make us allocate what no cap on the output covers.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes of bodies that may be held at a time.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// A body's share of the budget, given back on drop.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// A body as it came over the wire.
#[derive(Debug)]
pub(crate) struct ReceivedBody {
    pub(crate) bytes: Vec<u8>,
    _share: Share,
}

#[cfg(any(test, feature = "fuzzing"))]
impl ReceivedBody {
    pub(crate) fn for_test(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), _share: Share { budget: Budget::new(0), bytes: 0 } }
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// More than allowed.
    TooLarge,
    /// Not there in time.
    Timeout,
    /// All bodies together would take too much memory.
    NoMemory,
    /// The connection or its framing broke.
    Broken,
}

/// Reads a body of at most `max` bytes until `deadline`. Memory grows with what arrives, not with what is announced.
///
/// Cancel safety: a dropped call gives its memory back.
pub(crate) async fn read_body<B>(
    mut body: B,
    max: u64,
    deadline: Instant,
    budget: &Arc<Budget>,
) -> Result<ReceivedBody, ReadError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut share = Share { budget: Arc::clone(budget), bytes: 0 };
    let mut bytes = Vec::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(ReadError::Timeout),
            Ok(None) => return Ok(ReceivedBody { bytes, _share: share }),
            Ok(Some(Err(_))) => return Err(ReadError::Broken),
            Ok(Some(Ok(frame))) => frame,
        };
        // What is not data is trailers, which nothing signs.
        let Ok(data) = frame.into_data() else { continue };
        let length = data.remaining() as u64;
        if bytes.len() as u64 + length > max {
            return Err(ReadError::TooLarge);
        }
        if !budget.take(length) {
            return Err(ReadError::NoMemory);
        }
        share.bytes += length;
        bytes.extend_from_slice(&data);
    }
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

/// Why a verified body cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It holds more than allowed.
    #[error("the body inflates to more than {max} bytes: send smaller batches")]
    TooLarge {
        /// Most bytes that are taken.
        max: u64,
    },
    /// It is not what `Content-Encoding` says.
    #[error("the body is not the {encoding} stream that content-encoding says")]
    Broken {
        /// What the header says.
        encoding: &'static str,
    },
}

/// Unpacks a body, never to more than `max` bytes: reading stops there, whatever the stream claims.
pub(crate) fn inflate(bytes: Vec<u8>, encoding: Encoding, max: u64) -> Result<Vec<u8>, InflateError> {
    match encoding {
        Encoding::Identity => Ok(bytes),
        Encoding::Zstd => {
            let broken = InflateError::Broken { encoding: "zstd" };
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(bytes.as_slice()).map_err(|_| broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| broken)?;
            read_capped(decoder, bytes.len(), max, broken)
        }
        Encoding::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(bytes.as_slice());
            read_capped(decoder, bytes.len(), max, InflateError::Broken { encoding: "gzip" })
        }
    }
}

fn read_capped(
    reader: impl Read,
    packed: usize,
    max: u64,
    broken: InflateError,
) -> Result<Vec<u8>, InflateError> {
    let guess = (packed as u64).saturating_mul(4).min(max);
    let mut out = Vec::with_capacity(usize::try_from(guess).unwrap_or(0));
    reader.take(max.saturating_add(1)).read_to_end(&mut out).map_err(|_| broken)?;
    if out.len() as u64 > max {
        return Err(InflateError::TooLarge { max });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use http_body_util::Full;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_packed_comes_out_and_a_bomb_stops_at_the_cap() {
        let plain = vec![7u8; 100_000];
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for (packed, encoding) in [(zstd, Encoding::Zstd), (gzip(&plain), Encoding::Gzip)] {
            assert!(packed.len() < 1_000);
            assert_eq!(inflate(packed.clone(), encoding, 100_000).as_deref(), Ok(&plain[..]));
            assert_eq!(
                inflate(packed.clone(), encoding, 99_999),
                Err(InflateError::TooLarge { max: 99_999 })
            );
            let cut = packed[..packed.len() - 3].to_vec();
            assert!(matches!(inflate(cut, encoding, 100_000), Err(InflateError::Broken { .. })));
        }
        assert_eq!(inflate(vec![1, 2], Encoding::Identity, 2), Ok(vec![1, 2]));
    }

    #[test]
    fn a_zstd_window_above_the_bound_is_refused_before_it_is_allocated() {
        // Magic, a frame header without single segment or content size, window descriptor of 2^30 bytes, an empty block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
        assert_eq!(
            inflate(frame.to_vec(), Encoding::Zstd, 1 << 20),
            Err(InflateError::Broken { encoding: "zstd" })
        );
        let small = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3, 0x01, 0x00, 0x00];
        assert_eq!(inflate(small.to_vec(), Encoding::Zstd, 1 << 20), Ok(vec![]));
    }

    #[tokio::test]
    async fn memory_is_bounded_over_all_bodies_and_given_back() {
        let budget = Budget::new(10);
        let deadline = Instant::now() + Duration::from_secs(60);
        let body = |bytes: &'static [u8]| Full::new(Bytes::from_static(bytes));
        let held = read_body(body(b"123456"), 6, deadline, &budget).await.unwrap();
        assert_eq!(held.bytes, b"123456");
        assert_eq!(read_body(body(b"1234567"), 6, deadline, &budget).await.unwrap_err(), ReadError::TooLarge);
        assert_eq!(read_body(body(b"12345"), 6, deadline, &budget).await.unwrap_err(), ReadError::NoMemory);
        drop(held);
        assert!(read_body(body(b"12345"), 6, deadline, &budget).await.is_ok());
        assert_eq!(budget.left.load(Ordering::Relaxed), 10);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic_nor_pass_the_cap(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for encoding in [Encoding::Zstd, Encoding::Gzip] {
                if let Ok(out) = inflate(bytes.clone(), encoding, 64) {
                    prop_assert!(out.len() <= 64);
                }
            }
        }
    }
}
