//! Numbers as text: integers, decimals, binary floats.

use std::borrow::Cow;

use super::conversion::Unholdable;

/// Largest exponent that is written out: beyond PostgreSQL's `numeric`.
const MAX_EXPONENT: usize = 150_000;

/// Zeros behind a text up to a length. `format!` panics beyond 65,535.
fn pad(text: &mut String, length: usize) {
    text.extend(std::iter::repeat_n('0', length.saturating_sub(text.len())));
}

/// A decimal number, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal<'a> {
    pub(super) negative: bool,
    /// Without leading zeros; empty for zero.
    pub(super) whole: Cow<'a, str>,
    /// As many digits as were written.
    pub(super) fraction: Cow<'a, str>,
}

impl<'a> Decimal<'a> {
    /// Reads `-12.50` and `1.5e-7`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (rest, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || mantissa.ends_with('.') {
            return None;
        }
        let Some(exponent) = exponent else {
            let whole = whole.trim_start_matches('0').into();
            return Some(Self { negative, whole, fraction: fraction.into() });
        };
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if unsigned.is_empty() || !digits(unsigned) {
            return None;
        }
        let shift: usize = unsigned.parse().ok().filter(|shift| *shift <= MAX_EXPONENT)?;
        let all = format!("{whole}{fraction}");
        let point = if exponent.starts_with('-') {
            let zeros = "0".repeat(shift);
            let all = format!("{zeros}{all}");
            return Some(Self::at(negative, &all, whole.len()));
        } else {
            whole.len() + shift
        };
        let mut padded = all;
        pad(&mut padded, point);
        Some(Self::at(negative, &padded, point))
    }

    fn at(negative: bool, digits: &str, point: usize) -> Self {
        let (whole, fraction) = digits.split_at(point);
        Self {
            negative,
            whole: whole.trim_start_matches('0').to_owned().into(),
            fraction: fraction.trim_end_matches('0').to_owned().into(),
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.bytes().all(|b| b == b'0')
    }

    /// Below zero; there is no negative zero among decimals.
    pub(crate) fn is_negative(&self) -> bool {
        self.negative && !self.is_zero()
    }

    /// Digits after the point that are not zeros at the end.
    fn scale(&self) -> usize {
        self.fraction.trim_end_matches('0').len()
    }

    /// Whether a column of so many digits, `scale` of them after the point, holds it.
    pub(super) fn fits(&self, precision: u32, scale: i32) -> Result<(), Unholdable> {
        let zeros = usize::try_from(-scale).unwrap_or(0);
        let rounded = self.whole.len().min(zeros);
        let lost = self.whole[self.whole.len() - rounded..].bytes().any(|b| b != b'0');
        if self.scale() > usize::try_from(scale).unwrap_or(0) || lost {
            return Err(Unholdable::Scale);
        }
        let room = i64::from(precision) - i64::from(scale);
        // With more digits after the point than in all, the first ones must be zeros.
        let leading = self.fraction.bytes().take_while(|b| *b == b'0').count() as i64;
        let used = if self.whole.is_empty() { -leading } else { self.whole.len() as i64 };
        if used > room && !self.is_zero() { Err(Unholdable::Range) } else { Ok(()) }
    }

    /// The text, with exactly `scale` digits after the point, or with those that were written.
    pub(crate) fn text(&self, scale: Option<i32>) -> String {
        let mut out = String::with_capacity(self.whole.len() + self.fraction.len() + 4);
        if self.is_negative() {
            out.push('-');
        }
        out.push_str(if self.whole.is_empty() { "0" } else { &self.whole });
        let wanted = scale.map_or(self.fraction.len(), |scale| usize::try_from(scale).unwrap_or(0));
        if wanted > 0 {
            out.push('.');
            let end = out.len() + wanted;
            out.push_str(&self.fraction[..wanted.min(self.fraction.len())]);
            pad(&mut out, end);
        }
        out
    }

    /// The whole number.
    pub(crate) fn integer(&self) -> Result<i128, Unholdable> {
        if self.scale() > 0 {
            return Err(Unholdable::Scale);
        }
        let text = if self.whole.is_empty() { "0" } else { &self.whole };
        let number: i128 = text.parse().map_err(|_| Unholdable::Range)?;
        Ok(if self.negative { -number } else { number })
    }

    /// Equal numbers, whatever their zeros at the end.
    pub(super) fn equals(&self, other: &Decimal<'_>) -> bool {
        let tail = |number: &Decimal<'_>| number.fraction.trim_end_matches('0').len();
        self.is_negative() == other.is_negative()
            && self.whole == other.whole
            && self.fraction[..tail(self)] == other.fraction[..tail(other)]
    }
}

