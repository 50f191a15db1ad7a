//! One value in Debezium's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::form::Form;
use super::text::{self, Element, push_json};
use super::time::{self, Stamp, infinite};
use super::{UNAVAILABLE, number};
use crate::cell::{Cell, Class};
use crate::sqlite_type::{natural_class, parse_hex};

/// Version 3 UUID of [`UNAVAILABLE`], which stands in arrays of UUIDs.
const UNAVAILABLE_UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// A column's values: their form, whose they are, and whether NULL can be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) form: &'a Form,
    pub(super) type_name: &'a str,
    pub(super) not_null: bool,
}

impl Writer<'_> {
    /// Writes a value. One that is not of its type's form (`NaN` in a numeric) is written as the text that it is.
    pub(super) fn cell(&self, out: &mut Vec<u8>, cell: &Cell<'_>) {
        let (class, value) = match cell {
            Cell::Null => return out.extend_from_slice(b"null"),
            Cell::Text(value) => (None, value),
            Cell::Classed(class, value) => (Some(*class), value),
        };
        let start = out.len();
        let written = match (self.form, class) {
            (Form::Dynamic, class) => dynamic(out, class, self.type_name, value),
            (form, _) => self.form(out, form, value),
        };
        if written.is_none() {
            out.truncate(start);
            push_json(out, value);
        }
    }

    fn form(&self, out: &mut Vec<u8>, form: &Form, text: &str) -> Option<()> {
        match form {
            Form::Bool => push(out, if text == "t" || text == "1" { "true" } else { "false" }),
            Form::Integer => match text.parse::<i64>() {
                Ok(value) => push(out, &value.to_string()),
                Err(_) => push(out, &(text.parse::<u64>().ok()? as i64).to_string()),
            },
            Form::Year => push(out, &text.parse::<u16>().ok()?.to_string()),
            Form::Float32 => {
                float(out, text, |text| text.parse::<f32>().ok().map(|value| format!("{value:?}")))?
            }
            Form::Float64 => {
                float(out, text, |text| text.parse::<f64>().ok().map(|value| format!("{value:?}")))?
            }
            Form::Decimal(scale) => base64(out, &number::unscaled(text, *scale)?),
            Form::VariableDecimal => {
                let (scale, bytes) = number::variable(text)?;
                push(out, &format!("{{\"scale\":{scale},\"value\":"));
                base64(out, &bytes);
                out.push(b'}');
            }
            Form::Money => base64(out, &number::money(text)?),
            Form::Text => push_json(out, text),
            Form::CompactJson => push_json(out, &text::compact(text)),
            Form::Bytes => base64(out, &parse_hex(text.strip_prefix("\\x")?)?),
            Form::Date => match stamp(text)? {
                Time::Infinite(negative) => integer(out, pick(infinite::DATE, negative)),
                Time::Zero => self.zero_date(out),
                Time::Stamp(stamp) => integer(out, stamp.days()),
            },
            Form::Time { millis } => {
                let micros = time::clock(text)?;
                integer(out, if *millis { micros / 1000 } else { micros });
            }
            Form::ZonedTime => push_json(out, &time::zoned_time(text)?),
            Form::Timestamp { millis } => match (stamp(text)?, millis) {
                (Time::Infinite(negative), true) => integer(out, pick(infinite::MILLIS, negative)),
                (Time::Infinite(negative), false) => integer(out, pick(infinite::MICROS, negative)),
                (Time::Zero, _) => self.zero_date(out),
                (Time::Stamp(stamp), true) => integer(out, stamp.millis()),
                (Time::Stamp(stamp), false) => integer(out, stamp.micros()),
            },
            Form::ZonedTimestamp(digits) => match stamp(text)? {
                Time::Infinite(_) => push_json(out, text),
                Time::Zero => self.zero_date(out),
                Time::Stamp(stamp) => push_json(out, &stamp.zoned(*digits)),
            },
            Form::Interval => integer(out, time::interval(text)?),
            Form::Flag => push(out, if text == "1" { "true" } else { "false" }),
            Form::Bits(filled) => base64(out, &bits(text, *filled)?),
            Form::Point => point(out, text)?,
            Form::Geometry { split, point } => geometry(out, &parse_hex(text)?, *split, *point)?,
            Form::Hstore => push_json(out, &text::hstore(text)?),
            Form::Vector => vector(out, text)?,
            Form::Array(inner) => self.list(out, inner, &text::array(text)?)?,
            Form::Unknown => base64(out, text.as_bytes()),
            Form::Dynamic => return None,
        }
        Some(())
    }

    fn list(&self, out: &mut Vec<u8>, inner: &Form, list: &[Element]) -> Option<()> {
        out.push(b'[');
        for (at, element) in list.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match element {
                Element::Null => push(out, "null"),
                Element::List(list) => self.list(out, inner, list)?,
                Element::Value(value) => self.form(out, inner, value)?,
            }
        }
        out.push(b']');
        Some(())
    }

    /// MySQL's zero dates have no number: NULL, or the first day where the column says NOT NULL.
    fn zero_date(&self, out: &mut Vec<u8>) {
        if self.not_null { self.nothing(out) } else { push(out, "null") }
    }

    /// What a NOT NULL column shows where its value is not known, as the connectors' converters fill it up.
    pub(super) fn nothing(&self, out: &mut Vec<u8>) {
        if !self.not_null {
            return push(out, "null");
        }
        match self.form {
            Form::Bool | Form::Flag => push(out, "false"),
            Form::Integer | Form::Date | Form::Time { .. } | Form::Timestamp { .. } => push(out, "0"),
            Form::Interval | Form::Year => push(out, "0"),
            Form::Float32 | Form::Float64 => push(out, "0.0"),
            Form::Decimal(_) | Form::Money => push(out, "\"AA==\""),
            Form::VariableDecimal => push(out, "{\"scale\":0,\"value\":\"AA==\"}"),
            Form::Text | Form::Bytes | Form::Bits(_) => push(out, "\"\""),
            Form::CompactJson | Form::Hstore => push(out, "\"{}\""),
            Form::ZonedTime => push(out, "\"00:00:00Z\""),
            Form::ZonedTimestamp(_) => push(out, "\"1970-01-01T00:00:00Z\""),
            Form::Point => {
                push(out, "{\"x\":0.0,\"y\":0.0,\"wkb\":\"AQEAAAAAAAAAAAAAAAAAAAAAAAAA\",\"srid\":null}")
            }
            Form::Array(_) | Form::Vector => push(out, "[]"),
            Form::Geometry { .. } | Form::Dynamic | Form::Unknown => push(out, "null"),
        }
    }

    /// What stands for a value outside of the row that an update did not touch.
    pub(super) fn unavailable(&self, out: &mut Vec<u8>) {
        let element = match self.form {
            Form::Array(inner) => inner.as_ref(),
            form => form,
        };
        let list = element != self.form;
        let name = self.type_name.split(['(', '[']).next().unwrap_or_default();
        let text = match element {
            Form::Text if list && name == "uuid" => Some(format!("\"{UNAVAILABLE_UUID}\"")),
            Form::Text if list => {
                matches!(name, "text" | "character varying" | "character" | "json" | "jsonb")
                    .then(|| format!("\"{UNAVAILABLE}\""))
            }
            Form::Text => Some(format!("\"{UNAVAILABLE}\"")),
            Form::Bytes => Some(format!("\"{}\"", BASE64.encode(UNAVAILABLE))),
            Form::Hstore if !list => Some(format!("\"{{\\\"{UNAVAILABLE}\\\":\\\"{UNAVAILABLE}\\\"}}\"")),
            Form::Integer | Form::Date if list && matches!(name, "integer" | "bigint" | "date") => {
                let codes: Vec<String> = UNAVAILABLE.bytes().map(|byte| byte.to_string()).collect();
                Some(codes.join(","))
            }
            _ => None,
        };
        match text {
            Some(text) if list => push(out, &format!("[{text}]")),
            Some(text) => push(out, &text),
            None => self.nothing(out),
        }
    }
}

