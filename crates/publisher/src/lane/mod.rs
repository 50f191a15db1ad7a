//! Lanes: one per endpoint, one owner, delivering from the journal in order.
//!
//! A lane is strict: one request is in flight, and the next delivery is read and encoded meanwhile. Its cursor is what the
//! target answers, so nothing of it is stored here: it begins with a handshake, goes on behind the answered position, and
//! goes back whenever the target says that it stands further back.

mod address;
mod answer;
mod attempt;
mod batch;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod outcome;
mod probe;
mod retry;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rowbridge_schema::{Failpoint, Position};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

pub use address::AddressError;
use answer::Reply;
use attempt::Client;
pub use attempt::{AttemptError, LaneSetupError};
use batch::{Batcher, Common, Delivery, Limits};
pub use fault::{Fault, Unfit};
pub use handle::{LaneConfig, LaneHandle, Orders, Timing};
pub use probe::{ProbeError, Standing, ask, probe};
use retry::Backoff;
pub(crate) use retry::retry_after;
pub use state::{LaneState, LaneStatus};

use crate::journal::Journal;
use crate::metrics::{LaneMetrics, PublisherMetrics};

/// One endpoint's lane; see the module.
#[derive(Debug)]
pub struct Lane<J: Journal> {
    journal: Arc<J>,
    config: LaneConfig,
    common: Common,
    client: Client,
    metrics: LaneMetrics,
    status: watch::Sender<LaneStatus>,
    orders: watch::Receiver<Orders>,
    orders_open: bool,
    /// `None` before the first handshake, and while the journal does not hold what the target needs.
    batcher: Option<Batcher<J::Reader>>,
    limits: Limits,
    max_body: Option<u64>,
    zstd: bool,
    /// Being delivered: in flight, or waiting for `due`.
    current: Option<Arc<Delivery>>,
    /// Made while `current` was in flight.
    next: Option<Delivery>,
    due: Instant,
    flight: JoinSet<(Result<Reply, AttemptError>, Duration)>,
    /// Requests made for `current`.
    attempts: u32,
    backoff: Backoff,
    /// Rewinds since the last success: more than one in a row wait like retries.
    rewinds: u32,
    /// Largest position that was ever sent, to count repetitions.
    sent: Option<Position>,
    /// When an idle lane speaks up.
    idle_at: Instant,
    /// Capture waits for room in the journal.
    short: watch::Receiver<bool>,
    /// A reason to halt that a successful handshake does not disprove.
    stuck: bool,
}

enum Event {
    Stop,
    Answer(Result<Reply, AttemptError>, Duration),
    Ordered(bool),
    Due,
    Idle,
    Blocks,
}

impl<J: Journal> Lane<J> {
    /// A lane that has not said anything yet. Without `tls` the system's authorities are trusted.
    ///
    /// # Errors
    /// The URL holds an address that is never called, or TLS cannot be set up.
    pub fn new(
        config: LaneConfig,
        journal: Arc<J>,
        tls: Option<Arc<rustls::ClientConfig>>,
        metrics: &PublisherMetrics,
    ) -> Result<(Self, LaneHandle), LaneSetupError> {
        let client = Client::new(&config.endpoint, tls)?;
        let name = config.endpoint.name.clone();
        let metrics = metrics.lane(&config.stream, &name);
        let (status, status_receiver) = watch::channel(LaneStatus::default());
        let (orders_in, orders) = watch::channel(config.orders.clone());
        let common = Common {
            stream: config.stream.clone(),
            endpoint: name.clone(),
            source: config.source.clone(),
            tables: config.endpoint.tables.clone(),
            max_transaction: config.max_transaction,
        };
        let now = Instant::now();
        metrics.state(&LaneState::LABELS, LaneState::Starting.label());
        let mut lane = Self {
            current: Some(Arc::new(Delivery::handshake(&common))),
            short: journal.short(),
            journal,
            config,
            common,
            client,
            metrics,
            status,
            orders,
            orders_open: true,
            batcher: None,
            limits: Limits::default(),
            max_body: None,
            zstd: false,
            next: None,
            due: now,
            flight: JoinSet::new(),
            attempts: 0,
            backoff: Backoff::default(),
            rewinds: 0,
            sent: None,
            idle_at: now,
            stuck: false,
        };
        lane.detach_if_ordered();
        Ok((lane, LaneHandle::new(name, status_receiver, orders_in)))
    }

