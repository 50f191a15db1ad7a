//! The format `json`: one plain object.
//!
//! ```json
//! {"id":"shop:00000002-...-0000000003","type":"row.update","timestamp":"2026-01-02T03:04:05.678901Z",
//!  "stream":"shop","source":"postgres:...","database":"shop","schema":"public","table":"orders","position":"00000002-...",
//!  "data":{"op":"update","key":{"id":42},"before":{"id":42,"total":19.90},"after":{"id":42,"total":20.00},
//!          "changed":["total"]}}
//! ```
//!
//! Why so: `type`, `timestamp` and `data` are what the Standard Webhooks specification advises, so that dispatchers which
//! know it (by `type`) and handlers which are given `data` work without code. Around `data` stands what is true of the
//! event wherever it goes; within it, what happened to the row. The same `data` object is the data of the format
//! `cloudevents`, so a handler moves from one to the other as it is.
//!
//! - Every member is always there, with `null` where there is nothing to say; only `replay` is there just when it is
//!   true. A member that comes and goes is one that readers forget to ask for.
//! - Schema and table are two members: a name may contain dots. For MySQL the schema is the database.
//! - `before` is the old row as far as the source told it. `changed` is null exactly where `before` is not the old row
//!   in full. A column that the source did not send is left out; NULL is `null`.
//! - A message has other data: `{"op":"message","message":{"id":…,"type":…,"key":…,"payload":…,"encoding":…,"headers":{…}}}`.
//!   Id, type and key are texts; `encoding` is `base64` where the payload is one of bytes.
//! - Values are those of [`super::natural`].
//!
//! Several events are a JSON array ([`Framing::JSON_ARRAY`]).

use std::io::Write as _;

use super::message::{Payload, write_headers};
use super::natural::{write_json, write_string};
use super::{Event, Field, Framing, Message, instant};

/// The content type of one event, and of an array of them.
pub const CONTENT_TYPE: &str = "application/json";

/// How several events become one body.
pub const BATCH: Framing = Framing::JSON_ARRAY;

/// Appends one event.
pub fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, event.id);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(event.op.event_type().as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":\"");
    instant::push(out, event.committed_at);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(event.stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    write_string(out, &event.source.0);
    out.extend_from_slice(b",\"database\":");
    write_optional(out, Some(event.database).filter(|name| !name.is_empty()));
    out.extend_from_slice(b",\"schema\":");
    write_optional(out, event.table.schema.as_deref());
    out.extend_from_slice(b",\"table\":");
    write_string(out, &event.table.name);
    let _ = write!(out, ",\"position\":\"{}\"", event.position);
    if event.replay {
        out.extend_from_slice(b",\"replay\":true");
    }
    out.extend_from_slice(b",\"data\":");
    write_data(out, event);
    out.push(b'}');
}

/// Appends what happened to the row: the member `data`, which is also the data of a CloudEvent.
pub fn write_data(out: &mut Vec<u8>, event: &Event<'_>) {
    if let Some(message) = &event.message {
        return write_message(out, message);
    }
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(event.op.name().as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    write_row(out, Some(&event.key[..]).filter(|key| !key.is_empty()));
    out.extend_from_slice(b",\"before\":");
    write_row(out, event.before.as_deref());
    out.extend_from_slice(b",\"after\":");
    write_row(out, event.after.as_deref());
    out.extend_from_slice(b",\"changed\":");
    match &event.changed {
        None => out.extend_from_slice(b"null"),
        Some(names) => Framing::JSON_ARRAY.body(out, names, |out, name| write_string(out, name)),
    }
    out.push(b'}');
}

fn write_message(out: &mut Vec<u8>, message: &Message<'_>) {
    out.extend_from_slice(b"{\"op\":\"message\",\"message\":{\"id\":");
    write_optional(out, message.id.as_deref());
    out.extend_from_slice(b",\"type\":");
    write_optional(out, message.kind.as_deref());
    out.extend_from_slice(b",\"key\":");
    write_optional(out, message.key.as_deref());
    out.extend_from_slice(b",\"payload\":");
    let payload = message.payload();
    payload.write_json(out);
    out.extend_from_slice(b",\"encoding\":");
    write_optional(out, matches!(payload, Payload::Bytes(_)).then_some("base64"));
    out.extend_from_slice(b",\"headers\":");
    write_headers(out, &message.headers);
    out.extend_from_slice(b"}}");
}

fn write_row(out: &mut Vec<u8>, row: Option<&[Field<'_>]>) {
    let Some(fields) = row else { return out.extend_from_slice(b"null") };
    let mut before = b'{';
    for field in fields {
        out.push(before);
        write_string(out, field.name);
        out.push(b':');
        write_json(out, field.column, &field.cell);
        before = b',';
    }
    if fields.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
}

fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}
