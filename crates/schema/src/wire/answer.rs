//! What a subscriber answers. The body is signed with the endpoint's secret under the request's own `webhook-id`, so that
//! nobody else's 200 can trim a journal.

use serde::{Deserialize, Serialize};

use crate::name::{EndpointName, StreamName};
use crate::position::Position;

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// Committed (or nothing to do): `position` is durable in the target. HTTP 200.
    Applied,
    /// Applied in an open transaction up to `staged`; `position` is what is committed. HTTP 200.
    Staged,
    /// `prev` lies beyond `position`: go back there. HTTP 409.
    Gap,
    /// The lane belongs to another source. HTTP 409.
    ForeignSource,
    /// The delivery's epoch is below the stored one. HTTP 409.
    OldEpoch,
    /// A change cannot be applied; `failing` names it. HTTP 422.
    Rejected,
    /// The body is not a delivery. HTTP 400.
    Malformed,
    /// Try again later: target away, lane busy. HTTP 503.
    Unavailable,
}

/// A change that a target cannot take. Names, never values, except the key that a person needs to find the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingChange {
    /// Where in the stream.
    pub position: Position,
    /// Table at the source.
    pub table: String,
    /// Column, where one is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Key of the row as `column=value` texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// What is wrong and what to do.
    pub reason: String,
}

/// The body of every answer to a verified delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// [`super::WIRE_VERSION`]
    pub rowbridge: u32,
    /// The lane's stream.
    pub stream: StreamName,
    /// The lane's endpoint.
    pub endpoint: EndpointName,
    /// What became of the delivery.
    pub status: AnswerStatus,
    /// What the target has committed; null if it has never heard of this lane.
    pub position: Option<Position>,
    /// What lies in the lane's open transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Position>,
    /// What the subscriber reads: `bridge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Content encodings that it takes: `zstd`, `gzip`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<String>,
    /// Largest body in bytes, on the wire and inflated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
    /// What is wrong, for the publisher's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The changes that cannot be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingChange>,
}
