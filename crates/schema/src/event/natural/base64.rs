//! Standard base64 with padding (RFC 4648, section 4), straight into the body.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An even number of hexadecimal digits.
pub(super) fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte.wrapping_sub(b'A') + 10,
    }
}

fn push_group(out: &mut Vec<u8>, group: &[u8]) {
    let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    let sextet = |shift: u32| ALPHABET[(bits >> shift & 63) as usize];
    let padded = |at: usize, shift| if group.len() > at { sextet(shift) } else { b'=' };
    out.extend_from_slice(&[sextet(18), sextet(12), padded(1, 6), padded(2, 0)]);
}

/// Bytes that are given as hexadecimal digits (see [`is_hex`]).
pub(in crate::event) fn push_hex(out: &mut Vec<u8>, hex: &str) {
    out.reserve(hex.len().div_ceil(6) * 4);
    for digits in hex.as_bytes().chunks(6) {
        let mut group = [0; 3];
        for (byte, pair) in group.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]) & 15;
        }
        push_group(out, &group[..digits.len() / 2]);
    }
}

/// The bytes themselves of hexadecimal digits.
pub(in crate::event) fn push_bytes(out: &mut Vec<u8>, hex: &str) {
    out.extend(hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1]) & 15));
}

/// Bytes.
pub(in crate::event) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    bytes.chunks(3).for_each(|group| push_group(out, group));
}

#[cfg(test)]
mod tests {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_library_writes_it(bytes in proptest::collection::vec(any::<u8>(), 0..40), upper in any::<bool>()) {
            let mut hex = String::new();
            crate::sqlite_type::push_hex(&mut hex, &bytes);
            if upper {
                hex.make_ascii_uppercase();
            }
            prop_assert!(is_hex(&hex));
            let (mut from_hex, mut from_bytes) = (Vec::new(), Vec::new());
            push_hex(&mut from_hex, &hex);
            push(&mut from_bytes, &bytes);
            prop_assert_eq!(&from_hex, &from_bytes);
            prop_assert_eq!(String::from_utf8(from_hex).unwrap(), STANDARD.encode(&bytes));
        }
    }
}
