//! Keys, unique values, partial rows, tables without key, foreign keys that act.

use rowbridge_schema::config::{DeletePolicy, MapConfig};

use super::*;

const ALL: &str = "SELECT * FROM t ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_move_between_rows_and_never_hit_the_wrong_one() {
    Bed::each(
        "CREATE TABLE t (id INT PRIMARY KEY, u VARCHAR(9) UNIQUE, own INT DEFAULT 7)",
        async |mut bed| {
            let t = table("t", &["id int(11)!", "u varchar(9)"], &[0]);
            bed.commit(1, vec![insert(&t, &["1", "a"]), insert(&t, &["2", "b"]), insert(&t, &["3", "c"])])
                .await;
            bed.run("UPDATE t SET own = id").await;
            // As a source that checks at once does it: by way of a third value.
            bed.commit(
                2,
                vec![
                    change(&t, &["1", "a"], &["1", "x"]),
                    change(&t, &["2", "b"], &["2", "a"]),
                    change(&t, &["1", "x"], &["1", "b"]),
                ],
            )
            .await;
            assert_eq!(bed.rows(ALL).await, ["1|b|1", "2|a|2", "3|c|3"]);
            // As one that checks later does it.
            bed.commit(3, vec![update(&t, &["1", "a"]), update(&t, &["2", "b"])]).await;
            assert_eq!(bed.rows(ALL).await, ["1|a|1", "2|b|2", "3|c|3"]);
            // In parts, the value arrives before it has left.
            bed.commit(
                4,
                vec![partial(&t, &[], &[(0, "3"), (1, "a")]), partial(&t, &[], &[(0, "1"), (1, "c")])],
            )
            .await;
            assert_eq!(bed.rows(ALL).await, ["1|c|1", "2|b|2", "3|a|3"]);
            // Delete, then the value in a new row.
            bed.commit(5, vec![delete(&t, &[(0, "3")]), insert(&t, &["4", "a"])]).await;
            assert_eq!(bed.rows(ALL).await, ["1|c|1", "2|b|2", "4|a|7"]);
            // A row that the source does not have holds the value: ON DUPLICATE KEY would have overwritten that one.
            bed.run("INSERT INTO t VALUES (90, 'z', 0)").await;
            let failing = bed.refused(6, vec![insert(&t, &["5", "q"]), insert(&t, &["6", "z"])]).await;
            assert_eq!((failing.table.as_str(), failing.key), ("app.t", vec!["id=6".to_owned()]));
            assert!(
                failing.reason.contains("unique index") && !failing.reason.contains("'z'"),
                "{}",
                failing.reason
            );
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_rows_are_known_in_full_is_replaced_in_sets() {
    Bed::each("CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE)", async |mut bed| {
        let t = table("t", &["id int(11)!", "u int(11)"], &[0]);
        let text = |n: i32| n.to_string();
        bed.commit(1, (0..2000).map(|i| insert(&t, &[&text(i), &text(i)])).collect()).await;
        // Every value moves on to the next row.
        bed.commit(2, (0..2000).map(|i| update(&t, &[&text(i), &text((i + 1) % 2000)])).collect()).await;
        let wrong = "SELECT COUNT(*) FROM t WHERE u <> (id + 1) % 2000";
        assert_eq!(bed.rows(wrong).await, ["0"]);
        // Read again by a snapshot, whose rows are there already.
        bed.commit(3, (0..2000).map(|i| read(&t, &[&text(i), &text(i)])).collect()).await;
        assert_eq!(bed.rows("SELECT COUNT(*), SUM(u = id) FROM t").await, ["2000|2000"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_differ_in_case_blanks_or_accents_are_one_row() {
    let setup = "CREATE TABLE t (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["k varchar(20)!", "v int(11)"], &[0]);
        bed.commit(1, vec![insert(&t, &["Ada", "1"]), insert(&t, &["bob", "2"])]).await;
        bed.commit(2, vec![change(&t, &["Ada", "1"], &["ADA", "3"])]).await;
        assert_eq!(bed.rows(ALL).await, ["ADA|3", "bob|2"]);
        // Folded in one delivery: delete and insert under another spelling.
        bed.commit(3, vec![delete(&t, &[(0, "bob")]), insert(&t, &["Bob ", "4"])]).await;
        assert_eq!(
            bed.rows("SELECT CONCAT('<', k, '>'), v FROM t ORDER BY k").await,
            ["<ADA>|3", "<Bob >|4"]
        );
        // Letters whose equality only the server knows.
        bed.commit(
            4,
            vec![
                insert(&t, &["eve", "5"]),
                update(&t, &["ada", "6"]),
                change(&t, &["eve", "5"], &["Évé", "7"]),
                delete(&t, &[(0, "bob")]),
                insert(&t, &["zoë", "8"]),
                update(&t, &["ZOE", "9"]),
            ],
        )
        .await;
        assert_eq!(bed.rows(ALL).await, ["ada|6", "Évé|7", "ZOE|9"]);
        bed.commit(5, vec![delete(&t, &[(0, "eve")]), partial(&t, &[], &[(0, "zoé"), (1, "10")])]).await;
        assert_eq!(bed.rows(ALL).await, ["ada|6", "zoé|10"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_were_not_sent_stay_as_they_are() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9),
        own TIMESTAMP NOT NULL DEFAULT '2001-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP)";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["id int(11)!", "a varchar(9)", "b varchar(9)"], &[0]);
        bed.commit(1, vec![insert(&t, &["1", "a", "b"]), insert(&t, &["2", "a", "b"])]).await;
        bed.run("UPDATE t SET own = '2002-02-02 00:00:00'").await;
        bed.commit(2, vec![partial(&t, &[], &[(0, "1"), (1, "x")]), update(&t, &["2", "y", "~"])]).await;
        assert_eq!(bed.rows(ALL).await, ["1|x|b|2002-02-02 00:00:00", "2|y|~|2002-02-02 00:00:00"]);
        // The same values again are a row that was found.
        bed.commit(3, vec![partial(&t, &[], &[(0, "1"), (1, "x")])]).await;
        // Key and part of the row.
        bed.commit(4, vec![partial(&t, &[(0, "2")], &[(0, "3"), (2, "z")])]).await;
        assert_eq!(bed.rows("SELECT id, a, b FROM t ORDER BY 1").await, ["1|x|b", "3|y|z"]);
        let failing = bed.refused(5, vec![partial(&t, &[], &[(0, "8"), (1, "x")])]).await;
        assert!(failing.reason.contains("missing at the target"), "{}", failing.reason);
        let mut maybe = partial(&t, &[], &[(0, "8"), (1, "x")]);
        maybe.maybe_missing = true;
        bed.commit(5, vec![maybe, delete(&t, &[(0, "77")])]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_identical_rows_exactly_one_changes() {
    let setup = "CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_general_ci, b INT)";
    Bed::each(setup, async |mut bed| {
        let t = table("t", &["a varchar(9)", "b int(11)"], &[]);
        let row = |a: &'static str, b: &'static str| insert(&t, &[a, b]);
        bed.commit(1, vec![row("x", "1"), row("x", "1"), row("x", "1"), row("X", "1"), row("~", "~")]).await;
        bed.commit(
            2,
            vec![
                change(&t, &["x", "1"], &["y", "2"]),
                delete(&t, &[(0, "x"), (1, "1")]),
                change(&t, &["~", "~"], &["~", "5"]),
                change(&t, &["X", "1"], &["Z", "1"]),
            ],
        )
        .await;
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY b, a").await, ["x|1", "Z|1", "y|2", "~|5"]);
        let failing = bed.refused(3, vec![change(&t, &["X", "1"], &["q", "1"])]).await;
        assert!(failing.reason.contains("missing"), "x is not X: {}", failing.reason);
        bed.commit(4, vec![truncate(&t), row("n", "1")]).await;
        assert_eq!(bed.rows(ALL).await, ["n|1"]);
        // Some of several identical rows, among others, at once.
        let rows = ["m", "M", "m", "~", "m", "m", "m"].map(|a| row(a, "1"));
        bed.commit(5, rows.into_iter().chain([row("n", "2")]).collect()).await;
        let gone = |a: &'static str, b: &'static str| delete(&t, &[(0, a), (1, b)]);
        bed.commit(6, vec![gone("m", "1"), gone("n", "2"), gone("m", "1"), gone("~", "1"), gone("m", "1")])
            .await;
        assert_eq!(bed.rows("SELECT * FROM t ORDER BY b, BINARY a").await, ["M|1", "m|1", "m|1", "n|1"]);
    })
    .await;
}

const FAMILY: &str = "CREATE TABLE parent (id INT PRIMARY KEY, v INT);
    CREATE TABLE t (id INT PRIMARY KEY, parent INT, v INT,
        FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE loose (id INT PRIMARY KEY, parent INT,
        FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE SET NULL ON UPDATE CASCADE)";

/// MariaDB, and MySQL before 9.6, log the change of the parent only.
#[tokio::test(flavor = "multi_thread")]
async fn cascades_that_the_source_does_not_log_happen_at_the_target() {
    Bed::each(FAMILY, async |mut bed| {
        let parent = table("parent", &["id int(11)!", "v int(11)"], &[0]);
        let t = table("t", &["id int(11)!", "parent int(11)", "v int(11)"], &[0]);
        let loose = table("loose", &["id int(11)!", "parent int(11)"], &[0]);
        bed.commit(
            1,
            vec![
                // The source may have had its checks off.
                insert(&t, &["10", "1", "0"]),
                insert(&parent, &["1", "0"]),
                insert(&parent, &["2", "0"]),
                insert(&t, &["20", "2", "0"]),
                insert(&loose, &["1", "1"]),
                insert(&loose, &["2", "2"]),
            ],
        )
        .await;
        bed.commit(
            2,
            vec![change(&parent, &["2", "0"], &["3", "1"]), change(&t, &["20", "3", "0"], &["20", "3", "9"])],
        )
        .await;
        assert_eq!(bed.rows(ALL).await, ["10|1|0", "20|3|9"]);
        bed.commit(3, vec![delete(&parent, &[(0, "1")]), insert(&t, &["30", "3", "0"])]).await;
        assert_eq!(bed.rows(ALL).await, ["20|3|9", "30|3|0"]);
        assert_eq!(bed.rows("SELECT * FROM loose ORDER BY 1").await, ["1|~", "2|3"]);
        // An emptied parent takes no children along: the source says what became of them.
        bed.commit(4, vec![truncate(&parent), insert(&parent, &["3", "7"])]).await;
        assert_eq!(bed.rows(ALL).await, ["20|3|9", "30|3|0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_deletes_stamp_the_row_and_a_new_one_revives_it() {
    let map = MapConfig {
        from: "app.t".into(),
        to: "t".into(),
        columns: vec![],
        delete: DeletePolicy::Soft("gone".into()),
    };
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, v INT, gone DATETIME(3))";
    let mut bed = Bed::with(ServerOptions::default(), setup, &[map], true).await;
    let t = table("t", &["id int(11)!", "v int(11)"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "1"]), insert(&t, &["2", "2"])]).await;
    bed.commit(2, vec![delete(&t, &[(0, "1")]), delete(&t, &[(0, "2")])]).await;
    assert_eq!(bed.rows(ALL).await, ["1|1|2023-11-14 22:13:20.123", "2|2|2023-11-14 22:13:20.123"]);
    bed.commit(3, vec![insert(&t, &["1", "5"])]).await;
    assert_eq!(bed.rows(ALL).await, ["1|5|~", "2|2|2023-11-14 22:13:20.123"]);
}
