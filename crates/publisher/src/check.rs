//! `rowbridge check` and `rowbridge teardown` for a publishing end.

mod old_rows;

use std::sync::Arc;

use rowbridge_schema::config::{DatabaseUrl, EndpointConfig, PublisherConfig, SourceConfig, WebhookConfig};
use rowbridge_schema::event::shape::Shape;
use rowbridge_schema::event::template::Visible;
use rowbridge_schema::expr::Purpose;
use rowbridge_schema::{Classified, TableDef, tls};

use crate::capture::OldRows;
use crate::capture::mysql;
use crate::capture::postgres::{self, PostgresError};
use crate::capture::sqlite::{self, SqliteError};
use crate::check_outbox::check_outboxes;
use crate::http::Client;
use crate::lane;
use crate::source::connector;
use crate::webhook::{client_config, webhook_tls};

pub use old_rows::check_old_rows;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a consequence that an operator should know.
    Warning,
    /// Does not work.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at and found.
    pub what: String,
    /// What to run or set.
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, what: what.into(), fix: None }
    }

    /// Works, with a consequence.
    pub fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    /// Does not work.
    pub fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), fix: Some(fix.into()) }
    }
}

/// Looks at the source: settings, privileges, tables, what is there already. Changes nothing.
pub async fn check_source(source: &SourceConfig) -> Vec<Finding> {
    match &source.database {
        DatabaseUrl::Postgres(url) => match connector(url) {
            Ok(connector) => postgres::check::check(&connector, source).await,
            Err(error) => {
                vec![Finding::error(chain(&error), "Correct sslmode or sslrootcert in source.url.")]
            }
        },
        DatabaseUrl::Mysql(url) => match mysql::client::Connector::new(url) {
            Ok(connector) => mysql::check::check(&connector, source).await,
            Err(error) => {
                vec![Finding::error(chain(&error), "Correct sslmode or sslrootcert in source.url.")]
            }
        },
        DatabaseUrl::Sqlite(path) => {
            let (tables, old_rows) = (source.tables.clone(), OldRows::default());
            let file = sqlite::SqliteSource::new(path.clone(), tables, source.max_log_rows, old_rows);
            match tokio::task::block_in_place(|| file.check()) {
                Ok(items) => {
                    let opened = Finding::ok(format!("{} can be opened", path.display()));
                    std::iter::once(opened).chain(items.into_iter().map(Finding::from)).collect()
                }
                Err(error) => vec![Finding { fix: error.hint(), ..Finding::error(chain(&error), "") }],
            }
        }
    }
}

impl From<sqlite::CheckItem> for Finding {
    fn from(item: sqlite::CheckItem) -> Self {
        let severity = match item.severity {
            sqlite::Severity::Note => Severity::Ok,
            sqlite::Severity::Warning => Severity::Warning,
            sqlite::Severity::Error => Severity::Error,
        };
        Self { severity, what: item.what, fix: item.fix }
    }
}

/// Asks an endpoint whether it would take deliveries. `own` says that it is a subscriber of the same process, which is not
/// expected to run while somebody checks.
pub async fn check_endpoint(publisher: &PublisherConfig, endpoint: &EndpointConfig, own: bool) -> Finding {
    if let Some(webhook) = &endpoint.webhook {
        return check_webhook(endpoint, webhook).await;
    }
    let name = &endpoint.name;
    let host = endpoint.url.host_str().unwrap_or_default();
    let tls = match endpoint_tls(endpoint) {
        Ok(tls) => tls,
        Err(finding) => return finding,
    };
    match lane::probe(&publisher.stream, endpoint, tls).await {
        Ok(()) => Finding::ok(format!("{name}: {host} takes deliveries with this secret")),
        Err(error) if own && error.is_unreachable() => {
            Finding::ok(format!("{name}: is the subscriber of this file, which does not run now"))
        }
        Err(error) => Finding {
            severity: Severity::Error,
            what: format!("{name}: {}", chain(&error)),
            fix: error.fix(),
        },
    }
}

