//! Asking an endpoint whether it would take deliveries, without sending any.

use std::sync::Arc;
use std::time::SystemTime;

use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::{Classified as _, EndpointName, Position, SourceId, StreamName, TablePatterns};

use super::answer::{Expected, Verdict, judge};
use super::attempt::{AttemptError, Client, LaneSetupError};
use super::batch::{Common, Delivery};
use super::fault::Fault;

/// The lane that a probe speaks for. Not the endpoint's own: a handshake rolls back what a running publisher has staged.
const PROBE_LANE: &str = "rowbridge-check";

/// Why an endpoint would not take deliveries.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No client can be made for it.
    #[error(transparent)]
    Setup(#[from] LaneSetupError),
    /// What it answered, or that it did not.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ProbeError {
    /// Nobody listens there.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Fault(Fault::Attempt(AttemptError::Connect { .. })))
    }

    /// What to do.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        let text = match self {
            Self::Setup(_) => "Correct endpoint.url or endpoint.ca.",
            Self::Fault(Fault::Attempt(AttemptError::Connect { .. } | AttemptError::Timeout { .. })) => {
                "Start the subscriber, or correct endpoint.url and the firewalls on the way."
            }
            Self::Fault(Fault::Attempt(AttemptError::Address(_))) => return None,
            Self::Fault(Fault::Refused { status: 401, .. }) => {
                "Compare endpoint.secret here with receive.secret at the subscriber, and both clocks."
            }
            Self::Fault(Fault::Refused { status: 403, .. }) => {
                "Add this machine's address to receive.allow_from at the subscriber."
            }
            Self::Fault(Fault::Refused { status: 404 | 405, .. }) => {
                "Compare the path of endpoint.url with receive.path at the subscriber."
            }
            Self::Fault(Fault::Busy { status: 503, .. }) => "Run `rowbridge check` at the subscriber.",
            Self::Fault(Fault::Unsigned { .. }) => {
                "Something else than a subscriber with this secret answers there: compare address and secret."
            }
            Self::Fault(fault) => return fault.hint(),
        };
        Some(text.to_owned())
    }
}

/// Where a lane stands at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The target has never heard of it.
    Unknown,
    /// It has changes of this source up to here.
    Ours(Position),
    /// It has changes of another source, or of this one under another name.
    Foreign(Option<Position>),
}

impl Standing {
    /// The position, whoever's it is.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        match self {
            Self::Unknown => None,
            Self::Ours(position) => Some(position),
            Self::Foreign(position) => position,
        }
    }
}

/// Asks a target where a lane stands, before the lane runs. Rolls back what a lane that runs elsewhere has staged there.
///
/// # Errors
/// What a lane would halt at or retry.
pub async fn ask(
    stream: &StreamName,
    source: &SourceId,
    endpoint: &EndpointConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Standing, ProbeError> {
    match handshake(stream, &endpoint.name, source, endpoint, tls).await? {
        Ok(position) => Ok(position.map_or(Standing::Unknown, Standing::Ours)),
        Err(Fault::ForeignSource { stands, .. }) => Ok(Standing::Foreign(stands)),
        Err(fault) => Err(fault.into()),
    }
}

/// Sends one signed handshake in the name of a lane that does not exist: proves address, path, secret, clock and that the
/// target can be read. It leaves nothing there, as only an applied delivery does.
///
/// # Errors
/// What a lane would halt at or retry.
pub async fn probe(
    stream: &StreamName,
    endpoint: &EndpointConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<(), ProbeError> {
    let lane = PROBE_LANE.parse().expect("the constant is a valid name");
    let source = SourceId(PROBE_LANE.to_owned());
    Ok(handshake(stream, &lane, &source, endpoint, tls).await?.map(drop)?)
}

async fn handshake(
    stream: &StreamName,
    lane: &EndpointName,
    source: &SourceId,
    endpoint: &EndpointConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Result<Option<Position>, Fault>, LaneSetupError> {
    let client = Client::new(endpoint, tls)?;
    let common = Common {
        stream: stream.clone(),
        endpoint: lane.clone(),
        source: source.clone(),
        tables: TablePatterns::all(),
        max_transaction: 0,
    };
    let delivery = Delivery::handshake(&common);
    let reply = match client.attempt(&delivery.request).await {
        Ok(reply) => reply,
        Err(error) => return Ok(Err(error.into())),
    };
    let expected = Expected {
        stream: &common.stream,
        endpoint: &common.endpoint,
        keys: &endpoint.secrets,
        id: &delivery.request.id,
        to: None,
        open: false,
        begins: None,
    };
    Ok(match judge(&reply, &expected, SystemTime::now()) {
        // A rewind is what an unknown lane is not told; both prove that a subscriber with our secret answered.
        Verdict::Done(answer) | Verdict::Staged(answer) | Verdict::Rewind(answer) => Ok(answer.position),
        Verdict::Retry { fault, .. } | Verdict::Halt(fault) | Verdict::Disable(fault) => Err(fault),
        Verdict::TooLarge => Err(Fault::Refused { status: reply.status, message: None }),
    })
}
