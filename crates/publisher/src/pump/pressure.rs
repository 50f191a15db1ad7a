//! When an endpoint is too slow for the source: what the source's log holds because of us has a bound.

use std::time::{Duration, Instant};

use rowbridge_schema::{EndpointName, Position, TablePatterns};

use crate::capture::Retained;
use crate::state::StateError;

/// How long a detached endpoint's absence may take to show before the next slowest one is detached too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who carries changes on from the journal, as the pump sees it.
pub trait Roster: Send + Sync {
    /// Lets the stream go on without the endpoint that is furthest behind among those that hold something. `None` if there
    /// is none.
    ///
    /// # Errors
    /// The state's.
    fn detach_slowest(&self, reason: &str) -> Result<Option<EndpointName>, StateError>;

    /// Which tables an endpoint takes; `None` if there is no such endpoint.
    fn tables(&self, endpoint: &EndpointName) -> Option<TablePatterns>;

    /// A snapshot of all of an endpoint's tables follows `from`: it is whole with what comes behind.
    ///
    /// # Errors
    /// The state's.
    fn attach(&self, endpoint: &EndpointName, from: Position) -> Result<(), StateError>;
}

/// Decides when to detach. The source lets its log go only some time after an endpoint was detached, and what is left may
/// just be catching up: the next one goes only if the log grows on or nothing moves at all.
#[derive(Debug)]
pub(super) struct Pressure {
    bound: u64,
    /// The last endpoint was detached, or something moved since, and what was unconfirmed then.
    last: Option<(Instant, u64)>,
}

impl Pressure {
    pub(super) fn new(bound: u64) -> Self {
        Self { bound, last: None }
    }

    pub(super) fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether the slowest endpoint must be detached now. `held` is what of the log is held by slow endpoints.
    pub(super) fn rises(&mut self, held: u64, retained: Retained, now: Instant) -> bool {
        if held <= self.bound {
            self.last = None;
            return false;
        }
        let unconfirmed = retained.unconfirmed;
        match self.last {
            None => {}
            Some((_, before)) if unconfirmed < before => {
                self.last = Some((now, unconfirmed));
                return false;
            }
            Some((_, before)) if unconfirmed > before.saturating_add(self.bound / 10) => {}
            Some((at, _)) if now.duration_since(at) >= PATIENCE => {}
            Some(_) => return false,
        }
        self.last = Some((now, unconfirmed));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_endpoint_goes_at_a_time() {
        let start = Instant::now();
        let mut pressure = Pressure::new(1000);
        let mut at = |seconds: u64, bytes: u64| {
            let retained = Retained { bytes, unconfirmed: bytes };
            pressure.rises(bytes, retained, start + Duration::from_secs(seconds))
        };
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
}
