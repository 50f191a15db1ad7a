//! Bodies that are packed for receivers that understand it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use rowbridge_schema::config::Compression;

/// Smaller bodies fit a packet or two as they are.
const COMPRESS_ABOVE: usize = 1 << 10;
/// As towards bridges: further levels cost more time than they save.
const ZSTD_LEVEL: i32 = 1;

/// The body packed; `None` where that is worth nothing. The same body is always packed into the same bytes.
pub(super) fn compressed(how: Compression, body: &[u8]) -> Option<Bytes> {
    if body.len() <= COMPRESS_ABOVE {
        return None;
    }
    let packed = match how {
        Compression::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL).ok()?,
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Level::fast());
            encoder.write_all(body).ok()?;
            encoder.finish().ok()?
        }
    };
    (packed.len() < body.len()).then(|| packed.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_small_bodies_stay() {
        let body = "a body that says the same again and again; ".repeat(100).into_bytes();
        let zstd = compressed(Compression::Zstd, &body).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd, body.len()).unwrap(), body);
        let gzip = compressed(Compression::Gzip, &body).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*gzip).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, body);
        assert_eq!(compressed(Compression::Gzip, &body).unwrap(), gzip, "the same bytes again");
        assert_eq!(compressed(Compression::Gzip, &body[..1024]), None);
    }
}
