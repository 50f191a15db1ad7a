//! JSON Schema (draft 2020-12) of the formats `json` and `cloudevents`.
//!
//! Messages have one schema, since nobody but the application knows what they say. Without tables, a row is any object.
//! With tables, there is one event type per table, whose columns have the types that
//! [`super::natural`] writes. A column is never required, since an unchanged value that lies out of line may not be
//! sent, and others are allowed, since endpoints rename and compute some and tables grow; generated columns are not sent.
//! Formats are named only where a value that has none (`infinity`, a zero date) is allowed beside it, so that a validator
//! may check them.

use serde_json::{Map, Value, json};

use super::EventOp;
use super::cloudevents;
use super::natural::is_declared_blob;
use crate::table::{Column, Dialect, TableDef};
use crate::types::{ColumnType, Kind};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

const OPS: [&str; 5] = ["insert", "update", "delete", "read", "truncate"];

const TYPES: [&str; 5] = ["row.insert", "row.update", "row.delete", "row.read", "table.truncate"];

/// `00000002-00000000000000000000001a7f00c2b8-0000000001`
const POSITION: &str = "^[0-9a-f]{8}-[0-9a-f]{24}-[0-9a-f]{10}$";

/// The schema of a body in the format `json`: an event, or an array of events.
#[must_use]
pub fn json_schema(tables: &[TableDef]) -> Value {
    let event = |def: Option<&TableDef>, data: Value| {
        let name = |name: Option<&str>| match (def, name) {
            (None, _) => json!({"type": ["string", "null"]}),
            (Some(_), Some(name)) => json!({"const": name}),
            (Some(_), None) => json!({"type": "null"}),
        };
        let table = match def {
            Some(def) => json!({"const": def.name.name}),
            None => json!({"type": "string"}),
        };
        json!({
            "type": "object",
            "required": [
                "id", "type", "timestamp", "stream", "source", "database", "schema", "table", "position", "data",
            ],
            "properties": {
                "id": {"type": "string", "description": "The same after every retry and replay"},
                "type": {"enum": TYPES},
                "timestamp": {"type": "string", "format": "date-time", "description": "Commit time"},
                "stream": {"type": "string"},
                "source": {"type": "string", "description": "Which database it is"},
                "database": {"type": ["string", "null"]},
                "schema": name(def.and_then(|def| def.name.schema.as_deref())),
                "table": table,
                "position": {"type": "string", "pattern": POSITION, "description": "Texts sort in commit order"},
                "replay": {"const": true},
                "data": data,
            },
        })
    };
    let text = json!({"type": ["string", "null"]});
    let said = json!({
        "type": "object",
        "required": ["id", "type", "key", "payload", "encoding", "headers"],
        "properties": {
            "id": text,
            "type": text,
            "key": text,
            "payload": {},
            "encoding": {"enum": [null, "base64"]},
            "headers": {"type": "object"},
        },
    });
    let mut message = event(
        None,
        json!({
            "type": "object",
            "required": ["op", "message"],
            "properties": {"op": {"const": EventOp::Message.name()}, "message": said},
        }),
    );
    message["properties"]["type"] = json!({"const": EventOp::Message.event_type()});
    document("Rowbridge events, format json", tables, message, event)
}

