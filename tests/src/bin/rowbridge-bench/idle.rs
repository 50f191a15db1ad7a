//! What both ends take while nothing happens.

use std::time::{Duration, Instant};

use super::arguments::{Crossing, number};
use super::bridge::Bridge;
use super::costs::Sample;
use super::load::{Load, inserts};
use super::report::{Measurement, System};
use super::tables::Shape;

/// What is left to do after a load is done by then.
const SETTLED: Duration = Duration::from_secs(5);

/// Processor time over `--seconds`, of a replication of so many tables.
pub(super) async fn idle(crossing: Crossing, system: System, tables: u64) -> Measurement {
    let seconds = number("--seconds", 30_u64);
    let mut bridge = Bridge::start(crossing, system, Shape::Usual, tables).await;
    let Load { before, transactions, .. } = inserts(bridge.kind(), Shape::Usual, tables, 10_000, 100);
    bridge.fill(before.into_iter().chain(transactions.flatten())).await;
    tokio::time::sleep(SETTLED).await;
    let costs = Sample::take(&bridge.pair, system).await;
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut measurement =
        Measurement::new("idle", &format!("{tables} tables"), &crossing.name(), system.name());
    measurement.seconds = started.elapsed().as_secs_f64();
    Sample::take(&bridge.pair, system).await.since(&costs, &bridge.pair, &mut measurement);
    bridge.verify().await;
    measurement
}
