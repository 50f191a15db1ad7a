//! A session of a target: settings that make text mean one thing, and statements sent together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable as _};
use mysql_async::{Conn, DriverError, Error, OptsBuilder, Row, SslOpts};
use rowbridge_schema::config::{ServerUrl, SslMode};
use tracing::debug;

use super::error::{MysqlError, failed, is_login};
use super::statement::text;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing is cut or rounded without an error, zero dates and invalid days are values, 0 is a value of an
/// `AUTO_INCREMENT` column, and a backslash in a literal is a backslash.
pub(super) const STRICT: &str =
    "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES";

/// For a statement that writes the error value of an `ENUM`, which strict mode refuses.
pub(super) const LENIENT: &str =
    "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES";

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    Mysql,
    MariaDb,
}

/// What one statement of several came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// Rows that were found (not only changed).
    pub(super) rows: u64,
    pub(super) warnings: u16,
}

/// One connection with what is known of it.
pub(super) struct Session {
    conn: Conn,
    pub(super) flavor: Flavor,
    /// As the server says it.
    pub(super) version: String,
    pub(super) numbers: (u16, u16, u16),
    /// Where tables without a database go; `None` if the URL names none.
    pub(super) database: Option<String>,
    /// Longest statement that the server takes, in bytes.
    pub(super) max_packet: usize,
    /// Seconds that a row waits for a lock: the server's own setting.
    pub(super) lock_wait: u64,
    /// `lower_case_table_names` is not 0: names of tables are compared without regard to case.
    pub(super) folds_names: bool,
}

fn socket(folder: &str) -> PathBuf {
    let path = Path::new(folder);
    if !path.is_dir() {
        return path.to_owned();
    }
    let names = ["mysqld.sock", "mysql.sock", "mariadb.sock"];
    names.iter().map(|name| path.join(name)).find(|path| path.exists()).unwrap_or_else(|| path.join(names[0]))
}

