//! Private MariaDB and MySQL servers with a row-based binary log: started, stopped, killed, backed up and restored by the
//! test that owns them. The twin of [`crate::postgres`].
//!
//! One module for both, since a test drives them alike; where they differ, a `match` on [`Product`] says how.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Row};
use tempfile::TempDir;

use crate::files::{cached, copy_tree, ids_of, own_uid, owned_temp_dir, run, successful, tail};
use crate::port::free_port;
use crate::process::{RunAs, client_output, guarded, signal, spawn_guarded, wait_child};
use crate::versions::set_up;

/// A loaded machine starts a server in under a second; recovery after a kill may take longer.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// The GTID domain of a server that a test does not give another: not 0, so that code which takes 0 for granted fails.
pub const GTID_DOMAIN: u32 = 7;

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// MariaDB: GTIDs such as `7-10042-12`, always there.
    MariaDb,
    /// MySQL: GTID sets such as `3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5`, off unless switched on;
    /// `caching_sha2_password` for all users.
    MySql,
}

/// Which server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MariaDB as it is installed; 10.5 or newer.
    #[default]
    Installed,
    /// MariaDB 11, by `tests/servers mariadb11`.
    MariaDb11,
    /// MySQL 9, by `tests/servers mysql9`.
    MySql9,
}

impl Version {
    /// Whose it is.
    #[must_use]
    pub fn product(self) -> Product {
        match self {
            Self::Installed | Self::MariaDb11 => Product::MariaDb,
            Self::MySql9 => Product::MySql,
        }
    }

    /// Its name in `tests/servers`, when it comes from there.
    fn set_up_as(self) -> Option<&'static str> {
        match self {
            Self::Installed => None,
            Self::MariaDb11 => Some("mariadb11"),
            Self::MySql9 => Some("mysql9"),
        }
    }
}

/// What differs from the usual test server.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Which server; the installed MariaDB unless made by [`Self::of`].
    pub version: Version,
    /// Whether commits and the binary log reach the disk. Off for speed: what was committed survives a kill of the
    /// process then too, but not of the machine.
    pub fsync: bool,
    /// Further settings, for example `("binlog_row_image", "MINIMAL")`; they win over ours.
    pub settings: Vec<(String, String)>,
}

impl ServerOptions {
    /// A server of another version. When `tests/servers` has not set it up, a line says so, and a test of that version
    /// has nothing to do.
    #[must_use]
    pub fn of(version: Version) -> Option<Self> {
        if let Some(name) = version.set_up_as() {
            set_up(name)?;
        }
        Some(Self { version, ..Self::default() })
    }

    /// MySQL without GTIDs, as it is by its own defaults. MariaDB cannot do without, and stays as it is.
    #[must_use]
    pub fn without_gtids(self) -> Self {
        match self.version.product() {
            Product::MariaDb => self,
            Product::MySql => self.set("gtid_mode", "OFF").set("enforce_gtid_consistency", "OFF"),
        }
    }

    /// Commits are durable.
    #[must_use]
    pub fn durable() -> Self {
        Self { fsync: true, ..Self::default() }
    }

    /// Adds a setting: a flag of the server, with or without dashes in its name.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A private server on 127.0.0.1, user `root`, no password. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Server {
    install: &'static Install,
    options: ServerOptions,
    port: u16,
    child: Mutex<Option<Child>>,
    folder: TempDir,
}

/// A copy of a stopped server's data folder, binary logs included.
#[derive(Debug)]
pub struct Backup {
    folder: TempDir,
}

/// Where the binary log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogPosition {
    /// File name, for example `bin.000001`.
    pub file: String,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// MariaDB's `gtid_binlog_pos`, for example `7-10042-12`, or MySQL's `gtid_executed`, a set in one line. Empty before
    /// the first transaction, and without GTIDs.
    pub gtid: String,
}

/// The programs of one version.
#[derive(Debug)]
struct Install {
    product: Product,
    /// The folder above `bin` and `sbin`.
    prefix: PathBuf,
    version: String,
    /// The server refuses to run as root.
    run_as: Option<RunAs>,
    /// Owner of its files, when that is somebody else.
    owner: Option<(u32, u32)>,
}

impl Server {
    /// Starts a fresh server and waits until it answers.
    ///
    /// # Panics
    /// When the server is missing or does not start, with the tail of its log.
    pub async fn start(options: ServerOptions) -> Self {
        let install = Install::find(options.version);
        let folder = install.temp_dir();
        copy_tree(&install.template(), &folder.path().join("data"));
        let server = Self { install, port: free_port(), child: Mutex::new(None), folder, options };
        server.start_again().await;
        server
    }

