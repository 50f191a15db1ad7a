//! Secrets: never printed, and signing keys in the Standard Webhooks form `whsec_` + base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A text that must not appear in logs, errors or `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; the name says that the caller must know what it does.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A symmetric webhook key: 24 to 64 bytes, written `whsec_` + standard base64 (Standard Webhooks 1.0.0).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

/// Why a text is not a signing key. Never contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The prefix is missing.
    #[error("a webhook secret starts with whsec_ (make one with `rowbridge secret`)")]
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
}

impl SigningKey {
    const PREFIX: &'static str = "whsec_";

    /// Reads `whsec_...`.
    ///
    /// # Errors
    /// Wrong prefix, base64 or length.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SigningKeyError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SigningKeyError::Base64)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SigningKeyError::Length { len: bytes.len() });
        }
        Ok(Self(bytes))
    }

    /// A key of 32 random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random::<[u8; 32]>().to_vec())
    }

    /// The text form, for whoever has to write it into a configuration.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_never_print() {
        let key = SigningKey::generate();
        assert_eq!(SigningKey::parse(&key.to_text()), Ok(key.clone()));
        assert_eq!(format!("{key:?} {:?}", Secret::new("hunter2")), "SigningKey(***) Secret(***)");
        assert_eq!(SigningKey::parse("MfKQ"), Err(SigningKeyError::Prefix));
        assert_eq!(SigningKey::parse("whsec_!!"), Err(SigningKeyError::Base64));
        assert_eq!(SigningKey::parse("whsec_AAAA"), Err(SigningKeyError::Length { len: 3 }));
    }
}
