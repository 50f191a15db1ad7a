//! The publishing end as a whole: state, journal, lanes, and a source that is opened again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Opts, Registry};
use rand::RngExt as _;
use rowbridge_schema::config::{DatabaseUrl, PublisherConfig, SnapshotMode, Start};
use rowbridge_schema::tls::{self, TlsError};
use rowbridge_schema::{Classified, EndpointName, Position, SourceId};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::capture::{Capture, CaptureStart};
use crate::journal::{Journal, JournalError, JournalOptions, Recovered, SegmentJournal};
use crate::lane::{Lane, LaneConfig, LaneHandle, LaneSetupError, LaneStatus};
use crate::metrics::PublisherMetrics;
use crate::pump::{self, CaptureMetrics, Parts, PumpEnd, PumpStatus};
use crate::snapshot::SnapshotReader;
use crate::source::{MysqlSource, OpenSource, PostgresSource, Source, SqliteSource};
use crate::state::{Identity, Job, State, StateError, columns, values_changed};

/// First wait after a lost source.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
/// Longest wait; a state that needs a person is looked at as often.
const REOPEN_MAX: Duration = Duration::from_secs(10);

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
    /// Metrics registered twice.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// What `/readyz` and `status` show.
#[derive(Debug, Clone, Default)]
pub struct PublisherStatus {
    /// Why capture does not run, if it does not.
    pub source: Option<String>,
    /// Capture's own state.
    pub pump: PumpStatus,
    /// Lanes by name; empty before the source was first reached.
    pub lanes: Vec<(EndpointName, LaneStatus)>,
}

impl PublisherStatus {
    /// Everything that keeps the publisher from being ready, as sentences.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let source = self.source.iter().map(|problem| format!("source: {problem}"));
        let paused = self.pump.paused.iter().map(|problem| format!("capture is paused: {problem}"));
        let lanes = self.lanes.iter().filter(|(_, status)| !status.state.is_ready());
        let lanes = lanes.map(|(name, status)| format!("endpoint {name}: {}", status.state));
        source.chain(paused).chain(lanes).collect()
    }
}

