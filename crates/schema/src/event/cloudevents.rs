//! The format `cloudevents`: CloudEvents 1.0 over HTTP, in its three content modes.
//!
//! Sources: CloudEvents 1.0.2 (`spec.md`), its JSON format and HTTP protocol binding, and the extension `sequence`.
//!
//! | attribute | value |
//! | --- | --- |
//! | `id` | the event's id, `stream:position` |
//! | `source` | `/stream/database/schema/table` for PostgreSQL, `/stream/database/table` for MySQL, `/stream/table` for SQLite; each part percent-encoded |
//! | `type` | `row.insert`, `row.update`, `row.delete`, `row.read`, `table.truncate` |
//! | `subject` | the key: the plain text of each column (see [`super::natural`]) in key order, separated by `/`; `%`, `/` and what the specification forbids in a text (control characters) percent-encoded. Left out where it would be empty |
//! | `time` | commit time |
//! | `datacontenttype` | `application/json` |
//! | `stream`, `origin` | the stream's name; which database it is (system identifier and slot, server uuid, or change log id) |
//! | `position`, `sequence` | where the event stands in its stream. Texts sort in commit order, across all tables of the stream; `sequence` is the name that others know |
//! | `replay` | `true` where an operator asked for the event again |
//!
//! The data is [`super::json`]'s member `data`: `op`, `key`, `before`, `after`, `changed`.
//!
//! A message is the application's own event, so it looks like one: `type` is the message's type (`message` where it has
//! none), `subject` its key, the data its payload as it is, `datacontenttype` says what that is (JSON, `text/plain`, or
//! `application/octet-stream` with `data_base64` in structured mode). What travels along are extension attributes: names in
//! lower case without anything but letters and digits, as the specification asks for. Those that would take an
//! attribute's place are left out ([`left_out`] says which, for `check`).

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::message::{Payload, plain};
use super::natural::{self, of, write_string, write_text};
use super::{Event, Framing, Message, instant, json};
use crate::table::{Dialect, TableName};

/// The content type of one event in structured mode.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json";

/// The content type of a batch.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The content type in binary mode, where it says what the data is.
pub const BINARY_CONTENT_TYPE: &str = "application/json";

/// What the data of a message is that is text.
const TEXT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// What the data of a message is that is bytes.
const BYTES_CONTENT_TYPE: &str = "application/octet-stream";

/// What a message's data can be.
pub(super) const MESSAGE_CONTENT_TYPES: [&str; 3] =
    [BINARY_CONTENT_TYPE, TEXT_CONTENT_TYPE, BYTES_CONTENT_TYPE];

/// Names that nothing of a message may take.
const TAKEN: [&str; 14] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "stream",
    "position",
    "sequence",
    "origin",
    "replay",
];

/// Attributes that a header of the configuration may carry all the same: no event of ours has them.
const FREE: [&str; 1] = ["dataschema"];

/// A column that travels along with messages, but not with their CloudEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The column.
    pub column: String,
    /// Why.
    pub why: LeftOutWhy,
}

/// Why a column is no attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftOutWhy {
    /// Nothing of its name can be in an attribute's.
    #[error("an attribute's name consists of the letters a to z and digits, and nothing of this one does")]
    Nameless,
    /// The attribute says something of the event.
    #[error("the attribute {0} is the event's own")]
    Reserved(String),
    /// Another column comes before.
    #[error("the attribute {attribute} is the column {other} already")]
    Column {
        /// The attribute.
        attribute: String,
        /// The column that has it.
        other: String,
    },
}

/// Of columns that travel along with messages, those that are no attributes of CloudEvents.
#[must_use]
pub fn left_out<'a>(columns: impl IntoIterator<Item = &'a str>) -> Vec<LeftOut> {
    let mut names: Vec<(String, &str)> = Vec::new();
    let mut left_out = Vec::new();
    for column in columns {
        let name = extension_name(column);
        let why = match names.iter().find(|(other, _)| *other == name) {
            _ if name.is_empty() => LeftOutWhy::Nameless,
            _ if TAKEN.contains(&name.as_str()) => LeftOutWhy::Reserved(name),
            Some((_, other)) => LeftOutWhy::Column { attribute: name, other: (*other).to_owned() },
            None => {
                names.push((name, column));
                continue;
            }
        };
        left_out.push(LeftOut { column: column.to_owned(), why });
    }
    left_out
}

/// Whether a header, named in lower case, carries an attribute of each event in binary mode.
#[must_use]
pub fn is_attribute(header: &str) -> bool {
    header.strip_prefix("ce-").is_some_and(|name| TAKEN.contains(&name) && !FREE.contains(&name))
}

