//! Capture with its thread, as the publisher runs it.

use std::time::{Duration, Instant};

use rowbridge_schema::{TableName, TablePatterns};

use super::{App, Captured, Model, block, brief, changes};
use crate::capture::sqlite::{Severity, SqliteCapture, SqliteError, SqliteSource, teardown};
use crate::capture::{Capture, CaptureStart, ChangedKey};
use crate::journal::Resume;

const T: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'old');";

async fn start(app: &App) -> SqliteCapture {
    app.source().capture(&CaptureStart { epoch: 1, ..CaptureStart::default() }).await.unwrap()
}

/// Everything that is committed now.
async fn drain(capture: &mut SqliteCapture) -> Vec<Captured> {
    capture.hurry().await.unwrap();
    let mut all = Vec::new();
    loop {
        match capture.next().await.unwrap() {
            Captured::Advanced { .. } => return all,
            other => all.push(other),
        }
    }
}

fn all_changes(all: &[Captured]) -> Vec<String> {
    brief(&all.iter().flat_map(changes).collect::<Vec<_>>())
}

fn log_rows(app: &App) -> i64 {
    app.conn.query_row("SELECT count(*) FROM rowbridge_log", [], |row| row.get(0)).unwrap()
}

/// Waits for what happens by itself, at most 10 s.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_commit_is_told_without_being_asked_for() {
    let app = App::new(T);
    let mut capture = start(&app).await;
    assert!(matches!(capture.next().await.unwrap(), Captured::Advanced { .. }));
    let mut worst = Duration::ZERO;
    for i in 0..50 {
        let waiting = tokio::time::timeout(Duration::from_millis(20), capture.next()).await;
        assert!(waiting.is_err(), "nothing was written");
        app.run(&format!("UPDATE t SET v = {i}"));
        let committed = Instant::now();
        // The call that was cancelled above must not have lost its item.
        let item = capture.next().await.unwrap();
        worst = worst.max(committed.elapsed());
        assert_eq!(brief(&changes(&item)), [format!("u t 1,{i}")]);
    }
    // The poll alone would take up to 500 ms; the rest is a slow machine.
    assert!(worst < Duration::from_millis(400), "{worst:?}");
}

#[tokio::test]
async fn capture_goes_on_behind_what_the_journal_has() {
    let app = App::new(T);
    let mut capture = start(&app).await;
    app.run("UPDATE t SET v = 1");
    let all = drain(&mut capture).await;
    let resume = block(&all[0]).unwrap().block.resume.clone();
    let last = block(&all[0]).unwrap().block.head.last;
    let source = capture.source().clone();
    drop(capture);
    app.run("UPDATE t SET v = 2");
    let start = CaptureStart { epoch: 1, last: Some(last), resume };
    let mut capture = app.source().capture(&start).await.unwrap();
    assert_eq!(*capture.source(), source, "the file keeps its identity");
    let all = drain(&mut capture).await;
    assert_eq!(all_changes(&all), ["u t 1,2"]);
    assert!(block(&all[0]).unwrap().block.head.first > last);
    assert_eq!(capture.end().await.unwrap().at, 3);
    drop(capture);
    // Without a journal: only what comes from now on.
    let mut capture = self::start(&app).await;
    assert_eq!(all_changes(&drain(&mut capture).await), [""; 0]);
    let foreign = CaptureStart { resume: Some(Resume("0/1A".into())), ..CaptureStart::default() };
    assert!(matches!(app.source().capture(&foreign).await, Err(SqliteError::Resume)));
}

#[tokio::test]
async fn confirmed_rows_are_pruned_while_the_file_is_quiet() {
    let app = App::new(T);
    let mut capture = start(&app).await;
    for i in 0..500 {
        app.run(&format!("UPDATE t SET v = {i}"));
    }
    let all = drain(&mut capture).await;
    assert_eq!(log_rows(&app), 501, "nothing goes before it is confirmed");
    let resume = block(all.last().unwrap()).unwrap().block.resume.clone().unwrap();
    capture.confirm(&resume).await.unwrap();
    eventually("the log is pruned", || log_rows(&app) == 1).await;
    app.run("UPDATE t SET v = 'next'");
    assert_eq!(all_changes(&drain(&mut capture).await), ["u t 1,next"]);
}

#[tokio::test]
async fn watched_tables_tell_the_keys_that_changed() {
    let app = App::new(
        "CREATE TABLE t(k TEXT NOT NULL, n INT NOT NULL, PRIMARY KEY(n, k)); CREATE TABLE o(id INTEGER PRIMARY KEY)",
    );
    let mut capture = start(&app).await;
    capture.watch(&[TableName::bare("t")]);
    app.run("INSERT INTO t VALUES('a', 1); UPDATE t SET n = 2; DELETE FROM t; INSERT INTO o VALUES(1)");
    let all = drain(&mut capture).await;
    let changed: Vec<&ChangedKey> = all.iter().filter_map(block).flat_map(|b| &b.changed).collect();
    let keys: Vec<String> = changed.iter().map(|c| c.key.join("/")).collect();
    assert_eq!(keys, ["1/a", "2/a", "1/a", "2/a"]);
    capture.watch(&[]);
    app.run("INSERT INTO t VALUES('a', 1)");
    let all = drain(&mut capture).await;
    assert!(all.iter().filter_map(block).all(|b| b.changed.is_empty()));
}

#[tokio::test]
async fn a_migration_is_noticed_while_running() {
    let app = App::new(T);
    let mut capture = start(&app).await;
    drain(&mut capture).await;
    app.run("CREATE TABLE n(id INTEGER PRIMARY KEY, v)");
    let found = capture.next().await.unwrap();
    assert!(
        matches!(&found, Captured::TableAdded { def, resync: false } if def.name.name == "n"),
        "{found:?}"
    );
    app.run("INSERT INTO n VALUES(1, 2)");
    assert_eq!(all_changes(&drain(&mut capture).await), ["i n 1,2"]);
}

