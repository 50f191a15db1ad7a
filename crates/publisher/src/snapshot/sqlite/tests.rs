use rowbridge_schema::{Cell, StorageClass, TableName, TablePatterns};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{ChunkRead, Containment, SnapshotReader, SqliteError, SqliteSnapshots};
use crate::capture::sqlite::SqliteSource;
use crate::capture::{Capture, CaptureStart, Captured, OldRows};
use crate::snapshot::CellRow;

struct App {
    conn: Connection,
    source: SqliteSource,
    _dir: TempDir,
}

impl App {
    async fn new(sql: &str) -> (Self, SqliteSnapshots) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("app.db");
        let conn = Connection::open(&path).unwrap();
        conn.pragma_update(None, "journal_mode", "wal").unwrap();
        conn.execute_batch(sql).unwrap();
        let (tables, old_rows) = (TablePatterns::all(), OldRows::default());
        let source = SqliteSource::new(path, tables, 1_000, old_rows);
        assert!(matches!(source.snapshots().await, Err(SqliteError::NotInstalled { .. })));
        drop(source.capture(&CaptureStart::default()).await.unwrap());
        let snapshots = source.snapshots().await.unwrap();
        (Self { conn, source, _dir: dir }, snapshots)
    }
}

fn texts(chunk: &ChunkRead) -> Vec<String> {
    let text = |row: CellRow<'_>| {
        row.iter().map(|c| c.as_str().unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join("/")
    };
    chunk.cells.rows().map(text).collect()
}

/// All rows, chunk by chunk, going on by the key that each chunk's range ends with.
async fn page(snapshots: &mut SqliteSnapshots, table: &str, max_bytes: usize, keep: bool) -> Vec<ChunkRead> {
    let table = TableName::bare(table);
    let mut chunks: Vec<ChunkRead> = Vec::new();
    let mut after = None;
    loop {
        let chunk = snapshots.read_chunk(&table, after.as_ref(), max_bytes).await.unwrap().unwrap();
        assert_eq!(chunk.range.after.is_some(), after.is_some());
        let done = chunk.done;
        after = chunk.range.upto.clone();
        chunks.push(chunk);
        if done {
            return chunks;
        }
        if !keep {
            snapshots.inner.lock().unwrap().ends.clear();
        }
    }
}

#[tokio::test]
async fn chunks_follow_the_key_and_cover_the_table_once() {
    let (_app, mut snapshots) = App::new(
        "CREATE TABLE t(v, b TEXT NOT NULL COLLATE NOCASE, a INT NOT NULL, PRIMARY KEY(a, b));
         WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i < 99)
         INSERT INTO t SELECT i, char(65 + i % 5 + 32 * (i % 2)) || i, i / 10 FROM n",
    )
    .await;
    for keep in [true, false] {
        let chunks = page(&mut snapshots, "t", 100, keep).await;
        assert!(chunks.len() > 5);
        let rows: Vec<String> = chunks.iter().flat_map(texts).collect();
        assert_eq!(rows.len(), 100);
        let distinct: std::collections::HashSet<_> = rows.iter().collect();
        assert_eq!(distinct.len(), 100);
        assert!(chunks.iter().all(|c| !c.portable_order), "NOCASE text orders differently elsewhere");
    }
}

#[tokio::test]
async fn integer_keys_order_everywhere_the_same() {
    let (_app, mut snapshots) = App::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v);
         INSERT INTO t VALUES(-9223372036854775808, 'lowest'), (0, 'b'), (9223372036854775807, 'highest');
         CREATE TABLE m(id INT PRIMARY KEY NOT NULL); INSERT INTO m VALUES(1), (2);
         CREATE TABLE s(id INT PRIMARY KEY NOT NULL) STRICT; INSERT INTO s VALUES(1), (2)",
    )
    .await;
    let chunks = page(&mut snapshots, "t", 1, false).await;
    assert_eq!(chunks.len(), 3);
    assert!(chunks.iter().all(|c| c.portable_order));
    assert_eq!(chunks[0].range.upto, Some(vec![i64::MIN.to_string()]));
    assert_eq!(texts(&chunks[2]), ["9223372036854775807/highest"]);
    assert_eq!(chunks[2].range.upto, None);
    // What a chunk happens to hold says nothing of the next one.
    let untyped = page(&mut snapshots, "m", 1000, true).await;
    assert!(!untyped[0].portable_order);
    let strict = page(&mut snapshots, "s", 1000, true).await;
    assert!(strict[0].portable_order);
    let key = [vec!["1".to_owned()]];
    let by_key = snapshots.read_keys(&TableName::bare("t"), &key).await.unwrap().unwrap();
    assert!(by_key.portable_order);
}

