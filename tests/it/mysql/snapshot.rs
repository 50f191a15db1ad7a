//! Snapshots of private servers: keys of every kind in their own order, and what a read contains.

use mysql_async::prelude::Queryable as _;
use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_publisher::capture::mysql::client::Connector;
use rowbridge_publisher::capture::{Capture as _, Captured, ChangedKey, Key, TxToken};
use rowbridge_publisher::snapshot::mysql::MysqlSnapshot;
use rowbridge_publisher::snapshot::{ChunkRead, SnapshotReader as _};
use rowbridge_schema::config::DatabaseUrl;
use rowbridge_schema::{Offset, TableName, TablePatterns};
use rowbridge_tests::mariadb::{Product, Server, ServerOptions, Version};
use rowbridge_tests::wait::until;

use super::{DEADLINE, Tap, hold_commits, release_commits, server};

/// Long enough for what must not happen to happen.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(300);

pub(super) fn reader(url: &str) -> MysqlSnapshot {
    let DatabaseUrl::Mysql(url) = DatabaseUrl::parse(url).unwrap() else { panic!("not a MySQL URL") };
    MysqlSnapshot::new(Connector::new(&url).unwrap(), TablePatterns::new(&["shop.*"]).unwrap())
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

/// Rows of a chunk as texts.
fn rows(chunk: &ChunkRead) -> Vec<Vec<String>> {
    let text = |cell: rowbridge_schema::Cell<'_>| cell.as_str().unwrap_or("NULL").to_owned();
    chunk.cells.rows().map(|row| row.iter().map(text).collect()).collect()
}

/// All rows of a table in chunks of about a row each, and how many chunks that took. Every chunk is read by another
/// reader, as after a restart.
async fn all(url: &str, name: &str) -> (Vec<Vec<String>>, usize) {
    let mut found = Vec::new();
    let mut after: Option<Key> = None;
    for chunks in 1.. {
        let mut reader = reader(url);
        let chunk = reader.read_chunk(&table(name), after.as_ref(), 1).await.unwrap().unwrap();
        assert_eq!(chunk.range.after, after);
        found.extend(rows(&chunk));
        if chunk.done {
            assert_eq!(chunk.range.upto, None);
            return (found, chunks);
        }
        assert_ne!(chunk.range.upto, after, "{name} goes on");
        after = chunk.range.upto;
    }
    unreachable!("a table ends");
}

/// The second column of a table as a snapshot has it, in the order of the first one.
pub(crate) async fn values(url: &str, name: &str) -> Vec<String> {
    rows_of(url, name).await.into_iter().map(|mut row| row.remove(1)).collect()
}

/// All rows of a table as a snapshot has them; NULL is `NULL`.
pub(crate) async fn rows_of(url: &str, name: &str) -> Vec<Vec<String>> {
    let chunk = reader(url).read_chunk(&table(name), None, usize::MAX).await.unwrap().unwrap();
    assert!(chunk.done);
    rows(&chunk)
}

async fn servers(also: impl Fn(ServerOptions) -> ServerOptions) -> Vec<Server> {
    let mut servers = Vec::new();
    for version in [Version::Installed, Version::MySql9] {
        let Some(options) = ServerOptions::of(version) else { continue };
        let server = Server::start(also(options)).await;
        server.create_database("shop").await;
        servers.push(server);
    }
    servers
}

/// Key columns and values that try the order: each row once, none left out, wherever a chunk ends.
#[tokio::test]
async fn keys_of_every_kind_are_read_in_their_own_order() {
    let both: &[(&str, &[&str])] = &[
        ("a INT NOT NULL, PRIMARY KEY (a)", &["-5", "0", "7", "2147483647"]),
        (
            "a BIGINT UNSIGNED NOT NULL, PRIMARY KEY (a)",
            &["0", "9223372036854775808", "18446744073709551615"],
        ),
        ("a DECIMAL(20,4) NOT NULL, PRIMARY KEY (a)", &["-1.5", "0", "0.0001", "9999999999999999.9999"]),
        ("a FLOAT NOT NULL, PRIMARY KEY (a)", &["-1e38", "0.1", "0.3", "16777216", "3.4028234e38"]),
        ("a DOUBLE NOT NULL, PRIMARY KEY (a)", &["-1e300", "0.1", "0.30000000000000004", "5e-324"]),
        ("a BIT(40) NOT NULL, PRIMARY KEY (a)", &["0", "5", "1099511627775"]),
        ("a YEAR NOT NULL, PRIMARY KEY (a)", &["0000", "1901", "2155"]),
        (
            "a DATE NOT NULL, PRIMARY KEY (a)",
            &["'0000-00-00'", "'2024-00-10'", "'2024-02-31'", "'9999-12-31'"],
        ),
        (
            "a DATETIME(6) NOT NULL, PRIMARY KEY (a)",
            &["'0000-00-00'", "'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'"],
        ),
        (
            "a TIMESTAMP(3) NOT NULL, PRIMARY KEY (a)",
            &[
                "'1970-01-01 00:00:01'",
                "'2024-10-27 00:30:00.5'",
                "'2024-10-27 01:30:00.5'",
                "'2038-01-19 03:14:07'",
            ],
        ),
        (
            "a TIME(2) NOT NULL, PRIMARY KEY (a)",
            &["'-838:59:59'", "'-00:00:00.01'", "'00:00:00'", "'838:59:59'"],
        ),
        (
            "a VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, PRIMARY KEY (a)",
            &["''", "'a'", "'B'", "'b%_\\\\ ''x'", "'ß'", "'Zz'", "'é  '", "'𝄞'"],
        ),
        (
            "a VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, PRIMARY KEY (a)",
            &["'B'", "'a'", "'b'", "'𝄞'", "'ｚ'"],
        ),
        ("a CHAR(20) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (a)", &["'a'", "'€'", "'Ä'", "'b'"]),
        ("a VARCHAR(20) CHARACTER SET utf8mb3 NOT NULL, PRIMARY KEY (a)", &["'a'", "'é'", "'ж'"]),
        ("a VARCHAR(20) CHARACTER SET gbk NOT NULL, PRIMARY KEY (a)", &["'a'", "'汉'", "'字'", "'Z'"]),
        ("a VARCHAR(20) CHARACTER SET sjis NOT NULL, PRIMARY KEY (a)", &["'a'", "'ア'", "'漢'"]),
        ("a VARCHAR(9) CHARACTER SET utf16 NOT NULL, PRIMARY KEY (a)", &["'a'", "'𝄞'", "'ｚ'"]),
        ("a BINARY(3) NOT NULL, PRIMARY KEY (a)", &["''", "x'00ff'", "'a'", "x'ffffff'"]),
        ("a VARBINARY(9) NOT NULL, PRIMARY KEY (a)", &["''", "x'00'", "x'0000'", "x'61'", "x'ff'"]),
        ("a ENUM('z','B''x','a') NOT NULL, PRIMARY KEY (a)", &["0", "'z'", "'B''x'", "'a'"]),
        ("a SET('x','y','z') NOT NULL, PRIMARY KEY (a)", &["''", "'x'", "'y'", "'x,y'", "'z'", "'x,y,z'"]),
        (
            "a ENUM('z','y') NOT NULL, b VARCHAR(9) NOT NULL, c INT NOT NULL, PRIMARY KEY (a, b, c)",
            &["'z', 'a', 1", "'z', 'a', 2", "'z', 'B', -1", "'y', '', 0", "'y', 'a', 9"],
        ),
        // The first unique index without NULLs, in the order of the index; another one is there to be taken instead.
        (
            "a INT NULL UNIQUE, b INT NOT NULL, c INT NOT NULL, UNIQUE m (c, b), UNIQUE n (b)",
            &["1, 4, 1", "2, 3, 1", "NULL, 2, 2", "NULL, 1, 5"],
        ),
        ("a INT NOT NULL DEFAULT 0 INVISIBLE, b INT, PRIMARY KEY (a)", &["1", "2"]),
        ("a INT NOT NULL, g INT AS (a + 1) STORED, v INT AS (a + 2) VIRTUAL, PRIMARY KEY (a)", &["1", "2"]),
    ];
    let mariadb: &[(&str, &[&str])] = &[
        (
            "a UUID NOT NULL, PRIMARY KEY (a)",
            &[
                "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
                "'018f0000-0000-7000-8000-0123456789ab'",
                "'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
            ],
        ),
        ("a INET6 NOT NULL, PRIMARY KEY (a)", &["'::'", "'::1.2.3.4'", "'2001:db8::1'", "'ff02::'"]),
        (
            "a VARCHAR(9) COLLATE utf8mb4_nopad_bin NOT NULL, PRIMARY KEY (a)",
            &["'a'", "'a '", "'a\\t'", "'b'"],
        ),
    ];
    for server in servers(|options| options).await {
        let url = server.url("shop");
        let own: &[_] = if server.product() == Product::MariaDb { mariadb } else { &[] };
        for (at, (columns, values)) in both.iter().chain(own).enumerate() {
            let name = format!("t{at}");
            let mode = "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'";
            server
                .execute("shop", &format!("CREATE TABLE {name} ({columns}, pad CHAR(9) DEFAULT 'pad')"))
                .await;
            let invisible = columns.contains("INVISIBLE");
            let generated = columns.contains(" AS ");
            for value in *values {
                let into = if invisible || generated { "(a)" } else { "" };
                let value =
                    if invisible || generated { (*value).to_owned() } else { format!("{value}, DEFAULT") };
                server.execute("shop", &format!("{mode}; INSERT INTO {name} {into} VALUES ({value})")).await;
            }
            let (found, chunks) = all(&url, &name).await;
            assert_eq!(found.len(), values.len(), "{columns}: {found:?}");
            let whole = reader(&url).read_chunk(&table(&name), None, usize::MAX).await.unwrap().unwrap();
            assert_eq!(rows(&whole), found, "{columns}");
            assert!(chunks >= values.len(), "{columns}: {chunks} chunks");
            assert_eq!(whole.portable_order, columns.starts_with("a INT"), "{columns}");
            // Each key leads back to its row.
            let sent = whole.table.sent_columns();
            let key = |row: &Vec<String>| -> Key {
                let cell = |key: &u16| row[sent.iter().position(|column| column == key).unwrap()].clone();
                whole.table.key.iter().map(cell).collect()
            };
            let keys: Vec<Key> = found.iter().map(key).collect();
            let mut again = rows(&reader(&url).read_keys(&table(&name), &keys).await.unwrap().unwrap());
            let mut expected = found.clone();
            again.sort();
            expected.sort();
            assert_eq!(again, expected, "{columns}");
        }
        assert!(reader(&url).read_chunk(&table("gone"), None, 1).await.unwrap().is_none());
    }
}

/// Keys that are equal under their collation are one key: a range that ends at one of them does not meet it again.
#[tokio::test]
async fn a_key_that_changes_its_spelling_is_not_read_twice() {
    for server in servers(|options| options).await {
        let url = server.url("shop");
        server
            .execute(
                "shop",
                "CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, n INT);
                 INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3)",
            )
            .await;
        let mut reader = reader(&url);
        let first = reader.read_chunk(&table("t"), None, 1).await.unwrap().unwrap();
        assert_eq!(
            (rows(&first), &first.range.upto),
            (vec![vec!["a".to_owned(), "1".to_owned()]], &Some(vec!["a".into()]))
        );
        server.execute("shop", "UPDATE t SET a = 'A ' WHERE a = 'a'").await;
        let next = reader.read_chunk(&table("t"), first.range.upto.as_ref(), 1).await.unwrap().unwrap();
        assert_eq!(rows(&next), [["b", "2"]]);
        let one = reader
            .read_keys(&table("t"), &[vec!["b".to_owned()], vec!["B".to_owned()]])
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rows(&one).len(), 1);
    }
}

