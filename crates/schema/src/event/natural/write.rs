//! Natural values as JSON and as plain text.

use super::array::{Array, Token};
use super::{Natural, Odd, base64, of};
use crate::cell::Cell;
use crate::table::Dialect;
use crate::types::ColumnType;

/// Appends a value as JSON.
pub fn write_json(out: &mut Vec<u8>, column: &ColumnType, cell: &Cell<'_>) {
    write_natural(out, &of(column, cell));
}

/// Appends what [`of`] told, as JSON.
pub fn write_natural(out: &mut Vec<u8>, natural: &Natural<'_>) {
    match natural {
        Natural::Null => out.extend_from_slice(b"null"),
        Natural::Bool(true) => out.extend_from_slice(b"true"),
        Natural::Bool(false) => out.extend_from_slice(b"false"),
        Natural::Number(text) | Natural::Json(text) => out.extend_from_slice(text.as_bytes()),
        Natural::Text(text) => write_string(out, text),
        Natural::Timestamp(_) | Natural::Timestamptz(_) | Natural::Bytes(_) => {
            out.push(b'"');
            write_text(out, natural);
            out.push(b'"');
        }
        Natural::Array(array) => write_array(out, array),
        Natural::Set(labels) => {
            out.push(b'[');
            for (at, label) in labels.split(',').filter(|_| !labels.is_empty()).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(out, label);
            }
            out.push(b']');
        }
        Natural::Odd(odd) => {
            let (name, value) = match odd {
                Odd::Blob(hex) => ("base64", Natural::Bytes(hex)),
                Odd::Text(text) => ("text", Natural::Text(text)),
                Odd::Number(text) => ("number", Natural::Text(text)),
                Odd::RawText(hex) => ("text_base64", Natural::Bytes(hex)),
            };
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_natural(out, &value);
            out.push(b'}');
        }
    }
}

/// Appends a value as plain text: as JSON, but strings without quotes and escapes, and nothing for NULL.
pub fn write_text(out: &mut Vec<u8>, natural: &Natural<'_>) {
    match natural {
        Natural::Null => {}
        Natural::Text(text) => out.extend_from_slice(text.as_bytes()),
        Natural::Timestamp(text) | Natural::Timestamptz(text) => {
            let (date, time) = text.as_bytes().split_at(text.len().min(10));
            out.extend_from_slice(date);
            out.push(b'T');
            out.extend_from_slice(time.get(1..).unwrap_or_default());
            if matches!(natural, Natural::Timestamptz(_)) {
                out.push(b'Z');
            }
        }
        Natural::Bytes(hex) => base64::push_hex(out, hex),
        Natural::Bool(_)
        | Natural::Number(_)
        | Natural::Json(_)
        | Natural::Array(_)
        | Natural::Set(_)
        | Natural::Odd(_) => write_natural(out, natural),
    }
}

fn write_array(out: &mut Vec<u8>, array: &Array<'_>) {
    let element = ColumnType::parse(Dialect::Postgres, array.element(), None, &[]);
    let mut follows = false;
    let walked = array.walk(|token| {
        if follows && token != Token::Close {
            out.push(b',');
        }
        follows = token != Token::Open;
        match token {
            Token::Open => out.push(b'['),
            Token::Close => out.push(b']'),
            Token::Null => out.extend_from_slice(b"null"),
            Token::Item(text) => write_json(out, &element, &Cell::Text(text)),
        }
    });
    debug_assert!(walked.is_some(), "arrays are looked through when they are made");
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec does not fail, and neither does a string.
    let _ = serde_json::to_writer(out, text);
}
