//! Commit times as RFC 3339.

const DAY: i64 = 86_400_000_000;

/// 0000-01-01 and 9999-12-31 in days since 1970: the years that RFC 3339 can write.
const DAYS: (i64, i64) = (-719_528, 2_932_896);

/// Appends microseconds since 1970 as `2026-01-02T03:04:05.678901Z`: always 27 characters, so that texts sort as times.
/// A time beyond the years 0 to 9999 becomes the nearest one within.
pub(super) fn push(out: &mut Vec<u8>, micros: i64) {
    let micros = micros.clamp(DAYS.0 * DAY, (DAYS.1 + 1) * DAY - 1);
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let parts = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (seconds / 3600, 2, b':'),
        (seconds / 60 % 60, 2, b':'),
        (seconds % 60, 2, b'.'),
        (fraction, 6, b'Z'),
    ];
    for (value, width, mark) in parts {
        let mut power = 10_i64.pow(width - 1);
        while power > 0 {
            out.push(b'0' + (value / power % 10) as u8);
            power /= 10;
        }
        out.push(mark);
    }
}

/// The Gregorian date of a day. Years begin in March here, so that the leap day is the last one: then months have
/// 31, 30, 31, 30, 31 days over and over, which `153 / 5` counts.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(micros: i64) -> String {
        let mut out = Vec::new();
        push(&mut out, micros);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_to_the_microsecond() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text(1_767_323_045_678_901), "2026-01-02T03:04:05.678901Z");
        assert_eq!(text(1_709_164_800_000_000), "2024-02-29T00:00:00.000000Z");
        assert_eq!(text(4_107_542_400_000_000), "2100-03-01T00:00:00.000000Z");
        assert_eq!(text(i64::MIN), "0000-01-01T00:00:00.000000Z");
        assert_eq!(text(i64::MAX), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut before, mut length) = (date(DAYS.0), 0);
        assert_eq!((before, date(DAYS.1)), ((0, 1, 1), (9999, 12, 31)));
        for days in DAYS.0 + 1..=DAYS.1 {
            let day = date(days);
            length += 1;
            if day.2 == before.2 + 1 {
                assert_eq!((day.0, day.1), (before.0, before.1));
            } else {
                assert_eq!((day.2, day.1), (1, before.1 % 12 + 1));
                let leap = before.0 % 4 == 0 && (before.0 % 100 != 0 || before.0 % 400 == 0);
                let months = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
                assert_eq!(length, months[before.1 as usize - 1], "{before:?}");
                length = 0;
            }
            before = day;
        }
    }
}
