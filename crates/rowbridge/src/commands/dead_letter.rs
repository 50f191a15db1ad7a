//! `rowbridge dead-letter`

use clap::{Args, Subcommand};
use rowbridge_publisher::deliveries::{JobSpec, LetterFilter, LetterState};
use rowbridge_schema::{EndpointName, TablePatterns};

use crate::failure::Failure;
use crate::load::ConfigOption;
use crate::moment::Moment;
use crate::operate::{Operated, failed};
use crate::output;
use crate::shown::ShownLetter;

#[derive(Debug, Args)]
pub(crate) struct DeadLetterArgs {
    #[command(subcommand)]
    command: DeadLetterCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLetterCommand {
    /// List dead letters, the newest first
    List(ListArgs),
    /// Print the exact body to standard output, and what is known about it to standard error
    Show(ShowArgs),
    /// Send dead letters again
    Retry(ManyArgs),
    /// Delete dead letters for good
    Discard(ManyArgs),
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
#[group(id = "filter", multiple = true)]
struct FilterArgs {
    /// Only of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<EndpointName>,
    /// Only of these tables; patterns as in source.tables, several times if need be
    #[arg(long, value_name = "PATTERN")]
    table: Vec<String>,
    /// Died at or after: 2026-05-01T12:00:00Z, or how long ago, such as 15m
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Died before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only with this error class, or with this text in the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Also those that are being retried or were delivered after all
    #[arg(long)]
    every: bool,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Number of the dead letter
    id: i64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ManyArgs {
    /// Numbers of dead letters
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with_all = ["all", "filter"])]
    ids: Vec<i64>,
    /// All that wait, or those that the options name: says how many, and does it with --yes
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Retry: show how far it is until it has ended
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

impl DeadLetterArgs {
    /// Does one of them.
    ///
    /// # Errors
    /// The configuration, the store, letters that are not there.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            DeadLetterCommand::List(args) => args.run(),
            DeadLetterCommand::Show(args) => args.run(),
            DeadLetterCommand::Retry(args) => args.run(true),
            DeadLetterCommand::Discard(args) => args.run(false),
        }
    }
}

impl FilterArgs {
    /// Checks names and patterns.
    fn to_filter(&self, operated: &Operated) -> Result<LetterFilter, Failure> {
        if let Err(error) = TablePatterns::new(&self.table) {
            return Err(Failure::usage(format!("--table: {error}")));
        }
        let recorded = operated.store.count_letters(&LetterFilter::default()).map_err(failed)?;
        let recorded: Vec<_> = recorded.into_iter().map(|(name, _)| name).collect();
        operated.knows(self.endpoint.as_ref(), &recorded)?;
        Ok(LetterFilter {
            endpoint: self.endpoint.clone(),
            tables: self.table.clone(),
            since_ms: self.since.map(|moment| moment.0),
            until_ms: self.until.map(|moment| moment.0),
            reason: self.reason.clone(),
            ..LetterFilter::dead()
        })
    }
}

impl ListArgs {
    fn run(&self) -> Result<(), Failure> {
        let operated = Operated::open(&self.common.config)?;
        let mut filter = self.filter.to_filter(&operated)?;
        if self.every {
            filter.states.clear();
        }
        let letters = operated.store.letters(&filter, None, self.limit).map_err(failed)?;
        for letter in &letters {
            let shown = ShownLetter::of(letter, false);
            output::line(if self.common.json { shown.json() } else { shown.to_string() })?;
        }
        if letters.is_empty() && !self.common.json {
            output::say("no dead letter matches");
        }
        Ok(())
    }
}

impl ShowArgs {
    fn run(&self) -> Result<(), Failure> {
        let operated = Operated::open(&self.common.config)?;
        let letter = operated.store.letter(self.id).map_err(failed)?;
        let letter = letter.ok_or_else(|| absent(&[self.id]))?;
        if self.common.json {
            return output::line(ShownLetter::of(&letter, true).json());
        }
        output::say(ShownLetter::of(&letter, false));
        output::say(format!("webhook-id: {}", letter.letter.webhook_id));
        output::say(format!("content-type: {}", letter.letter.content_type));
        for (name, value) in &letter.letter.headers {
            output::say(format!("{name}: {value}"));
        }
        output::bytes(&letter.letter.body)
    }
}

