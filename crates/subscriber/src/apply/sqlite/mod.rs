//! A SQLite file as target.
//!
//! Each lane has a connection of its own and one transaction per delivery: progress first, then rows in source order with
//! prepared statements. SQLite has one writer: lanes take turns, and a lane that waits longer than the busy timeout
//! answers that it is busy. Foreign keys are off, since cascades already happened at the source. Triggers of the target
//! fire: SQLite knows no replica role.

mod catalog;
mod check;
mod chunk;
mod create;
mod error;
mod keys;
mod progress;
mod repair;
mod rows;
mod session;
mod stale;
mod statement;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use error::SqliteError;
use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;
use rowbridge_schema::wire::{Chunk, Delivery, FailingChange, Op, Sweep};
use rowbridge_schema::{EndpointName, Failpoint, Position, StreamName, TableId};
use tokio::runtime::{Handle, RuntimeFlavor};

use self::catalog::{ResolveError, Resolved};
use self::chunk::Place;
use self::keys::KeySet;
use self::progress::ProgressRow;
use self::rows::{Stop, Writer};
use self::session::Session;
use super::collection;
use super::decision::{Decision, decide};
use super::{Applied, ApplyTarget, Progress, TargetLane};
use crate::cross;
use crate::plan::{Event, Mapping, Plan, Step, plan as plan_of};

/// A SQLite file.
///
/// SQLite is called on the caller's thread, inside `tokio::task::block_in_place`: use a multi-thread runtime, or every
/// other task of the thread waits while rows are written.
#[derive(Debug, Clone)]
pub struct SqliteTarget {
    path: PathBuf,
    mapping: Arc<Mapping>,
    create: bool,
    busy_timeout: Option<Duration>,
}

impl SqliteTarget {
    /// A target in `path`, with tables mapped by `mapping`. `create` allows making the file, the progress table and
    /// missing tables. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, mapping: Arc<Mapping>, create: bool) -> Self {
        Self { path: path.into(), mapping, create, busy_timeout: None }
    }

    /// How long a lane waits for the write lock instead of the default of 5 seconds.
    #[must_use]
    pub fn with_busy_timeout(self, busy_timeout: Duration) -> Self {
        Self { busy_timeout: Some(busy_timeout), ..self }
    }

    fn session(&self) -> Result<Session, SqliteError> {
        Session::open(&self.path, self.create, self.busy_timeout)
    }
}

fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl ApplyTarget for SqliteTarget {
    type Lane = SqliteLane;
    type Error = SqliteError;

    async fn open(&self, stream: &StreamName, endpoint: &EndpointName) -> Result<SqliteLane, SqliteError> {
        blocking(|| {
            let session = self.session()?;
            ProgressRow::create_table(&session, self.create)?;
            Ok(SqliteLane {
                session,
                row: ProgressRow::new(stream, endpoint),
                collecting: HashSet::new(),
                mapping: Arc::clone(&self.mapping),
                create: self.create,
                tables: HashMap::new(),
                schema_version: None,
                staged: None,
            })
        })
    }
}

/// One lane's connection. See [`TargetLane`].
#[derive(Debug)]
pub struct SqliteLane {
    session: Session,
    row: ProgressRow,
    mapping: Arc<Mapping>,
    create: bool,
    /// What was found out about tables under `schema_version`.
    tables: HashMap<TableId, Arc<Resolved>>,
    /// Tables of the stream that collect keys for a re-snapshot under `schema_version`.
    collecting: HashSet<String>,
    schema_version: Option<i64>,
    staged: Option<Staged>,
}

/// The lane's open transaction.
#[derive(Debug)]
struct Staged {
    committed: Option<Position>,
    /// What the next delivery joins on to.
    reached: Progress,
}

/// How an attempt ended without being applied.
enum Abort {
    Failed(SqliteError),
    Refused(Vec<FailingChange>),
}

