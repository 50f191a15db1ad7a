//! Random writes, replayed from the log, give the same tables.

use proptest::prelude::*;

use super::{App, Log, Model, brief};

const SCHEMA: &str = "
CREATE TABLE a(id INTEGER PRIMARY KEY, u TEXT UNIQUE, v);
CREATE TABLE b(id TEXT NOT NULL COLLATE NOCASE, n INT NOT NULL DEFAULT 1, u INT UNIQUE, v, PRIMARY KEY(id, n));
CREATE TABLE c(id PRIMARY KEY, u TEXT COLLATE NOCASE UNIQUE, v) WITHOUT ROWID;
CREATE TABLE d(id, u UNIQUE, v);
CREATE TABLE e(id TEXT PRIMARY KEY, u, v);
CREATE TABLE f(id INTEGER PRIMARY KEY, u TEXT, v, g AS (lower(u)) STORED);
CREATE UNIQUE INDEX f1 ON f(lower(u) DESC) WHERE v > 1;
CREATE UNIQUE INDEX f2 ON f(g, v);
CREATE TABLE g(id INTEGER PRIMARY KEY, u REFERENCES a(id) ON DELETE CASCADE ON UPDATE CASCADE, v);
CREATE TABLE h(id INTEGER PRIMARY KEY, u, v);
CREATE TABLE i(id REAL NOT NULL PRIMARY KEY, u, v, UNIQUE(u, v));
";

const TABLES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn id() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["1", "2", "3", "4", "'a'", "'A'", "'b'", "2.0", "NULL"])
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["1", "2", "'a'", "'A'", "'b'", "NULL", "x'00ff'", "1.5"])
}

fn clause() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL"])
}

fn statement() -> impl Strategy<Value = String> {
    let table = || prop::sample::select(TABLES.to_vec());
    prop_oneof![
        4 => (table(), clause(), id(), value(), value()).prop_map(|(t, or, i, u, v)| {
            format!("INSERT {or} INTO {t}(id, u, v) VALUES({i}, {u}, {v})")
        }),
        2 => (table(), clause(), id(), value(), id(), value()).prop_map(|(t, or, i, u, j, w)| {
            format!("INSERT {or} INTO {t}(id, u, v) VALUES({i}, {u}, 1), ({j}, {w}, 2), ({i}, {w}, 3)")
        }),
        1 => (table(), clause(), value(), 1..4).prop_map(|(t, or, u, r)| {
            // `c` has no rowid: the error is part of the game.
            format!("INSERT {or} INTO {t}(rowid, id, u, v) VALUES({r}, {r} + 1, {u}, 'r')")
        }),
        2 => (table(), id(), value(), value(), id()).prop_map(|(t, i, u, v, j)| {
            format!("INSERT INTO {t}(id, u, v) VALUES({i}, {u}, {v}) ON CONFLICT DO UPDATE SET id = {j}, v = 'up'")
        }),
        1 => (table(), id(), value(), value()).prop_map(|(t, i, u, v)| {
            format!("INSERT INTO {t}(id, u, v) VALUES({i}, {u}, {v}) ON CONFLICT DO UPDATE SET v = excluded.v")
        }),
        3 => (table(), clause(), id(), value(), value()).prop_map(|(t, or, i, u, v)| {
            format!("UPDATE {or} {t} SET u = {u}, v = {v} WHERE id IS {i}")
        }),
        3 => (table(), clause(), id(), id(), value()).prop_map(|(t, or, i, j, v)| {
            format!("UPDATE {or} {t} SET id = {j}, v = {v} WHERE id IS {i}")
        }),
        1 => (table(), clause(), 1..5, 1..5).prop_map(|(t, or, r, s)| {
            format!("UPDATE {or} {t} SET rowid = {r} WHERE rowid = {s}")
        }),
        1 => (table(), clause()).prop_map(|(t, or)| format!("UPDATE {or} {t} SET id = id + 1, u = v")),
        2 => (table(), id()).prop_map(|(t, i)| format!("DELETE FROM {t} WHERE id IS {i}")),
        1 => (table(), value()).prop_map(|(t, u)| format!("DELETE FROM {t} WHERE u IS {u}")),
        1 => Just("SAVEPOINT s".to_owned()),
        1 => Just("ROLLBACK TO s".to_owned()),
        1 => Just("RELEASE s".to_owned()),
        1 => prop::sample::select(vec!["BEGIN", "COMMIT", "ROLLBACK"]).prop_map(str::to_owned),
    ]
}

