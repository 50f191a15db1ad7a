//! Values of row images as canonical texts (docs/types.md).
//!
//! Sources of the binary forms: MySQL `mysys/my_time.cc`, `strings/decimal.cc`, `sql/field.cc`; MariaDB `sql/field.cc`,
//! `sql/field_comp.cc`, `sql/sql_type_fixedbin.h`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use super::bytes::{Broken, Bytes};
use super::{json, table_map::kind};

/// How a column's bytes become text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decode {
    /// Bytes of the number.
    Signed(usize),
    Unsigned(usize),
    Decimal(u8, u8),
    Float,
    Double,
    /// Bits.
    Bit(usize),
    Year,
    Date,
    /// Digits of the second's fraction.
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    /// The forms before MySQL 5.6, without a fraction.
    OldTime,
    OldDateTime,
    OldTimestamp,
    /// Bytes of the length; whether the bytes are compressed; without trailing spaces.
    Text {
        length: usize,
        charset: Charset,
        compressed: bool,
        trim: bool,
    },
    /// Bytes of the length; filled up with zeros to this many; compressed.
    Binary {
        length: usize,
        fill: usize,
        compressed: bool,
    },
    Enum {
        width: usize,
        labels: Vec<String>,
    },
    Set {
        width: usize,
        labels: Vec<String>,
    },
    Json {
        length: usize,
    },
    Geometry {
        length: usize,
    },
    Vector {
        length: usize,
    },
    Uuid,
    Inet4,
    Inet6,
}

/// How text becomes UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Charset {
    /// It is UTF-8 already (utf8mb4, utf8mb3, ascii).
    Utf8,
    /// MySQL's latin1: cp1252, where the five bytes that it leaves out stand for themselves.
    Latin1,
    /// Any other: the server converts.
    Foreign(Arc<str>),
}

impl Charset {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Self::Utf8,
            "latin1" => Self::Latin1,
            other => Self::Foreign(Arc::from(other)),
        }
    }
}

/// Texts that the server has converted, and those that it must still convert.
#[derive(Debug, Default)]
pub(super) struct Converted {
    texts: HashMap<(Arc<str>, Vec<u8>), String>,
    bytes: usize,
    pub missing: Vec<(Arc<str>, Vec<u8>)>,
}

/// Bytes of converted texts that are kept; one event may go beyond.
const CONVERTED_BYTES: usize = 4 << 20;

impl Converted {
    pub(super) fn add(&mut self, charset: Arc<str>, bytes: Vec<u8>, text: String) {
        self.bytes += bytes.len() + text.len();
        self.texts.insert((charset, bytes), text);
    }

    /// Forgets everything once it is much; called between two events.
    pub(super) fn trim(&mut self) {
        if self.bytes > CONVERTED_BYTES {
            *self = Self::default();
        }
    }

    fn text(&mut self, charset: &Arc<str>, bytes: &[u8], out: &mut String) {
        if bytes.is_empty() {
            return;
        }
        let key = (Arc::clone(charset), bytes.to_vec());
        match self.texts.get(&key) {
            Some(text) => out.push_str(text),
            None if self.missing.contains(&key) => {}
            None => self.missing.push(key),
        }
    }
}

const DATE_BROKEN: Broken = Broken("a date is out of range");

