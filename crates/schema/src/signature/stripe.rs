//! Stripe's scheme: `Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX]`, the HMAC-SHA256 of `t.body`.
//!
//! The key is the whole text of the secret, its `whsec_` included and nothing decoded. Several `v1` are a rotation.
//! Source: Stripe's documentation, "Verify webhook signatures manually", and the verifier of stripe-node.

use super::VerifyError;
use super::mac::{MAX_HEADER, MAX_SIGNATURES, any_matches, check_age, hex, mac, unhex};
use crate::secret::Secret;

/// `Stripe-Signature`
pub const HEADER_STRIPE: &str = "stripe-signature";

pub(super) fn sign(secrets: &[Secret], timestamp: u64, body: &[u8]) -> String {
    let seconds = timestamp.to_string();
    let mut text = format!("t={seconds}");
    for secret in secrets {
        text.push_str(",v1=");
        text.push_str(&hex(mac(secret.expose().as_bytes(), &[seconds.as_bytes(), b".", body])));
    }
    text
}

/// Checks the value of [`HEADER_STRIPE`]: its age both ways (Stripe's own libraries look at the past only), then each `v1`
/// against every secret, in constant time. Entries come in any order; other schemes than `v1` are passed over.
///
/// # Errors
/// [`VerifyError::Headers`] without exactly one `t` of digits and at least one `v1`, else the reason.
pub fn verify_stripe(
    secrets: &[Secret],
    signature: &str,
    body: &[u8],
    now_seconds: u64,
    tolerance_seconds: u64,
) -> Result<(), VerifyError> {
    if signature.len() > MAX_HEADER {
        return Err(VerifyError::Headers);
    }
    let (mut timestamp, mut candidates, mut signatures) = (None, Vec::new(), 0);
    for entry in signature.split(',') {
        match entry.trim().split_once('=') {
            // Which of two would have been signed?
            Some(("t", _)) if timestamp.is_some() => return Err(VerifyError::Headers),
            Some(("t", seconds)) => timestamp = Some(seconds),
            Some(("v1", digits)) if signatures < MAX_SIGNATURES => {
                signatures += 1;
                candidates.extend(unhex(digits));
            }
            _ => {}
        }
    }
    let timestamp = timestamp.filter(|_| signatures > 0).ok_or(VerifyError::Headers)?;
    check_age(timestamp, now_seconds, tolerance_seconds)?;
    let mac = |secret: &Secret| mac(secret.expose().as_bytes(), &[timestamp.as_bytes(), b".", body]);
    let macs: Vec<_> = secrets.iter().map(mac).collect();
    if any_matches(&macs, &candidates) { Ok(()) } else { Err(VerifyError::Mismatch) }
}
