//! From rows of the change log to blocks.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rowbridge_schema::sqlite_type::natural_class;
use rowbridge_schema::wire::{BlockHead, Op, RunKind, RunWriter, Step};
use rowbridge_schema::{Offset, Position, StorageClass, TableDef, TableName, TablePatterns};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use super::cut::{self, Cut};
use super::error::SqliteError;
use super::inspect;
use super::install::{self, State};
use super::trigger::{WIDTH, value_columns};
use super::value::{key_text, same, write};
use crate::capture::{Captured, CapturedBlock, ChangedKey, Consequence, Key, TxToken};
use crate::journal::{Block, Resume, TableRef};

/// Most log rows in one block.
const MAX_ROWS: usize = 5_000;

/// Encoded bytes after which a block ends.
const MAX_BYTES: usize = 1 << 20;

/// A number of the log, with all that its rows need.
struct Shape {
    def: TableDef,
    reference: Arc<TableRef>,
    /// Columns that rows carry, and their natural classes.
    sent: Vec<u16>,
    natural: Vec<StorageClass>,
    /// Key columns, and where each lies among the sent ones.
    key: Vec<u16>,
    key_places: Vec<usize>,
    /// Whether the configuration still takes the table.
    wanted: bool,
}

impl Shape {
    fn new(def: TableDef, wanted: bool) -> Self {
        let sent = def.sent_columns();
        let natural = sent.iter().map(|&i| natural_class(&def.columns[usize::from(i)].type_name)).collect();
        let key = def.key.clone();
        let key_places = key.iter().filter_map(|k| sent.iter().position(|s| s == k)).collect();
        let reference = Arc::new(TableRef::new(&def));
        Self { def, reference, sent, natural, key, key_places, wanted }
    }

    /// How many values an entry of this operation has.
    fn values(&self, op: &str) -> Option<usize> {
        Some(match op {
            "i" | "d" => self.sent.len(),
            "U" => self.sent.len() * 2,
            "u" if self.key.is_empty() => self.sent.len() * 2,
            "u" => self.sent.len() + self.key.len(),
            _ => return None,
        })
    }
}

/// Reads the log from one id on.
pub(crate) struct LogReader {
    path: PathBuf,
    patterns: TablePatterns,
    epoch: u32,
    /// Everything up to here was handed out.
    pub(crate) read: i64,
    /// A transaction ended here: the end of the log as some read saw it, this one's or a snapshot's. Blocks up to here are parts of one transaction,
    /// as far as anybody can tell: the log does not say where a commit was.
    horizon: i64,
    /// The end of the log as the latest look saw it.
    end: i64,
    cut: Cut,
    /// A block was handed out that did not end its transaction.
    open: bool,
    shapes: HashMap<i64, Arc<Shape>>,
    watched: HashSet<TableName>,
}

/// What one look at the log came to.
pub(crate) struct Look {
    /// What was found, if anything.
    pub(crate) found: Option<Captured>,
    /// The log's state in that read.
    pub(crate) state: State,
}

/// A block in the making.
struct Draft {
    runs: RunWriter,
    tables: Vec<Arc<TableRef>>,
    numbers: HashMap<i64, u32>,
    changed: Vec<ChangedKey>,
    first: Option<i64>,
    last: i64,
    at: Option<i64>,
    rows: usize,
}

impl LogReader {
    pub(crate) fn new(path: PathBuf, patterns: TablePatterns, cut: Cut, epoch: u32, read: i64) -> Self {
        let (shapes, watched) = (HashMap::new(), HashSet::new());
        Self { path, patterns, epoch, read, horizon: read, end: read, cut, open: false, shapes, watched }
    }

    pub(crate) fn watch(&mut self, tables: HashSet<TableName>) {
        self.watched = tables;
    }

    /// Whether a former look saw more than was handed out.
    pub(crate) fn has_more(&self) -> bool {
        self.read < self.end
    }

    /// The next block or announcement, in one short read transaction.
    ///
    /// An overflow is told only after everything that was logged before it: the log is a true prefix.
    pub(crate) fn look(&mut self, conn: &Connection) -> Result<Look, SqliteError> {
        // Rolled back when dropped: a read has nothing to commit.
        let cut = self.cut.hold();
        let tx = conn.unchecked_transaction().map_err(SqliteError::sql("begin to read the change log"))?;
        let state = install::state(&tx)?;
        let end = cut::end(*cut, self.read, state.last);
        drop(cut);
        if state.last < self.read {
            let (end, resume) = (state.last, self.read);
            return Err(SqliteError::StartedOver { path: self.path.clone(), end, resume });
        }
        if state.pruned > self.read {
            let (pruned, resume) = (state.pruned, self.read);
            return Err(SqliteError::Gone { path: self.path.clone(), pruned, resume });
        }
        self.end = state.last;
        if self.read >= self.horizon {
            self.horizon = end;
        }
        let found = if self.has_more() { self.page(&tx)? } else { None };
        if found.is_none() && !self.has_more() && state.is_overflowed() {
            return Err(SqliteError::Overflowed { path: self.path.clone(), last: state.last });
        }
        Ok(Look { found, state })
    }

