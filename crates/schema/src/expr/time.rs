//! Points in time and spans, in nanoseconds.

use std::fmt;

use crate::types::time::Stamp;

const SECOND: i128 = 1_000_000_000;
const DAY_SECONDS: i128 = 86_400;

/// A point in time in UTC, or one of PostgreSQL's infinite ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 1970; the first and the last number are the infinite ones.
    nanoseconds: i128,
}

impl Timestamp {
    /// Microseconds since 1970, as commit times are.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self { nanoseconds: i128::from(micros) * 1000 }
    }

    /// Reads a canonical text of a date or a time stamp, or RFC 3339. What has no offset is UTC. `None` for what is no
    /// time, MySQL's zero dates among them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let stamp = Stamp::parse(text)?;
        stamp.nanoseconds().map(|nanoseconds| Self { nanoseconds })
    }

    pub(super) fn from_seconds(seconds: i128) -> Option<Self> {
        Self::within(seconds.checked_mul(SECOND)?)
    }

    /// Years that texts can have.
    fn within(nanoseconds: i128) -> Option<Self> {
        const MOST: i128 = 400_000 * 366 * DAY_SECONDS * SECOND;
        (-MOST..=MOST).contains(&nanoseconds).then_some(Self { nanoseconds })
    }

    fn is_infinite(self) -> bool {
        matches!(self.nanoseconds, i128::MIN | i128::MAX)
    }

    /// Whole seconds since 1970, rounded towards the past; `None` for the infinite ones.
    pub(super) fn seconds(self) -> Option<i128> {
        (!self.is_infinite()).then(|| self.nanoseconds.div_euclid(SECOND))
    }

    /// `None` beyond all calendars. An infinite point stays where it is.
    pub(super) fn plus(self, span: Span) -> Option<Self> {
        if self.is_infinite() {
            return Some(self);
        }
        Self::within(self.nanoseconds.checked_add(span.nanoseconds)?)
    }

    /// `None` if one of both is infinite.
    pub(super) fn since(self, earlier: Self) -> Option<Span> {
        let finite = !self.is_infinite() && !earlier.is_infinite();
        finite.then(|| Span { nanoseconds: self.nanoseconds - earlier.nanoseconds })
    }

    /// As PostgreSQL prints a `timestamptz` in UTC.
    #[must_use]
    pub fn canonical(self) -> String {
        self.text(' ', "+00")
    }

    fn text(self, between: char, zone: &str) -> String {
        match self.nanoseconds {
            i128::MIN => return "-infinity".to_owned(),
            i128::MAX => return "infinity".to_owned(),
            _ => {}
        }
        let seconds = self.nanoseconds.div_euclid(SECOND);
        let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
        let of_day = seconds.rem_euclid(DAY_SECONDS);
        let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
        let fraction = fraction(self.nanoseconds.rem_euclid(SECOND));
        format!(
            "{shown:04}-{month:02}-{day:02}{between}{:02}:{:02}:{:02}{fraction}{zone}{era}",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60
        )
    }
}

/// RFC 3339; years before 1 and `infinity` as PostgreSQL writes them.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text('T', "Z"))
    }
}

/// A point and the digits after it that are not zeros at the end; nothing for zero.
fn fraction(nanoseconds: i128) -> String {
    if nanoseconds == 0 {
        return String::new();
    }
    format!(".{nanoseconds:09}").trim_end_matches('0').to_owned()
}

/// Year, month and day of a day since 1970, counted in years that begin in March.
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    nanoseconds: i128,
}

impl Span {
    /// Reads `1h30m`, `-1.5s`, `500ms`, as CEL does. `None` for anything else, and beyond all calendars.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let mut rest = unsigned;
        let mut total: i128 = 0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let unit = rest[number..].bytes().take_while(|b| b.is_ascii_alphabetic()).count();
            let nanoseconds: i128 = match &rest[number..number + unit] {
                "h" => 3600 * SECOND,
                "m" => 60 * SECOND,
                "s" => SECOND,
                "ms" => 1_000_000,
                "us" => 1000,
                "ns" => 1,
                _ => return None,
            };
            let (whole, fraction) = rest[..number].split_once('.').unwrap_or((&rest[..number], ""));
            if whole.is_empty() || whole.len() > 18 || fraction.len() > 9 || rest[..number].ends_with('.') {
                return None;
            }
            let whole: i128 = whole.parse().ok()?;
            let part: i128 = format!("0{fraction}").parse().ok()?;
            let scale = 10_i128.pow(fraction.len() as u32);
            total = total.checked_add(whole * nanoseconds + part * nanoseconds / scale)?;
            rest = &rest[number + unit..];
        }
        let nanoseconds = if unsigned.len() < text.len() { -total } else { total };
        Timestamp::within(nanoseconds).map(|_| Self { nanoseconds })
    }

    pub(super) fn negated(self) -> Self {
        Self { nanoseconds: -self.nanoseconds }
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let nanoseconds = self.nanoseconds.checked_add(other.nanoseconds)?;
        Timestamp::within(nanoseconds).map(|_| Self { nanoseconds })
    }

    /// Whole seconds, without the rest.
    pub(super) fn seconds(self) -> i128 {
        self.nanoseconds / SECOND
    }
}

/// Seconds: `5400s`, `-1.5s`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanoseconds < 0 { "-" } else { "" };
        let size = self.nanoseconds.abs();
        write!(f, "{sign}{}{}s", size / SECOND, fraction(size % SECOND))
    }
}
