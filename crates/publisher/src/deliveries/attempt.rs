//! The attempt log: one row per HTTP request.

use rowbridge_schema::{EndpointName, Position};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::filter::Where;
use super::label::{labels, parsed, signed, unsigned};
use super::size::stored_bytes;

/// Most bytes of a response that are kept.
pub const MAX_EXCERPT: usize = 8 * 1024;
/// Most bytes of an error's text that are kept.
const MAX_ERROR: usize = 1024;
/// Numbers of a row, its record header, and its entries in the indexes.
const ROW_OVERHEAD: usize = 90;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It will be tried again.
    Retry,
    /// It will not be tried again: a dead letter, or a halted lane.
    Permanent,
    /// It could be tried again, but its retries or its age are used up: a dead letter.
    Expired,
    /// The answer disabled the endpoint.
    Disabled,
    /// It was given up before it ended, because the publisher stops or the endpoint was paused.
    Abandoned,
}

labels!(Outcome {
    Delivered = "delivered",
    Retry = "retry",
    Permanent = "permanent",
    Expired = "expired",
    Disabled = "disabled",
    Abandoned = "abandoned",
});

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// The stream came there.
    #[default]
    Stream,
    /// An operator retried a dead letter.
    Retry,
    /// An operator replays a part of the stream.
    Replay,
    /// `rowbridge endpoint test`
    Test,
}

labels!(Origin { Stream = "stream", Retry = "retry", Replay = "replay", Test = "test" });

/// Where the time went, in microseconds. `None`: that phase did not happen, for example on a connection that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Looking up the name.
    pub dns_us: Option<u64>,
    /// TCP.
    pub connect_us: Option<u64>,
    /// TLS.
    pub tls_us: Option<u64>,
    /// From the request's last byte to the answer's first one.
    pub first_byte_us: Option<u64>,
    /// The whole exchange.
    pub total_us: u64,
}

/// One HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whom it went to.
    pub endpoint: EndpointName,
    /// The delivery.
    pub webhook_id: String,
    /// Id of its first event; `None`: it is `webhook_id`.
    pub event: Option<String>,
    /// How many events it carries.
    pub events: u32,
    /// Where its last event stands; `None` where there is none (a test).
    pub position: Option<Position>,
    /// The table, as raw text `schema.table`; `None` for several.
    pub table: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at_ms: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status, if one came.
    pub status: Option<u16>,
    /// Label of the error's class, from a closed set.
    pub class: Option<String>,
    /// What went wrong, without secrets. Cut at 1 KiB.
    pub error: Option<String>,
    /// Where the time went.
    pub timings: Timings,
    /// The beginning of the response's body. Cut at [`MAX_EXCERPT`].
    pub excerpt: Vec<u8>,
    /// Size of the request's body as sent.
    pub request_bytes: u64,
    /// Why it was made.
    pub origin: Origin,
}

impl Attempt {
    /// Id of the first event.
    #[must_use]
    pub fn event(&self) -> &str {
        self.event.as_deref().unwrap_or(&self.webhook_id)
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.event, &self.table, &self.class, &self.error];
        let texts: usize = texts.iter().map(|text| text.as_ref().map_or(0, String::len)).sum();
        size_of::<Self>() + self.webhook_id.len() + texts + self.excerpt.len()
    }
}

/// An attempt with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Rises with time.
    pub id: i64,
    /// What was recorded.
    pub attempt: Attempt,
}

/// Which attempts. The default is the newest hundred of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFilter {
    /// Of this endpoint.
    pub endpoint: Option<EndpointName>,
    /// Only those that did not deliver.
    pub failed: bool,
    /// Begun at or after.
    pub since_ms: Option<i64>,
    /// Begun before.
    pub until_ms: Option<i64>,
    /// That carried this event, or that are of this delivery (`webhook-id`).
    pub event: Option<String>,
    /// Older than this attempt: the next page.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl Default for AttemptFilter {
    fn default() -> Self {
        Self {
            endpoint: None,
            failed: false,
            since_ms: None,
            until_ms: None,
            event: None,
            before: None,
            limit: 100,
        }
    }
}

const COLUMNS: &str = "SELECT a.id, e.name, a.webhook_id, a.event, a.events, a.position, t.name, a.attempt, a.started_at,
    a.outcome, a.status, a.class, a.error, a.dns, a.connect, a.tls, a.first_byte, a.total, a.request_bytes, a.origin, x.body
    FROM attempts a JOIN names e ON e.id = a.endpoint LEFT JOIN names t ON t.id = a.table_name
    LEFT JOIN excerpts x ON x.attempt = a.id";

