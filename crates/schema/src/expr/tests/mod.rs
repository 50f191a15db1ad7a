//! Programs and their results, on rows of all three databases.

mod errors;
mod messages;
mod nulls;
mod properties;
mod results;
mod syntax;

use super::*;
use crate::cell::{Cell, Class};
use crate::event::EventOp;
use crate::position::{Offset, Position};
use crate::table::{Column, Dialect, TableName};

/// A change of a table of PostgreSQL: both rows, all columns.
pub(super) fn orders() -> TableDef {
    let column = |name: &str, type_name: &str| Column::new(name, type_name);
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: vec![
            column("id", "bigint"),
            column("total", "numeric(38,10)"),
            column("rate", "double precision"),
            column("status", "text"),
            column("code", "character(5)"),
            column("paid", "boolean"),
            column("created", "timestamp with time zone"),
            column("day", "date"),
            column("doc", "jsonb"),
            column("odd name", "uuid"),
            column("note", "text"),
        ],
        key: vec![0],
        types: Vec::new(),
        options: Vec::new(),
    }
}

/// The cells of [`orders`]: `~` is NULL, `?` was not sent.
pub(super) fn cells(texts: &[&'static str]) -> Vec<Option<Cell<'static>>> {
    let cell = |text: &&'static str| match *text {
        "?" => None,
        "~" => Some(Cell::Null),
        text => Some(Cell::text(text)),
    };
    texts.iter().map(cell).collect()
}

pub(super) const NEW: [&str; 11] = [
    "9007199254740993",
    "1234567890123456789012345678.0000000001",
    "0.1",
    "paid",
    "ab   ",
    "t",
    "2024-03-10 12:00:00.5+00",
    "2024-02-29",
    "{\"customer\": {\"tier\": \"gold\", \"n\": 9007199254740993, \"none\": null}, \"tags\": [\"a\", 2, true]}",
    "00000000-0000-0000-0000-000000000001",
    "~",
];

pub(super) const OLD: [&str; 11] =
    ["9007199254740993", "5", "NaN", "open", "ab   ", "f", "infinity", "2024-02-28", "[]", "?", "?"];

pub(super) struct Change {
    pub(super) table: TableDef,
    pub(super) op: EventOp,
    pub(super) before: Option<Vec<Option<Cell<'static>>>>,
    pub(super) after: Option<Vec<Option<Cell<'static>>>>,
}

impl Change {
    pub(super) fn update() -> Self {
        Self { table: orders(), op: EventOp::Update, before: Some(cells(&OLD)), after: Some(cells(&NEW)) }
    }

    pub(super) fn insert() -> Self {
        Self { op: EventOp::Insert, before: None, ..Self::update() }
    }

    pub(super) fn delete() -> Self {
        Self { op: EventOp::Delete, after: None, ..Self::update() }
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input {
            op: self.op,
            before: self.before.as_ref().map(|row| row as &dyn Row),
            after: self.after.as_ref().map(|row| row as &dyn Row),
            message: None,
            table: &self.table.name,
            stream: "shop",
            endpoint: "chat",
            position: Position { epoch: 1, offset: Offset { file: 2, at: 3 }, ordinal: 4 },
            committed_at: 1_710_072_000_000_000,
        }
    }

    pub(super) fn passes(&self, text: &str) -> Result<bool, Failure> {
        let program = Program::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let bound = program.bind(&self.table, Purpose::Condition).unwrap_or_else(|e| panic!("{text}: {e}"));
        bound.matches(&self.input()).map_err(|e| e.failure)
    }

    /// The cell of a computed column.
    pub(super) fn computed(&self, text: &str) -> Result<Option<String>, Failure> {
        let program = Program::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let bound = program.bind(&self.table, Purpose::Value).unwrap_or_else(|e| panic!("{text}: {e}"));
        let cell = bound.cell(&self.input()).map_err(|e| e.failure)?;
        Ok(cell.and_then(|cell| cell.as_str().map(str::to_owned)))
    }
}

/// All of them hold; those with a `NOT` in front do not.
pub(super) fn all_hold(change: &Change, texts: &[&str]) {
    for text in texts {
        let (wanted, program) = match text.strip_prefix("NOT ") {
            Some(program) => (false, program),
            None => (true, *text),
        };
        assert_eq!(change.passes(program), Ok(wanted), "{program}");
    }
}

pub(super) fn sqlite() -> Change {
    let column = |name: &str, type_name: &str| Column::new(name, type_name);
    let table = TableDef {
        dialect: Dialect::Sqlite,
        name: TableName::bare("items"),
        columns: vec![
            column("id", "INTEGER"),
            column("price", "REAL"),
            column("active", "BOOLEAN"),
            column("at", "DATETIME"),
            column("name", "TEXT"),
            column("any", ""),
            column("data", "BLOB"),
            column("n", "INTEGER"),
        ],
        key: vec![0],
        types: Vec::new(),
        options: Vec::new(),
    };
    let classed = |class, text: &'static str| Some(Cell::Classed(class, text.into()));
    let after = vec![
        Some(Cell::text("1")),
        Some(Cell::text("1.0")),
        Some(Cell::text("1")),
        classed(Class::Text, "2024-03-10 12:00:00"),
        Some(Cell::text("12")),
        classed(Class::Integer, "12"),
        Some(Cell::text("00ff")),
        classed(Class::Text, "n/a"),
    ];
    Change { table, op: EventOp::Insert, before: None, after: Some(after) }
}

pub(super) fn mysql() -> Change {
    let column = |name: &str, type_name: &str| Column::new(name, type_name);
    let table = TableDef {
        dialect: Dialect::Mysql,
        name: TableName::new("shop", "items"),
        columns: vec![
            column("id", "bigint(20) unsigned"),
            column("active", "tinyint(1)"),
            column("price", "decimal(10,2)"),
            column("at", "datetime(3)"),
            column("zero", "date"),
            column("kind", "enum('a','b')"),
            column("year", "year(4)"),
            column("off", "tinyint(1)"),
        ],
        key: vec![0],
        types: Vec::new(),
        options: Vec::new(),
    };
    let after = cells(&[
        "18446744073709551615",
        "1",
        "-0.50",
        "2024-03-10 12:00:00.500",
        "0000-00-00",
        "a",
        "2155",
        "0",
    ]);
    Change { table, op: EventOp::Insert, before: None, after: Some(after) }
}
