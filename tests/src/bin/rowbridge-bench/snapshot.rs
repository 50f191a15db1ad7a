//! The first copy of tables: `CREATE SUBSCRIPTION` with `copy_data` beside a snapshot.

use std::time::Instant;

use rowbridge_tests::scenario::Kind;

use super::arguments::Crossing;
use super::bridge::{Bridge, LOOK};
use super::costs::Sample;
use super::native;
use super::report::{Measurement, System};
use super::tables::{Shape, name};

/// From the start of the copy to its last row visible: of the statement, or of the publisher's process.
pub(super) async fn snapshot(crossing: Crossing, system: System, count: u64, rows: u64) -> Measurement {
    let mut bridge = Bridge::empty(crossing, system).await;
    bridge.create(Shape::Usual, count).await;
    let per_table = rows / count;
    fill(&bridge, count, per_table).await;
    let pair = &bridge.pair;
    if system == System::Rowbridge {
        pair.subscriber().start();
        pair.wait_subscriber().await;
    }
    let costs = Sample::take(pair, system).await;
    let started = Instant::now();
    match system {
        System::Native => native::start(pair, true).await,
        System::Rowbridge => pair.publisher().start(),
    }
    // Keys are copied in their order here, and a table at once there: with their last rows, all are visible.
    let mut target = bridge.target().await;
    for table in 1..=count {
        let copy = pair.copy_of(&name(table));
        let last = format!("SELECT id FROM {copy} WHERE id = {per_table}");
        while target.number(&last).await.is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let variant = if count == 1 { String::new() } else { format!("of {count} tables") };
    let mut measurement = Measurement::new("snapshot", &variant, &crossing.name(), system.name());
    (measurement.rows, measurement.seconds) = (count * per_table, seconds);
    Sample::take(pair, system).await.since(&costs, pair, &mut measurement);
    if system == System::Native {
        // The connections that copied are closed, and their counts are gone.
        measurement.wire_bytes = None;
    }
    for table in 1..=count {
        let copied = target.number(&format!("SELECT count(*) FROM {}", pair.copy_of(&name(table)))).await;
        assert_eq!(copied, Some(per_table as i64), "rows of {} came after its last", name(table));
    }
    bridge.verify().await;
    measurement
}

/// The rows that are there, as settled as those of any old table.
async fn fill(bridge: &Bridge, count: u64, rows: u64) {
    let mut source = bridge.source().await;
    for table in 1..=count {
        source.execute(&Shape::Usual.insert(bridge.kind(), &name(table), 1, rows)).await;
    }
    if bridge.kind() == Kind::Postgres {
        source.execute("VACUUM (ANALYZE)").await;
        source.execute("CHECKPOINT").await;
    }
}
