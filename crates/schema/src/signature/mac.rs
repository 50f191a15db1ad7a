//! HMAC-SHA256, and the age of a message, as all schemes use them.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use super::VerifyError;

/// More signatures than this in one header are refused unread: a rotation has two.
pub(super) const MAX_SIGNATURES: usize = 16;
/// Longest signature header that is looked at.
pub(super) const MAX_HEADER: usize = 4096;

pub(super) type HmacSha256 = Hmac<Sha256>;

/// Over the parts, one after the other.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> HmacSha256 {
    let mut mac = HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// In lower-case hex.
pub(super) fn hex(mac: HmacSha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The 32 bytes of 64 hex digits of either case.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Whether any candidate is the MAC under any of the keys. Every pair is tried in constant time, so that timing does not
/// tell which key or entry matched.
pub(super) fn any_matches(macs: &[HmacSha256], candidates: &[impl AsRef<[u8]>]) -> bool {
    let mut matched = false;
    for mac in macs {
        for candidate in candidates {
            matched |= mac.clone().verify_slice(candidate.as_ref()).is_ok();
        }
    }
    matched
}

/// The age of a message by its own timestamp: decimal digits only, no sign, no fraction.
pub(super) fn check_age(
    timestamp: &str,
    now_seconds: u64,
    tolerance_seconds: u64,
) -> Result<(), VerifyError> {
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::Headers);
    }
    let sent: u64 = timestamp.parse().map_err(|_| VerifyError::Headers)?;
    if sent.abs_diff(now_seconds) > tolerance_seconds {
        let skew_seconds = i64::try_from(i128::from(sent) - i128::from(now_seconds)).unwrap_or(i64::MAX);
        return Err(VerifyError::Stale { skew_seconds });
    }
    Ok(())
}
