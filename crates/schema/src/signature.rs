//! Standard Webhooks 1.0.0 signatures over bytes: `v1` is HMAC-SHA256 of `id.timestamp.body`.
//!
//! Verification looks at bytes only and never parses a body. All failures look alike to the caller of the HTTP side;
//! the reason here is for our own log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::secret::SigningKey;

/// `webhook-id`
pub const HEADER_ID: &str = "webhook-id";
/// `webhook-timestamp`, integer seconds since 1970 of this attempt.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// `webhook-signature`, a list of `v1,BASE64` separated by spaces.
pub const HEADER_SIGNATURE: &str = "webhook-signature";
/// How far a timestamp may be off, both ways, in seconds: the tolerance of the Standard Webhooks libraries.
pub const DEFAULT_TOLERANCE_SECONDS: u64 = 300;
/// More signatures than this in one header are refused unread: a rotation has two.
const MAX_SIGNATURES: usize = 16;

type HmacSha256 = Hmac<Sha256>;

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

fn mac(key: &SigningKey, id: &str, timestamp: &str, body: &[u8]) -> HmacSha256 {
    let mut mac = HmacSha256::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The value of `webhook-signature`: one `v1` signature per key, the first key first.
#[must_use]
pub fn sign(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures: Vec<String> = keys
        .iter()
        .map(|key| format!("v1,{}", STANDARD.encode(mac(key, id, &timestamp, body).finalize().into_bytes())))
        .collect();
    signatures.join(" ")
}

/// Checks headers, age and signature, in this order, against every key in constant time.
///
/// # Errors
/// The reason, for the log.
pub fn verify(
    keys: &[SigningKey],
    headers: SignedHeaders<'_>,
    body: &[u8],
    now_seconds: u64,
    tolerance_seconds: u64,
) -> Result<(), VerifyError> {
    let SignedHeaders { id, timestamp, signature } = headers;
    if id.is_empty() || id.len() > 256 || id.contains('.') || signature.len() > 4096 {
        return Err(VerifyError::Headers);
    }
    let sent: u64 = timestamp.parse().map_err(|_| VerifyError::Headers)?;
    if sent.abs_diff(now_seconds) > tolerance_seconds {
        let skew_seconds = i64::try_from(i128::from(sent) - i128::from(now_seconds)).unwrap_or(i64::MAX);
        return Err(VerifyError::Stale { skew_seconds });
    }
    let mut candidates = Vec::new();
    for entry in signature.split(' ').take(MAX_SIGNATURES) {
        if let Some(Ok(bytes)) = entry.strip_prefix("v1,").map(|encoded| STANDARD.decode(encoded)) {
            candidates.push(bytes);
        }
    }
    let mut matched = false;
    for key in keys {
        let expected = mac(key, id, timestamp, body);
        for candidate in &candidates {
            // Every pair is tried, so that timing does not tell which key or entry matched.
            matched |= expected.clone().verify_slice(candidate).is_ok();
        }
    }
    if matched { Ok(()) } else { Err(VerifyError::Mismatch) }
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
    use proptest::prelude::*;

    use super::*;

    fn key(encoded: &str) -> SigningKey {
        SigningKey::from_bytes(STANDARD.decode(encoded).unwrap())
    }

    #[test]
    fn published_vectors_sign_and_verify() {
        let vectors: [(&str, &str, u64, &[u8], &str); 5] = [
            (
                "plJ3nmyCDGBKInavdOK15jsl",
                "msg_loFOjxBNrRLzqYUf",
                1_731_705_121,
                br#"{"event_type":"ping","data":{"success":true}}"#,
                "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
            ),
            (
                "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                br#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "msg_own_0002",
                1_735_689_600,
                &[0xff, 0xfe, 0x00, 0x0a],
                "v1,Vqz31CXEycKRe09xN4D8ca6n5oZYfz39yYscvaZQYiQ=",
            ),
            (
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "msg_own_0003",
                1_735_689_600,
                b"",
                "v1,FJVGdAdSwCRljrY+EqXXM69TJArJ8t7MvsnxA1osAao=",
            ),
        ];
        for (secret, id, timestamp, body, expected) in vectors {
            let keys = [key(secret)];
            assert_eq!(sign(&keys, id, timestamp, body), expected);
            let text = timestamp.to_string();
            let headers = SignedHeaders { id, timestamp: &text, signature: expected };
            assert_eq!(verify(&keys, headers, body, timestamp, 300), Ok(()));
            assert_eq!(verify(&keys, headers, body, timestamp + 300, 300), Ok(()));
            assert_eq!(
                verify(&keys, headers, body, timestamp + 301, 300),
                Err(VerifyError::Stale { skew_seconds: -301 })
            );
            assert_eq!(
                verify(&keys, headers, body, timestamp - 301, 300),
                Err(VerifyError::Stale { skew_seconds: 301 })
            );
            assert_eq!(
                verify(&[SigningKey::generate()], headers, body, timestamp, 300),
                Err(VerifyError::Mismatch)
            );
        }
    }

    #[test]
    fn rotation_accepts_either_key_and_skips_unknown_versions() {
        let (old, new) = (SigningKey::generate(), SigningKey::generate());
        let both = format!("v9,abc {} ", sign(&[old.clone(), new.clone()], "id", 10, b"x"));
        let headers = SignedHeaders { id: "id", timestamp: "10", signature: &both };
        assert_eq!(verify(&[old], headers, b"x", 10, 0), Ok(()));
        assert_eq!(verify(&[new], headers, b"x", 10, 0), Ok(()));
        let headers = SignedHeaders { id: "id.x", ..headers };
        assert_eq!(verify(&[SigningKey::generate()], headers, b"x", 10, 0), Err(VerifyError::Headers));
    }

    #[test]
    fn other_content_has_another_id() {
        assert_eq!(batch_id("s", "e", "1", "2"), batch_id("s", "e", "1", "2"));
        assert_ne!(batch_id("s", "e", "1", "2"), batch_id("se", "", "1", "2"));
        assert_ne!(batch_id("s", "e", "1", "2"), batch_id("s", "e", "1", "3"));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(body in proptest::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let keys = [SigningKey::generate()];
            let signature = sign(&keys, "id", 10, &body);
            let headers = SignedHeaders { id: "id", timestamp: "10", signature: &signature };
            prop_assert_eq!(verify(&keys, headers, &body, 10, 0), Ok(()));
            let mut changed = body;
            let at = at.index(changed.len());
            changed[at] ^= flip;
            prop_assert_eq!(verify(&keys, headers, &changed, 10, 0), Err(VerifyError::Mismatch));
        }

        #[test]
        fn foreign_headers_never_panic(id in ".*", timestamp in ".*", signature in ".*") {
            let keys = [SigningKey::generate()];
            let headers = SignedHeaders { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert!(verify(&keys, headers, b"", 10, 300).is_err());
        }
    }
}
