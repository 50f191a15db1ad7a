//! How a column is selected, and how its text becomes the canonical one (docs/types.md).
//!
//! Rows come through the text protocol, whose values are the server's own conversion to utf8mb4. What it prints otherwise
//! than the binary log's bytes are printed is put right here, with capture's own functions where there are any.

use rowbridge_schema::Column;
use rowbridge_schema::sql::backticked;

use crate::capture::mysql::value::{double, float, geometry, hex, vector};

/// What is done with the bytes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The text as it is.
    Text,
    /// A number without the zeros in front that ZEROFILL shows.
    Unfilled,
    /// A 32-bit float, selected as a double: the server prints a FLOAT with six digits.
    Float,
    /// A double; one with (M,D) is printed with D digits only, so it is selected as one without.
    Double,
    /// Big-endian bytes of this many bits.
    Bits(usize),
    /// A time of the session's zone, which is UTC.
    Utc,
    /// Bytes.
    Hex,
    /// SRID and WKB.
    Geometry,
    /// 32-bit floats.
    Vector,
}

/// The type's first word: `int(10) unsigned` is `int`.
pub(super) fn base(type_name: &str) -> &str {
    &type_name[..type_name.find(['(', ' ']).unwrap_or(type_name.len())]
}

impl Form {
    pub(super) fn of(column: &Column) -> Self {
        let type_name = column.type_name.as_str();
        match base(type_name) {
            "float" => Self::Float,
            "double" => Self::Double,
            "bit" => {
                let digits = type_name.strip_prefix("bit(").and_then(|rest| rest.strip_suffix(')'));
                Self::Bits(digits.and_then(|digits| digits.parse().ok()).unwrap_or(1))
            }
            "timestamp" => Self::Utc,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Hex,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Self::Geometry,
            "vector" => Self::Vector,
            _ if type_name.ends_with(" zerofill") => Self::Unfilled,
            _ => Self::Text,
        }
    }

    /// The column in a select list.
    pub(super) fn selected(self, column: &Column) -> String {
        let name = backticked(&column.name);
        match self {
            Self::Float | Self::Double => format!("CAST({name} AS DOUBLE)"),
            _ => name,
        }
    }

    /// Appends the canonical text of a value that is not NULL; the error says what is wrong with it.
    pub(super) fn write(self, bytes: &[u8], out: &mut String) -> Result<(), &'static str> {
        match self {
            Self::Text => out.push_str(text(bytes)?),
            Self::Unfilled => out.push_str(unfilled(text(bytes)?)),
            Self::Float => float(number(bytes)? as f32, out),
            Self::Double => double(number(bytes)?, out),
            Self::Bits(width) => {
                let all = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
                let bits = 8 * bytes.len();
                (bits..width).for_each(|_| out.push('0'));
                out.extend(all.skip(bits.saturating_sub(width)).map(|bit| if bit == 1 { '1' } else { '0' }));
            }
            Self::Utc => {
                out.push_str(text(bytes)?);
                out.push_str("+00");
            }
            Self::Hex => {
                out.reserve(2 + 2 * bytes.len());
                out.push_str("\\x");
                hex(bytes, out);
            }
            Self::Geometry => geometry(bytes, out).map_err(|broken| broken.0)?,
            Self::Vector => vector(bytes, out).map_err(|broken| broken.0)?,
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "it is not valid in its charset")
}

fn number(bytes: &[u8]) -> Result<f64, &'static str> {
    text(bytes)?.parse().map_err(|_| "it is no number")
}

/// `0007.50` is `7.50`. ZEROFILL makes a column unsigned.
fn unfilled(text: &str) -> &str {
    let whole = text.find('.').unwrap_or(text.len());
    let zeros = text[..whole.saturating_sub(1)].bytes().take_while(|byte| *byte == b'0').count();
    &text[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(type_name: &str) -> Form {
        Form::of(&Column {
            name: "c".into(),
            type_name: type_name.into(),
            not_null: false,
            generated: None,
            collation: None,
        })
    }

    fn text(type_name: &str, bytes: &[u8]) -> Result<String, &'static str> {
        let mut out = "before it|".to_owned();
        of(type_name).write(bytes, &mut out)?;
        Ok(out.strip_prefix("before it|").unwrap().to_owned())
    }

    fn is(type_name: &str, bytes: &[u8], expected: &str) {
        assert_eq!(text(type_name, bytes).as_deref(), Ok(expected), "{type_name}");
    }

    #[test]
    fn values_get_their_canonical_text() {
        is("int(8) unsigned zerofill", b"00000000", "0");
        is("decimal(6,2) unsigned zerofill", b"0007.50", "7.50");
        is("decimal(6,2) unsigned zerofill", b"0000.05", "0.05");
        is("int(11)", b"-7", "-7");
        is("float", b"0.10000000149011612", "0.1");
        is("float unsigned", b"3.4028234663852886e38", "3.4028235e+38");
        is("double(10,2)", b"1234567.25", "1234567.25");
        is("double", b"-0", "-0");
        is("bit(3)", &[5], "101");
        is("bit(12)", &[0x0f, 0x01], "111100000001");
        is("bit(64)", &[0x80, 0, 0, 0, 0, 0, 0, 1], &format!("1{}1", "0".repeat(62)));
        is("timestamp(3)", b"2024-02-29 12:00:00.120", "2024-02-29 12:00:00.120+00");
        is("binary(3)", b"a\0\0", "\\x610000");
        is("longblob", b"", "\\x");
        is("vector(2)", &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f], "[1,0.5]");
        is("point", &[0, 0, 0, 0, 1, 1, 0, 0, 0], "0101000000");
        is("enum('a','B')", b"B", "B");
        assert!(text("varchar(9)", &[0xff]).is_err() && text("double", b"x").is_err());
        assert!(text("point", &[1, 2]).is_err());
    }
}
