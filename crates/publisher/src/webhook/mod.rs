//! Lanes to receivers that are not Rowbridge: one per endpoint, one owner, sending events from the journal.
//!
//! A lane reads ahead into a bounded window, sends what its order allows, and remembers in a file how far it has come
//! (see [`cursor`]): such a receiver says only whether it took a request. What fails is sent again, the same bytes under
//! the same `webhook-id`; what fails for good is set aside as a dead letter, or halts the lane. Nothing is dropped: an
//! endpoint that is away, paused or disabled has its events held in the journal.

mod alert;
mod breaker;
mod compress;
mod cursor;
mod desk;
mod filter;
mod job;
mod make;
mod message;
mod outcome;
mod outgoing;
mod rate;
mod reading;
mod retry;
mod sample;
mod sender;
mod settings;
mod unmade;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use rowbridge_schema::Position;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) use self::alert::AlertLane;
use self::breaker::Breaker;
pub use self::cursor::CursorError;
use self::cursor::{Cursor, EventKey};
pub(crate) use self::desk::{Desk, Place};
pub(crate) use self::filter::is_membership;
pub(crate) use self::job::before;
use self::make::Maker;
pub(crate) use self::outcome::chain;
use self::outgoing::{Ended, Outgoing};
pub(crate) use self::rate::Bucket;
use self::reading::Reading;
pub(crate) use self::reading::position;
pub use self::sender::Sender;
pub(crate) use self::sender::client_config;
pub(crate) use self::settings::webhook_tls;
pub use self::settings::{TlsFileError, WebhookLaneConfig, WebhookSetupError};
use self::window::{ParcelLimits, Window};
use crate::deliveries::{Recorder, StoreError};
use crate::journal::{Journal, JournalError};
use crate::lane::{LaneHandle, LaneState, LaneStatus, Orders};
use crate::metrics::{LaneMetrics, PublisherMetrics};

/// How often the cursor is made durable.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A halted lane asks again this often.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// A broken journal or disk is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a lane waited for.
enum Done {
    /// A request has ended.
    Ended(Ended),
    /// A dead letter was written, or not.
    SetAside(Outgoing, Result<i64, StoreError>),
}

/// One endpoint's lane; see the module.
pub struct WebhookLane<J: Journal> {
    journal: Arc<J>,
    config: WebhookLaneConfig,
    sender: Arc<Sender>,
    recorder: Arc<Recorder>,
    metrics: LaneMetrics,
    status: watch::Sender<LaneStatus>,
    orders: watch::Receiver<Orders>,
    orders_open: bool,
    cursor: Cursor,
    window: Window,
    /// `None` while the journal cannot be read, or does not hold what the endpoint needs.
    reading: Option<Reading<J::Reader>>,
    /// More may be read at once.
    more: bool,
    /// Requests of an earlier life that are made again first, exactly as they were.
    again: VecDeque<Vec<EventKey>>,
    /// What will most likely go out next, made ready while others are under way.
    prepared: Option<Outgoing>,
    /// Delivered and settled, but not yet in metrics and attempt log: the next request goes out first.
    told: Vec<Ended>,
    /// Under way.
    flight: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Failed, and when they are made again.
    retries: BTreeMap<(Instant, u64), Outgoing>,
    /// The next request's number, which tells requests of one moment apart.
    number: u64,
    breaker: Breaker,
    bucket: Option<Bucket>,
    /// The request that a person is needed for; only it goes out, now and then.
    halted: Option<u64>,
    /// When a batch that is not full goes out all the same.
    gathering: Option<Instant>,
    /// When a reader is asked for again.
    look_at: Option<Instant>,
    sync_at: Instant,
    unsynced: bool,
}

