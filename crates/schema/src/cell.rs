//! One value of one row, as it travels.
//!
//! A value is the canonical text of its column's type (PostgreSQL: the server's own output under fixed settings). SQLite
//! keeps a storage class per value, so a value whose class is not the one that its column declares carries it.

use std::borrow::Cow;

/// SQLite's storage class of a value, or text that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 64-bit integer in decimal.
    Integer,
    /// Double in shortest round-trip decimal, `Infinity` or `-Infinity`.
    Real,
    /// UTF-8 text.
    Text,
    /// Bytes in lower-case hexadecimal.
    Blob,
    /// Text that is not valid UTF-8, its bytes in lower-case hexadecimal.
    RawText,
}

impl Class {
    /// The one-letter tag on the wire.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Integer => "i",
            Self::Real => "r",
            Self::Text => "t",
            Self::Blob => "b",
            Self::RawText => "u",
        }
    }

    /// The class of a tag.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        Some(match tag {
            "i" => Self::Integer,
            "r" => Self::Real,
            "t" => Self::Text,
            "b" => Self::Blob,
            "u" => Self::RawText,
            _ => return None,
        })
    }
}

/// One value. A column that was not sent has no cell at all: NULL and absent are two things.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// The canonical text of the column's type.
    Text(Cow<'a, str>),
    /// A value whose storage class differs from what its column declares.
    Classed(Class, Cow<'a, str>),
}

impl<'a> Cell<'a> {
    /// A borrowed text cell.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The text, whatever its class; `None` for NULL.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) | Self::Classed(_, text) => Some(text),
        }
    }

    /// Whether this is SQL NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The same cell, owning its text.
    #[must_use]
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Self::Classed(class, text) => Cell::Classed(class, Cow::Owned(text.into_owned())),
        }
    }
}