/// The header that carries a column of a message in binary mode.
#[must_use]
pub fn extension_header(column: &str) -> String {
    format!("ce-{}", extension_name(column))
}

/// How events in structured mode become a batch.
pub const BATCH: Framing = Framing::JSON_ARRAY;

/// What a header's value spells as `%XX` (HTTP protocol binding, 3.1.3.2): besides these everything beyond ASCII.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What a part of a path spells as `%XX`: all but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An attribute's name, and the header that carries it in binary mode.
struct Name<'a>(&'a str, &'a str);

/// Tells each attribute that is a text, in the order that is written.
fn attributes(event: &Event<'_>, mut tell: impl FnMut(Name<'_>, &str)) {
    let mut time = Vec::with_capacity(32);
    instant::push(&mut time, event.committed_at);
    let position = event.position.to_string();
    tell(Name("specversion", "ce-specversion"), "1.0");
    tell(Name("id", "ce-id"), event.id);
    tell(Name("source", "ce-source"), &source(event));
    tell(Name("type", "ce-type"), &event_type(event));
    let subject = subject(event);
    if !subject.is_empty() {
        tell(Name("subject", "ce-subject"), &subject);
    }
    tell(Name("time", "ce-time"), &String::from_utf8_lossy(&time));
    tell(Name("datacontenttype", "content-type"), data_content_type(event));
    tell(Name("stream", "ce-stream"), event.stream.as_str());
    tell(Name("position", "ce-position"), &position);
    tell(Name("sequence", "ce-sequence"), &position);
    let mut origin = String::with_capacity(event.source.0.len());
    push_text(&mut origin, &event.source.0, |_| false);
    if !origin.is_empty() {
        tell(Name("origin", "ce-origin"), &origin);
    }
    if let Some(message) = &event.message {
        extensions(message, tell);
    }
}

/// What travels along with a message.
fn extensions(message: &Message<'_>, mut tell: impl FnMut(Name<'_>, &str)) {
    let mut names: Vec<String> = Vec::new();
    for field in &message.headers {
        let name = extension_name(field.name);
        let taken = TAKEN.contains(&name.as_str()) || names.contains(&name);
        if let Some(text) = plain(field.column, &field.cell).filter(|_| !name.is_empty() && !taken) {
            let mut value = String::with_capacity(text.len());
            push_text(&mut value, &text, |_| false);
            tell(Name(&name, &format!("ce-{name}")), &value);
            names.push(name);
        }
    }
}