    /// Delivers until `shutdown` becomes true (or its sender is gone), then finishes the delivery in flight within the
    /// grace. Nothing else ends a lane: what needs a person is a state, and the lane asks again by itself.
    /// Cancel safety: a dropped lane gives up its request; the next one repeats at most that delivery.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            self.prepare();
            self.update_lag();
            let flying = !self.flight.is_empty();
            let waiting = self.current.is_some() && !flying;
            let may_collect = self.next.is_none() && self.batcher.as_ref().is_some_and(|b| !b.is_closed());
            let may_idle = self.current.is_none() && !self.batcher.as_ref().is_some_and(Batcher::is_open);
            let skipped = self
                .batcher
                .as_ref()
                .map(Batcher::chain)
                .is_some_and(|chain| Some(chain.scanned) > chain.prev);
            let Self { flight, orders, orders_open, batcher, due, idle_at, short, .. } = &mut self;
            let event = tokio::select! {
                biased;
                // 1. A stop goes before everything.
                _ = shutdown.wait_for(|stop| *stop) => Event::Stop,
                // 2. An answer frees the lane.
                Some(done) = flight.join_next(), if flying => match done {
                    Ok((reply, took)) => Event::Answer(reply, took),
                    Err(_) => Event::Answer(Err(AttemptError::Abandoned), Duration::ZERO),
                },
                // 3. The caller's word on snapshots and detached endpoints.
                changed = orders.changed(), if *orders_open => Event::Ordered(changed.is_ok()),
                // 4. A delivery whose time has come: the first attempt, a retry, a probe.
                () = moment(*due), if waiting => Event::Due,
                // 5. Before new blocks, so that a stream of which nothing is for us cannot keep the position back.
                () = moment(*idle_at), if may_idle => Event::Idle,
                // 6. What was looked at and is not for us is held until the target stands behind it: not while capture
                // waits for that room.
                Ok(_) = short.wait_for(|short| *short), if may_idle && skipped => Event::Idle,
                // 7. Blocks for the next delivery.
                () = ready(batcher.as_mut()), if may_collect => Event::Blocks,
            };
            match event {
                Event::Stop => return self.stop().await,
                Event::Answer(reply, took) => {
                    Failpoint::DeliveryAnswered.pass();
                    self.answered(reply, took);
                }
                Event::Ordered(open) => self.ordered(open),
                Event::Due => self.send(),
                Event::Idle => self.idle(),
                Event::Blocks => self.collect(),
            }
        }
    }

    async fn stop(mut self) {
        if self.flight.is_empty() {
            return;
        }
        match tokio::time::timeout(self.config.shutdown_grace, self.flight.join_next()).await {
            Ok(Some(Ok((reply, took)))) => self.answered(reply, took),
            Ok(_) => {}
            Err(_) => {
                tracing::warn!(endpoint = %self.common.endpoint, "gave up the delivery in flight; it is repeated after the start");
            }
        }
    }

    /// Makes the next delivery when the lane is free, and encodes it ahead when it is full.
    fn prepare(&mut self) {
        if self.next.is_none() && self.batcher.as_ref().is_some_and(Batcher::is_closed) {
            self.seal_next();
        }
        if self.current.is_some() {
            return;
        }
        if self.next.is_none() {
            // What came while the last answer was on its way goes along.
            self.collect();
            if self.batcher.as_ref().is_some_and(Batcher::has_content) {
                self.seal_next();
            }
        }
        if let Some(delivery) = self.next.take() {
            self.begin(delivery, Instant::now());
        }
    }

    fn seal_next(&mut self) {
        if let Some(batcher) = &mut self.batcher {
            let mut delivery = batcher.seal(&self.common, &mut self.limits, self.zstd);
            self.client.sign_ahead(&mut delivery.request);
            self.next = Some(delivery);
        }
    }

    fn collect(&mut self) {
        let Some(batcher) = &mut self.batcher else { return };
        let collected = batcher.collect(&self.common, &self.limits);
        let scanned = batcher.chain().scanned;
        if let Err(error) = collected {
            return self.journal_failed(error);
        }
        self.status.send_if_modified(|status| {
            let moved = status.scanned != Some(scanned);
            status.scanned = Some(scanned);
            moved
        });
    }

    fn begin(&mut self, delivery: Delivery, due: Instant) {
        self.current = Some(Arc::new(delivery));
        self.attempts = 0;
        self.due = due;
    }

    fn handshake(&mut self, due: Instant) {
        self.batcher = None;
        self.next = None;
        let delivery = Delivery::handshake(&self.common);
        self.begin(delivery, due);
    }

    fn send(&mut self) {
        let Some(delivery) = self.current.clone() else { return };
        if let Some(max_body) = self.max_body
            && delivery.bytes as u64 > max_body
        {
            return self.too_large(&delivery, Some(max_body));
        }
        self.attempts = self.attempts.saturating_add(1);
        if delivery.blocks > 0 {
            if delivery.to <= self.sent {
                self.metrics.repeated.inc();
                self.status.send_modify(|status| status.repeated += 1);
            }
            self.sent = self.sent.max(delivery.to);
        }
        let client = self.client.clone();
        let span = tracing::debug_span!(
            "attempt",
            endpoint = %self.common.endpoint,
            delivery_id = %delivery.request.id,
            attempt = self.attempts,
        );
        let exchange = async move {
            let begun = Instant::now();
            let reply = client.attempt(&delivery.request).await;
            (reply, begun.elapsed())
        };
        self.flight.spawn(exchange.instrument(span));
    }

    /// Nothing was sent for a while: an empty delivery, or a handshake where the lane has nothing to say of itself yet.
    fn idle(&mut self) {
        let now = Instant::now();
        match self.batcher.as_ref().map(Batcher::chain) {
            Some(chain) if chain.prev.is_some() || chain.scanned > self.config.start => {
                self.seal_next();
                if let Some(delivery) = self.next.take() {
                    self.begin(delivery, now);
                }
            }
            _ => self.handshake(now),
        }
    }

    fn ordered(&mut self, open: bool) {
        self.orders_open = open;
        let before = std::mem::replace(&mut self.config.orders, self.orders.borrow_and_update().clone());
        if !open || self.config.orders == before || self.detach_if_ordered() {
            return;
        }
        let state = self.status.borrow().state.clone();
        let waits = matches!(state, LaneState::NeedsSnapshot { .. } | LaneState::Halted { .. });
        if before.detached.is_some() {
            self.stuck = false;
            self.enter(LaneState::Starting);
            self.handshake(Instant::now());
        } else if waits && self.flight.is_empty() {
            self.stuck = false;
            self.handshake(Instant::now());
        }
    }

    /// Drops everything if the stream goes on without this endpoint; only an order ends that.
    fn detach_if_ordered(&mut self) -> bool {
        let Some(reason) = self.config.orders.detached.clone() else { return false };
        // What is in flight may still arrive, as after a kill.
        self.flight.abort_all();
        self.fall_silent();
        self.status.send_modify(|status| status.staged = None);
        self.enter(LaneState::Detached { reason, endpoint: self.common.endpoint.clone() });
        true
    }

    /// No timer and no reader is left: nothing goes on by itself.
    fn fall_silent(&mut self) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        self.idle_at = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    }

    fn update_lag(&self) {
        let in_flight = self.current.as_ref().and_then(|delivery| delivery.commits.first().copied());
        let next = self.next.as_ref().and_then(|delivery| delivery.commits.first().copied());
        let collected = self.batcher.as_ref().and_then(Batcher::oldest_commit);
        let lag = in_flight.or(next).or(collected).map_or(0.0, |at| {
            let now =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
            (now as i64).saturating_sub(at).max(0) as f64 / 1e6
        });
        self.metrics.lag_seconds.set(lag);
    }
}

async fn ready<R: crate::journal::JournalReader>(batcher: Option<&mut Batcher<R>>) {
    match batcher {
        Some(batcher) => batcher.ready().await,
        None => pending().await,
    }
}

/// A timer of tokio rounds up to the next millisecond, which is most of a delivery's latency: what is due is due now.
async fn moment(at: Instant) {
    if at > Instant::now() {
        sleep_until(at).await;
    }
}
