//! From the text of one kind of value to the text of another.

use std::borrow::Cow;

use super::conversion::Unholdable;
use super::kind::{Affinity, Charset, ColumnType, Kind, Limit};
use super::number::{Decimal, bounds, double, float_text, narrow};
use super::time::{Clock, Stamp};
use super::{bytes, json, text};
use crate::table::Dialect;

/// How a source's text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Bool,
    Integer,
    Decimal,
    Float,
    /// A float of 32 bits, whatever digits its server prints.
    Single,
    Text,
    /// PostgreSQL's `char(n)`, filled up with blanks that do not count.
    PaddedText,
    /// `\x00ff`
    Bytes,
    /// `00ff`
    Hex,
    Date,
    Time,
    Duration,
    Timetz,
    Timestamp,
    Timestamptz,
    /// A timestamp without zone that is UTC.
    Utc,
    Interval,
    Uuid,
    Json,
    Bit,
    Year,
    Label,
    Labels,
    Array,
    Range,
    Inet,
    Geometry,
    Vector,
    Other,
}

/// A reading, and whether the text is written as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) reading: Reading,
    pub(super) same: bool,
}

impl Reading {
    fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Single)
    }

    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool,
            Kind::Integer { .. } => Self::Integer,
            Kind::Decimal { .. } => Self::Decimal,
            Kind::Float { bits: 32, .. } => Self::Single,
            Kind::Float { .. } => Self::Float,
            Kind::Text { padded: true, .. } => Self::PaddedText,
            Kind::Text { .. } | Kind::Dynamic(_) => Self::Text,
            Kind::Bytes { .. } => Self::Bytes,
            Kind::Date => Self::Date,
            Kind::Time(_) => Self::Time,
            Kind::Duration(_) => Self::Duration,
            Kind::Timetz(_) => Self::Timetz,
            Kind::Timestamp(_) => Self::Timestamp,
            Kind::Timestamptz(_) => Self::Timestamptz,
            Kind::Interval { .. } => Self::Interval,
            Kind::Uuid => Self::Uuid,
            Kind::Json { .. } => Self::Json,
            Kind::Bit { .. } => Self::Bit,
            Kind::Year => Self::Year,
            Kind::Enum(_) => Self::Label,
            Kind::Set(_) => Self::Labels,
            Kind::Array(_) => Self::Array,
            Kind::Range => Self::Range,
            Kind::Inet { .. } => Self::Inet,
            Kind::Geometry => Self::Geometry,
            Kind::Vector => Self::Vector,
            Kind::Other => Self::Other,
        }
    }
}

/// Types of PostgreSQL whose input cuts or rounds without a word.
const CARELESS: &[&str] = &["money", "\"char\""];

