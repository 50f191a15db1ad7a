//! The pump: one owner that moves what capture yields into the journal, places snapshot chunks between two transactions,
//! and confirms to the source what is safe.

mod chunk;
mod exact;
mod metrics;
mod placing;
mod pressure;
mod ring;
mod wishes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rowbridge_schema::config::ConfirmPolicy;
use rowbridge_schema::wire::{BlockHead, Step};
use rowbridge_schema::{Failpoint, Offset, Position};
use tokio::sync::watch;

pub use self::metrics::CaptureMetrics;
use self::placing::Placing;
use self::pressure::Pressure;
pub use self::pressure::Roster;
pub(crate) use self::wishes::{Granted, KeyWish, Wishes};
use crate::capture::{Capture, Captured, CapturedBlock};
use crate::journal::{Block, Durable, Journal, JournalError, Resume};
use crate::snapshot::SnapshotReader;
use crate::state::{Job, Request, State, StateError};

/// How often an idle source's progress is noted in the journal, so that its log can go.
const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// How often requests of an operator are looked for.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// How often the end of the source's log is asked for.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the source hears from us while the journal is full: nothing it asks is read then, and a server gives up a
/// client that is silent for `wal_sender_timeout`.
const PAUSED_INTERVAL: Duration = Duration::from_secs(1);

