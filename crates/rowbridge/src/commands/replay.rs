//! `rowbridge replay`

use clap::{Args, Subcommand};
use rowbridge_publisher::deliveries::{JobSpec, Replay, now_ms};
use rowbridge_schema::{EndpointName, Position, TablePatterns};

use crate::failure::Failure;
use crate::load::ConfigOption;
use crate::moment::Moment;
use crate::operate::{Operated, failed};
use crate::output;
use crate::shown::ShownJob;

/// Jobs that `list` shows.
const LISTED: u32 = 100;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ReplayArgs {
    #[command(subcommand)]
    command: Option<ReplayCommand>,
    /// To this endpoint
    #[arg(long, value_name = "NAME", required = true)]
    endpoint: Option<EndpointName>,
    /// What was committed at or after: 2026-05-01T12:00:00Z, or how long ago, such as 15m
    #[arg(long, value_name = "TIME", required_unless_present = "from")]
    since: Option<Moment>,
    /// What was committed before; now if left out
    #[arg(long, value_name = "TIME", requires = "since")]
    until: Option<Moment>,
    /// From this position, itself included
    #[arg(long, value_name = "POSITION", conflicts_with = "since")]
    from: Option<Position>,
    /// To this position, itself included; as far as the endpoint is if left out
    #[arg(long, value_name = "POSITION", requires = "from")]
    to: Option<Position>,
    /// At most so many events a second
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<u32>,
    /// Only these tables; patterns as in source.tables, several times if need be
    #[arg(long, value_name = "PATTERN")]
    tables: Vec<String>,
    /// Show how far it is until it has ended
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

#[derive(Debug, Subcommand)]
enum ReplayCommand {
    /// List replays, the newest first
    List(Common),
    /// Call a replay off; what was sent stays sent
    Cancel {
        /// Number of the replay
        id: i64,
        #[command(flatten)]
        common: Common,
    },
}

/// Why a text is no rate.
#[derive(Debug, thiserror::Error)]
#[error("expected events a second, such as 100/s")]
struct RateError;

fn parse_rate(text: &str) -> Result<u32, RateError> {
    let number = text.trim().strip_suffix("/s").ok_or(RateError)?;
    number.trim().parse().ok().filter(|rate| *rate > 0).ok_or(RateError)
}

impl ReplayArgs {
    /// Leaves a replay for the publisher, or looks after those that are there.
    ///
    /// # Errors
    /// The configuration, the store, or a followed replay that failed.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Some(ReplayCommand::List(common)) => list(&common),
            Some(ReplayCommand::Cancel { id, common }) => cancel(id, &common),
            None => self.ask(),
        }
    }

    fn ask(self) -> Result<(), Failure> {
        let name = self.endpoint.ok_or_else(|| Failure::usage("name the endpoint with --endpoint"))?;
        let json = self.common.json;
        if let Err(error) = TablePatterns::new(&self.tables) {
            return Err(Failure::usage(format!("--tables: {error}")));
        }
        let replay = Replay {
            from: self.from,
            to: self.to,
            since_ms: self.since.map(|moment| moment.0),
            // A window that does not end would replay what is only now delivered.
            until_ms: self.since.map(|_| self.until.map_or_else(now_ms, |moment| moment.0)),
            per_second: self.rate,
            tables: self.tables,
        };
        let empty = replay.since_ms.zip(replay.until_ms).is_some_and(|(since, until)| since >= until)
            || replay.from.zip(replay.to).is_some_and(|(from, to)| from > to);
        if empty {
            return Err(Failure::usage("nothing lies between these: the end is before the beginning"));
        }
        let operated = Operated::open(&self.common.config)?;
        operated.has(&name)?;
        let id = operated.store.ask(&name, &JobSpec::Replay(replay)).map_err(failed)?;
        let begins = operated.begins()?;
        output::say(format!(
            "replay {id} to {name}: {begins}; call it off with `rowbridge replay cancel {id}`"
        ));
        if self.follow {
            return operated.follow(vec![id], json);
        }
        match operated.store.job(id).map_err(failed)? {
            Some(job) if json => output::line(ShownJob::of(&job).json()),
            _ => Ok(()),
        }
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    let operated = Operated::open(&common.config)?;
    let jobs = operated.store.jobs(Some("replay"), LISTED).map_err(failed)?;
    for job in &jobs {
        let shown = ShownJob::of(job);
        output::line(if common.json { shown.json() } else { shown.to_string() })?;
    }
    if jobs.is_empty() && !common.json {
        output::say("there is no replay");
    }
    Ok(())
}

fn cancel(id: i64, common: &Common) -> Result<(), Failure> {
    let operated = Operated::open(&common.config)?;
    let job = operated.store.job(id).map_err(failed)?;
    let job = job.filter(|job| matches!(job.spec, JobSpec::Replay(_))).ok_or_else(|| {
        Failure::usage(format!("there is no replay {id}; `rowbridge replay list` shows what there is"))
    })?;
    if !operated.store.cancel_job(id).map_err(failed)? {
        return Err(Failure::failed(format!("replay {id} has ended already: it is {}", job.state.name())));
    }
    match operated.store.job(id).map_err(failed)? {
        Some(job) if common.json => output::line(ShownJob::of(&job).json()),
        _ => {
            output::say(format!("replay {id} is called off; what was sent stays sent"));
            Ok(())
        }
    }
}
