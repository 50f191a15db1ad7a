//! Jobs that a command leaves and the running publisher does.

use rowbridge_schema::{EndpointName, Position};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::claim::give_back;
use super::filter::LetterFilter;
use super::label::{labels, parsed, parsed_or_null, signed, unreadable, unsigned};
use super::now_ms;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// A command has left it.
    Queued,
    /// The publisher does it, or was killed while it did.
    Running,
    /// The publisher has done all of it.
    Done,
    /// A command has called it off.
    Cancelled,
    /// The publisher cannot do it; `error` says why.
    Failed,
}

labels!(JobState {
    Queued = "queued",
    Running = "running",
    Done = "done",
    Cancelled = "cancelled",
    Failed = "failed",
});

impl JobState {
    /// Whether something is still to be done.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// A part of the stream to send again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// First position, itself included.
    pub from: Option<Position>,
    /// Last position, itself included; left out, as far as the endpoint is when the job begins.
    pub to: Option<Position>,
    /// Committed at or after.
    pub since_ms: Option<i64>,
    /// Committed before.
    pub until_ms: Option<i64>,
    /// Events a second; no limit if left out.
    pub per_second: Option<u32>,
    /// Only of these tables, patterns as in `source.tables`; all of the endpoint's if empty.
    pub tables: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobSpec {
    /// Send dead letters again; see [`super::Recorder::claim`].
    Retry {
        /// Which of the endpoint's.
        letters: LetterFilter,
    },
    /// Send a part of the stream again, marked as replay.
    Replay(Replay),
    /// Send one sample event; see [`super::Recorder::finish_test`].
    Test,
}

impl JobSpec {
    /// `retry`, `replay` or `test`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Replay(_) => "replay",
            Self::Test => "test",
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last position that was settled: where a replay that was cut short goes on.
    pub position: Option<Position>,
    /// Events or letters that were delivered.
    pub sent: u64,
    /// Those that were not.
    pub failed: u64,
    /// All of them, where that is known.
    pub total: Option<u64>,
}

/// How a job ended, as the publisher says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// All of it was tried.
    Done,
    /// It cannot be done.
    Failed {
        /// Why, without secrets.
        error: String,
    },
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub endpoint: EndpointName,
    /// What is to be done.
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
    /// When it was left.
    pub created_at_ms: i64,
    /// When the publisher began with it first.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub finished_at_ms: Option<i64>,
    /// How far it is.
    pub progress: Progress,
    /// The attempt that a test made.
    pub attempt: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
}

const COLUMNS: &str =
    "SELECT id, endpoint, spec, state, created_at, started_at, finished_at, position, sent, failed, total,
    attempt, error FROM jobs";

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let spec: String = row.get(2)?;
    Ok(Job {
        id: row.get(0)?,
        endpoint: parsed(row, 1)?,
        spec: serde_json::from_str(&spec).map_err(|error| unreadable(2, error))?,
        state: row.get(3)?,
        created_at_ms: row.get(4)?,
        started_at_ms: row.get(5)?,
        finished_at_ms: row.get(6)?,
        progress: Progress {
            position: parsed_or_null(row, 7)?,
            sent: unsigned(row, 8)?,
            failed: unsigned(row, 9)?,
            total: row.get::<_, Option<i64>>(10)?.map(i64::unsigned_abs),
        },
        attempt: row.get(11)?,
        error: row.get(12)?,
    })
}

/// Leaves a job; the number is never used again.
pub(super) fn ask(db: &Connection, endpoint: &EndpointName, spec: &JobSpec) -> rusqlite::Result<i64> {
    let spec = serde_json::to_string(spec)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    db.execute(
        "INSERT INTO jobs (endpoint, spec, state, created_at) VALUES (?1, ?2, 'queued', ?3)",
        params![endpoint.as_str(), spec, now_ms()],
    )?;
    Ok(db.last_insert_rowid())
}

/// One job.
pub(super) fn get(db: &Connection, id: i64) -> rusqlite::Result<Option<Job>> {
    db.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id], read).optional()
}

/// One job, if it runs.
pub(super) fn running(db: &Connection, id: i64) -> rusqlite::Result<Option<Job>> {
    Ok(get(db, id)?.filter(|job| job.state == JobState::Running))
}

/// What is to be done, in the order in which it was asked for.
pub(super) fn open(db: &Connection) -> rusqlite::Result<Vec<Job>> {
    let sql = format!("{COLUMNS} WHERE state IN ('queued', 'running') ORDER BY id");
    db.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// The newest first; of one kind (`retry`, `replay`, `test`) or of all.
pub(super) fn list(db: &Connection, kind: Option<&str>, limit: u32) -> rusqlite::Result<Vec<Job>> {
    let sql = format!("{COLUMNS} WHERE ?1 IS NULL OR spec ->> 'kind' = ?1 ORDER BY id DESC LIMIT {limit}");
    db.prepare(&sql)?.query_map([kind], read)?.collect()
}

/// Begins, or goes on after a kill. `None`: it was called off, or has ended.
pub(super) fn start(db: &Connection, id: i64) -> rusqlite::Result<Option<Job>> {
    db.execute(
        "UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?2) WHERE id = ?1
         AND state IN ('queued', 'running')",
        [id, now_ms()],
    )?;
    give_back(db, id)?;
    running(db, id)
}

/// Writes down how far it is; false: it was called off.
pub(super) fn progress(db: &Connection, id: i64, progress: &Progress) -> rusqlite::Result<bool> {
    let Progress { position, sent, failed, total } = progress;
    let position = position.map(|position| position.to_string());
    let changed = db
        .prepare_cached(
            "UPDATE jobs SET position = coalesce(?2, position), sent = ?3, failed = ?4, total = ?5
             WHERE id = ?1 AND state = 'running'",
        )?
        .execute(params![id, position, signed(*sent), signed(*failed), total.map(signed)])?;
    Ok(changed == 1)
}

/// Ends it; false: it had ended, or was called off.
pub(super) fn finish(db: &Connection, id: i64, end: &JobEnd, attempt: Option<i64>) -> rusqlite::Result<bool> {
    let (state, error) = match end {
        JobEnd::Done => (JobState::Done, None),
        JobEnd::Failed { error } => (JobState::Failed, Some(error)),
    };
    let changed = db.execute(
        "UPDATE jobs SET state = ?2, finished_at = ?3, error = ?4, attempt = ?5 WHERE id = ?1
         AND state IN ('queued', 'running')",
        params![id, state, now_ms(), error, attempt],
    )?;
    give_back(db, id)?;
    Ok(changed == 1)
}

/// Calls it off; false: it had ended. What it has in hand waits again.
pub(super) fn cancel(db: &Connection, id: i64) -> rusqlite::Result<bool> {
    let changed = db.execute(
        "UPDATE jobs SET state = 'cancelled', finished_at = ?2 WHERE id = ?1 AND state IN ('queued', 'running')",
        [id, now_ms()],
    )?;
    give_back(db, id)?;
    Ok(changed == 1)
}
