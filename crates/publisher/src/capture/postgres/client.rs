//! Ordinary SQL connections to the source: catalog, slots, snapshots.

use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{ServerUrl, SslMode};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::PostgresError;

/// How to reach the source.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Address, role and TLS mode.
    pub url: ServerUrl,
    /// TLS for every mode but `disable`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Session settings that rule the text of values: the defaults of a role or database must not leak in.
pub(crate) const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("row_security", "off"),
    // Names in values (regclass) and in format_type come out qualified, as in the replication session.
    ("search_path", ""),
];

/// A setting of no meaning in the startup packet: poolers refuse or drop what they do not know, since their sessions with
/// the server are open already.
const MARK: &str = "rowbridge.session";

fn connect_error(at: String, source: tokio_postgres::Error) -> PostgresError {
    if source.as_db_error().is_some_and(|error| error.message().contains("startup parameter")) {
        return pooler("it refuses session settings in the startup packet");
    }
    PostgresError::Connect { at, source }
}

/// Replication, snapshots and settings need one session from end to end.
pub(super) fn pooler(evidence: &str) -> PostgresError {
    PostgresError::NotReady {
        problem: format!("a connection pooler stands between us and the source: {evidence}"),
        fix: "Point source.url at the server itself: replication and snapshots need one session.".into(),
    }
}

impl Connector {
    /// Opens a session with our settings; the connection task ends with the client.
    ///
    /// # Errors
    /// `Connect`, classed by SQLSTATE; `NotReady` when a pooler stands between.
    pub async fn connect(&self, purpose: &str) -> Result<Client, PostgresError> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.url.host)
            .port(self.url.port)
            .user(&self.url.user)
            .dbname(&self.url.database)
            .application_name(format!("rowbridge {purpose}"))
            .options(format!("-c {MARK}=direct"))
            .connect_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(30))
            .ssl_mode(match self.url.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    tokio_postgres::config::SslMode::Require
                }
            });
        if let Some(password) = &self.url.password {
            config.password(password.expose());
        }
        let at = || format!("{}:{}/{}", self.url.host, self.url.port, self.url.database);
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = config
                    .connect(MakeRustlsConnect::new(tls.as_ref().clone()))
                    .await
                    .map_err(|source| connect_error(at(), source))?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = config
                    .connect(tokio_postgres::NoTls)
                    .await
                    .map_err(|source| connect_error(at(), source))?;
                tokio::spawn(connection);
                client
            }
        };
        // Before anything is set: what a pooler's session is told would stay with it, for whoever gets it next.
        let failed = |source| PostgresError::query("look for a pooler", source);
        let row = client
            .query_one("SELECT pg_catalog.current_setting($1, true)", &[&MARK])
            .await
            .map_err(failed)?;
        if row.try_get::<_, Option<String>>(0).map_err(failed)?.as_deref() != Some("direct") {
            return Err(pooler("it drops session settings of the startup packet"));
        }
        let settings: Vec<String> =
            SESSION_SETTINGS.iter().map(|(name, value)| format!("SET {name} = '{value}'")).collect();
        client
            .batch_execute(&settings.join(";"))
            .await
            .map_err(|source| PostgresError::query("set up a session", source))?;
        // money prints by lc_monetary; a role that may not change it still gets a consistent text from one server.
        if let Err(error) = client.batch_execute("SET lc_monetary = 'C'").await {
            tracing::debug!(%error, "lc_monetary stays as the server has it");
        }
        Ok(client)
    }
}
