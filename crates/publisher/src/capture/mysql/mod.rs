//! Capture from MySQL and MariaDB as a replica of their binary log.
//!
//! The log holds whole, committed transactions in commit order, each behind a GTID event. A transaction's offset is where
//! that event *begins* (file number, 64-bit offset): known before the first row, so that parts of a long transaction go out
//! while it is read. What to resume by is where the last whole transaction ended, with everything that was executed until
//! then as GTIDs.

mod binlog;
pub(crate) mod bytes;
pub(crate) mod cascade;
pub mod catalog;
pub mod check;
pub mod client;
mod doubt;
pub mod error;
mod foreign_key;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod group;
pub mod gtid;
mod json;
mod query;
mod rows;
pub mod setup;
mod shape;
mod table_map;
#[cfg(test)]
mod tests;
mod transaction;
pub(crate) mod value;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rowbridge_schema::{Offset, Position, SourceId, TableDef, TableName, TablePatterns};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::binlog::{Binlog, LogEvent};
use self::catalog::{Catalog, CatalogTable, Collations};
use self::client::{Connector, Server};
use self::doubt::Doubts;
pub use self::error::MysqlError;
use self::group::{Group, Prepared};
use self::gtid::{Gtids, ResumePoint};
use self::shape::Shape;
use self::value::Converted;
use super::{Capture, CaptureStart, Captured, OldRows, Retained};
use crate::journal::Resume;
use crate::state::{self, SentColumns, State};

/// What a capture needs to know besides its start.
#[derive(Clone)]
pub struct MysqlOptions {
    /// `source.tables`
    pub tables: TablePatterns,
    /// How to connect.
    pub connector: Connector,
    /// History of shapes, and our number as a replica.
    pub state: Arc<State>,
    /// Whose old rows are sent whole.
    pub old_rows: OldRows,
}

/// What opening found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where the stream begins.
    pub from: ResumePoint,
}

type Converting = Vec<(Arc<str>, Vec<u8>, String)>;

type Found = (Catalog, Offset, Vec<TableName>);

/// A question to the server. It runs as a task of its own: `next` is cancelled many times a second while a snapshot waits
/// for the stream, and a question that began anew each time would never be answered.
enum Question {
    /// The whole catalog, behind a statement that may have changed it, then the log's end; and tables of which the catalog may
    /// be older than the log.
    Catalog(JoinHandle<Result<Found, MysqlError>>),
    /// One table, whose table map is none that we know.
    Table(TableName, JoinHandle<Result<Option<CatalogTable>, MysqlError>>),
    /// Texts in charsets that only the server knows.
    Texts(JoinHandle<Result<Converting, MysqlError>>),
}

/// Cancel safe: the task goes on.
async fn answer<T>(task: &mut JoinHandle<Result<T, MysqlError>>) -> Result<T, MysqlError> {
    task.await.unwrap_or(Err(MysqlError::Lost { what: "a question to the server was broken off" }))
}

/// A table as the last table map of its id had it; `None` if it is not captured.
struct Mapped {
    raw: Vec<u8>,
    shape: Option<Arc<Shape>>,
}

/// A running capture.
pub struct MysqlCapture {
    source: SourceId,
    server: Server,
    options: MysqlOptions,
    epoch: u32,
    sql: Arc<Mutex<Conn>>,
    log: Binlog,
    gtids: Gtids,
    collations: Arc<Collations>,
    catalog: Catalog,
    /// Captured tables in lower case, as statements may name them.
    lower: HashSet<(String, String)>,
    /// Columns of each table when its rows were last sent, or when this capture was opened.
    sent: HashMap<TableName, SentColumns>,
    /// Tables that a statement has dropped, renamed or filled behind our back: they are sent again once the catalog is read.
    renewed: HashSet<TableName>,
    /// Keys that the catalog may know sooner than the log.
    doubts: Doubts,
    maps: HashMap<u64, Mapped>,
    converted: Converted,
    watched: Vec<TableName>,
    group: Option<Group>,
    prepared: Vec<Prepared>,
    /// An event that waits for an answer, and what was asked for it already.
    held: Option<LogEvent>,
    asked: bool,
    asking: Option<Question>,
    reload: bool,
    /// Tables that statements have named, and of which the catalog may be older than the log.
    unsettled: HashSet<TableName>,
    /// When it is looked at again for their sake.
    settle_due: Instant,
    pending: VecDeque<Captured>,
    /// Log events were passed since we last said how far we are.
    unsaid: bool,
}

