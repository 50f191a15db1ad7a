//! What writer, readers and the sync thread share: the segments there are, how far they reach, who needs them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rowbridge_schema::{EndpointName, Failpoint, Position};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::codec::Tables;
use super::recent::Recent;
use super::segment::{self, Addr, Disk};
use super::{Block, Durable, JournalError, JournalOptions, Resume};

/// Blocks of the tail that are kept in memory, so that a lane which keeps up never reads a file.
const TAIL_BYTES: usize = 8 << 20;
const TAIL_BLOCKS: usize = 4096;
/// Counted for a block's parts beside its body.
const BLOCK_OVERHEAD: usize = 256;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// Last position before the segment.
    pub(super) begin: Position,
    /// Last position in it; `begin` if it has no block.
    pub(super) last: Position,
    /// Bytes written.
    pub(super) bytes: u64,
    /// When it was last written.
    pub(super) modified: SystemTime,
}

#[derive(Debug)]
struct Entry {
    at: Addr,
    next: Addr,
    bytes: usize,
    block: Arc<Block>,
}

/// The newest blocks: all that stand at `from` or later.
#[derive(Debug)]
pub(super) struct Tail {
    from: Addr,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(from: Addr) -> Self {
        Self { from, entries: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, at: Addr, next: Addr, block: Arc<Block>) {
        let bytes = block.body.len() + BLOCK_OVERHEAD;
        self.bytes += bytes;
        self.entries.push_back(Entry { at, next, bytes, block });
        while self.bytes > TAIL_BYTES || self.entries.len() > TAIL_BLOCKS {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes -= entry.bytes;
            self.from = entry.next;
        }
    }

    /// Whether the tail holds every block from there on.
    pub(super) fn covers(&self, at: Addr) -> bool {
        at >= self.from
    }

    /// The first block at or behind `at`, with the address behind it.
    pub(super) fn next(&self, at: Addr) -> Option<(Addr, Arc<Block>)> {
        let place = self.entries.partition_point(|entry| entry.at < at);
        self.entries.get(place).map(|entry| (entry.next, Arc::clone(&entry.block)))
    }
}

/// A permanent failure, told again by every later call.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    action: &'static str,
    path: PathBuf,
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl Failure {
    pub(super) fn new(action: &'static str, path: &Path, source: &io::Error) -> Self {
        Self { action, path: path.to_owned(), kind: source.kind(), code: source.raw_os_error() }
    }

    pub(super) fn error(&self) -> JournalError {
        let source = self.code.map_or_else(|| self.kind.into(), io::Error::from_raw_os_error);
        JournalError::Io { action: self.action, path: self.path.clone(), source }
    }
}

/// Why the last append found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// `journal.max_bytes`, for so many bytes.
    Bound { need: u64 },
    /// The disk, when so many segments had been removed.
    Disk { removed: u64 },
}

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first; the last one is written to.
    pub(super) segments: VecDeque<Segment>,
    pub(super) active: Arc<File>,
    pub(super) last: Option<Position>,
    pub(super) last_ends: bool,
    pub(super) resume: Option<Resume>,
    /// Everything before is on disk.
    pub(super) synced: Addr,
    /// Readers may go so far.
    pub(super) visible: Addr,
    /// End of the last chunk; it and all behind it wait for the sync.
    pub(super) chunk_end: Addr,
    pub(super) tail: Tail,
    /// Lanes that count, and what each has delivered; `None` until they are named, and everything is held.
    pub(super) lanes: Option<Vec<EndpointName>>,
    pub(super) released: HashMap<EndpointName, Position>,
    pub(super) shortage: Option<Shortage>,
    /// Segments removed since the start.
    pub(super) removed: u64,
    pub(super) failure: Option<Failure>,
    /// A file came or went since the directory was synced.
    pub(super) directory_dirty: bool,
    /// The sync thread shall look for segments to remove now.
    pub(super) check_retention: bool,
    pub(super) closing: bool,
}

