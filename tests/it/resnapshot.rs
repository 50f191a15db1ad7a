//! Tables whose keys order differently at both ends are sent again: what was deleted meanwhile goes, whatever happens on
//! the way, and nobody who reads the copy misses a row that the source has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rowbridge_publisher::state::{Request, request};
use rowbridge_tests::kills::kill_in_turn;
use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::size::size;
use rowbridge_tests::wait;
use rusqlite::Connection;
use tokio_postgres::Client;

fn patience() -> Duration {
    Duration::from_secs(size(90, 300))
}

/// Asks for a table again.
fn again(pair: &Pair, table: &str) {
    request(pair.state_dir(), &Request::Snapshot(vec![table.into()])).unwrap();
}

/// Waits until everything that was asked for is in the stream. Requests are taken up within a second.
async fn nothing_pending(pair: &Pair) {
    let port = pair.publisher_config.admin_port;
    wait_for(port, "rowbridge_snapshot_pending_tables", &[], patience(), |tables| tables == 0.0).await;
}

/// Waits until the target has its tables for collecting keys, or has none any more.
async fn collections(pair: &Pair, some: bool) {
    wait::until("the tables that collect keys to come or go", patience(), || async move {
        let names = collection_names(pair).await;
        if names.is_empty() == some { Err(format!("{names:?}")) } else { Ok(()) }
    })
    .await;
}

async fn collection_names(pair: &Pair) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE tablename LIKE 'rowbridge\\_keys\\_%'";
    pair.target().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A reader of the copy that counts the rows which are never deleted, in one statement each time.
struct Reader {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
}

impl Reader {
    fn start(client: Client, sql: &'static str, rows: i64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                let seen: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
                assert_eq!(seen, rows, "look {looks} missed rows that the source has all the time");
                looks += 1;
            }
            looks
        });
        Self { stop, task }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Names in upper and lower case, with marks and digits: C and every linguistic collation order them differently. The
/// second table's key is a number at the source and a text at the target.
const NAMES: &str =
    "chr(65 + i % 26 + 32 * (i % 2)) || CASE i % 3 WHEN 0 THEN 'ä' WHEN 1 THEN '-' ELSE '' END || i";

async fn differing() -> Pair {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    let (rows, filler) = (size(40_000, 400_000), "repeat('x', 100)");
    pair.source_execute(&format!(
        "CREATE TABLE named (k text COLLATE \"C\" PRIMARY KEY, kind text, v text);
         CREATE TABLE numbered (k bigint PRIMARY KEY, v text);
         INSERT INTO named SELECT {NAMES}, 'permanent', {filler} FROM generate_series(1, {rows}) i;
         INSERT INTO numbered SELECT i, {filler} FROM generate_series(1, {rows}) i"
    ))
    .await;
    pair.target_execute(
        "CREATE TABLE named (k text COLLATE \"en-x-icu\" PRIMARY KEY, kind text, v text);
         CREATE TABLE numbered (k text PRIMARY KEY, v text)",
    )
    .await;
    pair.start().await;
    same(&pair).await;
    pair
}

/// Both tables are equal; keys are compared as texts.
async fn same(pair: &Pair) {
    pair.wait_equal_within(&["public.named"], patience()).await;
    let rows =
        "SELECT md5(string_agg(k::text || '=' || v, ',' ORDER BY k::text COLLATE \"C\")) FROM numbered";
    wait::until("numbered to be equal", patience(), || async move {
        let at = |client: Client| async move {
            client.query_one(rows, &[]).await.unwrap().get::<_, Option<String>>(0)
        };
        let (source, target) = (at(pair.source().await).await, at(pair.target().await).await);
        if source == target { Ok(()) } else { Err(format!("{source:?} is not {target:?}")) }
    })
    .await;
}

/// Rows that only the target has, here and there in every range.
async fn strew(pair: &Pair) {
    pair.target_execute(&format!(
        "SET session_replication_role = replica;
         INSERT INTO named SELECT {NAMES} || ' gone', 'gone', 'x' FROM generate_series(1, 3000) i;
         INSERT INTO numbered SELECT (-i)::text, 'x' FROM generate_series(1, 3000) i"
    ))
    .await;
}

