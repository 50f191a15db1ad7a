//! Applying deliveries: progress and rows in one transaction of the target.

mod clock;
mod collection;
mod decision;
pub mod mysql;
pub mod postgres;
mod remains;
mod renamed;
pub mod sqlite;

use std::future::Future;

use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Classified, EndpointName, Position, SourceId, StreamName};

/// A lane's row in `rowbridge_progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which database the lane belongs to.
    pub source: SourceId,
    /// Committed.
    pub position: Position,
}

/// What an apply came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Committed; `changes` is what was new, 0 for a pure replay.
    Committed {
        /// Committed position.
        position: Position,
        /// Changes applied, replays not counted.
        changes: u64,
    },
    /// In the lane's open transaction, not committed.
    Staged {
        /// Committed position.
        position: Option<Position>,
        /// Reached in the open transaction.
        staged: Position,
        /// Changes applied in this delivery.
        changes: u64,
    },
    /// `prev` lies beyond what is committed (or staged): nothing was written.
    Gap {
        /// Committed position.
        position: Option<Position>,
    },
    /// The lane belongs to another source: nothing was written.
    ForeignSource {
        /// The source that the lane belongs to.
        expected: SourceId,
        /// Committed position.
        position: Position,
    },
    /// The delivery's epoch is below the committed one: nothing was written.
    OldEpoch {
        /// Committed position.
        position: Position,
    },
    /// A change cannot be applied: nothing was written.
    Rejected {
        /// Committed position.
        position: Option<Position>,
        /// What is in the way.
        failing: Vec<FailingChange>,
    },
}

/// One finding about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckItem {
    /// What was looked at.
    pub subject: &'static str,
    /// Whether it is as it should be.
    pub fine: bool,
    /// What was found.
    pub finding: String,
    /// What to run or change, if there is something.
    pub fix: Option<String>,
}

/// A target database.
pub trait ApplyTarget: Send + Sync + 'static {
    /// One ordered lane's session.
    type Lane: TargetLane;
    /// Why the target cannot be used; classed.
    type Error: std::error::Error + Classified + Send + Sync + 'static;

    /// Opens a lane: a session of its own; makes `rowbridge_progress` if it is missing and may be made.
    fn open(
        &self,
        stream: &StreamName,
        endpoint: &EndpointName,
    ) -> impl Future<Output = Result<Self::Lane, Self::Error>> + Send;
}

/// One lane's session. One owner; dropped and reopened after an error.
///
/// Contract of `apply`: inside one transaction of the target, lock the lane's progress row (inserted if absent; short
/// lock timeout), compare, write progress, write rows, commit. An error leaves nothing behind.
pub trait TargetLane: Send + 'static {
    /// Why an apply failed without a verdict on the data: session lost, deadlock, lock timeout. Classed.
    type Error: std::error::Error + Classified + Send + Sync + 'static;

    /// What the target has committed for this lane. An open transaction is rolled back.
    fn progress(&mut self) -> impl Future<Output = Result<Option<Progress>, Self::Error>> + Send;

    /// Applies a delivery, or goes on in the open transaction if `delivery.head.prev` is what is staged.
    /// Cancel safety: a cancelled call leaves the session unusable; drop it.
    fn apply(&mut self, delivery: &Delivery<'_>)
    -> impl Future<Output = Result<Applied, Self::Error>> + Send;

    /// Ends an open transaction without effect.
    fn rollback(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
