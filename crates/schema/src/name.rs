//! Names that appear in positions, progress rows, paths and metrics, so their alphabet is small on purpose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or over 64 characters.
    #[error("a name has 1 to 64 characters, this one has {len}")]
    Length {
        /// Length found, in bytes.
        len: usize,
    },
    /// A character outside `a-z`, `0-9`, `_`, `-`.
    #[error("a name consists of a-z, 0-9, _ and -, found {found:?}")]
    Character {
        /// The first offending character.
        found: char,
    },
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 64 {
        return Err(NameError::Length { len: text.len() });
    }
    match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')) {
        Some(found) => Err(NameError::Character { found }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text, `[a-z0-9_-]{1,64}`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The publisher's configured name: the namespace of its positions. Never changes during a stream's life.
    StreamName
}
name! {
    /// A configured receiver. (stream, endpoint) names one ordered lane.
    EndpointName
}

/// Which database a delivery comes from, as the capture states it: system identifier and slot, server uuid, or the
/// random id in a SQLite change log. Two sources under one stream name are never mixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub String);

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_small_alphabet() {
        assert!("shop-2_eu".parse::<StreamName>().is_ok());
        assert_eq!("".parse::<StreamName>(), Err(NameError::Length { len: 0 }));
        assert_eq!("a".repeat(65).parse::<EndpointName>(), Err(NameError::Length { len: 65 }));
        assert_eq!("a.b".parse::<EndpointName>(), Err(NameError::Character { found: '.' }));
        assert_eq!("Shop".parse::<StreamName>(), Err(NameError::Character { found: 'S' }));
    }
}
