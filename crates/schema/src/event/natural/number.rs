//! Which texts are JSON numbers that a double holds.

/// 2^53 - 1: beyond it two integers may be one double.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A decimal of so many digits comes back from a double as it was (`DBL_DIG` of C).
const MAX_DIGITS: usize = 15;

/// Zeros between the point and the first digit of a decimal. Doubles lose digits below 2.2e-308.
const MAX_ZEROS: usize = 290;

/// A text of at most so many bytes without exponent is a number that a double can reach.
const SHORT: usize = 40;

/// The parts of `-12.50e+3`, if the text is a number as JSON writes it.
struct Parts<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: bool,
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn parts(text: &str) -> Option<Parts<'_>> {
    let bytes = text.as_bytes();
    let (whole, rest) = digits(bytes.strip_prefix(b"-").unwrap_or(bytes));
    if whole.is_empty() || (whole[0] == b'0' && whole.len() > 1) {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => digits(rest),
        None => (&[][..], rest),
    };
    if fraction.is_empty() && bytes.get(bytes.len() - rest.len() - 1) == Some(&b'.') {
        return None;
    }
    let exponent = match rest {
        [] => false,
        [b'e' | b'E', rest @ ..] => {
            let (digits, end) = digits(rest.strip_prefix(b"+").or(rest.strip_prefix(b"-")).unwrap_or(rest));
            if digits.is_empty() || !end.is_empty() {
                return None;
            }
            true
        }
        _ => return None,
    };
    Some(Parts { whole, fraction, exponent })
}

/// An integer from -(2^53 - 1) to 2^53 - 1.
pub(super) fn is_safe_integer(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    // 2^53 has 16 digits.
    if digits.is_empty() || digits.len() > 16 || (digits[0] == b'0' && digits.len() > 1) {
        return false;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    value <= MAX_SAFE
}

/// A decimal of at most 15 digits, leading zeros aside.
pub(super) fn is_short_decimal(text: &str) -> bool {
    let Some(Parts { whole, fraction, exponent: false }) = parts(text) else { return false };
    if whole != b"0" {
        return whole.len() + fraction.len() <= MAX_DIGITS;
    }
    let zeros = fraction.iter().take_while(|b| **b == b'0').count();
    let rest = fraction.len() - zeros;
    // A zero has its digit, and may have a scale.
    rest <= MAX_DIGITS && zeros <= if rest == 0 { MAX_DIGITS } else { MAX_ZEROS }
}

/// A float as a database prints it: finite.
pub(super) fn is_double(text: &str) -> bool {
    match parts(text) {
        None => false,
        Some(parts) if !parts.exponent && text.len() <= SHORT => true,
        Some(_) => text.parse::<f64>().is_ok_and(f64::is_finite),
    }
}

/// `[1,0.5]`: floats in brackets.
pub(super) fn is_vector(text: &str) -> bool {
    let Some(items) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else { return false };
    items.is_empty() || items.split(',').all(is_double)
}

/// Four digits, less the zeros before them.
pub(super) fn year(text: &str) -> Option<&str> {
    if text.len() != 4 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let trimmed = text.trim_start_matches('0');
    Some(if trimmed.is_empty() { "0" } else { trimmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_up_to_2_to_the_53rd() {
        for text in ["0", "-0", "1", "-9007199254740991", "9007199254740991"] {
            assert!(is_safe_integer(text), "{text}");
        }
        for text in [
            "",
            "-",
            "01",
            "+1",
            "1.0",
            "9007199254740992",
            "-9007199254740992",
            "99999999999999999999",
            "1e3",
        ] {
            assert!(!is_safe_integer(text), "{text}");
        }
    }

    #[test]
    fn decimals_of_15_digits() {
        let small = format!("0.{}1", "0".repeat(290));
        for text in
            ["0", "1.10", "-0.05", "123456789012345", "1234567890123.45", "0.00000000001", &small, "0.00"]
        {
            assert!(is_short_decimal(text), "{text}");
        }
        let smaller = format!("0.{}1", "0".repeat(291));
        let zero = format!("0.{}", "0".repeat(16));
        for text in [
            "1234567890123456",
            "12345678901234.50",
            "NaN",
            "Infinity",
            "1e3",
            ".5",
            "1.",
            "00.1",
            &smaller,
            &zero,
        ] {
            assert!(!is_short_decimal(text), "{text}");
        }
    }

    #[test]
    fn floats_are_finite_json_numbers() {
        for text in ["0.1", "1e+300", "-0", "5e-324", "1.25e-05", "1.7976931348623157e+308", "1E5"] {
            assert!(is_double(text), "{text}");
        }
        for text in
            ["NaN", "Infinity", "-Infinity", "1e400", "1.e5", "1e", "1e+", "0x1", "", "1 ", "--1", "01.5"]
        {
            assert!(!is_double(text), "{text}");
        }
        assert!(!is_double(&"9".repeat(400)));
        assert!(is_vector("[]") && is_vector("[1,-0.5,1e-05]"));
        assert!(!is_vector("[1,]") && !is_vector("1,2") && !is_vector("[NaN]"));
        assert_eq!(
            [year("0000"), year("2155"), year("155"), year("0007")],
            [Some("0"), Some("2155"), None, Some("7")]
        );
    }
}
