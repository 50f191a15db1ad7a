//! Why a message of pgoutput is refused.

use std::fmt;

/// Tag byte of a message, shown as the manual writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a message was refused. All are permanent: the same bytes will come again. No variant holds row values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgOutputError {
    /// No bytes at all.
    #[error("empty pgoutput message")]
    Empty,
    /// A tag that version 1 does not have.
    #[error("unknown pgoutput message {tag}; only protocol version 1 is understood")]
    UnknownMessage {
        /// The tag.
        tag: Tag,
    },
    /// The message ends too early.
    #[error("pgoutput message {tag} ends inside {field}: {needed_bytes} bytes wanted, {left_bytes} left")]
    Truncated {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// How many bytes that takes, at least.
        needed_bytes: usize,
        /// How many there are.
        left_bytes: usize,
    },
    /// The message goes on after its last field.
    #[error("pgoutput message {tag} has {left_bytes} bytes after its end")]
    Trailing {
        /// The message.
        tag: Tag,
        /// How many.
        left_bytes: usize,
    },
    /// Text that is not UTF-8, although the session asked for UTF-8.
    #[error("{field} in pgoutput message {tag} is not UTF-8")]
    NotUtf8 {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
    },
    /// A length or count below zero.
    #[error("{field} in pgoutput message {tag} is {found}, below zero")]
    Negative {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// The value.
        found: i32,
    },
    /// A byte that must be one of a few has another value.
    #[error("{field} in pgoutput message {tag} has the unknown value {found:#04x}")]
    UnknownValue {
        /// The message.
        tag: Tag,
        /// What was being read.
        field: &'static str,
        /// The value.
        found: u8,
    },
}
