//! Templates with hostile values, with any values, and against tables.

mod bodies;
mod checks;
mod properties;
mod requests;

use super::{BodyTemplate, ContentType};
use crate::cell::Cell;
use crate::event::{Event, EventOp, Field};
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Column, Dialect, TableDef, TableName};
use crate::types::ColumnType;

/// What events of the tests belong to.
struct World {
    stream: StreamName,
    endpoint: EndpointName,
    source: SourceId,
    table: TableName,
    position: Position,
    types: Vec<ColumnType>,
}

/// Columns of the table `public.orders`, key `id`.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "bigint"),
    ("name", "text"),
    ("total", "numeric(30,10)"),
    ("paid", "boolean"),
    ("ratio", "double precision"),
    ("at", "timestamp with time zone"),
    ("info", "jsonb"),
    ("tags", "text[]"),
    ("photo", "bytea"),
    ("note", "text"),
];

impl World {
    fn new() -> Self {
        Self {
            stream: "shop".parse().unwrap(),
            endpoint: "crm".parse().unwrap(),
            source: SourceId("postgres:7".into()),
            table: TableName::new("public", "orders"),
            position: "00000001-00000000000000000000002a-0000000001".parse().unwrap(),
            types: COLUMNS
                .iter()
                .map(|(_, name)| ColumnType::parse(Dialect::Postgres, name, None, &[]))
                .collect(),
        }
    }

    fn row<'a>(&'a self, values: &[(&str, Option<&'a str>)]) -> Vec<Field<'a>> {
        let field = |(name, value): &(&str, Option<&'a str>)| {
            let at = COLUMNS.iter().position(|(column, _)| column == name).unwrap();
            let cell = value.map_or(Cell::Null, Cell::text);
            Field { name: COLUMNS[at].0, column: &self.types[at], cell }
        };
        values.iter().map(field).collect()
    }

    fn event<'a>(&'a self, after: Vec<Field<'a>>) -> Event<'a> {
        Event {
            id: "shop:1",
            op: EventOp::Update,
            stream: &self.stream,
            endpoint: &self.endpoint,
            source: &self.source,
            database: "shopdb",
            dialect: Dialect::Postgres,
            table: &self.table,
            position: self.position,
            committed_at: 1_767_323_045_678_901,
            replay: false,
            key: after.iter().filter(|field| field.name == "id").cloned().collect(),
            before: None,
            after: Some(after),
            changed: Some(vec!["total", "name"]),
            message: None,
        }
    }
}

fn orders() -> TableDef {
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: COLUMNS.iter().map(|(name, kind)| Column::new(*name, *kind)).collect(),
        key: vec![0],
        types: vec![],
        options: vec![],
    }
}

/// A row with a value of each kind.
const SAMPLE: &[(&str, Option<&str>)] = &[
    ("id", Some("42")),
    ("name", Some("Ann \"A\" O'Neil <a&b>")),
    ("total", Some("12345678901234567890.1234567890")),
    ("paid", Some("t")),
    ("ratio", Some("0.5")),
    ("at", Some("2026-01-02 03:04:05.5+00")),
    ("info", Some(r#"{"a": {"b": [1, "x", null]}, "big": 12345678901234567890123}"#)),
    ("tags", Some("{red,\"a b\"}")),
    ("photo", Some("\\x00ff")),
    ("note", None),
];

fn template(content_type: &str, text: &str) -> BodyTemplate {
    BodyTemplate::parse(text, ContentType::parse(content_type).unwrap())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The body of the sample's event, or the error.
fn body(content_type: &str, text: &str) -> String {
    let world = World::new();
    let event = world.event(world.row(SAMPLE));
    template(content_type, text).render(&event).unwrap_or_else(|error| format!("! {error}"))
}

/// The body for an order with a name.
fn named(content_type: &str, text: &str, name: &str) -> Result<String, super::RenderError> {
    let world = World::new();
    let event = world.event(world.row(&[("id", Some("1")), ("name", Some(name))]));
    template(content_type, text).render(&event)
}

/// Values that would break out of what is badly escaped.
const HOSTILE: &[&str] = &[
    "",
    "\"",
    "\\",
    "\\\"",
    "\"}, {\"admin\": true, \"x\": \"",
    "]]>",
    "<!--",
    "</a><b>",
    "&amp;",
    "a\r\nX-Evil: 1\r\n\r\nbody",
    "\u{1f600} \u{e9}",
    "\u{2028}\u{2029}",
    "../../etc/passwd",
    "..",
    ".",
    "%2e%2e",
    "?a=b#c",
    "a&b=c+d e;f",
    "//evil.example/",
    "\\\\evil.example\\",
    "@evil.example",
    "{{ after.id }}{% raw %}",
    "\u{10ffff}",
    "\0\u{1}\u{7f}\u{85}",
    "\t\n",
    "null",
    "1e999",
];