/// Whether values so read may be written into such a column, and whether they need a look.
pub(super) fn plan(source: &ColumnType, reading: Reading, target: &ColumnType) -> Option<Plan> {
    use Reading as R;
    let text = matches!(reading, R::Text | R::PaddedText);
    let fits = match &target.kind {
        Kind::Dynamic(_) | Kind::Text { .. } => true,
        Kind::Bool => text || matches!(reading, R::Bool | R::Integer) || is_one_bit(&source.kind),
        Kind::Integer { .. } => {
            text || matches!(reading, R::Bool | R::Integer | R::Decimal | R::Float | R::Single | R::Year)
        }
        Kind::Decimal { .. } => {
            text || matches!(reading, R::Integer | R::Decimal | R::Float | R::Single | R::Year)
        }
        Kind::Float { .. } => text || matches!(reading, R::Integer | R::Float | R::Single | R::Year),
        Kind::Bytes { .. } => matches!(reading, R::Bytes | R::Hex | R::Geometry),
        Kind::Geometry => matches!(reading, R::Geometry | R::Bytes | R::Hex),
        Kind::Date => text || reading == R::Date,
        Kind::Time(_) => text || matches!(reading, R::Time | R::Duration),
        Kind::Duration(_) => text || matches!(reading, R::Time | R::Duration | R::Interval),
        Kind::Timetz(_) => text || reading == R::Timetz,
        Kind::Timestamp(_) => {
            // MySQL's DATETIME is where a point in time goes that its TIMESTAMP is too small for: in UTC.
            let zoned = matches!(reading, R::Timestamptz | R::Utc) && target.dialect == Dialect::Mysql;
            text || matches!(reading, R::Timestamp | R::Date) || zoned
        }
        Kind::Timestamptz(_) => text || matches!(reading, R::Timestamptz | R::Utc),
        // With fewer fields it cuts what lies below them.
        Kind::Interval { limited, .. } => !limited && (text || matches!(reading, R::Interval | R::Duration)),
        Kind::Uuid => text || reading == R::Uuid,
        Kind::Json { .. } => text || reading == R::Json,
        Kind::Bit { .. } => text || reading == R::Bit,
        Kind::Year => text || matches!(reading, R::Year | R::Integer),
        Kind::Enum(_) => text || reading == R::Label,
        Kind::Set(_) => text || reading == R::Labels,
        Kind::Array(element) => match reading {
            R::Array => source.name == target.name,
            R::Labels => matches!(element.as_str(), "text" | "character varying"),
            R::Vector => element == "real",
            // A modifier makes the server round or cut elements.
            _ => text && !element.contains('('),
        },
        Kind::Range => text || reading == R::Range,
        Kind::Inet { .. } => text || reading == R::Inet,
        Kind::Vector => text || matches!(reading, R::Vector | R::Array),
        Kind::Other => {
            let strict = !CARELESS.contains(&target.name.as_str());
            strict
                && target.dialect == Dialect::Postgres
                && (text || matches!(reading, R::Other | R::Label | R::Labels | R::Inet | R::Range | R::Uuid))
        }
    };
    fits.then(|| Plan { reading, same: is_same(source, reading, target) })
}

fn is_one_bit(kind: &Kind) -> bool {
    matches!(kind, Kind::Bit { length: Some(1), varying: false })
}

/// Whether every value of the source is the same text at the target.
fn is_same(source: &ColumnType, reading: Reading, target: &ColumnType) -> bool {
    match (&source.kind, &target.kind) {
        (Kind::Integer { bits: from, unsigned: unsigned_from }, Kind::Integer { bits, unsigned }) => {
            let (least, most) = bounds(*from, *unsigned_from);
            let (low, high) = bounds(*bits, *unsigned);
            low <= least && most <= high
        }
        (Kind::Integer { .. } | Kind::Decimal { .. }, Kind::Decimal { size: None, .. }) => true,
        (Kind::Float { bits: from, .. }, Kind::Float { bits, .. }) => {
            // SQLite writes floats otherwise.
            from == bits && target.dialect == Dialect::Postgres && source.dialect == Dialect::Mysql
        }
        (Kind::Text { .. }, Kind::Text { limit: Limit::None, padded: false, charset }) => {
            target.dialect != Dialect::Postgres && matches!(charset, Charset::Utf8 | Charset::Other)
        }
        (Kind::Bytes { .. }, Kind::Bytes { limit: Limit::None, .. }) => reading == Reading::Bytes,
        (Kind::Uuid, Kind::Uuid) | (Kind::Inet { .. }, Kind::Inet { version: 0, .. }) => true,
        (Kind::Json { .. }, Kind::Json { verbatim: true }) => true,
        (Kind::Array(_), Kind::Array(_)) | (Kind::Range, Kind::Range) | (Kind::Geometry, Kind::Geometry) => {
            true
        }
        (Kind::Vector, Kind::Vector) => true,
        _ => false,
    }
}

