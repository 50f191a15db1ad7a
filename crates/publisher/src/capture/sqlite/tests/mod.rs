//! Real files, written by a second connection as an application would.

mod replay;
mod running;
mod schema_change;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rowbridge_schema::sql::ident;
use rowbridge_schema::sqlite_type::natural_class;
use rowbridge_schema::wire::{Op, read_run};
use rowbridge_schema::{Cell, TableDef, TablePatterns};
use rusqlite::Connection;
use tempfile::TempDir;

use super::inspect;
use super::install::{self, Wanted};
use super::read::LogReader;
use super::value::cell;
use super::{SqliteError, SqliteSource};
use crate::capture::{Captured, CapturedBlock, OldRows};
use crate::journal::Block;

pub(super) type Row = Vec<Cell<'static>>;

/// A database with its application's connection.
pub(super) struct App {
    pub(super) path: PathBuf,
    pub(super) conn: Connection,
    _dir: TempDir,
}

impl App {
    pub(super) fn new(sql: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().canonicalize().unwrap().join("app.db");
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "journal_mode", "wal").unwrap();
        conn.pragma_update(None, "synchronous", "off").unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        conn.execute_batch(sql).unwrap();
        Self { path, conn, _dir: dir }
    }

    pub(super) fn run(&self, sql: &str) {
        self.conn.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(super) fn source(&self) -> SqliteSource {
        SqliteSource::new(self.path.clone(), TablePatterns::all(), 1_000_000, OldRows::default())
    }

    /// The table's rows as a snapshot would send them.
    pub(super) fn rows(&self, table: &str) -> Vec<Row> {
        let def = inspect::table(&self.conn, table).unwrap().unwrap().def;
        let sent = def.sent_columns();
        let columns: Vec<String> = sent.iter().map(|&i| ident(&def.columns[usize::from(i)].name)).collect();
        let mut statement =
            self.conn.prepare(&format!("SELECT {} FROM {}", columns.join(","), ident(table))).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let cells = sent.iter().enumerate().map(|(i, &column)| {
                let natural = natural_class(&def.columns[usize::from(column)].type_name);
                cell(natural, row.get_ref(i).unwrap()).into_owned()
            });
            all.push(cells.collect());
        }
        all
    }
}

/// Capture without its thread.
pub(super) struct Log {
    pub(super) conn: Connection,
    pub(super) reader: LogReader,
    app: SqliteSource,
}

impl Log {
    pub(super) fn install(app: &App) -> Self {
        Self::of(app.source())
    }

    /// With old rows of every table.
    pub(super) fn with_old_rows(app: &App) -> Self {
        Self::of(SqliteSource { old_rows: OldRows::all(), ..app.source() })
    }

    fn of(source: SqliteSource) -> Self {
        let mut conn = install::open(&source.path).unwrap();
        reconcile(&mut conn, &source);
        let last = install::state(&conn).unwrap().last;
        let reader = LogReader::new(source.path.clone(), source.tables.clone(), source.cut.clone(), 1, last);
        Self { conn, reader, app: source }
    }

    pub(super) fn reconcile(&mut self) -> bool {
        reconcile(&mut self.conn, &self.app)
    }

    /// From now on with or without old rows; whether anything was written.
    pub(super) fn wants_old_rows(&mut self, wanted: bool) -> bool {
        self.app.old_rows = if wanted { OldRows::all() } else { OldRows::default() };
        self.reconcile()
    }

    pub(super) fn all(&mut self) -> Result<Vec<Captured>, SqliteError> {
        let mut all = Vec::new();
        loop {
            match self.reader.look(&self.conn)?.found {
                Some(found) => all.push(found),
                None if self.reader.has_more() => {}
                None => return Ok(all),
            }
        }
    }

    pub(super) fn changes(&mut self) -> Vec<Change> {
        self.all().unwrap().iter().flat_map(changes).collect()
    }
}

pub(super) fn reconcile(conn: &mut Connection, source: &SqliteSource) -> bool {
    let wanted = Wanted { tables: &source.tables, old_rows: &source.old_rows };
    install::reconcile(conn, &source.path, wanted, source.max_log_rows).unwrap()
}

/// One change as a subscriber reads it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) number: u64,
    pub(super) op: Op,
    pub(super) def: TableDef,
    pub(super) old_columns: Vec<u16>,
    pub(super) old: Row,
    pub(super) new: Row,
}

