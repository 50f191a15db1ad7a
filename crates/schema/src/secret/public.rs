//! Keys that verify.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::KeyPair as _;

use super::key::{Kind, SigningKey, SigningKeyError};

/// A webhook key that verifies: shared (`whsec_`) or the public half of a pair (`whpk_` + base64 of 32 bytes). It comes
/// from the configuration, never from the message that it is to verify.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(Check);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Check {
    Shared(Vec<u8>),
    Public([u8; 32]),
}

impl VerifyingKey {
    pub(super) const PUBLIC: &'static str = "whpk_";

    /// Reads `whsec_...`, `whpk_...`, or `whsk_...` for its public half.
    ///
    /// # Errors
    /// Wrong prefix, base64 or length.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let Some(encoded) = text.strip_prefix(Self::PUBLIC) else {
            return Ok(SigningKey::parse(text)?.verifying());
        };
        let bytes = STANDARD.decode(encoded).map_err(|_| SigningKeyError::PairBase64)?;
        let public =
            bytes.try_into().map_err(|bytes: Vec<u8>| SigningKeyError::PairLength { len: bytes.len() })?;
        Ok(Self(Check::Public(public)))
    }

    /// The text form. That of a shared key is a secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.0 {
            Check::Shared(bytes) => format!("{}{}", SigningKey::SHARED, STANDARD.encode(bytes)),
            Check::Public(bytes) => format!("{}{}", Self::PUBLIC, STANDARD.encode(bytes)),
        }
    }

    pub(super) fn of(key: &SigningKey) -> Self {
        match key.kind() {
            Kind::Shared(bytes) => Self(Check::Shared(bytes.clone())),
            Kind::Private(private) => {
                let public = private.pair.public_key().as_ref();
                Self(Check::Public(public.try_into().expect("an ed25519 public key has 32 bytes")))
            }
        }
    }

    pub(crate) fn check(&self) -> &Check {
        &self.0
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Check::Shared(_) => "VerifyingKey(***)",
            Check::Public(_) => "VerifyingKey(whpk_)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_found_and_read() {
        let private = SigningKey::generate_ed25519();
        let public = private.verifying();
        assert!(public.to_text().starts_with("whpk_"));
        assert_eq!(VerifyingKey::parse(&public.to_text()), Ok(public.clone()));
        assert_eq!(VerifyingKey::parse(&private.to_text()), Ok(public));
        let shared = SigningKey::generate();
        assert_eq!(VerifyingKey::parse(&shared.to_text()), Ok(shared.verifying()));
        assert_eq!(VerifyingKey::parse("whpk_AAAA"), Err(SigningKeyError::PairLength { len: 3 }));
        assert_eq!(VerifyingKey::parse("whpk_!"), Err(SigningKeyError::PairBase64));
        assert_eq!(VerifyingKey::parse("AAAA"), Err(SigningKeyError::Prefix));
        assert_eq!(format!("{:?}", shared.verifying()), "VerifyingKey(***)");
    }
}