impl From<SqliteError> for Abort {
    fn from(error: SqliteError) -> Self {
        Self::Failed(error)
    }
}

impl TargetLane for SqliteLane {
    type Error = SqliteError;

    async fn progress(&mut self) -> Result<Option<Progress>, SqliteError> {
        blocking(|| {
            self.abandon();
            self.row.read(&self.session)
        })
    }

    async fn apply(&mut self, delivery: &Delivery<'_>) -> Result<Applied, SqliteError> {
        blocking(|| self.apply_now(delivery))
    }

    async fn rollback(&mut self) -> Result<(), SqliteError> {
        blocking(|| self.abandon());
        Ok(())
    }
}

impl SqliteLane {
    /// Ends the open transaction. Tables made in it are gone again.
    fn abandon(&mut self) {
        self.staged = None;
        self.tables.clear();
        self.schema_version = None;
        self.session.rollback();
    }

    fn apply_now(&mut self, delivery: &Delivery<'_>) -> Result<Applied, SqliteError> {
        let head = &delivery.head;
        if head.to.is_none() {
            // A handshake needs no write lock.
            self.abandon();
            return Ok(match self.row.read(&self.session)?.map(|stored| stored.position) {
                Some(position) => Applied::Committed { position, changes: 0 },
                None => Applied::Gap { position: None },
            });
        }
        let continues = |staged: &Staged| {
            head.prev == Some(staged.reached.position) && head.source == staged.reached.source
        };
        let (committed, stored) = match self.staged.take_if(|staged| continues(staged)) {
            Some(staged) => (staged.committed, Some(staged.reached)),
            None => {
                // Something else than what was expected: what is staged will come again.
                if self.staged.is_some() {
                    self.abandon();
                }
                self.session.begin()?;
                let stored = self.row.read(&self.session).inspect_err(|_| self.session.rollback())?;
                (stored.as_ref().map(|stored| stored.position), stored)
            }
        };
        let staged =
            stored.as_ref().map(|stored| stored.position).filter(|position| Some(*position) != committed);
        let after = match decide(stored.as_ref(), head) {
            Decision::Apply(after) => after,
            // An empty part that only says how the open transaction goes on, usually that it has ended.
            Decision::Answer(_) if staged.is_some() && head.to == staged && delivery.blocks.is_empty() => {
                staged
            }
            Decision::Answer(answer) => {
                self.abandon();
                // An answer about what was staged would promise what has just been undone.
                return Ok(if staged.is_some() { Applied::Gap { position: committed } } else { answer });
            }
        };
        match self.write(delivery, after) {
            Ok(applied) => {
                let to = head.to.unwrap_or(Position::ZERO);
                if head.open {
                    let reached = Progress { source: head.source.clone(), position: to };
                    self.staged = Some(Staged { committed, reached });
                    return Ok(Applied::Staged { position: committed, staged: to, changes: applied });
                }
                Failpoint::BeforeCommit.pass();
                self.session.commit().inspect_err(|_| self.abandon())?;
                Ok(Applied::Committed { position: to, changes: applied })
            }
            Err(Abort::Refused(failing)) => {
                self.abandon();
                Ok(Applied::Rejected { position: committed, failing })
            }
            Err(Abort::Failed(error)) => {
                self.abandon();
                Err(error)
            }
        }
    }

