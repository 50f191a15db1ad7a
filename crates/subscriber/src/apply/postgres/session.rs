//! A session of a target: settings that make text mean one thing, and proof that no pooler is between.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowbridge_schema::config::{ServerUrl, SslMode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{PoolerEvidence, PostgresError, Verdict, failed, is_login, names_missing, verdict};
use super::watch::Watch;

/// Statements kept prepared per session. A delivery of many tables needs a few for each.
const MAX_STATEMENTS: usize = 512;

/// Settings of the startup packet. The texts of values depend on them, so role and database defaults must not leak in.
/// `search_path` holds only `pg_catalog`, as for the server's own apply worker: names in our statements are qualified.
const SETTINGS: &[(&str, &str)] = &[
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "0"),
    ("xmloption", "content"),
];

/// The session's `lock_timeout`: how long rows and objects wait for another session of the target. Long enough for the
/// target's own work; below the publisher's default timeout, so that its operator is told what is in the way.
pub(super) const LOCK_WAIT_SECONDS: u64 = 20;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection with what is known of it.
pub(super) struct Session {
    pub(super) client: Client,
    address: String,
    process: i32,
    /// Where `rowbridge_progress` and tables without a schema live.
    pub(super) schema: String,
    /// Triggers and foreign keys do not fire.
    pub(super) replica: bool,
    /// `server_version_num`
    pub(super) version: i32,
    /// The catalog was read since a statement did not find something: what is missing now, the data names.
    pub(super) catalog_is_fresh: bool,
    statements: HashMap<String, Statement>,
    /// Those that are prepared under a name, by their text.
    named: HashMap<String, u64>,
    /// Names whose statements are to be dropped.
    dropped: Vec<u64>,
    next_name: u64,
    pub(super) watch: Watch,
}

fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{nanos:x}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Session {
    /// Connects and settles the session.
    pub(super) async fn connect(
        url: &ServerUrl,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, PostgresError> {
        let address = format!("{}:{}", url.host, url.port);
        let nonce = nonce();
        let mut options: String =
            SETTINGS.iter().map(|(name, value)| format!("-c {name}={value} ")).collect();
        options.push_str(&format!("-c rowbridge.session={nonce}"));
        let mut config = Config::new();
        config
            .host(&url.host)
            .port(url.port)
            .user(&url.user)
            .dbname(&url.database)
            .application_name("rowbridge")
            .options(&options)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(Duration::from_secs(30))
            .tcp_user_timeout(Duration::from_secs(60));
        if let Some(password) = &url.password {
            config.password(password.expose());
        }
        let wanted = match (url.ssl_mode, tls) {
            (SslMode::Disable, _) | (SslMode::Prefer, None) => None,
            (SslMode::Prefer, Some(tls)) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Prefer);
                Some(tls)
            }
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, Some(tls)) => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                Some(tls)
            }
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, None) => {
                return Err(PostgresError::NoTls);
            }
        };
        let connected = match wanted {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                config
                    .connect(tls)
                    .await
                    .map(|(client, connection)| (client, tokio::spawn(drive(connection))))
            }
            None => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                config
                    .connect(NoTls)
                    .await
                    .map(|(client, connection)| (client, tokio::spawn(drive(connection))))
            }
        };
        let (client, connection) = connected.map_err(|source| connect_error(&address, url, source))?;
        let doing = "settling the session";
        // As a simple query: behind a pooler, a statement prepared under our name may be there already, and would stay.
        let answer = client
            .simple_query(
                "SELECT current_schema(), current_setting('rowbridge.session', true), pg_backend_pid(), \
                 current_setting('server_version_num')",
            )
            .await
            .map_err(|e| failed(doing, e))?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |at: usize| row.and_then(|row| row.get(at));
        let number = |at: usize| text(at).and_then(|text| text.parse::<i32>().ok()).unwrap_or_default();
        if text(1) != Some(nonce.as_str()) {
            return Err(PostgresError::Pooler { address, evidence: PoolerEvidence::StartupDropped });
        }
        let (schema, process, version) = (text(0).map(str::to_owned), number(2), number(3));
        let schema = schema.ok_or(PostgresError::NoSchema)?;
        client.batch_execute("SET search_path = pg_catalog").await.map_err(|e| failed(doing, e))?;
        let replica = match client.batch_execute("SET session_replication_role = replica").await {
            Ok(()) => true,
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => {
                false
            }
            Err(error) => return Err(failed(doing, error)),
        };
        let mut session = Self {
            client,
            address,
            process,
            schema,
            replica,
            version,
            catalog_is_fresh: false,
            statements: HashMap::new(),
            named: HashMap::new(),
            dropped: Vec::new(),
            next_name: 0,
            watch: Watch::new(connection.abort_handle()),
        };
        session.check_process().await?;
        Ok(session)
    }

    /// What an error means for the rows that were being applied.
    pub(super) fn verdict(&self, error: &tokio_postgres::Error) -> Verdict {
        match verdict(error) {
            Verdict::Catalog if self.catalog_is_fresh && names_missing(error) => Verdict::Data,
            verdict => verdict,
        }
    }

    /// Whether statements still reach the server process that the settings were made in.
    pub(super) async fn check_process(&mut self) -> Result<(), PostgresError> {
        let row = self
            .client
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .map_err(|e| failed("checking the session", e))?;
        if row.get::<_, i32>(0) == self.process {
            return Ok(());
        }
        let address = self.address.clone();
        Err(PostgresError::Pooler { address, evidence: PoolerEvidence::ProcessChanged })
    }

    /// A prepared statement whose parameters are all `text[]` (or as given), from the cache.
    pub(super) async fn prepare(
        &mut self,
        sql: &str,
        types: &[Type],
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare_typed(sql, types).await?;
        self.watch.answered();
        // Shapes that are no longer written leave with the rest: what is still needed is soon prepared again.
        if self.statements.len() >= MAX_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// A statement that text can EXECUTE, by [`Self::statement_name`]; outside of a transaction.
    pub(super) async fn name(&mut self, sql: &str, types: &[&str]) -> Result<u64, tokio_postgres::Error> {
        if let Some(number) = self.named.get(sql) {
            return Ok(*number);
        }
        let mut text = String::new();
        for number in self.dropped.drain(..) {
            text.push_str(&format!("DEALLOCATE {};", Self::statement_name(number)));
        }
        let number = self.next_name;
        self.next_name += 1;
        let types = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
        text.push_str(&format!("PREPARE {}{types} AS {sql}", Self::statement_name(number)));
        self.batch(&text).await?;
        self.named.insert(sql.to_owned(), number);
        Ok(number)
    }

    /// Sees to it that so many names can be given without one being dropped.
    pub(super) fn room_for_names(&mut self, count: usize) {
        if self.named.len() + count > MAX_STATEMENTS {
            self.dropped.extend(self.named.drain().map(|(_, number)| number));
        }
    }

    pub(super) fn statement_name(number: u64) -> String {
        format!("rowbridge_{number}")
    }

    /// Forgets prepared statements: the catalog has changed.
    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
        self.dropped.extend(self.named.drain().map(|(_, number)| number));
    }

    /// Runs one statement and gives the number of rows.
    pub(super) async fn execute(
        &mut self,
        sql: &str,
        types: &[Type],
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        let statement = self.prepare(sql, types).await?;
        let rows = self.client.execute(&statement, params).await?;
        self.watch.answered();
        Ok(rows)
    }

    /// Runs text without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await?;
        self.watch.answered();
        Ok(())
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // The lane sees the loss at its next statement.
    if let Err(error) = connection.await {
        debug!(error = %error, "target connection ended");
    }
}

fn connect_error(address: &str, url: &ServerUrl, source: tokio_postgres::Error) -> PostgresError {
    let address = address.to_owned();
    let refused_options = source.as_db_error().is_some_and(|db| db.message().contains("startup parameter"));
    if refused_options {
        return PostgresError::Pooler { address, evidence: PoolerEvidence::StartupRefused };
    }
    if is_login(&source) {
        return PostgresError::Login { address, user: url.user.clone(), source };
    }
    PostgresError::Connect { address, source }
}
