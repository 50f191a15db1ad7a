//! Latency as a reader of the copy sees it: from the moment before the commit at the source to the moment when a query of
//! the copy returns the row. It holds the source's own commit and half a poll, and nothing of our own accounting.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

/// How often the copy is asked whether anything changed.
const POLL: Duration = Duration::from_micros(500);

/// Sent and not yet seen, and how long the others took.
#[derive(Debug, Default)]
pub(super) struct Probe {
    waiting: Mutex<VecDeque<(i64, Instant)>>,
    taken: Mutex<Vec<Duration>>,
    sent: AtomicI64,
    seen: AtomicI64,
    stop: AtomicBool,
}

impl Probe {
    /// A heartbeat is about to be committed.
    pub(super) fn sent(&self, id: i64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((id, Instant::now()));
        self.sent.store(id, Ordering::Release);
    }

    /// Everything up to a heartbeat is visible.
    fn seen(&self, id: i64, now: Instant) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|(sent, _)| *sent <= id) {
            if let Some((_, at)) = waiting.pop_front() {
                taken.push(now.saturating_duration_since(at));
            }
        }
        self.seen.store(id, Ordering::Release);
    }

    /// Transactions that the copy does not show yet.
    pub(super) fn behind(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether everything that was sent is visible.
    pub(super) fn has_caught_up(&self) -> bool {
        self.seen.load(Ordering::Acquire) >= self.sent.load(Ordering::Acquire)
    }

    /// Forgets what was measured so far.
    pub(super) fn reset(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Measurements since the last reset, from a number on.
    pub(super) fn since(&self, from: usize) -> Vec<Duration> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(from..).unwrap_or_default().to_vec()
    }

    /// Ends the watching thread.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Watches the copy on the calling thread until [`Self::stop`].
    fn watch(&self, copy: &Path) {
        let mut reader: Option<Connection> = None;
        let mut version = None;
        while !self.stop.load(Ordering::Acquire) {
            match &reader {
                // Made by the subscriber at its first delivery.
                None => reader = open(copy),
                Some(reader) => {
                    let mut look = || -> rusqlite::Result<()> {
                        let now = reader
                            .prepare_cached("PRAGMA data_version")?
                            .query_row([], |row| row.get::<_, i64>(0))?;
                        if version != Some(now) {
                            version = Some(now);
                            let last: Option<i64> = reader
                                .prepare_cached("SELECT max(id) FROM heartbeats")?
                                .query_row([], |row| row.get(0))?;
                            self.seen(last.unwrap_or(0), Instant::now());
                        }
                        Ok(())
                    };
                    // The table may not be there yet, or the file be locked for a moment: the next look tells.
                    if look().is_err() {
                        version = None;
                    }
                }
            }
            std::thread::sleep(POLL);
        }
    }
}

fn open(copy: &Path) -> Option<Connection> {
    if !copy.exists() {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(copy, flags).ok()
}

/// Starts the thread that watches the copy.
pub(super) fn start(probe: Arc<Probe>, copy: PathBuf) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("demo-reader".to_owned()).spawn(move || probe.watch(&copy))
}

/// The value below which `percent` of all lie (nearest rank), in milliseconds.
pub(super) fn percentile_ms(taken: &mut [Duration], percent: f64) -> Option<f64> {
    taken.sort_unstable();
    let rank = (percent / 100.0 * taken.len() as f64).ceil() as usize;
    let value = taken.get(rank.clamp(1, taken.len().max(1)) - 1)?;
    // Microseconds are all that a poll of half a millisecond can mean.
    Some((value.as_secs_f64() * 1e6).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut taken: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile_ms(&mut taken, 50.0), Some(100.0));
        assert_eq!(percentile_ms(&mut taken, 99.0), Some(198.0));
        assert_eq!(percentile_ms(&mut [Duration::from_micros(1_234)], 99.0), Some(1.234));
        assert_eq!(percentile_ms(&mut [], 50.0), None);
    }

    #[test]
    fn what_is_seen_is_no_longer_awaited() {
        let probe = Probe::default();
        (1..=3).for_each(|id| probe.sent(id));
        probe.seen(2, Instant::now());
        assert_eq!((probe.behind(), probe.since(0).len(), probe.has_caught_up()), (1, 2, false));
        probe.seen(3, Instant::now());
        assert!(probe.has_caught_up());
    }
}
