//! One transaction on its way into blocks.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::wire::{BlockHead, Op, RowWriter, RunKind, RunWriter, Step};
use rowbridge_schema::{Position, TableId, TableName};

use super::bytes::{Broken, Bytes};
use super::rows::{self, Rows};
use super::shape::Shape;
use super::value::Converted;
use crate::capture::{CapturedBlock, ChangedKey, Consequence, Key, TxToken};
use crate::journal::{Block, Resume, TableRef};

/// A part is closed when its body reaches this size: small enough that several fit one delivery and that a huge
/// transaction needs little memory, large enough that heads do not matter.
const PART_BYTES: usize = 1 << 20;

/// One image of a row: texts one behind the other, and where each column's lies.
#[derive(Debug, Default)]
struct Image {
    text: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Absent,
    Null,
    Text(usize, usize),
}

impl Image {
    /// Reads the present columns. The error names the column.
    fn read(
        &mut self,
        bytes: &mut Bytes<'_>,
        present: &[bool],
        shape: &Shape,
        converted: &mut Converted,
    ) -> Result<(), (usize, Broken)> {
        self.text.clear();
        self.cells.clear();
        self.cells.resize(shape.decode.len(), Cell::Absent);
        let mut last = 0;
        let Self { text, cells } = self;
        rows::image(bytes, present, |at, null, bytes| {
            last = at;
            cells[at] = if null {
                Cell::Null
            } else {
                let start = text.len();
                shape.decode[at].value(bytes, text, converted)?;
                Cell::Text(start, text.len())
            };
            Ok(())
        })
        .map_err(|broken| (last, broken))
    }

    fn write(&self, at: u16, row: &mut RowWriter<'_>) {
        match self.cells.get(usize::from(at)) {
            Some(Cell::Text(start, end)) => row.text(&self.text[*start..*end]),
            _ => row.null(),
        }
    }

    fn has(&self, at: u16) -> bool {
        self.cells.get(usize::from(at)).is_some_and(|cell| *cell != Cell::Absent)
    }

    fn same(&self, other: &Self, at: u16) -> bool {
        let at = usize::from(at);
        match (self.cells.get(at), other.cells.get(at)) {
            (Some(Cell::Text(a, b)), Some(Cell::Text(c, d))) => self.text[*a..*b] == other.text[*c..*d],
            (a, b) => a == b,
        }
    }

    fn text(&self, at: u16) -> String {
        match self.cells.get(usize::from(at)) {
            Some(Cell::Text(start, end)) => self.text[*start..*end].to_owned(),
            _ => String::new(),
        }
    }
}

/// Why rows could not be taken.
#[derive(Debug)]
pub(super) enum RowError {
    /// The event.
    Broken(Broken),
    /// A value; the column's index.
    Value(usize, Broken),
}

impl From<Broken> for RowError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn fits(rows: &Rows<'_>, shape: &Shape) -> Result<(), Broken> {
    match rows.width == shape.decode.len() {
        true => Ok(()),
        false => Err(Broken("its rows have another width than their table map")),
    }
}

/// Reads the rows once without keeping them, so that the converter knows what the server must convert.
pub(super) fn look(rows: &Rows<'_>, shape: &Shape, converted: &mut Converted) -> Result<(), RowError> {
    fits(rows, shape)?;
    let mut image = Image::default();
    let mut bytes = Bytes(&rows.body);
    while !bytes.is_empty() {
        for present in [&rows.before, &rows.after].into_iter().filter(|present| !present.is_empty()) {
            let read = image.read(&mut bytes, present, shape, converted);
            read.map_err(|(at, broken)| RowError::Value(at, broken))?;
        }
    }
    Ok(())
}

/// An open transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    pub token: TxToken,
    /// Where it begins; ordinal 0.
    base: Position,
    commit_time_us: i64,
    /// Changes seen so far, captured or not.
    ordinal: u64,
    /// Ordinal of the first change that is not in an earlier part.
    part_first: u64,
    pub parts: u32,
    writer: RunWriter,
    tables: Vec<Arc<TableRef>>,
    index: HashMap<TableId, u32>,
    changed: Vec<ChangedKey>,
    /// Tables with rows in it, and whether theirs go when it is rolled back.
    pub touched: HashMap<TableName, bool>,
    /// Keys are noted for every table: who watches is known only when it is committed.
    pub note_all: bool,
    before: Image,
    after: Image,
    old: Vec<u16>,
    new: Vec<u16>,
}

impl Transaction {
    pub(super) fn begin(token: TxToken, base: Position, commit_time_us: i64) -> Self {
        Self {
            token,
            base,
            commit_time_us,
            ordinal: 0,
            part_first: 1,
            parts: 0,
            writer: RunWriter::new(),
            tables: Vec::new(),
            index: HashMap::new(),
            changed: Vec::new(),
            touched: HashMap::new(),
            note_all: false,
            before: Image::default(),
            after: Image::default(),
            old: Vec::new(),
            new: Vec::new(),
        }
    }