/// Why the pump stopped.
#[derive(Debug, thiserror::Error)]
pub enum PumpError<C: std::error::Error + 'static, R: std::error::Error + 'static> {
    /// The source.
    #[error("capture stopped")]
    Capture(#[source] C),
    /// Reading existing rows.
    #[error("the snapshot stopped")]
    Snapshot(#[source] R),
    /// The journal.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// The state file.
    #[error("the state failed")]
    State(#[from] StateError),
}

/// How the pump ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub enum PumpEnd {
    /// It was asked to stop.
    Shutdown,
    /// An operator wants everything sent again: capture must be opened anew.
    SnapshotAll,
}

/// What the outside sees of the pump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PumpStatus {
    /// Capture waits because the journal is full; the reason.
    pub paused: Option<String>,
    /// Tables whose existing rows are still being sent.
    pub snapshots: usize,
    /// Everything captured stands at or before this.
    pub passed: Option<Offset>,
}

/// What the pump works with.
pub struct Parts<C, R, J> {
    /// The source.
    pub capture: C,
    /// Where it begins, as a position.
    pub reached: Position,
    /// Existing rows.
    pub reader: R,
    /// Where blocks go.
    pub journal: Arc<J>,
    /// Snapshots under way.
    pub state: Arc<State>,
    /// Numbers.
    pub metrics: CaptureMetrics,
    /// When the source may forget.
    pub confirm: ConfirmPolicy,
    /// `source.max_retained`
    pub max_retained: Option<u64>,
    /// Who takes what is captured.
    pub lanes: Arc<dyn Roster>,
    /// Lowest position that every attached endpoint has committed.
    pub delivered: watch::Receiver<Option<Position>>,
    /// Rows that are asked for by their keys.
    pub(crate) wishes: Arc<Wishes>,
    /// For the outside.
    pub status: watch::Sender<PumpStatus>,
    /// Set to stop.
    pub shutdown: watch::Receiver<bool>,
}

struct Pump<C: Capture, R: SnapshotReader, J: Journal> {
    capture: C,
    placing: Placing<R>,
    journal: Arc<J>,
    state: Arc<State>,
    metrics: CaptureMetrics,
    confirm: ConfirmPolicy,
    delivered: watch::Receiver<Option<Position>>,
    durable: watch::Receiver<Durable>,
    status: watch::Sender<PumpStatus>,
    shutdown: watch::Receiver<bool>,
    epoch: u32,
    /// The last block appended ended its transaction.
    between: bool,
    /// Everything below was captured.
    passed: Offset,
    /// The same as a position, as far as nothing is held back: what is placed lies above.
    reached: Position,
    /// Ends of transactions not yet delivered everywhere; only with [`ConfirmPolicy::Delivered`].
    undelivered: VecDeque<Position>,
    /// Progress of an idle source that is not noted yet.
    idle: Option<(Position, Resume)>,
    /// Where the last snapshot ends in the stream, until every endpoint has it.
    placed: Option<Position>,
    measured: Option<Instant>,
    lanes: Arc<dyn Roster>,
    wishes: Arc<Wishes>,
    pressure: Option<Pressure>,
}

type Stop<C, R> = PumpError<<C as Capture>::Error, <R as SnapshotReader>::Error>;

/// Runs until shutdown, a request to start over, or an error. `start` is where capture begins in the source's log.
///
/// # Errors
/// The first error of any part; the caller decides by its class whether to open capture again.
pub async fn run<C, R, J>(parts: Parts<C, R, J>, epoch: u32, start: Offset) -> Result<PumpEnd, Stop<C, R>>
where
    C: Capture,
    R: SnapshotReader + 'static,
    J: Journal,
{
    let Parts {
        capture,
        reached,
        reader,
        journal,
        state,
        metrics,
        confirm,
        max_retained,
        lanes,
        delivered,
        wishes,
        status,
        shutdown,
    } = parts;
    let durable = journal.durable();
    let mut pump = Pump {
        capture,
        placing: Placing::new(reader),
        journal,
        state,
        metrics,
        confirm,
        delivered,
        durable,
        status,
        shutdown,
        epoch,
        between: true,
        passed: start,
        reached,
        undelivered: VecDeque::new(),
        idle: None,
        placed: None,
        measured: None,
        lanes,
        wishes,
        pressure: max_retained.map(Pressure::new),
    };
    let end = pump.run().await?;
    pump.capture.close().await;
    Ok(end)
}

enum Wake<T> {
    Shutdown,
    Requests,
    Confirm,
    Mark,
    Chunk,
    Captured(T),
}

impl<C, R, J> Pump<C, R, J>
where
    C: Capture,
    R: SnapshotReader + 'static,
    J: Journal,
{
    async fn run(&mut self) -> Result<PumpEnd, Stop<C, R>> {
        if self.confirm == ConfirmPolicy::Delivered {
            // Targets may know more than this journal: what is read now goes in behind all of that.
            let end = self.capture.end().await.map_err(PumpError::Capture)?;
            self.placing.not_before(end);
        }
        self.plan_jobs().await?;
        // What an earlier life has made safe.
        self.confirm().await?;
        let mut requests = tokio::time::interval(REQUEST_INTERVAL);
        let mut marks = tokio::time::interval(MARK_INTERVAL);
        marks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // A keyless table's chunks are placed in one go, between two transactions; see `placing`.
            let wake = tokio::select! {
                biased; // 1 stop, 2 operator, 3 confirm, 4 idle marks, 5 chunks, 6 changes
                _ = self.shutdown.wait_for(|stop| *stop) => Wake::Shutdown,
                _ = requests.tick() => Wake::Requests,
                Ok(()) = self.durable.changed() => Wake::Confirm,
                Ok(()) = self.delivered.changed(), if self.confirm == ConfirmPolicy::Delivered => Wake::Confirm,
                _ = marks.tick(), if self.idle.is_some() => Wake::Mark,
                () = self.placing.ready(), if self.between || !self.placing.is_idle() => Wake::Chunk,
                () = self.wishes.news() => Wake::Chunk,
                captured = self.capture.next() => Wake::Captured(captured),
            };
            match wake {
                Wake::Shutdown => return Ok(PumpEnd::Shutdown),
                Wake::Requests => {
                    if self.requests().await? {
                        return Ok(PumpEnd::SnapshotAll);
                    }
                    self.measure().await?;
                }
                Wake::Confirm => self.confirm().await?,
                Wake::Mark => self.mark().await?,
                Wake::Chunk => {}
                Wake::Captured(captured) => {
                    if self.captured(captured.map_err(PumpError::Capture)?).await? {
                        return Ok(PumpEnd::Shutdown);
                    }
                }
            }
            if self.place().await? {
                return Ok(PumpEnd::Shutdown);
            }
        }
    }

    async fn plan_jobs(&mut self) -> Result<(), Stop<C, R>> {
        let jobs = self.state.jobs()?;
        if self.confirm == ConfirmPolicy::Delivered && !jobs.is_empty() {
            self.capture.mark_snapshot(true).await.map_err(PumpError::Capture)?;
        }
        self.status.send_modify(|status| status.snapshots = jobs.len());
        self.metrics.snapshots_pending(jobs.len());
        self.placing.plan(jobs);
        self.capture.watch(&self.placing.watched());
        Ok(())
    }

