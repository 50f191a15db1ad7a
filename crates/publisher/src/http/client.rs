//! The client of one endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use rowbridge_schema::EndpointName;
use rowbridge_schema::config::Auth;
use url::Url;

use super::alarm::Alarms;
use super::auth;
use super::connect::Dialer;
use super::connection::MAX_KEPT;
use super::error::{AttemptError, SetupError};
use super::pool::{IDLE, Pool};
use super::proxy::Proxy;
use super::request::{Request, Response};
use super::timing::{Phase, Stopwatch, Timing};
use super::tls::Tls;
use super::token::TokenSource;
use super::transport::{Transport, Way};

/// How long a whole exchange may take unless the endpoint says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than anybody waits, and short enough to be added to any moment.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Whose client it is; named in errors about addresses.
    pub endpoint: EndpointName,
    /// Scheme, host and port of every request. Path and query are each request's own.
    pub url: Url,
    /// Networks beyond the public ones that the host may resolve to.
    pub allow_networks: Vec<IpNet>,
    /// `None`: the system's authorities, which are read if https is spoken.
    pub tls: Option<Tls>,
    /// `None`: directly. The environment is not asked.
    pub proxy: Option<Proxy>,
    /// What `Authorization` says.
    pub auth: Auth,
    /// How many requests may be in flight; so many idle connections are kept.
    pub concurrency: usize,
    /// Bound of the whole exchange: token, connection, request, and the answer with its body. At most a day.
    pub timeout: Duration,
}

impl ClientConfig {
    /// One request at a time, without authentication, by [`DEFAULT_TIMEOUT`].
    #[must_use]
    pub fn new(endpoint: EndpointName, url: Url) -> Self {
        Self {
            endpoint,
            url,
            allow_networks: Vec::new(),
            tls: None,
            proxy: None,
            auth: Auth::None,
            concurrency: 1,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// What came of an attempt, and where its time went.
#[derive(Debug)]
pub struct Exchange {
    /// The answer, of whatever status, or why there is none.
    pub result: Result<Response, AttemptError>,
    /// Filled as far as the attempt came.
    pub timing: Timing,
    /// Whether it went over a connection that had been used before.
    pub reused: bool,
}

/// The HTTP side of one endpoint. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    auth: Authorization,
    timeout: Duration,
    alarms: Alarms,
}

enum Authorization {
    Fixed(Option<HeaderValue>),
    Token(Box<TokenSource>),
}

impl Client {
    /// Makes a client; nothing is connected yet.
    ///
    /// # Errors
    /// See [`SetupError`]. Reads the system's authorities where `tls` is `None` and https is spoken.
    pub fn new(config: ClientConfig) -> Result<Self, SetupError> {
        Self::with_dialer(config, Dialer::system(), IDLE)
    }

    pub(super) fn with_dialer(
        mut config: ClientConfig,
        dialer: Dialer,
        idle: Duration,
    ) -> Result<Self, SetupError> {
        let fixed = auth::fixed(&config.auth)?;
        config.timeout = config.timeout.min(MAX_TIMEOUT);
        // Read once for both servers.
        if config.tls.is_none() && matches!(config.auth, Auth::OAuth2(_)) && config.url.scheme() == "https" {
            config.tls = Some(Tls::new(None, None)?);
        }
        let way = Way {
            endpoint: config.endpoint,
            allow: config.allow_networks,
            tls: config.tls,
            proxy: config.proxy,
            dialer,
            pool: Pool::new(config.concurrency, idle),
        };
        let transport = Transport::new(&config.url, way.clone())?;
        let auth = match &config.auth {
            Auth::OAuth2(client) => {
                // Tokens are fetched one at a time.
                let way = Way { pool: Pool::new(1, idle), ..way };
                let source =
                    TokenSource::new(client, Transport::new(&client.token_url, way)?, config.timeout);
                Authorization::Token(Box::new(source))
            }
            Auth::None | Auth::Bearer(_) | Auth::Basic { .. } => Authorization::Fixed(fixed),
        };
        Ok(Self(Arc::new(Inner {
            transport,
            auth,
            timeout: config.timeout,
            alarms: Alarms::new(config.concurrency),
        })))
    }

    /// Sends once and reads the answer.
    ///
    /// More than one request goes out in two cases, both with the same `webhook-id`: a connection that the server closed
    /// while it was idle is replaced before anything of an answer came, and a 401 to an OAuth 2.0 token that was cached is
    /// asked again with a new one.
    ///
    /// Cancel safety: the request may have arrived. The connection is closed.
    pub async fn send(&self, request: &Request) -> Exchange {
        let mut watch = Stopwatch::start();
        let deadline = watch.started() + self.0.timeout;
        let result = match self.0.alarms.until(deadline, self.0.attempt(request, &mut watch)).await {
            Some(result) => result,
            None => Err(AttemptError::Timeout {
                peer: self.0.transport.waited_for(&watch),
                phase: watch.phase(),
                after: self.0.timeout,
                status: watch.status,
            }),
        };
        let reused = watch.reused;
        Exchange { result, timing: watch.finish(), reused }
    }

    /// Connects as a request would, proxy and TLS included, and sends nothing to the endpoint. Where tokens are asked for,
    /// one is fetched.
    ///
    /// # Errors
    /// Why no request could be sent.
    pub async fn reach(&self) -> Result<(), AttemptError> {
        if let Authorization::Token(source) = &self.0.auth {
            source.get(None).await.map_err(AttemptError::Token)?;
        }
        let mut watch = Stopwatch::start();
        match tokio::time::timeout(self.0.timeout, self.0.transport.connect(&mut watch)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(AttemptError::Timeout {
                peer: self.0.transport.waited_for(&watch),
                phase: watch.phase(),
                after: self.0.timeout,
                status: None,
            }),
        }
    }

    /// Idle connections that are kept at this moment.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.0.transport.idle()
    }
}

impl Inner {
    async fn attempt(&self, request: &Request, watch: &mut Stopwatch) -> Result<Response, AttemptError> {
        let source = match &self.auth {
            Authorization::Fixed(value) => {
                return self.transport.exchange(request, value.as_ref(), MAX_KEPT, watch).await;
            }
            Authorization::Token(source) => source,
        };
        watch.enter(Phase::Token);
        let (token, fresh) = Box::pin(source.get(None)).await.map_err(AttemptError::Token)?;
        if fresh {
            watch.leave();
        } else {
            watch.skip();
        }
        let answer = self.transport.exchange(request, Some(&token.value), MAX_KEPT, watch).await?;
        // A token of this moment would only be refused again.
        if answer.status != 401 || fresh {
            return Ok(answer);
        }
        watch.enter(Phase::Token);
        let (token, _) = Box::pin(source.get(Some(&token))).await.map_err(AttemptError::Token)?;
        watch.leave();
        self.transport.exchange(request, Some(&token.value), MAX_KEPT, watch).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.0.timeout).finish_non_exhaustive()
    }
}