impl Plan {
    pub(super) fn keeps_order(&self, source: Dialect, target: &ColumnType) -> bool {
        use Reading as R;
        match (self.reading, &target.kind) {
            // MariaDB orders UUIDs of versions 1 to 5 by their last group first.
            (R::Uuid, _) if source == Dialect::Mysql => false,
            (R::Uuid, Kind::Uuid) if target.dialect == Dialect::Mysql => false,
            (R::Integer | R::Year, Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Year)
            | (R::Bool, Kind::Bool | Kind::Integer { .. })
            | (R::Uuid, Kind::Uuid)
            | (R::Bytes | R::Hex, Kind::Bytes { .. })
            | (R::Date, Kind::Date)
            | (R::Float | R::Single, Kind::Float { .. }) => true,
            (R::Integer | R::Year | R::Bool, Kind::Dynamic(affinity)) => *affinity != Affinity::Text,
            (R::Uuid, Kind::Dynamic(affinity)) => *affinity == Affinity::Text,
            (R::Bytes | R::Hex, Kind::Dynamic(_)) => true,
            (R::Float | R::Single, Kind::Dynamic(affinity)) => *affinity == Affinity::Real,
            _ => false,
        }
    }
}

fn same_or(text: &str, made: String) -> Cow<'_, str> {
    if made == text { Cow::Borrowed(text) } else { Cow::Owned(made) }
}

/// The text that the target's type has for a value.
pub(super) fn write<'a>(
    reading: Reading,
    target: &ColumnType,
    text: &'a str,
) -> Result<Cow<'a, str>, Unholdable> {
    let dialect = target.dialect;
    let not = Unholdable::NotOfType;
    match &target.kind {
        Kind::Text { limit, padded, charset } => {
            // Both drop blanks at the end of such a column, or fill it up with them.
            let kept =
                if *padded && reading == Reading::PaddedText { text.trim_end_matches(' ') } else { text };
            // PostgreSQL prints such a column filled up: a text of just that length is what it prints.
            let full = dialect == Dialect::Postgres
                && matches!(limit, Limit::Chars(length) if kept.chars().count() == *length as usize);
            text::fit(kept, dialect, *limit, *padded && !full, *charset)?;
            Ok(match limit {
                Limit::Chars(length) if *padded && dialect == Dialect::Postgres && !full => {
                    Cow::Owned(format!("{kept:<width$}", width = *length as usize))
                }
                _ => Cow::Borrowed(kept),
            })
        }
        Kind::Bool => match (reading, text) {
            (_, "t" | "f") => Ok(Cow::Borrowed(text)),
            (Reading::Integer | Reading::Bit, "1") | (_, "true") => Ok(Cow::Borrowed("t")),
            (Reading::Integer | Reading::Bit, "0") | (_, "false") => Ok(Cow::Borrowed("f")),
            (Reading::Integer, _) => Err(Unholdable::Range),
            _ => Err(not),
        },
        Kind::Integer { bits, unsigned } => integer(reading, bounds(*bits, *unsigned), text),
        Kind::Year => {
            let number = integer(reading, (0, 2155), text)?;
            let year: u32 = number.parse().map_err(|_| not)?;
            if year != 0 && year < 1901 {
                Err(Unholdable::Range)
            } else {
                Ok(same_or(text, format!("{year:04}")))
            }
        }
        Kind::Decimal { size, unsigned } => decimal(dialect, *size, *unsigned, text),
        Kind::Float { bits, scale, unsigned } => float(reading, dialect, *bits, *scale, *unsigned, text),
        Kind::Bytes { limit, fixed } => {
            let digits = bytes::digits(text, reading == Reading::Bytes).ok_or(not)?;
            bytes::fit(digits, *limit, *fixed)?;
            Ok(bytes::written(text, digits, true))
        }
        Kind::Geometry => {
            let digits = bytes::digits(text, reading == Reading::Bytes).ok_or(not)?;
            Ok(Cow::Borrowed(digits))
        }
        Kind::Date | Kind::Timestamp(_) | Kind::Timestamptz(_) => stamp(reading, target, text),
        Kind::Time(precision) | Kind::Duration(precision) => {
            let clock = Clock::parse(text).ok_or(if reading == Reading::Interval {
                Unholdable::Months
            } else {
                not
            })?;
            clock.fraction_fits(*precision)?;
            if matches!(target.kind, Kind::Time(_)) {
                clock.of_day()?
            } else {
                clock.span()?
            }
            let mut out = String::with_capacity(17);
            clock.write(&mut out, dialect, *precision);
            Ok(same_or(text, out))
        }
        Kind::Interval { fraction, .. } => match reading {
            Reading::Interval => Ok(Cow::Borrowed(text)),
            Reading::Duration => {
                let clock = Clock::parse(text).ok_or(not)?;
                clock.fraction_fits(*fraction)?;
                let mut out = String::with_capacity(17);
                clock.write(&mut out, dialect, *fraction);
                Ok(same_or(text, out))
            }
            _ => fractions(text, *fraction as usize).map(|()| Cow::Borrowed(text)),
        },
        Kind::Timetz(precision) => {
            fractions(text, *precision as usize)?;
            let has_zone = text.get(8..).is_some_and(|rest| rest.contains(['+', '-']));
            if has_zone { Ok(Cow::Borrowed(text)) } else { Err(Unholdable::NoZone) }
        }
        Kind::Uuid => uuid(text),
        Kind::Json { verbatim } => {
            nul(dialect, text)?;
            json::check(text, (!verbatim).then_some(dialect))?;
            Ok(Cow::Borrowed(text))
        }
        Kind::Bit { length, varying } => {
            if !text.bytes().all(|b| matches!(b, b'0' | b'1')) {
                return Err(not);
            }
            match length {
                Some(length) if text.len() > *length as usize => Err(Unholdable::Length),
                Some(length) if !varying && text.len() < *length as usize => Err(Unholdable::Filled),
                _ => Ok(Cow::Borrowed(text)),
            }
        }
        // The labels of a type that the target's catalog does not list: the server knows them.
        Kind::Enum(labels) if labels.is_empty() => Ok(Cow::Borrowed(text)),
        Kind::Enum(labels) => {
            if labels.iter().any(|label| label == text) {
                Ok(Cow::Borrowed(text))
            } else {
                Err(Unholdable::Label)
            }
        }
        Kind::Set(labels) => set(labels, text),
        Kind::Array(element) => array(reading, element, text),
        Kind::Inet { version, masks } => {
            let fits = (*masks || !text.contains('/'))
                && match version {
                    4 => !text.contains(':'),
                    6 => text.contains(':'),
                    _ => true,
                };
            if fits { nul(dialect, text).map(|()| Cow::Borrowed(text)) } else { Err(Unholdable::Address) }
        }
        Kind::Vector => vector(reading, text),
        Kind::Range | Kind::Other => nul(dialect, text).map(|()| Cow::Borrowed(text)),
        Kind::Dynamic(_) => Err(not),
    }
}

