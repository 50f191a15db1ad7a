//! How the source is reached: ordinary SQL connections for catalog, slots and snapshots, and the replication connection.

use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{ServerUrl, SslMode};
use rustls::pki_types::ServerName;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::PostgresError;
use super::walsender::{ConnectOptions, TlsMode, TlsSettings};

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
fn pooler(evidence: &str) -> PostgresError {
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
            .tcp_user_timeout(Duration::from_secs(60))
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
        // Before anything is set or prepared, since that would stay with a pooler's session for whoever gets it next. As a
        // simple query: a statement prepared under our name may be there already.
        let answer = client
            .simple_query(&format!("SELECT pg_catalog.current_setting('{MARK}', true)"))
            .await
            .map_err(|source| PostgresError::query("look for a pooler", source))?;
        let direct = answer.iter().any(|message| {
            matches!(message, tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("direct"))
        });
        if !direct {
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

/// Options of the replication connection: the same address and the same TLS as for SQL.
///
/// # Errors
/// A host name that no certificate can carry.
pub fn connect_options(connector: &Connector) -> Result<ConnectOptions, PostgresError> {
    let url = &connector.url;
    let settings = || match (&connector.tls, ServerName::try_from(url.host.clone())) {
        (Some(config), Ok(server_name)) => Ok(TlsSettings { config: Arc::clone(config), server_name }),
        _ => Err(PostgresError::NotReady {
            problem: format!("{} cannot be checked as a TLS name", url.host),
            fix: "Use a host name or an address in source.url, or sslmode=disable.".into(),
        }),
    };
    let tls = match url.ssl_mode {
        SslMode::Disable => TlsMode::Disable,
        _ if url.host.starts_with('/') => TlsMode::Disable,
        SslMode::Prefer => TlsMode::Prefer(settings()?),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => TlsMode::Require(settings()?),
    };
    Ok(ConnectOptions {
        host: url.host.clone(),
        port: url.port,
        user: url.user.clone(),
        password: url.password.as_ref().map(|password| password.expose().to_owned()),
        database: url.database.clone(),
        application_name: "rowbridge stream".into(),
        tls,
        connect_timeout: Duration::from_secs(10),
    })
}

/// A pooler hands out other people's sessions: settings, snapshots and replication do not survive that.
///
/// # Errors
/// `NotReady` when two statements meet two servers.
pub async fn refuse_pooler(client: &Client) -> Result<(), PostgresError> {
    let failed = |source| PostgresError::query("look for a pooler", source);
    // A transaction pooler answers BEGIN..COMMIT from any session; a setting made outside is then missing.
    client.batch_execute("SET application_name = 'rowbridge pooler probe'").await.map_err(failed)?;
    for _ in 0..2 {
        let row = client
            .query_one(
                "SELECT pg_catalog.current_setting('application_name'), pg_catalog.current_setting('search_path')",
                &[],
            )
            .await
            .map_err(failed)?;
        let name: String = row.try_get(0).map_err(failed)?;
        let path: String = row.try_get(1).map_err(failed)?;
        if name != "rowbridge pooler probe" || !path.trim_matches('"').is_empty() {
            return Err(pooler("two statements of one session ran in two server processes"));
        }
    }
    client.batch_execute("SET application_name = 'rowbridge capture'").await.map_err(failed)
}
