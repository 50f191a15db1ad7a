//! Rows that one endpoint is sent again, asked for by their keys: they are read as they are now and enter the stream like
//! those of a snapshot, so that they never bring back the past.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rowbridge_schema::wire::{BlockHead, Chunk, Op, RunKind, RunWriter, Step};
use rowbridge_schema::{Cell, EndpointName, Position, TableDef, TableName};
use tokio::sync::{Notify, oneshot};

use super::chunk::key_of;
use super::placing::{CHUNK_BYTES, Placing};
use super::{Pump, Stop};
use crate::capture::{Capture, ChangedKey, Key, TxToken};
use crate::journal::{Block, Journal, TableRef};
use crate::snapshot::{CellRow, ChunkRead, SnapshotReader};

/// Rows of one table for one endpoint.
#[derive(Debug)]
pub(crate) struct KeyWish {
    /// Who gets them.
    pub(crate) endpoint: EndpointName,
    pub(crate) table: TableName,
    /// Names of the key's columns, in key order.
    pub(crate) columns: Vec<String>,
    /// Their values, row after row.
    pub(crate) keys: Vec<Vec<Cell<'static>>>,
    /// What became of it. Dropped where the pump ended before: then it is asked for anew.
    pub(crate) done: oneshot::Sender<Granted>,
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granted {
    /// Every row is in the journal, or its absence is.
    Placed,
    /// The table is not there any more, or has another key.
    Gone,
}

/// Wishes on their way to whatever pump runs.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    waiting: Mutex<VecDeque<KeyWish>>,
    news: Notify,
}

impl Wishes {
    pub(crate) fn push(&self, wish: KeyWish) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(wish);
        self.news.notify_one();
    }

    pub(super) fn pop(&self) -> Option<KeyWish> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wish = waiting.pop_front()?;
            // Whoever asked may have gone.
            if !wish.done.is_closed() {
                return Some(wish);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Resolves after something was pushed. Cancel safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

/// A key as its texts.
pub(super) fn texts(key: &[Cell<'_>]) -> Key {
    key.iter().map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect()
}

/// Whether a table still has the key that rows are asked for by.
pub(super) fn has_key(def: &TableDef, columns: &[String]) -> bool {
    let now = def.key.iter().map(|&at| &def.columns[usize::from(at)].name);
    !columns.is_empty() && now.eq(columns)
}

/// What the endpoint is told of a row.
enum Told<'a> {
    /// It is not there.
    Gone(&'a [Cell<'static>]),
    /// It is there.
    Row(CellRow<'a>),
}

/// What was read of some keys, less those that the stream has brought meanwhile. What is gone comes first, as a row may
/// have taken over what was unique to it.
fn told<'a>(read: &'a ChunkRead, keys: &'a [Vec<Cell<'static>>], skip: &HashSet<Key>) -> Vec<Told<'a>> {
    let sent = read.table.sent_columns();
    let rows = read.cells.rows().map(|row| (key_of(read, &sent, row), row));
    let rows: Vec<_> = rows.collect();
    let there: HashSet<&Key> = rows.iter().map(|(key, _)| key).collect();
    let is_gone = |key: &Key| !there.contains(key) && !skip.contains(key);
    let gone = keys.iter().filter(|cells| is_gone(&texts(cells))).map(|cells| Told::Gone(cells));
    let rows = rows.iter().filter(|(key, _)| !skip.contains(key)).map(|(_, row)| Told::Row(*row));
    gone.chain(rows).collect()
}

