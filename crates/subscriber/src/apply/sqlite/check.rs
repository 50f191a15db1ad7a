//! What an operator should know of a target before rows arrive, and taking away what Rowbridge made there.

use rowbridge_schema::Classified as _;
use rowbridge_schema::StreamName;

use super::error::SqliteError;
use super::progress::CREATE_SQL;
use super::session::Session;
use super::{SqliteTarget, blocking};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Works, but a person should know.
    Warning,
    /// Deliveries will fail.
    Failure,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What was found.
    pub text: String,
    /// What to do about it, in full sentences.
    pub hint: Option<String>,
}

impl Finding {
    fn new(severity: Severity, text: impl Into<String>) -> Self {
        Self { severity, text: text.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl SqliteTarget {
    /// Looks at the target without changing it: a missing file that may be made is not made.
    /// Blocks for at most the busy timeout.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        if !self.path.exists() && self.create {
            return vec![self.check_folder()];
        }
        let report = blocking(|| {
            let session = Session::open(&self.path, false, self.busy_timeout)?;
            self.inspect(&session)
        });
        report.unwrap_or_else(|error| {
            let finding = Finding::new(Severity::Failure, error.to_string());
            vec![Finding { hint: error.hint(), ..finding }]
        })
    }

    fn check_folder(&self) -> Finding {
        let path = self.path.display();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => {
                Finding::new(Severity::Failure, format!("the folder of {path} does not exist"))
                    .hint(format!("Run: mkdir -p {}", folder.display()))
            }
            _ => Finding::new(Severity::Fine, format!("{path} does not exist yet and will be made")),
        }
    }

    fn inspect(&self, session: &Session) -> Result<Vec<Finding>, SqliteError> {
        let conn = &session.conn;
        let failed = |source| session.failed("looking at the target", source);
        let mut report = Vec::new();
        // Proves the lock and the right to write, and leaves nothing behind.
        session.begin()?;
        let written = conn.execute_batch("PRAGMA main.user_version = 0x7fffffff");
        session.rollback();
        written.map_err(|source| session.failed("trying to write", source))?;
        report.push(Finding::new(Severity::Fine, format!("{} can be written", session.path().display())));

        let mode: String =
            conn.query_row("PRAGMA main.journal_mode", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            let text = format!("journal mode is {mode}: readers and the subscriber wait for each other");
            report.push(Finding::new(Severity::Warning, text).hint("Run once: PRAGMA journal_mode = WAL"));
        }
        let has_progress: bool = conn
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' \
                 AND name = 'rowbridge_progress' COLLATE NOCASE)",
                [],
                |row| row.get(0),
            )
            .map_err(failed)?;
        if !has_progress && !self.create {
            report.push(
                Finding::new(Severity::Failure, "the table rowbridge_progress is missing")
                    .hint(format!("Set target.create = true, or run: {CREATE_SQL}")),
            );
        }
        let mut statement = conn
            .prepare("SELECT tbl_name, name FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY 1, 2")
            .map_err(failed)?;
        let triggers = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>())
            .map_err(failed)?;
        for (table, trigger) in triggers {
            let text = format!("trigger {trigger:?} on {table:?} fires for rows that are applied");
            report.push(Finding::new(Severity::Warning, text).hint(
                "SQLite cannot switch triggers off for one connection. Drop it if the source already does its work.",
            ));
        }
        Ok(report)
    }

    /// What Rowbridge made for itself in the target: the progress of these streams, and the table that holds it when no
    /// other stream has any. With `run`, removes it. Tables of replicated rows are the operator's and stay.
    ///
    /// # Errors
    /// See [`SqliteError`]; nothing was changed.
    pub fn teardown(&self, streams: &[StreamName], run: bool) -> Result<Vec<String>, SqliteError> {
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
        let exists: bool = conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'rowbridge_progress')",
            [],
            |row| row.get(0),
        )?;
        if !exists {
            return Ok(Vec::new());
        }
        let mut statement =
            conn.prepare("SELECT stream, endpoint FROM main.rowbridge_progress ORDER BY 1, 2")?;
        let lanes = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        drop(statement);
        let is_ours = |stream: &String| streams.iter().any(|ours| ours.as_str() == stream);
        let mut made: Vec<String> = lanes
            .iter()
            .filter(|(stream, _)| is_ours(stream))
            .map(|(stream, endpoint)| format!("progress of stream {stream}, endpoint {endpoint}"))
            .collect();
        let all = lanes.iter().all(|(stream, _)| is_ours(stream));
        if all {
            made.push("table rowbridge_progress".to_owned());
        }
        if run && all {
            conn.execute_batch("DROP TABLE main.rowbridge_progress")?;
        } else if run {
            for stream in streams {
                conn.execute("DELETE FROM main.rowbridge_progress WHERE stream = ?1", [stream.as_str()])?;
            }
        }
        Ok(made)
    };
    work().map_err(|source| session.failed("forgetting a stream", source))
}
