//! What a publisher remembers besides its journal: identity, lanes, snapshots under way, requests of an operator.
//!
//! A small SQLite file in `state_dir`, because it is queried, changed from two processes (the running publisher and a
//! command) and holds no stream. Every change is one transaction with `synchronous = FULL`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rand::RngExt as _;
use rowbridge_schema::{EndpointName, Offset, Position, SourceId, StreamName, TableDef, TableName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::capture::Key;

/// Name of the file in `state_dir`.
pub const STATE_FILE: &str = "state.db";
const LOCK_FILE: &str = "lock";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS lanes (endpoint TEXT PRIMARY KEY, start TEXT NOT NULL) STRICT;
    -- one row per captured table: its columns when it was last sent, and its snapshot
    CREATE TABLE IF NOT EXISTS tables (
        schema TEXT NOT NULL, name TEXT NOT NULL, columns TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'done')),
        keyless INTEGER NOT NULL, resync INTEGER NOT NULL, only_for TEXT NOT NULL, after TEXT,
        PRIMARY KEY (schema, name)) STRICT;
    -- what tables of a MySQL source looked like, the newest last
    CREATE TABLE IF NOT EXISTS shapes (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, def TEXT NOT NULL, UNIQUE (name, def)) STRICT;
    CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL) STRICT;";

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

/// Where capture stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Epoch of new positions.
    pub epoch: u32,
    /// Nothing was captured in this epoch yet: slot or change log are to be made.
    pub fresh: bool,
    /// The source as the capture last named it.
    pub source: Option<SourceId>,
    /// PostgreSQL timeline.
    pub timeline: Option<u32>,
    /// Offsets below which positions have an earlier epoch, after a failover.
    pub earlier_epochs: Vec<(Offset, u32)>,
}

/// A snapshot to make or to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The table.
    pub table: TableName,
    /// Rows have no key.
    pub keyless: bool,
    /// Remove what is gone.
    pub resync: bool,
    /// Only for these endpoints; all bridge endpoints if empty.
    pub only: Vec<EndpointName>,
    /// Last key that is durable in the journal.
    pub after: Option<Key>,
}

impl Job {
    /// A snapshot of a whole table for every bridge endpoint.
    #[must_use]
    pub fn new(def: &TableDef, resync: bool) -> Self {
        Self { table: def.name.clone(), keyless: def.key.is_empty(), resync, only: vec![], after: None }
    }
}

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// New epoch, new slot, all tables again.
    SnapshotAll,
    /// These tables again (raw names).
    Snapshot(Vec<String>),
}

/// The open state; holds the lock on `state_dir`.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    database: Mutex<Connection>,
    _lock: File,
}

/// The epoch of a new state: seconds since 1970, so that it is above every epoch of a state that was lost.
/// Two lives that begin within one second are not told apart.
fn first_epoch() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

fn open_database(dir: &Path) -> Result<Connection, StateError> {
    let path = dir.join(STATE_FILE);
    let open = || {
        let database = Connection::open(&path)?;
        database.busy_timeout(std::time::Duration::from_secs(5))?;
        database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        database.execute_batch(SCHEMA)?;
        Ok(database)
    };
    open().map_err(|source| StateError::Database { path: path.clone(), source })
}

