//! What an SQLite source costs: the application's own speed and the size of its file; then the wait until a commit is
//! visible at the copy, and processor time while nothing happens.

use std::time::{Duration, Instant};

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rusqlite::params;

use super::arguments::Crossing;
use super::report::{Measurement, OURS, Report, System};
use super::{idle, oltp};

const TABLE: &str =
    "CREATE TABLE bench (id INTEGER PRIMARY KEY, note TEXT, amount REAL, at TEXT, data TEXT, ok INTEGER)";
const INSERT: &str = "INSERT INTO bench VALUES (?1, 'note number ' || ?1, ?1 * 1.25, datetime('now'),
                      json_object('n', ?1, 'tag', 'abc'), ?1 % 2)";

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
    eprintln!(
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
async fn application(report: &mut Report, pairs: u32, rows: i64) {
    for per_transaction in [1, 100] {
        let measured = |system: &'static str, per_second: f64| {
            let variant = format!("{per_transaction} per transaction");
            let mut measurement = Measurement::new("application", &variant, "sqlite", system);
            (measurement.rows, measurement.seconds) = (rows.unsigned_abs(), rows as f64 / per_second);
            measurement
        };
        for pair in 1..=pairs {
            let alone = SqliteFile::create("alone");
            alone.execute(TABLE);
            report.add(measured("alone", insert(&alone, rows, per_transaction)));
            let bridge = bridge().await;
            let with = tokio::task::block_in_place(|| insert(bridge.source_file(), rows, per_transaction));
            report.add(measured(OURS, with));
            if pair == pairs {
                print_sizes("without Rowbridge", &alone);
                print_sizes("with Rowbridge, right after the load", bridge.source_file());
                settled(&bridge).await;
                print_sizes("with Rowbridge, all confirmed", bridge.source_file());
            }
        }
    }
}

/// All of it.
pub(super) async fn sqlite(report: &mut Report, pairs: u32, rows: i64) {
    application(report, pairs, rows).await;
    let crossing = Crossing { source: Kind::Sqlite, target: Kind::Sqlite };
    report.add(oltp::oltp(crossing, System::Rowbridge).await);
    report.add(idle::idle(crossing, System::Rowbridge, 1).await);
}
