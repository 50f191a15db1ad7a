//! A journal in memory and an endpoint on loopback whose answers can be scripted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rowbridge_schema::signature::{SignedHeaders, sign, verify};
use rowbridge_schema::wire::{
    Answer, AnswerStatus, Chunk, Op, RunKind, RunWriter, WIRE_VERSION, parse_delivery,
};
use rowbridge_schema::{Column, Dialect, EndpointName, Position, SigningKey, TableDef, TableName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::journal::{Block, Durable, Journal, JournalError, JournalReader, JournalStats, Resume, TableRef};

pub(super) fn at(commit: u64, ordinal: u64) -> Position {
    Position::new(1, commit, ordinal)
}

/// A table with one text column.
pub(super) fn table(name: &str) -> Arc<TableRef> {
    let column = Column { not_null: true, ..Column::new("id", "text") };
    Arc::new(TableRef::new(&TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", name),
        columns: vec![column],
        key: vec![0],
        types: vec![],
        options: vec![],
    }))
}

/// A part of the transaction at `commit` that begins with ordinal `first`: one insert of `size` bytes per named table.
pub(super) fn part(commit: u64, first: u64, tables: &[&str], size: usize, ends: bool) -> Arc<Block> {
    let mut names: Vec<&str> = Vec::new();
    for name in tables {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let refs: Vec<_> = names.iter().map(|name| table(name)).collect();
    let mut writer = RunWriter::new();
    for (i, name) in tables.iter().enumerate() {
        let index = names.iter().position(|known| known == name).unwrap();
        let kind = RunKind {
            table: refs[index].id,
            table_index: index as u32,
            op: Op::Insert,
            old: &[],
            new: &[0],
            maybe_missing: false,
        };
        writer.row(kind, first + i as u64, |row| row.text(&"x".repeat(size)));
    }
    let (body, runs) = writer.finish();
    Arc::new(Block {
        head: rowbridge_schema::wire::BlockHead {
            first: at(commit, first),
            last: at(commit, first + tables.len() as u64 - 1),
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64,
            step: rowbridge_schema::wire::Step::Ordinal,
            chunk: None,
        },
        ends,
        resume: None,
        only: vec![],
        tables: refs,
        runs,
        body,
    })
}

/// A transaction of one change.
pub(super) fn change(commit: u64, table: &str) -> Arc<Block> {
    part(commit, 1, &[table], 10, true)
}

#[derive(Debug)]
pub(super) struct MemoryJournal {
    blocks: watch::Sender<Vec<Arc<Block>>>,
    oldest: Mutex<Position>,
    /// Reading fails behind this position.
    pub(super) broken: Arc<Mutex<Option<Position>>>,
    pub(super) released: watch::Sender<Option<Position>>,
    pub(super) short: watch::Sender<bool>,
}

impl MemoryJournal {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            blocks: watch::Sender::new(vec![]),
            oldest: Mutex::default(),
            broken: Arc::default(),
            released: watch::Sender::new(None),
            short: watch::Sender::new(false),
        })
    }

    pub(super) fn push(&self, block: Arc<Block>) {
        self.blocks.send_modify(|blocks| blocks.push(block));
    }

    /// Removes everything up to `position`.
    pub(super) fn trim(&self, position: Position) {
        *self.oldest.lock().unwrap() = position;
        self.blocks.send_modify(|blocks| blocks.retain(|block| block.head.last > position));
    }
}

pub(super) struct MemoryReader {
    blocks: watch::Receiver<Vec<Arc<Block>>>,
    after: Position,
    broken: Arc<Mutex<Option<Position>>>,
}

impl Journal for MemoryJournal {
    type Reader = MemoryReader;

    async fn append(&self, block: Arc<Block>) -> Result<bool, JournalError> {
        self.push(block);
        Ok(true)
    }

    async fn mark(&self, _: Resume) -> Result<(), JournalError> {
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        watch::channel(Durable::default()).1
    }

    fn last(&self) -> Option<Position> {
        self.blocks.borrow().last().map(|block| block.head.last)
    }

    async fn room(&self) {}

    fn short(&self) -> watch::Receiver<bool> {
        self.short.subscribe()
    }

    fn reader(&self, after: Position) -> Result<MemoryReader, JournalError> {
        let oldest = self.oldest();
        if after < oldest {
            return Err(JournalError::Gone { oldest });
        }
        Ok(MemoryReader { blocks: self.blocks.subscribe(), after, broken: Arc::clone(&self.broken) })
    }

    fn release(&self, _: &EndpointName, position: Position) {
        self.released.send_replace(Some(position));
    }

    fn set_lanes(&self, _: &[EndpointName]) {}

    fn oldest(&self) -> Position {
        *self.oldest.lock().unwrap()
    }

    fn stats(&self) -> JournalStats {
        JournalStats::default()
    }
}