/// What an attribute is called that is made of a column.
fn extension_name(column: &str) -> String {
    column.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The message's own type; what an attribute cannot hold is percent-encoded.
fn event_type(event: &Event<'_>) -> String {
    let own = event.message.as_ref().and_then(|message| message.kind.as_deref());
    let mut out = String::new();
    push_text(&mut out, own.filter(|kind| !kind.is_empty()).unwrap_or(event.op.event_type()), |_| false);
    out
}

fn data_content_type(event: &Event<'_>) -> &'static str {
    match event.message.as_ref().map(Message::payload) {
        Some(Payload::Bytes(_)) => BYTES_CONTENT_TYPE,
        Some(Payload::Text(_)) => TEXT_CONTENT_TYPE,
        Some(Payload::Json(_)) | None => BINARY_CONTENT_TYPE,
    }
}

fn source(event: &Event<'_>) -> String {
    let mut out = format!("/{}", event.stream);
    if event.dialect == Dialect::Postgres && !event.database.is_empty() {
        push_segment(&mut out, event.database);
    }
    out + &table_path(event.table)
}

/// The end of `source`: `/schema/table`, percent-encoded.
pub(super) fn table_path(table: &TableName) -> String {
    let mut out = String::new();
    for part in table.schema.iter().chain([&table.name]) {
        push_segment(&mut out, part);
    }
    out
}

fn push_segment(out: &mut String, part: &str) {
    out.push('/');
    out.extend(utf8_percent_encode(part, SEGMENT));
}

fn subject(event: &Event<'_>) -> String {
    let (mut out, mut part) = (String::new(), Vec::new());
    if let Some(message) = &event.message {
        push_text(&mut out, message.key.as_deref().unwrap_or_default(), |_| false);
    }
    for (at, field) in event.key.iter().enumerate() {
        if at > 0 {
            out.push('/');
        }
        part.clear();
        write_text(&mut part, &of(field.column, &field.cell));
        push_text(&mut out, &String::from_utf8_lossy(&part), |c| matches!(c, '%' | '/'));
    }
    out
}

/// Appends a text with `%XX` for what an attribute's text cannot have (`spec.md`, "Type System"), and for what `also` says.
fn push_text(out: &mut String, text: &str, also: impl Fn(char) -> bool) {
    for c in text.chars() {
        let code = u32::from(c);
        let forbidden = c.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
        if forbidden || also(c) {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(percent_encoding::percent_encode_byte));
        } else {
            out.push(c);
        }
    }
}

/// Appends one event in structured mode: the whole body, or one item of a batch.
pub fn write_structured(out: &mut Vec<u8>, event: &Event<'_>) {
    let mut before = b'{';
    attributes(event, |Name(name, _), value| {
        out.push(before);
        before = b',';
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_string(out, value);
    });
    if event.replay {
        out.extend_from_slice(b",\"replay\":true");
    }
    match event.message.as_ref().map(Message::payload) {
        None => {
            out.extend_from_slice(b",\"data\":");
            json::write_data(out, event);
        }
        Some(payload) => {
            let bytes = matches!(payload, Payload::Bytes(_));
            out.extend_from_slice(if bytes { b",\"data_base64\":" } else { b",\"data\":" });
            payload.write_json(out);
        }
    }
    out.push(b'}');
}

/// The headers of one event in binary mode, `content-type` among them. Names are in lower case; values are percent-encoded
/// as the HTTP binding demands, so that they consist of visible ASCII characters.
#[must_use]
pub fn binary_headers(event: &Event<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(12);
    attributes(event, |Name(name, header), value| {
        // A content type is no attribute's text there.
        let plain = name == "datacontenttype";
        headers.push((header.to_owned(), if plain { value.to_owned() } else { header_value(value) }));
    });
    if event.replay {
        headers.push(("ce-replay".to_owned(), "true".to_owned()));
    }
    headers
}

/// Appends the body of one event in binary mode: its data.
pub fn write_binary(out: &mut Vec<u8>, event: &Event<'_>) {
    match event.message.as_ref().map(Message::payload) {
        None => json::write_data(out, event),
        Some(Payload::Bytes(hex)) => natural::push_bytes(out, hex),
        Some(Payload::Text(text)) => out.extend_from_slice(text.as_bytes()),
        Some(payload @ Payload::Json(_)) => payload.write_json(out),
    }
}

/// An attribute's text as a header's value.
#[must_use]
pub fn header_value(text: &str) -> String {
    utf8_percent_encode(text, HEADER).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the HTTP binding's own example.
    #[test]
    fn headers_are_percent_encoded() {
        let pairs = [
            ("Euro \u{20ac} \u{1F600}", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("public/orders \"2%\" \u{e9}", "public/orders%20%222%25%22%20%C3%A9"),
            ("a\r\nb\u{7f}~!", "a%0D%0Ab%7F~!"),
        ];
        for (text, header) in pairs {
            assert_eq!(header_value(text), header);
            assert_eq!(percent_encoding::percent_decode_str(header).decode_utf8().unwrap(), text);
        }
    }

    #[test]
    fn columns_that_are_no_attributes_are_named() {
        let columns = ["tenant", "Id", "data_schema", "__", "ten-ant", "trace"];
        let reserved = |column: &str, name: &str| LeftOut {
            column: column.to_owned(),
            why: LeftOutWhy::Reserved(name.to_owned()),
        };
        let twice = LeftOutWhy::Column { attribute: "tenant".to_owned(), other: "tenant".to_owned() };
        assert_eq!(
            left_out(columns),
            [
                reserved("Id", "id"),
                reserved("data_schema", "dataschema"),
                LeftOut { column: "__".to_owned(), why: LeftOutWhy::Nameless },
                LeftOut { column: "ten-ant".to_owned(), why: twice },
            ]
        );
        assert!(is_attribute("ce-type") && is_attribute("ce-datacontenttype") && !is_attribute("ce-tenant"));
        assert!(!is_attribute("ce-dataschema") && !is_attribute("x-ce-type"));
    }

    #[test]
    fn attributes_hold_no_control_characters() {
        let mut out = String::new();
        push_text(&mut out, "a\u{1}b/\u{85}%\u{fffe}\u{1ffff}\u{fdd0}\u{e9}", |c| matches!(c, '%' | '/'));
        assert_eq!(out, "a%01b%2F%C2%85%25%EF%BF%BE%F0%9F%BF%BF%EF%B7%90\u{e9}");
    }
}
