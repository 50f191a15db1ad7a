//! Dates, times and time stamps as text.

use std::fmt::Write as _;

use super::conversion::Unholdable;
use crate::table::Dialect;

/// A time of day or a span, with the digits of the fraction that are not zeros at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock<'a> {
    pub(super) negative: bool,
    pub(super) hours: u32,
    minutes: u32,
    seconds: u32,
    pub(super) fraction: &'a str,
}

fn digits(text: &str, least: usize, most: usize) -> Option<u32> {
    let fits = (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

impl<'a> Clock<'a> {
    /// Reads `[-]HH:MM:SS[.ffffff]`, hours of two to ten digits.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (hours, rest) = rest.split_once(':')?;
        let (minutes, rest) = rest.split_once(':')?;
        let (seconds, fraction) = match rest.split_once('.') {
            Some((seconds, fraction)) if !fraction.is_empty() => (seconds, fraction),
            Some(_) => return None,
            None => (rest, ""),
        };
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (minutes, seconds) = (digits(minutes, 2, 2)?, digits(seconds, 2, 2)?);
        (minutes < 60 && seconds < 60).then_some(())?;
        let fraction = fraction.trim_end_matches('0');
        Some(Self { negative, hours: digits(hours, 2, 10)?, minutes, seconds, fraction })
    }

    fn is_zero(self) -> bool {
        self.hours == 0 && self.minutes == 0 && self.seconds == 0 && self.fraction.is_empty()
    }

    /// Whether MySQL's `TIME` holds it: up to 838:59:59 without a fraction.
    pub(super) fn span(self) -> Result<(), Unholdable> {
        let last = (self.hours, self.minutes, self.seconds) == (838, 59, 59);
        if self.hours > 838 || (last && !self.fraction.is_empty()) { Err(Unholdable::Range) } else { Ok(()) }
    }

    /// Whether it is a time of day.
    pub(super) fn of_day(self) -> Result<(), Unholdable> {
        let end = Self { negative: false, hours: 24, minutes: 0, seconds: 0, fraction: "" };
        let within = self.hours < 24 || self == end;
        if within && (!self.negative || self.is_zero()) { Ok(()) } else { Err(Unholdable::BeyondDay) }
    }

    /// Checks the fraction, which a server would round.
    pub(super) fn fraction_fits(self, digits: u32) -> Result<(), Unholdable> {
        if self.fraction.len() > digits as usize { Err(Unholdable::Fraction) } else { Ok(()) }
    }

    /// MySQL writes all digits of the column's fraction, the others none but what is needed.
    pub(super) fn write(self, out: &mut String, dialect: Dialect, precision: u32) {
        if self.negative && !self.is_zero() {
            out.push('-');
        }
        let _ = write!(out, "{:02}:{:02}:{:02}", self.hours, self.minutes, self.seconds);
        let wanted = if dialect == Dialect::Mysql { precision as usize } else { self.fraction.len() };
        if wanted > 0 {
            let _ = write!(out, ".{:0<wanted$}", self.fraction);
        }
    }
}

/// A date, a time stamp, or one of the infinite ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp<'a> {
    Infinite { negative: bool },
    Finite(Finite<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finite<'a> {
    /// From 1 on, counted backwards with `bc`. 0 only in MySQL.
    year: u32,
    bc: bool,
    month: u32,
    day: u32,
    pub(super) clock: Option<Clock<'a>>,
    /// `+00`, `Z` or another offset.
    pub(super) zone: Option<&'a str>,
}

impl<'a> Stamp<'a> {
    /// Reads `[Y]YYYY-MM-DD[ HH:MM:SS[.f][+00|Z]][ BC]`, `infinity`, `-infinity`. Between date and time a `T` will do.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        match text {
            "infinity" => return Some(Self::Infinite { negative: false }),
            "-infinity" => return Some(Self::Infinite { negative: true }),
            _ => {}
        }
        let (rest, bc) = match text.strip_suffix(" BC") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (date, time) = match rest.split_once([' ', 'T']) {
            Some((date, time)) => (date, Some(time)),
            None => (rest, None),
        };
        let (year, rest) = date.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let (clock, zone) = match time {
            None => (None, None),
            Some(time) => {
                let at = time.find(['+', '-', 'Z']);
                let (time, zone) = at.map_or((time, None), |at| (&time[..at], Some(&time[at..])));
                (Some(Clock::parse(time)?), zone)
            }
        };
        Some(Self::Finite(Finite {
            year: digits(year, 4, 7)?,
            bc,
            month: digits(month, 2, 2)?,
            day: digits(day, 2, 2)?,
            clock,
            zone,
        }))
    }
}