impl JournalReader for MemoryReader {
    fn try_next(&mut self) -> Result<Option<Arc<Block>>, JournalError> {
        let next = self.blocks.borrow_and_update().iter().find(|block| block.head.last > self.after).cloned();
        if let Some(block) = &next {
            if self.broken.lock().unwrap().is_some_and(|broken| block.head.last > broken) {
                let (path, reason) = ("segment-1".into(), "wrong checksum");
                return Err(JournalError::Corrupt { path, offset: 7, after: self.after, reason });
            }
            self.after = block.head.last;
        }
        Ok(next)
    }

    async fn ready(&mut self) {
        let after = self.after;
        let found = self.blocks.wait_for(|blocks| blocks.iter().any(|block| block.head.last > after)).await;
        assert!(found.is_ok(), "the journal outlives its readers");
    }
}

/// What the endpoint does with one request instead of answering it properly.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// This status and these header lines, no body, unsigned.
    Status(u16, &'static str),
    /// A proper 200, applied, signed by somebody else.
    Forged,
    /// A proper 200 without a signature, not applied.
    Unsigned,
    /// Applies, then cuts the answer in its body.
    CutAnswer,
    /// Cuts the connection before it read the request's body.
    CutRequest,
    /// Answers properly, but only then.
    Slow(Duration),
    /// A signed answer with this HTTP and wire status.
    Signed(u16, AnswerStatus),
}

/// One delivery that arrived with a valid signature.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) prev: Option<Position>,
    pub(super) to: Option<Position>,
    pub(super) open: bool,
    pub(super) split: bool,
    pub(super) tables: Vec<String>,
    pub(super) changes: Vec<Position>,
    /// Chunks of a snapshot among its blocks.
    pub(super) chunks: Vec<Chunk>,
    /// `content-encoding`.
    pub(super) encoding: Option<String>,
    /// Inflated.
    pub(super) body: Vec<u8>,
    pub(super) at: std::time::Instant,
}

#[derive(Debug, Default)]
pub(super) struct TargetState {
    pub(super) position: Option<Position>,
    pub(super) staged: Option<(Position, Vec<Position>)>,
    /// Changes that took effect, in order.
    pub(super) applied: Vec<Position>,
    pub(super) seen: Vec<Seen>,
    /// Met in order by deliveries that are no handshakes.
    pub(super) faults: VecDeque<Fault>,
    /// Met by every request.
    pub(super) always: Option<Fault>,
    pub(super) max_body: Option<u64>,
    /// Encodings that the answers offer.
    pub(super) encodings: Vec<String>,
    pub(super) in_flight: usize,
    pub(super) most_in_flight: usize,
    /// Time that every answer takes.
    pub(super) delay: Duration,
    pub(super) bad_signatures: usize,
    pub(super) connections: usize,
}

/// An endpoint with a target behind it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) state: Arc<Mutex<TargetState>>,
    pub(super) key: SigningKey,
    pub(super) port: u16,
    changed: Arc<watch::Sender<u64>>,
    held: Arc<watch::Sender<bool>>,
}