    /// The settings, as arguments of the server.
    fn arguments(&self) -> Vec<String> {
        let in_folder = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let mut arguments = self.install.arguments();
        let mut set =
            |name: &str, value: &str| arguments.push(format!("--{}={value}", name.replace('_', "-")));
        set("datadir", &in_folder("data"));
        set("socket", &in_folder("socket"));
        set("pid_file", &in_folder("pid"));
        set("tmpdir", &in_folder(""));
        set("port", &self.port.to_string());
        set("bind_address", "127.0.0.1");
        // The servers of a test must differ, and ports do.
        set("server_id", &self.port.to_string());
        set("log_bin", "bin");
        set("binlog_row_image", "FULL");
        set("binlog_row_metadata", "FULL");
        match self.install.product {
            Product::MariaDb => {
                set("binlog_format", "ROW");
                set("gtid_domain_id", &GTID_DOMAIN.to_string());
            }
            Product::MySql => {
                set("gtid_mode", "ON");
                set("enforce_gtid_consistency", "ON");
                // A second protocol on a fixed port.
                set("mysqlx", "OFF");
            }
        }
        set("sync_binlog", if self.options.fsync { "1" } else { "0" });
        // 2: to the operating system at each commit, to the disk once a second.
        set("innodb_flush_log_at_trx_commit", if self.options.fsync { "1" } else { "2" });
        set("innodb_buffer_pool_size", "64M");
        set("character_set_server", "utf8mb4");
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        arguments
    }

    /// Starts a stopped server on the port it had before, and waits until it answers. Recovery is included.
    ///
    /// # Panics
    /// When it runs already, or does not answer within a minute.
    pub async fn start_again(&self) {
        assert!(self.child.lock().unwrap().is_none(), "the server is already running");
        let started = Instant::now();
        loop {
            let mut child = self.launch();
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    // A port that was just in use may linger, and so may the locks of a process that is being killed.
                    let tail = self.log_tail(30);
                    let passing = ["Address already in use", "Unable to lock"];
                    let again = passing.iter().any(|text| tail.contains(text));
                    assert!(
                        again && started.elapsed() < START_DEADLINE,
                        "the server ended ({status}) at its start:\n{tail}"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                match connect(&self.url("")).await {
                    // Dropped, it would be logged as aborted.
                    Ok(session) => drop(session.disconnect().await),
                    // Any answer of the server will do, since one that a test has changed may know no root.
                    Err(mysql_async::Error::Server(_)) => {}
                    Err(error) if started.elapsed() >= START_DEADLINE => {
                        let _ = child.kill();
                        let _ = child.wait();
                        let log = self.log_tail(30);
                        panic!("the server does not answer after {START_DEADLINE:?}: {error:?}\n{log}");
                    }
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
                *self.child.lock().unwrap() = Some(child);
                return;
            }
        }
    }

    fn launch(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = guarded(&self.install.server(), self.install.run_as.as_ref());
        command.args(self.arguments()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        spawn_guarded(command)
    }

    /// Whose server it is.
    #[must_use]
    pub fn product(&self) -> Product {
        self.install.product
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    ///
    /// # Panics
    /// When the server is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("the server is stopped").id()
    }

    /// A connection URL; an empty database is none.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_via(self.port, database)
    }

    /// A connection URL through another port, where a proxy listens.
    #[must_use]
    pub fn url_via(&self, port: u16, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{port}/{database}")
    }

    /// A connection URL of a user made by [`Self::create_user`]. The password is put in as it is.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        self.url_of_via(self.port, user, password, database)
    }

    /// As [`Self::url_of`], through another port.
    #[must_use]
    pub fn url_of_via(&self, port: u16, user: &str, password: &str, database: &str) -> String {
        format!("mysql://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Whether the server process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A new session; an empty database is none.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn connect(&self, database: &str) -> Conn {
        match connect(&self.url(database)).await {
            Ok(session) => session,
            Err(error) => panic!("cannot connect to {database}: {error:?}\n{}", self.log_tail(20)),
        }
    }

    /// Makes an empty database.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create_database(&self, name: &str) {
        self.execute("", &format!("CREATE DATABASE `{name}`")).await;
    }

    /// Makes a user who may come from anywhere, with privileges such as `REPLICATION SLAVE, SELECT ON *.*`. Each text
    /// becomes one GRANT.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create_user(&self, name: &str, password: &str, grants: &[&str]) {
        self.execute("", &format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'")).await;
        for grant in grants {
            self.execute("", &format!("GRANT {grant} TO '{name}'@'%'")).await;
        }
    }

