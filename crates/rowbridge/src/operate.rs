//! What the commands that operate deliveries share: the store, the endpoints' names, jobs that are followed.

use std::path::Path;
use std::time::Duration;

use rowbridge_publisher::deliveries::{Job, JobState, Store, StoreError};
use rowbridge_publisher::state;
use rowbridge_schema::config::PublisherConfig;
use rowbridge_schema::{Classified as _, EndpointName};

use crate::failure::{Failure, chain};
use crate::load::ConfigOption;
use crate::output;
use crate::shown::ShownJob;

/// How often a followed job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The publisher of a file, and what it has recorded.
pub(crate) struct Operated {
    pub(crate) publisher: PublisherConfig,
    pub(crate) store: Store,
    config: String,
}

impl Operated {
    /// Reads the file and opens what its publisher has recorded.
    ///
    /// # Errors
    /// The configuration, or a publisher that never ran.
    pub(crate) fn open(config: &ConfigOption) -> Result<Self, Failure> {
        let publisher = config.publisher(config.load()?)?;
        let store = Store::open(&publisher.state_dir).map_err(failed)?;
        Ok(Self { publisher, store, config: config.path().display().to_string() })
    }

    /// # Errors
    /// The file does not describe this endpoint; names those that it does.
    pub(crate) fn has(&self, name: &EndpointName) -> Result<(), Failure> {
        match self.configured().any(|known| known == name) {
            true => Ok(()),
            false => Err(unknown(&self.config, name, self.configured())),
        }
    }

    pub(crate) fn is_configured(&self, name: &EndpointName) -> bool {
        self.configured().any(|known| known == name)
    }

    /// As [`Self::has`], but `recorded` ones count too: endpoints that were taken out of the file.
    ///
    /// # Errors
    /// Neither the file nor the store knows this endpoint.
    pub(crate) fn knows(
        &self,
        name: Option<&EndpointName>,
        recorded: &[EndpointName],
    ) -> Result<(), Failure> {
        let mut known: Vec<_> = self.configured().chain(recorded).collect();
        known.sort();
        known.dedup();
        match name {
            Some(name) if !known.contains(&name) => Err(unknown(&self.config, name, known.into_iter())),
            _ => Ok(()),
        }
    }

    fn configured(&self) -> impl Iterator<Item = &EndpointName> {
        self.publisher.endpoints.iter().map(|endpoint| &endpoint.name)
    }

    /// Whether a publisher runs on the folder now.
    ///
    /// # Errors
    /// The folder.
    pub(crate) fn runs(&self) -> Result<bool, Failure> {
        runs(&self.publisher.state_dir)
    }

    /// When what was asked for happens.
    ///
    /// # Errors
    /// The folder.
    pub(crate) fn begins(&self) -> Result<&'static str, Failure> {
        Ok(match self.runs()? {
            true => "the running publisher begins within a second",
            false => "no publisher runs now, so it happens at the next start",
        })
    }

    /// Shows jobs until they have ended. Without a publisher that does them it ends at once.
    ///
    /// # Errors
    /// A job that failed or was called off; the store.
    pub(crate) fn follow(&self, mut jobs: Vec<i64>, json: bool) -> Result<(), Failure> {
        let mut shown: Vec<Job> = Vec::new();
        let mut all_done = true;
        while !jobs.is_empty() {
            let mut open = Vec::new();
            for id in jobs {
                let Some(job) = self.store.job(id).map_err(failed)? else { continue };
                if !shown.contains(&job) {
                    match json {
                        true => output::line(ShownJob::of(&job).json())?,
                        false => output::say(ShownJob::of(&job)),
                    }
                    shown.retain(|before| before.id != id);
                    shown.push(job.clone());
                }
                if job.state.is_open() {
                    open.push(id);
                }
                all_done &= !matches!(job.state, JobState::Failed | JobState::Cancelled);
            }
            jobs = open;
            if jobs.is_empty() {
                break;
            }
            if !self.runs()? {
                output::say("no publisher runs now; what is left goes on at the next start");
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        match all_done {
            true => Ok(()),
            // It was shown already.
            false => Err(Failure::failed(String::new())),
        }
    }
}

fn runs(state_dir: &Path) -> Result<bool, Failure> {
    state::is_in_use(state_dir).map_err(|error| Failure::environment(chain(&error)))
}

fn unknown<'a>(config: &str, name: &EndpointName, known: impl Iterator<Item = &'a EndpointName>) -> Failure {
    let known: Vec<_> = known.map(EndpointName::as_str).collect();
    Failure::usage(format!("{config} has no endpoint {name}; it has {}", known.join(", ")))
}

/// What the store cannot do.
pub(crate) fn failed(error: StoreError) -> Failure {
    Failure::environment(chain(&error)).hint(error.hint())
}
