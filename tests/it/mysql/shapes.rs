//! Tables that change their shape while the stream lags behind.

use mysql_async::prelude::Queryable as _;
use rowbridge_publisher::capture::mysql::catalog::{Catalog, load, load_one};
use rowbridge_schema::TableName;
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};
use rowbridge_tests::wait::until;

use super::{DEADLINE, Folder, Tap, hold_commits, options, release_commits, server};

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

/// The key of rows is the one that the table had when they were logged, and not the one that it has now.
#[tokio::test]
async fn rows_have_the_key_of_their_time_while_the_stream_lags() {
    for version in [Version::Installed, Version::MariaDb11, Version::MySql9] {
        let Some(options) = ServerOptions::of(version) else { continue };
        let server = Server::start(options).await;
        server.create_database("shop").await;
        server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL)").await;
        let tap = Tap::open(&server).await;
        let folder = Folder::new();
        let resume = rowbridge_publisher::journal::Resume(tap.opened.from.to_string().into());
        drop(tap);
        for sql in [
            "INSERT INTO t VALUES (1, 10), (2, 20)",
            "UPDATE t SET a = 11 WHERE id = 1",
            "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (a, id)",
            "UPDATE t SET a = 21 WHERE id = 2",
            "ALTER TABLE t DROP PRIMARY KEY",
            "UPDATE t SET a = 12 WHERE id = 1",
        ] {
            server.execute("shop", sql).await;
        }
        // This capture has never seen the table with a key.
        let mut tap = Tap::begin(&server, folder, Some(resume), None).await.unwrap();
        let lines = tap.lines().await;
        let rows: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.contains(" t ")).collect();
        assert_eq!(
            rows,
            [
                "i t id=1 a=10",
                "i t id=2 a=20",
                "u t id=1 a=11",
                "u t (a=20 id=2) id=2 a=21",
                "u t (id=1 a=11) id=1 a=12",
            ],
            "{lines:?}"
        );
    }
}

/// A statement that is in the log, and that no other session sees yet: the rows behind it have the key that it leaves.
#[tokio::test]
async fn the_catalog_is_read_once_a_statement_has_taken_effect() {
    for version in [Version::Installed, Version::MySql9] {
        let Some(options) = ServerOptions::of(version) else { continue };
        let server = Server::start(options).await;
        server.create_database("shop").await;
        server
            .execute(
                "shop",
                "CREATE TABLE t (id INT NOT NULL, v INT, UNIQUE by_id (id)); INSERT INTO t VALUES (1, 1)",
            )
            .await;
        let mut tap = Tap::open(&server).await;
        tap.lines().await;
        hold_commits(&server).await;
        let mut writer = server.connect("shop").await;
        let writing = tokio::spawn(async move { writer.query_drop("ALTER TABLE t DROP INDEX by_id").await });
        let reading = tokio::spawn(async move {
            tap.lines().await;
            tap
        });
        let waits = "SELECT COUNT(*) FROM information_schema.processlist WHERE INFO LIKE 'SHOW CREATE TABLE%'
            AND STATE = 'Waiting for table metadata lock'";
        until("the capture's wait", DEADLINE, || async {
            match server.query_text("", waits).await.as_deref() {
                Some("0") => Err(format!("nobody waits; is the capture done? {}", reading.is_finished())),
                _ => Ok(()),
            }
        })
        .await;
        release_commits(&server).await;
        writing.await.unwrap().unwrap();
        let mut tap = reading.await.unwrap();
        server.execute("shop", "INSERT INTO t VALUES (1, 2); DELETE FROM t WHERE v = 2").await;
        assert_eq!(tap.lines().await, ["i t id=1 v=2", ".", "d t (id=1 v=2)", "."]);
    }
}

/// Statements that move a table's files about, between and during the questions to the catalog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_whole_while_they_are_altered() {
    for version in [Version::Installed, Version::MariaDb11, Version::MySql9] {
        let Some(server_options) = ServerOptions::of(version) else { continue };
        let server = Server::start(server_options).await;
        server.create_database("shop").await;
        let partitions =
            "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20),
            PARTITION p2 VALUES LESS THAN MAXVALUE)";
        server
            .execute(
                "shop",
                &format!(
                    "CREATE TABLE t (id INT PRIMARY KEY, v INT) {partitions};
                     CREATE TABLE u (id INT NOT NULL, v INT, UNIQUE KEY (id)) {partitions};
                     CREATE TABLE aside (id INT PRIMARY KEY, v INT)"
                ),
            )
            .await;
        let options = options(&server.url("shop"), &Folder::new());
        let mut session = options.connector.connect().await.unwrap();
        let (patterns, conn) = (&options.tables, &mut session.conn);
        let mut application = server.connect("shop").await;
        let altering = tokio::spawn(async move {
            for _ in 0..40 {
                for sql in [
                    "ALTER TABLE t TRUNCATE PARTITION p0",
                    "ALTER TABLE t EXCHANGE PARTITION p1 WITH TABLE aside",
                    "ALTER TABLE t REORGANIZE PARTITION p0 INTO (PARTITION p0 VALUES LESS THAN (10))",
                    "ALTER TABLE u TRUNCATE PARTITION p0",
                    "ALTER TABLE u REORGANIZE PARTITION p1 INTO (PARTITION p1 VALUES LESS THAN (20))",
                    "ALTER TABLE aside FORCE",
                ] {
                    application.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                }
            }
            application.disconnect().await.unwrap();
        });
        let mut known = Catalog::default();
        let mut looks = 0;
        while !altering.is_finished() {
            let catalog = load(conn, &session.server, patterns, &known).await.unwrap();
            for name in ["t", "u", "aside"] {
                let table = catalog.tables.get(&TableName::new("shop", name));
                let found = table.map(|table| (table.def.columns.len(), table.def.key.as_slice()));
                // What was never seen yet may be missed in a list of files; the log tells of it.
                if found.is_some() || known.tables.contains_key(&TableName::new("shop", name)) {
                    assert_eq!(found, Some((2, &[0][..])), "{version:?}: {name} after {looks} looks");
                }
            }
            let one = load_one(conn, &session.server, patterns, &TableName::new("shop", "t")).await.unwrap();
            assert_eq!(one.map(|table| table.def.key), Some(vec![0]), "{version:?}");
            known.tables.extend(catalog.tables);
            looks += 1;
        }
        altering.await.unwrap();
        println!("{version:?}: {looks} looks");
    }
}
