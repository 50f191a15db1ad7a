//! Endpoints that are slower than the source may wait for.

use std::process::Command;

use rowbridge_tests::compare::wait_until_equal;
use rowbridge_tests::config::{Endpoint, Subscriber};
use rowbridge_tests::metrics::{Metrics, wait_for};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions, binary};
use rowbridge_tests::scenario::{ENDPOINT, Pair, PairOptions};
use rowbridge_tests::webhook::secret;

use super::*;

const SLOW: &str = "slow";

/// A second subscriber with a database of its own, and its endpoint in the publisher's file.
struct Second {
    daemon: Daemon,
    url: String,
}

impl Second {
    async fn add(pair: &mut Pair) -> Self {
        pair.target_cluster().create_database("second").await;
        let (port, secret) = (free_port(), secret(9));
        let url = pair.target_cluster().url("second");
        let mut config = Subscriber::new("postgres", &url, port, &secret, free_port());
        config.target_extra = "create = true".into();
        let path = pair.subscriber_path().with_file_name("second.toml");
        std::fs::write(&path, config.text()).unwrap();
        let in_url = format!("http://127.0.0.1:{port}/in/shop");
        pair.publisher_config.endpoints.push(Endpoint::bridge(SLOW, &in_url, &secret));
        pair.write_configs();
        Self { daemon: Daemon::spawn(DaemonOptions::run("second subscriber", &path)), url }
    }

    async fn wait_equal(&self, pair: &Pair) {
        let source = pair.source_cluster().url(DATABASE);
        wait_until_equal(&source, &self.url, &TABLES.map(|table| (table, table)), DEADLINE).await;
    }
}

async fn is_detached(pair: &Pair, endpoint: &str) -> bool {
    let metrics = Metrics::scrape(pair.publisher_config.admin_port).await.unwrap();
    let labels = [("endpoint", endpoint), ("state", "detached")];
    metrics.value("rowbridge_lane_state", &labels) == Some(1.0)
}

/// Writes until an endpoint is detached; gives the next free id.
async fn write_until_detached(pair: &Pair, endpoint: &str, mut next: i64) -> i64 {
    let client = pair.source().await;
    let until = Instant::now() + 2 * DEADLINE;
    while !is_detached(pair, endpoint).await {
        assert!(Instant::now() < until, "{endpoint} is not detached; {}", pair.publisher().last_lines());
        client.batch_execute(&insert(next, next + 199)).await.unwrap();
        next += 200;
    }
    next
}

fn send_again(pair: &Pair, endpoint: &str) {
    let mut command = Command::new(binary());
    command.args(["snapshot", "--endpoint", endpoint, "--config"]).arg(pair.publisher_path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowest_endpoint_is_detached_and_comes_back_whole() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    pair.publisher_config.journal_extra = "max_bytes = \"256 KiB\"".into();
    pair.publisher_config.source_extra = "max_retained = \"2 MiB\"".into();
    let second = Second::add(&mut pair).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    second.wait_equal(&pair).await;

    second.daemon.kill9();
    let next = write_until_detached(&pair, SLOW, 1000).await;
    let text = not_ready(
        &pair,
        &["endpoint slow: detached", "max_retained", "`rowbridge snapshot --endpoint slow`"],
    )
    .await;
    assert!(!text.contains("endpoint copy: detached"), "{text}");
    // The others go on, and the source's log is let go.
    pair.wait_equal(&TABLES).await;
    pair.source_execute(&insert(next, next + 9)).await;
    let lsn = current_lsn(&pair).await;
    wait_slot_passed(&pair, &lsn, DEADLINE).await;
    assert!(!is_detached(&pair, ENDPOINT).await);

    // It stays so after a kill, and when the endpoint is back: what it missed is gone.
    pair.publisher().kill9();
    pair.publisher().start();
    second.daemon.start();
    pair.source_execute(&delete(1, 100)).await;
    pair.source_execute("UPDATE named SET n = 5 WHERE id LIKE '%7'").await;
    pair.wait_equal(&TABLES).await;
    not_ready(&pair, &["endpoint slow: detached", "max_retained", "`rowbridge snapshot --endpoint slow`"])
        .await;

    send_again(&pair, SLOW);
    second.wait_equal(&pair).await;
    pair.wait_publisher().await;
    pair.source_execute(&insert(next + 10, next + 20)).await;
    pair.source_execute(&delete(150, 160)).await;
    second.wait_equal(&pair).await;
    pair.wait_equal(&TABLES).await;
    // And is like any other after a restart.
    pair.publisher().restart().await;
    pair.source_execute(&insert(next + 21, next + 30)).await;
    second.wait_equal(&pair).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_endpoints_are_detached_one_after_another() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    pair.publisher_config.journal_extra = "max_bytes = \"256 KiB\"".into();
    pair.publisher_config.source_extra = "max_retained = \"2 MiB\"".into();
    let second = Second::add(&mut pair).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    second.wait_equal(&pair).await;

    pair.subscriber().kill9();
    second.daemon.kill9();
    let next = write_until_detached(&pair, SLOW, 1000).await;
    let next = write_until_detached(&pair, ENDPOINT, next).await;
    // Nobody is waited for any more.
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_capture_paused", &[], DEADLINE, |paused| paused == 0.0).await;
    pair.source_execute(&delete(1, 100)).await;
    let lsn = current_lsn(&pair).await;
    wait_slot_passed(&pair, &lsn, DEADLINE).await;
    wait_for(admin, "rowbridge_source_retained_bytes", &[], DEADLINE, |bytes| bytes >= 0.0).await;

    second.daemon.start();
    pair.subscriber().start();
    send_again(&pair, ENDPOINT);
    pair.wait_equal(&TABLES).await;
    assert!(is_detached(&pair, SLOW).await);
    // What makes everything whole makes this one whole, too.
    snapshot_all(&pair);
    second.wait_equal(&pair).await;
    pair.source_execute(&insert(next, next + 10)).await;
    pair.wait_equal(&TABLES).await;
    second.wait_equal(&pair).await;
    pair.wait_publisher().await;
}

/// With `delivered` the source holds what is not delivered although the journal has room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_policy_has_the_same_bound() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    pair.publisher_config.journal_extra = "confirm = \"delivered\"".into();
    pair.publisher_config.source_extra = "max_retained = \"2 MiB\"".into();
    let second = Second::add(&mut pair).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    second.wait_equal(&pair).await;
    second.daemon.kill9();
    let next = write_until_detached(&pair, SLOW, 1000).await;
    assert!(!is_detached(&pair, ENDPOINT).await);
    let lsn = current_lsn(&pair).await;
    wait_slot_passed(&pair, &lsn, 2 * DEADLINE).await;
    pair.source_execute(&delete(1, 100)).await;
    second.daemon.start();
    send_again(&pair, SLOW);
    second.wait_equal(&pair).await;
    pair.wait_equal(&TABLES).await;
    pair.source_execute(&insert(next, next + 10)).await;
    second.wait_equal(&pair).await;
    pair.wait_publisher().await;
}
