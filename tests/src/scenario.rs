//! A whole bridge: source, publisher, subscriber and target, with proxies where a test wants to break the line.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use crate::compare::{
    Place, Side, wait_until_crossing_equal, wait_until_equal, wait_until_mariadb_equal,
    wait_until_sqlite_equal,
};
use crate::config::{Endpoint, Publisher, Subscriber};
use crate::mariadb::{Product, Server, ServerOptions};
use crate::metrics::http_client;
use crate::port::free_port;
use crate::postgres::{Cluster, ClusterOptions};
use crate::process::{Daemon, DaemonOptions};
use crate::proxy::Proxy;
use crate::sqlite::SqliteFile;
use crate::wait::{self, DEADLINE};
use crate::webhook::secret;

/// Name of the database at both ends.
pub const DATABASE: &str = "shop";

/// Name of the bridge endpoint.
pub const ENDPOINT: &str = "copy";

/// Which server an end has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB, a server of its own; or MySQL, if the options say so.
    Mariadb,
    /// PostgreSQL, a cluster of its own.
    Postgres,
    /// SQLite, a file of its own.
    Sqlite,
}

impl Kind {
    /// `source.kind`, `target.kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mariadb => "mysql",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// What a pair is made of.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// The source's server.
    pub kind: Kind,
    /// The target's server.
    pub target_kind: Kind,
    /// `source.tables`.
    pub tables: Vec<String>,
    /// The source cluster, when there is one.
    pub source: ClusterOptions,
    /// The target cluster, when there is one.
    pub target: ClusterOptions,
    /// The source server, when it is MariaDB.
    pub source_server: ServerOptions,
    /// The target server, when it is MariaDB.
    pub target_server: ServerOptions,
    /// A proxy between publisher and subscriber.
    pub http_proxy: bool,
    /// A proxy between publisher and source server.
    pub source_proxy: bool,
    /// A proxy between subscriber and target server.
    pub target_proxy: bool,
}

impl PairOptions {
    /// PostgreSQL to PostgreSQL, all of `public`.
    #[must_use]
    pub fn postgres() -> Self {
        Self::new(Kind::Postgres, "public.*")
    }

    /// MariaDB to MariaDB, all of [`DATABASE`].
    #[must_use]
    pub fn mariadb() -> Self {
        Self::crossing(Kind::Mariadb, Kind::Mariadb)
    }

    /// From one kind of database to another, all tables.
    #[must_use]
    pub fn crossing(source: Kind, target: Kind) -> Self {
        let tables = match source {
            Kind::Mariadb => "shop.*",
            Kind::Postgres => "public.*",
            Kind::Sqlite => "*",
        };
        Self { target_kind: target, ..Self::new(source, tables) }
    }

    /// SQLite to SQLite, all tables.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::new(Kind::Sqlite, "*")
    }

    fn new(kind: Kind, tables: &str) -> Self {
        Self {
            kind,
            target_kind: kind,
            tables: vec![tables.into()],
            source: ClusterOptions::default(),
            target: ClusterOptions::default(),
            source_server: ServerOptions::default(),
            target_server: ServerOptions::default(),
            http_proxy: false,
            source_proxy: false,
            target_proxy: false,
        }
    }

    /// Puts a proxy between publisher and subscriber.
    #[must_use]
    pub fn with_http_proxy(mut self) -> Self {
        self.http_proxy = true;
        self
    }

    /// Puts proxies before both database servers.
    #[must_use]
    pub fn with_database_proxies(mut self) -> Self {
        (self.source_proxy, self.target_proxy) = (true, true);
        self
    }
}

/// Who Rowbridge is in MariaDB, with the privileges that docs/roles.md names for each end and no others.
const USER: &str = "rowbridge";
const PASSWORD: &str = "s3cret";

#[derive(Debug)]
enum End {
    Mariadb(Server),
    Postgres(Cluster),
    Sqlite(SqliteFile),
}

impl End {
    async fn make(kind: Kind, side: Side, cluster: ClusterOptions, server: ServerOptions) -> Self {
        match kind {
            Kind::Mariadb => {
                let server = Server::start(server).await;
                server.create_database(DATABASE).await;
                let all = |privileges: &str| format!("{privileges} ON {DATABASE}.*");
                let grants = match (side, server.product()) {
                    (Side::Source, Product::MariaDb) => {
                        ["REPLICATION SLAVE, BINLOG MONITOR ON *.*".into(), all("SELECT, LOCK TABLES")]
                    }
                    (Side::Source, Product::MySql) => {
                        ["REPLICATION SLAVE, REPLICATION CLIENT ON *.*".into(), all("SELECT, LOCK TABLES")]
                    }
                    (Side::Target, _) => [all("SELECT, INSERT, UPDATE, DELETE"), all("CREATE, DROP")],
                };
                let grants = grants.each_ref().map(String::as_str);
                server.create_user(USER, PASSWORD, &grants).await;
                Self::Mariadb(server)
            }
            Kind::Postgres => {
                let cluster = Cluster::start(cluster).await;
                cluster.create_database(DATABASE).await;
                Self::Postgres(cluster)
            }
            Kind::Sqlite => Self::Sqlite(SqliteFile::create(&side.to_string())),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Mariadb(_) => Kind::Mariadb,
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite(_) => Kind::Sqlite,
        }
    }

