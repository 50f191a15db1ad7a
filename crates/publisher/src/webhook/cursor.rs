//! How far a lane has come, on disk.
//!
//! A receiver that is not Rowbridge does not say where it stands, so the lane remembers it: a small file per endpoint in
//! `state_dir/cursors`. What was settled is written before the next request goes out, without fsync, so that it survives a
//! killed process; [`Cursor::sync`] makes it durable once a second. After a kill at most what was in flight is sent
//! again.
//!
//! ```text
//! file    "RWBCUR01" record...
//! record  kind u8, length u32, payload, CRC-32 of kind, length and payload u32        (little endian)
//! 1 mark    position                       everything up to here is settled, or was never for this endpoint
//! 2 event   event                          settled, beyond the mark
//! 3 group   event...                       these went out as one request, in this order
//! 4 done    event                          the group that begins with this event is settled
//! position  epoch u32, file u32, at u64, ordinal u64          event  position, part u8
//! ```
//!
//! A record that is cut off or whose checksum is wrong ends the file: what stood behind it is sent again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowbridge_schema::{Failpoint, Offset, Position};
use tokio::sync::Semaphore;

const MAGIC: &[u8; 8] = b"RWBCUR01";
const POSITION_BYTES: usize = 24;
const EVENT_BYTES: usize = POSITION_BYTES + 1;
/// A file that grew beyond this is written anew, with what still counts. That waits for the disk, so it is seldom: once in
/// a hundred thousand events.
const COMPACT_ABOVE: u64 = 4 << 20;
/// Lanes whose files are made durable at once. With a thread for each, a hundred lanes would have a hundred threads, and
/// the disk takes them one after another anyway.
static SYNCING: Semaphore = Semaphore::const_new(2);
/// No record is longer: a batch has a bounded number of events.
const MAX_RECORD: usize = 16 << 20;

/// One event of the lane: a change, or one of the two events that some formats make of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EventKey {
    /// Position of the change.
    pub(crate) position: Position,
    /// 0, or 1 for the second event of the change.
    pub(crate) part: u8,
}

/// Why a cursor cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}, which says how far an endpoint was delivered")]
pub struct CursorError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Standing {
    mark: Option<Position>,
    settled: BTreeSet<EventKey>,
    groups: Vec<Vec<EventKey>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    file: Arc<File>,
    /// Bytes in the file, and what is to be written next.
    length: u64,
    pending: Vec<u8>,
    standing: Standing,
}

impl Cursor {
    /// Opens the cursor of an endpoint, or makes one. A torn tail is cut.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn open(path: &Path) -> Result<Self, CursorError> {
        let failed = |action| move |source| CursorError { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        }
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(path)
            .map_err(failed("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let mut standing = Standing::default();
        let mut length = 0;
        if bytes.starts_with(MAGIC) {
            length = MAGIC.len();
            while let Some(next) = standing.read(&bytes[length..]) {
                length += next;
            }
        }
        let mut cursor = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            length: length as u64,
            pending: Vec::new(),
            standing,
        };
        if length < bytes.len() {
            // A kill leaves at most one record unfinished, a disk may do anything.
            tracing::warn!(
                path = %path.display(), cut_bytes = bytes.len() - length,
                "the end of a cursor cannot be read: what it settled is sent again"
            );
        }
        if length < bytes.len() || length == 0 {
            cursor.rewrite().map_err(failed("write"))?;
        }
        Ok(cursor)
    }

    /// Everything up to here is settled; `None` for a lane that has settled nothing yet.
    pub(crate) fn mark(&self) -> Option<Position> {
        self.standing.mark
    }

    /// Whether an event beyond the mark is settled.
    pub(crate) fn is_settled(&self, event: EventKey) -> bool {
        self.standing.mark.is_some_and(|mark| event.position <= mark)
            || self.standing.settled.contains(&event)
    }

    /// Requests of several events that may have been in flight, in the order in which they went out. They are to be
    /// made again exactly so, that they have the same `webhook-id`.
    pub(crate) fn groups(&self) -> &[Vec<EventKey>] {
        &self.standing.groups
    }

    /// Several events go out as one request.
    pub(crate) fn group(&mut self, events: Vec<EventKey>) {
        let payload: Vec<u8> = events.iter().flat_map(|event| event_bytes(*event)).collect();
        self.note(3, &payload);
        self.standing.groups.push(events);
    }

