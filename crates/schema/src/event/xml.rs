//! The format `xml`: one element `event` per change, XML 1.0.
//!
//! ```xml
//! <event id="shop:..." type="row.update" op="update" timestamp="2026-01-02T03:04:05.678901Z" stream="shop"
//!        source="postgres:..." database="shop" schema="public" table="orders" position="...">
//!   <key><column name="id" type="bigint">42</column></key>
//!   <before>...</before>
//!   <after><column name="id" type="bigint">42</column><column name="note" type="text" null="true"/></after>
//!   <changed><column name="note"/></changed>
//! </event>
//! ```
//!
//! - It is written without line breaks between elements. Several events are children of one `events`.
//! - Columns are elements `column` with their name in an attribute: any name will do, and one schema fits all tables.
//!   There is no namespace, since there is one vocabulary only and every XPath would have to name it.
//! - Values are the plain text of [`super::natural`]. Arrays and sets consist of elements `item`, inner dimensions too;
//!   JSON is text. NULL is `null="true"`. What has nothing to say is left out: `before`, `after`, `changed`, `database`,
//!   `schema`, an empty `key`, and `replay` unless it is true.
//! - A message has one element `message` instead, with its id, type and key as attributes, an element `payload` and one
//!   `header` for each thing that travels along.
//! - `encoding="base64"` says that the content is base64 in UTF-8: of the bytes of a binary value, and of a text with
//!   characters that XML 1.0 has no form for (U+0001, U+FFFE and the like; not even `&#1;` is well-formed). An attribute
//!   with such a text has one beside it that says the same: `name-encoding="base64"`.
//! - A value of SQLite has its storage class in `class`: `integer`, `real`, `text`, `blob`.
//!
//! `rowbridge schema --format xml` prints the XSD.

use std::io::Write as _;

use super::message::Payload;
use super::natural::{self, Array, Natural, Odd, Token, of, write_text};
use super::{Event, Field, Framing, Message, instant};
use crate::cell::{Cell, Class};
use crate::table::Dialect;
use crate::types::ColumnType;

/// The content type of one event, and of several.
pub const CONTENT_TYPE: &str = "application/xml";

macro_rules! declaration {
    () => {
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    };
}

/// How one event becomes a body.
pub const SINGLE: Framing = Framing { open: declaration!(), separator: "", close: "" };

/// How several events become one body.
pub const BATCH: Framing =
    Framing { open: concat!(declaration!(), "<events>"), separator: "", close: "</events>" };

/// Appends one event as an element; [`SINGLE`] or [`BATCH`] make a document of it.
pub fn write_event(out: &mut Vec<u8>, event: &Event<'_>) {
    out.extend_from_slice(b"<event");
    push_attribute(out, "id", event.id);
    push_attribute(out, "type", event.op.event_type());
    push_attribute(out, "op", event.op.name());
    out.extend_from_slice(b" timestamp=\"");
    instant::push(out, event.committed_at);
    out.push(b'"');
    push_attribute(out, "stream", event.stream.as_str());
    push_attribute(out, "source", &event.source.0);
    if !event.database.is_empty() {
        push_attribute(out, "database", event.database);
    }
    if let Some(schema) = &event.table.schema {
        push_attribute(out, "schema", schema);
    }
    push_attribute(out, "table", &event.table.name);
    let _ = write!(out, " position=\"{}\"", event.position);
    if event.replay {
        push_attribute(out, "replay", "true");
    }
    out.push(b'>');
    if let Some(message) = &event.message {
        push_message(out, message);
    }
    push_row(out, "key", Some(&event.key[..]).filter(|key| !key.is_empty()));
    push_row(out, "before", event.before.as_deref());
    push_row(out, "after", event.after.as_deref());
    if let Some(names) = &event.changed {
        out.extend_from_slice(b"<changed>");
        for name in names {
            out.extend_from_slice(b"<column");
            push_attribute(out, "name", name);
            out.extend_from_slice(b"/>");
        }
        out.extend_from_slice(b"</changed>");
    }
    out.extend_from_slice(b"</event>");
}

