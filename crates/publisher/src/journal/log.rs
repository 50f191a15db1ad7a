//! The journal on segment files: opening and writing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rowbridge_schema::{EndpointName, Failpoint, Position, TableId};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tracing::warn;

use super::codec::{self, Tables};
use super::reader::SegmentReader;
use super::recent::Recent;
use super::recover::{begin_segment, recover};
use super::segment::{
    self, Addr, BLOCK, Disk, HEADER_LEN, Header, MARK, MIN_SEGMENT_BYTES, OsDisk, SEGMENT_BYTES, TABLE,
};
use super::state::{Failure, Segment, Shared, Shortage, State, Tail, Trim};
use super::sync::{self, sync_directory};
use super::{Block, Durable, Journal, JournalError, JournalStats, Resume};

/// A write of more bytes than this is announced to the runtime. Below, copying to the page cache takes less time than
/// handing the work to another thread would.
const LARGE_WRITE: usize = 256 << 10;

/// The journal's bounds, from `[journal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// Most bytes of segments, as long as not a single block alone is larger.
    pub max_bytes: u64,
    /// How long delivered blocks stay, so that a target can go back. Within `max_bytes`.
    pub retain: Duration,
}

/// Where the journal stood when it was opened. All of it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Last position of the last whole block; none if there never was one.
    pub last: Option<Position>,
    /// Whether that block ended its transaction. If not, the capture sends the rest.
    pub last_ends: bool,
    /// Where the capture goes on.
    pub resume: Option<Resume>,
    /// Position after which blocks are still there.
    pub oldest: Position,
    /// The cut tail had been synced, and a source that was told so may have forgotten it. Not a crash but a damaged or
    /// rolled back disk: go on only if the source still has what comes after `last`.
    pub lost_durable: bool,
}

/// [`Journal`] on append-only files in a folder of its own. The format is described in `segment.rs`.
///
/// Dropping it syncs what is left and waits for that.
pub struct SegmentJournal {
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<Writer>,
    thread: Option<JoinHandle<()>>,
}

/// What only the writer needs.
#[derive(Debug, Default)]
struct Writer {
    buffer: Vec<u8>,
    /// Tables defined in the segment that is written to.
    defined: HashSet<TableId>,
}