    /// Runs one or several statements in a session of its own.
    ///
    /// # Panics
    /// When one fails, with the server's message.
    pub async fn execute(&self, database: &str, sql: &str) {
        let mut session = self.connect(database).await;
        if let Err(error) = session.query_drop(sql).await {
            panic!("{sql}: {error:?}");
        }
        // Dropped, it would be closed at some time later, and be counted by tests that look at sessions.
        let _ = session.disconnect().await;
    }

    /// The rows of a query, in a session of its own. Values are text, as the text protocol has them.
    ///
    /// # Panics
    /// When it fails, with the server's message.
    pub async fn query(&self, database: &str, sql: &str) -> Vec<Row> {
        let mut session = self.connect(database).await;
        let rows = session.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let _ = session.disconnect().await;
        rows
    }

    /// One value as text: the first column of the first row. `None` for NULL or no row.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn query_text(&self, database: &str, sql: &str) -> Option<String> {
        let rows = self.query(database, sql).await;
        let bytes: Option<Vec<u8>> = rows.first()?.get(0)?;
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs SQL, client commands such as `DELIMITER` included, by `mariadb` or `mysql`; gives its tab-separated output without
    /// headings. NULL is `NULL` there.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub async fn script(&self, database: &str, sql: &str) -> String {
        let name = match self.install.product {
            Product::MariaDb => "mariadb",
            Product::MySql => "mysql",
        };
        self.client_program(name, &["--batch", "--raw", "--skip-column-names", database], Some(sql)).await
    }

    /// The definition of a database without its rows, ready for [`Self::script`].
    ///
    /// # Panics
    /// When `mariadb-dump` or `mysqldump` fails.
    pub async fn dump_schema(&self, database: &str) -> String {
        let (name, more) = match self.install.product {
            Product::MariaDb => ("mariadb-dump", None),
            // Else the dump claims the GTIDs of the source for its target.
            Product::MySql => ("mysqldump", Some("--set-gtid-purged=OFF")),
        };
        let mut args = vec!["--no-data", "--routines", "--skip-comments"];
        args.extend(more);
        args.push(database);
        self.client_program(name, &args, None).await
    }

    async fn client_program(&self, name: &str, args: &[&str], input: Option<&str>) -> String {
        let mut command = tokio::process::Command::new(self.install.prefix.join("bin").join(name));
        command.args(["--no-defaults", "-h", "127.0.0.1", "-P", &self.port.to_string(), "-u", "root"]);
        command.args(args);
        client_output(name, command, input).await
    }

    /// Where the binary log ends now.
    ///
    /// # Panics
    /// When the server keeps none.
    pub async fn binlog_position(&self) -> BinlogPosition {
        let (status, gtid) = match self.install.product {
            Product::MariaDb => ("SHOW MASTER STATUS", "gtid_binlog_pos"),
            Product::MySql => ("SHOW BINARY LOG STATUS", "gtid_executed"),
        };
        let rows = self.query("", status).await;
        let row = rows.first().expect("the server keeps a binary log");
        let gtid = self.query_text("", &format!("SELECT @@GLOBAL.{gtid}")).await;
        BinlogPosition {
            file: row.get(0).unwrap(),
            offset: row.get(1).unwrap(),
            gtid: gtid.unwrap_or_default().replace('\n', ""),
        }
    }

    /// Stops the server (SIGTERM) and waits until it is gone. A stopped one stays stopped.
    ///
    /// # Panics
    /// When it has not stopped after half a minute.
    pub async fn stop(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        signal(child.id(), "TERM");
        if wait_child(&mut child, STOP_DEADLINE).await.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server has not stopped after {STOP_DEADLINE:?}:\n{}", self.log_tail(30));
        }
    }

    /// Kills the server at once (SIGKILL). It is one process.
    pub fn kill9(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Stops and starts again on the same port.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    /// A copy of the whole server as it is now. It is stopped for it and started again when it ran.
    pub async fn backup(&self) -> Backup {
        let ran = self.is_running();
        self.stop().await;
        let folder = self.install.temp_dir();
        copy_tree(&self.data(), &folder.path().join("data"));
        if ran {
            self.start_again().await;
        }
        Backup { folder }
    }

    /// Puts the server back to a copy, and starts it: what was committed since is gone, from the binary log too.
    ///
    /// # Panics
    /// When the files cannot be replaced or the server does not start.
    pub async fn restore(&self, backup: &Backup) {
        self.kill9();
        std::fs::remove_dir_all(self.data()).unwrap();
        copy_tree(&backup.folder.path().join("data"), &self.data());
        self.start_again().await;
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_path(), lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last lines of the server on port {}:\n{}", self.port, self.log_tail(15));
        }
        // Its files go with it, so nothing is lost by a kill.
        self.kill9();
    }
}

