//! One ordered lane per (stream, endpoint): one request at a time, one session at the target.
//!
//! A session is only a cache of what the target knows: it is opened when it is needed, dropped after any error and
//! closed when another lane needs the room. Whatever is not committed is then gone, and the publisher hears of it as a
//! gap.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rowbridge_schema::wire::Delivery;
use rowbridge_schema::{Class, Classified, EndpointName, Failpoint, Position, StreamName};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::apply::{Applied, ApplyTarget, TargetLane};
use crate::receive::Limits;

/// Whether the target can be reached, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TargetHealth {
    /// Not tried yet.
    #[default]
    Unknown,
    /// The last session was opened and answered.
    Reachable,
    /// The last session could not be opened.
    Failed {
        /// Why, for the operator; without values or secrets.
        message: String,
    },
}

/// What the target said when it could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetFailure {
    pub(crate) class: Class,
    message: String,
}

impl TargetFailure {
    /// Keeps the error's own line and its hint. Its sources stay out: a driver's error may quote rows.
    fn of<E: std::error::Error + Classified>(error: &E) -> Self {
        let message = match error.hint() {
            Some(hint) => format!("{error}. {hint}"),
            None => error.to_string(),
        };
        Self { class: error.class(), message }
    }
}

impl fmt::Display for TargetFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a lane gave no verdict.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneError {
    /// Another request of the lane is still being applied.
    #[error("an earlier request of this lane is still being applied")]
    Busy,
    /// All lanes of the route are at work.
    #[error("all {max} lanes that this route may have are at work: too many endpoints send to one path")]
    TooMany { max: usize },
    /// The target failed.
    #[error("{0}")]
    Target(TargetFailure),
}

/// What a lane said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LaneOutcome {
    /// Where the lane stands; `None` if the target has never heard of it.
    Handshake { position: Option<Position> },
    /// What became of a delivery.
    Applied(Applied),
}

struct Session<L> {
    lane: Option<L>,
    /// Rolls an open transaction back when its next part does not come.
    timer: Option<AbortHandle>,
}

impl<L> Session<L> {
    fn stop_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

struct Lane<L> {
    session: AsyncMutex<Session<L>>,
    used: Mutex<Instant>,
}

impl<L> Lane<L> {
    fn new() -> Arc<Self> {
        let session = AsyncMutex::new(Session { lane: None, timer: None });
        Arc::new(Self { session, used: Mutex::new(Instant::now()) })
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody uses it and nothing is open in it.
    fn is_idle(&self) -> bool {
        self.session.try_lock().is_ok_and(|session| session.timer.is_none())
    }
}

/// The publisher will not go on where the open transaction stands: it must not keep its locks until the timer.
fn ends_without_commit(outcome: &LaneOutcome) -> bool {
    match outcome {
        LaneOutcome::Handshake { .. } => false,
        LaneOutcome::Applied(applied) => match applied {
            Applied::Committed { .. } | Applied::Staged { .. } => false,
            Applied::Gap { .. }
            | Applied::ForeignSource { .. }
            | Applied::OldEpoch { .. }
            | Applied::Rejected { .. } => true,
        },
    }
}

type LaneMap<L> = HashMap<(StreamName, EndpointName), Arc<Lane<L>>>;

/// All lanes of one target.
pub(crate) struct Lanes<T: ApplyTarget> {
    target: T,
    lanes: Mutex<LaneMap<T::Lane>>,
    limits: Limits,
    health: watch::Sender<TargetHealth>,
    suspect: Notify,
}

impl<T: ApplyTarget> Lanes<T> {
    pub(crate) fn new(target: T, limits: Limits) -> Self {
        Self {
            target,
            lanes: Mutex::new(HashMap::new()),
            limits,
            health: watch::Sender::new(TargetHealth::Unknown),
            suspect: Notify::new(),
        }
    }

    pub(crate) fn health(&self) -> watch::Receiver<TargetHealth> {
        self.health.subscribe()
    }

    /// Applies a delivery, or says where the lane stands if the delivery asks just that.
    ///
    /// Cancel safety: a dropped call drops the lane's session, so that the target rolls back.
    pub(crate) async fn deliver(&self, delivery: &Delivery<'_>) -> Result<LaneOutcome, LaneError> {
        let head = &delivery.head;
        let lane = self.lane(&head.stream, &head.endpoint)?;
        let Ok(mut session) = timeout(self.limits.lane_wait, lane.session.lock()).await else {
            return Err(LaneError::Busy);
        };
        lane.touch();
        let was_open = session.timer.is_some();
        session.stop_timer();
        // Out of its place for as long as it works: after an error, a panic or a dropped call it is not put back.
        let mut worker = match session.lane.take() {
            Some(worker) => worker,
            None => self.open(&head.stream, &head.endpoint).await?,
        };
        let outcome = if head.prev.is_none() && head.to.is_none() {
            worker.progress().await.map(|progress| match progress {
                // A foreign source must not take this lane's position for its own.
                Some(progress) if progress.source != head.source => {
                    let (expected, position) = (progress.source, progress.position);
                    LaneOutcome::Applied(Applied::ForeignSource { expected, position })
                }
                progress => LaneOutcome::Handshake { position: progress.map(|progress| progress.position) },
            })
        } else {
            worker.apply(delivery).await.map(LaneOutcome::Applied)
        };
        if let Ok(LaneOutcome::Applied(Applied::Committed { .. })) = &outcome {
            Failpoint::Committed.pass();
        }
        lane.touch();
        let outcome = outcome.map_err(|error| self.failed(&error))?;
        if was_open && ends_without_commit(&outcome) && worker.rollback().await.is_err() {
            // Without its session the server rolls back by itself.
            return Ok(outcome);
        }
        session.lane = Some(worker);
        if matches!(outcome, LaneOutcome::Applied(Applied::Staged { .. })) {
            session.timer = Some(self.roll_back_later(&lane, &head.stream, &head.endpoint));
        }
        Ok(outcome)
    }

