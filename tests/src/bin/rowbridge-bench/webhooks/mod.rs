//! Webhooks to receivers that are not Rowbridge: requests per second of what has gathered in the journal, one event each,
//! beside a sender written by hand; and what a delivery costs when a stream has one endpoint, ten, or a hundred.
//!
//! Events are captured before, while nobody answers. Then the receiver comes, the publisher starts again, and the receiver
//! measures: the capture does not count, and the first tenth of the requests does not either.

pub(super) mod receiver;
mod sender;

use std::path::Path;
use std::time::Duration;

use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::webhook::secret;
use tempfile::TempDir;

use self::receiver::{Receiver, Seen};
use super::median;

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

/// How a measurement ended.
struct Run {
    seen: Seen,
    /// Processor time of the publisher from its start.
    cpu_seconds: f64,
    peak_bytes: u64,
    deliveries: usize,
}

impl Run {
    fn cpu_per_100_000(&self) -> f64 {
        self.cpu_seconds * 1e5 / self.deliveries as f64
    }
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

    /// Delivers all of it, from a copy of the journal.
    async fn deliver(&self, order: &str, lines: &str) -> Run {
        let deliveries = self.events * self.endpoints;
        copy(&self.state("captured"), &self.state("run"));
        let receiver = Receiver::start(deliveries, deliveries / 10).await;
        let daemon = self.publisher("run", receiver.port(), order, lines);
        daemon.start();
        let seen = receiver.seen().await;
        let (cpu_seconds, peak_bytes) = (daemon.cpu_seconds(), daemon.peak_rss_bytes());
        daemon.terminate().await;
        let log = rusqlite::Connection::open(self.state("run").join("deliveries.db")).unwrap();
        let recorded: i64 = log.query_row("SELECT max(id) FROM attempts", [], |row| row.get(0)).unwrap();
        assert_eq!(recorded as usize, deliveries, "attempts are missing in the log");
        drop(log);
        std::fs::remove_dir_all(self.state("run")).unwrap();
        Run { seen, cpu_seconds, peak_bytes, deliveries }
    }
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

fn print(what: &str, run: &Run) {
    println!(
        "  {what}: {:.0}/s, {:.2} CPU s per 100,000 deliveries, peak {} MiB, {} connections",
        run.seen.per_second,
        run.cpu_per_100_000(),
        run.peak_bytes >> 20,
        run.seen.connections
    );
}

/// All of it, or one of `strict`, `key`, `none` and `endpoints` only.
pub(super) async fn webhooks(pairs: i64, events: usize, only: Option<&str>) {
    let backlog = Backlog::prepare(events, 1).await;
    let wide = format!("concurrency = {CONCURRENCY}");
    let ways = [
        ("in order, one connection", "strict", String::new(), 1),
        ("in order of each key, 8 at once", "key", format!("order = \"key\"\n{wide}"), CONCURRENCY),
        ("in any order, 8 at once", "none", format!("order = \"none\"\n{wide}"), CONCURRENCY),
    ];
    let wanted = |way: &str| only.is_none_or(|only| only == way);
    for (what, order, lines, connections) in ways.into_iter().filter(|(_, order, ..)| wanted(order)) {
        println!("webhooks, {what}: {events} events");
        let mut ratios = Vec::new();
        for _ in 0..pairs {
            let ours = backlog.deliver(order, &lines).await;
            let bytes = ours.seen.body_bytes;
            let hand = sender::by_hand(events, events / 10, connections, bytes).await;
            println!("  by hand: {:.0}/s, bodies of {bytes} bytes", hand.per_second);
            print("Rowbridge", &ours);
            ratios.push(ours.seen.per_second / hand.per_second);
        }
        println!("webhooks, {what}: median of Rowbridge / by hand over {pairs} pairs: {:.2}", median(ratios));
    }
    if !wanted("endpoints") {
        return;
    }
    let deliveries = 2 * events;
    println!("webhooks, {deliveries} deliveries of one stream:");
    for endpoints in [1, 10, 100] {
        let backlog = Backlog::prepare(deliveries / endpoints, endpoints).await;
        let runs = [backlog.deliver("strict", "").await, backlog.deliver("strict", "").await];
        for run in &runs {
            print(&format!("{endpoints} endpoints"), run);
        }
    }
}
