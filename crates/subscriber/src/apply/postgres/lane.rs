//! One lane's session and the way of a delivery through it.
//!
//! - The common case is one round trip: BEGIN, progress moved from where it is believed to be, the set form of every
//!   table, COMMIT; one message if it is small. If progress is elsewhere or a row is refused, nothing behind it is done
//!   either, all is rolled back, and the careful way starts over.
//! - The careful way locks the progress row, compares, and goes step by step with a savepoint before each: set form, else
//!   change by change in source order with constraints deferred, else the final rows; only then is the delivery refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Failpoint, Position, TableId};
use tokio_postgres::Error;
use tracing::{debug, info};

use super::binding::Binding;
use super::error::{PostgresError, Verdict, describe, failed, verdict};
use super::progress::ProgressRow;
use super::rows::{self, RowError};
use super::session::Session;
use super::set::{self, Call, RowFault};
use super::{Settings, settle};
use crate::apply::decision::{Decision, decide};
use crate::apply::{Applied, Progress, TargetLane};
use crate::cross;
use crate::plan::{Event, Step, fold, plan};

/// Deliveries that a table goes without COPY after it met a row that was there.
const WITHOUT_COPY: u32 = 16;

/// The lane's own row is free or in the hands of another publisher: no reason to wait long.
pub(super) const LOCK_PROGRESS: &str = "BEGIN; SET LOCAL lock_timeout = '2s'";

/// Back to the session's own bound.
pub(super) const LOCK_ROWS: &str = "SET LOCAL lock_timeout TO DEFAULT";

/// One lane of a PostgreSQL target.
pub struct PostgresLane {
    pub(super) session: Session,
    pub(super) settings: Arc<Settings>,
    pub(super) row: ProgressRow,
    pub(super) bindings: HashMap<TableId, Arc<Binding>>,
    pub(super) bound_at: Instant,
    /// Shapes whose oddities have been logged.
    pub(super) warned: HashSet<TableId>,
    /// Tables where COPY met a row that was there, and for how many tries they go without.
    pub(super) no_copy: HashMap<TableId, u32>,
    /// Tables that collect keys for a re-snapshot, by name; `None` when that has to be looked up.
    pub(super) collecting: Option<HashSet<String>>,
    /// What is committed, as far as this session knows.
    pub(super) committed: Option<Progress>,
    /// What lies in the open transaction.
    pub(super) staged: Option<Progress>,
    /// An open transaction was given up for the catalog's sake, which was read anew; until the next commit or verdict.
    reread: bool,
}

/// Why a transaction was given up.
pub(super) enum Stop {
    /// The data is refused.
    Rejected(Vec<FailingChange>),
    /// The catalog is not what was cached: try once more.
    Catalog(Error),
    /// No verdict.
    Error(PostgresError),
}

impl From<PostgresError> for Stop {
    fn from(error: PostgresError) -> Self {
        Self::Error(error)
    }
}

pub(super) fn stop(doing: &'static str, error: Error) -> Stop {
    if verdict(&error) == Verdict::Catalog { Stop::Catalog(error) } else { Stop::Error(failed(doing, error)) }
}

pub(super) fn rejected(fault: RowFault) -> Stop {
    let RowFault { position, table, column, key, reason } = fault;
    Stop::Rejected(vec![FailingChange { position, table, column, key, reason }])
}

pub(super) enum Outcome {
    Done(Applied),
    Careful,
}

impl PostgresLane {
    pub(super) async fn open(
        settings: Arc<Settings>,
        mut session: Session,
        row: ProgressRow,
    ) -> Result<Self, PostgresError> {
        row.create_table(&session).await?;
        let committed = row.read(&mut session, false).await?;
        let collecting = Some(row.collecting(&session).await?);
        if !session.replica {
            info!(
                "session_replication_role is not granted: linked tables are applied row by row (see rowbridge check)"
            );
        }
        Ok(Self {
            session,
            settings,
            row,
            bindings: HashMap::new(),
            bound_at: Instant::now(),
            warned: HashSet::new(),
            no_copy: HashMap::new(),
            collecting,
            committed,
            staged: None,
            reread: false,
        })
    }

    async fn abandon(&mut self) -> Result<(), PostgresError> {
        self.staged = None;
        self.collecting = None;
        self.session.batch("ROLLBACK").await.map_err(|e| failed("rolling back", e))
    }

    fn position(&self) -> Option<Position> {
        self.committed.as_ref().map(|progress| progress.position)
    }

