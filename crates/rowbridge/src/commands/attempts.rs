//! `rowbridge attempts`

use clap::Args;
use rowbridge_publisher::deliveries::AttemptFilter;
use rowbridge_schema::EndpointName;

use crate::failure::Failure;
use crate::load::ConfigOption;
use crate::moment::Moment;
use crate::operate::{Operated, failed};
use crate::output;
use crate::shown::ShownAttempt;

#[derive(Debug, Args)]
pub(crate) struct AttemptsArgs {
    /// Only of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<EndpointName>,
    /// Only those that did not deliver
    #[arg(long)]
    failed: bool,
    /// Begun at or after: 2026-05-01T12:00:00Z, or how long ago, such as 15m
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Begun before
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only those that carried this event, or this webhook-id
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl AttemptsArgs {
    /// Lists, the newest first.
    ///
    /// # Errors
    /// The configuration, or the store.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let operated = Operated::open(&self.config)?;
        let recorded: Vec<_> =
            operated.store.endpoints().map_err(failed)?.into_iter().map(|row| row.name).collect();
        // Alerts make attempts, too.
        let alerts = operated.publisher.alerts.iter().map(|alert| alert.endpoint.name.clone());
        let recorded: Vec<_> = recorded.into_iter().chain(alerts).collect();
        operated.knows(self.endpoint.as_ref(), &recorded)?;
        let filter = AttemptFilter {
            endpoint: self.endpoint,
            failed: self.failed,
            since_ms: self.since.map(|moment| moment.0),
            until_ms: self.until.map(|moment| moment.0),
            event: self.event,
            before: None,
            limit: self.limit,
        };
        let attempts = operated.store.attempts(&filter).map_err(failed)?;
        for recorded in &attempts {
            let shown = ShownAttempt::of(recorded);
            output::line(if self.json { shown.json() } else { shown.to_string() })?;
        }
        if attempts.is_empty() && !self.json {
            output::say("no attempt matches");
        }
        Ok(())
    }
}
