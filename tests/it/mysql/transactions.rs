//! Which changes a stream holds, and in which transactions.

use mysql_async::prelude::Queryable as _;
use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_publisher::capture::{Capture as _, OldRows};
use rowbridge_schema::{Classified as _, TableName};

use super::{Folder, Tap, server};

#[tokio::test]
async fn changes_come_in_their_transactions() {
    let server = server(&[]).await;
    server
        .execute(
            "shop",
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9)); CREATE TABLE k (a INT, b TEXT);
                          CREATE TABLE other (id INT PRIMARY KEY)",
        )
        .await;
    let mut tap = Tap::open(&server).await;
    assert!(tap.lines().await.is_empty());
    let mut conn = server.connect("shop").await;
    for sql in [
        "BEGIN",
        "INSERT INTO t VALUES (1, 'a'), (2, NULL)",
        "SAVEPOINT s",
        "INSERT INTO t VALUES (3, 'gone')",
        "ROLLBACK TO s",
        "UPDATE t SET v = 'b' WHERE id = 2",
        "UPDATE t SET id = 9 WHERE id = 1",
        "INSERT INTO other VALUES (1)",
        "DELETE FROM t WHERE id = 2",
        "COMMIT",
        "INSERT INTO k VALUES (1, 'x'), (1, 'x')",
        "DELETE FROM k LIMIT 1",
        "UPDATE k SET a = 2",
        "REPLACE INTO t VALUES (9, 'r')",
        "INSERT INTO t VALUES (9, 'z') ON DUPLICATE KEY UPDATE v = 'u'",
        "TRUNCATE TABLE t",
        "CREATE TABLE c SELECT 7 AS n",
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    assert_eq!(
        tap.lines().await,
        [
            "i t id=1 v=a",
            "i t id=2 v=NULL",
            "u t id=2 v=b",
            "u t (id=1) id=9 v=a",
            "d t (id=2)",
            ".",
            "i k a=1 b=x",
            "i k a=1 b=x",
            ".",
            "d k (a=1 b=x)",
            ".",
            "u k (a=1 b=x) a=2 b=x",
            ".",
            "u t id=9 v=r",
            ".",
            "u t id=9 v=u",
            ".",
            "t t",
            ".",
            "i c n=7",
            ".",
            "added c",
        ]
    );
}

#[tokio::test]
async fn partial_images_leave_out_what_they_do_not_have() {
    for image in ["MINIMAL", "NOBLOB"] {
        let server = server(&[("binlog_row_image", image)]).await;
        server
            .execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT, c INT AS (a + 1) STORED)")
            .await;
        let mut tap = Tap::open(&server).await;
        tap.capture.watch(&[TableName::new("shop", "t")]);
        server
            .execute(
                "shop",
                "INSERT INTO t (id, a, b) VALUES (1, 2, 'x'); UPDATE t SET a = 3; UPDATE t SET id = 5;
                              UPDATE t SET b = 'y'; DELETE FROM t",
            )
            .await;
        let expected: [&str; 5] = match image {
            "MINIMAL" => {
                ["i t id=1 a=2 b=x", "u t id=1 a=3", "u t (id=1) id=5", "u t id=5 b=y", "d t (id=5)"]
            }
            _ => {
                ["i t id=1 a=2 b=x", "u t id=1 a=3", "u t (id=1) id=5 a=3", "u t id=5 a=3 b=y", "d t (id=5)"]
            }
        };
        let lines: Vec<String> = tap.lines().await.into_iter().filter(|line| line != ".").collect();
        assert_eq!(lines, expected, "{image}");
    }
}

/// What an endpoint other than a bridge is told of.
#[tokio::test]
async fn old_rows_are_sent_as_far_as_the_image_has_them() {
    for image in ["FULL", "MINIMAL", "NOBLOB"] {
        let server = server(&[("binlog_row_image", image)]).await;
        server
            .execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT, c INT AS (a + 1) STORED)")
            .await;
        let folder = Folder { old_rows: OldRows::all(), ..Folder::new() };
        let mut tap = Tap::begin(&server, folder, None, None).await.unwrap();
        server
            .execute(
                "shop",
                "INSERT INTO t (id, a, b) VALUES (1, 2, 'x'); UPDATE t SET a = 3; UPDATE t SET id = 5;
                 REPLACE INTO t (id, a, b) VALUES (5, NULL, 'y'); DELETE FROM t",
            )
            .await;
        let expected: [&str; 5] = match image {
            "FULL" => [
                "i t id=1 a=2 b=x",
                "u t (id=1 a=2 b=x) id=1 a=3 b=x",
                "u t (id=1 a=3 b=x) id=5 a=3 b=x",
                "u t (id=5 a=3 b=x) id=5 a=NULL b=y",
                "d t (id=5 a=NULL b=y)",
            ],
            "MINIMAL" => {
                ["i t id=1 a=2 b=x", "u t id=1 a=3", "u t (id=1) id=5", "u t id=5 a=NULL b=y", "d t (id=5)"]
            }
            _ => [
                "i t id=1 a=2 b=x",
                "u t (id=1 a=2) id=1 a=3",
                "u t (id=1 a=3) id=5 a=3",
                "u t (id=5 a=3) id=5 a=NULL b=y",
                "d t (id=5 a=NULL)",
            ],
        };
        let lines: Vec<String> = tap.lines().await.into_iter().filter(|line| line != ".").collect();
        assert_eq!(lines, expected, "{image}");
    }
}

