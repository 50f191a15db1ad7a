//! Tables that are made, found, refused; ranges of snapshots; what check and teardown say.

use rowbridge_schema::wire::{KeyRange, Sweep};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_are_made_as_the_source_has_them() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let mut made = table(
            "made",
            &[
                "b int(10) unsigned!",
                "a varchar(20)@utf8mb4_0900_ai_ci!",
                "e enum('x','it''s')",
                "ts timestamp!",
                "g int(11)",
            ],
            &[1, 0],
        );
        made.columns[4].generated = Some("`b` + 1".into());
        let row = ["7", "Ada", "it's", "2024-01-01 00:00:00+00"];
        bed.commit(1, vec![insert(&made, &row)]).await;
        assert_eq!(bed.rows("SELECT b, a, e, ts, g FROM made").await, ["7|Ada|it's|2024-01-01 00:00:00|8"]);
        let key = "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_NAME = 'made' AND
            TABLE_SCHEMA = 'app' AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX";
        assert_eq!(bed.rows(key).await, ["a", "b"]);
        // A column that the server would set by itself is as it was.
        bed.commit(2, vec![partial(&made, &[], &[(0, "7"), (1, "Ada"), (2, "x")])]).await;
        assert_eq!(bed.rows("SELECT e, ts FROM made").await, ["x|2024-01-01 00:00:00"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_says_what_to_run() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE isam (id INT PRIMARY KEY) ENGINE = MyISAM;
        CREATE VIEW v AS SELECT * FROM t; CREATE TABLE short (id INT PRIMARY KEY)";
    let mut bed = Bed::with(ServerOptions::default(), setup, &[], false).await;
    let one = |name: &str| table(name, &["id int(11)!", "v int(11)"], &[0]);
    let mut reason = async |def: &TableDef| bed.refused(1, vec![insert(def, &["1", "1"])]).await.reason;
    let missing = reason(&one("nowhere")).await;
    assert!(
        missing.contains("CREATE TABLE IF NOT EXISTS `app`.`nowhere` (`id` int(11) NOT NULL"),
        "{missing}"
    );
    assert!(reason(&one("isam")).await.contains("ALTER TABLE `app`.`isam` ENGINE = InnoDB"));
    assert!(reason(&one("v")).await.contains("no table but a view"));
    assert!(reason(&one("short")).await.contains("ALTER TABLE `app`.`short` ADD COLUMN `v` int(11)"));
    assert!(reason(&one("rowbridge_progress")).await.contains("belongs to Rowbridge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_meanwhile_is_looked_at_again() {
    Bed::each("CREATE TABLE t (id INT PRIMARY KEY, v INT)", async |mut bed| {
        let old = table("t", &["id int(11)!", "v int(11)"], &[0]);
        bed.commit(1, vec![insert(&old, &["1", "1"])]).await;
        bed.run("ALTER TABLE t CHANGE v w INT, ADD UNIQUE (w)").await;
        assert!(bed.refused(2, vec![insert(&old, &["2", "2"])]).await.reason.contains("ADD COLUMN `v`"));
        let new = table("t", &["id int(11)!", "w int(11)"], &[0]);
        bed.commit(2, vec![insert(&new, &["2", "2"])]).await;
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, ["1|1", "2|2"]);
    })
    .await;
}

fn range(def: &TableDef, after: Option<&str>, upto: Option<&str>) -> Chunk {
    let key = |text: &str| vec![text.to_owned()];
    Chunk {
        table: def.id(),
        clear: false,
        sweep: Some(Sweep::Next),
        prune: Some(KeyRange { after: after.map(key), upto: upto.map(key) }),
        skipped: vec![],
        done: upto.is_none(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_removes_what_was_deleted_meanwhile() {
    Bed::each("CREATE TABLE t (id INT PRIMARY KEY, v INT)", async |mut bed| {
        let t = table("t", &["id int(11)!", "v int(11)"], &[0]);
        let ids: Vec<String> = (1..=9).map(|i| i.to_string()).collect();
        bed.commit(1, ids.iter().map(|id| insert(&t, &[id, "0"])).collect()).await;
        let mut chunk = range(&t, Some("2"), Some("6"));
        chunk.skipped = vec![vec!["5".into()]];
        let rows = vec![read(&t, &["3", "1"]), read(&t, &["6", "1"])];
        let prev = bed.position().await;
        let applied = bed.apply(&delivery(prev).chunk(2, chunk, &t, rows)).await;
        assert!(matches!(applied, Applied::Committed { changes: 2, .. }), "{applied:?}");
        assert_eq!(
            bed.rows("SELECT * FROM t ORDER BY 1").await,
            ["1|0", "2|0", "3|1", "5|0", "6|1", "7|0", "8|0", "9|0"]
        );
        let prev = bed.position().await;
        bed.apply(&delivery(prev).chunk(3, range(&t, Some("6"), None), &t, vec![])).await;
        assert_eq!(bed.rows("SELECT COUNT(*), MAX(id) FROM t").await, ["5|6"]);

        // Two columns, where the range ends within the first.
        let p = table("p", &["a int(11)!", "b varchar(9)@utf8mb4_general_ci!"], &[0, 1]);
        let rows = ["1 a", "1 b", "1 c", "2 a", "2 b"].map(|row| row.split_once(' ').unwrap());
        bed.commit(4, rows.iter().map(|(a, b)| insert(&p, &[a, b])).collect()).await;
        let mut chunk = range(&p, None, None);
        let key = |a: &str, b: &str| Some(vec![a.to_owned(), b.to_owned()]);
        chunk.prune = Some(KeyRange { after: key("1", "a"), upto: key("2", "a") });
        let prev = bed.position().await;
        bed.apply(&delivery(prev).chunk(5, chunk, &p, vec![read(&p, &["1", "c"])])).await;
        assert_eq!(bed.rows("SELECT * FROM p ORDER BY 1, 2").await, ["1|a", "1|c", "2|b"]);
    })
    .await;
}

/// Where ranges say nothing, keys are collected from the first chunk to the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_in_another_order_collects_keys() {
    Bed::each("CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY, v INT)", async |mut bed| {
        let t = table("t", &["k varchar(9)@utf8mb4_general_ci!", "v int(11)"], &[0]);
        bed.commit(1, ["a", "b", "c", "d", "e"].iter().map(|k| insert(&t, &[k, "0"])).collect()).await;
        let sweep = |sweep: Sweep, done: bool| Chunk { sweep: Some(sweep), done, ..range(&t, None, None) };
        let prev = bed.position().await;
        let mut first = sweep(Sweep::First, false);
        first.skipped = vec![vec!["e".into()]];
        bed.apply(&delivery(prev).chunk(2, first, &t, vec![read(&t, &["a", "1"])])).await;
        let tables =
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME LIKE
            'rowbridge\\_keys%'";
        assert_eq!(bed.rows(tables).await, ["1"]);
        bed.commit(3, vec![insert(&t, &["n", "2"]), update(&t, &["b", "2"]), delete(&t, &[(0, "c")])]).await;
        // Another process goes on.
        bed.lane = lane(&bed.target).await;
        bed.commit(4, vec![insert(&t, &["m", "2"])]).await;
        let prev = bed.position().await;
        bed.apply(&delivery(prev).chunk(5, sweep(Sweep::Next, true), &t, vec![])).await;
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, ["a|1", "b|2", "e|0", "m|2", "n|2"]);
        assert_eq!(bed.rows(tables).await, ["0"]);
    })
    .await;
}

/// Rows that the source has no more, or with another value, in ranges that come later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_row_with_a_unique_value_makes_room() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, u INT, w VARCHAR(9), UNIQUE (u), UNIQUE (w, u));
        CREATE TABLE n (k VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY, u INT UNIQUE, w VARCHAR(9))";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["id int(11)!", "u int(11)", "w varchar(9)"], &[0]);
        let old = [["1", "1", "a"], ["2", "2", "b"], ["3", "3", "c"], ["4", "4", "d"], ["9", "~", "e"]];
        bed.commit(1, old.iter().map(|row| insert(&t, row)).collect()).await;
        // Meanwhile 3 went, 4 has given its value away, and neither is in the log.
        let prev = bed.position().await;
        let rows = vec![read(&t, &["1", "3", "a"]), read(&t, &["2", "4", "b"])];
        let first = || Chunk { sweep: Some(Sweep::First), ..range(&t, None, Some("2")) };
        let applied = bed.apply(&delivery(prev).chunk(2, first(), &t, rows)).await;
        assert!(matches!(applied, Applied::Committed { changes: 2, .. }), "{applied:?}");
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, ["1|3|a", "2|4|b", "9|~|e"]);
        let prev = bed.position().await;
        let rows = vec![read(&t, &["4", "40", "d"]), read(&t, &["9", "~", "e"])];
        bed.apply(&delivery(prev).chunk(3, range(&t, Some("2"), None), &t, rows)).await;
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, ["1|3|a", "2|4|b", "4|40|d", "9|~|e"]);

        // A unique index that only the target has: no row of an earlier range is taken away for it.
        let before = bed.rows("SELECT * FROM t ORDER BY 1").await;
        let prev = bed.position().await;
        let rows = vec![read(&t, &["1", "3", "a"]), read(&t, &["2", "4", "b"])];
        bed.apply(&delivery(prev).chunk(4, first(), &t, rows)).await;
        let prev = bed.position().await;
        let rows = vec![read(&t, &["4", "3", "d"])];
        let applied = bed.apply(&delivery(prev).chunk(5, range(&t, Some("2"), Some("5")), &t, rows)).await;
        let Applied::Rejected { failing, .. } = applied else { panic!("{applied:?}") };
        assert!(failing[0].reason.contains("unique index"), "{}", failing[0].reason);
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, before);

        let n = table("n", &["k varchar(9)@utf8mb4_general_ci!", "u int(11)", "w varchar(9)"], &[0]);
        let old = [["a", "1", "x"], ["b", "2", "x"], ["c", "3", "x"], ["d", "4", "x"]];
        bed.commit(5, old.iter().map(|row| insert(&n, row)).collect()).await;
        let sweep = |sweep: Sweep, done: bool| Chunk { sweep: Some(sweep), done, ..range(&n, None, None) };
        let mut first = sweep(Sweep::First, false);
        first.skipped = vec![vec!["d".into()]];
        let prev = bed.position().await;
        bed.apply(&delivery(prev).chunk(6, first.clone(), &n, vec![read(&n, &["a", "3", "y"])])).await;
        assert_eq!(bed.rows("SELECT * FROM n ORDER BY 1").await, ["a|3|y", "b|2|x", "d|4|x"]);
        // What was skipped is newer than the range, and stays.
        let prev = bed.position().await;
        let rows = vec![read(&n, &["b", "4", "y"])];
        let applied = bed.apply(&delivery(prev).chunk(7, sweep(Sweep::Next, false), &n, rows)).await;
        let Applied::Rejected { failing, .. } = applied else { panic!("d was taken away: {applied:?}") };
        assert!(failing[0].reason.contains("unique index"), "{}", failing[0].reason);
        let prev = bed.position().await;
        bed.apply(&delivery(prev).chunk(8, sweep(Sweep::Next, true), &n, vec![read(&n, &["c", "2", "y"])]))
            .await;
        assert_eq!(bed.rows("SELECT * FROM n ORDER BY 1").await, ["a|3|y", "c|2|y", "d|4|x"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_missing_and_teardown_takes_what_is_ours() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE isam (id INT) ENGINE = MyISAM;
        CREATE TRIGGER watch AFTER INSERT ON t FOR EACH ROW SET @x = 1";
    let mut bed = Bed::new(setup).await;
    let t = table("t", &["id int(11)!"], &[0]);
    bed.commit(1, vec![insert(&t, &["1"])]).await;
    let found = bed.target.check().await.unwrap();
    let faults: Vec<&str> = found.iter().filter(|item| !item.fine).map(|item| item.subject).collect();
    assert_eq!(faults, ["max_allowed_packet", "engine", "trigger"], "{found:#?}");

    bed.server.create_user("reader", "pw", &["SELECT ON app.*"]).await;
    let reader = target(&bed.server.url_of("reader", "pw", "app"), &[], true);
    let found = reader.check().await.unwrap();
    let fix = |subject: &str| found.iter().find(|item| item.subject == subject).unwrap().fix.clone();
    assert_eq!(
        fix("writing rows").as_deref(),
        Some("GRANT INSERT, UPDATE, DELETE ON `app`.* TO 'reader'@'%'")
    );
    assert_eq!(fix("making tables").as_deref(), Some("GRANT CREATE ON `app`.* TO 'reader'@'%'"));
    let wrong = target(&bed.server.url_of("reader", "wrong", "app"), &[], true);
    assert!(matches!(wrong.check().await, Err(MysqlError::Login { .. })));

    let streams = ["shop".parse().unwrap()];
    let listed = bed.target.teardown(&streams, false).await.unwrap();
    assert_eq!(listed, ["progress of stream shop, endpoint copy", "table `app`.`rowbridge_progress`"]);
    bed.target.teardown(&["other".parse().unwrap()], true).await.unwrap();
    assert_eq!(bed.rows("SELECT stream FROM rowbridge_progress").await, ["shop"]);
    bed.target.teardown(&streams, true).await.unwrap();
    assert_eq!(bed.target.teardown(&streams, true).await.unwrap(), [""; 0]);
    assert_eq!(bed.rows("SELECT id FROM t").await, ["1"]);
}

/// The least that docs/roles.md grants is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_documented_privileges_can_do_all() {
    Bed::each("CREATE TABLE t (id INT PRIMARY KEY)", async |bed| {
        let grants = ["SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON app.*"];
        bed.server.create_user("rowbridge", "pw", &grants).await;
        let mut bed = Bed { target: target(&bed.server.url_of("rowbridge", "pw", "app"), &[], true), ..bed };
        bed.lane = lane(&bed.target).await;
        let made = table("made", &["id int(11)!", "u int(11)"], &[0]);
        bed.commit(1, vec![insert(&made, &["1", "1"]), insert(&made, &["2", "2"])]).await;
        bed.commit(2, vec![truncate(&made), insert(&made, &["3", "3"])]).await;
        let faults: Vec<_> =
            bed.target.check().await.unwrap().into_iter().filter(|item| !item.fine).collect();
        assert!(faults.iter().all(|item| item.subject == "max_allowed_packet"), "{faults:#?}");
    })
    .await;
}