/// Connects to an endpoint that is not Rowbridge, and sends nothing: an event would be one.
async fn check_webhook(endpoint: &EndpointConfig, webhook: &WebhookConfig) -> Finding {
    let name = &endpoint.name;
    let host = endpoint.url.host_str().unwrap_or_default();
    let failed = |what: String, fix: Option<String>| Finding {
        severity: Severity::Error,
        what: format!("{name}: {what}"),
        fix,
    };
    let tls = match webhook_tls(endpoint, webhook) {
        Ok(tls) => tls,
        Err(error) => {
            let fix = "Correct endpoint.ca, endpoint.client_cert or endpoint.client_key.".to_owned();
            return failed(chain(&error), Some(fix));
        }
    };
    let client = match Client::new(client_config(endpoint, webhook, tls)) {
        Ok(client) => client,
        Err(error) => return failed(chain(&error), Some("Correct endpoint.url.".to_owned())),
    };
    match client.reach().await {
        Ok(()) => Finding::ok(format!(
            "{name}: {host} can be reached (`rowbridge endpoint test {name}` sends an event)"
        )),
        Err(error) => failed(chain(&error), error.hint()),
    }
}

/// What outboxes and endpoints say of their tables, compared with the tables that there are. `file` names the configuration.
#[must_use]
pub fn check_shapes(
    file: &std::path::Path,
    publisher: &PublisherConfig,
    tables: &[TableDef],
) -> Vec<Finding> {
    let mut findings = check_outboxes(file, publisher, tables);
    for endpoint in &publisher.endpoints {
        let Some(webhook) = &endpoint.webhook else { continue };
        let mut told = Vec::new();
        let mut shapes = Vec::new();
        // Of an outbox the endpoint sees messages, not columns.
        let is_outbox = |def: &TableDef| publisher.source.outboxes.iter().any(|outbox| outbox.is(&def.name));
        for def in tables.iter().filter(|def| endpoint.tables.matches(&def.name) && !is_outbox(def)) {
            let place = |line: usize, key: &str| format!("{}:{line}: endpoint.{key}: ", file.display());
            if let Some(program) = &webhook.when {
                let place = place(webhook.lines.when, "when");
                if let Err(error) = program.bind(def, Purpose::Condition) {
                    told.push(Finding::error(
                        format!("{place}{}: {error}", def.name),
                        format!("Correct it, or leave {} out by endpoint.tables.", def.name),
                    ));
                }
            }
            match Shape::compile(&webhook.shape, def) {
                Ok(shape) => shapes.push((&def.name, shape)),
                Err(error) => {
                    let place = place(webhook.lines.columns, "columns");
                    told.push(Finding::error(
                        format!("{place}{}: {error}", def.name),
                        format!("Correct it, or leave {} out by endpoint.tables.", def.name),
                    ));
                }
            }
        }
        let visible: Vec<_> = shapes.iter().map(|(name, shape)| Visible::shaped(name, shape)).collect();
        if let Err((templated, error)) = webhook.request.check(&visible, webhook.policy.batch.max_events > 1)
        {
            told.push(Finding::error(
                format!("{}:{}: endpoint.{templated}: {error}", file.display(), webhook.lines.of(&templated)),
                "Correct it, write `| default(...)` behind a name that not every table has, or leave the table out by \
                 endpoint.tables.",
            ));
        }
        findings.extend(told);
    }
    findings
}

fn endpoint_tls(endpoint: &EndpointConfig) -> Result<Option<Arc<rustls::ClientConfig>>, Finding> {
    if endpoint.url.scheme() == "http" {
        return Ok(None);
    }
    let failed = |what: String| Finding::error(format!("{}: {what}", endpoint.name), "Correct endpoint.ca.");
    let pem = match &endpoint.ca {
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?,
        ),
        None => None,
    };
    let tls = tls::https_client(pem.as_deref()).map_err(|error| failed(chain(&error)))?;
    Ok(Some(Arc::new(tls)))
}

/// Why a source could not be cleared.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// TLS towards the source.
    #[error("TLS cannot be set up for source.url")]
    Tls(#[from] tls::TlsError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
}

impl TeardownError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tls(_) => None,
            Self::Postgres(error) => error.hint(),
            Self::Sqlite(error) => error.hint(),
        }
    }
}

/// What Rowbridge made at the source, one object each: slot, publications, triggers, change log. With `run`, drops it.
///
/// # Errors
/// The source cannot be reached, or refuses; what came before is gone.
pub async fn teardown_source(source: &SourceConfig, run: bool) -> Result<Vec<String>, TeardownError> {
    match &source.database {
        DatabaseUrl::Postgres(url) => Ok(postgres::check::teardown(&connector(url)?, source, !run).await?),
        // A replica leaves nothing behind.
        DatabaseUrl::Mysql(_) => Ok(Vec::new()),
        DatabaseUrl::Sqlite(path) => Ok(tokio::task::block_in_place(|| sqlite::teardown(path, !run))?),
    }
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some drivers print their cause themselves.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
