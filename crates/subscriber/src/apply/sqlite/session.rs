//! A connection to a target file: settings that make writes durable and free of side effects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{SqliteError, failed};

/// How long a statement waits for the write lock. The publisher tries again after that.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared. A delivery of many tables needs a few for each.
const MAX_STATEMENTS: usize = 512;

/// One connection with what is known of its file.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: Connection,
    path: PathBuf,
    file: Option<FileId>,
}

/// Which file a path led to. Unix keeps serving a deleted file to whoever has it open, so that writes to it would be
/// acknowledged and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).ok().map(|meta| Self(meta.dev(), meta.ino()))
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<Self> {
        path.exists().then_some(Self(0, 0))
    }
}

impl Session {
    /// Opens the file; makes it, in WAL mode, if it is missing and `create` allows it. An existing file keeps its
    /// journal mode, which belongs to its owner.
    pub(super) fn open(
        path: &Path,
        create: bool,
        busy_timeout: Option<Duration>,
    ) -> Result<Self, SqliteError> {
        let is_new = FileId::of(path).is_none();
        if is_new && !create {
            return Err(SqliteError::Missing { path: path.to_path_buf() });
        }
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let doing = "opening";
        let fail = |source| failed(path, doing, source);
        let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
        conn.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
        conn.busy_timeout(busy_timeout.unwrap_or(BUSY_TIMEOUT)).map_err(fail)?;
        if is_new {
            conn.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        }
        // EXTRA is FULL in WAL mode; with a rollback journal it also syncs the folder after the journal is gone, without
        // which an acknowledged commit can come undone at a power cut. Cascades have already happened at the source.
        conn.execute_batch(
            "PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;",
        )
        .map_err(fail)?;
        // Reads the header, so that a file that is no database is found now.
        conn.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)).map_err(fail)?;
        Ok(Self { conn, path: path.to_path_buf(), file: FileId::of(path) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Classes an error that says nothing about the data.
    pub(super) fn failed(&self, doing: &'static str, source: rusqlite::Error) -> SqliteError {
        failed(&self.path, doing, source)
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&self, doing: &'static str, sql: &str) -> Result<(), SqliteError> {
        self.conn.execute_batch(sql).map_err(|source| self.failed(doing, source))
    }

    /// Takes the write lock. A deferred transaction could fail to upgrade in spite of the busy timeout.
    pub(super) fn begin(&self) -> Result<(), SqliteError> {
        if FileId::of(&self.path) != self.file {
            return Err(SqliteError::Moved { path: self.path.clone() });
        }
        self.batch("beginning", "BEGIN IMMEDIATE")
    }

    /// Commits; rolls back if that fails, so that nothing is left behind.
    pub(super) fn commit(&self) -> Result<(), SqliteError> {
        let committed = self.batch("committing", "COMMIT");
        if committed.is_err() {
            self.rollback();
        }
        committed
    }

    /// Ends the transaction without effect. SQLite may have rolled back by itself (disk full, I/O error).
    pub(super) fn rollback(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::warn!(error = %error, path = %self.path.display(), "rollback failed");
        }
    }

    /// Changes whenever somebody alters the schema.
    pub(super) fn schema_version(&self) -> Result<i64, SqliteError> {
        self.conn
            .prepare_cached("PRAGMA main.schema_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|source| self.failed("reading the schema version", source))
    }
}
