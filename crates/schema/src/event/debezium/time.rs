//! Dates and times as numbers, and as the texts that Java's ISO formats print.

use std::fmt::Write as _;

const DAY: i64 = 86_400_000_000;
const SECOND: i64 = 1_000_000;

/// What the PostgreSQL driver's marks for the infinite ones become on their way through Java's types.
pub(super) mod infinite {
    pub(in super::super) const DATE: (i64, i64) = (-2_147_472_692, -2_147_472_691);
    pub(in super::super) const MILLIS: (i64, i64) = (9_223_372_036_825_200, -9_223_372_036_832_400);
    pub(in super::super) const MICROS: (i64, i64) = (9_223_372_036_825_200_000, -9_223_372_036_832_400_000);
}

/// A day and the microseconds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    year: i64,
    month: i64,
    day: i64,
    micros: i64,
}

fn number(text: &str, most: usize) -> Option<i64> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// `[-]H…:MM:SS[.f]` in microseconds.
pub(super) fn clock(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, rest) = rest.split_once(':')?;
    let (minutes, rest) = rest.split_once(':')?;
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
    let fraction = number(fraction, 6)? * 10i64.pow(6 - fraction.len() as u32);
    // An interval's hours go up to 2562047788, which is just beyond 64 bits.
    let rest = number(minutes, 2)? * 60 + number(seconds, 2)?;
    let whole = i128::from(number(hours, 10)?) * 3600 + i128::from(rest);
    let micros = whole * i128::from(SECOND) + i128::from(fraction);
    Some(clamp(if negative { -micros } else { micros }))
}

impl Stamp {
    /// `YYYY-MM-DD[ HH:MM:SS[.f][+00]][ BC]`
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, bc) = match text.strip_suffix(" BC") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (date, time) = rest.split_once(' ').map_or((rest, None), |(date, time)| (date, Some(time)));
        let mut parts = date.split('-');
        let year = number(parts.next()?, 7)?;
        let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let micros = match time {
            None => 0,
            Some(time) => clock(time.strip_suffix("+00").unwrap_or(time))?,
        };
        let year = if bc { 1 - year } else { year };
        (parts.next().is_none() && month <= 12 && day <= 31 && micros >= 0).then_some(Self {
            year,
            month,
            day,
            micros,
        })
    }

    /// A part of the date is zero, as MySQL has it.
    pub(super) fn has_zero(&self) -> bool {
        self.month == 0 || self.day == 0
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar.
    pub(super) fn days(&self) -> i64 {
        // Years that begin in March put the leap day last.
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = (self.month + 9) % 12;
        let of_year = (153 * month + 2) / 5 + self.day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    /// Microseconds since 1970; PostgreSQL's last years lie beyond 64 bits and become the greatest number.
    pub(super) fn micros(&self) -> i64 {
        let wide = i128::from(self.days()) * i128::from(DAY) + i128::from(self.micros);
        clamp(wide)
    }

    /// Milliseconds since 1970, rounded down.
    pub(super) fn millis(&self) -> i64 {
        self.days() * (DAY / 1000) + self.micros / 1000
    }

    /// `2024-02-29T12:34:56.789Z` with so many digits of the fraction.
    pub(super) fn zoned(&self, digits: u32) -> String {
        let mut out = String::with_capacity(32);
        match self.year {
            year @ 10_000.. => _ = write!(out, "+{year}"),
            year @ 0.. => _ = write!(out, "{year:04}"),
            year => _ = write!(out, "-{:04}", -year),
        }
        let (seconds, fraction) = (self.micros / SECOND, self.micros % SECOND);
        let _ = write!(
            out,
            "-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.month,
            self.day,
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        if digits > 0 {
            let shown = fraction / 10i64.pow(6 - digits.min(6));
            let _ = write!(out, ".{shown:0width$}", width = digits.min(6) as usize);
        }
        out.push('Z');
        out
    }
}

fn clamp(wide: i128) -> i64 {
    wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// A time of day with an offset, moved to UTC: `10:34:56.7Z`.
pub(super) fn zoned_time(text: &str) -> Option<String> {
    let at = text.find(['+', '-'])?;
    let (time, zone) = text.split_at(at);
    let mut parts = zone[1..].split(':');
    let mut offset = 0;
    for unit in [3600, 60, 1] {
        offset += parts.next().map_or(Some(0), |part| number(part, 2))? * unit;
    }
    let offset = if zone.starts_with('-') { -offset } else { offset };
    let micros = clock(time)?.saturating_sub(offset * SECOND).rem_euclid(DAY);
    let seconds = micros / SECOND;
    let mut out = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros % SECOND > 0 {
        let fraction = format!("{:06}", micros % SECOND);
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out.push('Z');
    Some(out)
}

/// PostgreSQL's interval (`1 year 2 mons -3 days 04:05:06.7`) in microseconds, a month being 30.4375 days.
pub(super) fn interval(text: &str) -> Option<i64> {
    const MONTH: i128 = 2_629_800_000_000;
    let mut sum = 0i128;
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            sum += i128::from(clock(word)?);
            continue;
        }
        let count: i128 = word.parse::<i64>().ok()?.into();
        sum += count
            * match words.next()? {
                "year" | "years" => MONTH * 12,
                "mon" | "mons" => MONTH,
                "day" | "days" => i128::from(DAY),
                _ => return None,
            };
    }
    Some(clamp(sum))
}
