//! The publisher's lanes: their tasks, and what the rest of it tells them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rowbridge_schema::config::{ConfirmPolicy, EndpointConfig};
use rowbridge_schema::event::outbox::OutboxConfig;
use rowbridge_schema::{EndpointName, Position, SourceId, TablePatterns};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::threads::LaneThreads;
use super::{OpenError, Publisher, Way};
use crate::deliveries::{EndpointChange, EventKind, Recorder, StoreError};
use crate::journal::{Journal as _, SegmentJournal};
use crate::lane::{Lane, LaneConfig, LaneHandle, LaneState, LaneStatus, Orders};
use crate::pump::Roster;
use crate::state::{Job, State, StateError};
use crate::webhook::{Desk, Place, Sender, WebhookLane, WebhookLaneConfig};

/// All windows together; the promise of 64 MiB resident has to hold however many endpoints lag.
const ALL_WINDOWS: usize = 16 << 20;

/// Bytes of one lane's window.
fn window_bytes(endpoints: usize) -> usize {
    (ALL_WINDOWS / endpoints.max(1)).clamp(128 << 10, 4 << 20)
}

/// What an operator or an answer has said about an endpoint, in this life or an earlier one.
fn held_by_operator(orders: &mut Orders, recorder: &Recorder, name: &EndpointName) -> Result<(), StoreError> {
    if let Some(row) = recorder.store().endpoint(name)? {
        orders.paused = row.paused_at_ms.is_some();
        orders.disabled = row.disabled_at_ms.map(|_| row.disabled_reason.unwrap_or_default());
    }
    Ok(())
}

/// The lanes as others speak to them.
pub(super) struct Board {
    endpoints: Vec<EndpointConfig>,
    outboxes: Vec<OutboxConfig>,
    confirm: ConfirmPolicy,
    state: Arc<State>,
    journal: Arc<SegmentJournal>,
    handles: Mutex<Vec<LaneHandle>>,
}

impl Board {
    pub(super) fn new(
        endpoints: Vec<EndpointConfig>,
        outboxes: Vec<OutboxConfig>,
        confirm: ConfirmPolicy,
        state: Arc<State>,
        journal: Arc<SegmentJournal>,
    ) -> Self {
        Self { endpoints, outboxes, confirm, state, journal, handles: Mutex::default() }
    }

    fn handles(&self) -> MutexGuard<'_, Vec<LaneHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what a lane was told, if that is something new.
    fn order(&self, name: &EndpointName, change: &dyn Fn(&mut Orders)) {
        for handle in self.handles().iter().filter(|handle| handle.name() == name) {
            handle.order_if_new(change);
        }
    }

    /// The journal keeps what these endpoints need, and nothing for the detached ones.
    pub(super) fn hold_for_attached(&self) -> Result<(), StateError> {
        let mut attached = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            if self.state.detached(&endpoint.name)?.is_none() {
                attached.push(endpoint.name.clone());
            }
        }
        self.journal.set_lanes(&attached);
        Ok(())
    }

    /// Capture runs in this epoch; with a snapshot of everything behind a position, nobody is detached any more.
    pub(super) fn began(&self, epoch: u32, snapshot_from: Option<Position>) -> Result<(), StateError> {
        if snapshot_from.is_some() {
            self.hold_for_attached()?;
        }
        for handle in self.handles().iter() {
            handle.order(|orders| {
                orders.epoch = epoch;
                if let Some(from) = snapshot_from {
                    orders.snapshot_from = orders.snapshot_from.max(Some(from));
                    orders.detached = None;
                }
            });
        }
        Ok(())
    }
}

impl Roster for Board {
    fn detach_slowest(&self, reason: &str) -> Result<Option<EndpointName>, StateError> {
        let handles = self.handles();
        let holds = |lane: &LaneStatus| match lane.state {
            // The journal has let go of what it needs; with `delivered` the source has not.
            LaneState::NeedsSnapshot { .. } => self.confirm == ConfirmPolicy::Delivered,
            _ => true,
        };
        let slowest = handles
            .iter()
            .filter(|handle| handle.orders().detached.is_none() && holds(&handle.status().borrow()))
            .min_by_key(|handle| handle.status().borrow().acked);
        let Some(slowest) = slowest else { return Ok(None) };
        self.state.detach(slowest.name(), reason)?;
        slowest.order(|orders| orders.detached = Some(reason.to_owned()));
        let name = slowest.name().clone();
        drop(handles);
        self.hold_for_attached()?;
        Ok(Some(name))
    }