/// The same, where it is a change of the stream that they are in the way of.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_row_gives_way_to_a_change_of_the_stream() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, u INT, w VARCHAR(9), UNIQUE (u))";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["id int(11)!", "u int(11)", "w varchar(9)"], &[0]);
        let old = [["1", "1", "a"], ["2", "2", "a"], ["3", "3", "a"], ["4", "4", "a"], ["5", "5", "a"]];
        bed.commit(1, old.iter().map(|row| insert(&t, row)).collect()).await;
        let before = bed.rows("SELECT * FROM t ORDER BY 1").await;
        assert!(bed.refused(2, vec![insert(&t, &["6", "4", "b"])]).await.reason.contains("unique index"));
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY 1").await, before, "nothing is under way");

        let prev = bed.position().await;
        let first = Chunk { sweep: Some(Sweep::First), ..range(&t, None, Some("2")) };
        let rows = vec![read(&t, &["1", "1", "b"]), read(&t, &["2", "2", "b"])];
        bed.apply(&delivery(prev).chunk(2, first, &t, rows)).await;
        // At the source, 4 has another value now, and 3 is gone.
        bed.commit(3, vec![insert(&t, &["6", "4", "b"])]).await;
        assert_eq!(bed.rows("SELECT id, u FROM t ORDER BY 1").await, ["1|1", "2|2", "3|3", "5|5", "6|4"]);
        // Another process goes on.
        bed.lane = lane(&bed.target).await;
        bed.commit(4, vec![partial(&t, &[], &[(0, "5"), (1, "3")])]).await;
        assert_eq!(bed.rows("SELECT id, u FROM t ORDER BY 1").await, ["1|1", "2|2", "5|3", "6|4"]);
        // What the re-snapshot or the stream has brought stays.
        for value in ["1", "3"] {
            let refused = bed.refused(5, vec![insert(&t, &["7", value, "c"])]).await;
            assert!(refused.reason.contains("unique index"), "{}", refused.reason);
        }
        let prev = bed.position().await;
        let mut last = range(&t, Some("2"), None);
        last.skipped = vec![vec!["5".into()], vec!["6".into()]];
        bed.apply(&delivery(prev).chunk(5, last, &t, vec![read(&t, &["4", "40", "b"])])).await;
        let rows = bed.rows("SELECT * FROM t ORDER BY 1").await;
        assert_eq!(rows, ["1|1|b", "2|2|b", "4|40|b", "5|3|a", "6|4|b"]);
        assert!(bed.refused(6, vec![insert(&t, &["7", "40", "c"])]).await.reason.contains("unique index"));
    })
    .await;
}