#[tokio::test]
async fn keys_of_every_class_are_paged() {
    let (_app, mut snapshots) = App::new(
        "CREATE TABLE t(k PRIMARY KEY NOT NULL, v) WITHOUT ROWID;
         INSERT INTO t VALUES(10, 1), (10.5, 2), ('10', 3), ('a', 4), (x'10', 5), (x'', 6), (-1e300, 7), (9e999, 8)",
    )
    .await;
    let chunks = page(&mut snapshots, "t", 1, true).await;
    let rows: Vec<String> = chunks.iter().flat_map(texts).collect();
    assert_eq!(rows, ["-1e300/7", "10/1", "10.5/2", "Infinity/8", "10/3", "a/4", "/6", "10/5"]);
    assert_eq!(chunks[1].cells.last().unwrap().get(0), Cell::Classed(StorageClass::Integer, "10".into()));
    let found = snapshots.read_keys(&TableName::bare("t"), &[vec!["10".into()]]).await.unwrap().unwrap();
    assert_eq!(texts(&found).len(), 3, "a key's text does not tell its class: all readings are found");
}

#[tokio::test]
async fn a_keyless_table_is_read_in_one_transaction() {
    let (app, mut snapshots) = App::new(
        "CREATE TABLE t(v); INSERT INTO t(rowid, v) VALUES(-9223372036854775808, 'a'), (1, 'b'), (2, 'c');
         CREATE TABLE n(k TEXT PRIMARY KEY); INSERT INTO n VALUES(NULL), ('x'), (NULL);
         CREATE TABLE hidden(rowid, oid, _rowid_); INSERT INTO hidden VALUES(1, 2, 3), (1, 2, 3)",
    )
    .await;
    let t = TableName::bare("t");
    let first = snapshots.read_chunk(&t, None, 1).await.unwrap().unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES('late'); DELETE FROM t WHERE v = 'b'").unwrap();
    let go_on = Some(Vec::new());
    let second = snapshots.read_chunk(&t, go_on.as_ref(), 1).await.unwrap().unwrap();
    let third = snapshots.read_chunk(&t, go_on.as_ref(), 1).await.unwrap().unwrap();
    let rows: Vec<String> = [&first, &second, &third].into_iter().flat_map(texts).collect();
    assert_eq!(rows, ["a", "b", "c"]);
    assert_eq!((first.done, second.done, third.done), (false, false, true));
    assert_eq!(first.containment, third.containment);
    assert_eq!((&first.range.after, &first.range.upto), (&None, &None));
    // The transaction is over, so that the write-ahead log can be truncated again.
    let interrupted = snapshots.read_chunk(&t, go_on.as_ref(), 1).await;
    assert!(matches!(interrupted, Err(SqliteError::Interrupted { .. })));
    let busy: i64 = app.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
    let n = snapshots.read_chunk(&TableName::bare("n"), None, 1000).await.unwrap().unwrap();
    assert_eq!(texts(&n), ["NULL", "x", "NULL"]);
    let hidden = snapshots.read_chunk(&TableName::bare("hidden"), None, 1).await.unwrap().unwrap();
    assert_eq!((texts(&hidden).len(), hidden.done), (2, true));
}