    async fn restart(&self) {
        match self {
            Self::Mariadb(server) => server.restart().await,
            Self::Postgres(cluster) => cluster.restart().await,
            Self::Sqlite(_) => {}
        }
    }

    async fn crash(&self) {
        match self {
            Self::Mariadb(server) => {
                server.kill9();
                server.start_again().await;
            }
            Self::Postgres(cluster) => {
                cluster.kill9();
                cluster.start_again().await;
            }
            Self::Sqlite(_) => {}
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Mariadb(server) => Some(server.pid()),
            Self::Postgres(cluster) => Some(cluster.pid()),
            Self::Sqlite(_) => None,
        }
    }

    fn proxy(&self, wanted: bool) -> Option<Proxy> {
        match self {
            Self::Mariadb(server) if wanted => Some(Proxy::to_port(server.port())),
            Self::Postgres(cluster) if wanted => Some(Proxy::to_port(cluster.port())),
            _ => None,
        }
    }

    fn url(&self, proxy: Option<&Proxy>) -> String {
        match self {
            Self::Mariadb(server) => {
                let port = proxy.map_or(server.port(), Proxy::port);
                server.url_of_via(port, USER, PASSWORD, DATABASE)
            }
            Self::Postgres(cluster) => match proxy {
                Some(proxy) => cluster.url_via(proxy.port(), DATABASE),
                None => cluster.url(DATABASE),
            },
            Self::Sqlite(file) => file.url(),
        }
    }

    /// The URL for tests, who may do everything.
    fn own_url(&self) -> String {
        match self {
            Self::Mariadb(server) => server.url(DATABASE),
            _ => self.url(None),
        }
    }

    fn place<'a>(&'a self, own_url: &'a str) -> Place<'a> {
        match self {
            Self::Mariadb(_) => Place::Mariadb(own_url),
            Self::Postgres(_) => Place::Postgres(own_url),
            Self::Sqlite(file) => Place::Sqlite(file.path()),
        }
    }

    /// The copy of a source's table: schemas of PostgreSQL and databases of MySQL have the same name in the other one, and
    /// SQLite has neither, nor is there more than one database where a MySQL target's URL names it.
    fn copy_of(&self, source: &Self, table: &str) -> String {
        let (schema, name) = match table.split_once('.') {
            Some((schema, name)) if !matches!(source, Self::Sqlite(_)) => (Some(schema), name),
            _ => (None, table),
        };
        match (self, source) {
            (Self::Postgres(_), Self::Mariadb(_)) => format!("{}.{name}", schema.unwrap_or(DATABASE)),
            (Self::Postgres(_), _) => format!("{}.{name}", schema.unwrap_or("public")),
            (Self::Mariadb(_), _) => format!("{DATABASE}.{name}"),
            (Self::Sqlite(_), _) => name.to_owned(),
        }
    }
}

/// A bridge from one private database to another. Fields fall in the order that ends it cleanly: daemons first.
#[derive(Debug)]
pub struct Pair {
    publisher: Daemon,
    subscriber: Daemon,
    http_proxy: Option<Proxy>,
    source_proxy: Option<Proxy>,
    target_proxy: Option<Proxy>,
    source: End,
    target: End,
    /// The publisher's file; change it, then [`Self::write_configs`].
    pub publisher_config: Publisher,
    /// The subscriber's file; change it, then [`Self::write_configs`].
    pub subscriber_config: Subscriber,
    folder: TempDir,
}

