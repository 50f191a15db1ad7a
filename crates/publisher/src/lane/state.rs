//! What a lane shows of itself.

use std::fmt;
use std::time::SystemTime;

use rowbridge_schema::{EndpointName, Position};

/// What a lane is doing. Set by the lane alone; nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LaneState {
    /// No answer yet. Set when the lane is made.
    #[default]
    Starting,
    /// Delivering, or nothing to deliver. Set by an answer that counts.
    Running,
    /// The last attempt failed and is made again. Set by a retryable failure.
    Retrying {
        /// Attempts of this delivery so far.
        attempt: u32,
        /// The last failure.
        error: String,
        /// The first failure.
        since: SystemTime,
    },
    /// A person is needed; the lane asks again every minute. Set by a permanent failure.
    Halted {
        /// What happened.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The journal does not hold what the target needs. Set when the journal has removed it.
    NeedsSnapshot {
        /// Where the target stands.
        wanted: Position,
        /// Where the journal begins.
        oldest: Position,
    },
    /// The stream goes on without this endpoint: it was the slowest one when the source held more than it may, or it
    /// missed changes. Set and ended by the caller, who stores it.
    Detached {
        /// What happened.
        reason: String,
        /// Its name, for the command that ends this.
        endpoint: EndpointName,
    },
    /// The endpoint answered 410 (a bridge: a signed one). A bridge is enabled by a restart, others by
    /// `rowbridge endpoint enable`.
    Disabled {
        /// What it said.
        reason: String,
    },
    /// An operator holds its events. Only for endpoints that are not Rowbridge.
    Paused,
}

impl LaneState {
    /// Labels of all states, for metrics.
    pub const LABELS: [&str; 8] =
        ["starting", "running", "retrying", "halted", "needs_snapshot", "detached", "disabled", "paused"];

    /// One of [`Self::LABELS`].
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying { .. } => "retrying",
            Self::Halted { .. } => "halted",
            Self::NeedsSnapshot { .. } => "needs_snapshot",
            Self::Detached { .. } => "detached",
            Self::Disabled { .. } => "disabled",
            Self::Paused => "paused",
        }
    }

    /// Whether `/readyz` may count the lane as ready. An endpoint that is away is not ready; one that an operator holds is
    /// as he wants it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Says in the log that a lane has entered this state.
    pub(crate) fn log(&self, endpoint: &EndpointName) {
        match self {
            Self::Starting => {}
            Self::Running => tracing::info!(%endpoint, "the lane delivers"),
            Self::Retrying { error, .. } => tracing::warn!(%endpoint, %error, "attempt failed; trying again"),
            Self::Halted { reason, hint } => {
                tracing::error!(%endpoint, error = %reason, hint = hint.as_deref(), "the lane is halted");
            }
            Self::NeedsSnapshot { .. } => {
                tracing::error!(%endpoint, error = %self, "the lane needs a snapshot")
            }
            Self::Detached { .. } => {
                tracing::error!(%endpoint, error = %self, "the endpoint is detached: the stream goes on without it");
            }
            Self::Disabled { reason } => tracing::error!(%endpoint, error = %reason, "the lane is disabled"),
            Self::Paused => tracing::info!(%endpoint, "the lane is paused"),
        }
    }

    /// Whether the operator would call it the same state.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Retrying { .. }, Self::Retrying { .. })
            | (Self::NeedsSnapshot { .. }, Self::NeedsSnapshot { .. }) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for LaneState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Retrying { attempt, error, .. } => {
                write!(f, "trying again after {attempt} attempts: {error}")
            }
            Self::Halted { reason, hint: None } => write!(f, "halted: {reason}"),
            Self::Halted { reason, hint: Some(hint) } => write!(f, "halted: {reason}. {hint}"),
            Self::NeedsSnapshot { wanted, oldest } => write!(
                f,
                "the target stands at {wanted}, but the journal begins after {oldest}: run `rowbridge snapshot --all`"
            ),
            Self::Detached { reason, endpoint } => write!(
                f,
                "detached: {reason}; run `rowbridge snapshot --endpoint {endpoint}` once it can follow"
            ),
            Self::Disabled { reason } => write!(f, "disabled: {reason}"),
            Self::Paused => f.write_str("paused: its events are held until `rowbridge endpoint resume`"),
        }
    }
}

/// State, positions and counts of a lane. Counts begin with the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneStatus {
    /// What it is doing.
    pub state: LaneState,
    /// What the target last said it has committed; beyond the source's end of log, positions have started over.
    pub answered: Option<Position>,
    /// Everything up to here is committed at the target, or was never for it. `None` before the first answer. Goes back
    /// when the target does.
    pub acked: Option<Position>,
    /// Everything up to here was looked at; what lies between was sent or is not for this endpoint.
    pub scanned: Option<Position>,
    /// What lies in the target's open transaction.
    pub staged: Option<Position>,
    /// Deliveries acknowledged, empty ones included.
    pub deliveries: u64,
    /// Changes acknowledged.
    pub changes: u64,
    /// Requests with changes that had been sent before.
    pub repeated: u64,
}
