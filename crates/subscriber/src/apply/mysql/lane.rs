//! One lane's session and the way of a delivery through it.
//!
//! - The common case is one round trip: BEGIN, progress moved from where it is believed to be, the set form of every
//!   table, COMMIT. If progress is elsewhere or a row is refused, the statements behind are not run, all is rolled back, and
//!   the careful way starts over.
//! - The careful way locks the progress row, compares, and goes step by step with a savepoint before each: set form, else
//!   change by change in source order, else the final rows; only then is the delivery refused.
//!
//! The server commits an open transaction at its next BEGIN or DDL statement. So every transaction begins with a ROLLBACK,
//! and tables are made in a session of their own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use mysql_async::Error;
use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Failpoint, Position, TableId};
use tracing::debug;

use super::Settings;
use super::binding::Binding;
use super::collect::Collecting;
use super::error::{DEADLOCK, LOCK_WAIT, MysqlError, Verdict, code, failed, is_parentless, verdict};
use super::follow::ActingKey;
use super::pipe::{Halt, Pipe, Purpose};
use super::progress::ProgressRow;
use super::rows::{self, Manner, RowError};
use super::session::{STRICT, Session};
use super::set::{self, RowFault, SetError};
use super::settle::{self, SettleError};
use crate::apply::decision::{Decision, decide};
use crate::apply::{Applied, Progress, TargetLane};
use crate::cross;
use crate::plan::{Event, Step, fold, plan};

/// Deliveries that a table goes without plain INSERTs after one met a row that was there.
const WITHOUT_TRUST: u32 = 16;

/// How often a delivery that was the victim of a deadlock is tried again before the publisher has to.
const DEADLOCK_RETRIES: u32 = 3;

/// One lane of a MySQL target.
pub struct MysqlLane {
    pub(super) session: Session,
    pub(super) settings: Arc<Settings>,
    pub(super) row: ProgressRow,
    pub(super) bindings: HashMap<TableId, Arc<Binding>>,
    pub(super) bound_at: Instant,
    /// Foreign keys that act, as of `bound_at`.
    pub(super) linked: Option<Vec<ActingKey>>,
    /// Shapes whose oddities have been logged.
    pub(super) warned: HashSet<TableId>,
    /// Tables where an INSERT met a row that was there, and for how many tries they go without.
    distrusted: HashMap<TableId, u32>,
    /// Tables that collect keys for a re-snapshot, by name; `None` when that has to be looked up.
    pub(super) collecting: Option<HashSet<String>>,
    /// Those to drop after the open transaction.
    pub(super) drops: Vec<String>,
    /// What is committed, as far as this session knows.
    committed: Option<Progress>,
    /// What lies in the open transaction.
    pub(super) staged: Option<Progress>,
}

/// Why a transaction was given up.
pub(super) enum Stop {
    /// The data is refused.
    Rejected(Vec<FailingChange>),
    /// The catalog is not what was cached: try once more.
    Catalog(Error),
    /// The victim of a deadlock: nothing of it is left at the server.
    Deadlock(Error),
    /// No verdict.
    Error(MysqlError),
}

impl From<MysqlError> for Stop {
    fn from(error: MysqlError) -> Self {
        Self::Error(error)
    }
}

pub(super) fn stop(doing: &'static str, error: Error) -> Stop {
    match verdict(&error) {
        Verdict::Catalog => Stop::Catalog(error),
        _ if code(&error) == Some(DEADLOCK) => Stop::Deadlock(error),
        _ => Stop::Error(failed(doing, error)),
    }
}

pub(super) fn rejected(fault: RowFault) -> Stop {
    let RowFault { position, table, column, key, reason } = fault;
    Stop::Rejected(vec![FailingChange { position, table, column, key, reason }])
}

enum Outcome {
    Done(Applied),
    Careful,
}

/// Why changes between two barriers were not written.
enum RowsError {
    Value,
    Row(RowError),
}

impl From<SetError> for RowsError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Value => Self::Value,
            SetError::Halt(halt) => Self::Row(RowError::Halt(halt)),
        }
    }
}

impl From<RowError> for RowsError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl From<Halt> for RowsError {
    fn from(halt: Halt) -> Self {
        Self::Row(RowError::Halt(halt))
    }
}

