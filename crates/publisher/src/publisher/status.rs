//! What the outside sees of a publisher.

use rowbridge_schema::EndpointName;

use crate::lane::LaneStatus;
use crate::pump::PumpStatus;

/// What `/readyz` and `status` show.
#[derive(Debug, Clone, Default)]
pub struct PublisherStatus {
    /// Why capture does not run, if it does not.
    pub source: Option<String>,
    /// Capture's own state.
    pub pump: PumpStatus,
    /// Lanes by name; empty before the source was first reached.
    pub lanes: Vec<(EndpointName, LaneStatus)>,
}

impl PublisherStatus {
    /// Everything that keeps the publisher from being ready, as sentences.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let source = self.source.iter().map(|problem| format!("source: {problem}"));
        let paused = self.pump.paused.iter().map(|problem| format!("capture is paused: {problem}"));
        let lanes = self.lanes.iter().filter(|(_, status)| !status.state.is_ready());
        let lanes = lanes.map(|(name, status)| format!("endpoint {name}: {}", status.state));
        source.chain(paused).chain(lanes).collect()
    }
}
