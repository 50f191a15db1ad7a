//! MySQL's binary JSON, printed as the server prints it.
//!
//! Format: MySQL `sql-common/json_binary.h`. A value is a type byte and a body; objects and arrays hold counts, sizes and
//! offsets of 2 bytes (small) or 4 (large), and small values inline. Text: `sql-common/json_dom.cc` (`wrapper_to_string`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bytes::{Broken, Bytes, utf8};
use super::table_map::kind;
use super::value;

const MAX_DEPTH: u32 = 128;
const BROKEN: Broken = Broken("its JSON is damaged");

/// Appends the text of a JSON column's body.
pub(super) fn print(body: &[u8], out: &mut String) -> Result<(), Broken> {
    // What a column that was added without a default holds.
    let Some((kind, body)) = body.split_first() else {
        out.push_str("null");
        return Ok(());
    };
    // Every entry, key and text has bytes of its own. Without this bound, offsets that lead to one place many times would
    // make a few bytes a text without end.
    let mut left = body.len();
    element(*kind, body, out, 0, &mut left)
}

fn element(kind: u8, body: &[u8], out: &mut String, depth: u32, left: &mut usize) -> Result<(), Broken> {
    if depth > MAX_DEPTH {
        return Err(Broken("its JSON is nested too deeply"));
    }
    let mut bytes = Bytes(body);
    match kind {
        0 | 1 => container(body, true, kind == 1, out, depth, left),
        2 | 3 => container(body, false, kind == 3, out, depth, left),
        4 => literal(bytes.u8()?, out),
        5 => number(out, bytes.u16()? as i16),
        6 => number(out, bytes.u16()?),
        7 => number(out, bytes.u32()? as i32),
        8 => number(out, bytes.u32()?),
        9 => number(out, bytes.u64()? as i64),
        10 => number(out, bytes.u64()?),
        11 => {
            double(f64::from_bits(bytes.u64()?), out);
            Ok(())
        }
        12 => {
            let length = variable(&mut bytes)?;
            spend(left, length)?;
            quoted(utf8(bytes.take(length)?)?, out);
            Ok(())
        }
        15 => {
            let kind = bytes.u8()?;
            let length = variable(&mut bytes)?;
            spend(left, length)?;
            opaque(kind, bytes.take(length)?, out)
        }
        _ => Err(BROKEN),
    }
}

fn number(out: &mut String, number: impl std::fmt::Display) -> Result<(), Broken> {
    let _ = write!(out, "{number}");
    Ok(())
}

fn literal(code: u8, out: &mut String) -> Result<(), Broken> {
    out.push_str(match code {
        0 => "null",
        1 => "true",
        2 => "false",
        _ => return Err(BROKEN),
    });
    Ok(())
}

