//! When to look at the file again.
//!
//! The operating system tells that the write-ahead log was written, which happens before the commit shows in the
//! (memory-mapped, silent) index: a reader that looks at once may see nothing. So a wake that found nothing is followed by
//! looks after 0.1, 0.2, ... 3.2 ms. A slow poll covers file systems that tell nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::error::SqliteError;

/// How often to look without being told.
pub(crate) const POLL: Duration = Duration::from_millis(500);

const FIRST_RECHECK: Duration = Duration::from_micros(100);
const LAST_RECHECK: Duration = Duration::from_micros(3_200);

/// Tells of writes to the database and its log.
///
/// The folder is watched, not the file: the `-wal` file is removed with the last connection. `wake` is called once until
/// `told` is cleared, so that a busy folder costs no messages.
pub(crate) fn watch(
    path: &Path,
    told: Arc<AtomicBool>,
    wake: impl Fn() + Send + 'static,
) -> Result<RecommendedWatcher, SqliteError> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let fail = |source| SqliteError::Watch { path: folder.clone(), source };
    let database = path.file_name().unwrap_or_default().to_owned();
    let mut log = database.clone();
    log.push("-wal");
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns_us = match &event {
            // An error (a queue that ran over) may have hidden something.
            Err(_) => true,
            Ok(event) => {
                !matches!(event.kind, EventKind::Access(_))
                    && (event.paths.is_empty()
                        || event
                            .paths
                            .iter()
                            .any(|p| p.file_name().is_some_and(|n| n == log || n == database)))
            }
        };
        if concerns_us && !told.swap(true, Ordering::AcqRel) {
            wake();
        }
    })
    .map_err(fail)?;
    watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(fail)?;
    Ok(watcher)
}

/// The next time to look.
#[derive(Debug)]
pub(crate) struct Schedule {
    recheck: Option<Duration>,
    next: Instant,
}

impl Schedule {
    pub(crate) fn new(now: Instant) -> Self {
        Self { recheck: None, next: now }
    }

    /// Something was written: look now, and a few times more.
    pub(crate) fn woken(&mut self, now: Instant) {
        self.recheck = Some(FIRST_RECHECK);
        self.next = now;
    }

    /// A look found nothing new.
    pub(crate) fn found_nothing(&mut self, now: Instant) {
        match self.recheck {
            Some(after) => {
                self.next = now + after;
                self.recheck = Some(after * 2).filter(|&next| next <= LAST_RECHECK);
            }
            None => self.next = now + POLL,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_wake_is_followed_by_rechecks_and_then_by_the_poll() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.woken(start);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..7 {
            assert!(schedule.is_due(now));
            schedule.found_nothing(now);
            waits.push((schedule.next() - now).as_micros());
            now = schedule.next();
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, POLL.as_micros()]);
    }
}