impl Decode {
    /// Whether the server must convert it.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self, Self::Text { charset: Charset::Foreign(_), .. })
    }

    /// Appends the canonical text of the next value.
    pub(super) fn value(
        &self,
        bytes: &mut Bytes<'_>,
        out: &mut String,
        converted: &mut Converted,
    ) -> Result<(), Broken> {
        match self {
            Self::Signed(width) => {
                let shift = 64 - 8 * *width as u32;
                let number = (bytes.uint(*width)? << shift) as i64 >> shift;
                signed(number, out);
            }
            Self::Unsigned(width) => unsigned(bytes.uint(*width)?, out),
            Self::Decimal(precision, scale) => decimal(bytes, *precision, *scale, out)?,
            Self::Float => float(f32::from_bits(bytes.u32()?), out),
            Self::Double => double(f64::from_bits(bytes.u64()?), out),
            Self::Bit(bits) => {
                let number = bytes.uint_be(bits.div_ceil(8))?;
                (0..*bits).rev().for_each(|bit| out.push(if number >> bit & 1 == 1 { '1' } else { '0' }));
            }
            Self::Year => match bytes.u8()? {
                0 => out.push_str("0000"),
                year => unsigned(1900 + u64::from(year), out),
            },
            Self::Date => {
                let date = bytes.uint(3)?;
                year_month_day(date >> 9, date >> 5 & 15, date & 31, out);
            }
            Self::Time(digits) => time(bytes, *digits, out)?,
            Self::DateTime(digits) => {
                let packed = bytes.uint_be(5)? as i64 - 0x80_0000_0000;
                if packed < 0 {
                    return Err(DATE_BROKEN);
                }
                let fraction_value = fraction_of(bytes, *digits)?;
                packed_date(packed >> 17, out);
                out.push(' ');
                packed_clock(packed, out);
                fraction(fraction_value, *digits, out);
            }
            Self::Timestamp(digits) => {
                let seconds = bytes.uint_be(4)?;
                let fraction_value = fraction_of(bytes, *digits)?;
                timestamp(seconds, fraction_value, *digits, out);
            }
            Self::OldTime => {
                let packed = (bytes.uint(3)? << 40) as i64 >> 40;
                if packed < 0 {
                    out.push('-');
                }
                let packed = packed.unsigned_abs();
                clock(packed / 10_000, packed / 100 % 100, packed % 100, out);
            }
            Self::OldDateTime => {
                let packed = bytes.u64()?;
                let (date, time) = (packed / 1_000_000, packed % 1_000_000);
                year_month_day(date / 10_000, date / 100 % 100, date % 100, out);
                out.push(' ');
                clock(time / 10_000, time / 100 % 100, time % 100, out);
            }
            Self::OldTimestamp => timestamp(u64::from(bytes.u32()?), 0, 0, out),
            Self::Text { length, charset, compressed, trim } => {
                let text = bytes_of(bytes, *length)?;
                let start = out.len();
                if *compressed {
                    self::text(&uncompressed(text)?, charset, out, converted)?;
                } else {
                    self::text(text, charset, out, converted)?;
                }
                if *trim {
                    let end = start + out[start..].trim_end_matches(' ').len();
                    out.truncate(end);
                }
            }
            Self::Binary { length, fill, compressed } => {
                let data = bytes_of(bytes, *length)?;
                out.push_str("\\x");
                let length = if *compressed {
                    let data = uncompressed(data)?;
                    hex(&data, out);
                    data.len()
                } else {
                    hex(data, out);
                    data.len()
                };
                (length..*fill).for_each(|_| out.push_str("00"));
            }
            Self::Enum { width, labels } => match bytes.uint(*width)? as usize {
                0 => {}
                index => out.push_str(labels.get(index - 1).ok_or(Broken("a label is not known"))?),
            },
            Self::Set { width, labels } => {
                let bits = bytes.uint(*width)?;
                // A SET has 64 labels at most, which a damaged table map does not know.
                if labels.len() > 64 || bits.checked_shr(labels.len() as u32).unwrap_or(0) != 0 {
                    return Err(Broken("a label is not known"));
                }
                let mut first = true;
                for (_, label) in labels.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1) {
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    out.push_str(label);
                }
            }
            Self::Json { length } => json::print(bytes_of(bytes, *length)?, out)?,
            Self::Geometry { length } => geometry(bytes_of(bytes, *length)?, out)?,
            Self::Vector { length } => vector(bytes_of(bytes, *length)?, out)?,
            Self::Uuid => uuid(&filled::<16>(bytes_of(bytes, 1)?)?, out),
            Self::Inet4 => {
                let _ = write!(out, "{}", std::net::Ipv4Addr::from(filled::<4>(bytes_of(bytes, 1)?)?));
            }
            Self::Inet6 => inet6(filled::<16>(bytes_of(bytes, 1)?)?, out),
        }
        Ok(())
    }
}

