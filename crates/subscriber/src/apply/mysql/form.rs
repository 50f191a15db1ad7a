//! What a column of the target keeps, and how a canonical text becomes a literal for it.
//!
//! Servers round, cut and pad in silence (MariaDB cuts fractions of a second, MySQL rounds them; trailing blanks beyond a
//! `VARCHAR`'s length go without a word), so every value is checked here before it is written.

use std::sync::Arc;

use mysql_async::Value;

use super::types::{Family, TypeName};

/// How long a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Chars(u32),
    /// Bytes of the column's own charset.
    Bytes(u64, CharWidth),
}

/// What a character takes in a charset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharWidth {
    Utf8,
    One,
    Two,
    Utf16,
    Four,
    /// East Asian charsets: at least one byte.
    Mixed,
}

impl CharWidth {
    fn of(charset: &str) -> Self {
        match charset {
            "utf8mb4" | "utf8mb3" | "utf8" => Self::Utf8,
            "ucs2" => Self::Two,
            "utf16" | "utf16le" => Self::Utf16,
            "utf32" => Self::Four,
            "big5" | "gbk" | "gb2312" | "gb18030" | "sjis" | "cp932" | "ujis" | "eucjpms" | "euckr" => {
                Self::Mixed
            }
            _ => Self::One,
        }
    }

    fn bytes(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            Self::One | Self::Mixed => text.chars().count(),
            Self::Two => 2 * text.chars().count(),
            Self::Utf16 => 2 * text.encode_utf16().count(),
            Self::Four => 4 * text.chars().count(),
        }
    }
}

/// What a target column keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Integer {
        min: i128,
        max: i128,
    },
    Decimal {
        precision: u32,
        scale: u32,
        unsigned: bool,
    },
    /// `single`: the text is the shortest one of a 32-bit float.
    /// `negative_zero`: it is kept; see [`Self::without_negative_zero`].
    Float {
        single: bool,
        scale: Option<u32>,
        unsigned: bool,
        negative_zero: bool,
    },
    Double {
        single: bool,
        scale: Option<u32>,
        unsigned: bool,
        negative_zero: bool,
    },
    Bit(u32),
    Year,
    Date,
    DateTime(u32),
    Timestamp(u32),
    Time(u32),
    /// `strips`: `CHAR` loses trailing blanks, and a key under a padding collation does not see them.
    Text {
        limit: Limit,
        strips: bool,
    },
    Bytes {
        max: u64,
        fixed: bool,
    },
    Enum(Arc<[String]>),
    Set(Arc<[String]>),
    /// MySQL's own type, compared as JSON.
    Json,
    /// The server reads the text and refuses what it is not.
    Plain,
    Geometry,
    Vector(u32),
}

/// What is peculiar about a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    None,
    /// The error value of an `ENUM`, which only a session without strict mode writes.
    EnumError,
}

