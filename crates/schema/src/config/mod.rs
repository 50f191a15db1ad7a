//! Configuration as checked types: what the rest of the program may rely on. The loader turns one TOML file into a
//! [`Config`] or into all of its errors at once.

pub mod address;
mod alert;
mod auth;
pub mod bytes;
pub mod defaults;
pub mod duration;
pub mod error;
mod load;
mod load_columns;
mod load_endpoint;
mod load_outbox;
mod load_publisher;
mod load_request;
mod load_subscriber;
mod load_webhook;
mod proxy;
mod reader;
mod request;
pub mod server_url;
mod substitute;
#[cfg(test)]
mod tests;
mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::event::outbox::OutboxConfig;
use crate::name::{EndpointName, StreamName};
use crate::pattern::TablePatterns;
use crate::secret::{Secret, SigningKey};
use crate::types::Form;

pub use address::AddressError;
pub use alert::{ALERT_KINDS, AlertConfig};
pub use auth::{Auth, AuthError, AuthMethod, ClientCredentials};
pub use error::{ConfigError, ConfigErrors, Problem};
pub use load::load;
pub use proxy::{ProxyError, ProxyUrl};
pub use request::{Compression, IdentityFiles, Rendered, RequestConfig, Templated};
pub use server_url::DatabaseUrlError;
pub use substitute::SubstituteError;
pub use webhook::{
    Batch, CloudEventsMode, EventFormat, Lines, OnPermanentError, Order, Rate, RetrySchedule, WebhookConfig,
    WebhookPolicy,
};

/// The commented default file: every key that works, with its default and its meaning.
pub const DEFAULT_TOML: &str = include_str!("../../../../config/rowbridge.default.toml");

/// One file: either end or both.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[publisher]`, `[source]`, `[journal]`, `[[endpoint]]`.
    pub publisher: Option<PublisherConfig>,
    /// `[subscriber]`, `[target]`, `[[receive]]`, `[[map]]`.
    pub subscriber: Option<SubscriberConfig>,
    /// `[admin]`; no listener if left out.
    pub admin: Option<AdminConfig>,
    /// How long a stop may take to finish the delivery in flight.
    pub shutdown_grace: Duration,
}

/// The publishing end.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// Namespace of positions.
    pub stream: StreamName,
    /// Journal and history.
    pub state_dir: PathBuf,
    /// Where changes come from.
    pub source: SourceConfig,
    /// The journal's bounds.
    pub journal: JournalConfig,
    /// `[attempts]`: how much is kept of what was sent to endpoints that are not Rowbridge.
    pub attempts: RetainConfig,
    /// `[dead_letters]`: how much is kept of what could not be sent.
    pub dead_letters: RetainConfig,
    /// Receivers, at least one, names unique.
    pub endpoints: Vec<EndpointConfig>,
    /// Who is told how endpoints are doing; names differ from those of endpoints.
    pub alerts: Vec<AlertConfig>,
}

/// Which database, by which driver.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    /// `postgres://`
    Postgres(ServerUrl),
    /// `mysql://`, MariaDB too.
    Mysql(ServerUrl),
    /// `sqlite:/path`
    Sqlite(PathBuf),
}

impl DatabaseUrl {
    /// Name of the database; empty where it has none (SQLite, a MySQL URL without one).
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(url) | Self::Mysql(url) => url.database.clone(),
            Self::Sqlite(_) => String::new(),
        }
    }
}

/// How a connection to a server is protected; the names are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it; nothing is verified.
    Prefer,
    /// TLS, nothing is verified.
    Require,
    /// TLS, the certificate's chain is verified.
    VerifyCa,
    /// TLS, chain and host name are verified.
    VerifyFull,
}

/// A parsed `postgres://` or `mysql://` URL.
#[derive(Debug, Clone)]
pub struct ServerUrl {
    /// Host name or address; or, starting with `/`, the folder of PostgreSQL's unix socket or the file of MySQL's.
    pub host: String,
    /// Port; 5432 or 3306 if left out.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password.
    pub password: Option<Secret>,
    /// Database. If left out: PostgreSQL the role's name, MySQL none (empty).
    pub database: String,
    /// `?sslmode=`; if left out `verify-full`, or `prefer` on unix sockets and on loopback without a root certificate.
    pub ssl_mode: SslMode,
    /// `?sslrootcert=`: PEM file of the authorities to trust instead of the system's.
    pub ssl_root_cert: Option<PathBuf>,
}

/// Whether existing rows are sent before changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Existing rows first (default).
    Initial,
    /// Only changes from now on.
    Never,
}

