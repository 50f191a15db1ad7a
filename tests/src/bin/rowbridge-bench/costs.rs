//! What a measurement has cost each process, and the wire.

use std::time::Instant;

use rowbridge_tests::metrics::Metrics;
use rowbridge_tests::process::{Daemon, peak_rss_bytes, tree_cpu_seconds, tree_of};
use rowbridge_tests::scenario::Pair;

use super::report::{Measurement, System};
use super::wire::{self, Connections};

/// Whose costs are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Process {
    /// The source's server; of PostgreSQL all of its processes.
    Source,
    /// The target's server, likewise. What looks at the copy asks it.
    Target,
    Publisher,
    Subscriber,
}

impl Process {
    pub(super) const ALL: [Self; 4] = [Self::Source, Self::Target, Self::Publisher, Self::Subscriber];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        }
    }

    /// The first of its processes. A file has none, and native replication has no daemons.
    fn pid(self, pair: &Pair) -> Option<u32> {
        let running = |daemon: &Daemon| daemon.is_running().then(|| daemon.pid());
        match self {
            Self::Source => pair.source_pid(),
            Self::Target => pair.target_pid(),
            Self::Publisher => running(pair.publisher()),
            Self::Subscriber => running(pair.subscriber()),
        }
    }

    /// The highest resident memory of the one of its processes that has taken most: sessions of PostgreSQL share what a sum
    /// would count again and again.
    fn peak_bytes(self, pair: &Pair) -> Option<u64> {
        tree_of(self.pid(pair)?).into_iter().filter_map(peak_rss_bytes).max()
    }
}

/// The counters at one moment.
pub(super) struct Sample {
    at: Instant,
    /// In the order of [`Process::ALL`].
    cpu_seconds: [Option<f64>; 4],
    deliveries: Option<u64>,
    connections: Option<Connections>,
}

impl Sample {
    pub(super) async fn take(pair: &Pair, system: System) -> Self {
        let cpu_seconds = Process::ALL.map(|process| tree_cpu_seconds(process.pid(pair)?));
        let (port, clients) = match system {
            System::Native => (port_of_source(pair), pair.target_pid()),
            System::Rowbridge => (Some(pair.subscriber_config.port), Process::Publisher.pid(pair)),
        };
        let clients = clients.map(tree_of).unwrap_or_default();
        let metrics = match system {
            System::Native => None,
            System::Rowbridge => Metrics::scrape(pair.publisher_config.admin_port).await.ok(),
        };
        let deliveries = metrics
            .map(|metrics| metrics.value("rowbridge_lane_deliveries_total", &[]).unwrap_or_default() as u64);
        let connections = port.and_then(|port| wire::connections(port, &clients));
        Self { at: Instant::now(), cpu_seconds, deliveries, connections }
    }

    /// Fills in what has been spent since `before`. A process that was not there then began at nothing.
    pub(super) fn since(&self, before: &Self, pair: &Pair, measurement: &mut Measurement) {
        for (index, process) in Process::ALL.into_iter().enumerate() {
            let started = before.cpu_seconds[index].unwrap_or_default();
            measurement.cpu_seconds[index] = self.cpu_seconds[index].map(|now| now - started);
            measurement.peak_bytes[index] = process.peak_bytes(pair);
        }
        measurement.cpu_wall_seconds = (self.at - before.at).as_secs_f64();
        measurement.deliveries = self.deliveries.map(|now| now - before.deliveries.unwrap_or_default());
        measurement.wire_bytes =
            before.connections.as_ref().zip(self.connections.as_ref()).and_then(|(b, a)| wire::carried(b, a));
    }
}

fn port_of_source(pair: &Pair) -> Option<u16> {
    use rowbridge_tests::scenario::Kind;
    match pair.source_kind() {
        Kind::Mariadb => Some(pair.source_server().port()),
        Kind::Postgres => Some(pair.source_cluster().port()),
        Kind::Sqlite => None,
    }
}