    fn table(&mut self, shape: &Shape) -> u32 {
        if let Some(&index) = self.index.get(&shape.table.id) {
            return index;
        }
        let index = self.tables.len() as u32;
        self.tables.push(Arc::clone(&shape.table));
        self.index.insert(shape.table.id, index);
        self.touched.insert(shape.def.name.clone(), shape.transactional);
        index
    }

    /// Counts an event of a table that is not captured: ordinals must not depend on our filters. How many rows it has is not
    /// known without the table's shape, so that an event counts as one change.
    pub(super) fn pass(&mut self) {
        self.ordinal += 1;
    }

    /// Adds the rows of an event.
    pub(super) fn rows(
        &mut self,
        rows: &Rows<'_>,
        shape: &Shape,
        watched: bool,
        converted: &mut Converted,
    ) -> Result<(), RowError> {
        fits(rows, shape)?;
        let table_index = self.table(shape);
        let mut bytes = Bytes(&rows.body);
        let (mut before, mut after) = (std::mem::take(&mut self.before), std::mem::take(&mut self.after));
        while !bytes.is_empty() {
            let value = |(at, broken)| RowError::Value(at, broken);
            if rows.op != Op::Insert {
                before.read(&mut bytes, &rows.before, shape, converted).map_err(value)?;
            }
            if rows.op != Op::Delete {
                after.read(&mut bytes, &rows.after, shape, converted).map_err(value)?;
            }
            self.ordinal += 1;
            self.row(rows.op, shape, table_index, watched, &before, &after)?;
        }
        (self.before, self.after) = (before, after);
        Ok(())
    }

    fn row(
        &mut self,
        op: Op,
        shape: &Shape,
        table_index: u32,
        watched: bool,
        before: &Image,
        after: &Image,
    ) -> Result<(), RowError> {
        let sent = |at: &u16| shape.sent[usize::from(*at)];
        let columns = 0..shape.sent.len() as u16;
        self.old.clear();
        self.new.clear();
        let mut partial = false;
        if op != Op::Delete {
            for at in columns.filter(sent) {
                // What changed is in the image after; what did not may be in the one before.
                if after.has(at) || op == Op::Update && before.has(at) {
                    self.new.push(at);
                } else {
                    partial = true;
                }
            }
        }
        if op != Op::Insert {
            let keyed = !shape.def.key.is_empty();
            let moved = |at: &u16| after.has(*at) && !before.same(after, *at);
            // A minimal image has no more than the key, which the new row has as well.
            let more = |at: &u16| before.has(*at) && !shape.identity.contains(at);
            let tells = || shape.identity.iter().any(moved) || shape.old.iter().any(more);
            if op == Op::Delete || !keyed || tells() {
                if keyed && !shape.identity.iter().all(|at| before.has(*at)) {
                    return Err(Broken("an old row comes without its key").into());
                }
                self.old.extend(shape.old.iter().filter(|at| before.has(**at)));
            }
        }
        let newest = |at: u16| if after.has(at) { after } else { before };
        // Such a change cannot stand for the row either: where the target has it not, nothing is changed.
        partial |= shape.distrusts_key();
        if (watched || self.note_all) && !shape.noted.is_empty() {
            let mut keys: Vec<Key> = Vec::with_capacity(2);
            let key = |of: &dyn Fn(u16) -> String| shape.noted.iter().map(|at| of(*at)).collect::<Key>();
            if op != Op::Insert {
                keys.push(key(&|at| before.text(at)));
            }
            if op != Op::Delete {
                let key = key(&|at| if op == Op::Insert { after.text(at) } else { newest(at).text(at) });
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            let consequence = match op {
                Op::Insert => Consequence::None,
                Op::Update if keys.len() == 1 => Consequence::Value,
                _ => Consequence::Key,
            };
            let table = &shape.def.name;
            self.changed.extend(keys.into_iter().map(|key| ChangedKey {
                table: table.clone(),
                key,
                partial,
                consequence,
            }));
        }
        let kind = RunKind {
            table: shape.table.id,
            table_index,
            op,
            old: &self.old,
            new: &self.new,
            // A table without key is cleared when its rows are sent, so that what happened to them before does not count.
            maybe_missing: (partial || shape.def.key.is_empty()) && watched && op == Op::Update,
        };
        let (old, new) = (&self.old, &self.new);
        self.writer.row(kind, self.ordinal, |row| {
            old.iter().for_each(|at| before.write(*at, row));
            new.iter().for_each(|at| if op == Op::Insert { after } else { newest(*at) }.write(*at, row));
        });
        Ok(())
    }

    /// Adds a TRUNCATE of one table.
    pub(super) fn truncate(&mut self, shape: &Shape, watched: bool) {
        self.ordinal += 1;
        if watched {
            let table = shape.def.name.clone();
            let (key, consequence) = (Key::new(), Consequence::Key);
            self.changed.push(ChangedKey { table, key, partial: false, consequence });
        }
        let index = self.table(shape);
        self.writer.truncate(shape.table.id, index, self.ordinal);
    }

    /// Where it begins.
    pub(super) fn base(&self) -> Position {
        self.base
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
            token: self.token,
            changed: std::mem::take(&mut self.changed),
        }
    }
}
