//! Loads through a running replication: as fast as one session commits, or what has gathered while the line was down.

use std::time::{Duration, Instant};

use super::arguments::{Crossing, text};
use super::bridge::Bridge;
use super::costs::Sample;
use super::load::Load;
use super::native;
use super::report::{Measurement, System};
use super::usage;

/// From the first commit to the last row visible.
pub(super) async fn through(
    crossing: Crossing,
    system: System,
    load: Load,
    workload: &str,
    variant: &str,
) -> Measurement {
    let Load { shape, tables, before, transactions, rows } = load;
    let mut bridge = Bridge::start(crossing, system, shape, tables).await;
    bridge.fill(before).await;
    let mut source = bridge.source().await;
    let last = bridge.next_tick();
    let costs = Sample::take(&bridge.pair, system).await;
    let load = tokio::spawn(async move {
        let mut first = None;
        for transaction in transactions {
            source.commit(&transaction).await;
            first.get_or_insert_with(Instant::now);
        }
        source.commit(&[last]).await;
        first.unwrap_or_else(Instant::now)
    });
    let end = bridge.wait_for_tick().await;
    let mut measurement = Measurement::new(workload, variant, &crossing.name(), system.name());
    measurement.rows = rows;
    Sample::take(&bridge.pair, system).await.since(&costs, &bridge.pair, &mut measurement);
    measurement.seconds = (end - load.await.unwrap()).as_secs_f64();
    bridge.verify().await;
    measurement
}

/// Which end is down while the backlog gathers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    /// The backlog is in the source's own log. Native replication knows no other.
    Publisher,
    /// The backlog is in the publisher's journal. Its next attempt may be some seconds away when the subscriber is back.
    Subscriber,
}

impl Down {
    /// `--down publisher`, or `--down subscriber`.
    pub(super) fn asked_for() -> Self {
        match text("--down").as_deref() {
            None | Some("publisher") => Self::Publisher,
            Some("subscriber") => Self::Subscriber,
            Some(_) => usage("--down takes publisher or subscriber"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        }
    }
}

/// From the moment that the line is back to the last row visible: nobody waits for the load.
pub(super) async fn catchup(crossing: Crossing, system: System, down: Down, load: Load) -> Measurement {
    let Load { shape, tables, before, transactions, rows } = load;
    let mut bridge = Bridge::start(crossing, system, shape, tables).await;
    bridge.fill(before).await;
    let pair = &bridge.pair;
    match (system, down) {
        (System::Native, _) => native::pause(pair).await,
        (System::Rowbridge, Down::Publisher) => drop(pair.publisher().terminate().await),
        (System::Rowbridge, Down::Subscriber) => drop(pair.subscriber().terminate().await),
    }
    let mut source = bridge.source().await;
    for transaction in transactions {
        source.commit(&transaction).await;
    }
    source.commit(&[bridge.next_tick()]).await;
    let pair = &bridge.pair;
    if (system, down) == (System::Rowbridge, Down::Subscriber) {
        wait_until_captured(&bridge, rows).await;
    }
    let costs = Sample::take(pair, system).await;
    let started = Instant::now();
    match (system, down) {
        (System::Native, _) => native::resume(pair).await,
        (System::Rowbridge, Down::Publisher) => pair.publisher().start(),
        (System::Rowbridge, Down::Subscriber) => pair.subscriber().start(),
    }
    let end = bridge.wait_for_tick().await;
    let variant = format!("of {rows} rows, {} down", down.name());
    let mut measurement = Measurement::new("catchup", &variant, &crossing.name(), system.name());
    (measurement.rows, measurement.seconds) = (rows, (end - started).as_secs_f64());
    Sample::take(pair, system).await.since(&costs, pair, &mut measurement);
    bridge.verify().await;
    measurement
}

/// Waits until the backlog is in the journal, all of it.
async fn wait_until_captured(bridge: &Bridge, rows: u64) {
    use rowbridge_tests::metrics::wait_for;
    let port = bridge.pair.publisher_config.admin_port;
    let deadline = Duration::from_secs(900);
    wait_for(port, "rowbridge_capture_changes_total", &[], deadline, |count| count > rows as f64).await;
}
