//! Segment files: `journal/NNNNNNNNNNNNNNNNNNNN.seg`, numbered from 1 without gaps, removed from the oldest on.
//!
//! Limits: a frame 512 MiB; a segment is closed before it grows beyond [`SEGMENT_BYTES`] (a sixteenth of
//! `journal.max_bytes` where that is less, at least [`MIN_SEGMENT_BYTES`]), unless one block alone is larger.
//!
//! All integers are little-endian.
//!
//! ```text
//! header   magic "RBRJRNL\n", version u32, flags u32, sequence u64, begin position (24 bytes),
//!          crc u32 of the 48 bytes before, synced u64, crc u32 of synced                    64 bytes
//!          flags: 1 a block came before `begin`, 2 that block ended its transaction
//! frame    len u32 of kind and payload, crc u32 of len, kind and payload, kind u8, payload
//!          kind: 1 block, 2 mark (a resume point), 3 table (a definition, before its first use in the segment)
//! ```
//!
//! Written: a frame by one positioned write to the page cache; a dedicated thread syncs what was written meanwhile. The
//! next segment is begun only when the one before is synced whole, with the resume point as its first frame, so only
//! the last segment can be torn. `synced` is the length that is known to be on disk; it is rewritten in place after a
//! sync without one of its own, so it says at least, never too much.
//!
//! Read: every crc is checked by whoever reads the frame. At start the last segment is read whole. A broken frame there
//! is a torn tail, and cut off, if no valid frame follows, or if it lies beyond `synced` (a power failure may keep the
//! later of two pages that were not yet synced). Otherwise the disk has changed what was safe: that is an error.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rowbridge_schema::Position;

use super::codec::{self, Reason};

pub(super) const SEGMENT_BYTES: u64 = 64 << 20;
pub(super) const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// Most bytes of a frame's kind and payload.
pub(super) const MAX_FRAME: u32 = 512 << 20;
pub(super) const HEADER_LEN: u64 = 64;
/// Bytes before a frame's payload.
pub(super) const FRAME_HEAD: usize = 9;

pub(super) const BLOCK: u8 = 1;
pub(super) const MARK: u8 = 2;
pub(super) const TABLE: u8 = 3;

const MAGIC: [u8; 8] = *b"RBRJRNL\n";
const VERSION: u32 = 1;
const HAS_LAST: u32 = 1;
const LAST_ENDS: u32 = 2;
const SYNCED_AT: usize = 52;

/// Enough that reading a backlog is sequential disk work, small enough for one per lane of a hundred.
const WINDOW: u64 = 64 << 10;

/// What touches segment files, so that tests can fill the disk, break a sync or hold one.
pub(super) trait Disk: Send + Sync + 'static {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug)]
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// A place in the journal: segment, then byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Addr {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

impl Addr {
    /// Where a segment's first frame stands.
    pub(super) fn start_of(sequence: u64) -> Self {
        Self { sequence, offset: HEADER_LEN }
    }
}

pub(super) fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.seg"))
}

/// The number in a segment's file name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// Last position before the segment.
    pub(super) begin: Position,
    /// Whether a block came before; `begin` is a real position then.
    pub(super) has_last: bool,
    /// Whether that block ended its transaction.
    pub(super) last_ends: bool,
}

impl Header {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.has_last { HAS_LAST } else { 0 } | if self.last_ends { LAST_ENDS } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        codec::put_position(out, self.begin);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&synced_field(HEADER_LEN));
    }

    /// The header and the length that is known to be synced.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN as usize]) -> Result<(Self, u64), Reason> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != MAGIC {
            return Err("the file does not begin as a journal segment");
        }
        if crc32fast::hash(&bytes[..48]) != u32_at(48) {
            return Err("the header's checksum is wrong");
        }
        if u32_at(8) != VERSION {
            return Err("the format version is not known to this release");
        }
        let flags = u32_at(12);
        let header = Self {
            sequence: u64_at(16),
            begin: codec::read_position(&bytes[24..48])?,
            has_last: flags & HAS_LAST != 0,
            last_ends: flags & LAST_ENDS != 0,
        };
        // A damaged field only says less.
        let known = crc32fast::hash(&bytes[SYNCED_AT..60]) == u32_at(60);
        Ok((header, if known { u64_at(SYNCED_AT) } else { HEADER_LEN }))
    }
}

fn synced_field(synced: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[..8].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32fast::hash(&field[..8]);
    field[8..].copy_from_slice(&crc.to_le_bytes());
    field
}

/// Notes in the header how much is on disk.
pub(super) fn note_synced(file: &File, synced: u64) -> io::Result<()> {
    file.write_all_at(&synced_field(synced), SYNCED_AT as u64)
}

/// Appends a frame whose payload `fill` writes.
///
/// # Errors
/// The payload's length if it is above the limit; `out` is as it was.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), usize> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD - 1]);
    out.push(kind);
    fill(out);
    let bytes = out.len() - start - 8;
    let len = match u32::try_from(bytes) {
        Ok(len) if len <= MAX_FRAME => len.to_le_bytes(),
        _ => {
            out.truncate(start);
            return Err(bytes);
        }
    };
    let crc = checksum(len, &out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn checksum(len: [u8; 4], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&len);
    hasher.update(rest);
    hasher.finalize()
}

