//! `rowbridge check` and `rowbridge teardown` for a SQLite target.

use rowbridge_schema::StreamName;
use rowbridge_schema::sql::ident;

use super::error::SqliteError;
use super::progress::{self, CREATE_SQL};
use super::session::Session;
use super::{SqliteTarget, blocking};
use crate::apply::{CheckItem, collection};

const HAS_PROGRESS: &str = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' \
     AND name = 'rowbridge_progress' COLLATE NOCASE)";

impl SqliteTarget {
    /// Opens the file and looks at it. Changes nothing: a missing file that may be made is not made.
    ///
    /// # Errors
    /// A file that cannot be opened, is locked, or cannot be written.
    pub async fn check(&self) -> Result<Vec<CheckItem>, SqliteError> {
        if self.create && !self.path.exists() {
            return Ok(vec![self.folder()]);
        }
        blocking(|| self.inspect(&Session::open(&self.path, false, self.busy_timeout)?))
    }

    fn folder(&self) -> CheckItem {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let missing = folder.filter(|folder| !folder.is_dir());
        let path = self.path.display();
        CheckItem {
            subject: "file",
            fine: missing.is_none(),
            finding: match missing {
                Some(_) => format!("the folder of {path} does not exist"),
                None => format!("{path} does not exist yet and will be made"),
            },
            fix: missing.map(|folder| format!("mkdir -p {}", folder.display())),
        }
    }

    fn inspect(&self, session: &Session) -> Result<Vec<CheckItem>, SqliteError> {
        let conn = &session.conn;
        let failed = |source| session.failed("checking the target", source);
        let mut items = Vec::new();
        let mut item = |subject, fine, finding: String, fix: Option<String>| {
            items.push(CheckItem { subject, fine, finding, fix });
        };
        // Proves the lock and the right to write, and leaves nothing behind.
        session.begin()?;
        let written = conn.execute_batch("PRAGMA main.user_version = 0x7fffffff");
        session.rollback();
        written.map_err(failed)?;
        item("file", true, format!("{} can be written", session.path().display()), None);

        let mode: String =
            conn.query_row("PRAGMA main.journal_mode", [], |row| row.get(0)).map_err(failed)?;
        let wal = mode == "wal";
        let finding =
            if wal { mode } else { format!("{mode}: readers and the subscriber wait for each other") };
        item("journal mode", wal, finding, (!wal).then(|| "PRAGMA journal_mode = WAL".to_owned()));

        let exists: bool = conn.query_row(HAS_PROGRESS, [], |row| row.get(0)).map_err(failed)?;
        let (finding, fix) = match (exists, self.create) {
            (true, _) => ("exists", None),
            (false, true) => ("will be made", None),
            (false, false) => ("is missing", Some(CREATE_SQL.to_owned())),
        };
        item("rowbridge_progress", exists || self.create, finding.to_owned(), fix);

        let mut statement = conn
            .prepare("SELECT tbl_name, name FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY 1, 2")
            .map_err(failed)?;
        let triggers = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(failed)?;
        for (table, trigger) in triggers {
            let finding = format!(
                "{trigger:?} on {table:?} fires for rows that are applied: SQLite has no replica role"
            );
            let fix = format!("DROP TRIGGER {}, if the source has already done its work", ident(&trigger));
            item("trigger", false, finding, Some(fix));
        }
        Ok(items)
    }

    /// What Rowbridge made for itself in the target: the progress of these streams, the keys that their unfinished
    /// re-snapshots have met, and the table that holds progress when no other stream has any. With `run`, removes it. Tables of replicated rows are the operator's and stay.
    ///
    /// # Errors
    /// A file that cannot be opened, is locked, or cannot be written; nothing was removed then.
    pub async fn teardown(&self, streams: &[StreamName], run: bool) -> Result<Vec<String>, SqliteError> {
        blocking(|| {
            let session = Session::open(&self.path, false, self.busy_timeout)?;
            session.begin()?;
            let made = forget(&session, streams, run).inspect_err(|_| session.rollback())?;
            session.commit()?;
            Ok(made)
        })
    }
}

fn forget(session: &Session, streams: &[StreamName], run: bool) -> Result<Vec<String>, SqliteError> {
    let conn = &session.conn;
    let work = || -> rusqlite::Result<Vec<String>> {
        let mut listed = Vec::new();
        for stream in streams {
            for name in progress::tables(conn, &collection::of_stream(stream))? {
                if run {
                    conn.execute_batch(&format!("DROP TABLE main.{}", ident(&name)))?;
                }
                listed.push(format!("table {name}"));
            }
        }
        if !conn.query_row(HAS_PROGRESS, [], |row| row.get::<_, bool>(0))? {
            return Ok(listed);
        }
        let mut statement =
            conn.prepare("SELECT stream, endpoint FROM main.rowbridge_progress ORDER BY 1, 2")?;
        let lanes = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let is_ours = |stream: &String| streams.iter().any(|ours| ours.as_str() == stream);
        let mut made: Vec<String> = lanes
            .iter()
            .filter(|(stream, _)| is_ours(stream))
            .map(|(stream, endpoint)| format!("progress of stream {stream}, endpoint {endpoint}"))
            .collect();
        made.extend(listed);
        let all = lanes.iter().all(|(stream, _)| is_ours(stream));
        if all {
            made.push("table rowbridge_progress".to_owned());
        }
        drop(statement);
        if run && all {
            conn.execute_batch("DROP TABLE main.rowbridge_progress")?;
        } else if run {
            for stream in streams {
                conn.execute("DELETE FROM main.rowbridge_progress WHERE stream = ?1", [stream.as_str()])?;
            }
        }
        Ok(made)
    };
    work().map_err(|source| session.failed("removing progress", source))
}