impl State {
    pub(super) fn written(&self) -> Addr {
        let active = self.active_segment();
        Addr { sequence: active.sequence, offset: active.bytes }
    }

    pub(super) fn active_segment(&self) -> &Segment {
        self.segments.back().expect("there is always a segment to write to")
    }

    pub(super) fn active_segment_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("there is always a segment to write to")
    }

    pub(super) fn oldest(&self) -> Position {
        self.segments.front().expect("there is always a segment to write to").begin
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// # Errors
    /// What failed for good.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Lets readers go as far as they may: to the end, or to the sync while a chunk waits for it.
    pub(super) fn advance_visible(&mut self) {
        self.visible = match self.chunk_end <= self.synced {
            true => self.written(),
            false => self.visible.max(self.synced),
        };
    }

    /// Whether every lane has delivered what the segment holds. True without lanes, once that was said.
    pub(super) fn delivered(&self, segment: &Segment) -> bool {
        let released = |lane| self.released.get(lane).is_some_and(|&released| released >= segment.last);
        segment.last == segment.begin || self.lanes.as_ref().is_some_and(|lanes| lanes.iter().all(released))
    }

    pub(super) fn undelivered_bytes(&self) -> u64 {
        self.segments.iter().filter(|segment| !self.delivered(segment)).map(|segment| segment.bytes).sum()
    }

    /// Whether `need` bytes more stay within the bound once everything delivered is removed. A block of any size fits
    /// if nothing waits for delivery: it would never fit otherwise.
    pub(super) fn fits(&self, need: u64, max_bytes: u64) -> bool {
        let active = self.active_segment();
        let removable: u64 = self.removable().map(|segment| segment.bytes).sum();
        let undelivered = self.segments.len() > 1 + self.removable().count() || !self.delivered(active);
        !undelivered || self.total_bytes() - removable + need <= max_bytes
    }

    /// Delivered segments at the front; never the one that is written to.
    fn removable(&self) -> impl Iterator<Item = &Segment> {
        let closed = self.segments.len() - 1;
        self.segments.iter().take(closed).take_while(|segment| self.delivered(segment))
    }

    fn forget_foreign_lanes(&mut self) {
        if let Some(lanes) = &self.lanes {
            self.released.retain(|lane, _| lanes.contains(lane));
        }
    }
}

/// Which delivered segments to remove, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trim {
    /// All.
    Delivered,
    /// Until the total is within the bound with so many bytes more.
    For { need: u64 },
    /// Those older than `retain`, or over the bound.
    Expired,
}

