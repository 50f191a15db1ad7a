//! `rowbridge endpoint`

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rowbridge_publisher::deliveries::{
    EndpointChange, EndpointRow, EventKind, Job, JobSpec, JobState, LetterFilter, Outcome,
};
use rowbridge_schema::EndpointName;
use rowbridge_schema::config::duration::parse_duration;

use crate::failure::Failure;
use crate::load::ConfigOption;
use crate::operate::{Operated, failed};
use crate::output;
use crate::shown::{ShownAttempt, ShownEndpoint};

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// List endpoints, their state, and when they last took something
    List(Common),
    /// Hold an endpoint's events in the journal until it is resumed
    Pause(Named),
    /// Go on with an endpoint that was paused
    Resume(Named),
    /// Send again to an endpoint that was disabled
    Enable(Named),
    /// Have the running publisher send a sample event, and show what came back
    Test(TestArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

#[derive(Debug, Args)]
struct Named {
    /// Name of the endpoint
    name: EndpointName,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    named: Named,
    /// How long to wait for the publisher's answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,
}

impl EndpointArgs {
    /// Does one of them.
    ///
    /// # Errors
    /// The configuration, the store, or a test that failed.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            EndpointCommand::List(common) => list(&common),
            EndpointCommand::Pause(named) => named.change(EventKind::Paused),
            EndpointCommand::Resume(named) => named.change(EventKind::Resumed),
            EndpointCommand::Enable(named) => named.change(EventKind::Enabled),
            EndpointCommand::Test(test) => test.run(),
        }
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    let operated = Operated::open(&common.config)?;
    let rows = operated.store.endpoints().map_err(failed)?;
    let letters = operated.store.count_letters(&LetterFilter::dead()).map_err(failed)?;
    for endpoint in &operated.publisher.endpoints {
        let unknown = EndpointRow::new(endpoint.name.clone());
        let row = rows.iter().find(|row| row.name == endpoint.name).unwrap_or(&unknown);
        let dead =
            letters.iter().find(|(name, _)| *name == endpoint.name).map_or(0, |(_, dead)| dead.letters);
        let shown = ShownEndpoint::of(row, dead);
        output::line(if common.json { shown.json() } else { shown.to_string() })?;
    }
    Ok(())
}

impl Named {
    fn change(&self, kind: EventKind) -> Result<(), Failure> {
        let (name, Common { json, config }) = (&self.name, &self.common);
        let operated = Operated::open(config)?;
        operated.has(name)?;
        let changed = operated.store.change_endpoint(name, &EndpointChange::new(kind)).map_err(failed)?;
        if *json {
            return output::line(serde_json::json!({ "endpoint": name, "change": kind, "changed": changed }));
        }
        let begins = operated.begins()?;
        output::say(match (kind, changed) {
            (EventKind::Paused, true) => {
                format!(
                    "{name} is paused: its events wait in the journal for `rowbridge endpoint resume {name}`; {begins}"
                )
            }
            (EventKind::Paused, false) => format!("{name} was paused already"),
            (EventKind::Resumed, true) => format!("{name} goes on; {begins}"),
            (EventKind::Resumed, false) => format!("{name} was not paused"),
            (_, true) => format!("{name} is enabled; {begins}"),
            (_, false) => format!("{name} was not disabled"),
        });
        Ok(())
    }
}

impl TestArgs {
    fn run(&self) -> Result<(), Failure> {
        let Named { name, common: Common { json, config } } = &self.named;
        let operated = Operated::open(config)?;
        operated.has(name)?;
        if !operated.runs()? {
            return Err(Failure::environment(format!(
                "no publisher runs on {}, and it is the publisher that sends; start it with `rowbridge run`",
                operated.publisher.state_dir.display()
            )));
        }
        let id = operated.store.ask(name, &JobSpec::Test).map_err(failed)?;
        let until = Instant::now() + self.wait;
        let job = loop {
            match operated.store.job(id).map_err(failed)? {
                Some(job) if !job.state.is_open() => break job,
                _ if Instant::now() >= until => {
                    operated.store.cancel_job(id).map_err(failed)?;
                    return Err(Failure::failed(format!(
                        "the publisher has not answered within {:?}; see its log, or wait longer with --wait",
                        self.wait
                    )));
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let Job { state: JobState::Done, attempt: Some(attempt), .. } = job else {
            let error = job.error.unwrap_or_else(|| format!("the test is {}", job.state.name()));
            return Err(Failure::failed(format!("{name}: {error}")));
        };
        let recorded = operated.store.attempt(attempt).map_err(failed)?;
        let recorded =
            recorded.ok_or_else(|| Failure::failed(format!("{name}: the attempt is gone already")))?;
        let shown = ShownAttempt::of(&recorded);
        if *json {
            output::line(shown.json())?;
        } else {
            output::line(&shown)?;
            output::line(format!("  {}", shown.timings()))?;
            if !recorded.attempt.excerpt.is_empty() {
                output::line(format!(
                    "  {}",
                    String::from_utf8_lossy(&recorded.attempt.excerpt).escape_debug()
                ))?;
            }
        }
        match recorded.attempt.outcome {
            Outcome::Delivered => Ok(()),
            // It was shown already.
            _ => Err(Failure::failed(String::new())),
        }
    }
}