impl MysqlCapture {
    /// Connects, checks the server, starts the stream.
    ///
    /// # Errors
    /// See [`MysqlError`]; retryable ones are worth another call.
    pub async fn open(options: MysqlOptions, start: &CaptureStart) -> Result<(Self, Opened), MysqlError> {
        let session = options.connector.connect().await?;
        let (mut sql, server) = (session.conn, session.server);
        setup::preflight(&mut sql, &server).await?;
        let source = setup::source_id(&mut sql, &server).await?;
        let from = match &start.resume {
            Some(resume) => {
                let unread = |_| MysqlError::LogGone {
                    since: resume.0.to_string(),
                    reason: format!("this is no position of {server}"),
                };
                let from = ResumePoint::parse(server.is_mariadb(), &resume.0).map_err(unread)?;
                setup::same_log(&mut sql, &from).await?;
                from
            }
            None => {
                setup::refuse_prepared(&mut sql).await?;
                let from = setup::log_end(&mut sql, &server).await?;
                setup::refuse_prepared(&mut sql).await?;
                from
            }
        };
        let collations = catalog::collations(&mut sql, &server).await?;
        let catalog = catalog::load(&mut sql, &server, &options.tables, &Catalog::default()).await?;
        for pattern in options.tables.unmatched(&catalog.tables.keys().cloned().collect::<Vec<_>>()) {
            tracing::warn!(%pattern, "a table pattern matches nothing");
        }
        let log = Binlog::open(&options.connector, &from, options.state.replica_id()?).await?;
        tracing::info!(%server, from = %log.place(), tables = catalog.tables.len(), "streaming");
        let mut capture = Self {
            source,
            server,
            epoch: start.epoch,
            sql: Arc::new(Mutex::new(sql)),
            log,
            gtids: from.gtids.clone(),
            collations: Arc::new(collations),
            sent: catalog
                .tables
                .values()
                .map(|table| (table.def.name.clone(), state::columns(&table.def)))
                .collect(),
            catalog: Catalog::default(),
            lower: HashSet::new(),
            renewed: HashSet::new(),
            doubts: Doubts::default(),
            maps: HashMap::new(),
            converted: Converted::default(),
            watched: Vec::new(),
            group: None,
            prepared: Vec::new(),
            held: None,
            asked: false,
            asking: None,
            reload: false,
            unsettled: HashSet::new(),
            settle_due: Instant::now(),
            pending: VecDeque::new(),
            unsaid: true,
            options,
        };
        if start.resume.is_some() {
            let mut sql = capture.sql.lock().await;
            let end = setup::offset(&setup::log_end(&mut sql, &capture.server).await?);
            for table in catalog.tables.values() {
                let before = capture.options.state.shapes(&table.def.name)?;
                capture.doubts.recall(&table.def, &before, end);
            }
        }
        capture.remember(catalog)?;
        Ok((capture, Opened { from }))
    }

    /// Takes a catalog for the present one, and its shapes into the history.
    fn remember(&mut self, catalog: Catalog) -> Result<(), MysqlError> {
        for table in catalog.tables.values() {
            if self.catalog.tables.get(&table.def.name).is_none_or(|known| known.def != table.def) {
                self.options.state.add_shape(&table.def)?;
            }
        }
        // Statements may still speak of what is gone.
        self.lower.extend(catalog.tables.keys().map(lower));
        self.catalog = catalog;
        Ok(())
    }

    fn resume_text(&self) -> String {
        format!("{};{}", self.log.place(), self.gtids)
    }

    /// Where to go on after a restart: behind the last whole transaction, but before the rows of prepared ones.
    fn resume(&self) -> Resume {
        match self.prepared.first() {
            Some(oldest) => oldest.before.clone(),
            None => Resume(Arc::from(self.resume_text())),
        }
    }

    fn place(&self) -> String {
        self.log.place()
    }

    fn broken(&self, what: impl Into<String>) -> MysqlError {
        MysqlError::Event { at: self.place(), what: what.into() }
    }

    fn advanced(&mut self) -> Captured {
        self.unsaid = false;
        let (_, file, at) = self.log.reached();
        Captured::Advanced { at: Offset { file, at }, resume: self.resume() }
    }

    fn is_watched(&self, table: &TableName) -> bool {
        self.watched.contains(table)
    }

