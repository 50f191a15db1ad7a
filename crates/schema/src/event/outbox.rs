//! Outbox tables: an insert into one is a message, and nothing else that happens to it is an event.

mod error;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::OnceLock;

use super::Field;
use super::message::{Message, plain};
use super::natural::{self, Natural, Odd};
use crate::cell::Cell;
use crate::expr::Row;
use crate::suggest::nearest;
use crate::table::{Column as Declared, Dialect, TableDef, TableName};
use crate::types::ColumnType;

pub use error::OutboxError;

/// The table that stands for logical messages of PostgreSQL: the journal holds each as an insert into it. No table can be
/// called so, since those of PostgreSQL have a schema.
pub const LOGICAL_MESSAGE: &str = "pg_logical_message";

/// The definition of [`LOGICAL_MESSAGE`]. It is in journals: a column that is added goes to the end.
#[must_use]
pub fn logical_message() -> TableDef {
    let column = |name: &str, kind: &str| Declared { not_null: true, ..Declared::new(name, kind) };
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::bare(LOGICAL_MESSAGE),
        columns: vec![column("prefix", "text"), column("content", "bytea")],
        key: Vec::new(),
        types: Vec::new(),
        options: Vec::new(),
    }
}

/// One `[[outbox]]`. The names of columns are raw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Raw `schema.table`, as the source has it.
    pub table: String,
    /// Column of the application's own id; `None` if the table has none.
    pub id: Option<String>,
    /// Column of the message's type.
    pub kind: Option<String>,
    /// Column of the key within which messages are in order.
    pub key: Option<String>,
    /// Column of what the message says.
    pub payload: String,
    /// Text and bytes in `payload` are JSON.
    pub json: bool,
    /// Columns that travel along; `None`: all others.
    pub headers: Option<Vec<String>>,
    /// Where in the file it says so.
    pub lines: OutboxLines,
}

/// Lines of the file, from 1; those of keys that are left out are the section's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "named like the keys")]
pub struct OutboxLines {
    pub table: usize,
    pub id: usize,
    pub kind: usize,
    pub key: usize,
    pub payload: usize,
    pub headers: usize,
}

impl OutboxLines {
    /// Where a key of `[[outbox]]` stands.
    #[must_use]
    pub fn of(&self, key: &str) -> usize {
        match key {
            "id" => self.id,
            "type" => self.kind,
            "key" => self.key,
            "payload" => self.payload,
            "headers" => self.headers,
            _ => self.table,
        }
    }
}

impl OutboxConfig {
    /// Logical messages of PostgreSQL: the prefix is the type, and content has no type, so what it is shows by itself.
    #[must_use]
    pub fn logical(line: usize) -> Self {
        Self {
            table: LOGICAL_MESSAGE.to_owned(),
            id: None,
            kind: Some("prefix".to_owned()),
            key: None,
            payload: "content".to_owned(),
            json: true,
            headers: Some(Vec::new()),
            lines: OutboxLines { table: line, ..OutboxLines::default() },
        }
    }

    /// Whether these are logical messages.
    #[must_use]
    pub fn is_logical(&self) -> bool {
        self.table == LOGICAL_MESSAGE
    }

    /// Whether this is the table.
    #[must_use]
    pub fn is(&self, table: &TableName) -> bool {
        table.to_string() == self.table
    }
}

#[derive(Debug)]
struct Column {
    at: usize,
    name: String,
    column: ColumnType,
}

impl Column {
    fn plain<'a>(&'a self, row: &'a dyn Row) -> Option<Cow<'a, str>> {
        plain(&self.column, row.cell(self.at)?)
    }
}

/// An outbox, compared with its table once.
#[derive(Debug)]
pub struct Outbox {
    id: Option<Column>,
    kind: Option<Column>,
    key: Option<Column>,
    payload: Column,
    json: bool,
    headers: Vec<Column>,
    logical: bool,
}

