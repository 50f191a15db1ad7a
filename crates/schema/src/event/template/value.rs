//! Values of events as the engine sees them.
//!
//! Integers, booleans, texts and NULL are the engine's own. Other numbers keep their text ([`Exact`]), and so do documents
//! ([`super::document`]).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr};

use super::document::document;
use super::read::{Columns, Uses};
use super::scope::{COMMON, EVENTS, RowName};
use crate::cell::{Cell, Class};
use crate::event::natural::{self, Natural};
use crate::event::{Event, Field, Message, instant};
use crate::types::{ColumnType, Kind};

/// A number that is no 128-bit integer, with the text that it has in the database.
#[derive(Debug)]
pub(super) struct Exact {
    pub(super) text: Box<str>,
    /// JSON has it as a number that a double holds.
    pub(super) plain: bool,
}

impl Exact {
    /// To calculate with: an integer, or the nearest double.
    pub(super) fn number(&self) -> Value {
        match self.text.parse::<i128>() {
            Ok(whole) => Value::from(whole),
            Err(_) => Value::from(self.double()),
        }
    }

    fn double(&self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }
}

impl Object for Exact {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.double() != 0.0
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(self.double().total_cmp(&other.double()).then_with(|| self.text.cmp(&other.text)))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is written as it is, or one that is JSON already.
#[derive(Debug)]
pub(super) enum Written {
    /// `| raw`
    Raw(String),
    /// `| json`, and documents that are not taken apart.
    Json(String),
}

impl Object for Written {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Raw(text) | Self::Json(text)) = &**self;
        f.write_str(text)
    }
}

/// A number by its text; integers are the engine's own where `whole` says that the column has nothing else.
pub(super) fn number(text: &str, whole: bool, plain: bool) -> Value {
    if whole && let Ok(value) = text.parse::<i128>() {
        return Value::from(value);
    }
    Value::from_object(Exact { text: text.into(), plain })
}

/// A cell as a value.
pub(super) fn of(column: &ColumnType, cell: &Cell<'_>) -> Value {
    let found = natural::of(column, cell);
    let plain = matches!(found, Natural::Number(_));
    match (cell, &column.kind, natural::class(column, cell)) {
        (Cell::Null, ..) => return Value::from(()),
        (Cell::Text(text) | Cell::Classed(_, text), _, Some(Class::Integer)) => {
            return number(text, true, plain);
        }
        (Cell::Text(text) | Cell::Classed(_, text), _, Some(Class::Real)) => {
            return number(text, false, plain);
        }
        (Cell::Text(text), Kind::Integer { .. }, None) => return number(text, true, plain),
        (Cell::Text(text), Kind::Decimal { .. } | Kind::Float { .. }, None) => {
            return number(text, false, plain);
        }
        _ => {}
    }
    let mut out = Vec::new();
    match found {
        Natural::Null => return Value::from(()),
        Natural::Bool(value) => return Value::from(value),
        Natural::Text(text) => return Value::from(text),
        Natural::Json(text) => return document(text),
        Natural::Number(text) => return number(text, true, true),
        Natural::Timestamp(_) | Natural::Timestamptz(_) | Natural::Bytes(_) => {
            natural::write_text(&mut out, &found);
        }
        Natural::Array(_) | Natural::Set(_) | Natural::Odd(_) => natural::write_natural(&mut out, &found),
    }
    let text = String::from_utf8_lossy(&out);
    match found {
        Natural::Array(_) | Natural::Set(_) | Natural::Odd(_) => document(&text),
        _ => Value::from(text.into_owned()),
    }
}

/// Named values: a row, an event, the outermost names.
#[derive(Debug)]
pub(super) struct Names(pub(super) Vec<(Arc<str>, Value)>);

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(Arc::clone(name))).collect())
    }

    /// A row is there even if the template asks for none of its columns.
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        super::json::write(&mut out, &Value::from_dyn_object(Arc::clone(self))).map_err(|_| fmt::Error)?;
        f.write_str(&out)
    }
}

fn row(fields: &[Field<'_>], columns: &Columns) -> Value {
    let wanted = fields.iter().filter(|field| columns.whole || columns.names.contains(field.name));
    let values = wanted.map(|field| (Arc::from(field.name), of(field.column, &field.cell)));
    Value::from_object(Names(values.collect()))
}

/// All of a message: there is no telling from a name what of its payload is asked for.
fn message(message: &Message<'_>) -> Value {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().map_or(Value::from(()), Value::from);
    let mut payload = Vec::new();
    message.payload().write_json(&mut payload);
    let headers = message.headers.iter().map(|field| (Arc::from(field.name), of(field.column, &field.cell)));
    let members = [
        ("id", text(&message.id)),
        ("type", text(&message.kind)),
        ("key", text(&message.key)),
        ("payload", document(&String::from_utf8_lossy(&payload))),
        ("headers", Value::from_object(Names(headers.collect()))),
    ];
    Value::from_object(Names(members.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
}

fn member(event: &Event<'_>, name: &str, uses: &Uses) -> Value {
    let optional = |fields: &Option<Vec<Field<'_>>>, name| match fields {
        Some(fields) => row(fields, uses.row(name)),
        None => Value::from(()),
    };
    match name {
        "op" => Value::from(event.op.name()),
        "type" => Value::from(event.op.event_type()),
        "id" => Value::from(event.id),
        "table" => Value::from(event.table.name.as_str()),
        "schema" => event.table.schema.as_deref().map_or(Value::from(()), Value::from),
        "database" => {
            Some(event.database).filter(|name| !name.is_empty()).map_or(Value::from(()), Value::from)
        }
        "stream" => Value::from(event.stream.as_str()),
        "source" => Value::from(event.source.0.as_str()),
        "endpoint" => Value::from(event.endpoint.as_str()),
        "position" => Value::from(event.position.to_string()),
        "commit_time" => {
            let mut out = Vec::with_capacity(27);
            instant::push(&mut out, event.committed_at);
            Value::from(String::from_utf8_lossy(&out).into_owned())
        }
        "before" => optional(&event.before, RowName::Before),
        "after" => optional(&event.after, RowName::After),
        "key" => row(&event.key, uses.row(RowName::Key)),
        "changed" => match &event.changed {
            Some(names) => Value::from(names.iter().map(|name| Value::from(*name)).collect::<Vec<_>>()),
            None => Value::from(()),
        },
        "message" => event.message.as_ref().map_or(Value::from(()), message),
        "replay" => Value::from(event.replay),
        _ => Value::UNDEFINED,
    }
}

fn members<'a>(event: &Event<'_>, uses: &Uses, names: impl Iterator<Item = &'a &'static str>) -> Names {
    Names(names.map(|name| (Arc::from(*name), member(event, name, uses))).collect())
}

/// What the template's outermost names mean: the event's members, or for a batch what its events have in common, and
/// `events`.
pub(super) fn root(events: &[Event<'_>], batch: bool, uses: &Uses) -> Value {
    let mut names = match events.first() {
        None => Names(Vec::new()),
        Some(first) => members(first, uses, uses.outer.keys().filter(|name| !batch || COMMON.contains(name))),
    };
    if uses.events {
        // In the order in which the documentation has them, for whoever writes an event as a whole.
        let wanted = || super::scope::EVENT.iter().filter(|name| uses.members.contains(**name));
        let list = events.iter().map(|event| Value::from_object(members(event, uses, wanted())));
        names.0.push((Arc::from(EVENTS), Value::from(list.collect::<Vec<_>>())));
    }
    Value::from_object(names)
}