impl Pair {
    /// Makes servers, proxies and configuration files, and starts no daemon yet: the test may fill the databases and
    /// change the configurations before.
    pub async fn prepare(options: PairOptions) -> Self {
        let PairOptions { kind, target_kind, tables, http_proxy, source_proxy, target_proxy, .. } = options;
        let folder = tempfile::Builder::new().prefix("rowbridge-pair-").tempdir().unwrap();
        let (source, target) = tokio::join!(
            End::make(kind, Side::Source, options.source, options.source_server),
            End::make(target_kind, Side::Target, options.target, options.target_server)
        );
        let source_proxy = source.proxy(source_proxy);
        let target_proxy = target.proxy(target_proxy);
        let port = free_port();
        let http_proxy = http_proxy.then(|| Proxy::to_port(port));
        let secret = secret(7);
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let in_port = http_proxy.as_ref().map_or(port, Proxy::port);
        let publisher_config = Publisher::new(
            kind.name(),
            &source.url(source_proxy.as_ref()),
            &tables,
            &folder.path().join("state"),
            free_port(),
        )
        .endpoint(Endpoint::bridge(
            ENDPOINT,
            &format!("http://127.0.0.1:{in_port}/in/shop"),
            &secret,
        ));
        let mut subscriber_config = Subscriber::new(
            target_kind.name(),
            &target.url(target_proxy.as_ref()),
            port,
            &secret,
            free_port(),
        );
        subscriber_config.target_extra = "create = true".into();
        let publisher = DaemonOptions::run("publisher", &folder.path().join("publisher.toml"));
        let subscriber = DaemonOptions::run("subscriber", &folder.path().join("subscriber.toml"));
        let pair = Self {
            publisher: Daemon::new(publisher),
            subscriber: Daemon::new(subscriber),
            http_proxy,
            source_proxy,
            target_proxy,
            source,
            target,
            publisher_config,
            subscriber_config,
            folder,
        };
        pair.write_configs();
        pair
    }

    /// Writes both configuration files again.
    pub fn write_configs(&self) {
        std::fs::write(self.publisher_path(), self.publisher_config.text()).unwrap();
        std::fs::write(self.subscriber_path(), self.subscriber_config.text()).unwrap();
    }

    /// Starts both daemons, the subscriber first, and waits until both say that they are ready.
    pub async fn start(&self) {
        self.subscriber.start();
        self.wait_subscriber().await;
        self.publisher.start();
        self.wait_publisher().await;
    }

    /// Waits until the publisher is ready.
    pub async fn wait_publisher(&self) {
        wait_ready(&self.publisher, self.publisher_config.admin_port).await;
    }

