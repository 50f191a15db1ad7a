//! Capture from a SQLite file that another process writes.
//!
//! SQLite has no log that a second process could read row by row, and its hooks tell a connection only of itself. So
//! triggers write each change to a log table in the same file, in the application's own transaction; a thread here reads
//! the log whenever the file changes, and prunes what was confirmed. See [`install`] for the tables and [`trigger`] for the
//! SQL that runs inside the application.
//!
//! Limits: WAL mode only; a commit's boundary does not show in the log, so that everything that one read finds counts as
//! one transaction; `at` is the time of the statement, in milliseconds; an application that switches triggers off
//! (`SQLITE_DBCONFIG_ENABLE_TRIGGER`) or writes from a BEFORE trigger to the same table by REPLACE is not followed;
//! `ALTER TABLE ... DROP COLUMN` fails while the triggers name the column (see [`SqliteSource::check`]).

mod check;
pub(crate) mod cut;
mod ddl;
mod error;
pub(crate) mod inspect;
pub(crate) mod install;
mod read;
#[cfg(test)]
mod tests;
mod trigger;
pub(crate) mod value;
mod wake;
mod worker;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use rowbridge_schema::{Offset, Position, SourceId, TableName, TablePatterns};
use tokio::sync::{mpsc, oneshot};

pub use check::{CheckItem, Severity};
pub use error::SqliteError;

use self::cut::Cut;
use self::worker::{Command, Settings, Worker};
use crate::capture::{Capture, CaptureStart, Captured, OldRows, Retained};
use crate::journal::Resume;
use crate::snapshot::sqlite::SqliteSnapshots;

/// A SQLite database as a source.
#[derive(Debug, Clone)]
pub struct SqliteSource {
    /// The database file; must exist.
    pub path: PathBuf,
    /// Which tables. Views, virtual and shadow tables never belong.
    pub tables: TablePatterns,
    /// Most rows that the change log may hold before the triggers stop writing to it.
    pub max_log_rows: u64,
    /// Whose old rows are logged whole.
    pub old_rows: OldRows,
    cut: Cut,
}

impl SqliteSource {
    /// The fields' meaning is theirs.
    #[must_use]
    pub fn new(path: PathBuf, tables: TablePatterns, max_log_rows: u64, old_rows: OldRows) -> Self {
        Self { path, tables, max_log_rows, old_rows, cut: Cut::default() }
    }

    /// Installs what is missing (one short write transaction) and starts to read.
    ///
    /// Without `start.resume` it begins at the present end of the log: what is in the log then is also in a snapshot that
    /// is taken afterwards.
    ///
    /// # Errors
    /// See [`SqliteError`]. Cancel safety: cancel safe; the thread ends when its owner is gone.
    pub async fn capture(&self, start: &CaptureStart) -> Result<SqliteCapture, SqliteError> {
        let path = canonical(&self.path)?;
        let settings = Settings {
            path: path.clone(),
            tables: self.tables.clone(),
            max_log_rows: self.max_log_rows,
            old_rows: self.old_rows.clone(),
            cut: self.cut.clone(),
        };
        let (commands, orders) = std::sync::mpsc::channel();
        let (items_in, items) = mpsc::channel(1);
        let (ready_in, ready) = oneshot::channel();
        let (epoch, start, wake) = (start.epoch, start.clone(), commands.clone());
        let stopped = || SqliteError::Stopped { path: path.clone() };
        std::thread::Builder::new()
            .name("sqlite-capture".to_owned())
            .spawn(move || match Worker::open(settings, &start, items_in, Arc::new(AtomicBool::new(false))) {
                Ok((worker, source)) => {
                    if ready_in.send(Ok(source)).is_ok() {
                        worker.run(&orders, wake);
                    }
                }
                Err(error) => {
                    let _ = ready_in.send(Err(error));
                }
            })
            .map_err(|_| stopped())?;
        let source = ready.await.map_err(|_| stopped())??;
        Ok(SqliteCapture { path, source, epoch, commands, items, asked: false })
    }

    /// A reader of existing rows on its own connection. A capture beside it has to come of this value, or a copy of it: the
    /// two tell each other where tables without keys were read.
    ///
    /// # Errors
    /// See [`SqliteError`]; the change log must be installed.
    pub async fn snapshots(&self) -> Result<SqliteSnapshots, SqliteError> {
        SqliteSnapshots::open(canonical(&self.path)?, self.tables.clone(), self.cut.clone()).await
    }