impl Form {
    /// What a column keeps; `None` for types that are not known.
    pub(super) fn of(target: &TypeName, charset: Option<&str>) -> Option<Self> {
        let integer = |bits: u32| {
            if target.unsigned {
                Self::Integer { min: 0, max: (1_i128 << bits) - 1 }
            } else {
                Self::Integer { min: -(1_i128 << (bits - 1)), max: (1_i128 << (bits - 1)) - 1 }
            }
        };
        let bytes = |max: u64| Self::Bytes { max, fixed: false };
        let width = CharWidth::of(charset.unwrap_or("utf8mb4"));
        let long_text = |max: u64| Self::Text { limit: Limit::Bytes(max, width), strips: false };
        let scale = target.numbers.get(1).copied();
        let labels = || Arc::from(target.labels.as_slice());
        Some(match target.base.as_str() {
            "tinyint" => integer(8),
            "smallint" => integer(16),
            "mediumint" => integer(24),
            "int" | "integer" => integer(32),
            "bigint" => integer(64),
            "decimal" | "numeric" => Self::Decimal {
                precision: target.number(0, 10),
                scale: target.number(1, 0),
                unsigned: target.unsigned,
            },
            "float" if target.numbers.len() == 1 && target.number(0, 0) > 24 => {
                Self::Double { single: false, scale: None, unsigned: target.unsigned, negative_zero: true }
            }
            "float" => Self::Float { single: false, scale, unsigned: target.unsigned, negative_zero: true },
            "double" | "real" => {
                Self::Double { single: false, scale, unsigned: target.unsigned, negative_zero: true }
            }
            "bit" => Self::Bit(target.number(0, 1)),
            "year" => Self::Year,
            "date" => Self::Date,
            "datetime" => Self::DateTime(target.number(0, 0)),
            "timestamp" => Self::Timestamp(target.number(0, 0)),
            "time" => Self::Time(target.number(0, 0)),
            "char" => Self::Text { limit: Limit::Chars(target.number(0, 1)), strips: true },
            "varchar" => Self::Text { limit: Limit::Chars(target.number(0, 1)), strips: false },
            "tinytext" => long_text(u64::from(u8::MAX)),
            "text" => long_text(u64::from(u16::MAX)),
            "mediumtext" => long_text((1 << 24) - 1),
            "longtext" => long_text(u64::from(u32::MAX)),
            "binary" => Self::Bytes { max: u64::from(target.number(0, 1)), fixed: true },
            "varbinary" => bytes(u64::from(target.number(0, 1))),
            "tinyblob" => bytes(u64::from(u8::MAX)),
            "blob" => bytes(u64::from(u16::MAX)),
            "mediumblob" => bytes((1 << 24) - 1),
            "longblob" => bytes(u64::from(u32::MAX)),
            "enum" => Self::Enum(labels()),
            "set" => Self::Set(labels()),
            "json" => Self::Json,
            "vector" => Self::Vector(target.number(0, 2048)),
            _ => match target.family()? {
                Family::Geometry => Self::Geometry,
                _ => Self::Plain,
            },
        })
    }

    /// What a column keeps of a source's column; `None` if the texts of one mean something else in the other.
    pub(super) fn between(source: &TypeName, target: &TypeName, charset: Option<&str>) -> Option<Self> {
        use Family as F;
        let mut form = Self::of(target, charset)?;
        let (from, to) = (source.family()?, target.family()?);
        let fits = from == to && source.base == target.base
            || match to {
                F::Integer => matches!(from, F::Integer | F::Year),
                F::Decimal => matches!(from, F::Integer | F::Decimal),
                F::Float | F::Double => matches!(from, F::Float | F::Double | F::Integer),
                F::DateTime => matches!(from, F::Date | F::DateTime | F::Timestamp),
                F::Text => !matches!(from, F::Bytes | F::Geometry | F::Vector),
                F::Inet => false,
                _ => from == to,
            };
        match &mut form {
            Self::Float { single, .. } | Self::Double { single, .. } => *single = from == F::Float,
            // A CHAR of the source has lost its blanks already.
            Self::Text { strips, .. } if source.base == "char" => *strips = false,
            _ => {}
        }
        fits.then_some(form)
    }

    /// For a column of MariaDB, whose floats make 0 of a negative zero without a word.
    pub(super) fn without_negative_zero(&mut self) {
        if let Self::Float { negative_zero, .. } | Self::Double { negative_zero, .. } = self {
            *negative_zero = false;
        }
    }

