//! Tables whose rows in the log are not what a query shows, or cannot be read for certain: refused by name, or passed.

use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_schema::Classified as _;

use super::{Folder, Tap, server};

#[tokio::test]
async fn system_versioned_tables_are_refused() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    let mut tap = Tap::open(&server).await;
    let refused = |error: MysqlError| {
        assert!(
            matches!(&error, MysqlError::NotReady { problem, .. } if problem.contains("shop.sv")),
            "{error}"
        );
        let hint = error.hint().unwrap();
        assert!(hint.contains("\"!shop.sv\"") && hint.contains("DROP SYSTEM VERSIONING"), "{hint}");
    };
    server
        .execute(
            "shop",
            "INSERT INTO t VALUES (1, 1); CREATE TABLE sv (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING;
             INSERT INTO sv VALUES (1, 1); UPDATE sv SET v = 2; INSERT INTO t VALUES (2, 2)",
        )
        .await;
    refused(tap.drain().await.unwrap_err());
    let resume = tap.resume.clone();
    refused(Tap::begin(&server, tap.folder.clone(), resume, tap.last).await.err().unwrap());
    server.execute("shop", "ALTER TABLE sv DROP SYSTEM VERSIONING; INSERT INTO sv VALUES (3, 3)").await;
    // Left out, it disturbs nobody: `shop.other` is.
    let mut tap = Tap::begin(&server, Folder::new(), None, None).await.unwrap();
    server
        .execute(
            "shop",
            "CREATE TABLE other (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING;
             INSERT INTO other VALUES (1, 1); UPDATE other SET v = 2; INSERT INTO t VALUES (4, 4)",
        )
        .await;
    assert_eq!(tap.lines().await, ["i t id=4 v=4", "."]);
}

#[tokio::test]
async fn sequences_are_passed() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    server
        .execute(
            "shop",
            "CREATE SEQUENCE s; INSERT INTO t VALUES (NEXTVAL(s)); DROP SEQUENCE s; INSERT INTO t VALUES (9)",
        )
        .await;
    assert_eq!(tap.lines().await, ["i t id=1", ".", "i t id=9", "."]);
}

/// `mysql56_temporal_format = OFF`, as tables from before MariaDB 10.1 are.
#[tokio::test]
async fn old_times_are_read_or_refused() {
    let server = server(&[("mysql56_temporal_format", "OFF")]).await;
    let columns = "id INT PRIMARY KEY, a TIME, b DATETIME, c TIMESTAMP NULL, z INT";
    server.execute("shop", &format!("CREATE TABLE whole ({columns})")).await;
    for kind in ["TIME(3)", "DATETIME(6)", "TIMESTAMP(1) NULL"] {
        let name = kind.split('(').next().unwrap();
        server.execute("shop", &format!("CREATE TABLE {name}_ (id INT PRIMARY KEY, f {kind}, z INT)")).await;
    }
    let mut tap = Tap::open(&server).await;
    server
        .execute(
            "shop",
            "SET time_zone = '+00:00';
             INSERT INTO whole VALUES (1, '-838:59:59', '9999-12-31 23:59:59', '2038-01-19 03:14:07', 7)",
        )
        .await;
    assert_eq!(
        tap.lines().await,
        ["i whole id=1 a=-838:59:59 b=9999-12-31 23:59:59 c=2038-01-19 03:14:07+00 z=7", "."]
    );
    for (name, value) in [
        ("TIME", "12:34:56.789"),
        ("DATETIME", "2024-02-29 12:34:56.789012"),
        ("TIMESTAMP", "2024-02-29 12:34:56.7"),
    ] {
        let mut tap = Tap::open(&server).await;
        server.execute("shop", &format!("INSERT INTO {name}_ VALUES (1, '{value}', 7)")).await;
        let error = tap.drain().await.unwrap_err();
        assert!(
            matches!(&error, MysqlError::Shape { what, .. } if what.contains("mysql56_temporal_format")),
            "{name}: {error}"
        );
        server
            .execute("shop", &format!("SET GLOBAL mysql56_temporal_format = ON; ALTER TABLE {name}_ FORCE"))
            .await;
        let mut tap = Tap::open(&server).await;
        server.execute("shop", &format!("INSERT INTO {name}_ (id, z) VALUES (2, 7)")).await;
        assert_eq!(tap.lines().await, [format!("i {name}_ id=2 f=NULL z=7"), ".".into()]);
        server.execute("shop", "SET GLOBAL mysql56_temporal_format = OFF").await;
    }
}
