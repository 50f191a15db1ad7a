//! The thread that owns the writing connection.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_schema::EndpointName;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::attempt::{self, Added, Attempt, Origin, Outcome};
use super::endpoint::{Health, set_health};
use super::error::StoreError;
use super::prune::Pruner;
use super::queue::{Message, Operation, Queue};
use super::{GATHER, Limits, NOTICE_EVERY, schema};

/// Between two steps of pruning while there is more to prune and nothing else to do.
const PRUNE_PAUSE: Duration = Duration::from_millis(10);
/// How often success and failure of endpoints are written down.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// How long another process may hold the file before those who wait for a write are told so.
const BUSY: Duration = Duration::from_secs(30);

/// What an operation works with, inside the group's transaction.
pub(super) struct Work<'a> {
    pub(super) db: &'a Connection,
    pub(super) limits: &'a Limits,
    names: &'a mut Names,
    added: Added,
}

impl Work<'_> {
    /// Records an attempt.
    pub(super) fn attempt(&mut self, attempt: &Attempt) -> rusqlite::Result<i64> {
        let endpoint = self.names.number(self.db, attempt.endpoint.as_str())?;
        let table = attempt.table.as_deref().map(|table| self.names.number(self.db, table)).transpose()?;
        attempt::insert(self.db, attempt, endpoint, table, &mut self.added)
    }
}

/// Numbers of endpoints and tables.
#[derive(Debug, Default)]
struct Names(HashMap<String, i64>);

impl Names {
    fn number(&mut self, db: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(number) = self.0.get(name) {
            return Ok(*number);
        }
        db.prepare_cached("INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
        let number =
            db.prepare_cached("SELECT id FROM names WHERE name = ?1")?.query_row([name], |row| row.get(0))?;
        self.0.insert(name.to_owned(), number);
        Ok(number)
    }
}

pub(super) struct Writer {
    path: PathBuf,
    db: Connection,
    limits: Limits,
    queue: Arc<Queue>,
    names: Names,
    pruner: Pruner,
    health: HashMap<EndpointName, Health>,
    health_due: Instant,
    synced: bool,
    /// `PRAGMA data_version`: changes when another connection has committed.
    version: i64,
    requests: watch::Sender<u64>,
    /// The file cannot be written; told once.
    broken: bool,
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        limits: Limits,
        queue: Arc<Queue>,
        requests: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let db = schema::open(path, true)?;
        let mut writer = Self {
            path: path.to_owned(),
            db,
            pruner: Pruner::new(limits.clone()),
            limits,
            queue,
            names: Names::default(),
            health: HashMap::new(),
            health_due: Instant::now() + HEALTH_EVERY,
            synced: true,
            version: 0,
            requests,
            broken: false,
        };
        let version = writer.db.busy_timeout(BUSY).and_then(|()| writer.data_version());
        writer.version = version
            .map_err(|source| StoreError::Database { path: path.to_owned(), source: Arc::new(source) })?;
        Ok(writer)
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        // However this ends, nobody waits for it for ever.
        let _close = CloseOnDrop(Arc::clone(&self.queue));
        let mut idle = Duration::ZERO;
        loop {
            let taken = self.queue.take(idle, GATHER);
            let count = taken.messages.len();
            if count > 0 {
                self.group(taken.messages);
            }
            self.notice();
            let ending = taken.closed && count == 0;
            if !self.health.is_empty() && (ending || Instant::now() >= self.health_due) {
                self.write_health();
            }
            if ending {
                return;
            }
            let more = self.pruner.step(&mut self.db, count).unwrap_or_else(|source| {
                self.failed(&source);
                false
            });
            idle = if more { PRUNE_PAUSE } else { NOTICE_EVERY };
        }
    }