    /// Appends the literal of a canonical text.
    ///
    /// # Errors
    /// What is wrong with the value. Nothing is appended that could be read as anything but one literal, even then.
    pub(super) fn literal(&self, text: &str, out: &mut Vec<u8>) -> Result<Note, &'static str> {
        match self {
            Self::Integer { min, max } => {
                let value: i128 = text.parse().map_err(|_| "the value is no integer")?;
                if value < *min || value > *max {
                    return Err("the value is out of range for the target's type");
                }
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Self::Decimal { precision, scale, unsigned } => {
                decimal(text, *precision, *scale, *unsigned)?;
                out.extend_from_slice(text.as_bytes());
            }
            Self::Float { single, scale, unsigned, negative_zero } => {
                let value = float(text, *single, *scale, *unsigned, *negative_zero)?;
                // Overflow to infinity shows here too.
                if f64::from(value as f32) != value {
                    return Err("the value is not exact in the target's type float");
                }
                push_float(value, out);
            }
            Self::Double { single, scale, unsigned, negative_zero } => {
                push_float(float(text, *single, *scale, *unsigned, *negative_zero)?, out);
            }
            Self::Bit(width) => {
                if text.len() != *width as usize || !text.bytes().all(|b| matches!(b, b'0' | b'1')) {
                    return Err("the value does not have as many bits as the target's column");
                }
                let value = u64::from_str_radix(text, 2).map_err(|_| "the value has more than 64 bits")?;
                out.extend_from_slice(value.to_string().as_bytes());
            }
            Self::Year => {
                let year: u32 = text.parse().map_err(|_| "the value is no year")?;
                if year != 0 && !(1901..=2155).contains(&year) {
                    return Err("the value is out of range for the target's type year");
                }
                out.extend_from_slice(year.to_string().as_bytes());
            }
            Self::Date => {
                if !is_date(text) {
                    return Err("the value is no date that MySQL can hold");
                }
                quote(text.as_bytes(), out);
            }
            Self::DateTime(digits) | Self::Timestamp(digits) => {
                let text = text.strip_suffix("+00").unwrap_or(text);
                let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
                if !is_date(date) || !is_time(time, 23) {
                    return Err("the value is no date and time that MySQL can hold");
                }
                fraction(time, *digits)?;
                quote(text.as_bytes(), out);
            }
            Self::Time(digits) => {
                if !is_time(text.strip_prefix('-').unwrap_or(text), 838) {
                    return Err("the value is out of range for the target's type time");
                }
                fraction(text, *digits)?;
                quote(text.as_bytes(), out);
            }
            Self::Text { limit, strips } => {
                let fits = match limit {
                    // Bytes are counted at once, characters are not.
                    Limit::Chars(max) => text.len() <= *max as usize || text.chars().count() <= *max as usize,
                    Limit::Bytes(max, width) => width.bytes(text) as u64 <= *max,
                };
                if !fits {
                    return Err("the value is longer than the target's type allows");
                }
                if *strips && text.ends_with(' ') {
                    return Err("the value ends with a blank, which does not count in the target's column");
                }
                quote(text.as_bytes(), out);
            }
            Self::Bytes { max, fixed } => {
                let bytes = text.strip_prefix("\\x").and_then(unhex).ok_or("the value is no binary value")?;
                if bytes.len() as u64 > *max {
                    return Err("the value is longer than the target's type allows");
                }
                if *fixed && (bytes.len() as u64) < *max {
                    return Err("the value is shorter than the target's type binary, which would fill it up");
                }
                push_bytes(&bytes, out);
            }
            Self::Enum(labels) => {
                if !labels.iter().any(|label| label == text) {
                    if !text.is_empty() {
                        return Err("the target's enum does not have the value's label");
                    }
                    out.extend_from_slice(b"''");
                    return Ok(Note::EnumError);
                }
                quote(text.as_bytes(), out);
            }
            Self::Set(labels) => {
                let mut rest = labels.iter();
                // In the order of the target's definition, else it would come out in another one.
                if !text.is_empty() && !text.split(',').all(|label| rest.any(|known| known == label)) {
                    return Err("the target's set does not have the value's labels in this order");
                }
                quote(text.as_bytes(), out);
            }
            Self::Json | Self::Plain => quote(text.as_bytes(), out),
            Self::Geometry => push_bytes(&geometry(text).ok_or("the value is no geometry")?, out),
            Self::Vector(dimensions) => {
                let bytes = vector(text).ok_or("the value is no vector of 32-bit floats")?;
                if bytes.len() / 4 > *dimensions as usize {
                    return Err("the value has more dimensions than the target's vector");
                }
                push_bytes(&bytes, out);
            }
        }
        Ok(Note::None)
    }

