//! The journal: what was captured and not yet delivered everywhere, on disk, in order.

mod block;
mod codec;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod log;
mod reader;
mod recent;
mod recover;
#[cfg(test)]
mod samples;
mod segment;
mod state;
mod sync;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use rowbridge_schema::{EndpointName, Position};
use tokio::sync::watch;

pub use block::{Block, Resume, TableRef};
pub use log::{JournalOptions, Recovered, SegmentJournal};
pub use reader::SegmentReader;

/// How far the journal is on disk. Only ever moves forward.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durable {
    /// Last position of the last synced block.
    pub position: Option<Position>,
    /// Where the source may be confirmed.
    pub resume: Option<Resume>,
}

/// Sizes for metrics and for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalStats {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes of the segments that hold something undelivered.
    pub undelivered_bytes: u64,
    /// Number of segment files.
    pub segments: usize,
}

/// Why the journal cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Undelivered blocks fill `journal.max_bytes`. Retryable: see [`Journal::room`].
    #[error("the journal holds {bytes} bytes of undelivered changes, its bound is {max_bytes}")]
    Full {
        /// Bytes held.
        bytes: u64,
        /// `journal.max_bytes`
        max_bytes: u64,
    },
    /// The disk has no room. Retryable: see [`Journal::room`].
    #[error("no space is left on the journal's disk ({path})")]
    DiskFull {
        /// The segment that could not grow.
        path: std::path::PathBuf,
    },
    /// What a reader wants was already removed.
    #[error("the journal begins after {oldest}; what came before was removed after delivery")]
    Gone {
        /// Last position before the oldest block that is still there.
        oldest: Position,
    },
    /// A broken frame that is not the torn tail of the last segment.
    #[error("{path} is damaged at byte {offset} (after position {after}): {reason}")]
    Corrupt {
        /// The segment.
        path: std::path::PathBuf,
        /// Byte offset of the broken frame.
        offset: u64,
        /// Position of the last whole block before it.
        after: Position,
        /// What is broken.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `write`, `sync`, `remove`, ...
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl JournalError {
    /// What to do when a publisher cannot start, or has ended, because of it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Corrupt { .. } => Some(
                "Its disk has changed what was safe. Move the folder journal in publisher.state_dir away, run \
                 `rowbridge snapshot --all` and start: every table is sent again, and what is gone at the source is \
                 removed at the targets."
                    .to_owned(),
            ),
            Self::Full { .. } | Self::DiskFull { .. } | Self::Gone { .. } | Self::Io { .. } => None,
        }
    }
}

/// One writer, many readers.
///
/// Contract:
/// - `append` keeps order: a block whose `head.last` is not above the last appended one is a replay and a no-op.
/// - A block is visible to readers when `append` returns and durable when [`Journal::durable`] has reached it. One sync
///   covers many blocks. Blocks with `head.chunk` set become visible only once they are durable, since a re-read chunk has
///   other content at the same positions.
/// - Nothing undelivered is ever removed; `release` says what each lane has delivered.
pub trait Journal: Send + Sync + 'static {
    /// A cursor.
    type Reader: JournalReader;

    /// Appends one block; returns whether it was new.
    ///
    /// # Errors
    /// `Full` and `DiskFull` are retryable and leave the journal as it was; others are permanent.
    /// Cancel safety: not cancel safe.
    fn append(&self, block: Arc<Block>) -> impl Future<Output = Result<bool, JournalError>> + Send;

    /// Notes that the source had nothing for us up to `resume`, so that an idle source can be confirmed.
    fn mark(&self, resume: Resume) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// How far the journal is on disk.
    fn durable(&self) -> watch::Receiver<Durable>;

    /// Last position appended, durable or not.
    fn last(&self) -> Option<Position>;

    /// Resolves when an append that failed with `Full` or `DiskFull` may succeed.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Whether capture waits for room: the last append failed with `Full` or `DiskFull`.
    fn short(&self) -> watch::Receiver<bool>;

    /// A reader whose first block ends after `after`.
    ///
    /// # Errors
    /// `Gone` if blocks after `after` were removed already.
    fn reader(&self, after: Position) -> Result<Self::Reader, JournalError>;

    /// The lane has delivered everything up to `position`; going back (a restored target) is allowed. A lane that never
    /// called this holds everything.
    fn release(&self, lane: &EndpointName, position: Position);

    /// The lanes that count for retention; others are forgotten.
    fn set_lanes(&self, lanes: &[EndpointName]);

    /// Position after which blocks are still there.
    fn oldest(&self) -> Position;

    /// Sizes.
    fn stats(&self) -> JournalStats;
}

/// A cursor over blocks.
pub trait JournalReader: Send + 'static {
    /// The next block if it is there already.
    ///
    /// # Errors
    /// `Corrupt` or `Io`.
    fn try_next(&mut self) -> Result<Option<Arc<Block>>, JournalError>;

    /// Waits until [`Self::try_next`] may return a block. Cancel safe.
    fn ready(&mut self) -> impl Future<Output = ()> + Send;
}
