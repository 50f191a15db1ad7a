//! A chunk's rows as a block.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rowbridge_schema::wire::{BlockHead, Chunk, KeyRange, Op, RunKind, RunWriter, Step, Sweep};
use rowbridge_schema::{Cell, EndpointName, Position};

use crate::capture::Key;
use crate::journal::{Block, TableRef};
use crate::snapshot::ChunkRead;

/// How a chunk enters the stream.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Delete all rows of the table first.
    pub clear: bool,
    /// Remove what was deleted at the source meanwhile.
    pub sweep: Option<Sweep>,
    /// That can be done in the chunk's range.
    pub prune: bool,
    /// The table ends here.
    pub done: bool,
    /// Keys that later transactions, already in the stream, have changed.
    pub skip: HashSet<Key>,
    /// Who takes it.
    pub only: Vec<EndpointName>,
}

/// The key of a row of `read.cells`.
pub(super) fn key_of(read: &ChunkRead, sent: &[u16], row: &[Cell<'static>]) -> Key {
    let text = |key: &u16| {
        let at = sent.iter().position(|column| column == key);
        at.and_then(|at| row[at].as_str()).unwrap_or_default().to_owned()
    };
    read.table.key.iter().map(text).collect()
}

/// Encodes the rows behind position `last`. An empty chunk still says that the table exists, and how far it goes.
pub(super) fn encode(read: &ChunkRead, entry: Entry, last: Position) -> Block {
    let table = Arc::new(TableRef::new(&read.table));
    let sent = read.table.sent_columns();
    let kind =
        RunKind { table: table.id, table_index: 0, op: Op::Read, old: &[], new: &sent, maybe_missing: false };
    let mut writer = RunWriter::new();
    let mut ordinal = last.ordinal;
    if !sent.is_empty() {
        for row in read.cells.chunks(sent.len()) {
            if !entry.skip.is_empty() && entry.skip.contains(&key_of(read, &sent, row)) {
                continue;
            }
            ordinal += 1;
            writer.row(kind, ordinal, |cells| row.iter().for_each(|cell| cells.cell(cell)));
        }
    }
    let (body, runs) = writer.finish();
    let chunk = Chunk {
        table: table.id,
        clear: entry.clear,
        sweep: entry.sweep,
        prune: entry
            .prune
            .then(|| KeyRange { after: read.range.after.clone(), upto: read.range.upto.clone() }),
        skipped: if entry.sweep.is_some() { entry.skip.into_iter().collect() } else { vec![] },
        done: entry.done,
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let head = BlockHead {
        first: last.with_ordinal(last.ordinal + 1),
        // One past the last row, so that an empty chunk has a place of its own, too.
        last: last.with_ordinal(ordinal + 1),
        at,
        step: Step::Ordinal,
        chunk: Some(chunk),
    };
    Block { head, ends: true, resume: None, only: entry.only, tables: vec![table], runs, body }
}
