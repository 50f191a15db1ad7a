//! What the receiving end counts. Labels are closed sets: configured streams, HTTP statuses, outcomes.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets,
};

/// The `stream` of a request that no route took.
const NO_STREAM: &str = "none";

/// The subscriber's metrics, registered once.
#[derive(Debug, Clone)]
pub struct SubscriberMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    changes: IntCounterVec,
    commit_to_apply: HistogramVec,
    clock_skew: GaugeVec,
    repeated: IntCounterVec,
    connections: Gauge,
}

impl SubscriberMetrics {
    /// Registers everything on `registry`.
    ///
    /// # Errors
    /// A name is taken: two subscribers share one registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        // 1 ms to about 33 s: an empty delivery to a large one on a slow target.
        let seconds = exponential_buckets(0.001, 2.0, 16)?;
        // 1 ms to about 18 h: commit to visible, and catching up after a night.
        let lag = exponential_buckets(0.001, 4.0, 14)?;
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("rowbridge_receive_requests_total", "Requests answered, by HTTP status."),
                &["stream", "status"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "rowbridge_receive_duration_seconds",
                    "From a request's head to its answer.",
                )
                .buckets(seconds),
                &["stream"],
            )?,
            changes: IntCounterVec::new(
                Opts::new(
                    "rowbridge_apply_changes_total",
                    "Changes received: applied, duplicate (dropped, as the target has them), rejected.",
                ),
                &["stream", "outcome"],
            )?,
            commit_to_apply: HistogramVec::new(
                HistogramOpts::new(
                    "rowbridge_commit_to_apply_seconds",
                    "From the commit at the source to the commit at the target, per block of new changes.",
                )
                .buckets(lag),
                &["stream"],
            )?,
            clock_skew: GaugeVec::new(
                Opts::new(
                    "rowbridge_receive_clock_skew_seconds",
                    "The sender's clock minus ours at the last verified request.",
                ),
                &["stream"],
            )?,
            repeated: IntCounterVec::new(
                Opts::new(
                    "rowbridge_receive_repeated_deliveries_total",
                    "Deliveries with changes that the target had already.",
                ),
                &["stream"],
            )?,
            connections: Gauge::new("rowbridge_receive_connections", "Open connections.")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.changes.clone()))?;
        registry.register(Box::new(metrics.commit_to_apply.clone()))?;
        registry.register(Box::new(metrics.clock_skew.clone()))?;
        registry.register(Box::new(metrics.repeated.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn answered(&self, stream: Option<&str>, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[stream.unwrap_or(NO_STREAM), status.as_str()]).inc();
        if let Some(stream) = stream {
            self.duration.with_label_values(&[stream]).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn changes(&self, stream: &str, outcome: &str, count: u64) {
        self.changes.with_label_values(&[stream, outcome]).inc_by(count);
    }

    /// Changes of one delivery that were dropped because the target has them.
    pub(crate) fn repeated(&self, stream: &str, changes: u64) {
        self.changes(stream, "duplicate", changes);
        if changes > 0 {
            self.repeated.with_label_values(&[stream]).inc();
        }
    }

    /// A block that was committed at `at` at the source is visible at `now`, both in microseconds since 1970. Clocks
    /// differ: what would be negative says nothing.
    pub(crate) fn visible(&self, stream: &str, at: i64, now: i64) {
        if now >= at {
            let seconds = (now - at) as f64 / 1_000_000.0;
            self.commit_to_apply.with_label_values(&[stream]).observe(seconds);
        }
    }

    pub(crate) fn clock_skew(&self, stream: &str, skew_seconds: f64) {
        self.clock_skew.with_label_values(&[stream]).set(skew_seconds);
    }

    pub(crate) fn connections(&self, open: usize) {
        self.connections.set(open as f64);
    }
}