impl Change {
    /// `i items 1,a`, for short assertions.
    pub(super) fn brief(&self) -> String {
        let text = |cells: &[Cell<'_>]| {
            cells.iter().map(|c| c.as_str().unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join(",")
        };
        let old = if self.old.is_empty() { String::new() } else { format!(" [{}]", text(&self.old)) };
        let new = if self.new.is_empty() { String::new() } else { format!(" {}", text(&self.new)) };
        format!("{} {}{old}{new}", self.op.letter(), self.def.name)
    }
}

pub(super) fn brief(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::brief).collect()
}

pub(super) fn block(captured: &Captured) -> Option<&CapturedBlock> {
    match captured {
        Captured::Block(block) => Some(block),
        _ => None,
    }
}

pub(super) fn changes(captured: &Captured) -> Vec<Change> {
    block(captured).map(|captured| block_changes(&captured.block)).unwrap_or_default()
}

fn block_changes(block: &Block) -> Vec<Change> {
    let mut all = Vec::new();
    for index in &block.runs {
        let run = read_run(&block.body[index.start as usize..index.end as usize]).unwrap();
        let table = &block.tables[index.table as usize];
        assert_eq!(run.table, table.id);
        assert_eq!(run.changes() as u32, index.count);
        let def: TableDef = serde_json::from_str(&table.json).unwrap();
        for i in 0..run.changes() {
            let (old, new) = run.row(i);
            let owned = |cells: &[Cell<'_>]| cells.iter().map(|c| c.clone().into_owned()).collect();
            let number = run.number + i as u64;
            assert!((block.head.first.offset.at..=block.head.last.offset.at).contains(&number));
            all.push(Change {
                number,
                op: run.op,
                def: def.clone(),
                old_columns: run.old.clone(),
                old: owned(old),
                new: owned(new),
            });
        }
    }
    all
}

/// Tables rebuilt from changes alone. Stricter than a target: what is updated or deleted must be there.
#[derive(Debug, Default)]
pub(super) struct Model {
    keyed: BTreeMap<String, Vec<(Row, Row)>>,
    keyless: BTreeMap<String, Vec<Row>>,
}

impl Model {
    pub(super) fn apply(&mut self, change: &Change) {
        let name = change.def.name.name.clone();
        let sent = change.def.sent_columns();
        let key_of = |row: &Row| -> Row {
            let place = |k: &u16| sent.iter().position(|s| s == k).unwrap();
            change.def.key.iter().map(|k| row[place(k)].clone()).collect()
        };
        if change.def.key.is_empty() {
            let rows = self.keyless.entry(name).or_default();
            if change.op != Op::Insert {
                let at = rows.iter().position(|row| *row == change.old);
                rows.swap_remove(at.unwrap_or_else(|| panic!("no such row: {}", change.brief())));
            }
            if change.op != Op::Delete {
                rows.push(change.new.clone());
            }
            return;
        }
        let rows = self.keyed.entry(name).or_default();
        match change.op {
            Op::Insert => {
                let key = key_of(&change.new);
                rows.retain(|(k, _)| *k != key);
                rows.push((key, change.new.clone()));
            }
            Op::Update => {
                let new_key = key_of(&change.new);
                let whole = change.old.len() == sent.len() && change.old_columns != change.def.key;
                let old_key = match change.old.len() {
                    0 => new_key.clone(),
                    _ if whole => key_of(&change.old),
                    _ => change.old.clone(),
                };
                let at = rows.iter().position(|(k, _)| *k == old_key);
                let at = at.unwrap_or_else(|| panic!("no such key: {}", change.brief()));
                assert!(!whole || rows[at].1 == change.old, "another old row: {}", change.brief());
                assert!(old_key == new_key || rows.iter().all(|(k, _)| *k != new_key), "{}", change.brief());
                rows[at] = (new_key, change.new.clone());
            }
            Op::Delete => {
                let at = rows.iter().position(|(_, row)| *row == change.old);
                rows.swap_remove(at.unwrap_or_else(|| panic!("no such row: {}", change.brief())));
            }
            _ => panic!("unexpected {}", change.brief()),
        }
    }

    pub(super) fn rows(&self, table: &str) -> Vec<Row> {
        let keyed = self.keyed.get(table).into_iter().flatten().map(|(_, row)| row.clone());
        keyed.chain(self.keyless.get(table).into_iter().flatten().cloned()).collect()
    }

    /// Whether the model's table equals the application's.
    pub(super) fn assert_equals(&self, app: &App, table: &str) {
        let sorted = |mut rows: Vec<Row>| {
            rows.sort_by_cached_key(|row| format!("{row:?}"));
            rows
        };
        assert_eq!(sorted(self.rows(table)), sorted(app.rows(table)), "table {table}");
    }
}