/// Large ranges take the size that they are asked for, and go on in the same reader.
#[tokio::test]
async fn ranges_have_about_the_size_that_is_asked_for() {
    let server = server(&[]).await;
    server
        .execute(
            "shop",
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200) NOT NULL, KEY (v));
             INSERT INTO t SELECT seq, REPEAT('x', 90) FROM seq_1_to_30000;
             INSERT INTO t SELECT 30000 + seq, REPEAT('y', 190) FROM seq_1_to_1000",
        )
        .await;
    let mut reader = reader(&server.url("shop"));
    let (mut after, mut next) = (None::<Key>, 1);
    loop {
        let chunk = reader.read_chunk(&table("t"), after.as_ref(), 100_000).await.unwrap().unwrap();
        let bytes = chunk.cells.text_bytes();
        assert!(bytes < 210_000, "{bytes}");
        assert!(chunk.done || bytes >= 90_000, "{bytes}");
        for row in rows(&chunk) {
            assert_eq!(row[0], next.to_string());
            next += 1;
        }
        if chunk.done {
            break;
        }
        after = chunk.range.upto;
    }
    assert_eq!(next, 31_001);
}

/// Tokens of the transactions that changed `t`, with where they are in the log.
async fn tokens(tap: &mut Tap) -> Vec<(TxToken, Offset, Vec<ChangedKey>)> {
    let mut session = tap.connector.connect().await.unwrap();
    let end = rowbridge_publisher::capture::mysql::setup::log_end(&mut session.conn, &session.server)
        .await
        .unwrap();
    let end = rowbridge_publisher::capture::mysql::setup::offset(&end);
    let mut tokens = Vec::new();
    tap.capture.watch(&[table("t")]);
    loop {
        match tokio::time::timeout(DEADLINE, tap.capture.next()).await.unwrap().unwrap() {
            Captured::Block(block) => tokens.push((block.token, block.block.head.last.offset, block.changed)),
            Captured::Advanced { at, .. } if at >= end => return tokens,
            Captured::Advanced { .. } | Captured::TableAdded { .. } => {}
        }
    }
}