/// Writes changes between two barriers: folded where possible; tables that need their order go change by change among
/// themselves. `number` of a change is its index.
async fn write_rows(
    pipe: &mut Pipe<'_>,
    bindings: &HashMap<TableId, Arc<Binding>>,
    distrusted: &HashMap<TableId, u32>,
    events: &[Event<'_>],
    trusting: bool,
) -> Result<(), RowsError> {
    let mut tables: Vec<TableId> = Vec::new();
    let mut by_table: HashMap<TableId, Vec<&Event<'_>>> = HashMap::new();
    let mut ordered: HashSet<TableId> = HashSet::new();
    for event in events {
        let Some(binding) = bindings.get(&event.table) else { continue };
        by_table
            .entry(event.table)
            .or_insert_with(|| {
                tables.push(event.table);
                Vec::new()
            })
            .push(event);
        if binding.ordered() || !binding.foldable(event) {
            ordered.insert(event.table);
        }
    }
    for id in tables {
        if ordered.contains(&id) {
            continue;
        }
        let Some(binding) = bindings.get(&id) else { continue };
        let of_table = by_table.remove(&id).unwrap_or_default();
        match fold(binding.shape(), of_table.into_iter()) {
            Ok(folded) => {
                let trusting = trusting && distrusted.get(&id).is_none_or(|tries| *tries == 0);
                set::write(pipe, binding, &folded, trusting).await?;
                Failpoint::TableWritten.pass();
            }
            Err(_) => {
                ordered.insert(id);
            }
        }
    }
    let rest: Vec<(usize, Event<'_>)> =
        events.iter().copied().enumerate().filter(|(_, event)| ordered.contains(&event.table)).collect();
    rows::apply(pipe, bindings, &rest, Manner::Together).await?;
    Ok(())
}

/// One try less that these tables go without plain INSERTs.
fn count_down(distrusted: &mut HashMap<TableId, u32>, events: &[Event<'_>]) {
    if distrusted.is_empty() {
        return;
    }
    let tables: HashSet<TableId> = events.iter().map(|event| event.table).collect();
    for table in tables {
        if let Some(tries) = distrusted.get_mut(&table) {
            *tries = tries.saturating_sub(1);
        }
    }
}

impl MysqlLane {
    pub(super) async fn open(
        settings: Arc<Settings>,
        mut session: Session,
        row: ProgressRow,
    ) -> Result<Self, MysqlError> {
        row.create_table(&mut session).await?;
        let committed = row.read(&mut session, false).await?;
        let collecting = Some(row.collecting(&mut session).await?);
        Ok(Self {
            session,
            settings,
            row,
            bindings: HashMap::new(),
            bound_at: Instant::now(),
            linked: None,
            warned: HashSet::new(),
            distrusted: HashMap::new(),
            collecting,
            drops: Vec::new(),
            committed,
            staged: None,
        })
    }

    async fn abandon(&mut self) -> Result<(), MysqlError> {
        self.staged = None;
        self.collecting = None;
        self.drops.clear();
        let sql = format!(
            "ROLLBACK; SET sql_mode = '{STRICT}', foreign_key_checks = 0; {}",
            ProgressRow::patient(&self.session)
        );
        self.session.run(&sql).await.map_err(|e| failed("rolling back", e))
    }

    fn position(&self) -> Option<Position> {
        self.committed.as_ref().map(|progress| progress.position)
    }

    /// The set form of everything in one round trip, as far as it fits one.
    async fn quickly(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Outcome, Stop> {
        let Some(stored) = self.committed.clone() else { return Ok(Outcome::Careful) };
        let Some(open) = &self.collecting else { return Ok(Outcome::Careful) };
        if delivery.head.open || stored.source != delivery.head.source {
            return Ok(Outcome::Careful);
        }
        let plan = plan(delivery, Some(stored.position));
        let events: &[Event<'_>] = match &plan.steps[..] {
            [] => &[],
            [Step::Rows(events)] => events,
            _ => return Ok(Outcome::Careful),
        };
        count_down(&mut self.distrusted, events);
        let collecting = Collecting { row: &self.row, open };
        let patient = ProgressRow::patient(&self.session);
        let mut pipe = Pipe::new(&mut self.session);
        ProgressRow::begin_in(&mut pipe);
        self.row.advance(&mut pipe, &stored, to);
        pipe.control(&patient);
        let written: Result<(), RowsError> = async {
            write_rows(&mut pipe, &self.bindings, &self.distrusted, events, true).await?;
            collecting.collect(&mut pipe, &self.bindings, events).await?;
            if pipe.expects() {
                pipe.flush().await?;
            }
            Failpoint::BeforeCommit.pass();
            pipe.control("COMMIT");
            Ok(pipe.flush().await?)
        }
        .await;
        let error = match written {
            Ok(()) => {
                self.committed = Some(Progress { source: stored.source, position: to });
                return Ok(Outcome::Done(Applied::Committed { position: to, changes: plan.changes }));
            }
            Err(error) => error,
        };
        match error {
            RowsError::Row(RowError::Halt(Halt::Server(purpose, error))) => {
                debug!(error = %error, "the quick way failed");
                let taken = matches!(purpose, Purpose::Progress | Purpose::Guard);
                match verdict(&error) {
                    _ if purpose == Purpose::Progress && code(&error) == Some(LOCK_WAIT) => {
                        return Err(Stop::Error(MysqlError::Locked));
                    }
                    Verdict::Data => {
                        if !taken {
                            self.distrust(events);
                        }
                    }
                    Verdict::Catalog | Verdict::Again | Verdict::Refused => {
                        return Err(stop("applying a delivery", error));
                    }
                }
            }
            RowsError::Value | RowsError::Row(_) => {}
        }
        self.abandon().await?;
        Ok(Outcome::Careful)
    }

    /// The next deliveries of these tables go without plain INSERTs: under a snapshot, rows often are there before it comes
    /// to them.
    fn distrust(&mut self, events: &[Event<'_>]) {
        self.distrusted.extend(events.iter().map(|event| (event.table, WITHOUT_TRUST)));
    }

    /// The careful way. The transaction is open when it fails; the caller rolls back.
    async fn carefully(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Applied, Stop> {
        let head = &delivery.head;
        let doing = "beginning a transaction";
        let goes_on = self.staged.is_some();
        let stored = match self.staged.clone() {
            Some(staged) => Some(staged),
            None => {
                self.session.run(&ProgressRow::begin()).await.map_err(|e| stop(doing, e))?;
                let believed = self.committed.clone();
                let mut stored = self.row.read(&mut self.session, true).await?;
                if stored.is_none()
                    && matches!(decide(None, head), Decision::Apply(_))
                    && !self.row.insert(&mut self.session, &head.source, to).await?
                {
                    stored = self.row.read(&mut self.session, true).await?;
                }
                if self.collecting.is_none() || stored != believed {
                    self.collecting = Some(self.row.collecting(&mut self.session).await?);
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
        if !goes_on {
            let patient = ProgressRow::patient(&self.session);
            self.session.run(&patient).await.map_err(|e| stop(doing, e))?;
        }
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
        self.session.run("COMMIT").await.map_err(|e| stop("committing", e))?;
        self.staged = None;
        self.committed = Some(reached);
        self.drop_collections().await?;
        Ok(Applied::Committed { position: to, changes: plan.changes })
    }

    async fn back(&mut self) -> Result<(), Stop> {
        let sql =
            format!("ROLLBACK TO SAVEPOINT rowbridge; SET sql_mode = '{STRICT}', foreign_key_checks = 0");
        self.session.run(&sql).await.map_err(|e| stop("applying rows", e))
    }

    async fn as_sets(&mut self, events: &[Event<'_>], trusting: bool) -> Result<(), RowsError> {
        let mut pipe = Pipe::new(&mut self.session);
        write_rows(&mut pipe, &self.bindings, &self.distrusted, events, trusting).await?;
        Ok(pipe.flush().await?)
    }

    async fn one_by_one(&mut self, events: &[Event<'_>], manner: Manner) -> Result<(), RowError> {
        let numbered: Vec<_> = events.iter().copied().enumerate().collect();
        let mut pipe = Pipe::new(&mut self.session);
        let applied = rows::apply(&mut pipe, &self.bindings, &numbered, manner).await;
        match applied {
            // What was gathered before may be at fault too, and comes first.
            Err(RowError::Fault(fault)) => {
                pipe.discard();
                pipe.flush().await?;
                Err(RowError::Fault(fault))
            }
            applied => {
                applied?;
                Ok(pipe.flush().await?)
            }
        }
    }

    /// A halt that is no verdict on a row.
    fn halted(halt: Halt) -> Stop {
        match halt {
            Halt::Server(_, error) => stop("applying rows", error),
            // These have a verdict.
            Halt::Missing(_) | Halt::Changed(_) | Halt::TooLarge { .. } => Stop::Error(MysqlError::Undefined),
        }
    }

    /// Applies changes between two barriers.
    async fn rows(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        if events.is_empty() {
            return Ok(());
        }
        let refused = match self.write(events).await {
            Err(Stop::Rejected(refused)) => refused,
            written => return written,
        };
        self.back().await?;
        // What is in the way may be a row that a re-snapshot has not come to.
        if !self.clear_the_way(events).await? {
            return Err(Stop::Rejected(refused));
        }
        self.write(events).await
    }

    async fn write(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        count_down(&mut self.distrusted, events);
        self.session.run("SAVEPOINT rowbridge").await.map_err(|e| stop("applying rows", e))?;
        for trusting in [true, false] {
            match self.as_sets(events, trusting).await {
                Ok(()) => return Ok(()),
                Err(RowsError::Row(RowError::Halt(halt))) if halt.verdict() != Verdict::Data => {
                    return Err(Self::halted(halt));
                }
                Err(RowsError::Row(RowError::Halt(Halt::Server(_, error)))) => {
                    debug!(error = %error, trusting, "the set form was refused");
                    self.distrust(events);
                }
                Err(_) => {}
            }
            self.back().await?;
        }
        let mut first_refusal = None;
        for manner in [Manner::Apart, Manner::Following] {
            let halt = match self.one_by_one(events, manner).await {
                Ok(()) => return Ok(()),
                Err(RowError::Fault(fault)) => return Err(rejected(first_refusal.unwrap_or(fault))),
                Err(RowError::Halt(halt)) if halt.verdict() != Verdict::Data => {
                    return Err(Self::halted(halt));
                }
                Err(RowError::Halt(halt)) => halt,
            };
            debug!(?halt, ?manner, "a change was refused in source order");
            let fault = rows::fault_of(&self.bindings, events, &halt, self.session.max_packet);
            let Some(fault) = fault else { return Err(Self::halted(halt)) };
            let fault = first_refusal.take().unwrap_or(fault);
            match halt {
                Halt::Server(_, error) => {
                    first_refusal = Some(fault);
                    if !is_parentless(&error) {
                        break;
                    }
                    self.back().await?;
                }
                _ => return Err(rejected(fault)),
            }
        }
        let Some(refusal) = first_refusal else { return Err(Stop::Error(MysqlError::Undefined)) };
        if !settle::possible(&self.bindings, events) {
            return Err(rejected(refusal));
        }
        self.back().await?;
        match settle::apply(&mut self.session, &self.bindings, events).await {
            Ok(()) => Ok(()),
            Err(SettleError::Row(RowError::Halt(halt))) if halt.verdict() != Verdict::Data => {
                Err(Self::halted(halt))
            }
            Err(SettleError::Row(_)) => Err(rejected(refusal)),
            Err(SettleError::Read(error)) => Err(stop("reading rows", error)),
        }
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
}

impl TargetLane for MysqlLane {
    type Error = MysqlError;

    async fn progress(&mut self) -> Result<Option<Progress>, MysqlError> {
        if self.staged.is_some() {
            self.abandon().await?;
        }
        let believed = self.committed.clone();
        self.committed = self.row.read(&mut self.session, false).await?;
        if self.committed != believed {
            self.collecting = None;
        }
        Ok(self.committed.clone())
    }

    async fn apply(&mut self, delivery: &Delivery<'_>) -> Result<Applied, MysqlError> {
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
        let Some(to) = head.to else { return Err(MysqlError::Undefined) };
        let mut looked_again = false;
        let mut deadlocks = 0;
        loop {
            let stop = match self.attempt(delivery, to).await {
                Ok(applied) => return Ok(applied),
                Err(stop) => stop,
            };
            let was_open = self.staged.is_some();
            let rolled_back = self.abandon().await;
            match stop {
                Stop::Rejected(failing) => {
                    rolled_back?;
                    // The table may be mended at the target: look again next time.
                    self.forget();
                    return Ok(Applied::Rejected { position: self.position(), failing });
                }
                Stop::Catalog(error) => {
                    rolled_back?;
                    self.forget();
                    if looked_again || was_open {
                        return Err(failed("applying a delivery", error));
                    }
                    debug!(error = %error, "the target's catalog has changed");
                    looked_again = true;
                }
                Stop::Deadlock(error) => {
                    rolled_back?;
                    deadlocks += 1;
                    if deadlocks > DEADLOCK_RETRIES || was_open {
                        return Err(failed("applying a delivery", error));
                    }
                    debug!(deadlocks, "the victim of a deadlock: trying again");
                }
                Stop::Error(error) => return Err(error),
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), MysqlError> {
        if self.staged.is_some() { self.abandon().await } else { Ok(()) }
    }
}
