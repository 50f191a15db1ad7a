//! The file's layout, and how it is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::StoreError;
use super::size::PAGE;

/// Rises with every change of the layout that a version before cannot use.
const LAYOUT: i64 = 2;
/// Commands hold the file for milliseconds; a person with a shell may hold it longer.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    -- endpoints and tables of attempts: said millions of times, so by number
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY, endpoint INTEGER NOT NULL, table_name INTEGER,
        webhook_id TEXT NOT NULL,
        event TEXT,     -- NULL: the webhook id is the event's
        events INTEGER NOT NULL,
        position TEXT,  -- NULL: the webhook id ends with it
        attempt INTEGER NOT NULL, started_at INTEGER NOT NULL,
        outcome TEXT NOT NULL, status INTEGER, class TEXT, error TEXT,
        dns INTEGER, connect INTEGER, tls INTEGER, first_byte INTEGER, total INTEGER NOT NULL,
        request_bytes INTEGER NOT NULL,
        origin TEXT,    -- NULL: the stream
        bytes INTEGER NOT NULL) STRICT;
    CREATE INDEX attempts_endpoint ON attempts (endpoint);
    CREATE INDEX attempts_failed ON attempts (id) WHERE outcome <> 'delivered';
    -- apart from their attempts, so that they can leave before them and take whole pages along
    CREATE TABLE excerpts (attempt INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, webhook_id TEXT NOT NULL,
        event TEXT NOT NULL, events INTEGER NOT NULL, position TEXT NOT NULL, table_name TEXT, op TEXT, key TEXT,
        content_type TEXT NOT NULL, headers TEXT NOT NULL,
        class TEXT, reason TEXT NOT NULL, status INTEGER, attempts INTEGER NOT NULL,
        first_at INTEGER NOT NULL, dead_at INTEGER NOT NULL, done_at INTEGER,
        state TEXT NOT NULL CHECK (state IN ('dead', 'retrying', 'done')), job INTEGER,
        bytes INTEGER NOT NULL,
        body BLOB NOT NULL,  -- at the end, so that nobody reads past it
        source TEXT,         -- events of a template, as JSON
        UNIQUE (endpoint, webhook_id)) STRICT;
    CREATE INDEX dead_letters_state ON dead_letters (state);

    CREATE TABLE totals (what TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
    INSERT INTO totals VALUES ('attempts', 0), ('excerpts', 0), ('dead_letters', 0);
    -- whichever process changes letters, the sum holds
    CREATE TRIGGER letter_in AFTER INSERT ON dead_letters BEGIN
        UPDATE totals SET bytes = bytes + new.bytes WHERE what = 'dead_letters'; END;
    CREATE TRIGGER letter_out AFTER DELETE ON dead_letters BEGIN
        UPDATE totals SET bytes = bytes - old.bytes WHERE what = 'dead_letters'; END;
    CREATE TRIGGER letter_changed AFTER UPDATE OF bytes ON dead_letters BEGIN
        UPDATE totals SET bytes = bytes + new.bytes - old.bytes WHERE what = 'dead_letters'; END;

    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, spec TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
        created_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
        position TEXT, sent INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, total INTEGER,
        letter INTEGER NOT NULL DEFAULT 0,  -- the last dead letter that was claimed
        attempt INTEGER, error TEXT) STRICT;
    CREATE INDEX jobs_open ON jobs (id) WHERE state IN ('queued', 'running');

    CREATE TABLE endpoints (
        name TEXT PRIMARY KEY, paused_at INTEGER, disabled_at INTEGER, disabled_reason TEXT, failing_since INTEGER,
        breaker_open_since INTEGER, last_success_at INTEGER, last_failure_at INTEGER, last_error TEXT) STRICT;
    CREATE TABLE endpoint_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, endpoint TEXT NOT NULL, kind TEXT NOT NULL,
        reason TEXT) STRICT;
    CREATE TABLE cursors (reader TEXT PRIMARY KEY, event INTEGER NOT NULL) STRICT;";

/// Opens the file; makes it if `create`.
pub(super) fn open(path: &Path, create: bool) -> Result<Connection, StoreError> {
    if !create && !path.exists() {
        return Err(StoreError::Absent { path: path.to_owned() });
    }
    let failed = |source| StoreError::Database { path: path.to_owned(), source: Arc::new(source) };
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
    let layout = prepare(&mut db).map_err(failed)?;
    if layout > LAYOUT {
        return Err(StoreError::Newer { path: path.to_owned(), found: layout, known: LAYOUT });
    }
    Ok(db)
}

fn prepare(db: &mut Connection) -> rusqlite::Result<i64> {
    db.busy_timeout(BUSY)?;
    // The first two take effect in a new file only, and only before it has a table.
    db.execute_batch(&format!(
        "PRAGMA page_size = {PAGE}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;"
    ))?;
    db.set_prepared_statement_cache_capacity(64);
    let layout = |db: &Connection| db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    if layout(db)? == 0 {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        if layout(&transaction)? == 0 {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        }
        transaction.commit()?;
    }
    if layout(db)? == 1 {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if layout(&transaction)? == 1 {
            transaction.execute_batch("ALTER TABLE dead_letters ADD COLUMN source TEXT")?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        }
        transaction.commit()?;
    }
    layout(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_earlier_layout_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deliveries.db");
        let db = open(&path, true).unwrap();
        db.execute_batch("ALTER TABLE dead_letters DROP COLUMN source; PRAGMA user_version = 1").unwrap();
        drop(db);
        let db = open(&path, false).unwrap();
        db.execute_batch("SELECT source FROM dead_letters").unwrap();
        assert_eq!(prepare(&mut open(&path, false).unwrap()).unwrap(), LAYOUT);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deliveries.db");
        assert!(matches!(open(&path, false), Err(StoreError::Absent { .. })));
        assert!(!path.exists());
        std::fs::write(&path, [7u8; 8192]).unwrap();
        assert!(matches!(open(&path, true), Err(StoreError::Database { .. })));
        std::fs::remove_file(&path).unwrap();
        let db = open(&path, true).unwrap();
        db.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        drop(db);
        let newer = open(&path, true).unwrap_err();
        assert!(matches!(newer, StoreError::Newer { found: 3, known: 2, .. }), "{newer}");
    }

    #[test]
    fn many_may_be_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deliveries.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| open(&path, true).unwrap());
            }
        });
        let db = open(&path, false).unwrap();
        let auto_vacuum: i64 = db.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap();
        assert_eq!(auto_vacuum, 2);
    }
}
