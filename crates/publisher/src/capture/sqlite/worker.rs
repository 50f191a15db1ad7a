//! The thread that owns capture's connection.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rowbridge_schema::{Offset, SourceId, TableName, TablePatterns};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::cut::Cut;
use super::error::SqliteError;
use super::install::{self, Wanted};
use super::read::{self, LogReader};
use super::wake::{self, POLL, Schedule};
use crate::capture::{CaptureStart, Captured, OldRows};

/// The file is quiet when nobody wrote for this long: then the log is pruned without meeting the application.
const QUIET: Duration = Duration::from_millis(100);

/// Confirmed rows above which the log is pruned although the file is not quiet; a quarter of the cap if that is less.
const URGENT_ROWS: i64 = 100_000;

/// Longest that one pruning transaction should hold the write lock.
const PRUNE_AIM: Duration = Duration::from_micros(700);

/// Between two pruning transactions, so that a waiting writer gets in.
const PRUNE_PAUSE: Duration = Duration::from_millis(3);

/// After the file was found busy.
const PRUNE_RETRY: Duration = Duration::from_millis(50);

/// What the thread is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// The file was written.
    Woken,
    /// One more item is wanted.
    Next,
    /// Log rows up to this id may go.
    Confirm(i64),
    /// Say soon how far the log was read.
    Hurry,
    /// Tables whose changed keys are reported.
    Watch(HashSet<TableName>),
    /// The highest log id.
    End(oneshot::Sender<Result<i64, SqliteError>>),
    /// Go.
    Stop,
}

pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) tables: TablePatterns,
    pub(crate) max_log_rows: u64,
    pub(crate) old_rows: OldRows,
    pub(crate) cut: Cut,
}

impl Settings {
    fn reconcile(&self, conn: &mut Connection) -> Result<bool, SqliteError> {
        let wanted = Wanted { tables: &self.tables, old_rows: &self.old_rows };
        install::reconcile(conn, &self.path, wanted, self.max_log_rows)
    }
}

pub(crate) struct Worker {
    settings: Settings,
    conn: Connection,
    reader: LogReader,
    items: mpsc::Sender<Result<Captured, SqliteError>>,
    wanted: bool,
    told: Arc<AtomicBool>,
    schedule: Schedule,
    /// `PRAGMA data_version` and `schema_version` at the last look.
    data_version: i64,
    schema_version: i64,
    /// Look although nothing seems to have changed.
    force: bool,
    /// An `Advanced` is owed, whatever blocks come before it.
    hurried: bool,
    /// The database was busy when the triggers were to be checked.
    schema_pending: bool,
    /// Advance last reported, by a block or alone; `None` until something was said.
    advanced: Option<i64>,
    last_change: Instant,
    confirmed: i64,
    pruned: i64,
    last: i64,
    prune_rows: i64,
    next_prune: Instant,
    identity: Option<(u64, u64)>,
    next_identity: Instant,
}

impl Worker {
    /// Opens the file, installs what is missing and finds the place to begin. Blocks.
    pub(crate) fn open(
        settings: Settings,
        start: &CaptureStart,
        items: mpsc::Sender<Result<Captured, SqliteError>>,
        told: Arc<AtomicBool>,
    ) -> Result<(Self, SourceId), SqliteError> {
        let path = settings.path.clone();
        let mut conn = install::open(&path)?;
        let schema_version = version(&conn, "schema_version")?;
        settings.reconcile(&mut conn)?;
        let source = install::source_id(&conn, &path)?;
        let state = install::state(&conn)?;
        // Without a journal everything that is in the log is also in the snapshot that will be taken.
        let resume = start.resume.as_ref().map(read::parse_resume).transpose()?.unwrap_or(state.last);
        let reader =
            LogReader::new(path.clone(), settings.tables.clone(), settings.cut.clone(), start.epoch, resume);
        let now = Instant::now();
        let identity = identity(&path);
        let worker = Self {
            conn,
            reader,
            items,
            wanted: false,
            told,
            schedule: Schedule::new(now),
            data_version: -1,
            schema_version,
            force: true,
            hurried: false,
            schema_pending: false,
            advanced: None,
            last_change: now,
            confirmed: state.pruned,
            pruned: state.pruned,
            last: state.last,
            prune_rows: 200,
            next_prune: now,
            identity,
            next_identity: now + POLL,
            settings,
        };
        Ok((worker, source))
    }