fn bytes_of<'a>(bytes: &mut Bytes<'a>, length: usize) -> Result<&'a [u8], Broken> {
    let count = usize::try_from(bytes.uint(length)?).map_err(|_| Broken("a value is too long"))?;
    bytes.take(count)
}

/// The log leaves out zero bytes at the end.
fn filled<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Broken> {
    let mut filled = [0; N];
    filled.get_mut(..bytes.len()).ok_or(Broken("a value is too long"))?.copy_from_slice(bytes);
    Ok(filled)
}

fn unsigned(number: u64, out: &mut String) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| *digit as char));
}

fn signed(number: i64, out: &mut String) {
    if number < 0 {
        out.push('-');
    }
    unsigned(number.unsigned_abs(), out);
}

/// A number with at least this many digits.
fn padded(number: u64, width: usize, out: &mut String) {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    (digits..width).for_each(|_| out.push('0'));
    unsigned(number, out);
}

/// Bytes that hold 0 to 9 decimal digits.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Groups of nine digits as big-endian integers, the first and the last one shorter; the first bit is inverted, and all bits
/// of a negative number.
pub(super) fn decimal(
    bytes: &mut Bytes<'_>,
    precision: u8,
    scale: u8,
    out: &mut String,
) -> Result<(), Broken> {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let whole = precision.checked_sub(scale).ok_or(Broken("a decimal has more scale than digits"))?;
    let width = whole / 9 * 4 + DIGIT_BYTES[whole % 9] + scale / 9 * 4 + DIGIT_BYTES[scale % 9];
    let mut raw = [0u8; 64];
    let raw = raw.get_mut(..width).filter(|raw| !raw.is_empty()).ok_or(Broken("a decimal is too wide"))?;
    raw.copy_from_slice(bytes.take(width)?);
    let negative = raw[0] & 0x80 == 0;
    raw[0] ^= 0x80;
    if negative {
        raw.iter_mut().for_each(|byte| *byte = !*byte);
        out.push('-');
    }
    let mut groups = Bytes(raw);
    let mut started = false;
    for digits in std::iter::once(whole % 9).chain(std::iter::repeat_n(9, whole / 9)) {
        let group = groups.uint_be(DIGIT_BYTES[digits])?;
        if started {
            padded(group, digits, out);
        } else if group != 0 {
            unsigned(group, out);
            started = true;
        }
    }
    if !started {
        out.push('0');
    }
    if scale > 0 {
        out.push('.');
        for digits in std::iter::repeat_n(9, scale / 9).chain(std::iter::once(scale % 9)) {
            let group = groups.uint_be(DIGIT_BYTES[digits])?;
            if digits > 0 {
                padded(group, digits, out);
            }
        }
    }
    Ok(())
}

/// Sign, digits and the place of the point among them, of a number as `{:e}` prints it.
pub(super) fn shortest(text: &str) -> (bool, String, i32) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    (negative, digits, exponent.parse::<i32>().unwrap_or(0) + 1)
}

pub(crate) fn float(number: f32, out: &mut String) {
    postgres_float(&format!("{number:e}"), 6, out);
}

pub(crate) fn double(number: f64, out: &mut String) {
    postgres_float(&format!("{number:e}"), 15, out);
}

