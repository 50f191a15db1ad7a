//! Cells as SQLite stores them: each with its storage class.

use rowbridge_schema::{Cell, StorageClass, sqlite_type};
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};

/// A cell that is ready to be bound, borrowing its text.
#[derive(Debug)]
pub(super) enum Bound<'a> {
    Null,
    Integer(i64),
    Real(f64),
    /// Bytes, since text need not be UTF-8. They may hold NUL.
    Text(&'a str),
    Blob(Vec<u8>),
    RawText(Vec<u8>),
}

impl Bound<'_> {
    /// The same value, owning its text.
    pub(super) fn into_owned(self) -> Bound<'static> {
        match self {
            Self::Null => Bound::Null,
            Self::Integer(value) => Bound::Integer(value),
            Self::Real(value) => Bound::Real(value),
            Self::Text(text) => Bound::RawText(text.as_bytes().to_vec()),
            Self::Blob(bytes) => Bound::Blob(bytes),
            Self::RawText(bytes) => Bound::RawText(bytes),
        }
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::RawText(bytes) => ValueRef::Text(bytes),
        }))
    }
}

/// Reads a cell of a column whose natural class is `natural`; `None` if its text is not of its class.
pub(super) fn bound<'a>(cell: &'a Cell<'_>, natural: StorageClass) -> Option<Bound<'a>> {
    let (class, text) = match cell {
        Cell::Null => return Some(Bound::Null),
        Cell::Text(text) => (natural, text.as_ref()),
        Cell::Classed(class, text) => (*class, text.as_ref()),
    };
    Some(match class {
        StorageClass::Integer => Bound::Integer(text.parse().ok()?),
        StorageClass::Real => Bound::Real(sqlite_type::parse_real(text)?),
        StorageClass::Text => Bound::Text(text),
        StorageClass::Blob => Bound::Blob(sqlite_type::parse_hex(text)?),
        StorageClass::RawText => Bound::RawText(sqlite_type::parse_hex(text)?),
    })
}

/// A value as it is stored. Text is kept as bytes, since it need not be UTF-8.
#[derive(Debug)]
pub(super) struct Stored(Bound<'static>);

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(match value {
            ValueRef::Null => Bound::Null,
            ValueRef::Integer(value) => Bound::Integer(value),
            ValueRef::Real(value) => Bound::Real(value),
            ValueRef::Text(bytes) => Bound::RawText(bytes.to_vec()),
            ValueRef::Blob(bytes) => Bound::Blob(bytes.to_vec()),
        }))
    }
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// A stored key value as a person reads it, the same text as its cell has.
pub(super) fn display(value: &Stored) -> String {
    let mut text = String::new();
    match &value.0 {
        Bound::Null => text.push_str("NULL"),
        Bound::Integer(value) => text.push_str(&value.to_string()),
        Bound::Real(value) => sqlite_type::push_real(&mut text, *value),
        Bound::Text(value) => text.push_str(value),
        Bound::Blob(bytes) => sqlite_type::push_hex(&mut text, bytes),
        Bound::RawText(bytes) => match std::str::from_utf8(bytes) {
            Ok(utf8) => text.push_str(utf8),
            Err(_) => sqlite_type::push_hex(&mut text, bytes),
        },
    }
    text
}

/// Reads a key's text in a snapshot's range, which carries no class: the natural one if it fits, else what SQLite would
/// keep in such a column.
pub(super) fn bound_key_text(text: &str, natural: StorageClass) -> Bound<'_> {
    let blob = || sqlite_type::parse_hex(text).map(Bound::Blob);
    let real = || sqlite_type::parse_real(text).map(Bound::Real);
    match natural {
        StorageClass::Integer => text.parse().ok().map(Bound::Integer).or_else(real),
        StorageClass::Real => real(),
        StorageClass::Blob => blob(),
        StorageClass::Text | StorageClass::RawText => None,
    }
    .unwrap_or(Bound::Text(text))
}
