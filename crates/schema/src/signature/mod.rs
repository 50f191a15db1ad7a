//! Signatures over the bytes of a webhook, as sent and after compression.
//!
//! | scheme | header | signed | signature |
//! | --- | --- | --- | --- |
//! | Standard Webhooks 1.0.0, `v1` | `webhook-signature` | `id.timestamp.body` | HMAC-SHA256, base64 |
//! | Standard Webhooks 1.0.0, `v1a` | `webhook-signature` | `id.timestamp.body` | ed25519, base64 |
//! | GitHub | `X-Hub-Signature-256` | body | HMAC-SHA256, hex |
//! | Stripe | `Stripe-Signature` | `timestamp.body` | HMAC-SHA256, hex |
//!
//! [`Signer`] makes the headers of any of them. Verification looks at bytes only and never parses a body. All failures
//! look alike to the caller of the HTTP side; the reason here is for our own log.

mod github;
mod mac;
mod signer;
mod standard;
mod stripe;
#[cfg(test)]
mod vectors;

pub use github::{HEADER_GITHUB, verify_github};
use sha2::{Digest, Sha256};
pub use signer::{Signer, SignerError};
pub use standard::{sign, verify, verify_with};
pub use stripe::{HEADER_STRIPE, verify_stripe};

/// `webhook-id`
pub const HEADER_ID: &str = "webhook-id";
/// `webhook-timestamp`, integer seconds since 1970 of this attempt.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// `webhook-signature`, a list of `v1,BASE64` separated by spaces.
pub const HEADER_SIGNATURE: &str = "webhook-signature";
/// How far a timestamp may be off, both ways, in seconds: the tolerance of the Standard Webhooks libraries.
pub const DEFAULT_TOLERANCE_SECONDS: u64 = 300;
/// The three values of a signed message, as they stood in its headers.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`
    pub timestamp: &'a str,
    /// `webhook-signature`
    pub signature: &'a str,
}

/// Why a message was not accepted; for the log, never for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing, empty or oversized.
    #[error("a webhook-id, webhook-timestamp or webhook-signature header is missing or malformed")]
    Headers,
    /// The timestamp is outside the tolerance; the difference is the sender's clock minus ours.
    #[error("the timestamp is {skew_seconds} s away from this machine's clock; check both clocks")]
    Stale {
        /// Sender's clock minus ours, in seconds.
        skew_seconds: i64,
    },
    /// No signature matches any key.
    #[error(
        "no signature matches; the secrets of both ends differ, or something changed the body on the way"
    )]
    Mismatch,
}

/// The `webhook-id` of a batch: a hash of what it covers, so that other content has another id and a retry keeps it.
#[must_use]
pub fn batch_id(stream: &str, endpoint: &str, prev: &str, to: &str) -> String {
    let mut hash = Sha256::new();
    for part in [stream, endpoint, prev, to] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut id = String::with_capacity(4 + 32);
    id.push_str("rwb_");
    digest[..16].iter().for_each(|byte| id.push_str(&format!("{byte:02x}")));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_content_has_another_id() {
        assert_eq!(batch_id("s", "e", "1", "2"), batch_id("s", "e", "1", "2"));
        assert_ne!(batch_id("s", "e", "1", "2"), batch_id("se", "", "1", "2"));
        assert_ne!(batch_id("s", "e", "1", "2"), batch_id("s", "e", "1", "3"));
    }
}
