//! Joins blocks into one delivery.
//!
//! - A batch takes what is there and is bounded by bytes and changes; the bounds double while batches come out full and
//!   halve while they do not, so that a backlog moves in large pieces and a live stream commits block by block.
//! - Blocks go into a delivery as they lie in the journal. Only where an endpoint takes some tables of a block are its
//!   runs picked, by the block's index and without decoding.
//! - Transactions are not mixed into an unfinished one: a batch ends before the first part of a transaction that does not
//!   end in it, and behind the last part of one that began in an earlier delivery. So what is complete commits at once.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rowbridge_schema::signature::batch_id;
use rowbridge_schema::wire::{BlockHead, DeliveryHead, WIRE_VERSION, encode_delivery};
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName, TableId, TableName, TablePatterns};

use super::attempt::Request;
use crate::journal::{Block, JournalError, JournalReader, TableRef};

/// A first batch is small, so that a long backlog begins with a quick answer.
const START_BYTES: usize = 256 * 1024;
const START_CHANGES: u64 = 1_000;
/// Beyond this a target's set operations gain nothing, while memory is held three times (in flight, next, compressed).
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// One set operation's worth; above it targets cut the batch again.
const MAX_CHANGES: u64 = 20_000;
/// Room for the head, which holds at most two names, a source and two positions.
const HEADROOM: usize = 4 * 1024;
/// A block's head without a chunk, with separators.
const BLOCK_HEAD: usize = 256;
/// Never cut below this: a body this small is refused for another reason than its size.
const MIN_BYTES: usize = 1024;
/// Blocks and bytes looked at in one go, so that a lane that passes over gigabytes still hears a stop.
const LOOK: usize = 256;
const LOOK_BYTES: usize = 2 * MAX_BYTES;
/// Smaller bodies fit one or two packets anyway.
const COMPRESS_ABOVE: usize = 1024;
/// Level 1 is as small as the higher ones on rows, at a fraction of the time.
const ZSTD_LEVEL: i32 = 1;

/// What all deliveries of a lane have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) stream: StreamName,
    pub(crate) endpoint: EndpointName,
    pub(crate) source: SourceId,
    pub(crate) tables: TablePatterns,
    pub(crate) max_transaction: u64,
}

/// Where a lane stands between two deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// What the target has committed or staged; `None` for a lane that it has never heard of.
    pub(crate) prev: Option<Position>,
    /// Last position looked at.
    pub(crate) scanned: Position,
    /// The last block looked at did not end its transaction.
    in_transaction: bool,
    /// Something of that transaction was taken and is not committed.
    taken: bool,
    /// Bytes of it taken since its beginning or last commit.
    bytes: u64,
    /// The target holds a transaction open for it.
    pub(crate) open: bool,
}

impl Chain {
    /// A lane that goes on behind `scanned` at a target that stands at `prev`.
    pub(crate) fn at(prev: Option<Position>, scanned: Position) -> Self {
        Self { prev, scanned, in_transaction: false, taken: false, bytes: 0, open: false }
    }
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    bytes: usize,
    changes: u64,
    /// Lowered by an answer 413, for the rest of the lane's life: a proxy's limit stays.
    cap: usize,
    /// What the endpoint's last word on `max_body` leaves.
    told: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: START_BYTES, changes: START_CHANGES, cap: MAX_BYTES, told: MAX_BYTES }
    }
}

impl Limits {
    /// The endpoint said how large a body may be.
    pub(crate) fn told(&mut self, max_body: u64) {
        let room = usize::try_from(max_body).unwrap_or(usize::MAX).saturating_sub(HEADROOM);
        self.told = room.max(MIN_BYTES);
    }

    /// A body of `bytes` was too large.
    pub(crate) fn halve(&mut self, bytes: usize) {
        self.cap = (bytes.min(self.bytes()) / 2).max(MIN_BYTES);
    }

    fn bytes(&self) -> usize {
        self.bytes.min(self.cap).min(self.told)
    }