/// A length of seven bits per byte, low ones first.
fn variable(bytes: &mut Bytes<'_>) -> Result<usize, Broken> {
    let mut length = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = bytes.u8()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(BROKEN)
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Broken> {
    *left = left.checked_sub(bytes).ok_or(BROKEN)?;
    Ok(())
}

fn container(
    body: &[u8],
    object: bool,
    large: bool,
    out: &mut String,
    depth: u32,
    left: &mut usize,
) -> Result<(), Broken> {
    let width = if large { 4 } else { 2 };
    let mut head = Bytes(body);
    let count = head.uint(width)? as usize;
    let size = head.uint(width)? as usize;
    let body = body.get(..size).ok_or(BROKEN)?;
    let at = |offset: usize| body.get(offset..).ok_or(BROKEN);
    let keys_at = 2 * width;
    let key_size = if object { width + 2 } else { 0 };
    let values_at = count.checked_mul(key_size).and_then(|bytes| bytes.checked_add(keys_at)).ok_or(BROKEN)?;
    if count.checked_mul(width + 1).is_none_or(|bytes| bytes > body.len().saturating_sub(values_at)) {
        return Err(BROKEN);
    }
    spend(left, count * (key_size + width + 1))?;
    out.push(if object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            out.push_str(", ");
        }
        if object {
            let mut entry = Bytes(at(keys_at + index * key_size)?);
            let offset = entry.uint(width)? as usize;
            let length = usize::from(entry.u16()?);
            spend(left, length)?;
            quoted(utf8(at(offset)?.get(..length).ok_or(BROKEN)?)?, out);
            out.push_str(": ");
        }
        let entry = at(values_at + index * (width + 1))?;
        let kind = *entry.first().ok_or(BROKEN)?;
        let inlined = matches!(kind, 4..=6) || large && matches!(kind, 7 | 8);
        if inlined {
            element(kind, &entry[1..], out, depth + 1, left)?;
        } else {
            let offset = Bytes(&entry[1..]).uint(width)? as usize;
            element(kind, at(offset)?, out, depth + 1, left)?;
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c <= '\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Decimal exponents up to which the server writes digits out (`MAX_DECPT_FOR_F_FORMAT`).
const PLAIN: i32 = 15;

/// As `my_gcvt` prints: shortest digits, plain between 1e-15 and 1e15, with `.0` behind whole numbers.
fn double(number: f64, out: &mut String) {
    let (negative, digits, point) = value::shortest(&format!("{number:e}"));
    if negative {
        out.push('-');
    }
    let count = digits.len() as i32;
    if !(-PLAIN + 1..=PLAIN).contains(&point) && digits != "0" {
        out.push_str(&digits[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let _ = write!(out, "e{}", point - 1);
    } else if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(&digits);
    } else if count <= point {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', (point - count) as usize));
        out.push_str(".0");
    } else {
        out.push_str(&digits[..point as usize]);
        out.push('.');
        out.push_str(&digits[point as usize..]);
    }
}

fn opaque(field: u8, data: &[u8], out: &mut String) -> Result<(), Broken> {
    match field {
        kind::NEWDECIMAL => {
            let mut bytes = Bytes(data);
            let (precision, scale) = (bytes.u8()?, bytes.u8()?);
            value::decimal(&mut bytes, precision, scale, out)
        }
        kind::DATE | kind::DATETIME | kind::TIMESTAMP | kind::TIME => {
            let packed = Bytes(data).u64()? as i64;
            out.push('"');
            if field == kind::TIME {
                value::packed_time(packed, 6, out);
            } else {
                value::packed_date(packed >> 41, out);
                if field != kind::DATE {
                    out.push(' ');
                    value::packed_clock(packed >> 24, out);
                    value::fraction((packed & 0xff_ffff) as u32, 6, out);
                }
            }
            out.push('"');
            Ok(())
        }
        _ => {
            let _ = write!(out, "\"base64:type{field}:");
            // The server breaks the line every 76 characters, and escapes the break.
            let text = STANDARD.encode(data);
            for (at, line) in text.as_bytes().chunks(76).enumerate() {
                if at > 0 {
                    out.push_str("\\n");
                }
                out.push_str(utf8(line)?);
            }
            out.push('"');
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &[u8]) -> Result<String, Broken> {
        let mut out = String::new();
        print(body, &mut out).map(|()| out)
    }

    fn double_text(number: f64) -> String {
        let mut body = vec![11];
        body.extend(number.to_bits().to_le_bytes());
        text(&body).unwrap()
    }

    #[test]
    fn doubles_are_printed_as_the_server_does() {
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.5, "-0.5"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1.5e20, "1.5e20"),
            (1e-5, "0.00001"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (123456.789, "123456.789"),
            (1.7976931348623157e308, "1.7976931348623157e308"),
        ] {
            assert_eq!(double_text(number), expected);
        }
    }

    #[test]
    fn a_small_object_with_inlined_and_nested_values() {
        // {"a": 1, "bc": [true, "x\n"]}
        let array = [2, 0, 13, 0, 4, 1, 0, 12, 10, 0, 2, b'x', b'\n'];
        let mut object = vec![0, 2, 0, 34, 0];
        object.extend([18, 0, 1, 0, 19, 0, 2, 0]);
        object.extend([5, 1, 0, 2, 21, 0]);
        object.extend(*b"abc");
        object.extend(array);
        assert_eq!(text(&object).unwrap(), r#"{"a": 1, "bc": [true, "x\n"]}"#);
        for cut in 1..object.len() {
            assert!(text(&object[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(text(&[]).unwrap(), "null");
    }

    #[test]
    fn what_json_has_no_type_for_is_printed_as_the_server_does() {
        let mut decimal = vec![15, kind::NEWDECIMAL, 4, 3, 2, 0x81, 0x19];
        assert_eq!(text(&decimal).unwrap(), "1.25");
        decimal[2] = 9;
        assert!(text(&decimal).is_err());
        assert_eq!(text(&[15, kind::VARCHAR, 3, b'T', b'O', b'P']).unwrap(), "\"base64:type15:VE9Q\"");
        let packed: i64 = ((((2015 * 13 + 1) << 5 | 15) << 17 | 23 << 12 | 24 << 6 | 25) << 24) + 120_000;
        let mut datetime = vec![15, kind::DATETIME, 8];
        datetime.extend(packed.to_le_bytes());
        assert_eq!(text(&datetime).unwrap(), "\"2015-01-15 23:24:25.120000\"");
        datetime[1] = kind::DATE;
        assert_eq!(text(&datetime).unwrap(), "\"2015-01-15\"");
    }

    #[test]
    fn offsets_that_lead_to_one_place_are_refused() {
        // Arrays of two elements, both of which are the next array, 100 deep: 2^100 elements in a kilobyte.
        let mut body = vec![2];
        for _ in 0..100 {
            body.extend([2, 0, 232, 3, 2, 10, 0, 2, 10, 0]);
        }
        body.resize(1100, 0);
        assert!(text(&body).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 7u64;
        for _ in 0..20_000 {
            let body: Vec<u8> = (0..state % 40)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if state >> 60 < 8 { (state >> 33) as u8 % 16 } else { (state >> 33) as u8 }
                })
                .collect();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            let _ = text(&body);
        }
    }
}
