//! Decoder of pgoutput, the output plugin of PostgreSQL's logical replication, protocol version 1.
//!
//! Limits: version 1 only (whole committed transactions in commit order). Streamed, two-phase and parallel-apply
//! messages of versions 2 to 4 are unknown here and refused, because guessing would lose rows.
//!
//! Everything borrows from the message; only the column list of a relation and the list of truncated relations
//! are allocated, and never for more elements than the message has bytes for. One `XLogData` frame holds exactly
//! one message, so bytes that are left over are an error, not the start of a second one.
//!
//! Source: PostgreSQL manual, "Logical Replication Message Formats". Integers are big-endian, strings end with a
//! zero byte, times are microseconds since 2000-01-01 UTC and are handed out here since 1970-01-01 UTC.

mod error;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::error::{PgOutputError, Tag};
use self::reader::Reader;
pub use self::reader::parse;

/// Microseconds between 1970-01-01 and 2000-01-01 UTC, the epoch of every PostgreSQL time on the wire.
pub const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;

/// One decoded message. Row values stay in the bytes of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A committed transaction starts; all messages up to the next [`Message::Commit`] belong to it.
    Begin {
        /// Position of the commit record, the same as `commit_lsn` of the coming commit.
        final_lsn: u64,
        /// Commit time by the server's clock, µs since the Unix epoch.
        commit_time_us: i64,
        /// Transaction id, 32 bits without its epoch.
        xid: u32,
    },
    /// The transaction ends.
    Commit {
        /// Position of the commit record.
        commit_lsn: u64,
        /// Position after the commit record: the only kind of position that may be confirmed to the server.
        end_lsn: u64,
        /// Commit time by the server's clock, µs since the Unix epoch.
        commit_time_us: i64,
    },
    /// The transaction was itself replicated from elsewhere; follows `Begin`.
    Origin {
        /// Commit position at the origin.
        origin_lsn: u64,
        /// Name of the replication origin at the publishing server.
        name: &'a str,
    },
    /// Shape of a table, sent before its first row in a session and after each change of shape.
    Relation(Relation<'a>),
    /// Name of a column type that is not built in, sent before the relation that uses it.
    Type {
        /// The type's oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// Relation oid.
        oid: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A changed row.
    Update {
        /// Relation oid.
        oid: u32,
        /// What the replica identity sends of the old row; absent when the key did not change.
        old: Option<OldTuple<'a>>,
        /// The row after the change.
        new: Tuple<'a>,
    },
    /// A removed row.
    Delete {
        /// Relation oid.
        oid: u32,
        /// What the replica identity sends of the old row.
        old: OldTuple<'a>,
    },
    /// Tables were emptied by one statement.
    Truncate {
        /// All relations of the statement that are published.
        oids: Vec<u32>,
        /// `CASCADE` was given.
        cascade: bool,
        /// `RESTART IDENTITY` was given.
        restart_identity: bool,
    },
    /// A message written with `pg_logical_emit_message`; sent only with the option `messages`.
    Message(LogicalMessage<'a>),
}

/// Content of [`Message::Message`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Inside a transaction; otherwise it came at once, also from work that was rolled back later.
    pub transactional: bool,
    /// Position of the message.
    pub lsn: u64,
    /// The writer's prefix.
    pub prefix: &'a str,
    /// The writer's bytes, of any form.
    pub content: &'a [u8],
}

impl fmt::Debug for LogicalMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogicalMessage")
            .field("transactional", &self.transactional)
            .field("lsn", &self.lsn)
            .field("prefix", &self.prefix)
            .field("content_bytes", &self.content.len())
            .finish()
    }
}

/// Content of [`Message::Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Relation oid; valid in this session until the next message for the same oid.
    pub oid: u32,
    /// Schema name. The wire has an empty string for `pg_catalog`; here it is spelled out.
    pub schema: &'a str,
    /// Table name.
    pub name: &'a str,
    /// What old rows will hold.
    pub replica_identity: ReplicaIdentity,
    /// Published columns in table order; every tuple of this relation has as many cells.
    pub columns: Vec<RelColumn<'a>>,
}

/// One column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelColumn<'a> {
    /// Part of the replica identity. This is not the primary key: under `FULL` every column is marked.
    pub key: bool,
    /// Column name.
    pub name: &'a str,
    /// Type oid.
    pub type_oid: u32,
    /// `atttypmod`, -1 for none.
    pub type_modifier: i32,
}

/// Replica identity of a table, which rules what an update or delete sends of the old row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing; the server refuses updates and deletes of published tables.
    Nothing,
    /// The whole old row.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

/// An old row as far as the replica identity sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldTuple<'a> {
    /// How much of the old row is there.
    pub kind: OldKind,
    /// The cells.
    pub tuple: Tuple<'a>,
}

/// How much of an old row was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OldKind {
    /// Only key columns; the others are [`Cell::Null`], which means "not sent" here.
    Key,
    /// The whole old row, under `REPLICA IDENTITY FULL`.
    Full,
}

/// A row: a cheap view of bytes whose form was checked by [`parse`]. `Debug` shows sizes, never values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// A row of a table without columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the encoded cells, a fair measure of what keeping this row costs.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The cells in column order.
    #[must_use]
    pub fn cells(&self) -> Cells<'a> {
        Cells { left: self.count, reader: Reader { tag: 0, rest: self.bytes } }
    }
}

impl fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuple").field("cells", &self.count).field("bytes", &self.bytes.len()).finish()
    }
}

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL, or "not sent" in an [`OldKind::Key`] tuple.
    Null,
    /// A large value that was stored out of line and did not change; it is not sent. It can occur in new tuples
    /// under every replica identity; under `FULL` the old tuple has the value.
    Unchanged,
    /// The type's output function's text.
    Text(&'a str),
    /// The type's send function's bytes; only with the option `binary`.
    Binary(&'a [u8]),
}

/// Iterator of [`Tuple::cells`].
#[derive(Clone)]
pub struct Cells<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.cell().expect("a tuple is only made from cells that were read once"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Cells<'_> {}
impl std::iter::FusedIterator for Cells<'_> {}