/// A session by URL. Always TCP: for 127.0.0.1 the driver would change to the server's socket where it can.
///
/// # Errors
/// When the server is away or refuses it.
pub async fn connect(url: &str) -> Result<Conn, mysql_async::Error> {
    Conn::new(OptsBuilder::from_opts(Opts::from_url(url)?).prefer_socket(false)).await
}

impl Install {
    /// The installed one is below `ROWBRIDGE_TEST_MARIADB_PREFIX`, else /usr; others are where `tests/servers` put them.
    fn find(version: Version) -> &'static Self {
        static INSTALLS: Mutex<BTreeMap<Version, &'static Install>> = Mutex::new(BTreeMap::new());
        INSTALLS.lock().unwrap().entry(version).or_insert_with(|| Box::leak(Box::new(Self::look(version))))
    }

    fn look(version: Version) -> Self {
        let prefix = match version.set_up_as() {
            None => std::env::var_os("ROWBRIDGE_TEST_MARIADB_PREFIX")
                .map_or_else(|| PathBuf::from("/usr"), PathBuf::from),
            Some(name) => set_up(name).expect("a version is asked for only when it is set up").join("usr"),
        };
        let product = version.product();
        let mut install = Self { product, prefix, version: String::new(), run_as: None, owner: None };
        let server = install.server();
        assert!(
            server.is_file(),
            "no MariaDB server at {}: `apt-get install mariadb-server mariadb-client`, or name the folder above its bin \
             and sbin in ROWBRIDGE_TEST_MARIADB_PREFIX",
            server.display()
        );
        // `mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)`
        let text = run(Command::new(&server).args(["--no-defaults", "--version"]));
        let version = text.split_whitespace().skip_while(|word| *word != "Ver").nth(1);
        install.version = version.unwrap_or("unknown").to_owned();
        if own_uid() == 0 {
            install.owner = Some(ids_of("mysql"));
            install.run_as = Some(RunAs { user: "mysql".into() });
        }
        install
    }

    fn server(&self) -> PathBuf {
        self.prefix.join(match self.product {
            Product::MariaDb => "sbin/mariadbd",
            Product::MySql => "sbin/mysqld",
        })
    }

    /// What every start of the server has, its first one included.
    fn arguments(&self) -> Vec<String> {
        let below = |name: &str| self.prefix.join(name).to_str().unwrap().to_owned();
        let mut arguments = vec!["--no-defaults".to_owned()];
        // Programs below /usr know where their files are.
        if self.prefix != Path::new("/usr") {
            arguments.push(format!("--basedir={}", self.prefix.display()));
            arguments.push(format!("--lc-messages-dir={}", below("share/mysql")));
            arguments.push(format!("--character-sets-dir={}", below("share/mysql/charsets")));
            arguments.push(format!("--plugin-dir={}", below("lib/mysql/plugin")));
        }
        // Both keep 96 MB and more by default, which every start would copy.
        match self.product {
            Product::MariaDb => arguments.push("--innodb-log-file-size=16M".into()),
            Product::MySql => {
                arguments.push("--innodb-redo-log-capacity=16M".into());
                // By default a folder that only the package makes.
                arguments.push("--secure-file-priv=".into());
            }
        }
        arguments
    }

    /// A temporary folder that the server may write.
    fn temp_dir(&self) -> TempDir {
        owned_temp_dir("rowbridge-mariadb-", self.owner)
    }

    /// A data folder with the system tables and `root` without a password, made once per version.
    fn template(&self) -> PathBuf {
        // The server cannot open files of another user, so each who runs the tests has a template of their own.
        let owner = self.owner.map_or_else(own_uid, |(uid, _)| uid);
        let product = match self.product {
            Product::MariaDb => "mariadb",
            Product::MySql => "mysql",
        };
        cached(&format!("{product}-{}-{owner}", self.version), "ibdata1", |place| {
            let fresh = self.temp_dir();
            let data = fresh.path().join("data");
            let (program, more): (_, &[&str]) = match self.product {
                // --force: without looking up the name of this machine.
                Product::MariaDb => (
                    self.prefix.join("bin/mariadb-install-db"),
                    &["--auth-root-authentication-method=normal", "--skip-test-db", "--force"],
                ),
                Product::MySql => (self.server(), &["--initialize-insecure"]),
            };
            let mut command = guarded(&program, self.run_as.as_ref());
            command.args(self.arguments()).arg(format!("--datadir={}", data.display())).args(more);
            command.current_dir(fresh.path());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
            successful(&program.to_string_lossy(), spawn_guarded(command).wait_with_output().unwrap());
            // The identity of a server, which each makes at its first start.
            let _ = std::fs::remove_file(data.join("auto.cnf"));
            copy_tree(&data, place);
        })
    }
}