    /// What an operator should know before this database is captured. Reads only; blocks for a moment.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn check(&self) -> Result<Vec<CheckItem>, SqliteError> {
        check::check(&self.path, &self.tables, self.max_log_rows)
    }

    /// Lets the triggers log again after [`SqliteError::Overflowed`], and has capture ask for a snapshot of every table
    /// that also removes what is gone. Blocks for a moment.
    ///
    /// # Errors
    /// See [`SqliteError`].
    pub fn restart_log(&self) -> Result<(), SqliteError> {
        install::restart(&mut install::open(&self.path)?, &self.path, &self.tables)
    }
}

/// Removes the triggers and tables that capture made, or only lists them: `trigger rowbridge_1_insert`. A subscriber's
/// progress in the same file is left alone. Blocks for a moment.
///
/// # Errors
/// See [`SqliteError`].
pub fn teardown(path: &Path, list_only: bool) -> Result<Vec<String>, SqliteError> {
    install::teardown(&mut install::open(path)?, list_only)
}

/// Rows of the change log that an entry of so many values takes.
pub(crate) fn rows_per_update(values: usize) -> usize {
    values.div_ceil(trigger::WIDTH)
}

fn canonical(path: &Path) -> Result<PathBuf, SqliteError> {
    path.canonicalize().map_err(|_| SqliteError::Open {
        path: path.to_owned(),
        source: rusqlite::Error::InvalidPath(path.to_owned()),
    })
}

/// A running capture; its thread ends when it is dropped.
#[derive(Debug)]
pub struct SqliteCapture {
    path: PathBuf,
    source: SourceId,
    epoch: u32,
    commands: Sender<Command>,
    items: mpsc::Receiver<Result<Captured, SqliteError>>,
    /// An item was asked for and has not come yet.
    asked: bool,
}

impl SqliteCapture {
    fn order(&self, command: Command) -> Result<(), SqliteError> {
        self.commands.send(command).map_err(|_| SqliteError::Stopped { path: self.path.clone() })
    }
}

impl Capture for SqliteCapture {
    type Error = SqliteError;

    fn source(&self) -> &SourceId {
        &self.source
    }

    /// Cancel safe: an item that was asked for is kept for the next call.
    async fn next(&mut self) -> Result<Captured, SqliteError> {
        if !self.asked {
            self.order(Command::Next)?;
            self.asked = true;
        }
        let item = self.items.recv().await;
        self.asked = false;
        item.unwrap_or_else(|| Err(SqliteError::Stopped { path: self.path.clone() }))
    }

    /// Only notes it: rows are removed later, while the file is quiet.
    async fn confirm(&mut self, resume: &Resume) -> Result<(), SqliteError> {
        self.order(Command::Confirm(read::parse_resume(resume)?))
    }

    fn resume_behind(&self, position: Position) -> Resume {
        read::resume(i64::try_from(position.offset.at).unwrap_or(i64::MAX))
    }

    fn reached_by(&self, resume: &Resume) -> Position {
        let id = read::parse_resume(resume).unwrap_or(0);
        Position::new(self.epoch, u64::try_from(id).unwrap_or(0), 1)
    }

    /// The log has a cap in rows, `source.max_log_rows`, which its own triggers keep.
    async fn retained(&mut self) -> Result<Option<Retained>, SqliteError> {
        Ok(None)
    }

    async fn mark_snapshot(&mut self, _: bool) -> Result<(), SqliteError> {
        Ok(())
    }

    async fn hurry(&mut self) -> Result<(), SqliteError> {
        self.order(Command::Hurry)
    }

    /// Nobody waits for us: the log grows in the file.
    async fn keep_alive(&mut self) -> Result<(), SqliteError> {
        Ok(())
    }

    fn watch(&mut self, tables: &[TableName]) {
        // A thread that is gone shows at the next call that can say so.
        let _ = self.order(Command::Watch(tables.iter().cloned().collect::<HashSet<_>>()));
    }

    async fn end(&mut self) -> Result<Offset, SqliteError> {
        let (reply, answer) = oneshot::channel();
        self.order(Command::End(reply))?;
        let last = answer.await.map_err(|_| SqliteError::Stopped { path: self.path.clone() })??;
        Ok(Offset { file: 0, at: last as u64 })
    }

    async fn close(self) {
        // Dropping it stops the thread.
    }
}

impl Drop for SqliteCapture {
    fn drop(&mut self) {
        let _ = self.order(Command::Stop);
    }
}