    async fn requests(&mut self) -> Result<bool, Stop<C, R>> {
        let requests = self.state.requests()?;
        let Some(&(last, _)) = requests.last() else { return Ok(false) };
        if requests.iter().any(|(_, request)| *request == Some(Request::SnapshotAll)) {
            return Ok(true);
        }
        if !self.between {
            // An endpoint is attached between two transactions.
            return Ok(false);
        }
        let tables = self.placing.tables().await.map_err(PumpError::Snapshot)?;
        for name in requests.iter().filter_map(|(_, request)| match request {
            Some(Request::Endpoint(name)) => Some(name),
            _ => None,
        }) {
            let Some(wanted) = self.lanes.tables(name) else {
                tracing::warn!(endpoint = %name, "a snapshot was asked for an endpoint that does not exist");
                continue;
            };
            for def in tables.iter().filter(|def| wanted.matches(&def.name)) {
                let job = Job { only: vec![name.clone()], ..Job::new(def, true) };
                if let Some(job) = self.lanes.wanted(job) {
                    self.state.add_job(def, Some(&job))?;
                }
            }
            let from = self.end_of_stream().max(self.state.first()?);
            self.lanes.attach(name, from)?;
            tracing::info!(endpoint = %name, %from, "the endpoint is sent all of its tables again");
        }
        for name in requests.iter().flat_map(|(_, request)| match request {
            Some(Request::Snapshot(names)) => names.as_slice(),
            Some(Request::SnapshotAll | Request::Endpoint(_)) | None => &[],
        }) {
            match tables.iter().find(|def| def.name.to_string() == *name) {
                Some(def) => match self.lanes.wanted(Job::new(def, true)) {
                    Some(job) => self.state.add_job(def, Some(&job))?,
                    None => {
                        tracing::warn!(table = %name, "a snapshot was asked for an outbox that no bridge copies")
                    }
                },
                None => {
                    tracing::warn!(table = %name, "a snapshot was asked for a table that is not captured")
                }
            }
        }
        self.state.drop_requests(last)?;
        self.plan_jobs().await?;
        Ok(false)
    }