    /// Rolls back what is open and closes all sessions.
    pub(crate) async fn close(&self) {
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in lanes.into_values() {
            let mut session = lane.session.lock().await;
            let staged = session.timer.is_some();
            session.stop_timer();
            if let Some(mut worker) = session.lane.take()
                && staged
            {
                let _ = worker.rollback().await;
            }
        }
    }

    /// Finds out whether the target answers: at the start, and after each failure until it does. Never returns.
    pub(crate) async fn watch_target(&self, stream: &StreamName) {
        const FIRST_WAIT: Duration = Duration::from_millis(500);
        const LONGEST_WAIT: Duration = Duration::from_secs(10);
        let probe: EndpointName = "rowbridge-probe".parse().expect("the constant is a valid name");
        loop {
            let mut wait = FIRST_WAIT;
            while !self.probe(stream, &probe).await {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            self.suspect.notified().await;
        }
    }

    /// Opens a session for nobody and asks it something. Leaves no row: only an apply inserts progress.
    async fn probe(&self, stream: &StreamName, endpoint: &EndpointName) -> bool {
        let Ok(mut lane) = self.open(stream, endpoint).await else { return false };
        match timeout(self.limits.open_timeout, lane.progress()).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                self.report(TargetHealth::Failed { message: TargetFailure::of(&error).message });
                false
            }
            Err(_) => {
                self.report(TargetHealth::Failed { message: self.silence() });
                false
            }
        }
    }

    async fn open(&self, stream: &StreamName, endpoint: &EndpointName) -> Result<T::Lane, LaneError> {
        let failure = match timeout(self.limits.open_timeout, self.target.open(stream, endpoint)).await {
            Ok(Ok(lane)) => {
                self.report(TargetHealth::Reachable);
                return Ok(lane);
            }
            Ok(Err(error)) => TargetFailure::of(&error),
            Err(_) => TargetFailure { class: Class::RETRYABLE, message: self.silence() },
        };
        self.report(TargetHealth::Failed { message: failure.message.clone() });
        self.suspect.notify_one();
        Err(LaneError::Target(failure))
    }

    fn silence(&self) -> String {
        format!("the target did not answer within {} s", self.limits.open_timeout.as_secs_f32())
    }

    /// A session failed: it may be the data's or a lock's fault, so only a look at the target changes its health.
    fn failed<E: std::error::Error + Classified>(&self, error: &E) -> LaneError {
        self.suspect.notify_one();
        LaneError::Target(TargetFailure::of(error))
    }

    fn report(&self, health: TargetHealth) {
        self.health.send_if_modified(|current| {
            if *current == health {
                return false;
            }
            match &health {
                TargetHealth::Failed { message } => tracing::warn!(error = %message, "target is away"),
                TargetHealth::Reachable => tracing::info!("target is reachable"),
                TargetHealth::Unknown => {}
            }
            *current = health;
            true
        });
    }

    fn lane(&self, stream: &StreamName, endpoint: &EndpointName) -> Result<Arc<Lane<T::Lane>>, LaneError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (stream.clone(), endpoint.clone());
        if let Some(lane) = lanes.get(&key) {
            return Ok(Arc::clone(lane));
        }
        if lanes.keys().filter(|(other, _)| other == stream).count() >= self.limits.max_lanes {
            // A lane that somebody has just been given and not locked yet has a second owner.
            let idle = |lane: &Arc<Lane<T::Lane>>| Arc::strong_count(lane) == 1 && lane.is_idle();
            let oldest = lanes
                .iter()
                .filter(|((other, _), lane)| other == stream && idle(lane))
                .min_by_key(|(_, lane)| lane.last_used())
                .map(|(key, _)| key.clone());
            let oldest = oldest.ok_or(LaneError::TooMany { max: self.limits.max_lanes })?;
            lanes.remove(&oldest);
        }
        let lane = Lane::new();
        lanes.insert(key, Arc::clone(&lane));
        Ok(lane)
    }

    fn roll_back_later(
        &self,
        lane: &Arc<Lane<T::Lane>>,
        stream: &StreamName,
        endpoint: &EndpointName,
    ) -> AbortHandle {
        let (lane, stream, endpoint) = (Arc::clone(lane), stream.clone(), endpoint.clone());
        let wait = self.limits.staged_timeout;
        let task = tokio::spawn(async move {
            sleep(wait).await;
            // The next request stops this timer under the same lock: whoever comes second finds nothing to do.
            let mut session = lane.session.lock().await;
            session.timer = None;
            if let Some(mut worker) = session.lane.take() {
                tracing::warn!(%stream, %endpoint, "open transaction rolled back: its next part did not come");
                if worker.rollback().await.is_ok() {
                    session.lane = Some(worker);
                }
            }
        });
        task.abort_handle()
    }
}
