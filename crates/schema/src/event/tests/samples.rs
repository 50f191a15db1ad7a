//! Events of every operation, with every kind of value and with names that formats may stumble over.

use crate::cell::{Cell, Class};
use crate::event::{Event, EventOp, Field};
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Column, Dialect, TableDef, TableName};
use crate::types::ColumnType;
use crate::types::tests as types;

/// 2026-01-02T03:04:05.678901Z
const AT: i64 = 1_767_323_045_678_901;

type Row = Vec<(String, ColumnType, Cell<'static>)>;

/// An event that owns what it shows.
pub(super) struct Sample {
    /// Of its golden files.
    pub(super) name: &'static str,
    op: EventOp,
    id: String,
    stream: StreamName,
    endpoint: EndpointName,
    source: SourceId,
    database: &'static str,
    pub(super) def: TableDef,
    position: Position,
    replay: bool,
    key: Row,
    before: Option<Row>,
    after: Option<Row>,
    changed: Option<Vec<&'static str>>,
}

fn fields(row: &Row) -> Vec<Field<'_>> {
    row.iter().map(|(name, column, cell)| Field { name, column, cell: cell.clone() }).collect()
}

impl Sample {
    fn new(name: &'static str, op: EventOp, def: TableDef, ordinal: u64) -> Self {
        let position = Position::new(2, 0x1a_7f00_c2b8, ordinal);
        let (source, database) = match def.dialect {
            Dialect::Postgres => ("postgres:7301122334455667788:rowbridge_shop", "shop"),
            Dialect::Mysql => ("mysql:6c8e1f2a-0000-11f0-9c3b-0242ac120002", "shop"),
            Dialect::Sqlite => ("sqlite:5f1d7e84a0b2c3d4", ""),
        };
        Self {
            name,
            op,
            id: format!("shop:{position}"),
            stream: "shop".parse().unwrap(),
            endpoint: "crm".parse().unwrap(),
            source: SourceId(source.into()),
            database,
            def,
            position,
            replay: false,
            key: vec![],
            before: None,
            after: None,
            changed: None,
        }
    }

    pub(super) fn event(&self) -> Event<'_> {
        Event {
            id: &self.id,
            op: self.op,
            stream: &self.stream,
            endpoint: &self.endpoint,
            source: &self.source,
            database: self.database,
            dialect: self.def.dialect,
            table: &self.def.name,
            position: self.position,
            committed_at: AT,
            replay: self.replay,
            key: fields(&self.key),
            before: self.before.as_ref().map(fields),
            after: self.after.as_ref().map(fields),
            changed: self.changed.clone(),
            message: None,
        }
    }

    /// Columns of the table with values: `None` for one that was not sent.
    fn row(&self, values: &[Option<Cell<'static>>]) -> Row {
        let columns = self.def.columns.iter().zip(values);
        columns
            .filter_map(|(column, value)| {
                let value = value.clone()?;
                Some((column.name.clone(), ColumnType::of(&self.def, column), value))
            })
            .collect()
    }
}