impl std::fmt::Debug for SegmentJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentJournal").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl SegmentJournal {
    /// Opens the journal below `dir`, or begins one. Reads the last segment whole and the headers of the others. The
    /// caller makes sure that nobody else has it open. Blocks.
    ///
    /// # Errors
    /// `Corrupt` if a block is damaged that was safe; `Io`; `DiskFull` if a first segment finds no room.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Self, Recovered), JournalError> {
        Self::open_on(dir, options, Arc::new(OsDisk))
    }

    pub(super) fn open_on(
        dir: &Path,
        options: JournalOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovered), JournalError> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { action, path, source }
        };
        let folder = dir.join("journal");
        std::fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        sync_directory(dir).map_err(io("sync", dir))?;
        let tables = Tables::default();
        let mut found = recover(&folder, &*disk, &tables)?;
        let active = match found.active {
            Some(active) => active,
            None => {
                let header = Header { sequence: 1, begin: Position::ZERO, has_last: false, last_ends: false };
                let (file, segment) = create_segment(&folder, &*disk, &header, None)?;
                disk.sync(&file).map_err(io("sync", &segment::path_of(&folder, 1)))?;
                sync_directory(&folder).map_err(io("sync", &folder))?;
                found.segments.push(segment);
                file
            }
        };
        let segments = VecDeque::from(found.segments);
        let end = segments
            .back()
            .map_or(Addr::start_of(1), |active| Addr { sequence: active.sequence, offset: active.bytes });
        let recovered = Recovered {
            last: found.last,
            last_ends: found.last_ends,
            resume: found.resume.clone(),
            oldest: segments.front().map_or(Position::ZERO, |oldest| oldest.begin),
            lost_durable: found.lost_durable,
        };
        let state = State {
            segments,
            active: Arc::new(active),
            last: found.last,
            last_ends: found.last_ends,
            resume: found.resume.clone(),
            synced: end,
            visible: end,
            chunk_end: end,
            tail: Tail::new(end),
            lanes: None,
            released: HashMap::new(),
            shortage: None,
            removed: 0,
            failure: None,
            directory_dirty: false,
            check_retention: true,
            closing: false,
        };
        let (durable_sender, durable) =
            watch::channel(Durable { position: found.last, resume: found.resume });
        let shared = Arc::new(Shared {
            dir: folder,
            options,
            segment_bytes: (options.max_bytes / 16).clamp(MIN_SEGMENT_BYTES, SEGMENT_BYTES),
            disk,
            tables,
            state: Mutex::new(state),
            work: Condvar::new(),
            appended: watch::Sender::new(()),
            synced: watch::Sender::new(()),
            room: watch::Sender::new(()),
            short: watch::Sender::new(false),
            durable,
            trimming: Mutex::new(()),
            recent: Recent::default(),
        });
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || sync::run(&shared, &durable_sender)
            })
            .map_err(io("start the sync thread of", &shared.dir))?;
        let writer = Writer { buffer: Vec::new(), defined: found.defined };
        Ok((Self { shared, writer: tokio::sync::Mutex::new(writer), thread: Some(thread) }, recovered))
    }

    #[cfg(test)]
    pub(super) fn shared_for_tests(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Puts the frames in the writer's buffer behind what is written.
    fn write(&self, writer: &Writer) -> Result<(Addr, Addr), JournalError> {
        let (file, at) = {
            let state = self.shared.state();
            state.check()?;
            (Arc::clone(&state.active), state.written())
        };
        let path = segment::path_of(&self.shared.dir, at.sequence);
        self.write_or_trim(&file, &path, &writer.buffer, at.offset)?;
        Ok((at, Addr { offset: at.offset + writer.buffer.len() as u64, ..at }))
    }

    /// Writes; when the disk is full, takes back what was written of it, removes what is delivered and tries again.
    fn write_or_trim(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), JournalError> {
        loop {
            let Err(source) = blocking(bytes.len(), || self.shared.disk.write(file, bytes, at)) else {
                return Ok(());
            };
            if let Err(err) = file.set_len(at) {
                // The rest of a frame behind the end could later be taken for damage.
                self.shared.fail(Failure::new("truncate", path, &err));
                return Err(JournalError::Io { action: "truncate", path: path.to_owned(), source: err });
            }
            if !is_full(&source) {
                self.shared.fail(Failure::new("write", path, &source));
                return Err(JournalError::Io { action: "write", path: path.to_owned(), source });
            }
            if !self.trim(Trim::Delivered) {
                return Err(self.disk_full(path));
            }
        }
    }

    fn disk_full(&self, path: &Path) -> JournalError {
        let state = self.shared.state();
        let removed = state.removed;
        self.shared.set_shortage(state, Some(Shortage::Disk { removed }));
        JournalError::DiskFull { path: path.to_owned() }
    }

    /// Removes delivered segments; returns whether any went. A file that stays is no reason to stop.
    fn trim(&self, trim: Trim) -> bool {
        self.shared.trim(trim).unwrap_or_else(|err| {
            warn!(error = %err, "a delivered journal segment could not be removed");
            false
        })
    }

    /// Sees to it that `need` bytes more stay within the bound.
    fn make_room(&self, need: u64) -> Result<(), JournalError> {
        let max_bytes = self.shared.options.max_bytes;
        if self.shared.state().total_bytes() + need <= max_bytes {
            return Ok(());
        }
        self.trim(Trim::For { need });
        let state = self.shared.state();
        if state.fits(need, max_bytes) {
            return Ok(());
        }
        let bytes = state.total_bytes();
        self.shared.set_shortage(state, Some(Shortage::Bound { need }));
        Err(JournalError::Full { bytes, max_bytes })
    }

    /// Closes the segment that is written to and begins the next. Waits until the old one is on disk, so that only the
    /// last one can be torn; the sync thread has been at it all the time, little is left.
    async fn roll(&self, writer: &mut Writer) -> Result<(), JournalError> {
        let written = self.shared.state().written();
        self.shared.synced_to(written).await?;
        let (header, resume) = {
            let state = self.shared.state();
            let header = Header {
                sequence: written.sequence + 1,
                begin: state.last.unwrap_or_default(),
                has_last: state.last.is_some(),
                last_ends: state.last_ends,
            };
            (header, state.resume.clone())
        };
        let (file, segment) = loop {
            match create_segment(&self.shared.dir, &*self.shared.disk, &header, resume.as_ref()) {
                Ok(created) => break created,
                Err(JournalError::DiskFull { path }) => {
                    if !self.trim(Trim::Delivered) {
                        return Err(self.disk_full(&path));
                    }
                }
                Err(err) => return Err(err),
            }
        };
        writer.defined.clear();
        let mut state = self.shared.state();
        state.segments.push_back(segment);
        state.active = Arc::new(file);
        state.directory_dirty = true;
        state.check_retention = true;
        state.advance_visible();
        drop(state);
        self.shared.work.notify_all();
        Ok(())
    }

    /// Whether `len` bytes more make the segment too long. One that has only its beginning takes anything.
    fn must_roll(&self, len: u64) -> bool {
        let state = self.shared.state();
        let bytes = state.active_segment().bytes;
        let resume_len = state.resume.as_ref().map_or(0, |resume| resume.0.len() as u64);
        bytes > HEADER_LEN + resume_len + 64 && bytes + len > self.shared.segment_bytes
    }

    /// Bytes that a new segment has before its first block.
    fn beginning_len(&self) -> u64 {
        let resume = self.shared.state().resume.clone();
        HEADER_LEN + resume.map_or(0, |resume| segment::FRAME_HEAD as u64 + resume.0.len() as u64)
    }

    fn too_long(&self, bytes: usize) -> JournalError {
        let path = segment::path_of(&self.shared.dir, self.shared.state().active_segment().sequence);
        let text = format!("a block of {bytes} bytes is over the frame's limit of {}", segment::MAX_FRAME);
        JournalError::Io { action: "write", path, source: io::Error::new(io::ErrorKind::InvalidInput, text) }
    }
}

