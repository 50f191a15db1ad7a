//! GitHub's scheme: `X-Hub-Signature-256: sha256=HEX`, the HMAC-SHA256 of the body alone.
//!
//! The key is the secret's text as it is. The scheme knows one signature and no time: a receiver that wants neither
//! duplicates nor replays goes by `webhook-id`, and a rotation needs both ends to change at once. Source: GitHub Docs,
//! "Validating webhook deliveries".

use super::VerifyError;
use super::mac::{any_matches, hex, mac, unhex};
use crate::secret::Secret;

/// `X-Hub-Signature-256`
pub const HEADER_GITHUB: &str = "x-hub-signature-256";

const PREFIX: &str = "sha256=";

pub(super) fn sign(secret: &Secret, body: &[u8]) -> String {
    format!("{PREFIX}{}", hex(mac(secret.expose().as_bytes(), &[body])))
}

/// Checks the value of [`HEADER_GITHUB`] against every secret, in constant time.
///
/// # Errors
/// [`VerifyError::Headers`] for a value without the prefix, [`VerifyError::Mismatch`].
pub fn verify_github(secrets: &[Secret], signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    let digits = signature.strip_prefix(PREFIX).ok_or(VerifyError::Headers)?;
    let candidate = unhex(digits).ok_or(VerifyError::Mismatch)?;
    let macs: Vec<_> = secrets.iter().map(|secret| mac(secret.expose().as_bytes(), &[body])).collect();
    if any_matches(&macs, &[candidate]) { Ok(()) } else { Err(VerifyError::Mismatch) }
}