fn nul(dialect: Dialect, text: &str) -> Result<(), Unholdable> {
    if dialect == Dialect::Postgres && text.contains('\0') { Err(Unholdable::Nul) } else { Ok(()) }
}

fn special(text: &str) -> Option<Unholdable> {
    match text {
        "NaN" => Some(Unholdable::NotANumber),
        "Infinity" | "-Infinity" => Some(Unholdable::Infinite),
        _ => None,
    }
}

fn integer(reading: Reading, (least, most): (i128, i128), text: &str) -> Result<Cow<'_, str>, Unholdable> {
    let (number, made) = match (reading, text) {
        (Reading::Bool, "t") => (1, Cow::Borrowed("1")),
        (Reading::Bool, "f") => (0, Cow::Borrowed("0")),
        (Reading::Integer, _) => (text.parse().map_err(|_| Unholdable::NotOfType)?, Cow::Borrowed(text)),
        _ => {
            if let Some(unholdable) = special(text) {
                return Err(unholdable);
            }
            if text == "-0" && reading.is_float() {
                return Err(Unholdable::NegativeZero);
            }
            let number = Decimal::parse(text).ok_or(Unholdable::NotOfType)?.integer()?;
            (number, same_or(text, number.to_string()))
        }
    };
    if (least..=most).contains(&number) { Ok(made) } else { Err(Unholdable::Range) }
}

