//! When an endpoint is too slow for the source: what the source's log holds because of us has a bound.

use std::time::{Duration, Instant};

use rowbridge_schema::{EndpointName, Position, TablePatterns};

use crate::state::{Job, StateError};

/// How long nothing may move beyond the bound before the next slowest endpoint is detached too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who carries changes on from the journal, as the pump sees it.
pub trait Roster: Send + Sync {
    /// Lets the stream go on without the endpoint that is furthest behind among those that hold something. `None` if there
    /// is none.
    ///
    /// # Errors
    /// The state's.
    fn detach_slowest(&self, reason: &str) -> Result<Option<EndpointName>, StateError>;

    /// The part of a snapshot that somebody wants: existing rows of an outbox were messages once, and only bridges that copy
    /// it as a table get them.
    fn wanted(&self, job: Job) -> Option<Job>;

    /// Which tables an endpoint takes; `None` if there is no such endpoint.
    fn tables(&self, endpoint: &EndpointName) -> Option<TablePatterns>;

    /// A snapshot of all of an endpoint's tables follows `from`: it is whole with what comes behind.
    ///
    /// # Errors
    /// The state's.
    fn attach(&self, endpoint: &EndpointName, from: Position) -> Result<(), StateError>;
}

/// Decides when to detach, by what is unconfirmed at the source. Only that is the endpoints' doing: a long transaction and
/// the server's own pace hold more.
///
/// The bound is passed once. Afterwards, and where a start finds it passed, somebody may just be catching up: then an
/// endpoint goes only if the log grows on or nothing moves at all.
#[derive(Debug)]
pub(super) struct Pressure {
    bound: u64,
    /// Something was measured already.
    seen: bool,
    /// Since when the log did not shrink, and how much was unconfirmed then; only beyond the bound.
    over: Option<(Instant, u64)>,
}

impl Pressure {
    pub(super) fn new(bound: u64) -> Self {
        Self { bound, seen: false, over: None }
    }

    pub(super) fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether the slowest endpoint must be detached now. `waiting` says that the source waits for endpoints.
    pub(super) fn rises(&mut self, unconfirmed: u64, waiting: bool, now: Instant) -> bool {
        let first = !std::mem::replace(&mut self.seen, true);
        if unconfirmed <= self.bound {
            self.over = None;
            return false;
        }
        let Some((since, before)) = self.over else {
            self.over = Some((now, unconfirmed));
            return waiting && !first;
        };
        if unconfirmed < before {
            self.over = Some((now, unconfirmed));
            return false;
        }
        if !waiting {
            // Capture moves; what comes in faster than it goes out counts all the same.
            self.over = Some((now, before));
            return false;
        }
        let grown = unconfirmed > before.saturating_add(self.bound / 10);
        let rises = grown || now.duration_since(since) >= PATIENCE;
        if rises {
            self.over = Some((now, unconfirmed));
        }
        rises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_endpoint_goes_at_a_time() {
        let start = Instant::now();
        let mut pressure = Pressure::new(1000);
        let mut at = |seconds: u64, bytes| pressure.rises(bytes, true, start + Duration::from_secs(seconds));
        assert!(!at(0, 900) && !at(1, 1000));
        assert!(at(2, 1001));
        // The log stays for a while, though nobody is slow any more.
        assert!(!at(3, 1001) && !at(4, 1050));
        // It grows on.
        assert!(at(5, 1200));
        // Something moves: patience begins anew.
        assert!(!at(14, 1100) && !at(23, 1100));
        assert!(at(24, 1100));
        // It is over, and begins again.
        assert!(!at(25, 800));
        assert!(at(26, 1001));
    }

    #[test]
    fn who_catches_up_is_left_alone() {
        let start = Instant::now();
        let mut pressure = Pressure::new(1000);
        let mut at =
            |seconds, bytes, waiting| pressure.rises(bytes, waiting, start + Duration::from_secs(seconds));
        // After a long absence, with and without a full journal.
        assert!(!at(0, 5000, true) && !at(5, 4900, false) && !at(60, 4000, false));
        assert!(!at(61, 3900, true) && !at(62, 3900, true) && !at(70, 3000, true));
        assert!(!at(79, 3000, true) && at(80, 3000, true));
        // What is held without any endpoint's doing.
        assert!(!at(90, 9000, false) && !at(200, 9000, false));
        // Until there is one.
        assert!(at(201, 9000, true) && !at(202, 9000, true) && at(211, 9000, true));
    }
}
