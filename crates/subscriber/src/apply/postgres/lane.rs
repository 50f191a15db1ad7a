//! One lane's session and the way of a delivery through it.
//!
//! - The common case is one round trip: BEGIN, progress moved from where it is believed to be, the set form of every
//!   table, COMMIT. If progress is elsewhere or a row is refused, the statements behind fail with it, COMMIT is a
//!   rollback, and the careful way starts over.
//! - The careful way locks the progress row, compares, and goes step by step with a savepoint before each: set form, else
//!   change by change in source order with constraints deferred, else the final rows; only then is the delivery refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_schema::wire::{Chunk, Delivery, FailingChange, Op};
use rowbridge_schema::{Dialect, Position, TableDef, TableId, TableName};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, info, warn};

use super::catalog::{self, Binding, Misfit};
use super::create::{self, CreateError};
use super::error::{PostgresError, Verdict, describe, failed, verdict};
use super::progress::{Decision, ProgressRow, decide};
use super::rows::{self, RowError};
use super::session::Session;
use super::set::{self, Call, InFlight, RowFault, Texts};
use super::{Settings, settle, statement};
use crate::apply::{Applied, Progress, TargetLane};
use crate::plan::{Event, Step, fold, plan};

/// Most statements of one round trip. More tables than this in one delivery take the careful way.
const MAX_IN_FLIGHT: usize = 256;

/// Table shapes remembered per lane.
const MAX_BINDINGS: usize = 4096;

/// How long a look at the target's catalog holds. Dropped columns are noticed at once, a type that was narrowed is not.
const BINDINGS_AGE: Duration = Duration::from_secs(60);

/// Only for the lane's own row: rows wait as long as the target's other users need.
const LOCK_PROGRESS: &str = "BEGIN; SET LOCAL lock_timeout = '2s'";

/// One lane of a PostgreSQL target.
pub struct PostgresLane {
    session: Session,
    settings: Arc<Settings>,
    row: ProgressRow,
    bindings: HashMap<TableId, Arc<Binding>>,
    bound_at: Instant,
    /// What is committed, as far as this session knows.
    committed: Option<Progress>,
    /// What lies in the open transaction.
    staged: Option<Progress>,
}

/// Why a transaction was given up.
enum Stop {
    /// The data is refused.
    Rejected(Vec<FailingChange>),
    /// The catalog is not what was cached: try once more.
    Catalog(tokio_postgres::Error),
    /// No verdict.
    Error(PostgresError),
}

impl From<PostgresError> for Stop {
    fn from(error: PostgresError) -> Self {
        Self::Error(error)
    }
}

fn stop(doing: &'static str, error: tokio_postgres::Error) -> Stop {
    if verdict(&error) == Verdict::Catalog { Stop::Catalog(error) } else { Stop::Error(failed(doing, error)) }
}

fn rejected(fault: RowFault) -> Stop {
    let RowFault { position, table, column, key, reason } = fault;
    Stop::Rejected(vec![FailingChange { position, table, column, key, reason }])
}

