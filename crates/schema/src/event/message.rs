//! Messages: what an application itself wants to say, instead of what happened to its rows.
//!
//! A message is a row of an outbox table (see [`super::outbox`]) or a logical message of PostgreSQL. All formats show the
//! same five things of it; `docs/outbox.md` says where each comes from, `docs/formats.md` what they look like.

use std::borrow::Cow;

use super::Field;
use super::natural::{self, Natural, Odd, write_natural, write_string};
use crate::cell::Cell;
use crate::types::ColumnType;

/// What a message says.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The application's own id of it.
    pub id: Option<Cow<'a, str>>,
    /// What it is about, `order.paid`; the prefix of a logical message.
    pub kind: Option<Cow<'a, str>>,
    /// Messages of one key are in order.
    pub key: Option<Cow<'a, str>>,
    /// What it says. Its name is not shown.
    pub payload: Field<'a>,
    /// What else travels along, by name.
    pub headers: Vec<Field<'a>>,
    /// A logical message of PostgreSQL.
    pub logical: bool,
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Payload<'a> {
    /// Bytes, as hexadecimal digits.
    Bytes(&'a str),
    /// Text that is not JSON.
    Text(&'a str),
    /// A JSON value: a document, a number, NULL.
    Json(Natural<'a>),
}

impl Message<'_> {
    /// What the payload is. A text in a column of JSON that is not well-formed is a text.
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        match natural::of(self.payload.column, &self.payload.cell) {
            Natural::Bytes(hex) | Natural::Odd(Odd::Blob(hex) | Odd::RawText(hex)) => Payload::Bytes(hex),
            Natural::Text(text) | Natural::Odd(Odd::Text(text) | Odd::Number(text)) => Payload::Text(text),
            natural => Payload::Json(natural),
        }
    }
}

impl<'a> Message<'a> {
    /// As expressions see it: [`MESSAGE`](crate::expr::MESSAGE).
    #[must_use]
    pub fn row(&'a self) -> Vec<Option<Cell<'a>>> {
        let text = |text: &'a Option<Cow<'_, str>>| text.as_deref().map_or(Cell::Null, Cell::text);
        let json = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            Cell::Text(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
        };
        let payload = match self.payload() {
            Payload::Json(Natural::Null) => Cell::Null,
            payload => json(&|out| payload.write_json(out)),
        };
        let headers = json(&|out| write_headers(out, &self.headers));
        let texts = [&self.id, &self.kind, &self.key].map(text);
        texts.into_iter().chain([payload, headers]).map(Some).collect()
    }
}

impl Payload<'_> {
    /// Appends it as base64 in a JSON string, whatever it is.
    pub fn write_base64(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        match self {
            Self::Bytes(hex) => natural::push_bytes(&mut bytes, hex),
            Self::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Self::Json(natural) => natural::write_natural(&mut bytes, natural),
        }
        out.push(b'"');
        natural::push_base64(out, &bytes);
        out.push(b'"');
    }

    /// Appends it as a JSON value: bytes are a string in base64, text is a string.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(hex) => {
                out.push(b'"');
                natural::push_hex(out, hex);
                out.push(b'"');
            }
            Self::Text(text) => write_string(out, text),
            Self::Json(natural) => write_natural(out, natural),
        }
    }
}

/// Appends the headers as a JSON object.
pub(super) fn write_headers(out: &mut Vec<u8>, headers: &[Field<'_>]) {
    out.push(b'{');
    for (at, field) in headers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, field.name);
        out.push(b':');
        natural::write_json(out, field.column, &field.cell);
    }
    out.push(b'}');
}

/// A value as plain text; `None` for NULL.
pub(super) fn plain<'a>(column: &'a ColumnType, cell: &'a Cell<'a>) -> Option<Cow<'a, str>> {
    match natural::of(column, cell) {
        Natural::Null => None,
        Natural::Text(text) | Natural::Number(text) => Some(Cow::Borrowed(text)),
        other => {
            let mut out = Vec::new();
            natural::write_text(&mut out, &other);
            Some(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
        }
    }
}
