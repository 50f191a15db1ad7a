//! Running one end or both until a signal says stop.

use std::time::Duration;

use prometheus::Registry;
use rowbridge_publisher::{OpenError, Publisher, PublisherStatus};
use rowbridge_schema::config::{Config, PublisherConfig, SubscriberConfig};
use rowbridge_subscriber::apply::ApplyTarget;
use rowbridge_subscriber::{Limits, Subscriber, TargetHealth};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Watched};
use crate::failure::{Failure, chain};
use crate::process_metrics::ProcessMetrics;
use crate::signals::StopSignals;
use crate::target::Target;

/// Beyond the grace, for closing files and sessions; what then still runs is dropped, and the journal has the rest.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Tasks = JoinSet<Result<(), Failure>>;

/// Whichever ends run, and how they stop.
pub(crate) struct Running {
    tasks: Tasks,
    stop: watch::Sender<bool>,
    grace: Duration,
}

impl Running {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { tasks: JoinSet::new(), stop: watch::Sender::new(false), grace }
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Opens state and journal and starts to publish.
    ///
    /// # Errors
    /// What needs a person before a start can succeed: state, journal, certificates.
    pub(crate) fn publish(
        &mut self,
        config: PublisherConfig,
        registry: &Registry,
    ) -> Result<watch::Receiver<PublisherStatus>, Failure> {
        let publisher = Publisher::open(config, self.grace, registry)
            .map_err(|error| failed("the publisher cannot start", &error))?;
        let (status, stopping) = (publisher.status(), self.stopping());
        self.tasks.spawn(async move {
            publisher.run(stopping).await.map_err(|error| failed("the publisher has ended", &error))
        });
        Ok(status)
    }

    /// Takes the address and starts to receive; the address is the system's choice if the configured port is 0.
    ///
    /// # Errors
    /// The address, the mapping, the certificates.
    pub(crate) async fn subscribe(
        &mut self,
        config: &SubscriberConfig,
        registry: &Registry,
    ) -> Result<(watch::Receiver<TargetHealth>, std::net::SocketAddr), Failure> {
        match Target::new(config)? {
            Target::Postgres(target) => self.receive(config, target, registry).await,
            Target::Mysql(target) => self.receive(config, target, registry).await,
            Target::Sqlite(target) => self.receive(config, target, registry).await,
        }
    }

    async fn receive<T: ApplyTarget>(
        &mut self,
        config: &SubscriberConfig,
        target: T,
        registry: &Registry,
    ) -> Result<(watch::Receiver<TargetHealth>, std::net::SocketAddr), Failure> {
        let subscriber = Subscriber::bind(config, target, registry, Limits::default(), self.grace)
            .await
            .map_err(|error| Failure::failed(format!("the subscriber cannot start: {}", chain(&error))))?;
        let (health, address, stopping) = (subscriber.health(), subscriber.local_addr(), self.stopping());
        self.tasks.spawn(async move {
            subscriber.run(stopping).await;
            Ok(())
        });
        Ok((health, address))
    }

    /// Waits until something ends by itself, which nothing should. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Failure {
        match self.tasks.join_next().await {
            Some(Ok(Err(failure))) => failure,
            Some(Ok(Ok(()))) | None => Failure::failed("a part of rowbridge ended without being asked to"),
            Some(Err(error)) => Failure::failed(format!("a part of rowbridge broke off: {error}")),
        }
    }

    /// Asks everything to stop and waits for it: no longer than the grace and a moment.
    ///
    /// # Errors
    /// The first failure while stopping.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        let mut first = Ok(());
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                let ended = match ended {
                    Ok(ended) => ended,
                    Err(error) => Err(Failure::failed(format!("a part of rowbridge broke off: {error}"))),
                };
                if first.is_ok() {
                    first = ended;
                }
            }
        };
        if tokio::time::timeout(self.grace + LAST_WORDS, all).await.is_err() {
            tracing::warn!(
                "what did not stop within shutdown_grace is dropped; the journal keeps what was not delivered"
            );
        }
        first
    }
}

fn failed(what: &str, error: &OpenError) -> Failure {
    Failure::failed(format!("{what}: {}", chain(error))).hint(error.hint())
}

/// Runs what the configuration describes.
///
/// # Errors
/// What a start cannot get over by waiting, or a journal or state that broke.
pub(crate) async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    let registry = Registry::new();
    let process = ProcessMetrics::new(&registry)
        .map_err(|error| Failure::failed(format!("metrics cannot be registered: {error}")))?;
    let admin = match &config.admin {
        Some(admin) => Some(admin::bind(admin.listen).await?),
        None => None,
    };
    let mut running = Running::new(config.shutdown_grace);
    let target = match &config.subscriber {
        Some(subscriber) => Some(running.subscribe(subscriber, &registry).await?.0),
        None => None,
    };
    let publisher = match config.publisher {
        Some(publisher) => Some(running.publish(publisher, &registry)?),
        None => None,
    };
    // Outlives the drain, so that an orchestrator sees that this process takes no more.
    let _admin = admin.map(|listener| {
        let stopping = running.stopping();
        let watched = Watched { registry, process, publisher, target, stopping };
        AbortOnDrop(tokio::spawn(admin::serve(listener, watched)))
    });
    let failure = tokio::select! {
        _ = signals.next() => None,
        failure = running.ended() => Some(failure),
    };
    match &failure {
        None => tracing::info!("stopping"),
        Some(failure) => tracing::error!(error = %failure, "stopping"),
    }
    let stopped = tokio::select! {
        stopped = running.stop() => stopped,
        code = signals.next() => {
            tracing::warn!("second signal: ending at once");
            std::process::exit(i32::from(code));
        }
    };
    match failure {
        Some(failure) => Err(failure),
        None => stopped,
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
