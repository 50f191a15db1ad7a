//! PostgreSQL and SQLite into MariaDB: every type by snapshot and by stream, each value as it was, converted as
//! documented, or refused with place and reason; keys that MariaDB might take for one another.

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::wait;

use super::{PATIENCE, postgres_rows};
use crate::faults::{not_ready, snapshot_all};
use crate::mysql::snapshot;
use crate::types::{COLUMNS, TYPES};

/// What MariaDB has no place for, by type and value.
fn is_refused(type_name: &str, value: &str) -> bool {
    let special =
        ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'infinity'", "'-infinity'"].contains(&value);
    match type_name {
        "numeric(10,2)" | "real" | "double precision" => special,
        "date" | "timestamp" | "timestamptz" => {
            special || value.contains("BC") || value.contains("5874897") || value.contains("294276")
        }
        _ => false,
    }
}

fn values(at: usize) -> Vec<&'static str> {
    let (type_name, values) = COLUMNS[at];
    let more: &[&str] = match type_name {
        "date" => &["'0001-01-01'", "'9999-12-31'"],
        "timestamp" => &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'"],
        "timestamptz" => &["'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59.9+00'"],
        _ => &[],
    };
    values.iter().chain(more).copied().filter(|value| !is_refused(type_name, value)).collect()
}

/// Row n holds the n-th value of each type, from the start again where a type has fewer; the first row holds NULLs.
fn insert(first: usize) -> String {
    let most = (0..COLUMNS.len()).map(|at| values(at).len()).max().unwrap();
    let mut sql = format!("INSERT INTO t (id) VALUES ({first});");
    for n in 0..most {
        let row: Vec<&str> = (0..COLUMNS.len()).map(|at| values(at)[n % values(at).len()]).collect();
        sql += &format!("INSERT INTO t VALUES ({}, {});", first + n + 1, row.join(", "));
    }
    sql
}

/// How MariaDB holds what PostgreSQL prints, read by rules that owe nothing to the converter.
fn verdict(type_name: &str, stored: &str, source: &str) -> Option<&'static str> {
    let time = |text: &str| {
        let text = text.trim_end_matches("+00");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let same = match type_name {
        _ if stored == source => return Some("exact"),
        "boolean" => matches!((stored, source), ("1", "t") | ("0", "f")),
        "char(6)" => source.trim_end_matches(' ') == stored,
        "time" | "time(2)" | "timestamp" | "timestamp(3)" | "timestamptz" => time(stored) == time(source),
        _ => false,
    };
    same.then_some("converted")
}

/// Waits until a table has the same first column at both ends.
async fn same_ids(pair: &Pair, what: &str) {
    wait::until(what, PATIENCE, || async {
        let left = postgres_rows(pair, true, "SELECT id FROM public.t ORDER BY id").await;
        let server = pair.target_server();
        let sql = "SELECT GROUP_CONCAT(id ORDER BY id SEPARATOR ' ') FROM t";
        let right = server.query_text("shop", sql).await.unwrap_or_default();
        if left.join(" ") == right {
            Ok(())
        } else {
            Err(format!("{left:?} and {right}; {}", pair.publisher().last_lines()))
        }
    })
    .await;
}

/// Until then, a query of the table fails.
async fn table_is_there(pair: &Pair, table: &str) {
    wait::until("the table in MariaDB", PATIENCE, || async {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME = '{table}'"
        );
        match pair.target_server().query_text("shop", &sql).await.as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}; {}", pair.publisher().last_lines())),
        }
    })
    .await;
}