    /// Appends the literal of a value that a prepared statement has read from a column of this form.
    pub(super) fn literal_of(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::NULL => out.extend_from_slice(b"NULL"),
            Value::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Value::UInt(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Value::Float(value) => push_float(f64::from(*value), out),
            Value::Double(value) => push_float(*value, out),
            Value::Bytes(bytes) => match self {
                Self::Integer { .. } | Self::Decimal { .. } | Self::Year => out.extend_from_slice(bytes),
                Self::Bit(_) => {
                    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
                    out.extend_from_slice(value.to_string().as_bytes());
                }
                Self::Bytes { .. } | Self::Geometry | Self::Vector(_) => push_bytes(bytes, out),
                _ => quote(bytes, out),
            },
            Value::Date(year, month, day, hour, minute, second, micros) => {
                let text = match self {
                    Self::Date => format!("{year:04}-{month:02}-{day:02}"),
                    _ => {
                        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
                    }
                };
                quote(text.as_bytes(), out);
            }
            Value::Time(negative, days, hours, minutes, seconds, micros) => {
                let sign = if *negative { "-" } else { "" };
                let hours = days * 24 + u32::from(*hours);
                quote(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}").as_bytes(), out);
            }
        }
    }
}

fn float(
    text: &str,
    single: bool,
    scale: Option<u32>,
    unsigned: bool,
    negative_zero: bool,
) -> Result<f64, &'static str> {
    let parsed = if single { text.parse::<f32>().ok().map(f64::from) } else { text.parse::<f64>().ok() };
    let value =
        parsed.filter(|value| value.is_finite()).ok_or("the value is no number that MySQL can hold")?;
    // Integers of a source: beyond 2^53 not every one is a double.
    if text.parse::<i128>().is_ok_and(|integer| integer != value as i128) {
        return Err("the value is not exact in the target's floating-point type");
    }
    if unsigned && value < 0.0 {
        return Err("the value is negative, the target's type is unsigned");
    }
    if !negative_zero && value == 0.0 && value.is_sign_negative() {
        return Err("the value is a negative zero, of which MariaDB makes 0");
    }
    if let Some(scale) = scale {
        // FLOAT(M,D): rounded to D digits. What is shown with D digits and reads back as itself is kept.
        let shown = format!("{value:.0$}", scale as usize);
        let same = if single {
            shown.parse::<f32>().ok().map(f64::from) == Some(value)
        } else {
            shown.parse::<f64>().ok() == Some(value)
        };
        if !same {
            return Err("the value has more digits after the point than the target's type keeps");
        }
    }
    Ok(value)
}

/// A literal with an exponent is a double and read to the nearest one, which is the one that was printed.
fn push_float(value: f64, out: &mut Vec<u8>) {
    if value == 0.0 && value.is_sign_negative() {
        // The minus of a literal is an operator, and loses the sign of zero. That of a text is read with it.
        return quote(b"-0", out);
    }
    out.extend_from_slice(format!("{value:e}").as_bytes());
}

fn decimal(text: &str, precision: u32, scale: u32, unsigned: bool) -> Result<(), &'static str> {
    let digits = text.strip_prefix('-');
    let negative = digits.is_some();
    let digits = digits.unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(part) || digits.ends_with('.') {
        return Err("the value is no decimal number");
    }
    if part.trim_end_matches('0').len() > scale as usize {
        return Err("the value has more digits after the point than the target's type keeps");
    }
    if whole.trim_start_matches('0').len() > precision.saturating_sub(scale) as usize {
        return Err("the value is out of range for the target's type");
    }
    if unsigned && negative && digits.bytes().any(|b| matches!(b, b'1'..=b'9')) {
        return Err("the value is negative, the target's type is unsigned");
    }
    Ok(())
}

fn two(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [a, b] if a.is_ascii_digit() && b.is_ascii_digit() => {
            Some(u32::from(a - b'0') * 10 + u32::from(b - b'0'))
        }
        _ => None,
    }
}

/// `YYYY-MM-DD`; zeros and days that a month does not have are dates under `ALLOW_INVALID_DATES`.
fn is_date(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() == 10
        && b[..4].iter().all(u8::is_ascii_digit)
        && b[4] == b'-'
        && b[7] == b'-'
        && two(&b[5..7]).is_some_and(|month| month <= 12)
        && two(&b[8..]).is_some_and(|day| day <= 31)
}

