//! Deliveries against real files.

mod crossing;
mod guarantees;
mod model;
mod tables;
mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::MapConfig;
use rowbridge_schema::wire::{
    BlockHead, Chunk, DeliveryHead, FailingChange, Op, RunKind, RunWriter, Step, encode_delivery,
    parse_delivery,
};
use rowbridge_schema::{Cell, Column, Dialect, Position, SourceId, StorageClass, TableDef, TableName};
use rusqlite::Connection;
use tokio::runtime::Runtime;

use super::{SqliteError, SqliteLane, SqliteTarget};
use crate::apply::{Applied, ApplyTarget as _, TargetLane as _};
use crate::plan::Mapping;

/// `"id INTEGER"`: name and declared type; `!` after the name means NOT NULL.
pub(super) fn table(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    let column = |text: &&str| {
        let (name, type_name) = text.split_once(' ').unwrap_or((text, ""));
        Column {
            name: name.trim_end_matches('!').into(),
            type_name: type_name.into(),
            not_null: name.ends_with('!'),
            generated: None,
            collation: None,
        }
    };
    TableDef {
        dialect: Dialect::Sqlite,
        name: TableName::bare(name),
        columns: columns.iter().map(column).collect(),
        key: key.to_vec(),
        types: vec![],
        options: vec![],
    }
}

/// Cells as tests write them: `"~"` is NULL, `"r:1.5"` a cell with its class.
pub(super) fn cell(text: &str) -> Cell<'_> {
    if text == "~" {
        return Cell::Null;
    }
    match text.split_once(':').and_then(|(tag, rest)| Some((StorageClass::from_tag(tag)?, rest))) {
        Some((class, rest)) => Cell::Classed(class, rest.into()),
        None => Cell::text(text),
    }
}

