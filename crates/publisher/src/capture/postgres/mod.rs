//! Capture from PostgreSQL by logical replication (pgoutput, protocol version 1).
//!
//! Each message between Begin and Commit belongs to one committed transaction, transactions come in commit order, and the
//! commit LSN is known from Begin on: so a change's position is known when it is read, and nothing is held back.

pub mod catalog;
pub mod check;
pub mod client;
pub mod error;
pub mod pgoutput;
mod relation;
pub mod setup;
mod transaction;
pub mod walsender;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{SourceConfig, SslMode};
use rowbridge_schema::wire::Op;
use rowbridge_schema::{Offset, Position, SourceId, TableDef, TableName};
use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use self::catalog::Catalog;
use self::client::Connector;
pub use self::error::PostgresError;
use self::pgoutput::Message;
use self::relation::{Announced, Relation, Resolved};
use self::setup::PublicationPlan;
use self::transaction::Transaction;
use self::walsender::{
    ConnectOptions, Frame, ReplicationStream, SILENCE_LIMIT, STATUS_INTERVAL, TlsMode, TlsSettings,
    Walsender, format_lsn, parse_lsn,
};
use super::{Capture, CaptureStart, Captured};
use crate::journal::Resume;
use crate::state::{self, SentColumns};

/// How often the catalog is looked at for new tables and changed partitions: DDL is not in the stream.
const CATALOG_INTERVAL: Duration = Duration::from_secs(5);

/// How often the server is told how far we are while that changes.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// Changes after which a transaction counts as long: nobody sees its rows before its end, so a wait costs nothing.
const GATHER_AFTER: u64 = 64;
/// How long rows of a long transaction may gather in the socket; the timer's resolution.
const GATHER: Duration = Duration::from_millis(1);

/// What a capture needs to know besides its start.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `[source]`
    pub source: SourceConfig,
    /// How to connect.
    pub connector: Connector,
    /// Nothing was ever captured under this state; see [`setup::prepare_slot`].
    pub fresh: bool,
    /// Timeline of the last run; a higher one now means a failover.
    pub timeline: Option<u32>,
    /// Positions below the offset keep the epoch: what was committed before a failover.
    pub earlier_epochs: Vec<(Offset, u32)>,
}

/// What opening found out, to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The server's timeline.
    pub timeline: u32,
    /// Set if the timeline rose: commits below this LSN keep their epoch, later ones have the next.
    pub switched_at: Option<u64>,
    /// Tables that were not published before, or only for inserts.
    pub added: Vec<TableName>,
    /// LSN from which changes come.
    pub from: u64,
}

/// A question to the catalog. It runs as a task of its own: `next` is cancelled many times a second while a snapshot waits
/// for the stream, and a question that began anew each time would never be answered.
enum Question {
    Catalog(JoinHandle<Result<(Catalog, PublicationPlan), PostgresError>>),
    Relation(JoinHandle<Result<Resolved, PostgresError>>),
}

/// Cancel safe: the task goes on.
async fn answer<T>(task: &mut JoinHandle<Result<T, PostgresError>>) -> Result<T, PostgresError> {
    let died = PostgresError::Stream { what: "a look into the catalog was broken off" };
    task.await.unwrap_or(Err(died))
}

/// A running capture.
pub struct PostgresCapture {
    source: SourceId,
    options: PostgresOptions,
    epoch: u32,
    sql: Arc<Client>,
    stream: ReplicationStream,
    catalog: Arc<Catalog>,
    /// Columns of each table when its rows were last sent, or when this capture was opened.
    sent: HashMap<TableName, SentColumns>,
    relations: HashMap<u32, Option<Relation>>,
    /// The last Relation message of each table.
    said: HashMap<u32, Announced>,
    /// A Relation message whose table is being looked up; the stream waits.
    announced: Option<Announced>,
    /// The catalog was read anew for it.
    reread: bool,
    /// Tables to look up again, because they became or ceased to be partitions.
    moved: Vec<u32>,
    /// What the catalog is being asked.
    asking: Option<Question>,
    transaction: Option<Transaction>,
    watched: Vec<TableName>,
    pending: std::collections::VecDeque<Captured>,
    catalog_due: Instant,
    confirmed: u64,
    told: u64,
    told_at: Instant,
    heard_at: Instant,
    asked: bool,
    wal_end: u64,
    /// The last end that was handed on.
    passed: u64,
    hurried: Hurried,
}