/// The same, where an index is over the beginnings of texts.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_row_gives_way_to_one_that_begins_alike() {
    let setup =
        "CREATE TABLE t (id INT PRIMARY KEY, w VARCHAR(9), b VARBINARY(9), UNIQUE (w(3)), UNIQUE (b(2)))";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["id int(11)!", "w varchar(9)", "b varbinary(9)"], &[0]);
        let old = [
            ["1", "abcd", "\\x0102ff"],
            ["2", "bcde", "\\x0202ff"],
            ["4", "cdef", "\\x0302ff"],
            ["5", "d", "\\x0402"],
        ];
        bed.commit(1, old.iter().map(|row| insert(&t, row)).collect()).await;
        let prev = bed.position().await;
        let first = Chunk { sweep: Some(Sweep::First), ..range(&t, None, Some("1")) };
        bed.apply(&delivery(prev).chunk(2, first, &t, vec![read(&t, &old[0])])).await;
        bed.commit(3, vec![insert(&t, &["6", "cdezz", "\\x09"])]).await;
        bed.commit(4, vec![insert(&t, &["7", "x", "\\x020201"])]).await;
        let rows = "SELECT id, w, HEX(b) FROM t ORDER BY 1";
        assert_eq!(bed.rows(rows).await, ["1|abcd|0102FF", "5|d|0402", "6|cdezz|09", "7|x|020201"]);
        let refused = bed.refused(5, vec![insert(&t, &["8", "abcz", "\\x08"])]).await;
        assert!(refused.reason.contains("unique index"), "{}", refused.reason);
    })
    .await;
}
