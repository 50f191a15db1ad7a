//! How endpoints are doing, and what has changed about it.

use rowbridge_schema::EndpointName;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::EVENTS_KEPT;
use super::label::{labels, parsed};

/// An endpoint as the file knows it. A name that the file does not know is one about which nothing has happened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    /// Its name.
    pub name: EndpointName,
    /// Events are held since then, because an operator wants it. Set by commands, obeyed by the publisher.
    pub paused_at_ms: Option<i64>,
    /// Nothing is sent any more since then, because the receiver or its failures ended it.
    pub disabled_at_ms: Option<i64>,
    /// Why.
    pub disabled_reason: Option<String>,
    /// Deliveries fail since then.
    pub failing_since_ms: Option<i64>,
    /// The breaker holds events since then.
    pub breaker_open_since_ms: Option<i64>,
    /// Begin of the last attempt of the stream that delivered. Up to a second late.
    pub last_success_at_ms: Option<i64>,
    /// Begin of the last one that did not.
    pub last_failure_at_ms: Option<i64>,
    /// What went wrong then.
    pub last_error: Option<String>,
}

impl EndpointRow {
    /// One about which nothing has happened yet.
    #[must_use]
    pub fn new(name: EndpointName) -> Self {
        Self {
            name,
            paused_at_ms: None,
            disabled_at_ms: None,
            disabled_reason: None,
            failing_since_ms: None,
            breaker_open_since_ms: None,
            last_success_at_ms: None,
            last_failure_at_ms: None,
            last_error: None,
        }
    }
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Deliveries begin to fail.
    Failing,
    /// They work again.
    Recovered,
    /// Nothing is sent any more.
    Disabled,
    /// An operator has enabled it again.
    Enabled,
    /// An operator holds its events.
    Paused,
    /// They go on.
    Resumed,
    /// Too many failures: the breaker holds its events.
    BreakerOpened,
    /// They go on.
    BreakerClosed,
}

labels!(EventKind {
    Failing = "failing",
    Recovered = "recovered",
    Disabled = "disabled",
    Enabled = "enabled",
    Paused = "paused",
    Resumed = "resumed",
    BreakerOpened = "breaker_opened",
    BreakerClosed = "breaker_closed",
});

/// What is to change about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointChange {
    /// What.
    pub kind: EventKind,
    /// Why, without secrets.
    pub reason: Option<String>,
}

impl EndpointChange {
    /// A change that needs no reason.
    #[must_use]
    pub fn new(kind: EventKind) -> Self {
        Self { kind, reason: None }
    }

    /// A change and why.
    pub fn because(kind: EventKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: Some(reason.into()) }
    }
}

/// One entry of the list that alert endpoints receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEvent {
    /// Rises by at least one; a reader's cursor is the last one that it has.
    pub id: i64,
    /// When.
    pub at_ms: i64,
    /// About whom.
    pub endpoint: EndpointName,
    /// What changed.
    pub kind: EventKind,
    /// Why.
    pub reason: Option<String>,
}

