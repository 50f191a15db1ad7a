//! From one kind of database to another: the same values, by snapshot and by stream, there and back.

mod mariadb;

use std::time::Duration;

use rowbridge_schema::sql::literal;
use rowbridge_tests::compare::wait_until_equal;
use rowbridge_tests::scenario::{DATABASE, Kind, Pair, PairOptions};
use rowbridge_tests::wait;

use crate::faults::{not_ready, snapshot_all};
use crate::types::{COLUMNS, TYPES};

const PATIENCE: Duration = Duration::from_secs(120);

/// Types whose text PostgreSQL itself would round or cut on the way back, so that Rowbridge takes no text for them.
const ONE_WAY: &[&str] = &["money", "\"char\"", "char(3)[]", "interval day to second(3)"];

/// What SQLite has no place for: it makes NULL of a NaN, and 0 of a negative zero.
fn is_refused(type_name: &str, value: &str) -> bool {
    matches!(type_name, "real" | "double precision") && matches!(value, "'NaN'" | "'-0'")
}

fn values(at: usize) -> Vec<&'static str> {
    let (type_name, values) = COLUMNS[at];
    values.iter().copied().filter(|value| !is_refused(type_name, value)).collect()
}

/// Row n holds the n-th value of each type, from the start again where a type has fewer; the first row holds NULLs.
fn insert(first: usize) -> String {
    let most = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap();
    let mut sql = format!("INSERT INTO t (id) VALUES ({first});");
    for n in 0..most {
        let row: Vec<&str> = (0..COLUMNS.len()).map(|at| values(at)[n % values(at).len()]).collect();
        sql += &format!("INSERT INTO t VALUES ({}, {});", first + n + 1, row.join(", "));
    }
    sql
}

