//! `rowbridge teardown`

use clap::Args;
use rowbridge_publisher::check::teardown_source;
use rowbridge_schema::Classified as _;
use rowbridge_schema::config::{DatabaseUrl, SubscriberConfig};

use crate::failure::{Failure, chain};
use crate::load::ConfigOption;
use crate::output;
use crate::target::Target;

#[derive(Debug, Args)]
#[group(id = "ends", required = true, multiple = true, args = ["source", "target"])]
pub(crate) struct TeardownArgs {
    /// At the source: slot, publications, triggers, change log
    #[arg(long)]
    source: bool,
    /// At the target: the progress of the streams that this file receives. Copied rows stay
    #[arg(long)]
    target: bool,
    /// Drop what is listed
    #[arg(long)]
    yes: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl TeardownArgs {
    /// Lists, and drops if told to.
    ///
    /// # Errors
    /// The configuration, or a database that is away or refuses.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let mut count = 0;
        if self.source {
            let publisher = config.publisher.as_ref().ok_or_else(|| self.config.missing("[publisher]"))?;
            let made = teardown_source(&publisher.source, self.yes).await.map_err(|error| {
                Failure::environment(format!("source: {}", chain(&error))).hint(error.hint())
            })?;
            count += made.len();
            self.print("source", &made)?;
            if let DatabaseUrl::Mysql(_) = publisher.source.database {
                output::say(
                    "source: rowbridge makes nothing in MySQL and MariaDB, so there is nothing to drop"
                        .to_owned(),
                );
            }
        }
        if self.target {
            let subscriber = config.subscriber.as_ref().ok_or_else(|| self.config.missing("[subscriber]"))?;
            let made = teardown_target(subscriber, self.yes).await?;
            count += made.len();
            self.print("target", &made)?;
        }
        match (count, self.yes) {
            (0, _) => output::say("nothing of rowbridge is there"),
            (_, true) => output::say(format!(
                "dropped {count}; state_dir and copied rows are left as they are. To use this file again, run \
                     `rowbridge snapshot --all` before"
            )),
            (_, false) => output::say(format!(
                "nothing was dropped; stop rowbridge and add --yes to drop these {count}"
            )),
        }
        Ok(())
    }

    fn print(&self, end: &str, made: &[String]) -> Result<(), Failure> {
        made.iter().try_for_each(|object| {
            output::line(match self.json {
                true => serde_json::json!({ "end": end, "object": object, "dropped": self.yes }).to_string(),
                false => format!("{end}: {object}"),
            })
        })
    }
}

async fn teardown_target(subscriber: &SubscriberConfig, run: bool) -> Result<Vec<String>, Failure> {
    let streams: Vec<_> = subscriber.receives.iter().map(|receive| receive.stream.clone()).collect();
    match (Target::new(subscriber)?, &subscriber.target.database) {
        (Target::Postgres(target), _) => target
            .teardown(&streams, run)
            .await
            .map_err(|error| Failure::environment(format!("target: {}", chain(&error))).hint(error.hint())),
        (Target::Mysql(target), _) => target
            .teardown(&streams, run)
            .await
            .map_err(|error| Failure::environment(format!("target: {}", chain(&error))).hint(error.hint())),
        // A file that is not there holds nothing.
        (Target::Sqlite(_), DatabaseUrl::Sqlite(path)) if !path.exists() => Ok(Vec::new()),
        (Target::Sqlite(target), _) => target
            .teardown(&streams, run)
            .await
            .map_err(|error| Failure::environment(format!("target: {}", chain(&error))).hint(error.hint())),
    }
}