pub(super) struct Shared {
    /// The folder of the segments.
    pub(super) dir: PathBuf,
    pub(super) options: JournalOptions,
    pub(super) segment_bytes: u64,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) tables: Tables,
    pub(super) state: Mutex<State>,
    /// Wakes the sync thread.
    pub(super) work: Condvar,
    /// Wakes readers.
    pub(super) appended: watch::Sender<()>,
    /// Wakes who waits for a sync.
    pub(super) synced: watch::Sender<()>,
    /// Wakes who waits for room.
    pub(super) room: watch::Sender<()>,
    /// Whether the last append found no room.
    pub(super) short: watch::Sender<bool>,
    pub(super) durable: watch::Receiver<Durable>,
    /// Held while files are removed, so that they go in order although the state is not locked meanwhile.
    pub(super) trimming: Mutex<()>,
    /// What readers have in hand.
    pub(super) recent: Recent,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two changes that belong together, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the journal: every later call errs, and whoever waits is woken to learn it.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.state();
        state.failure.get_or_insert(failure);
        drop(state);
        self.work.notify_all();
        for waiting in [&self.appended, &self.synced, &self.room] {
            waiting.send_replace(());
        }
    }

    pub(super) fn release(&self, lane: &EndpointName, position: Position) {
        let mut state = self.state();
        if state.lanes.as_ref().is_none_or(|lanes| lanes.contains(lane)) {
            match state.released.get_mut(lane) {
                Some(released) => *released = position,
                None => _ = state.released.insert(lane.clone(), position),
            }
            self.after_release(state);
        }
    }

    pub(super) fn set_lanes(&self, lanes: &[EndpointName]) {
        let mut state = self.state();
        state.lanes = Some(lanes.to_vec());
        state.forget_foreign_lanes();
        self.after_release(state);
    }

    /// What an append found out about the room there is. Readers that hold a journal back for nothing are told.
    pub(super) fn set_shortage(&self, mut state: MutexGuard<'_, State>, shortage: Option<Shortage>) {
        state.shortage = shortage;
        drop(state);
        let short = shortage.is_some();
        self.short.send_if_modified(|known| std::mem::replace(known, short) != short);
    }

    fn after_release(&self, mut state: MutexGuard<'_, State>) {
        let Some(shortage) = state.shortage else { return };
        if let Shortage::Disk { .. } = shortage {
            state.check_retention = true;
            self.work.notify_all();
        }
        drop(state);
        self.room.send_replace(());
    }

    /// Removes delivered segments; returns whether any went. Blocks for as long as the system takes to remove a file.
    pub(super) fn trim(&self, trim: Trim) -> Result<bool, JournalError> {
        let _order = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        loop {
            let mut state = self.state();
            let total = state.total_bytes();
            let Some(segment) = state.removable().next() else { break };
            let over = |need: u64| total + need > self.options.max_bytes;
            let remove = match trim {
                Trim::Delivered => true,
                Trim::For { need } => over(need),
                // A clock that was set back makes a segment young, which keeps it.
                Trim::Expired => {
                    over(0) || segment.modified.elapsed().is_ok_and(|age| age > self.options.retain)
                }
            };
            if !remove {
                break;
            }
            // Forgotten first: a reader must find a file that it was told of.
            let Some(segment) = state.segments.pop_front() else { break };
            drop(state);
            let path = segment::path_of(&self.dir, segment.sequence);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    self.state().segments.push_front(segment);
                    return Err(JournalError::Io { action: "remove", path, source });
                }
                _ => {}
            }
            debug!(path = %path.display(), last = %segment.last, "journal segment removed after delivery");
            Failpoint::SegmentRemoved.pass();
            let mut state = self.state();
            state.removed += 1;
            state.directory_dirty = true;
            any = true;
        }
        if any {
            self.room.send_replace(());
            self.work.notify_all();
        }
        Ok(any)
    }

    /// Retention as the sync thread does it. What cannot be removed now is tried again at the next tick.
    pub(super) fn expire(&self) {
        let short_of_disk = matches!(self.state().shortage, Some(Shortage::Disk { .. }));
        if let Err(err) = self.trim(if short_of_disk { Trim::Delivered } else { Trim::Expired }) {
            warn!(error = %err, "a delivered journal segment could not be removed");
        }
    }

    /// Resolves when the last shortage may be over.
    pub(super) async fn room(&self) {
        /// Others give room on a disk without telling.
        const DISK_POLL: Duration = Duration::from_secs(1);
        let mut changes = self.room.subscribe();
        loop {
            let poll = {
                let state = self.state();
                match state.shortage {
                    _ if state.failure.is_some() => return,
                    None => return,
                    Some(Shortage::Bound { need }) if state.fits(need, self.options.max_bytes) => return,
                    Some(Shortage::Disk { removed }) if state.removed > removed => return,
                    Some(shortage) => matches!(shortage, Shortage::Disk { .. }),
                }
            };
            let changed = changes.changed();
            if poll {
                if tokio::time::timeout(DISK_POLL, changed).await.is_err() {
                    return;
                }
            } else if changed.await.is_err() {
                return;
            }
        }
    }

    /// Waits until everything before `end` is on disk.
    pub(super) async fn synced_to(&self, end: Addr) -> Result<(), JournalError> {
        let mut changes = self.synced.subscribe();
        loop {
            {
                let state = self.state();
                state.check()?;
                if state.synced >= end {
                    return Ok(());
                }
            }
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }
}
