//! The publishing end as a whole: state, journal, lanes, and a source that is opened again whenever it is lost.

mod lanes;
mod plan;
mod run;
mod status;
mod takeover;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Opts, Registry};
use rowbridge_schema::config::{DatabaseUrl, PublisherConfig, WebhookConfig};
use rowbridge_schema::tls::{self, TlsError};
use rowbridge_schema::{Classified as _, EndpointName};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::lanes::Board;
pub use self::status::PublisherStatus;
use crate::capture::OldRows;
use crate::deliveries::{Limits, Recorder, StoreError};
use crate::http;
use crate::journal::{JournalError, JournalOptions, Recovered, SegmentJournal};
use crate::lane::LaneSetupError;
use crate::metrics::PublisherMetrics;
use crate::pump::{CaptureMetrics, Wishes};
use crate::source::{MysqlSource, PostgresSource, SqliteSource};
use crate::state::{State, StateError};
use crate::webhook::{AlertLane, TlsFileError, WebhookSetupError, webhook_tls};

/// Why a publisher cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `state_dir`.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// TLS towards source or endpoint.
    #[error("TLS cannot be set up for {what}")]
    Tls {
        /// Key of the configuration.
        what: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// A file that the configuration names.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An endpoint.
    #[error(transparent)]
    Lane(#[from] LaneSetupError),
    /// An endpoint that is not Rowbridge.
    #[error("endpoint {endpoint} cannot be set up")]
    Webhook {
        /// Its name.
        endpoint: EndpointName,
        /// Why.
        #[source]
        source: WebhookSetupError,
    },
    /// The store of attempts and dead letters.
    #[error(transparent)]
    Deliveries(#[from] StoreError),
    /// Metrics registered twice.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl OpenError {
    /// What to do, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Deliveries(error) => error.hint(),
            Self::Tls { .. }
            | Self::File { .. }
            | Self::Lane(_)
            | Self::Webhook { .. }
            | Self::Metrics(_) => None,
        }
    }
}

/// A publisher that has its state and its journal, and is not running yet.
pub struct Publisher {
    config: PublisherConfig,
    grace: Duration,
    state: Arc<State>,
    journal: Arc<SegmentJournal>,
    board: Arc<Board>,
    recovered: Recovered,
    metrics: PublisherMetrics,
    capture_metrics: CaptureMetrics,
    ways: Vec<Way>,
    alerts: Vec<AlertLane>,
    /// Where it is written down how endpoints are doing, and what operators ask of them.
    recorder: Arc<Recorder>,
    /// Rows that replays ask for.
    wishes: Arc<Wishes>,
    status: watch::Sender<PublisherStatus>,
}

/// How an endpoint is reached; no TLS where there is none on the way.
enum Way {
    Bridge(Option<Arc<rustls::ClientConfig>>),
    Webhook { tls: Option<http::Tls>, webhook: Box<WebhookConfig> },
}

fn file(path: &std::path::Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
}