/// A date, or what is none.
enum Time {
    Infinite(bool),
    Zero,
    Stamp(Stamp),
}

fn stamp(text: &str) -> Option<Time> {
    Some(match text {
        "infinity" => Time::Infinite(false),
        "-infinity" => Time::Infinite(true),
        _ => match Stamp::parse(text)? {
            stamp if stamp.has_zero() => Time::Zero,
            stamp => Time::Stamp(stamp),
        },
    })
}

fn pick(pair: (i64, i64), negative: bool) -> i64 {
    if negative { pair.1 } else { pair.0 }
}

pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    push(out, &value.to_string());
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, &format!("\"{}\"", BASE64.encode(bytes)));
}

/// A finite number as JSON; the others are texts.
fn float(out: &mut Vec<u8>, text: &str, shortest: impl Fn(&str) -> Option<String>) -> Option<()> {
    match text {
        "NaN" | "Infinity" | "-Infinity" => push_json(out, text),
        _ => {
            let shown = shortest(text).filter(|shown| !shown.contains(['N', 'i']))?;
            push(out, &shown);
        }
    }
    Some(())
}

/// Bits, the last one being the lowest of the first byte. Bytes of zeros at the end go, down to `filled`.
fn bits(text: &str, filled: usize) -> Option<Vec<u8>> {
    if !text.bytes().all(|b| matches!(b, b'0' | b'1')) {
        return None;
    }
    let digits = text.as_bytes();
    let byte = |chunk: &[u8]| chunk.iter().fold(0u8, |sum, digit| sum << 1 | (digit - b'0'));
    let mut bytes: Vec<u8> = digits.rchunks(8).map(byte).collect();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(used.max(filled));
    Some(bytes)
}