/// `HH:MM:SS` with a fraction, hours up to `hours`.
fn is_time(text: &str, hours: u32) -> bool {
    let (clock, part) = text.split_once('.').map_or((text, None), |(clock, part)| (clock, Some(part)));
    let mut parts = clock.split(':');
    let hour = parts.next().filter(|h| (2..=3).contains(&h.len()) && h.bytes().all(|b| b.is_ascii_digit()));
    let below_60 =
        |part: Option<&str>| part.and_then(|text| two(text.as_bytes())).is_some_and(|value| value < 60);
    hour.and_then(|hour| hour.parse::<u32>().ok()).is_some_and(|hour| hour <= hours)
        && below_60(parts.next())
        && below_60(parts.next())
        && parts.next().is_none()
        && part.is_none_or(|part| {
            !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit())
        })
}

fn fraction(text: &str, digits: u32) -> Result<(), &'static str> {
    let part = text.split_once('.').map_or("", |(_, part)| part);
    if part.trim_end_matches('0').len() > digits as usize {
        return Err("the value has a finer fraction of a second than the target's type keeps");
    }
    Ok(())
}

/// A string literal under `NO_BACKSLASH_ESCAPES`: only the quote means something.
pub(super) fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'\'');
    let mut from = 0;
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\'') {
        out.extend_from_slice(&bytes[from..=at]);
        out.push(b'\'');
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'\'');
}

/// Bytes as they are: half the size of hexadecimal digits. The lexer of both servers steps over whole characters of the
/// connection's charset, and no byte of a UTF-8 sequence is a quote.
fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"_binary");
    quote(bytes, out);
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// EWKB to what both servers store: SRID in little-endian, then WKB in little-endian.
fn geometry(text: &str) -> Option<Vec<u8>> {
    /// PostGIS's flag for a SRID.
    const WITH_SRID: u32 = 0x2000_0000;
    let bytes = unhex(text)?;
    let (&1, rest) = bytes.split_first()? else { return None };
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let kind = u32::from_le_bytes(*kind);
    let (srid, rest) = if kind & WITH_SRID == 0 {
        ([0; 4], rest)
    } else {
        let (srid, rest) = rest.split_first_chunk::<4>()?;
        (*srid, rest)
    };
    let mut stored = srid.to_vec();
    stored.push(1);
    stored.extend_from_slice(&(kind & !WITH_SRID).to_le_bytes());
    stored.extend_from_slice(rest);
    Some(stored)
}