/// The newest first.
pub(super) fn list(db: &Connection, filter: &AttemptFilter) -> rusqlite::Result<Vec<Recorded>> {
    let mut wanted = Where::default();
    if let Some(endpoint) = &filter.endpoint {
        wanted
            .and("a.endpoint = (SELECT id FROM names WHERE name = ?)", [endpoint.as_str().to_owned().into()]);
    }
    if filter.failed {
        wanted.and("a.outcome <> 'delivered'", []);
    }
    if let Some(since) = filter.since_ms {
        wanted.and("a.started_at >= ?", [since.into()]);
    }
    if let Some(until) = filter.until_ms {
        wanted.and("a.started_at < ?", [until.into()]);
    }
    if let Some(event) = &filter.event {
        // A batch holds what lies between its first event and its position; ids of one stream have one length and order.
        let text = || Value::from(event.clone());
        wanted.and(
            "(a.webhook_id = ? OR a.event = ? OR (a.events > 1 AND a.event < ? AND length(a.event) = length(?)
              AND substr(a.event, 1, length(a.event) - 44) || a.position >= ?))",
            [text(), text(), text(), text(), text()],
        );
    }
    if let Some(before) = filter.before {
        wanted.and("a.id < ?", [before.into()]);
    }
    let sql = format!("{COLUMNS} {} ORDER BY a.id DESC LIMIT {}", wanted.sql(), filter.limit);
    let mut statement = db.prepare(&sql)?;
    statement.query_map(wanted.params(), read)?.collect()
}

/// One attempt.
pub(super) fn get(db: &Connection, id: i64) -> rusqlite::Result<Option<Recorded>> {
    db.query_row(&format!("{COLUMNS} WHERE a.id = ?1"), [id], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let webhook_id: String = row.get(2)?;
    let position = match row.get_ref(5)?.as_str_or_null()? {
        Some(text) => text.parse().ok(),
        None => ending(&webhook_id),
    };
    let micros = |index| row.get::<_, Option<i64>>(index).map(|us| us.map(i64::unsigned_abs));
    let attempt = Attempt {
        endpoint: parsed(row, 1)?,
        event: row.get(3)?,
        events: row.get(4)?,
        position,
        table: row.get(6)?,
        attempt: row.get(7)?,
        started_at_ms: row.get(8)?,
        outcome: row.get(9)?,
        status: row.get(10)?,
        class: row.get(11)?,
        error: row.get(12)?,
        timings: Timings {
            dns_us: micros(13)?,
            connect_us: micros(14)?,
            tls_us: micros(15)?,
            first_byte_us: micros(16)?,
            total_us: unsigned(row, 17)?,
        },
        request_bytes: unsigned(row, 18)?,
        origin: row.get::<_, Option<Origin>>(19)?.unwrap_or_default(),
        excerpt: row.get::<_, Option<Vec<u8>>>(20)?.unwrap_or_default(),
        webhook_id,
    };
    Ok(Recorded { id: row.get(0)?, attempt })
}

/// The position that an event's id ends with.
fn ending(id: &str) -> Option<Position> {
    id.rsplit_once(':')?.1.parse().ok()
}

/// What an attempt adds to `totals`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Added {
    pub(super) attempts: i64,
    pub(super) excerpts: i64,
}

/// Records an attempt; endpoint and table by their numbers in `names`.
pub(super) fn insert(
    db: &Connection,
    attempt: &Attempt,
    endpoint: i64,
    table: Option<i64>,
    added: &mut Added,
) -> rusqlite::Result<i64> {
    let event = attempt.event.as_deref().filter(|event| *event != attempt.webhook_id);
    let position = attempt.position.filter(|position| ending(&attempt.webhook_id) != Some(*position));
    let position = position.map(|position| position.to_string());
    let error = attempt.error.as_deref().map(|error| cut(error, MAX_ERROR));
    let texts = [event, position.as_deref(), attempt.class.as_deref(), error];
    let texts: usize = texts.iter().map(|text| text.map_or(0, str::len)).sum();
    let bytes = stored_bytes(ROW_OVERHEAD + attempt.webhook_id.len() + texts);
    let timings = &attempt.timings;
    let origin = (attempt.origin != Origin::Stream).then_some(attempt.origin);
    db.prepare_cached(
        "INSERT INTO attempts (endpoint, table_name, webhook_id, event, events, position, attempt, started_at, outcome,
         status, class, error, dns, connect, tls, first_byte, total, request_bytes, origin, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?
    .execute(params![
        endpoint,
        table,
        attempt.webhook_id,
        event,
        attempt.events,
        position,
        attempt.attempt,
        attempt.started_at_ms,
        attempt.outcome,
        attempt.status,
        attempt.class,
        error,
        timings.dns_us.map(signed),
        timings.connect_us.map(signed),
        timings.tls_us.map(signed),
        timings.first_byte_us.map(signed),
        signed(timings.total_us),
        signed(attempt.request_bytes),
        origin,
        bytes,
    ])?;
    let id = db.last_insert_rowid();
    added.attempts += bytes;
    if !attempt.excerpt.is_empty() {
        let excerpt = &attempt.excerpt[..attempt.excerpt.len().min(MAX_EXCERPT)];
        db.prepare_cached("INSERT INTO excerpts VALUES (?1, ?2)")?.execute(params![id, excerpt])?;
        added.excerpts += excerpt_bytes(excerpt.len());
    }
    Ok(id)
}

/// What an excerpt of so many bytes adds to `totals`.
pub(super) fn excerpt_bytes(len: usize) -> i64 {
    stored_bytes(len + 4)
}

/// The beginning of a text, cut between two characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
