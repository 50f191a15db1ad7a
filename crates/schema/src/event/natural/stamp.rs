//! Which canonical time stamps ISO 8601 and RFC 3339 can write: those of the years 1 to 9999.

/// The number that digits at a place stand for.
fn number(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `YYYY-MM-DD HH:MM:SS[.f]` of the calendar. Zero parts, the 31st of February, `BC` and longer years are not.
pub(super) fn is_iso(text: &str) -> bool {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if bytes.len() < 19 || marks.iter().any(|&(at, mark)| bytes[at] != mark) {
        return false;
    }
    let fraction = match &bytes[19..] {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let within = |range: std::ops::Range<usize>, least: u32, most: u32| {
        number(&bytes[range]).is_some_and(|value| (least..=most).contains(&value))
    };
    let (Some(year), Some(month)) = (number(&bytes[0..4]), number(&bytes[5..7])) else { return false };
    fraction
        && year > 0
        && (1..=12).contains(&month)
        && within(8..10, 1, days(year, month))
        && within(11..13, 0, 23)
        && within(14..16, 0, 59)
        && within(17..19, 0, 59)
}

#[cfg(test)]
mod tests {
    use super::is_iso;

    #[test]
    fn days_of_the_calendar_only() {
        for text in ["2024-02-29 12:00:00", "0001-01-01 00:00:00.1", "9999-12-31 23:59:59.999999"] {
            assert!(is_iso(text), "{text}");
        }
        for text in [
            "",
            "infinity",
            "0000-00-00 00:00:00",
            "2024-00-10 00:00:00",
            "2023-02-29 00:00:00",
            "2024-02-31 00:00:00",
            "0044-03-15 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "2024-02-29 24:00:00",
            "2024-02-29 12:00:00.",
            "2024-02-29T12:00:00",
            "2024-02-29 12:00:00\u{e4}",
            "\u{e4}\u{e4}24-02-29 12:00:00",
        ] {
            assert!(!is_iso(text), "{text}");
        }
    }
}
