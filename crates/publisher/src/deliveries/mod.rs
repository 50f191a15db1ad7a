//! What is queried rather than streamed: attempts, dead letters, jobs, and how endpoints are doing.
//!
//! One SQLite file, [`DELIVERIES_FILE`] in `state_dir`, in WAL mode. Two parties use it at once:
//!
//! - The running publisher through one [`Recorder`]: a thread that owns the writing connection and commits what lanes hand
//!   it in groups. [`Recorder::attempt`] never waits. Everything else is a future that ends once the change is on disk.
//! - Commands, each in a process of its own, through a [`Store`]: they read, leave [`Job`]s and set what an operator wants
//!   of an endpoint. The recorder notices within [`NOTICE_EVERY`] and raises [`Recorder::requests`].
//!
//! # What survives
//!
//! - Attempts are committed without fsync after at most [`GATHER`]: a killed process loses that much of its log, a power cut
//!   what the file system had not written. Under pressure attempts are dropped and counted, successful ones first; see
//!   [`Dropped`].
//! - Dead letters, jobs and endpoint changes are never dropped. Their commit is synced before the future ends, so whoever
//!   moves a cursor afterwards cannot lose an event. A failed future has changed nothing.
//! - A dead letter that is recorded twice (the process was killed before the cursor moved) stays one letter: endpoint and
//!   `webhook_id` name it.
//!
//! # Bounds
//!
//! - Attempts leave by age ([`Limits::attempts_retain`]) and by size ([`Limits::attempts_max_bytes`]), the oldest first.
//!   Excerpts of responses go before attempts, until they take less than a quarter of the bound. Freed pages are used again,
//!   and given back when many are free.
//! - Dead letters stay until they are delivered or discarded, or [`Limits::letters_retain`] is over, which is off by
//!   default. When [`Limits::letters_max_bytes`] is reached, delivered ones leave first; if none is left, recording another
//!   one is [`StoreError::Full`] and the lane has to hold.
//! - Delivered letters stay for `attempts_retain`, the newest [`JOBS_KEPT`] jobs and [`EVENTS_KEPT`] endpoint events stay.
//!
//! # Who moves a job
//!
//! ```text
//! command: Store::ask ---------> queued --Recorder::start--> running --Recorder::finish--> done | failed
//!          Store::cancel_job ---> cancelled (from queued or running; the publisher learns it from `progress`)
//! ```
//!
//! A job that is `running` when the publisher starts is one that was cut short: start it again, it goes on behind its
//! recorded progress. Every job belongs to one endpoint, so a lane can own its jobs.
//!
//! All times are milliseconds since 1970, durations of phases microseconds. Nothing here redacts: callers hand over error
//! texts without secrets. Headers that sign or authorize are refused by [`NewLetter::keeps_header`].

mod attempt;
mod claim;
mod endpoint;
mod error;
mod filter;
mod job;
mod label;
mod letter;
mod prune;
mod queue;
mod recorder;
mod schema;
mod size;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::time::Duration;

use rowbridge_schema::config::RetainConfig;

pub use attempt::{Attempt, AttemptFilter, MAX_EXCERPT, Origin, Outcome, Recorded, Timings};
pub use claim::Settled;
pub use endpoint::{EndpointChange, EndpointEvent, EndpointRow, EventKind};
pub use error::StoreError;
pub use filter::LetterFilter;
pub use job::{Job, JobEnd, JobSpec, JobState, Progress, Replay};
pub use letter::{Letter, LetterCount, LetterState, NewLetter};
pub use queue::Dropped;
pub use recorder::Recorder;
pub use store::Store;

/// Name of the file in `state_dir`.
pub const DELIVERIES_FILE: &str = "deliveries.db";
/// How soon the publisher notices what a command has left.
pub const NOTICE_EVERY: Duration = Duration::from_millis(250);
/// How long attempts wait for others to be committed with them.
pub const GATHER: Duration = Duration::from_millis(20);
/// Ended jobs that stay.
pub const JOBS_KEPT: u32 = 1_000;
/// Endpoint events that stay. An alert endpoint that is further behind misses the oldest ones.
pub const EVENTS_KEPT: u32 = 10_000;

/// How much stays, and how much may wait to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long attempts stay; `None`: as long as there is room.
    pub attempts_retain: Option<Duration>,
    /// Bytes of the file that attempts and excerpts may take.
    pub attempts_max_bytes: u64,
    /// How long a dead letter stays that nobody looked after; `None`: until somebody does.
    pub letters_retain: Option<Duration>,
    /// Bytes of the file that dead letters may take.
    pub letters_max_bytes: u64,
    /// Bytes of attempts in memory that wait to be written.
    pub queue_bytes: usize,
}

impl Limits {
    /// As configured, and 4 MiB (some ten thousand attempts: half a second at full speed) in memory.
    #[must_use]
    pub fn new(attempts: RetainConfig, letters: RetainConfig) -> Self {
        Self {
            attempts_retain: attempts.retain,
            attempts_max_bytes: attempts.max_bytes,
            letters_retain: letters.retain,
            letters_max_bytes: letters.max_bytes,
            queue_bytes: 4 << 20,
        }
    }
}

impl Default for Limits {
    /// What holds where the configuration says nothing.
    fn default() -> Self {
        Self::new(RetainConfig::ATTEMPTS, RetainConfig::DEAD_LETTERS)
    }
}

/// Milliseconds since 1970, now.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
