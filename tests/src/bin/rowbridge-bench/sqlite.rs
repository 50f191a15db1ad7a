//! What an SQLite source costs: the application's own speed, the wait until a commit is visible at the copy, processor
//! time while nothing happens, and the size of the application's file.

use std::time::{Duration, Instant};

use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rusqlite::params;

use super::{median, percentile};

const TABLE: &str =
    "CREATE TABLE bench (id INTEGER PRIMARY KEY, note TEXT, amount REAL, at TEXT, data TEXT, ok INTEGER)";
const INSERT: &str = "INSERT INTO bench VALUES (?1, 'note number ' || ?1, ?1 * 1.25, datetime('now'),
                      json_object('n', ?1, 'tag', 'abc'), ?1 % 2)";

/// How long nothing is to happen while processor time is measured.
const IDLE: Duration = Duration::from_secs(10);

/// Inserts rows and says how many per second went in.
fn insert(file: &SqliteFile, rows: i64, per_transaction: i64) -> f64 {
    let connection = file.open();
    let next: i64 =
        connection.query_row("SELECT coalesce(max(id), 0) + 1 FROM bench", [], |row| row.get(0)).unwrap();
    let started = Instant::now();
    for from in (next..next + rows).step_by(per_transaction as usize) {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for id in from..(from + per_transaction).min(next + rows) {
            connection.prepare_cached(INSERT).unwrap().execute(params![id]).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }
    rows as f64 / started.elapsed().as_secs_f64()
}

/// Bytes of the file and of its write-ahead log, and of the file what is free.
fn sizes(file: &SqliteFile) -> (u64, u64, u64) {
    let bytes = |suffix: &str| {
        let mut path = file.path().as_os_str().to_owned();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    };
    let pragma = |name: &str| file.query_text(&format!("SELECT * FROM pragma_{name}")).unwrap();
    let free = pragma("freelist_count").parse::<u64>().unwrap() * pragma("page_size").parse::<u64>().unwrap();
    (bytes(""), bytes("-wal"), free)
}

fn print_sizes(when: &str, file: &SqliteFile) {
    let (main, wal, free) = sizes(file);
    println!(
        "  {when}: file {:.1} MiB (free {:.1}), log of SQLite {:.1} MiB",
        mib(main),
        mib(free),
        mib(wal)
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

async fn bridge() -> Pair {
    let pair = Pair::prepare(PairOptions::sqlite()).await;
    pair.source_execute(TABLE).await;
    pair.source_execute("INSERT INTO bench (id) VALUES (0)").await;
    pair.start().await;
    pair.wait_equal(&["bench"]).await;
    pair
}

/// Waits until all rows are at the copy and the log is as empty as it gets.
async fn settled(pair: &Pair) {
    pair.wait_equal_within(&["bench"], Duration::from_secs(300)).await;
    let source = pair.source_file();
    while source.count("rowbridge_log").unwrap() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The application's speed: in transactions of one row and of a hundred.
async fn application(pairs: i64, rows: i64) {
    for per_transaction in [1, 100] {
        let mut ratios = Vec::new();
        for pair in 0..pairs {
            let alone = SqliteFile::create("alone");
            alone.execute(TABLE);
            let without = insert(&alone, rows, per_transaction);
            let bridge = bridge().await;
            let with = tokio::task::block_in_place(|| insert(bridge.source_file(), rows, per_transaction));
            println!(
                "inserts, {per_transaction} per transaction: {without:.0}/s without, {with:.0}/s with Rowbridge"
            );
            ratios.push(with / without);
            if pair == pairs - 1 {
                print_sizes("without Rowbridge", &alone);
                print_sizes("with Rowbridge, right after the load", bridge.source_file());
                settled(&bridge).await;
                print_sizes("with Rowbridge, all confirmed", bridge.source_file());
            }
        }
        println!(
            "inserts, {per_transaction} per transaction: median of with / without over {pairs} pairs: {:.2}",
            median(ratios)
        );
    }
}

/// Milliseconds from commit to visible at a fixed rate, and the processor time of both ends, then and while idle.
async fn waits(per_second: u32, seconds: u32) {
    let pair = bridge().await;
    let count = i64::from(per_second * seconds);
    let (source, target) = (pair.source_file().open(), pair.target_file().open());
    let cpu = || [pair.publisher().cpu_seconds(), pair.subscriber().cpu_seconds()];
    let before = cpu();
    let started = Instant::now();
    let load = std::thread::spawn(move || {
        let mut commits = Vec::with_capacity(count as usize);
        for id in 1..=count {
            let due = started + Duration::from_secs(1) * (id as u32) / per_second;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            source.prepare_cached(INSERT).unwrap().execute(params![id]).unwrap();
            commits.push(Instant::now());
        }
        commits
    });
    let mut visible = Vec::with_capacity(count as usize);
    tokio::task::block_in_place(|| {
        while (visible.len() as i64) < count {
            let last: i64 = target
                .prepare_cached("SELECT max(id) FROM bench")
                .unwrap()
                .query_row([], |row| row.get(0))
                .unwrap();
            let now = Instant::now();
            while (visible.len() as i64) < last {
                visible.push(now);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let commits = load.join().unwrap();
    let mut waits: Vec<f64> = commits
        .iter()
        .zip(&visible)
        .map(|(commit, seen)| seen.saturating_duration_since(*commit).as_secs_f64() * 1e3)
        .collect();
    waits.sort_by(f64::total_cmp);
    println!(
        "commit to visible at {per_second}/s: p50 {:.2} ms, p99 {:.2} ms",
        percentile(&waits, 0.5),
        percentile(&waits, 0.99)
    );
    let share = |from: [f64; 2], to: [f64; 2], wall: f64| [0, 1].map(|i| (to[i] - from[i]) / wall * 100.0);
    let busy = share(before, cpu(), started.elapsed().as_secs_f64());
    println!("  meanwhile: publisher {:.1} %, subscriber {:.1} % of a core", busy[0], busy[1]);
    settled(&pair).await;
    // What is left to do after a load is done by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = cpu();
    let started = Instant::now();
    tokio::time::sleep(IDLE).await;
    let idle = share(before, cpu(), started.elapsed().as_secs_f64());
    println!(
        "idle for {} s: publisher {:.2} %, subscriber {:.2} % of a core",
        IDLE.as_secs(),
        idle[0],
        idle[1]
    );
    print_sizes("after all that", pair.source_file());
    assert!(idle.iter().all(|share| *share < 1.0), "an idle process takes more than 1 % of a core");
}

/// All of it.
pub(super) async fn sqlite(pairs: i64, rows: i64, per_second: u32, seconds: u32) {
    application(pairs, rows).await;
    waits(per_second, seconds).await;
}
