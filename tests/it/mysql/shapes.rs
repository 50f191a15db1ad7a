//! Tables that change their shape while the stream lags behind.

use super::{Tap, server};

#[tokio::test]
async fn values_stay_in_their_columns_while_the_stream_lags() {
    let server = server(&[]).await;
    server
        .execute(
            "shop",
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(5), u UUID, g INT AS (a + 1) STORED)",
        )
        .await;
    let tap = Tap::open(&server).await;
    let folder = tap.folder.clone();
    let resume = rowbridge_publisher::journal::Resume(tap.opened.from.to_string().into());
    drop(tap);
    // Nobody looks at the catalog between these.
    for sql in [
        "INSERT INTO t (id, a, b, u) VALUES (1, 10, 'x', '018f0000-0000-7000-8000-0123456789ab')",
        "ALTER TABLE t ADD COLUMN c BIGINT FIRST",
        "INSERT INTO t (id, a, b, c) VALUES (2, 20, 'y', 200)",
        "ALTER TABLE t MODIFY b VARCHAR(5) AFTER id, DROP COLUMN c",
        "INSERT INTO t (id, a, b) VALUES (3, 30, 'z')",
        "ALTER TABLE t CHANGE a d BIGINT UNSIGNED, DROP COLUMN g",
        "INSERT INTO t (id, d, b) VALUES (4, 18446744073709551615, 'w')",
    ] {
        server.execute("shop", sql).await;
    }
    let mut tap = Tap::begin(&server, folder, Some(resume), None).await.unwrap();
    let lines = tap.lines().await;
    let rows: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.starts_with("i ")).collect();
    assert_eq!(
        rows,
        [
            "i t id=1 a=10 b=x u=018f0000-0000-7000-8000-0123456789ab",
            "i t c=200 id=2 a=20 b=y u=NULL",
            "i t id=3 b=z a=30 u=NULL",
            "i t id=4 b=w d=18446744073709551615 u=NULL",
        ],
        "{lines:?}"
    );
    assert!(lines.contains(&"again t".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn tables_that_come_go_and_change_places_are_sent() {
    let server = server(&[]).await;
    server
        .execute("shop", "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE old (id INT PRIMARY KEY)")
        .await;
    let mut tap = Tap::open(&server).await;
    server.execute("shop", "CREATE TABLE n (id INT PRIMARY KEY)").await;
    assert_eq!(tap.lines().await, ["added n"]);
    server.execute("shop", "INSERT INTO n VALUES (1); ALTER TABLE n ADD COLUMN v INT DEFAULT 7").await;
    assert_eq!(tap.lines().await, ["i n id=1", ".", "again n"]);
    server.execute("shop", "ALTER TABLE n DROP COLUMN v; CREATE INDEX i ON t (id); ANALYZE TABLE t").await;
    assert!(tap.lines().await.is_empty());
    // As pt-online-schema-change and gh-ost end.
    server.execute("shop", "CREATE TABLE _t_new LIKE t; ALTER TABLE _t_new ADD v INT").await;
    tap.lines().await;
    server.execute("shop", "RENAME TABLE t TO _t_old, _t_new TO t").await;
    let lines = tap.lines().await;
    assert!(lines.contains(&"again t".to_owned()), "{lines:?}");
    server.execute("shop", "INSERT INTO t VALUES (1, 2)").await;
    assert_eq!(tap.lines().await, ["i t id=1 v=2", "."]);
    server.execute("shop", "DROP TABLE old").await;
    assert!(tap.lines().await.is_empty());
    server.execute("shop", "CREATE TABLE old (id INT PRIMARY KEY)").await;
    assert_eq!(tap.lines().await, ["again old"]);
}