fn decimal(
    dialect: Dialect,
    size: Option<(u32, i32)>,
    unsigned: bool,
    text: &str,
) -> Result<Cow<'_, str>, Unholdable> {
    match special(text) {
        None => {}
        // `numeric(p,s)` has a NaN too, but no infinity.
        Some(Unholdable::NotANumber) if dialect == Dialect::Postgres => return Ok(Cow::Borrowed(text)),
        Some(_) if dialect == Dialect::Postgres && size.is_none() => return Ok(Cow::Borrowed(text)),
        Some(unholdable) => return Err(unholdable),
    }
    let number = Decimal::parse(text).ok_or(Unholdable::NotOfType)?;
    if unsigned && number.is_negative() {
        return Err(Unholdable::Range);
    }
    if number.is_zero() && text.starts_with('-') {
        return Err(Unholdable::NegativeZero);
    }
    if let Some((precision, scale)) = size {
        number.fits(precision, scale)?;
    }
    Ok(same_or(text, number.text(size.map(|(_, scale)| scale))))
}

fn float(
    reading: Reading,
    dialect: Dialect,
    bits: u32,
    scale: Option<u32>,
    unsigned: bool,
    text: &str,
) -> Result<Cow<'_, str>, Unholdable> {
    let value = double(text).ok_or(if Decimal::parse(text).is_some() {
        Unholdable::Range
    } else {
        Unholdable::NotOfType
    })?;
    if dialect == Dialect::Mysql && !value.is_finite() {
        return Err(special(text).unwrap_or(Unholdable::Range));
    }
    if unsigned && value < 0.0 {
        return Err(Unholdable::Range);
    }
    let value = match bits {
        // PostgreSQL's digits need not be the fewest ones.
        32 if reading == Reading::Single => f64::from(value as f32),
        32 => f64::from(narrow(value)?),
        _ => value,
    };
    let made = float_text(value, bits);
    if let Some(written) = Decimal::parse(text)
        && !reading.is_float()
    {
        // Of texts and integers the float must be the very number.
        let kept = Decimal::parse(&made).ok_or(Unholdable::Inexact)?;
        if !kept.equals(&written) {
            return Err(Unholdable::Inexact);
        }
    }
    if let (Some(scale), Some(number)) = (scale, Decimal::parse(&made)) {
        number.fits(400, i32::try_from(scale).unwrap_or(0))?;
    }
    Ok(same_or(text, made))
}

fn stamp<'a>(reading: Reading, target: &ColumnType, text: &'a str) -> Result<Cow<'a, str>, Unholdable> {
    let dialect = target.dialect;
    let stamp = match Stamp::parse(text).ok_or(Unholdable::NotOfType)? {
        Stamp::Infinite { .. } if dialect == Dialect::Mysql => return Err(Unholdable::Infinite),
        Stamp::Infinite { .. } => return Ok(Cow::Borrowed(text)),
        Stamp::Finite(stamp) => stamp,
    };
    stamp.check(dialect)?;
    let zoned =
        matches!(target.kind, Kind::Timestamptz(_)) || matches!(reading, Reading::Timestamptz | Reading::Utc);
    match stamp.zone {
        Some(_) if zoned && !stamp.is_utc() => return Err(Unholdable::Offset),
        None if zoned && reading != Reading::Utc => return Err(Unholdable::NoZone),
        Some(_) if !zoned => return Err(Unholdable::NotOfType),
        _ => {}
    }
    let (clock, zone) = match target.kind {
        Kind::Timestamp(precision) => (Some(precision), ""),
        Kind::Timestamptz(precision) => (Some(precision), "+00"),
        _ => (None, ""),
    };
    match (clock, stamp.clock) {
        (None, Some(_)) => return Err(Unholdable::NotOfType),
        (Some(precision), Some(time)) => time.fraction_fits(precision)?,
        _ => {}
    }
    if dialect == Dialect::Mysql && clock.is_some() && zone == "+00" && stamp.beyond_timestamp() {
        return Err(Unholdable::Range);
    }
    Ok(same_or(text, stamp.text(dialect, clock, zone)))
}