/// What a read has seen is contained, what came later is not, on every server and in every mode.
#[tokio::test]
async fn a_read_contains_what_it_saw() {
    let mut all = servers(|options| options).await;
    if let Some(options) = ServerOptions::of(Version::MySql9) {
        let server = Server::start(options.without_gtids()).await;
        server.create_database("shop").await;
        all.push(server);
    }
    let installed = Server::start(ServerOptions::default()).await;
    installed.create_database("shop").await;
    // From now on nothing is certain without a lock there.
    installed.script("", "XA START 'q'; XA END 'q'; XA PREPARE 'q'; XA COMMIT 'q';").await;
    all.push(installed);
    for server in all {
        for (shape, keyless) in [
            ("CREATE TABLE t (id INT PRIMARY KEY)", false),
            ("CREATE TABLE t (id INT)", true),
            ("CREATE TABLE t (id INT) ENGINE = MyISAM", true),
            ("CREATE TABLE t (id INT PRIMARY KEY) ENGINE = MyISAM", false),
        ] {
            server.execute("shop", &format!("DROP TABLE IF EXISTS t; {shape}")).await;
            let mut tap = Tap::open(&server).await;
            server.execute("shop", "INSERT INTO t VALUES (1)").await;
            // A transaction that is not committed yet is not seen, nor waited for, where no lock is needed.
            let mut reader = reader(&server.url("shop"));
            reader.settle().await.unwrap();
            let chunk = reader.read_chunk(&table("t"), None, 1 << 20).await.unwrap().unwrap();
            server.execute("shop", "INSERT INTO t VALUES (2)").await;
            assert_eq!((rows(&chunk), chunk.done), (vec![vec!["1".to_owned()]], true), "{shape}");
            assert_eq!(chunk.table.key.is_empty(), keyless);
            let tokens = tokens(&mut tap).await;
            let contained: Vec<bool> =
                tokens.iter().map(|(token, _, _)| chunk.containment.contains(*token)).collect();
            assert_eq!(contained, [true, false], "{shape} {:?} {tokens:?}", chunk.containment);
            assert!(tokens[0].1 < chunk.after && tokens[1].1 >= chunk.after, "{:?} {tokens:?}", chunk.after);
            tap.capture.close().await;
        }
    }
}