    fn page(&mut self, conn: &Connection) -> Result<Option<Captured>, SqliteError> {
        let fail = || SqliteError::sql("read the change log");
        let mut statement = conn
            .prepare_cached(&format!(
                "SELECT id, tbl, op, at, {} FROM rowbridge_log WHERE id > ?1 AND id <= ?2 ORDER BY id",
                value_columns(WIDTH)
            ))
            .map_err(fail())?;
        let mut rows = statement.query([self.read, self.horizon]).map_err(fail())?;
        let mut draft = Draft {
            runs: RunWriter::new(),
            tables: Vec::new(),
            numbers: HashMap::new(),
            changed: Vec::new(),
            first: None,
            last: self.read,
            at: None,
            rows: 0,
        };
        let mut pieces: Vec<Value> = Vec::new();
        let mut ends = true;
        while let Some(row) = rows.next().map_err(fail())? {
            let (id, number): (i64, i64) = (row.get(0).map_err(fail())?, row.get(1).map_err(fail())?);
            let op = row.get_ref(2).ok().and_then(|op| op.as_str().ok()).unwrap_or_default();
            match op {
                "+" => {
                    for i in 0..WIDTH {
                        pieces.push(row.get(4 + i).map_err(fail())?);
                    }
                    continue;
                }
                "o" => draft.last = id,
                "a" => {
                    // Installed in a transaction of its own: what came before it had ended.
                    if draft.last > self.read {
                        break;
                    }
                    self.read = id;
                    let shape = self.shape(conn, number, id)?;
                    if !shape.wanted {
                        draft.last = id;
                        continue;
                    }
                    let resync = row.get::<_, i64>(4).map_err(fail())? != 0;
                    return Ok(Some(Captured::TableAdded { def: shape.def.clone(), resync }));
                }
                _ => {
                    let shape = self.shape(conn, number, id)?;
                    if shape.wanted {
                        let entry = Entry { id, number, op, row, pieces: &pieces };
                        draft.add(&shape, &entry, self.watched.contains(&shape.def.name))?;
                    }
                    draft.last = id;
                    pieces.clear();
                }
            }
            if draft.rows >= MAX_ROWS || draft.runs.len() >= MAX_BYTES {
                ends = draft.last == self.horizon || Self::announcement_follows(conn, draft.last)?;
                break;
            }
        }
        drop(rows);
        self.read = draft.last;
        if ends && self.read < self.horizon && !Self::announcement_follows(conn, self.read)? {
            // Ids that a rolled-back transaction would have had are given again, so a hole means pruning.
            self.read = self.horizon;
        }
        // What remained of an open transaction may be all for others: its end must be told all the same.
        if draft.first.is_none() && !(self.open && ends) {
            return Ok(None);
        }
        self.open = !ends;
        Ok(Some(draft.finish(self.epoch, ends)))
    }

    fn announcement_follows(conn: &Connection, id: i64) -> Result<bool, SqliteError> {
        conn.prepare_cached("SELECT op = 'a' FROM rowbridge_log WHERE id > ?1 ORDER BY id LIMIT 1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
            .map(Option::unwrap_or_default)
            .map_err(SqliteError::sql("read the change log"))
    }

    fn shape(&mut self, conn: &Connection, number: i64, id: i64) -> Result<Arc<Shape>, SqliteError> {
        if let Some(shape) = self.shapes.get(&number) {
            return Ok(shape.clone());
        }
        let json: Option<String> = conn
            .query_row("SELECT def FROM rowbridge_tables WHERE tbl = ?1", [number], |row| row.get(0))
            .optional()
            .map_err(SqliteError::sql("read a captured table"))?;
        let unknown = |reason| SqliteError::LogRow { id, table: number, reason };
        let json = json.ok_or_else(|| unknown("the table is not known"))?;
        let def: TableDef =
            serde_json::from_str(&json).map_err(|_| unknown("the table's definition cannot be read"))?;
        let wanted = inspect::takes(&self.patterns, &def.name.name);
        let shape = Arc::new(Shape::new(def, wanted));
        self.shapes.insert(number, shape.clone());
        Ok(shape)
    }
}

/// A complete log entry: its last row and the pieces before it.
struct Entry<'a> {
    id: i64,
    number: i64,
    op: &'a str,
    row: &'a Row<'a>,
    pieces: &'a [Value],
}

