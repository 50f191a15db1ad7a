//! Where chunks enter the stream.
//!
//! **Keyed tables.** A chunk is read at some moment on another connection. Its read saw some transactions and not others
//! ([`Containment`]). Once the stream has passed the log position that was taken after the read, every transaction that
//! the read saw is in the stream, so the rows can enter it, less the keys that transactions which the read did not see
//! have changed meanwhile. Such keys are remembered per table from before its first read until a read has seen their
//! transaction. A key that was changed by an update without all columns (unchanged TOAST) is read again by itself.
//!
//! While a range waits for the stream to come by, the next one is read: it sees all that the one before has seen, so that
//! what is remembered serves both.
//!
//! **Tables with rows that foreign keys change unlogged** are placed exactly; see [`super::exact`].
//!
//! **Keyless tables.** Rows have no names, so nothing can be left out afterwards. The stream is held from before the read
//! until it has passed it; then come the transactions that the read saw, a clear, all rows, and the transactions that
//! it did not see.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_schema::wire::Sweep;
use rowbridge_schema::{Failpoint, Offset, TableDef, TableName};

use super::chunk::{Entry, encode, key_of};
use super::exact::{self, Exact};
use super::ring::Rings;
use super::wishes::{Granted, KeyWish, has_key, texts};
use super::{Pump, PumpError, Stop};
use crate::capture::{Capture, CapturedBlock, ChangedKey, Key, TxToken};
use crate::journal::Journal;
use crate::snapshot::{Cells, ChunkRead, SnapshotReader};
use crate::state::Job;

/// Text of one chunk: large enough to be worth a transaction, small enough to be one delivery.
pub(super) const CHUNK_BYTES: usize = 2 << 20;
/// How often a source that is behind a waiting chunk is asked how far it is.
const HURRY_INTERVAL: Duration = Duration::from_millis(20);
/// Keys read again at once.
const KEYS_AT_ONCE: usize = 500;

type Answer<R> = (R, Result<Option<ChunkRead>, <R as SnapshotReader>::Error>);
type Reading<R> = Pin<Box<dyn Future<Output = Answer<R>> + Send>>;

enum Stage<R: SnapshotReader> {
    /// No read under way.
    Idle(R),
    /// A read runs on its own connection.
    Reading(Reading<R>),
    /// The answer came; whether it can enter is looked at after every captured piece.
    Waiting(R, Box<Result<Option<ChunkRead>, R::Error>>),
    /// Only while moving from one to another.
    Moving,
}

pub(super) struct Placing<R: SnapshotReader> {
    stage: Stage<R>,
    pub(super) jobs: VecDeque<Job>,
    /// What the running or waiting read is for.
    current: Option<Current>,
    /// A range that waits for its place while the one behind it is read.
    front: Option<(Current, ChunkRead)>,
    /// The table whose changes are remembered, from before its first read on.
    noted: Option<TableName>,
    /// Its changes by transactions that no read has seen yet.
    changes: Vec<(TxToken, ChangedKey)>,
    /// Captured blocks that wait for the first chunk of a keyless table.
    held: VecDeque<CapturedBlock>,
    /// Keys that a partial change kept out of their chunk, and what comes when they were read again.
    again: Vec<Key>,
    then: Then,
    hurried: Option<Instant>,
    /// No read begins before the stream has passed this.
    not_before: Option<Offset>,
    /// The table whose ranges are placed where they were read.
    pub(super) exact: Exact,
    /// Tables that refer to each other.
    pub(super) rings: Rings,
    /// Rows that are asked for by their keys, between two ranges.
    pub(super) wish: Option<KeyWish>,
}

/// A read: the next range of its job, or some keys again.
#[derive(Debug, Clone)]
struct Current {
    job: Job,
    keys: Option<Vec<Key>>,
    /// The stream has been held since before it began.
    exact: bool,
    /// The keys are those of [`Placing::wish`], and the job is none that is stored.
    wish: bool,
}

/// What follows a chunk and the keys that are read again for it.
#[derive(Debug, Clone, Default)]
enum Then {
    /// The table is complete.
    #[default]
    Finish,
    /// The next range begins behind this key.
    Advance(Option<Key>),
}