#[tokio::test]
async fn only_tables_that_the_configuration_names_are_touched() {
    let app = App::new(
        "CREATE TABLE a(v); CREATE TABLE b(v); CREATE TABLE rowbridge_progress(v); CREATE TABLE RowBridge_x(v)",
    );
    let source = SqliteSource { tables: TablePatterns::new(&["*", "!b"]).unwrap(), ..app.source() };
    let mut capture = source.capture(&CaptureStart::default()).await.unwrap();
    app.run("INSERT INTO a VALUES(1); INSERT INTO b VALUES(1); INSERT INTO rowbridge_progress VALUES(1); INSERT INTO RowBridge_x VALUES(1)");
    assert_eq!(all_changes(&drain(&mut capture).await), ["i a 1"]);
}

#[tokio::test]
async fn another_file_under_the_name_is_noticed() {
    let app = App::new(T);
    let mut capture = start(&app).await;
    drain(&mut capture).await;
    std::fs::copy(&app.path, app.path.with_extension("copy")).unwrap();
    std::fs::rename(app.path.with_extension("copy"), &app.path).unwrap();
    let error = loop {
        match capture.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SqliteError::Replaced { .. }), "{error}");
}

#[tokio::test]
async fn a_database_outside_wal_mode_is_refused_with_the_pragma() {
    let app = App::new(T);
    app.run("PRAGMA journal_mode = DELETE");
    let error = app.source().capture(&CaptureStart::default()).await.unwrap_err();
    assert!(matches!(&error, SqliteError::NotWal { mode, .. } if mode == "delete"));
    assert!(
        rowbridge_schema::Classified::hint(&error)
            .is_some_and(|hint| hint.contains("PRAGMA journal_mode=WAL")),
        "{error}"
    );
    assert_eq!(app.source().check().unwrap()[0].severity, Severity::Error);
    let missing = SqliteSource { path: app.path.with_extension("none"), ..app.source() };
    assert!(matches!(missing.capture(&CaptureStart::default()).await, Err(SqliteError::Open { .. })));
}

#[tokio::test]
async fn nothing_is_lost_while_many_connections_write() {
    let app = App::new("CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, v)");
    let mut capture = start(&app).await;
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let path = app.path.clone();
            std::thread::spawn(move || {
                let conn = rusqlite::Connection::open(path).unwrap();
                conn.busy_timeout(Duration::from_secs(30)).unwrap();
                conn.pragma_update(None, "synchronous", "off").unwrap();
                for i in 0..300 {
                    let (id, u) = (i * 7 % 40, (i * 3 + writer) % 50);
                    conn.execute_batch(&format!(
                        "BEGIN IMMEDIATE; INSERT OR REPLACE INTO t VALUES({id}, {u}, {writer});
                         DELETE FROM t WHERE id = {}; COMMIT",
                        (id + 20) % 40
                    ))
                    .unwrap();
                }
            })
        })
        .collect();
    let mut model = Model::default();
    loop {
        let done = writers.iter().all(std::thread::JoinHandle::is_finished);
        for captured in drain(&mut capture).await {
            changes(&captured).iter().for_each(|change| model.apply(change));
            if let Some(resume) = block(&captured).and_then(|b| b.block.resume.clone()) {
                capture.confirm(&resume).await.unwrap();
            }
        }
        if done {
            break;
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    model.assert_equals(&app, "t");
}

#[tokio::test]
async fn teardown_removes_exactly_what_capture_made() {
    let app = App::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE); CREATE TABLE rowbridge_progress(v);
         CREATE TABLE rowbridge_suspect_x(v);
         CREATE TRIGGER rowbridge_mine AFTER INSERT ON t BEGIN INSERT INTO rowbridge_progress VALUES(1); END",
    );
    let catalog = || {
        let mut statement =
            app.conn.prepare("SELECT type || ' ' || name FROM sqlite_master ORDER BY 1").unwrap();
        let names: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        names
    };
    let before = catalog();
    drop(start(&app).await);
    let listed = teardown(&app.path, true).unwrap();
    assert_eq!(listed.len(), 6 + 5, "{listed:?}");
    assert_eq!(teardown(&app.path, false).unwrap(), listed);
    assert_eq!(catalog(), before);
    app.run("INSERT INTO t VALUES(1, 2)");
    assert!(teardown(&app.path, false).unwrap().is_empty());
}

#[test]
fn check_says_what_an_operator_should_know() {
    let app = App::new(
        "CREATE TABLE keyless(v); CREATE TABLE nullable(k TEXT PRIMARY KEY); CREATE VIRTUAL TABLE x USING fts5(a);
         CREATE TABLE fine(id INTEGER PRIMARY KEY);
         CREATE TRIGGER theirs AFTER INSERT ON fine BEGIN SELECT 1; END",
    );
    let source = SqliteSource { tables: TablePatterns::new(&["*", "typo*"]).unwrap(), ..app.source() };
    let items = source.check().unwrap();
    let has = |severity, part: &str| {
        assert!(items.iter().any(|i| i.severity == severity && i.what.contains(part)), "{part}: {items:#?}");
    };
    has(Severity::Warning, "keyless has no primary key");
    has(Severity::Warning, "primary key of nullable admits NULL");
    has(Severity::Warning, "x is a virtual table");
    has(Severity::Warning, "\"typo*\" matches no table");
    has(Severity::Note, "DROP COLUMN");
    has(Severity::Note, "fine has 1 triggers of the application");
    has(Severity::Note, "not installed yet");
    assert!(items.iter().all(|i| i.severity != Severity::Error));
}
