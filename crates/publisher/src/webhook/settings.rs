//! What a lane is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{Auth, EndpointConfig, WebhookConfig};
use rowbridge_schema::event::Whence;
use rowbridge_schema::event::outbox::OutboxConfig;
use rowbridge_schema::tls::{Identity, TlsError};
use rowbridge_schema::{Position, SourceId, StreamName};

use super::cursor::CursorError;
use super::make::Common;
use crate::http::{SetupError, Tls};
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

    pub(super) fn whence(&self) -> Whence<'_> {
        Whence {
            stream: &self.stream,
            endpoint: &self.endpoint.name,
            source: &self.source,
            database: &self.database,
        }
    }

    /// Whether a request has several events; whoever asked for batches gets them, also of one event.
    pub(super) fn batched(&self) -> bool {
        self.webhook.policy.batch.max_events > 1
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

/// Why there is no TLS towards an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file that the configuration names.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in one of them, or the system's authorities.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Certificates and authorities of an endpoint; `None` where nobody on the way speaks TLS, since a machine without any
/// authorities is then as good as another.
pub(crate) fn webhook_tls(
    endpoint: &EndpointConfig,
    webhook: &WebhookConfig,
) -> Result<Option<Tls>, TlsFileError> {
    let request = &webhook.request;
    let token = match &request.auth {
        Auth::OAuth2(client) => client.token_url.scheme() == "https",
        Auth::None | Auth::Bearer(_) | Auth::Basic { .. } => false,
    };
    let proxy = request.proxy.as_ref().is_some_and(|proxy| proxy.https);
    if !(endpoint.url.scheme() == "https" || token || proxy) {
        return Ok(None);
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| TlsFileError::File { path: path.clone(), source })
    };
    let ca = endpoint.ca.as_ref().map(read).transpose()?;
    let (certificates, key) = match &request.identity {
        None => return Ok(Some(Tls::new(ca.as_deref(), None)?)),
        Some(files) => (read(&files.certificates)?, read(&files.key)?),
    };
    let identity = Identity { certificates_pem: &certificates, key_pem: &key };
    Ok(Some(Tls::new(ca.as_deref(), Some(identity))?))
}

/// Why a lane cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSetupError {
    /// The file that says how far it has come.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A header of the configuration.
    #[error("endpoint.headers.{name} cannot be sent")]
    Header {
        /// In lower case.
        name: String,
    },
    /// Its address, proxy, certificates or credentials.
    #[error(transparent)]
    Client(#[from] SetupError),
}