/// A block behind position `last` with as much as fits into one, and what is left.
fn encode<'t, 'a>(
    read: &ChunkRead,
    told: &'t [Told<'a>],
    only: &EndpointName,
    last: Position,
) -> (Block, &'t [Told<'a>]) {
    let table = Arc::new(TableRef::new(&read.table));
    let sent = read.table.sent_columns();
    let mut writer = RunWriter::new();
    let (mut ordinal, mut left) = (last.ordinal, told);
    while let [next, rest @ ..] = left {
        if writer.len() >= CHUNK_BYTES {
            break;
        }
        left = rest;
        ordinal += 1;
        let (op, old, new) = match next {
            Told::Gone(_) => (Op::Delete, read.table.key.as_slice(), [].as_slice()),
            Told::Row(_) => (Op::Read, [].as_slice(), sent.as_slice()),
        };
        let kind = RunKind { table: table.id, table_index: 0, op, old, new, maybe_missing: op == Op::Delete };
        writer.row(kind, ordinal, |out| match next {
            Told::Gone(key) => key.iter().for_each(|cell| out.cell(cell)),
            Told::Row(row) => row.iter().for_each(|cell| out.cell(&cell)),
        });
    }
    let (body, runs) = writer.finish();
    let chunk =
        Chunk { table: table.id, clear: false, sweep: None, prune: None, skipped: Vec::new(), done: false };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let head = BlockHead {
        first: last.with_ordinal(last.ordinal + 1),
        last: last.with_ordinal(ordinal + 1),
        at,
        step: Step::Ordinal,
        chunk: Some(chunk),
    };
    let only = vec![only.clone()];
    (Block { head, ends: true, resume: None, only, tables: vec![table], runs, body }, left)
}

impl<R: SnapshotReader + 'static> Placing<R> {
    /// The tables whose changes are to be told: those that are sent, and that of the wish.
    pub(super) fn watched(&self) -> Vec<TableName> {
        let wished = self.wish.iter().map(|wish| wish.table.clone());
        self.jobs.iter().map(|job| job.table.clone()).chain(wished).collect()
    }
}

impl<C, R, J> Pump<C, R, J>
where
    C: Capture,
    R: SnapshotReader + 'static,
    J: Journal,
{
    /// Takes up the next wish, between two transactions.
    pub(super) fn take_wish(&mut self) {
        if self.placing.wish.is_none()
            && let Some(wish) = self.wishes.pop()
        {
            self.placing.wish = Some(wish);
            self.capture.watch(&self.placing.watched());
        }
    }

    /// Nothing more is to be done for the wish.
    pub(super) fn end_wish(&mut self, granted: Granted) {
        let Some(wish) = self.placing.wish.take() else { return };
        // Whoever does not wait any more does not want to know.
        let _ = wish.done.send(granted);
        self.capture.watch(&self.placing.watched());
        self.placing.forget_if_done();
    }

    /// Lets the rows of a wish into the stream. `first`: what the read did not see is held, and comes behind them.
    pub(super) async fn enter_wish(&mut self, chunk: ChunkRead, first: bool) -> Result<bool, Stop<C, R>> {
        let Some(changes) = self.placing.take_changes(&chunk.table.name) else {
            // What happened meanwhile is not known: read again.
            return Ok(false);
        };
        let (seen, unseen): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(token, _)| chunk.containment.contains(*token));
        drop(seen);
        let later: &[(TxToken, ChangedKey)] = if first { &[] } else { &unseen };
        // Truncated after the read: read again.
        let emptied = later.iter().any(|(_, change)| change.key.is_empty());
        let skip: HashSet<Key> = later.iter().map(|(_, change)| change.key.clone()).collect();
        let partial: HashSet<Key> =
            later.iter().filter(|(_, change)| change.partial).map(|(_, change)| change.key.clone()).collect();
        self.placing.put_changes(unseen);
        if emptied {
            return Ok(false);
        }
        let Some(mut wish) = self.placing.wish.take() else { return Ok(false) };
        let told = told(&chunk, &wish.keys, &skip);
        let mut left = told.as_slice();
        while !left.is_empty() {
            let block;
            (block, left) = encode(&chunk, left, &wish.endpoint, self.end_of_stream());
            self.metrics.captured(&block);
            if self.append_waiting(Arc::new(block)).await? {
                return Ok(true);
            }
        }
        // A change that did not tell the whole row says too little of it.
        wish.keys.retain(|key| partial.contains(&texts(key)));
        let again = !wish.keys.is_empty();
        self.placing.wish = Some(wish);
        if !again {
            self.end_wish(Granted::Placed);
        }
        Ok(false)
    }
}