impl Outbox {
    /// Finds the columns in the table.
    ///
    /// # Errors
    /// Columns that the table does not have, or that have no value of their own.
    pub fn compile(config: &OutboxConfig, def: &TableDef) -> Result<Self, OutboxError> {
        let optional = |key: &'static str, name: &Option<String>| {
            name.as_deref().map(|name| column(def, key, name)).transpose()
        };
        let id = optional("id", &config.id)?;
        let kind = optional("type", &config.kind)?;
        let key = optional("key", &config.key)?;
        let payload = column(def, "payload", &config.payload)?;
        let headers = match &config.headers {
            Some(names) => names.iter().map(|name| column(def, "headers", name)).collect::<Result<_, _>>()?,
            None => {
                let used = [id.as_ref(), kind.as_ref(), key.as_ref(), Some(&payload)];
                let is_used = |at: usize| used.iter().flatten().any(|column| column.at == at);
                let others = def.columns.iter().enumerate().filter(|(at, _)| !is_used(*at));
                others
                    .filter(|(_, column)| column.generated.is_none())
                    .map(|(at, found)| Column {
                        at,
                        name: found.name.clone(),
                        column: ColumnType::of(def, found),
                    })
                    .collect()
            }
        };
        Ok(Self { id, kind, key, payload, json: config.json, headers, logical: config.is_logical() })
    }

    /// Names of the columns that travel along.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|column| column.name.as_str())
    }

    /// What a new row says.
    #[must_use]
    pub fn message<'a>(&'a self, row: &'a dyn Row) -> Message<'a> {
        let plain = |column: &'a Option<Column>| column.as_ref().and_then(|column| column.plain(row));
        let field = |column: &'a Column| {
            let cell = row.cell(column.at)?;
            Some(Field { name: &column.name, column: &column.column, cell: borrowed(cell) })
        };
        Message {
            id: plain(&self.id),
            kind: plain(&self.kind),
            key: plain(&self.key),
            payload: self.payload(row),
            headers: self.headers.iter().filter_map(field).collect(),
            logical: self.logical,
        }
    }

    fn payload<'a>(&'a self, row: &'a dyn Row) -> Field<'a> {
        let Column { at, name, column } = &self.payload;
        let Some(cell) = row.cell(*at) else { return Field { name, column, cell: Cell::Null } };
        let json = match natural::of(column, cell) {
            _ if !self.json => None,
            Natural::Text(text) | Natural::Odd(Odd::Text(text)) => Some(Cow::Borrowed(text)),
            Natural::Bytes(hex) | Natural::Odd(Odd::Blob(hex)) => {
                // A text in a column of JSON that is no JSON is a text.
                text_of(hex).filter(|text| self.logical || natural::is_json(text)).map(Cow::Owned)
            }
            _ => None,
        };
        match json {
            Some(text) => Field { name, column: json_type(), cell: Cell::Text(text) },
            None => Field { name, column, cell: borrowed(cell) },
        }
    }
}

fn column(def: &TableDef, key: &'static str, name: &str) -> Result<Column, OutboxError> {
    let Some(at) = def.columns.iter().position(|column| column.name == name) else {
        let names = def.columns.iter().filter(|column| column.generated.is_none());
        return Err(OutboxError::UnknownColumn {
            key,
            table: def.name.clone(),
            column: name.to_owned(),
            nearest: nearest(name, names.map(|column| column.name.as_str())).map(str::to_owned),
        });
    };
    if def.columns[at].generated.is_some() {
        return Err(OutboxError::Generated { key, table: def.name.clone(), column: name.to_owned() });
    }
    Ok(Column { at, name: name.to_owned(), column: ColumnType::of(def, &def.columns[at]) })
}

fn borrowed<'a>(cell: &'a Cell<'a>) -> Cell<'a> {
    match cell {
        Cell::Null => Cell::Null,
        Cell::Text(text) => Cell::Text(Cow::Borrowed(text)),
        Cell::Classed(class, text) => Cell::Classed(*class, Cow::Borrowed(text)),
    }
}

/// A text that is JSON wherever it comes from.
pub(super) fn json_type() -> &'static ColumnType {
    static JSON: OnceLock<ColumnType> = OnceLock::new();
    JSON.get_or_init(|| ColumnType::parse(Dialect::Postgres, "json", None, &[]))
}

/// The text that hexadecimal digits stand for, if it is UTF-8.
fn text_of(hex: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    natural::push_bytes(&mut bytes, hex);
    String::from_utf8(bytes).ok()
}