/// Rows of a query as texts joined by `|`, NULL as `~`.
async fn postgres_rows(pair: &Pair, source: bool, sql: &str) -> Vec<String> {
    let cluster = if source { pair.source_cluster() } else { pair.target_cluster() };
    let client = cluster.connect(DATABASE).await;
    let settings =
        "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; SET extra_float_digits = 3;
        SET search_path = ''";
    client.batch_execute(settings).await.unwrap();
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await.map_err(|error| format!("{sql}: {error:?}")).unwrap() {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("~")).collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

fn sqlite_rows(pair: &Pair, sql: &str) -> Vec<String> {
    let connection = pair.target_file().open();
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells: Result<Vec<String>, _> = (0..width)
            .map(|at| row.get::<_, Option<String>>(at).map(|cell| cell.unwrap_or("~".into())))
            .collect();
        Ok(cells?.join("|"))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// How SQLite holds what PostgreSQL prints, read by rules that owe nothing to the converter.
fn verdict(class: &str, stored: &str, source: &str) -> Option<&'static str> {
    if stored == source {
        return Some("exact");
    }
    let same = match class {
        "integer" => matches!((stored, source), ("1", "t") | ("0", "f")),
        "real" => {
            let read = source.replace("Infinity", "inf").parse::<f64>().ok()?;
            read.to_bits() == stored.replace("Infinity", "inf").parse::<f64>().ok()?.to_bits()
        }
        "blob" => source.strip_prefix("\\x").is_some_and(|digits| digits.eq_ignore_ascii_case(stored)),
        _ => stored.replacen('Z', "+00", 1) == source,
    };
    same.then_some("converted")
}

/// A copy that lacks a table is not equal to its source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_rows_is_made() {
    for (source, target) in [
        (Kind::Postgres, Kind::Postgres),
        (Kind::Postgres, Kind::Sqlite),
        (Kind::Sqlite, Kind::Sqlite),
        (Kind::Sqlite, Kind::Postgres),
        (Kind::Mariadb, Kind::Mariadb),
        (Kind::Mariadb, Kind::Postgres),
        (Kind::Mariadb, Kind::Sqlite),
        (Kind::Postgres, Kind::Mariadb),
        (Kind::Sqlite, Kind::Mariadb),
    ] {
        let pair = Pair::prepare(PairOptions::crossing(source, target)).await;
        pair.source_execute(
            "CREATE TABLE keyed (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE loose (v TEXT)",
        )
        .await;
        pair.start().await;
        pair.wait_equal(&["keyed", "loose"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_postgres_through_sqlite_and_back() {
    let there = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Sqlite)).await;
    let mut back = Pair::prepare(PairOptions::crossing(Kind::Sqlite, Kind::Postgres)).await;
    let columns: Vec<String> =
        COLUMNS.iter().enumerate().map(|(at, (type_name, _))| format!("c{at} {type_name}")).collect();
    let schema = format!("{TYPES}; CREATE TABLE t (id int PRIMARY KEY, {})", columns.join(", "));
    there.source_execute(&schema).await;
    back.target_execute(&schema).await;
    let dropped: Vec<String> = (0..COLUMNS.len())
        .filter(|at| ONE_WAY.contains(&COLUMNS[*at].0))
        .map(|at| format!("c{at} = false"))
        .collect();
    back.publisher_config.url = there.target_file().url();
    back.publisher_config.tables = vec!["t".into()];
    back.subscriber_config.extra =
        format!("[[map]]\nfrom = \"t\"\nto = \"public.t\"\ncolumns = {{ {} }}\n", dropped.join(", "));
    back.write_configs();

    there.source_execute(&insert(0)).await;
    there.start().await;
    let count = postgres_rows(&there, true, "SELECT count(*) FROM public.t").await.remove(0).parse().ok();
    wait::until("the snapshot in SQLite", PATIENCE, || async {
        let found = there.target_file().count("t");
        if found == count {
            Ok(())
        } else {
            Err(format!("{found:?} rows; {}", there.publisher().last_lines()))
        }
    })
    .await;
    back.start().await;
    there.source_execute(&insert(1000)).await;
    for at in 0..COLUMNS.len() {
        let sql = format!(
            "UPDATE t SET c{at} = (SELECT x.c{at} FROM t x WHERE x.id = 1) WHERE id = 1000;
             UPDATE t SET c{at} = NULL WHERE id = 1001"
        );
        there.source_execute(&sql).await;
    }
    there.source_execute("UPDATE t SET id = id + 5000 WHERE id = 1001; DELETE FROM t WHERE id = 1002").await;
    // The one-way columns are NULL at the far end.
    let empty: Vec<String> = (0..COLUMNS.len())
        .filter(|at| ONE_WAY.contains(&COLUMNS[*at].0))
        .map(|at| format!("c{at} = NULL"))
        .collect();
    let (from, to) = (&there.publisher_config.url, &back.subscriber_config.url);
    wait::until("all rows in SQLite", PATIENCE, || async {
        let ids = "SELECT id FROM public.t ORDER BY id";
        let (left, right) = (
            postgres_rows(&there, true, ids).await,
            sqlite_rows(&there, "SELECT CAST(id AS TEXT) FROM t ORDER BY id"),
        );
        if left == right {
            Ok(())
        } else {
            Err(format!("{left:?} and {right:?}; {}", there.publisher().last_lines()))
        }
    })
    .await;
    let most = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap();
    println!("{:<28} {:<10} {:<10} {:<10} value in PostgreSQL", "type", "SQLite", "class", "verdict");
    let mut wrong = Vec::new();
    for (at, (type_name, all)) in COLUMNS.iter().enumerate() {
        let source = postgres_rows(
            &there,
            true,
            &format!("SELECT c{at} FROM public.t WHERE id BETWEEN 1 AND {most} ORDER BY id"),
        )
        .await;
        let stored = sqlite_rows(
            &there,
            &format!(
                "SELECT typeof(c{at}), CASE typeof(c{at}) WHEN 'blob' THEN lower(hex(c{at})) WHEN 'real' THEN printf('%!.17g', c{at})
                 ELSE CAST(c{at} AS TEXT) END FROM t WHERE id BETWEEN 1 AND {most} ORDER BY id"
            ),
        );
        let declared =
            sqlite_rows(&there, &format!("SELECT type FROM pragma_table_info('t') WHERE name = 'c{at}'"));
        assert_eq!(source.len(), stored.len());
        for (n, (source, stored)) in source.iter().zip(&stored).enumerate() {
            let (class, stored) = stored.split_once('|').unwrap();
            let stored = if stored == "Inf" {
                "Infinity"
            } else if stored == "-Inf" {
                "-Infinity"
            } else {
                stored
            };
            let verdict = verdict(class, stored, source);
            let shown: String = source.chars().take(60).collect();
            if verdict.is_none() {
                wrong.push(format!("{type_name}: {shown:?} became {class} {stored:.60}"));
            }
            if n < values(at).len() {
                println!(
                    "{type_name:<28} {:<10} {class:<10} {:<10} {shown:?}",
                    declared[0],
                    verdict.unwrap_or("")
                );
            }
        }
        for value in all.iter().filter(|value| is_refused(type_name, value)) {
            println!("{type_name:<28} {:<10} {:<10} {:<10} {value}", declared[0], "", "refused");
        }
        // Rows that came by snapshot and rows that came by the stream.
        let differ = format!(
            "SELECT CAST(a.id AS TEXT) FROM t a JOIN t b ON b.id = a.id + 1000 AND b.id > 1002
             WHERE a.c{at} IS NOT b.c{at} OR typeof(a.c{at}) <> typeof(b.c{at})"
        );
        wrong.extend(
            sqlite_rows(&there, &differ)
                .iter()
                .map(|id| format!("{type_name}: row {id} came otherwise by the stream")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    there.source_execute(&format!("UPDATE t SET {}", empty.join(", "))).await;
    wait_until_equal(from, to, &[("public.t", "public.t")], PATIENCE).await;

    // What SQLite cannot hold halts the lane, with place and reason.
    let real = COLUMNS.iter().position(|(type_name, _)| *type_name == "real").unwrap();
    there.source_execute(&format!("INSERT INTO t (id, c{real}) VALUES (9001, 'NaN')")).await;
    not_ready(
        &there,
        &["halted", "public.t", "id=9001", &format!("column c{real}"), "NaN", "REAL of SQLite"],
    )
    .await;
}

/// Declared type, values as SQL, the type made in PostgreSQL, and the values there.
const SQLITE: &[(&str, &[&str], &str, &[&str])] = &[
    (
        "INTEGER",
        &["-9223372036854775808", "9223372036854775807", "0"],
        "bigint",
        &["-9223372036854775808", "9223372036854775807", "0"],
    ),
    (
        "REAL",
        &["0.1", "1e300", "9e999", "5e-324", "1.0", "0.30000000000000004"],
        "double precision",
        &["0.1", "1e+300", "Infinity", "5e-324", "1", "0.30000000000000004"],
    ),
    ("TEXT", &["''", "'12'", "'\u{1F600} ''x'''", "' '"], "text", &["", "12", "\u{1F600} 'x'", " "]),
    ("VARCHAR(5)", &["'longer than five'"], "text", &["longer than five"]),
    ("BLOB", &["x''", "x'00ff5c'"], "bytea", &["\\x", "\\x00ff5c"]),
    ("", &["'text'", "'12'"], "text", &["text", "12"]),
    ("BOOLEAN", &["0", "1"], "smallint", &["0", "1"]),
    ("NUMERIC", &["12", "0.1", "1e300", "-2.5"], "numeric", &["12", "0.1", "", "-2.5"]),
    ("DECIMAL(10,2)", &["12.5", "'12.50'"], "numeric", &["12.5", "12.5"]),
    ("DATETIME", &["'2024-02-29 12:00:00'", "1700000000"], "text", &["2024-02-29 12:00:00", "1700000000"]),
    ("JSON", &["'{\"a\":  1}'", "12"], "text", &["{\"a\":  1}", "12"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_sqlite_in_postgres() {
    let pair = Pair::prepare(PairOptions::crossing(Kind::Sqlite, Kind::Postgres)).await;
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
    pair.source_execute(&insert(100)).await;
    pair.source_execute(
        "UPDATE t SET c0 = NULL, c2 = 'changed' WHERE id = 100; UPDATE t SET id = 200 WHERE id = 101",
    )
    .await;
    pair.source_execute("DELETE FROM t WHERE id = 102").await;
    let expected: Vec<usize> =
        (0..=most).chain(std::iter::once(100)).chain(103..=100 + most).chain(std::iter::once(200)).collect();
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    wait::until("all rows in PostgreSQL", PATIENCE, || async {
        let exists = postgres_rows(&pair, false, "SELECT to_regclass('public.t') IS NOT NULL").await;
        if exists != ["t"] {
            return Err(format!("no table; {}", pair.publisher().last_lines()));
        }
        let ids = postgres_rows(&pair, false, "SELECT id FROM public.t ORDER BY id").await;
        if ids == expected { Ok(()) } else { Err(format!("{ids:?}; {}", pair.publisher().last_lines())) }
    })
    .await;
    println!("{:<16} {:<18} {:<26} value in PostgreSQL", "type", "PostgreSQL", "value in SQLite");
    for (at, (type_name, values, made, texts)) in SQLITE.iter().enumerate() {
        let sql = format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.t'::regclass AND attname = 'c{at}'"
        );
        assert_eq!(postgres_rows(&pair, false, &sql).await, [*made], "{type_name}");
        for first in [0, 100] {
            for n in 0..most {
                let id = match first + n + 1 {
                    101 => 200,
                    102 => continue,
                    id => id,
                };
                let (value, text) = (values[n % values.len()], texts[n % values.len()]);
                let found =
                    postgres_rows(&pair, false, &format!("SELECT c{at} FROM public.t WHERE id = {id}")).await;
                let wanted = if value == "1e300" && *made == "numeric" {
                    format!("1{}", "0".repeat(300))
                } else {
                    text.to_owned()
                };
                assert_eq!(found, [wanted], "{type_name} {value}, row {id}");
                if first == 0 && n < values.len() {
                    println!("{type_name:<16} {made:<18} {value:<26} {:.60}", found[0]);
                }
            }
        }
    }
    assert_eq!(
        postgres_rows(&pair, false, "SELECT c0, c2 FROM public.t WHERE id = 100").await,
        ["~|changed"]
    );

    // A text in an INTEGER column has no place in a bigint; asked for, it goes as text.
    pair.source_execute("INSERT INTO t (id, c0) VALUES (300, 'not a number')").await;
    let text = not_ready(&pair, &["halted", "id=300", "column c0", "bigint of PostgreSQL"]).await;
    assert!(!text.contains("not a number"), "{text}");
    let mut pair = pair;
    pair.subscriber_config.extra =
        "[[map]]\nfrom = \"t\"\nto = \"public.t\"\ncolumns = { c0 = { as = \"text\" } }\n".into();
    pair.write_configs();
    pair.subscriber().restart().await;
    pair.wait_subscriber().await;
    pair.publisher().restart().await;
    not_ready(&pair, &["as = \"text\"", "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"c0\" TYPE text"]).await;
    pair.target_execute("ALTER TABLE public.t ALTER COLUMN c0 TYPE text").await;
    pair.publisher().restart().await;
    wait::until("the text", PATIENCE, || async {
        let rows = postgres_rows(&pair, false, "SELECT c0 FROM public.t WHERE id = 300").await;
        if rows == ["not a number"] {
            Ok(())
        } else {
            Err(format!("{rows:?}; {}", pair.publisher().last_lines()))
        }
    })
    .await;
    let log = pair.subscriber().log().since(0).join("\n") + &pair.publisher().log().since(0).join("\n");
    assert!(!log.contains("not a number"), "a value is in the log");
}

/// Ranges of keys mean the same only where keys are ordered alike; either way a re-snapshot removes what is too much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resnapshot_removes_what_only_the_target_has() {
    let pair = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Sqlite)).await;
    pair.source_execute(
        "CREATE TABLE days (day date PRIMARY KEY, note text); CREATE TABLE numbers (id bigint PRIMARY KEY, note text);
         CREATE TABLE loose (a numeric(10,2), b boolean);
         INSERT INTO days SELECT '0001-01-01 BC'::date + 400 * i, repeat('x', 2000) FROM generate_series(0, 3000) i;
         INSERT INTO days VALUES ('infinity', ''), ('-infinity', ''), ('12345-01-01', '');
         INSERT INTO numbers SELECT i, repeat('x', 2000) FROM generate_series(-1500, 1500) i;
         INSERT INTO loose SELECT i % 5, i % 2 = 0 FROM generate_series(1, 20) i",
    )
    .await;
    pair.start().await;
    let same = |what: &'static str| {
        let pair = &pair;
        wait::until(what, PATIENCE, move || async move {
            for (table, source, target) in [
                (
                    "days",
                    "SELECT day FROM public.days ORDER BY day::text COLLATE \"C\"",
                    "SELECT day FROM days ORDER BY day",
                ),
                (
                    "numbers",
                    "SELECT id FROM public.numbers ORDER BY id",
                    "SELECT CAST(id AS TEXT) FROM numbers ORDER BY id",
                ),
                (
                    "loose",
                    "SELECT a, b::int FROM public.loose ORDER BY 1, 2",
                    "SELECT a, CAST(b AS TEXT) FROM loose ORDER BY 1, 2",
                ),
            ] {
                if pair.target_file().count(table).is_none() {
                    return Err(format!("no table {table}; {}", pair.publisher().last_lines()));
                }
                let (left, right) = (postgres_rows(pair, true, source).await, sqlite_rows(pair, target));
                if left != right {
                    let last = pair.publisher().last_lines();
                    return Err(format!("{table}: {} and {} rows; {last}", left.len(), right.len()));
                }
            }
            Ok(())
        })
    };
    same("the first snapshot").await;
    pair.publisher().terminate().await;
    pair.target_file().execute(
        "INSERT INTO days VALUES ('0044-03-15 BC', 'too much'), ('2024-01-01', 'too much'), ('zzz', 'too much');
         INSERT INTO numbers VALUES (-9000, 'too much'), (9000, 'too much'); DELETE FROM numbers WHERE id = 5;
         INSERT INTO loose VALUES ('99.00', 1)",
    );
    snapshot_all(&pair);
    pair.publisher().start();
    same("the second snapshot").await;
    // Rows are found by their converted keys.
    pair.source_execute("UPDATE days SET day = '0044-03-15 BC' WHERE day = 'infinity'; DELETE FROM days WHERE day = '12345-01-01'").await;
    pair.source_execute("DELETE FROM numbers WHERE id < 0; UPDATE numbers SET id = -id WHERE id > 1000")
        .await;
    same("changes of keys").await;
}

/// `as` between databases of one kind: numbers and keys as text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_as_text_between_postgres() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    pair.subscriber_config.extra = "[[map]]\nfrom = \"public.t\"\nto = \"public.copy\"\n\
        columns = { k = { to = \"key\", as = \"text\" }, n = { as = \"text\" }, at = { as = \"utc\" }, b = { as = \"text\" } }\n"
        .into();
    pair.write_configs();
    pair.source_execute(
        "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (k numeric PRIMARY KEY, n double precision, at timestamp(3), b bytea, m mood);
         INSERT INTO t SELECT i + 0.50, i / 3.0, '2024-01-01 00:00:00.125', '\\x00ff', 'fine' FROM generate_series(1, 50) i;
         INSERT INTO t VALUES ('NaN', 'NaN', 'infinity', NULL, NULL)",
    )
    .await;
    pair.start().await;
    let same = |what: &'static str| {
        let pair = &pair;
        wait::until(what, PATIENCE, move || async move {
            let exists = postgres_rows(pair, false, "SELECT to_regclass('public.copy') IS NOT NULL").await;
            if exists != ["t"] {
                return Err(format!("no table; {}", pair.publisher().last_lines()));
            }
            let source =
                "SELECT k, n, at AT TIME ZONE 'UTC', b, m FROM public.t ORDER BY k::text COLLATE \"C\"";
            let target = "SELECT key, n, at, b, m FROM public.copy ORDER BY key COLLATE \"C\"";
            let (left, right) =
                (postgres_rows(pair, true, source).await, postgres_rows(pair, false, target).await);
            if left == right {
                Ok(())
            } else {
                Err(format!("{left:?}\n{right:?}\n{}", pair.publisher().last_lines()))
            }
        })
    };
    same("the snapshot").await;
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = 'public.copy'::regclass AND attnum > 0";
    assert_eq!(
        postgres_rows(&pair, false, types).await,
        ["text, text, timestamp(3) with time zone, text, public.mood"]
    );
    pair.source_execute("UPDATE t SET k = k + 100 WHERE k < 10; DELETE FROM t WHERE k = 20.5; UPDATE t SET n = -0.0::float8 WHERE k = 30.5").await;
    pair.source_execute(&format!("INSERT INTO t (k, b) VALUES (7.125, {})", literal("\\x5c"))).await;
    same("the stream").await;
    pair.publisher().terminate().await;
    pair.target_execute(
        "INSERT INTO public.copy (key) VALUES ('too much'); DELETE FROM public.copy WHERE key = '30.50'",
    )
    .await;
    snapshot_all(&pair);
    pair.publisher().start();
    same("a second snapshot").await;
}
