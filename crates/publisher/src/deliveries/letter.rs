//! Dead letters: events that wait for a person.

use rowbridge_schema::{EndpointName, Position};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Limits;
use super::attempt::cut;
use super::error::WorkError;
use super::filter::LetterFilter;
use super::label::{labels, parsed, signed, unreadable, unsigned};
use super::size::stored_bytes;

/// Most bytes of a reason that are kept.
const MAX_REASON: usize = 4 * 1024;
/// Numbers of a row, its record header, and its entries in the indexes.
const ROW_OVERHEAD: usize = 160;
/// Headers that are made anew for every attempt, or that open doors: never kept.
const FOREIGN_HEADERS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "webhook-timestamp",
    "webhook-signature",
    "x-api-key",
    "api-key",
];

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LetterState {
    /// Waits for a person. Set when it is recorded, and when a retry failed or was cut short.
    Dead,
    /// A job has it in hand.
    Retrying,
    /// A retry delivered it.
    Done,
}

labels!(LetterState { Dead = "dead", Retrying = "retrying", Done = "done" });

/// A delivery that is set aside, exactly as it was to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLetter {
    /// For whom it is.
    pub endpoint: EndpointName,
    /// The delivery. With `endpoint` it names the letter.
    pub webhook_id: String,
    /// Id of its first event.
    pub event: String,
    /// How many events it carries.
    pub events: u32,
    /// Where its last event stands.
    pub position: Position,
    /// Raw text `schema.table`; `None` for several.
    pub table: Option<String>,
    /// `insert`, `update` and so on; `None` for several.
    pub op: Option<String>,
    /// The row's key, as the format shows it.
    pub key: Option<String>,
    /// `Content-Type`
    pub content_type: String,
    /// Further headers that belong to the event. Those that [`Self::keeps_header`] refuses are left out.
    pub headers: Vec<(String, String)>,
    /// The body before compression; of a template, the plain events behind it.
    pub body: Vec<u8>,
    /// What templates are rendered of when it is sent again: a JSON array of its events.
    pub source: Option<String>,
    /// Label of the error's class.
    pub class: Option<String>,
    /// Why it cannot be delivered, without secrets. Cut at 4 KiB.
    pub reason: String,
    /// Status of the last answer.
    pub status: Option<u16>,
    /// Attempts made.
    pub attempts: u32,
    /// When the first attempt began.
    pub first_at_ms: i64,
    /// When it was given up.
    pub dead_at_ms: i64,
}

impl NewLetter {
    /// Whether a header belongs to the event: signatures and times of signing are made for every attempt, and what
    /// authorizes has no place in a file.
    #[must_use]
    pub fn keeps_header(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        !FOREIGN_HEADERS.contains(&name.as_str()) && !name.contains("signature") && !name.ends_with("-token")
    }
}

/// A recorded dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number, for commands.
    pub id: i64,
    /// What was recorded. `body` is empty in lists.
    pub letter: NewLetter,
    /// Bytes of the body, also where it is not read.
    pub body_bytes: u64,
    /// Where it stands.
    pub state: LetterState,
    /// The job that has it in hand, or had it last.
    pub job: Option<i64>,
    /// When it was delivered after all.
    pub done_at_ms: Option<i64>,
}

/// How many letters, and how much they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LetterCount {
    /// Letters.
    pub letters: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

const COLUMNS: &str =
    "id, endpoint, webhook_id, event, events, position, table_name, op, key, content_type, headers,
    class, reason, status, attempts, first_at, dead_at, done_at, state, job, length(body)";

/// Records a letter, or that it died once more.
pub(super) fn insert(db: &Connection, limits: &Limits, letter: &NewLetter) -> Result<i64, WorkError> {
    let headers: Vec<_> = letter.headers.iter().filter(|(name, _)| NewLetter::keeps_header(name)).collect();
    let headers = serde_json::json!(headers).to_string();
    let reason = cut(&letter.reason, MAX_REASON);
    let optional = [&letter.table, &letter.op, &letter.key, &letter.class];
    let texts: usize = optional.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
        + letter.content_type.len()
        + headers.len()
        + reason.len()
        + 2 * (letter.endpoint.as_str().len() + letter.webhook_id.len())
        + letter.event.len();
    let source = letter.source.as_ref().map_or(0, String::len);
    let needed = stored_bytes(ROW_OVERHEAD + texts + letter.body.len() + source);
    make_room(db, limits, letter, needed)?;
    let id = db
        .prepare_cached(
            "INSERT INTO dead_letters (endpoint, webhook_id, event, events, position, table_name, op, key, content_type,
             headers, class, reason, status, attempts, first_at, dead_at, state, bytes, body, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 'dead', ?17, ?18, ?19)
             ON CONFLICT (endpoint, webhook_id) DO UPDATE SET state = 'dead', job = NULL, done_at = NULL,
             event = excluded.event, events = excluded.events, position = excluded.position,
             table_name = excluded.table_name, op = excluded.op, key = excluded.key,
             content_type = excluded.content_type, headers = excluded.headers, class = excluded.class,
             reason = excluded.reason, status = excluded.status, attempts = excluded.attempts,
             first_at = min(first_at, excluded.first_at), dead_at = excluded.dead_at, bytes = excluded.bytes,
             body = excluded.body, source = excluded.source
             RETURNING id",
        )?
        .query_row(
            params![
                letter.endpoint.as_str(),
                letter.webhook_id,
                letter.event,
                letter.events,
                letter.position.to_string(),
                letter.table,
                letter.op,
                letter.key,
                letter.content_type,
                headers,
                letter.class,
                reason,
                letter.status,
                letter.attempts,
                letter.first_at_ms,
                letter.dead_at_ms,
                needed,
                letter.body,
                letter.source,
            ],
            |row| row.get(0),
        )?;
    Ok(id)
}

