//! Something that was stored is gone: the target's latest days, the slot, `state_dir`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::size::size;

use super::*;

async fn running() -> Pair {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_target_catches_up_by_itself() {
    let pair = running().await;
    let backup = pair.target_cluster().backup().await;
    pair.source_execute(&insert(301, 400)).await;
    pair.source_execute(&delete(1, 50)).await;
    pair.source_execute("UPDATE named SET n = 7 WHERE id LIKE '%9'").await;
    pair.wait_equal(&TABLES).await;

    pair.target_cluster().restore(&backup).await;
    pair.source_execute(&insert(401, 450)).await;
    pair.wait_equal(&TABLES).await;

    // Nothing more happens at the source: the next empty delivery tells.
    pair.target_cluster().restore(&backup).await;
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_slot_is_told_and_a_snapshot_removes_what_was_deleted() {
    let pair = running().await;
    assert_eq!(pair.publisher().terminate().await.code(), Some(0));
    drop_slot(&pair).await;
    pair.source_execute(&delete(1, 100)).await;
    pair.source_execute(&delete_keyless(1, 100)).await;
    pair.source_execute(&insert(1000, 1100)).await;
    pair.publisher().start();
    not_ready(&pair, &[SLOT, "does not exist any more", "rowbridge snapshot --all"]).await;

    // Writes go on while everything is sent again.
    snapshot_all(&pair);
    let until = Instant::now() + Duration::from_secs(4);
    let mut next = 2000;
    while Instant::now() < until {
        pair.source_execute(&insert(next, next + 4)).await;
        pair.source_execute(&format!("UPDATE named SET n = n + 1 WHERE id = 'key {}'", next - 3)).await;
        pair.source_execute(&format!("UPDATE numbered SET n = n + 1 WHERE id IN ({}, 1001)", next - 2)).await;
        pair.source_execute(&delete(next, next)).await;
        next += 5;
    }
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    pair.source_execute(&insert(10, 20)).await;
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_is_refused_until_a_snapshot() {
    let pair = running().await;
    pair.publisher().kill9();
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    pair.source_execute(&delete(1, 100)).await;
    pair.source_execute(&delete_keyless(1, 100)).await;
    pair.publisher().start();
    not_ready(&pair, &[SLOT, "state_dir", "rowbridge snapshot --all", "Endpoint copy stands at 0/"]).await;
    snapshot_all(&pair);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;

    // Without the slot, too, nothing at the source tells that this is not the first life: the target does.
    pair.publisher().terminate().await;
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    drop_slot(&pair).await;
    pair.source_execute(&delete(150, 250)).await;
    pair.source_execute(&delete_keyless(150, 250)).await;
    pair.publisher().start();
    not_ready(&pair, &["endpoint copy", "rowbridge snapshot --all"]).await;
    snapshot_all(&pair);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    pair.source_execute(&insert(1000, 1010)).await;
    pair.wait_equal(&TABLES).await;
}

/// A clock that was set back, or was wrong before: the target knows an epoch above the present second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epoch_of_a_new_state_lies_above_what_the_target_knows() {
    let pair = running().await;
    pair.publisher().terminate().await;
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    drop_slot(&pair).await;
    pair.target_execute(
        "UPDATE rowbridge_progress SET epoch = x'f0000000'::bigint, position = 'f0000000' || substr(position, 9)",
    )
    .await;
    pair.source_execute(&delete(1, 100)).await;
    pair.source_execute(&delete_keyless(1, 100)).await;
    pair.publisher().start();
    not_ready(&pair, &["endpoint copy", "rowbridge snapshot --all"]).await;
    snapshot_all(&pair);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    let epoch =
        pair.target_cluster().query_text(DATABASE, "SELECT epoch::text FROM rowbridge_progress").await;
    assert!(epoch.unwrap().parse::<u64>().unwrap() > 0xf000_0000);
    // Nobody answers while the state begins: the first answer is as good, and nothing counts as delivered before.
    pair.publisher().terminate().await;
    pair.subscriber().terminate().await;
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    drop_slot(&pair).await;
    pair.source_execute(&delete(150, 250)).await;
    pair.source_execute(&delete_keyless(150, 250)).await;
    pair.publisher().start();
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_capture_changes_total", &[], DEADLINE, |changes| changes > 0.0).await;
    pair.subscriber().start();
    not_ready(&pair, &["endpoint copy", "later epoch", "rowbridge snapshot --all"]).await;
    snapshot_all(&pair);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

/// A first start that was cut off has left a slot behind, and nobody needs to be asked about that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_start_that_was_killed_begins_again() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 300)).await;
    // The slot waits for the end of this transaction.
    let open = pair.source().await;
    open.batch_execute("BEGIN; INSERT INTO numbered VALUES (-1)").await.unwrap();
    pair.publisher().start();
    let sql = format!("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    wait::until("a slot in the making", DEADLINE, || async {
        if source_value(&pair, &sql).await == "1" { Ok(()) } else { Err("none yet".to_owned()) }
    })
    .await;
    pair.publisher().kill9();
    open.batch_execute("COMMIT").await.unwrap();
    pair.start().await;
    pair.wait_equal(&TABLES).await;
}

/// Keys that change while their table is read and sent again come from the stream, and the snapshot must not remove them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tables_sent_again_under_load_lose_no_row() {
    let pair = running().await;
    for round in 1..=size(1, 20) {
        let done = AtomicBool::new(false);
        let writer = |number: i64| {
            let (pair, done) = (&pair, &done);
            async move {
                let client = pair.source().await;
                let mut next = round * 10_000_000 + number * 1_000_000;
                while !done.load(Relaxed) {
                    next += 1;
                    // Most keys are touched once: nothing later mends them.
                    let sql = format!(
                        "BEGIN; INSERT INTO named VALUES ('{next}', 'once'); INSERT INTO numbered VALUES ({next}, 'once');
                         INSERT INTO keyless VALUES ({next}, 'once');
                         DELETE FROM named WHERE id = '{old}'; DELETE FROM numbered WHERE id = {old};
                         UPDATE named SET n = n + 1 WHERE id = '{next}'; COMMIT",
                        old = if next % 7 == 0 { next - 3 } else { 0 }
                    );
                    client.batch_execute(&sql).await.unwrap();
                }
            }
        };
        let again = async {
            let mark = pair.publisher().log().mark();
            request(pair.state_dir(), &Request::Snapshot(TABLES.map(str::to_owned).to_vec())).unwrap();
            for table in TABLES {
                let sent =
                    |line: &str| line.contains("existing rows are in the stream") && line.contains(table);
                pair.publisher().wait_for_line_since(mark, DEADLINE, sent).await;
            }
            done.store(true, Relaxed);
        };
        tokio::join!(writer(1), writer(2), writer(3), again);
        pair.wait_equal(&TABLES).await;
    }
}
