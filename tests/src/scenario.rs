//! A whole bridge: source, publisher, subscriber and target, with proxies where a test wants to break the line.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use crate::compare::{wait_until_equal, wait_until_sqlite_equal};
use crate::config::{Endpoint, Publisher, Subscriber};
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

/// Which servers a pair has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL to PostgreSQL, a cluster for each end.
    Postgres,
    /// SQLite to SQLite.
    Sqlite,
}

/// What a pair is made of.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// Which servers.
    pub kind: Kind,
    /// `source.tables`.
    pub tables: Vec<String>,
    /// The source cluster, when there is one.
    pub source: ClusterOptions,
    /// The target cluster, when there is one.
    pub target: ClusterOptions,
    /// A proxy between publisher and subscriber.
    pub http_proxy: bool,
    /// A proxy between publisher and source cluster.
    pub source_proxy: bool,
    /// A proxy between subscriber and target cluster.
    pub target_proxy: bool,
}

impl PairOptions {
    /// PostgreSQL to PostgreSQL, all of `public`.
    #[must_use]
    pub fn postgres() -> Self {
        Self::new(Kind::Postgres, "public.*")
    }

    /// SQLite to SQLite, all tables.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::new(Kind::Sqlite, "*")
    }

    fn new(kind: Kind, tables: &str) -> Self {
        Self {
            kind,
            tables: vec![tables.into()],
            source: ClusterOptions::default(),
            target: ClusterOptions::default(),
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

#[derive(Debug)]
enum End {
    Postgres(Cluster),
    Sqlite(SqliteFile),
}

impl End {
    async fn make(kind: Kind, name: &str, options: ClusterOptions) -> Self {
        match kind {
            Kind::Postgres => {
                let cluster = Cluster::start(options).await;
                cluster.create_database(DATABASE).await;
                Self::Postgres(cluster)
            }
            Kind::Sqlite => Self::Sqlite(SqliteFile::create(name)),
        }
    }

    fn proxy(&self, wanted: bool) -> Option<Proxy> {
        match self {
            Self::Postgres(cluster) if wanted => Some(Proxy::to_port(cluster.port())),
            _ => None,
        }
    }

    fn url(&self, proxy: Option<&Proxy>) -> String {
        match self {
            Self::Postgres(cluster) => match proxy {
                Some(proxy) => cluster.url_via(proxy.port(), DATABASE),
                None => cluster.url(DATABASE),
            },
            Self::Sqlite(file) => file.url(),
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
        let PairOptions { kind, tables, source, target, http_proxy, source_proxy, target_proxy } = options;
        let folder = tempfile::Builder::new().prefix("rowbridge-pair-").tempdir().unwrap();
        let (source, target) =
            tokio::join!(End::make(kind, "source", source), End::make(kind, "target", target));
        let source_proxy = source.proxy(source_proxy);
        let target_proxy = target.proxy(target_proxy);
        let port = free_port();
        let http_proxy = http_proxy.then(|| Proxy::to_port(port));
        let kind = match kind {
            Kind::Postgres => "postgres",
            Kind::Sqlite => "sqlite",
        };
        let secret = secret(7);
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let in_port = http_proxy.as_ref().map_or(port, Proxy::port);
        let publisher_config = Publisher::new(
            kind,
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
        let mut subscriber_config =
            Subscriber::new(kind, &target.url(target_proxy.as_ref()), port, &secret, free_port());
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

    /// Waits until tables, under one name at both ends, are equal row for row.
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
        let pairs: Vec<(&str, &str)> = tables.iter().map(|table| (*table, *table)).collect();
        match (&self.source, &self.target) {
            (End::Sqlite(source), End::Sqlite(target)) => {
                wait_until_sqlite_equal(source.path(), target.path(), &pairs, deadline).await;
            }
            _ => wait_until_equal(&self.source.url(None), &self.target.url(None), &pairs, deadline).await,
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
        End::Postgres(cluster) => cluster.execute(DATABASE, sql).await,
        End::Sqlite(file) => file.execute(sql),
    }
}

fn cluster(end: &End) -> &Cluster {
    match end {
        End::Postgres(cluster) => cluster,
        End::Sqlite(_) => panic!("this pair has no PostgreSQL"),
    }
}

fn file(end: &End) -> &SqliteFile {
    match end {
        End::Sqlite(file) => file,
        End::Postgres(_) => panic!("this pair has no SQLite"),
    }
}
