//! A table and a row of it, for what is rendered from events and decided on them.

use crate::cell::Cell;
use crate::event::{Event, EventOp, Field};
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Column, Dialect, TableDef, TableName};
use crate::types::ColumnType;

/// Columns with a value each; the first is the key.
const COLUMNS: &[(&str, &str, Option<&str>)] = &[
    ("id", "bigint", Some("9007199254740993")),
    ("name", "text", Some("Zoë \"O'Neil\" <a&b>\r\n{{ x }} ]]>")),
    ("total", "numeric(30,10)", Some("-1234567890.0000000001")),
    ("paid", "boolean", Some("t")),
    ("ratio", "double precision", Some("1e-300")),
    ("at", "timestamp with time zone", Some("2026-01-02 03:04:05.678901+00")),
    ("info", "jsonb", Some(r#"{"a": [1, {"b": "ü"}], "n": 1e400, "s": "x"}"#)),
    ("tags", "text[]", Some(r#"{a,"b c",NULL}"#)),
    ("photo", "bytea", Some(r"\x00ff")),
    ("span", "interval", Some("1 day 02:03:04")),
    ("note", "text", None),
];

pub(super) struct World {
    pub(super) def: TableDef,
    stream: StreamName,
    endpoint: EndpointName,
    source: SourceId,
    position: Position,
    types: Vec<ColumnType>,
}

impl World {
    pub(super) fn new() -> Self {
        let columns = COLUMNS.iter().map(|(name, type_name, _)| Column::new(*name, *type_name)).collect();
        let def = TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "orders"),
            columns,
            key: vec![0],
            types: vec![],
            options: vec![],
        };
        let types = def.columns.iter().map(|column| ColumnType::of(&def, column)).collect();
        Self {
            def,
            stream: "shop".parse().expect("a name"),
            endpoint: "crm".parse().expect("a name"),
            source: SourceId("postgres:7".into()),
            position: Position::new(1, 42, 1),
            types,
        }
    }

    /// One cell per column.
    pub(super) fn cells(&self) -> Vec<Option<Cell<'static>>> {
        COLUMNS.iter().map(|(_, _, value)| Some(value.map_or(Cell::Null, Cell::text))).collect()
    }

    /// An update of the row.
    pub(super) fn event(&self) -> Event<'_> {
        let field = |at: usize| {
            let (name, _, value) = COLUMNS[at];
            Field { name, column: &self.types[at], cell: value.map_or(Cell::Null, Cell::text) }
        };
        let row = || (0..COLUMNS.len()).map(field).collect::<Vec<_>>();
        Event {
            id: "shop:1",
            op: EventOp::Update,
            stream: &self.stream,
            endpoint: &self.endpoint,
            source: &self.source,
            database: "shopdb",
            dialect: Dialect::Postgres,
            table: &self.def.name,
            position: self.position,
            committed_at: 1_767_323_045_678_901,
            replay: false,
            key: vec![field(0)],
            before: Some(row()),
            after: Some(row()),
            changed: Some(vec!["total", "name"]),
            message: None,
        }
    }
}
