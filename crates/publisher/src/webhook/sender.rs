//! Signs a request and sends it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use rowbridge_schema::config::{Compression, EndpointConfig, Templated, WebhookConfig};
use rowbridge_schema::event::template::RenderError;
use rowbridge_schema::signature::{HEADER_ID, HEADER_TIMESTAMP, Signer};
use rowbridge_schema::{Class, Classified};

use super::compress::compressed;
use super::outgoing::{Ended, Outgoing, Ready, content_type};
use super::settings::{WebhookLaneConfig, WebhookSetupError};
use super::unmade::RowError;
use crate::deliveries::Origin;
use crate::http::{
    AttemptError, Client, ClientConfig, Exchange, FramingHeader, PathError, Proxy, Request, Timing, Tls,
};

/// Says that an operator has asked for the event again.
const REPLAY: HeaderName = HeaderName::from_static("rowbridge-replay");

/// What of a row cannot be part of a request.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Row(RowError),
    #[error("endpoint.{templated} cannot be rendered")]
    Template { templated: Templated, source: RenderError },
    #[error(
        "the journal holds no event of this endpoint that its template could be rendered of: change a row, and test again"
    )]
    NoSample,
    #[error("the path that was made of the row cannot be sent")]
    Path(#[from] PathError),
    #[error("a header that was made of the row cannot be sent")]
    Name(#[from] FramingHeader),
    #[error("a header that was made of the row holds what no header can")]
    Header,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Attempt(AttemptError),
    #[error(transparent)]
    Refused(Refused),
}

impl Failure {
    /// A label from a closed set.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Attempt(error) => error.label(),
            Self::Refused(Refused::Row(_)) => "expression",
            Self::Refused(Refused::Template { .. } | Refused::NoSample) => "template",
            Self::Refused(_) => "request",
        }
    }
}

impl Classified for Failure {
    fn class(&self) -> Class {
        match self {
            Self::Attempt(error) => error.class(),
            Self::Refused(_) => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Attempt(error) => error.hint(),
            Self::Refused(Refused::Row(error)) => error.hint(),
            Self::Refused(Refused::Template { source, .. }) => source.hint(),
            Self::Refused(_) => None,
        }
    }
}

/// The HTTP side of a lane.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    /// `None` only where the operator wants requests without a signature.
    signer: Option<Signer>,
    /// Path and query of the endpoint's URL.
    path: String,
    content_type: HeaderValue,
    /// Those of the configuration that are the same for all events.
    headers: Vec<(HeaderName, HeaderValue)>,
    compression: Option<Compression>,
}

impl Sender {
    /// Makes the client; nothing is connected yet.
    ///
    /// # Errors
    /// The endpoint's address, certificates or credentials, or a header that cannot be sent.
    pub fn new(config: &WebhookLaneConfig, tls: Option<Tls>) -> Result<Self, WebhookSetupError> {
        let (endpoint, webhook) = (&config.endpoint, config.webhook());
        let client = Client::new(client_config(endpoint, webhook, tls))?;
        let mut path = endpoint.url.path().to_owned();
        if let Some(query) = endpoint.url.query() {
            path = format!("{path}?{query}");
        }
        let content_type = HeaderValue::from_static(content_type(webhook.format));
        let mut headers = Vec::new();
        for (name, value) in
            webhook.request.headers.iter().filter_map(|(name, value)| Some((name, value.text()?)))
        {
            let parsed = name.parse().ok().zip(HeaderValue::from_str(value.trim()).ok());
            let Some((parsed, mut value)) = parsed else {
                return Err(WebhookSetupError::Header { name: name.clone() });
            };
            // An API key, most likely.
            value.set_sensitive(true);
            headers.push((parsed, value));
        }
        let (signer, compression) = (webhook.request.signer.clone(), webhook.request.compression);
        Ok(Self { client, signer, path, content_type, headers, compression })
    }

    /// Sends once, with a timestamp and a signature of its own.
    pub(crate) async fn send(&self, mut outgoing: Outgoing) -> Ended {
        let began = SystemTime::now();
        outgoing.first_at.get_or_insert(began);
        let ready = outgoing.ready.take().filter(|ready| ready.seconds == seconds(began));
        let request = match ready {
            Some(ready) => Ok(ready.request),
            None => self.request(&outgoing, seconds(began)),
        };
        let Exchange { result, timing, .. } = match request {
            Ok(request) => self.client.send(&request).await,
            Err(refused) => {
                let result = Err(Failure::Refused(refused));
                return Ended { outgoing, began, timing: Timing::default(), result };
            }
        };
        Ended { outgoing, began, timing, result: result.map_err(Failure::Attempt) }
    }

    /// Signs the first attempt ahead of time. One that does not leave within the second is signed anew.
    pub(crate) fn make_ready(&self, outgoing: &mut Outgoing) {
        let seconds = seconds(SystemTime::now());
        // What cannot be sent is told when it is.
        let request = self.request(outgoing, seconds).ok();
        outgoing.ready = request.map(|request| Box::new(Ready { seconds, request }));
    }

    fn request(&self, outgoing: &Outgoing, seconds: u64) -> Result<Request, Refused> {
        if let Some(fault) = &outgoing.fault {
            return Err(fault.clone());
        }
        let path = outgoing.path.as_deref().unwrap_or(&self.path);
        let packed = self.compression.and_then(|how| Some((how.name(), compressed(how, &outgoing.body)?)));
        let (encoding, body): (_, Bytes) = match packed {
            Some((name, body)) => (Some(name), body),
            None => (None, outgoing.body.clone()),
        };
        let mut request = Request::new(path, body.clone())?;
        if let Some(name) = encoding {
            request.set(CONTENT_ENCODING, HeaderValue::from_static(name))?;
        }
        let content_type = match &outgoing.content_type {
            None => self.content_type.clone(),
            Some(text) => HeaderValue::from_str(text).map_err(|_| Refused::Header)?,
        };
        request.set(CONTENT_TYPE, content_type)?;
        for (name, value) in &self.headers {
            request.set(name.clone(), value.clone())?;
        }
        for (name, value) in &outgoing.headers {
            let name: HeaderName = name.parse().map_err(|_| Refused::Header)?;
            let value = HeaderValue::from_str(value).map_err(|_| Refused::Header)?;
            request.set(name, value)?;
        }
        if outgoing.origin == Origin::Replay {
            request.set(REPLAY, HeaderValue::from_static("true"))?;
        }
        let mut set = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|_| Refused::Header)?;
            request.set(HeaderName::from_static(name), value).map_err(Refused::from)
        };
        match &self.signer {
            Some(signer) => {
                for (name, value) in signer.headers(&outgoing.id, seconds, &body) {
                    set(name, &value)?;
                }
            }
            // A receiver still tells a repetition by its id.
            None => {
                set(HEADER_ID, &outgoing.id)?;
                set(HEADER_TIMESTAMP, &seconds.to_string())?;
            }
        }
        Ok(request)
    }
}

/// A signature's timestamp.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What the client of an endpoint is made of.
pub(crate) fn client_config(
    endpoint: &EndpointConfig,
    webhook: &WebhookConfig,
    tls: Option<Tls>,
) -> ClientConfig {
    ClientConfig {
        allow_networks: endpoint.allow_networks.clone(),
        tls,
        proxy: webhook.request.proxy.as_ref().map(Proxy::new),
        auth: webhook.request.auth.clone(),
        concurrency: webhook.policy.concurrency,
        timeout: endpoint.timeout,
        ..ClientConfig::new(endpoint.name.clone(), endpoint.url.clone())
    }
}
