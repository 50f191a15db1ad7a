//! What a start finds: which segments there are, whether the last one is whole, where the stream stands.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rowbridge_schema::{Position, TableId};
use tracing::{error, warn};

use super::codec::{self, Reason, Tables};
use super::segment::{self, BLOCK, Disk, Fault, FrameWindow, HEADER_LEN, Header, MARK};
use super::state::Segment;
use super::sync::sync_directory;
use super::{JournalError, Resume};

/// The journal as it was found, cut to its last whole frame and synced.
#[derive(Debug)]
pub(super) struct Found {
    /// Oldest first; empty if there is no journal yet.
    pub(super) segments: Vec<Segment>,
    /// The last segment, for writing.
    pub(super) active: Option<File>,
    /// Tables defined in the last segment.
    pub(super) defined: HashSet<TableId>,
    pub(super) last: Option<Position>,
    pub(super) last_ends: bool,
    pub(super) resume: Option<Resume>,
    pub(super) lost_durable: bool,
}

/// What a segment's frames say, read from the start.
struct Scan {
    last: Option<Position>,
    last_ends: bool,
    resume: Option<Resume>,
    defined: HashSet<TableId>,
    /// End of the last valid frame.
    end: u64,
    /// Why the frame there is none, unless the file ends there.
    broken: Option<Reason>,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { action, path, source }
}

/// Reads the folder. Changes it only by cutting a torn tail.
pub(super) fn recover(dir: &Path, disk: &dyn Disk, tables: &Tables) -> Result<Found, JournalError> {
    let mut found = Found {
        segments: Vec::new(),
        active: None,
        defined: HashSet::new(),
        last: None,
        last_ends: false,
        resume: None,
        lost_durable: false,
    };
    let sequences = list(dir)?;
    let mut synced = HEADER_LEN;
    for (i, &sequence) in sequences.iter().enumerate() {
        let path = segment::path_of(dir, sequence);
        let file = open(&path)?;
        let before = found.segments.last().map_or(Position::ZERO, |before: &Segment| before.begin);
        let corrupt = |reason| JournalError::Corrupt { path: path.clone(), offset: 0, after: before, reason };
        let (header, known) = match segment::read_header(&file) {
            Ok(read) => read,
            Err(Fault::Io(source)) => return Err(io_error("read", &path)(source)),
            Err(Fault::Broken(reason)) => {
                if i + 1 < sequences.len() || holds_frames(&file, &path)? {
                    return Err(corrupt(reason));
                }
                // A stop while the segment was begun: nothing was in it, since its header comes first.
                warn!(path = %path.display(), reason, "unfinished journal segment removed");
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
                sync_directory(dir).map_err(io_error("sync", dir))?;
                break;
            }
        };
        if header.sequence != sequence {
            return Err(corrupt("the header has another number than the file"));
        }
        if found.segments.last().is_some_and(|before| before.sequence + 1 != sequence) {
            return Err(corrupt("the segment before it is missing"));
        }
        if header.begin < before {
            return Err(corrupt("the segment begins before the one before it"));
        }
        let meta = file.metadata().map_err(io_error("read", &path))?;
        if let Some(before) = found.segments.last_mut() {
            before.last = header.begin;
        }
        found.segments.push(Segment {
            sequence,
            begin: header.begin,
            last: header.begin,
            bytes: meta.len(),
            modified: meta.modified().unwrap_or_else(|_| SystemTime::now()),
        });
        (found.last, found.last_ends) = (header.has_last.then_some(header.begin), header.last_ends);
        synced = known;
    }
    if !found.segments.is_empty() {
        recover_last(dir, disk, tables, synced, &mut found)?;
        find_resume(dir, tables, &mut found)?;
    }
    Ok(found)
}

fn list(dir: &Path) -> Result<Vec<u64>, JournalError> {
    let mut sequences = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        match name.to_str().and_then(segment::sequence_of) {
            Some(sequence) => sequences.push(sequence),
            None => warn!(path = %dir.join(&name).display(), "not a journal segment, left alone"),
        }
    }
    sequences.sort_unstable();
    Ok(sequences)
}

fn open(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))
}

/// Whether anything was written behind a header that cannot be read.
fn holds_frames(file: &File, path: &Path) -> Result<bool, JournalError> {
    let len = file.metadata().map_err(io_error("read", path))?.len();
    let file = file.try_clone().map_err(io_error("open", path))?;
    FrameWindow::new(file).valid_frame_from(HEADER_LEN, len).map_err(io_error("read", path))
}