/// A publisher that has its state and its journal, and is not running yet.
pub struct Publisher {
    config: PublisherConfig,
    grace: Duration,
    state: Arc<State>,
    journal: Arc<SegmentJournal>,
    recovered: Recovered,
    metrics: PublisherMetrics,
    capture_metrics: CaptureMetrics,
    endpoint_tls: Vec<Option<Arc<rustls::ClientConfig>>>,
    status: watch::Sender<PublisherStatus>,
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
        let mut endpoint_tls = Vec::with_capacity(config.endpoints.len());
        for endpoint in &config.endpoints {
            let pem = match &endpoint.ca {
                Some(path) => Some(
                    std::fs::read(path).map_err(|source| OpenError::File { path: path.clone(), source })?,
                ),
                None => None,
            };
            // Without TLS on the way, a machine without any authorities is as good as another.
            endpoint_tls.push(match endpoint.url.scheme() {
                "http" => None,
                _ => {
                    let what = format!("endpoint {}", endpoint.name);
                    let tls = tls::https_client(pem.as_deref());
                    Some(Arc::new(tls.map_err(|source| OpenError::Tls { what, source })?))
                }
            });
        }
        let names: Vec<EndpointName> =
            config.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        journal.set_lanes(&names);
        let status = watch::Sender::new(PublisherStatus {
            source: Some("not connected yet".into()),
            ..PublisherStatus::default()
        });
        Ok(Self {
            config,
            grace,
            state,
            journal: Arc::new(journal),
            recovered,
            metrics,
            capture_metrics,
            endpoint_tls,
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
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> Result<(), OpenError> {
        match self.config.source.database.clone() {
            DatabaseUrl::Postgres(url) => {
                let source = PostgresSource::new(self.config.source.clone(), &url)
                    .map_err(|source| OpenError::Tls { what: "source.url".into(), source })?;
                self.run_source(source, shutdown).await
            }
            DatabaseUrl::Mysql(url) => {
                let source = MysqlSource::new(self.config.source.clone(), &url, Arc::clone(&self.state))
                    .map_err(|source| OpenError::Tls { what: "source.url".into(), source })?;
                self.run_source(source, shutdown).await
            }
            DatabaseUrl::Sqlite(path) => {
                let source = SqliteSource::new(self.config.source.clone(), path);
                self.run_source(source, shutdown).await
            }
        }
    }

    async fn run_source<S: Source>(
        self,
        source: S,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), OpenError> {
        let mut lanes = Lanes::new(&self);
        if let Identity { source: Some(id), fresh: false, .. } = self.state.identity()? {
            lanes.start(&self, &id, &shutdown)?;
        }
        if self.state.wants_snapshot_all()? {
            self.start_over()?;
        }
        let mut wait = REOPEN_FIRST;
        let mut resume = self.recovered.resume.clone();
        while !*shutdown.borrow() {
            let identity = self.state.identity()?;
            let start = CaptureStart {
                epoch: identity.epoch,
                last: self.journal.last(),
                resume: resume.clone().filter(|_| !identity.fresh),
            };
            if !identity.fresh && start.resume.is_none() {
                let problem =
                    "the journal is gone, but state_dir knows that changes were captured; what was not \
                               delivered is lost. Run `rowbridge snapshot --all` to send everything again"
                        .to_owned();
                if self.failed(problem, true, &mut wait, &mut shutdown).await? {
                    self.start_over()?;
                }
                continue;
            }
            let claimed = self.state.is_claimed()?;
            let open = async {
                if !claimed {
                    source.refuse_taken().await.map_err(Unopened::Source)?;
                    self.state.claim().map_err(Unopened::State)?;
                }
                source.open(start, identity.clone()).await.map_err(Unopened::Source)
            };
            let opened = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                opened = open => opened,
            };
            let problem = match opened {
                Ok(opened) => {
                    wait = REOPEN_FIRST;
                    match self.pump(opened, &identity, &mut lanes, &shutdown).await? {
                        Ended::Shutdown => break,
                        Ended::SnapshotAll => {
                            self.start_over()?;
                            None
                        }
                        Ended::Failed { problem, permanent } => Some((problem, permanent)),
                    }
                }
                Err(Unopened::State(error)) => return Err(error.into()),
                Err(Unopened::Source(error)) => {
                    let permanent = !error.class().is_retryable();
                    if permanent {
                        self.state.unclaim()?;
                    }
                    Some((describe(&error), permanent))
                }
            };
            resume = self.journal.durable().borrow().resume.clone().or(resume);
            let Some((problem, permanent)) = problem else { continue };
            if self.failed(problem, permanent, &mut wait, &mut shutdown).await? {
                self.start_over()?;
            }
        }
        lanes.join().await;
        Ok(())
    }

    /// Says why capture does not run and waits for the next try; true if an operator wants to start over.
    async fn failed(
        &self,
        problem: String,
        permanent: bool,
        wait: &mut Duration,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<bool, OpenError> {
        if self.status.borrow().source.as_ref() != Some(&problem) {
            if permanent {
                tracing::error!(%problem, "capture needs a person");
            } else {
                tracing::warn!(%problem, "capture is interrupted and goes on when the source is there");
            }
        }
        self.status.send_modify(|status| status.source = Some(problem));
        let pause = if permanent { REOPEN_MAX } else { wait.mul_f64(rand::rng().random_range(0.5..1.0)) };
        *wait = (*wait * 2).min(REOPEN_MAX);
        self.pause(pause, shutdown).await
    }

    /// Waits, looking for a request to start over; true if there was one.
    async fn pause(&self, pause: Duration, shutdown: &mut watch::Receiver<bool>) -> Result<bool, OpenError> {
        let until = tokio::time::Instant::now() + pause;
        loop {
            if self.state.wants_snapshot_all()? {
                return Ok(true);
            }
            let next = until.min(tokio::time::Instant::now() + Duration::from_secs(1));
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(false),
                () = tokio::time::sleep_until(next) => {}
            }
            if next == until {
                return Ok(false);
            }
        }
    }

    /// A new epoch: slot or change log are made anew and every table is sent again.
    fn start_over(&self) -> Result<(), OpenError> {
        let identity = self.state.start_over()?;
        tracing::info!(epoch = identity.epoch, "everything is sent again");
        Ok(())
    }

    async fn pump<C: Capture, R: SnapshotReader + 'static>(
        &self,
        opened: OpenSource<C, R>,
        before: &Identity,
        lanes: &mut Lanes,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Ended, OpenError> {
        let OpenSource { capture, mut reader, source, identity, resume, start, added } = opened;
        if let Some(known) = before.source.as_ref().filter(|known| **known != source && !before.fresh) {
            let problem = format!(
                "this is database {source}, but the journal belongs to {known}; point source.url back, or run \
                 `rowbridge snapshot --all` to send everything from this one"
            );
            return Ok(Ended::Failed { problem, permanent: true });
        }
        let tables = match reader.tables().await {
            Ok(tables) => tables,
            Err(error) => {
                return Ok(Ended::Failed {
                    problem: describe(&error),
                    permanent: !error.class().is_retryable(),
                });
            }
        };
        self.plan_tables(&tables, &added, identity.fresh)?;
        if identity.fresh {
            // Durable before anything is captured: from here on the slot belongs to this journal.
            self.journal.mark(resume.clone()).await?;
            let mut durable = self.journal.durable();
            let _ = durable.wait_for(|durable| durable.resume.as_ref() == Some(&resume)).await;
        }
        // Before the state says that this epoch has begun: a kill in between must not lose it.
        let again = before.fresh && self.state.starts_over()?;
        let snapshot_from = again.then(|| Position::new(identity.epoch, 0, 0));
        if let Some(from) = snapshot_from {
            self.state.set_snapshot_from(from)?;
        }
        let identity = Identity { fresh: false, source: Some(source.clone()), ..identity };
        self.state.set_identity(&identity)?;
        self.plan_lanes(&tables)?;
        lanes.start(self, &source, shutdown)?;
        if let Some(from) = snapshot_from {
            lanes.snapshot_from(from);
        }
        self.status.send_modify(|status| status.source = None);
        let (pump_status, mut pump_changes) = watch::channel(PumpStatus::default());
        let parts = Parts {
            capture,
            reader,
            journal: Arc::clone(&self.journal),
            state: Arc::clone(&self.state),
            metrics: self.capture_metrics.clone(),
            confirm: self.config.journal.confirm,
            delivered: lanes.delivered(),
            status: pump_status,
            shutdown: shutdown.clone(),
        };
        let mirror = self.status.clone();
        let mirrored = tokio::spawn(async move {
            while pump_changes.changed().await.is_ok() {
                let now = pump_changes.borrow_and_update().clone();
                mirror.send_modify(|status| status.pump = now);
            }
        });
        let ended = pump::run(parts, identity.epoch, start).await;
        mirrored.abort();
        Ok(match ended {
            Ok(PumpEnd::Shutdown) => Ended::Shutdown,
            Ok(PumpEnd::SnapshotAll) => Ended::SnapshotAll,
            Err(pump::PumpError::Capture(error)) => {
                Ended::Failed { problem: describe(&error), permanent: !error.class().is_retryable() }
            }
            Err(pump::PumpError::Snapshot(error)) => {
                Ended::Failed { problem: describe(&error), permanent: !error.class().is_retryable() }
            }
            Err(pump::PumpError::Journal(error)) => return Err(error.into()),
            Err(pump::PumpError::State(error)) => return Err(error.into()),
        })
    }

    /// Compares the tables with what was sent before, and notes what is to be sent.
    fn plan_tables(
        &self,
        tables: &[rowbridge_schema::TableDef],
        added: &[rowbridge_schema::TableName],
        fresh: bool,
    ) -> Result<(), OpenError> {
        let known = self.state.tables()?;
        let again = fresh && self.state.starts_over()?;
        // Whoever begins with the next change gets no rows that were there before.
        let (with, without): (Vec<_>, Vec<_>) =
            self.config.endpoints.iter().partition(|endpoint| endpoint.start == Start::Snapshot);
        let only: Vec<EndpointName> = match without.is_empty() {
            true => vec![],
            false => with.iter().map(|endpoint| endpoint.name.clone()).collect(),
        };
        let first = |def| (!with.is_empty()).then(|| Job { only: only.clone(), ..Job::new(def, false) });
        for def in tables {
            let before = known.iter().find(|(name, _)| *name == def.name);
            let now = columns(def);
            let changed = before.is_some_and(|(_, old)| values_changed(old, &now));
            let job = match before {
                _ if again => Some(Job::new(def, true)),
                None if fresh && self.config.source.snapshot == SnapshotMode::Never => None,
                None => first(def),
                Some(_) if changed || added.contains(&def.name) && !fresh => Some(Job::new(def, true)),
                Some(_) => continue,
            };
            self.state.add_job(def, job.as_ref())?;
        }
        Ok(())
    }

    /// Notes lanes that are new: where they begin, and what they need first.
    fn plan_lanes(&self, tables: &[rowbridge_schema::TableDef]) -> Result<(), OpenError> {
        let first = self.state.lanes()?.is_empty();
        for endpoint in &self.config.endpoints {
            if self.state.lane_start(&endpoint.name)?.is_some() {
                continue;
            }
            let start = if first { Position::ZERO } else { self.journal.last().unwrap_or(Position::ZERO) };
            self.state.add_lane(&endpoint.name, start)?;
            if !first && endpoint.start == Start::Snapshot {
                for def in tables.iter().filter(|def| endpoint.tables.matches(&def.name)) {
                    let job = Job { only: vec![endpoint.name.clone()], ..Job::new(def, true) };
                    self.state.add_job(def, Some(&job))?;
                }
            }
        }
        Ok(())
    }
}

/// Why there is no capture.
enum Unopened<E> {
    Source(E),
    State(StateError),
}

enum Ended {
    Shutdown,
    SnapshotAll,
    Failed { problem: String, permanent: bool },
}

/// An error with its causes and what to do, as one line.
fn describe<E: std::error::Error + Classified>(error: &E) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}. {hint}"),
        None => text,
    }
}

