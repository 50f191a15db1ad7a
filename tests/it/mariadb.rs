//! Whole bridges with MariaDB or MySQL at one end or both.

mod alter;
mod cascades;
mod scenarios;
mod semantics;

use std::time::Duration;

use rowbridge_tests::kills::{account, kill_in_turn, kill_on};
use rowbridge_tests::mariadb::{ServerOptions, Version};
use rowbridge_tests::metrics::Metrics;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::size::size;

use crate::load::{Application, Running, TABLES, fill, schema};

/// The snapshot begins under the load and is interrupted by kills; later both servers go away for a moment, too.
async fn kills_under_load_lose_and_double_nothing(options: PairOptions) {
    let source = options.kind;
    let pair = Pair::prepare(options).await;
    pair.source_execute(schema(source)).await;
    pair.source_execute(&fill(source, size(20_000, 200_000))).await;
    Application::open(&pair).await.transactions(100).await;
    // A file has one writer at a time.
    let load = Running::start(&pair, if source == Kind::Sqlite { 1 } else { 2 }).await;
    pair.start().await;
    let longest_wait = Duration::from_millis(size(1_200, 4_000));
    let mut kills = kill_in_turn(&pair, size(4, 12), longest_wait).await;
    pair.wait_subscriber().await;
    pair.restart_servers().await;
    kills.servers += 1;
    pair.wait_publisher().await;
    let kills = kill_on(&pair, kills, size(4, 12), longest_wait).await;
    let transactions = load.stop().await;
    println!("{transactions} transactions");
    assert!(transactions > 200, "the application was held up: {transactions} transactions");
    pair.wait_equal_within(&TABLES, Duration::from_secs(size(90, 400))).await;
    account(&pair, kills).await;
    let metrics = Metrics::scrape(pair.publisher_config.admin_port).await.unwrap();
    assert_eq!(metrics.value("rowbridge_snapshot_pending_tables", &[("stream", "shop")]), Some(0.0));
}

macro_rules! kills_under_load {
    ($($name:ident: $source:ident to $target:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            kills_under_load_lose_and_double_nothing(PairOptions::crossing(Kind::$source, Kind::$target)).await;
        })*
    };
}

kills_under_load! {
    kills_from_mariadb_to_mariadb: Mariadb to Mariadb;
    kills_from_mariadb_to_postgres: Mariadb to Postgres;
    kills_from_mariadb_to_sqlite: Mariadb to Sqlite;
    kills_from_postgres_to_mariadb: Postgres to Mariadb;
    kills_from_sqlite_to_mariadb: Sqlite to Mariadb;
}

/// MySQL at both ends; without GTIDs, places in files are what is resumed by, and snapshots lock.
async fn kills_from_mysql_to_mysql(change: fn(ServerOptions) -> ServerOptions) {
    let Some(server) = ServerOptions::of(Version::MySql9) else { return };
    let server = change(server);
    let options =
        PairOptions { source_server: server.clone(), target_server: server, ..PairOptions::mariadb() };
    kills_under_load_lose_and_double_nothing(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_from_mysql_9_to_mysql_9() {
    kills_from_mysql_to_mysql(|server| server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_from_mysql_9_to_mysql_9_without_gtids() {
    kills_from_mysql_to_mysql(ServerOptions::without_gtids).await;
}
