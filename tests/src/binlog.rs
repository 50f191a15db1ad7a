//! Binary log files as they lie on the disk, to be damaged on purpose.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// `magic`, before the first event.
const MAGIC: usize = 4;
const HEADER: usize = 19;
const CHECKSUM: usize = 4;

/// A closed file of a server's binary log, with checksums.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    whole: Vec<u8>,
}

/// An event's place in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    start: usize,
    end: usize,
}

impl LogFile {
    /// Reads the file.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        Self { path: path.into(), whole: std::fs::read(path).unwrap() }
    }

    /// The first event of a type whose bytes hold `text`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn find(&self, kind: u8, text: &[u8]) -> Place {
        self.find_from(MAGIC, kind, text)
    }

    /// The first event of a type behind another event.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn find_behind(&self, place: Place, kind: u8) -> Place {
        self.find_from(place.end, kind, b"")
    }

    fn find_from(&self, mut start: usize, kind: u8, text: &[u8]) -> Place {
        while start + HEADER < self.whole.len() {
            let size = u32::from_le_bytes(self.whole[start + 9..start + 13].try_into().unwrap()) as usize;
            let place = Place { start, end: start + size };
            let event = &self.whole[start..place.end];
            if event[4] == kind && (text.is_empty() || event.windows(text.len()).any(|found| found == text)) {
                return place;
            }
            start = place.end;
        }
        panic!("no event of type {kind} in {}", self.path.display());
    }

    /// Changes an event in the file, after its checksum was made.
    pub fn damage(&self, place: Place, change: impl FnOnce(&mut [u8])) {
        let mut event = self.whole[place.start..place.end].to_vec();
        change(&mut event[HEADER..place.end - place.start - CHECKSUM]);
        self.write(place, &event);
    }

    /// Changes an event, its header included, before its checksum is made.
    pub fn forge(&self, place: Place, change: impl FnOnce(&mut [u8])) {
        let mut event = self.whole[place.start..place.end].to_vec();
        let end = event.len() - CHECKSUM;
        change(&mut event[..end]);
        let mut sum = flate2::Crc::new();
        sum.update(&event[..end]);
        event[end..].copy_from_slice(&sum.sum().to_le_bytes());
        self.write(place, &event);
    }

    /// Puts the file back to what it was.
    pub fn repair(&self) {
        self.write(Place { start: 0, end: self.whole.len() }, &self.whole);
    }

    /// In place: the server may have it open.
    fn write(&self, place: Place, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, place.start as u64).unwrap();
    }
}
