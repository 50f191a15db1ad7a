//! What migrations do to the triggers, and how it is noticed.

use super::{App, Captured, Log, Model, brief, changes, reconcile};
use crate::capture::sqlite::{SqliteError, install, teardown};

/// `new t` or `resync t` for each announcement.
fn announced(all: &[Captured]) -> Vec<String> {
    all.iter()
        .filter_map(|captured| match captured {
            Captured::TableAdded { def, resync } => {
                Some(format!("{} {}", if *resync { "resync" } else { "new" }, def.name))
            }
            _ => None,
        })
        .collect()
}

fn after(schema: &str, migration: &str) -> (App, Log, Vec<String>) {
    let app = App::new(schema);
    let mut log = Log::install(&app);
    assert!(!log.reconcile(), "a second look finds nothing to do");
    app.run(migration);
    log.reconcile();
    assert!(!log.reconcile(), "one look is enough");
    let all = log.all().unwrap();
    let announced = announced(&all);
    (app, log, announced)
}

const T: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'old');";

#[test]
fn a_table_rebuilt_by_a_migration_is_found() {
    let (app, mut log, announced) = after(
        T,
        "BEGIN; CREATE TABLE t2(id INTEGER PRIMARY KEY, v); INSERT INTO t2 SELECT id, upper(v) FROM t; DROP TABLE t;
         ALTER TABLE t2 RENAME TO t; COMMIT;",
    );
    assert_eq!(announced, ["resync t"]);
    app.run("INSERT INTO t VALUES(2, 'x')");
    assert_eq!(brief(&log.changes()), ["i t 2,x"]);
}

#[test]
fn an_added_column_travels_and_asks_for_its_values() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    app.run("ALTER TABLE t ADD COLUMN w TEXT DEFAULT 'd'; UPDATE t SET v = 'between'");
    log.reconcile();
    app.run("UPDATE t SET v = 'after'");
    let all = log.all().unwrap();
    // The order tells which rows the snapshot must still cover.
    assert_eq!(brief(&changes(&all[0])), ["u t 1,between"]);
    assert_eq!(announced(&all[1..2]), ["resync t"]);
    assert_eq!(brief(&changes(&all[2])), ["u t 1,after,d"]);
    assert_eq!(all.len(), 3);
}

#[test]
fn columns_and_tables_may_be_renamed() {
    let (app, mut log, announced) = after(T, "ALTER TABLE t RENAME COLUMN v TO w; ALTER TABLE t RENAME TO u");
    assert_eq!(announced, ["new u"]);
    app.run("INSERT INTO u VALUES(2, 'x')");
    assert_eq!(brief(&log.changes()), ["i u 2,x"]);
    let (_, _, announced) = after(T, "ALTER TABLE t RENAME COLUMN v TO w");
    assert_eq!(announced, ["resync t"]);
}

#[test]
fn tables_come_and_go() {
    let (app, mut log, announced) = after(T, "DROP TABLE t; CREATE TABLE n(v); CREATE VIEW w AS SELECT 1");
    assert_eq!(announced, ["new n"]);
    app.run("INSERT INTO n VALUES(2)");
    assert_eq!(brief(&log.changes()), ["i n 2"]);
    let triggers: i64 = app
        .conn
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name GLOB 'rowbridge_1_*'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(triggers, 0);
}

#[test]
fn a_new_unique_index_brings_the_triggers_that_watch_replace() {
    let (app, mut log, announced) = after(T, "CREATE UNIQUE INDEX i ON t(v)");
    assert_eq!(announced, ["resync t"]);
    app.run("REPLACE INTO t VALUES(2, 'old')");
    assert_eq!(brief(&log.changes()), ["d t [1,old]", "i t 2,old"]);
}

#[test]
fn a_later_trigger_of_the_application_does_not_run_before_ours() {
    let (app, mut log, announced) = after(
        T,
        "CREATE TRIGGER touch AFTER INSERT ON t BEGIN UPDATE t SET v = 'touched' WHERE id = NEW.id; END",
    );
    assert_eq!(announced, ["resync t"]);
    app.run("INSERT INTO t VALUES(2, 'x')");
    assert_eq!(brief(&log.changes()), ["i t 2,x", "u t 2,touched"]);
}

#[test]
fn dropped_triggers_are_made_again() {
    let (app, mut log, announced) = after(T, "DROP TRIGGER rowbridge_1_update");
    assert_eq!(announced, ["resync t"]);
    app.run("UPDATE t SET v = 2");
    assert_eq!(brief(&log.changes()), ["u t 1,2"]);
}

#[test]
fn unrelated_changes_of_the_schema_write_nothing() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    app.run("CREATE INDEX i ON t(v); CREATE VIEW w AS SELECT 1; VACUUM");
    assert!(!log.reconcile());
    app.run("CREATE VIRTUAL TABLE x USING fts5(a)");
    assert!(!log.reconcile(), "virtual and shadow tables are left alone");
}

#[test]
fn announcements_come_again_until_something_after_them_is_confirmed() {
    let (_, mut log, announced_first) = after(T, "CREATE TABLE n(v)");
    assert_eq!(announced_first, ["new n"]);
    log.reader.read -= 1;
    assert_eq!(announced(&log.all().unwrap()), ["new n"]);
}

