//! Durations as people write them: `"15s"`, `"1h 30m"`, `"1.5 s"`.

use std::time::Duration;

/// The longest duration that means anything here; keeps sums with the clock from overflowing.
const MAX_SECONDS: u64 = 100 * 365 * 24 * 60 * 60;

/// Why a text is no duration. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No digits where a number belongs.
    #[error("expected a number with a unit, such as \"15s\"")]
    Number,
    /// Digits, and nothing after them.
    #[error("write a unit, such as \"15s\"")]
    UnitMissing,
    /// A unit of no known size. Months and years have none.
    #[error("units are ms, s, m, h and d, such as \"15s\" or \"1h 30m\"")]
    UnitUnknown,
    /// Over a hundred years.
    #[error("a duration is at most 100 years")]
    TooLong,
}

/// Reads one or more numbers, each with its unit (`ms`, `s`, `m`, `h`, `d`; spaces are free), and adds them up. A
/// fraction has at most nine digits that count. Zero needs its unit too.
///
/// # Errors
/// What is wrong with the text, without the text.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut total_nanos: u128 = 0;
    if rest.is_empty() {
        return Err(DurationError::Number);
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(DurationError::Number)?;
        let after = after.trim_start();
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit_nanos: u128 = match unit {
            "" if after.is_empty() => return Err(DurationError::UnitMissing),
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 60 * 60 * 1_000_000_000,
            "d" => 24 * 60 * 60 * 1_000_000_000,
            _ => return Err(DurationError::UnitUnknown),
        };
        let nanos = number.times(unit_nanos).ok_or(DurationError::TooLong)?;
        total_nanos = total_nanos.checked_add(nanos).ok_or(DurationError::TooLong)?;
        if total_nanos > u128::from(MAX_SECONDS) * 1_000_000_000 {
            return Err(DurationError::TooLong);
        }
        rest = after.trim_start();
    }
    // Bounded just above, so neither part can be cut.
    let seconds = u64::try_from(total_nanos / 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    let nanos = u32::try_from(total_nanos % 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::new(seconds, nanos))
}

/// A decimal number, exact: floats would turn `"0.3 GiB"` into a size that depends on the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    whole: u128,
    /// Billionths.
    fraction: u128,
}

impl Decimal {
    /// `self * unit`, rounded down; `None` if that does not fit.
    pub(super) fn times(self, unit: u128) -> Option<u128> {
        let whole = self.whole.checked_mul(unit)?;
        whole.checked_add(self.fraction.checked_mul(unit)? / 1_000_000_000)
    }
}

/// Splits `12.5 MiB` into the number and what follows; `None` if it does not begin with one.
pub(super) fn split_number(text: &str) -> Option<(Decimal, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    // More digits than fit are more than anything here may be; the caller's bound says so in its own words.
    let whole = whole.parse().unwrap_or(u128::MAX);
    let Some(after_dot) = rest.strip_prefix('.') else {
        return Some((Decimal { whole, fraction: 0 }, rest));
    };
    let (fraction, rest) = after_dot.split_at(digits(after_dot));
    if fraction.is_empty() {
        return None;
    }
    let billionths = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let fraction = billionths.fold(0, |sum: u128, digit| sum * 10 + u128::from(digit - b'0'));
    Some((Decimal { whole, fraction }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, millis) in [
            ("15s", 15_000),
            ("0s", 0),
            ("200ms", 200),
            (" 15 s ", 15_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0.25d", 21_600_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_says_why() {
        for (text, error) in [
            ("", DurationError::Number),
            ("  ", DurationError::Number),
            ("s", DurationError::Number),
            ("-1s", DurationError::Number),
            ("1.s", DurationError::Number),
            ("1s,", DurationError::Number),
            ("15", DurationError::UnitMissing),
            ("1h 30", DurationError::UnitMissing),
            ("15 sec", DurationError::UnitUnknown),
            ("1S", DurationError::UnitUnknown),
            ("1 month", DurationError::UnitUnknown),
            ("15 \u{b5}s", DurationError::UnitUnknown),
            ("36501d", DurationError::TooLong),
            ("999999999999999999999999999999999999999999999999s", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }
}
