//! Tables whose rows are changed without being logged: a foreign key acts, and the source's log has the parent's change
//! only.
//!
//! Nothing in the stream says which rows of a range such a change concerns, so that they cannot be left out of it. The range
//! is placed where it was read instead: behind the transactions that its read saw and before those that it did not, whose
//! consequences the target then draws itself. For that the stream is held while the range is read, and where it has not
//! come that far, it goes on up to there.
//!
//! A target draws all of them if the rows that refer are there when the one that they refer to goes, and the other way
//! round. So tables that are referred to come first, and [`super::ring`] sees to those that refer to each other.

use std::time::{Duration, Instant};

use rowbridge_schema::TableName;

use super::placing::{CHUNK_BYTES, Placing};
use crate::capture::CapturedBlock;
use crate::snapshot::{ChunkRead, Containment, SnapshotReader};

/// What may be held while a range is read. Then the stream goes on, and a smaller range is read.
const HELD_BYTES: usize = 64 << 20;
/// For how long the stream is held at first; where that is not enough, for twice as long the next time.
const HELD_TIME: Duration = Duration::from_secs(1);
/// Most doublings of that time: changes are late by so much.
const MOST_DOUBLINGS: u32 = 3;
/// Most halvings of a range: 32 KiB.
const MOST_HALVINGS: u32 = 6;

/// The table that is placed exactly, and how well that goes.
#[derive(Debug, Default)]
pub(super) struct Exact {
    table: Option<TableName>,
    /// How often a read took too long to hold the stream for it.
    halvings: u32,
    since: Option<Instant>,
    held_bytes: usize,
}

impl Exact {
    /// Whether a table's reads are to be placed exactly.
    pub(super) fn is(&self, table: &TableName) -> bool {
        self.table.as_ref() == Some(table)
    }

    /// Bytes of a range.
    pub(super) fn chunk_bytes(&self, table: &TableName) -> usize {
        if self.is(table) { CHUNK_BYTES >> self.halvings } else { CHUNK_BYTES }
    }

    /// A table's reads are to be placed exactly.
    pub(super) fn becomes(&mut self, table: &TableName) {
        if !self.is(table) {
            *self = Self { table: Some(table.clone()), ..Self::default() };
        }
    }

    /// A read begins, for which the stream is held.
    pub(super) fn begin(&mut self) {
        self.since = Some(Instant::now());
        self.held_bytes = 0;
    }

    pub(super) fn hold(&mut self, block: &CapturedBlock) {
        self.held_bytes += block.block.body.len();
    }

    /// Whether the stream was held for too long, or too much of it.
    pub(super) fn is_too_much(&self) -> bool {
        let patience = HELD_TIME * (1 << self.halvings.min(MOST_DOUBLINGS));
        self.held_bytes > HELD_BYTES || self.since.is_some_and(|since| since.elapsed() > patience)
    }

    /// The next read is a shorter one.
    pub(super) fn halve(&mut self) {
        self.halvings = (self.halvings + 1).min(MOST_HALVINGS);
        self.since = None;
        self.held_bytes = 0;
    }

    /// No table is placed exactly.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// Whether the first block that a read did not see shows where its rows belong. Where transactions are not numbered in the
/// order of the log, it takes all that the read may have seen.
pub(super) fn is_in_order(containment: &Containment) -> bool {
    matches!(containment, Containment::UpTo(_))
}

impl<R: SnapshotReader + 'static> Placing<R> {
    /// A range has come that is to be placed exactly, and nothing was held for it: it is read anew. If tables that this one
    /// refers to are still to be sent, they come first.
    pub(super) fn place_exactly(&mut self, chunk: &ChunkRead) {
        let table = &chunk.table.name;
        let Some(job) = self.jobs.front().filter(|job| job.table == *table) else { return };
        self.rings.join(&chunk.unlogged, job.after.is_some());
        self.exact.becomes(table);
        if job.after.is_none() {
            self.ancestors_first(chunk);
        }
    }

    /// Puts a table that is still to be sent before one that refers to it; whether there was one.
    pub(super) fn ancestors_first(&mut self, chunk: &ChunkRead) -> bool {
        let unlogged = &chunk.unlogged;
        let before = |table: &TableName| {
            *table != chunk.table.name && unlogged.ancestors.contains(table) && !unlogged.ring.contains(table)
        };
        let Some(at) = self.jobs.iter().position(|job| before(&job.table)) else { return false };
        if let Some(job) = self.jobs.remove(at) {
            self.jobs.push_front(job);
            self.forget();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_takes_too_long_makes_the_next_one_shorter() {
        let table = TableName::new("shop", "t");
        let mut exact = Exact { table: Some(table.clone()), ..Exact::default() };
        assert_eq!(exact.chunk_bytes(&table), CHUNK_BYTES);
        exact.begin();
        assert!(!exact.is_too_much());
        exact.held_bytes = HELD_BYTES + 1;
        assert!(exact.is_too_much());
        exact.halve();
        assert!(!exact.is_too_much());
        assert_eq!(exact.chunk_bytes(&table), CHUNK_BYTES / 2);
        (0..20).for_each(|_| exact.halve());
        assert_eq!(exact.chunk_bytes(&table), 32 << 10);
        assert_eq!(exact.chunk_bytes(&TableName::new("shop", "other")), CHUNK_BYTES);
    }
}
