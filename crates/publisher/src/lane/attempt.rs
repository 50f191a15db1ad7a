//! One HTTP request.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, sign};
use rowbridge_schema::{Class, Classified, SigningKey, wire};
use url::Url;

use super::address::{AddressError, AddressGuard, GuardedResolver, Lookup, is_loopback, system_lookup};
use super::answer::Reply;
use crate::http::tls::{default_tls, tls_error, tls_hint};

/// TCP and TLS must stand within this; the endpoint's timeout covers the whole exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is given up before servers with the customary header timeout of 10 s close it, so that a delivery
/// is not written into a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(8);
/// Most bytes of an answer that are read: an answer names at most a few failing rows.
const MAX_ANSWER: usize = 64 * 1024;
/// A body as large as this is signed when it is made, while its predecessor is in flight: hashing it takes a millisecond.
const SIGN_AHEAD: usize = 256 * 1024;
/// A signature older than this is made anew, so that the receiver sees the time of the attempt.
const SIGNATURE_AGE: u64 = 5;
const USER_AGENT: &str = concat!("rowbridge/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The exchange took too long.
    #[error("no answer within {} s (endpoint.timeout)", .after.as_secs_f64())]
    Timeout {
        /// The endpoint's timeout.
        after: Duration,
    },
    /// The address may not be called.
    #[error(transparent)]
    Address(AddressError),
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host of the URL.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody listens there, but TLS with him does not come about: his certificate, or he speaks none.
    #[error("cannot set up TLS with {host}")]
    Tls {
        /// Host of the URL.
        host: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The connection broke, or what came back is not HTTP.
    #[error("the exchange with {host} broke off")]
    Broken {
        /// Host of the URL.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that no subscriber sends.
    #[error("the answer with status {status} is longer than {max} bytes", max = MAX_ANSWER)]
    LongAnswer {
        /// HTTP status.
        status: u16,
    },
    /// The task that made the request ended without a result.
    #[error("the request was abandoned")]
    Abandoned,
}

impl Classified for AttemptError {
    fn class(&self) -> Class {
        match self {
            Self::Address(_) => Class::Permanent,
            // Certificates are renewed and proxies set up without our doing.
            Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::LongAnswer { .. }
            | Self::Abandoned => Class::RETRYABLE,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address(_) => Some("The name is resolved again every minute.".to_owned()),
            Self::Tls { source, .. } => Some(tls_hint(source).to_owned()),
            Self::Timeout { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::LongAnswer { .. }
            | Self::Abandoned => None,
        }
    }
}

impl AttemptError {
    /// A label from a closed set, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Address(_) => "address",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Broken { .. } | Self::Abandoned => "broken",
            Self::LongAnswer { .. } => "long_answer",
        }
    }
}

/// Why a lane cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LaneSetupError {
    /// The URL holds an address that is never called.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// What is sent, the same in every attempt.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: Arc<str>,
    pub(crate) body: Bytes,
    pub(crate) encoding: Option<&'static str>,
    /// Time and signature, if it was signed ahead.
    pub(crate) signed: Option<(u64, String)>,
}

/// The HTTP side of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    host: String,
    keys: Arc<[SigningKey]>,
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(
        config: &EndpointConfig,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, LaneSetupError> {
        Self::with_lookup(config, tls, system_lookup())
    }

    pub(crate) fn with_lookup(
        config: &EndpointConfig,
        tls: Option<Arc<rustls::ClientConfig>>,
        lookup: Lookup,
    ) -> Result<Self, LaneSetupError> {
        let url = config.url.clone();
        let guard = AddressGuard::new(config.name.clone(), &url, config.allow_networks.clone())?;
        let tls = match tls {
            Some(tls) => tls.as_ref().clone(),
            None => default_tls(url.scheme() == "https").map_err(LaneSetupError::Tls)?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(GuardedResolver { guard, lookup }))
            // A proxy from the environment would connect in our place and around the guard.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(USER_AGENT)
            .build()
            .map_err(LaneSetupError::Client)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let keys = config.secrets.as_slice().into();
        Ok(Self { http, url, host, keys, timeout: config.timeout })
    }

    /// Whether compressing is worth nothing, since bytes on loopback cost less than zstd.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Signs a large body before its time has come.
    pub(crate) fn sign_ahead(&self, request: &mut Request) {
        if request.body.len() >= SIGN_AHEAD {
            let now = seconds_now();
            request.signed = Some((now, sign(&self.keys, &request.id, now, &request.body)));
        }
    }

    /// Sends once, with a timestamp and signature of its own, and reads the whole answer.
    /// Cancel safety: the request may have arrived; what arrives twice takes effect once.
    pub(crate) async fn attempt(&self, request: &Request) -> Result<Reply, AttemptError> {
        match tokio::time::timeout(self.timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(AttemptError::Timeout { after: self.timeout }),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, AttemptError> {
        let now = seconds_now();
        let fresh = |(at, _): &&(u64, String)| now.checked_sub(*at).is_some_and(|age| age <= SIGNATURE_AGE);
        let (timestamp, signature) = match request.signed.as_ref().filter(fresh) {
            Some(signed) => signed.clone(),
            None => (now, sign(&self.keys, &request.id, now, &request.body)),
        };
        let mut builder = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(HEADER_ID, request.id.as_ref())
            .header(HEADER_TIMESTAMP, timestamp)
            .header(HEADER_SIGNATURE, signature);
        if let Some(encoding) = request.encoding {
            builder = builder.header(CONTENT_ENCODING, encoding);
        }
        let sent = builder.body(request.body.clone()).send().await;
        let mut response = sent.map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(AttemptError::LongAnswer { status });
            }
            body.extend_from_slice(&chunk);
        }
        let headers = response.headers();
        Ok(Reply {
            status,
            id: text(headers, HEADER_ID),
            timestamp: text(headers, HEADER_TIMESTAMP),
            signature: text(headers, HEADER_SIGNATURE),
            retry_after: Some(text(headers, RETRY_AFTER.as_str())).filter(|value| !value.is_empty()),
            date: Some(text(headers, DATE.as_str())).filter(|value| !value.is_empty()),
            body,
        })
    }

    fn failed(&self, error: reqwest::Error) -> AttemptError {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(address) = inner.downcast_ref::<AddressError>() {
                return AttemptError::Address(address.clone());
            }
            if let Some(tls) = tls_error(inner) {
                return AttemptError::Tls { host: self.host.clone(), source: tls.clone() };
            }
            source = inner.source();
        }
        // The URL may hold a token in its path or query: only the host is shown.
        let (host, connect, timeout) = (self.host.clone(), error.is_connect(), error.is_timeout());
        let source = error.without_url();
        match (connect, timeout) {
            (true, _) => AttemptError::Connect { host, source },
            (false, true) => AttemptError::Timeout { after: self.timeout },
            (false, false) => AttemptError::Broken { host, source },
        }
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