/// `[source]`
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Which database.
    pub database: DatabaseUrl,
    /// Which tables.
    pub tables: TablePatterns,
    /// Existing rows?
    pub snapshot: SnapshotMode,
    /// PostgreSQL slot; `rowbridge_STREAM` with `-` as `_`.
    pub slot: String,
    /// PostgreSQL publication; `rowbridge_STREAM` with `-` as `_`. The one for tables without identity adds `_inserts`.
    pub publication: String,
    /// Bytes up to which a source transaction is applied whole.
    pub max_transaction: u64,
    /// Tables whose new rows are messages; `tables` takes them all.
    pub outboxes: Vec<OutboxConfig>,
    /// PostgreSQL: which logical messages, by their prefixes; none if `None`.
    pub messages: Option<TablePatterns>,
    /// PostgreSQL: bytes of WAL that the slot may hold because of slow endpoints before the slowest one is detached.
    pub max_retained: Option<u64>,
    /// SQLite: most rows that the change log may hold before it marks itself overflowed.
    pub max_log_rows: u64,
}

/// When the source may forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmPolicy {
    /// When the change is on the journal's disk.
    Journaled,
    /// When every bridge endpoint has committed it.
    Delivered,
}

/// `[journal]`
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Most bytes of segments.
    pub max_bytes: u64,
    /// How long delivered blocks stay.
    pub retain: Duration,
    /// When the source may forget.
    pub confirm: ConfirmPolicy,
}

/// `[attempts]`, `[dead_letters]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainConfig {
    /// Most bytes of the file.
    pub max_bytes: u64,
    /// How long; `None`: for ever.
    pub retain: Option<Duration>,
}

impl RetainConfig {
    /// Least of `max_bytes`: some thousand attempts.
    pub(super) const MIN_BYTES: u64 = 1 << 20;
    /// Of attempts: a week, of a receiver that takes a hundred events a second some days.
    pub const ATTEMPTS: Self =
        Self { max_bytes: 256 << 20, retain: Some(Duration::from_secs(7 * 24 * 60 * 60)) };
    /// Of dead letters: until somebody looks after them. When there is no room, endpoints wait.
    pub const DEAD_LETTERS: Self = Self { max_bytes: 1 << 30, retain: None };
}

/// Where a new endpoint begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the existing rows (default of `bridge`).
    Snapshot,
    /// With the next change.
    Now,
}

/// `[[endpoint]]`
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Names the lane.
    pub name: EndpointName,
    /// Where to POST. Of a path that is a template only scheme, host and port.
    pub url: Url,
    /// Signing keys of a bridge, the newest first; two while rotating. Others have a [`RequestConfig::signer`].
    pub secrets: Vec<SigningKey>,
    /// Which of the captured tables; all if left out.
    pub tables: TablePatterns,
    /// Non-public networks that the URL's host may resolve to.
    pub allow_networks: Vec<IpNet>,
    /// PEM file of authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Covers the whole exchange of one attempt.
    pub timeout: Duration,
    /// Where it begins.
    pub start: Start,
    /// What holds for an endpoint that is not a Rowbridge subscriber; `None` for `format = "bridge"`.
    pub webhook: Option<Box<WebhookConfig>>,
}

/// The receiving end.
#[derive(Debug, Clone)]
pub struct SubscriberConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Peers whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where rows go.
    pub target: TargetConfig,
    /// Routes, at least one; paths and streams unique.
    pub receives: Vec<ReceiveConfig>,
    /// Deviations from "every table under its own name".
    pub maps: Vec<MapConfig>,
}

/// `[target]`
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// Which database.
    pub database: DatabaseUrl,
    /// Make missing schemas and tables.
    pub create: bool,
}

/// `[[receive]]`
#[derive(Debug, Clone)]
pub struct ReceiveConfig {
    /// Exact path, starts with `/`.
    pub path: String,
    /// Whose deliveries are taken here.
    pub stream: StreamName,
    /// Accepted keys.
    pub secrets: Vec<SigningKey>,
    /// Peers that may send; any with a valid signature if `None`.
    pub allow_from: Option<Vec<IpNet>>,
    /// Largest body, on the wire and inflated.
    pub max_body: u64,
    /// How far a timestamp may be off.
    pub tolerance: Duration,
}

/// What a delete does at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletePolicy {
    /// The row goes.
    Hard,
    /// The row stays, this column gets the time of the delete.
    Soft(String),
    /// Nothing.
    Ignore,
}

/// What becomes of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnMap {
    /// `note = false`
    Drop,
    /// `customer_id = "client_id"`
    Rename(String),
    /// `customer_id = { to = "client_id", as = "text" }`
    Convert {
        /// Another name.
        to: Option<String>,
        /// What the values are written as.
        form: Form,
    },
}

/// `[[map]]`
#[derive(Debug, Clone)]
pub struct MapConfig {
    /// Raw `schema.table` at the source.
    pub from: String,
    /// Raw `schema.table` or `table` at the target.
    pub to: String,
    /// Columns that differ.
    pub columns: Vec<(String, ColumnMap)>,
    /// What a delete does.
    pub delete: DeletePolicy,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
}
