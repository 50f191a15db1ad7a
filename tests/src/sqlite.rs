//! SQLite files for tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

/// A database file in a temporary folder, in WAL mode as any application that shares its file with us would have it.
#[derive(Debug)]
pub struct SqliteFile {
    folder: TempDir,
    path: PathBuf,
}

/// A copy of a database file.
#[derive(Debug)]
pub struct SqliteBackup {
    folder: TempDir,
}

impl SqliteFile {
    /// Makes an empty database `NAME.db`.
    ///
    /// # Panics
    /// When the folder or the file cannot be made.
    #[must_use]
    pub fn create(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("rowbridge-sqlite-").tempdir().unwrap();
        let path = folder.path().join(format!("{name}.db"));
        let file = Self { folder, path };
        let mode: String = file.open().query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        file
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds the file and nothing of another database.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The form that a configuration takes: `sqlite:/path/file.db`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    /// A new connection that waits up to 10 s for other writers and checks foreign keys.
    ///
    /// # Panics
    /// When the file cannot be opened.
    #[must_use]
    pub fn open(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL").unwrap();
        connection
    }

    /// Runs statements on a connection of its own.
    ///
    /// # Panics
    /// When one fails, with its message.
    pub fn execute(&self, sql: &str) {
        if let Err(error) = self.open().execute_batch(sql) {
            panic!("{sql}: {error}");
        }
    }

    /// One value as text; `None` for NULL or no row.
    ///
    /// # Panics
    /// When the query fails.
    #[must_use]
    pub fn query_text(&self, sql: &str) -> Option<String> {
        let sql = format!("SELECT CAST(({sql}) AS TEXT)");
        self.open().query_row(&sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// How many rows a table has; `None` when there is no such table.
    #[must_use]
    pub fn count(&self, table: &str) -> Option<u64> {
        let sql = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
        self.open().query_row(&sql, [], |row| row.get::<_, i64>(0)).ok().map(i64::unsigned_abs)
    }

    /// A copy of the database as it is now, taken by the server's own means while others may write.
    ///
    /// # Panics
    /// When the copy fails.
    #[must_use]
    pub fn backup(&self) -> SqliteBackup {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        self.open().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        SqliteBackup { folder }
    }

    /// Puts the file back to a copy, as an operator would: nobody may have it open, and its WAL goes too.
    ///
    /// # Panics
    /// When the files cannot be replaced.
    pub fn restore(&self, backup: &SqliteBackup) {
        for suffix in ["-wal", "-shm"] {
            let mut side = self.path.clone().into_os_string();
            side.push(suffix);
            let _ = std::fs::remove_file(side);
        }
        std::fs::remove_file(&self.path).unwrap();
        std::fs::copy(backup.folder.path().join("copy.db"), &self.path).unwrap();
        let _: String = self.open().query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    }
}