#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) def: TableDef,
    pub(super) op: Op,
    pub(super) old: Vec<(u16, Cell<'static>)>,
    pub(super) new: Vec<(u16, Cell<'static>)>,
    pub(super) maybe_missing: bool,
}

fn numbered(cells: &[&str]) -> Vec<(u16, Cell<'static>)> {
    cells.iter().enumerate().map(|(i, text)| (i as u16, cell(text).into_owned())).collect()
}

impl Change {
    pub(super) fn new(def: &TableDef, op: Op, old: &[(u16, &str)], new: &[(u16, &str)]) -> Self {
        let owned =
            |cells: &[(u16, &str)]| cells.iter().map(|(c, text)| (*c, cell(text).into_owned())).collect();
        Self { def: def.clone(), op, old: owned(old), new: owned(new), maybe_missing: false }
    }
}

pub(super) fn insert(def: &TableDef, cells: &[&str]) -> Change {
    Change { new: numbered(cells), ..Change::new(def, Op::Insert, &[], &[]) }
}

pub(super) fn read(def: &TableDef, cells: &[&str]) -> Change {
    Change { new: numbered(cells), ..Change::new(def, Op::Read, &[], &[]) }
}

/// A full row under an unchanged key.
pub(super) fn update(def: &TableDef, cells: &[&str]) -> Change {
    Change { new: numbered(cells), ..Change::new(def, Op::Update, &[], &[]) }
}

/// A full row under a new key.
pub(super) fn rekey(def: &TableDef, old: &[(u16, &str)], cells: &[&str]) -> Change {
    Change { new: numbered(cells), ..Change::new(def, Op::Update, old, &[]) }
}

pub(super) fn delete(def: &TableDef, old: &[(u16, &str)]) -> Change {
    Change::new(def, Op::Delete, old, &[])
}

pub(super) fn at(offset: u64) -> Position {
    Position::new(1, offset, 0)
}

/// A delivery under construction.
#[derive(Clone)]
pub(super) struct Builder {
    pub(super) head: DeliveryHead,
    blocks: Vec<(BlockHead, Vec<Change>)>,
    /// Defined although no row may refer to them.
    defs: Vec<TableDef>,
}

pub(super) fn delivery(prev: Option<Position>) -> Builder {
    Builder {
        head: DeliveryHead {
            rowbridge: 1,
            stream: "shop".parse().unwrap(),
            endpoint: "copy".parse().unwrap(),
            source: SourceId("a".into()),
            prev,
            to: None,
            open: false,
            split: false,
        },
        blocks: vec![],
        defs: vec![],
    }
}

impl Builder {
    /// A transaction whose changes have the ordinals from 1 on.
    pub(super) fn block(self, offset: u64, changes: Vec<Change>) -> Self {
        self.part(Position::new(1, offset, 1), changes)
    }

    pub(super) fn part(mut self, first: Position, changes: Vec<Change>) -> Self {
        let last = first.with_ordinal(first.ordinal + changes.len().max(1) as u64 - 1);
        self.head.to = Some(last);
        self.blocks.push((
            BlockHead { first, last, at: 1_700_000_000_000_000, step: Step::Ordinal, chunk: None },
            changes,
        ));
        self
    }

    pub(super) fn chunk(mut self, offset: u64, def: &TableDef, chunk: Chunk, changes: Vec<Change>) -> Self {
        self.defs.push(def.clone());
        self = self.block(offset, changes);
        self.blocks.last_mut().unwrap().0.chunk = Some(chunk);
        self
    }

    pub(super) fn open(mut self) -> Self {
        self.head.open = true;
        self
    }

    pub(super) fn source(mut self, source: &str) -> Self {
        self.head.source = SourceId(source.into());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut defs = self.defs.clone();
        let mut bodies = Vec::new();
        for (head, changes) in &self.blocks {
            let mut writer = RunWriter::new();
            for (n, change) in changes.iter().enumerate() {
                if !defs.contains(&change.def) {
                    defs.push(change.def.clone());
                }
                let n = head.first.ordinal + n as u64;
                if change.op == Op::Truncate {
                    writer.truncate(change.def.id(), 0, n);
                    continue;
                }
                let columns = |cells: &[(u16, Cell<'_>)]| cells.iter().map(|(c, _)| *c).collect::<Vec<_>>();
                let (old, new) = (columns(&change.old), columns(&change.new));
                let kind = RunKind {
                    table: change.def.id(),
                    table_index: 0,
                    op: change.op,
                    old: &old,
                    new: &new,
                    maybe_missing: change.maybe_missing,
                };
                writer.row(kind, n, |row| {
                    change.old.iter().chain(&change.new).for_each(|(_, cell)| row.cell(cell))
                });
            }
            bodies.push((head, writer.finish().0));
        }
        let json: Vec<_> = defs.iter().map(|def| (def.id(), def.to_json())).collect();
        let pieces: Vec<[&[u8]; 1]> = bodies.iter().map(|(_, body)| [body.as_slice()]).collect();
        let blocks = bodies.iter().zip(&pieces).map(|((head, _), pieces)| (*head, &pieces[..]));
        encode_delivery(&self.head, json.iter().map(|(id, json)| (*id, json.as_str())), blocks, 0)
    }
}

/// A target file and a lane to it.
pub(super) struct Bed {
    _dir: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) runtime: Runtime,
    pub(super) target: SqliteTarget,
    pub(super) lane: SqliteLane,
}

impl Bed {
    pub(super) fn new(setup: &str) -> Self {
        Self::with(setup, &[], true)
    }

    pub(super) fn with(setup: &str, maps: &[MapConfig], create: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target.db");
        if !setup.is_empty() {
            Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mapping = Arc::new(Mapping::new(maps, Dialect::Sqlite).unwrap());
        let target = SqliteTarget::new(&path, mapping, create).with_busy_timeout(Duration::from_millis(50));
        let lane = runtime.block_on(target.open(&"shop".parse().unwrap(), &"copy".parse().unwrap())).unwrap();
        Self { _dir: dir, path, runtime, target, lane }
    }

    pub(super) fn try_apply(&mut self, delivery: &Builder) -> Result<Applied, SqliteError> {
        let bytes = delivery.bytes();
        let parsed = parse_delivery(&bytes).unwrap();
        self.runtime.block_on(self.lane.apply(&parsed))
    }

    pub(super) fn apply(&mut self, delivery: &Builder) -> Applied {
        self.try_apply(delivery).unwrap()
    }

    /// Applies one transaction on top of what is there; all its changes must be new.
    pub(super) fn commit(&mut self, offset: u64, changes: Vec<Change>) {
        let count = changes.len() as u64;
        let prev = self.position();
        let applied = self.apply(&delivery(prev).block(offset, changes));
        let position = Position::new(1, offset, count.max(1));
        assert_eq!(applied, Applied::Committed { position, changes: count });
    }

    /// Applies one transaction that must be refused.
    pub(super) fn refused(&mut self, offset: u64, changes: Vec<Change>) -> FailingChange {
        let (prev, before) = (self.position(), self.dump());
        let applied = self.apply(&delivery(prev).block(offset, changes));
        let Applied::Rejected { position, mut failing } = applied else { panic!("{applied:?}") };
        assert_eq!(position, prev);
        assert_eq!(self.position(), prev);
        assert_eq!(self.dump(), before, "a refused delivery leaves nothing behind");
        assert_eq!(failing.len(), 1);
        failing.remove(0)
    }

    pub(super) fn position(&mut self) -> Option<Position> {
        self.runtime.block_on(self.lane.progress()).unwrap().map(|progress| progress.position)
    }

    pub(super) fn conn(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    /// Rows as `quote()`d texts joined by `|`.
    pub(super) fn rows(&self, sql: &str) -> Vec<String> {
        let conn = self.conn();
        let mut statement = conn.prepare(sql).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            let cells = (0..width).map(|i| {
                let value = row.get_ref(i).unwrap();
                match value {
                    rusqlite::types::ValueRef::Null => "~".to_owned(),
                    rusqlite::types::ValueRef::Integer(v) => v.to_string(),
                    rusqlite::types::ValueRef::Real(v) => format!("r:{v:?}"),
                    rusqlite::types::ValueRef::Text(v) => match std::str::from_utf8(v) {
                        Ok(text) => text.to_owned(),
                        Err(_) => format!("u:{v:02x?}"),
                    },
                    rusqlite::types::ValueRef::Blob(v) => format!("b:{v:02x?}"),
                }
            });
            Ok(cells.collect::<Vec<_>>().join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn dump(&self) -> Vec<String> {
        let tables = self.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
        let of = |name: &String| {
            self.rows(&format!("SELECT * FROM {} ORDER BY 1", rowbridge_schema::sql::ident(name)))
        };
        tables
            .iter()
            .filter(|name| *name != "rowbridge_progress")
            .flat_map(|name| [vec![name.clone()], of(name)].concat())
            .collect()
    }
}
