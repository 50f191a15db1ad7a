//! MariaDB to MariaDB with everything that MariaDB's own replication passes, and a replica of the same source beside it: what
//! the replica holds must be equal, too, or the oracle is wrong.
//!
//! Every scenario is run twice: before the bridge starts, so that the snapshot must carry the result, and while it streams.
//! All that is done with tables made by Rowbridge, and again with tables made beforehand and a compressed log.

use std::fmt::Write as _;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use rowbridge_tests::compare::wait_until_mariadb_equal;
use rowbridge_tests::mariadb::{Server, ServerOptions};
use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};

use super::scenarios::{SCENARIOS, Scenario};

const PATIENCE: Duration = Duration::from_secs(120);

/// Who makes the target's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    ByRowbridge,
    Beforehand,
}

/// More columns than fit into one byte of a count.
const COLUMNS: usize = 300;

struct Run {
    pair: Pair,
    replica: Server,
    made: Made,
}

impl Run {
    async fn prepare(made: Made) -> Self {
        let mut options = PairOptions::mariadb();
        if made == Made::Beforehand {
            options.source_server =
                options.source_server.set("log_bin_compress", "1").set("log_bin_compress_min_len", "10");
        }
        let pair = Pair::prepare(options).await;
        let replica = Server::start(ServerOptions::default()).await;
        let source = pair.source_server().port();
        replica
            .execute(
                "",
                &format!(
                    "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {source}, MASTER_USER = 'root',
                        MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START SLAVE"
                ),
            )
            .await;
        Self { pair, replica, made }
    }

    fn scenarios(&self) -> impl Iterator<Item = &'static Scenario> {
        let made = self.made;
        SCENARIOS.iter().filter(move |scenario| made == Made::Beforehand || !scenario.needs_schema)
    }

    async fn run(&self, prefix: &str, sql: &str) {
        self.pair.source_execute(&sql.replace('$', prefix)).await;
    }

    async fn tables(&self, prefix: &str) {
        for scenario in self.scenarios() {
            self.run(prefix, scenario.tables).await;
        }
        let columns: String = (0..COLUMNS).fold(String::new(), |mut text, n| {
            let _ = write!(text, ", c{n} {}", ["INT", "VARCHAR(20)", "DECIMAL(8,2)", "BIT(3)"][n % 4]);
            text
        });
        self.run(prefix, &format!("CREATE TABLE `$wide` (id INT PRIMARY KEY {columns})")).await;
        self.run(
            prefix,
            "INSERT INTO `$wide` (id, c0, c257, c299) VALUES (1, 1, 'x', b'1'), (2, 2, NULL, b'11')",
        )
        .await;
        self.run(
            prefix,
            "CREATE TABLE `$decided` (id INT PRIMARY KEY, v INT); INSERT INTO `$decided` VALUES (1, 1)",
        )
        .await;
    }

    async fn steps(&self, prefix: &str) {
        for scenario in self.scenarios() {
            for step in scenario.steps {
                self.run(prefix, step).await;
            }
        }
        self.run(
            prefix,
            "UPDATE `$wide` SET c255 = b'101', c256 = 9, c8 = 1 WHERE id = 1; UPDATE `$wide` SET id = 3 WHERE id = 2;
             INSERT INTO `$wide` (id, c298) VALUES (4, 0.5)",
        )
        .await;
    }

    /// XA transactions, of which some are left prepared over a restart of the source.
    async fn undecided(&self, prefix: &str) {
        let server = self.pair.source_server();
        for (id, value) in [("committed", 2), ("undone", 3), ("kept", 4), ("dropped", 5), ("one", 6)] {
            let mut conn = server.connect(DATABASE).await;
            let mut run = async |sql: &str| {
                conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            };
            run(&format!("XA START '{prefix}{id}'")).await;
            run(&format!("INSERT INTO `{prefix}decided` VALUES ({value}, {value})")).await;
            run(&format!("XA END '{prefix}{id}'")).await;
            match id {
                "one" => run(&format!("XA COMMIT '{prefix}{id}' ONE PHASE")).await,
                _ => run(&format!("XA PREPARE '{prefix}{id}'")).await,
            }
            match id {
                "committed" => run(&format!("XA COMMIT '{prefix}{id}'")).await,
                "undone" => run(&format!("XA ROLLBACK '{prefix}{id}'")).await,
                _ => {}
            }
            conn.disconnect().await.unwrap();
        }
        // A change after what is undecided, which must not wait for it.
        self.run(prefix, "INSERT INTO `$decided` VALUES (10, 10)").await;
        server.restart().await;
        self.run(prefix, "INSERT INTO `$decided` VALUES (11, 11)").await;
        let sql = format!("XA COMMIT '{prefix}kept'; XA ROLLBACK '{prefix}dropped'");
        server.execute(DATABASE, &sql).await;
    }

    async fn equal(&self, prefix: &str) {
        let mut names: Vec<String> = Vec::new();
        for scenario in self.scenarios() {
            names.extend(scenario.compared.iter().map(|name| format!("{DATABASE}.{prefix}{name}")));
        }
        names.extend(["wide", "decided"].map(|name| format!("{DATABASE}.{prefix}{name}")));
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let (source, replica) = (self.pair.source_server().url(DATABASE), self.replica.url(""));
        wait_until_mariadb_equal(&source, &replica, &pairs, PATIENCE).await;
        for name in &names {
            self.pair.wait_equal_within(&[name], PATIENCE).await;
        }
    }
}

async fn everything(made: Made) {
    let run = Run::prepare(made).await;
    run.tables("s_").await;
    run.tables("b_").await;
    run.steps("b_").await;
    if made == Made::Beforehand {
        // A target takes no table whose changes cannot be undone.
        let schema = run.pair.source_server().dump_schema(DATABASE).await;
        let schema = schema.replace("ENGINE=Aria", "ENGINE=InnoDB").replace(" PAGE_CHECKSUM=1", "");
        run.pair.target_server().script(DATABASE, &schema).await;
    }
    run.pair.start().await;
    run.equal("b_").await;
    // Which rows a foreign key changes is in no log, so nobody could leave them out of a range that was read before.
    let port = run.pair.publisher_config.admin_port;
    let labels = [("stream", "shop")];
    wait_for(port, "rowbridge_snapshot_pending_tables", &labels, PATIENCE, |left| left == 0.0).await;
    run.steps("s_").await;
    run.undecided("s_").await;
    run.equal("s_").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_tables_made_by_rowbridge() {
    everything(Made::ByRowbridge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn into_tables_made_beforehand() {
    everything(Made::Beforehand).await;
}