    /// The next deliveries of these tables go without COPY: under a snapshot, rows often are there before it comes to them.
    pub(super) fn refrain_from_copy(&mut self, tables: impl Iterator<Item = TableId>) {
        self.no_copy.extend(tables.map(|table| (table, WITHOUT_COPY)));
    }

    /// The set form of the changes, `None` if a table must go change by change. With `part`, only those tables count
    /// that do not have to.
    pub(super) fn calls<'d>(
        &mut self,
        events: &[Event<'d>],
        part: bool,
        copy: bool,
    ) -> Result<Option<Vec<Call<'d>>>, (TableId, Option<RowFault>)> {
        let mut tables: Vec<TableId> = Vec::new();
        let mut by_table: HashMap<TableId, Vec<&Event<'d>>> = HashMap::new();
        for event in events {
            by_table
                .entry(event.table)
                .or_insert_with(|| {
                    tables.push(event.table);
                    Vec::new()
                })
                .push(event);
        }
        let mut calls = Vec::new();
        for id in tables {
            let Some(binding) = self.bindings.get(&id) else { return Ok(None) };
            if binding.ordered(self.session.replica) {
                if part {
                    continue;
                }
                return Ok(None);
            }
            let events = by_table.remove(&id).unwrap_or_default();
            let folded = fold(binding.shape(), events.into_iter()).map_err(|_| (id, None))?;
            let wait = self.no_copy.get_mut(&id).map(|tries| {
                *tries = tries.saturating_sub(1);
                *tries
            });
            let copy = copy && wait.is_none_or(|tries| tries == 0);
            calls.extend(set::calls(binding, &folded, copy).map_err(|fault| (id, Some(fault)))?);
        }
        Ok(Some(calls))
    }

    /// The careful way. The transaction is open when it fails; the caller rolls back.
    async fn carefully(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Applied, Stop> {
        let head = &delivery.head;
        let stored = match self.staged.clone() {
            Some(staged) => Some(staged),
            None => {
                self.session.batch(LOCK_PROGRESS).await.map_err(|e| stop("beginning a transaction", e))?;
                let believed = self.committed.clone();
                let mut stored = self.row.read(&mut self.session, true).await?;
                if stored.is_none()
                    && matches!(decide(None, head), Decision::Apply(_))
                    && !self.row.insert(&mut self.session, &head.source, to).await?
                {
                    stored = self.row.read(&mut self.session, true).await?;
                }
                if self.collecting.is_none() || stored != believed {
                    self.collecting = Some(self.row.collecting(&self.session).await?);
                }
                self.committed = stored.clone();
                stored
            }
        };
        let after = match decide(stored.as_ref(), head) {
            Decision::Apply(after) => after,
            Decision::Answer(answer) => {
                self.abandon().await?;
                return Ok(answer);
            }
        };
        if stored.is_some() {
            self.row.write(&mut self.session, &head.source, to).await?;
        }
        Failpoint::ProgressWritten.pass();
        self.session.batch(LOCK_ROWS).await.map_err(|e| stop("applying a delivery", e))?;
        let plan = plan(delivery, after);
        for step in &plan.steps {
            match step {
                Step::Rows(events) => {
                    self.rows(events).await?;
                    self.collect(events).await?;
                }
                Step::Truncate { tables, position } => self.truncate(delivery, tables, *position).await?,
                Step::Chunk { chunk, sent, begins, position } => {
                    self.chunk(chunk, sent, *begins, *position).await?;
                }
            }
        }
        let reached = Progress { source: head.source.clone(), position: to };
        if head.open {
            self.staged = Some(reached);
            let position = self.position();
            return Ok(Applied::Staged { position, staged: to, changes: plan.changes });
        }
        Failpoint::BeforeCommit.pass();
        if let Err(error) = self.session.batch("COMMIT").await {
            // Deferred constraints speak up only now.
            if verdict(&error) != Verdict::Data {
                return Err(stop("committing", error));
            }
            let (column, reason) = describe(&error);
            let table = error.as_db_error().and_then(|db| db.table()).unwrap_or("").to_owned();
            return Err(rejected(RowFault { position: to, table, column, key: Vec::new(), reason }));
        }
        self.staged = None;
        self.committed = Some(reached);
        Ok(Applied::Committed { position: to, changes: plan.changes })
    }

    /// Applies changes between two barriers.
    async fn rows(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        let refused = match self.write(events).await {
            Err(Stop::Rejected(refused)) => refused,
            written => return written,
        };
        let back = self.session.batch("ROLLBACK TO SAVEPOINT rowbridge").await;
        back.map_err(|e| stop("applying rows", e))?;
        // What is in the way may be a row that a re-snapshot has not come to.
        if !self.clear_the_way(events).await? {
            return Err(Stop::Rejected(refused));
        }
        self.write(events).await
    }

    async fn write(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        let doing = "applying rows";
        self.session.batch("SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e))?;
        let mut result = self.rows_as_sets(events, true).await;
        if let Err(RowError::Server(error)) = &result
            && error.as_db_error().is_some()
            && verdict(error) != Verdict::Again
        {
            self.refrain_from_copy(events.iter().map(|event| event.table));
            self.session.batch("ROLLBACK TO SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e))?;
            result = self.rows_as_sets(events, false).await;
        }
        match result {
            Ok(true) => {
                return self.session.batch("RELEASE SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e));
            }
            Ok(false) => {}
            Err(RowError::Server(error)) if self.session.verdict(&error) != Verdict::Data => {
                return Err(stop(doing, error));
            }
            Err(_) => {}
        }
        let again = "ROLLBACK TO SAVEPOINT rowbridge; SET CONSTRAINTS ALL DEFERRED";
        self.session.batch(again).await.map_err(|e| stop(doing, e))?;
        let refusal = match self.rows_one_by_one(events).await {
            Ok(()) => {
                return self.session.batch("RELEASE SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e));
            }
            Err(RowError::Server(error)) if self.session.verdict(&error) != Verdict::Data => {
                return Err(stop(doing, error));
            }
            Err(RowError::Fault(fault)) => return Err(rejected(fault)),
            Err(RowError::Refused(fault, error)) => {
                debug!(error = %error, "a change was refused in source order");
                fault
            }
            Err(RowError::Server(error)) => return Err(stop(doing, error)),
        };
        if !settle::possible(&self.bindings, events, self.session.replica) {
            return Err(rejected(refusal));
        }
        self.session.batch(again).await.map_err(|e| stop(doing, e))?;
        match settle::apply(&mut self.session, &self.bindings, events).await {
            Ok(()) => self.session.batch("RELEASE SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e)),
            Err(RowError::Fault(_) | RowError::Refused(..)) => Err(rejected(refusal)),
            Err(RowError::Server(error)) if self.session.verdict(&error) == Verdict::Data => {
                Err(rejected(refusal))
            }
            Err(RowError::Server(error)) => Err(stop(doing, error)),
        }
    }

    /// Folded where possible; tables that need their order go change by change among themselves. `Ok(false)`: a row to
    /// update is missing, which the replay puts a name to.
    async fn rows_as_sets(&mut self, events: &[Event<'_>], copy: bool) -> Result<bool, RowError> {
        let mut ordered: Vec<TableId> = Vec::new();
        for event in events {
            if self.bindings.get(&event.table).is_some_and(|b| b.ordered(self.session.replica))
                && !ordered.contains(&event.table)
            {
                ordered.push(event.table);
            }
        }
        let mut sets: Vec<Event<'_>> =
            events.iter().filter(|event| !ordered.contains(&event.table)).copied().collect();
        let calls = loop {
            match self.calls(&sets, true, copy) {
                Ok(calls) => break calls.unwrap_or_default(),
                Err((id, None)) => {
                    ordered.push(id);
                    sets.retain(|event| event.table != id);
                }
                Err((_, Some(fault))) => return Err(RowError::Fault(fault)),
            }
        };
        if !set::run(&mut self.session, &calls).await.map_err(RowError::Server)? {
            return Ok(false);
        }
        let rest: Vec<Event<'_>> =
            events.iter().filter(|event| ordered.contains(&event.table)).copied().collect();
        let mut at = 0;
        while let Some(event) = rest.get(at) {
            let Some(binding) = self.bindings.get(&event.table).cloned() else { break };
            let many = rows::alike(&binding, &rest[at..]);
            if many > 1 {
                rows::together(&mut self.session, &binding, &rest[at..at + many]).await?;
            } else {
                rows::apply(&mut self.session, &binding, event).await?;
            }
            at += many;
        }
        Ok(true)
    }

    async fn rows_one_by_one(&mut self, events: &[Event<'_>]) -> Result<(), RowError> {
        for event in events {
            if let Some(binding) = self.bindings.get(&event.table).cloned() {
                rows::apply(&mut self.session, &binding, event).await?;
            }
        }
        Ok(())
    }

    /// The delivery in the target's texts, if it comes from another kind of database.
    fn converted<'d>(&self, delivery: &'d Delivery<'d>) -> Result<Option<Delivery<'d>>, Stop> {
        let conversions =
            |id: &TableId| self.bindings.get(id).and_then(|binding| binding.conversions.as_ref());
        let tables = delivery.tables.keys().filter_map(|id| Some((*id, conversions(id)?))).collect();
        let reached = self.staged.as_ref().or(self.committed.as_ref());
        let after = reached.filter(|reached| reached.source == delivery.head.source);
        cross::convert(delivery, &tables, after.map(|reached| reached.position)).map_err(Stop::Rejected)
    }

    async fn attempt(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Applied, Stop> {
        self.bind_all(delivery).await?;
        let converted = self.converted(delivery)?;
        let delivery = converted.as_ref().unwrap_or(delivery);
        if self.staged.is_none()
            && let Outcome::Done(applied) = self.quickly(delivery, to).await?
        {
            return Ok(applied);
        }
        self.carefully(delivery, to).await
    }

    async fn look(&mut self) -> Result<Option<Progress>, PostgresError> {
        if self.staged.is_some() {
            self.abandon().await?;
        }
        self.session.check_process().await?;
        let believed = self.committed.clone();
        self.committed = self.row.read(&mut self.session, false).await?;
        if self.committed != believed {
            self.collecting = None;
        }
        Ok(self.committed.clone())
    }

    async fn take(&mut self, delivery: &Delivery<'_>) -> Result<Applied, PostgresError> {
        let head = &delivery.head;
        let goes_on = self.staged.as_ref().is_some_and(|staged| {
            head.prev == Some(staged.position) && head.source == staged.source && head.to > head.prev
        });
        if self.staged.is_some() && !goes_on {
            self.abandon().await?;
        }
        if !goes_on && matches!(decide(self.committed.as_ref(), head), Decision::Answer(_)) {
            // What is remembered may be older than the target: only the target itself gives an answer.
            let believed = self.committed.clone();
            self.committed = self.row.read(&mut self.session, false).await?;
            if self.committed != believed {
                self.collecting = None;
            }
            if let Decision::Answer(answer) = decide(self.committed.as_ref(), head) {
                return Ok(answer);
            }
        }
        let Some(to) = head.to else { return Err(PostgresError::Undefined) };
        let mut retried = false;
        self.session.catalog_is_fresh = self.reread;
        loop {
            let stop = match self.attempt(delivery, to).await {
                Ok(applied) => {
                    self.reread &= self.staged.is_some();
                    return Ok(applied);
                }
                Err(stop) => stop,
            };
            let was_open = self.staged.is_some();
            let rolled_back = self.abandon().await;
            match stop {
                Stop::Rejected(failing) => {
                    rolled_back?;
                    self.reread = false;
                    // The table may be mended at the target: look again next time.
                    self.bindings.clear();
                    return Ok(Applied::Rejected { position: self.position(), failing });
                }
                Stop::Catalog(error) => {
                    rolled_back?;
                    self.bindings.clear();
                    self.session.forget_statements();
                    if retried || (was_open && self.reread) {
                        return Err(failed("applying a delivery", error));
                    }
                    debug!(error = %error, "the target's catalog has changed");
                    if was_open {
                        return self.begin_again(delivery).await;
                    }
                    retried = true;
                    self.session.catalog_is_fresh = true;
                }
                Stop::Error(error) => return Err(error),
            }
        }
    }

    /// The open transaction met a catalog that is not what was cached. Its earlier parts are gone with it, so it has to be
    /// sent again; what it lacked and may be made is made before, because a new enum label cannot be used in the
    /// transaction that adds it.
    async fn begin_again(&mut self, delivery: &Delivery<'_>) -> Result<Applied, PostgresError> {
        self.reread = true;
        match self.bind_all(delivery).await {
            Ok(()) => Ok(Applied::Gap { position: self.position() }),
            Err(Stop::Rejected(failing)) => {
                self.bindings.clear();
                Ok(Applied::Rejected { position: self.position(), failing })
            }
            Err(Stop::Catalog(error)) => Err(failed("reading the target's catalog", error)),
            Err(Stop::Error(error)) => Err(error),
        }
    }
}

impl TargetLane for PostgresLane {
    type Error = PostgresError;

    async fn progress(&mut self) -> Result<Option<Progress>, PostgresError> {
        let watch = self.session.watch.clone();
        watch.over(self.look()).await
    }

    async fn apply(&mut self, delivery: &Delivery<'_>) -> Result<Applied, PostgresError> {
        let watch = self.session.watch.clone();
        watch.over(self.take(delivery)).await
    }

    async fn rollback(&mut self) -> Result<(), PostgresError> {
        if self.staged.is_some() { self.abandon().await } else { Ok(()) }
    }
}