/// Rows of a table without key come over several calls from one moment, whatever is written meanwhile.
#[tokio::test]
async fn a_table_without_key_is_read_at_one_moment() {
    for server in servers(|options| options).await {
        let url = server.url("shop");
        server
            .execute(
                "shop",
                "CREATE TABLE t (v VARCHAR(9)); INSERT INTO t VALUES ('a'), ('a'), (NULL), ('b')",
            )
            .await;
        let mut reader = reader(&url);
        let mut chunk = reader.read_chunk(&table("t"), None, 1).await.unwrap().unwrap();
        let containment = chunk.containment.clone();
        let mut found = rows(&chunk);
        server.execute("shop", "INSERT INTO t VALUES ('later'); DELETE FROM t WHERE v = 'b'").await;
        while !chunk.done {
            chunk = reader.read_chunk(&table("t"), Some(&Key::new()), 1).await.unwrap().unwrap();
            assert_eq!(chunk.containment, containment);
            found.extend(rows(&chunk));
        }
        found.sort();
        assert_eq!(found, [["NULL"], ["a"], ["a"], ["b"]]);
        // Without the session that has the rows, the table starts over.
        let error = self::reader(&url).read_chunk(&table("t"), Some(&Key::new()), 1).await.unwrap_err();
        assert!(matches!(error, MysqlError::Interrupted { .. }), "{error}");
    }
}