/// As PostgreSQL prints: plain for decimal exponents from -4 and below `limit`, else with an exponent of at least two digits.
fn postgres_float(text: &str, limit: i32, out: &mut String) {
    let (negative, digits, point) = shortest(text);
    if digits.is_empty() {
        // Neither server stores these.
        out.push_str(text);
        return;
    }
    if negative {
        out.push('-');
    }
    let exponent = point - 1;
    let count = digits.len() as i32;
    if digits == "0" {
        out.push('0');
    } else if !(-4..limit).contains(&exponent) {
        out.push_str(&digits[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    } else if point <= 0 {
        out.push_str("0.");
        (point..0).for_each(|_| out.push('0'));
        out.push_str(&digits);
    } else if count <= point {
        out.push_str(&digits);
        (count..point).for_each(|_| out.push('0'));
    } else {
        out.push_str(&digits[..point as usize]);
        out.push('.');
        out.push_str(&digits[point as usize..]);
    }
}

fn year_month_day(year: u64, month: u64, day: u64, out: &mut String) {
    padded(year, 4, out);
    out.push('-');
    padded(month, 2, out);
    out.push('-');
    padded(day, 2, out);
}

fn clock(hour: u64, minute: u64, second: u64, out: &mut String) {
    padded(hour, 2, out);
    out.push(':');
    padded(minute, 2, out);
    out.push(':');
    padded(second, 2, out);
}

/// `(year * 13 + month) << 5 | day`
pub(super) fn packed_date(packed: i64, out: &mut String) {
    let packed = packed as u64;
    let months = packed >> 5;
    year_month_day(months / 13, months % 13, packed & 31, out);
}

/// `hour << 12 | minute << 6 | second` in the low 17 bits.
pub(super) fn packed_clock(packed: i64, out: &mut String) {
    let packed = packed as u64;
    clock(packed >> 12 & 31, packed >> 6 & 63, packed & 63, out);
}

/// Microseconds, as this many digits behind a point.
pub(super) fn fraction(microseconds: u32, digits: u8, out: &mut String) {
    if digits == 0 {
        return;
    }
    let digits = u32::from(digits.min(6));
    out.push('.');
    padded(u64::from(microseconds / 10u32.pow(6 - digits)), digits as usize, out);
}

/// A fraction takes a byte for each two digits, big-endian.
fn fraction_of(bytes: &mut Bytes<'_>, digits: u8) -> Result<u32, Broken> {
    let width = digits.div_ceil(2);
    let factor = match width {
        0 => return Ok(0),
        1 => 10_000,
        2 => 100,
        3 => 1,
        _ => return Err(Broken("a time has more than six digits of a second")),
    };
    Ok(bytes.uint_be(usize::from(width))? as u32 * factor)
}

/// Hours, minutes and seconds in 24 bits that are offset by 0x800000; a negative time with a fraction borrows.
fn time(bytes: &mut Bytes<'_>, digits: u8, out: &mut String) -> Result<(), Broken> {
    let width = usize::from(digits.div_ceil(2));
    if width > 3 {
        return Err(Broken("a time has more than six digits of a second"));
    }
    let bits = 8 * (3 + width) as u32;
    let raw = bytes.uint_be(3 + width)? as i64 - (1 << (bits - 1));
    let magnitude = raw.unsigned_abs();
    let below = 8 * width as u32;
    let factor = [1, 10_000, 100, 1][width];
    let packed = (magnitude >> below << 24) + (magnitude & ((1 << below) - 1)) * factor;
    packed_time(if raw < 0 { -(packed as i64) } else { packed as i64 }, digits, out);
    Ok(())
}

/// `hour << 12 | minute << 6 | second`, above 24 bits of microseconds; negative as a whole.
pub(super) fn packed_time(packed: i64, digits: u8, out: &mut String) {
    if packed < 0 {
        out.push('-');
    }
    let packed = packed.unsigned_abs();
    let whole = packed >> 24;
    clock(whole >> 12 & 1023, whole >> 6 & 63, whole & 63, out);
    fraction((packed & 0xff_ffff) as u32, digits, out);
}

fn timestamp(seconds: u64, microseconds: u32, digits: u8, out: &mut String) {
    if seconds == 0 && microseconds == 0 {
        out.push_str("0000-00-00 00:00:00");
    } else {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        year_month_day(year, month, day, out);
        out.push(' ');
        clock(rest / 3600, rest / 60 % 60, rest % 60, out);
    }
    fraction(microseconds, digits, out);
    out.push_str("+00");
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

pub(crate) fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

/// What cp1252 has from 0x80 to 0x9f; the five that it leaves out stand for themselves in MySQL's latin1.
const CP1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}',
    '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}',
    '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}',
    '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// MySQL's latin1 as text.
pub(super) fn latin1(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().map(|byte| match byte {
        0x80..=0x9f => CP1252[usize::from(byte - 0x80)],
        byte => *byte as char,
    }));
}

fn text(bytes: &[u8], charset: &Charset, out: &mut String, converted: &mut Converted) -> Result<(), Broken> {
    match charset {
        Charset::Utf8 => {
            out.push_str(
                std::str::from_utf8(bytes).map_err(|_| Broken("a text is not valid in its charset"))?,
            );
        }
        Charset::Latin1 => latin1(bytes, out),
        Charset::Foreign(name) => converted.text(name, bytes, out),
    }
    Ok(())
}

/// A value of a MariaDB `COMPRESSED` column: 0 and the plain bytes, or `0x80 | raw << 3 | n`, the length in n bytes,
/// big-endian, and a zlib or raw deflate stream.
fn uncompressed(data: &[u8]) -> Result<Vec<u8>, Broken> {
    let Some((head, rest)) = data.split_first() else { return Ok(Vec::new()) };
    if *head == 0 {
        return Ok(rest.to_vec());
    }
    if head & 0xf0 != 0x80 {
        return Err(Broken("a value is compressed by a method that is not known"));
    }
    let mut bytes = Bytes(rest);
    let length = bytes.uint_be(usize::from(head & 7))?;
    if length > u64::from(u32::MAX) {
        return Err(Broken("a compressed value is longer than 4 GiB"));
    }
    let mut plain = Vec::new();
    let read = if head & 8 == 0 {
        flate2::read::ZlibDecoder::new(bytes.0).take(length + 1).read_to_end(&mut plain)
    } else {
        flate2::read::DeflateDecoder::new(bytes.0).take(length + 1).read_to_end(&mut plain)
    };
    if read.is_err() || plain.len() as u64 != length {
        return Err(Broken("a compressed value is damaged"));
    }
    Ok(plain)
}

/// SRID and WKB become EWKB: the SRID moves behind the type, which says so, unless it is 0. Hexadecimal digits in upper case,
/// as PostGIS prints them.
pub(crate) fn geometry(data: &[u8], out: &mut String) -> Result<(), Broken> {
    if data.is_empty() {
        // MySQL 5 let these in.
        return Ok(());
    }
    let mut bytes = Bytes(data);
    let srid = bytes.take(4)?;
    let start = out.len();
    if srid == [0; 4] {
        hex(bytes.0, out);
    } else {
        hex(bytes.take(1)?, out);
        let kind = bytes.u32()? | 0x2000_0000;
        hex(&kind.to_le_bytes(), out);
        hex(srid, out);
        hex(bytes.0, out);
    }
    out[start..].make_ascii_uppercase();
    Ok(())
}

pub(crate) fn vector(data: &[u8], out: &mut String) -> Result<(), Broken> {
    let mut bytes = Bytes(data);
    out.push('[');
    while !bytes.is_empty() {
        if bytes.0.len() < data.len() {
            out.push(',');
        }
        float(f32::from_bits(bytes.u32()?), out);
    }
    out.push(']');
    Ok(())
}

/// The log has a UUID's bytes in the order of its text, however tables and indexes keep them.
fn uuid(bytes: &[u8; 16], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        hex(&[*byte], out);
    }
}