    /// Commits messages together and tells those who wait.
    fn group(&mut self, messages: Vec<Message>) {
        let attempts =
            messages.iter().filter(|message| matches!(message, Message::Attempt(_))).count() as u64;
        // Attempts may be lost with the power; what somebody waits for may not.
        let synced = attempts < messages.len() as u64;
        let mut operations = Vec::new();
        let result = self.set_synced(synced).and_then(|()| self.transaction(messages, &mut operations));
        let result = match result {
            Ok(()) => {
                self.broken = false;
                Ok(())
            }
            Err(source) => {
                self.failed(&source);
                self.names.0.clear();
                self.queue.unwritten(attempts);
                Err(Arc::new(source))
            }
        };
        for operation in operations {
            operation.finish(result.clone());
        }
    }

    fn transaction(
        &mut self,
        messages: Vec<Message>,
        operations: &mut Vec<Box<dyn Operation>>,
    ) -> rusqlite::Result<()> {
        // In this order they are all told, however far this comes.
        let mut attempts = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Message::Attempt(attempt) => attempts.push(attempt),
                Message::Operation(operation) => operations.push(operation),
            }
        }
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut work =
            Work { db: &transaction, limits: &self.limits, names: &mut self.names, added: Added::default() };
        for attempt in &attempts {
            work.attempt(attempt)?;
            if attempt.origin == Origin::Stream {
                note(&mut self.health, attempt);
            }
        }
        for operation in operations {
            let added = work.added;
            work.db.execute_batch("SAVEPOINT operation")?;
            if operation.run(&mut work).is_err() {
                work.db.execute_batch("ROLLBACK TO operation")?;
                work.names.0.clear();
                work.added = added;
            }
            work.db.execute_batch("RELEASE operation")?;
        }
        let Added { attempts, excerpts } = work.added;
        for (what, bytes) in [("attempts", attempts), ("excerpts", excerpts)] {
            if bytes != 0 {
                transaction
                    .prepare_cached("UPDATE totals SET bytes = bytes + ?2 WHERE what = ?1")?
                    .execute(rusqlite::params![what, bytes])?;
            }
        }
        transaction.commit()
    }

    fn set_synced(&mut self, synced: bool) -> rusqlite::Result<()> {
        if self.synced != synced {
            self.db.pragma_update(None, "synchronous", if synced { "FULL" } else { "NORMAL" })?;
            self.synced = synced;
        }
        Ok(())
    }

    fn write_health(&mut self) {
        let health = std::mem::take(&mut self.health);
        self.health_due = Instant::now() + HEALTH_EVERY;
        let write = |writer: &mut Self| {
            writer.set_synced(false)?;
            let transaction = writer.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (endpoint, health) in &health {
                set_health(&transaction, endpoint, health)?;
            }
            transaction.commit()
        };
        if let Err(source) = write(self) {
            self.failed(&source);
        }
    }

    fn data_version(&self) -> rusqlite::Result<i64> {
        self.db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// Our own commits do not change the version, so that a change is always somebody's wish.
    fn notice(&mut self) {
        match self.data_version() {
            Ok(version) if version != self.version => {
                self.version = version;
                self.requests.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            Err(source) => self.failed(&source),
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if !std::mem::replace(&mut self.broken, true) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the delivery store; trying again");
        }
    }
}

/// What an attempt says about its endpoint.
fn note(health: &mut HashMap<EndpointName, Health>, attempt: &Attempt) {
    if !health.contains_key(&attempt.endpoint) {
        health.insert(attempt.endpoint.clone(), Health::default());
    }
    let Some(health) = health.get_mut(&attempt.endpoint) else { return };
    match attempt.outcome {
        Outcome::Delivered => health.success_at_ms = health.success_at_ms.max(Some(attempt.started_at_ms)),
        Outcome::Abandoned => {}
        Outcome::Retry | Outcome::Permanent | Outcome::Expired | Outcome::Disabled => {
            health.failure = Some((attempt.started_at_ms, attempt.error.clone()));
        }
    }
}

struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
