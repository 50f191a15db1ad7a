//! Private MariaDB and MySQL servers and their oracle.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStreamRequest, Conn};
use rowbridge_tests::compare::{
    Difference, Side, mariadb_tables_equal, wait_for_mariadb_count, wait_until_mariadb_equal,
};
use rowbridge_tests::mariadb::{GTID_DOMAIN, Product, Server, ServerOptions, Version, connect};
use rowbridge_tests::proxy::Proxy;
use rowbridge_tests::wait::DEADLINE;

use super::MOMENT;

#[tokio::test]
async fn server_starts_restarts_and_keeps_its_port() {
    let server = Server::start(ServerOptions::default().set("binlog-row-image", "MINIMAL")).await;
    let settings =
        "SELECT CONCAT_WS(' ', @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@sync_binlog,
        @@gtid_domain_id, @@server_id, @@character_set_server)";
    let port = server.port();
    assert_eq!(
        server.query_text("", settings).await,
        Some(format!("ROW MINIMAL FULL 0 {GTID_DOMAIN} {port} utf8mb4"))
    );
    server.create_database("shop").await;
    let empty = server.binlog_position().await;
    assert_eq!(empty.gtid, format!("{GTID_DOMAIN}-{port}-1"));
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let filled = server.binlog_position().await;
    assert_eq!(filled.gtid, format!("{GTID_DOMAIN}-{port}-3"));
    assert!(filled.file == empty.file && filled.offset > empty.offset, "{empty:?} {filled:?}");
    server.restart().await;
    assert_eq!(server.port(), port);
    let after = server.binlog_position().await;
    assert!(after.gtid == filled.gtid && after.file > filled.file, "{filled:?} {after:?}");
    server.stop().await;
    assert!(!server.is_running());
    server.start_again().await;
    assert!(server.is_running());

    server
        .script(
            "shop",
            "DELIMITER //
             CREATE PROCEDURE fill(n INT) BEGIN WHILE n > 2 DO INSERT INTO t VALUES (n); SET n = n - 1; END WHILE; END//
             DELIMITER ;
             CALL fill(9);",
        )
        .await;
    assert_eq!(server.script("shop", "SELECT COUNT(*), NULL FROM t").await, "9\tNULL\n");
    server.create_database("copy").await;
    let schema = server.dump_schema("shop").await;
    server.script("copy", &schema).await;
    server.script("copy", "CALL fill(4)").await;
    assert_eq!(
        server.query_text("copy", "SELECT GROUP_CONCAT(id ORDER BY id) FROM t").await.as_deref(),
        Some("3,4")
    );
    assert_eq!(server.query_text("copy", "SELECT NULL").await, None);
}

#[tokio::test]
async fn users_have_the_privileges_they_are_given() {
    let server = Server::start(ServerOptions::default()).await;
    server.create_database("shop").await;
    server.execute("shop", "CREATE TABLE t (id INT)").await;
    server.create_user("reader", "s3cret", &["SELECT ON shop.*", "BINLOG MONITOR ON *.*"]).await;
    connect(&server.url_of("reader", "wrong", "shop")).await.unwrap_err();
    let mut session = connect(&server.url_of("reader", "s3cret", "shop")).await.unwrap();
    session.query_drop("SELECT * FROM t; SHOW MASTER STATUS").await.unwrap();
    session.query_drop("INSERT INTO t VALUES (1)").await.unwrap_err();
}

#[tokio::test]
async fn killed_server_recovers_what_was_committed() {
    for options in [ServerOptions::durable(), ServerOptions::default()] {
        let sync = if options.fsync { "1 1" } else { "0 2" };
        let server = Server::start(options).await;
        let settings = "SELECT CONCAT(@@sync_binlog, ' ', @@innodb_flush_log_at_trx_commit)";
        assert_eq!(server.query_text("", settings).await.as_deref(), Some(sync));
        server.create_database("shop").await;
        server.execute("shop", "CREATE TABLE t (id INT) ENGINE = InnoDB").await;
        for round in 1..=2 {
            let mut open = server.connect("shop").await;
            open.query_drop("BEGIN; INSERT INTO t VALUES (0)").await.unwrap();
            server.execute("shop", "INSERT INTO t VALUES (1)").await;
            let before = server.binlog_position().await.gtid;
            server.kill9();
            assert!(open.query_drop("SELECT 1").await.is_err());
            server.start_again().await;
            assert_eq!(server.binlog_position().await.gtid, before);
            assert_eq!(
                server.script("shop", "SELECT id, COUNT(*) FROM t GROUP BY id").await,
                format!("1\t{round}\n")
            );
        }
        assert!(server.log_tail(500).contains("crash recovery"), "{}", server.log_tail(50));
    }
}