/// As the server prints: the first longest run of zero groups is left out, be it one group; IPv4 in its mapped and compatible
/// forms.
fn inet6(bytes: [u8; 16], out: &mut String) {
    let groups: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let mut gap = (0, 0);
    for start in 0..groups.len() {
        let length = groups[start..].iter().take_while(|group| **group == 0).count();
        if length > gap.1 {
            gap = (start, length);
        }
    }
    let old = gap == (0, 6) || gap == (0, 5) && groups[5] == 0xffff;
    let mut at = 0;
    while at < groups.len() {
        if gap.1 > 0 && at == gap.0 {
            out.push_str("::");
            at += gap.1;
            continue;
        }
        if at > 0 && !out.ends_with(':') {
            out.push(':');
        }
        if old && at == 6 {
            let _ = write!(out, "{}", std::net::Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]));
            return;
        }
        let _ = write!(out, "{:x}", groups[at]);
        at += 1;
    }
}

/// Bytes of the length of a text of at most `longest` bytes.
pub(super) fn length_bytes(longest: u16) -> usize {
    if longest > 255 { 2 } else { 1 }
}

/// How a type without text, labels or a catalog's help is read.
pub(super) fn plain(code: u8, meta: u16, unsigned: bool) -> Option<Decode> {
    let integer = |width| if unsigned { Decode::Unsigned(width) } else { Decode::Signed(width) };
    Some(match code {
        kind::TINY => integer(1),
        kind::SHORT => integer(2),
        kind::INT24 => integer(3),
        kind::LONG => integer(4),
        kind::LONGLONG => integer(8),
        kind::NEWDECIMAL => Decode::Decimal((meta >> 8) as u8, meta as u8),
        kind::FLOAT => Decode::Float,
        kind::DOUBLE => Decode::Double,
        kind::BIT if (1..=64).contains(&meta) => Decode::Bit(usize::from(meta)),
        kind::YEAR => Decode::Year,
        kind::DATE | kind::NEWDATE => Decode::Date,
        kind::TIME2 => Decode::Time(meta as u8),
        kind::DATETIME2 => Decode::DateTime(meta as u8),
        kind::TIMESTAMP2 => Decode::Timestamp(meta as u8),
        kind::TIME => Decode::OldTime,
        kind::DATETIME => Decode::OldDateTime,
        kind::TIMESTAMP => Decode::OldTimestamp,
        kind::JSON => Decode::Json { length: usize::from(meta) },
        kind::GEOMETRY => Decode::Geometry { length: usize::from(meta) },
        kind::VECTOR => Decode::Vector { length: usize::from(meta) },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decode: &Decode, bytes: &[u8]) -> Result<String, Broken> {
        let mut out = String::new();
        let mut rest = Bytes(bytes);
        decode.value(&mut rest, &mut out, &mut Converted::default())?;
        assert!(rest.is_empty(), "{decode:?} left {} bytes", rest.0.len());
        Ok(out)
    }

    fn is(decode: Decode, bytes: &[u8], expected: &str) {
        assert_eq!(decoded(&decode, bytes).as_deref(), Ok(expected), "{decode:?} of {bytes:02x?}");
        for cut in 0..bytes.len() {
            let mut out = String::new();
            let _ = decode.value(&mut Bytes(&bytes[..cut]), &mut out, &mut Converted::default());
        }
    }

    #[test]
    fn integers_have_their_sign() {
        is(Decode::Signed(3), &[0xff, 0xff, 0xff], "-1");
        is(Decode::Signed(3), &[0, 0, 0x80], "-8388608");
        is(Decode::Unsigned(3), &[0xff, 0xff, 0xff], "16777215");
        is(Decode::Signed(8), &i64::MIN.to_le_bytes(), "-9223372036854775808");
        is(Decode::Unsigned(8), &[0xff; 8], "18446744073709551615");
        is(Decode::Bit(3), &[5], "101");
        is(Decode::Bit(64), &[0x80, 0, 0, 0, 0, 0, 0, 1], &format!("1{}1", "0".repeat(62)));
        is(Decode::Year, &[0], "0000");
        is(Decode::Year, &[255], "2155");
    }

    #[test]
    fn decimals_have_their_scale() {
        is(Decode::Decimal(4, 2), &[0x80, 0x32], "0.50");
        is(Decode::Decimal(4, 2), &[0x7f, 0xcd], "-0.50");
        is(Decode::Decimal(10, 0), &[0x80, 0, 0, 0, 7], "7");
        // 1234567890.1234 in DECIMAL(14,4)
        is(Decode::Decimal(14, 4), &[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], "1234567890.1234");
        is(Decode::Decimal(14, 4), &[0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d], "-1234567890.1234");
        assert!(decoded(&Decode::Decimal(2, 4), &[0; 8]).is_err());
    }

    #[test]
    fn floats_are_printed_as_postgres_does() {
        for (number, expected) in [
            (0.1f32, "0.1"),
            (1e20, "1e+20"),
            (-0.0, "-0"),
            (1e6, "1e+06"),
            (123456.0, "123456"),
            (1e-5, "1e-05"),
        ] {
            is(Decode::Float, &number.to_bits().to_le_bytes(), expected);
        }
        for (number, expected) in
            [(1e15f64, "1e+15"), (1e14, "100000000000000"), (0.0001, "0.0001"), (-1.5, "-1.5")]
        {
            is(Decode::Double, &number.to_bits().to_le_bytes(), expected);
        }
    }

    #[test]
    fn zero_invalid_and_extreme_times() {
        is(Decode::Date, &[0, 0, 0], "0000-00-00");
        is(Decode::Date, &((2024u32 << 9 | 10).to_le_bytes()[..3]), "2024-00-10");
        is(Decode::DateTime(0), &[0x80, 0, 0, 0, 0], "0000-00-00 00:00:00");
        is(
            Decode::DateTime(6),
            &[0xfe, 0xf3, 0xff, 0x7e, 0xfb, 0x0f, 0x42, 0x3f],
            "9999-12-31 23:59:59.999999",
        );
        is(Decode::Timestamp(0), &[0, 0, 0, 0], "0000-00-00 00:00:00+00");
        is(Decode::Timestamp(3), &[0x7f, 0xff, 0xff, 0xff, 0x27, 0x06], "2038-01-19 03:14:07.999+00");
        is(Decode::Timestamp(0), &[0x65, 0xe0, 0x77, 0xff], "2024-02-29 12:26:39+00");
        is(Decode::Time(0), &[0x4b, 0x91, 0x05], "-838:59:59");
        is(Decode::Time(0), &[0xb4, 0x6e, 0xfb], "838:59:59");
        is(Decode::Time(6), &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], "-00:00:00.000001");
        is(Decode::Time(2), &[0x7f, 0xff, 0xff, 0xff], "-00:00:00.01");
        is(Decode::OldTime, &[0xff, 0xff, 0xff], "-00:00:01");
        is(Decode::OldDateTime, &20240131235959u64.to_le_bytes(), "2024-01-31 23:59:59");
    }

    #[test]
    fn texts_and_bytes() {
        let text = |charset, trim| Decode::Text { length: 1, charset, compressed: false, trim };
        is(text(Charset::Latin1, false), &[3, 0x80, 0x81, 0xff], "\u{20ac}\u{81}\u{ff}");
        is(text(Charset::Utf8, true), &[3, b'a', b' ', b' '], "a");
        assert!(decoded(&text(Charset::Utf8, false), &[1, 0xff]).is_err());
        is(Decode::Binary { length: 1, fill: 4, compressed: false }, &[1, b'a'], "\\x61000000");
        is(Decode::Enum { width: 1, labels: vec!["x".into()] }, &[0], "");
        let labels: Vec<String> = (0..64).map(|at| at.to_string()).collect();
        is(Decode::Set { width: 8, labels: labels.clone() }, &[1, 0, 0, 0, 0, 0, 0, 0x80], "0,63");
        assert!(decoded(&Decode::Set { width: 1, labels: labels[..2].to_vec() }, &[4]).is_err());
        is(Decode::Vector { length: 4 }, &[8, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f], "[1,0.5]");
        let point = [1, 1, 0, 0, 0, 0xab];
        let plain = [&[10u8, 0, 0, 0, 0, 0, 0, 0][..], &point].concat();
        is(Decode::Geometry { length: 4 }, &plain, "0101000000AB");
        let placed = [&[10u8, 0, 0, 0, 0xe6, 0x10, 0, 0][..], &point].concat();
        is(Decode::Geometry { length: 4 }, &placed, "0101000020E6100000AB");
    }

    #[test]
    fn what_only_the_server_converts_is_asked_once() {
        let decode =
            Decode::Text { length: 1, charset: Charset::named("gbk"), compressed: false, trim: false };
        let mut converted = Converted::default();
        let mut out = String::new();
        for _ in 0..2 {
            decode.value(&mut Bytes(&[2, 0xc4, 0xe3]), &mut out, &mut converted).unwrap();
        }
        let missing = std::mem::take(&mut converted.missing);
        assert_eq!(missing.len(), 1);
        let (charset, bytes) = missing.into_iter().next().unwrap();
        converted.add(charset, bytes, "\u{4f60}".into());
        decode.value(&mut Bytes(&[2, 0xc4, 0xe3]), &mut out, &mut converted).unwrap();
        assert_eq!(out, "\u{4f60}");
    }
}
