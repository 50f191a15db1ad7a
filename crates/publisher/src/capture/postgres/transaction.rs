//! One transaction on its way into blocks.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::wire::{BlockHead, Op, RowWriter, RunKind, RunWriter, Step};
use rowbridge_schema::{Position, TableId};

use super::error::PostgresError;
use super::pgoutput::{Cell, OldKind, OldTuple, Tuple};
use super::relation::Relation;
use crate::capture::{CapturedBlock, ChangedKey, Consequence, Key, TxToken};
use crate::journal::{Block, Resume, TableRef};

/// A part is closed when its body reaches this size: small enough that several fit one delivery and that a huge
/// transaction needs little memory, large enough that heads do not matter.
const PART_BYTES: usize = 1 << 20;

/// An open transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    xid: u32,
    /// Commit LSN, known from the first message on; ordinal 0.
    base: Position,
    commit_time_us: i64,
    /// Changes seen so far, captured or not.
    ordinal: u64,
    /// Ordinal of the first change that is not in an earlier part.
    part_first: u64,
    parts: u32,
    writer: RunWriter,
    tables: Vec<Arc<TableRef>>,
    index: HashMap<TableId, u32>,
    changed: Vec<ChangedKey>,
    present: Vec<u16>,
}

impl Transaction {
    pub(super) fn begin(xid: u32, base: Position, commit_time_us: i64) -> Self {
        Self {
            xid,
            base,
            commit_time_us,
            ordinal: 0,
            part_first: 1,
            parts: 0,
            writer: RunWriter::new(),
            tables: Vec::new(),
            index: HashMap::new(),
            changed: Vec::new(),
            present: Vec::new(),
        }
    }

    fn table(&mut self, table: &Arc<TableRef>) -> u32 {
        if let Some(&index) = self.index.get(&table.id) {
            return index;
        }
        let index = self.tables.len() as u32;
        self.tables.push(Arc::clone(table));
        self.index.insert(table.id, index);
        index
    }

    /// Counts a change of a table that is not captured: ordinals must not depend on our filters.
    pub(super) fn pass(&mut self) {
        self.ordinal += 1;
    }

    /// Adds one row.
    pub(super) fn row(
        &mut self,
        relation: &Relation,
        op: Op,
        old: Option<&OldTuple<'_>>,
        new: Option<&Tuple<'_>>,
    ) -> Result<(), PostgresError> {
        self.ordinal += 1;
        let width = relation.columns.len() + relation.computed.len();
        let wrong = |tuple: &Tuple<'_>| tuple.len() != width;
        let wrong = old.is_some_and(|o| wrong(&o.tuple)) || new.is_some_and(wrong);
        if wrong {
            return Err(PostgresError::Stream { what: "a row has another width than its relation" });
        }
        let full_old = old.filter(|o| o.kind == OldKind::Full);
        let mut partial = false;
        self.present.clear();
        if let Some(new) = new {
            for (at, cell) in relation.kept(new.cells()).enumerate() {
                // With a full old row, an unchanged value is in that row.
                if matches!(cell, Cell::Unchanged) && full_old.is_none() {
                    partial = true;
                } else {
                    self.present.push(relation.columns[at]);
                }
            }
        }
        if relation.watched {
            self.note(relation, old, new, partial);
        }
        let table_index = self.table(&relation.table);
        let old_columns: &[u16] = match old {
            None => &[],
            Some(old) if old.kind == OldKind::Full => &relation.columns,
            Some(_) => &relation.identity,
        };
        let kind = RunKind {
            table: relation.table.id,
            table_index,
            op,
            old: old_columns,
            new: &self.present,
            // A table without key is cleared when its rows are sent, so that what happened to them before does not count.
            maybe_missing: (partial || relation.def.key.is_empty()) && relation.watched,
        };
        self.writer.row(kind, self.ordinal, |row| {
            if let Some(old) = old {
                write_old(row, relation, old);
            }
            if let Some(new) = new {
                write_new(row, relation, new, full_old);
            }
        });
        Ok(())
    }

    /// Adds a TRUNCATE of one table.
    pub(super) fn truncate(&mut self, relation: &Relation) {
        self.ordinal += 1;
        if relation.watched {
            let table = relation.def.name.clone();
            let key = Key::new();
            self.changed.push(ChangedKey { table, key, partial: false, consequence: Consequence::None });
        }
        let index = self.table(&relation.table);
        self.writer.truncate(relation.table.id, index, self.ordinal);
    }