fn text(value: &'static str) -> Option<Cell<'static>> {
    Some(Cell::text(value))
}

fn table(dialect: Dialect, name: TableName, columns: Vec<Column>) -> TableDef {
    TableDef { dialect, name, columns, key: vec![0], types: vec![], options: vec![] }
}

fn orders() -> TableDef {
    let columns = vec![
        Column { not_null: true, ..Column::new("id", "bigint") },
        Column::new("total", "numeric(10,2)"),
        Column::new("note", "text"),
        Column::new("paid_at", "timestamp with time zone"),
        Column { generated: Some("total * 0.19".into()), ..Column::new("tax", "numeric") },
    ];
    table(Dialect::Postgres, TableName::new("public", "orders"), columns)
}

/// One event of each operation of one table, as a batch has them.
pub(super) fn orders_events() -> Vec<Sample> {
    let new = |name, op, ordinal| Sample::new(name, op, orders(), ordinal);
    let mut insert = new("insert", EventOp::Insert, 1);
    insert.key = insert.row(&[text("42")]);
    insert.after =
        Some(insert.row(&[text("42"), text("19.90"), Some(Cell::Null), text("2026-01-02 03:04:05.5+00")]));
    let mut update = new("update", EventOp::Update, 2);
    update.key = update.row(&[text("42")]);
    update.before = Some(update.row(&[text("42"), text("19.90"), Some(Cell::Null), Some(Cell::Null)]));
    update.after =
        Some(update.row(&[text("42"), text("20.00"), text("say \"hi\" & <b>\n"), Some(Cell::Null)]));
    update.changed = Some(vec!["total", "note"]);
    // The old row is not known, and the note lies out of line and was not sent.
    let mut partial = new("update-partial", EventOp::Update, 3);
    partial.key = partial.row(&[text("9007199254740993")]);
    partial.after = Some(partial.row(&[text("9007199254740993"), text("NaN"), None, text("infinity")]));
    let mut delete = new("delete", EventOp::Delete, 4);
    delete.key = delete.row(&[text("42")]);
    delete.before = Some(delete.key.clone());
    delete.replay = true;
    let mut read = new("read", EventOp::Read, 5);
    read.key = read.row(&[text("7")]);
    read.after = Some(read.row(&[text("7"), Some(Cell::Null), text(""), Some(Cell::Null)]));
    let truncate = new("truncate", EventOp::Truncate, 6);
    vec![insert, update, partial, delete, read, truncate]
}

/// Every type with its extremes: a column for each value.
fn values(name: &'static str, dialect: Dialect, ordinal: u64) -> Sample {
    let schema = match dialect {
        Dialect::Postgres => Some("public"),
        Dialect::Mysql => Some("shop"),
        Dialect::Sqlite => None,
    };
    let (mut columns, mut cells) = (vec![], vec![]);
    for (type_name, samples) in types::samples::of(dialect) {
        let (declared, collation) = type_name.split_once('@').unwrap_or((type_name, ""));
        for (at, value) in samples.iter().chain(&["~"]).enumerate() {
            let collation = Some(collation).filter(|name| !name.is_empty()).map(str::to_owned);
            let title = if declared.is_empty() { "no type" } else { declared };
            let not_null = columns.is_empty();
            let column = Column::new(format!("{title} {}", at + 1), declared);
            columns.push(Column { collation, not_null, ..column });
            cells.push(Some(types::cell(dialect, value)));
        }
    }
    let name_of_table = TableName { schema: schema.map(str::to_owned), name: "values".into() };
    let mut def = table(dialect, name_of_table, columns);
    if dialect == Dialect::Postgres {
        def.types = types::types();
    }
    let mut sample = Sample::new(name, EventOp::Insert, def, ordinal);
    sample.key = sample.row(&cells[..1]);
    sample.after = Some(sample.row(&cells));
    sample
}

/// Names and values that are markup, escapes, paths, or nothing that XML has a form for.
fn hostile() -> Sample {
    let names = [
        "\u{1}\"'<&>]]>\t\r\n",
        "%2F /\u{e9}\u{1F600}",
        "",
        "__proto__",
        "a.b",
        "$ref",
        "\u{fffe}",
        "xml:id",
    ];
    let columns = names.map(|name| Column::new(name, "text")).to_vec();
    let name = TableName::new("we\"ird <s>./", "or\u{1}ders %\r\n");
    let mut def = table(Dialect::Postgres, name, columns);
    def.key = vec![0, 1];
    let mut sample = Sample::new("hostile", EventOp::Update, def, 10);
    let old = [
        "\u{1}a/b%",
        "\u{e9} \"x\"\u{7f}",
        "]]>",
        "<![CDATA[",
        "&amp;&#1;",
        "\r\n\t \u{85}\u{2028}",
        "\u{ffff}",
        "\u{0}",
    ];
    let new = ["\u{1}a/b%", "\u{e9} \"x\"\u{7f}", "]]>", "-->", "</script>", "  ", "\u{1F600}", "\\u0000"];
    sample.before = Some(sample.row(&old.map(text)));
    sample.after = Some(sample.row(&new.map(text)));
    sample.key = sample.row(&new[..2].iter().map(|value| text(value)).collect::<Vec<_>>());
    sample.changed = Some(names[3..].to_vec());
    sample
}

/// Numbers around 2^53 and around 15 digits, and the values of SQLite that are objects.
fn edges() -> Sample {
    let columns = [
        ("k", "INTEGER"),
        ("least", "INTEGER"),
        ("beyond", "INTEGER"),
        ("blob", "BLOB"),
        ("text in blob", "BLOB"),
        ("number in blob", "BLOB"),
        ("blob in text", "TEXT"),
        ("raw text", "TEXT"),
        ("infinite", "REAL"),
        ("anything", ""),
    ];
    let columns = columns.map(|(name, declared)| Column::new(name, declared)).to_vec();
    let def = table(Dialect::Sqlite, TableName::bare("edges"), columns);
    let mut sample = Sample::new("edges", EventOp::Insert, def, 11);
    let classed = |class, value: &'static str| Some(Cell::Classed(class, value.into()));
    let cells = [
        text("9007199254740991"),
        text("-9007199254740991"),
        text("9007199254740992"),
        text("00ff"),
        classed(Class::Text, "00ff"),
        classed(Class::Integer, "9007199254740993"),
        classed(Class::Blob, "00ff"),
        classed(Class::RawText, "ff00"),
        text("-Infinity"),
        text("00ff"),
    ];
    sample.key = sample.row(&cells[..1]);
    sample.after = Some(sample.row(&cells));
    sample
}

pub(super) fn all() -> Vec<Sample> {
    let mut samples = orders_events();
    samples.extend([
        values("postgres", Dialect::Postgres, 7),
        values("mysql", Dialect::Mysql, 8),
        values("sqlite", Dialect::Sqlite, 9),
        hostile(),
        edges(),
    ]);
    samples
}
