//! Capture from PostgreSQL by logical replication (pgoutput, protocol version 1).
//!
//! Each message between Begin and Commit belongs to one committed transaction, transactions come in commit order, and the
//! commit LSN is known from Begin on: so a change's position is known when it is read, and nothing is held back.

pub mod catalog;
pub mod check;
pub mod client;
pub mod error;
mod labels;
mod logical;
mod look;
pub mod pgoutput;
mod relation;
pub mod setup;
mod shapes;
pub mod timeline;
mod transaction;
pub mod walsender;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rowbridge_schema::config::SourceConfig;
use rowbridge_schema::wire::Op;
use rowbridge_schema::{Offset, Position, SourceId, TableName};
use tokio::time::Instant;
use tokio_postgres::Client;

use self::catalog::Catalog;
use self::client::{Connector, connect_options, refuse_pooler};
pub use self::error::PostgresError;
use self::look::Look;
use self::pgoutput::Message;
use self::relation::{Announced, Relation};
use self::shapes::{Question, answer, sent_columns};
use self::timeline::switch_point;
use self::transaction::Transaction;
use self::walsender::{
    Frame, ReplicationStream, SILENCE_LIMIT, STATUS_INTERVAL, Walsender, format_lsn, parse_lsn,
};
use super::{Capture, CaptureStart, Captured, Retained};
use crate::journal::Resume;
use crate::state::SentColumns;

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
    /// A publisher has noted that it was sending existing rows; see [`setup::mark_snapshot`].
    pub unfinished: bool,
}

/// A running capture.
pub struct PostgresCapture {
    source: SourceId,
    options: PostgresOptions,
    epoch: u32,
    sql: Arc<Client>,
    /// The session of looks: in the other one, what the stream waits for would wait for them.
    looks: Arc<Client>,
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
    /// A message whose row has a label that the catalog did not know; it is looked at again after the catalog.
    held: Option<Bytes>,
    /// Tables to look up again, because they became or ceased to be partitions.
    moved: Vec<u32>,
    /// A transaction that made `pending` necessary and that a snapshot may not see yet.
    unseen: Option<u32>,
    /// What the catalog is being asked.
    asking: Option<Question>,
    /// A look into the catalog that goes on beside the stream.
    look: Option<Look>,
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
    /// The note of a snapshot is there.
    marked: bool,
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
        let (sql, looks) =
            tokio::try_join!(options.connector.connect("capture"), options.connector.connect("catalog"))?;
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
        let source = source_id(&system.system_id, &options.source.slot);
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
        let wanted: &[_] = if options.source.messages.is_some() { &[("messages", "true")] } else { &[] };
        let stream = walsender.start_replication(&options.source.slot, from, &names, wanted).await?;
        tracing::info!(slot = %options.source.slot, from = %format_lsn(from), tables = catalog.tables.len(), "streaming");
        let now = Instant::now();
        let mut added = plan.added;
        added.extend(plan.upgraded);
        let unfinished = setup::is_snapshot_marked(&sql, &options.source.slot).await?;
        let opened = Opened { timeline: system.timeline, switched_at, added, from, unfinished };
        let capture = Self {
            source,
            options: PostgresOptions { earlier_epochs: earlier, ..options },
            epoch,
            sql: Arc::new(sql),
            looks: Arc::new(looks),
            stream,
            sent: catalog.tables.values().map(sent_columns).collect(),
            catalog: Arc::new(catalog),
            relations: HashMap::new(),
            said: HashMap::new(),
            announced: None,
            reread: false,
            held: None,
            moved: Vec::new(),
            unseen: None,
            asking: None,
            look: None,
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
            marked: unfinished,
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
        self.message(data, true)
    }

    /// Takes one message. With `ask`, a row with a label that is not known waits for a look into the catalog.
    fn message(&mut self, data: Bytes, ask: bool) -> Result<Option<Captured>, PostgresError> {
        let message = pgoutput::parse(&data)?;
        if let Message::Insert { oid, new } | Message::Update { oid, new, .. } = &message
            && let Some(relation) = self.relations.get_mut(oid).and_then(Option::as_mut)
        {
            let unknown = labels::unknown(&relation.enums, new);
            if !unknown.is_empty() {
                let unknown = unknown.into_iter().map(|(index, label)| (index, label.into_owned())).collect();
                if ask {
                    self.announced = self.said.get(oid).cloned();
                    self.reread = true;
                    self.ask_catalog();
                    self.held = Some(data);
                    return Ok(None);
                }
                labels::accept(&mut relation.enums, unknown);
            }
        }
        match message {
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
            Message::Message(message) => self.logical_message(&message),
            Message::Origin { .. } | Message::Type { .. } => Ok(None),
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
                        self.unseen = Some(transaction.xid());
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

/// How deliveries name a source: a slot of a cluster.
#[must_use]
pub fn source_id(system_id: &str, slot: &str) -> SourceId {
    SourceId(format!("postgres:{system_id}:{slot}"))
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
                Some(Question::Visible(task)) => {
                    let answered = answer(task).await;
                    self.asking = None;
                    answered?;
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
            if let Some(data) = self.held.take() {
                match self.message(data, false)? {
                    Some(captured) => return Ok(captured),
                    None => continue,
                }
            }
            if self.transaction.is_none()
                && let Some(xid) = self.unseen.take()
            {
                self.ask_visible(xid);
                continue;
            }
            // Between transactions only: what waits here belongs behind what was captured before it.
            if self.transaction.is_none() {
                if let Some(captured) = self.pending.pop_front() {
                    return Ok(captured);
                }
                if let Some(found) = self.found() {
                    self.looked(found)?;
                    continue;
                }
                self.look_if_due();
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
            let look = self.look.as_mut().filter(|_| self.transaction.is_none());
            let frame = tokio::select! {
                biased; // 1 what the stream brings, 2 what the catalog says
                frame = self.stream.next() => frame?,
                found = look::found(look) => {
                    self.looked(found)?;
                    continue;
                }
                () = tokio::time::sleep(pause) => continue,
            };
            if let Some(captured) = self.take(frame)? {
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

    /// Decoding skips commit records that begin before the slot's position.
    fn resume_behind(&self, position: Position) -> Resume {
        resume(position.offset.at + 1)
    }

    /// No record begins in the byte before another one, so this lies behind all commits that were passed.
    fn reached_by(&self, resume: &Resume) -> Position {
        let before = parse_lsn(&resume.0).unwrap_or(0).saturating_sub(1);
        Position::new(self.epoch_of(before), before, 0)
    }

    async fn mark_snapshot(&mut self, pending: bool) -> Result<(), PostgresError> {
        if pending != self.marked {
            setup::mark_snapshot(&self.sql, &self.options.source.slot, pending).await?;
            self.marked = pending;
        }
        Ok(())
    }

    async fn retained(&mut self) -> Result<Option<Retained>, PostgresError> {
        let failed = |source| PostgresError::query("read what the slot holds", source);
        let row = self
            .sql
            .query_opt(
                "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8,
                        pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), confirmed_flush_lsn)::int8
                 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                &[&self.options.source.slot],
            )
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let number = |index: usize| row.try_get::<_, Option<i64>>(index).map_err(failed);
        let bytes = |number: Option<i64>| u64::try_from(number.unwrap_or(0)).unwrap_or(0);
        Ok(Some(Retained { bytes: bytes(number(0)?), unconfirmed: bytes(number(1)?) }))
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
