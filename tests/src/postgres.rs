//! Private PostgreSQL clusters: started, stopped, killed, backed up and restored by the test that owns them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, Row};

use crate::files::{cached, copy_tree, ids_of, own_uid, owned_temp_dir, run, successful, tail};
use crate::port::free_port;
use crate::process::{RunAs, children_of, client_output, guarded, signal, spawn_guarded, wait_child};
use crate::tls::Certificate;
use crate::versions::set_up;

/// A loaded machine starts a cluster in under a second; recovery after a kill may take longer.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// What differs from the usual test cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// The major version; none is the installed one.
    pub version: Option<u32>,
    /// Whether commits reach the disk. Off for speed; on where the test kills the server and counts rows.
    pub fsync: bool,
    /// Further settings, for example `("wal_sender_timeout", "2s")`; they win over ours.
    pub settings: Vec<(String, String)>,
    /// TCP takes TLS with this certificate and SCRAM passwords, and nothing else. The harness itself goes through the
    /// unix socket then.
    pub tls: Option<Certificate>,
}

impl ClusterOptions {
    /// A cluster of another major version, as `tests/servers` sets them up. When it did not, a line says so, and a test
    /// of that version has nothing to do.
    #[must_use]
    pub fn version(major: u32) -> Option<Self> {
        set_up(&format!("postgres{major}")).map(|_| Self { version: Some(major), ..Self::default() })
    }

    /// Commits are durable.
    #[must_use]
    pub fn durable() -> Self {
        Self { fsync: true, ..Self::default() }
    }

    /// TLS and passwords on 127.0.0.1 and 127.0.0.2, so that a test has a wrong host name to go to.
    #[must_use]
    pub fn tls(certificate: Certificate) -> Self {
        Self { tls: Some(certificate), ..Self::default() }.set("listen_addresses", "127.0.0.1,127.0.0.2")
    }

    /// Adds a setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// How `pg_ctl stop` would stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, a checkpoint is written (SIGINT).
    Fast,
    /// Like a crash: recovery follows at the next start (SIGQUIT).
    Immediate,
}

/// A private cluster on 127.0.0.1, superuser `postgres`, no password. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Cluster {
    install: &'static Install,
    options: ClusterOptions,
    port: u16,
    child: Mutex<Option<Child>>,
    folder: TempDir,
}

/// A copy of a stopped cluster's data folder.
#[derive(Debug)]
pub struct Backup {
    folder: TempDir,
}

/// The PostgreSQL programs found on this machine.
#[derive(Debug)]
struct Install {
    bin: PathBuf,
    version: String,
    /// The server refuses to run as root.
    run_as: Option<RunAs>,
    /// Owner of its files, when that is somebody else.
    owner: Option<(u32, u32)>,
}

impl Cluster {
    /// Starts a fresh cluster and waits until it answers.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not start, with the tail of its log.
    pub async fn start(options: ClusterOptions) -> Self {
        let install = Install::find(options.version);
        let folder = install.temp_dir();
        copy_tree(&install.template(), &folder.path().join("data"));
        let cluster = Self { install, port: free_port(), child: Mutex::new(None), folder, options };
        cluster.configure();
        cluster.start_again().await;
        cluster
    }

    fn configure(&self) {
        let mut text = String::from("\n# test cluster\n");
        let mut set = |name: &str, value: &str| {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &self.port.to_string());
        set("unix_socket_directories", self.folder.path().to_str().unwrap());
        set("wal_level", "logical");
        set("max_wal_senders", "20");
        set("max_replication_slots", "20");
        set("fsync", if self.options.fsync { "on" } else { "off" });
        set("full_page_writes", if self.options.fsync { "on" } else { "off" });
        set("max_connections", "100");
        set("shared_buffers", "32MB");
        set("log_line_prefix", "%m [%p] %q%a ");
        if self.options.tls.is_some() {
            set("ssl", "on");
        }
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        let path = self.data().join("postgresql.conf");
        File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        if let Some(certificate) = &self.options.tls {
            let rules = "local all all trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n";
            std::fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
            self.set_certificate(certificate);
        }
    }

    /// Puts another certificate in place; the server shows it after a restart.
    pub fn set_certificate(&self, certificate: &Certificate) {
        // The names that the server looks for by itself. It refuses a key that others may read.
        for (name, pem) in [("server.crt", &certificate.pem), ("server.key", &certificate.key_pem)] {
            let path = self.data().join(name);
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = self.install.owner {
                chown(&path, Some(uid), Some(gid)).unwrap();
            }
        }
    }