/// No fraction in the text has more digits than the server keeps.
fn fractions(text: &str, most: usize) -> Result<(), Unholdable> {
    if text.contains('\0') {
        return Err(Unholdable::Nul);
    }
    let over = text.split('.').skip(1).any(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.trim_end_matches('0').len() > most
    });
    if over { Err(Unholdable::Fraction) } else { Ok(()) }
}

/// Lower case with hyphens, as every server prints it.
fn uuid(text: &str) -> Result<Cow<'_, str>, Unholdable> {
    let hyphens = [8, 13, 18, 23];
    let fits = text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| {
            if hyphens.contains(&at) { b == b'-' } else { b.is_ascii_digit() || (b'a'..=b'f').contains(&b) }
        });
    if fits { Ok(Cow::Borrowed(text)) } else { Err(Unholdable::NotOfType) }
}

/// Labels in the order of the definition, each once.
fn set<'a>(labels: &[String], text: &'a str) -> Result<Cow<'a, str>, Unholdable> {
    if text.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let mut next = 0;
    for label in text.split(',') {
        let at = labels.iter().position(|known| known == label).ok_or(Unholdable::Label)?;
        if at < next {
            return Err(Unholdable::NotOfType);
        }
        next = at + 1;
    }
    Ok(Cow::Borrowed(text))
}

fn array<'a>(reading: Reading, element: &str, text: &'a str) -> Result<Cow<'a, str>, Unholdable> {
    match reading {
        Reading::Array => return Ok(Cow::Borrowed(text)),
        Reading::Vector => {
            let list = text
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .ok_or(Unholdable::NotOfType)?;
            return Ok(Cow::Owned(format!("{{{list}}}")));
        }
        Reading::Labels => {
            let quoted = |label: &str| format!("\"{}\"", label.replace('\\', "\\\\").replace('"', "\\\""));
            let plain = |label: &str| {
                !label.is_empty()
                    && !label.eq_ignore_ascii_case("null")
                    && !label.contains(|c: char| {
                        c.is_whitespace() || matches!(c, '{' | '}' | '"' | '\\' | '\u{b}')
                    })
            };
            if text.is_empty() {
                return Ok(Cow::Borrowed("{}"));
            }
            let list: Vec<_> = text
                .split(',')
                .map(|label| if plain(label) { label.to_owned() } else { quoted(label) })
                .collect();
            return nul(Dialect::Postgres, text).map(|()| Cow::Owned(format!("{{{}}}", list.join(","))));
        }
        _ => {}
    }
    nul(Dialect::Postgres, text)?;
    let bits = match element {
        "real" => Some(32),
        "double precision" => Some(64),
        _ => None,
    };
    if let Some(bits) = bits {
        let list = text.split_once('=').map_or(text, |(_, list)| list);
        for token in list.split(['{', '}', ',']).filter(|token| !token.is_empty() && *token != "NULL") {
            float(Reading::Text, Dialect::Postgres, bits, None, false, token)?;
        }
    } else if element.starts_with("time") || element.starts_with("interval") {
        fractions(text, 6)?;
    } else if CARELESS.contains(&element) || element == "name" {
        return Err(Unholdable::NotOfType);
    }
    Ok(Cow::Borrowed(text))
}

fn vector(reading: Reading, text: &str) -> Result<Cow<'_, str>, Unholdable> {
    let (open, close) = if reading == Reading::Array { ('{', '}') } else { ('[', ']') };
    let list =
        text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).ok_or(Unholdable::NotOfType)?;
    for token in list.split(',') {
        float(Reading::Text, Dialect::Mysql, 32, None, false, token)?;
    }
    Ok(same_or(text, format!("[{list}]")))
}