    /// Waits until the subscriber is ready and listens.
    pub async fn wait_subscriber(&self) {
        wait_ready(&self.subscriber, self.subscriber_config.admin_port).await;
        let port = self.subscriber_config.port;
        wait::until("the subscriber's port", DEADLINE, || async move {
            let connected = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// The publisher.
    #[must_use]
    pub fn publisher(&self) -> &Daemon {
        &self.publisher
    }

    /// The subscriber.
    #[must_use]
    pub fn subscriber(&self) -> &Daemon {
        &self.subscriber
    }

    /// The publisher's configuration file.
    #[must_use]
    pub fn publisher_path(&self) -> PathBuf {
        self.folder.path().join("publisher.toml")
    }

    /// The subscriber's configuration file.
    #[must_use]
    pub fn subscriber_path(&self) -> PathBuf {
        self.folder.path().join("subscriber.toml")
    }

    /// The publisher's `state_dir`.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.publisher_config.state_dir
    }

    /// The proxy between publisher and subscriber.
    ///
    /// # Panics
    /// When the options asked for none; as do its siblings.
    #[must_use]
    pub fn http_proxy(&self) -> &Proxy {
        self.http_proxy.as_ref().expect("the options asked for no proxy between publisher and subscriber")
    }

    /// The proxy before the source cluster.
    #[must_use]
    pub fn source_proxy(&self) -> &Proxy {
        self.source_proxy.as_ref().expect("the options asked for no proxy before the source")
    }

    /// The proxy before the target cluster.
    #[must_use]
    pub fn target_proxy(&self) -> &Proxy {
        self.target_proxy.as_ref().expect("the options asked for no proxy before the target")
    }

    /// The source's kind.
    #[must_use]
    pub fn source_kind(&self) -> Kind {
        self.source.kind()
    }

    /// The target's kind.
    #[must_use]
    pub fn target_kind(&self) -> Kind {
        self.target.kind()
    }

    /// The source's server, the first of its processes. A file has none.
    #[must_use]
    pub fn source_pid(&self) -> Option<u32> {
        self.source.pid()
    }

    /// The target's server, the first of its processes. A file has none.
    #[must_use]
    pub fn target_pid(&self) -> Option<u32> {
        self.target.pid()
    }

    /// Stops both database servers in order and starts them again, one after the other. A file needs none.
    pub async fn restart_servers(&self) {
        self.restart_source().await;
        self.restart_target().await;
    }

    /// Stops the source's server in order and starts it again.
    pub async fn restart_source(&self) {
        self.source.restart().await;
    }

    /// Stops the target's server in order and starts it again.
    pub async fn restart_target(&self) {
        self.target.restart().await;
    }

    /// Kills the source's server as a power cut would, and starts it again.
    pub async fn crash_source(&self) {
        self.source.crash().await;
    }

    /// Kills the target's server as a power cut would, and starts it again.
    pub async fn crash_target(&self) {
        self.target.crash().await;
    }

    /// The source cluster of a PostgreSQL pair.
    #[must_use]
    pub fn source_cluster(&self) -> &Cluster {
        cluster(&self.source)
    }

    /// The target cluster of a PostgreSQL pair.
    #[must_use]
    pub fn target_cluster(&self) -> &Cluster {
        cluster(&self.target)
    }

    /// The source server of a MariaDB pair.
    #[must_use]
    pub fn source_server(&self) -> &Server {
        server(&self.source)
    }

    /// The target server of a MariaDB pair.
    #[must_use]
    pub fn target_server(&self) -> &Server {
        server(&self.target)
    }

    /// The source file of an SQLite pair.
    #[must_use]
    pub fn source_file(&self) -> &SqliteFile {
        file(&self.source)
    }

    /// The target file of an SQLite pair.
    #[must_use]
    pub fn target_file(&self) -> &SqliteFile {
        file(&self.target)
    }

    /// A new session at the source, past the proxy.
    pub async fn source(&self) -> Client {
        self.source_cluster().connect(DATABASE).await
    }

    /// A new session at the target, past the proxy.
    pub async fn target(&self) -> Client {
        self.target_cluster().connect(DATABASE).await
    }

    /// Runs statements at the source.
    pub async fn source_execute(&self, sql: &str) {
        execute(&self.source, sql).await;
    }

    /// Runs statements at the target.
    pub async fn target_execute(&self, sql: &str) {
        execute(&self.target, sql).await;
    }

    /// The name of a table's copy at the target, where it needs one in SQL of its own.
    #[must_use]
    pub fn copy_of(&self, table: &str) -> String {
        self.target.copy_of(&self.source, table)
    }

    /// Waits until tables, named as at the source, are equal row for row to their copies.
    ///
    /// # Panics
    /// After [`DEADLINE`], with the difference.
    pub async fn wait_equal(&self, tables: &[&str]) {
        self.wait_equal_within(tables, DEADLINE).await;
    }

    /// As [`Self::wait_equal`] with another deadline.
    ///
    /// # Panics
    /// At the deadline, with the difference and the last lines of both daemons.
    pub async fn wait_equal_within(&self, tables: &[&str], deadline: Duration) {
        let copies: Vec<String> = tables.iter().map(|table| self.copy_of(table)).collect();
        let pairs: Vec<(&str, &str)> =
            tables.iter().zip(&copies).map(|(table, copy)| (*table, copy.as_str())).collect();
        let (from, to) = (&self.source.own_url(), &self.target.own_url());
        match (&self.source, &self.target) {
            (End::Mariadb(_), End::Mariadb(_)) => {
                wait_until_mariadb_equal(from, to, &pairs, deadline).await;
            }
            (End::Postgres(_), End::Postgres(_)) => wait_until_equal(from, to, &pairs, deadline).await,
            (End::Sqlite(source), End::Sqlite(target)) => {
                wait_until_sqlite_equal(source.path(), target.path(), &pairs, deadline).await;
            }
            (source, target) => {
                wait_until_crossing_equal(source.place(from), target.place(to), &pairs, deadline).await;
            }
        }
    }
}

async fn wait_ready(daemon: &Daemon, admin_port: u16) {
    let url = &format!("http://127.0.0.1:{admin_port}/readyz");
    let client = &http_client();
    wait::until("a ready daemon", DEADLINE, || async move {
        if let Some(status) = daemon.exit_status() {
            panic!("the daemon ended ({status}); {}", daemon.last_lines());
        }
        let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        if status == 200 {
            return Ok(());
        }
        Err(format!("{url}: status {status}: {}", answer.text().await.unwrap_or_default()))
    })
    .await;
}

async fn execute(end: &End, sql: &str) {
    match end {
        End::Mariadb(server) => server.execute(DATABASE, sql).await,
        End::Postgres(cluster) => cluster.execute(DATABASE, sql).await,
        End::Sqlite(file) => file.execute(sql),
    }
}

fn server(end: &End) -> &Server {
    let End::Mariadb(server) = end else { panic!("this pair has no MariaDB here") };
    server
}

fn cluster(end: &End) -> &Cluster {
    let End::Postgres(cluster) = end else { panic!("this pair has no PostgreSQL here") };
    cluster
}

fn file(end: &End) -> &SqliteFile {
    let End::Sqlite(file) = end else { panic!("this pair has no SQLite here") };
    file
}