#[test]
fn a_full_log_stops_itself_and_can_be_restarted() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    let mut source = app.source();
    source.max_log_rows = 10;
    reconcile(&mut log.conn, &source);
    for i in 0..50 {
        app.run(&format!("UPDATE t SET v = {i}"));
    }
    let mut seen = Vec::new();
    let error = loop {
        match log.reader.look(&log.conn) {
            Ok(look) => seen.extend(look.found.iter().flat_map(changes)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SqliteError::Overflowed { last: 11, .. }), "{error}");
    assert_eq!(seen.len(), 10, "what was logged before is told first");
    let rows: i64 = app.conn.query_row("SELECT count(*) FROM rowbridge_log", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 11, "the log does not grow beyond its cap");
    assert_eq!(source.check().unwrap()[0].fix.as_deref(), Some("run `rowbridge snapshot --all`"));
    // Pruning alone must not hide that something is missing.
    install::prune(&mut log.conn, 11, 100).unwrap();
    app.run("UPDATE t SET v = 'lost'");
    assert!(matches!(log.reader.look(&log.conn), Err(SqliteError::Overflowed { .. })));
    source.restart_log().unwrap();
    app.run("UPDATE t SET v = 'seen'");
    let all = log.all().unwrap();
    assert_eq!(announced(&all), ["resync t"]);
    assert_eq!(brief(&changes(&all[1])), ["u t 1,seen"]);
}

#[test]
fn a_log_that_ends_or_begins_elsewhere_is_told() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    app.run("UPDATE t SET v = 2; UPDATE t SET v = 3; UPDATE t SET v = 4");
    install::prune(&mut log.conn, 3, 100).unwrap();
    assert!(matches!(log.reader.look(&log.conn), Err(SqliteError::Gone { pruned: 3, resume: 1, .. })));
    log.reader.read = 99;
    assert!(matches!(log.reader.look(&log.conn), Err(SqliteError::StartedOver { end: 4, resume: 99, .. })));
}

#[test]
fn what_is_not_a_log_row_stops_the_stream() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    app.run("INSERT INTO rowbridge_log(tbl, op) VALUES(1, 'x')");
    assert!(matches!(log.all(), Err(SqliteError::LogRow { id: 2, table: 1, .. })));
    app.run("UPDATE rowbridge_log SET op = 'i', tbl = 77 WHERE id = 2");
    assert!(matches!(log.all(), Err(SqliteError::LogRow { id: 2, table: 77, .. })));
}

#[test]
fn pruning_keeps_ids_rising() {
    let app = App::new(T);
    let mut log = Log::install(&app);
    app.run("UPDATE t SET v = 2; UPDATE t SET v = 3");
    assert_eq!(log.changes().len(), 2);
    assert_eq!(install::prune(&mut log.conn, 3, 1).unwrap(), Some(1));
    assert_eq!(install::prune(&mut log.conn, 3, 100).unwrap(), Some(2), "the newest row stays");
    app.run("BEGIN IMMEDIATE; UPDATE t SET v = 4");
    assert_eq!(install::prune(&mut log.conn, 3, 100).unwrap(), None, "a writer is never waited for");
    app.run("COMMIT");
    assert_eq!(log.changes()[0].number, 4);
    assert_eq!(install::prune(&mut log.conn, 4, 100).unwrap(), Some(3));
}

#[test]
fn a_large_transaction_comes_in_parts_that_end_once() {
    let app = App::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE other(v)");
    let mut log = Log::install(&app);
    let rows = |count: u32| {
        format!(
            "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {count}) INSERT INTO t(v) SELECT i FROM n;"
        )
    };
    app.run(&rows(12_000));
    let first = log.reader.look(&log.conn).unwrap().found.unwrap();
    // More is committed meanwhile: it is not part of what the first read saw.
    app.run(&rows(3));
    let mut all = vec![first];
    all.extend(log.all().unwrap());
    let blocks: Vec<_> = all.iter().filter_map(super::block).collect();
    let ends: Vec<bool> = blocks.iter().map(|b| b.block.ends).collect();
    assert_eq!(ends, [false, false, true, true]);
    assert!(blocks.iter().all(|b| b.block.ends == b.block.resume.is_some()));
    assert!(blocks.windows(2).all(|pair| pair[0].block.head.last < pair[1].block.head.first));
    let mut model = Model::default();
    all.iter().flat_map(changes).for_each(|change| model.apply(&change));
    model.assert_equals(&app, "t");
}

#[test]
fn old_rows_begin_and_end_without_a_snapshot_and_without_a_gap() {
    let app = App::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a'); CREATE TABLE n(v)",
    );
    let mut log = Log::install(&app);
    let triggers = || -> Vec<String> {
        let mut statement =
            app.conn.prepare("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY 1").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let plain = triggers();
    app.run("UPDATE t SET v = 'b'; UPDATE t SET id = 2");
    assert!(log.wants_old_rows(true) && !log.wants_old_rows(true));
    assert_ne!(triggers(), plain);
    app.run("UPDATE t SET v = 'c'; UPDATE t SET id = 3");
    assert!(log.wants_old_rows(false));
    assert_eq!(triggers(), plain);
    app.run("UPDATE t SET v = 'd'; DELETE FROM t");
    let all = log.all().unwrap();
    assert_eq!(announced(&all), [""; 0]);
    let changes: Vec<_> = all.iter().flat_map(changes).collect();
    assert_eq!(
        brief(&changes),
        ["u t 1,b", "u t [1] 2,b", "u t [2,b] 2,c", "u t [2,c] 3,c", "u t 3,d", "d t [3,d]"]
    );
    // What is amiss besides is not passed over.
    app.run("DROP TRIGGER rowbridge_2_update");
    log.wants_old_rows(true);
    assert_eq!(announced(&log.all().unwrap()), ["resync t"]);
    teardown(&app.path, false).unwrap();
    assert_eq!(triggers(), [""; 0]);
}