#[tokio::test]
async fn a_chunk_says_which_changes_it_saw() {
    let (app, mut snapshots) = App::new("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let mut capture =
        app.source.capture(&CaptureStart { epoch: 1, ..CaptureStart::default() }).await.unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES(1, 'in')").unwrap();
    let chunk = snapshots.read_chunk(&TableName::bare("t"), None, 1000).await.unwrap().unwrap();
    let mut tokens = Vec::new();
    for sql in ["UPDATE t SET v = 'out'", "DELETE FROM t"] {
        capture.hurry().await.unwrap();
        while let Captured::Block(block) = capture.next().await.unwrap() {
            tokens.push(block.token);
        }
        app.conn.execute_batch(sql).unwrap();
    }
    let contained: Vec<bool> = tokens.iter().map(|&token| chunk.containment.contains(token)).collect();
    assert_eq!(contained, [true, false]);
    assert_eq!(Containment::UpTo(chunk.after), chunk.containment);
    assert_eq!(texts(&chunk), ["1/in"]);
}

/// A block with changes from before and after the read could only be sent twice or not at all.
#[tokio::test]
async fn no_block_reaches_across_the_read_of_a_table_without_key() {
    let (app, mut snapshots) = App::new("CREATE TABLE t(v); CREATE TABLE k(v PRIMARY KEY NOT NULL)").await;
    let mut capture =
        app.source.capture(&CaptureStart { epoch: 1, ..CaptureStart::default() }).await.unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES(1)").unwrap();
    let first = snapshots.read_chunk(&TableName::bare("t"), None, 1000).await.unwrap().unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES(2); INSERT INTO t VALUES(3)").unwrap();
    let keyed = snapshots.read_chunk(&TableName::bare("k"), None, 1000).await.unwrap().unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES(4)").unwrap();
    let second = snapshots.read_chunk(&TableName::bare("t"), None, 1000).await.unwrap().unwrap();
    app.conn.execute_batch("INSERT INTO t VALUES(5)").unwrap();
    // Only the latest one is placed: the first one was not waited for.
    for (seen, sees_it) in [(4, true), (1, false)] {
        let Captured::Block(block) = capture.next().await.unwrap() else { panic!("a block comes first") };
        let rows: u64 = block.block.runs.iter().map(|run| u64::from(run.count)).sum();
        assert_eq!((rows, second.containment.contains(block.token)), (seen, sees_it));
        assert!(block.block.ends);
    }
    assert_eq!((texts(&first).len(), texts(&keyed).len(), texts(&second).len()), (1, 0, 4));
}

#[tokio::test]
async fn a_collation_of_the_application_needs_a_whole_read() {
    let (app, mut snapshots) = App::new("CREATE TABLE x(v)").await;
    // Stands for a collation that only the application has.
    app.conn
        .execute_batch(
            "CREATE TABLE t(k TEXT NOT NULL COLLATE NOCASE PRIMARY KEY); INSERT INTO t VALUES('a'), ('b');
             PRAGMA writable_schema = ON;
             UPDATE sqlite_master SET sql = replace(sql, 'NOCASE', 'mine') WHERE name = 't';
             PRAGMA schema_version = 1000; PRAGMA writable_schema = OFF",
        )
        .unwrap();
    drop(app.source.capture(&CaptureStart::default()).await.unwrap());
    let t = TableName::bare("t");
    let first = snapshots.read_chunk(&t, None, 1).await.unwrap().unwrap();
    let second = snapshots.read_chunk(&t, first.range.upto.as_ref(), 1).await.unwrap().unwrap();
    assert_eq!((texts(&first), texts(&second)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    assert!(!first.done && second.done && !first.portable_order);
    // Its transaction is gone: a table with a key is read from the beginning again.
    let again = snapshots.read_chunk(&t, first.range.upto.as_ref(), 1000).await.unwrap().unwrap();
    assert_eq!((texts(&again).len(), again.done), (2, true));
    let tables = snapshots.tables().await.unwrap();
    assert_eq!(tables.iter().map(|t| t.name.name.as_str()).collect::<Vec<_>>(), ["t", "x"]);
    assert!(snapshots.read_chunk(&TableName::bare("gone"), None, 1).await.unwrap().is_none());
}