#[tokio::test]
async fn prepared_transactions_wait_for_their_commit() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    for (id, value) in [("a", 1), ("b", 2), ("c", 3)] {
        let mut conn = server.connect("shop").await;
        for sql in [
            format!("XA START '{id}'"),
            format!("INSERT INTO t VALUES ({value})"),
            format!("XA END '{id}'"),
            if id == "c" { format!("XA COMMIT '{id}' ONE PHASE") } else { format!("XA PREPARE '{id}'") },
        ] {
            conn.query_drop(sql).await.unwrap();
        }
        conn.disconnect().await.unwrap();
    }
    server.execute("shop", "INSERT INTO t VALUES (4)").await;
    assert_eq!(tap.lines().await, ["i t id=3", ".", "i t id=4", "."]);
    // What was prepared outlives us, since we go on before it.
    let mut tap = tap.again(&server).await.unwrap();
    assert!(tap.lines().await.is_empty());
    server.execute("shop", "XA COMMIT 'b'").await;
    server.execute("shop", "XA ROLLBACK 'a'").await;
    assert_eq!(tap.lines().await, ["i t id=2", "."]);
    let mut tap = tap.again(&server).await.unwrap();
    server.execute("shop", "INSERT INTO t VALUES (5)").await;
    assert_eq!(tap.lines().await, ["i t id=5", "."]);
}

#[tokio::test]
async fn a_prepared_transaction_before_the_first_start_is_refused() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut conn = server.connect("shop").await;
    for sql in ["XA START 'a'", "INSERT INTO t VALUES (1)", "XA END 'a'", "XA PREPARE 'a'"] {
        conn.query_drop(sql).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let error = Tap::begin(&server, super::Folder::new(), None, None).await.err().unwrap();
    assert!(matches!(error, MysqlError::NotReady { .. }), "{error}");
    server.execute("shop", "XA ROLLBACK 'a'").await;
    assert!(Tap::begin(&server, super::Folder::new(), None, None).await.is_ok());
}

#[tokio::test]
async fn rows_that_stay_after_a_rollback_are_sent() {
    let server = server(&[]).await;
    server
        .execute(
            "shop",
            "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        )
        .await;
    let mut tap = Tap::open(&server).await;
    let mut conn = server.connect("shop").await;
    for sql in [
        "BEGIN",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO m VALUES (1)",
        "ROLLBACK",
        "INSERT INTO m VALUES (2)",
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    let lines = tap.lines().await;
    assert!(lines.contains(&"i m id=1".to_owned()) && lines.contains(&"i m id=2".to_owned()), "{lines:?}");
    // A row that was undone is either not sent, or its table is sent again.
    let undone = lines.contains(&"i t id=1".to_owned());
    assert!(!undone || lines.contains(&"again t".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn statements_in_place_of_rows_stop_the_stream() {
    let server = server(&[]).await;
    server
        .execute("shop", "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE other (id INT PRIMARY KEY)")
        .await;
    let mut tap = Tap::open(&server).await;
    let mut conn = server.connect("shop").await;
    conn.query_drop("SET binlog_format = 'STATEMENT'").await.unwrap();
    conn.query_drop("INSERT INTO other VALUES (1)").await.unwrap();
    assert!(tap.lines().await.is_empty());
    conn.query_drop("INSERT INTO t VALUES (1)").await.unwrap();
    let error = tap.drain().await.unwrap_err();
    assert!(matches!(&error, MysqlError::Statement { verb, .. } if verb == "INSERT"), "{error}");
    assert!(!error.class().is_retryable() && error.hint().is_some());
}

#[tokio::test]
async fn a_long_transaction_comes_in_parts() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(100))").await;
    let mut tap = Tap::open(&server).await;
    server.execute("shop", "INSERT INTO t SELECT seq, REPEAT('x', 90) FROM seq_1_to_50000").await;
    let lines = tap.lines().await;
    assert_eq!(lines.len(), 50_001);
    assert_eq!(lines[49_999], format!("i t id=50000 v={}", "x".repeat(90)));
    assert!(tap.blocks > 4 && tap.largest < 2 << 20, "{} blocks, largest {}", tap.blocks, tap.largest);
    assert_eq!(tap.last.unwrap().ordinal, 50_001);
}

#[tokio::test]
async fn compressed_events_are_read() {
    let server = server(&[("log_bin_compress", "1"), ("log_bin_compress_min_len", "10")]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(600))").await;
    let mut tap = Tap::open(&server).await;
    server
        .execute("shop", "INSERT INTO t VALUES (1, REPEAT('a', 500)); UPDATE t SET v = REPEAT('b', 500); DELETE FROM t;
                          CREATE TABLE later_than_the_first_look (id INT PRIMARY KEY, name VARCHAR(100), text TEXT)")
        .await;
    assert_eq!(
        tap.lines().await,
        [
            format!("i t id=1 v={}", "a".repeat(500)),
            ".".into(),
            format!("u t id=1 v={}", "b".repeat(500)),
            ".".into(),
            "d t (id=1)".into(),
            ".".into(),
            "added later_than_the_first_look".into(),
        ]
    );
}
