//! The receiving end as a whole: listener, routes, lanes, and the watch over the target.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rowbridge_schema::StreamName;
use rowbridge_schema::config::{ReceiveConfig, SubscriberConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::apply::ApplyTarget;
use crate::lanes::{Lanes, TargetHealth};
use crate::metrics::SubscriberMetrics;
use crate::receive::Limits;
use crate::receive::route::Routes;
use crate::receive::server::serve;

/// Why a subscriber could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}; see `subscriber.listen`")]
    Listen {
        /// The configured address.
        listen: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A metric's name is taken.
    #[error("cannot register the subscriber's metrics")]
    Metrics(#[from] prometheus::Error),
    /// There is no `[[receive]]`.
    #[error("a subscriber needs at least one [[receive]]")]
    NoRoutes,
}

/// A subscriber that has its address and has not begun to serve.
pub struct Subscriber<T: ApplyTarget> {
    listener: TcpListener,
    local_addr: SocketAddr,
    stream: StreamName,
    routes: Arc<Routes<T>>,
    lanes: Arc<Lanes<T>>,
    limits: Limits,
    grace: Duration,
}

impl<T: ApplyTarget> Subscriber<T> {
    /// Takes the address. The target need not be there: requests are answered 503 until it is.
    ///
    /// `grace` is how long a stop may take to finish the requests in flight.
    ///
    /// # Errors
    /// The address cannot be had, or the metrics cannot be registered.
    pub async fn bind(
        config: &SubscriberConfig,
        target: T,
        registry: &Registry,
        limits: Limits,
        grace: Duration,
    ) -> Result<Self, SubscriberError> {
        let stream = config.receives.first().ok_or(SubscriberError::NoRoutes)?.stream.clone();
        let listen = config.listen;
        let listener =
            TcpListener::bind(listen).await.map_err(|source| SubscriberError::Listen { listen, source })?;
        let local_addr =
            listener.local_addr().map_err(|source| SubscriberError::Listen { listen, source })?;
        let metrics = SubscriberMetrics::new(registry)?;
        let lanes = Arc::new(Lanes::new(target, limits.clone()));
        let routes = Routes::new(
            &config.receives,
            config.trusted_proxies.clone(),
            Arc::clone(&lanes),
            metrics,
            limits.clone(),
        );
        Ok(Self { listener, local_addr, stream, routes: Arc::new(routes), lanes, limits, grace })
    }

    /// Where it listens; the port that the system chose if the configured one is 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether the target can be reached; changes while the subscriber runs.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<TargetHealth> {
        self.lanes.health()
    }

    /// Takes over new secrets while the subscriber runs.
    #[must_use]
    pub fn secrets(&self) -> SecretsHandle {
        let routes = Arc::clone(&self.routes);
        SecretsHandle { replace: Arc::new(move |receives| routes.replace_secrets(receives)) }
    }

    /// Serves until `shutdown` says true or its sender is gone; then stops accepting, finishes what is in flight within
    /// the grace, rolls open transactions back and closes the sessions.
    ///
    /// Cancel safety: a dropped call closes all connections and leaves what is not committed to the target's rollback.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { listener, local_addr, stream, routes, lanes, limits, grace } = self;
        tracing::info!(listen = %local_addr, "subscriber is listening");
        let mut deadline = Instant::now() + grace;
        {
            let serving = serve(listener, Arc::clone(&routes), limits, shutdown.clone(), grace);
            let watching = lanes.watch_target(&stream);
            let stopping = async {
                let _ = shutdown.wait_for(|stop| *stop).await;
                deadline = Instant::now() + grace;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = serving => {}
                () = watching => {}
                () = stopping => {}
            }
        }
        routes.finish_work(deadline).await;
        if timeout_at(deadline.max(Instant::now() + LAST_WORDS), lanes.close()).await.is_err() {
            tracing::warn!("sessions at the target were dropped without a rollback");
        }
        tracing::info!("subscriber has stopped");
    }
}

/// What rolling back may take beyond the grace; a dropped session is rolled back by its server anyway.
const LAST_WORDS: Duration = Duration::from_millis(500);

type Replace = dyn Fn(&[ReceiveConfig]) + Send + Sync;

/// Replaces the secrets of a running subscriber, for SIGHUP.
#[derive(Clone)]
pub struct SecretsHandle {
    replace: Arc<Replace>,
}

impl SecretsHandle {
    /// Takes over the secrets of all routes that exist, by path. Everything else in `receives` is ignored.
    pub fn replace(&self, receives: &[ReceiveConfig]) {
        (self.replace)(receives);
    }
}

impl std::fmt::Debug for SecretsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsHandle(***)")
    }
}