/// Changes an endpoint and appends the event; false if it already was so, and then nothing happens.
pub(super) fn change(
    db: &Connection,
    endpoint: &EndpointName,
    change: &EndpointChange,
    at_ms: i64,
) -> rusqlite::Result<bool> {
    let (set, if_news) = match change.kind {
        EventKind::Failing => ("failing_since = news.at", "failing_since IS NULL"),
        EventKind::Recovered => ("failing_since = NULL", "failing_since IS NOT NULL"),
        EventKind::Disabled => {
            ("disabled_at = news.at, disabled_reason = news.reason", "disabled_at IS NULL")
        }
        // Whoever enables it wants it tried now.
        EventKind::Enabled => (
            "disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, breaker_open_since = NULL",
            "disabled_at IS NOT NULL",
        ),
        EventKind::Paused => ("paused_at = news.at", "paused_at IS NULL"),
        EventKind::Resumed => ("paused_at = NULL", "paused_at IS NOT NULL"),
        EventKind::BreakerOpened => ("breaker_open_since = news.at", "breaker_open_since IS NULL"),
        EventKind::BreakerClosed => ("breaker_open_since = NULL", "breaker_open_since IS NOT NULL"),
    };
    let name = endpoint.as_str();
    db.prepare_cached("INSERT INTO endpoints (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([name])?;
    let sql = format!(
        "UPDATE endpoints SET {set} FROM (SELECT ?2 AS at, ?3 AS reason) AS news WHERE name = ?1 AND {if_news}"
    );
    if db.prepare_cached(&sql)?.execute(params![name, at_ms, change.reason])? == 0 {
        return Ok(false);
    }
    db.prepare_cached("INSERT INTO endpoint_events (at, endpoint, kind, reason) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![at_ms, name, change.kind, change.reason])?;
    db.prepare_cached("DELETE FROM endpoint_events WHERE id <= (SELECT max(id) FROM endpoint_events) - ?1")?
        .execute([EVENTS_KEPT])?;
    Ok(true)
}

/// What attempts of the stream have told since the last time.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    pub(super) success_at_ms: Option<i64>,
    pub(super) failure: Option<(i64, Option<String>)>,
}

/// Writes down when an endpoint last worked and failed.
pub(super) fn set_health(db: &Connection, endpoint: &EndpointName, health: &Health) -> rusqlite::Result<()> {
    let (failure_at, error) = health.failure.clone().unzip();
    db.prepare_cached(
        "INSERT INTO endpoints (name, last_success_at, last_failure_at, last_error) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET last_success_at = coalesce(excluded.last_success_at, last_success_at),
         last_error = iif(excluded.last_failure_at IS NULL, last_error, excluded.last_error),
         last_failure_at = coalesce(excluded.last_failure_at, last_failure_at)",
    )?
    .execute(params![endpoint.as_str(), health.success_at_ms, failure_at, error.flatten()])?;
    Ok(())
}

const COLUMNS: &str =
    "SELECT name, paused_at, disabled_at, disabled_reason, failing_since, breaker_open_since,
    last_success_at, last_failure_at, last_error FROM endpoints";

fn read(row: &Row<'_>) -> rusqlite::Result<EndpointRow> {
    Ok(EndpointRow {
        name: parsed(row, 0)?,
        paused_at_ms: row.get(1)?,
        disabled_at_ms: row.get(2)?,
        disabled_reason: row.get(3)?,
        failing_since_ms: row.get(4)?,
        breaker_open_since_ms: row.get(5)?,
        last_success_at_ms: row.get(6)?,
        last_failure_at_ms: row.get(7)?,
        last_error: row.get(8)?,
    })
}

/// All that the file knows, by name.
pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<EndpointRow>> {
    db.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?.query_map([], read)?.collect()
}

/// One of them.
pub(super) fn get(db: &Connection, name: &EndpointName) -> rusqlite::Result<Option<EndpointRow>> {
    db.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?.query_row([name.as_str()], read).optional()
}

/// Events behind a cursor, the oldest first.
pub(super) fn events(db: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<EndpointEvent>> {
    let mut statement = db.prepare_cached(
        "SELECT id, at, endpoint, kind, reason FROM endpoint_events WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let read = |row: &Row<'_>| {
        Ok(EndpointEvent {
            id: row.get(0)?,
            at_ms: row.get(1)?,
            endpoint: parsed(row, 2)?,
            kind: row.get(3)?,
            reason: row.get(4)?,
        })
    };
    statement.query_map(params![after, limit], read)?.collect()
}

/// The number of the newest event; 0 before the first one.
pub(super) fn last_event(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(id), 0) FROM endpoint_events", [], |row| row.get(0))
}

/// How far a reader of the events is; `None` for one that never read.
pub(super) fn cursor(db: &Connection, reader: &str) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT event FROM cursors WHERE reader = ?1", [reader], |row| row.get(0)).optional()
}

/// Moves a reader on, never back.
pub(super) fn set_cursor(db: &Connection, reader: &str, event: i64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT (reader) DO UPDATE SET event = max(event, excluded.event)",
        params![reader, event],
    )?;
    Ok(())
}