impl ManyArgs {
    fn run(&self, retry: bool) -> Result<(), Failure> {
        let operated = Operated::open(&self.common.config)?;
        let upto = Some(operated.store.last_letter().map_err(failed)?);
        let filter = match self.all {
            true => LetterFilter { upto, ..self.filter.to_filter(&operated)? },
            false => self.named(&operated, retry)?,
        };
        let mut matching = operated.store.count_letters(&filter).map_err(failed)?;
        if retry {
            matching.retain(|(name, count)| {
                let known = operated.is_configured(name);
                if !known {
                    output::say(format!(
                        "{} of endpoint {name}, which is not in the configuration any more, cannot be sent",
                        letters(count.letters)
                    ));
                }
                known
            });
        }
        let total: u64 = matching.iter().map(|(_, count)| count.letters).sum();
        if total == 0 {
            return Err(Failure::failed("no dead letter matches"));
        }
        let act = !self.all || self.yes;
        for (name, count) in &matching {
            match self.common.json {
                true if act => {}
                true => output::line(serde_json::json!({
                    "endpoint": name, "letters": count.letters, "bytes": count.bytes
                }))?,
                false => output::say(format!("{name}: {}", letters(count.letters))),
            }
        }
        if !act {
            let what = if retry { "sent again" } else { "discarded" };
            output::say(format!("nothing was {what}; add --yes to have {} {what}", letters(total)));
            return Ok(());
        }
        match retry {
            true => self.retry(
                &operated,
                &filter,
                matching.into_iter().map(|(name, count)| (name, count.letters)),
            ),
            false => self.discard(&operated, &filter),
        }
    }

    /// The letters that were named one by one. Each has to be there, and to wait if it is to be retried.
    fn named(&self, operated: &Operated, retry: bool) -> Result<LetterFilter, Failure> {
        let filter = LetterFilter { ids: self.ids.clone(), ..LetterFilter::default() };
        let found = operated.store.letters(&filter, None, u32::MAX).map_err(failed)?;
        let missing: Vec<i64> =
            self.ids.iter().copied().filter(|id| !found.iter().any(|letter| letter.id == *id)).collect();
        if !missing.is_empty() {
            return Err(absent(&missing));
        }
        match found.iter().find(|letter| retry && letter.state != LetterState::Dead) {
            Some(letter) if letter.state == LetterState::Done => {
                Err(Failure::failed(format!("dead letter {} was delivered after all", letter.id)))
            }
            Some(letter) => Err(Failure::failed(format!("dead letter {} is being retried", letter.id))),
            None => Ok(filter),
        }
    }

    fn retry(
        &self,
        operated: &Operated,
        filter: &LetterFilter,
        endpoints: impl Iterator<Item = (EndpointName, u64)>,
    ) -> Result<(), Failure> {
        let mut jobs = Vec::new();
        for (name, count) in endpoints {
            let job =
                operated.store.ask(&name, &JobSpec::Retry { letters: filter.clone() }).map_err(failed)?;
            if self.common.json {
                output::line(serde_json::json!({ "job": job, "endpoint": name, "letters": count }))?;
            }
            jobs.push(job);
        }
        output::say(format!("asked to send them again: {}", operated.begins()?));
        match self.follow {
            true => operated.follow(jobs, self.common.json),
            false => Ok(()),
        }
    }

    fn discard(&self, operated: &Operated, filter: &LetterFilter) -> Result<(), Failure> {
        let discarded = operated.store.discard_letters(filter).map_err(failed)?;
        match self.common.json {
            true => output::line(serde_json::json!({ "discarded": discarded })),
            false => {
                output::say(format!("discarded {}", letters(discarded)));
                Ok(())
            }
        }
    }
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

fn absent(ids: &[i64]) -> Failure {
    let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
    Failure::usage(format!(
        "there is no dead letter {}; `rowbridge dead-letter list` shows what there is",
        ids.join(", ")
    ))
}