/// Delivered letters make room for one that waits.
fn make_room(db: &Connection, limits: &Limits, letter: &NewLetter, needed: i64) -> Result<(), WorkError> {
    let max = signed(limits.letters_max_bytes);
    // One that is there already is replaced.
    let replaced: i64 = db
        .prepare_cached("SELECT bytes FROM dead_letters WHERE endpoint = ?1 AND webhook_id = ?2")?
        .query_row(params![letter.endpoint.as_str(), letter.webhook_id], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    loop {
        let held = total(db)? - replaced;
        if held.saturating_add(needed) <= max {
            return Ok(());
        }
        let gone = db
            .prepare_cached(
                "DELETE FROM dead_letters WHERE id = (SELECT id FROM dead_letters WHERE state = 'done'
                 AND NOT (endpoint = ?1 AND webhook_id = ?2) ORDER BY id LIMIT 1)",
            )?
            .execute(params![letter.endpoint.as_str(), letter.webhook_id])?;
        if gone == 0 {
            return Err(WorkError::Full { needed, held, max });
        }
    }
}

/// Bytes of all letters.
pub(super) fn total(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT bytes FROM totals WHERE what = 'dead_letters'")?.query_row([], |row| row.get(0))
}

/// The newest first, without bodies; `before` asks for the next page.
pub(super) fn list(
    db: &Connection,
    filter: &LetterFilter,
    before: Option<i64>,
    limit: u32,
) -> rusqlite::Result<Vec<Letter>> {
    let mut wanted = filter.to_where();
    if let Some(before) = before {
        wanted.and("id < ?", [before.into()]);
    }
    let sql = format!("SELECT {COLUMNS} FROM dead_letters {} ORDER BY id DESC LIMIT {limit}", wanted.sql());
    db.prepare(&sql)?.query_map(wanted.params(), |row| read(row, Vec::new(), None))?.collect()
}

/// One letter with its body.
pub(super) fn get(db: &Connection, id: i64) -> rusqlite::Result<Option<Letter>> {
    let sql = format!("SELECT {COLUMNS}, body, source FROM dead_letters WHERE id = ?1");
    db.prepare_cached(&sql)?.query_row([id], |row| read(row, row.get(21)?, row.get(22)?)).optional()
}

/// How many match, by endpoint.
pub(super) fn count(
    db: &Connection,
    filter: &LetterFilter,
) -> rusqlite::Result<Vec<(EndpointName, LetterCount)>> {
    let wanted = filter.to_where();
    let sql = format!(
        "SELECT endpoint, count(*), sum(bytes) FROM dead_letters {} GROUP BY 1 ORDER BY 1",
        wanted.sql()
    );
    let read = |row: &Row<'_>| {
        Ok((parsed(row, 0)?, LetterCount { letters: unsigned(row, 1)?, bytes: unsigned(row, 2)? }))
    };
    db.prepare(&sql)?.query_map(wanted.params(), read)?.collect()
}

/// Deletes up to `limit` that match, the oldest first.
pub(super) fn discard(db: &Connection, filter: &LetterFilter, limit: u32) -> rusqlite::Result<usize> {
    let wanted = filter.to_where();
    let sql = format!(
        "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters {} ORDER BY id LIMIT {limit})",
        wanted.sql()
    );
    db.execute(&sql, wanted.params())
}

fn read(row: &Row<'_>, body: Vec<u8>, source: Option<String>) -> rusqlite::Result<Letter> {
    let headers: String = row.get(10)?;
    let letter = NewLetter {
        endpoint: parsed(row, 1)?,
        webhook_id: row.get(2)?,
        event: row.get(3)?,
        events: row.get(4)?,
        position: parsed(row, 5)?,
        table: row.get(6)?,
        op: row.get(7)?,
        key: row.get(8)?,
        content_type: row.get(9)?,
        headers: serde_json::from_str(&headers).map_err(|error| unreadable(10, error))?,
        body,
        source,
        class: row.get(11)?,
        reason: row.get(12)?,
        status: row.get(13)?,
        attempts: row.get(14)?,
        first_at_ms: row.get(15)?,
        dead_at_ms: row.get(16)?,
    };
    Ok(Letter {
        id: row.get(0)?,
        letter,
        body_bytes: unsigned(row, 20)?,
        state: row.get(18)?,
        job: row.get(19)?,
        done_at_ms: row.get(17)?,
    })
}