    /// Adds a logical message, as an insert into the table that stands for them.
    pub(super) fn message(&mut self, table: &Arc<TableRef>, prefix: &str, content: &str) {
        self.ordinal += 1;
        let table_index = self.table(table);
        let kind = RunKind {
            table: table.id,
            table_index,
            op: Op::Insert,
            old: &[],
            new: &[0, 1],
            maybe_missing: false,
        };
        self.writer.row(kind, self.ordinal, |row| {
            row.text(prefix);
            row.text(content);
        });
    }

    fn note(
        &mut self,
        relation: &Relation,
        old: Option<&OldTuple<'_>>,
        new: Option<&Tuple<'_>>,
        partial: bool,
    ) {
        if relation.key_at.is_empty() {
            return;
        }
        let tuples = [old.map(|o| &o.tuple).filter(|_| !relation.def.key.is_empty()), new];
        let mut keys: Vec<Key> = Vec::with_capacity(2);
        for tuple in tuples.into_iter().flatten() {
            let cells: Vec<Cell<'_>> = relation.kept(tuple.cells()).collect();
            let key: Key = relation
                .key_at
                .iter()
                .map(|&at| match cells.get(at) {
                    Some(Cell::Text(text)) => (*text).to_owned(),
                    _ => String::new(),
                })
                .collect();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let table = &relation.def.name;
        let consequence = Consequence::None;
        let change = |key| ChangedKey { table: table.clone(), key, partial, consequence };
        self.changed.extend(keys.into_iter().map(change));
    }

    /// Transaction id, without its epoch.
    pub(super) fn xid(&self) -> u32 {
        self.xid
    }

    /// Changes seen so far.
    pub(super) fn changes(&self) -> u64 {
        self.ordinal
    }

    /// Whether the part is large enough to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.writer.len() >= PART_BYTES
    }

    /// Closes a part that does not end the transaction.
    pub(super) fn part(&mut self) -> CapturedBlock {
        self.parts += 1;
        let last = self.base.with_ordinal(self.ordinal);
        self.block(last, false, None)
    }

    /// Closes the transaction; `None` if nothing of it was captured.
    ///
    /// The end stands one past the last change, so that it is above any part, wherever parts were cut.
    pub(super) fn commit(mut self, resume: Resume) -> Option<CapturedBlock> {
        if self.parts == 0 && self.writer.is_empty() {
            return None;
        }
        let last = self.base.with_ordinal(self.ordinal + 1);
        Some(self.block(last, true, Some(resume)))
    }

    fn block(&mut self, last: Position, ends: bool, resume: Option<Resume>) -> CapturedBlock {
        let (body, runs) = std::mem::take(&mut self.writer).finish();
        let first = self.base.with_ordinal(self.part_first);
        self.part_first = self.ordinal + 1;
        self.index.clear();
        let head = BlockHead { first, last, at: self.commit_time_us, step: Step::Ordinal, chunk: None };
        let tables = std::mem::take(&mut self.tables);
        CapturedBlock {
            block: Block { head, ends, resume, only: vec![], tables, runs, body },
            token: TxToken::Xid(self.xid),
            changed: std::mem::take(&mut self.changed),
        }
    }
}

fn write_cell(row: &mut RowWriter<'_>, cell: &Cell<'_>) {
    match cell {
        Cell::Text(text) => row.text(text),
        // `binary` is never asked for, and callers leave out unchanged cells.
        Cell::Null | Cell::Unchanged | Cell::Binary(_) => row.null(),
    }
}

fn write_old(row: &mut RowWriter<'_>, relation: &Relation, old: &OldTuple<'_>) {
    match old.kind {
        OldKind::Full => relation.kept(old.tuple.cells()).for_each(|cell| write_cell(row, &cell)),
        // Other columns of a key tuple are null on the wire and mean "not sent".
        OldKind::Key => {
            let mut wanted = relation.identity_at.iter().copied().peekable();
            for (at, cell) in relation.kept(old.tuple.cells()).enumerate() {
                if wanted.peek() == Some(&at) {
                    wanted.next();
                    write_cell(row, &cell);
                }
            }
        }
    }
}

fn write_new(row: &mut RowWriter<'_>, relation: &Relation, new: &Tuple<'_>, full_old: Option<&OldTuple<'_>>) {
    match full_old {
        None => relation
            .kept(new.cells())
            .filter(|cell| !matches!(cell, Cell::Unchanged))
            .for_each(|cell| write_cell(row, &cell)),
        Some(old) => {
            let cells = new.cells().zip(old.tuple.cells());
            for (cell, before) in relation.kept(cells) {
                write_cell(row, if matches!(cell, Cell::Unchanged) { &before } else { &cell });
            }
        }
    }
}