/// Reads the last segment whole, cuts its torn tail, syncs the rest.
fn recover_last(
    dir: &Path,
    disk: &dyn Disk,
    tables: &Tables,
    synced: u64,
    found: &mut Found,
) -> Result<(), JournalError> {
    let Some(last) = found.segments.last_mut() else { return Ok(()) };
    let path = segment::path_of(dir, last.sequence);
    let mut window = FrameWindow::new(open(&path)?);
    let scan = scan(&mut window, &path, last.bytes, tables)?;
    if let Some(position) = scan.last {
        last.last = position;
        (found.last, found.last_ends) = (Some(position), scan.last_ends);
    }
    found.resume = scan.resume;
    found.defined = scan.defined;
    if let Some(reason) = scan.broken {
        let followed = window.valid_frame_from(scan.end + 1, last.bytes).map_err(io_error("read", &path))?;
        if followed && scan.end < synced {
            return Err(JournalError::Corrupt { path, offset: scan.end, after: last.last, reason });
        }
        let cut_bytes = last.bytes - scan.end;
        window.file().set_len(scan.end).map_err(io_error("truncate", &path))?;
        last.bytes = scan.end;
        warn!(path = %path.display(), cut_bytes, after = %last.last, reason, "torn tail of the journal cut");
    }
    if last.bytes < synced {
        found.lost_durable = true;
        error!(
            path = %path.display(), after = %last.last, missing_bytes = synced - last.bytes,
            "the journal lacks blocks that were on disk: the source may have been told that they are safe"
        );
    }
    disk.sync(window.file()).map_err(io_error("sync", &path))?;
    segment::note_synced(window.file(), last.bytes).map_err(io_error("write", &path))?;
    found.active = Some(window.file().try_clone().map_err(io_error("open", &path))?);
    Ok(())
}

fn scan(window: &mut FrameWindow, path: &Path, len: u64, tables: &Tables) -> Result<Scan, JournalError> {
    let mut scan = Scan {
        last: None,
        last_ends: false,
        resume: None,
        defined: HashSet::new(),
        end: HEADER_LEN,
        broken: None,
    };
    loop {
        let frame = match window.frame(scan.end, len) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(scan),
            Err(Fault::Io(source)) => return Err(io_error("read", path)(source)),
            Err(Fault::Broken(reason)) => {
                scan.broken = Some(reason);
                return Ok(scan);
            }
        };
        // What a right checksum covers was written so: if it cannot be read, it is not a torn write.
        let read = match frame.kind {
            BLOCK => codec::read_block(frame.payload, tables).map(|block| {
                scan.last = Some(block.head.last);
                scan.last_ends = block.ends;
                if block.resume.is_some() {
                    scan.resume = block.resume;
                }
            }),
            MARK => codec::read_mark(frame.payload).map(|resume| scan.resume = Some(resume)),
            _ => codec::read_table(frame.payload, tables).map(|id| _ = scan.defined.insert(id)),
        };
        if let Err(reason) = read {
            let after = scan.last.unwrap_or(Position::ZERO);
            return Err(JournalError::Corrupt { path: path.to_owned(), offset: scan.end, after, reason });
        }
        scan.end = frame.next;
    }
}

/// A segment begins with the resume point, except when the stop came between header and mark: then one before has it.
fn find_resume(dir: &Path, tables: &Tables, found: &mut Found) -> Result<(), JournalError> {
    for segment in found.segments.iter().rev().skip(1) {
        if found.resume.is_some() {
            break;
        }
        let path: PathBuf = segment::path_of(dir, segment.sequence);
        let scan = scan(&mut FrameWindow::new(open(&path)?), &path, segment.bytes, tables)?;
        if let Some(reason) = scan.broken {
            let after = scan.last.unwrap_or(segment.begin);
            return Err(JournalError::Corrupt { path, offset: scan.end, after, reason });
        }
        found.resume = scan.resume;
    }
    Ok(())
}

/// Begins a segment: header and, if there is one, the resume point, so that the oldest segments are never needed for it.
pub(super) fn begin_segment(header: &Header, resume: Option<&Resume>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN as usize + 64);
    header.encode(&mut out);
    if let Some(resume) = resume {
        // A resume point is a source's offset: some tens of bytes.
        let _ = segment::put_frame(&mut out, MARK, |out| out.extend_from_slice(resume.0.as_bytes()));
    }
    out
}