impl Writer {
    /// Empties the buffer. A large one is not kept: it would only stand beside the block that waits for the disk.
    fn release(&mut self) {
        if self.buffer.capacity() > 4 * LARGE_WRITE {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
    }

    /// Fills the buffer with the block's frame, and before it those of tables that the segment does not define yet.
    fn encode(&mut self, block: &Block, tables: &Tables) -> Result<(), usize> {
        self.release();
        let size = block.body.len() + 16 * block.runs.len() + 1024;
        self.buffer.reserve(size);
        for table in block.tables.iter().filter(|table| !self.defined.contains(&table.id)) {
            tables.add(table);
            segment::put_frame(&mut self.buffer, TABLE, |out| codec::put_table(out, table))?;
        }
        segment::put_frame(&mut self.buffer, BLOCK, |out| codec::put_block(out, block))
    }
}

impl Journal for SegmentJournal {
    type Reader = SegmentReader;

    async fn append(&self, block: Arc<Block>) -> Result<bool, JournalError> {
        let mut writer = self.writer.lock().await;
        {
            let state = self.shared.state();
            state.check()?;
            if state.last.is_some_and(|last| block.head.last <= last) {
                return Ok(false);
            }
        }
        let encode = |writer: &mut Writer| {
            writer.encode(&block, &self.shared.tables).map_err(|bytes| self.too_long(bytes))?;
            Ok::<_, JournalError>(writer.buffer.len() as u64)
        };
        let mut need = encode(&mut writer)?;
        let roll = self.must_roll(need);
        if roll {
            // All tables are written again; how long that is, is known only then.
            writer.defined.clear();
            need = encode(&mut writer)? + self.beginning_len();
        }
        // If this or the roll fails, the old segment goes on and gets its definitions a second time: harmless.
        self.make_room(need)?;
        if roll {
            self.roll(&mut writer).await?;
            // The old segment may be delivered and, as a closed one, be removed.
            self.make_room(writer.buffer.len() as u64)?;
        }
        let (at, end) = self.write(&writer)?;
        writer.release();
        Failpoint::JournalWritten.pass();
        writer.defined.extend(block.tables.iter().map(|table| table.id));
        let is_chunk = block.head.chunk.is_some();
        {
            let mut state = self.shared.state();
            let active = state.active_segment_mut();
            active.bytes = end.offset;
            active.last = block.head.last;
            active.modified = SystemTime::now();
            state.last = Some(block.head.last);
            state.last_ends = block.ends;
            if block.resume.is_some() {
                state.resume.clone_from(&block.resume);
            }
            if is_chunk {
                state.chunk_end = end;
            }
            state.tail.push(at, end, block);
            state.advance_visible();
            self.shared.set_shortage(state, None);
        }
        self.shared.work.notify_all();
        self.shared.appended.send_replace(());
        if is_chunk {
            self.shared.synced_to(end).await?;
        }
        Ok(true)
    }

