//! Where a stream goes on, and where it cannot.

use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_publisher::journal::Resume;
use rowbridge_schema::Classified as _;

use super::{Folder, Tap, server};

#[tokio::test]
async fn it_goes_on_after_restarts_and_in_the_next_file() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    server
        .execute("shop", "INSERT INTO t VALUES (1); FLUSH LOGS; INSERT INTO t VALUES (2); FLUSH LOGS")
        .await;
    assert_eq!(tap.lines().await, ["i t id=1", ".", "i t id=2", "."]);
    server.execute("shop", "INSERT INTO t VALUES (3)").await;
    server.restart().await;
    let error = loop {
        match tap.drain().await {
            Ok(lines) => assert!(lines.is_empty() || lines == ["i t id=3", "."], "{lines:?}"),
            Err(error) => break error,
        }
    };
    assert!(error.class().is_retryable(), "{error}");
    server.execute("shop", "INSERT INTO t VALUES (4)").await;
    let mut tap = tap.again(&server).await.unwrap();
    let lines = tap.lines().await;
    assert!(lines.ends_with(&["i t id=4".into(), ".".into()]), "{lines:?}");
    let mut tap = tap.again(&server).await.unwrap();
    assert!(tap.lines().await.is_empty());
}

#[tokio::test]
async fn several_domains_have_several_positions() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let tap = Tap::open(&server).await;
    server
        .execute(
            "shop",
            "INSERT INTO t VALUES (1); SET gtid_domain_id = 3; INSERT INTO t VALUES (2); FLUSH LOGS;
                          SET gtid_domain_id = 0; INSERT INTO t VALUES (3)",
        )
        .await;
    let mut tap = tap.again(&server).await.unwrap();
    assert_eq!(tap.lines().await, ["i t id=1", ".", "i t id=2", ".", "i t id=3", "."]);
    let resume = tap.resume.clone().unwrap();
    let domains = resume.0.split_once(';').unwrap().1.split(',').count();
    assert_eq!(domains, 3, "{}", resume.0);
    let mut tap = tap.again(&server).await.unwrap();
    server.execute("shop", "SET gtid_domain_id = 3; INSERT INTO t VALUES (4)").await;
    assert_eq!(tap.lines().await, ["i t id=4", "."]);
}

#[tokio::test]
async fn a_log_that_is_gone_or_another_one_is_said() {
    let first = server(&[]).await;
    first.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&first).await;
    first.execute("shop", "INSERT INTO t VALUES (1)").await;
    tap.lines().await;
    let resume = tap.resume.clone().unwrap();
    tap.capture_closed().await;
    let gone = |error: MysqlError| {
        assert!(matches!(error, MysqlError::LogGone { .. }), "{error}");
        assert!(error.hint().unwrap().contains("rowbridge snapshot --all"));
    };
    // Another server with a log of the same name.
    let second = server(&[]).await;
    second
        .execute(
            "shop",
            "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)",
        )
        .await;
    gone(Tap::begin(&second, Folder::new(), Some(resume.clone()), None).await.err().unwrap());
    // A log that was begun anew.
    second.execute("shop", "RESET MASTER").await;
    let beyond = Resume("bin.000009:4;7-1-1".into());
    gone(Tap::begin(&second, Folder::new(), Some(beyond), None).await.err().unwrap());
    // A log that was removed.
    first.execute("shop", "FLUSH LOGS; INSERT INTO t VALUES (2); FLUSH LOGS").await;
    let last = first.binlog_position().await.file;
    // The server keeps what it still sends to a connection that it has not missed yet.
    rowbridge_tests::wait::until("the log to be removed", super::DEADLINE, || async {
        first.execute("shop", &format!("PURGE BINARY LOGS TO '{last}'")).await;
        match first.query_text("shop", "SHOW BINARY LOGS").await {
            Some(oldest) if oldest == last => Ok(()),
            oldest => Err(format!("the oldest is {oldest:?}")),
        }
    })
    .await;
    gone(Tap::begin(&first, Folder::new(), Some(resume), None).await.err().unwrap());
}

#[tokio::test]
async fn two_with_one_number_are_told() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut first = Tap::open(&server).await;
    first.lines().await;
    let mut second = Tap::begin(&server, first.folder.clone(), None, None).await.unwrap();
    second.lines().await;
    server.execute("shop", "INSERT INTO t VALUES (1)").await;
    let error = loop {
        if let Err(error) = first.drain().await {
            break error;
        }
        server.execute("shop", "REPLACE INTO t VALUES (1)").await;
    };
    assert!(matches!(error, MysqlError::SameServerId { .. }), "{error:?}");
}

#[tokio::test]
async fn metadata_is_required() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    server.execute("shop", "SET GLOBAL binlog_row_metadata = MINIMAL").await;
    let error = Tap::begin(&server, Folder::new(), None, None).await.err().unwrap();
    assert!(error.hint().unwrap().contains("SET GLOBAL binlog_row_metadata = FULL"), "{error}");
    server.execute("shop", "INSERT INTO t VALUES (1)").await;
    let error = tap.drain().await.unwrap_err();
    assert!(matches!(error, MysqlError::NoMetadata { .. }), "{error}");
}

impl Tap {
    async fn capture_closed(self) {
        use rowbridge_publisher::capture::Capture as _;
        self.capture.close().await;
    }
}
