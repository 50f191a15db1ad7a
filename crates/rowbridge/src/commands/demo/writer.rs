//! The shop's own thread: it trades at a steady pace and knows nothing of Rowbridge.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::probe::Probe;
use super::shop::{Shop, Tally};

/// Pace: what a busy shop does, and little enough to watch on a small machine.
const PER_SECOND: f64 = 120.0;

/// The thread and what it has done.
pub(super) struct Writer {
    thread: Option<JoinHandle<rusqlite::Result<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    transactions: AtomicU64,
    tally: Mutex<Tally>,
}

impl Writer {
    /// Starts to trade.
    pub(super) fn start(shop: Shop, probe: Arc<Probe>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("demo-shop".to_owned())
            .spawn(move || trade(shop, &probe, &mine))?;
        Ok(Self { thread: Some(thread), shared })
    }

    /// Transactions committed so far.
    pub(super) fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Acquire)
    }

    /// Rows written since the last call, by table.
    pub(super) fn take_tally(&self) -> Tally {
        std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the thread has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the transaction under way end, then stops.
    pub(super) fn stop(&mut self) -> rusqlite::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(rusqlite::Error::InvalidQuery),
            None => Ok(()),
        }
    }
}

fn trade(mut shop: Shop, probe: &Probe, shared: &Shared) -> rusqlite::Result<()> {
    let pause = Duration::from_secs_f64(1.0 / PER_SECOND);
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::Acquire) {
        shop.trade(|heartbeat| probe.sent(heartbeat))?;
        shared.transactions.fetch_add(1, Ordering::AcqRel);
        let tally = shop.take_tally();
        let mut all = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, ops) in tally {
            let sum = all.entry(table).or_default();
            sum.iter_mut().zip(ops).for_each(|(sum, rows)| *sum += rows);
        }
        drop(all);
        due += pause;
        let now = Instant::now();
        match due.checked_duration_since(now) {
            Some(wait) => std::thread::sleep(wait),
            // After a hold-up it goes on at its pace rather than making up for it.
            None => due = now,
        }
    }
    Ok(())
}