    /// A request of several events is settled.
    pub(crate) fn settle_group(&mut self, events: &[EventKey]) {
        let Some(first) = events.first() else { return };
        self.note(4, &event_bytes(*first));
        self.standing.end_group(*first);
    }

    /// One event is settled, and others before it are not.
    pub(crate) fn settle(&mut self, event: EventKey) {
        self.note(2, &event_bytes(event));
        self.standing.settled.insert(event);
    }

    /// Everything up to `mark` is settled.
    pub(crate) fn advance(&mut self, mark: Position) {
        if self.standing.mark.is_none_or(|known| known < mark) {
            self.note(1, &position_bytes(mark));
            self.standing.reach(mark);
        }
    }

    /// Writes what was noted since. Call it before a request goes out.
    ///
    /// # Errors
    /// The disk is full or broken: nothing may go out, since it could go out twice.
    pub(crate) fn flush(&mut self) -> Result<(), CursorError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let failed = |source| CursorError { action: "write", path: self.path.clone(), source };
        if self.length + self.pending.len() as u64 > COMPACT_ABOVE.max(2 * self.standing.bytes()) {
            return self.rewrite().map_err(|source| CursorError {
                action: "write",
                path: self.path.clone(),
                source,
            });
        }
        if let Err(source) = (&*self.file).write_all(&self.pending) {
            // Half a record may be there: it is cut off, so that what is written next is found.
            let _ = self.file.set_len(self.length);
            return Err(failed(source));
        }
        self.length += self.pending.len() as u64;
        self.pending.clear();
        Failpoint::CursorWritten.pass();
        Ok(())
    }

    /// Makes what was written durable, elsewhere than in the lane.
    pub(crate) fn sync(&self) -> impl Future<Output = ()> + Send + 'static {
        let file = Arc::clone(&self.file);
        async move {
            let _turn = SYNCING.acquire().await;
            // The next second's tries again.
            let _ = tokio::task::spawn_blocking(move || file.sync_data()).await;
        }
    }

    fn note(&mut self, kind: u8, payload: &[u8]) {
        record(&mut self.pending, kind, payload);
    }

    /// A new file with what still counts takes the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        if let Some(mark) = self.standing.mark {
            record(&mut bytes, 1, &position_bytes(mark));
        }
        for event in &self.standing.settled {
            record(&mut bytes, 2, &event_bytes(*event));
        }
        for group in &self.standing.groups {
            let payload: Vec<u8> = group.iter().flat_map(|event| event_bytes(*event)).collect();
            record(&mut bytes, 3, &payload);
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = Arc::new(File::options().read(true).append(true).open(&self.path)?);
        self.length = bytes.len() as u64;
        self.pending.clear();
        Ok(())
    }
}

impl Standing {
    /// Takes in the record at the beginning of `bytes`; its length, or `None` if there is no whole one.
    fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let kind = *bytes.first()?;
        let length = u32::from_le_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
        if length > MAX_RECORD {
            return None;
        }
        let payload = bytes.get(5..5 + length)?;
        let sum = u32::from_le_bytes(bytes.get(5 + length..9 + length)?.try_into().ok()?);
        if crc32fast::hash(&bytes[..5 + length]) != sum {
            return None;
        }
        match kind {
            1 => self.reach(read_position(payload)?),
            2 => {
                self.settled.insert(read_event(payload)?);
            }
            3 => self.groups.push(payload.chunks(EVENT_BYTES).map(read_event).collect::<Option<_>>()?),
            4 => self.end_group(read_event(payload)?),
            _ => return None,
        }
        Some(9 + length)
    }

    fn reach(&mut self, mark: Position) {
        self.mark = self.mark.max(Some(mark));
        let beyond = EventKey { position: mark, part: u8::MAX };
        self.settled = self.settled.split_off(&beyond);
        self.groups.retain(|group| group.iter().any(|event| event.position > mark));
    }

    fn end_group(&mut self, first: EventKey) {
        if let Some(at) = self.groups.iter().position(|group| group.first() == Some(&first)) {
            let group = self.groups.remove(at);
            let mark = self.mark;
            self.settled.extend(group.into_iter().filter(|event| Some(event.position) > mark));
        }
    }

    fn bytes(&self) -> u64 {
        let events = self.settled.len() * (EVENT_BYTES + 9);
        let groups: usize = self.groups.iter().map(|group| group.len() * EVENT_BYTES + 9).sum();
        (events + groups) as u64
    }
}