    /// Writes progress and rows into the transaction.
    fn write(&mut self, delivery: &Delivery<'_>, after: Option<Position>) -> Result<u64, Abort> {
        let head = &delivery.head;
        let to = head.to.ok_or(SqliteError::Undefined)?;
        self.row.write(&self.session, &head.source, to)?;
        Failpoint::ProgressWritten.pass();
        let mut plan = plan_of(delivery, after);
        self.resolve(delivery, &plan, to)?;
        let conversions = |id: &TableId| self.tables.get(id).and_then(|table| table.conversions.as_ref());
        let crossing = delivery.tables.keys().filter_map(|id| Some((*id, conversions(id)?))).collect();
        let converted = cross::convert(delivery, &crossing, after).map_err(Abort::Refused)?;
        if let Some(converted) = &converted {
            plan = plan_of(converted, after);
        }
        let mut writer = Writer::new(&self.session.conn, &self.tables);
        let mut collecting = self.collecting.clone();
        for step in &plan.steps {
            let done = match step {
                Step::Rows(events) => {
                    let written = match writer.step(events) {
                        Err(refused @ Stop::Refused { unique: true, .. }) => {
                            match self.clear_the_way(delivery, &collecting, events)? {
                                true => writer.step(events),
                                false => Err(refused),
                            }
                        }
                        written => written,
                    };
                    written.and_then(|()| self.collect(delivery, &collecting, events))
                }
                Step::Truncate { tables, position } => tables.iter().try_for_each(|id| {
                    let place = self.place(delivery, *id, *position);
                    place.map_or(Ok(()), |place| chunk::clear(&self.session.conn, place))
                }),
                Step::Chunk { chunk, sent, begins, position } => {
                    self.place(delivery, chunk.table, *position).map_or(Ok(()), |place| {
                        self.chunk(delivery, place, chunk, sent, *begins, &mut collecting)
                    })
                }
            };
            done.map_err(|stop| match stop {
                Stop::Refused { failing, .. } => Abort::Refused(vec![*failing]),
                Stop::Sqlite(error) => Abort::Failed(self.session.failed("writing rows", error)),
            })?;
        }
        self.collecting = collecting;
        Ok(plan.changes)
    }

