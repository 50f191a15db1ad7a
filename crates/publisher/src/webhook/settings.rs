//! What a lane is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{EndpointConfig, WebhookConfig};
use rowbridge_schema::event::outbox::OutboxConfig;
use rowbridge_schema::{Position, SourceId, StreamName};

use super::cursor::CursorError;
use super::make::Common;
use crate::http::SetupError;
use crate::lane::Orders;

/// Events that a window holds at most.
pub(crate) const WINDOW_EVENTS: usize = 10_000;

/// What a lane has to know.
#[derive(Debug, Clone)]
pub struct WebhookLaneConfig {
    /// Namespace of the positions.
    pub stream: StreamName,
    /// Which database the stream comes from.
    pub source: SourceId,
    /// Name of that database; empty where it has none.
    pub database: String,
    /// `publisher.state_dir`
    pub state_dir: PathBuf,
    /// Where, which events, how.
    pub endpoint: EndpointConfig,
    /// The endpoint's part that only such lanes have.
    pub webhook: Box<WebhookConfig>,
    /// `[[outbox]]`
    pub outboxes: Arc<[OutboxConfig]>,
    /// Where the lane begins if it has never settled anything.
    pub start: Position,
    /// What the caller knows at the start.
    pub orders: Orders,
    /// Bytes of events in memory.
    pub window_bytes: usize,
    /// How long a stop waits for what is under way.
    pub shutdown_grace: Duration,
}

impl WebhookLaneConfig {
    pub(super) fn webhook(&self) -> &WebhookConfig {
        &self.webhook
    }

    pub(super) fn common(&self) -> Common {
        Common {
            stream: self.stream.clone(),
            endpoint: self.endpoint.name.clone(),
            source: self.source.clone(),
            database: self.database.clone(),
            webhook: self.webhook.clone(),
            outboxes: Arc::clone(&self.outboxes),
        }
    }
}

/// Why a lane cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSetupError {
    /// The file that says how far it has come.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Its address, proxy, certificates or credentials.
    #[error(transparent)]
    Client(#[from] SetupError),
}