/// Rows of a query as texts joined by `|`, NULL as `~`.
async fn rows(pair: &Pair, sql: &str) -> Vec<String> {
    let rows = pair.target_server().query("shop", sql).await;
    let text = |value: mysql_async::Value| match value {
        mysql_async::Value::NULL => "~".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect::<Vec<_>>().join("|")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_postgres() {
    let mut pair = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Mariadb)).await;
    let columns: Vec<String> =
        COLUMNS.iter().enumerate().map(|(at, (type_name, _))| format!("c{at} {type_name}")).collect();
    pair.source_execute(&format!("{TYPES}; CREATE TABLE t (id int PRIMARY KEY, {})", columns.join(", ")))
        .await;
    pair.source_execute(&insert(0)).await;
    pair.start().await;
    table_is_there(&pair, "t").await;
    same_ids(&pair, "the snapshot in MariaDB").await;
    pair.source_execute(&insert(1000)).await;
    for at in 0..COLUMNS.len() {
        let sql = format!(
            "UPDATE t SET c{at} = (SELECT x.c{at} FROM t x WHERE x.id = 1) WHERE id = 1000;
             UPDATE t SET c{at} = NULL WHERE id = 1001"
        );
        pair.source_execute(&sql).await;
    }
    pair.source_execute("UPDATE t SET id = id + 5000 WHERE id = 1001; DELETE FROM t WHERE id = 1002").await;
    same_ids(&pair, "all rows in MariaDB").await;

    let url = pair.target_server().url("shop");
    let there = snapshot::rows_of(&url, "t").await;
    println!("{:<28} {:<26} {:<10} value in PostgreSQL", "type", "MariaDB", "verdict");
    let mut wrong = Vec::new();
    for (at, (type_name, all)) in COLUMNS.iter().enumerate() {
        let ids = postgres_rows(&pair, true, "SELECT id FROM public.t ORDER BY id").await;
        let printed = postgres_rows(&pair, true, &format!("SELECT c{at} FROM public.t ORDER BY id")).await;
        let made = "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_NAME = 't' AND TABLE_SCHEMA = 'shop'";
        let made = rows(&pair, &format!("{made} AND COLUMN_NAME = 'c{at}'")).await.remove(0);
        assert_eq!((ids.len(), printed.len()), (there.len(), there.len()));
        for ((id, printed), row) in ids.iter().zip(&printed).zip(&there) {
            assert_eq!(row[0], *id);
            let id: usize = id.parse().unwrap();
            let (printed, stored) = (if printed == "~" { "NULL" } else { printed }, row[at + 1].as_str());
            let verdict = verdict(type_name, stored, printed);
            let shown: String = printed.chars().take(60).collect();
            if verdict.is_none() {
                wrong.push(format!("row {id}, {type_name}: {shown:?} became {stored:.60}"));
            }
            if (1..=values(at).len()).contains(&id) {
                println!("{type_name:<28} {made:<26} {:<10} {shown:?}", verdict.unwrap_or(""));
            }
        }
        for value in all.iter().filter(|value| is_refused(type_name, value)) {
            println!("{type_name:<28} {made:<26} {:<10} {value}", "refused");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What MariaDB cannot hold halts the lane, with place and reason; asked for, it goes as text.
    let date = COLUMNS.iter().position(|(type_name, _)| *type_name == "date").unwrap();
    pair.source_execute(&format!("INSERT INTO t (id, c{date}) VALUES (9001, '0044-03-15 BC')")).await;
    let text = not_ready(
        &pair,
        &[
            "halted",
            "public.t",
            "id=9001",
            &format!("column c{date}"),
            "the year lies outside",
            "date of MySQL",
        ],
    )
    .await;
    assert!(!text.contains("0044"), "{text}");
    pair.subscriber_config.extra =
        format!("[[map]]\nfrom = \"public.t\"\nto = \"t\"\ncolumns = {{ c{date} = {{ as = \"text\" }} }}\n");
    pair.write_configs();
    pair.subscriber().restart().await;
    pair.wait_subscriber().await;
    pair.publisher().restart().await;
    let alter = format!(
        "ALTER TABLE `shop`.`t` MODIFY COLUMN `c{date}` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    );
    not_ready(&pair, &["as = \"text\"", &alter]).await;
    pair.target_execute(&alter).await;
    pair.publisher().restart().await;
    same_ids(&pair, "the row with the date as text").await;
    let sql = format!("SELECT c{date} FROM t WHERE id IN (2, 9001) ORDER BY id");
    assert_eq!(rows(&pair, &sql).await, ["9999-12-31", "0044-03-15 BC"]);
    let log = pair.subscriber().log().since(0).join("\n") + &pair.publisher().log().since(0).join("\n");
    assert!(!log.contains("0044-03-15"), "a value is in the log");
}

/// Declared type, values as SQL, the type made in MariaDB, and the values there.
const SQLITE: &[(&str, &[&str], &str, &[&str])] = &[
    (
        "INTEGER",
        &["-9223372036854775808", "9223372036854775807", "0"],
        "bigint(20)",
        &["-9223372036854775808", "9223372036854775807", "0"],
    ),
    (
        "REAL",
        &["0.1", "1e300", "-0.0", "5e-324", "1.0", "0.30000000000000004"],
        "double",
        &["0.1", "1e+300", "0", "5e-324", "1", "0.30000000000000004"],
    ),
    (
        "TEXT",
        &["''", "'12'", "'\u{1F600} ''x'''", "' '", "'a' || char(0) || 'b'", "'A'"],
        "longtext",
        &["", "12", "\u{1F600} 'x'", " ", "a\0b", "A"],
    ),
    ("VARCHAR(5)", &["'longer than five'"], "longtext", &["longer than five"]),
    ("BLOB", &["x''", "x'00ff5c27'"], "longblob", &["\\x", "\\x00ff5c27"]),
    ("", &["'text'", "'12'"], "longtext", &["text", "12"]),
    ("BOOLEAN", &["0", "1"], "smallint(6)", &["0", "1"]),
    ("NUMERIC", &["12", "0.1", "1e300", "-2.5"], "longtext", &["12", "0.1", "1e300", "-2.5"]),
    ("DECIMAL(10,2)", &["12.5", "'12.50'"], "longtext", &["12.5", "12.5"]),
    (
        "DATETIME",
        &["'2024-02-29 12:00:00'", "1700000000"],
        "longtext",
        &["2024-02-29 12:00:00", "1700000000"],
    ),
    ("JSON", &["'{\"a\":  1}'", "12"], "longtext", &["{\"a\":  1}", "12"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_sqlite() {
    let mut pair = Pair::prepare(PairOptions::crossing(Kind::Sqlite, Kind::Mariadb)).await;
    let columns: Vec<String> =
        SQLITE.iter().enumerate().map(|(at, (type_name, ..))| format!("c{at} {type_name}")).collect();
    pair.source_execute(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, {})", columns.join(", "))).await;
    let most = SQLITE.iter().map(|(_, values, ..)| values.len()).max().unwrap();
    let insert = |first: usize| {
        let mut sql = format!("INSERT INTO t (id) VALUES ({first});");
        for n in 0..most {
            let row: Vec<&str> = SQLITE.iter().map(|(_, values, ..)| values[n % values.len()]).collect();
            sql += &format!("INSERT INTO t VALUES ({}, {});", first + n + 1, row.join(", "));
        }
        sql
    };
    pair.source_execute(&insert(0)).await;
    pair.start().await;
    table_is_there(&pair, "t").await;
    pair.source_execute(&insert(100)).await;
    pair.source_execute(
        "UPDATE t SET c0 = NULL, c2 = 'changed' WHERE id = 100; UPDATE t SET id = 200 WHERE id = 101",
    )
    .await;
    pair.source_execute("DELETE FROM t WHERE id = 102").await;
    let expected: Vec<usize> =
        (0..=most).chain(std::iter::once(100)).chain(103..=100 + most).chain(std::iter::once(200)).collect();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    wait::until("all rows in MariaDB", PATIENCE, || async {
        let ids = rows(&pair, "SELECT id FROM t ORDER BY id").await;
        if ids == expected { Ok(()) } else { Err(format!("{ids:?}; {}", pair.publisher().last_lines())) }
    })
    .await;
    let url = pair.target_server().url("shop");
    let there = snapshot::rows_of(&url, "t").await;
    println!("{:<16} {:<12} {:<28} value in MariaDB", "type", "MariaDB", "value in SQLite");
    for (at, (type_name, values, made, texts)) in SQLITE.iter().enumerate() {
        let sql = format!(
            "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_NAME = 't' AND TABLE_SCHEMA = 'shop' AND \
             COLUMN_NAME = 'c{at}'"
        );
        assert_eq!(rows(&pair, &sql).await, [*made], "{type_name}");
        for row in &there {
            let n: usize = match row[0].parse().unwrap() {
                0 | 100 => continue,
                200 => 0,
                id => (id % 100) - 1,
            };
            let (value, text) = (values[n % values.len()], texts[n % values.len()]);
            assert_eq!(row[at + 1], text, "{type_name} {value}, row {}", row[0]);
            if row[0] == (n + 1).to_string() && n < values.len() {
                println!("{type_name:<16} {made:<12} {value:<28} {text}");
            }
        }
    }
    assert_eq!(rows(&pair, "SELECT c0, c2 FROM t WHERE id = 100").await, ["~|changed"]);

    // An infinity has no place in a double; asked for, it goes as text.
    pair.source_execute("INSERT INTO t (id, c1) VALUES (300, 9e999)").await;
    not_ready(&pair, &["halted", "id=300", "column c1", "infinite", "double of MySQL"]).await;
    pair.subscriber_config.extra =
        "[[map]]\nfrom = \"t\"\nto = \"t\"\ncolumns = { c1 = { as = \"text\" } }\n".into();
    pair.write_configs();
    pair.target_execute("ALTER TABLE t MODIFY c1 LONGTEXT").await;
    pair.subscriber().restart().await;
    pair.wait_subscriber().await;
    pair.publisher().restart().await;
    wait::until("the text", PATIENCE, || async {
        let found = rows(&pair, "SELECT c1 FROM t WHERE id = 300").await;
        if found == ["Infinity"] {
            Ok(())
        } else {
            Err(format!("{found:?}; {}", pair.publisher().last_lines()))
        }
    })
    .await;
}

/// Ranges of keys mean the same only where keys are ordered alike, and no two keys become one; either way a re-snapshot
/// removes what is too much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_apart_and_a_resnapshot_removes_what_only_the_target_has() {
    let pair = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Mariadb)).await;
    pair.source_execute(
        "CREATE TABLE words (w text, n int, note text, PRIMARY KEY (w, n)); CREATE TABLE numbers (id bigint PRIMARY KEY, note text);
         CREATE TABLE ids (u uuid PRIMARY KEY, note text); CREATE TABLE loose (a numeric(10,2), b boolean);
         ALTER TABLE loose REPLICA IDENTITY FULL;
         INSERT INTO words SELECT w || i, i % 3, repeat('x', 2000) FROM generate_series(0, 200) i,
             unnest(ARRAY['a', 'A', 'a ', '\u{e4}', 'a\u{308}', 'ss', '\u{df}', '', ' ', '\u{1F600}']) w;
         INSERT INTO numbers SELECT i, repeat('x', 2000) FROM generate_series(-1500, 1500) i;
         INSERT INTO ids SELECT md5(i::text)::uuid, repeat('x', 2000) FROM generate_series(1, 1500) i;
         INSERT INTO loose SELECT i % 5, i % 2 = 0 FROM generate_series(1, 20) i",
    )
    .await;
    pair.start().await;
    let tables = ["public.words", "public.numbers", "public.ids", "public.loose"];
    pair.wait_equal_within(&tables, PATIENCE).await;
    pair.publisher().terminate().await;
    pair.target_execute(
        "INSERT INTO words VALUES ('A', 9, 'too much'), ('zzz', 0, 'too much'); DELETE FROM words WHERE w = 'a 7';
         INSERT INTO numbers VALUES (-9000, 'too much'), (9000, 'too much'); DELETE FROM numbers WHERE id = 5;
         INSERT INTO ids VALUES ('ffffffff-ffff-ffff-ffff-fffffffffff0', 'too much');
         INSERT INTO loose VALUES (99, 1)",
    )
    .await;
    snapshot_all(&pair);
    pair.publisher().start();
    pair.wait_equal_within(&tables, PATIENCE).await;
    // Rows are found by their converted keys, and only they.
    pair.source_execute(
        "UPDATE words SET w = upper(w) || '!' WHERE w LIKE 'a%' AND n = 1; DELETE FROM words WHERE w LIKE 'A%' AND n = 0;
         UPDATE words SET note = w WHERE w LIKE '% %'; DELETE FROM numbers WHERE id < 0;
         UPDATE numbers SET id = -id WHERE id > 1000; UPDATE ids SET note = u::text WHERE u::text < '4';
         DELETE FROM loose WHERE a = 3; UPDATE loose SET b = NOT b WHERE a = 2",
    )
    .await;
    pair.wait_equal_within(&tables, PATIENCE).await;
}
