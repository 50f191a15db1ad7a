//! What a publisher remembers besides its journal: identity, lanes, snapshots under way, requests of an operator.
//!
//! A small SQLite file in `state_dir`, because it is queried, changed from two processes (the running publisher and a
//! command) and holds no stream. Every change is one transaction with `synchronous = FULL`.

mod identity;
mod jobs;
mod lanes;
mod requests;
mod shapes;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rowbridge_schema::{StreamName, TableName};
use rusqlite::{Connection, OptionalExtension};

pub use identity::{Identity, TakenOver};
pub use jobs::{Job, SentColumns, columns, values_changed};
pub use requests::{Request, request};

pub(crate) use self::identity::present_second;

/// Name of the file in `state_dir`.
pub const STATE_FILE: &str = "state.db";
const LOCK_FILE: &str = "lock";

/// `SQLITE_IOERR_SHMSIZE`: `state.db-shm` cannot be made longer.
const SHARED_FILE_TOO_SHORT: i32 = 10 | 19 << 8;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS lanes (endpoint TEXT PRIMARY KEY, start TEXT NOT NULL) STRICT;
    -- endpoints that the stream goes on without, and where the snapshot begins that made one whole again
    CREATE TABLE IF NOT EXISTS detached (endpoint TEXT PRIMARY KEY, reason TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS attached (endpoint TEXT PRIMARY KEY, position TEXT NOT NULL) STRICT;
    -- one row per captured table: its columns when it was last sent, and its snapshot
    CREATE TABLE IF NOT EXISTS tables (
        schema TEXT NOT NULL, name TEXT NOT NULL, columns TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'done')),
        keyless INTEGER NOT NULL, resync INTEGER NOT NULL, only_for TEXT NOT NULL, after TEXT,
        PRIMARY KEY (schema, name)) STRICT;
    -- what tables of a MySQL source looked like, the newest last
    CREATE TABLE IF NOT EXISTS shapes (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, def TEXT NOT NULL, UNIQUE (name, def)) STRICT;
    CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL) STRICT;
    -- Everything a second time. SQLite has no checksums, but its check compares each row with its index entries: a bit that
    -- the disk flips in either is found at the next start, before it decides anything.
    CREATE INDEX IF NOT EXISTS meta_again ON meta (key, value);
    CREATE INDEX IF NOT EXISTS lanes_again ON lanes (endpoint, start);
    CREATE INDEX IF NOT EXISTS detached_again ON detached (endpoint, reason);
    CREATE INDEX IF NOT EXISTS attached_again ON attached (endpoint, position);
    CREATE INDEX IF NOT EXISTS tables_again ON tables (schema, name, columns, status, keyless, resync, only_for, after);
    CREATE INDEX IF NOT EXISTS requests_again ON requests (what);";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made or read.
    #[error("cannot use state_dir {path}")]
    Folder {
        /// `publisher.state_dir`
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "state_dir {path} is in use by another rowbridge process; stop it, or give this one a folder of its own"
    )]
    Locked {
        /// `publisher.state_dir`
        path: PathBuf,
    },
    /// The file is damaged or cannot be written.
    #[error("cannot use {path}")]
    Database {
        /// The state file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file has changed without us.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// SQLite's finding.
        reason: String,
    },
    /// The folder belongs to another stream.
    #[error(
        "state_dir {path} belongs to stream {found}, not to {expected}; use another folder, or the old name"
    )]
    OtherStream {
        /// `publisher.state_dir`
        path: PathBuf,
        /// Recorded.
        found: String,
        /// Configured.
        expected: StreamName,
    },
}

impl StateError {
    /// The disk has no room, which may pass.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        // The second is what SQLite says of the file beside the database that all its processes share.
        source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            || source.sqlite_extended_error_code() == Some(SHARED_FILE_TOO_SHORT)
    }

    /// What to do, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let damaged = match self {
            Self::Damaged { .. } => true,
            Self::Database { source, .. } => is_damage(source),
            Self::Folder { .. } | Self::Locked { .. } | Self::OtherStream { .. } => false,
        };
        damaged.then(|| {
            "What was captured and delivered so far is not known any more. Move publisher.state_dir away, start the \
             publisher with an empty one and run `rowbridge snapshot --all` while it runs: every table is sent again, \
             and what is gone at the source is removed at the targets."
                .to_owned()
        })
    }
}

/// Whether SQLite found what it did not write.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// The open state; holds the lock on `state_dir`.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    database: Mutex<Connection>,
    /// See [`Job::run`].
    runs: Mutex<HashMap<TableName, u64>>,
    _lock: File,
}

fn open_database(dir: &Path) -> Result<Connection, StateError> {
    let path = dir.join(STATE_FILE);
    let open = || {
        let database = Connection::open(&path)?;
        database.busy_timeout(std::time::Duration::from_secs(5))?;
        database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        // Before anything is written: a table that cannot be found would be made anew, and be empty.
        let found: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found == "ok" {
            database.execute_batch(SCHEMA)?;
        }
        Ok((database, found))
    };
    match open().map_err(|source| StateError::Database { path: path.clone(), source })? {
        (database, found) if found == "ok" => Ok(database),
        (_, reason) => Err(StateError::Damaged { path, reason }),
    }
}

/// A command that looks whether a publisher runs holds the lock for a moment, which is no second publisher.
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..5 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(20)),
            other => return other,
        }
    }
    lock.try_lock()
}

