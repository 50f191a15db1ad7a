//! What operators ask of endpoints: pauses, enabled endpoints, jobs. Commands leave it in the delivery store; here it is
//! picked up, handed to lanes, and done.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::EndpointName;
use rowbridge_schema::config::EndpointConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::job::Worker;
use super::sender::Sender;
use super::settings::WebhookLaneConfig;
use crate::deliveries::{Job, JobEnd, JobSpec, Recorder, StoreError};
use crate::journal::Journal;
use crate::lane::Orders;
use crate::pump::Wishes;
use crate::reread::Reread;

/// An endpoint that jobs may be for.
pub(crate) struct Place {
    pub(crate) config: WebhookLaneConfig,
    pub(crate) sender: Sender,
}

/// See the module.
pub(crate) struct Desk<J: Journal> {
    journal: Arc<J>,
    recorder: Arc<Recorder>,
    places: HashMap<EndpointName, Arc<Place>>,
    /// Endpoints that are sent rows as they are now, through the stream.
    bridges: HashMap<EndpointName, EndpointConfig>,
    wishes: Arc<Wishes>,
    /// Jobs at work, one for each endpoint.
    busy: HashMap<EndpointName, i64>,
    jobs: JoinSet<EndpointName>,
}

impl<J: Journal> Desk<J> {
    pub(crate) fn new(journal: Arc<J>, recorder: Arc<Recorder>, wishes: Arc<Wishes>) -> Self {
        let (places, bridges) = (HashMap::new(), HashMap::new());
        Self { journal, recorder, places, bridges, wishes, busy: HashMap::new(), jobs: JoinSet::new() }
    }

    pub(crate) fn add_bridge(&mut self, endpoint: EndpointConfig) {
        self.bridges.insert(endpoint.name.clone(), endpoint);
    }

    pub(crate) fn add(&mut self, place: Place) {
        self.places.insert(place.config.endpoint.name.clone(), Arc::new(place));
    }

    /// Works until shutdown; what is under way then goes on with the next start. `order` changes what a lane was told.
    pub(crate) async fn run(
        mut self,
        order: impl Fn(&EndpointName, &dyn Fn(&mut Orders)),
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut requests = self.recorder.requests();
        loop {
            requests.borrow_and_update();
            if let Err(error) = self.look(&order).await {
                tracing::warn!(%error, "what operators ask of endpoints cannot be read");
            }
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    if let Ok(name) = ended {
                        self.busy.remove(&name);
                    }
                }
                changed = requests.changed() => if changed.is_err() { break },
            }
        }
        self.jobs.shutdown().await;
    }

    async fn look(&mut self, order: &impl Fn(&EndpointName, &dyn Fn(&mut Orders))) -> Result<(), StoreError> {
        let rows = self.recorder.store().endpoints()?;
        for row in rows.iter().filter(|row| self.places.contains_key(&row.name)) {
            order(&row.name, &|orders| {
                orders.paused = row.paused_at_ms.is_some();
                orders.disabled = row
                    .disabled_at_ms
                    .map(|_| row.disabled_reason.clone().unwrap_or_else(|| "disabled".to_owned()));
            });
        }
        for job in self.recorder.store().open_jobs()? {
            if self.busy.contains_key(&job.endpoint) {
                continue;
            }
            self.begin(job).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, job: Job) -> Result<(), StoreError> {
        let Some(place) = self.places.get(&job.endpoint).cloned() else {
            return self.begin_bridge(job).await;
        };
        let Some(job) = self.recorder.start(job.id).await? else { return Ok(()) };
        let name = job.endpoint.clone();
        self.busy.insert(name.clone(), job.id);
        let worker = Worker::new(place, Arc::clone(&self.journal), Arc::clone(&self.recorder));
        self.jobs.spawn(async move {
            let (id, kind) = (job.id, job.spec.kind());
            match worker.run(job).await {
                Ok(()) => tracing::info!(endpoint = %name, job = id, kind, "a job has ended"),
                Err(error) => tracing::warn!(endpoint = %name, job = id, kind, %error, "a job was cut short"),
            }
            name
        });
        Ok(())
    }

    /// A bridge takes rows as they are now, and nothing else beside its lane.
    async fn begin_bridge(&mut self, job: Job) -> Result<(), StoreError> {
        let endpoint = self.bridges.get(&job.endpoint).cloned();
        let (Some(endpoint), JobSpec::Replay(spec)) = (endpoint, job.spec.clone()) else {
            let error = match self.bridges.contains_key(&job.endpoint) {
                true => {
                    format!("endpoint {} is a bridge: it has no dead letters and no test event", job.endpoint)
                }
                false => format!("there is no endpoint {}", job.endpoint),
            };
            self.recorder.finish(job.id, JobEnd::Failed { error }).await?;
            return Ok(());
        };
        let Some(job) = self.recorder.start(job.id).await? else { return Ok(()) };
        let name = job.endpoint.clone();
        self.busy.insert(name.clone(), job.id);
        let reread = Reread {
            endpoint,
            journal: Arc::clone(&self.journal),
            recorder: Arc::clone(&self.recorder),
            wishes: Arc::clone(&self.wishes),
        };
        self.jobs.spawn(async move {
            match reread.run(&job, &spec).await {
                Ok(()) => tracing::info!(endpoint = %name, job = job.id, kind = "replay", "a job has ended"),
                Err(error) => {
                    tracing::warn!(endpoint = %name, job = job.id, kind = "replay", %error, "a job was cut short")
                }
            }
            name
        });
        Ok(())
    }
}