/// The schema of a body in the format `cloudevents`, structured or batch. In binary mode the body is the member `data`.
#[must_use]
pub fn cloudevents_schema(tables: &[TableDef]) -> Value {
    let event = |def: Option<&TableDef>, data: Value| {
        let source = match def {
            Some(def) => {
                let path = cloudevents::table_path(&def.name).replace('.', "\\.");
                let database = if def.dialect == Dialect::Postgres { "(/[^/]+)?" } else { "" };
                json!({"type": "string", "format": "uri-reference", "pattern": format!("^/[^/]+{database}{path}$")})
            }
            None => json!({"type": "string", "format": "uri-reference"}),
        };
        json!({
            "type": "object",
            "required": [
                "specversion", "id", "source", "type", "time", "datacontenttype", "stream", "position", "sequence",
                "origin", "data",
            ],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "minLength": 1},
                "source": source,
                "type": {"enum": TYPES},
                "subject": {"type": "string", "minLength": 1, "description": "The key"},
                "time": {"type": "string", "format": "date-time", "description": "Commit time"},
                "datacontenttype": {"const": "application/json"},
                "stream": {"type": "string"},
                "position": {"type": "string", "pattern": POSITION},
                "sequence": {"type": "string", "pattern": POSITION, "description": "Texts sort in commit order"},
                "origin": {"type": "string", "description": "Which database it is"},
                "replay": {"const": true},
                "data": data,
            },
        })
    };
    let mut message = event(None, json!({"description": "The payload"}));
    if let Some(required) = message["required"].as_array_mut() {
        required.retain(|name| name != "data");
    }
    message["properties"]["type"] =
        json!({"type": "string", "minLength": 1, "description": "The message's own"});
    message["properties"]["datacontenttype"] = json!({"enum": cloudevents::MESSAGE_CONTENT_TYPES});
    message["properties"]["data_base64"] = json!({"type": "string", "contentEncoding": "base64"});
    message["oneOf"] = json!([{"required": ["data"]}, {"required": ["data_base64"]}]);
    document("Rowbridge events, format cloudevents", tables, message, event)
}

/// Messages, and events of any table, or one definition per table.
fn document(
    title: &str,
    tables: &[TableDef],
    message: Value,
    event: impl Fn(Option<&TableDef>, Value) -> Value,
) -> Value {
    let mut definitions = Map::new();
    let mut events = Vec::with_capacity(tables.len() + 1);
    if tables.is_empty() {
        let row = json!({"type": "object"});
        definitions.insert("change".into(), event(None, data(row.clone(), row)));
        events.push(reference("change"));
    } else {
        for (at, def) in tables.iter().enumerate() {
            let title = def.name.to_string();
            let name = definition_name(&title, at, &definitions);
            let row = format!("{name}.row");
            definitions.insert(row.clone(), row_schema(def, &title));
            let mut schema = event(Some(def), data(reference(&row), key_schema(def)));
            schema["title"] = Value::from(title);
            events.push(reference(&name));
            definitions.insert(name, schema);
        }
    }
    definitions.insert("message".into(), message);
    events.push(reference("message"));
    definitions.insert("event".into(), json!({"anyOf": events}));
    json!({
        "$schema": DRAFT,
        "title": title,
        "anyOf": [reference("event"), {"type": "array", "items": reference("event")}],
        "$defs": definitions,
    })
}

