//! Size: one huge transaction in bounded memory.

use std::time::Duration;

use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::size::size;

/// Resident memory that either process may take, whatever the transaction's size.
const RSS_LIMIT_BYTES: u64 = 150 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_transaction_needs_little_memory() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(
        "CREATE TABLE big (id bigint PRIMARY KEY, note text, amount numeric, at timestamptz)",
    )
    .await;
    pair.start().await;
    let rows = size(200_000, 2_000_000);
    let insert = format!(
        "INSERT INTO big SELECT i, 'note number ' || i || repeat('x', 40), i * 1.25, now() FROM generate_series(1, {rows}) i"
    );
    pair.source_execute(&insert).await;
    pair.wait_equal_within(&["public.big"], Duration::from_secs(size(120, 240))).await;
    measure(&pair, rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_transaction_of_mariadb_needs_little_memory() {
    let pair = Pair::prepare(PairOptions::mariadb()).await;
    pair.source_execute(
        "CREATE TABLE big (id BIGINT PRIMARY KEY, note VARCHAR(100), amount DECIMAL(20,4), at DATETIME(6))",
    )
    .await;
    pair.start().await;
    let rows = size(100_000, 1_000_000);
    let insert = format!(
        "INSERT INTO big SELECT seq, CONCAT('note number ', seq, REPEAT('x', 40)), seq * 1.25, NOW(6) FROM seq_1_to_{rows}"
    );
    pair.source_execute(&insert).await;
    pair.wait_equal_within(&["big"], Duration::from_secs(size(90, 400))).await;
    measure(&pair, rows);
}

/// Prints what both daemons have needed at most, and compares it with what they may.
fn measure(pair: &Pair, rows: u32) {
    let publisher = pair.publisher().peak_rss_bytes();
    let subscriber = pair.subscriber().peak_rss_bytes();
    println!(
        "{rows} rows in one transaction: publisher {} MiB, subscriber {} MiB",
        publisher >> 20,
        subscriber >> 20
    );
    assert!(publisher < RSS_LIMIT_BYTES, "publisher: {} MiB", publisher >> 20);
    assert!(subscriber < RSS_LIMIT_BYTES, "subscriber: {} MiB", subscriber >> 20);
}
