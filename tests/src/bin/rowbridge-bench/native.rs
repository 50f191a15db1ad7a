//! The replication that a database has itself: logical replication of PostgreSQL; MariaDB's, by row and GTID.

use std::time::Duration;

use rowbridge_tests::compare::Side;
use rowbridge_tests::scenario::{DATABASE, Kind, Pair};

use super::session::Session;

/// Begins to replicate all tables. Both ends have them already; `copied` says whether the rows are copied first (PostgreSQL), else
/// there are none.
pub(super) async fn start(pair: &Pair, copied: bool) {
    match pair.source_kind() {
        Kind::Postgres => {
            pair.source_execute("CREATE PUBLICATION bench FOR ALL TABLES").await;
            let url = pair.source_cluster().url(DATABASE);
            let with = format!("PUBLICATION bench WITH (copy_data = {copied})");
            pair.target_execute(&format!("CREATE SUBSCRIPTION bench CONNECTION '{url}' {with}")).await;
        }
        Kind::Mariadb => {
            assert!(!copied, "MariaDB's replication copies no rows that are there");
            replicate(pair).await;
        }
        Kind::Sqlite => panic!("SQLite has no replication"),
    }
}

/// Waits until what was there is copied and changes of all tables flow.
pub(super) async fn wait_until_ready(pair: &Pair) {
    if pair.target_kind() != Kind::Postgres {
        return;
    }
    let mut target = Session::open(pair, Side::Target).await;
    let missing = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    while target.number(missing).await != Some(0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn replicate(pair: &Pair) {
    let source = pair.source_server();
    source.create_user("replica", "secret", &["REPLICATION SLAVE ON *.*"]).await;
    let from = source.binlog_position().await.gtid;
    let statements = [
        format!("SET GLOBAL gtid_slave_pos = '{from}'"),
        format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'replica', \
             MASTER_PASSWORD = 'secret', MASTER_USE_GTID = slave_pos",
            source.port()
        ),
        "START SLAVE".to_owned(),
    ];
    let mut target = Session::open(pair, Side::Target).await;
    for sql in statements {
        target.execute(&sql).await;
    }
}

/// Cuts the line: the copy stands still, and the source keeps what it needs.
pub(super) async fn pause(pair: &Pair) {
    pair.target_execute(match pair.target_kind() {
        Kind::Postgres => "ALTER SUBSCRIPTION bench DISABLE",
        _ => "STOP SLAVE",
    })
    .await;
}

/// Goes on after [`pause`].
pub(super) async fn resume(pair: &Pair) {
    pair.target_execute(match pair.target_kind() {
        Kind::Postgres => "ALTER SUBSCRIPTION bench ENABLE",
        _ => "START SLAVE",
    })
    .await;
}