/// A name that needs no escapes in a reference: the table's, or its number where that has other characters or is taken.
fn definition_name(title: &str, at: usize, taken: &Map<String, Value>) -> String {
    let plain = title.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    let ours = ["event", "change", "message"].contains(&title);
    let free = !taken.contains_key(title) && !taken.contains_key(&format!("{title}.row")) && !ours;
    if plain && free { title.to_owned() } else { format!("table:{}", at + 1) }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// The member `data`.
fn data(row: Value, key: Value) -> Value {
    let optional = |schema: &Value| json!({"anyOf": [schema, {"type": "null"}]});
    json!({
        "type": "object",
        "required": ["op", "key", "before", "after", "changed"],
        "properties": {
            "op": {"enum": OPS},
            "key": optional(&key),
            "before": optional(&row),
            "after": optional(&row),
            "changed": {"type": ["array", "null"], "items": {"type": "string"}},
        },
    })
}

fn row_schema(def: &TableDef, title: &str) -> Value {
    let sent = def.columns.iter().filter(|column| column.generated.is_none());
    let columns: Map<String, Value> =
        sent.map(|column| (column.name.clone(), column_schema(def, column))).collect();
    json!({"title": format!("A row of {title}"), "type": "object", "properties": columns})
}

fn key_schema(def: &TableDef) -> Value {
    let columns = def.key.iter().filter_map(|&at| def.columns.get(usize::from(at)));
    let names: Vec<&str> = columns.clone().map(|column| column.name.as_str()).collect();
    let properties: Map<String, Value> =
        columns.map(|column| (column.name.clone(), column_schema(def, column))).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn column_schema(def: &TableDef, column: &Column) -> Value {
    let mut schema = value_schema(&ColumnType::of(def, column));
    let nullable = !column.not_null && schema.as_object().is_some_and(|schema| schema.contains_key("type"));
    if nullable {
        let types = match schema["type"].take() {
            Value::Array(types) => types,
            one => vec![one],
        };
        schema["type"] = types.into_iter().chain([Value::from("null")]).collect();
        if let Some(labels) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            labels.push(Value::Null);
        }
    } else if !column.not_null && schema.get("anyOf").is_some() {
        schema = json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema["description"] = Value::from(match column.type_name.as_str() {
        "" => "without type",
        name => name,
    });
    schema
}

/// What [`super::natural::write_json`] writes for values that are not NULL. An object with `type`, or with `anyOf`, or
/// one that allows anything.
#[must_use]
pub fn value_schema(column: &ColumnType) -> Value {
    let postgres = column.dialect == Dialect::Postgres;
    match &column.kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Bit { length: Some(1), varying: false } if !postgres => json!({"type": "boolean"}),
        Kind::Integer { bits: 64, .. } => json!({"type": ["integer", "string"], "pattern": "^-?[0-9]+$"}),
        Kind::Integer { .. } | Kind::Year => json!({"type": "integer"}),
        Kind::Decimal { size, .. } => {
            let short =
                size.is_some_and(|(precision, scale)| i64::from(precision) - i64::from(scale.min(0)) <= 15);
            match (short, postgres) {
                (true, false) => json!({"type": "number"}),
                (true, true) => json!({"type": ["number", "string"], "pattern": "^NaN$"}),
                (false, false) => json!({"type": ["number", "string"], "pattern": "^-?[0-9]+(\\.[0-9]+)?$"}),
                (false, true) => {
                    json!({"type": ["number", "string"], "pattern": "^(-?[0-9]+(\\.[0-9]+)?|NaN|-?Infinity)$"})
                }
            }
        }
        Kind::Float { .. } if postgres => {
            json!({"type": ["number", "string"], "pattern": "^(NaN|-?Infinity)$"})
        }
        Kind::Float { .. } => json!({"type": "number"}),
        Kind::Bytes { .. } => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::Date => dated("date", postgres),
        Kind::Timestamptz(_) => dated("date-time", postgres),
        Kind::Json { .. } => json!({}),
        Kind::Enum(labels) if !labels.is_empty() => {
            // MySQL's error value is the empty text.
            let error = Some("").filter(|_| !postgres && !labels.iter().any(String::is_empty));
            let labels: Vec<&str> = labels.iter().map(String::as_str).chain(error).collect();
            json!({"type": "string", "enum": labels})
        }
        Kind::Set(labels) if !labels.is_empty() => json!({"type": "array", "items": {"enum": labels}}),
        Kind::Set(_) => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Vector => json!({"type": "array", "items": {"type": "number"}}),
        // How many dimensions it has is the value's matter.
        Kind::Array(element) => {
            let element = value_schema(&ColumnType::parse(Dialect::Postgres, element, None, &[]));
            json!({"type": "array", "items": {"anyOf": [element, {"type": ["null", "array"]}]}})
        }
        Kind::Dynamic(_) if is_declared_blob(column) => {
            json!({"type": ["string", "number", "object"], "contentEncoding": "base64"})
        }
        Kind::Dynamic(_) => json!({"type": ["string", "number", "object"]}),
        Kind::Uuid => json!({"type": "string", "format": "uuid"}),
        Kind::Bit { .. } => json!({"type": "string", "pattern": "^[01]*$"}),
        Kind::Text { .. }
        | Kind::Time(_)
        | Kind::Duration(_)
        | Kind::Timetz(_)
        | Kind::Timestamp(_)
        | Kind::Interval { .. }
        | Kind::Enum(_)
        | Kind::Range
        | Kind::Inet { .. }
        | Kind::Geometry
        | Kind::Other => json!({"type": "string"}),
    }
}

/// A day or a point in time, or what has no such form: beyond the years 1 to 9999, infinite, or not in the calendar.
fn dated(format: &str, postgres: bool) -> Value {
    let other = if postgres {
        "^(-?infinity|[0-9]{5,}-.*|.* BC)$"
    } else {
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9:.]+\\+00)?$"
    };
    json!({"anyOf": [{"type": "string", "format": format}, {"type": "string", "pattern": other}]})
}
