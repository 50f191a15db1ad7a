//! What the publishing end measures, registered once on a passed registry. Labels are configured names and closed sets.

use std::sync::OnceLock;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use rowbridge_schema::{EndpointName, StreamName};

/// From one loopback round trip to the longest timeout that anybody configures.
const ATTEMPT_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// From a commit that is visible at once to one that waited for a target's maintenance.
const LATENCY_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];

/// All of the publisher's metrics.
#[derive(Debug, Clone)]
pub struct PublisherMetrics {
    /// `rowbridge_capture_changes_total{stream}`: changes read from the source.
    pub capture_changes: IntCounterVec,
    /// `rowbridge_capture_lag_bytes{stream}`: the source's end of log minus what capture has read.
    pub capture_lag_bytes: IntGaugeVec,
    /// `rowbridge_capture_lag_seconds{stream}`: age of the last captured commit while more is waiting, else 0.
    pub capture_lag_seconds: GaugeVec,
    /// `rowbridge_journal_bytes{stream}`: bytes of all segments.
    pub journal_bytes: IntGaugeVec,
    /// `rowbridge_journal_undelivered_bytes{stream}`: bytes of segments that hold something undelivered.
    pub journal_undelivered_bytes: IntGaugeVec,
    /// `rowbridge_attempts_unrecorded_total{stream}`: attempts that the log misses.
    pub attempts_unrecorded: IntCounterVec,
    lane_lag_seconds: GaugeVec,
    lane_changes: IntCounterVec,
    lane_deliveries: IntCounterVec,
    lane_repeated: IntCounterVec,
    lane_rewinds: IntCounterVec,
    lane_retries: IntCounterVec,
    lane_dead_letters: IntCounterVec,
    lane_attempts: HistogramVec,
    lane_latency: HistogramVec,
    lane_state: IntGaugeVec,
}

impl PublisherMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Something with one of these names is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        const LANE: &[&str] = &["stream", "endpoint"];
        const STREAM: &[&str] = &["stream"];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let int_gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let histogram = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        Ok(Self {
            capture_changes: counter(
                "rowbridge_capture_changes_total",
                "Changes read from the source.",
                STREAM,
            )?,
            capture_lag_bytes: int_gauge(
                "rowbridge_capture_lag_bytes",
                "End of the source's log minus what capture has read.",
                STREAM,
            )?,
            capture_lag_seconds: gauge(
                "rowbridge_capture_lag_seconds",
                "Age of the last captured commit while more is waiting.",
                STREAM,
            )?,
            journal_bytes: int_gauge("rowbridge_journal_bytes", "Bytes of all journal segments.", STREAM)?,
            journal_undelivered_bytes: int_gauge(
                "rowbridge_journal_undelivered_bytes",
                "Bytes of journal segments that hold something undelivered.",
                STREAM,
            )?,
            lane_lag_seconds: gauge(
                "rowbridge_lane_lag_seconds",
                "Age of the oldest commit that the endpoint has not acknowledged; 0 if there is none.",
                LANE,
            )?,
            lane_changes: counter(
                "rowbridge_lane_delivered_changes_total",
                "Changes that the endpoint acknowledged as committed or staged.",
                LANE,
            )?,
            lane_deliveries: counter(
                "rowbridge_lane_deliveries_total",
                "Deliveries that the endpoint acknowledged, empty ones included.",
                LANE,
            )?,
            lane_repeated: counter(
                "rowbridge_lane_repeated_deliveries_total",
                "Requests with changes that had been sent before.",
                LANE,
            )?,
            lane_rewinds: counter(
                "rowbridge_lane_rewinds_total",
                "Times that the target stood before what was sent, so that the lane went back.",
                LANE,
            )?,
            lane_retries: counter(
                "rowbridge_lane_retries_total",
                "Attempts that failed and are tried again, by kind of failure.",
                &["stream", "endpoint", "class"],
            )?,
            attempts_unrecorded: counter(
                "rowbridge_attempts_unrecorded_total",
                "Attempts that are missing in the attempt log, because more came than the disk took.",
                STREAM,
            )?,
            lane_dead_letters: counter(
                "rowbridge_lane_dead_letters_total",
                "Requests that were set aside, since they failed for good.",
                LANE,
            )?,
            lane_attempts: histogram(
                "rowbridge_lane_attempt_duration_seconds",
                "Duration of one HTTP exchange.",
                &["endpoint", "outcome"],
                &ATTEMPT_BUCKETS,
            )?,
            lane_latency: histogram(
                "rowbridge_lane_commit_to_ack_seconds",
                "From the commit at the source to the endpoint's acknowledgement, per block, snapshots excluded.",
                LANE,
                &LATENCY_BUCKETS,
            )?,
            lane_state: int_gauge(
                "rowbridge_lane_state",
                "1 for the state that the lane is in, 0 for the others.",
                &["stream", "endpoint", "state"],
            )?,
        })
    }

    /// The children of one lane, looked up once.
    #[must_use]
    pub(crate) fn lane(&self, stream: &StreamName, endpoint: &EndpointName) -> LaneMetrics {
        let lane = [stream.as_str(), endpoint.as_str()];
        LaneMetrics {
            lag_seconds: self.lane_lag_seconds.with_label_values(&lane),
            changes: self.lane_changes.with_label_values(&lane),
            deliveries: self.lane_deliveries.with_label_values(&lane),
            repeated: self.lane_repeated.with_label_values(&lane),
            rewinds: self.lane_rewinds.with_label_values(&lane),
            latency: self.lane_latency.with_label_values(&lane),
            dead_letters: self.lane_dead_letters.with_label_values(&lane),
            delivered: OnceLock::new(),
            all: self.clone(),
            stream: stream.clone(),
            endpoint: endpoint.clone(),
        }
    }
}

