//! `rowbridge replay` towards a bridge: the rows that changed in a window are read again, and a copy that was damaged is
//! mended while changes go on.

use std::path::{Path, PathBuf};

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use serde_json::Value;

use crate::cli::rowbridge;

/// Without NOT NULL, a key of SQLite that is no rowid may hold NULL, and is none.
const SCHEMA: &str = "CREATE TABLE orders (id bigint NOT NULL PRIMARY KEY, note varchar(40))";

/// Runs a command on the publisher's file beside everything else.
async fn run(pair: &Pair, args: &[&str]) -> (i32, String, String) {
    let config: PathBuf = pair.publisher_path();
    let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(["--config".to_owned(), config.display().to_string()]);
    let folder = config.parent().unwrap().to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        rowbridge(Path::new(&folder), &args)
    });
    task.await.unwrap()
}

async fn insert(pair: &Pair, ids: std::ops::RangeInclusive<i64>) {
    let rows: Vec<String> = ids.map(|id| format!("({id}, 'row {id}')")).collect();
    pair.source_execute(&format!("INSERT INTO orders VALUES {}", rows.join(", "))).await;
}

async fn a_damaged_copy_is_mended(source: Kind, target: Kind) {
    let pair = Pair::prepare(PairOptions::crossing(source, target)).await;
    pair.source_execute(SCHEMA).await;
    pair.start().await;
    insert(&pair, 1..=1200).await;
    pair.source_execute("UPDATE orders SET id = 3000 WHERE id = 30").await;
    pair.source_execute("UPDATE orders SET note = 'new' WHERE id < 20").await;
    pair.source_execute("DELETE FROM orders WHERE id = 40").await;
    pair.wait_equal(&["orders"]).await;
    // Somebody has been at the copy: other values, missing rows, rows that were deleted or moved away.
    pair.target_execute("UPDATE orders SET note = 'broken' WHERE id < 100").await;
    pair.target_execute("DELETE FROM orders WHERE id BETWEEN 200 AND 900 OR id = 3000").await;
    pair.target_execute("INSERT INTO orders VALUES (30, 'ghost'), (40, 'ghost')").await;
    let changes = async {
        for round in 0..40 {
            let (one, other) = (1 + round * 7 % 300, 901 + round);
            pair.source_execute(&format!("UPDATE orders SET note = 'round {round}' WHERE id = {one}")).await;
            pair.source_execute(&format!("DELETE FROM orders WHERE id = {other}")).await;
            pair.source_execute(&format!("INSERT INTO orders VALUES ({other}, 'back {round}')")).await;
        }
    };
    let replay = run(
        &pair,
        &["replay", "--endpoint", "copy", "--since", "1h", "--rate", "5000/s", "--follow", "--json"],
    );
    let (_, (code, out, err)) = tokio::join!(changes, replay);
    assert_eq!(code, 0, "{out}{err}");
    pair.wait_equal(&["orders"]).await;
    let job: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!(job["sent"].as_u64().is_some_and(|sent| sent >= 1201), "{job}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_of_postgres_is_mended_in_sqlite() {
    a_damaged_copy_is_mended(Kind::Postgres, Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_of_mariadb_is_mended_in_sqlite() {
    a_damaged_copy_is_mended(Kind::Mariadb, Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_of_sqlite_is_mended_in_postgres() {
    a_damaged_copy_is_mended(Kind::Sqlite, Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_key_is_told_and_the_rest_is_sent() {
    let pair = Pair::prepare(PairOptions::crossing(Kind::Sqlite, Kind::Sqlite)).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute("CREATE TABLE log (line TEXT)").await;
    pair.start().await;
    insert(&pair, 1..=3).await;
    pair.source_execute("INSERT INTO log VALUES ('a')").await;
    pair.wait_equal(&["orders", "log"]).await;
    pair.target_execute("DELETE FROM orders WHERE id = 2").await;
    let (code, out, err) = run(&pair, &["replay", "--endpoint", "copy", "--since", "1h", "--follow"]).await;
    assert_ne!(code, 0, "{out}{err}");
    assert!(format!("{out}{err}").contains("rowbridge snapshot log"), "{out}{err}");
    pair.wait_equal(&["orders", "log"]).await;
    // Only these tables, only this part.
    pair.target_execute("UPDATE orders SET note = 'broken' WHERE id IN (1, 3)").await;
    insert(&pair, 4..=4).await;
    let args = ["replay", "--endpoint", "copy", "--since", "1h", "--tables", "orders", "--follow"];
    let (code, out, err) = run(&pair, &args).await;
    assert_eq!(code, 0, "{out}{err}");
    pair.wait_equal(&["orders", "log"]).await;
    // What only receivers of events have.
    let (code, out, err) = run(&pair, &["endpoint", "test", "copy"]).await;
    assert_ne!(code, 0, "{out}{err}");
}
