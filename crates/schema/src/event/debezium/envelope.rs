//! The envelope and its `source`.

use super::form::Form;
use super::text::push_json;
use super::value::{Writer, push};
use super::{Options, Part};
use crate::event::{Event, EventOp, Field, Message};
use crate::table::Dialect;

/// Which values a row lacks, and what stands for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// Nobody told: null, or zero where the column says NOT NULL.
    Unknown,
    /// The row has it still, but an update did not touch it.
    Unchanged,
}

pub(super) fn write(out: &mut Vec<u8>, event: &Event<'_>, part: Part, options: &Options<'_>) {
    let op = match (event.op, part) {
        (_, Part::OldKey) | (EventOp::Delete, _) => "d",
        (_, Part::NewKey) | (EventOp::Insert, _) => "c",
        (EventOp::Update, _) => "u",
        (EventOp::Read, _) => "r",
        (EventOp::Truncate, _) => "t",
        (EventOp::Message, _) => "m",
    };
    let before = event.before.as_deref().filter(|_| matches!(op, "u" | "d"));
    let after = event.after.as_deref().filter(|_| matches!(op, "c" | "u" | "r"));
    // PostgreSQL leaves values out that lie outside of the row; MySQL those that its row images are told to.
    let untouched = match event.dialect {
        Dialect::Postgres => Missing::Unchanged,
        Dialect::Mysql | Dialect::Sqlite => Missing::Unknown,
    };
    push(out, "{\"before\":");
    row(out, before, &[], Missing::Unknown, options);
    push(out, ",\"after\":");
    row(out, after, event.before.as_deref().unwrap_or_default(), untouched, options);
    push(out, ",\"source\":");
    source(out, event, options);
    let micros = options.processed_at.unwrap_or(event.committed_at);
    push(out, &format!(",\"transaction\":null,\"op\":\"{op}\",\"ts_ms\":{}", micros.div_euclid(1000)));
    push(out, &format!(",\"ts_us\":{micros},\"ts_ns\":{}}}", i128::from(micros) * 1000));
}

/// The envelope of a logical message. Its source has neither schema nor table.
pub(super) fn write_message(
    out: &mut Vec<u8>,
    event: &Event<'_>,
    message: &Message<'_>,
    options: &Options<'_>,
) {
    let micros = options.processed_at.unwrap_or(event.committed_at);
    push(out, &format!("{{\"op\":\"m\",\"ts_ms\":{},\"source\":", micros.div_euclid(1000)));
    source(out, event, options);
    push(out, ",\"transaction\":null,\"message\":{\"prefix\":");
    push_json(out, message.kind.as_deref().unwrap_or_default());
    push(out, ",\"content\":");
    message.payload().write_base64(out);
    push(out, "}}");
}

pub(super) fn write_key(out: &mut Vec<u8>, fields: &[&Field<'_>], options: &Options<'_>) {
    object(out, fields.iter().map(|field| (field.name, Value::Field(field))), options);
}

enum Value<'e, 'a> {
    Field(&'e Field<'a>),
    Missing(Missing, &'e super::ColumnShape<'e>),
}

/// All columns of the table in order, then what the endpoint added. `old` has values that an update did not touch.
fn row(
    out: &mut Vec<u8>,
    fields: Option<&[Field<'_>]>,
    old: &[Field<'_>],
    missing: Missing,
    options: &Options<'_>,
) {
    let Some(fields) = fields else { return push(out, "null") };
    let find = |fields: &'_ [Field<'_>], name: &str| fields.iter().position(|field| field.name == name);
    let known = options.columns.iter().map(|shape| {
        let value = match (find(fields, shape.name), find(old, shape.name)) {
            (Some(at), _) => Value::Field(&fields[at]),
            (None, Some(at)) => Value::Field(&old[at]),
            (None, None) => Value::Missing(missing, shape),
        };
        (shape.name, value)
    });
    let added = fields
        .iter()
        .filter(|field| options.columns.iter().all(|shape| shape.name != field.name))
        .map(|field| (field.name, Value::Field(field)));
    object(out, known.chain(added), options);
}

fn object<'e, 'a: 'e>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = (&'e str, Value<'e, 'a>)>,
    options: &Options<'_>,
) {
    out.push(b'{');
    let start = out.len();
    for (name, value) in values {
        let column = match &value {
            Value::Field(field) => field.column,
            Value::Missing(_, shape) => shape.column,
        };
        let form = Form::of(column, options.types);
        if form == Form::Unknown && !options.include_unknown {
            continue;
        }
        if out.len() > start {
            out.push(b',');
        }
        push_json(out, name);
        out.push(b':');
        let not_null = options.columns.iter().any(|shape| shape.name == name && shape.not_null);
        let writer = Writer { form: &form, type_name: &column.name, not_null };
        match value {
            Value::Field(field) => writer.cell(out, &field.cell),
            Value::Missing(Missing::Unknown, _) => writer.nothing(out),
            Value::Missing(Missing::Unchanged, _) => writer.unavailable(out),
        }
    }
    out.push(b'}');
}

fn source(out: &mut Vec<u8>, event: &Event<'_>, options: &Options<'_>) {
    let connector = match event.dialect {
        Dialect::Postgres => "postgresql",
        Dialect::Mysql => "mysql",
        Dialect::Sqlite => "sqlite",
    };
    let stream = event.stream.to_string();
    let schema = event.table.schema.as_deref();
    // A database of MySQL is what PostgreSQL calls a schema.
    let db = match event.dialect {
        Dialect::Mysql => schema.unwrap_or(event.database),
        Dialect::Postgres | Dialect::Sqlite => event.database,
    };
    let (at, micros) = (event.position.offset.at, event.committed_at);
    push(
        out,
        &format!("{{\"version\":\"{}\",\"connector\":\"{connector}\",\"name\":", env!("CARGO_PKG_VERSION")),
    );
    push_json(out, options.name.unwrap_or(&stream));
    let snapshot = event.op == EventOp::Read;
    push(out, &format!(",\"ts_ms\":{},\"snapshot\":\"{snapshot}\",\"db\":", micros.div_euclid(1000)));
    push_json(out, db);
    push(out, ",\"sequence\":");
    match event.dialect {
        Dialect::Postgres => push_json(out, &format!("[\"{at}\",\"{at}\"]")),
        Dialect::Mysql | Dialect::Sqlite => push(out, "null"),
    }
    push(out, &format!(",\"ts_us\":{micros},\"ts_ns\":{}", i128::from(micros) * 1000));
    if event.dialect == Dialect::Postgres {
        push(out, ",\"schema\":");
        push_json(out, schema.unwrap_or_default());
    }
    push(out, ",\"table\":");
    push_json(out, if event.message.is_some() { "" } else { &event.table.name });
    match event.dialect {
        Dialect::Postgres => {
            push(
                out,
                &format!(",\"txId\":null,\"lsn\":{at},\"xmin\":null,\"origin\":null,\"origin_lsn\":null"),
            );
        }
        Dialect::Mysql => {
            let (file, row) = (event.position.offset.file, event.position.ordinal);
            push(
                out,
                &format!(",\"server_id\":0,\"gtid\":null,\"file\":\"{file:06}\",\"pos\":{at},\"row\":{row}"),
            );
            push(out, ",\"thread\":null,\"query\":null");
        }
        Dialect::Sqlite => push(out, &format!(",\"pos\":{at},\"row\":{}", event.position.ordinal)),
    }
    out.push(b'}');
}
