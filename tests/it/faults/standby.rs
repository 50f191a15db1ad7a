//! Publishers that come and go with nothing of their own: `confirm = "delivered"`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rowbridge_tests::compare::wait_for_count;
use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::proxy::Mode;
use rowbridge_tests::scenario::{Pair, PairOptions};

use super::*;

async fn prepared(options: PairOptions) -> Pair {
    let mut pair = Pair::prepare(options).await;
    pair.publisher_config.journal_extra = "confirm = \"delivered\"".into();
    pair.write_configs();
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    pair
}

async fn running() -> Pair {
    let pair = prepared(PairOptions::postgres()).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    pair
}

fn lose_state(pair: &Pair) {
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
}

/// The note that a snapshot is under way is gone: whoever takes over sends nothing again.
async fn wait_no_snapshot(pair: &Pair) {
    let sql = format!("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{SLOT}_snapshot'");
    wait::until("the end of the snapshot", DEADLINE, || async {
        let count = source_value(pair, &sql).await;
        if count == "0" { Ok(()) } else { Err(format!("{count} notes")) }
    })
    .await;
}

/// Small transactions until `done`. A keyless row that is applied twice is there twice.
async fn write_until(pair: &Pair, from: i64, done: &AtomicBool) -> i64 {
    let client = pair.source().await;
    let mut next = from;
    while !done.load(Relaxed) {
        client.batch_execute(&insert(next, next + 1)).await.unwrap();
        let update = format!("UPDATE numbered SET n = n + 1 WHERE id IN (7, {next})");
        client.batch_execute(&update).await.unwrap();
        client.batch_execute(&delete(next - 10, next - 10)).await.unwrap();
        next += 2;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    next
}

fn sends_tables(line: &str) -> bool {
    line.contains("existing rows are in the stream")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_goes_on_where_slot_and_target_are() {
    let pair = running().await;
    wait_no_snapshot(&pair).await;
    let mut next = 1000;
    let mark = pair.publisher().log().mark();
    for _ in 0..3 {
        let done = AtomicBool::new(false);
        let lose = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            pair.publisher().kill9();
            lose_state(&pair);
            pair.publisher().start();
            pair.wait_publisher().await;
            done.store(true, Relaxed);
        };
        (next, ()) = tokio::join!(write_until(&pair, next, &done), lose);
        pair.wait_equal(&TABLES).await;
    }
    // What was captured and not delivered is captured again.
    pair.subscriber().kill9();
    pair.source_execute(&insert(next, next + 200)).await;
    pair.source_execute(&delete(1, 100)).await;
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_journal_undelivered_bytes", &[], DEADLINE, |bytes| bytes > 10_000.0).await;
    pair.publisher().kill9();
    lose_state(&pair);
    pair.publisher().start();
    not_ready(&pair, &["waiting for endpoint copy"]).await;
    pair.subscriber().start();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    pair.source_execute(&delete(200, 250)).await;
    pair.source_execute(&insert(next + 300, next + 310)).await;
    pair.wait_equal(&TABLES).await;
    let log = pair.publisher().log().since(mark);
    assert_eq!(log.iter().filter(|line| line.contains("took over the stream")).count(), 4);
    assert!(!log.iter().any(|line| sends_tables(line)), "a table was sent again");
}

/// Slot and target do not say how far a snapshot was; a note at the source says that there was one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_amid_the_first_snapshot_sends_everything() {
    let pair = prepared(PairOptions::postgres().with_http_proxy()).await;
    let more = "INSERT INTO numbered SELECT i, repeat(md5(i::text), 20) FROM generate_series(10000, 40000) i";
    pair.source_execute(more).await;
    pair.start().await;
    let target = pair.target().await;
    wait::until("some rows at the target", DEADLINE, || async {
        let row = target.query_opt("SELECT 1 FROM numbered WHERE id >= 10000 LIMIT 1", &[]).await;
        if matches!(row, Ok(Some(_))) { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    pair.http_proxy().set_mode(Mode::Stall).await;
    pair.publisher().kill9();
    lose_state(&pair);
    pair.source_execute(&delete(1, 100)).await;
    pair.source_execute("DELETE FROM numbered WHERE id BETWEEN 10000 AND 10100").await;
    pair.http_proxy().set_mode(Mode::Pass).await;
    let mark = pair.publisher().log().mark();
    pair.publisher().start();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    let again = |line: &str| line.contains("every table is sent again") || line.contains("sent again");
    let log = pair.publisher().log().since(mark);
    assert!(log.iter().any(|line| again(line)), "{}", pair.publisher().last_lines());
    wait_no_snapshot(&pair).await;
    // From here on it is as if nothing had happened.
    pair.publisher().kill9();
    lose_state(&pair);
    let mark = pair.publisher().log().mark();
    pair.publisher().start();
    pair.source_execute(&insert(500, 600)).await;
    pair.wait_equal(&TABLES).await;
    assert!(!pair.publisher().log().since(mark).iter().any(|line| sends_tables(line)));
}

/// What was delivered to a target is nowhere else when both the target and the state are set back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_and_a_restored_target_are_told() {
    let pair = running().await;
    let backup = pair.target_cluster().backup().await;
    pair.source_execute(&insert(400, 500)).await;
    pair.source_execute(&delete(1, 50)).await;
    pair.wait_equal(&TABLES).await;
    let lsn = current_lsn(&pair).await;
    wait_slot_passed(&pair, &lsn, 2 * DEADLINE).await;
    wait_no_snapshot(&pair).await;
    pair.publisher().kill9();
    lose_state(&pair);
    pair.target_cluster().restore(&backup).await;
    pair.publisher().start();
    not_ready(&pair, &["endpoint copy: detached", SLOT, "`rowbridge snapshot --endpoint copy`"]).await;
    request(pair.state_dir(), &Request::Endpoint("copy".parse().unwrap())).unwrap();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    pair.source_execute(&insert(600, 700)).await;
    pair.wait_equal(&TABLES).await;
}

/// A second publisher of the same stream and slot, with a folder of its own.
fn second(pair: &Pair) -> (Daemon, u16, PathBuf) {
    let mut config = pair.publisher_config.clone();
    config.admin_port = free_port();
    config.state_dir = pair.state_dir().with_file_name("second");
    let path = pair.publisher_path().with_file_name("second.toml");
    std::fs::write(&path, config.text()).unwrap();
    (Daemon::new(DaemonOptions::run("second publisher", &path)), config.admin_port, config.state_dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_takes_over_and_back() {
    let pair = running().await;
    wait_no_snapshot(&pair).await;
    let (daemon, admin, _) = second(&pair);
    daemon.start();
    const STANDBY: &[&str] = &["standby: the slot is in use by another publisher (pid "];
    not_ready_at(admin, STANDBY).await;
    let mut next = 1000;
    let mark = (pair.publisher().log().mark(), daemon.log().mark());
    for _ in 0..2 {
        let done = AtomicBool::new(false);
        let switch = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            pair.publisher().kill9();
            ready_at(admin).await;
            pair.publisher().start();
            not_ready(&pair, STANDBY).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            daemon.kill9();
            pair.wait_publisher().await;
            daemon.start();
            not_ready_at(admin, STANDBY).await;
            done.store(true, Relaxed);
        };
        (next, ()) = tokio::join!(write_until(&pair, next, &done), switch);
        pair.wait_equal(&TABLES).await;
    }
    let target = pair.target().await;
    let rows: i64 = source_value(&pair, "SELECT count(*)::text FROM keyless").await.parse().unwrap();
    wait_for_count(&target, "keyless", rows, DEADLINE).await;
    // In order, too.
    pair.publisher().terminate().await;
    ready_at(admin).await;
    pair.source_execute(&insert(next, next + 100)).await;
    pair.wait_equal(&TABLES).await;
    let log = [pair.publisher().log().since(mark.0), daemon.log().since(mark.1)].concat();
    assert!(!log.iter().any(|line| sends_tables(line)), "a table was sent again");
}

async fn ready_at(port: u16) {
    let url = &format!("http://127.0.0.1:{port}/readyz");
    let client = &http_client();
    wait::until("a standby that has taken over", DEADLINE, || async move {
        let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    })
    .await;
}

/// A whole snapshot by one publisher is what the other goes on from: another epoch, another slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standby_follows_a_snapshot_of_everything() {
    let pair = running().await;
    wait_no_snapshot(&pair).await;
    let (daemon, admin, folder) = second(&pair);
    pair.publisher().kill9();
    daemon.start();
    ready_at(admin).await;
    pair.source_execute(&delete(1, 20)).await;
    request(&folder, &Request::SnapshotAll).unwrap();
    daemon.wait_for_line(|line| line.contains("everything is sent again")).await;
    pair.wait_equal(&TABLES).await;
    pair.source_execute(&insert(400, 500)).await;
    pair.wait_equal(&TABLES).await;
    wait_no_snapshot(&pair).await;
    daemon.kill9();
    pair.publisher().start();
    pair.wait_publisher().await;
    pair.source_execute(&insert(600, 700)).await;
    pair.source_execute(&delete(20, 40)).await;
    pair.wait_equal(&TABLES).await;
}