#[tokio::test]
async fn restored_server_has_forgotten_what_came_later() {
    let server = Server::start(ServerOptions::default()).await;
    server.create_database("shop").await;
    server.execute("shop", "CREATE TABLE t (id INT); INSERT INTO t VALUES (1)").await;
    let gtid = server.binlog_position().await.gtid;
    let backup = server.backup().await;
    server.execute("shop", "INSERT INTO t VALUES (2)").await;
    for _ in 0..2 {
        server.restore(&backup).await;
        assert_eq!(server.script("shop", "SELECT id FROM t").await, "1\n");
        assert_eq!(server.binlog_position().await.gtid, gtid);
        server.execute("shop", "INSERT INTO t VALUES (3)").await;
    }
}

/// The driver can read what these servers log, through a proxy too.
#[tokio::test]
async fn binlog_can_be_streamed() {
    let server = Server::start(ServerOptions::default()).await;
    server.create_database("shop").await;
    let proxy = Proxy::to_port(server.port());
    stream_one_insert(&server, proxy.port()).await;
    proxy.cut();
}

async fn stream_one_insert(server: &Server, port: u16) {
    use futures_util::StreamExt as _;

    server.execute("shop", "CREATE TABLE streamed (id INT)").await;
    let from = server.binlog_position().await;
    let session: Conn = connect(&server.url_via(port, "shop")).await.unwrap();
    let request = BinlogStreamRequest::new(99).with_filename(from.file.as_bytes()).with_pos(from.offset);
    let mut stream = session.get_binlog_stream(request).await.unwrap();
    server.execute("shop", "INSERT INTO streamed VALUES (5)").await;
    let seen = tokio::time::timeout(DEADLINE, async {
        while let Some(event) = stream.next().await {
            use mysql_async::binlog::events::EventData;
            if let Ok(Some(EventData::TableMapEvent(map))) = event.unwrap().read_data() {
                return map.table_name().into_owned();
            }
        }
        "nothing".into()
    });
    assert_eq!(seen.await.unwrap(), "streamed");
}

/// The same things as above, shorter, with a server of another version.
async fn other_version(options: ServerOptions) -> Server {
    let server = Server::start(options).await;
    server.create_database("shop").await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    server.create_user("reader", "s3cret", &["SELECT ON shop.*"]).await;
    let wrong = connect(&server.url_of("reader", "wrong", "shop")).await.unwrap_err();
    assert!(matches!(&wrong, mysql_async::Error::Server(error) if error.code == 1045), "{wrong}");
    // Twice: the server checks the first one in full, the second by what it has cached.
    for _ in 0..2 {
        let mut reader = connect(&server.url_of("reader", "s3cret", "shop")).await.unwrap();
        reader.query_drop("INSERT INTO t VALUES (3)").await.unwrap_err();
    }
    stream_one_insert(&server, server.port()).await;
    server.create_database("copy").await;
    let schema = server.dump_schema("shop").await;
    server.script("copy", &schema).await;
    let before = server.binlog_position().await;
    server.kill9();
    server.start_again().await;
    assert_eq!(server.binlog_position().await.gtid, before.gtid);
    let backup = server.backup().await;
    server.execute("copy", "INSERT INTO t VALUES (1)").await;
    server.restore(&backup).await;
    server.execute("copy", "INSERT INTO t VALUES (2)").await;
    let (mut source, mut target) = (server.connect("shop").await, server.connect("copy").await);
    let difference = mariadb_tables_equal(&mut source, &mut target, &[("t", "t")]).await.unwrap_err();
    let Difference::Rows(found) = &difference else { panic!("{difference}") };
    assert_eq!((found.missing, found.surplus), (1, 0), "{difference}");
    server.execute("copy", "INSERT INTO t VALUES (1)").await;
    mariadb_tables_equal(&mut source, &mut target, &[("t", "t")]).await.unwrap();
    server
}