/// A table that must be locked is waited for, and its writers go on meanwhile.
#[tokio::test]
async fn a_lock_waits_for_writers_and_lets_others_pass() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let server = Server::start(options).await;
    server.create_database("shop").await;
    server.execute("shop", "CREATE TABLE t (v INT); INSERT INTO t VALUES (1)").await;
    let mut open = server.connect("shop").await;
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO t VALUES (2)").await.unwrap();
    let mut reader = reader(&server.url("shop"));
    let reading = tokio::spawn(async move { reader.read_chunk(&table("t"), None, 1 << 20).await });
    let waits = "SELECT COUNT(*) FROM performance_schema.processlist WHERE STATE LIKE 'Waiting for table%'";
    until("the lock's wait", DEADLINE, || async {
        match server.query_text("", waits).await.as_deref() {
            Some("0") => Err("nobody waits".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    // Held up for a second at most, although the transaction stays open.
    server.execute("shop", "INSERT INTO t VALUES (3)").await;
    assert!(!reading.is_finished());
    open.query_drop("COMMIT").await.unwrap();
    let chunk = reading.await.unwrap().unwrap().unwrap();
    assert_eq!(rows(&chunk), [["1"], ["2"], ["3"]]);
}

/// A commit that is in the log, and may be at a replica, but that no other session sees yet.
#[tokio::test]
async fn a_commit_that_is_logged_and_not_visible_is_not_contained() {
    for server in servers(|options| options).await {
        server
            .execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)")
            .await;
        let mut tap = Tap::open(&server).await;
        hold_commits(&server).await;
        let before = server.binlog_position().await;
        let mut writer = server.connect("shop").await;
        let writing = tokio::spawn(async move { writer.query_drop("UPDATE t SET v = 2").await });
        until("the commit in the log", DEADLINE, || async {
            let now = server.binlog_position().await;
            if now.offset > before.offset { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        let mut early = reader(&server.url("shop"));
        let chunk = early.read_chunk(&table("t"), None, 1 << 20).await.unwrap().unwrap();
        assert_eq!(rows(&chunk), [["1", "1"]]);
        let mut late = reader(&server.url("shop"));
        let settling = tokio::spawn(async move {
            late.settle().await.unwrap();
            late.read_chunk(&table("t"), None, 1 << 20).await
        });
        tokio::time::sleep(MOMENT).await;
        assert!(
            !writing.is_finished() && !settling.is_finished(),
            "what is in the log must be visible first"
        );
        release_commits(&server).await;
        writing.await.unwrap().unwrap();
        let settled = settling.await.unwrap().unwrap().unwrap();
        assert_eq!(rows(&settled), [["1", "2"]]);
        let tokens = tokens(&mut tap).await;
        let update = tokens.last().unwrap();
        assert_eq!(update.2[0].key, ["1"]);
        assert!(!chunk.containment.contains(update.0) && settled.containment.contains(update.0));
    }
}

/// The table's definition is changed while a reader goes through it.
#[tokio::test]
async fn a_table_that_changes_between_ranges_is_read_as_it_is() {
    for server in servers(|options| options).await {
        server
            .execute(
                "shop",
                "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
            )
            .await;
        let mut reader = reader(&server.url("shop"));
        let first = reader.read_chunk(&table("t"), None, 1).await.unwrap().unwrap();
        let after = first.range.upto.clone();
        server.execute("shop", "ALTER TABLE t DROP COLUMN v, ADD COLUMN w CHAR(1) DEFAULT 'w' FIRST").await;
        let rest = reader.read_chunk(&table("t"), after.as_ref(), 1 << 20).await.unwrap().unwrap();
        assert_eq!(rows(&rest).last().unwrap(), &["w", "3"]);
        server
            .execute("shop", "DROP TABLE t; CREATE TABLE t (id INT, w INT); INSERT INTO t VALUES (7, 8)")
            .await;
        let error = reader.read_chunk(&table("t"), after.as_ref(), 1).await.unwrap_err();
        assert!(matches!(error, MysqlError::Interrupted { .. }), "{error}");
        let whole = reader.read_chunk(&table("t"), None, 1 << 20).await.unwrap().unwrap();
        assert_eq!(rows(&whole), [["7", "8"]]);
        server.execute("shop", "DROP TABLE t").await;
        assert!(reader.read_chunk(&table("t"), None, 1).await.unwrap().is_none());
    }
}
