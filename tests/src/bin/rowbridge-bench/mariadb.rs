//! MariaDB to MariaDB, beside MariaDB's own replication: row format, GTIDs, commits and both binary logs durable, the
//! replica's log included (`log_slave_updates`), since what Rowbridge writes is logged there too.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, params};
use rowbridge_tests::config::{Endpoint, Publisher, Subscriber};
use rowbridge_tests::mariadb::{Server, ServerOptions};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions, cpu_seconds};
use rowbridge_tests::webhook::secret;
use tempfile::TempDir;

use super::{System, percentile};

const DATABASE: &str = "shop";
const TABLE: &str = "CREATE TABLE bench (id BIGINT PRIMARY KEY, note VARCHAR(100), amount DECIMAL(20,2), at DATETIME(6), \
                     data JSON, ok BOOLEAN)";
const VALUES: &str = "SELECT seq, CONCAT('note number ', seq), seq * 1.25, NOW(6), JSON_OBJECT('n', seq, 'tag', 'abc'), seq % 2 = 0";
const INSERT_ONE: &str = "INSERT INTO bench VALUES (:id, CONCAT('note number ', :id), :id * 1.25, NOW(6), \
                          JSON_OBJECT('n', :id, 'tag', 'abc'), :id % 2 = 0)";
/// Rows that pass before anything is measured.
const FIRST: i64 = 100;

fn durable() -> ServerOptions {
    ServerOptions::durable()
        .set("innodb_buffer_pool_size", "512M")
        .set("innodb_log_file_size", "1G")
        .set("log_slave_updates", "ON")
}

/// Two servers and what is between them. Fields fall in the order that ends it cleanly: daemons first.
struct Bridge {
    daemons: Vec<(&'static str, Daemon)>,
    source: Server,
    target: Server,
    _folder: TempDir,
}

impl Bridge {
    /// A running replication of table `bench`, by one of the two.
    async fn start(system: System) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = tokio::join!(Server::start(durable()), Server::start(durable()));
        let mut bridge = Self { daemons: vec![], source, target, _folder: folder };
        for server in [&bridge.source, &bridge.target] {
            server.create_database(DATABASE).await;
            server.execute(DATABASE, TABLE).await;
        }
        match system {
            System::Native => bridge.start_native().await,
            System::Rowbridge => bridge.start_rowbridge(),
        }
        let insert = format!("INSERT INTO bench {VALUES} FROM seq_1_to_{FIRST}");
        bridge.source.execute(DATABASE, &insert).await;
        let mut target = bridge.target.connect(DATABASE).await;
        while last(&mut target).await < FIRST {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bridge
    }

