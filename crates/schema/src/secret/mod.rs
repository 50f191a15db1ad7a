//! Secrets: never printed, and webhook keys in the text forms of Standard Webhooks 1.0.0.

mod key;
mod public;

pub(crate) use key::Kind;
pub use key::{SigningKey, SigningKeyError};
pub(crate) use public::Check;
pub use public::VerifyingKey;

use std::fmt;

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
