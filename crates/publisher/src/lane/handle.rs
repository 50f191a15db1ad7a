//! What a lane is made of, and the caller's end of it.

use std::time::Duration;

use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName};
use tokio::sync::watch;

use super::state::LaneStatus;

/// How often a lane speaks without being asked to.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A lane with nothing to send sends an empty delivery this often, so that a target's position keeps up with the
    /// stream and a restored target is noticed while the source is idle.
    pub empty_every: Duration,
    /// A halted lane asks again this often.
    pub probe_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { empty_every: Duration::from_secs(10), probe_every: Duration::from_secs(60) }
    }
}

/// What a lane has to know.
#[derive(Debug, Clone)]
pub struct LaneConfig {
    /// Namespace of the positions.
    pub stream: StreamName,
    /// Which database the stream comes from.
    pub source: SourceId,
    /// Where, with which keys, which tables.
    pub endpoint: EndpointConfig,
    /// Where the lane begins at a target that has never heard of it.
    pub start: Position,
    /// Where the publisher's state began. A target that stands before it holds what another state has sent, and nobody
    /// knows what happened between the two: it needs a snapshot.
    pub first: Position,
    /// What the caller knows at the start.
    pub orders: Orders,
    /// `source.max_transaction`: encoded bytes up to which a transaction is applied whole.
    pub max_transaction: u64,
    /// How long a stop waits for the delivery in flight.
    pub shutdown_grace: Duration,
    /// Left at its default outside of tests.
    pub timing: Timing,
}

/// What the caller tells a lane, at its start and later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// A snapshot of everything that the lane carries lies behind this position: a target further back goes on here.
    pub snapshot_from: Option<Position>,
    /// Epoch of new positions. A target that stands in a later one has heard of another publisher of this stream.
    pub epoch: u32,
    /// The stream goes on without this endpoint, and why; see [`super::LaneState::Detached`].
    pub detached: Option<String>,
    /// An operator holds the endpoint's events. Only for endpoints that are not Rowbridge, as is the next one.
    pub paused: bool,
    /// An answer has disabled the endpoint, and no operator has enabled it since.
    pub disabled: Option<String>,
}

/// The caller's end of a lane.
#[derive(Debug)]
pub struct LaneHandle {
    pub(super) name: EndpointName,
    pub(super) status: watch::Receiver<LaneStatus>,
    pub(super) orders: watch::Sender<Orders>,
}

impl LaneHandle {
    pub(crate) fn new(
        name: EndpointName,
        status: watch::Receiver<LaneStatus>,
        orders: watch::Sender<Orders>,
    ) -> Self {
        Self { name, status, orders }
    }

    /// The endpoint's name.
    #[must_use]
    pub fn name(&self) -> &EndpointName {
        &self.name
    }

    /// State and positions, as they change. `acked` is what `confirm = "delivered"` may rely on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<LaneStatus> {
        self.status.clone()
    }

    /// What the lane was told last.
    #[must_use]
    pub fn orders(&self) -> Orders {
        self.orders.borrow().clone()
    }

    /// Changes what the lane was told. A lane that waits for a person asks its target again. The caller remembers
    /// snapshots and detached endpoints for [`LaneConfig::orders`].
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// The same, waking the lane only where something is new.
    pub(crate) fn order_if_new(&self, change: &dyn Fn(&mut Orders)) {
        self.orders.send_if_modified(|orders| {
            let before = orders.clone();
            change(orders);
            *orders != before
        });
    }
}