    fn tables(&self, endpoint: &EndpointName) -> Option<TablePatterns> {
        let known = self.endpoints.iter().find(|known| known.name == *endpoint);
        known.map(|endpoint| endpoint.tables.clone())
    }

    fn wanted(&self, job: Job) -> Option<Job> {
        if !self.outboxes.iter().any(|outbox| outbox.is(&job.table)) {
            return Some(job);
        }
        let copies = |endpoint: &&EndpointConfig| {
            endpoint.webhook.is_none()
                && endpoint.tables.matches(&job.table)
                && (job.only.is_empty() || job.only.contains(&endpoint.name))
        };
        let only: Vec<_> =
            self.endpoints.iter().filter(copies).map(|endpoint| endpoint.name.clone()).collect();
        (!only.is_empty()).then_some(Job { only, ..job })
    }

    fn attach(&self, endpoint: &EndpointName, from: Position) -> Result<(), StateError> {
        let was_detached = self.state.detached(endpoint)?.is_some();
        self.state.attach(endpoint, from)?;
        if was_detached {
            // Held from the beginning until the lane says where it is.
            self.hold_for_attached()?;
            self.journal.release(endpoint, from);
        }
        for handle in self.handles().iter().filter(|handle| handle.name() == endpoint) {
            handle.order(|orders| {
                orders.snapshot_from = orders.snapshot_from.max(Some(from));
                orders.detached = None;
            });
        }
        Ok(())
    }
}

/// Writes down when a bridge begins to fail and when it works again; other endpoints' lanes do that themselves.
struct BridgeNews {
    recorder: Arc<Recorder>,
    /// What was written down last, if anything was.
    failing: HashMap<EndpointName, Option<bool>>,
}

impl BridgeNews {
    async fn tell(&mut self, lanes: &[(EndpointName, LaneStatus)]) {
        for (name, lane) in lanes {
            let Some(failing) = self.failing.get_mut(name) else { continue };
            let now = match &lane.state {
                LaneState::Running => false,
                LaneState::Starting | LaneState::Paused => continue,
                LaneState::Retrying { .. }
                | LaneState::Halted { .. }
                | LaneState::NeedsSnapshot { .. }
                | LaneState::Detached { .. }
                | LaneState::Disabled { .. } => true,
            };
            if failing.replace(now) == Some(now) {
                continue;
            }
            let change = match now {
                true => EndpointChange::because(EventKind::Failing, lane.state.to_string()),
                false => EndpointChange::new(EventKind::Recovered),
            };
            if let Err(error) = self.recorder.change_endpoint(name, change).await {
                tracing::warn!(endpoint = %name, %error, "a change of the endpoint's state cannot be written down");
            }
        }
    }
}

/// The lanes' tasks.
pub(super) struct Lanes {
    tasks: JoinSet<()>,
    threads: LaneThreads,
    board: Arc<Board>,
    source: Option<SourceId>,
    delivered: watch::Sender<Option<Position>>,
}

impl Lanes {
    pub(super) fn new(publisher: &Publisher) -> Self {
        Self {
            tasks: JoinSet::new(),
            threads: LaneThreads::default(),
            board: Arc::clone(&publisher.board),
            source: None,
            delivered: watch::Sender::new(None),
        }
    }

    pub(super) fn delivered(&self) -> watch::Receiver<Option<Position>> {
        self.delivered.subscribe()
    }

