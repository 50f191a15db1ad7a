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
mod handle;
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

use rowbridge_schema::wire::Answer;
use rowbridge_schema::{Classified, Position};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

pub use address::AddressError;
use answer::{Expected, Reply, Verdict, judge};
use attempt::Client;
pub use attempt::{AttemptError, LaneSetupError};
use batch::{Batcher, Chain, Common, Delivery, Limits};
pub use fault::{Fault, Unfit};
pub use handle::{LaneConfig, LaneHandle, Orders, Timing};
pub use probe::{ProbeError, Standing, ask, probe};
use retry::Backoff;
pub use state::{LaneState, LaneStatus};

use crate::journal::{Journal, JournalError};
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
        Ok((lane, LaneHandle { name, status: status_receiver, orders: orders_in }))
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
            let Self { flight, orders, orders_open, batcher, due, idle_at, .. } = &mut self;
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
                // 6. Blocks for the next delivery.
                () = ready(batcher.as_mut()), if may_collect => Event::Blocks,
            };
            match event {
                Event::Stop => return self.stop().await,
                Event::Answer(reply, took) => self.answered(reply, took),
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
            self.next = Some(batcher.seal(&self.common, &mut self.limits, self.zstd));
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

    fn answered(&mut self, reply: Result<Reply, AttemptError>, took: Duration) {
        let Some(delivery) = self.current.clone() else { return };
        let verdict = match reply {
            Ok(reply) => {
                let expected = Expected {
                    stream: &self.common.stream,
                    endpoint: &self.common.endpoint,
                    keys: &self.config.endpoint.secrets,
                    id: &delivery.request.id,
                    to: delivery.to,
                    open: delivery.open,
                    begins: self.config.orders.snapshot_from,
                };
                judge(&reply, &expected, SystemTime::now())
            }
            Err(error) => {
                let fault = Fault::Attempt(error);
                if fault.class().is_retryable() {
                    Verdict::Retry { fault, after: None }
                } else {
                    Verdict::Halt(fault)
                }
            }
        };
        let outcome = match &verdict {
            Verdict::Done(_) => "delivered",
            Verdict::Staged(_) => "staged",
            Verdict::Rewind(_) => "rewind",
            Verdict::Retry { .. } => "retry",
            Verdict::TooLarge | Verdict::Halt(_) | Verdict::Disable(_) => "permanent",
        };
        self.metrics.attempt(outcome, took.as_secs_f64());
        match verdict {
            Verdict::Done(answer) => self.done(&delivery, &answer),
            Verdict::Staged(answer) => self.staged(&delivery, &answer),
            Verdict::Rewind(answer) => self.rewind(&answer),
            Verdict::TooLarge => self.too_large(&delivery, None),
            Verdict::Retry { fault, after } => self.retry(fault, after),
            Verdict::Halt(fault) => self.halt(fault),
            Verdict::Disable(fault) => self.disable(fault),
        }
    }

    /// What every signed answer tells.
    fn learn(&mut self, answer: &Answer) {
        if let Some(max_body) = answer.max_body {
            self.max_body = Some(max_body);
            self.limits.told(max_body);
        }
        if !answer.encodings.is_empty() {
            self.zstd = !self.client.is_loopback() && answer.encodings.iter().any(|name| name == "zstd");
        }
        self.status.send_modify(|status| status.answered = answer.position);
    }

    fn done(&mut self, delivery: &Delivery, answer: &Answer) {
        self.learn(answer);
        self.succeeded(delivery);
        self.backoff.reset();
        if delivery.is_handshake() {
            return self.open(answer.position);
        }
        self.rewinds = 0;
        if let Some(acked) = answer.position {
            self.journal.release(&self.common.endpoint, acked);
            self.status.send_modify(|status| {
                status.acked = Some(acked);
                status.staged = None;
            });
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        for at in &delivery.commits {
            let micros = (now as i64).saturating_sub(*at).max(0);
            self.metrics.latency.observe(micros as f64 / 1e6);
        }
        if delivery.split {
            tracing::info!(
                endpoint = %self.common.endpoint,
                max_transaction = self.common.max_transaction,
                "a transaction beyond source.max_transaction is applied in parts"
            );
        }
        self.running();
    }

    fn staged(&mut self, delivery: &Delivery, answer: &Answer) {
        self.learn(answer);
        self.succeeded(delivery);
        // The backoff is kept: only a commit shows that a target which lost its open transaction has recovered.
        self.status.send_modify(|status| status.staged = answer.staged);
        self.running();
    }

    fn running(&mut self) {
        // Without a reader the journal failed meanwhile, and this was only the delivery that was still in flight.
        if self.batcher.is_some() {
            self.stuck = false;
            self.enter(LaneState::Running);
        }
    }

    fn succeeded(&mut self, delivery: &Delivery) {
        self.current = None;
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        if !delivery.is_handshake() {
            self.metrics.deliveries.inc();
            self.metrics.changes.inc_by(delivery.changes);
            self.status.send_modify(|status| {
                status.deliveries += 1;
                status.changes += delivery.changes;
            });
        }
    }

    /// Goes on behind what the target has committed. Nothing of the lane survives this but its limits.
    fn open(&mut self, position: Option<Position>) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        let cursor = position.unwrap_or(self.config.start);
        let from = cursor.max(self.config.orders.snapshot_from.unwrap_or(Position::ZERO));
        if position.is_some() && from < self.config.first {
            return self.need_snapshot(cursor, self.config.first);
        }
        if from.epoch > self.config.orders.epoch {
            // Whatever we captured lies below, and would count as delivered.
            self.halt(Fault::OldEpoch { message: Some(format!("it stands at {from}")), stands: Some(from) });
            return self.handshake(self.due);
        }
        match self.journal.reader(from) {
            Ok(reader) => {
                self.batcher = Some(Batcher::new(reader, Chain::at(position, from)));
                self.journal.release(&self.common.endpoint, from);
                self.status.send_modify(|status| {
                    status.acked = Some(cursor);
                    status.scanned = Some(from);
                    status.staged = None;
                });
                if !self.stuck {
                    self.enter(LaneState::Running);
                }
            }
            Err(JournalError::Gone { oldest }) => self.need_snapshot(cursor, oldest),
            Err(error) => self.journal_failed(error),
        }
    }

    fn rewind(&mut self, answer: &Answer) {
        self.learn(answer);
        self.metrics.rewinds.inc();
        self.rewinds += 1;
        tracing::info!(
            endpoint = %self.common.endpoint,
            position = answer.position.map(tracing::field::display),
            "the target stands further back; going back there"
        );
        self.open(answer.position);
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        // A target that loses an open transaction is met once; one that says this again and again is in trouble.
        if self.rewinds > 1 && self.batcher.is_some() {
            let wait = self.backoff.next(None);
            self.collect();
            if self.batcher.as_ref().is_some_and(Batcher::has_content) {
                self.seal_next();
                if let Some(delivery) = self.next.take() {
                    self.begin(delivery, Instant::now() + wait);
                }
            }
        }
    }

    fn too_large(&mut self, delivery: &Delivery, max_body: Option<u64>) {
        let cut = delivery.blocks > 1 && self.batcher.is_some();
        if cut {
            self.limits.halve(delivery.bytes);
            tracing::warn!(
                endpoint = %self.common.endpoint,
                bytes = delivery.bytes,
                "the delivery is too large for the endpoint; sending half"
            );
            self.current = None;
            self.next = None;
            match self.journal.reader(delivery.before.scanned) {
                Ok(reader) => self.batcher = Some(Batcher::new(reader, delivery.before)),
                Err(JournalError::Gone { oldest }) => self.need_snapshot(delivery.before.scanned, oldest),
                Err(error) => self.journal_failed(error),
            }
            return;
        }
        let at = delivery.to.unwrap_or(Position::ZERO);
        let fault = Fault::TooLarge { tables: delivery.tables.clone(), at, bytes: delivery.bytes, max_body };
        self.halt(fault);
        if max_body.is_some() {
            // Only a handshake can tell that the limit was raised.
            self.stuck = true;
            self.handshake(Instant::now() + self.config.timing.probe_every);
        }
    }

    fn retry(&mut self, fault: Fault, after: Option<Duration>) {
        self.metrics.retry(fault.label());
        let wait = self.backoff.next(after);
        self.due = Instant::now() + wait;
        let error = fault.report();
        tracing::debug!(endpoint = %self.common.endpoint, attempt = self.attempts, %error, ?wait, "attempt failed");
        // A halted lane that probes stays halted: a person is still needed for what halted it.
        if matches!(self.status.borrow().state, LaneState::Halted { .. } | LaneState::NeedsSnapshot { .. }) {
            self.due = self.due.max(Instant::now() + self.config.timing.probe_every);
            return;
        }
        let since = match &self.status.borrow().state {
            LaneState::Retrying { since, .. } => *since,
            _ => SystemTime::now(),
        };
        self.enter(LaneState::Retrying { attempt: self.attempts, error, since });
    }

    fn halt(&mut self, fault: Fault) {
        if let Fault::ForeignSource { stands, .. } | Fault::OldEpoch { stands, .. } = &fault {
            self.status.send_modify(|status| status.answered = *stands);
        }
        self.due = Instant::now() + self.config.timing.probe_every;
        self.enter(LaneState::Halted { reason: fault.report(), hint: fault.hint() });
    }

    fn disable(&mut self, fault: Fault) {
        self.fall_silent();
        self.enter(LaneState::Disabled { reason: fault.report() });
    }

    /// No timer and no reader is left: nothing goes on by itself.
    fn fall_silent(&mut self) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        self.idle_at = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    }

    /// Reading starts over with a handshake; what was read and encoded before the failure is still delivered.
    fn journal_failed(&mut self, error: JournalError) {
        self.stuck = true;
        self.batcher = None;
        let fault = Fault::Journal(error);
        if self.current.is_none() && self.next.is_none() {
            self.halt(fault);
            self.handshake(self.due);
        } else {
            self.enter(LaneState::Halted { reason: fault.report(), hint: fault.hint() });
        }
    }

    /// The journal does not hold what the target needs. Nothing can be delivered before a snapshot, so this lane must not
    /// hold the journal either.
    fn need_snapshot(&mut self, wanted: Position, oldest: Position) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        if let Some(last) = self.journal.last() {
            self.journal.release(&self.common.endpoint, last);
        }
        self.status.send_modify(|status| {
            status.acked = Some(wanted);
            status.staged = None;
        });
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        self.enter(LaneState::NeedsSnapshot { wanted, oldest });
    }

    /// Enters a state; the log hears of it once.
    fn enter(&mut self, state: LaneState) {
        let endpoint = &self.common.endpoint;
        let news = !state.is_same(&self.status.borrow().state);
        if news {
            match &state {
                LaneState::Starting => {}
                LaneState::Running => tracing::info!(%endpoint, "the lane delivers"),
                LaneState::Retrying { error, .. } => {
                    tracing::warn!(%endpoint, %error, "attempt failed; trying again")
                }
                LaneState::Halted { reason, hint } => {
                    tracing::error!(%endpoint, error = %reason, hint = hint.as_deref(), "the lane is halted");
                }
                LaneState::NeedsSnapshot { .. } => {
                    tracing::error!(%endpoint, error = %state, "the lane needs a snapshot")
                }
                LaneState::Detached { .. } => {
                    tracing::error!(%endpoint, error = %state, "the endpoint is detached: the stream goes on without it");
                }
                LaneState::Disabled { reason } => {
                    tracing::error!(%endpoint, error = %reason, "the lane is disabled")
                }
            }
            self.metrics.state(&LaneState::LABELS, state.label());
        }
        self.status.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
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