    async fn start_native(&self) {
        self.source.create_user("replica", "secret", &["REPLICATION SLAVE ON *.*"]).await;
        let from = self.source.binlog_position().await.gtid;
        let statements = [
            format!("SET GLOBAL gtid_slave_pos = '{from}'"),
            format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'replica', \
                 MASTER_PASSWORD = 'secret', MASTER_USE_GTID = slave_pos",
                self.source.port()
            ),
            "START SLAVE".to_owned(),
        ];
        let mut target = self.target.connect("").await;
        for sql in statements {
            target.query_drop(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    fn start_rowbridge(&mut self) {
        let folder = self._folder.path();
        let (port, secret) = (free_port(), secret(7));
        let url = format!("http://127.0.0.1:{port}/in/shop");
        let tables = ["shop.*"];
        let publisher =
            Publisher::new("mysql", &self.source.url(DATABASE), &tables, &folder.join("state"), free_port())
                .endpoint(Endpoint::bridge("copy", &url, &secret));
        let subscriber = Subscriber::new("mysql", &self.target.url(DATABASE), port, &secret, free_port());
        for (name, text) in [("subscriber", subscriber.text()), ("publisher", publisher.text())] {
            let path = folder.join(name).with_extension("toml");
            std::fs::write(&path, text).unwrap();
            self.daemons.push((name, Daemon::spawn(DaemonOptions::run(name, &path))));
        }
    }

    fn publisher(&self) -> Option<&Daemon> {
        self.daemons.iter().find(|(name, _)| *name == "publisher").map(|(_, daemon)| daemon)
    }

    /// CPU seconds of source, target and daemons until now.
    fn cpu(&self) -> Vec<f64> {
        let servers = [&self.source, &self.target].map(|server| cpu_seconds(server.pid()).unwrap());
        let daemons = self.daemons.iter().map(|(_, daemon)| daemon.cpu_seconds());
        servers.into_iter().chain(daemons).collect()
    }

    fn print_costs(&self, before: &[f64]) {
        let taken: Vec<f64> = self.cpu().iter().zip(before).map(|(now, then)| now - then).collect();
        println!("  servers: source {:.2}, target {:.2} CPU s", taken[0], taken[1]);
        for ((name, daemon), cpu) in self.daemons.iter().zip(&taken[2..]) {
            println!("  {name}: {cpu:.2} CPU s, peak {} MiB", daemon.peak_rss_bytes() >> 20);
        }
    }
}

/// The highest key of the copy.
async fn last(target: &mut Conn) -> i64 {
    let last: Option<Option<i64>> = target.query_first("SELECT MAX(id) FROM bench").await.unwrap();
    last.flatten().unwrap_or(0)
}

/// Rows per second from the first commit to the last row visible.
pub(super) async fn bulk(system: System, rows: i64, per_transaction: i64) -> f64 {
    let bridge = Bridge::start(system).await;
    let mut source = bridge.source.connect(DATABASE).await;
    let mut target = bridge.target.connect(DATABASE).await;
    let before = bridge.cpu();
    let load = tokio::spawn(async move {
        let mut first = None;
        for from in (FIRST + 1..=FIRST + rows).step_by(per_transaction as usize) {
            let to = (from + per_transaction - 1).min(FIRST + rows);
            let sql = format!("INSERT INTO bench {VALUES} FROM seq_{from}_to_{to}");
            source.query_drop(sql).await.unwrap();
            first.get_or_insert_with(Instant::now);
        }
        (first.unwrap(), Instant::now())
    });
    while last(&mut target).await < FIRST + rows {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let end = Instant::now();
    let (first, loaded) = load.await.unwrap();
    let took = (end - first).as_secs_f64();
    let copied: Option<i64> = target.query_first("SELECT COUNT(*) FROM bench").await.unwrap();
    assert_eq!(copied, Some(FIRST + rows), "rows are missing");
    let rate = rows as f64 / took;
    let alone = (loaded - first).as_secs_f64();
    println!("bulk {system:?}: {rate:.0} rows/s ({took:.2} s, load alone {alone:.2} s)");
    bridge.print_costs(&before);
    rate
}

/// Rows per second of what has gathered while the line was down: nobody waits for the load.
pub(super) async fn catchup(system: System, rows: i64, per_transaction: i64) -> f64 {
    let bridge = Bridge::start(system).await;
    let mut source = bridge.source.connect(DATABASE).await;
    let mut target = bridge.target.connect(DATABASE).await;
    match bridge.publisher() {
        Some(publisher) => drop(publisher.terminate().await),
        None => target.query_drop("STOP SLAVE").await.unwrap(),
    }
    for from in (FIRST + 1..=FIRST + rows).step_by(per_transaction as usize) {
        let to = (from + per_transaction - 1).min(FIRST + rows);
        source.query_drop(format!("INSERT INTO bench {VALUES} FROM seq_{from}_to_{to}")).await.unwrap();
    }
    let started = Instant::now();
    match bridge.publisher() {
        Some(publisher) => publisher.start(),
        None => target.query_drop("START SLAVE").await.unwrap(),
    }
    let before = bridge.cpu();
    while last(&mut target).await < FIRST + rows {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = started.elapsed().as_secs_f64();
    let rate = rows as f64 / took;
    println!("catchup {system:?}: {rate:.0} rows/s ({took:.2} s)");
    bridge.print_costs(&before);
    rate
}

/// Milliseconds from commit to visible, p50 and p99, at a fixed rate of single-row transactions.
pub(super) async fn oltp(system: System, per_second: u32, seconds: u32) -> (f64, f64) {
    let bridge = Bridge::start(system).await;
    let mut source = bridge.source.connect(DATABASE).await;
    let mut target = bridge.target.connect(DATABASE).await;
    let count = i64::from(per_second * seconds);
    let insert = source.prep(INSERT_ONE).await.unwrap();
    let before = bridge.cpu();
    let load = tokio::spawn(async move {
        let mut commits = Vec::with_capacity(count as usize);
        let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for id in FIRST + 1..=FIRST + count {
            tick.tick().await;
            source.exec_drop(&insert, params! { id }).await.unwrap();
            commits.push(Instant::now());
        }
        commits
    });
    let mut visible = Vec::with_capacity(count as usize);
    while (visible.len() as i64) < count {
        let last = last(&mut target).await - FIRST;
        let now = Instant::now();
        while (visible.len() as i64) < last {
            visible.push(now);
        }
        // The runtime's timer counts in milliseconds, which is what is to be measured.
        tokio::task::block_in_place(|| std::thread::sleep(Duration::from_micros(100)));
    }
    let commits = load.await.unwrap();
    let mut waits: Vec<f64> = commits
        .iter()
        .zip(&visible)
        .map(|(commit, seen)| seen.saturating_duration_since(*commit).as_secs_f64() * 1e3)
        .collect();
    waits.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&waits, 0.5), percentile(&waits, 0.99));
    println!("oltp {system:?}: p50 {p50:.2} ms, p99 {p99:.2} ms at {per_second}/s");
    bridge.print_costs(&before);
    (p50, p99)
}