enum Outcome {
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
            committed,
            staged: None,
        })
    }

    async fn abandon(&mut self) -> Result<(), PostgresError> {
        self.staged = None;
        self.session.batch("ROLLBACK").await.map_err(|e| failed("rolling back", e))
    }

    fn position(&self) -> Option<Position> {
        self.committed.as_ref().map(|progress| progress.position)
    }

    /// Fits every table of the delivery onto the target, making what is missing if that is allowed.
    async fn bind_all(&mut self, delivery: &Delivery<'_>) -> Result<(), Stop> {
        let first = |id: TableId| {
            let uses = |block: &&rowbridge_schema::wire::Block<'_>| {
                block.runs.iter().any(|run| run.table == id)
                    || block.head.chunk.as_ref().is_some_and(|chunk| chunk.table == id)
            };
            delivery.blocks.iter().find(uses).map(|block| block.head.first)
        };
        // Shapes of long ago leave with the rest: what is still written is soon read again.
        let old = self.bound_at.elapsed() > BINDINGS_AGE && self.staged.is_none();
        if old || self.bindings.len() > MAX_BINDINGS {
            self.bindings.clear();
            self.bound_at = Instant::now();
        }
        let mut failing = Vec::new();
        for (&id, def) in &delivery.tables {
            if self.bindings.contains_key(&id) {
                continue;
            }
            let Some(position) = first(id) else { continue };
            match self.bind(def).await? {
                Ok(binding) => {
                    self.bindings.insert(id, Arc::new(binding));
                }
                Err(Misfit { column, reason }) => {
                    let table = def.name.to_string();
                    failing.push(FailingChange { position, table, column, key: Vec::new(), reason });
                }
            }
        }
        failing.sort_by_key(|change| change.position);
        if failing.is_empty() { Ok(()) } else { Err(Stop::Rejected(failing)) }
    }

    async fn bind(&mut self, def: &TableDef) -> Result<Result<Binding, Misfit>, Stop> {
        let whole = |reason: String| Ok(Err(Misfit { column: None, reason }));
        if def.dialect != Dialect::Postgres {
            return whole(format!(
                "changes of a {} source cannot be applied to PostgreSQL by this release; use a {} target",
                def.dialect, def.dialect
            ));
        }
        let doing = "reading the target's catalog";
        let mapping = &self.settings.mapping;
        let mapped = match mapping.table(def) {
            Ok(mapped) => mapped,
            Err(error) => return whole(explain(&error)),
        };
        let schema = mapped.target.schema.clone().unwrap_or_else(|| self.session.schema.clone());
        let target = TableName::new(schema, &mapped.target.name);
        if let Err(error) = mapping.claim(&def.name, &target) {
            return whole(explain(&error));
        }
        if !mapped.unmatched.is_empty() {
            warn!(table = %def.name, columns = ?mapped.unmatched, "the map names columns that the table does not have");
        }
        if target.name == super::progress::TABLE {
            return whole("rowbridge_progress cannot be written from a source".to_owned());
        }
        let made = if self.settings.create { create::types(&self.session, def).await } else { Ok(()) };
        let mut found = catalog::load(&self.session, &target).await.map_err(|e| stop(doing, e))?;
        let made = match (made, &found) {
            (Ok(()), None) if self.settings.create => {
                create::table(&self.session, def, &mapped, &target).await
            }
            (made, _) => made,
        };
        match made {
            Ok(()) => {}
            Err(CreateError::Server(error)) => return Err(stop("making a table", error)),
            Err(CreateError::Statement { sql, source }) if verdict(&source) != Verdict::Again => {
                return whole(format!("the target refuses ({}): run there: {sql}", describe(&source).1));
            }
            Err(CreateError::Statement { source, .. }) => return Err(stop("making a table", source)),
            Err(CreateError::NotAType { column, type_name }) => {
                let reason = format!(
                    "the target does not know type {type_name}; make it there, or install its extension"
                );
                return Ok(Err(Misfit { column: Some(column), reason }));
            }
        }
        if found.is_none() && self.settings.create {
            found = catalog::load(&self.session, &target).await.map_err(|e| stop(doing, e))?;
        }
        let Some(found) = found else {
            return whole(format!(
                "table {target} is missing at the target; set target.create = true, or run there: {}",
                create::table_sql(def, &mapped, &target)
            ));
        };
        if !self.settings.create {
            for definition in &def.types {
                let rowbridge_schema::TypeDefinition::Enum { name, labels } = definition else { continue };
                let missing = catalog::missing_labels(&self.session, name, labels);
                let missing = missing.await.map_err(|e| stop(doing, e))?.unwrap_or_default();
                if let Some(label) = missing.first() {
                    let sql = catalog::add_label(name, labels, label);
                    return whole(format!("enum {name} of the target lacks a label; run there: {sql}"));
                }
            }
        }
        let bound = catalog::bind(def, &mapped, &found);
        if let Ok(binding) = &bound
            && !binding.def.key.is_empty()
            && !binding.arbiter
        {
            warn!(table = %target, "the target's table has no unique index on the key: applying is slow");
        }
        Ok(bound)
    }

    /// The set form of everything in one round trip.
    async fn quickly(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Outcome, Stop> {
        let Some(stored) = self.committed.clone() else { return Ok(Outcome::Careful) };
        if delivery.head.open || stored.source != delivery.head.source {
            return Ok(Outcome::Careful);
        }
        let plan = plan(delivery, Some(stored.position));
        let events: &[Event<'_>] = match &plan.steps[..] {
            [] => &[],
            [Step::Rows(events)] => events,
            _ => return Ok(Outcome::Careful),
        };
        let Ok(Some(calls)) = self.calls(events, false) else { return Ok(Outcome::Careful) };
        // An update that finds no row must not be committed, and that is known only afterwards.
        if calls.len() > MAX_IN_FLIGHT || calls.iter().any(|call| call.expect.is_some()) {
            return Ok(Outcome::Careful);
        }
        let doing = "applying a delivery";
        let advance = self
            .session
            .prepare(&self.row.advance_sql(), ProgressRow::ADVANCE_TYPES)
            .await
            .map_err(|e| stop(doing, e))?;
        let (stream, endpoint) = (self.row.stream.as_str(), self.row.endpoint.as_str());
        let (old, new) = (stored.position.to_string(), to.to_string());
        let (old_epoch, new_epoch) = (i64::from(stored.position.epoch), i64::from(to.epoch));
        let (session, sets) = set::flights(&mut self.session, &calls).await.map_err(|e| stop(doing, e))?;
        let mut flights: Vec<InFlight<'_>> = Vec::with_capacity(sets.len() + 4);
        let batch = |sql: &'static str| -> InFlight<'_> {
            Box::pin(async move { session.batch(sql).await.map(|()| 0) })
        };
        flights.push(batch(LOCK_PROGRESS));
        flights.push(Box::pin(async {
            let params: [&(dyn ToSql + Sync); 7] =
                [&stream, &endpoint, &stored.source.0, &old_epoch, &old, &new, &new_epoch];
            session.client.query_one(&advance, &params).await.map(|_| 1)
        }));
        flights.push(batch("SET LOCAL lock_timeout = 0"));
        flights.extend(sets);
        flights.push(batch("COMMIT"));
        let results = set::pipeline(flights).await;
        let error = results.into_iter().enumerate().find_map(|(i, result)| result.err().map(|e| (i, e)));
        let Some((index, error)) = error else {
            self.committed = Some(Progress { source: stored.source, position: to });
            return Ok(Outcome::Done(Applied::Committed { position: to, changes: plan.changes }));
        };
        debug!(index, error = %error, "the quick way failed");
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && index == 1 {
            return Err(Stop::Error(PostgresError::Locked));
        }
        match verdict(&error) {
            Verdict::Data => Ok(Outcome::Careful),
            Verdict::Catalog | Verdict::Again | Verdict::Refused => Err(stop(doing, error)),
        }
    }

    /// The set form of the changes, `None` if a table must go change by change. With `part`, only those tables count
    /// that do not have to.
    fn calls<'d>(
        &self,
        events: &[Event<'d>],
        part: bool,
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
            calls.extend(set::calls(binding, &folded).map_err(|fault| (id, Some(fault)))?);
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
                let mut stored = self.row.read(&mut self.session, true).await?;
                if stored.is_none()
                    && matches!(decide(None, head), Decision::Apply(_))
                    && !self.row.insert(&mut self.session, &head.source, to).await?
                {
                    stored = self.row.read(&mut self.session, true).await?;
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
        self.session.batch("SET LOCAL lock_timeout = 0").await.map_err(|e| stop("applying a delivery", e))?;
        let plan = plan(delivery, after);
        for step in &plan.steps {
            match step {
                Step::Rows(events) => self.rows(events).await?,
                Step::Truncate { tables, position } => self.truncate(delivery, tables, *position).await?,
                Step::Chunk { chunk, sent, clear, position } => {
                    self.chunk(chunk, sent, *clear, *position).await?;
                }
            }
        }
        let reached = Progress { source: head.source.clone(), position: to };
        if head.open {
            self.staged = Some(reached);
            let position = self.position();
            return Ok(Applied::Staged { position, staged: to, changes: plan.changes });
        }
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
        let doing = "applying rows";
        self.session.batch("SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e))?;
        match self.rows_as_sets(events).await {
            Ok(true) => {
                return self.session.batch("RELEASE SAVEPOINT rowbridge").await.map_err(|e| stop(doing, e));
            }
            Ok(false) => {}
            Err(RowError::Server(error)) if verdict(&error) != Verdict::Data => {
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
            Err(RowError::Server(error)) if verdict(&error) != Verdict::Data => {
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
            Err(RowError::Server(error)) if verdict(&error) == Verdict::Data => Err(rejected(refusal)),
            Err(RowError::Server(error)) => Err(stop(doing, error)),
        }
    }

    /// Folded where possible; tables that need their order go change by change among themselves. `Ok(false)`: a row to
    /// update is missing, which the replay puts a name to.
    async fn rows_as_sets(&mut self, events: &[Event<'_>]) -> Result<bool, RowError> {
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
            match self.calls(&sets, true) {
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
            let fresh = |e: &Event<'_>| matches!(e.op, Op::Insert | Op::Read);
            let same =
                |e: &&Event<'_>| e.table == event.table && fresh(e) && e.new_columns == event.new_columns;
            let many = rest[at..].iter().take_while(same).count();
            if binding.def.key.is_empty() && many > 1 {
                rows::insert_many(&mut self.session, &binding, &rest[at..at + many]).await?;
                at += many;
            } else {
                rows::apply(&mut self.session, &binding, event).await?;
                at += 1;
            }
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

    async fn truncate(
        &mut self,
        delivery: &Delivery<'_>,
        tables: &[TableId],
        position: Position,
    ) -> Result<(), Stop> {
        let mut names: Vec<&str> = Vec::new();
        let mut soft = Vec::new();
        for id in tables {
            let Some(binding) = self.bindings.get(id) else {
                return Err(Stop::Error(PostgresError::Undefined));
            };
            if binding.soft.is_some() {
                soft.push(statement::clear(binding));
            } else if !binding.ignore_deletes && !names.contains(&binding.table.as_str()) {
                names.push(&binding.table);
            }
        }
        if !names.is_empty() {
            soft.push(format!("TRUNCATE {}", names.join(", ")));
        }
        for sql in soft {
            if let Err(error) = self.session.batch(&sql).await {
                // feature_not_supported here means that other tables refer to one of these.
                let linked = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
                if !linked && verdict(&error) != Verdict::Data {
                    return Err(stop("truncating", error));
                }
                let refers = error.as_db_error().and_then(|db| db.detail()).unwrap_or_default();
                let reason = if linked {
                    format!(
                        "the target refuses to truncate a table that others refer to: {refers}; drop that foreign key at the target"
                    )
                } else {
                    describe(&error).1
                };
                let table =
                    tables.iter().filter_map(|id| delivery.tables.get(id)).map(|def| def.name.to_string());
                let table = table.collect::<Vec<_>>().join(", ");
                return Err(rejected(RowFault { position, table, column: None, key: Vec::new(), reason }));
            }
        }
        Ok(())
    }

    async fn chunk(
        &mut self,
        chunk: &Chunk,
        sent: &[Event<'_>],
        clear: bool,
        position: Position,
    ) -> Result<(), Stop> {
        let doing = "preparing a snapshot's range";
        let Some(binding) = self.bindings.get(&chunk.table).cloned() else {
            return Err(Stop::Error(PostgresError::Undefined));
        };
        if binding.ignore_deletes {
            return Ok(());
        }
        if clear {
            self.session.batch(&statement::clear(&binding)).await.map_err(|e| stop(doing, e))?;
        }
        let Some(range) = chunk.prune.as_ref().filter(|_| !binding.def.key.is_empty()) else { return Ok(()) };
        let key = &binding.def.key;
        let misfit = |reason: &str| {
            let table = binding.def.name.to_string();
            rejected(RowFault { position, table, column: None, key: Vec::new(), reason: reason.to_owned() })
        };
        let mut params: Vec<Texts<'_>> = vec![Vec::new(); key.len()];
        for event in sent {
            let cells = event.key_after(key).ok_or_else(|| misfit("a row of a snapshot carries no key"))?;
            params.iter_mut().zip(cells).for_each(|(param, cell)| param.push(set::text(cell)));
        }
        let bounds = [&range.after, &range.upto].into_iter().flatten();
        if chunk.skipped.iter().chain(bounds.clone()).any(|texts| texts.len() != key.len()) {
            return Err(misfit("a key of a snapshot's range does not have the columns of the key"));
        }
        for texts in &chunk.skipped {
            params.iter_mut().zip(texts).for_each(|(param, text)| param.push(Some(text.as_str().into())));
        }
        for bound in bounds {
            params.extend(bound.iter().map(|text| vec![Some(text.as_str().into())]));
        }
        let sql = statement::prune(&binding, range.after.is_some(), range.upto.is_some());
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
        let types = vec![Type::TEXT_ARRAY; params.len()];
        match self.session.execute(&sql, &types, &params).await {
            Ok(_) => Ok(()),
            Err(error) if verdict(&error) == Verdict::Data => Err(misfit(&describe(&error).1)),
            Err(error) => Err(stop(doing, error)),
        }
    }

    async fn attempt(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Applied, Stop> {
        self.bind_all(delivery).await?;
        if self.staged.is_none()
            && let Outcome::Done(applied) = self.quickly(delivery, to).await?
        {
            return Ok(applied);
        }
        self.carefully(delivery, to).await
    }
}

fn explain(error: &crate::plan::MapError) -> String {
    use rowbridge_schema::Classified;
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{error}{hint}")
}

impl TargetLane for PostgresLane {
    type Error = PostgresError;

    async fn progress(&mut self) -> Result<Option<Progress>, PostgresError> {
        if self.staged.is_some() {
            self.abandon().await?;
        }
        self.session.check_process().await?;
        self.committed = self.row.read(&mut self.session, false).await?;
        Ok(self.committed.clone())
    }

    async fn apply(&mut self, delivery: &Delivery<'_>) -> Result<Applied, PostgresError> {
        let head = &delivery.head;
        let goes_on = self.staged.as_ref().is_some_and(|staged| {
            head.prev == Some(staged.position) && head.source == staged.source && head.to > head.prev
        });
        if self.staged.is_some() && !goes_on {
            self.abandon().await?;
        }
        if !goes_on && matches!(decide(self.committed.as_ref(), head), Decision::Answer(_)) {
            // What is remembered may be older than the target: only the target itself gives an answer.
            self.committed = self.row.read(&mut self.session, false).await?;
            if let Decision::Answer(answer) = decide(self.committed.as_ref(), head) {
                return Ok(answer);
            }
        }
        let Some(to) = head.to else { return Err(PostgresError::Undefined) };
        let mut retried = false;
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
                    self.bindings.clear();
                    return Ok(Applied::Rejected { position: self.position(), failing });
                }
                Stop::Catalog(error) => {
                    rolled_back?;
                    self.bindings.clear();
                    self.session.forget_statements();
                    if retried || was_open {
                        return Err(failed("applying a delivery", error));
                    }
                    debug!(error = %error, "the target's catalog has changed");
                    retried = true;
                }
                Stop::Error(error) => return Err(error),
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), PostgresError> {
        if self.staged.is_some() { self.abandon().await } else { Ok(()) }
    }
}