/// Why a frame cannot be had.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Broken(Reason),
}

/// A frame whose checksum holds.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Where the next one stands.
    pub(super) next: u64,
}

/// Reads a segment's frames through a buffer.
#[derive(Debug)]
pub(super) struct FrameWindow {
    file: File,
    buffer: Vec<u8>,
    start: u64,
}

impl FrameWindow {
    pub(super) fn new(file: File) -> Self {
        Self { file, buffer: Vec::new(), start: 0 }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes `need` bytes from `at` available, of a file that has `end` bytes; returns their place in the buffer. What
    /// lies below `end` never changes, so that a buffer stays good while the file grows.
    fn fill(&mut self, at: u64, need: u64, end: u64) -> Result<usize, Fault> {
        if at < self.start || at + need > self.start + self.buffer.len() as u64 {
            let size = need.max(WINDOW.min(end - at));
            if self.buffer.capacity() as u64 > 4 * WINDOW && size <= WINDOW {
                self.buffer = Vec::new();
            }
            self.buffer.resize(size as usize, 0);
            self.start = at;
            if let Err(err) = self.file.read_exact_at(&mut self.buffer, at) {
                self.buffer.clear();
                return Err(match err.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        Fault::Broken("the file is shorter than what was written")
                    }
                    _ => Fault::Io(err),
                });
            }
        }
        Ok((at - self.start) as usize)
    }

    /// The length and kind that stand at `at`, if a frame may.
    fn head(&mut self, at: u64, end: u64) -> Result<u64, Fault> {
        if end - at < FRAME_HEAD as u64 {
            return Err(Fault::Broken("the file ends within a frame"));
        }
        let place = self.fill(at, FRAME_HEAD as u64, end)?;
        let head = &self.buffer[place..place + FRAME_HEAD];
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if len == 0 || len > MAX_FRAME {
            return Err(Fault::Broken("a frame's length is impossible"));
        }
        if !matches!(head[8], BLOCK | MARK | TABLE) {
            return Err(Fault::Broken("a frame's kind is not known"));
        }
        if u64::from(len) > end - at - 8 {
            return Err(Fault::Broken("the file ends within a frame"));
        }
        Ok(8 + u64::from(len))
    }

    /// The frame at `at` of a file with `end` valid bytes; `None` exactly at the end.
    pub(super) fn frame(&mut self, at: u64, end: u64) -> Result<Option<Frame<'_>>, Fault> {
        if at >= end {
            return Ok(None);
        }
        let size = self.head(at, end)?;
        let place = self.fill(at, size, end)?;
        let bytes = &self.buffer[place..place + size as usize];
        let crc = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if checksum([bytes[0], bytes[1], bytes[2], bytes[3]], &bytes[8..]) != crc {
            return Err(Fault::Broken("a frame's checksum is wrong"));
        }
        Ok(Some(Frame { kind: bytes[8], payload: &bytes[FRAME_HEAD..], next: at + size }))
    }

    /// Whether a valid frame stands anywhere in `from..end`. Every byte is tried, since a damaged length leads nowhere;
    /// bodies are text, whose bytes make no possible length, so few places need their checksum taken.
    pub(super) fn valid_frame_from(&mut self, from: u64, end: u64) -> Result<bool, io::Error> {
        let mut at = from;
        while at + FRAME_HEAD as u64 <= end {
            match self.frame(at, end) {
                Ok(_) => return Ok(true),
                Err(Fault::Io(err)) => return Err(err),
                Err(Fault::Broken(_)) => at += 1,
            }
        }
        Ok(false)
    }
}

/// Reads a segment's header.
pub(super) fn read_header(file: &File) -> Result<(Header, u64), Fault> {
    let mut bytes = [0; HEADER_LEN as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Header::decode(&bytes).map_err(Fault::Broken),
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Fault::Broken("the file ends within the header"))
        }
        Err(err) => Err(Fault::Io(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_seen() {
        let header = Header { sequence: 7, begin: Position::new(2, 99, 4), has_last: true, last_ends: false };
        let mut out = Vec::new();
        header.encode(&mut out);
        let bytes: [u8; HEADER_LEN as usize] = out.try_into().unwrap();
        assert_eq!(Header::decode(&bytes), Ok((header, HEADER_LEN)));
        for bit in 0..SYNCED_AT * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_name_is_twenty_digits() {
        assert_eq!(path_of(Path::new("/j"), 12).to_str(), Some("/j/00000000000000000012.seg"));
        assert_eq!(sequence_of("00000000000000000012.seg"), Some(12));
        assert_eq!(sequence_of("12.seg"), None);
        assert_eq!(sequence_of("0000000000000000012x.seg"), None);
        assert_eq!(sequence_of("00000000000000000012.tmp"), None);
    }

    #[test]
    fn a_payload_above_the_limit_leaves_no_trace() {
        let mut out = vec![1, 2, 3];
        let bytes = MAX_FRAME as usize + 1;
        assert_eq!(put_frame(&mut out, BLOCK, |out| out.resize(out.len() + bytes - 1, 0)), Err(bytes));
        assert_eq!(out, [1, 2, 3]);
    }
}
