//! Whether trying again can help, decided where an error is made.

use std::time::Duration;

/// What a failed step means for whoever drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again; `after` is the peer's own wish, for example `Retry-After`.
    Retryable {
        /// How long the peer asked to wait, if it said so.
        after: Option<Duration>,
    },
    /// The same input fails again until a person changes something.
    Permanent,
}

impl Class {
    /// Retryable without a wish of the peer.
    pub const RETRYABLE: Self = Self::Retryable { after: None };

    /// Whether the same input may succeed later without a person.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Retryable { .. })
    }
}

/// An error that knows its class and, when a person is needed, what that person should do.
pub trait Classified {
    /// Retryable or permanent; decided by an exhaustive match, so that a new variant does not compile unclassed.
    fn class(&self) -> Class;

    /// Full sentences for the operator: the next step, if there is one to name.
    fn hint(&self) -> Option<String> {
        None
    }
}
