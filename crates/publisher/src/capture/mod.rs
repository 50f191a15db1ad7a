//! Capture: committed changes of a source, in commit order, as encoded blocks.

pub mod mysql;
mod old_rows;
pub mod postgres;
pub mod sqlite;

use std::future::Future;

use rowbridge_schema::{Offset, Position, SourceId, TableDef, TableName};

use crate::journal::{Block, Resume};
pub use old_rows::OldRows;

/// What identifies a transaction to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxToken {
    /// PostgreSQL: low 32 bits of the top-level transaction id.
    Xid(u32),
    /// The commit's own offset (SQLite: change-log id). MariaDB, and MySQL without GTIDs: one past the transaction's start,
    /// so that a log position contains exactly the transactions whose token is not above it.
    Offset(Offset),
    /// MySQL: server and number of its GTID; a tag is mixed into the server (see `mysql::gtid::token_server`).
    Gtid {
        /// The server's uuid.
        server: [u8; 16],
        /// Number of the transaction at that server.
        number: u64,
    },
}

/// A key as the canonical texts of its columns, in key order.
pub type Key = Vec<String>;

/// What foreign keys of other rows may do about a change without the source's log saying so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consequence {
    /// Nothing: a row is new, or the source logs what its foreign keys do.
    #[default]
    None,
    /// Something if they refer to other columns than the key.
    Value,
    /// Something: the row is gone, or its key is another one now.
    Key,
}

/// A change of a watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedKey {
    /// The table.
    pub table: TableName,
    /// The key, old or new; empty when the whole table changed (TRUNCATE).
    pub key: Key,
    /// The new row was not sent whole (unchanged TOAST), so that the change cannot stand for the row of a snapshot.
    pub partial: bool,
    /// What it may have set off.
    pub consequence: Consequence,
}

/// A block with what a snapshot needs to know of it.
#[derive(Debug)]
pub struct CapturedBlock {
    /// The encoded changes.
    pub block: Block,
    /// Its transaction.
    pub token: TxToken,
    /// Keys changed in watched tables.
    pub changed: Vec<ChangedKey>,
}

/// What capture yields.
#[derive(Debug)]
pub enum Captured {
    /// Changes.
    Block(Box<CapturedBlock>),
    /// Nothing for us up to here: an idle or unrelated source moved on.
    Advanced {
        /// Everything below is in the stream.
        at: Offset,
        /// Where the source may be confirmed when all blocks before are durable.
        resume: Resume,
    },
    /// A table needs a snapshot: it appeared, or it now matches. Follows what was captured before it. Told again after a
    /// restart until something captured after it was confirmed.
    TableAdded {
        /// Its shape now.
        def: TableDef,
        /// Changes may have been missed (the table was rebuilt, a column was added): the snapshot must also remove what is
        /// no longer there. False for a table that is new to the stream.
        resync: bool,
    },
}

/// What a source's log holds because of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// All of it. A long transaction at the source holds it too.
    pub bytes: u64,
    /// What lies behind our last confirmation: all that a slow endpoint can be blamed for.
    pub unconfirmed: u64,
}

/// One source, one reader.
///
/// Contract: blocks come in commit order with rising positions; after a reconnect or restart the same changes have the
/// same positions. A row event that is not understood is an error, never skipped.
pub trait Capture: Send {
    /// Why capture stopped; classed.
    type Error: std::error::Error + rowbridge_schema::Classified + Send + Sync + 'static;

    /// Which database this is.
    fn source(&self) -> &SourceId;

    /// The next piece of the stream. Waits while the source is idle. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Result<Captured, Self::Error>> + Send;

    /// Everything up to `resume` is safe elsewhere: the source may forget it. Called often; cheap.
    fn confirm(&mut self, resume: &Resume) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Where the source may be confirmed when every target has committed all transactions up to this one. Exact: a target
    /// that lies before it misses something.
    fn resume_behind(&self, position: Position) -> Resume;

    /// The position of everything before a resume point: every change captured later lies above.
    fn reached_by(&self, resume: &Resume) -> Position;

    /// Bytes of log that the source holds for us; `None` where nothing but a cap of its own bounds that.
    fn retained(&mut self) -> impl Future<Output = Result<Option<Retained>, Self::Error>> + Send;

    /// Notes at the source that existing rows are being sent, or no longer: whoever goes on without our state learns of it
    /// by [`crate::source::OpenSource::unfinished`]. Cheap where nothing changes.
    fn mark_snapshot(&mut self, pending: bool) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Asks the source to say soon how far it is, for a waiting snapshot.
    fn hurry(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Shows the source that we are there, while nothing is taken for a long time.
    fn keep_alive(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Tables whose changed keys are reported and whose updates may meet missing rows (a snapshot is under way).
    fn watch(&mut self, tables: &[TableName]);

    /// The end of the source's log, to find positions that started over.
    fn end(&mut self) -> impl Future<Output = Result<Offset, Self::Error>> + Send;

    /// Lets the source go in order, with the last confirmation.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Where a capture begins.
#[derive(Debug, Clone, Default)]
pub struct CaptureStart {
    /// Epoch of the positions to make.
    pub epoch: u32,
    /// Last position in the journal; changes up to here are replays, dropped by the journal.
    pub last: Option<Position>,
    /// Last durable resume point.
    pub resume: Option<Resume>,
}