fn gauge(registry: &Registry, stream: &str, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::with_opts(Opts::new(name, help).const_label("stream", stream))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

impl Publisher {
    /// Locks `state_dir`, recovers the journal, registers metrics. Does not touch the source or an endpoint.
    ///
    /// # Errors
    /// See [`OpenError`]: all need a person.
    pub fn open(config: PublisherConfig, grace: Duration, registry: &Registry) -> Result<Self, OpenError> {
        let state = Arc::new(State::open(&config.state_dir, &config.stream)?);
        let options = JournalOptions { max_bytes: config.journal.max_bytes, retain: config.journal.retain };
        let (journal, recovered) = SegmentJournal::open(&config.state_dir, options)?;
        let metrics = PublisherMetrics::new(registry)?;
        let stream = config.stream.as_str();
        let capture_metrics = CaptureMetrics {
            changes: metrics.capture_changes.with_label_values(&[stream]),
            behind: metrics.capture_lag_bytes.with_label_values(&[stream]),
            lag_seconds: metrics.capture_lag_seconds.with_label_values(&[stream]),
            retained: gauge(
                registry,
                stream,
                "rowbridge_source_retained_bytes",
                "Bytes of its log that the source holds for us.",
            )?,
            paused: gauge(
                registry,
                stream,
                "rowbridge_capture_paused",
                "1 while capture waits for room in the journal.",
            )?,
            snapshots: gauge(
                registry,
                stream,
                "rowbridge_snapshot_pending_tables",
                "Tables whose existing rows are still being sent.",
            )?,
        };
        let limits = Limits::new(config.attempts, config.dead_letters);
        let recorder = Arc::new(Recorder::open(&config.state_dir, limits)?);
        let mut ways = Vec::with_capacity(config.endpoints.len());
        for endpoint in &config.endpoints {
            let tls_error = |source| OpenError::Tls { what: format!("endpoint {}", endpoint.name), source };
            ways.push(match &endpoint.webhook {
                Some(webhook) => {
                    let tls = webhook_tls(endpoint, webhook).map_err(|error| match error {
                        TlsFileError::File { path, source } => OpenError::File { path, source },
                        TlsFileError::Tls(source) => tls_error(source),
                    })?;
                    Way::Webhook { tls, webhook: webhook.clone() }
                }
                None => {
                    let pem = endpoint.ca.as_deref().map(file).transpose()?;
                    // Without TLS on the way, a machine without any authorities is as good as another.
                    let plain = endpoint.url.scheme() == "http";
                    let tls =
                        (!plain).then(|| tls::https_client(pem.as_deref())).transpose().map_err(tls_error)?;
                    Way::Bridge(tls.map(Arc::new))
                }
            });
        }
        let mut alerts = Vec::with_capacity(config.alerts.len());
        for alert in &config.alerts {
            if let Some(webhook) = &alert.endpoint.webhook {
                let (stream, state_dir) = (config.stream.clone(), config.state_dir.clone());
                let (alert, webhook) = (alert.clone(), webhook.clone());
                let name = alert.endpoint.name.clone();
                let lane = AlertLane::new(alert, webhook, stream, state_dir, Arc::clone(&recorder));
                alerts.push(lane.map_err(|source| OpenError::Webhook { endpoint: name, source })?);
            }
        }
        let journal = Arc::new(journal);
        let board = Board::new(
            config.endpoints.clone(),
            config.source.outboxes.clone(),
            config.journal.confirm,
            Arc::clone(&state),
            Arc::clone(&journal),
        );
        board.hold_for_attached()?;
        let status = watch::Sender::new(PublisherStatus {
            source: Some("not connected yet".into()),
            ..PublisherStatus::default()
        });
        Ok(Self {
            config,
            grace,
            state,
            journal,
            board: Arc::new(board),
            recovered,
            metrics,
            capture_metrics,
            ways,
            alerts,
            recorder,
            wishes: Arc::default(),
            status,
        })
    }

    /// What it is doing, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PublisherStatus> {
        self.status.subscribe()
    }

    /// Runs until shutdown. A source or an endpoint that is away is waited for; only a broken journal or state ends it.
    ///
    /// # Errors
    /// The journal's or the state's; TLS towards the source that cannot be set up.
    pub async fn run(mut self, shutdown: watch::Receiver<bool>) -> Result<(), OpenError> {
        // Ended with the rest: what is told then is told again after the next start.
        let mut alerts = JoinSet::new();
        for alert in self.alerts.drain(..) {
            alerts.spawn(alert.run(shutdown.clone()));
        }
        let old_rows = OldRows::of(&self.config.endpoints);
        match self.config.source.database.clone() {
            DatabaseUrl::Postgres(url) => {
                let source = PostgresSource::new(self.config.source.clone(), &url)
                    .map_err(|source| OpenError::Tls { what: "source.url".into(), source })?;
                self.run_source(source, shutdown).await
            }
            DatabaseUrl::Mysql(url) => {
                let source =
                    MysqlSource::new(self.config.source.clone(), &url, Arc::clone(&self.state), old_rows)
                        .map_err(|source| OpenError::Tls { what: "source.url".into(), source })?;
                self.run_source(source, shutdown).await
            }
            DatabaseUrl::Sqlite(path) => {
                let source = SqliteSource::new(self.config.source.clone(), path, old_rows);
                self.run_source(source, shutdown).await
            }
        }
    }
}
