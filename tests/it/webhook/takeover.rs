//! Publishers that lose their state, or take over from another: receivers of events are where the slot is.

use rowbridge_tests::postgres::{Cluster, ClusterOptions};
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::wait;

use super::*;

const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, status text, total int);
     INSERT INTO orders VALUES (1, 'there before', 1)";

/// Waits until the slot is behind everything that was committed, and no snapshot is noted.
async fn wait_confirmed(cluster: &Cluster) {
    let end = cluster.query_text("shop", "SELECT pg_current_wal_lsn()::text").await.unwrap();
    let asked = format!(
        "SELECT (bool_and(confirmed_flush_lsn IS NOT NULL AND confirmed_flush_lsn >= '{end}'))::text FROM pg_replication_slots"
    );
    let asked = &asked;
    wait::until("the slot to be confirmed", 2 * DEADLINE, || async move {
        match cluster.query_text("shop", asked).await.as_deref() {
            Some("true") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn insert(cluster: &Cluster, ids: std::ops::RangeInclusive<i64>) {
    for id in ids {
        cluster.execute("shop", &format!("INSERT INTO orders VALUES ({id}, 'new', {id})")).await;
    }
}

fn seen(requests: &[Received]) -> Vec<(String, i64)> {
    let events = requests.iter().map(Received::json);
    events.map(|event| (event["data"]["op"].as_str().unwrap().to_owned(), id(&event))).collect()
}

fn expected() -> Vec<(String, i64)> {
    let event = |op: &str, id| (op.to_owned(), id);
    vec![event("read", 1), event("insert", 2), event("insert", 3), event("insert", 4)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_of_webhooks_alone_goes_on_without_its_state() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::accepting());
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_database("shop").await;
    cluster.execute("shop", ORDERS).await;
    let state = folder.path().join("state");
    let mut config = Publisher::new("postgres", &cluster.url("shop"), &["public.*"], &state, free_port());
    config.journal_extra = "confirm = \"delivered\"".into();
    config.endpoints.push(endpoint("crm", &receiver, "json").with("start = \"snapshot\""));
    let path = folder.path().join("rowbridge.toml");
    std::fs::write(&path, config.text()).unwrap();
    let daemon = Daemon::new(DaemonOptions::run("publisher", &path));
    daemon.start();
    receiver.wait_for_requests(1, DEADLINE).await;
    insert(&cluster, 2..=3).await;
    receiver.wait_for_requests(3, DEADLINE).await;
    wait_confirmed(&cluster).await;
    daemon.kill9();
    std::fs::remove_dir_all(&state).unwrap();
    insert(&cluster, 4..=4).await;
    daemon.start();
    let requests = receiver.wait_for_requests(4, 2 * DEADLINE).await;
    assert_eq!(seen(&requests), expected());
    let positions: Vec<Value> = requests.iter().map(|request| request.json()["position"].clone()).collect();
    assert!(positions.is_sorted_by(|a, b| a.as_str() < b.as_str()), "{positions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_bridge_events_keep_their_positions_and_no_row_is_sent_again() {
    let mut pair = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Sqlite)).await;
    pair.source_execute(ORDERS).await;
    let receiver = Receiver::accepting();
    pair.publisher_config.journal_extra = "confirm = \"delivered\"".into();
    pair.publisher_config.endpoints.push(endpoint("crm", &receiver, "json").with("start = \"snapshot\""));
    pair.write_configs();
    pair.start().await;
    receiver.wait_for_requests(1, DEADLINE).await;
    insert(pair.source_cluster(), 2..=3).await;
    receiver.wait_for_requests(3, DEADLINE).await;
    pair.wait_equal(&["orders"]).await;
    wait_confirmed(pair.source_cluster()).await;
    pair.publisher().kill9();
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    insert(pair.source_cluster(), 4..=4).await;
    pair.publisher().start();
    pair.wait_equal(&["orders"]).await;
    let requests = receiver.wait_for_requests(4, 2 * DEADLINE).await;
    assert_eq!(seen(&requests), expected());
    let epoch = |request: &Received| request.json()["position"].as_str().unwrap()[..8].to_owned();
    assert!(requests.iter().all(|request| epoch(request) == epoch(&requests[0])), "one epoch");
}