impl<J: Journal> WebhookLane<J> {
    /// A lane that has not sent anything yet.
    ///
    /// # Errors
    /// Its address, its certificates, or the file that says how far it has come.
    pub fn new(
        config: WebhookLaneConfig,
        journal: Arc<J>,
        sender: Sender,
        recorder: Arc<Recorder>,
        metrics: &PublisherMetrics,
    ) -> Result<(Self, LaneHandle), WebhookSetupError> {
        let name = config.endpoint.name.clone();
        let cursor = Cursor::open(&cursor_path(&config))?;
        let metrics = metrics.lane(&config.stream, &name);
        let (status, status_receiver) = watch::channel(LaneStatus::default());
        let (orders_in, orders) = watch::channel(config.orders.clone());
        let now = Instant::now();
        metrics.state(&LaneState::LABELS, LaneState::Starting.label());
        let policy = &config.webhook().policy;
        let bucket = policy.rate.map(|rate| Bucket::new(rate, now));
        let window = Window::new(config.window_bytes, settings::WINDOW_EVENTS);
        let mut lane = Self {
            journal,
            sender: Arc::new(sender),
            recorder,
            metrics,
            status,
            orders,
            orders_open: true,
            again: cursor.groups().iter().cloned().collect(),
            cursor,
            window,
            reading: None,
            more: false,
            prepared: None,
            told: Vec::new(),
            flight: FuturesUnordered::new(),
            retries: BTreeMap::new(),
            number: 0,
            breaker: Breaker::default(),
            bucket,
            halted: None,
            gathering: None,
            look_at: None,
            sync_at: now + SYNC_EVERY,
            unsynced: false,
            config,
        };
        lane.open();
        lane.held_by_orders();
        Ok((lane, LaneHandle::new(name, status_receiver, orders_in)))
    }

