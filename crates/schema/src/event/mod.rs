//! One change as it is shown to receivers that are not Rowbridge: what every other format than `bridge` renders.
//!
//! An [`Event`] is made by a lane from a change of the journal, after its filter and its columns were applied: names are
//! those that the receiver sees, and a column that is dropped or was not sent has no field. Values are still canonical
//! texts with their types; what they look like is the format's business.

pub mod cloudevents;
pub mod debezium;
mod framing;
mod instant;
pub mod json;
pub mod json_schema;
pub mod message;
pub mod natural;
pub mod outbox;
mod owned;
pub mod shape;
pub mod template;
#[cfg(test)]
mod tests;
pub mod xml;
pub mod xml_schema;

pub use framing::Framing;
pub use message::Message;
pub use owned::{OwnedEvent, Whence};

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Dialect, TableName};
use crate::types::ColumnType;

/// What happened to a row, a table, or nothing but the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventOp {
    /// A row is new, or entered the endpoint's filter.
    Insert,
    /// A row has other values.
    Update,
    /// A row is gone, or left the endpoint's filter.
    Delete,
    /// A row of a snapshot.
    Read,
    /// All rows of a table are gone.
    Truncate,
    /// The application says something: a new row of an outbox table, a logical message.
    Message,
}

impl EventOp {
    /// `insert`, `update`, `delete`, `read`, `truncate`, `message`: as configurations, filters and bodies name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
            Self::Message => "message",
        }
    }

    /// The event's type: `row.insert`, `table.truncate`, `message`.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Insert => "row.insert",
            Self::Update => "row.update",
            Self::Delete => "row.delete",
            Self::Read => "row.read",
            Self::Truncate => "table.truncate",
            Self::Message => "message",
        }
    }
}

/// One named value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name that the receiver sees.
    pub name: &'a str,
    /// What the value is: the column's type, or that of what took its place (a mask, a hash, a computed value).
    pub column: &'a ColumnType,
    /// The canonical text.
    pub cell: Cell<'a>,
}

/// One change, shaped for one endpoint.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// `stream:position`, the same after every restart, retry and replay.
    pub id: &'a str,
    /// What happened.
    pub op: EventOp,
    /// Namespace of the positions.
    pub stream: &'a StreamName,
    /// For whom this is.
    pub endpoint: &'a EndpointName,
    /// Which database it comes from.
    pub source: &'a SourceId,
    /// That database's name, where the source's URL names one.
    pub database: &'a str,
    /// Whose types these are.
    pub dialect: Dialect,
    /// The table at the source.
    pub table: &'a TableName,
    /// Where it stands in commit order.
    pub position: Position,
    /// Commit time in microseconds since 1970.
    pub committed_at: i64,
    /// Sent again because an operator asked for it.
    pub replay: bool,
    /// The identifying columns, in key order, of the new row, or of the old one where there is no new row. Empty for a
    /// table without key and for a truncate.
    pub key: Vec<Field<'a>>,
    /// The old row as far as the source told it: all of it, or its key only. `None` for inserts, and for updates where the
    /// source sends no old row.
    pub before: Option<Vec<Field<'a>>>,
    /// The new row, less the columns that were not sent. `None` for deletes and truncates.
    pub after: Option<Vec<Field<'a>>>,
    /// Names of the columns whose values differ between `before` and `after`; `None` where the old row is not known in
    /// full.
    pub changed: Option<Vec<&'a str>>,
    /// What a message says; there exactly if `op` is one. Such an event has no key and no rows.
    pub message: Option<Message<'a>>,
}

impl Event<'_> {
    /// The commit time as `2026-01-02T03:04:05.678901Z`.
    #[must_use]
    pub fn commit_time(&self) -> String {
        let mut text = Vec::with_capacity(27);
        instant::push(&mut text, self.committed_at);
        String::from_utf8(text).unwrap_or_default()
    }
}
