//! What MySQL has and MariaDB has not, against the MySQL 9 of `tests/servers`.

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_publisher::journal::Resume;
use rowbridge_tests::mariadb::{Server, ServerOptions, Version, connect};

use super::{Folder, Tap};

async fn given() -> Option<(Server, String, Conn)> {
    let server = Server::start(ServerOptions::of(Version::MySql9)?).await;
    server.create_database("shop").await;
    let (url, conn) = (server.url("shop"), server.connect("shop").await);
    Some((server, url, conn))
}

async fn all(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// The lines about one table.
async fn about(tap: &mut Tap, table: &str) -> Vec<String> {
    let lines = tap.lines().await;
    let words = |line: &String| line.split(' ').nth(1).is_some_and(|name| name == table);
    lines.into_iter().filter(words).collect()
}

#[tokio::test]
async fn transactions_of_mysql() {
    let Some((server, url, mut conn)) = given().await else { return };
    all(&mut conn, &["CREATE TABLE tx (id INT PRIMARY KEY, v VARCHAR(300), d JSON)"]).await;
    let mut tap = Tap::begin_at(&url, Folder::new(), None, None).await.unwrap();
    all(
        &mut conn,
        &[
            "INSERT INTO tx (id, v) VALUES (1, 'a')",
            "SET binlog_transaction_compression = ON",
            "INSERT INTO tx (id, v) VALUES (2, REPEAT('b', 300))",
            "UPDATE tx SET v = 'c' WHERE id = 2",
            "SET binlog_transaction_compression = OFF, binlog_row_image = MINIMAL",
            "UPDATE tx SET v = 'd' WHERE id = 1",
            "SET binlog_row_image = FULL, gtid_next = 'AUTOMATIC:tagged'",
            "DELETE FROM tx WHERE id = 2",
            "SET gtid_next = 'AUTOMATIC'",
        ],
    )
    .await;
    let long = format!("i tx id=2 v={} d=NULL", "b".repeat(300));
    assert_eq!(
        about(&mut tap, "tx").await,
        ["i tx id=1 v=a d=NULL", &long, "u tx id=2 v=c d=NULL", "u tx id=1 v=d", "d tx (id=2)"]
    );
    let mut tap = tap.again_at(&url).await.unwrap();
    assert!(about(&mut tap, "tx").await.is_empty());
    let mut other = connect(&url).await.unwrap();
    all(&mut other, &["XA START 'q'", "INSERT INTO tx (id) VALUES (7)", "XA END 'q'", "XA PREPARE 'q'"])
        .await;
    other.disconnect().await.unwrap();
    all(&mut conn, &["INSERT INTO tx (id) VALUES (8)"]).await;
    assert_eq!(about(&mut tap, "tx").await, ["i tx id=8 v=NULL d=NULL"]);
    let mut tap = tap.again_at(&url).await.unwrap();
    all(&mut conn, &["XA COMMIT 'q'", "TRUNCATE tx", "FLUSH LOGS", "INSERT INTO tx (id) VALUES (9)"]).await;
    assert_eq!(about(&mut tap, "tx").await, ["i tx id=7 v=NULL d=NULL", "t tx", "i tx id=9 v=NULL d=NULL"]);
    let parts = &[
        "INSERT INTO tx (id, d) VALUES (10, JSON_OBJECT('a', REPEAT('x', 200), 'b', 1))",
        "SET binlog_row_value_options = 'PARTIAL_JSON'",
        "UPDATE tx SET d = JSON_SET(d, '$.b', 2) WHERE id = 10",
    ];
    all(&mut conn, parts).await;
    let error = tap.drain().await.unwrap_err();
    assert!(
        matches!(&error, MysqlError::NotReady { fix, .. } if fix.contains("binlog_row_value_options")),
        "{error}"
    );
    // Transactions of the server's own that it has not made yet: its log was begun anew.
    let file = server.binlog_position().await.file;
    let uuid = server.query_text("", "SELECT @@server_uuid").await.unwrap();
    let ahead = format!("{file}:4;{uuid}:1-1000000");
    let gone = match Tap::begin_at(&url, Folder::new(), Some(Resume(ahead.into())), None).await {
        Ok(mut tap) => tap.drain().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(gone, MysqlError::LogGone { .. }), "{gone:?}");
}

/// Without GTIDs a resume point is a place in a file.
#[tokio::test]
async fn places_of_a_log_without_gtids() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let server = Server::start(options.without_gtids()).await;
    server.create_database("shop").await;
    let (url, mut conn) = (server.url("shop"), server.connect("shop").await);
    all(&mut conn, &["CREATE TABLE t (id INT PRIMARY KEY)"]).await;
    let mut tap = Tap::begin_at(&url, Folder::new(), None, None).await.unwrap();
    all(
        &mut conn,
        &[
            "INSERT INTO t VALUES (1)",
            "SET binlog_transaction_compression = ON",
            "INSERT INTO t VALUES (2), (3)",
            "FLUSH LOGS",
            "INSERT INTO t VALUES (4)",
        ],
    )
    .await;
    assert_eq!(tap.lines().await, ["i t id=1", ".", "i t id=2", "i t id=3", ".", "i t id=4", "."]);
    let resume = tap.resume.clone().unwrap();
    assert!(resume.0.ends_with(';'), "{}", resume.0);
    all(&mut conn, &["INSERT INTO t VALUES (5)"]).await;
    let mut tap = tap.again_at(&url).await.unwrap();
    assert_eq!(tap.lines().await, ["i t id=5", "."]);
    server.restart().await;
    server.execute("shop", "INSERT INTO t VALUES (6)").await;
    let mut tap = tap.again_at(&url).await.unwrap();
    assert_eq!(tap.lines().await, ["i t id=6", "."]);
}