    fn adapt(&mut self, full: bool, bytes: usize, changes: u64) {
        if full {
            self.bytes = (self.bytes * 2).min(MAX_BYTES);
            self.changes = (self.changes * 2).min(MAX_CHANGES);
        } else if bytes < self.bytes / 4 && changes < self.changes / 4 {
            self.bytes = (self.bytes / 2).max(START_BYTES);
            self.changes = (self.changes / 2).max(START_CHANGES);
        }
    }
}

/// One delivery, encoded.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) request: Request,
    /// `None` in a handshake.
    pub(crate) to: Option<Position>,
    pub(crate) open: bool,
    pub(crate) split: bool,
    /// Blocks that it carries.
    pub(crate) blocks: usize,
    pub(crate) changes: u64,
    /// Size before compression.
    pub(crate) bytes: usize,
    /// Commit times of its blocks in microseconds since 1970, snapshots left out.
    pub(crate) commits: Vec<i64>,
    /// Tables that it carries, for an error that names them.
    pub(crate) tables: Vec<TableName>,
    /// Where the lane stood before, to cut it anew from there.
    pub(crate) before: Chain,
}

impl Delivery {
    /// Asks the target where it is. Each handshake has an id of its own, so that an old answer fits none.
    pub(crate) fn handshake(common: &Common) -> Self {
        let head = head(common, None, None);
        let body = encode_delivery(&head, std::iter::empty(), std::iter::empty(), 0);
        let nonce = format!("{:016x}", rand::random::<u64>());
        let id = batch_id(common.stream.as_str(), common.endpoint.as_str(), "", &nonce);
        Self {
            to: None,
            open: false,
            split: false,
            blocks: 0,
            changes: 0,
            bytes: body.len(),
            commits: Vec::new(),
            tables: Vec::new(),
            before: Chain::at(None, Position::ZERO),
            request: Request { id: id.into(), body: body.into(), encoding: None, signed: None },
        }
    }

    pub(crate) fn is_handshake(&self) -> bool {
        self.to.is_none()
    }
}

fn head(common: &Common, prev: Option<Position>, to: Option<Position>) -> DeliveryHead {
    DeliveryHead {
        rowbridge: WIRE_VERSION,
        stream: common.stream.clone(),
        endpoint: common.endpoint.clone(),
        source: common.source.clone(),
        prev,
        to,
        open: false,
        split: false,
    }
}

/// A block, or what the endpoint takes of it.
#[derive(Debug)]
struct Taken {
    block: Arc<Block>,
    /// Tables that the taken part refers to.
    tables: Vec<Arc<TableRef>>,
    pieces: Vec<Range<usize>>,
    changes: u64,
    bytes: usize,
}

/// The delivery that is being made.
#[derive(Debug, Default)]
struct Pending {
    taken: Vec<Taken>,
    tables: Vec<Arc<TableRef>>,
    known: HashSet<TableId>,
    bytes: usize,
    changes: u64,
    /// The next block belongs into another delivery.
    closed: bool,
    /// `closed` because of the bounds.
    full: bool,
}

/// Reads blocks and makes deliveries of them, one ahead of the one in flight.
#[derive(Debug)]
pub(crate) struct Batcher<R> {
    reader: R,
    /// Read, but belongs into the next delivery.
    held: Option<Arc<Block>>,
    /// As of the last delivery made.
    sealed: Chain,
    /// As of the last block taken or passed.
    chain: Chain,
    pending: Pending,
    /// Whether a table is taken, by its definition.
    choice: HashMap<TableId, bool>,
}

impl<R: JournalReader> Batcher<R> {
    pub(crate) fn new(reader: R, chain: Chain) -> Self {
        let pending = Pending::default();
        Self { reader, held: None, sealed: chain, chain, pending, choice: HashMap::new() }
    }

    /// Where the lane stands, counting what was looked at and not sent.
    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    /// Whether the target waits for the rest of a transaction.
    pub(crate) fn is_open(&self) -> bool {
        self.sealed.open
    }