    /// Serves commands until told to stop.
    pub(crate) fn run(mut self, commands: &Receiver<Command>, wake: Sender<Command>) {
        let watcher = wake::watch(&self.settings.path, self.told.clone(), move || {
            let _ = wake.send(Command::Woken);
        });
        if let Err(error) = &watcher {
            // The poll still finds everything, later.
            tracing::warn!(%error, "no notice of file changes, looking twice a second instead");
        }
        loop {
            match commands.recv_timeout(self.next_deadline().saturating_duration_since(Instant::now())) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => {
                    if !self.obey(command) {
                        return;
                    }
                    // Orders first: a look may take long.
                    while let Ok(command) = commands.try_recv() {
                        if !self.obey(command) {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.wanted && self.schedule.is_due(Instant::now()) {
                let item = match self.produce() {
                    Ok(Some(item)) => Ok(item),
                    Ok(None) => {
                        self.schedule.found_nothing(Instant::now());
                        self.prune();
                        continue;
                    }
                    Err(error) => {
                        self.force = true;
                        Err(error)
                    }
                };
                self.wanted = false;
                if self.items.blocking_send(item).is_err() {
                    return;
                }
            }
            self.prune();
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let mut deadline = now + POLL;
        if self.wanted {
            deadline = deadline.min(self.schedule.next());
        }
        if self.prunable() > 0 {
            let quiet = if self.is_urgent() { now } else { self.last_change + QUIET };
            deadline = deadline.min(self.next_prune.max(quiet));
        }
        deadline
    }

    fn obey(&mut self, command: Command) -> bool {
        let now = Instant::now();
        match command {
            Command::Woken => {
                self.told.store(false, Ordering::Release);
                self.schedule.woken(now);
            }
            Command::Next => {
                self.wanted = true;
                if self.force || self.hurried || self.reader.has_more() {
                    self.schedule.woken(now);
                }
            }
            Command::Confirm(id) => self.confirmed = self.confirmed.max(id),
            Command::Hurry => {
                self.hurried = true;
                self.force = true;
                self.schedule.woken(now);
            }
            Command::Watch(tables) => self.reader.watch(tables),
            Command::End(reply) => {
                let _ = reply.send(install::state(&self.conn).map(|state| state.last));
            }
            Command::Stop => return false,
        }
        true
    }

    /// The next item, if there is one.
    fn produce(&mut self) -> Result<Option<Captured>, SqliteError> {
        self.check_identity()?;
        loop {
            let version = version(&self.conn, "data_version")?;
            if version != self.data_version {
                self.data_version = version;
                self.last_change = Instant::now();
            } else if !(self.force || self.hurried || self.schema_pending || self.reader.has_more()) {
                return Ok(None);
            }
            self.follow_schema()?;
            let look = self.reader.look(&self.conn)?;
            // An overflow is told once everything before it was read, even if nobody writes any more.
            self.force = look.state.is_overflowed();
            self.last = look.state.last;
            self.pruned = look.state.pruned;
            if let Some(found) = look.found {
                if matches!(found, Captured::Block(_)) {
                    self.advanced = Some(self.reader.read);
                }
                return Ok(Some(found));
            }
            if self.reader.has_more() {
                continue;
            }
            if self.hurried || self.advanced != Some(self.reader.read) {
                self.hurried = false;
                self.advanced = Some(self.reader.read);
                let at = Offset { file: 0, at: self.reader.read as u64 };
                return Ok(Some(Captured::Advanced { at, resume: read::resume(self.reader.read) }));
            }
            if self.schema_pending {
                return Ok(None);
            }
        }
    }

    /// Brings triggers in line after any change of the schema: a table rebuilt by a migration has lost its own.
    fn follow_schema(&mut self) -> Result<(), SqliteError> {
        let version = version(&self.conn, "schema_version")?;
        self.schema_pending = version != self.schema_version;
        if !self.schema_pending {
            return Ok(());
        }
        match self.settings.reconcile(&mut self.conn) {
            Ok(changed) => {
                // Ours are changes too: what was read before stands, what came meanwhile makes another look.
                self.schema_version = if changed { self.own_version(version)? } else { version };
                self.schema_pending = false;
                Ok(())
            }
            Err(error) if error.is_busy() => {
                tracing::warn!(%error, "the schema changed, but the database is busy: triggers are checked again soon");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The version after our own changes; if nothing else changed the schema meanwhile there is nothing to plan for it.
    fn own_version(&mut self, before: i64) -> Result<i64, SqliteError> {
        let after = version(&self.conn, "schema_version")?;
        let again = self.settings.reconcile(&mut self.conn)?;
        Ok(if again { before } else { after })
    }

    /// A restore may put another file in place; the open one is then a ghost.
    fn check_identity(&mut self) -> Result<(), SqliteError> {
        let now = Instant::now();
        if now < self.next_identity {
            return Ok(());
        }
        self.next_identity = now + POLL;
        if self.identity.is_some() && identity(&self.settings.path) != self.identity {
            return Err(SqliteError::Replaced { path: self.settings.path.clone() });
        }
        Ok(())
    }

    fn prunable(&self) -> i64 {
        self.confirmed.min(self.last - 1) - self.pruned
    }

    fn is_urgent(&self) -> bool {
        let quarter = i64::try_from(self.settings.max_log_rows / 4).unwrap_or(URGENT_ROWS);
        self.prunable() > URGENT_ROWS.min(quarter)
    }

    fn prune(&mut self) {
        let now = Instant::now();
        if self.prunable() <= 0 || now < self.next_prune {
            return;
        }
        // The file may have been written since the last look.
        if let Ok(version) = version(&self.conn, "data_version")
            && version != self.data_version
            && !self.is_urgent()
        {
            self.last_change = now;
            self.next_prune = now + QUIET;
            self.schedule.woken(now);
            return;
        }
        if !self.is_urgent() && now < self.last_change + QUIET {
            return;
        }
        match install::prune(&mut self.conn, self.confirmed, self.prune_rows) {
            Ok(Some(pruned)) => {
                let took = now.elapsed();
                self.prune_rows =
                    if took > PRUNE_AIM { self.prune_rows / 2 } else { self.prune_rows * 3 / 2 };
                self.prune_rows = self.prune_rows.clamp(20, 5_000);
                self.pruned = pruned;
                self.next_prune = now + took + PRUNE_PAUSE;
            }
            Ok(None) => self.next_prune = now + PRUNE_RETRY,
            Err(error) => {
                tracing::warn!(%error, "the change log cannot be pruned now");
                self.next_prune = now + PRUNE_RETRY * 20;
            }
        }
    }
}

fn version(conn: &Connection, pragma: &'static str) -> Result<i64, SqliteError> {
    conn.prepare_cached(&format!("PRAGMA {pragma}"))
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(SqliteError::sql("ask whether the database changed"))
}

/// Device and inode of the file.
#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::path::Path) -> Option<(u64, u64)> {
    None
}