    /// Looks, now and then, how far the source is ahead.
    async fn measure(&mut self) -> Result<(), Stop<C, R>> {
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE_INTERVAL) {
            self.measured = Some(Instant::now());
            let end = self.capture.end().await.map_err(PumpError::Capture)?;
            self.metrics.behind(end.at.saturating_sub(self.passed.at));
            self.bound_source(false).await?;
        }
        Ok(())
    }

    /// Where the stream stands: what is appended from now on lies behind.
    fn end_of_stream(&self) -> Position {
        let last = self.journal.last().filter(|last| last.epoch >= self.epoch);
        last.unwrap_or(Position::new(self.epoch, 0, 0)).max(self.reached)
    }

    /// Detaches the slowest endpoint when the source holds too much of its log because of endpoints.
    async fn bound_source(&mut self, paused: bool) -> Result<(), Stop<C, R>> {
        let Some(retained) = self.capture.retained().await.map_err(PumpError::Capture)? else {
            return Ok(());
        };
        self.metrics.retained(retained.bytes);
        let Some(pressure) = &mut self.pressure else { return Ok(()) };
        // With `journaled` everything captured is confirmed: what is held otherwise, capture itself holds.
        let waiting = paused || self.confirm == ConfirmPolicy::Delivered;
        let (held, bound) = (retained.unconfirmed, pressure.bound());
        if pressure.rises(held, waiting, Instant::now()) {
            let reason = format!(
                "the source held {held} bytes of its log for endpoints, source.max_retained is {bound}"
            );
            if self.lanes.detach_slowest(&reason)?.is_none() {
                tracing::warn!(
                    held,
                    bound,
                    "the source holds more than source.max_retained, and no endpoint is in the way"
                );
            }
        }
        Ok(())
    }

    /// Takes what capture yields; true if shutdown came while the journal was full.
    async fn captured(&mut self, captured: Captured) -> Result<bool, Stop<C, R>> {
        match captured {
            Captured::Block(block) => {
                self.passed = self.passed.max(block.block.head.last.offset);
                self.placing.note(&block);
                if self.placing.holds_block(&block) {
                    self.placing.hold(*block);
                    return Ok(false);
                }
                self.append(*block).await
            }
            Captured::Advanced { at, resume } => {
                self.passed = self.passed.max(at);
                self.metrics.caught_up();
                // What is held is not in the journal yet: the source must not forget it.
                if !self.placing.holds() {
                    let upto = self.capture.reached_by(&resume);
                    self.reached = self.reached.max(upto);
                    self.idle = Some((upto, resume));
                }
                Ok(false)
            }
            Captured::TableAdded { def, resync } => {
                let job = self.lanes.wanted(Job::new(&def, resync));
                self.state.add_job(&def, job.as_ref())?;
                self.plan_jobs().await?;
                Ok(false)
            }
        }
    }

    async fn append(&mut self, captured: CapturedBlock) -> Result<bool, Stop<C, R>> {
        let block = captured.block;
        self.between = block.ends;
        self.idle = None;
        self.metrics.captured(&block);
        if self.confirm == ConfirmPolicy::Delivered && block.ends {
            self.undelivered.push_back(block.head.last);
            // The end of its commit record lies further than its position.
            self.idle = block.resume.clone().map(|resume| (self.capture.reached_by(&resume), resume));
        }
        self.append_waiting(Arc::new(block)).await
    }

    /// Appends, waiting for room as long as it takes; true if shutdown came first.
    async fn append_waiting(&mut self, block: Arc<crate::journal::Block>) -> Result<bool, Stop<C, R>> {
        loop {
            match self.journal.append(Arc::clone(&block)).await {
                Ok(_) => return Ok(false),
                Err(error @ (JournalError::Full { .. } | JournalError::DiskFull { .. })) => {
                    if self.wait_for_room(&error).await? {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn wait_for_room(&mut self, error: &JournalError) -> Result<bool, Stop<C, R>> {
        if self.status.borrow().paused.is_none() {
            tracing::warn!(%error, "capture pauses until there is room in the journal");
        }
        self.status.send_modify(|status| status.paused = Some(error.to_string()));
        self.metrics.paused(true);
        let journal = Arc::clone(&self.journal);
        let room = journal.room();
        tokio::pin!(room);
        let mut alive = tokio::time::interval(PAUSED_INTERVAL);
        let since = Instant::now();
        loop {
            let wake = tokio::select! {
                biased; // 1 stop, 2 go on, 3 keep the source's connection alive
                _ = self.shutdown.wait_for(|stop| *stop) => Wake::Shutdown,
                () = &mut room => Wake::Captured(()),
                _ = alive.tick() => Wake::Confirm,
            };
            match wake {
                Wake::Shutdown => return Ok(true),
                Wake::Captured(()) => break,
                _ => {
                    self.confirm().await?;
                    self.capture.keep_alive().await.map_err(PumpError::Capture)?;
                    // A moment's pause says nothing of anybody.
                    if since.elapsed() >= PAUSED_INTERVAL {
                        self.bound_source(true).await?;
                    }
                }
            }
        }
        tracing::info!("there is room in the journal: capture goes on");
        self.status.send_modify(|status| status.paused = None);
        self.metrics.paused(false);
        Ok(false)
    }

    /// Tells the source what it may forget.
    async fn confirm(&mut self) -> Result<(), Stop<C, R>> {
        let durable = self.durable.borrow_and_update().clone();
        let resume = match self.confirm {
            ConfirmPolicy::Journaled => durable.resume,
            ConfirmPolicy::Delivered => {
                let delivered = *self.delivered.borrow_and_update();
                let mut ended = None;
                while let Some(position) = self.undelivered.front()
                    && delivered.is_some_and(|delivered| *position <= delivered)
                {
                    ended = self.undelivered.pop_front();
                }
                if self.placing.is_done() && self.placed.is_some() && delivered >= self.placed {
                    self.placed = None;
                    self.capture.mark_snapshot(false).await.map_err(PumpError::Capture)?;
                }
                ended.map(|position| self.capture.resume_behind(position))
            }
        };
        if let Some(resume) = resume {
            self.capture.confirm(&resume).await.map_err(PumpError::Capture)?;
            Failpoint::SourceConfirmed.pass();
        }
        Ok(())
    }

    async fn mark(&mut self) -> Result<(), Stop<C, R>> {
        let Some((upto, resume)) = self.idle.take() else { return Ok(()) };
        let marked = match self.confirm {
            ConfirmPolicy::Journaled => self.journal.mark(resume.clone()).await,
            ConfirmPolicy::Delivered if self.journal.last() >= Some(upto) => Ok(()),
            // The source forgets only what targets are known to stand behind: so they are told how far an idle one is.
            ConfirmPolicy::Delivered => {
                let appended = self.journal.append(Arc::new(nothing(upto, resume.clone()))).await;
                if appended.is_ok() {
                    self.undelivered.push_back(upto);
                }
                appended.map(drop)
            }
        };
        match marked {
            Ok(()) => Ok(()),
            // A mark may wait: it only helps the source to forget.
            Err(JournalError::Full { .. } | JournalError::DiskFull { .. }) => {
                self.idle = Some((upto, resume));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A block without changes, which says how far the stream is.
fn nothing(upto: Position, resume: Resume) -> Block {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let head = BlockHead { first: upto, last: upto, at, step: Step::Ordinal, chunk: None };
    let resume = Some(resume);
    Block { head, ends: true, resume, only: vec![], tables: vec![], runs: vec![], body: vec![] }
}