#[tokio::test]
async fn mariadb_11_is_a_server_too() {
    let Some(options) = ServerOptions::of(Version::MariaDb11) else { return };
    let server = other_version(options).await;
    assert_eq!(server.product(), Product::MariaDb);
    let version = server.query_text("", "SELECT VERSION()").await.unwrap();
    assert!(version.starts_with("11.") && version.contains("MariaDB"), "{version}");
}

#[tokio::test]
async fn mysql_9_is_a_server_too() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let (first, second) = tokio::join!(other_version(options.clone()), Server::start(options));
    assert_eq!(first.product(), Product::MySql);
    let settings = "SELECT CONCAT_WS(' ', LEFT(VERSION(), 2), @@binlog_format, @@binlog_row_image, @@binlog_row_metadata,
        @@gtid_mode, (SELECT plugin FROM mysql.user WHERE user = 'root'))";
    assert_eq!(
        first.query_text("", settings).await.as_deref(),
        Some("9. ROW FULL FULL ON caching_sha2_password")
    );
    let uuid = "SELECT @@server_uuid";
    let identity = first.query_text("", uuid).await.unwrap();
    assert_ne!(second.query_text("", uuid).await.as_ref(), Some(&identity));
    let gtids = first.binlog_position().await.gtid;
    assert!(gtids.starts_with(&format!("{identity}:1-")), "{gtids}");
}

#[tokio::test]
async fn mysql_9_can_be_without_gtids() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let server = Server::start(options.without_gtids()).await;
    server.create_database("shop").await;
    assert_eq!(server.query_text("", "SELECT @@gtid_mode").await.as_deref(), Some("OFF"));
    let position = server.binlog_position().await;
    assert!(position.gtid.is_empty() && position.offset > 4, "{position:?}");
    stream_one_insert(&server, server.port()).await;
}