/// How often in vain the server was asked how far it is. What a read-only or an open transaction has logged (pruned pages,
/// rows that are not committed) may stay in the server's memory for long, and is not sent before it is on disk; the end
/// of the log as a snapshot sees it lies behind it. The commit of a transaction that logs something flushes it.
#[derive(Debug, Clone, Copy, Default)]
struct Hurried {
    at: u64,
    calls: u32,
    /// Calls until the log is flushed; doubles, since a server may also just have much to send.
    patience: u32,
}

const FIRST_PATIENCE: u32 = 2;
const MAX_PATIENCE: u32 = 256;

impl PostgresCapture {
    /// Connects, checks the server, brings publications and slot in line, starts the stream.
    ///
    /// # Errors
    /// See [`PostgresError`]; retryable ones are worth another call.
    pub async fn open(
        options: PostgresOptions,
        start: &CaptureStart,
    ) -> Result<(Self, Opened), PostgresError> {
        let sql = options.connector.connect("capture").await?;
        setup::preflight(&sql).await?;
        refuse_pooler(&sql).await?;
        let catalog = catalog::load(&sql, &options.source.tables, None).await?;
        let plan = setup::plan_publications(&sql, &catalog, &options.source.publication).await?;
        setup::run_publications(&sql, &plan).await?;
        setup::require_grants(&sql, &catalog).await?;
        for pattern in options.source.tables.unmatched(&catalog.tables.keys().cloned().collect::<Vec<_>>()) {
            tracing::warn!(%pattern, "a table pattern matches nothing");
        }
        let mut walsender = Walsender::connect(&connect_options(&options.connector)?).await?;
        let system = walsender.identify_system().await?;
        let source = SourceId(format!("postgres:{}:{}", system.system_id, options.source.slot));
        let (from, confirmed) =
            setup::prepare_slot(&sql, &mut walsender, &options.source.slot, start, options.fresh).await?;
        let switched_at = match options.timeline {
            Some(before) if before < system.timeline => {
                Some(switch_point(&mut walsender, system.timeline, before).await?)
            }
            _ => None,
        };
        let mut earlier = options.earlier_epochs.clone();
        let mut epoch = start.epoch;
        if let Some(lsn) = switched_at {
            earlier.push((Offset { file: 0, at: lsn }, epoch));
            epoch += 1;
        }
        let names = setup::publications(&options.source.publication);
        let stream = walsender.start_replication(&options.source.slot, from, &names, &[]).await?;
        tracing::info!(slot = %options.source.slot, from = %format_lsn(from), tables = catalog.tables.len(), "streaming");
        let now = Instant::now();
        let mut added = plan.added;
        added.extend(plan.upgraded);
        let opened = Opened { timeline: system.timeline, switched_at, added, from };
        let capture = Self {
            source,
            options: PostgresOptions { earlier_epochs: earlier, ..options },
            epoch,
            sql: Arc::new(sql),
            stream,
            sent: catalog.tables.values().map(sent_columns).collect(),
            catalog: Arc::new(catalog),
            relations: HashMap::new(),
            said: HashMap::new(),
            announced: None,
            reread: false,
            moved: Vec::new(),
            asking: None,
            transaction: None,
            watched: Vec::new(),
            pending: std::collections::VecDeque::new(),
            catalog_due: now + CATALOG_INTERVAL,
            // Not `from`: the journal may hold what is not delivered, and then it is not ours to confirm.
            confirmed,
            told: 0,
            told_at: now,
            heard_at: now,
            asked: false,
            wal_end: from,
            passed: 0,
            hurried: Hurried { at: 0, calls: 0, patience: FIRST_PATIENCE },
        };
        Ok((capture, opened))
    }

    fn epoch_of(&self, lsn: u64) -> u32 {
        let before = self.options.earlier_epochs.iter().find(|(until, _)| lsn < until.at);
        before.map_or(self.epoch, |(_, epoch)| *epoch)
    }

    fn relation(&self, oid: u32) -> Result<Option<&Relation>, PostgresError> {
        let unknown = PostgresError::Stream { what: "a row refers to a relation that was not announced" };
        Ok(self.relations.get(&oid).ok_or(unknown)?.as_ref())
    }

    /// Asks what the announced relation is.
    fn ask_relation(&mut self, announced: Announced) {
        if !self.reread && !self.catalog.roots.contains_key(&announced.oid) {
            self.reread = true;
            self.ask_catalog();
            return;
        }
        let (catalog, sql) = (Arc::clone(&self.catalog), Arc::clone(&self.sql));
        let tables = self.options.source.tables.clone();
        self.asking = Some(Question::Relation(tokio::spawn(async move {
            let captured = |name: &TableName| tables.matches(name);
            relation::resolve(&announced, &catalog, captured, &sql).await
        })));
    }