    /// Starts a stopped cluster on the port it had before, and waits until it answers. Recovery is included.
    ///
    /// # Panics
    /// When it runs already, or does not answer within a minute.
    pub async fn start_again(&self) {
        assert!(self.child.lock().unwrap().is_none(), "the cluster is already running");
        let started = Instant::now();
        loop {
            let mut child = self.launch();
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    // Orphans of a killed postmaster hold the shared memory for a moment, and a port that was
                    // just in use may linger; both heal by themselves.
                    let tail = self.log_tail(15);
                    let passing = ["pre-existing shared memory block", "Address already in use", "lock file"];
                    let again = passing.iter().any(|text| tail.contains(text));
                    assert!(
                        again && started.elapsed() < START_DEADLINE,
                        "PostgreSQL ended ({status}) at its start:\n{tail}"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                if tokio_postgres::connect(&self.url("postgres"), NoTls).await.is_ok() {
                    *self.child.lock().unwrap() = Some(child);
                    return;
                }
                if started.elapsed() >= START_DEADLINE {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("PostgreSQL does not answer after {START_DEADLINE:?}:\n{}", self.log_tail(30));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn launch(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = guarded(&self.install.bin.join("postgres"), self.install.run_as.as_ref());
        command.arg("-D").arg(self.data()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        spawn_guarded(command)
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process that all others of the server descend from.
    ///
    /// # Panics
    /// When the server is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().expect("the server is stopped").id()
    }

    /// A connection URL for the harness's own sessions; one that asks for no password.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        match &self.options.tls {
            None => self.url_via(self.port, database),
            Some(_) => {
                let socket = self.folder.path().to_str().unwrap().replace('/', "%2F");
                format!("postgres://postgres@{socket}:{}/{database}", self.port)
            }
        }
    }

    /// A connection URL as a stranger has it: TLS with everything checked, and a password.
    #[must_use]
    pub fn tls_url(&self, host: &str, user: &str, password: &str, database: &str, roots: &Path) -> String {
        format!(
            "postgres://{user}:{password}@{host}:{}/{database}?sslmode=verify-full&sslrootcert={}",
            self.port,
            roots.display()
        )
    }

    /// A connection URL through another port, where a proxy listens.
    #[must_use]
    pub fn url_via(&self, port: u16, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{database}")
    }

    /// Whether the server process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A new session. Its connection is driven in the background and ends with the client.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn connect(&self, database: &str) -> Client {
        match connect(&self.url(database)).await {
            Ok(client) => client,
            Err(error) => panic!("cannot connect to {database}: {error:?}\n{}", self.log_tail(20)),
        }
    }

    /// Makes an empty database.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn create_database(&self, name: &str) {
        self.execute("postgres", &format!("CREATE DATABASE \"{name}\"")).await;
    }

    /// Runs one or several statements in a session of its own.
    ///
    /// # Panics
    /// When one fails, with the server's message.
    pub async fn execute(&self, database: &str, sql: &str) {
        if let Err(error) = self.connect(database).await.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The rows of a query, in a session of its own.
    ///
    /// # Panics
    /// When it fails, with the server's message.
    pub async fn query(&self, database: &str, sql: &str) -> Vec<Row> {
        match self.connect(database).await.query(sql, &[]).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// One value as text: the first column of the first row, cast by the server. `None` for NULL or no row.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn query_text(&self, database: &str, sql: &str) -> Option<String> {
        let sql = format!("SELECT q.v::text FROM ({sql}) AS q(v) LIMIT 1");
        self.query(database, &sql).await.first()?.get(0)
    }

    /// Runs SQL, backslash commands included, by `psql`; gives its unaligned output without headings.
    ///
    /// # Panics
    /// When `psql` fails, with what it said.
    pub async fn psql(&self, database: &str, sql: &str) -> String {
        self.client_program("psql", database, &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"], Some(sql))
            .await
    }

    /// Runs `pgbench ARGS DATABASE`; gives its report.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub async fn pgbench(&self, database: &str, args: &[&str]) -> String {
        self.client_program("pgbench", database, args, None).await
    }

    /// The definition of a database without its rows (`pg_dump -s`), ready for [`Self::psql`].
    ///
    /// # Panics
    /// When `pg_dump` fails.
    pub async fn dump_schema(&self, database: &str) -> String {
        self.client_program("pg_dump", database, &["-s", "--no-publications", "--no-subscriptions"], None)
            .await
    }

    async fn client_program(&self, name: &str, database: &str, args: &[&str], input: Option<&str>) -> String {
        let mut command = tokio::process::Command::new(self.install.bin.join(name));
        let host = match &self.options.tls {
            None => "127.0.0.1",
            Some(_) => self.folder.path().to_str().unwrap(),
        };
        command.args(["-h", host, "-p", &self.port.to_string(), "-U", "postgres"]);
        command.args(args).arg(database).env("PGOPTIONS", "-c client_min_messages=warning");
        client_output(name, command, input).await
    }

    /// Stops the server and waits until it is gone. A stopped one stays stopped.
    ///
    /// # Panics
    /// When it has not stopped after half a minute.
    pub async fn stop(&self, how: Stop) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        signal(child.id(), if how == Stop::Fast { "INT" } else { "QUIT" });
        if wait_child(&mut child, STOP_DEADLINE).await.is_none() {
            let _ = child.kill();
            let _ = child.wait();
            panic!("PostgreSQL has not stopped after {STOP_DEADLINE:?}:\n{}", self.log_tail(30));
        }
    }

    /// Kills the server and all its backends at once (SIGKILL), as a power cut would.
    pub fn kill9(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        // The postmaster first, so that it starts no new children while we look for the present ones.
        let backends = children_of(child.id());
        let _ = child.kill();
        for pid in backends {
            signal(pid, "KILL");
        }
        let _ = child.wait();
    }

    /// Stops (fast) and starts again on the same port.
    pub async fn restart(&self) {
        self.stop(Stop::Fast).await;
        self.start_again().await;
    }

    /// A copy of the whole cluster as it is now. The server is stopped for it and started again when it ran.
    pub async fn backup(&self) -> Backup {
        let ran = self.is_running();
        self.stop(Stop::Fast).await;
        let folder = self.install.temp_dir();
        copy_tree(&self.data(), &folder.path().join("data"));
        if ran {
            self.start_again().await;
        }
        Backup { folder }
    }

    /// Puts the cluster back to a copy, and starts it: what was committed since is gone, and so are newer slots.
    ///
    /// # Panics
    /// When the files cannot be replaced or the server does not start.
    pub async fn restore(&self, backup: &Backup) {
        self.stop(Stop::Immediate).await;
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

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last lines of PostgreSQL on port {}:\n{}", self.port, self.log_tail(15));
        }
        let Ok(Some(mut child)) = self.child.lock().map(|mut child| child.take()) else { return };
        signal(child.id(), "QUIT");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A session by URL, driven in the background.
///
/// # Errors
/// When the server is away or refuses it.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Install {
    /// `ROWBRIDGE_TEST_PG_BIN`, else the folder of `postgres` in PATH, else the newest of /usr/lib/postgresql. A version
    /// that a test asks for is the one that `tests/servers` set up.
    fn find(major: Option<u32>) -> &'static Self {
        static INSTALLS: Mutex<BTreeMap<Option<u32>, &'static Install>> = Mutex::new(BTreeMap::new());
        INSTALLS.lock().unwrap().entry(major).or_insert_with(|| Box::leak(Box::new(Self::look(major))))
    }

