//! PostgreSQL to PostgreSQL under pgbench: snapshot under write load, kills, restarts.

use std::time::Duration;

use rowbridge_tests::kills::{account, kill_in_turn};
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::size::size;

const TABLES: [&str; 4] = [
    "public.pgbench_accounts",
    "public.pgbench_branches",
    "public.pgbench_history",
    "public.pgbench_tellers",
];

async fn initialised() -> Pair {
    let pair = Pair::prepare(PairOptions::postgres().with_http_proxy()).await;
    let scale = size("1", "10");
    pair.source_cluster().pgbench(DATABASE, &["-i", "-q", "-s", scale]).await;
    pair
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_runs_under_write_load() {
    let pair = initialised().await;
    let seconds = size("6", "60");
    let load =
        async { pair.source_cluster().pgbench(DATABASE, &["-n", "-c", "4", "-j", "2", "-T", seconds]).await };
    let (report, ()) = tokio::join!(load, pair.start());
    println!("{report}");
    pair.wait_equal_within(&TABLES, Duration::from_secs(size(120, 300))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_restarts_lose_and_double_nothing() {
    let pair = initialised().await;
    pair.start().await;
    let seconds = size("10", "60");
    let load = async {
        let report =
            pair.source_cluster().pgbench(DATABASE, &["-n", "-c", "4", "-j", "2", "-T", seconds]).await;
        println!("{report}");
    };
    let times = size(10, 24);
    let longest = Duration::from_millis(size(1_200, 4_000));
    let faults = async { kill_in_turn(&pair, times, longest).await };
    let ((), kills) = tokio::join!(load, faults);
    // Both servers go down once, with what is still on its way.
    pair.source_cluster().restart().await;
    pair.target_cluster().restart().await;
    pair.source_cluster().pgbench(DATABASE, &["-n", "-c", "2", "-t", "200"]).await;
    pair.wait_equal_within(&TABLES, Duration::from_secs(size(120, 300))).await;
    account(&pair, kills).await;
}