    /// Sends a table again whose columns are not those with which its rows were sent. Stream and catalog both tell: the
    /// catalog of a table that nobody writes, the stream before the catalog is looked at again.
    fn has_columns(&mut self, def: &TableDef) {
        let columns = state::columns(def);
        match self.sent.get(&def.name) {
            None => {
                tracing::info!(table = %def.name, "a new table joins");
                self.pending.push_back(Captured::TableAdded { def: def.clone(), resync: false });
            }
            Some(sent) if state::values_changed(sent, &columns) => {
                tracing::info!(table = %def.name, "columns changed: the table is sent again");
                self.pending.push_back(Captured::TableAdded { def: def.clone(), resync: true });
            }
            Some(_) => {}
        }
        self.sent.insert(def.name.clone(), columns);
    }

    fn ask_catalog(&mut self) {
        self.reload = false;
        let (sql, tables, server) = (Arc::clone(&self.sql), self.options.tables.clone(), self.server.clone());
        let known = self.catalog.clone();
        let unsettled = std::mem::take(&mut self.unsettled);
        self.asking = Some(Question::Catalog(tokio::spawn(async move {
            let mut sql = sql.lock().await;
            let unsettled = catalog::settle(&mut sql, unsettled.into_iter().collect()).await?;
            let catalog = catalog::load(&mut sql, &server, &tables, &known).await?;
            let end = setup::log_end(&mut sql, &server).await?;
            Ok((catalog, setup::offset(&end), unsettled))
        })));
    }

    fn ask_table(&mut self, name: TableName) {
        let (sql, tables, server) = (Arc::clone(&self.sql), self.options.tables.clone(), self.server.clone());
        let table = name.clone();
        let task = tokio::spawn(async move {
            let mut sql = sql.lock().await;
            catalog::load_one(&mut sql, &server, &tables, &table).await
        });
        self.asking = Some(Question::Table(name, task));
    }

    /// Takes in the catalog behind a statement that may have changed it.
    fn reloaded(&mut self, catalog: Catalog, end: Offset) -> Result<(), MysqlError> {
        self.doubts.look(&self.catalog, &catalog, end);
        self.remember(catalog)?;
        // Between transactions: table maps precede the rows of each statement.
        self.maps.clear();
        let defs: Vec<TableDef> = self.catalog.tables.values().map(|table| table.def.clone()).collect();
        for def in defs {
            if self.renewed.remove(&def.name) {
                tracing::info!(table = %def.name, "rows changed without being logged: the table is sent again");
                self.sent.insert(def.name.clone(), state::columns(&def));
                self.pending.push_back(Captured::TableAdded { def, resync: true });
            } else {
                self.has_columns(&def);
            }
        }
        Ok(())
    }

    fn ask_texts(&mut self) {
        let missing = std::mem::take(&mut self.converted.missing);
        let sql = Arc::clone(&self.sql);
        self.asking = Some(Question::Texts(tokio::spawn(async move {
            let mut sql = sql.lock().await;
            convert(&mut sql, missing).await
        })));
    }

    async fn answered(&mut self) -> Result<bool, MysqlError> {
        match &mut self.asking {
            None => return Ok(false),
            Some(Question::Catalog(task)) => {
                let answered = answer(task).await;
                self.asking = None;
                let (catalog, end, unsettled) = answered?;
                self.reloaded(catalog, end)?;
                for table in unsettled {
                    tracing::info!(%table, "a statement on the table has not taken effect: its key is not certain yet");
                    self.doubts.alter(table.clone());
                    self.unsettled.insert(table);
                    self.settle_due = Instant::now() + SETTLE_INTERVAL;
                }
            }
            Some(Question::Table(name, task)) => {
                let answered = answer(task).await;
                let name = name.clone();
                self.asking = None;
                let one = answered?;
                let mut catalog = self.catalog.clone();
                match one {
                    Some(table) => catalog.tables.insert(name, table),
                    None => catalog.tables.remove(&name),
                };
                self.remember(catalog)?;
            }
            Some(Question::Texts(task)) => {
                let answered = answer(task).await;
                self.asking = None;
                for (charset, bytes, text) in answered? {
                    self.converted.add(charset, bytes, text);
                }
            }
        }
        Ok(true)
    }
}

fn lower(name: &TableName) -> (String, String) {
    (name.schema.as_deref().unwrap_or_default().to_lowercase(), name.name.to_lowercase())
}

/// How often the catalog is looked at for tables whose statements have not taken effect.
const SETTLE_INTERVAL: Duration = Duration::from_secs(5);

/// Rows of one question.
const TEXTS_PER_QUESTION: usize = 500;
/// Bytes of one question, below the smallest usual `max_allowed_packet`.
const BYTES_PER_QUESTION: usize = 1 << 18;

