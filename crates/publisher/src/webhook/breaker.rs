//! Stops asking an endpoint that mostly fails, and holds its events meanwhile.
//!
//! Opens when at least 70% of at least 10 attempts of the last 5 minutes failed. Then one attempt is let through after 30
//! s, and after waits that double up to 10 minutes while it fails; one success closes it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(300);
/// The window is counted in slices, so that its memory does not depend on the rate.
const SLICE: Duration = Duration::from_secs(15);
const LEAST_FAILURES: u32 = 10;
const OPENS_AT_PERCENT: u64 = 70;
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Slice {
    begins: Instant,
    attempts: u32,
    failures: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    slices: VecDeque<Slice>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// When the next attempt may go out.
    probe_at: Instant,
    pause: Duration,
    /// It went out and has not come back.
    probing: bool,
}

/// What an attempt did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that anybody needs to know.
    None,
    /// Attempts stop.
    Opened,
    /// Attempts go on.
    Closed,
}

impl Breaker {
    /// Whether an attempt may go out now. While open, only one may, and only at its time.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.open.as_ref().is_none_or(|open| !open.probing && open.probe_at <= now)
    }

    /// When [`Self::allows`] may change by itself.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.open.as_ref().filter(|open| !open.probing).map(|open| open.probe_at)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// An attempt goes out.
    pub(crate) fn began(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// What was to go out never left, so that it says nothing of the endpoint.
    pub(crate) fn withdrawn(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// An attempt ended. Those that went out before the breaker opened do not count while it is open, unless they succeed.
    pub(crate) fn ended(&mut self, success: bool, now: Instant) -> Change {
        if let Some(open) = &mut self.open {
            if success {
                self.open = None;
                self.slices.clear();
                return Change::Closed;
            }
            if open.probing {
                open.probing = false;
                open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                open.probe_at = now + open.pause;
            }
            return Change::None;
        }
        while self.slices.front().is_some_and(|slice| slice.begins + WINDOW <= now) {
            self.slices.pop_front();
        }
        if self.slices.back().is_none_or(|slice| slice.begins + SLICE <= now) {
            self.slices.push_back(Slice { begins: now, attempts: 0, failures: 0 });
        }
        if let Some(slice) = self.slices.back_mut() {
            slice.attempts = slice.attempts.saturating_add(1);
            slice.failures = slice.failures.saturating_add(u32::from(!success));
        }
        let attempts: u64 = self.slices.iter().map(|slice| u64::from(slice.attempts)).sum();
        let failures: u64 = self.slices.iter().map(|slice| u64::from(slice.failures)).sum();
        if success || failures < u64::from(LEAST_FAILURES) || failures * 100 < attempts * OPENS_AT_PERCENT {
            return Change::None;
        }
        self.open = Some(Open { probe_at: now + FIRST_PAUSE, pause: FIRST_PAUSE, probing: false });
        Change::Opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_left_changes_nothing() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.began();
            breaker.withdrawn();
        }
        assert!(breaker.allows(now) && !breaker.is_open());
        (0..10).for_each(|_| {
            breaker.ended(false, now);
        });
        let probe = breaker.probe_at().unwrap();
        breaker.began();
        assert!(!breaker.allows(probe));
        breaker.withdrawn();
        assert!(breaker.allows(probe), "the next one may ask");
    }

    #[test]
    fn it_opens_for_mostly_failures_and_closes_with_a_success() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for at in 0..9 {
            assert_eq!(breaker.ended(false, start + Duration::from_secs(at)), Change::None);
        }
        assert!(breaker.allows(start));
        let now = start + Duration::from_secs(10);
        assert_eq!(breaker.ended(false, now), Change::Opened);
        assert!(!breaker.allows(now + Duration::from_secs(29)));
        assert_eq!(breaker.ended(false, now), Change::None, "one that was in flight");
        let mut at = now + FIRST_PAUSE;
        for pause in [60, 120, 240, 480, 600, 600] {
            assert!(breaker.allows(at));
            breaker.began();
            assert!(!breaker.allows(at) && breaker.probe_at().is_none(), "one probe at a time");
            breaker.ended(false, at);
            assert_eq!(breaker.probe_at(), Some(at + Duration::from_secs(pause)));
            at += Duration::from_secs(pause);
        }
        breaker.began();
        assert_eq!(breaker.ended(true, at), Change::Closed);
        assert!(breaker.allows(at) && !breaker.is_open());
        assert_eq!(breaker.ended(false, at), Change::None, "it begins to count anew");
    }

    #[test]
    fn half_failing_endpoints_and_old_failures_do_not_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for at in 0..1000 {
            assert_eq!(breaker.ended(at % 2 == 0, start + Duration::from_millis(at)), Change::None);
        }
        let mut breaker = Breaker::default();
        for at in 0..100 {
            assert_eq!(breaker.ended(false, start + Duration::from_secs(at * 35)), Change::None, "{at}");
        }
        assert!(breaker.slices.len() <= 21);
    }
}
