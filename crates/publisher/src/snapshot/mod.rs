//! Snapshots: existing rows, read in short chunks and placed into the stream between two transactions.

mod cells;
pub mod mysql;
pub mod postgres;
pub mod sqlite;

use std::future::Future;

use rowbridge_schema::wire::KeyRange;
use rowbridge_schema::{Offset, TableDef, TableName};

pub use self::cells::{CellRow, Cells};
use crate::capture::mysql::gtid::MysqlSet;
use crate::capture::{Key, TxToken};

/// Which transactions a chunk's read saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containment {
    /// PostgreSQL `pg_current_snapshot()`.
    Xids {
        /// All below are contained.
        xmin: u64,
        /// None from here on is contained.
        xmax: u64,
        /// In progress between the two.
        in_progress: Vec<u64>,
    },
    /// Everything up to an offset.
    UpTo(Offset),
    /// MySQL `@@gtid_executed`.
    Gtids(MysqlSet),
}

impl Containment {
    /// Whether the read saw the transaction. PostgreSQL's 32-bit ids are compared in the 2^31 window around `xmax`.
    #[must_use]
    pub fn contains(&self, token: TxToken) -> bool {
        match (self, token) {
            (Self::Xids { xmin, xmax, in_progress }, TxToken::Xid(xid)) => {
                let distance = i64::from((xid.wrapping_sub(*xmax as u32)) as i32);
                let full = xmax.wrapping_add_signed(distance);
                full < *xmin || (full < *xmax && !in_progress.contains(&full))
            }
            (Self::UpTo(offset), TxToken::Offset(at)) => at <= *offset,
            (Self::Gtids(set), TxToken::Gtid { server, number }) => set.contains(server, number),
            _ => false,
        }
    }
}

/// Tables whose changes change rows of another one without a word in the source's log: foreign keys act, and the source
/// leaves that to its engine. Such rows cannot be left out of a range afterwards. So their ranges are placed exactly at
/// the moment of their read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unlogged {
    /// Those that it refers to, and what they refer to, all the way up. Empty where everything is logged.
    pub ancestors: Vec<TableName>,
    /// Those among them that refer to it in turn; itself, if it does. Sorted.
    pub ring: Vec<TableName>,
    /// The ring's references are to keys: only a deleted row and a changed key have consequences.
    pub by_key: bool,
}

/// Rows of one key range, read in one short snapshot.
#[derive(Debug)]
pub struct ChunkRead {
    /// The shape that the rows have.
    pub table: TableDef,
    /// Values of `table.sent_columns()`.
    pub cells: Cells,
    /// The range that was read; both ends open for a keyless table.
    pub range: KeyRange,
    /// Whether keys order the same at every target, so that a range can be pruned there.
    pub portable_order: bool,
    /// The table ends here.
    pub done: bool,
    /// Which transactions the read saw.
    pub containment: Containment,
    /// The stream must have passed this before the rows enter it.
    pub after: Offset,
    /// What changes its rows without being logged. If anything does, `containment` is exact: a transaction that changes
    /// these rows was seen if and only if it is contained.
    pub unlogged: Unlogged,
}

/// Reads chunks from the source, on its own connection.
pub trait SnapshotReader: Send {
    /// Why a read failed; classed.
    type Error: std::error::Error + rowbridge_schema::Classified + Send + Sync + 'static;

    /// Captured tables as they are now.
    fn tables(&mut self) -> impl Future<Output = Result<Vec<TableDef>, Self::Error>> + Send;

    /// Returns once every transaction that was open at the call has ended, so that nothing that was shipped before is
    /// still invisible to a read. Called before the first chunk of a run.
    fn settle(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Reads the next rows above `after` in key order, about `max_bytes` of text; a keyless table is read whole by the
    /// caller keeping `keyless` reads in one snapshot (see implementation). `Ok(None)` if the table is gone.
    fn read_chunk(
        &mut self,
        table: &TableName,
        after: Option<&Key>,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Option<ChunkRead>, Self::Error>> + Send;

    /// Reads exactly these rows by key, for those that a partial change kept out of their chunk.
    fn read_keys(
        &mut self,
        table: &TableName,
        keys: &[Key],
    ) -> impl Future<Output = Result<Option<ChunkRead>, Self::Error>> + Send;
}