/// The lanes' tasks.
struct Lanes {
    tasks: JoinSet<()>,
    handles: Vec<LaneHandle>,
    source: Option<SourceId>,
    delivered: watch::Sender<Option<Position>>,
    stop: watch::Sender<bool>,
}

impl Lanes {
    fn new(_publisher: &Publisher) -> Self {
        Self {
            tasks: JoinSet::new(),
            handles: Vec::new(),
            source: None,
            delivered: watch::Sender::new(None),
            stop: watch::Sender::new(false),
        }
    }

    fn delivered(&self) -> watch::Receiver<Option<Position>> {
        self.delivered.subscribe()
    }

    /// Starts the lanes of a source, once.
    fn start(
        &mut self,
        publisher: &Publisher,
        source: &SourceId,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), OpenError> {
        if self.source.as_ref() == Some(source) {
            return Ok(());
        }
        // Another database under the same stream: its deliveries carry another name.
        self.tasks.abort_all();
        self.handles.clear();
        self.stop.send_replace(false);
        let mut changes = Vec::new();
        for (endpoint, tls) in publisher.config.endpoints.iter().zip(&publisher.endpoint_tls) {
            let config = LaneConfig {
                stream: publisher.config.stream.clone(),
                source: source.clone(),
                endpoint: endpoint.clone(),
                start: publisher.state.lane_start(&endpoint.name)?.unwrap_or(Position::ZERO),
                snapshot_from: publisher.state.snapshot_from()?,
                first_epoch: publisher.state.first_epoch()?.unwrap_or(0),
                max_transaction: publisher.config.source.max_transaction,
                shutdown_grace: publisher.grace,
                timing: crate::lane::Timing::default(),
            };
            let journal = Arc::clone(&publisher.journal);
            let (lane, handle) = Lane::new(config, journal, tls.clone(), &publisher.metrics)?;
            changes.push((endpoint.name.clone(), handle.status()));
            self.handles.push(handle);
            self.tasks.spawn(lane.run(shutdown.clone()));
        }
        let status = publisher.status.clone();
        let delivered = self.delivered.clone();
        let journal = Arc::clone(&publisher.journal);
        let journal_metrics = publisher.metrics.clone();
        let stream = publisher.config.stream.clone();
        let mut stopped = shutdown.clone();
        self.tasks.spawn(async move {
            // Mirrors what the lanes say; a tick is enough for sizes, and lanes change far more often than anybody looks.
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return,
                    _ = tick.tick() => {}
                }
                let now: Vec<_> =
                    changes.iter().map(|(name, change)| (name.clone(), change.borrow().clone())).collect();
                let lowest = now.iter().map(|(_, lane)| lane.acked).min().flatten();
                delivered.send_if_modified(|known| std::mem::replace(known, lowest) != lowest);
                status.send_if_modified(|status| {
                    let changed = status.lanes != now;
                    status.lanes = now;
                    changed
                });
                let stats = journal.stats();
                let label = [stream.as_str()];
                journal_metrics.journal_bytes.with_label_values(&label).set(stats.bytes as i64);
                journal_metrics
                    .journal_undelivered_bytes
                    .with_label_values(&label)
                    .set(stats.undelivered_bytes as i64);
            }
        });
        self.source = Some(source.clone());
        Ok(())
    }

    fn snapshot_from(&self, position: Position) {
        for handle in &self.handles {
            handle.snapshot_from(position);
        }
    }

    async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
