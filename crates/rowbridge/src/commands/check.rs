//! `rowbridge check`

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use rowbridge_publisher::check::{
    Finding, Severity, check_endpoint, check_old_rows, check_shapes, check_source,
};
use rowbridge_publisher::tables::source_tables;
use rowbridge_schema::Classified;
use rowbridge_schema::config::{DatabaseUrl, EndpointConfig, PublisherConfig, SubscriberConfig};
use rowbridge_subscriber::apply::CheckItem;

use crate::failure::{Failure, chain};
use crate::load::ConfigOption;
use crate::output;
use crate::target::Target;

/// A server that has said nothing for so long will not.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Print one JSON object per finding
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl CheckArgs {
    /// Looks at everything the file describes and changes nothing.
    ///
    /// # Errors
    /// The configuration (2), or at least one finding that keeps Rowbridge from working (1).
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let mut report = Report { json: self.json, warnings: 0, errors: 0 };
        report.add("config", Finding::ok(format!("{} is valid", self.config.path().display())))?;
        if let Some(publisher) = &config.publisher {
            report.add("state", state_dir(&publisher.state_dir))?;
            report.add_all("source", patient("source", check_source(&publisher.source)).await)?;
            report.add_all("endpoint", shapes(self.config.path(), publisher).await)?;
            report.add_all("endpoint", endpoints(publisher, config.subscriber.as_ref()).await)?;
        }
        if let Some(subscriber) = &config.subscriber {
            Target::mapping(subscriber)?;
            match Target::new(subscriber) {
                Ok(target) => {
                    report.add_all("target", patient("target", check_target(target, subscriber)).await)?;
                }
                // The certificates: as a finding, so that the rest of the file is looked at, too.
                Err(failure) => report
                    .add("target", Finding { severity: Severity::Error, what: failure.message, fix: None })?,
            }
            report.add("listen", listen("subscriber.listen", subscriber.listen).await)?;
        }
        if let Some(admin) = &config.admin {
            report.add("listen", listen("admin.listen", admin.listen).await)?;
        }
        report.end()
    }
}

struct Report {
    json: bool,
    warnings: usize,
    errors: usize,
}

impl Report {
    fn add_all(&mut self, part: &str, findings: Vec<Finding>) -> Result<(), Failure> {
        findings.into_iter().try_for_each(|finding| self.add(part, finding))
    }

    fn add(&mut self, part: &str, finding: Finding) -> Result<(), Failure> {
        match finding.severity {
            Severity::Ok => {}
            Severity::Warning => self.warnings += 1,
            Severity::Error => self.errors += 1,
        }
        output::line(if self.json { json(part, &finding) } else { text(part, &finding) })
    }

    fn end(self) -> Result<(), Failure> {
        let Self { json, warnings, errors } = self;
        if errors > 0 {
            return Err(Failure::failed(format!("{errors} to correct, {warnings} to consider")));
        }
        if !json {
            output::say(format!("nothing to correct, {warnings} to consider"));
        }
        Ok(())
    }
}

fn label(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warn",
        Severity::Error => "error",
    }
}

fn text(part: &str, finding: &Finding) -> String {
    let mut text = format!("{:<6} {part}: {}", label(finding.severity), finding.what);
    for line in finding.fix.iter().flat_map(|fix| fix.lines()).filter(|line| !line.is_empty()) {
        text.push_str("\n         ");
        text.push_str(line);
    }
    text
}

fn json(part: &str, finding: &Finding) -> String {
    let fix = finding.fix.as_deref().filter(|fix| !fix.is_empty());
    serde_json::json!({
        "part": part, "severity": label(finding.severity), "what": finding.what, "fix": fix,
    })
    .to_string()
}

async fn patient(what: &str, findings: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    match tokio::time::timeout(PATIENCE, findings).await {
        Ok(findings) => findings,
        Err(_) => vec![Finding::error(
            format!("no answer within {} s", PATIENCE.as_secs()),
            format!("Check host and port of {what}.url, and the firewalls on the way."),
        )],
    }
}

/// A folder that is there can be written, or one that is not there can be made.
fn state_dir(dir: &Path) -> Finding {
    let existing = dir.ancestors().find(|folder| folder.is_dir() || folder.as_os_str().is_empty());
    let folder = match existing {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => {
            return Finding::error(format!("{} cannot be made", dir.display()), "Set publisher.state_dir.");
        }
    };
    match tempfile::tempfile_in(folder) {
        Ok(_) if folder == dir => Finding::ok(format!("{} can be written", dir.display())),
        Ok(_) => Finding::ok(format!("{} will be made at the first start", dir.display())),
        Err(error) => Finding::error(
            format!("{} cannot be written: {error}", folder.display()),
            format!(
                "Let the user that runs rowbridge write there, or set publisher.state_dir: mkdir -p {0} && chown USER {0}",
                dir.display()
            ),
        ),
    }
}