impl Stamp<'_> {
    /// Nanoseconds since 1970 in UTC; without an offset it is taken as UTC. The infinite ones are the first and the last
    /// number. `None` for a day or a time that no calendar has (MySQL's zero dates among them), and for more than nine
    /// digits of a fraction.
    pub(crate) fn nanoseconds(&self) -> Option<i128> {
        let finite = match self {
            Self::Infinite { negative: true } => return Some(i128::MIN),
            Self::Infinite { negative: false } => return Some(i128::MAX),
            Self::Finite(finite) => finite,
        };
        finite.check(Dialect::Sqlite).ok()?;
        let mut seconds = finite.days_since_1970() * 86_400;
        let mut nanoseconds = 0;
        if let Some(clock) = finite.clock {
            seconds += i64::from(clock.hours) * 3600 + i64::from(clock.minutes * 60 + clock.seconds);
            if clock.fraction.len() > 9 {
                return None;
            }
            nanoseconds = fraction_nanoseconds(clock.fraction);
        }
        seconds -= finite.zone.map_or(Some(0), offset_seconds)?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
    }
}

/// Up to nine digits after the point.
fn fraction_nanoseconds(fraction: &str) -> u32 {
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// Seconds east of UTC: `Z`, `+02`, `-05:30`, `+00:19:32`.
fn offset_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let east = if zone.starts_with('-') { -1 } else { 1 };
    let mut parts = zone.get(1..)?.split(':');
    let hours = digits(parts.next()?, 2, 2)?;
    let minutes = parts.next().map_or(Some(0), |text| digits(text, 2, 2))?;
    let seconds = parts.next().map_or(Some(0), |text| digits(text, 2, 2))?;
    let valid = hours < 24 && minutes < 60 && seconds < 60 && parts.next().is_none();
    valid.then(|| east * i64::from(hours * 3600 + minutes * 60 + seconds))
}

impl Finite<'_> {
    /// Counted in years that begin in March, so that the leap day is a year's last.
    fn days_since_1970(&self) -> i64 {
        let year = if self.bc { 1 - i64::from(self.year) } else { i64::from(self.year) };
        let year = if self.month <= 2 { year - 1 } else { year };
        let month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        365 * year + leap_days + day_of_year - 719_468
    }

    /// Year, month or day is zero: MySQL's way to leave them out.
    pub(super) fn has_zero(&self) -> bool {
        self.year == 0 || self.month == 0 || self.day == 0
    }

    fn days(&self) -> u32 {
        // Astronomical: the year before 1 is 0.
        let year = if self.bc { self.year.wrapping_sub(1) } else { self.year };
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            _ => 31,
        }
    }

    /// Whether a database has this day.
    pub(super) fn check(&self, dialect: Dialect) -> Result<(), Unholdable> {
        match dialect {
            Dialect::Mysql if self.bc || self.year > 9999 => return Err(Unholdable::Year),
            Dialect::Mysql if self.has_zero() && self.month <= 12 && self.day <= 31 => return Ok(()),
            Dialect::Postgres if self.has_zero() => return Err(Unholdable::ZeroDate),
            Dialect::Postgres | Dialect::Mysql | Dialect::Sqlite => {}
        }
        // MySQL keeps the 31st of February where its mode allows it, which ours does.
        let days = if dialect == Dialect::Mysql { 31 } else { self.days() };
        if self.month > 12 || self.day > days || self.has_zero() {
            return Err(Unholdable::Calendar);
        }
        if self.clock.is_some_and(|clock| clock.negative || clock.hours > 23) {
            return Err(Unholdable::BeyondDay);
        }
        Ok(())
    }

    /// Whether the offset says UTC.
    pub(super) fn is_utc(&self) -> bool {
        matches!(self.zone, Some("+00" | "Z" | "+00:00"))
    }

    /// Before 1970-01-01 00:00:01 or after the year 2106: no MySQL TIMESTAMP.
    pub(super) fn beyond_timestamp(&self) -> bool {
        let zero = self.year == 0 && self.month == 0 && self.day == 0;
        let first = (self.year, self.month, self.day) == (1970, 1, 1);
        let start = self.clock.is_none_or(|clock| clock.hours + clock.minutes + clock.seconds == 0);
        !zero && (self.bc || self.year < 1970 || self.year > 2106 || (first && start))
    }

    /// Writes it; `clock` says whether with a time and to how many digits, `zone` what follows it.
    pub(super) fn text(&self, dialect: Dialect, clock: Option<u32>, zone: &str) -> String {
        let mut out = String::with_capacity(32);
        let _ = write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day);
        if let Some(precision) = clock {
            out.push(' ');
            let midnight = Clock { negative: false, hours: 0, minutes: 0, seconds: 0, fraction: "" };
            self.clock.unwrap_or(midnight).write(&mut out, dialect, precision);
            out.push_str(zone);
        }
        if self.bc {
            out.push_str(" BC");
        }
        out
    }
}