fn coordinate(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// `(x,y)`
fn point(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let (x, y) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let (x, y) = (coordinate(x)?, coordinate(y)?);
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend_from_slice(&x.to_le_bytes());
    wkb.extend_from_slice(&y.to_le_bytes());
    push(out, &format!("{{\"x\":{x:?},\"y\":{y:?},\"wkb\":\"{}\",\"srid\":null}}", BASE64.encode(wkb)));
    Some(())
}

/// EWKB: byte order, type with flags, SRID if the flag says so, the rest.
fn geometry(out: &mut Vec<u8>, ewkb: &[u8], split: bool, is_point: bool) -> Option<()> {
    const SRID_FLAG: u32 = 0x2000_0000;
    let little = *ewkb.first()? == 1;
    let read = |at: usize| {
        let bytes: [u8; 4] = ewkb.get(at..at + 4)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let kind = read(1)?;
    let srid = if kind & SRID_FLAG == 0 { None } else { Some(read(5)?) };
    let mut wkb = ewkb.to_vec();
    if split && srid.is_some() {
        let kind = kind & !SRID_FLAG;
        wkb.splice(1..9, if little { kind.to_le_bytes() } else { kind.to_be_bytes() });
    }
    out.push(b'{');
    if is_point {
        let read = |at: usize| -> Option<f64> {
            let bytes: [u8; 8] = wkb.get(at..at + 8)?.try_into().ok()?;
            let value = if little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) };
            value.is_finite().then_some(value)
        };
        push(out, &format!("\"x\":{:?},\"y\":{:?},", read(5)?, read(13)?));
    }
    push(out, &format!("\"wkb\":\"{}\",\"srid\":", BASE64.encode(&wkb)));
    match srid {
        Some(srid) => push(out, &srid.to_string()),
        None => push(out, "null"),
    }
    out.push(b'}');
    Some(())
}

/// `[1,0.5]`
fn vector(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let list = text.strip_prefix('[')?.strip_suffix(']')?;
    out.push(b'[');
    for (at, number) in list.split(',').filter(|number| !number.is_empty()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(out, &format!("{:?}", coordinate(number.trim())?));
    }
    out.push(b']');
    Some(())
}

/// SQLite has no connector: numbers as they are, blobs in base64, the rest as texts.
fn dynamic(out: &mut Vec<u8>, class: Option<Class>, declared: &str, text: &str) -> Option<()> {
    let class = class.unwrap_or_else(|| natural_class(declared));
    match class {
        Class::Integer => integer(out, text.parse().ok()?),
        Class::Real => push(out, &format!("{:?}", coordinate(text)?)),
        Class::Text => push_json(out, text),
        Class::Blob | Class::RawText => base64(out, &parse_hex(text)?),
    }
    Some(())
}
