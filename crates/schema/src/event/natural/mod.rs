//! Values as people expect them in JSON and XML: numbers as numbers, times in ISO 8601, bytes in base64.
//!
//! [`of`] says what a canonical text is; [`write_json`] and [`write_text`] write it. What has no natural form (infinite
//! dates, `NaN`, a text that is none of its type) stays the canonical text, as a string: nothing is lost, nothing fails.
//! `docs/formats.md` has the table, printed from this code.
//!
//! - A number is a JSON number only if a double holds it, since that is what most JSON readers make of it: integers up
//!   to 2^53 - 1, decimals of at most 15 digits (leading zeros aside; zeros at the end count, so that a `numeric(12,2)`
//!   is always a number). Others are strings.
//! - MySQL's `BIT(1)` is a boolean: it holds nothing else. `TINYINT(1)` is a number: it holds -128 to 127, and a column
//!   should not change its type with its value. A SQLite `BOOLEAN` is a number for the same reason.
//! - SQL's NULL and JSON's `null` in a JSON column look the same.
//! - A string in a SQLite column means one thing: base64 where the column is declared as `BLOB`, text elsewhere. Values
//!   that would be taken for the other are objects with one member ([`Odd`]).
//! - Elements of PostgreSQL arrays are written by their type; elements of user-defined types and domains are strings.
//!   Lower bounds other than 1 are left out.

mod array;
mod base64;
mod number;
mod stamp;
#[cfg(test)]
mod tests;
mod write;

use serde::de::IgnoredAny;

pub use array::Array;
pub(super) use array::Token;
pub use write::{write_json, write_natural, write_string, write_text};