#[tokio::test]
async fn values_of_mysql() {
    let Some((_server, url, mut conn)) = given().await else { return };
    all(&mut conn, &["CREATE TABLE js (id INT PRIMARY KEY, v JSON)"]).await;
    let mut tap = Tap::begin_at(&url, Folder::new(), None, None).await.unwrap();
    let literals = [
        r#"'{"b": 1, "aa": [1, -2, 3.5, 1e20, true, null, "x\\"\\\\\\n\\u0001é𝄞"], "": {}}'"#,
        "'[]'",
        "'\"text\"'",
        "'18446744073709551615'",
        "'-9223372036854775808'",
        "'[65535, 65536, 2147483648, 4294967296, 0.1, 1e15, 1e14, 1e-7, 123456789.123]'",
        "CAST(1.50 AS JSON)",
        "CAST(-123456789012345678901234567890.123456789 AS JSON)",
        "CAST(TIMESTAMP'2015-01-15 23:24:25.12' AS JSON)",
        "CAST(DATE'2015-01-15' AS JSON)",
        "CAST(TIME'-23:24:25.5' AS JSON)",
        "JSON_ARRAY(CAST(x'deadbeef' AS BINARY))",
        "JSON_ARRAY(CAST(REPEAT('a', 200) AS BINARY))",
        "JSON_OBJECT('k', REPEAT('long', 30000), 'l', JSON_ARRAY(1, 100000))",
        "JSON_ARRAY(b'101', 1e0, 0e0, -0e0)",
        "NULL",
    ];
    for (at, literal) in literals.iter().enumerate() {
        all(&mut conn, &[&format!("INSERT INTO js VALUES ({at}, {literal})")]).await;
    }
    let streamed = about(&mut tap, "js").await;
    let printed: Vec<(i32, Option<String>)> =
        conn.query("SELECT id, CAST(v AS CHAR) FROM js ORDER BY id").await.unwrap();
    for (line, (id, text)) in streamed.iter().zip(&printed) {
        assert_eq!(*line, format!("i js id={id} v={}", text.as_deref().unwrap_or("NULL")));
    }
    assert_eq!(streamed.len(), printed.len());
    all(&mut conn, &["DROP TABLE IF EXISTS ve", "CREATE TABLE ve (id INT PRIMARY KEY, v VECTOR(3), y YEAR, g GEOMETRY SRID 4326, u BIGINT UNSIGNED, b BIT(9), t TIME(2), c CHAR(3) CHARACTER SET gbk, e ENUM('x','y'))"]).await;
    tap.lines().await;
    all(&mut conn, &["INSERT INTO ve VALUES (1, STRING_TO_VECTOR('[1,0.5,-3e-9]'), 0, ST_GeomFromText('POINT(1 2)', 4326), 18446744073709551615, 257, '-00:00:00.01', '你', 'y')"]).await;
    assert_eq!(
        about(&mut tap, "ve").await,
        [
            "i ve id=1 v=[1,0.5,-3e-09] y=0000 g=0101000020E61000000000000000000040000000000000F03F u=18446744073709551615 \
          b=100000001 t=-00:00:00.01 c=你 e=y"
        ]
    );
}