/// Smallest and largest of an integer type.
pub(super) fn bounds(bits: u32, unsigned: bool) -> (i128, i128) {
    if unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }
}

/// A finite or infinite double; `None` for what is no number. NaN is one.
pub(super) fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) => {
            // What is written with finite digits and reads as infinite was beyond the range.
            text.parse::<f64>().ok().filter(|value| value.is_finite())
        }
        _ => None,
    }
}

/// A float as PostgreSQL prints it with `extra_float_digits` above 0: the shortest digits that read back as the same bits,
/// with an exponent below 1e-4 and from 1e15 on (`real`: 1e6).
pub(super) fn float_text(value: f64, bits: u32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = if bits == 32 { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let most = if bits == 32 { 6 } else { 15 };
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    if (-4..most).contains(&exponent) {
        return if bits == 32 { format!("{}", value as f32) } else { format!("{value}") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// The same decimal number as a float of 32 bits, if it is one: of the double itself, or of its shortest text.
pub(super) fn narrow(value: f64) -> Result<f32, Unholdable> {
    let narrow = value as f32;
    if value.is_finite() != narrow.is_finite() {
        return Err(Unholdable::Range);
    }
    let same = value.is_nan()
        || f64::from(narrow) == value
        || float_text(f64::from(narrow), 32).parse::<f64>().is_ok_and(|shortest| shortest == value);
    if same { Ok(narrow) } else { Err(Unholdable::Inexact) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: &str, scale: Option<i32>) -> String {
        Decimal::parse(number).unwrap().text(scale)
    }

    #[test]
    fn decimals_are_read_and_written() {
        assert_eq!(text("0012.50", None), "12.50");
        assert_eq!(text("-0.0", None), "0.0");
        assert_eq!(text("1.5e-3", None), "0.0015");
        assert_eq!(text("1.5e+3", None), "1500");
        assert_eq!(text("1.2345e2", None), "123.45");
        assert_eq!(text("5e-324", None).len(), 326);
        assert_eq!(text("1.5", Some(3)), "1.500");
        // Longer than what `format!` pads to.
        assert_eq!(text("1e70000", None).len(), 70_001);
        assert_eq!(text("1.5e-70000", None).len(), 70_003);
        assert_eq!(text("1.500", Some(1)), "1.5");
        for none in ["", "-", ".5", "1.", "1e", "1e+", "+1", "0x1", "1e999999", "NaN", "1 "] {
            assert_eq!(Decimal::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn decimals_fit_or_not() {
        let fits = |number: &str, precision, scale| Decimal::parse(number).unwrap().fits(precision, scale);
        assert_eq!(fits("12345678.90", 10, 2), Ok(()));
        assert_eq!(fits("123456789.90", 10, 2), Err(Unholdable::Range));
        assert_eq!(fits("0.001", 10, 2), Err(Unholdable::Scale));
        assert_eq!(fits("0.100", 10, 1), Ok(()));
        assert_eq!(fits("12300", 3, -2), Ok(()));
        assert_eq!(fits("12350", 3, -2), Err(Unholdable::Scale));
        assert_eq!(fits("123400", 3, -2), Err(Unholdable::Range));
        assert_eq!(fits("0.00123", 3, 5), Ok(()));
        assert_eq!(fits("0.01230", 3, 5), Err(Unholdable::Range));
        assert_eq!(fits("0", 3, 5), Ok(()));
    }

    #[test]
    fn floats_are_printed_as_postgresql_does() {
        let pairs: &[(f64, u32, &str)] = &[
            (0.1, 64, "0.1"),
            (1e14, 64, "100000000000000"),
            (1e15, 64, "1e+15"),
            (1.25e-5, 64, "1.25e-05"),
            (0.0001, 64, "0.0001"),
            (-0.0, 64, "-0"),
            (5e-324, 64, "5e-324"),
            (1e300, 64, "1e+300"),
            (100_000.0, 32, "100000"),
            (1e6, 32, "1e+06"),
            (f64::from(0.1f32), 32, "0.1"),
            (f64::NEG_INFINITY, 32, "-Infinity"),
        ];
        for (value, bits, expected) in pairs {
            assert_eq!(float_text(*value, *bits), *expected);
        }
        assert_eq!(narrow(0.1), Ok(0.1f32));
        assert_eq!(narrow(0.123_456_789_012), Err(Unholdable::Inexact));
        assert_eq!(narrow(1e300), Err(Unholdable::Range));
    }
}