impl Target {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Speaks TLS, if there is an acceptor.
    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Self {
            state: Arc::default(),
            key: SigningKey::generate(),
            port: listener.local_addr().unwrap().port(),
            changed: Arc::new(watch::Sender::new(0)),
            held: Arc::new(watch::Sender::new(false)),
        };
        target.with(|state| state.encodings = vec!["zstd".to_owned()]);
        let server = target.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (server.clone(), tls.clone());
                server.with(|state| state.connections += 1);
                tokio::spawn(async move {
                    stream.set_nodelay(true).ok()?;
                    match tls {
                        Some(tls) => server.serve(tls.accept(stream).await.ok()?).await,
                        None => server.serve(stream).await,
                    }
                });
            }
        });
        target
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut TargetState) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// Waits until the state is as wanted; fails with the state after ten seconds.
    pub(super) async fn until(&self, wanted: impl Fn(&TargetState) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !self.with(|state| wanted(state)) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
            panic!("the target never came there: {:#?}", self.state.lock().unwrap());
        }
    }

    /// Keeps requests in flight, and what they bring unapplied, until it is called with `false`.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end;
                }
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            };
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            assert!(head.starts_with("POST /in/shop HTTP/1.1"), "{head}");
            assert!(header("user-agent").unwrap().starts_with("rowbridge/"));
            let length: usize = header("content-length").unwrap().parse().unwrap();
            let always = self.with(|state| state.always.clone());
            if matches!(always, Some(Fault::CutRequest)) {
                return None;
            }
            while buffer.len() < end + 4 + length {
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            }
            let body: Vec<u8> = buffer.drain(..end + 4 + length).skip(end + 4).collect();
            let (id, time) = (header("webhook-id").unwrap(), header("webhook-timestamp").unwrap());
            let signature = header("webhook-signature").unwrap();
            let headers = SignedHeaders { id: &id, timestamp: &time, signature: &signature };
            if verify(std::slice::from_ref(&self.key), headers, &body, now(), 300).is_err() {
                self.with(|state| state.bad_signatures += 1);
                stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.ok()?;
                continue;
            }
            let delay = self.with(|state| {
                state.in_flight += 1;
                state.most_in_flight = state.most_in_flight.max(state.in_flight);
                state.delay
            });
            self.changed.send_modify(|count| *count += 1);
            tokio::time::sleep(delay).await;
            let _ = self.held.subscribe().wait_for(|held| !held).await;
            let (fault, status, answer) = self.take(&id, body, header("content-encoding"));
            if let Some(Fault::Slow(wait)) = fault {
                tokio::time::sleep(wait).await;
            }
            self.with(|state| state.in_flight -= 1);
            self.changed.send_modify(|count| *count += 1);
            let body = serde_json::to_vec(&answer).unwrap();
            let stranger = SigningKey::generate();
            let response = match &fault {
                Some(Fault::Status(status, lines)) => {
                    format!("HTTP/1.1 {status} X\r\n{lines}content-length: 0\r\n\r\n").into_bytes()
                }
                Some(Fault::CutRequest) => return None,
                _ => {
                    let key = if matches!(fault, Some(Fault::Forged)) { &stranger } else { &self.key };
                    let mut signature = sign(std::slice::from_ref(key), &id, now(), &body);
                    if matches!(fault, Some(Fault::Unsigned)) {
                        signature.clear();
                    }
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nwebhook-id: {id}\r\nwebhook-timestamp: {}\r\nwebhook-signature: \
                         {signature}\r\ncontent-length: {}\r\n\r\n",
                        now(),
                        body.len()
                    );
                    [head.as_bytes(), &body].concat()
                }
            };
            if matches!(fault, Some(Fault::CutAnswer)) {
                stream.write_all(&response[..response.len() - 10]).await.ok()?;
                return None;
            }
            stream.write_all(&response).await.ok()?;
        }
    }

    /// What a subscriber does, without a database.
    fn take(&self, id: &str, body: Vec<u8>, encoding: Option<String>) -> (Option<Fault>, u16, Answer) {
        let mut state = self.state.lock().unwrap();
        let body = match encoding.as_deref() {
            Some("zstd") => zstd::bulk::decompress(&body, 1 << 26).unwrap(),
            Some(other) => panic!("content-encoding: {other}"),
            None => body,
        };
        let delivery = parse_delivery(&body).unwrap();
        let changes: Vec<Position> = delivery
            .blocks
            .iter()
            .flat_map(|block| {
                let rows = |run: &rowbridge_schema::wire::Run<'_>| 0..run.changes();
                block.runs.iter().flat_map(move |run| rows(run).map(move |i| block.position(run, i)))
            })
            .collect();
        let mut tables: Vec<_> = delivery.tables.values().map(|def| def.name.to_string()).collect();
        tables.sort();
        let head = delivery.head.clone();
        state.seen.push(Seen {
            id: id.to_owned(),
            prev: head.prev,
            to: head.to,
            open: head.open,
            split: head.split,
            tables,
            changes: changes.clone(),
            chunks: delivery.blocks.iter().filter_map(|block| block.head.chunk.clone()).collect(),
            encoding,
            body: body.clone(),
            at: std::time::Instant::now(),
        });
        let fault = match &state.always {
            Some(fault) => Some(fault.clone()),
            None if head.to.is_some() => state.faults.pop_front(),
            None => None,
        };
        let applies = !matches!(
            fault,
            Some(Fault::Status(..) | Fault::Unsigned | Fault::CutRequest | Fault::Signed(..))
        );
        let mut status = (200, AnswerStatus::Applied);
        if let Some(Fault::Signed(http, wire)) = &fault {
            status = (*http, *wire);
        }
        if applies && let Some(to) = head.to {
            let continues = state.staged.as_ref().is_some_and(|(staged, _)| Some(*staged) == head.prev);
            let mut open =
                state.staged.take().filter(|_| continues).map(|(_, open)| open).unwrap_or_default();
            if !continues && head.prev.filter(|prev| *prev != Position::ZERO) > state.position {
                status = (409, AnswerStatus::Gap);
            } else {
                let position = state.position;
                open.extend(changes.into_iter().filter(|change| Some(*change) > position));
                if head.open {
                    status = (200, AnswerStatus::Staged);
                    state.staged = Some((to, open));
                } else {
                    state.applied.extend(open);
                    state.position = position.max(Some(to));
                }
            }
        }
        let answer = Answer {
            rowbridge: WIRE_VERSION,
            stream: head.stream,
            endpoint: head.endpoint,
            status: status.1,
            position: state.position,
            staged: state.staged.as_ref().map(|(staged, _)| *staged),
            formats: vec!["bridge".to_owned()],
            encodings: state.encodings.clone(),
            max_body: state.max_body,
            message: None,
            failing: vec![],
        };
        (fault, status.0, answer)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
