//! SQLite's types: which storage class a declared type implies, and the texts of values.
//!
//! Both ends use one rule. A value whose class is the column's natural class travels as plain text; any other value
//! carries its class. The rule looks at the declared type alone and follows SQLite's affinity rules
//! (<https://sqlite.org/datatype3.html>, section 3.1), in this order, ignoring case:
//!
//! | the declared type | affinity | natural class |
//! | --- | --- | --- |
//! | contains `INT` | INTEGER | [`Class::Integer`] |
//! | contains `CHAR`, `CLOB` or `TEXT` | TEXT | [`Class::Text`] |
//! | contains `BLOB`, or is empty | BLOB | [`Class::Blob`] |
//! | contains `REAL`, `FLOA` or `DOUB` | REAL | [`Class::Real`] |
//! | anything else | NUMERIC | [`Class::Integer`] |
//!
//! A STRICT table's `ANY` is NUMERIC here as well: the natural class only decides what goes without a tag.

use crate::cell::Class;

/// The storage class that a value of a column so declared has unless it says otherwise.
#[must_use]
pub fn natural_class(declared: &str) -> Class {
    let upper = declared.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    if has("INT") {
        Class::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Class::Text
    } else if has("BLOB") || upper.trim().is_empty() {
        Class::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Class::Real
    } else {
        Class::Integer
    }
}

/// Appends the shortest text that reads back as the same bits: `0.1`, `1.0`, `-0.0`, `1e300`, `Infinity`, `-Infinity`.
pub fn push_real(out: &mut String, value: f64) {
    use std::fmt::Write as _;
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        let _ = write!(out, "{value:?}");
    }
}

/// Reads what [`push_real`] writes, and any other decimal; `None` for what is not a number. SQLite stores no NaN.
#[must_use]
pub fn parse_real(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| !value.is_nan())
}

/// Appends bytes as lower-case hexadecimal digits.
pub fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads hexadecimal digits; `None` for an odd number of them or another character.
#[must_use]
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn declared_types_follow_the_affinity_rules() {
        let cases = [
            ("INTEGER", Class::Integer),
            ("bigint", Class::Integer),
            ("CHARINT", Class::Integer),
            ("FLOATING POINT", Class::Integer),
            ("VARCHAR(20)", Class::Text),
            ("text", Class::Text),
            ("", Class::Blob),
            ("BLOB", Class::Blob),
            ("double precision", Class::Real),
            ("REAL", Class::Real),
            ("DECIMAL(10,2)", Class::Integer),
            ("DATETIME", Class::Integer),
            ("STRING", Class::Integer),
            ("ANY", Class::Integer),
        ];
        for (declared, class) in cases {
            assert_eq!(natural_class(declared), class, "{declared}");
        }
    }

    fn real(value: f64) -> String {
        let mut text = String::new();
        push_real(&mut text, value);
        text
    }

    #[test]
    fn special_reals_keep_their_spelling() {
        assert_eq!(real(f64::INFINITY), "Infinity");
        assert_eq!(real(f64::NEG_INFINITY), "-Infinity");
        assert_eq!(real(-0.0), "-0.0");
        assert_eq!(parse_real("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_real("NaN"), None);
        assert_eq!(parse_hex("0g"), None);
        assert_eq!(parse_hex("abc"), None);
    }

    proptest! {
        #[test]
        fn reals_read_back_bit_for_bit(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_real(&real(value)).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn bytes_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut text = String::new();
            push_hex(&mut text, &bytes);
            prop_assert_eq!(parse_hex(&text), Some(bytes));
        }
    }
}