    /// Takes in what the announced relation is.
    fn resolved(&mut self, resolved: Resolved) {
        let Resolved { mut relation, moved } = resolved;
        if moved && !self.reread {
            self.reread = true;
            self.ask_catalog();
            return;
        }
        self.reread = false;
        let Some(announced) = self.announced.take() else { return };
        if let Some(relation) = &mut relation {
            relation.watched = self.watched.contains(&relation.def.name);
        }
        if let Some(now) = &relation {
            let mut columns = state::columns(&now.def);
            if now.leaf_of.is_some()
                && let Some(sent) = self.sent.get(&now.def.name)
            {
                // A leaf may have an order of its own.
                let place = |column: &(String, String)| sent.iter().position(|c| c == column);
                columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX));
            }
            self.has_columns(&now.def, columns);
        }
        self.relations.insert(announced.oid, relation);
        self.said.insert(announced.oid, announced);
    }

    /// Sends a table again whose columns are not those with which its rows were sent. Stream and catalog both tell: the
    /// catalog of a table that nobody writes, the stream before the catalog is looked at again.
    fn has_columns(&mut self, def: &TableDef, columns: SentColumns) {
        if self.sent.get(&def.name).is_some_and(|sent| state::values_changed(sent, &columns)) {
            tracing::info!(table = %def.name, "columns changed: the table is sent again");
            self.pending.push_back(Captured::TableAdded { def: def.clone(), resync: true });
        }
        self.sent.insert(def.name.clone(), columns);
    }

    /// Asks for the whole catalog and brings the publications in line with it.
    fn ask_catalog(&mut self) {
        let sql = Arc::clone(&self.sql);
        let (tables, publication) =
            (self.options.source.tables.clone(), self.options.source.publication.clone());
        self.asking = Some(Question::Catalog(tokio::spawn(async move {
            let catalog = catalog::load(&sql, &tables, None).await?;
            let plan = setup::plan_publications(&sql, &catalog, &publication).await?;
            setup::run_publications(&sql, &plan).await?;
            Ok((catalog, plan))
        })));
    }

    /// Takes in the catalog; what is gone stays known, since the stream may still speak of it.
    fn reloaded(&mut self, mut catalog: Catalog, plan: &PublicationPlan) {
        for name in &plan.added {
            if let Some(table) = catalog.tables.get(name) {
                tracing::info!(table = %name, "a new table joins");
                self.pending.push_back(Captured::TableAdded { def: table.def.clone(), resync: false });
            }
        }
        for name in &plan.upgraded {
            if let Some(table) = catalog.tables.get(name) {
                tracing::info!(table = %name, "a table got an identity: it is sent again");
                self.pending.push_back(Captured::TableAdded { def: table.def.clone(), resync: true });
            }
        }
        for (name, before) in &self.catalog.tables {
            let Some(now) = catalog.tables.get(name).filter(|now| now.oid == before.oid) else { continue };
            let detached = before.leaves.iter().any(|leaf| !now.leaves.iter().any(|l| l.oid == leaf.oid));
            let attached = now
                .leaves
                .iter()
                .any(|leaf| leaf.attached && !before.leaves.iter().any(|l| l.oid == leaf.oid));
            if detached || attached {
                tracing::info!(table = %name, "a partition was attached, detached or dropped: the table is sent again");
                self.pending.push_back(Captured::TableAdded { def: now.def.clone(), resync: true });
            }
        }
        for (name, now) in &catalog.tables {
            if self.catalog.tables.get(name).is_none_or(|before| before.oid != now.oid) {
                // Another table: it is sent as a new one.
                self.sent.remove(name);
            }
            self.has_columns(&now.def, state::columns(&now.def));
        }
        for (oid, root) in &self.catalog.roots {
            catalog.roots.entry(*oid).or_insert_with(|| root.clone());
        }
        // Rows of a table that was attached or detached belong elsewhere from now on.
        let elsewhere = |oid: &u32, known: &Option<Relation>| {
            catalog.roots.get(oid) != known.as_ref().map(|relation| &relation.def.name)
        };
        self.moved =
            self.relations.iter().filter(|(oid, known)| elsewhere(oid, known)).map(|(oid, _)| *oid).collect();
        self.catalog = Arc::new(catalog);
        self.catalog_due = Instant::now() + CATALOG_INTERVAL;
    }

    /// Takes one frame; `Some` if it completes something.
    fn take(&mut self, frame: Frame) -> Result<Option<Captured>, PostgresError> {
        self.heard_at = Instant::now();
        self.asked = false;
        let data = match frame {
            Frame::Keepalive { wal_end, reply_requested, .. } => {
                if reply_requested {
                    self.told_at = self.heard_at - STATUS_INTERVAL;
                }
                // Inside a transaction the server's end says nothing about what we have.
                // The end of a transaction that was handed on lies behind its position: say so, or a snapshot of an idle
                // source would wait for it.
                if self.transaction.is_some() || wal_end <= self.passed {
                    return Ok(None);
                }
                return Ok(Some(self.advanced(wal_end)));
            }
            Frame::XLogData { data, .. } => data,
        };
        match pgoutput::parse(&data)? {
            Message::Begin { final_lsn, commit_time_us, xid } => {
                let base = Position::new(self.epoch_of(final_lsn), final_lsn, 0);
                self.transaction = Some(Transaction::begin(xid, base, commit_time_us));
                Ok(None)
            }
            Message::Commit { end_lsn, .. } => {
                let transaction = self.transaction.take();
                let transaction =
                    transaction.ok_or(PostgresError::Stream { what: "a commit without a begin" })?;
                self.wal_end = self.wal_end.max(end_lsn);
                Ok(Some(match transaction.commit(resume(end_lsn)) {
                    Some(block) => Captured::Block(Box::new(block)),
                    None => self.advanced(end_lsn),
                }))
            }
            Message::Relation(relation) => {
                self.announced = Some(Announced::from(&relation));
                self.reread = false;
                Ok(None)
            }
            Message::Insert { oid, new } => self.row(oid, Op::Insert, None, Some(&new)),
            Message::Update { oid, old, new } => self.row(oid, Op::Update, old.as_ref(), Some(&new)),
            Message::Delete { oid, old } => self.row(oid, Op::Delete, Some(&old), None),
            Message::Truncate { oids, .. } => self.truncate(&oids),
            Message::Origin { .. } | Message::Type { .. } | Message::Message(_) => Ok(None),
        }
    }

    fn advanced(&mut self, lsn: u64) -> Captured {
        self.wal_end = self.wal_end.max(lsn);
        self.passed = self.passed.max(lsn);
        Captured::Advanced { at: Offset { file: 0, at: lsn }, resume: resume(lsn) }
    }

    fn row(
        &mut self,
        oid: u32,
        op: Op,
        old: Option<&pgoutput::OldTuple<'_>>,
        new: Option<&pgoutput::Tuple<'_>>,
    ) -> Result<Option<Captured>, PostgresError> {
        let mut transaction = self.transaction.take().ok_or(OUTSIDE)?;
        match self.relation(oid)? {
            Some(relation) => transaction.row(relation, op, old, new)?,
            None => transaction.pass(),
        }
        let part = transaction.is_full().then(|| Captured::Block(Box::new(transaction.part())));
        self.transaction = Some(transaction);
        Ok(part)
    }

    /// A TRUNCATE of all leaves is one of the table; of some leaves, nobody else knows which rows went: send it again.
    fn truncate(&mut self, oids: &[u32]) -> Result<Option<Captured>, PostgresError> {
        let mut transaction = self.transaction.take().ok_or(OUTSIDE)?;
        let mut done: Vec<&TableName> = Vec::new();
        for &oid in oids {
            match self.relations.get(&oid).and_then(Option::as_ref) {
                None => transaction.pass(),
                Some(relation) if relation.leaf_of.is_none() => transaction.truncate(relation),
                Some(relation) => {
                    let root = &relation.def.name;
                    if done.contains(&root) {
                        transaction.pass();
                        continue;
                    }
                    done.push(root);
                    let leaves = self.catalog.tables.get(root).map_or(&[][..], |table| &table.leaves);
                    if leaves.iter().all(|leaf| oids.contains(&leaf.oid)) {
                        transaction.truncate(relation);
                    } else {
                        transaction.pass();
                        tracing::info!(table = %root, "a partition was truncated: the table is sent again");
                        self.pending
                            .push_back(Captured::TableAdded { def: relation.def.clone(), resync: true });
                    }
                }
            }
        }
        self.transaction = Some(transaction);
        Ok(None)
    }

    /// Tells the server how far we are, if that is due.
    async fn tell(&mut self) -> Result<(), PostgresError> {
        let interval = if self.told < self.confirmed { CONFIRM_INTERVAL } else { STATUS_INTERVAL };
        if self.told_at.elapsed() >= interval {
            self.status(false).await?;
        }
        Ok(())
    }

    async fn status(&mut self, reply: bool) -> Result<(), PostgresError> {
        let confirmed = self.confirmed;
        self.stream.standby_status(confirmed, self.wal_end.max(confirmed), reply).await?;
        self.told = confirmed;
        self.told_at = Instant::now();
        Ok(())
    }
}

