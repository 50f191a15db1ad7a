//! The file as commands use it, and as anybody reads it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rowbridge_schema::EndpointName;
use rusqlite::{Connection, TransactionBehavior};

use super::attempt::{self, AttemptFilter, Recorded};
use super::endpoint::{self, EndpointChange, EndpointEvent, EndpointRow};
use super::error::{StoreError, WorkError};
use super::filter::LetterFilter;
use super::job::{self, Job, JobSpec};
use super::letter::{self, Letter, LetterCount};
use super::{DELIVERIES_FILE, now_ms, schema};

/// Letters that one transaction discards, so that a publisher never waits long for its turn.
const DISCARD_STEP: u32 = 200;

/// An open file. Reads never wait; each change is a transaction of its own, which is synced when the call returns.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Mutex<Connection>,
}

impl Store {
    /// Opens the file of a folder that a publisher has used.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if there is none, and the file's.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        Self::open_file(state_dir, false)
    }

    pub(super) fn open_file(state_dir: &Path, create: bool) -> Result<Self, StoreError> {
        let path = state_dir.join(DELIVERIES_FILE);
        let database = Mutex::new(schema::open(&path, create)?);
        Ok(Self { path, database })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn read<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        run(&database).map_err(|error| WorkError::from(error).at(&self.path))
    }

    fn change<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = || {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = run(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        inner().map_err(|error: rusqlite::Error| WorkError::from(error).at(&self.path))
    }

    /// Attempts, the newest first.
    ///
    /// # Errors
    /// The file's.
    pub fn attempts(&self, filter: &AttemptFilter) -> Result<Vec<Recorded>, StoreError> {
        self.read(|db| attempt::list(db, filter))
    }

    /// One attempt.
    ///
    /// # Errors
    /// The file's.
    pub fn attempt(&self, id: i64) -> Result<Option<Recorded>, StoreError> {
        self.read(|db| attempt::get(db, id))
    }

    /// Dead letters without their bodies, the newest first; `before` (an id) asks for the next page.
    ///
    /// # Errors
    /// The file's.
    pub fn letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Letter>, StoreError> {
        self.read(|db| letter::list(db, filter, before, limit))
    }

    /// One dead letter with its body.
    ///
    /// # Errors
    /// The file's.
    pub fn letter(&self, id: i64) -> Result<Option<Letter>, StoreError> {
        self.read(|db| letter::get(db, id))
    }

    /// How many dead letters match, by endpoint.
    ///
    /// # Errors
    /// The file's.
    pub fn count_letters(
        &self,
        filter: &LetterFilter,
    ) -> Result<Vec<(EndpointName, LetterCount)>, StoreError> {
        self.read(|db| letter::count(db, filter))
    }

    /// The number of the newest dead letter, for [`LetterFilter::upto`]; 0 before the first one.
    ///
    /// # Errors
    /// The file's.
    pub fn last_letter(&self) -> Result<i64, StoreError> {
        self.read(|db| db.query_row("SELECT coalesce(max(id), 0) FROM dead_letters", [], |row| row.get(0)))
    }

    /// Deletes the dead letters that match, for good. Returns how many.
    ///
    /// # Errors
    /// The file's; some may be gone then.
    pub fn discard_letters(&self, filter: &LetterFilter) -> Result<u64, StoreError> {
        let mut discarded = 0;
        loop {
            match self.change(|db| letter::discard(db, filter, DISCARD_STEP))? {
                0 => return Ok(discarded),
                some => discarded += some as u64,
            }
        }
    }

    /// Leaves a job for the publisher that runs, or will run. Returns its number.
    ///
    /// # Errors
    /// The file's.
    pub fn ask(&self, endpoint: &EndpointName, spec: &JobSpec) -> Result<i64, StoreError> {
        self.change(|db| job::ask(db, endpoint, spec))
    }

    /// Calls a job off; false if it had ended, or there is none.
    ///
    /// # Errors
    /// The file's.
    pub fn cancel_job(&self, id: i64) -> Result<bool, StoreError> {
        self.change(|db| job::cancel(db, id))
    }

    /// One job.
    ///
    /// # Errors
    /// The file's.
    pub fn job(&self, id: i64) -> Result<Option<Job>, StoreError> {
        self.read(|db| job::get(db, id))
    }

    /// Jobs, the newest first; of one kind ([`JobSpec::kind`]) or of all.
    ///
    /// # Errors
    /// The file's.
    pub fn jobs(&self, kind: Option<&str>, limit: u32) -> Result<Vec<Job>, StoreError> {
        self.read(|db| job::list(db, kind, limit))
    }

    /// Jobs that are queued or running, in the order in which they were left.
    ///
    /// # Errors
    /// The file's.
    pub fn open_jobs(&self) -> Result<Vec<Job>, StoreError> {
        self.read(job::open)
    }

    /// Changes an endpoint now, as an operator wants it; false if it already was so.
    ///
    /// # Errors
    /// The file's.
    pub fn change_endpoint(&self, name: &EndpointName, change: &EndpointChange) -> Result<bool, StoreError> {
        self.change(|db| endpoint::change(db, name, change, now_ms()))
    }

    /// Endpoints about which something is known, by name.
    ///
    /// # Errors
    /// The file's.
    pub fn endpoints(&self) -> Result<Vec<EndpointRow>, StoreError> {
        self.read(endpoint::list)
    }

    /// One endpoint; `None` if nothing is known about it.
    ///
    /// # Errors
    /// The file's.
    pub fn endpoint(&self, name: &EndpointName) -> Result<Option<EndpointRow>, StoreError> {
        self.read(|db| endpoint::get(db, name))
    }

    /// Changes of endpoints behind a cursor, the oldest first.
    ///
    /// # Errors
    /// The file's.
    pub fn events(&self, after: i64, limit: u32) -> Result<Vec<EndpointEvent>, StoreError> {
        self.read(|db| endpoint::events(db, after, limit))
    }

    /// The number of the newest change: where a reader begins that wants no history.
    ///
    /// # Errors
    /// The file's.
    pub fn last_event(&self) -> Result<i64, StoreError> {
        self.read(endpoint::last_event)
    }

    /// How far a reader of the changes is; `None` for one that never moved.
    ///
    /// # Errors
    /// The file's.
    pub fn cursor(&self, reader: &str) -> Result<Option<i64>, StoreError> {
        self.read(|db| endpoint::cursor(db, reader))
    }
}