fn push_row(out: &mut Vec<u8>, name: &str, row: Option<&[Field<'_>]>) {
    let Some(fields) = row else { return };
    let _ = write!(out, "<{name}>");
    fields.iter().for_each(|field| push_field(out, "column", field));
    let _ = write!(out, "</{name}>");
}

fn push_field(out: &mut Vec<u8>, element: &str, field: &Field<'_>) {
    let _ = write!(out, "<{element}");
    push_attribute(out, "name", field.name);
    push_attribute(out, "type", &field.column.name);
    if let Some(class) = class(field.column, &field.cell) {
        push_attribute(out, "class", class);
    }
    push_content(out, element, &of(field.column, &field.cell));
}

fn push_message(out: &mut Vec<u8>, message: &Message<'_>) {
    out.extend_from_slice(b"<message");
    for (name, value) in [("id", &message.id), ("type", &message.kind), ("key", &message.key)] {
        if let Some(value) = value {
            push_attribute(out, name, value);
        }
    }
    out.extend_from_slice(b"><payload");
    let payload = match message.payload() {
        Payload::Bytes(hex) => Natural::Bytes(hex),
        Payload::Text(text) => Natural::Text(text),
        Payload::Json(natural) => natural,
    };
    push_content(out, "payload", &payload);
    message.headers.iter().for_each(|field| push_field(out, "header", field));
    out.extend_from_slice(b"</message>");
}

fn class(column: &ColumnType, cell: &Cell<'_>) -> Option<&'static str> {
    natural::class(column, cell).map(|class| match class {
        Class::Integer => "integer",
        Class::Real => "real",
        Class::Text | Class::RawText => "text",
        Class::Blob => "blob",
    })
}

/// The rest of an element that has begun: its last attributes, its content and its end.
fn push_content(out: &mut Vec<u8>, element: &str, value: &Natural<'_>) {
    match value {
        Natural::Null => return out.extend_from_slice(b" null=\"true\"/>"),
        Natural::Text(text) | Natural::Json(text) | Natural::Odd(Odd::Text(text) | Odd::Number(text)) => {
            if is_xml(text) {
                out.push(b'>');
                push_escaped(out, text, false);
            } else {
                out.extend_from_slice(b" encoding=\"base64\">");
                natural::push_base64(out, text.as_bytes());
            }
        }
        Natural::Bytes(hex) | Natural::Odd(Odd::Blob(hex) | Odd::RawText(hex)) => {
            out.extend_from_slice(b" encoding=\"base64\">");
            natural::push_hex(out, hex);
        }
        Natural::Bool(_) | Natural::Number(_) | Natural::Timestamp(_) | Natural::Timestamptz(_) => {
            out.push(b'>');
            write_text(out, value);
        }
        Natural::Set(labels) => {
            out.push(b'>');
            for label in labels.split(',').filter(|_| !labels.is_empty()) {
                out.extend_from_slice(b"<item");
                push_content(out, "item", &Natural::Text(label));
            }
        }
        Natural::Array(array) => {
            out.push(b'>');
            push_items(out, array);
        }
    }
    let _ = write!(out, "</{element}>");
}

fn push_items(out: &mut Vec<u8>, array: &Array<'_>) {
    let element = ColumnType::parse(Dialect::Postgres, array.element(), None, &[]);
    let mut depth = 0;
    // The outermost dimension is the column itself.
    let _ = array.walk(|token| match token {
        Token::Open => {
            if depth > 0 {
                out.extend_from_slice(b"<item>");
            }
            depth += 1;
        }
        Token::Close => {
            depth -= 1;
            if depth > 0 {
                out.extend_from_slice(b"</item>");
            }
        }
        Token::Null => out.extend_from_slice(b"<item null=\"true\"/>"),
        Token::Item(text) => {
            out.extend_from_slice(b"<item");
            push_content(out, "item", &of(&element, &Cell::Text(text)));
        }
    });
}

/// Appends ` name="value"`, in base64 where the value needs it.
fn push_attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    let plain = is_xml(value);
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    if !plain {
        out.extend_from_slice(b"-encoding=\"base64\" ");
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"=\"");
    if plain {
        push_escaped(out, value, true);
    } else {
        natural::push_base64(out, value.as_bytes());
    }
    out.push(b'"');
}

/// XML 1.0, production 2, `Char`. Rust's texts hold no surrogates.
fn is_xml(text: &str) -> bool {
    text.bytes().all(|b| b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r'))
        && !text.contains(['\u{fffe}', '\u{ffff}'])
}

/// Readers turn CR into LF everywhere, and blanks of any kind into spaces in attributes, unless they are references.
fn push_escaped(out: &mut Vec<u8>, text: &str, in_attribute: bool) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference: &[u8] = match byte {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'\r' => b"&#13;",
            b'"' if in_attribute => b"&quot;",
            b'\n' if in_attribute => b"&#10;",
            b'\t' if in_attribute => b"&#9;",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[from..at]);
        out.extend_from_slice(reference);
        from = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
}