    async fn mark(&self, resume: Resume) -> Result<(), JournalError> {
        let mut writer = self.writer.lock().await;
        {
            let state = self.shared.state();
            state.check()?;
            if state.resume.as_ref() == Some(&resume) {
                return Ok(());
            }
        }
        writer.buffer.clear();
        segment::put_frame(&mut writer.buffer, MARK, |out| out.extend_from_slice(resume.0.as_bytes()))
            .map_err(|bytes| self.too_long(bytes))?;
        // Not held to the bound: some tens of bytes that let the source remove much more.
        if self.must_roll(writer.buffer.len() as u64) {
            self.roll(&mut writer).await?;
        }
        let (_, end) = self.write(&writer)?;
        {
            let mut state = self.shared.state();
            let active = state.active_segment_mut();
            active.bytes = end.offset;
            active.modified = SystemTime::now();
            state.resume = Some(resume);
            state.advance_visible();
        }
        self.shared.work.notify_all();
        Ok(())
    }

    /// The channel closes when the journal has failed for good or was dropped.
    fn durable(&self) -> watch::Receiver<Durable> {
        self.shared.durable.clone()
    }

    fn last(&self) -> Option<Position> {
        self.shared.state().last
    }

    async fn room(&self) {
        self.shared.room().await;
    }

    fn short(&self) -> watch::Receiver<bool> {
        self.shared.short.subscribe()
    }

    fn reader(&self, after: Position) -> Result<SegmentReader, JournalError> {
        SegmentReader::new(Arc::clone(&self.shared), after)
    }

    fn release(&self, lane: &EndpointName, position: Position) {
        self.shared.release(lane, position);
    }

    fn set_lanes(&self, lanes: &[EndpointName]) {
        self.shared.set_lanes(lanes);
    }

    fn oldest(&self) -> Position {
        self.shared.state().oldest()
    }

    fn stats(&self) -> JournalStats {
        let state = self.shared.state();
        JournalStats {
            bytes: state.total_bytes(),
            undelivered_bytes: state.undelivered_bytes(),
            segments: state.segments.len(),
        }
    }
}

impl Drop for SegmentJournal {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on its own; nothing is left to do about it here.
            let _ = thread.join();
        }
    }
}

/// Runs a write where it is: a copy to the page cache. A large one on a runtime with several threads lets the other
/// tasks of this one move elsewhere meanwhile.
fn blocking<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let movable = || Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > LARGE_WRITE && movable() { tokio::task::block_in_place(work) } else { work() }
}

fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Creates a segment's file with its beginning. What a failure leaves behind is removed.
fn create_segment(
    dir: &Path,
    disk: &dyn Disk,
    header: &Header,
    resume: Option<&Resume>,
) -> Result<(File, Segment), JournalError> {
    let path: PathBuf = segment::path_of(dir, header.sequence);
    let beginning = begin_segment(header, resume);
    // A file of that name can only be what an earlier attempt could not remove.
    let created = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let written = created.and_then(|file| disk.write(&file, &beginning, 0).map(|()| file));
    match written {
        Ok(file) => {
            let segment = Segment {
                sequence: header.sequence,
                begin: header.begin,
                last: header.begin,
                bytes: beginning.len() as u64,
                modified: SystemTime::now(),
            };
            Ok((file, segment))
        }
        Err(source) => {
            let _ = std::fs::remove_file(&path);
            if is_full(&source) {
                return Err(JournalError::DiskFull { path });
            }
            Err(JournalError::Io { action: "create", path, source })
        }
    }
}