/// One lane's metrics.
#[derive(Debug)]
pub(crate) struct LaneMetrics {
    pub(crate) lag_seconds: Gauge,
    pub(crate) changes: IntCounter,
    pub(crate) deliveries: IntCounter,
    pub(crate) repeated: IntCounter,
    pub(crate) rewinds: IntCounter,
    pub(crate) latency: Histogram,
    pub(crate) dead_letters: IntCounter,
    /// Attempts that delivered: the series that is needed with each delivery, found once.
    delivered: OnceLock<Histogram>,
    all: PublisherMetrics,
    stream: StreamName,
    endpoint: EndpointName,
}

impl LaneMetrics {
    pub(crate) fn retry(&self, class: &str) {
        self.all.lane_retries.with_label_values(&[self.stream.as_str(), self.endpoint.as_str(), class]).inc();
    }

    pub(crate) fn attempt(&self, outcome: &str, seconds: f64) {
        self.all.lane_attempts.with_label_values(&[self.endpoint.as_str(), outcome]).observe(seconds);
    }

    /// An attempt that delivered.
    pub(crate) fn delivered(&self, seconds: f64) {
        let attempts = &self.all.lane_attempts;
        let series = || attempts.with_label_values(&[self.endpoint.as_str(), "delivered"]);
        self.delivered.get_or_init(series).observe(seconds);
    }

    /// Sets `current` among `all` states.
    pub(crate) fn state(&self, all: &[&str], current: &str) {
        for state in all {
            let labels = [self.stream.as_str(), self.endpoint.as_str(), *state];
            let gauge: IntGauge = self.all.lane_state.with_label_values(&labels);
            gauge.set(i64::from(*state == current));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_house_style_and_register_once() {
        let registry = Registry::new();
        let metrics = PublisherMetrics::new(&registry).unwrap();
        assert!(PublisherMetrics::new(&registry).is_err());
        let lane = metrics.lane(&"shop".parse().unwrap(), &"warehouse".parse().unwrap());
        lane.state(&["running", "halted"], "halted");
        lane.retry("network");
        lane.attempt("delivered", 0.002);
        metrics.capture_changes.with_label_values(&["shop"]).inc();
        for family in registry.gather() {
            let (name, counter) = (family.name().to_owned(), family.name().ends_with("_total"));
            assert!(name.starts_with("rowbridge_"), "{name}");
            assert_eq!(counter, family.get_field_type() == prometheus::proto::MetricType::COUNTER, "{name}");
        }
    }
}