    /// What a chunk removes before its rows arrive.
    fn chunk(
        &self,
        delivery: &Delivery<'_>,
        place: Place<'_>,
        chunk: &Chunk,
        sent: &[Event<'_>],
        begins: bool,
        collecting: &mut HashSet<String>,
    ) -> Result<(), Stop> {
        let (conn, table) = (&self.session.conn, place.table);
        if chunk.clear && begins {
            chunk::clear(conn, place)?;
        }
        if chunk.sweep.is_none() || table.key.is_empty() || table.mapped.delete == DeletePolicy::Ignore {
            return Ok(());
        }
        // A row that is stale may have to give way to one of the stream, which takes to know where the re-snapshot is.
        let by_range = table.orders_alike() && table.others.is_empty();
        if let Some(range) = chunk.prune.as_ref().filter(|_| by_range) {
            return chunk::prune(conn, place, chunk, range, sent);
        }
        let Some(name) = self.collection(delivery, chunk.table) else { return Ok(()) };
        if chunk.sweep == Some(Sweep::First) && begins {
            let prefix = collection::of_table(&self.row.stream, &self.row.endpoint, &table.source);
            for left in collecting.extract_if(|open| open.starts_with(&prefix)) {
                conn.execute_batch(&format!("DROP TABLE IF EXISTS main.{}", ident(&left)))?;
            }
            KeySet::lasting(conn, table, &name).create(table)?;
            collecting.insert(name.clone());
        }
        if !collecting.contains(&name) {
            if chunk.sweep != Some(Sweep::Again) {
                collection::warn_missing(&table.source);
            }
            return Ok(());
        }
        chunk::sweep(conn, place, chunk, sent, &name)?;
        if chunk.done {
            collecting.remove(&name);
        }
        Ok(())
    }

    /// Undoes a step that was refused, and takes rows away that a re-snapshot has not come to and that are in its way; false
    /// if no table of it is under one.
    fn clear_the_way(
        &self,
        delivery: &Delivery<'_>,
        collecting: &HashSet<String>,
        events: &[Event<'_>],
    ) -> Result<bool, Abort> {
        let failed = |error| Abort::Failed(self.session.failed("making room for rows", error));
        let tables: HashSet<TableId> = events.iter().map(|event| event.table).collect();
        let mut some = false;
        for id in tables {
            let name = self.collection(delivery, id).filter(|name| collecting.contains(name));
            let (Some(name), Some(table)) = (name, self.tables.get(&id)) else { continue };
            if !std::mem::replace(&mut some, true) {
                rows::undo_step(&self.session.conn).map_err(failed)?;
            }
            let of_table: Vec<_> = events.iter().filter(|event| event.table == id).copied().collect();
            stale::make_room(&self.session.conn, table, &name, &of_table).map_err(failed)?;
        }
        Ok(some)
    }

    /// Notes keys of changes that were just applied.
    fn collect(
        &self,
        delivery: &Delivery<'_>,
        collecting: &HashSet<String>,
        events: &[Event<'_>],
    ) -> Result<(), Stop> {
        if collecting.is_empty() {
            return Ok(());
        }
        let mut names: HashMap<TableId, Option<String>> = HashMap::new();
        for event in events.iter().filter(|event| event.op != Op::Delete) {
            let open = || self.collection(delivery, event.table).filter(|name| collecting.contains(name));
            let name = names.entry(event.table).or_insert_with(open);
            if let (Some(name), Some(table)) = (name, self.tables.get(&event.table)) {
                chunk::collect(&self.session.conn, table, name, event)?;
            }
        }
        Ok(())
    }

    /// The table that collects the keys of a table during a re-snapshot.
    fn collection(&self, delivery: &Delivery<'_>, id: TableId) -> Option<String> {
        let def = delivery.tables.get(&id)?;
        Some(collection::name(&self.row.stream, &self.row.endpoint, def))
    }

    fn place(&self, delivery: &Delivery<'_>, id: TableId, position: Position) -> Option<Place<'_>> {
        let table = self.tables.get(&id)?;
        let block = delivery.blocks.iter().find(|block| block.head.last >= position);
        Some(Place { id, table, position, at: block.map_or(0, |block| block.head.at) })
    }

    /// Fits all tables of a plan to the target, naming all that do not fit.
    fn resolve(&mut self, delivery: &Delivery<'_>, plan: &Plan<'_>, to: Position) -> Result<(), Abort> {
        let version = self.session.schema_version()?;
        if self.schema_version != Some(version) {
            self.tables.clear();
            self.collecting = self.row.collecting(&self.session)?;
        }
        let mut ids: Vec<TableId> = plan.tables().into_iter().collect();
        ids.sort();
        let mut failing = Vec::new();
        for id in ids {
            if self.tables.contains_key(&id) {
                continue;
            }
            let def = delivery.tables.get(&id).ok_or(SqliteError::Undefined)?;
            match Resolved::new(&self.session.conn, &self.mapping, def, self.create) {
                Ok(resolved) => {
                    for column in &resolved.mapped.unmatched {
                        tracing::warn!(table = %def.name, %column, "a [[map]] names a column that the table does not have");
                    }
                    self.tables.insert(id, Arc::new(resolved));
                }
                Err(ResolveError::Misfit(misfit)) => {
                    let at = first_position(plan, id).unwrap_or(to);
                    let table = def.name.to_string();
                    failing.push(rows::failing_table(at, table, misfit.column, misfit.reason));
                }
                Err(ResolveError::Sqlite(error)) => {
                    return Err(self.session.failed("reading the target's schema", error).into());
                }
            }
        }
        // Tables made here have changed it.
        self.schema_version = Some(self.session.schema_version()?);
        if failing.is_empty() { Ok(()) } else { Err(Abort::Refused(failing)) }
    }
}

/// Where a plan first touches a table.
fn first_position(plan: &Plan<'_>, id: TableId) -> Option<Position> {
    plan.steps.iter().find_map(|step| match step {
        Step::Rows(events) => events.iter().find(|event| event.table == id).map(|event| event.position),
        Step::Truncate { tables, position } => tables.contains(&id).then_some(*position),
        Step::Chunk { chunk, position, .. } => (chunk.table == id).then_some(*position),
    })
}
