//! Where a change stands in its stream.
//!
//! Text form, fixed width, byte order is commit order:
//!
//! ```text
//! 00000001-00000000000000001a7f00c2-0000000001
//! epoch    file    offset           ordinal        (8, 8 + 16 and 10 hexadecimal digits)
//! ```
//!
//! - `epoch` rises when the source's own offsets may start over: failover, new slot, snapshot of everything.
//! - `file` and `at` are the source's offset of the *commit*: PostgreSQL commit LSN (file 0), binlog file number and
//!   offset, SQLite change-log id (file 0).
//! - `ordinal` counts the changes of the transaction from 1, before any filter, so that it is the same after a restart,
//!   a replay and a re-capture. 0 stands before the first change of that offset.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of a position's text in bytes.
pub const POSITION_TEXT_LEN: usize = 44;

/// Largest ordinal that fits the text form: 2^40 - 1 changes in one transaction.
pub const MAX_ORDINAL: u64 = (1 << 40) - 1;

/// The source's own offset of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset {
    /// Log file number; 0 where the source has one endless log.
    pub file: u32,
    /// Offset within the file: LSN, byte offset or change-log id.
    pub at: u64,
}

/// A change's place in commit order. `Ord` is commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Rises when offsets may start over.
    pub epoch: u32,
    /// The commit's offset in the source's log.
    pub offset: Offset,
    /// Number of the change in its transaction, from 1.
    pub ordinal: u64,
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected 44 characters such as 00000001-00000000000000001a7f00c2-0000000001")]
pub struct PositionError;

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self { epoch: 0, offset: Offset { file: 0, at: 0 }, ordinal: 0 };

    /// The position of the change with `ordinal` at an offset of an endless log.
    #[must_use]
    pub fn new(epoch: u32, at: u64, ordinal: u64) -> Self {
        Self { epoch, offset: Offset { file: 0, at }, ordinal }
    }

    /// The same offset with another ordinal.
    #[must_use]
    pub fn with_ordinal(self, ordinal: u64) -> Self {
        Self { ordinal, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, offset, ordinal } = self;
        write!(f, "{epoch:08x}-{:08x}{:016x}-{:010x}", offset.file, offset.at, ordinal & MAX_ORDINAL)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let bytes = text.as_bytes();
        if bytes.len() != POSITION_TEXT_LEN || bytes[8] != b'-' || bytes[33] != b'-' {
            return Err(PositionError);
        }
        let hex = |range: std::ops::Range<usize>| {
            let mut value = 0u64;
            for byte in &bytes[range] {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    _ => return Err(PositionError),
                };
                value = value << 4 | u64::from(digit);
            }
            Ok(value)
        };
        Ok(Self {
            epoch: hex(0..8)? as u32,
            offset: Offset { file: hex(9..17)? as u32, at: hex(17..33)? },
            ordinal: hex(34..44)?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<u32>(), any::<u64>(), 0..=MAX_ORDINAL)
            .prop_map(|(epoch, file, at, ordinal)| Position { epoch, offset: Offset { file, at }, ordinal })
    }

    proptest! {
        #[test]
        fn text_round_trips_and_orders_as_the_value(a in any_position(), b in any_position()) {
            let (left, right) = (a.to_string(), b.to_string());
            prop_assert_eq!(left.len(), POSITION_TEXT_LEN);
            prop_assert_eq!(left.parse::<Position>(), Ok(a));
            prop_assert_eq!(left.as_bytes().cmp(right.as_bytes()), a.cmp(&b));
        }

        #[test]
        fn foreign_text_is_refused_without_panic(text in ".*") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