fn sent_columns(table: &catalog::CatalogTable) -> (TableName, SentColumns) {
    (table.def.name.clone(), state::columns(&table.def))
}

const OUTSIDE: PostgresError = PostgresError::Stream { what: "a change outside a transaction" };

fn resume(lsn: u64) -> Resume {
    Resume(Arc::from(format_lsn(lsn)))
}

impl Capture for PostgresCapture {
    type Error = PostgresError;

    fn source(&self) -> &SourceId {
        &self.source
    }

    async fn next(&mut self) -> Result<Captured, PostgresError> {
        loop {
            match &mut self.asking {
                Some(Question::Catalog(task)) => {
                    let answered = answer(task).await;
                    self.asking = None;
                    let (catalog, plan) = answered?;
                    self.reloaded(catalog, &plan);
                    continue;
                }
                Some(Question::Relation(task)) => {
                    let answered = answer(task).await;
                    self.asking = None;
                    self.resolved(answered?);
                    continue;
                }
                None => {}
            }
            if self.announced.is_none() {
                self.announced = self.moved.pop().and_then(|oid| self.said.get(&oid).cloned());
            }
            if let Some(announced) = self.announced.clone() {
                self.ask_relation(announced);
                continue;
            }
            // Between transactions only: what waits here belongs behind what was captured before it.
            if self.transaction.is_none()
                && let Some(captured) = self.pending.pop_front()
            {
                return Ok(captured);
            }
            while let Some(frame) = self.stream.try_next()? {
                if let Some(captured) = self.take(frame)? {
                    return Ok(captured);
                }
                if self.announced.is_some() || (self.transaction.is_none() && !self.pending.is_empty()) {
                    break;
                }
            }
            if self.announced.is_some() || (self.transaction.is_none() && !self.pending.is_empty()) {
                continue;
            }
            self.tell().await?;
            if self.transaction.is_none() && self.catalog_due <= Instant::now() {
                self.ask_catalog();
                continue;
            }
            // A link that died without a word: ask at half the limit, give up at the limit.
            let silence = self.heard_at.elapsed();
            if silence >= SILENCE_LIMIT {
                return Err(PostgresError::Stream { what: "the server has been silent for 60 s" });
            }
            if silence >= SILENCE_LIMIT / 2 && !self.asked {
                self.status(true).await?;
                self.asked = true;
            }
            // The server sends row by row and would wake us for each: in the midst of a long transaction let some gather.
            if self.transaction.as_ref().is_some_and(|open| open.changes() >= GATHER_AFTER) {
                tokio::time::sleep(GATHER).await;
            }
            let pause = if self.told < self.confirmed { CONFIRM_INTERVAL } else { CATALOG_INTERVAL };
            if let Ok(frame) = tokio::time::timeout(pause, self.stream.next()).await
                && let Some(captured) = self.take(frame?)?
            {
                return Ok(captured);
            }
        }
    }