fn options(url: &ServerUrl, roots: &[Vec<u8>], with_tls: bool) -> OptsBuilder {
    let tls = || {
        let checks = matches!(url.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let options = SslOpts::default()
            .with_danger_accept_invalid_certs(!checks)
            .with_danger_skip_domain_validation(url.ssl_mode != SslMode::VerifyFull);
        match checks {
            true => options
                .with_disable_built_in_roots(true)
                .with_root_certs(roots.iter().map(|root| root.clone().into()).collect()),
            // Not looked at, but the driver insists on having some.
            false => options,
        }
    };
    let options = OptsBuilder::default()
        .user(Some(url.user.clone()))
        .pass(url.password.as_ref().map(|password| password.expose().to_owned()))
        .db_name(Some(url.database.clone()).filter(|name| !name.is_empty()))
        .client_found_rows(true)
        .prefer_socket(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .ssl_opts(with_tls.then(tls));
    match url.is_unix_socket() {
        true => options.socket(Some(socket(&url.host).to_string_lossy().into_owned())),
        false => options.ip_or_hostname(url.host.clone()).tcp_port(url.port),
    }
}

impl Session {
    /// Connects and settles the session. `roots` are the trusted authorities in DER, for the modes that verify.
    pub(super) async fn connect(url: &ServerUrl, roots: &[Vec<u8>]) -> Result<Self, MysqlError> {
        let address = match url.is_unix_socket() {
            true => url.host.clone(),
            false => format!("{}:{}", url.host, url.port),
        };
        let seconds = CONNECT_TIMEOUT.as_secs();
        let settled = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let with_tls = url.ssl_mode != SslMode::Disable && !url.is_unix_socket();
            let mut connected = Conn::new(options(url, roots, with_tls)).await;
            if let Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) = &connected {
                if url.ssl_mode != SslMode::Prefer {
                    return Err(MysqlError::NoTls { address: address.clone() });
                }
                connected = Conn::new(options(url, roots, false)).await;
            }
            let conn = connected.map_err(|source| match is_login(&source) {
                true => MysqlError::Login { address: address.clone(), user: url.user.clone(), source },
                false => MysqlError::Connect { address: address.clone(), source },
            })?;
            Self::settle(conn, &address).await
        });
        settled.await.unwrap_or_else(|_| Err(MysqlError::Silent { address: address.clone(), seconds }))
    }

    async fn settle(mut conn: Conn, address: &str) -> Result<Self, MysqlError> {
        let doing = "settling the session";
        let settings = format!(
            "SET NAMES utf8mb4; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION sql_mode = '{STRICT}', time_zone = '+00:00', foreign_key_checks = 0, unique_checks = 1, \
             autocommit = 1, sql_safe_updates = 0, sql_auto_is_null = 0"
        );
        conn.query_drop(settings).await.map_err(|e| failed(doing, e))?;
        let facts: Option<Row> = conn
            .query_first(
                "SELECT VERSION(), DATABASE(), @@max_allowed_packet, @@innodb_lock_wait_timeout, \
                 @@lower_case_table_names, @@SESSION.sql_mode, @@SESSION.time_zone, @@SESSION.foreign_key_checks",
            )
            .await
            .map_err(|e| failed(doing, e))?;
        let pooler = || MysqlError::Pooler { address: address.to_owned() };
        let facts = facts.ok_or_else(pooler)?;
        let word = |index: usize| facts.get_opt::<Option<String>, _>(index).and_then(Result::ok).flatten();
        let number = |index: usize| facts.get_opt::<u64, _>(index).and_then(Result::ok).unwrap_or(0);
        let mode = word(5).unwrap_or_default();
        let holds = STRICT.split(',').all(|wanted| mode.split(',').any(|set| set == wanted));
        if !holds || word(6).as_deref() != Some("+00:00") || number(7) != 0 {
            return Err(pooler());
        }
        let version = word(0).unwrap_or_default();
        let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::Mysql };
        // MariaDB may put 5.5.5- in front for the sake of old replicas.
        let mut parts = version.trim_start_matches("5.5.5-").split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let numbers = (part(), part(), part());
        let old = match flavor {
            Flavor::MariaDb => numbers < (10, 6, 0),
            Flavor::Mysql => numbers < (8, 0, 0),
        };
        if old {
            return Err(MysqlError::Version { version });
        }
        let wishes: &[&str] = match flavor {
            // The text of every statement would go into the binary log beside its rows.
            Flavor::MariaDb => &[
                "SET SESSION binlog_annotate_row_events = 0",
                // A long list of keys stays a list of keys.
                "SET SESSION in_predicate_conversion_threshold = 0",
                "SET SESSION max_statement_time = 0",
            ],
            Flavor::Mysql => &[
                "SET SESSION binlog_rows_query_log_events = 0",
                "SET SESSION range_optimizer_max_mem_size = 0",
            ],
        };
        for wish in wishes {
            if let Err(error) = conn.query_drop(*wish).await {
                if !matches!(error, Error::Server(_)) {
                    return Err(failed(doing, error));
                }
                debug!(wish, "not granted");
            }
        }
        Ok(Self {
            flavor,
            numbers,
            version,
            database: word(1).filter(|name| !name.is_empty()),
            max_packet: usize::try_from(number(2)).unwrap_or(usize::MAX).max(1024),
            lock_wait: number(3).max(1),
            folds_names: number(4) != 0,
            conn,
        })
    }

    /// Whether the server knows `INSERT .. AS alias ON DUPLICATE KEY UPDATE`, and complains of `VALUES()`.
    pub(super) fn has_row_alias(&self) -> bool {
        self.flavor == Flavor::Mysql && self.numbers >= (8, 0, 19)
    }

    /// Runs one statement that gives no rows.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.conn.query_drop(sql).await
    }

    /// Runs a query.
    pub(super) async fn query<T>(&mut self, sql: &str) -> Result<Vec<T>, Error>
    where
        T: FromRow + Send + 'static,
    {
        self.conn.query(sql).await
    }

    /// Runs a query by the binary protocol, whose values lose nothing (floats in text do).
    pub(super) async fn read(&mut self, sql: Vec<u8>) -> Result<Vec<Row>, Error> {
        self.conn.exec(sql, ()).await
    }

    /// Runs statements that give no rows, separated by semicolons, in one round trip. The first that fails ends it: gives
    /// what those before came to, and its error.
    pub(super) async fn many(&mut self, sql: &[u8], count: usize) -> (Vec<Done>, Option<Error>) {
        let mut done = Vec::with_capacity(count);
        let mut result = match self.conn.query_iter(sql).await {
            Ok(result) => result,
            Err(error) => return (done, Some(error)),
        };
        for _ in 0..count {
            // The driver keeps an error of any statement but the first until its result is asked for.
            let this = Done { rows: result.affected_rows(), warnings: result.warnings() };
            match result.next().await {
                Ok(_) => done.push(this),
                Err(error) => return (done, Some(error)),
            }
        }
        let rest = result.drop_result().await;
        (done, rest.err())
    }

    /// Whether a name of a table in the catalog is the one that is meant.
    pub(super) fn same_name(&self, found: &str, meant: &str) -> bool {
        found == meant || (self.folds_names && found.to_lowercase() == meant.to_lowercase())
    }

    /// `TABLE_SCHEMA = '..' AND TABLE_NAME = '..'`
    pub(super) fn of_table(schema: &str, name: &str) -> String {
        format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", text(schema), text(name))
    }
}