    /// Whether there is something that should be sent now: changes, or the end of a transaction that is open.
    pub(crate) fn has_content(&self) -> bool {
        !self.pending.taken.is_empty() || (self.sealed.open && !self.chain.in_transaction)
    }

    /// Whether nothing more fits.
    pub(crate) fn is_closed(&self) -> bool {
        self.pending.closed
    }

    /// Commit time of the oldest change that waits here.
    pub(crate) fn oldest_commit(&self) -> Option<i64> {
        self.pending.taken.first().map(|taken| taken.block.head.at)
    }

    /// Resolves when [`Self::collect`] may find something. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        if self.held.is_none() {
            self.reader.ready().await;
        }
    }

    /// Takes what is there, up to the bounds.
    pub(crate) fn collect(&mut self, common: &Common, limits: &Limits) -> Result<(), JournalError> {
        let mut looked = 0;
        for _ in 0..LOOK {
            if self.pending.closed || looked > LOOK_BYTES {
                break;
            }
            let block = match self.held.take() {
                Some(block) => block,
                None => match self.reader.try_next() {
                    Ok(Some(block)) => block,
                    Ok(None) => break,
                    // What is whole before the damage is delivered; reading again meets the error again.
                    Err(_) if self.has_content() => {
                        self.pending.closed = true;
                        break;
                    }
                    Err(error) => return Err(error),
                },
            };
            looked += block.body.len();
            // A target that is ahead of the journal has what the journal captures again.
            if block.head.last > self.chain.scanned {
                self.offer(common, limits, block);
            }
        }
        Ok(())
    }

    fn offer(&mut self, common: &Common, limits: &Limits, block: Arc<Block>) {
        let taken = self.choose(common, &block);
        let pending = &mut self.pending;
        if let Some(taken) = &taken
            && !pending.taken.is_empty()
        {
            let new_tables: usize = taken
                .tables
                .iter()
                .filter(|table| !pending.known.contains(&table.id))
                .map(|table| table.json.len() + 32)
                .sum();
            let over = pending.bytes + taken.bytes + new_tables > limits.bytes()
                || pending.changes + taken.changes > limits.changes;
            // What is complete commits before a transaction that is not begins; its own parts stay together.
            let begins_long = !block.ends && !self.chain.taken;
            if over || begins_long {
                pending.full = over;
                pending.closed = true;
                self.held = Some(block);
                return;
            }
        }
        self.chain.scanned = block.head.last;
        if let Some(taken) = taken {
            self.chain.bytes += taken.bytes as u64;
            self.chain.taken |= !block.ends || self.chain.in_transaction;
            for table in &taken.tables {
                if pending.known.insert(table.id) {
                    pending.bytes += table.json.len() + 32;
                    pending.tables.push(Arc::clone(table));
                }
            }
            pending.bytes += taken.bytes;
            pending.changes += taken.changes;
            pending.taken.push(taken);
        }
        self.chain.in_transaction = !block.ends;
        if block.ends {
            // The end of a long transaction commits by itself.
            pending.closed |= self.chain.taken;
            self.chain.taken = false;
            self.chain.bytes = 0;
        }
    }

    /// What the endpoint takes of a block; `None` if nothing.
    fn choose(&mut self, common: &Common, block: &Arc<Block>) -> Option<Taken> {
        if !block.only.is_empty() && !block.only.contains(&common.endpoint) {
            return None;
        }
        let choice = &mut self.choice;
        let takes: Vec<bool> = block
            .tables
            .iter()
            .map(|table| *choice.entry(table.id).or_insert_with(|| common.tables.matches(&table.name)))
            .collect();
        let (mut pieces, mut changes) = (Vec::new(), 0);
        if takes.iter().all(|takes| *takes) {
            if !block.body.is_empty() {
                pieces.push(0..block.body.len());
            }
            changes = block.changes();
        } else {
            let mut adjacent = false;
            for run in &block.runs {
                // The journal checked the index; a run without a table would be refused by the target, not lost here.
                let taken = takes.get(run.table as usize).copied().unwrap_or(true);
                if taken {
                    changes += u64::from(run.count);
                    match pieces.last_mut() {
                        // Neighbours are one piece, with the comma between them.
                        Some(Range { end, .. }) if adjacent => *end = run.end as usize,
                        _ => pieces.push(run.start as usize..run.end as usize),
                    }
                }
                adjacent = taken;
            }
        }
        let chunk = block.head.chunk.as_ref().is_some_and(|chunk| {
            let index = block.tables.iter().position(|table| table.id == chunk.table);
            index.is_none_or(|index| takes[index])
        });
        if pieces.is_empty() && !chunk {
            return None;
        }
        // A block lists only tables that it refers to, so a table that is taken is one that is used.
        let tables = block.tables.iter().zip(&takes).filter(|(_, takes)| **takes);
        let tables = tables.map(|(table, _)| Arc::clone(table)).collect();
        let bytes = pieces.iter().map(|piece| piece.len() + 1).sum::<usize>() + head_size(&block.head);
        Some(Taken { block: Arc::clone(block), tables, pieces, changes, bytes })
    }

    /// Makes a delivery of what was taken and passed, possibly an empty one that only moves the target's position.
    pub(crate) fn seal(&mut self, common: &Common, limits: &mut Limits, zstd: bool) -> Delivery {
        let pending = std::mem::take(&mut self.pending);
        limits.adapt(pending.full, pending.bytes, pending.changes);
        let (before, to) = (self.sealed, self.chain.scanned);
        let unfinished = self.chain.in_transaction && self.chain.taken;
        let split = unfinished && self.chain.bytes > common.max_transaction;
        let open = unfinished && !split;
        if split {
            // This delivery commits; what follows of the transaction starts to count anew.
            self.chain.taken = false;
            self.chain.bytes = 0;
        }
        self.chain.open = open;
        self.chain.prev = Some(to);
        self.sealed = self.chain;

        let head = DeliveryHead {
            open,
            split,
            ..head(common, Some(before.prev.unwrap_or(Position::ZERO)), Some(to))
        };
        let pieces: Vec<Vec<&[u8]>> = pending
            .taken
            .iter()
            .map(|taken| {
                taken.pieces.iter().filter_map(|piece| taken.block.body.get(piece.clone())).collect()
            })
            .collect();
        let body = encode_delivery(
            &head,
            pending.tables.iter().map(|table| (table.id, table.json.as_str())),
            pending.taken.iter().zip(&pieces).map(|(taken, pieces)| (&taken.block.head, pieces.as_slice())),
            pending.bytes,
        );
        let bytes = body.len();
        let compressed = if zstd && bytes > COMPRESS_ABOVE {
            zstd::bulk::compress(&body, ZSTD_LEVEL).ok().filter(|compressed| compressed.len() < bytes)
        } else {
            None
        };
        let (body, encoding) = match compressed {
            Some(compressed) => (Bytes::from(compressed), Some("zstd")),
            None => (Bytes::from(body), None),
        };
        // Whether a part is staged or committed belongs to what a delivery is, so it has another id.
        let suffix = if open {
            "+open"
        } else if split {
            "+split"
        } else {
            ""
        };
        let prev = before.prev.map(|prev| prev.to_string()).unwrap_or_default();
        let id = batch_id(common.stream.as_str(), common.endpoint.as_str(), &prev, &format!("{to}{suffix}"));
        let commits = pending.taken.iter().filter(|taken| taken.block.head.chunk.is_none());
        Delivery {
            request: Request { id: id.into(), body, encoding, signed: None },
            to: Some(to),
            open,
            split,
            blocks: pending.taken.len(),
            changes: pending.changes,
            bytes,
            commits: commits.map(|taken| taken.block.head.at).collect(),
            tables: pending.tables.iter().map(|table| table.name.clone()).collect(),
            before,
        }
    }
}

fn head_size(head: &BlockHead) -> usize {
    match &head.chunk {
        // A chunk lists keys: only writing it tells its size.
        Some(_) => serde_json::to_vec(head).map_or(BLOCK_HEAD, |json| json.len() + 16),
        None => BLOCK_HEAD,
    }
}
