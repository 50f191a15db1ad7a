//! Keys that sign.
//!
//! | text | key | signature |
//! | --- | --- | --- |
//! | `whsec_` + base64 of 24 to 64 bytes | shared by both ends | `v1`, HMAC-SHA256 |
//! | `whsk_` + base64 of 64 bytes (seed, then public key), or of the 32 bytes of the seed | private | `v1a`, ed25519 |
//!
//! The prefix picks the algorithm; nothing in a message does.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::VerifyingKey;

/// A webhook key that signs: shared (`whsec_`, `v1`) or the private half of a pair (`whsk_`, `v1a`).
#[derive(Clone)]
pub struct SigningKey(Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Shared(Vec<u8>),
    Private(Arc<Private>),
}

/// ring does not give the seed back, which the text form needs.
pub(crate) struct Private {
    seed: [u8; SEED],
    pub(crate) pair: Ed25519KeyPair,
}

const SEED: usize = 32;
const PUBLIC: usize = 32;

/// Why a text is not a webhook key. Never contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The prefix is missing.
    #[error(
        "a webhook secret starts with whsec_, or with whsk_ for ed25519 (make one with `rowbridge secret`)"
    )]
    Prefix,
    /// What follows is not base64.
    #[error(
        "after whsec_ a webhook secret is standard base64 with padding (make one with `rowbridge secret`)"
    )]
    Base64,
    /// Too short to be safe, or longer than the specification allows.
    #[error("a webhook secret holds 24 to 64 bytes, this one holds {len} (make one with `rowbridge secret`)")]
    Length {
        /// Bytes found.
        len: usize,
    },
    /// The half of a pair that verifies only.
    #[error("whpk_ is a public key, which cannot sign: the private key of the pair starts with whsk_")]
    Public,
    /// What follows `whsk_` or `whpk_` is not base64.
    #[error(
        "after whsk_ or whpk_ an ed25519 key is standard base64 with padding (make a pair with `rowbridge secret \
         --ed25519`)"
    )]
    PairBase64,
    /// Not the length of an ed25519 key.
    #[error(
        "an ed25519 key holds 64 bytes or the 32 of its seed (whsk_), or 32 (whpk_); this one holds {len} (make a pair \
         with `rowbridge secret --ed25519`)"
    )]
    PairLength {
        /// Bytes found.
        len: usize,
    },
    /// A seed with the public key of another pair.
    #[error(
        "the two halves of this whsk_ key do not belong together (make a pair with `rowbridge secret --ed25519`)"
    )]
    Halves,
}

impl SigningKey {
    pub(super) const SHARED: &'static str = "whsec_";
    pub(super) const PRIVATE: &'static str = "whsk_";

    /// Reads `whsec_...` or `whsk_...`.
    ///
    /// # Errors
    /// Wrong prefix, base64 or length; a private key with another's public half.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        if let Some(encoded) = text.strip_prefix(Self::PRIVATE) {
            let bytes = STANDARD.decode(encoded).map_err(|_| SigningKeyError::PairBase64)?;
            return Self::private(&bytes);
        }
        if text.starts_with(VerifyingKey::PUBLIC) {
            return Err(SigningKeyError::Public);
        }
        let encoded = text.strip_prefix(Self::SHARED).ok_or(SigningKeyError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SigningKeyError::Base64)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SigningKeyError::Length { len: bytes.len() });
        }
        Ok(Self(Kind::Shared(bytes)))
    }

    fn private(bytes: &[u8]) -> Result<Self, SigningKeyError> {
        let wrong = || SigningKeyError::PairLength { len: bytes.len() };
        let (seed, public) = bytes.split_first_chunk::<SEED>().ok_or_else(wrong)?;
        let pair = match public.len() {
            0 => Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| wrong())?,
            PUBLIC => {
                Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SigningKeyError::Halves)?
            }
            _ => return Err(wrong()),
        };
        Ok(Self(Kind::Private(Arc::new(Private { seed: *seed, pair }))))
    }

    /// A shared key of 32 random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self(Kind::Shared(rand::random::<[u8; 32]>().to_vec()))
    }

    /// The private key of a new ed25519 pair. [`Self::verifying`] gives the public one.
    #[must_use]
    pub fn generate_ed25519() -> Self {
        Self::private(&rand::random::<[u8; SEED]>()).expect("any 32 bytes are a seed")
    }

    /// The text form, for whoever has to write it into a configuration.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.0 {
            Kind::Shared(bytes) => format!("{}{}", Self::SHARED, STANDARD.encode(bytes)),
            Kind::Private(private) => {
                let both = [&private.seed[..], private.pair.public_key().as_ref()].concat();
                format!("{}{}", Self::PRIVATE, STANDARD.encode(both))
            }
        }
    }

    /// What verifies this key's signatures: the public key of a pair, or the shared key itself.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey::of(self)
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Kind::Shared(bytes))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Shared(one), Kind::Shared(other)) => one == other,
            // The public half follows from the seed.
            (Kind::Private(one), Kind::Private(other)) => one.seed == other.seed,
            (Kind::Shared(_), Kind::Private(_)) | (Kind::Private(_), Kind::Shared(_)) => false,
        }
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    #[test]
    fn keys_round_trip_and_never_print() {
        for key in [SigningKey::generate(), SigningKey::generate_ed25519()] {
            assert_eq!(SigningKey::parse(&key.to_text()), Ok(key.clone()));
            assert_eq!(format!("{key:?} {:?}", Secret::new("hunter2")), "SigningKey(***) Secret(***)");
        }
        assert_ne!(SigningKey::generate(), SigningKey::generate());
        assert_ne!(SigningKey::generate_ed25519(), SigningKey::generate_ed25519());
    }

    #[test]
    fn what_is_no_key_says_why() {
        let error = |text: &str| SigningKey::parse(text).unwrap_err();
        assert_eq!(error("MfKQ"), SigningKeyError::Prefix);
        assert_eq!(error("whsec_!!"), SigningKeyError::Base64);
        assert_eq!(error("whsec_AAAA"), SigningKeyError::Length { len: 3 });
        assert_eq!(error("whsk_!!"), SigningKeyError::PairBase64);
        assert_eq!(error("whsk_AAAA"), SigningKeyError::PairLength { len: 3 });
        let coded = |bytes: &[u8]| format!("whsk_{}", STANDARD.encode(bytes));
        assert_eq!(error(&coded(&[7; 33])), SigningKeyError::PairLength { len: 33 });
        assert_eq!(error(&coded(&[7; 64])), SigningKeyError::Halves);
        assert_eq!(error(&SigningKey::generate_ed25519().verifying().to_text()), SigningKeyError::Public);
        // A secret copied with its line end.
        assert_eq!(error(&format!("{}\n", SigningKey::generate().to_text())), SigningKeyError::Base64);
        assert_eq!(error(&format!(" {}", SigningKey::generate().to_text())), SigningKeyError::Prefix);
    }

    #[test]
    fn a_seed_alone_is_the_same_key() {
        let whole = SigningKey::parse(
            "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==",
        );
        let seed = SigningKey::parse("whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(whole, seed);
        let public = whole.unwrap().verifying().to_text();
        assert_eq!(public, "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
    }
}
