//! SQL connections to a MySQL or MariaDB source: catalog, questions to the server, snapshots, and what becomes the binlog
//! stream.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use rowbridge_schema::config::{ServerUrl, SslMode};
use rowbridge_schema::tls::{self, TlsError};

use super::error::MysqlError;

/// Sockets that servers make in their folder.
const SOCKET_NAMES: [&str; 3] = ["mysqld.sock", "mysql.sock", "mariadb.sock"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client of the binlog must take: a replica's own bound (`slave_max_allowed_packet`).
const MAX_PACKET: usize = 1 << 30;

/// Which of the two it is; they differ in GTIDs, in events and in some types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// MySQL 8 and later.
    Mysql,
    /// MariaDB 10.6 and later.
    Mariadb,
}

/// A server as it names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which of the two.
    pub flavour: Flavour,
    /// Major, minor, patch.
    pub version: (u16, u16, u16),
    /// `@@version`
    pub text: String,
}

impl Server {
    /// Reads `@@version`. MariaDB names itself there.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let flavour =
            if text.to_ascii_lowercase().contains("mariadb") { Flavour::Mariadb } else { Flavour::Mysql };
        // Replication made MariaDB call itself 5.5.5-10.x for years.
        let number = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self { flavour, version: (next(), next(), next()), text: text.to_owned() }
    }

    /// Whether this is MariaDB.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.flavour == Flavour::Mariadb
    }

    /// The statement that shows where the log ends; MySQL 8.4 dropped the old words.
    #[must_use]
    pub fn log_status_statement(&self) -> &'static str {
        if self.is_mariadb() || self.version < (8, 2, 0) {
            "SHOW MASTER STATUS"
        } else {
            "SHOW BINARY LOG STATUS"
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_mariadb() { "MariaDB" } else { "MySQL" };
        let (major, minor, patch) = self.version;
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}

/// A connection with our settings.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub conn: Conn,
    /// Who answered.
    pub server: Server,
}

/// How to reach the source.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Address, user and TLS mode.
    pub url: ServerUrl,
    tls: Option<SslOpts>,
}

impl Connector {
    /// Reads what the URL names: certificates of its `sslrootcert`, else the system's where they are verified.
    ///
    /// # Errors
    /// Authorities that cannot be used.
    pub fn new(url: &ServerUrl) -> Result<Self, TlsError> {
        Ok(Self { url: url.clone(), tls: ssl_opts(url)? })
    }

    fn options(&self, tls: Option<SslOpts>) -> Opts {
        let url = &self.url;
        let database = Some(url.database.clone()).filter(|database| !database.is_empty());
        let builder = OptsBuilder::default()
            .user(Some(url.user.clone()))
            .pass(url.password.as_ref().map(|password| password.expose().to_owned()))
            .db_name(database)
            // A socket that the server names may be another server's in our mount namespace.
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .tcp_nodelay(true)
            .max_allowed_packet(Some(MAX_PACKET))
            .wait_timeout(Some(28_800))
            .ssl_opts(tls);
        if url.is_unix_socket() {
            return builder.socket(Some(socket(&url.host))).into();
        }
        builder.ip_or_hostname(url.host.clone()).tcp_port(url.port).into()
    }

    /// Opens a session with our settings: UTC, UTF-8, a fixed SQL mode, no time limits.
    ///
    /// # Errors
    /// `Connect`, classed by the server's code.
    pub async fn connect(&self) -> Result<Session, MysqlError> {
        let failed = |source| MysqlError::Connect { at: self.at(), source };
        let mut conn = match open(self.options(self.tls.clone())).await {
            Err(error) if self.url.ssl_mode == SslMode::Prefer && self.tls.is_some() && is_tls(&error) => {
                open(self.options(None)).await.map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let text: Option<String> =
            conn.query_first("SELECT @@version").await.map_err(MysqlError::query("read the version"))?;
        let server = Server::parse(&text.unwrap_or_default());
        let limit = if server.is_mariadb() { "max_statement_time" } else { "max_execution_time" };
        // The role's or server's own defaults must not rule the text of values. Nobody reads while the journal is full: the
        // server's patience is as long as that takes.
        let settings = format!(
            "SET NAMES utf8mb4; SET SESSION time_zone = '+00:00', \
             sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', {limit} = 0, \
             net_write_timeout = 31536000, wait_timeout = 28800"
        );
        for statement in settings.split("; ") {
            conn.query_drop(statement).await.map_err(MysqlError::query("set up a session"))?;
        }
        Ok(Session { conn, server })
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn at(&self) -> String {
        if self.url.is_unix_socket() {
            return self.url.host.clone();
        }
        format!("{}:{}", self.url.host, self.url.port)
    }
}

async fn open(options: Opts) -> mysql_async::Result<Conn> {
    match tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(options)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::Io(IoError::Io(std::io::ErrorKind::TimedOut.into()))),
    }
}

/// Whether TLS itself is what failed, so that `prefer` may go on without.
fn is_tls(error: &Error) -> bool {
    matches!(error, Error::Driver(DriverError::NoClientSslFlagFromServer) | Error::Io(IoError::Tls(_)))
        || matches!(error, Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData)
}

fn socket(host: &str) -> String {
    let folder = Path::new(host);
    if !folder.is_dir() {
        return host.to_owned();
    }
    let found = SOCKET_NAMES.iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| folder.join(SOCKET_NAMES[0])).to_string_lossy().into_owned()
}

fn ssl_opts(url: &ServerUrl) -> Result<Option<SslOpts>, TlsError> {
    if url.is_unix_socket() {
        return Ok(None);
    }
    let unverified = || SslOpts::default().with_danger_accept_invalid_certs(true);
    let verified = match url.ssl_mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer | SslMode::Require => return Ok(Some(unverified())),
        SslMode::VerifyCa => SslOpts::default().with_danger_skip_domain_validation(true),
        SslMode::VerifyFull => SslOpts::default(),
    };
    let pem = url.ssl_root_cert.as_deref().map(|path| std::fs::read(path).unwrap_or_default());
    // The same checks, and the same words, as for the other servers.
    tls::postgres_client(url.ssl_mode, pem.as_deref())?;
    let roots = match pem {
        Some(pem) => vec![pem.into()],
        None => {
            let mut readable = rustls::RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs().certs;
            let usable = found.into_iter().filter(|cert| readable.add(cert.clone()).is_ok());
            usable.map(|cert| cert.to_vec().into()).collect()
        }
    };
    Ok(Some(verified.with_disable_built_in_roots(true).with_root_certs(roots)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_are_read() {
        let mariadb = Server::parse("10.11.19-MariaDB-0+deb12u1-log");
        assert_eq!((mariadb.flavour, mariadb.version), (Flavour::Mariadb, (10, 11, 19)));
        assert_eq!(Server::parse("5.5.5-10.6.1-MariaDB").version, (10, 6, 1));
        let mysql = Server::parse("9.7.4-0debian");
        assert_eq!(
            (mysql.flavour, mysql.version, mysql.to_string().as_str()),
            (Flavour::Mysql, (9, 7, 4), "MySQL 9.7.4")
        );
        assert_eq!(mysql.log_status_statement(), "SHOW BINARY LOG STATUS");
        assert_eq!(Server::parse("8.0.44").log_status_statement(), "SHOW MASTER STATUS");
        assert_eq!(Server::parse("").version, (0, 0, 0));
    }
}