/// Leaves a request for the publisher that runs, or will run, on this folder.
///
/// # Errors
/// The folder does not exist or cannot be written.
pub fn request(dir: &Path, request: &Request) -> Result<(), StateError> {
    let folder = |source| StateError::Folder { path: dir.to_owned(), source };
    std::fs::metadata(dir).map_err(folder)?;
    let what = match request {
        Request::SnapshotAll => serde_json::json!({ "snapshot": "all" }),
        Request::Snapshot(tables) => serde_json::json!({ "snapshot": tables }),
    };
    let database = open_database(dir)?;
    database
        .execute("INSERT INTO requests (what) VALUES (?1)", [what.to_string()])
        .map_err(|source| StateError::Database { path: dir.join(STATE_FILE), source })?;
    Ok(())
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
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => StateError::Locked { path: dir.to_owned() },
            std::fs::TryLockError::Error(source) => folder(source),
        })?;
        let state =
            Self { path: dir.join(STATE_FILE), database: Mutex::new(open_database(dir)?), _lock: lock };
        match state.meta("stream")? {
            None => {
                let epoch = first_epoch().to_string();
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

    fn with<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StateError> {
        let mut database = self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        run(&mut database).map_err(|source| StateError::Database { path: self.path.clone(), source })
    }

    fn meta(&self, key: &str) -> Result<Option<String>, StateError> {
        self.with(|db| {
            db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
        })
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), StateError> {
        self.with(|db| {
            db.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )
        })
        .map(drop)
    }

    /// Who we are.
    ///
    /// # Errors
    /// The file's.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let number = |key: &str| Ok(self.meta(key)?.and_then(|text| text.parse::<u32>().ok()));
        let earlier: Vec<(u32, u64, u32)> = self
            .meta("earlier_epochs")?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Ok(Identity {
            epoch: number("epoch")?.unwrap_or(1),
            fresh: self.meta("phase")?.as_deref() != Some("running"),
            source: self.meta("source")?.map(SourceId),
            timeline: number("timeline")?,
            earlier_epochs: earlier
                .into_iter()
                .map(|(file, at, epoch)| (Offset { file, at }, epoch))
                .collect(),
        })
    }

    /// The epoch with which this state began: whatever is older, another state has sent.
    ///
    /// # Errors
    /// The file's.
    pub fn first_epoch(&self) -> Result<Option<u32>, StateError> {
        Ok(self.meta("first_epoch")?.and_then(|text| text.parse().ok()))
    }

    /// Whether a slot at the source is known to be ours.
    ///
    /// # Errors
    /// The file's.
    pub fn is_claimed(&self) -> Result<bool, StateError> {
        Ok(self.meta("claimed")?.is_some() || self.meta("source")?.is_some() || self.starts_over()?)
    }

    /// Remembers that nothing of ours was at the source before: what is there from now on is ours.
    ///
    /// # Errors
    /// The file's.
    pub fn claim(&self) -> Result<(), StateError> {
        self.set_meta("claimed", "yes")
    }

    /// Nothing was made at the source yet, and who waits for a person must not claim what others make meanwhile.
    ///
    /// # Errors
    /// The file's.
    pub fn unclaim(&self) -> Result<(), StateError> {
        self.with(|db| db.execute("DELETE FROM meta WHERE key = 'claimed'", [])).map(drop)
    }

    /// Remembers who we are.
    ///
    /// # Errors
    /// The file's.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), StateError> {
        let earlier: Vec<(u32, u64, u32)> =
            identity.earlier_epochs.iter().map(|(offset, epoch)| (offset.file, offset.at, *epoch)).collect();
        let mut values = vec![
            ("epoch", identity.epoch.to_string()),
            ("phase", if identity.fresh { "new" } else { "running" }.to_owned()),
            ("earlier_epochs", serde_json::json!(earlier).to_string()),
        ];
        if !identity.fresh {
            self.with(|db| db.execute("DELETE FROM meta WHERE key = 'starts_over'", []))?;
        }
        values.extend(identity.timeline.map(|timeline| ("timeline", timeline.to_string())));
        values.extend(identity.source.as_ref().map(|source| ("source", source.0.clone())));
        self.with(|db| {
            let transaction = db.transaction()?;
            for (key, value) in &values {
                transaction.execute(
                    "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    [*key, value],
                )?;
            }
            transaction.commit()
        })
    }

    /// Our number among the replicas of a MySQL source: drawn once, since a server drops the older of two with the same
    /// one. From the upper half, where people do not number servers.
    ///
    /// # Errors
    /// The file's.
    pub fn replica_id(&self) -> Result<u32, StateError> {
        if let Some(id) = self.meta("replica_id")?.and_then(|text| text.parse().ok()) {
            return Ok(id);
        }
        let id = rand::rng().random_range(1 << 31..u32::MAX);
        self.set_meta("replica_id", &id.to_string())?;
        Ok(id)
    }

    /// Remembers what a table looks like; a shape that is known becomes the newest one. Old ones are forgotten.
    ///
    /// # Errors
    /// The file's.
    pub fn add_shape(&self, def: &TableDef) -> Result<(), StateError> {
        let (name, json) = (def.name.to_string(), def.to_json());
        self.with(|db| {
            let transaction = db.transaction()?;
            let newest: Option<String> = transaction
                .query_row(
                    "SELECT def FROM shapes WHERE name = ?1 ORDER BY id DESC LIMIT 1",
                    [&name],
                    |row| row.get(0),
                )
                .optional()?;
            if newest.as_ref() == Some(&json) {
                return Ok(());
            }
            transaction
                .execute("INSERT OR REPLACE INTO shapes (name, def) VALUES (?1, ?2)", [&name, &json])?;
            transaction.execute(
                "DELETE FROM shapes WHERE name = ?1 AND id NOT IN
                 (SELECT id FROM shapes WHERE name = ?1 ORDER BY id DESC LIMIT 64)",
                [&name],
            )?;
            transaction.commit()
        })
    }

    /// What a table looked like, the newest first.
    ///
    /// # Errors
    /// The file's.
    pub fn shapes(&self, table: &TableName) -> Result<Vec<TableDef>, StateError> {
        let found: Vec<String> = self.with(|db| {
            let mut statement = db.prepare("SELECT def FROM shapes WHERE name = ?1 ORDER BY id DESC")?;
            statement.query_map([table.to_string()], |row| row.get(0))?.collect()
        })?;
        Ok(found.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
    }

    /// Where a lane begins; recorded at its first sight.
    ///
    /// # Errors
    /// The file's.
    pub fn lane_start(&self, endpoint: &EndpointName) -> Result<Option<Position>, StateError> {
        let text: Option<String> = self.with(|db| {
            db.query_row("SELECT start FROM lanes WHERE endpoint = ?1", [endpoint.as_str()], |row| row.get(0))
                .optional()
        })?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Records a new lane.
    ///
    /// # Errors
    /// The file's.
    pub fn add_lane(&self, endpoint: &EndpointName, start: Position) -> Result<(), StateError> {
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO lanes VALUES (?1, ?2)",
                [endpoint.as_str(), &start.to_string()],
            )
        })
        .map(drop)
    }

    /// Lanes that were seen before.
    ///
    /// # Errors
    /// The file's.
    pub fn lanes(&self) -> Result<Vec<String>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT endpoint FROM lanes ORDER BY 1")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Position behind which the last snapshot of everything lies.
    ///
    /// # Errors
    /// The file's.
    pub fn snapshot_from(&self) -> Result<Option<Position>, StateError> {
        Ok(self.meta("snapshot_from")?.and_then(|text| text.parse().ok()))
    }

    /// Remembers it.
    ///
    /// # Errors
    /// The file's.
    pub fn set_snapshot_from(&self, position: Position) -> Result<(), StateError> {
        self.set_meta("snapshot_from", &position.to_string())
    }

    /// Begins a new epoch: slot or change log are to be made anew, every table is to be sent again, and what was under
    /// way counts for nothing. Whatever operators have asked for until now is contained in that, and dropped last: after a
    /// kill in between it is all done again.
    ///
    /// # Errors
    /// The file's.
    pub fn start_over(&self) -> Result<Identity, StateError> {
        let before = self.identity()?;
        let epoch = first_epoch().max(before.epoch.saturating_add(1));
        let identity = Identity { epoch, fresh: true, timeline: None, earlier_epochs: vec![], ..before };
        self.set_meta("starts_over", "yes")?;
        self.set_identity(&identity)?;
        self.with(|db| {
            let transaction = db.transaction()?;
            transaction.execute("UPDATE tables SET status = 'done', after = NULL", [])?;
            transaction.execute("DELETE FROM requests", [])?;
            transaction.commit()
        })?;
        Ok(identity)
    }

    /// Whether targets hold rows of an earlier epoch, so that a snapshot must also remove what is gone.
    ///
    /// # Errors
    /// The file's.
    pub fn starts_over(&self) -> Result<bool, StateError> {
        Ok(self.meta("starts_over")?.is_some())
    }

    /// Tables known, with the columns (name, type) that they had.
    ///
    /// # Errors
    /// The file's.
    pub fn tables(&self) -> Result<Vec<(TableName, SentColumns)>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare("SELECT schema, name, columns FROM tables ORDER BY 1, 2")?;
            let rows = statement.query_map([], |row| {
                let columns: String = row.get(2)?;
                Ok((table_name(row.get(0)?, row.get(1)?), serde_json::from_str(&columns).unwrap_or_default()))
            })?;
            rows.collect()
        })
    }

    /// Records a table, and that it is to be sent; a job that is already waiting is widened, never narrowed.
    ///
    /// # Errors
    /// The file's.
    pub fn add_job(&self, def: &TableDef, job: Option<&Job>) -> Result<(), StateError> {
        let waiting = self.jobs()?.into_iter().find(|waiting| waiting.table == def.name);
        let (status, resync, only) = match (job, waiting) {
            (None, _) => ("done", false, vec![]),
            (Some(job), None) => ("pending", job.resync, job.only.clone()),
            (Some(job), Some(before)) => {
                let everybody = job.only.is_empty() || before.only.is_empty();
                let mut only = if everybody { vec![] } else { before.only };
                if !everybody {
                    only.extend(
                        job.only.iter().filter(|name| !only.contains(name)).cloned().collect::<Vec<_>>(),
                    );
                }
                ("pending", job.resync || before.resync, only)
            }
        };
        let columns = serde_json::json!(columns(def)).to_string();
        let only = serde_json::json!(only).to_string();
        let (schema, name) = split(&def.name);
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO tables VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
                params![schema, name, columns, status, def.key.is_empty(), resync, only],
            )
        })
        .map(drop)
    }

    /// Snapshots to make or to go on with, by name.
    ///
    /// # Errors
    /// The file's.
    pub fn jobs(&self) -> Result<Vec<Job>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare(
                "SELECT schema, name, keyless, resync, only_for, after FROM tables WHERE status = 'pending' ORDER BY 1, 2",
            )?;
            let rows = statement.query_map([], |row| {
                let only: String = row.get(4)?;
                let after: Option<String> = row.get(5)?;
                Ok(Job {
                    table: table_name(row.get(0)?, row.get(1)?),
                    keyless: row.get(2)?,
                    resync: row.get(3)?,
                    only: serde_json::from_str(&only).unwrap_or_default(),
                    after: after.and_then(|text| serde_json::from_str(&text).ok()),
                })
            })?;
            rows.collect()
        })
    }

    /// A chunk up to `after` is durable in the journal; `None` says that the table is complete.
    ///
    /// # Errors
    /// The file's.
    pub fn advance_job(&self, table: &TableName, after: Option<&Key>) -> Result<(), StateError> {
        let (schema, name) = split(table);
        let status = if after.is_some() { "pending" } else { "done" };
        let after = after.map(|key| serde_json::json!(key).to_string());
        self.with(|db| {
            db.execute(
                "UPDATE tables SET after = ?3, status = ?4 WHERE schema = ?1 AND name = ?2",
                params![schema, name, after, status],
            )
        })
        .map(drop)
    }

    /// Whether an operator wants everything sent again. [`Self::start_over`] does it and drops the request.
    ///
    /// # Errors
    /// The file's.
    pub fn wants_snapshot_all(&self) -> Result<bool, StateError> {
        Ok(self.requests()?.iter().any(|(_, request)| *request == Some(Request::SnapshotAll)))
    }

    /// Requests that were left, oldest first, with their numbers; `None` is one that this version cannot read. They
    /// stay until [`Self::drop_requests`]: what they ask for is recorded first, so that a kill in between loses none.
    ///
    /// # Errors
    /// The file's.
    pub fn requests(&self) -> Result<Vec<(i64, Option<Request>)>, StateError> {
        self.with(|db| {
            let mut statement = db.prepare_cached("SELECT id, what FROM requests ORDER BY id")?;
            let rows = statement.query_map([], |row| {
                let what: String = row.get(1)?;
                Ok((row.get(0)?, parse_request(&what)))
            })?;
            rows.collect()
        })
    }

    /// Drops the requests up to and including number `upto`: what they ask for is recorded.
    ///
    /// # Errors
    /// The file's.
    pub fn drop_requests(&self, upto: i64) -> Result<(), StateError> {
        self.with(|db| db.execute("DELETE FROM requests WHERE id <= ?1", [upto])).map(drop)
    }
}