    fn look(major: Option<u32>) -> Self {
        let bin = match major {
            None => std::env::var_os("ROWBRIDGE_TEST_PG_BIN")
                .map(PathBuf::from)
                .or_else(bin_in_path)
                .or_else(newest_packaged_bin)
                .expect(
                    "no PostgreSQL server found: `apt-get install postgresql`, or name the folder of initdb and \
                     postgres in ROWBRIDGE_TEST_PG_BIN",
                ),
            Some(major) => set_up(&format!("postgres{major}"))
                .expect("a version is asked for only when it is set up")
                .join(format!("usr/lib/postgresql/{major}/bin")),
        };
        let version = run(Command::new(bin.join("postgres")).arg("--version"));
        let version = version.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
        if own_uid() != 0 {
            return Self { bin, version, run_as: None, owner: None };
        }
        let owner = Some(ids_of("postgres"));
        Self { bin, version, run_as: Some(RunAs { user: "postgres".into() }), owner }
    }

    /// A temporary folder that the server may write.
    fn temp_dir(&self) -> TempDir {
        owned_temp_dir("rowbridge-pg-", self.owner)
    }

    /// A data folder fresh from initdb, made once per version.
    fn template(&self) -> PathBuf {
        // The server refuses files of another user, so each who runs the tests has a template of their own.
        let owner = self.owner.map_or_else(own_uid, |(uid, _)| uid);
        cached(&format!("postgres-{}-{owner}", self.version), "PG_VERSION", |place| {
            let fresh = self.temp_dir();
            let data = fresh.path().join("data");
            let mut command = guarded(&self.bin.join("initdb"), self.run_as.as_ref());
            command.arg("-D").arg(&data).current_dir(fresh.path());
            command.args(["-A", "trust", "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
            successful("initdb", spawn_guarded(command).wait_with_output().unwrap());
            copy_tree(&data, place);
        })
    }
}

fn bin_in_path() -> Option<PathBuf> {
    // Links (as in /usr/local/bin) are resolved, since psql and pgbench lie beside the real server.
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter_map(|folder| folder.join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned))
        .find(|folder| folder.join("initdb").exists())
}

fn newest_packaged_bin() -> Option<PathBuf> {
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let entries = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = entries.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(version)?;
    Some(newest.join("bin")).filter(|bin| bin.join("initdb").exists())
}
