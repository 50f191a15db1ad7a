//! The oracle between two kinds of database.

use rowbridge_tests::compare::{Difference, Place, crossing_tables_equal};
use rowbridge_tests::mariadb::{Server, ServerOptions};
use rowbridge_tests::postgres::{Cluster, ClusterOptions};
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::sqlite::SqliteFile;

const MARIADB: &str = "
    CREATE TABLE t (id INT PRIMARY KEY, n DECIMAL(10,2), f FLOAT, d DOUBLE, b VARBINARY(10), x BIT(5), at DATETIME(6),
        s TIMESTAMP(3) NULL, w TIME(1), c CHAR(4), v VARCHAR(20) CHARACTER SET latin1, u TINYINT(1), y YEAR);
    SET time_zone = '+05:00';
    INSERT INTO t VALUES (1, -0.5, 0.1, 1e20, x'00ff', b'101', '2024-01-31 23:59:59.1', '2024-02-01 04:59:59.25', '-100:00:00.5',
        'a ', 'straße ', 1, 0);
    INSERT INTO t (id) VALUES (2)";

const POSTGRES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, n numeric(10,2), f real, d float8, b bytea, x bit(5), at timestamp, s timestamptz,
        w interval, c char(4), v text, u bool, y smallint);
    INSERT INTO t VALUES (1, -0.5, 0.1, 1e20, '\\x00ff', '00101', '2024-01-31 23:59:59.1', '2024-01-31 23:59:59.25+00',
        '-100:00:00.5', 'a ', 'straße ', true, 0);
    INSERT INTO t (id) VALUES (2)";

const SQLITE: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT, f REAL, d REAL, b BLOB, x TEXT, at TEXT, s TEXT, w TEXT, c TEXT, v TEXT,
        u BOOLEAN, y INTEGER);
    INSERT INTO t VALUES (1, '-0.50', 0.10000000149011612, 1e20, x'00ff', '00101', '2024-01-31 23:59:59.100000',
        '2024-01-31 23:59:59.250Z', '-100:00:00.5', 'a', 'straße ', 1, 0);
    INSERT INTO t (id) VALUES (2)";

#[tokio::test]
async fn values_are_equal_across_three_kinds_of_database_and_each_that_is_not_is_seen() {
    let server = Server::start(ServerOptions::default()).await;
    server.create_database("shop").await;
    server.execute("shop", MARIADB).await;
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_database("shop").await;
    cluster.execute("shop", POSTGRES).await;
    let file = SqliteFile::create("shop");
    file.execute(SQLITE);
    let (server_url, cluster_url) = (server.url("shop"), cluster.url("shop"));
    let mariadb = (Place::Mariadb(&server_url), "shop.t");
    let postgres = (Place::Postgres(&cluster_url), "public.t");
    let sqlite = (Place::Sqlite(file.path()), "t");
    let compare = async |from: (Place<'_>, &str), to: (Place<'_>, &str)| {
        crossing_tables_equal(from.0, to.0, &[(from.1, to.1)]).await
    };
    let every = [
        (mariadb, postgres),
        (postgres, mariadb),
        (mariadb, sqlite),
        (sqlite, mariadb),
        (postgres, sqlite),
        (sqlite, postgres),
    ];
    for (from, to) in every {
        compare(from, to).await.unwrap_or_else(|difference| panic!("{from:?} {to:?}: {difference}"));
    }
    let one_row = |result: Result<(), Difference>, what: &str| match result {
        Err(Difference::Rows(rows)) => assert_eq!((rows.missing, rows.surplus), (1, 1), "{what}: {rows}"),
        other => panic!("{what}: {other:?}"),
    };
    for change in [
        "n = n + 0.01",
        "f = 0.10000001",
        "d = d * 1.0000000000000002",
        "b = x'00fe'",
        "x = b'1101'",
        "at = at + INTERVAL 1 MICROSECOND",
        "s = s - INTERVAL 1 HOUR",
        "w = '100:00:00.5'",
        "c = 'A'",
        "v = 'strasse '",
        "v = 'straße'",
        "u = 0",
        "y = 1901",
        "n = NULL",
        "v = ''",
        "b = NULL",
    ] {
        server.execute("shop", &format!("UPDATE t SET {change} WHERE id = 1")).await;
        one_row(compare(mariadb, postgres).await, change);
        one_row(compare(mariadb, sqlite).await, change);
        server.execute("shop", &format!("DROP TABLE t; {MARIADB}")).await;
    }
    file.execute("UPDATE t SET b = '00ff' WHERE id = 1");
    one_row(compare(mariadb, sqlite).await, "a text for a blob");
    file.execute("DELETE FROM t WHERE id = 2");
    let missing = compare(postgres, sqlite).await;
    assert!(matches!(missing, Err(Difference::Rows(ref rows)) if rows.target_count == 1), "{missing:?}");
    file.execute("ALTER TABLE t DROP COLUMN y");
    let narrower = compare(postgres, sqlite).await;
    assert!(
        matches!(narrower, Err(Difference::Columns { ref only_source, .. }) if only_source == &["y"]),
        "{narrower:?}"
    );
    file.execute("DROP TABLE t");
    let gone = compare(postgres, sqlite).await;
    assert!(matches!(gone, Err(Difference::MissingTable { .. })), "{gone:?}");
}

#[tokio::test]
async fn pair_with_mariadb_has_a_user_of_its_own_and_proxies() {
    let options = PairOptions::mariadb().with_http_proxy().with_database_proxies();
    let pair = Pair::prepare(options).await;
    for (url, proxy) in [
        (&pair.publisher_config.url, pair.source_proxy()),
        (&pair.subscriber_config.url, pair.target_proxy()),
    ] {
        assert_eq!(*url, format!("mysql://rowbridge:s3cret@127.0.0.1:{}/shop", proxy.port()));
    }
    pair.source_execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    pair.target_execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    pair.wait_equal(&["t"]).await;
    pair.wait_equal(&["shop.t"]).await;
}

/// Each from MariaDB: by snapshot, then by the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_with_mariadb_are_bridges() {
    for target in [Kind::Mariadb, Kind::Postgres, Kind::Sqlite] {
        let pair = Pair::prepare(PairOptions::crossing(Kind::Mariadb, target)).await;
        pair.source_execute(MARIADB).await;
        pair.start().await;
        pair.wait_equal(&["t"]).await;
        pair.source_execute(
            "UPDATE t SET v = 'changed', d = 0.1 WHERE id = 2; INSERT INTO t (id) VALUES (3)",
        )
        .await;
        pair.wait_equal(&["t"]).await;
    }
}