fn vector(text: &str) -> Option<Vec<u8>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut bytes = Vec::new();
    for number in inside.split(',') {
        let number: f32 = number.trim().parse().ok()?;
        bytes.extend_from_slice(&number.is_finite().then_some(number)?.to_le_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(target: &str) -> Form {
        Form::of(&TypeName::parse(target).unwrap(), None).unwrap()
    }

    fn literal(target: &str, text: &str) -> Result<String, &'static str> {
        let mut out = Vec::new();
        form(target).literal(text, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn values_become_literals_that_mean_the_same() {
        let same = |target: &str, text: &str| assert_eq!(literal(target, text).as_deref(), Ok(text));
        same("bigint unsigned", "18446744073709551615");
        same("bigint", "-9223372036854775808");
        same("decimal(5,2)", "-123.40");
        let is = |target: &str, text: &str, expected: &str| {
            assert_eq!(literal(target, text).as_deref(), Ok(expected), "{target} {text}");
        };
        is("double", "0.1", "1e-1");
        is("double", "-0", "'-0'");
        is("bit(4)", "0101", "5");
        is("year", "0000", "0");
        is("timestamp(3)", "2024-01-31 23:59:59.120+00", "'2024-01-31 23:59:59.120'");
        is("time", "-838:59:59", "'-838:59:59'");
        is("varchar(5)", "a'b\\", "'a''b\\'");
        is("varbinary(2)", "\\x6127", "_binary'a'''");
        is("set('a','b')", "a,b", "'a,b'");
        is("set('a','b')", "", "''");
    }

    #[test]
    fn what_would_be_changed_in_silence_is_refused() {
        for (target, text) in [
            ("tinyint", "128"),
            ("int unsigned", "-1"),
            ("decimal(5,2)", "1000.00"),
            ("decimal(5,2)", "1.001"),
            ("decimal(5,2)", "1e3"),
            ("decimal(5,2) unsigned", "-1"),
            ("float", "0.1e1000"),
            ("float", "16777217"),
            ("float(7,2)", "0.125"),
            ("double", "NaN"),
            ("double", "9007199254740993"),
            ("bit(4)", "101"),
            ("year", "1900"),
            ("date", "2024-13-01"),
            ("date", "12024-01-01"),
            ("datetime", "2024-01-31 23:59:59.1"),
            ("time(3)", "839:00:00"),
            ("time(3)", "00:00:00.1234"),
            ("varchar(2)", "äöü"),
            ("varchar(2)", "ab "),
            ("char(3)", "ab "),
            ("tinytext", &"x".repeat(256)),
            ("binary(2)", "\\x61"),
            ("binary(2)", "\\x616161"),
            ("blob", "61"),
            ("enum('a')", "A"),
            ("set('a','b')", "b,a"),
            ("set('a','b')", "a,a"),
            ("point", "0001"),
            ("vector(1)", "[1,2]"),
        ] {
            assert!(literal(target, text).is_err(), "{target} took {text}");
        }
        assert_eq!(form("enum('a')").literal("", &mut Vec::new()), Ok(Note::EnumError));
    }

    #[test]
    fn what_another_type_can_keep_is_known() {
        let between = |source: &str, target: &str| {
            let (source, target) = (TypeName::parse(source).unwrap(), TypeName::parse(target).unwrap());
            Form::between(&source, &target, None)
        };
        assert!(between("int(11)", "bigint").is_some());
        assert!(between("datetime", "date").is_none());
        assert!(between("varchar(5)", "varbinary(5)").is_none());
        assert!(between("blob", "longtext").is_none());
        assert!(between("datetime(6)", "timestamp(6)").is_none(), "one has a zone, the other has none");
        assert!(between("inet4", "inet6").is_none());
        // The text of a 32-bit float is not the text of the double that has its value.
        let mut out = Vec::new();
        between("float", "double").unwrap().literal("0.1", &mut out).unwrap();
        assert_eq!(out, b"1.0000000149011612e-1");
        assert_eq!(between("double", "float").unwrap().literal("0.1", &mut Vec::new()).ok(), None);
        assert!(between("char(3)", "char(5)").unwrap().literal("ab", &mut Vec::new()).is_ok());
    }

    #[test]
    fn a_negative_zero_is_refused_where_it_is_not_kept() {
        for target in ["float", "double", "float(30)", "double(9,2)", "int", "varchar(5)"] {
            let mut form = form(target);
            let kept = form.literal("-0", &mut Vec::new());
            form.without_negative_zero();
            let refused = form.literal("-0", &mut Vec::new());
            match target {
                "int" | "varchar(5)" => assert_eq!(refused, kept, "{target}"),
                _ => assert!(kept.is_ok() && refused.is_err_and(|e| e.contains("negative zero")), "{target}"),
            }
            assert!(form.literal("0", &mut Vec::new()).is_ok());
        }
    }

    proptest! {
        /// Whatever the text, the literal ends where it should: no text reaches beyond its quotes.
        #[test]
        fn no_text_escapes_its_literal(text in any::<String>(), kind in 0..22_usize) {
            let types = [
                "int", "decimal(65,30)", "float", "double", "bit(8)", "year", "date", "datetime(6)",
                "timestamp", "time", "char(9)", "varchar(99)", "longtext", "binary(3)", "longblob",
                "enum('a''b')", "set('x')", "json", "uuid", "inet6", "point", "vector(3)",
            ];
            let mut out = Vec::new();
            if form(types[kind]).literal(&text, &mut out).is_ok() {
                let body = out.strip_prefix(b"_binary").unwrap_or(&out);
                if let Some(inside) = body.strip_prefix(b"'") {
                    let inside = inside.strip_suffix(b"'").unwrap();
                    let quotes = inside.split(|b| *b != b'\'').filter(|run| !run.is_empty());
                    quotes.for_each(|run| assert_eq!(run.len() % 2, 0));
                } else {
                    assert!(body.iter().all(|b| b.is_ascii_digit() || b"+-.e".contains(b)), "{text:?}");
                }
            }
        }
    }
}
