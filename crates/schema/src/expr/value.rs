//! What an expression computes with: compared without conversions, null like any other value.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::error::Failure;
use super::json;
use super::number::Number;
use super::time::{Span, Timestamp};
use crate::cell::Cell;

/// What is known of a value before any row is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `null`
    Null,
    /// `true`, `false`
    Bool,
    /// Integers, decimals and floats alike.
    Number,
    /// Unicode text, and the canonical text of all types that are no other one of these.
    Text,
    /// A date or a point in time.
    Timestamp,
    /// A span of time.
    Duration,
    /// `[..]`
    List,
    /// A JSON object or array.
    Json,
    /// `before`, `after`, `key`
    Row,
    /// Known by the row only: JSON, and SQLite columns whose declaration does not say.
    Any,
}

/// A value. NULL and a column that was not sent are both [`Value::Null`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// NULL, absent, or JSON's `null`.
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number, exact.
    Number(Number<'a>),
    /// A text. Times of columns are their canonical texts until they are compared.
    Text(Cow<'a, str>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span.
    Duration(Span),
    /// A list.
    List(Vec<Self>),
    /// The text of a JSON object or array.
    Json(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// What it is.
    #[must_use]
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::List,
            Self::Json(_) => Type::Json,
        }
    }

    /// The same value, borrowing its texts and digits.
    pub(super) fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.borrowed()),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Timestamp(time) => Value::Timestamp(*time),
            Self::Duration(span) => Value::Duration(*span),
            Self::List(items) => Value::List(items.iter().map(Self::borrowed).collect()),
            Self::Json(text) => Value::Json(Cow::Borrowed(text)),
        }
    }

    /// The same value, owning its texts and digits.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(number) => Value::Number(number.into_owned()),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Timestamp(time) => Value::Timestamp(time),
            Self::Duration(span) => Value::Duration(span),
            Self::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
            Self::Json(text) => Value::Json(Cow::Owned(text.into_owned())),
        }
    }

    /// What a JSON value is.
    pub(super) fn from_json(raw: &'a str) -> Result<Self, Failure> {
        Ok(match raw.as_bytes().first() {
            Some(b'{' | b'[') => Self::Json(Cow::Borrowed(raw)),
            Some(b'"') => json::string(raw).map_or(Self::Null, Self::Text),
            Some(b't') if raw == "true" => Self::Bool(true),
            Some(b'f') if raw == "false" => Self::Bool(false),
            Some(b'-' | b'0'..=b'9') => match Number::parse(raw) {
                Ok(number) => number.map_or(Self::Null, Self::Number),
                Err(_) => return Err(Failure::TooManyDigits),
            },
            _ => Self::Null,
        })
    }

    /// Values of two types are never equal, but for JSON arrays and lists.
    pub(super) fn equals(&self, other: &Value<'_>) -> Result<bool, Failure> {
        Ok(match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => a.compare(b) == Some(Ordering::Equal),
            (Self::Text(a), Value::Text(b)) => a == b,
            (Self::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Self::Duration(a), Value::Duration(b)) => a == b,
            (Self::Json(a), Value::Json(b)) => a == b,
            (Self::List(a), Value::List(b)) => {
                a.len() == b.len() && all(a.iter().zip(b).map(|(a, b)| a.equals(b)))?
            }
            (Self::List(list), Value::Json(raw)) => equals_json(list, raw)?,
            (Self::Json(raw), Value::List(list)) => equals_json(list, raw)?,
            _ => false,
        })
    }

    /// None between two types, and none with null or NaN.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Self::Number(a), Value::Number(b)) => a.compare(b),
            (Self::Text(a), Value::Text(b)) => Some(a.as_ref().cmp(b.as_ref())),
            (Self::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// As `string(x)` writes it; `None` for null, lists and nothing else.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Null | Self::List(_) => return None,
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => text.clone(),
            Self::Timestamp(time) => Cow::Owned(time.to_string()),
            Self::Duration(span) => Cow::Owned(span.to_string()),
            Self::Json(text) => text.clone(),
        })
    }

    /// The canonical text that PostgreSQL's `boolean`, `numeric`, `text` or `timestamptz` has; JSON as it stands.
    #[must_use]
    pub fn into_cell(self) -> Cell<'a> {
        match self {
            Self::Null | Self::List(_) => Cell::Null,
            Self::Bool(value) => Cell::text(if value { "t" } else { "f" }),
            Self::Text(text) => Cell::Text(text),
            Self::Timestamp(time) => Cell::Text(Cow::Owned(time.canonical())),
            Self::Json(text) => Cell::Text(text),
            Self::Number(_) | Self::Duration(_) => self.text().map_or(Cell::Null, Cell::Text),
        }
    }

    /// As a JSON document; a number keeps its digits, the infinite ones and NaN are strings.
    pub(super) fn into_json_cell(self) -> Cell<'a> {
        match self {
            Self::Null => Cell::Null,
            Self::Json(text) => Cell::Text(text),
            Self::Bool(_) => self.text().map_or(Cell::Null, Cell::Text),
            Self::Number(ref number) if number.is_finite() => self.text().map_or(Cell::Null, Cell::Text),
            other => {
                let text = other.text().unwrap_or_default();
                Cell::Text(Cow::Owned(serde_json::Value::String(text.into_owned()).to_string()))
            }
        }
    }
}

fn all(mut results: impl Iterator<Item = Result<bool, Failure>>) -> Result<bool, Failure> {
    results.try_fold(true, |all, result| result.map(|value| all && value))
}

fn equals_json(list: &[Value<'_>], raw: &str) -> Result<bool, Failure> {
    if !raw.starts_with('[') || json::elements(raw).count() != list.len() {
        return Ok(false);
    }
    all(list.iter().zip(json::elements(raw)).map(|(value, raw)| value.equals(&Value::from_json(raw)?)))
}
