//! What the pump measures, for one stream.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter, IntGauge};

use crate::journal::Block;

/// The pump's numbers, labelled with its stream already.
#[derive(Debug, Clone)]
pub struct CaptureMetrics {
    /// Changes read from the source, rows of snapshots too.
    pub changes: IntCounter,
    /// The source's end of log minus what was captured; bytes, for SQLite changes.
    pub behind: IntGauge,
    /// Bytes of its log that the source holds for us.
    pub retained: IntGauge,
    /// Age of the last captured commit when it was captured.
    pub lag_seconds: Gauge,
    /// 1 while capture waits for room in the journal.
    pub paused: IntGauge,
    /// Tables whose existing rows are still being sent.
    pub snapshots: IntGauge,
}

impl CaptureMetrics {
    pub(super) fn captured(&self, block: &Block) {
        self.changes.inc_by(block.changes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        self.lag_seconds.set((now - block.head.at).max(0) as f64 / 1e6);
    }

    /// The source has nothing more at this moment.
    pub(super) fn caught_up(&self) {
        self.lag_seconds.set(0.0);
    }

    pub(super) fn behind(&self, distance: u64) {
        self.behind.set(i64::try_from(distance).unwrap_or(i64::MAX));
    }

    pub(super) fn retained(&self, bytes: u64) {
        self.retained.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    pub(super) fn snapshots_pending(&self, tables: usize) {
        self.snapshots.set(tables as i64);
    }
}
