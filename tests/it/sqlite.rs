//! SQLite to SQLite: an application writes its file as it likes, and the copy follows whatever happens to the processes,
//! the files and the schema.

mod load;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rowbridge_tests::compare::{Side, sqlite_tables};
use rowbridge_tests::kills::{account, kill_in_turn};
use rowbridge_tests::process::binary;
use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::size::size;
use rowbridge_tests::wait::until;

use self::load::{Application, Running, SCHEMA, TABLES};
use crate::faults::{not_ready, snapshot_all};

async fn prepared() -> Pair {
    let pair = Pair::prepare(PairOptions::sqlite()).await;
    pair.source_execute(SCHEMA).await;
    pair
}

/// A bridge that has copied some of everything.
async fn running() -> Pair {
    let pair = prepared().await;
    Application::open(pair.source_file()).transactions(300);
    // Deleted items take their lines along, now and then all of them, and rows of `maybe` are deleted as well.
    pair.source_execute("INSERT INTO lines VALUES (1000, NULL, 1); INSERT INTO maybe VALUES ('kept', 1)")
        .await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    for table in TABLES {
        assert!(pair.target_file().count(table) > Some(0), "nothing in {table}");
    }
    pair
}

fn patience() -> Duration {
    Duration::from_secs(size(120, 300))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_and_double_nothing() {
    let pair = running().await;
    let application = Running::start(pair.source_file());
    let kills = kill_in_turn(&pair, size(8, 24), Duration::from_millis(size(1_200, 4_000))).await;
    let transactions = application.stop();
    println!("{transactions} transactions");
    assert!(transactions > 200, "the application was held up: {transactions} transactions");
    pair.wait_equal_within(&TABLES, patience()).await;
    account(&pair, kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_runs_under_write_load() {
    let pair = prepared().await;
    let rows = size(30_000, 500_000);
    let fill = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO items (id, code, v) SELECT i, 'old ' || i, i * 0.5 FROM n;
         INSERT INTO loose SELECT id % 100, 'old', v FROM items;
         INSERT INTO orders SELECT 'old ' || (id % 10), id, v, NULL FROM items;
         INSERT INTO named SELECT 'old ' || id, id, v FROM items"
    );
    pair.source_execute(&fill).await;
    Application::open(pair.source_file()).transactions(100);
    let application = Running::start(pair.source_file());
    pair.start().await;
    let started = Instant::now();
    // The last of the old rows has come, so that all chunks were read while the application wrote.
    while pair.target_file().count("typed").unwrap_or(0) == 0 {
        assert!(started.elapsed() < patience(), "{}", pair.publisher().last_lines());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{} transactions during the snapshot", application.stop());
    pair.wait_equal_within(&TABLES, patience()).await;
}

/// A table without a key goes in as a whole, between what its read saw and what it did not see. With many of them, and an
/// application that never rests, some are read between two transactions that capture finds in one look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_without_keys_are_copied_under_write_load() {
    let pair = Pair::prepare(PairOptions::sqlite()).await;
    let names: Vec<String> = (0..size(60, 300)).map(|n| format!("loose_{n}")).collect();
    let create = |name: &String| format!("CREATE TABLE {name} (a, b); INSERT INTO {name} VALUES (0, 'old');");
    pair.source_execute(&names.iter().map(create).collect::<String>()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, application, tables) = (stop.clone(), pair.source_file().open(), names.clone());
    let writer = std::thread::spawn(move || {
        let mut transactions = 0_i64;
        while !stopped.load(Ordering::Relaxed) {
            for table in &tables {
                application
                    .execute(&format!("INSERT INTO {table} VALUES (?1, 'new')"), [transactions])
                    .unwrap();
                transactions += 1;
            }
        }
        transactions
    });
    pair.start().await;
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    until("rows in each table", patience(), || async {
        let target = pair.target_file();
        let empty = tables.iter().find(|table| target.count(table).unwrap_or(0) == 0);
        empty.map_or(Ok(()), |table| Err(format!("none in {table}")))
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    println!("{} transactions", writer.join().unwrap());
    pair.wait_equal_within(&tables, patience()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_target_catches_up_by_itself() {
    let pair = running().await;
    let backup = pair.target_file().backup();
    let mut application = Application::open(pair.source_file());
    application.transactions(200);
    pair.wait_equal(&TABLES).await;

    pair.subscriber().terminate().await;
    pair.target_file().restore(&backup);
    application.transactions(50);
    pair.subscriber().start();
    application.transactions(50);
    pair.wait_equal(&TABLES).await;

    // Nothing more happens at the source.
    pair.subscriber().terminate().await;
    pair.target_file().restore(&backup);
    pair.subscriber().start();
    pair.wait_equal(&TABLES).await;
    application.transactions(20);
    pair.wait_equal(&TABLES).await;
}

/// The procedure of the manual for what ALTER TABLE cannot do. Ours went with the old table, and what is written before
/// somebody notices is in no log.
const REBUILD: &str = "
    PRAGMA foreign_keys = OFF;
    BEGIN;
    CREATE TABLE new_items (id INTEGER PRIMARY KEY, code TEXT UNIQUE, v, price REAL, data BLOB,
        note TEXT NOT NULL DEFAULT 'none' CHECK (note <> 'bad'));
    INSERT INTO new_items SELECT * FROM items;
    DROP TABLE items;
    ALTER TABLE new_items RENAME TO items;
    COMMIT;
    DELETE FROM items WHERE id % 3 = 0;
    UPDATE items SET note = 'rebuilt' WHERE id % 3 = 1;
    INSERT OR REPLACE INTO items (id, code) VALUES (3, 'written at once'), (500, 'new')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_table_is_followed() {
    let pair = running().await;
    let mut application = Application::open(pair.source_file());
    for _ in 0..size(2, 10) {
        pair.source_execute(REBUILD).await;
        pair.wait_equal(&TABLES).await;
        application.transactions(100);
        pair.wait_equal(&TABLES).await;
    }
    // The same while nobody watches.
    pair.publisher().terminate().await;
    pair.source_execute(REBUILD).await;
    application.transactions(100);
    pair.publisher().start();
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tables_come_while_it_runs() {
    let pair = running().await;
    let application = Running::start(pair.source_file());
    for table in ["late", "Later \"one\""] {
        let name = format!("\"{}\"", table.replace('"', "\"\""));
        pair.source_execute(&format!(
            "BEGIN; CREATE TABLE {name} (id INTEGER PRIMARY KEY, v); INSERT INTO {name} VALUES (1, 'a'), (2, 2.5), (3, x'00');
             COMMIT; UPDATE {name} SET v = 'b' WHERE id = 1; DELETE FROM {name} WHERE id = 3"
        ))
        .await;
        pair.wait_equal(&[table]).await;
        pair.source_execute(&format!(
            "UPDATE {name} SET id = 7 WHERE id = 1; INSERT INTO {name} VALUES (9, NULL)"
        ))
        .await;
        pair.wait_equal(&[table]).await;
    }
    application.stop();
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn column_added_while_the_publisher_is_down_is_told_and_then_followed() {
    let pair = running().await;
    let mut application = Application::open(pair.source_file());
    pair.publisher().terminate().await;
    application.transactions(20);
    pair.source_execute("ALTER TABLE items ADD COLUMN \"extra one\" VARCHAR(20) DEFAULT 'x'").await;
    pair.source_execute("UPDATE items SET \"extra one\" = 'first ' || id WHERE id % 2 = 0").await;
    application.transactions(20);
    pair.publisher().start();
    let text = not_ready(&pair, &["endpoint copy", "extra one", "ALTER TABLE"]).await;
    let statement = text.split('`').nth(1).unwrap_or_else(|| panic!("no statement in {text}"));
    println!("told: {statement}");
    pair.target_execute(statement).await;
    // Otherwise the lane looks again within a minute.
    pair.publisher().restart().await;
    pair.wait_equal_within(&TABLES, patience()).await;
    pair.wait_publisher().await;
    pair.source_execute("UPDATE items SET \"extra one\" = NULL WHERE id % 4 = 0").await;
    application.transactions(50);
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overflowed_change_log_is_told_and_a_snapshot_mends_it() {
    let mut pair = prepared().await;
    pair.publisher_config.source_extra = "max_log_rows = 2000".into();
    pair.write_configs();
    let mut application = Application::open(pair.source_file());
    application.transactions(300);
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    pair.publisher().terminate().await;
    // Some of what is deleted is within the cap, some is not.
    pair.source_execute("DELETE FROM items WHERE id % 3 = 0; DELETE FROM loose WHERE rowid % 3 = 0").await;
    pair.source_execute(
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 3500)
         INSERT INTO typed (id, i) SELECT i, i FROM n",
    )
    .await;
    pair.source_execute(
        "DELETE FROM items WHERE id % 3 = 1; DELETE FROM loose WHERE rowid % 3 = 1; DELETE FROM orders",
    )
    .await;
    application.transactions(50);
    pair.publisher().start();
    not_ready(&pair, &["change log", "cap", "rowbridge snapshot --all"]).await;
    application.transactions(20);
    snapshot_all(&pair);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    application.transactions(50);
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_leaves_the_file_as_the_application_made_it() {
    let pair = prepared().await;
    let objects = "SELECT group_concat(type || ' ' || name || ' ' || coalesce(sql, ''), char(10))
                   FROM (SELECT * FROM sqlite_schema ORDER BY type, name)";
    let before = pair.source_file().query_text(objects);
    let mut application = Application::open(pair.source_file());
    application.transactions(200);
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'rowbridge%'";
    assert_ne!(pair.source_file().query_text(ours).as_deref(), Some("0"));
    pair.publisher().terminate().await;
    let output = Command::new(binary())
        .args(["teardown", "--source", "--yes", "--config"])
        .arg(pair.publisher_path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(pair.source_file().query_text(objects), before);
    // The connection that was open all the time, and a new one.
    application.transactions(100);
    Application::open(pair.source_file()).transactions(100);
    let check =
        pair.source_file().query_text("SELECT group_concat(integrity_check) FROM pragma_integrity_check");
    assert_eq!(check.as_deref(), Some("ok"));
    assert_eq!(sqlite_tables(pair.source_file().path(), Side::Source).unwrap().len(), TABLES.len());
}
