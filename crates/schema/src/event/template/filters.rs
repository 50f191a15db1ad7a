//! Filters, tests and functions: which of the engine's there are, and ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, Error, ErrorKind, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::RenderError;
use super::json;
use super::value::{Exact, Written};

/// What RFC 3986 leaves as it is: letters, digits and four signs.
pub(super) const NOT_UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the reader puts around operands. No template can name them: a name does not begin so.
pub(super) const NUMBER: &str = "0number";
pub(super) const NUMBERS: &str = "0numbers";
pub(super) const TEXT: &str = "0text";

/// All filters that templates may use. Left out are those that look members up by computed names, that escape for HTML,
/// and that print for people.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "base64",
    "batch",
    "bool",
    "capitalize",
    "count",
    "d",
    "date",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "json",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "raw",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// Filters that calculate with their value or their arguments.
pub(super) const NUMERIC_FILTERS: &[&str] =
    &["abs", "bool", "float", "int", "max", "min", "round", "sum", "truncate", "batch", "slice", "indent"];

/// All tests that templates may use.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// All functions that templates may use.
pub(super) const FUNCTIONS: &[&str] = &["dict", "range"];

/// Adds ours.
pub(super) fn add(env: &mut Environment<'_>) {
    env.add_filter(NUMBER, number);
    env.add_filter(NUMBERS, numbers);
    env.add_filter(TEXT, text);
    env.add_filter("raw", |value: &Value| Ok::<_, Error>(Value::from_object(Written::Raw(text_of(value)?))));
    env.add_filter("json", |value: &Value| {
        let mut out = String::new();
        json::write(&mut out, value).map_err(engine_error)?;
        Ok::<_, Error>(Value::from_object(Written::Json(out)))
    });
    env.add_filter("base64", |value: &Value| Ok::<_, Error>(STANDARD.encode(text_of(value)?)));
    env.add_filter("urlencode", |value: &Value| {
        Ok::<_, Error>(utf8_percent_encode(&text_of(value)?, NOT_UNRESERVED).to_string())
    });
    env.add_filter("string", text_of);
    env.add_filter("truncate", |value: &Value, chars: usize| {
        let text = text_of(value)?;
        Ok::<_, Error>(match text.char_indices().nth(chars) {
            Some((end, _)) => text[..end].to_owned(),
            None => text,
        })
    });
    env.add_filter("join", |value: &Value, separator: Option<&str>| {
        let items = value.try_iter()?.map(|item| text(&item)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Error>(items.join(separator.unwrap_or_default()))
    });
    env.add_filter("date", |value: &Value, format: &str| date(&text_of(value)?, format));
}

fn text_of(value: &Value) -> Result<String, Error> {
    json::plain(value).map_err(engine_error)
}

/// The engine's own errors say less than ours.
fn engine_error(error: RenderError) -> Error {
    Error::from(match error {
        RenderError::Undefined { .. } => ErrorKind::UndefinedError,
        _ => ErrorKind::InvalidOperation,
    })
}

fn number(value: &Value) -> Value {
    value.downcast_object_ref::<Exact>().map_or_else(|| value.clone(), Exact::number)
}

fn numbers(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        minijinja::value::ValueKind::Seq | minijinja::value::ValueKind::Iterable => {
            Ok(Value::from(value.try_iter()?.map(|item| number(&item)).collect::<Vec<_>>()))
        }
        _ => Ok(number(value)),
    }
}

/// An operand of `~`, an item of `join`: NULL is nothing there, as in a body.
fn text(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    text_of(value)
}

/// A date, or date and time, by `%Y %m %d %H %M %S %%`; what is neither stays as it is.
fn date(text: &str, format: &str) -> Result<String, Error> {
    let part = |from: usize, to: usize| {
        text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let marks =
        |places: &[(usize, u8)]| places.iter().all(|(at, mark)| text.as_bytes().get(*at) == Some(mark));
    let (year, month, day) = match (part(0, 4), part(5, 7), part(8, 10)) {
        (Some(year), Some(month), Some(day)) if marks(&[(4, b'-'), (7, b'-')]) => (year, month, day),
        _ => return Ok(text.to_owned()),
    };
    let clock = marks(&[(13, b':'), (16, b':')]) && (marks(&[(10, b'T')]) || marks(&[(10, b' ')]));
    let clock = |from, to| if clock { part(from, to).unwrap_or("00") } else { "00" };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        out.push_str(match chars.next() {
            Some('Y') => year,
            Some('m') => month,
            Some('d') => day,
            Some('H') => clock(11, 13),
            Some('M') => clock(14, 16),
            Some('S') => clock(17, 19),
            Some('%') => "%",
            _ => {
                let detail = "date takes %Y %m %d %H %M %S and %%";
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        });
    }
    Ok(out)
}
