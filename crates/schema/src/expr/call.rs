//! What the functions do.

use std::borrow::Cow;

use super::error::Failure;
use super::function::Function;
use super::json;
use super::number::Number;
use super::time::{Span, Timestamp};
use super::value::Value;

/// Of null a function that answers yes or no says no, and any other one says null.
pub(super) fn call<'a>(
    function: Function,
    first: Value<'a>,
    second: Value<'a>,
) -> Result<Value<'a>, Failure> {
    match function {
        Function::Contains => asked(&first, &second, |text, part| text.contains(part)),
        Function::StartsWith => asked(&first, &second, |text, part| text.starts_with(part)),
        Function::EndsWith => asked(&first, &second, |text, part| text.ends_with(part)),
        _ if first == Value::Null => Ok(Value::Null),
        Function::Size => size(&first),
        Function::LowerAscii => changed(first, |text| text.to_ascii_lowercase()),
        Function::UpperAscii => changed(first, |text| text.to_ascii_uppercase()),
        Function::Trim => changed(first, |text| text.trim().to_owned()),
        Function::Int => int(first),
        Function::Double => double(first),
        Function::String => match first.text() {
            Some(text) => Ok(Value::Text(text)),
            None => Err(Failure::Operand { expected: "one value", found: first.type_of() }),
        },
        Function::Timestamp => timestamp(first),
        Function::Duration => match first {
            Value::Duration(_) => Ok(first),
            Value::Text(text) => {
                Span::parse(&text).map(Value::Duration).ok_or(Failure::Conversion { expected: "duration" })
            }
            other => Err(Failure::Operand { expected: "a string", found: other.type_of() }),
        },
        Function::Json => match first {
            Value::Text(Cow::Borrowed(text)) => {
                json::document(text).map_or(Ok(Value::Null), Value::from_json)
            }
            Value::Text(Cow::Owned(text)) => json::document(&text)
                .map_or(Ok(Value::Null), |raw| Value::from_json(raw).map(Value::into_owned)),
            other => Ok(other),
        },
        // Bound to nodes of their own.
        Function::Matches | Function::Has | Function::Changed => Ok(Value::Null),
    }
}

fn asked<'a>(
    first: &Value<'_>,
    second: &Value<'_>,
    ask: impl Fn(&str, &str) -> bool,
) -> Result<Value<'a>, Failure> {
    match (first, second) {
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Bool(false)),
        (Value::Text(text), Value::Text(part)) => Ok(Value::Bool(ask(text, part))),
        (Value::Text(_), other) | (other, _) => {
            Err(Failure::Operand { expected: "a string", found: other.type_of() })
        }
    }
}

fn changed(value: Value<'_>, change: impl Fn(&str) -> String) -> Result<Value<'_>, Failure> {
    match value {
        Value::Text(text) => Ok(Value::Text(Cow::Owned(change(&text)))),
        other => Err(Failure::Operand { expected: "a string", found: other.type_of() }),
    }
}

fn size<'a>(value: &Value<'_>) -> Result<Value<'a>, Failure> {
    let size = match value {
        Value::Text(text) => text.chars().count(),
        Value::List(items) => items.len(),
        Value::Json(raw) if raw.starts_with('[') => json::elements(raw).count(),
        Value::Json(raw) => json::members(raw).count(),
        other => return Err(Failure::Operand { expected: "a string or a list", found: other.type_of() }),
    };
    Ok(Value::Number(Number::whole(size)))
}

fn read_number(text: &str) -> Result<Number<'static>, Failure> {
    match Number::parse(text.trim()) {
        Ok(Some(number)) => Ok(number.into_owned()),
        Ok(None) => Err(Failure::Conversion { expected: "number" }),
        Err(_) => Err(Failure::TooManyDigits),
    }
}

fn int(value: Value<'_>) -> Result<Value<'_>, Failure> {
    let number = match value {
        Value::Number(number) => number.truncated().ok_or(Failure::Conversion { expected: "number" })?,
        Value::Text(text) => {
            let number = read_number(&text)?.truncated();
            number.ok_or(Failure::Conversion { expected: "number" })?
        }
        Value::Timestamp(time) => time.seconds().map(Number::whole).ok_or(Failure::TimeRange)?,
        Value::Duration(span) => Number::whole(span.seconds()),
        other => return Err(Failure::Operand { expected: "a number", found: other.type_of() }),
    };
    Ok(Value::Number(number))
}

fn double(value: Value<'_>) -> Result<Value<'_>, Failure> {
    match value {
        Value::Number(_) => Ok(value),
        Value::Text(text) => read_number(&text).map(Value::Number),
        other => Err(Failure::Operand { expected: "a number", found: other.type_of() }),
    }
}

fn timestamp(value: Value<'_>) -> Result<Value<'_>, Failure> {
    let time = match value {
        Value::Timestamp(time) => time,
        Value::Text(text) => Timestamp::parse(&text).ok_or(Failure::Conversion { expected: "time" })?,
        Value::Number(number) => {
            let seconds = number.integer().ok_or(Failure::Conversion { expected: "time" })?;
            Timestamp::from_seconds(seconds).ok_or(Failure::TimeRange)?
        }
        other => return Err(Failure::Operand { expected: "a time", found: other.type_of() }),
    };
    Ok(Value::Timestamp(time))
}
