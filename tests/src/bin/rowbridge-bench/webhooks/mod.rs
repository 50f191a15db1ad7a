//! Webhooks to receivers that are not Rowbridge: requests per second of what has gathered in the journal, one event each,
//! beside a sender written by hand; and what a delivery costs when a stream has one endpoint, ten, or a hundred.
//!
//! Events are captured before, while nobody answers. Then the receiver comes, the publisher starts again, and the receiver
//! measures: the capture does not count, and the first tenth of the requests does not either.

pub(super) mod receiver;
mod sender;

use std::path::Path;
use std::time::{Duration, Instant};

use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::webhook::secret;
use tempfile::TempDir;

use self::receiver::{Receiver, Seen};
use super::costs::Process;
use super::report::{Measurement, OURS, Report};
use super::wire;

/// Rows that the events change, in turn.
const KEYS: usize = 1_000;
/// Requests under way where order is kept by key only, or not at all.
const CONCURRENCY: usize = 8;

const TABLE: &str =
    "CREATE TABLE bench (id INTEGER PRIMARY KEY, round INTEGER, note TEXT, amount REAL, at TEXT, ok INTEGER)";

/// Events in a journal, for some endpoints that have not got any of them.
struct Backlog {
    source: SqliteFile,
    folder: TempDir,
    events: usize,
    endpoints: usize,
}

impl Backlog {
    /// Captures `events`: half of them in transactions of their own, half in transactions of a thousand.
    async fn prepare(events: usize, endpoints: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("rowbridge-webhooks-").tempdir().unwrap();
        let backlog = Self { source: SqliteFile::create("source"), folder, events, endpoints };
        backlog.source.execute(TABLE);
        let daemon = backlog.publisher("captured", free_port(), "strict", "");
        daemon.start();
        daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
        tokio::task::block_in_place(|| backlog.write());
        // What is in the journal leaves the change log, but for its last entry.
        while backlog.source.count("rowbridge_log").unwrap() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon.terminate().await;
        // Attempts at an address where nobody was.
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(backlog.state("captured").join(format!("deliveries.db{suffix}")));
        }
        backlog
    }

    fn write(&self) {
        let connection = self.source.open();
        let single = self.events / 2;
        for (number, event) in (0..self.events).enumerate() {
            let first = number >= single && (number - single).is_multiple_of(1_000);
            if first {
                connection.execute_batch("BEGIN").unwrap();
            }
            connection
                .prepare_cached(
                    "INSERT INTO bench VALUES (?1, ?2, 'note number ' || ?2, ?2 * 1.25, datetime('now'), ?2 % 2)
                     ON CONFLICT (id) DO UPDATE SET round = excluded.round, note = excluded.note, amount = excluded.amount,
                         at = excluded.at, ok = excluded.ok",
                )
                .unwrap()
                .execute([(event % KEYS) as i64, event as i64])
                .unwrap();
            let last = number >= single && ((number - single) % 1_000 == 999 || number == self.events - 1);
            if last {
                connection.execute_batch("COMMIT").unwrap();
            }
        }
    }

    fn state(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A publisher that is not started yet; `order` is also what the receiver checks.
    fn publisher(&self, state: &str, port: u16, order: &str, lines: &str) -> Daemon {
        let mut config =
            Publisher::new("sqlite", &self.source.url(), &["*"], &self.state(state), free_port());
        config.endpoints.extend((1..=self.endpoints).map(|number| {
            let name = format!("e{number}");
            Endpoint::new(&name, &format!("http://127.0.0.1:{port}/{order}/{name}"), &secret(1), "json")
                .with(lines)
        }));
        let path = self.folder.path().join(format!("{state}.toml"));
        std::fs::write(&path, config.text()).unwrap();
        Daemon::new(DaemonOptions::run("publisher", &path))
    }

    /// Delivers all of it, from a copy of the journal. Gives bytes of a body, too.
    async fn deliver(&self, order: &str, lines: &str, variant: &str) -> (Measurement, usize) {
        let deliveries = self.events * self.endpoints;
        copy(&self.state("captured"), &self.state("run"));
        let receiver = Receiver::start(deliveries, deliveries / 10).await;
        let daemon = self.publisher("run", receiver.port(), order, lines);
        daemon.start();
        let started = Instant::now();
        let seen = receiver.seen().await;
        let mut measurement = measured(deliveries, &seen, variant, OURS);
        measurement.cpu_seconds[Process::Publisher as usize] = Some(daemon.cpu_seconds());
        measurement.cpu_wall_seconds = started.elapsed().as_secs_f64();
        measurement.peak_bytes[Process::Publisher as usize] = Some(daemon.peak_rss_bytes());
        measurement.wire_bytes = wire::connections(receiver.port(), &[daemon.pid()])
            .filter(|connections| connections.len() == seen.connections)
            .map(|connections| connections.values().sum());
        daemon.terminate().await;
        let log = rusqlite::Connection::open(self.state("run").join("deliveries.db")).unwrap();
        let recorded: i64 = log.query_row("SELECT max(id) FROM attempts", [], |row| row.get(0)).unwrap();
        assert_eq!(recorded as usize, deliveries, "attempts are missing in the log");
        drop(log);
        std::fs::remove_dir_all(self.state("run")).unwrap();
        (measurement, seen.body_bytes)
    }
}

/// Costs count from the start of the process, for all deliveries; the pace does not count those at the beginning. So the
/// time is the one that all would have taken at that pace.
fn measured(deliveries: usize, seen: &Seen, variant: &str, system: &'static str) -> Measurement {
    let mut measurement = Measurement::new("webhooks", variant, "sqlite-webhook", system);
    measurement.rows = deliveries as u64;
    measurement.seconds = deliveries as f64 / seen.per_second;
    measurement.deliveries = Some(deliveries as u64);
    measurement
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All of it, or one of `strict`, `key`, `none` and `endpoints` only.
pub(super) async fn webhooks(report: &mut Report, pairs: u32, events: usize, only: Option<&str>) {
    if only == Some("endpoints") {
        return endpoints(report, pairs, 2 * events).await;
    }
    let backlog = Backlog::prepare(events, 1).await;
    let wide = format!("concurrency = {CONCURRENCY}");
    let ways = [
        ("in order, one connection", "strict", String::new(), 1),
        ("in order of each key, 8 at once", "key", format!("order = \"key\"\n{wide}"), CONCURRENCY),
        ("in any order, 8 at once", "none", format!("order = \"none\"\n{wide}"), CONCURRENCY),
    ];
    let ways = ways.into_iter().filter(|(_, order, ..)| only.is_none_or(|only| only == *order));
    for (variant, order, lines, connections) in ways {
        for _ in 0..pairs {
            let (ours, body_bytes) = backlog.deliver(order, &lines, variant).await;
            let hand = sender::by_hand(events, events / 10, connections, body_bytes).await;
            report.add(measured(events, &hand, variant, "by hand"));
            report.add(ours);
        }
    }
    if only.is_none() {
        endpoints(report, pairs, 2 * events).await;
    }
}

/// What a delivery costs with more and more endpoints, `events` deliveries in all.
pub(super) async fn endpoints(report: &mut Report, pairs: u32, events: usize) {
    for endpoints in [1, 10, 100] {
        let backlog = Backlog::prepare(events / endpoints, endpoints).await;
        for _ in 0..pairs {
            report.add(backlog.deliver("strict", "", &format!("to {endpoints} endpoints")).await.0);
        }
    }
}