pub(super) use self::base64::{push as push_base64, push_bytes, push_hex};
use crate::cell::{Cell, Class};
use crate::table::Dialect;
use crate::types::{Affinity, ColumnType, Kind};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Natural<'a> {
    /// NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// A number, as JSON writes one, that a double holds.
    Number(&'a str),
    /// Text.
    Text(&'a str),
    /// Date and time without zone: `2026-01-02 03:04:05.5`, a day of the calendar.
    Timestamp(&'a str),
    /// A point in time, as [`Self::Timestamp`], in UTC.
    Timestamptz(&'a str),
    /// Bytes as hexadecimal digits, an even number of them.
    Bytes(&'a str),
    /// Well-formed JSON.
    Json(&'a str),
    /// A PostgreSQL array.
    Array(Array<'a>),
    /// MySQL's `SET`: labels separated by commas, which no label contains; empty for none.
    Set(&'a str),
    /// A value of SQLite that its column does not lead to expect.
    Odd(Odd<'a>),
}

/// A value of SQLite that would be taken for something else as a plain string: an object with one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd<'a> {
    /// `{"base64": "AP8="}`: a blob in a column that is not declared as one. Hexadecimal digits.
    Blob(&'a str),
    /// `{"text": "abc"}`: text in a column that is declared as `BLOB`.
    Text(&'a str),
    /// `{"number": "9007199254740993"}`: a number that a double does not hold, in a column that is declared as `BLOB`.
    Number(&'a str),
    /// `{"text_base64": "/w=="}`: text that is not UTF-8. Hexadecimal digits.
    RawText(&'a str),
}

/// What a cell is. Looks at its text as far as its type needs, and allocates nothing.
#[must_use]
pub fn of<'a>(column: &'a ColumnType, cell: &'a Cell<'_>) -> Natural<'a> {
    match (cell, &column.kind) {
        (Cell::Null, _) => Natural::Null,
        (Cell::Text(text), Kind::Dynamic(affinity)) => dynamic(column, implied(*affinity), text),
        (Cell::Classed(class, text), _) => dynamic(column, *class, text),
        (Cell::Text(text), kind) => known(kind, column.dialect, text).unwrap_or(Natural::Text(text)),
    }
}

/// The storage class of a value of SQLite; `None` for NULL and for values of other databases.
pub(super) fn class(column: &ColumnType, cell: &Cell<'_>) -> Option<Class> {
    match (cell, &column.kind) {
        (Cell::Classed(class, _), _) => Some(*class),
        (Cell::Text(_), Kind::Dynamic(affinity)) => Some(implied(*affinity)),
        _ => None,
    }
}

/// The class that a value has unless it says otherwise ([`crate::sqlite_type`]).
fn implied(affinity: Affinity) -> Class {
    match affinity {
        Affinity::Integer | Affinity::Numeric => Class::Integer,
        Affinity::Text => Class::Text,
        Affinity::Blob => Class::Blob,
        Affinity::Real => Class::Real,
    }
}

/// `None` for what is text.
fn known<'a>(kind: &'a Kind, dialect: Dialect, text: &'a str) -> Option<Natural<'a>> {
    let number = |fits: bool| fits.then_some(Natural::Number(text));
    match kind {
        Kind::Bool => match text {
            "t" => Some(Natural::Bool(true)),
            "f" => Some(Natural::Bool(false)),
            _ => None,
        },
        Kind::Bit { length: Some(1), varying: false } if dialect == Dialect::Mysql => match text {
            "1" => Some(Natural::Bool(true)),
            "0" => Some(Natural::Bool(false)),
            _ => None,
        },
        Kind::Integer { .. } => number(number::is_safe_integer(text)),
        Kind::Decimal { .. } => number(number::is_short_decimal(text)),
        Kind::Float { .. } => number(number::is_double(text)),
        Kind::Year => number::year(text).map(Natural::Number),
        Kind::Bytes { .. } => text.strip_prefix("\\x").filter(|hex| base64::is_hex(hex)).map(Natural::Bytes),
        Kind::Timestamp(_) => stamp::is_iso(text).then_some(Natural::Timestamp(text)),
        Kind::Timestamptz(_) => {
            text.strip_suffix("+00").filter(|text| stamp::is_iso(text)).map(Natural::Timestamptz)
        }
        Kind::Json { .. } => is_json(text).then_some(Natural::Json(text)),
        Kind::Vector => number::is_vector(text).then_some(Natural::Json(text)),
        Kind::Array(element) => Array::parse(text, element).map(Natural::Array),
        Kind::Set(_) => Some(Natural::Set(text)),
        Kind::Text { .. }
        | Kind::Date
        | Kind::Time(_)
        | Kind::Duration(_)
        | Kind::Timetz(_)
        | Kind::Interval { .. }
        | Kind::Uuid
        | Kind::Bit { .. }
        | Kind::Enum(_)
        | Kind::Range
        | Kind::Inet { .. }
        | Kind::Geometry
        | Kind::Dynamic(_)
        | Kind::Other => None,
    }
}

/// A value of SQLite by its class.
fn dynamic<'a>(column: &ColumnType, class: Class, text: &'a str) -> Natural<'a> {
    let declared_blob = is_declared_blob(column);
    let texts = |text| if declared_blob { Natural::Odd(Odd::Text(text)) } else { Natural::Text(text) };
    let number = |fits| match (fits, declared_blob) {
        (true, _) => Natural::Number(text),
        (false, true) => Natural::Odd(Odd::Number(text)),
        (false, false) => Natural::Text(text),
    };
    match class {
        Class::Integer => number(number::is_safe_integer(text)),
        Class::Real => number(number::is_double(text)),
        Class::Text => texts(text),
        Class::Blob | Class::RawText if !base64::is_hex(text) => texts(text),
        Class::Blob if declared_blob => Natural::Bytes(text),
        Class::Blob => Natural::Odd(Odd::Blob(text)),
        Class::RawText => Natural::Odd(Odd::RawText(text)),
    }
}

/// Whether a SQLite column says that it holds blobs. One without type has the same affinity and holds anything.
pub(super) fn is_declared_blob(column: &ColumnType) -> bool {
    column.kind == Kind::Dynamic(Affinity::Blob) && !column.name.trim().is_empty()
}

/// Whether a text is JSON: numbers of any size, any depth, lone surrogates as they are.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}