/// Whether a publisher runs on this folder now.
///
/// # Errors
/// The folder cannot be read. One that does not exist is one that nobody uses.
pub fn is_in_use(dir: &Path) -> Result<bool, StateError> {
    let folder = |source| StateError::Folder { path: dir.to_owned(), source };
    let lock = match File::open(dir.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(folder(error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(folder(source)),
    }
}

impl State {
    /// Opens or makes the state of a stream.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(dir: &Path, stream: &StreamName) -> Result<Self, StateError> {
        let folder = |source| StateError::Folder { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(folder)?;
        try_lock(&lock).map_err(|error| match error {
            TryLockError::WouldBlock => StateError::Locked { path: dir.to_owned() },
            TryLockError::Error(source) => folder(source),
        })?;
        let database = Mutex::new(open_database(dir)?);
        let state = Self { path: dir.join(STATE_FILE), database, runs: Mutex::default(), _lock: lock };
        match state.meta("stream")? {
            None => {
                let epoch = present_second().to_string();
                state.set_meta("epoch", &epoch)?;
                state.set_meta("first_epoch", &epoch)?;
                state.set_meta("stream", stream.as_str())?;
            }
            Some(found) if found != stream.as_str() => {
                return Err(StateError::OtherStream {
                    path: dir.to_owned(),
                    found,
                    expected: stream.clone(),
                });
            }
            Some(_) => {}
        }
        Ok(state)
    }

    pub(super) fn with<T>(
        &self,
        run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let mut database = self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        run(&mut database).map_err(|source| StateError::Database { path: self.path.clone(), source })
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<String>, StateError> {
        self.with(|db| {
            db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
        })
    }

    pub(super) fn set_meta(&self, key: &str, value: &str) -> Result<(), StateError> {
        self.with(|db| {
            db.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Offset, Position, SourceId};

    use super::*;

    /// Everything that a state says.
    fn told(dir: &Path) -> Result<String, StateError> {
        let state = State::open(dir, &"shop".parse().unwrap())?;
        let name = "copy".parse().unwrap();
        let jobs = state.jobs()?;
        Ok(format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {jobs:?}",
            state.identity()?,
            state.lanes()?,
            state.lane_start(&name)?,
            state.snapshot_from(&name)?,
            state.detached(&"slow".parse().unwrap())?,
            state.tables()?,
            state.requests()?,
            state.first()?,
        ))
    }

    #[test]
    fn a_damaged_file_is_refused_or_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        let identity = Identity {
            epoch: 3,
            fresh: false,
            source: Some(SourceId("pg".into())),
            timeline: Some(2),
            earlier_epochs: vec![(Offset { file: 0, at: 77 }, 2)],
        };
        state.set_identity(&identity).unwrap();
        let (copy, slow) = ("copy".parse().unwrap(), "slow".parse().unwrap());
        state.add_lane(&copy, Position::new(3, 5, 1)).unwrap();
        state.attach(&copy, Position::new(3, 9, 1)).unwrap();
        state.detach(&slow, "held 5 bytes").unwrap();
        let def = jobs::tests::def("orders");
        state.add_job(&def, Some(&Job::new(&def, true))).unwrap();
        state.advance_job(&def.name, Some(&vec!["1234".into()])).unwrap();
        request(dir.path(), &Request::Snapshot(vec!["public.orders".into()])).unwrap();
        drop(state);
        let whole = std::fs::read(dir.path().join(STATE_FILE)).unwrap();
        let expected = told(dir.path()).unwrap();
        assert!(expected.contains("1234") && expected.contains("held 5 bytes"), "{expected}");
        let mut refused = 0;
        // What is zero is free, or a length whose change shows as others do.
        let places: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let damaged = tempfile::tempdir().unwrap();
        for &at in &places {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x04;
            for name in [STATE_FILE, "state.db-wal", "state.db-shm"] {
                let _ = std::fs::remove_file(damaged.path().join(name));
            }
            std::fs::write(damaged.path().join(STATE_FILE), bytes).unwrap();
            match told(damaged.path()) {
                Ok(same) => assert_eq!(same, expected, "byte {at}"),
                Err(StateError::Damaged { .. } | StateError::Database { .. }) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        println!("{refused} of {} refused", places.len());
        assert!(refused > places.len() / 2);
    }

    #[test]
    fn state_survives_and_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        assert!(matches!(State::open(dir.path(), &stream), Err(StateError::Locked { .. })));
        assert!(is_in_use(dir.path()).unwrap());
        let fresh = state.identity().unwrap();
        assert!(fresh.fresh && fresh.epoch > 29_000_000);
        let identity = Identity {
            epoch: 3,
            fresh: false,
            source: Some(SourceId("pg".into())),
            timeline: Some(2),
            earlier_epochs: vec![(Offset { file: 0, at: 77 }, 2)],
        };
        state.set_identity(&identity).unwrap();
        drop(state);
        assert!(!is_in_use(dir.path()).unwrap() && !is_in_use(&dir.path().join("absent")).unwrap());
        let other: StreamName = "other".parse().unwrap();
        assert!(matches!(State::open(dir.path(), &other), Err(StateError::OtherStream { .. })));
        let state = State::open(dir.path(), &stream).unwrap();
        assert_eq!(state.identity().unwrap(), identity);
    }
}
