//! pgbench's own load, TPC-B, as fast as four clients get it done.

use std::time::Instant;

use rowbridge_tests::scenario::DATABASE;

use super::arguments::{Crossing, number};
use super::bridge::Bridge;
use super::costs::Sample;
use super::report::{Measurement, System};

/// `pgbench_accounts` has 100,000 times as many rows.
const SCALE: &str = "10";
/// Of a transaction: three updates and an insert.
const CHANGES: u64 = 4;

const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"];

/// From the start of pgbench to its last row visible.
pub(super) async fn tpcb(crossing: Crossing, system: System) -> Measurement {
    let seconds = number("--seconds", 10_u64);
    let mut bridge = Bridge::empty(crossing, system).await;
    let (source, target) = (bridge.pair.source_cluster(), bridge.pair.target_cluster());
    source.pgbench(DATABASE, &["-i", "-q", "-s", SCALE]).await;
    target.psql(DATABASE, &source.dump_schema(DATABASE).await).await;
    bridge.add_tables(TABLES.map(|table| format!("public.{table}")));
    bridge.begin(true).await;
    // Caches and plans first.
    run(&bridge, 1).await;
    bridge.fill([]).await;

    let costs = Sample::take(&bridge.pair, system).await;
    let started = Instant::now();
    let transactions = run(&bridge, seconds).await;
    let last = bridge.next_tick();
    bridge.source().await.commit(&[last]).await;
    let end = bridge.wait_for_tick().await;
    let mut measurement = Measurement::new("tpcb", "", &crossing.name(), system.name());
    (measurement.rows, measurement.seconds) = (CHANGES * transactions, (end - started).as_secs_f64());
    Sample::take(&bridge.pair, system).await.since(&costs, &bridge.pair, &mut measurement);
    bridge.verify().await;
    measurement
}

/// How many transactions there were.
async fn run(bridge: &Bridge, seconds: u64) -> u64 {
    let seconds = seconds.to_string();
    let arguments = ["-n", "-c", "4", "-j", "2", "-T", &seconds];
    let report = bridge.pair.source_cluster().pgbench(DATABASE, &arguments).await;
    transactions(&report)
}

/// `number of transactions actually processed: 12345`, and `12345/12345` before PostgreSQL 15.
fn transactions(report: &str) -> u64 {
    let line =
        report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let count = line.and_then(|line| line.split('/').next()?.trim().parse().ok());
    count.unwrap_or_else(|| panic!("pgbench says no number of transactions:\n{report}"))
}