    /// Starts the lanes of a source, once.
    pub(super) fn start(
        &mut self,
        publisher: &Publisher,
        source: &SourceId,
        epoch: u32,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), OpenError> {
        if self.source.as_ref() == Some(source) {
            return Ok(());
        }
        // Another database under the same stream: its deliveries carry another name.
        self.tasks.abort_all();
        self.board.handles().clear();
        let mut changes = Vec::new();
        let recorder = &publisher.recorder;
        let mut desk =
            Desk::new(Arc::clone(&publisher.journal), Arc::clone(recorder), Arc::clone(&publisher.wishes));
        for (endpoint, way) in publisher.config.endpoints.iter().zip(&publisher.ways) {
            let known = publisher.state.lane_start(&endpoint.name)?;
            // One that joins gets rows as they are, if it wants them, and what comes then: not what the journal still has,
            // which a target would pass over and others would take for news.
            let joins = || publisher.journal.last().filter(|_| matches!(way, Way::Webhook { .. }));
            let start = known.or_else(joins).unwrap_or(Position::ZERO);
            let mut orders = Orders {
                snapshot_from: publisher.state.snapshot_from(&endpoint.name)?,
                epoch,
                detached: publisher.state.detached(&endpoint.name)?,
                ..Orders::default()
            };
            let journal = Arc::clone(&publisher.journal);
            let handle = match way {
                Way::Webhook { tls, webhook } => {
                    held_by_operator(&mut orders, recorder, &endpoint.name)?;
                    let config = WebhookLaneConfig {
                        stream: publisher.config.stream.clone(),
                        source: source.clone(),
                        database: publisher.config.source.database.name(),
                        state_dir: publisher.config.state_dir.clone(),
                        endpoint: endpoint.clone(),
                        webhook: webhook.clone(),
                        outboxes: publisher.config.source.outboxes.clone().into(),
                        start,
                        orders,
                        window_bytes: window_bytes(publisher.config.endpoints.len()),
                        shutdown_grace: publisher.grace,
                    };
                    let failed = |source| OpenError::Webhook { endpoint: endpoint.name.clone(), source };
                    let sender = Sender::new(&config, tls.clone()).map_err(failed)?;
                    desk.add(Place { config: config.clone(), sender: sender.clone() });
                    let recorder = Arc::clone(recorder);
                    let (lane, handle) =
                        WebhookLane::new(config, journal, sender, recorder, &publisher.metrics)
                            .map_err(failed)?;
                    self.tasks.spawn_on(lane.run(shutdown.clone()), &self.threads.next());
                    handle
                }
                Way::Bridge(tls) => {
                    desk.add_bridge(endpoint.clone());
                    let config = LaneConfig {
                        stream: publisher.config.stream.clone(),
                        source: source.clone(),
                        endpoint: endpoint.clone(),
                        start,
                        first: publisher.state.first()?,
                        orders,
                        max_transaction: publisher.config.source.max_transaction,
                        shutdown_grace: publisher.grace,
                        timing: crate::lane::Timing::default(),
                    };
                    let (lane, handle) = Lane::new(config, journal, tls.clone(), &publisher.metrics)?;
                    self.tasks.spawn(lane.run(shutdown.clone()));
                    handle
                }
            };
            changes.push((endpoint.name.clone(), handle.status()));
            self.board.handles().push(handle);
        }
        let board = Arc::clone(&self.board);
        let order = move |name: &EndpointName, change: &dyn Fn(&mut Orders)| board.order(name, change);
        self.tasks.spawn(desk.run(order, shutdown.clone()));
        let status = publisher.status.clone();
        let state = Arc::clone(&publisher.state);
        let mut seen = epoch;
        let delivered = self.delivered.clone();
        let journal = Arc::clone(&publisher.journal);
        let journal_metrics = publisher.metrics.clone();
        let stream = publisher.config.stream.clone();
        let mut stopped = shutdown.clone();
        let bridges = publisher.config.endpoints.iter().filter(|endpoint| endpoint.webhook.is_none());
        let mut news = BridgeNews {
            recorder: Arc::clone(&publisher.recorder),
            failing: bridges.map(|endpoint| (endpoint.name.clone(), None)).collect(),
        };
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
                let attached =
                    || now.iter().filter(|(_, lane)| !matches!(lane.state, LaneState::Detached { .. }));
                let lowest = match attached().next() {
                    Some(_) => attached().map(|(_, lane)| lane.acked).min().flatten(),
                    // Nobody waits for anything.
                    None => journal.last(),
                };
                news.tell(&now).await;
                let dropped = news.recorder.dropped();
                let unrecorded = dropped.delivered + dropped.failed + dropped.unwritten;
                let counter = journal_metrics.attempts_unrecorded.with_label_values(&[stream.as_str()]);
                counter.inc_by(unrecorded.saturating_sub(counter.get()));
                delivered.send_if_modified(|known| std::mem::replace(known, lowest) != lowest);
                let highest = now.iter().filter_map(|(_, lane)| lane.answered).map(|at| at.epoch).max();
                if let Some(highest) = highest.filter(|highest| *highest > seen) {
                    match state.saw_epoch(highest) {
                        Ok(()) => seen = highest,
                        Err(error) => tracing::warn!(%error, "an epoch that a target knows cannot be noted"),
                    }
                }
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

    /// Lets all lanes go: another publisher takes over. A delivery in flight may still arrive, as after a kill.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
        self.board.handles().clear();
        self.source = None;
        self.delivered.send_replace(None);
    }

    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(super) async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
