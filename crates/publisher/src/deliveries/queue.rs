//! What waits to be written: bounded, and never waited for by whoever fills it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Outcome};
use super::writer::Work;

/// Attempts that were not recorded, since the publisher started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Successful ones, because more of them came than the disk took.
    pub delivered: u64,
    /// Others, when even without the successful ones twice [`super::Limits::queue_bytes`] waited.
    pub failed: u64,
    /// Of any kind, because the file could not be written.
    pub unwritten: u64,
}

/// Something to do inside a transaction, whose end somebody waits for.
pub(super) trait Operation: Send {
    /// Does it, in a savepoint of its own that is taken back if this fails.
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), ()>;

    /// The transaction is committed, or has failed as a whole.
    fn finish(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

pub(super) enum Message {
    Attempt(Box<Attempt>),
    Operation(Box<dyn Operation>),
}

#[derive(Default)]
struct Waiting {
    messages: Vec<Message>,
    /// Of attempts.
    bytes: usize,
    /// Somebody waits for an operation.
    urgent: bool,
    closed: bool,
}

/// The queue between lanes and the writing thread.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    max_bytes: usize,
    delivered: AtomicU64,
    failed: AtomicU64,
    unwritten: AtomicU64,
}

/// What the writing thread has taken.
pub(super) struct Taken {
    pub(super) messages: Vec<Message>,
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            max_bytes,
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an attempt, or drops and counts it.
    pub(super) fn attempt(&self, attempt: Attempt) {
        let (delivered, weight) = (attempt.outcome == Outcome::Delivered, attempt.weight());
        let room = if delivered { self.max_bytes } else { self.max_bytes.saturating_mul(2) };
        let mut waiting = self.lock();
        if waiting.closed || waiting.bytes.saturating_add(weight) > room {
            drop(waiting);
            let dropped = if delivered { &self.delivered } else { &self.failed };
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = waiting.bytes;
        waiting.bytes += weight;
        waiting.messages.push(Message::Attempt(Box::new(attempt)));
        // The writer sleeps until there is a first one, and then until enough have come.
        let half = self.max_bytes / 2;
        if waiting.messages.len() == 1 || (before < half && waiting.bytes >= half) {
            self.wake.notify_one();
        }
    }

    /// Adds an operation, whatever waits; false if nobody will do it.
    pub(super) fn operation(&self, operation: Box<dyn Operation>) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        waiting.messages.push(Message::Operation(operation));
        waiting.urgent = true;
        self.wake.notify_one();
        true
    }

    /// Waits up to `idle` for a first message and from then up to `gather` for more; less when somebody waits.
    pub(super) fn take(&self, idle: Duration, gather: Duration) -> Taken {
        let mut waiting = self.lock();
        let nothing = |waiting: &mut Waiting| waiting.messages.is_empty() && !waiting.closed;
        waiting =
            self.wake.wait_timeout_while(waiting, idle, nothing).unwrap_or_else(PoisonError::into_inner).0;
        let until = Instant::now() + gather;
        while !waiting.messages.is_empty()
            && !waiting.urgent
            && !waiting.closed
            && waiting.bytes < self.max_bytes / 2
        {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                break;
            };
            waiting = self.wake.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.bytes = 0;
        waiting.urgent = false;
        let messages = std::mem::take(&mut waiting.messages);
        Taken { messages, closed: waiting.closed }
    }

    /// Nothing more is taken in; what waits is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    pub(super) fn unwritten(&self, attempts: u64) {
        self.unwritten.fetch_add(attempts, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> Dropped {
        Dropped {
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            unwritten: self.unwritten.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::attempt;
    use super::*;

    #[test]
    fn pressure_takes_successes_first_and_operations_never() {
        let one = attempt("shop", 1, Outcome::Delivered).weight();
        let queue = Queue::new(one * 4);
        for number in 0..10 {
            queue.attempt(attempt("shop", number, Outcome::Delivered));
        }
        assert_eq!(queue.dropped(), Dropped { delivered: 6, ..Dropped::default() });
        for number in 0..10 {
            queue.attempt(attempt("shop", number, Outcome::Retry));
        }
        let dropped = queue.dropped();
        assert!(dropped.delivered == 6 && (6..10).contains(&dropped.failed), "{dropped:?}");
        struct Nothing;
        impl Operation for Nothing {
            fn run(&mut self, _: &mut Work<'_>) -> Result<(), ()> {
                Ok(())
            }
            fn finish(self: Box<Self>, _: Result<(), Arc<rusqlite::Error>>) {}
        }
        for _ in 0..100 {
            assert!(queue.operation(Box::new(Nothing)));
        }
        let taken = queue.take(Duration::ZERO, Duration::from_secs(60));
        let operations = taken.messages.iter().filter(|m| matches!(m, Message::Operation(_))).count();
        assert_eq!(operations, 100);
        // Room again.
        queue.attempt(attempt("shop", 11, Outcome::Delivered));
        assert_eq!(queue.dropped(), dropped);
        queue.close();
        assert!(!queue.operation(Box::new(Nothing)));
        let taken = queue.take(Duration::from_secs(60), Duration::from_secs(60));
        assert_eq!((taken.messages.len(), taken.closed), (1, true));
    }
}
