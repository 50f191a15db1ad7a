//! Values as JSON and as plain text.

use minijinja::Value;
use minijinja::value::ValueKind;

use super::document::Document;
use super::error::RenderError;
use super::value::{Exact, Written};
use crate::event::natural;

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 128;

/// 2^53 - 1: beyond it two integers may be one double.
const MAX_SAFE: i128 = (1 << 53) - 1;

/// Appends a value as JSON, by the rules of [`natural`]: numbers that a double does not hold are strings.
pub(super) fn write(out: &mut String, value: &Value) -> Result<(), RenderError> {
    nested(out, value, 0)
}

/// Appends the content of a JSON string.
pub(super) fn write_content(out: &mut String, text: &str) {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    natural::write_string(&mut quoted, text);
    let content = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    out.push_str(&String::from_utf8_lossy(content));
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    write_content(out, text);
    out.push('"');
}

fn nested(out: &mut String, value: &Value, depth: usize) -> Result<(), RenderError> {
    if depth > MAX_DEPTH {
        return Err(RenderError::TooDeep { most: MAX_DEPTH });
    }
    if let Some(exact) = value.downcast_object_ref::<Exact>() {
        if exact.plain {
            out.push_str(&exact.text);
        } else {
            string(out, &exact.text);
        }
        return Ok(());
    }
    if let Some(document) = value.downcast_object_ref::<Document>() {
        out.push_str(&document.text);
        return Ok(());
    }
    match value.downcast_object_ref::<Written>() {
        Some(Written::Json(text)) => {
            out.push_str(text);
            return Ok(());
        }
        // Within a list or an object there is no place where it could be written as it is.
        Some(Written::Raw(text)) => {
            string(out, text);
            return Ok(());
        }
        None => {}
    }
    match value.kind() {
        ValueKind::Undefined => return Err(RenderError::Undefined { expression: None, place: None }),
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let text = value.to_string();
            let bare = match i128::try_from(value.clone()) {
                Ok(whole) if value.is_integer() => whole.unsigned_abs() <= MAX_SAFE.unsigned_abs(),
                // A double that was calculated.
                _ => f64::try_from(value.clone()).is_ok_and(f64::is_finite),
            };
            if bare { out.push_str(&text) } else { string(out, &text) }
        }
        ValueKind::String => string(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let mut before = '{';
            for key in iterate(value)? {
                out.push(before);
                string(out, &plain(&key)?);
                out.push(':');
                nested(out, &value.get_item(&key).unwrap_or_default(), depth + 1)?;
                before = ',';
            }
            if before == '{' {
                out.push('{');
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut before = '[';
            for item in iterate(value)? {
                out.push(before);
                nested(out, &item, depth + 1)?;
                before = ',';
            }
            if before == '[' {
                out.push('[');
            }
            out.push(']');
        }
        _ => string(out, &value.to_string()),
    }
    Ok(())
}

fn iterate(value: &Value) -> Result<minijinja::value::ValueIter, RenderError> {
    value.try_iter().map_err(|_| RenderError::Failed { reason: "a value cannot be looped over", place: None })
}

/// A value as plain text: texts and numbers as they are, nothing for NULL, lists and objects as JSON.
pub(super) fn plain(value: &Value) -> Result<String, RenderError> {
    if let Some(Written::Raw(text) | Written::Json(text)) = value.downcast_object_ref() {
        return Ok(text.clone());
    }
    if let Some(exact) = value.downcast_object_ref::<Exact>() {
        return Ok(exact.text.to_string());
    }
    match value.kind() {
        ValueKind::None => Ok(String::new()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(value.to_string()),
        // The engine would write `True`.
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        _ => {
            let mut out = String::new();
            write(&mut out, value)?;
            Ok(out)
        }
    }
}