#[tokio::test]
async fn oracle_accepts_equality_and_shows_differences() {
    let server = Server::start(ServerOptions::default()).await;
    for name in ["a", "b"] {
        server.create_database(name).await;
    }
    let columns = [
        "id INT, n DECIMAL(10,3), s LONGTEXT, b VARBINARY(9), t TIMESTAMP(6) NULL, f FLOAT, d DOUBLE,
         e ENUM('', 'x', 'y'), c VARCHAR(9) CHARACTER SET latin1, bits BIT(10), g INT AS (id * 2) STORED",
        "s LONGTEXT, c VARCHAR(9) CHARACTER SET latin1, f FLOAT, d DOUBLE, t TIMESTAMP(6) NULL, bits BIT(10),
         b VARBINARY(9), n DECIMAL(10,3), e ENUM('', 'x', 'y'), id INT, g INT AS (id * 2) STORED",
    ];
    // Rows that begin with the same 2,000 bytes would lie in any order if the server sorted them.
    let rows = "SET time_zone = '+00:00', sql_mode = '', NAMES utf8mb4;
        INSERT INTO t (id, n, s, b, t, f, d, e, c, bits) VALUES
        (1, 1.5, 'x', x'00ff', '2024-02-29 12:00:00.000001', 0.1, 0.1, 'x', 'ä', b'1010101010'),
        (2, NULL, '', '', NULL, 0, 0, '', NULL, NULL),
        (3, 7, NULL, NULL, NULL, 16777216, 1e300, NULL, '', 0),
        (4, 1, CONCAT(REPEAT('z', 2000), 'a'), 'x', NULL, 1, 1, 'y', 'b', 1),
        (4, 1, CONCAT(REPEAT('z', 2000), 'b'), 'x', NULL, 1, 1, 'y', 'b', 1),
        (5, 1, 'twice', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (5, 1, 'twice', NULL, NULL, NULL, NULL, NULL, NULL, NULL)";
    for (name, columns) in ["a", "b"].iter().zip(columns) {
        server.execute(name, &format!("CREATE TABLE t ({columns}); {rows}")).await;
    }
    let mut source = server.connect("a").await;
    let mut target = server.connect("b").await;
    // How the sessions print values must not matter, and must be as before afterwards.
    let odd = "SET time_zone = '+09:00', sql_mode = 'ANSI_QUOTES', character_set_results = 'latin1'";
    target.query_drop(odd).await.unwrap();
    let t = [("a.t", "b.t")];
    mariadb_tables_equal(&mut source, &mut target, &t).await.unwrap();
    mariadb_tables_equal(&mut source, &mut target, &[("t", "t")]).await.unwrap();
    let settings =
        "SELECT CONCAT_WS(' ', @@time_zone, @@sql_mode, @@character_set_results, @@in_transaction)";
    let kept: Option<String> = target.query_first(settings).await.unwrap();
    assert_eq!(kept.as_deref(), Some("+09:00 ANSI_QUOTES latin1 0"));
    target.query_drop("SET time_zone = '+00:00', sql_mode = '', NAMES utf8mb4").await.unwrap();

    let changes = [
        ("UPDATE t SET n = 1.501 WHERE id = 1", "a digit"),
        ("UPDATE t SET s = NULL WHERE id = 2", "NULL for an empty text"),
        ("UPDATE t SET f = 16777218 WHERE id = 3", "the last bit of a float"),
        ("UPDATE t SET d = d + 1e-17 WHERE id = 1", "the last bit of a double"),
        ("UPDATE t SET t = t + INTERVAL 1 MICROSECOND WHERE id = 1", "a microsecond"),
        ("UPDATE t SET e = 'unknown' WHERE id = 2", "no member of an enumeration"),
        ("UPDATE t SET b = x'00fe' WHERE id = 1", "a byte"),
        ("UPDATE t SET b = x'' WHERE id = 3", "NULL for no bytes"),
        ("UPDATE t SET c = 'a' WHERE id = 1", "a letter that is equal by the collation"),
        ("UPDATE t SET s = 'X' WHERE id = 1", "upper case"),
        ("UPDATE t SET bits = b'1010101011' WHERE id = 1", "a bit"),
        (
            "UPDATE t SET s = CONCAT(REPEAT('z', 2000), 'c') WHERE id = 4 AND s LIKE '%a'",
            "the end of a long text",
        ),
        ("DELETE FROM t WHERE id = 5 LIMIT 1", "one of two identical rows"),
        ("INSERT INTO t (id, n, s) VALUES (5, 1, 'twice')", "a third identical row"),
    ];
    for (change, what) in changes {
        target.query_drop(change).await.unwrap();
        let difference = mariadb_tables_equal(&mut source, &mut target, &t).await.expect_err(what);
        let Difference::Rows(found) = &difference else { panic!("{what}: {difference}") };
        assert!(found.missing <= 1 && found.surplus <= 1 && found.source_count == 7, "{what}: {difference}");
        target.query_drop(format!("DELETE FROM t; {rows}")).await.unwrap();
        mariadb_tables_equal(&mut source, &mut target, &t).await.unwrap();
    }

    source.query_drop("ALTER TABLE t ADD COLUMN more INT").await.unwrap();
    let difference = mariadb_tables_equal(&mut source, &mut target, &t).await.unwrap_err();
    assert!(
        matches!(&difference, Difference::Columns { only_source, .. } if only_source == &["more"]),
        "{difference}"
    );
    target.query_drop("DROP TABLE t").await.unwrap();
    let difference = mariadb_tables_equal(&mut source, &mut target, &t).await.unwrap_err();
    assert!(matches!(difference, Difference::MissingTable { side: Side::Target, .. }), "{difference}");
}

#[tokio::test]
async fn waiting_for_equality_survives_a_restart_of_the_target() {
    let (source, target) =
        tokio::join!(Server::start(ServerOptions::default()), Server::start(ServerOptions::default()));
    for server in [&source, &target] {
        server.create_database("shop").await;
        server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    }
    source.execute("shop", "INSERT INTO t VALUES (2)").await;
    let (from, to) = (source.url("shop"), target.url("shop"));
    let wait = wait_until_mariadb_equal(&from, &to, &[("t", "t")], DEADLINE);
    let act = async {
        tokio::time::sleep(MOMENT).await;
        target.restart().await;
        target.execute("shop", "INSERT INTO t VALUES (2)").await;
    };
    tokio::join!(wait, act);
    wait_for_mariadb_count(&mut target.connect("").await, "shop.t", 2, DEADLINE).await;
}

#[tokio::test]
#[should_panic(expected = "(\"2\")")]
async fn waiting_for_equality_ends_with_the_difference() {
    let server = Server::start(ServerOptions::default()).await;
    server.create_database("shop").await;
    server
        .execute("shop", "CREATE TABLE a (id INT); CREATE TABLE b (id INT); INSERT INTO a VALUES (2)")
        .await;
    let url = server.url("shop");
    wait_until_mariadb_equal(&url, &url, &[("a", "b")], Duration::ZERO).await;
}