    async fn confirm(&mut self, resume: &Resume) -> Result<(), PostgresError> {
        if let Some(lsn) = parse_lsn(&resume.0) {
            self.confirmed = self.confirmed.max(lsn);
        }
        self.tell().await
    }

    /// The server ships only what is flushed, and what nobody commits stays unflushed until its next checkpoint: a read
    /// alone writes WAL (pruning, hints). So an empty message is committed, which flushes everything before it.
    async fn hurry(&mut self) -> Result<(), PostgresError> {
        if self.hurried.at != self.passed {
            self.hurried = Hurried { at: self.passed, calls: 0, patience: FIRST_PATIENCE };
        }
        self.hurried.calls += 1;
        if self.hurried.calls >= self.hurried.patience {
            self.hurried =
                Hurried { calls: 0, patience: (self.hurried.patience * 2).min(MAX_PATIENCE), ..self.hurried };
            let sql = Arc::clone(&self.sql);
            tokio::spawn(async move {
                let flush = "SELECT pg_catalog.pg_logical_emit_message(true, 'rowbridge', '')";
                if let Err(error) = sql.batch_execute(flush).await {
                    tracing::debug!(%error, "the log was not flushed");
                }
            });
        }
        self.status(true).await
    }

    async fn keep_alive(&mut self) -> Result<(), PostgresError> {
        self.status(false).await
    }