fn record(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

fn position_bytes(position: Position) -> [u8; POSITION_BYTES] {
    let mut bytes = [0; POSITION_BYTES];
    bytes[..4].copy_from_slice(&position.epoch.to_le_bytes());
    bytes[4..8].copy_from_slice(&position.offset.file.to_le_bytes());
    bytes[8..16].copy_from_slice(&position.offset.at.to_le_bytes());
    bytes[16..].copy_from_slice(&position.ordinal.to_le_bytes());
    bytes
}

fn event_bytes(event: EventKey) -> [u8; EVENT_BYTES] {
    let mut bytes = [event.part; EVENT_BYTES];
    bytes[..POSITION_BYTES].copy_from_slice(&position_bytes(event.position));
    bytes
}

fn read_position(bytes: &[u8]) -> Option<Position> {
    let bytes: &[u8; POSITION_BYTES] = bytes.try_into().ok()?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    Some(Position { epoch: word(0), offset: Offset { file: word(4), at: long(8) }, ordinal: long(16) })
}

fn read_event(bytes: &[u8]) -> Option<EventKey> {
    let (position, part) = bytes.split_at_checked(POSITION_BYTES)?;
    let [part] = part else { return None };
    Some(EventKey { position: read_position(position)?, part: *part })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(at: u64, part: u8) -> EventKey {
        EventKey { position: Position::new(7, at, 1), part }
    }

    fn open(dir: &tempfile::TempDir) -> Cursor {
        Cursor::open(&dir.path().join("cursors/crm.cursor")).unwrap()
    }

    #[test]
    fn what_was_flushed_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = open(&dir);
        assert_eq!(cursor.mark(), None);
        cursor.advance(event(3, 0).position);
        cursor.settle(event(5, 0));
        cursor.settle(event(6, 1));
        cursor.group(vec![event(7, 0), event(9, 0)]);
        cursor.group(vec![event(8, 0), event(10, 0)]);
        cursor.settle_group(&[event(7, 0), event(9, 0)]);
        cursor.flush().unwrap();
        cursor.settle(event(20, 0));
        drop(cursor);
        let mut cursor = open(&dir);
        assert_eq!(cursor.mark(), Some(event(3, 0).position));
        let settled =
            |cursor: &Cursor| (1..=20).filter(|at| cursor.is_settled(event(*at, 0))).collect::<Vec<_>>();
        assert_eq!(settled(&cursor), [1, 2, 3, 5, 7, 9], "what was not flushed is not known");
        assert!(cursor.is_settled(event(6, 1)) && !cursor.is_settled(event(6, 0)));
        assert_eq!(cursor.groups(), [vec![event(8, 0), event(10, 0)]]);
        cursor.advance(event(10, 0).position);
        cursor.flush().unwrap();
        assert_eq!((open(&dir).groups().len(), open(&dir).standing.settled.len()), (0, 0));
    }

    #[test]
    fn a_torn_tail_is_cut_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = open(&dir);
        cursor.advance(event(3, 0).position);
        cursor.flush().unwrap();
        cursor.advance(event(4, 0).position);
        cursor.flush().unwrap();
        let path = cursor.path.clone();
        drop(cursor);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..=30 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut cursor = open(&dir);
            assert_eq!(cursor.mark(), Some(event(3, 0).position), "{cut}");
            cursor.advance(event(9, 0).position);
            cursor.flush().unwrap();
            assert_eq!(open(&dir).mark(), Some(event(9, 0).position));
        }
    }

    #[test]
    fn the_file_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = open(&dir);
        for at in 1..100_000 {
            cursor.settle(event(at + 1, 0));
            cursor.advance(event(at, 0).position);
            cursor.flush().unwrap();
        }
        assert!(std::fs::metadata(&cursor.path).unwrap().len() <= COMPACT_ABOVE + 100);
        assert_eq!(open(&dir).standing, cursor.standing);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_no_cursor_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("crm.cursor");
            let mut all = if magic { MAGIC.to_vec() } else { Vec::new() };
            all.extend(bytes);
            std::fs::write(&path, all).unwrap();
            prop_assert_eq!(Cursor::open(&path).unwrap().mark(), None);
        }
    }
}