    /// Sends until `shutdown` becomes true (or its sender is gone), then waits for what is under way within the grace.
    /// Nothing else ends a lane.
    /// Cancel safety: a dropped lane gives up its requests; the next one repeats at most those.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut timer = Timer::new();
        loop {
            // What is there goes out before anything is written down or made ready for later: the answers are waited for
            // meanwhile.
            self.send_what_may();
            if self.collect() {
                self.send_what_may();
            }
            self.account();
            self.prepare();
            if self.is_to_read() {
                self.fill();
                self.send_what_may();
            }
            self.update_lag();
            let moment = self.next_moment();
            let may_read = self.reading.is_some() && self.is_to_read();
            let Self { flight, orders, orders_open, reading, more, .. } = &mut self;
            tokio::select! {
                biased;
                // 1. A stop goes before everything.
                _ = shutdown.wait_for(|stop| *stop) => break,
                // 2. What came back frees its key and its place.
                Some(done) = flight.next(), if !flight.is_empty() => self.done(done),
                // 3. The caller's word.
                changed = orders.changed(), if *orders_open => self.ordered(changed.is_ok()),
                // 4. A retry, a probe, the rate's next token, the cursor's next sync.
                () = timer.until(moment) => self.tick(),
                // 5. More events.
                () = more_events(reading.as_mut(), *more), if may_read => {}
            }
            // Whatever else has come back meanwhile.
            self.collect();
        }
        self.stop().await;
    }

    /// Takes what has come back; whether anything has. A request that was just made leaves with it, since it does nothing
    /// before it is asked for the first time.
    fn collect(&mut self) -> bool {
        let mut any = false;
        while let Some(Some(done)) = self.flight.next().now_or_never() {
            self.done(done);
            any = true;
        }
        any
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Ended(ended) => self.ended(ended),
            Done::SetAside(outgoing, written) => self.set_aside(outgoing, written),
        }
    }

    async fn stop(mut self) {
        let deadline = Instant::now() + self.config.shutdown_grace;
        while !self.flight.is_empty() {
            match tokio::time::timeout_at(deadline, self.flight.next()).await {
                Ok(Some(done)) => self.done(done),
                Ok(None) => break,
                Err(_) => {
                    let under_way = self.flight.len();
                    tracing::warn!(endpoint = %self.config.endpoint.name, under_way, "gave up requests that are repeated after the start");
                    break;
                }
            }
        }
        self.account();
        match self.cursor.flush() {
            Ok(()) => {
                self.cursor.sync().await;
            }
            Err(error) => {
                tracing::warn!(endpoint = %self.config.endpoint.name, %error, "the cursor is behind; what it misses is sent again")
            }
        }
    }

    /// Begins to read where the endpoint stands.
    fn open(&mut self) {
        if let Some(reason) = self.config.orders.detached.clone() {
            self.detach(reason);
            return;
        }
        let oldest = self.journal.oldest();
        let wanted = match self.cursor.mark() {
            // Behind it where another publisher has delivered what lies between.
            Some(mark) => mark.max(self.config.start),
            // A lane whose cursor is lost begins with what the journal still has: nothing undelivered ever leaves it.
            None => self.config.start.max(oldest),
        };
        match self.journal.reader(wanted) {
            Ok(reader) => {
                let maker = Maker::new(self.config.common());
                let endpoint = &self.config.endpoint;
                let tables = endpoint.tables.clone();
                self.reading = Some(Reading::new(reader, maker, tables, endpoint.start, wanted));
                self.more = true;
                self.look_at = None;
                self.status.send_modify(|status| {
                    status.acked = Some(wanted);
                    status.scanned = Some(wanted);
                });
                self.journal.release(&self.config.endpoint.name, wanted);
                self.enter(LaneState::Running);
            }
            Err(JournalError::Gone { oldest }) => {
                self.reading = None;
                self.enter(LaneState::NeedsSnapshot { wanted, oldest });
            }
            Err(error) => self.broken(&error, None),
        }
    }

    /// Something that is ours does not work: the lane looks again by itself.
    fn broken(&mut self, error: &(dyn std::error::Error + 'static), hint: Option<String>) {
        let reason = outcome::chain(error);
        self.reading = None;
        self.look_at = Some(Instant::now() + LOOK_AGAIN);
        self.enter(LaneState::Halted { reason, hint });
    }

    /// Whether the window should be filled: it has begun to be, or is half empty, or holds nothing that may go out now.
    fn is_to_read(&self) -> bool {
        let idle = !self.window.has_ready() && self.flight.len() < self.config.webhook().policy.concurrency;
        self.window.is_low() || (self.more || idle) && self.window.has_room()
    }

    fn fill(&mut self) {
        let Some(reading) = &mut self.reading else { return };
        let cursor = &self.cursor;
        match reading.fill(&mut self.window, |event| cursor.is_settled(event)) {
            Ok(more) => self.more = more,
            Err(reading::ReadError::Journal(JournalError::Gone { oldest })) => {
                let wanted = reading.scanned();
                self.reading = None;
                return self.enter(LaneState::NeedsSnapshot { wanted, oldest });
            }
            Err(error) => {
                let hint = rowbridge_schema::Classified::hint(&error);
                return self.broken(&error, hint);
            }
        }
        let scanned = reading.scanned();
        if self.window.is_empty() {
            // Nothing of it is for this endpoint, or all of that is settled.
            self.advance(scanned);
        }
        self.status.send_if_modified(|status| status.scanned.replace(scanned) != Some(scanned));
    }

    /// Everything up to `mark` is settled.
    fn advance(&mut self, mark: Position) {
        if self.cursor.mark() >= Some(mark) {
            return;
        }
        self.cursor.advance(mark);
        self.unsynced = true;
        self.status.send_modify(|status| status.acked = Some(mark));
    }

    /// Sends everything that order, rate, breaker and state allow now.
    fn send_what_may(&mut self) {
        if self.is_held() || !self.flush() {
            return;
        }
        let now = Instant::now();
        let concurrency = self.config.webhook().policy.concurrency;
        while self.flight.len() < concurrency {
            if !self.breaker.allows(now) || self.bucket.as_ref().is_some_and(|bucket| bucket.next() > now) {
                return;
            }
            let Some(outgoing) = self.next_outgoing(now) else { return };
            self.send(outgoing, now);
            if !self.flush() {
                return;
            }
        }
    }

    /// What goes out next: a retry whose time has come, what an earlier life had under way, something new.
    fn next_outgoing(&mut self, now: Instant) -> Option<Outgoing> {
        let due = self.retries.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= now);
        if let Some(key) = due {
            return self.retries.remove(&key);
        }
        if self.halted.is_some() {
            return None;
        }
        let batch = self.config.webhook().policy.batch;
        while let Some(group) = self.again.front() {
            if let Some(parcel) = self.window.take_again(group) {
                self.again.pop_front();
                return Some(self.outgoing(parcel));
            }
            if self.more {
                // Its events are not read yet.
                return None;
            }
            // They are not for this endpoint any more.
            self.again.pop_front();
        }
        if !self.window.has_ready() {
            return None;
        }
        if batch.max_wait > Duration::ZERO && self.window.waiting() < batch.max_events {
            let until = *self.gathering.get_or_insert(now + batch.max_wait);
            if until > now {
                return None;
            }
        }
        self.gathering = None;
        let limits = ParcelLimits { events: batch.max_events, bytes: batch.max_bytes };
        let parcel = self.window.take(limits)?;
        if batch.max_events > 1 {
            // So that it is the same request after a kill.
            self.cursor.group(parcel.keys());
        }
        Some(self.outgoing(parcel))
    }

    fn outgoing(&mut self, parcel: window::Parcel) -> Outgoing {
        self.number += 1;
        match self.prepared.take_if(|prepared| prepared.is_of(&parcel)) {
            Some(prepared) => Outgoing { number: self.number, ..prepared },
            None => Outgoing::new(self.number, parcel, &self.config),
        }
    }

    /// Renders and signs what will most likely go out next, while there is nothing to do but to wait for an answer. What
    /// goes out, and when, does not depend on it.
    fn prepare(&mut self) {
        if self.flight.is_empty() || self.config.batched() {
            return;
        }
        let Some(item) = self.window.next() else { return };
        let known = self.prepared.as_ref().and_then(|prepared| prepared.parcel.items.first());
        if known.is_some_and(|known| Arc::ptr_eq(&known.id, &item.id)) {
            return;
        }
        let parcel = window::Parcel { items: vec![item.clone()] };
        let mut outgoing = Outgoing::new(0, parcel, &self.config);
        self.sender.make_ready(&mut outgoing);
        self.prepared = Some(outgoing);
    }

    fn send(&mut self, mut outgoing: Outgoing, now: Instant) {
        outgoing.attempts = outgoing.attempts.saturating_add(1);
        if outgoing.attempts > 1 {
            self.metrics.repeated.inc();
            self.status.send_modify(|status| status.repeated += 1);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        self.breaker.began();
        let sender = Arc::clone(&self.sender);
        self.flight.push(Box::pin(async move { Done::Ended(sender.send(outgoing).await) }));
    }

    /// Writes what was settled. Without that nothing goes out, since it might go out twice.
    fn flush(&mut self) -> bool {
        match self.cursor.flush() {
            Ok(()) => true,
            Err(error) => {
                self.broken(&error, Some("Make room on the disk of publisher.state_dir.".to_owned()));
                false
            }
        }
    }

    /// Whether nothing may go out, whatever there is.
    fn is_held(&self) -> bool {
        let state = self.status.borrow();
        matches!(
            state.state,
            LaneState::Detached { .. }
                | LaneState::Disabled { .. }
                | LaneState::NeedsSnapshot { .. }
                | LaneState::Paused
        ) || self.look_at.is_some()
    }

    fn next_moment(&self) -> Option<Instant> {
        let mut next = self.unsynced.then_some(self.sync_at);
        let mut at = |moment: Option<Instant>| next = next.into_iter().chain(moment).min();
        at(self.look_at);
        if !self.is_held() && self.flight.len() < self.config.webhook().policy.concurrency {
            let work = self.retries.first_key_value().map(|((at, _), _)| *at);
            let fresh = self.halted.is_none() && self.again.is_empty() && self.window.has_ready();
            let gathered = fresh.then(|| self.gathering.unwrap_or_else(Instant::now));
            // The work's time, but not before rate and breaker let it out.
            let gate = self.bucket.as_ref().map(Bucket::next).max(self.breaker.probe_at());
            let blocked = self.breaker.is_open() && self.breaker.probe_at().is_none();
            let due = work.into_iter().chain(gathered).min();
            if !blocked && let Some(due) = due {
                at(Some(gate.map_or(due, |gate| gate.max(due))));
            }
        }
        next
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            if self.cursor.flush().is_ok() {
                self.open();
            } else {
                self.look_at = Some(now + LOOK_AGAIN);
            }
        }
        if self.unsynced && self.sync_at <= now {
            self.unsynced = false;
            self.sync_at = now + SYNC_EVERY;
            if self.flush() {
                if let Some(mark) = self.cursor.mark() {
                    self.journal.release(&self.config.endpoint.name, mark);
                }
                tokio::spawn(self.cursor.sync());
            }
        }
    }

    fn ordered(&mut self, open: bool) {
        self.orders_open = open;
        let before = std::mem::replace(&mut self.config.orders, self.orders.borrow_and_update().clone());
        if !open || self.config.orders == before {
            return;
        }
        let now = self.config.orders.clone();
        if let Some(reason) = now.detached {
            return self.detach(reason);
        }
        let waits = matches!(self.status.borrow().state, LaneState::NeedsSnapshot { .. });
        if let Some(from) = now.snapshot_from.filter(|_| before.detached.is_some() || waits) {
            // What lies before the snapshot is nowhere any more, or is not wanted.
            self.window = Window::new(self.config.window_bytes, settings::WINDOW_EVENTS);
            self.retries.clear();
            self.again.clear();
            self.halted = None;
            self.advance(from);
            self.open();
        }
        self.held_by_orders();
    }

    /// An operator pauses and resumes, and enables what an answer has disabled.
    fn held_by_orders(&mut self) {
        let orders = &self.config.orders;
        let state = self.status.borrow().state.clone();
        match (orders.paused, &orders.disabled, &state) {
            (_, _, LaneState::Detached { .. } | LaneState::NeedsSnapshot { .. }) => {}
            (true, ..) => self.enter(LaneState::Paused),
            (false, Some(reason), _) => self.enter(LaneState::Disabled { reason: reason.clone() }),
            (false, None, LaneState::Paused | LaneState::Disabled { .. }) => self.enter(LaneState::Running),
            (false, None, _) => {}
        }
    }

    fn detach(&mut self, reason: String) {
        self.reading = None;
        self.retries.clear();
        self.flight.clear();
        self.window = Window::new(self.config.window_bytes, settings::WINDOW_EVENTS);
        self.enter(LaneState::Detached { reason, endpoint: self.config.endpoint.name.clone() });
    }

    fn update_lag(&self) {
        let waiting = self.window.oldest_commit();
        let failed = self.retries.values().map(Outgoing::oldest).min();
        let lag = waiting.into_iter().chain(failed).min().map_or(0.0, |at| {
            let now =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
            (now as i64).saturating_sub(at).max(0) as f64 / 1e6
        });
        self.metrics.lag_seconds.set(lag);
    }
}

fn cursor_path(config: &WebhookLaneConfig) -> PathBuf {
    config.state_dir.join("cursors").join(format!("{}.cursor", config.endpoint.name))
}

async fn more_events<R: crate::journal::JournalReader>(reading: Option<&mut Reading<R>>, more: bool) {
    match reading {
        Some(_) if more => {}
        Some(reading) => reading.ready().await,
        None => pending().await,
    }
}

/// One timer for the life of a lane: making one for each request costs the runtime a system call each time.
struct Timer {
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())) }
    }

    async fn until(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return pending().await };
        if self.sleep.deadline() != at {
            self.sleep.as_mut().reset(at);
        }
        self.sleep.as_mut().await;
    }
}