/// Filters and columns of endpoints against the tables that there are. A source that is away was told of already.
async fn shapes(file: &Path, publisher: &PublisherConfig) -> Vec<Finding> {
    if publisher.endpoints.iter().all(|endpoint| endpoint.webhook.is_none()) {
        return Vec::new();
    }
    let look = async {
        let Ok(tables) = source_tables(&publisher.source).await else { return Vec::new() };
        let mut findings = check_shapes(file, publisher, &tables);
        findings.extend(check_old_rows(file, publisher, &tables).await);
        findings
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_default()
}

async fn endpoints(publisher: &PublisherConfig, subscriber: Option<&SubscriberConfig>) -> Vec<Finding> {
    let mut findings = Vec::with_capacity(publisher.endpoints.len());
    let alerts = publisher.alerts.iter().map(|alert| &alert.endpoint);
    for endpoint in publisher.endpoints.iter().chain(alerts) {
        let own = subscriber.is_some_and(|subscriber| is_own(endpoint, subscriber));
        let wait = endpoint.timeout.min(PATIENCE);
        let found = tokio::time::timeout(wait, check_endpoint(publisher, endpoint, own)).await;
        findings.push(found.unwrap_or_else(|_| {
            Finding::error(
                format!("{}: no answer within {} s", endpoint.name, wait.as_secs_f32()),
                "Start the subscriber, or correct endpoint.url and the firewalls on the way.",
            )
        }));
    }
    findings
}

/// Whether an endpoint leads to the subscriber of the same file.
fn is_own(endpoint: &EndpointConfig, subscriber: &SubscriberConfig) -> bool {
    let host = endpoint.url.host_str().unwrap_or_default();
    let local = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address == subscriber.listen.ip());
    local && endpoint.url.port_or_known_default() == Some(subscriber.listen.port())
}

async fn check_target(target: Target, config: &SubscriberConfig) -> Vec<Finding> {
    let found = match &target {
        Target::Postgres(target) => judged(target.check().await),
        Target::Mysql(target) => judged(target.check().await),
        Target::Sqlite(target) => judged(target.check().await),
    };
    let connected = match &config.target.database {
        DatabaseUrl::Postgres(url) | DatabaseUrl::Mysql(url) => {
            Some(Finding::ok(format!("connected to {} as {}", url.host, url.user)))
        }
        DatabaseUrl::Sqlite(_) => None,
    };
    match found {
        Ok(items) => connected.into_iter().chain(items).collect(),
        Err(error) => vec![error],
    }
}

fn judged<E: std::error::Error + Classified>(
    found: Result<Vec<CheckItem>, E>,
) -> Result<Vec<Finding>, Finding> {
    let judge = |item: CheckItem| finding(item.subject, item.fine, &item.finding, item.fix);
    found.map(|items| items.into_iter().map(judge).collect()).map_err(|error| Finding {
        severity: Severity::Error,
        what: chain(&error),
        fix: error.hint(),
    })
}

fn finding(subject: &str, fine: bool, found: &str, fix: Option<String>) -> Finding {
    let severity = match subject {
        _ if fine => Severity::Ok,
        // Slower, or at odds with what somebody may want, or only needed for tables that are not there yet.
        "session_replication_role"
        | "making schemas"
        | "making tables"
        | "journal mode"
        | "trigger"
        | "engine"
        | "max_allowed_packet"
        | "writing rows" => Severity::Warning,
        _ => Severity::Error,
    };
    Finding { severity, what: format!("{subject}: {found}"), fix }
}

async fn listen(key: &str, address: std::net::SocketAddr) -> Finding {
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Finding::ok(format!("{key} {address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::warning(
            format!("{key} {address} is in use"),
            "Fine if rowbridge is running with this file; else stop whoever has it, or choose another port.",
        ),
        Err(error) => Finding::error(
            format!("cannot listen on {key} {address}: {error}"),
            "Use an address of this machine, or 0.0.0.0 for all of them.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_way_out_below() {
        let finding = Finding::warning("slot shop is inactive", "Start the publisher.\nOr drop it.");
        assert_eq!(
            text("source", &finding),
            "warn   source: slot shop is inactive\n         Start the publisher.\n         Or drop it."
        );
        assert_eq!(
            json("source", &Finding::error("x", "")),
            r#"{"fix":null,"part":"source","severity":"error","what":"x"}"#
        );
    }

    #[test]
    fn a_state_dir_is_judged_by_what_exists_of_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(state_dir(folder.path()).what.ends_with("can be written"));
        let deep = state_dir(&folder.path().join("a/b"));
        assert_eq!(
            (deep.severity, deep.what.ends_with("will be made at the first start")),
            (Severity::Ok, true)
        );
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