/// In the middle the triggers change their form, or do not.
fn replay(statements: &[String], recursive: bool, old_rows: [bool; 2]) {
    let app = App::new(SCHEMA);
    app.run("PRAGMA foreign_keys = ON");
    app.run(&format!("PRAGMA recursive_triggers = {recursive}"));
    let mut log = Log::install(&app);
    for (part, old_rows) in statements.chunks(statements.len().div_ceil(2)).zip(old_rows) {
        log.wants_old_rows(old_rows);
        for sql in part {
            // Constraint errors are part of the game: what they leave is in the table and must be in the log.
            let _ = app.conn.execute_batch(sql);
        }
        if !app.conn.is_autocommit() {
            app.run("COMMIT");
        }
    }
    let changes = log.changes();
    let mut model = Model::default();
    for change in &changes {
        model.apply(change);
    }
    for table in TABLES {
        model.assert_equals(&app, table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn replayed_changes_give_the_table(
        statements in prop::collection::vec(statement(), 1..40),
        recursive in any::<bool>(),
        old_rows in any::<[bool; 2]>(),
    ) {
        replay(&statements, recursive, old_rows);
    }
}

fn captured(schema: &str, sql: &str) -> Vec<String> {
    let app = App::new(schema);
    let mut log = Log::install(&app);
    app.run(sql);
    brief(&log.changes())
}

fn captured_with_old_rows(schema: &str, sql: &str) -> Vec<String> {
    let app = App::new(schema);
    let mut log = Log::with_old_rows(&app);
    app.run(sql);
    brief(&log.changes())
}

#[test]
fn a_replaced_row_is_deleted_before_the_new_one_comes() {
    let schema = "CREATE TABLE a(id INTEGER PRIMARY KEY, u UNIQUE); INSERT INTO a VALUES(1, 'x'), (2, 'y')";
    assert_eq!(captured(schema, "INSERT OR REPLACE INTO a VALUES(3, 'x')"), ["d a [1,x]", "i a 3,x"]);
    assert_eq!(captured(schema, "UPDATE OR REPLACE a SET u = 'x' WHERE id = 2"), ["d a [1,x]", "u a 2,x"]);
    assert_eq!(captured(schema, "INSERT OR IGNORE INTO a VALUES(3, 'x')"), [""; 0]);
    assert_eq!(
        captured(schema, "INSERT INTO a VALUES(3, 'x') ON CONFLICT DO UPDATE SET id = 9"),
        ["u a [1] 9,x"]
    );
    let plain = "CREATE TABLE p(id INTEGER PRIMARY KEY, v); INSERT INTO p VALUES(1, 'x'), (2, 'y')";
    assert_eq!(captured(plain, "UPDATE OR REPLACE p SET id = 1 WHERE id = 2"), ["d p [1,x]", "u p [2] 1,y"]);
    assert_eq!(captured(plain, "REPLACE INTO p VALUES(1, 'z')"), ["i p 1,z"]);
    let recursive = "PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO a VALUES(3, 'x')";
    assert_eq!(captured(schema, recursive), ["d a [1,x]", "i a 3,x"]);
}

#[test]
fn a_row_replaced_through_its_rowid_is_deleted() {
    let schema = "CREATE TABLE a(id TEXT NOT NULL PRIMARY KEY); INSERT INTO a(rowid, id) VALUES(5, 'x')";
    assert_eq!(captured(schema, "INSERT OR REPLACE INTO a(rowid, id) VALUES(5, 'y')"), ["d a [x]", "i a y"]);
    let keyless = "CREATE TABLE a(v); INSERT INTO a(rowid, v) VALUES(5, 'x')";
    assert_eq!(captured(keyless, "REPLACE INTO a(rowid, v) VALUES(5, 'y')"), ["d a [x]", "i a y"]);
}

#[test]
fn cascades_and_triggers_of_the_application_are_logged() {
    let schema = "PRAGMA foreign_keys = ON;
        CREATE TABLE p(id INTEGER PRIMARY KEY, at);
        CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);
        CREATE TRIGGER touch AFTER INSERT ON p BEGIN UPDATE p SET at = 'now' WHERE id = NEW.id; END;
        INSERT INTO p VALUES(1, NULL); INSERT INTO c VALUES(7, 1)";
    assert_eq!(captured(schema, "DELETE FROM p"), ["d c [7,1]", "d p [1,now]"]);
    // Ours run first, so that the insert is logged before what the application's trigger makes of it.
    assert_eq!(captured(schema, "INSERT INTO p VALUES(2, NULL)"), ["i p 2,NULL", "u p 2,now"]);
}

#[test]
fn an_update_tells_the_old_key_only_where_it_changed() {
    let schema =
        "CREATE TABLE a(k TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, v); INSERT INTO a VALUES('x', 1)";
    assert_eq!(captured(schema, "UPDATE a SET v = 2"), ["u a x,2"]);
    assert_eq!(captured(schema, "UPDATE a SET k = 'X'"), ["u a [x] X,1"]);
    let nullable = "CREATE TABLE a(k TEXT PRIMARY KEY, v); INSERT INTO a VALUES(NULL, 1)";
    assert_eq!(captured(nullable, "UPDATE a SET v = 2"), ["u a [NULL,1] NULL,2"]);
}

#[test]
fn old_rows_come_with_every_update_and_replaced_row() {
    let old_rows = captured_with_old_rows;
    let plain =
        "CREATE TABLE a(id INTEGER PRIMARY KEY, v, w); INSERT INTO a VALUES(1, 'x', 2), (2, 'y', NULL)";
    assert_eq!(old_rows(plain, "UPDATE a SET v = 'z' WHERE id = 1"), ["u a [1,x,2] 1,z,2"]);
    assert_eq!(old_rows(plain, "UPDATE a SET id = 9 WHERE id = 2"), ["u a [2,y,NULL] 9,y,NULL"]);
    assert_eq!(old_rows(plain, "DELETE FROM a WHERE id = 2"), ["d a [2,y,NULL]"]);
    assert_eq!(old_rows(plain, "INSERT INTO a(v) VALUES('n')"), ["i a 3,n,NULL"]);
    let replaced = ["d a [1,x,2]", "i a 1,n,NULL"];
    assert_eq!(old_rows(plain, "REPLACE INTO a(id, v) VALUES(1, 'n')"), replaced);
    assert_eq!(
        old_rows(plain, "PRAGMA recursive_triggers = ON; REPLACE INTO a(id, v) VALUES(1, 'n')"),
        replaced
    );
    let upsert = "INSERT INTO a VALUES(1, 'n', 3) ON CONFLICT DO UPDATE SET v = excluded.v";
    assert_eq!(old_rows(plain, upsert), ["u a [1,x,2] 1,n,2"]);
    assert_eq!(
        old_rows(plain, "INSERT OR IGNORE INTO a VALUES(1, 'n', 3); INSERT INTO a VALUES(3, 'm', 3)"),
        ["i a 3,m,3"]
    );
    assert_eq!(
        old_rows(
            plain,
            "INSERT OR IGNORE INTO a VALUES(1, 'n', 3); DELETE FROM a; REPLACE INTO a VALUES(1, 'm', 3)"
        ),
        ["d a [1,x,2]", "d a [2,y,NULL]", "i a 1,m,3"]
    );
    let unique = "CREATE TABLE a(id INTEGER PRIMARY KEY, u UNIQUE); INSERT INTO a VALUES(1, 'x'), (2, 'y')";
    assert_eq!(old_rows(unique, "REPLACE INTO a VALUES(1, 'y')"), ["d a [1,x]", "d a [2,y]", "i a 1,y"]);
    let text = "CREATE TABLE a(k TEXT COLLATE NOCASE NOT NULL PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO a VALUES('x', 1)";
    assert_eq!(old_rows(text, "REPLACE INTO a VALUES('X', 2)"), ["d a [x,1]", "i a X,2"]);
    let keyless = "CREATE TABLE a(v, w); INSERT INTO a VALUES('x', 1)";
    assert_eq!(old_rows(keyless, "UPDATE a SET w = 2"), captured(keyless, "UPDATE a SET w = 2"));
}

#[test]
fn wide_old_rows_come_in_pieces() {
    for width in [16, 17, 32, 33, 70] {
        let columns: Vec<String> = (1..width).map(|i| format!("c{i}")).collect();
        let values: Vec<String> = (1..width).map(|i| i.to_string()).collect();
        let schema = format!(
            "CREATE TABLE a(id INTEGER PRIMARY KEY, {}); INSERT INTO a VALUES(0, {})",
            columns.join(","),
            values.join(",")
        );
        let row = format!("0,{}", values.join(","));
        let changed = format!("9,{}", values.join(","));
        assert_eq!(
            captured_with_old_rows(&schema, "UPDATE a SET id = 9; DELETE FROM a"),
            [format!("u a [{row}] {changed}"), format!("d a [{changed}]")]
        );
    }
}