/// What became of a range that is placed exactly.
enum Entered {
    /// It is in the stream, or will be read again.
    Done,
    /// The stream has not come that far.
    Waits,
    /// Shutdown came.
    Stopped,
}

impl<R: SnapshotReader + 'static> Placing<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            stage: Stage::Idle(reader),
            jobs: VecDeque::new(),
            current: None,
            front: None,
            noted: None,
            changes: Vec::new(),
            held: VecDeque::new(),
            again: Vec::new(),
            then: Then::Finish,
            hurried: None,
            not_before: None,
            exact: Exact::default(),
            rings: Rings::default(),
            wish: None,
        }
    }

    /// No read begins before the stream has passed `offset`.
    pub(super) fn not_before(&mut self, offset: Offset) {
        self.not_before = Some(offset);
    }

    /// Nothing is to be sent, and nothing is held.
    pub(super) fn is_done(&self) -> bool {
        self.jobs.is_empty() && self.held.is_empty()
    }

    /// New or changed jobs. What is under way for a job that is no longer the same is dropped when its answer comes. The
    /// table under way stays the first one, whatever comes to the list: its changes are what is remembered.
    pub(super) fn plan(&mut self, jobs: Vec<Job>) {
        let run = |jobs: &VecDeque<Job>, table: &TableName| {
            jobs.iter().find(|job| job.table == *table).map(|job| job.run)
        };
        let jobs = VecDeque::from(jobs);
        if self.noted.as_ref().is_some_and(|noted| run(&self.jobs, noted) != run(&jobs, noted)) {
            // Asked for anew: nothing is left of the former run but the changes that no read has seen.
            self.again.clear();
            self.then = Then::Finish;
        }
        self.jobs = jobs;
        let rings = &self.rings;
        self.jobs.make_contiguous().sort_by_key(|job| rings.is_last(&job.table));
        let under_way = self.jobs.iter().position(|job| self.noted.as_ref() == Some(&job.table));
        if let Some(job) = under_way.and_then(|at| self.jobs.remove(at)) {
            self.jobs.push_front(job);
        }
        if self.noted.as_ref().is_some_and(|noted| self.jobs.front().is_none_or(|job| job.table != *noted)) {
            self.forget();
        }
    }

    pub(super) fn forget(&mut self) {
        self.noted = None;
        self.exact.end();
        self.changes.clear();
        self.again.clear();
        self.then = Then::Finish;
    }

    /// Captured tables as they are now.
    pub(super) async fn tables(&mut self) -> Result<Vec<TableDef>, R::Error> {
        self.wait().await;
        match &mut self.stage {
            Stage::Idle(reader) | Stage::Waiting(reader, _) => reader.tables().await,
            Stage::Reading(_) | Stage::Moving => Ok(vec![]),
        }
    }

    async fn wait(&mut self) {
        if let Stage::Reading(reading) = &mut self.stage {
            let (reader, answer) = reading.await;
            self.stage = Stage::Waiting(reader, Box::new(answer));
        }
    }

    /// Resolves when a read's answer has come or a waiting chunk should be looked at again. Cancel safe.
    pub(super) async fn ready(&mut self) {
        let has_work = self.has_work();
        match &mut self.stage {
            Stage::Reading(_) if self.front.is_some() || !self.held.is_empty() => {
                // Elapsed or answered: either way somebody looks.
                let _ = tokio::time::timeout(HURRY_INTERVAL, self.wait()).await;
            }
            Stage::Reading(_) => self.wait().await,
            Stage::Waiting(..) => tokio::time::sleep(HURRY_INTERVAL).await,
            Stage::Idle(_) if has_work && self.not_before.is_some() => {
                tokio::time::sleep(HURRY_INTERVAL).await;
            }
            Stage::Idle(_) if has_work => {}
            Stage::Idle(_) | Stage::Moving => std::future::pending().await,
        }
    }

    /// No read is under way. The next one begins between two transactions.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle(_))
    }

    /// Something is to be read.
    fn has_work(&self) -> bool {
        !self.jobs.is_empty() || self.wish.is_some()
    }

    /// The changes of a table that no read has seen yet; `None` if it is not the one whose changes are remembered.
    pub(super) fn take_changes(&mut self, table: &TableName) -> Option<Vec<(TxToken, ChangedKey)>> {
        (self.noted.as_ref() == Some(table)).then(|| std::mem::take(&mut self.changes))
    }

    pub(super) fn put_changes(&mut self, changes: Vec<(TxToken, ChangedKey)>) {
        self.changes = changes;
    }

    /// Remembers nothing of a table that is not to be read again.
    pub(super) fn forget_if_done(&mut self) {
        if self.jobs.front().is_none_or(|job| self.noted.as_ref() != Some(&job.table)) {
            self.forget();
        }
    }

    /// Remembers which keys a captured transaction changes.
    pub(super) fn note(&mut self, block: &CapturedBlock) {
        self.rings.note(block);
        if let Some(noted) = &self.noted {
            let changes = block.changed.iter().filter(|change| change.table == *noted);
            self.changes.extend(changes.map(|change| (block.token, change.clone())));
        }
    }

    /// Whether captured blocks may have to wait here.
    pub(super) fn holds(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.job.keyless || current.exact)
            || !self.held.is_empty()
    }

    /// Whether a captured block must wait here: for a range that is placed exactly, those that its read saw go on.
    pub(super) fn holds_block(&self, block: &CapturedBlock) -> bool {
        let current = self.current.as_ref();
        let exact = || match &self.stage {
            Stage::Waiting(_, answer) => match &**answer {
                Ok(Some(chunk)) => !chunk.containment.contains(block.token),
                _ => false,
            },
            _ => true,
        };
        !self.held.is_empty()
            || current.is_some_and(|current| current.job.keyless || current.exact && exact())
    }

    pub(super) fn hold(&mut self, block: CapturedBlock) {
        self.exact.hold(&block);
        self.held.push_back(block);
    }

    /// The stream goes on although a read is not done for which it is held, because that takes too long.
    fn gives_up_holding(&mut self) -> bool {
        let reading = matches!(self.stage, Stage::Reading(_)) && !self.held.is_empty();
        let Some(current) = self.current.as_mut().filter(|current| reading && current.exact) else {
            return false;
        };
        if !self.exact.is_too_much() {
            return false;
        }
        tracing::debug!(table = %current.job.table, "a range takes too long to hold the stream for it");
        current.exact = false;
        self.exact.halve();
        true
    }

    /// Begins to read what is wished for, where nothing of a range is left to be read again.
    fn start_wish(&mut self, mut reader: R) -> Option<R> {
        let Some(wish) = self.wish.as_ref().filter(|_| self.again.is_empty()) else { return Some(reader) };
        let table = wish.table.clone();
        let keys: Vec<Key> = wish.keys.iter().map(|key| texts(key)).collect();
        let columns = wish.columns.clone();
        let job = Job {
            table: table.clone(),
            keyless: false,
            resync: false,
            only: vec![wish.endpoint.clone()],
            after: None,
            run: 0,
        };
        let settle = self.noted.as_ref() != Some(&table);
        if settle {
            self.forget();
            self.noted = Some(table.clone());
        }
        let exact = self.exact.is(&table);
        if exact {
            self.exact.begin();
        }
        self.current = Some(Current { job, keys: Some(keys.clone()), exact, wish: true });
        self.stage = Stage::Reading(Box::pin(async move {
            if settle && let Err(error) = reader.settle().await {
                return (reader, Err(error));
            }
            // By another key nothing can be found, and a reader may take it for an error.
            let answer = match reader.tables().await {
                Ok(tables) if tables.iter().any(|def| def.name == table && has_key(def, &columns)) => {
                    reader.read_keys(&table, &keys).await
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            (reader, answer)
        }));
        None
    }

    fn start(&mut self, reader: R) {
        let Some(reader) = self.start_wish(reader) else { return };
        let Some(job) = self.jobs.front().cloned() else {
            self.stage = Stage::Idle(reader);
            return;
        };
        let settle = self.noted.as_ref() != Some(&job.table);
        if settle {
            self.forget();
            self.noted = Some(job.table.clone());
        }
        let keys = (!self.again.is_empty()).then(|| {
            let count = self.again.len().min(KEYS_AT_ONCE);
            self.again.drain(..count).collect::<Vec<_>>()
        });
        let exact = self.exact.is(&job.table);
        if exact {
            self.exact.begin();
        }
        self.read(reader, Current { job, keys, exact, wish: false }, settle);
    }

    fn read(&mut self, mut reader: R, current: Current, settle: bool) {
        self.current = Some(current.clone());
        let Current { job, keys, .. } = current;
        let bytes = self.exact.chunk_bytes(&job.table);
        self.stage = Stage::Reading(Box::pin(async move {
            if settle && let Err(error) = reader.settle().await {
                return (reader, Err(error));
            }
            let answer = match &keys {
                Some(keys) => reader.read_keys(&job.table, keys).await,
                None => reader.read_chunk(&job.table, job.after.as_ref(), bytes).await,
            };
            (reader, answer)
        }));
    }

    /// Lets a range that has come wait aside, if another one follows, and reads that. Gives back what has to wait as it is.
    fn read_ahead(&mut self, reader: R, chunk: ChunkRead, wished: bool) -> Option<(R, ChunkRead)> {
        // What is wished for comes between two ranges.
        if wished || self.wish.is_some() {
            return Some((reader, chunk));
        }
        let logged = chunk.unlogged.ancestors.is_empty();
        let follows = logged && !chunk.done && !chunk.table.key.is_empty() && chunk.range.upto.is_some();
        let under_way = self.current.take_if(|current| {
            let plain = current.keys.is_none() && !current.job.keyless && self.jobs.contains(&current.job);
            follows && plain && self.again.is_empty() && self.held.is_empty()
        });
        let Some(current) = under_way else { return Some((reader, chunk)) };
        let next = Job { after: chunk.range.upto.clone(), ..current.job.clone() };
        self.front = Some((current, chunk));
        self.read(reader, Current { job: next, keys: None, exact: false, wish: false }, false);
        None
    }
}

impl<C, R, J> Pump<C, R, J>
where
    C: Capture,
    R: SnapshotReader + 'static,
    J: Journal,
{
    /// Moves the snapshot on as far as it goes now; true if shutdown came.
    pub(super) async fn place(&mut self) -> Result<bool, Stop<C, R>> {
        loop {
            if self.placing.gives_up_holding() && self.release_held().await? {
                return Ok(true);
            }
            if let Some(after) = self.placing.front.as_ref().map(|(_, chunk)| chunk.after) {
                if !self.passed_by(after).await? {
                    return Ok(false);
                }
                if let Some((current, chunk)) = self.placing.front.take()
                    && self.placing.jobs.contains(&current.job)
                    && self.enter_keyed(chunk, current, false).await?
                {
                    return Ok(true);
                }
                continue;
            }
            match std::mem::replace(&mut self.placing.stage, Stage::Moving) {
                Stage::Idle(reader) => {
                    // Reads begin between two transactions, so that a held stream begins with a whole one.
                    if self.between {
                        self.take_wish();
                    }
                    if !self.between || !self.placing.has_work() {
                        self.placing.stage = Stage::Idle(reader);
                        return Ok(false);
                    }
                    if let Some(offset) = self.placing.not_before {
                        if !self.passed_by(offset).await? {
                            self.placing.stage = Stage::Idle(reader);
                            return Ok(false);
                        }
                        self.placing.not_before = None;
                    }
                    self.placing.start(reader);
                    return Ok(false);
                }
                Stage::Waiting(reader, answer) => {
                    let chunk = match *answer {
                        Err(error) => return Err(PumpError::Snapshot(error)),
                        Ok(chunk) => chunk,
                    };
                    let (reader, chunk) = match chunk {
                        None => (reader, None),
                        Some(chunk)
                            if !chunk.unlogged.ancestors.is_empty() && !chunk.table.key.is_empty() =>
                        {
                            match self.enter_exactly(reader, chunk).await? {
                                Entered::Stopped => return Ok(true),
                                Entered::Waits => return Ok(false),
                                Entered::Done => continue,
                            }
                        }
                        Some(chunk) => {
                            match self.placing.read_ahead(reader, chunk, !self.wishes.is_empty()) {
                                Some((reader, chunk)) => (reader, Some(chunk)),
                                None => continue,
                            }
                        }
                    };
                    let after = chunk.as_ref().map_or(Offset::default(), |chunk| chunk.after);
                    if !self.passed_by(after).await? {
                        self.placing.stage = Stage::Waiting(reader, Box::new(Ok(chunk)));
                        return Ok(false);
                    }
                    if self.enter(reader, chunk).await? {
                        return Ok(true);
                    }
                }
                stage => {
                    self.placing.stage = stage;
                    return Ok(false);
                }
            }
        }
    }

    /// Whether the stream has passed a position and stands between two transactions. Hurries a source that is behind.
    async fn passed_by(&mut self, after: Offset) -> Result<bool, Stop<C, R>> {
        let passed = self.passed >= after;
        if !passed && self.placing.hurried.is_none_or(|at| at.elapsed() >= HURRY_INTERVAL) {
            self.placing.hurried = Some(Instant::now());
            self.capture.hurry().await.map_err(PumpError::Capture)?;
        }
        Ok(passed && self.between)
    }

    async fn enter(&mut self, mut reader: R, chunk: Option<ChunkRead>) -> Result<bool, Stop<C, R>> {
        let Some(current) = self.placing.current.take() else {
            self.placing.stage = Stage::Idle(reader);
            return Ok(false);
        };
        if current.wish && chunk.as_ref().is_none_or(|chunk| chunk.table.key.is_empty()) {
            self.end_wish(Granted::Gone);
            self.placing.stage = Stage::Idle(reader);
            return self.release_held().await;
        }
        let job = &current.job;
        let still_wanted = current.wish || self.placing.jobs.contains(job);
        let Some(chunk) = chunk.filter(|_| still_wanted) else {
            if still_wanted {
                tracing::warn!(table = %job.table, "the table is gone: its snapshot ends");
                self.finish_job(&job.table)?;
            }
            self.placing.stage = Stage::Idle(reader);
            return self.release_held().await;
        };
        if chunk.table.key.is_empty() {
            if job.after.is_none() && self.placing.ancestors_first(&chunk) {
                self.placing.stage = Stage::Idle(reader);
                return self.release_held().await;
            }
            if !job.keyless {
                // It lost its key after the job was made, so nothing was held: begin anew.
                self.state.add_job(&chunk.table, Some(&Job::new(&chunk.table, true)))?;
                self.placing.stage = Stage::Idle(reader);
                self.plan_jobs().await?;
                return Ok(false);
            }
            let stop = self.enter_keyless(&mut reader, chunk, job).await?;
            self.placing.stage = Stage::Idle(reader);
            return Ok(stop);
        }
        if self.release_held().await? {
            return Ok(true);
        }
        if !self.between {
            let Current { exact, wish, .. } = current;
            let job = Job { keyless: false, ..current.job.clone() };
            self.placing
                .jobs
                .iter_mut()
                .filter(|known| **known == current.job)
                .for_each(|known| known.keyless = false);
            self.placing.current = Some(Current { job, keys: current.keys, exact, wish });
            self.placing.stage = Stage::Waiting(reader, Box::new(Ok(Some(chunk))));
            return Ok(false);
        }
        self.placing.stage = Stage::Idle(reader);
        self.enter_keyed(chunk, current, false).await
    }

    /// A range with rows that are changed unlogged: behind what its read saw, before all else.
    async fn enter_exactly(&mut self, reader: R, chunk: ChunkRead) -> Result<Entered, Stop<C, R>> {
        let wanted = |current: &Current| current.wish || self.placing.jobs.contains(&current.job);
        let exact = self.placing.current.as_ref().is_some_and(|current| current.exact && wanted(current));
        if !exact {
            let known = self.placing.current.take();
            self.placing.stage = Stage::Idle(reader);
            if known.as_ref().is_some_and(|current| current.wish) {
                // Read again, with the stream held.
                self.placing.exact.becomes(&chunk.table.name);
            } else if let Some(current) = known.filter(|current| self.placing.jobs.contains(&current.job)) {
                self.placing.again.extend(current.keys.unwrap_or_default());
                self.placing.place_exactly(&chunk);
                if !current.job.resync {
                    // What the stream has brought before, and a foreign key has changed since, goes with its range.
                    let job = Job { only: current.job.only, ..Job::new(&chunk.table, true) };
                    self.state.add_job(&chunk.table, Some(&job))?;
                    self.placing.plan(self.state.jobs()?);
                }
            }
            return Ok(if self.release_held().await? { Entered::Stopped } else { Entered::Done });
        }
        while self.placing.held.front().is_some_and(|block| chunk.containment.contains(block.token)) {
            if let Some(block) = self.placing.held.pop_front()
                && self.append(block).await?
            {
                return Ok(Entered::Stopped);
            }
        }
        let unseen = exact::is_in_order(&chunk.containment) && !self.placing.held.is_empty();
        if !(unseen || self.passed_by(chunk.after).await?) {
            self.placing.stage = Stage::Waiting(reader, Box::new(Ok(Some(chunk))));
            return Ok(Entered::Waits);
        }
        self.placing.stage = Stage::Idle(reader);
        let Some(current) = self.placing.current.take() else { return Ok(Entered::Done) };
        if self.placing.held.iter().any(|block| chunk.containment.contains(block.token)) {
            tracing::debug!(table = %current.job.table, "a commit was not visible in order: the range is read again");
            if !current.wish {
                self.placing.again.extend(current.keys.unwrap_or_default());
            }
        } else if self.enter_keyed(chunk, current, true).await? {
            return Ok(Entered::Stopped);
        }
        Ok(if self.release_held().await? { Entered::Stopped } else { Entered::Done })
    }

    /// Lets a range's rows into the stream. `first`: what its read did not see is held, and comes behind it.
    async fn enter_keyed(
        &mut self,
        mut chunk: ChunkRead,
        current: Current,
        first: bool,
    ) -> Result<bool, Stop<C, R>> {
        if current.wish {
            return self.enter_wish(chunk, first).await;
        }
        let Current { job, keys, .. } = current;
        let changes = std::mem::take(&mut self.placing.changes);
        let (seen, unseen): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(token, _)| chunk.containment.contains(*token));
        drop(seen);
        let later: &[(TxToken, ChangedKey)] = if first { &[] } else { &unseen };
        let emptied = later.iter().any(|(_, change)| change.key.is_empty());
        let skip: HashSet<Key> = later.iter().map(|(_, change)| change.key.clone()).collect();
        let partial: HashSet<Key> =
            later.iter().filter(|(_, change)| change.partial).map(|(_, change)| change.key.clone()).collect();
        self.placing.changes = unseen;
        if emptied {
            // The table was truncated after the read: what was read is gone, read again.
            self.placing.again.extend(keys.unwrap_or_default());
            return Ok(false);
        }
        if !partial.is_empty() {
            let sent = chunk.table.sent_columns();
            let rows = chunk.cells.rows().map(|row| key_of(&chunk, &sent, row));
            self.placing.again.extend(rows.filter(|key| partial.contains(key)));
        }
        let range = keys.is_none();
        if range {
            self.placing.then =
                if chunk.done { Then::Finish } else { Then::Advance(chunk.range.upto.clone()) };
        }
        let complete = self.placing.again.is_empty();
        // A first range that is read again after a kill begins anew: so do targets.
        let sweep = match (range, &job.after) {
            (true, None) => Sweep::First,
            (true, Some(_)) => Sweep::Next,
            (false, _) => Sweep::Again,
        };
        let entry = Entry {
            clear: false,
            sweep: job.resync.then_some(sweep),
            prune: job.resync && range && chunk.portable_order,
            done: complete && matches!(self.placing.then, Then::Finish),
            skip,
            only: job.only.clone(),
        };
        if self.append_chunk(&mut chunk, entry).await? {
            return Ok(true);
        }
        if complete {
            match std::mem::take(&mut self.placing.then) {
                Then::Finish => self.finish(&job, &chunk.table)?,
                Then::Advance(after) => {
                    Failpoint::RangeAppended.pass();
                    self.state.advance_job(&job.table, after.as_ref())?;
                    if let Some(known) = self.placing.jobs.iter_mut().find(|known| **known == job) {
                        known.after = after;
                    }
                }
            }
        }
        Ok(false)
    }

    /// A table's last range is in the stream: it is done, or goes a second time.
    fn finish(&mut self, job: &Job, def: &TableDef) -> Result<(), Stop<C, R>> {
        if !self.placing.rings.sent(&job.table) {
            return self.finish_job(&job.table);
        }
        tracing::info!(table = %job.table, "rows that refer to each other changed meanwhile: the table is sent again");
        self.state.add_job(def, Some(&Job { only: job.only.clone(), ..Job::new(def, true) }))?;
        self.placing.forget();
        self.placing.plan(self.state.jobs()?);
        Ok(())
    }

    fn finish_job(&mut self, table: &TableName) -> Result<(), Stop<C, R>> {
        Failpoint::TableAppended.pass();
        self.state.advance_job(table, None)?;
        tracing::info!(%table, "existing rows are in the stream");
        let jobs = self.state.jobs()?;
        if jobs.is_empty() {
            self.placed = self.journal.last();
        }
        self.status.send_modify(|status| status.snapshots = jobs.len());
        self.metrics.snapshots_pending(jobs.len());
        self.placing.plan(jobs);
        self.capture.watch(&self.placing.watched());
        Ok(())
    }

    /// Takes the rows out of a range and into the stream.
    async fn append_chunk(&mut self, chunk: &mut ChunkRead, entry: Entry) -> Result<bool, Stop<C, R>> {
        let block = encode(chunk, entry, self.end_of_stream());
        // The journal may be waited for, and the rows are in the block.
        chunk.cells = Cells::default();
        self.metrics.captured(&block);
        self.append_waiting(Arc::new(block)).await
    }

    /// Lets the held stream go on.
    async fn release_held(&mut self) -> Result<bool, Stop<C, R>> {
        while let Some(block) = self.placing.held.pop_front() {
            if self.append(block).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn enter_keyless(
        &mut self,
        reader: &mut R,
        chunk: ChunkRead,
        job: &Job,
    ) -> Result<bool, Stop<C, R>> {
        let held = &self.placing.held;
        let concerns = |block: &CapturedBlock| block.block.tables.iter().any(|table| table.name == job.table);
        let unseen = |block: &CapturedBlock| !chunk.containment.contains(block.token);
        // Where foreign keys act, a change of any table may concern it.
        let linked = !chunk.unlogged.ancestors.is_empty();
        let concerns = |block: &CapturedBlock| linked || concerns(block);
        let split = held.iter().position(|block| concerns(block) && unseen(block)).unwrap_or(held.len());
        let mut split_at = split;
        while split_at > 0 && !held[split_at - 1].block.ends {
            split_at -= 1;
        }
        if held.iter().skip(split).any(|block| concerns(block) && !unseen(block)) {
            tracing::debug!(table = %job.table, "a commit was not visible in order: the table is read again");
            return self.release_held().await;
        }
        for _ in 0..split_at {
            if let Some(block) = self.placing.held.pop_front()
                && self.append(block).await?
            {
                return Ok(true);
            }
        }
        let mut chunk = chunk;
        let mut clear = true;
        loop {
            let done = chunk.done;
            let entry = Entry { clear, done, only: job.only.clone(), ..Entry::default() };
            if self.append_chunk(&mut chunk, entry).await? {
                return Ok(true);
            }
            if done {
                break;
            }
            clear = false;
            self.confirm().await?;
            let marker = Key::new();
            let next = reader
                .read_chunk(&job.table, Some(&marker), CHUNK_BYTES)
                .await
                .map_err(PumpError::Snapshot)?;
            match next {
                Some(next) => chunk = next,
                None => break,
            }
        }
        self.finish(job, &chunk.table)?;
        self.release_held().await
    }
}
