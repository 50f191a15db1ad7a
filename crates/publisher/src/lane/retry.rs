//! How long to wait before the same delivery is tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most that the first wait may take: a restarting subscriber is back within this.
const FIRST: Duration = Duration::from_millis(200);
/// Most that any wait may take: a target that is back after hours is served again within this.
const MOST: Duration = Duration::from_secs(10);
/// Longest wish of a peer that is granted; a longer one is a mistake more often than a maintenance window.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// Waits that double, with full jitter, for ever.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something succeeded: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. The peer's wish is a floor and the jitter lies above it, so that many publishers
    /// that were told the same moment do not all come back in it.
    pub(crate) fn next(&mut self, wish: Option<Duration>) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let jitter = ceiling.mul_f64(rand::random::<f64>());
        wish.unwrap_or_default().min(LONGEST_WISH) + jitter
    }
}

/// The value of `Retry-After`: seconds, or an HTTP date (RFC 9110 section 10.2.3) in the form that servers must send
/// (`Sun, 06 Nov 1994 08:49:37 GMT`). A moment in the past is no wait. A date is one of the server's clock, so it is
/// compared with `date`, the answer's `Date`: ours, which `now` is, may be off by hours.
pub(crate) fn retry_after(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = |text| UNIX_EPOCH.checked_add(Duration::from_secs(http_date(text)?));
    let now = date.map(str::trim).and_then(moment).unwrap_or(now);
    Some(moment(value)?.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of an IMF-fixdate. The weekday is not checked: it carries nothing.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if words.next()? != "GMT" || words.next().is_some() {
        return None;
    }
    let valid =
        (1970..=9999).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !valid {
        return None;
    }
    // Days from civil, with years that begin in March so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_to_ten_seconds_and_start_over() {
        let mut backoff = Backoff::default();
        for ceiling in [200u64, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000] {
            assert!(backoff.next(None) <= Duration::from_millis(ceiling));
        }
        (0..100_000).for_each(|_| assert!(backoff.next(None) <= MOST));
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn jitter_spreads_over_the_whole_wait() {
        let waits: Vec<_> = (0..200).map(|_| Backoff::default().next(None)).collect();
        assert!(waits.iter().any(|wait| *wait < FIRST / 4) && waits.iter().any(|wait| *wait > FIRST / 4 * 3));
    }

    #[test]
    fn a_wish_is_a_floor_with_jitter_above() {
        let wish = Duration::from_secs(7);
        let waits: Vec<_> = (0..50).map(|_| Backoff::default().next(Some(wish))).collect();
        assert!(waits.iter().all(|wait| (wish..=wish + FIRST).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
        assert!(Backoff::default().next(Some(Duration::MAX)) <= LONGEST_WISH + FIRST);
    }

    #[test]
    fn seconds_and_dates_are_read() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        assert_eq!(retry_after("120", None, now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None, now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT", None, now), Some(Duration::ZERO));
        let leap = UNIX_EPOCH + Duration::from_secs(951_782_400);
        assert_eq!(retry_after("Tue, 29 Feb 2000 00:00:01 GMT", None, leap), Some(Duration::from_secs(1)));
        // Our clock is five hours behind, or ahead: the server's counts.
        for off in [-5 * 3600, 5 * 3600] {
            let now = UNIX_EPOCH + Duration::from_secs(784_111_777_u64.saturating_add_signed(off));
            let told = |date| retry_after("Sun, 06 Nov 1994 08:49:37 GMT", Some(date), now);
            assert_eq!(told("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::from_secs(30)));
            assert_eq!(told("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::ZERO));
            assert_eq!(told("today"), retry_after("Sun, 06 Nov 1994 08:49:37 GMT", None, now));
        }
        for wrong in ["", "soon", "-1", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 08:49:37 CET"] {
            assert_eq!(retry_after(wrong, None, now), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in ".*", day in any::<u64>(), year in any::<u64>()) {
            let _ = retry_after(&text, Some(&text), UNIX_EPOCH);
            let _ = retry_after(&format!("Sun, {day} Nov {year} 08:49:37 GMT"), None, UNIX_EPOCH);
        }
    }
}