    fn watch(&mut self, tables: &[TableName]) {
        self.watched = tables.to_vec();
        for relation in self.relations.values_mut().flatten() {
            relation.watched = tables.contains(&relation.def.name);
        }
    }

    async fn end(&mut self) -> Result<Offset, PostgresError> {
        let failed = |source| PostgresError::query("read the end of the log", source);
        let row =
            self.sql.query_one("SELECT pg_catalog.pg_current_wal_lsn()::text", &[]).await.map_err(failed)?;
        let text: String = row.try_get(0).map_err(failed)?;
        Ok(Offset { file: 0, at: parse_lsn(&text).unwrap_or(0) })
    }

    /// Ends the stream in order, so that the slot is free at once.
    async fn close(mut self) {
        let confirmed = self.confirmed;
        let _ = self.stream.standby_status(confirmed, confirmed, false).await;
        if let Err(error) = self.stream.close().await {
            tracing::debug!(%error, "the replication connection did not end in order");
        }
    }
}

/// Options of the replication connection: the same address and the same TLS as for SQL.
///
/// # Errors
/// A host name that no certificate can carry.
pub fn connect_options(connector: &Connector) -> Result<ConnectOptions, PostgresError> {
    let url = &connector.url;
    let settings = || match (&connector.tls, ServerName::try_from(url.host.clone())) {
        (Some(config), Ok(server_name)) => Ok(TlsSettings { config: Arc::clone(config), server_name }),
        _ => Err(PostgresError::NotReady {
            problem: format!("{} cannot be checked as a TLS name", url.host),
            fix: "Use a host name or an address in source.url, or sslmode=disable.".into(),
        }),
    };
    let tls = match url.ssl_mode {
        SslMode::Disable => TlsMode::Disable,
        _ if url.host.starts_with('/') => TlsMode::Disable,
        SslMode::Prefer => TlsMode::Prefer(settings()?),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => TlsMode::Require(settings()?),
    };
    Ok(ConnectOptions {
        host: url.host.clone(),
        port: url.port,
        user: url.user.clone(),
        password: url.password.as_ref().map(|password| password.expose().to_owned()),
        database: url.database.clone(),
        application_name: "rowbridge stream".into(),
        tls,
        connect_timeout: Duration::from_secs(10),
    })
}

/// A pooler hands out other people's sessions: settings, snapshots and replication do not survive that.
///
/// # Errors
/// `NotReady` when two statements meet two servers.
pub async fn refuse_pooler(client: &Client) -> Result<(), PostgresError> {
    let failed = |source| PostgresError::query("look for a pooler", source);
    // A transaction pooler answers BEGIN..COMMIT from any session; a setting made outside is then missing.
    client.batch_execute("SET application_name = 'rowbridge pooler probe'").await.map_err(failed)?;
    for _ in 0..2 {
        let row = client
            .query_one(
                "SELECT pg_catalog.current_setting('application_name'), pg_catalog.current_setting('search_path')",
                &[],
            )
            .await
            .map_err(failed)?;
        let name: String = row.try_get(0).map_err(failed)?;
        let path: String = row.try_get(1).map_err(failed)?;
        if name != "rowbridge pooler probe" || !path.trim_matches('"').is_empty() {
            return Err(client::pooler("two statements of one session ran in two server processes"));
        }
    }
    client.batch_execute("SET application_name = 'rowbridge capture'").await.map_err(failed)
}

/// Where the server left the timeline that we know: commits before are the same on both.
async fn switch_point(walsender: &mut Walsender, timeline: u32, before: u32) -> Result<u64, PostgresError> {
    let rows = walsender.simple_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
    let content =
        rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten().unwrap_or_default();
    let switch = content.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()?.parse::<u32>().ok()? == before).then(|| parse_lsn(fields.next()?)).flatten()
    });
    switch.ok_or_else(|| PostgresError::NotReady {
        problem: format!(
            "the server is on timeline {timeline}, which does not descend from timeline {before}"
        ),
        fix: "Run `rowbridge snapshot --all` to start over from this server.".into(),
    })
}
