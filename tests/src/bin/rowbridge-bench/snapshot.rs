//! The first copy of a table: `CREATE SUBSCRIPTION` with `copy_data` beside a snapshot.

use std::time::{Duration, Instant};

use rowbridge_tests::scenario::{DATABASE, Pair};

use super::{System, TABLE, VALUES, prepare};

/// Rows per second from the start of the copy to its last row visible.
pub(super) async fn snapshot(system: System, rows: i64) -> f64 {
    let pair = prepare().await;
    pair.source_execute(TABLE).await;
    pair.target_execute(TABLE).await;
    pair.source_execute(&format!("INSERT INTO bench {VALUES} FROM generate_series(1, {rows}) i")).await;
    pair.source_execute("VACUUM (ANALYZE) bench").await;
    pair.source_execute("CHECKPOINT").await;
    let target = pair.target().await;
    // Keys are copied in their order here, and all at once there: with the last row, all are visible.
    let seen = target.prepare("SELECT 1 FROM bench WHERE id = $1").await.unwrap();
    let started = match system {
        System::Native => {
            pair.source_execute("CREATE PUBLICATION bench FOR TABLE bench").await;
            let url = pair.source_cluster().url(DATABASE);
            let started = Instant::now();
            pair.target_execute(&format!("CREATE SUBSCRIPTION bench CONNECTION '{url}' PUBLICATION bench"))
                .await;
            started
        }
        System::Rowbridge => {
            pair.subscriber().start();
            pair.wait_subscriber().await;
            let started = Instant::now();
            pair.publisher().start();
            started
        }
    };
    while target.query(&seen, &[&rows]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    let copied: i64 = target.query_one("SELECT count(*) FROM bench", &[]).await.unwrap().get(0);
    assert_eq!(copied, rows, "rows are missing");
    let rate = rows as f64 / took.as_secs_f64();
    println!("snapshot {system:?}: {rate:.0} rows/s ({:.2} s)", took.as_secs_f64());
    if system == System::Rowbridge {
        costs(&pair);
    }
    rate
}

/// What both daemons have taken since they were started.
pub(super) fn costs(pair: &Pair) {
    for (name, daemon) in [("publisher", pair.publisher()), ("subscriber", pair.subscriber())] {
        println!("  {name}: {:.2} CPU s, peak {} MiB", daemon.cpu_seconds(), daemon.peak_rss_bytes() >> 20);
    }
}
