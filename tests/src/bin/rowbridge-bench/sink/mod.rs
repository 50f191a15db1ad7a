//! PostgreSQL to a plain receiver of JSON batches: rows per second from the first commit to the last event received, beside
//! a batch sender written by hand. Both read the same publication's stream, both sign, and both have one request under way
//! at a time, of at most a thousand events.

pub(super) mod collector;
pub(super) mod sender;

use std::time::{Duration, Instant};

use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::port::free_port;
use rowbridge_tests::postgres::Cluster;
use rowbridge_tests::process::{Daemon, DaemonOptions, tree_cpu_seconds};
use rowbridge_tests::scenario::{DATABASE, Kind};
use rowbridge_tests::webhook::secret;

use self::collector::Collector;
use super::arguments::number;
use super::bridge::durable_postgres;
use super::costs::Process;
use super::load::{Load, inserts};
use super::report::{Measurement, OURS, Report};
use super::tables::{Shape, name};

/// Events of one request at most.
const BATCH: usize = 1_000;
/// How long a measurement may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Hand,
    Rowbridge,
}

/// Pairs, one after the other.
pub(super) async fn sink(report: &mut Report, pairs: u32) {
    for _ in 0..pairs {
        for sender in [Sender::Hand, Sender::Rowbridge] {
            report.add(measure(sender).await);
        }
    }
}

/// A load, and the events that come of it.
async fn measure(sender: Sender) -> Measurement {
    let (rows, per_transaction) = (number("--rows", 200_000), number("--per-transaction", 1_000));
    let Load { shape, transactions, .. } = inserts(Kind::Postgres, Shape::Usual, 1, rows, per_transaction);
    let source = Cluster::start(durable_postgres()).await;
    source.create_database(DATABASE).await;
    source.execute(DATABASE, &shape.create(Kind::Postgres, &name(1))).await;
    let folder = tempfile::Builder::new().prefix("rowbridge-sink-").tempdir().unwrap();
    let collector = Collector::start(rows).await;
    let (system, daemon) = match sender {
        Sender::Hand => ("by hand", sender::start(&source.url(DATABASE), collector.port()).await),
        Sender::Rowbridge => (OURS, publisher(&source, folder.path(), collector.port()).await),
    };
    let client = source.connect(DATABASE).await;
    let cpu = |pid| tree_cpu_seconds(pid).unwrap();
    let (began, before) = (Instant::now(), (cpu(source.pid()), cpu(daemon.pid())));
    let mut first = None;
    for transaction in transactions {
        client.batch_execute(&transaction.join(";")).await.unwrap();
        first.get_or_insert_with(Instant::now);
    }
    let seen = collector.seen().await;
    let mut measurement = Measurement::new("sink", "in batches", "postgres-webhook", system);
    measurement.rows = rows;
    measurement.cpu_wall_seconds = began.elapsed().as_secs_f64();
    // The collector reads what it has got after the last of it has come, which does not count.
    measurement.seconds = (first.unwrap().elapsed() - seen.ago).as_secs_f64();
    measurement.cpu_seconds[Process::Source as usize] = Some(cpu(source.pid()) - before.0);
    measurement.cpu_seconds[Process::Publisher as usize] = Some(cpu(daemon.pid()) - before.1);
    measurement.peak_bytes[Process::Publisher as usize] = Some(daemon.peak_rss_bytes());
    measurement.wire_bytes = Some(seen.bytes);
    measurement.deliveries = Some(seen.requests);
    measurement
}

async fn publisher(source: &Cluster, folder: &std::path::Path, port: u16) -> Daemon {
    let batch = format!("batch = {{ max_events = {BATCH}, max_bytes = \"1 MiB\", max_wait = \"0s\" }}");
    let url = format!("http://127.0.0.1:{port}/sink");
    let endpoint = Endpoint::new("sink", &url, &secret(1), "json").with(&batch);
    let state = folder.join("state");
    let config = Publisher::new("postgres", &source.url(DATABASE), &["*.*"], &state, free_port());
    let path = folder.join("publisher.toml");
    std::fs::write(&path, config.endpoint(endpoint).text()).unwrap();
    let daemon = Daemon::spawn(DaemonOptions::run("publisher", &path));
    daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
    daemon
}