fn parse_request(text: &str) -> Option<Request> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    match value.get("snapshot")? {
        serde_json::Value::String(_) => Some(Request::SnapshotAll),
        tables => serde_json::from_value(tables.clone()).ok().map(Request::Snapshot),
    }
}

/// Name and type of each sent column.
pub type SentColumns = Vec<(String, String)>;

/// The sent columns of a table: what decides whether rows that were sent before are still right.
#[must_use]
pub fn columns(def: &TableDef) -> SentColumns {
    let sent = def.columns.iter().filter(|column| column.generated.is_none());
    sent.map(|column| (column.name.clone(), column.type_name.clone())).collect()
}

/// Whether rows that were sent before `old` became `new` may differ from what the table now shows: a column that is new, or
/// has another type, has values that never went through the stream. So may columns whose order changed, which nothing but
/// new names or new columns under old names can do.
#[must_use]
pub fn values_changed(old: &SentColumns, new: &SentColumns) -> bool {
    !old.iter().filter(|column| new.contains(column)).eq(new)
}

fn split(name: &TableName) -> (&str, &str) {
    (name.schema.as_deref().unwrap_or(""), &name.name)
}

fn table_name(schema: String, name: String) -> TableName {
    TableName { schema: Some(schema).filter(|schema| !schema.is_empty()), name }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Column, Dialect};

    use super::*;

    fn def(name: &str) -> TableDef {
        let column = Column {
            name: "id".into(),
            type_name: "bigint".into(),
            not_null: true,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", name),
            columns: vec![column],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    #[test]
    fn state_survives_and_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        assert!(matches!(State::open(dir.path(), &stream), Err(StateError::Locked { .. })));
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
        let other: StreamName = "other".parse().unwrap();
        assert!(matches!(State::open(dir.path(), &other), Err(StateError::OtherStream { .. })));
        let state = State::open(dir.path(), &stream).unwrap();
        assert_eq!(state.identity().unwrap(), identity);
    }

    #[test]
    fn starting_over_rises() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        state.add_job(&def("t"), Some(&Job::new(&def("t"), false))).unwrap();
        let before = Identity { fresh: false, timeline: Some(1), ..state.identity().unwrap() };
        state.set_identity(&before).unwrap();
        assert!(!state.starts_over().unwrap());
        let after = state.start_over().unwrap();
        assert!(after.fresh && after.epoch > before.epoch && state.starts_over().unwrap());
        assert!(state.jobs().unwrap().is_empty());
        assert_eq!(state.identity().unwrap().epoch, after.epoch);
    }

    #[test]
    fn jobs_widen_advance_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &"shop".parse().unwrap()).unwrap();
        let (a, b): (EndpointName, EndpointName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let job = |resync, only: &[&EndpointName]| Job {
            only: only.iter().map(|&name| name.clone()).collect(),
            ..Job::new(&def("t"), resync)
        };
        state.add_job(&def("t"), Some(&job(false, &[&a]))).unwrap();
        state.add_job(&def("t"), Some(&job(true, &[&b]))).unwrap();
        assert_eq!(state.jobs().unwrap(), [job(true, &[&a, &b])]);
        state.add_job(&def("t"), Some(&job(false, &[]))).unwrap();
        assert_eq!(state.jobs().unwrap(), [job(true, &[])]);
        state.advance_job(&def("t").name, Some(&vec!["7".into()])).unwrap();
        assert_eq!(state.jobs().unwrap()[0].after, Some(vec!["7".into()]));
        state.advance_job(&def("t").name, None).unwrap();
        assert!(state.jobs().unwrap().is_empty());
        assert_eq!(state.tables().unwrap(), [(def("t").name, columns(&def("t")))]);
    }

    #[test]
    fn columns_that_have_other_values_are_seen() {
        let columns = |text: &str| -> SentColumns {
            text.split(' ').map(|name| (name.to_owned(), "text".to_owned())).collect()
        };
        let changed = |old: &str, new: &str| values_changed(&columns(old), &columns(new));
        assert!(!changed("a b c", "a b c") && !changed("a b c", "a c"));
        assert!(changed("a b", "a b c") && changed("a b", "a c") && changed("a b", "b a"));
        let number = vec![("a".to_owned(), "integer".to_owned())];
        assert!(values_changed(&columns("a"), &number));
    }

    #[test]
    fn requests_stay_until_they_are_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "shop".parse().unwrap();
        let state = State::open(dir.path(), &stream).unwrap();
        let ask = |table: &str| request(dir.path(), &Request::Snapshot(vec![table.into()])).unwrap();
        let asked = |state: &State| -> Vec<Option<Request>> {
            state.requests().unwrap().into_iter().map(|(_, request)| request).collect()
        };
        ask("public.t");
        ask("all");
        assert!(!state.wants_snapshot_all().unwrap());
        let seen = state.requests().unwrap();
        // A kill before anything was recorded.
        drop(state);
        let state = State::open(dir.path(), &stream).unwrap();
        assert_eq!(state.requests().unwrap(), seen);
        // One that comes between reading and dropping.
        ask("public.u");
        state.drop_requests(seen[1].0).unwrap();
        assert_eq!(asked(&state), [Some(Request::Snapshot(vec!["public.u".into()]))]);
        request(dir.path(), &Request::SnapshotAll).unwrap();
        state.with(|db| db.execute("INSERT INTO requests (what) VALUES ('{\"later\":1}')", [])).unwrap();
        assert_eq!(asked(&state)[1..], [Some(Request::SnapshotAll), None]);
        assert!(state.wants_snapshot_all().unwrap());
        state.start_over().unwrap();
        assert!(!state.wants_snapshot_all().unwrap() && asked(&state).is_empty());
        assert!(request(&dir.path().join("absent"), &Request::SnapshotAll).is_err());
    }
}