impl<'a> Entry<'a> {
    fn value(&self, i: usize) -> ValueRef<'a> {
        match self.pieces.get(i) {
            Some(value) => ValueRef::from(value),
            None => self.row.get_ref(4 + i - self.pieces.len()).unwrap_or(ValueRef::Null),
        }
    }

    fn key(&self, places: impl Iterator<Item = usize>) -> Key {
        places.map(|i| key_text(self.value(i))).collect()
    }
}

impl Draft {
    fn add(&mut self, shape: &Shape, entry: &Entry<'_>, watched: bool) -> Result<(), SqliteError> {
        let wrong = |reason| SqliteError::LogRow { id: entry.id, table: entry.number, reason };
        let count = shape.values(entry.op).ok_or_else(|| wrong("the operation is not known"))?;
        let pieces = count.div_ceil(WIDTH).max(1) - 1;
        if entry.pieces.len() != pieces * WIDTH {
            return Err(wrong("pieces of the row are missing"));
        }
        let index = *self.numbers.entry(entry.number).or_insert_with(|| {
            self.tables.push(shape.reference.clone());
            self.tables.len() as u32 - 1
        });
        let width = shape.sent.len();
        let keyed = !shape.key.is_empty();
        let updates = matches!(entry.op, "u" | "U");
        // Where the old and the new cells of the change begin, and where those of the old key are.
        let new_start = if updates { count - width } else { 0 };
        let old_key = || {
            let places = shape.key_places.iter().enumerate();
            places.map(|(i, &place)| (if entry.op == "u" { i } else { place }, place))
        };
        let key_changed = updates
            && keyed
            && old_key().any(|(old, place)| !same(entry.value(old), entry.value(new_start + place)));
        let (op, old, new): (Op, &[u16], &[u16]) = match entry.op {
            "i" => (Op::Insert, &[], &shape.sent),
            "d" => (Op::Delete, &shape.sent, &[]),
            "U" => (Op::Update, &shape.sent, &shape.sent),
            _ if !keyed => (Op::Update, &shape.sent, &shape.sent),
            _ if key_changed => (Op::Update, &shape.key, &shape.sent),
            _ => (Op::Update, &[], &shape.sent),
        };
        let table_id = shape.reference.id;
        let maybe_missing = watched && op == Op::Update;
        let kind = RunKind { table: table_id, table_index: index, op, old, new, maybe_missing };
        self.runs.row(kind, entry.id as u64, |row| {
            if entry.op == "u" && key_changed {
                for (old, place) in old_key() {
                    write(row, shape.natural[place], entry.value(old));
                }
            } else {
                for i in 0..old.len() {
                    write(row, shape.natural[i], entry.value(i));
                }
            }
            for i in 0..new.len() {
                write(row, shape.natural[i], entry.value(new_start + i));
            }
        });
        if watched {
            let table = &shape.def.name;
            let consequence = Consequence::None;
            let mut note = |key| {
                self.changed.push(ChangedKey { table: table.clone(), key, partial: false, consequence });
            };
            note(entry.key(shape.key_places.iter().map(|&place| new_start + place)));
            if key_changed {
                note(entry.key(old_key().map(|(old, _)| old)));
            }
        }
        self.first.get_or_insert(entry.id);
        self.at = entry.row.get(3).unwrap_or(None).or(self.at);
        self.rows += 1;
        Ok(())
    }

    fn finish(self, epoch: u32, ends: bool) -> Captured {
        let first = self.first.unwrap_or(self.last);
        let position = |id: i64| Position::new(epoch, id as u64, 1);
        let last = self.last;
        let at = self.at.map_or_else(now_micros, |millis| millis.saturating_mul(1000));
        let (body, runs) = self.runs.finish();
        let block = Block {
            head: BlockHead {
                first: position(first),
                last: position(last),
                at,
                step: Step::Offset,
                chunk: None,
            },
            ends,
            resume: ends.then(|| resume(last)),
            only: Vec::new(),
            tables: self.tables,
            runs,
            body,
        };
        let token = TxToken::Offset(Offset { file: 0, at: last as u64 });
        Captured::Block(Box::new(CapturedBlock { block, token, changed: self.changed }))
    }
}

/// A log id as the journal keeps it.
pub(crate) fn resume(id: i64) -> Resume {
    Resume(id.to_string().into())
}

/// The log id of a resume point.
pub(crate) fn parse_resume(resume: &Resume) -> Result<i64, SqliteError> {
    resume.0.parse().ok().filter(|&id| id >= 0).ok_or(SqliteError::Resume)
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