/// Changes of every kind all over both tables until told to stop; a row that is deleted may come back.
fn write(client: Client, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut i = 0_i64;
        while !stop.load(Ordering::Relaxed) {
            i += 1;
            let name = NAMES.replace('i', "n");
            let sql = format!(
                "INSERT INTO named SELECT {name} || ' new', 'new', 'first' FROM generate_series({i}, {i}) n;
                 UPDATE named SET v = 'changed {i}' WHERE k IN (SELECT {name} FROM generate_series({i}, {i} + 5) n);
                 DELETE FROM named WHERE kind = 'new' AND k IN (SELECT {name} || ' new' FROM generate_series({i} - 7, {i} - 5) n);
                 UPDATE named SET k = k || '!' WHERE kind = 'new' AND k IN (SELECT {name} || ' new' FROM generate_series({i} - 3, {i} - 3) n);
                 INSERT INTO numbered VALUES (-{i}, 'new'); DELETE FROM numbered WHERE k = -{i} + 9 OR k = {i} * 11"
            );
            client.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        i as u64
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_another_order_are_swept_and_readers_miss_nothing() {
    let pair = differing().await;
    strew(&pair).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(pair.source().await, Arc::clone(&stop));
    let reader = Reader::start(
        pair.target().await,
        "SELECT count(*) FROM named WHERE kind = 'permanent'",
        size(40_000, 400_000),
    );
    again(&pair, "public.named");
    again(&pair, "public.numbered");
    collections(&pair, true).await;
    // Both tables, one after the other: the last one is done when nothing is pending and nothing collected.
    nothing_pending(&pair).await;
    collections(&pair, false).await;
    stop.store(true, Ordering::Relaxed);
    println!("{} transactions meanwhile", writer.await.unwrap());
    same(&pair).await;
    println!("{} looks at the copy", reader.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_a_sweep_lose_and_leave_nothing() {
    let pair = differing().await;
    strew(&pair).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(pair.source().await, Arc::clone(&stop));
    let reader = Reader::start(
        pair.target().await,
        "SELECT count(*) FROM named WHERE kind = 'permanent'",
        size(40_000, 400_000),
    );
    again(&pair, "public.named");
    again(&pair, "public.numbered");
    collections(&pair, true).await;
    kill_in_turn(&pair, size(6, 20), Duration::from_millis(size(600, 2_000))).await;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    same(&pair).await;
    collections(&pair, false).await;
    same(&pair).await;
    reader.stop().await;
}

/// At the target, rows of the ranges that come last hold unique values which the source gives to new rows meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_rows_give_way_to_changes_of_the_stream() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    let rows = size(60_000, 400_000);
    let table = "CREATE TABLE t (id int PRIMARY KEY, u int, w int, v text, UNIQUE (u));
         CREATE UNIQUE INDEX ON t (w) WHERE v IS NOT NULL";
    pair.source_execute(&format!(
        "{table}; INSERT INTO t SELECT i, i, i, repeat('x', 300) FROM generate_series(1, {rows}) i"
    ))
    .await;
    pair.target_execute(table).await;
    pair.start().await;
    pair.wait_equal_within(&["public.t"], patience()).await;
    pair.target_execute(&format!("UPDATE t SET u = -u, w = -w WHERE id > {rows} / 2")).await;
    again(&pair, "public.t");
    collections(&pair, true).await;
    let source = pair.source().await;
    for i in 0..300 {
        let (id, value) = (rows + 1 + i, i64::from(rows - i));
        let (u, w) = if i % 2 == 0 { (-value, -10 * value) } else { (-10 * value, -value) };
        source.batch_execute(&format!("INSERT INTO t VALUES ({id}, {u}, {w}, 'new')")).await.unwrap();
    }
    nothing_pending(&pair).await;
    collections(&pair, false).await;
    pair.wait_equal_within(&["public.t"], patience()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_drops_what_a_sweep_has_collected() {
    let pair = differing().await;
    // Another session of the target holds the row that comes last.
    let lock = pair.target().await;
    lock.batch_execute("BEGIN; SELECT FROM named ORDER BY k COLLATE \"C\" DESC LIMIT 1 FOR UPDATE")
        .await
        .unwrap();
    again(&pair, "public.named");
    collections(&pair, true).await;
    pair.publisher().kill9();
    pair.subscriber().kill9();
    lock.batch_execute("ROLLBACK").await.unwrap();
    let names = collection_names(&pair).await;
    let teardown = |yes: bool| {
        let mut command = std::process::Command::new(rowbridge_tests::process::binary());
        command.args(["teardown", "--target", "--config"]).arg(pair.subscriber_path());
        if yes {
            command.arg("--yes");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = teardown(false);
    for name in &names {
        assert!(listed.contains(name.as_str()), "{name} is not in {listed}");
    }
    assert_eq!(teardown(true), listed);
    assert!(collection_names(&pair).await.is_empty());
}

const SQLITE: &str = "
    CREATE TABLE folded (k TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, kind TEXT, v);
    CREATE TABLE exact (k TEXT NOT NULL PRIMARY KEY, kind TEXT, v);
    CREATE TABLE mixed (k INT NOT NULL PRIMARY KEY, v) WITHOUT ROWID";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keys_are_swept_through_kills() {
    let pair = Pair::prepare(PairOptions::sqlite()).await;
    pair.source_execute(SQLITE).await;
    // The other way round at the target: what orders by case here does not there.
    pair.target_execute(
        &SQLITE
            .replace("COLLATE NOCASE PRIMARY", "PRIMARY")
            .replace("exact (k TEXT NOT NULL PRIMARY", "exact (k TEXT NOT NULL COLLATE NOCASE PRIMARY"),
    )
    .await;
    let rows = size(20_000, 200_000);
    pair.source_execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO folded SELECT char(65 + i % 26 + 32 * (i % 2)) || i, 'permanent', hex(zeroblob(60)) FROM n;
         INSERT INTO exact SELECT * FROM folded;
         INSERT INTO mixed SELECT rowid, v FROM folded; INSERT INTO mixed SELECT 'text ' || rowid, v FROM folded"
    ))
    .await;
    pair.start().await;
    let tables = ["folded", "exact", "mixed"];
    pair.wait_equal_within(&tables, patience()).await;
    pair.target_execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO folded SELECT char(65 + i % 26) || ' gone ' || i, 'gone', i FROM n;
         INSERT INTO exact SELECT k, kind, v FROM folded WHERE kind = 'gone';
         INSERT INTO mixed SELECT 'gone ' || v, v FROM folded WHERE kind = 'gone';
         INSERT INTO mixed SELECT -v, v FROM folded WHERE kind = 'gone'",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (connection, stop): (Connection, _) = (pair.source_file().open(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut i = 0_i64;
            while !stop.load(Ordering::Relaxed) {
                i += 1;
                let sql = format!(
                    "BEGIN IMMEDIATE; INSERT INTO folded VALUES ('New {i}', 'new', {i}), ('m new {i}', 'new', {i});
                     INSERT INTO exact VALUES ('New {i}', 'new', {i}); DELETE FROM folded WHERE k = 'new {}';
                     UPDATE exact SET k = lower(k) WHERE k = 'New {}'; DELETE FROM mixed WHERE k = {} OR k = 'text {i}';
                     INSERT INTO mixed VALUES (-{i}, 'new'); UPDATE folded SET v = {i} WHERE rowid = {}; COMMIT",
                    i - 5,
                    i - 3,
                    i * 7,
                    i * 13
                );
                connection.execute_batch(&sql).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        })
    };
    let reader = {
        let (connection, stop): (Connection, _) = (pair.target_file().open(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut counts = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                for table in ["folded", "exact"] {
                    let sql = format!("SELECT count(*) FROM {table} WHERE kind = 'permanent'");
                    counts.insert(connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap());
                }
            }
            counts
        })
    };
    request(pair.state_dir(), &Request::Snapshot(tables.map(str::to_owned).to_vec())).unwrap();
    let collecting = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'rowbridge_keys_%'";
    let collects = |some: bool| {
        let pair = &pair;
        async move {
            wait::until("keys to be collected, or not any more", patience(), || async move {
                let count = pair.target_file().query_text(collecting).unwrap();
                if (count == "0") == some { Err(count) } else { Ok(()) }
            })
            .await;
        }
    };
    collects(true).await;
    kill_in_turn(&pair, size(4, 16), Duration::from_millis(size(500, 2_000))).await;
    nothing_pending(&pair).await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(reader.join().unwrap(), HashSet::from([rows]), "a reader missed rows that the source has");
    pair.wait_equal_within(&tables, patience()).await;
    collects(false).await;
    pair.wait_equal(&tables).await;
}
