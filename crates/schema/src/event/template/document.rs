//! JSON documents, taken apart one level at a time, as far as a template goes into them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use serde_json::value::RawValue;

use super::value::{Written, number};
use crate::cell::Cell;
use crate::event::natural::{self, Natural};
use crate::table::Dialect;
use crate::types::ColumnType;

/// Documents that nest deeper are handed on as a whole, since comparing two of them would fill the thread's stack.
const MAX_DEPTH: usize = 64;

/// A JSON object or array.
#[derive(Debug)]
pub(super) struct Document {
    /// As the database has it.
    pub(super) text: Box<str>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Object(Vec<(String, Box<RawValue>)>),
    Array(Vec<Box<RawValue>>),
}

impl Object for Document {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.parts {
            Parts::Object(_) => ObjectRepr::Map,
            Parts::Array(_) => ObjectRepr::Seq,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match &self.parts {
            // Of two members with one name the last one counts, as for most readers.
            Parts::Object(members) => {
                let key = key.as_str()?;
                members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| document(value.get()))
            }
            Parts::Array(items) => items.get(key.as_usize()?).map(|value| document(value.get())),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &self.parts {
            Parts::Object(members) => {
                Enumerator::Values(members.iter().map(|(name, _)| Value::from(name.as_str())).collect())
            }
            Parts::Array(items) => Enumerator::Seq(items.len()),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A JSON text as a value; what is not JSON stays a text.
pub(super) fn document(text: &str) -> Value {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\r']);
    let parts = match trimmed.as_bytes().first() {
        Some(b'{' | b'[') if depth(trimmed) > MAX_DEPTH => {
            return match serde_json::from_str::<&RawValue>(trimmed) {
                Ok(_) => Value::from_object(Written::Json(trimmed.to_owned())),
                Err(_) => Value::from(text),
            };
        }
        Some(b'{') => serde_json::from_str::<Members>(trimmed).ok().map(|members| Parts::Object(members.0)),
        Some(b'[') => serde_json::from_str(trimmed).ok().map(Parts::Array),
        Some(b'"') => {
            return serde_json::from_str::<String>(trimmed).map_or_else(|_| Value::from(text), Value::from);
        }
        Some(b't') if trimmed == "true" => return Value::from(true),
        Some(b'f') if trimmed == "false" => return Value::from(false),
        Some(b'n') if trimmed == "null" => return Value::from(()),
        Some(b'-' | b'0'..=b'9') => return number(trimmed, true, is_plain(trimmed)),
        _ => None,
    };
    match parts {
        Some(parts) => Value::from_object(Document { text: trimmed.into(), parts }),
        None => Value::from(text),
    }
}

/// Deepest nesting of brackets outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// An object's members in their order, doubles too.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Whether a number of a document is one that a double holds.
fn is_plain(text: &str) -> bool {
    static TYPES: OnceLock<[ColumnType; 2]> = OnceLock::new();
    let named = |name| ColumnType::parse(Dialect::Postgres, name, None, &[]);
    let types = TYPES.get_or_init(|| [named("numeric"), named("double precision")]);
    let column = &types[usize::from(text.contains(['e', 'E']))];
    matches!(natural::of(column, &Cell::text(text)), Natural::Number(_))
}
