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