/// Lets the server convert texts; the bytes go as hexadecimal digits with the charset before them.
async fn convert(sql: &mut Conn, missing: Vec<(Arc<str>, Vec<u8>)>) -> Result<Converting, MysqlError> {
    let mut converted = Vec::with_capacity(missing.len());
    let mut rest = missing.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(TEXTS_PER_QUESTION).take_while(|(_, text)| {
            bytes += text.len();
            bytes <= BYTES_PER_QUESTION
        });
        let count = fits.count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        let selects: Vec<String> = now
            .iter()
            .enumerate()
            .map(|(at, (charset, text))| {
                use std::fmt::Write as _;
                let mut digits = String::with_capacity(2 * text.len());
                for byte in text {
                    let _ = write!(digits, "{byte:02x}");
                }
                format!("SELECT {at} AS n, CONVERT(_{charset} x'{digits}' USING utf8mb4) AS t")
            })
            .collect();
        let rows: Vec<(usize, Option<Vec<u8>>)> = sql
            .query(selects.join(" UNION ALL "))
            .await
            .map_err(MysqlError::query("convert texts of a charset that only it knows"))?;
        for (at, text) in rows {
            let Some((charset, bytes)) = now.get(at) else { continue };
            let text =
                text.and_then(|text| String::from_utf8(text).ok()).ok_or_else(|| MysqlError::Event {
                    at: "the present transaction".to_owned(),
                    what: format!("the server cannot convert a text from {charset}"),
                })?;
            converted.push((Arc::clone(charset), bytes.clone(), text));
        }
    }
    Ok(converted)
}

impl Capture for MysqlCapture {
    type Error = MysqlError;

    fn source(&self) -> &SourceId {
        &self.source
    }

    async fn next(&mut self) -> Result<Captured, MysqlError> {
        loop {
            if self.answered().await? {
                continue;
            }
            if let Some(event) = self.held.take() {
                if let Some(captured) = self.take(event)? {
                    return Ok(captured);
                }
                continue;
            }
            // Between transactions only: what waits here belongs behind what was captured before it.
            if self.group.is_none() {
                let unsettled = !self.unsettled.is_empty() && self.settle_due <= Instant::now();
                if self.reload || unsettled {
                    self.ask_catalog();
                    continue;
                }
                if let Some(captured) = self.pending.pop_front() {
                    return Ok(captured);
                }
            }
            let event = match self.log.try_next() {
                Some(event) => event?,
                None if self.unsaid && self.group.is_none() => return Ok(self.advanced()),
                None => self.log.next().await?,
            };
            if let Some(event) = event
                && let Some(captured) = self.take(event)?
            {
                return Ok(captured);
            }
        }
    }

    /// Nothing holds the log for us: the server removes it by age.
    async fn confirm(&mut self, _resume: &Resume) -> Result<(), MysqlError> {
        Ok(())
    }

    /// The server is told nothing, so that any text will do.
    fn resume_behind(&self, position: Position) -> Resume {
        Resume(Arc::from(position.to_string()))
    }

    /// A transaction stands at its start in the log: one that comes later at the resume point or behind it. What is placed
    /// here, existing rows for one, stands right before that.
    fn reached_by(&self, resume: &Resume) -> Position {
        let point = ResumePoint::parse(self.server.is_mariadb(), &resume.0);
        let mut offset = point.map_or(Offset { file: 0, at: 0 }, |point| setup::offset(&point));
        offset.at = offset.at.saturating_sub(1);
        Position { epoch: self.epoch, offset, ordinal: 0 }
    }

    /// The log is kept by age, for everybody.
    async fn retained(&mut self) -> Result<Option<Retained>, MysqlError> {
        Ok(None)
    }

    async fn mark_snapshot(&mut self, _: bool) -> Result<(), MysqlError> {
        Ok(())
    }

    /// The server sends what is committed at once; what is unsaid is how far that is.
    async fn hurry(&mut self) -> Result<(), MysqlError> {
        self.unsaid = true;
        Ok(())
    }

    /// The connection waits as long as we do not read (`net_write_timeout`).
    async fn keep_alive(&mut self) -> Result<(), MysqlError> {
        Ok(())
    }

    fn watch(&mut self, tables: &[TableName]) {
        self.watched = tables.to_vec();
    }

    async fn end(&mut self) -> Result<Offset, MysqlError> {
        let mut sql = self.sql.lock().await;
        let end = setup::log_end(&mut sql, &self.server).await?;
        Ok(setup::offset(&end))
    }

    async fn close(self) {
        self.log.close().await;
    }
}
