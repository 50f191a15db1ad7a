//! Every type by its canonical text, with extremes, and what a target cannot hold.

use rowbridge_tests::mariadb::Product;

use super::*;

/// Name, type, texts, and how the server is asked for the value so that nothing is lost.
const TYPES: &[(&str, &[&str], &str)] = &[
    ("tinyint(4)", &["-128", "127", "0"], "c"),
    ("int(10) unsigned", &["4294967295"], "c"),
    ("bigint(20)", &["-9223372036854775808", "9223372036854775807", "9007199254740993"], "c"),
    ("bigint(20) unsigned", &["18446744073709551615"], "c"),
    (
        "decimal(65,30)",
        &[
            "99999999999999999999999999999999999.999999999999999999999999999999",
            "-0.000000000000000000000000000001",
        ],
        "c",
    ),
    ("decimal(10,2)", &["-0.50", "12345678.90"], "c"),
    ("bit(1)", &["0", "1"], "LPAD(BIN(c), 1, '0')"),
    (
        "bit(64)",
        &[
            "1111111111111111111111111111111111111111111111111111111111111111",
            "1000000000000000000000000000000000000000000000000000000000000001",
        ],
        "LPAD(BIN(c), 64, '0')",
    ),
    ("year(4)", &["0000", "1901", "2155"], "c"),
    ("date", &["0000-00-00", "2024-00-10", "2024-02-31", "9999-12-31"], "c"),
    ("datetime(6)", &["0000-00-00 00:00:00.000000", "9999-12-31 23:59:59.999999"], "c"),
    ("datetime", &["2024-02-31 01:02:03"], "c"),
    ("timestamp(3)", &["1970-01-01 00:00:01.001+00", "2038-01-19 03:14:07.999+00"], "CONCAT(c, '+00')"),
    ("time(6)", &["-838:59:59.000000", "838:59:58.999999", "00:00:00.000000", "-00:00:00.000001"], "c"),
    ("char(5)", &["", "ab", "äöü"], "c"),
    (
        "varchar(50)",
        &["", " a ", "it's \\ \"quoted\" -- ; /*", "line\nend\t\u{1}", "\u{1F600}\u{10FFFF}"],
        "c",
    ),
    ("longtext", &["", "null", "NULL"], "c"),
    ("binary(3)", &["\\x000000", "\\xff2700"], "CONCAT('\\\\x', LOWER(HEX(c)))"),
    ("varbinary(20)", &["\\x", "\\x00", "\\x2727c3285ce327", "\\x20"], "CONCAT('\\\\x', LOWER(HEX(c)))"),
    ("longblob", &["\\x", "\\x000a0d1a225c27"], "CONCAT('\\\\x', LOWER(HEX(c)))"),
    ("enum('a','B','it''s')", &["a", "B", "it's", ""], "c"),
    ("set('a','b','c')", &["", "a,c", "a,b,c"], "c"),
    (
        "point",
        &["0101000000000000000000f03f0000000000000040"],
        "CONCAT(LEFT('01', 2), LOWER(MID(HEX(c), 11)))",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_value_arrives_and_is_found_again() {
    Bed::each("SET sql_mode = ''; CREATE TABLE t (x INT)", async |mut bed| {
        let mut offset = 0;
        for (n, (type_name, texts, ask)) in TYPES.iter().enumerate() {
            let name = format!("v{n}");
            // In a table that is made for it, and in one without key where every value must be found by itself.
            let keyed = table(&name, &["id int(11)!", &format!("c {type_name}")], &[0]);
            let bare = table(&format!("bare{n}"), &[&format!("c {type_name}")], &[]);
            let ids: Vec<String> = (0..=texts.len()).map(|i| i.to_string()).collect();
            let mut changes = Vec::new();
            for (id, text) in ids.iter().zip(texts.iter().chain(&["~"])) {
                changes.push(insert(&keyed, &[id, text]));
                changes.push(insert(&bare, &[text]));
            }
            offset += 1;
            bed.commit(offset, changes).await;
            let mut expected: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            expected.push("~".into());
            assert_eq!(
                bed.rows(&format!("SELECT {ask} FROM {name} ORDER BY id")).await,
                expected,
                "{type_name}"
            );
            // Written once more over itself, then each deleted by its own value.
            let again = ids.iter().zip(texts.iter()).map(|(id, text)| update(&keyed, &[id, text])).collect();
            offset += 1;
            bed.commit(offset, again).await;
            assert_eq!(
                bed.rows(&format!("SELECT {ask} FROM {name} ORDER BY id")).await,
                expected,
                "{type_name}"
            );
            for (left, text) in (0..expected.len()).rev().zip(&expected) {
                offset += 1;
                bed.commit(offset, vec![delete(&bare, &[(0, text)])]).await;
                let count = format!("SELECT COUNT(*) FROM bare{n}");
                assert_eq!(bed.rows(&count).await, [left.to_string()], "{type_name} {text}");
            }
        }
        assert!(offset > 50);
    })
    .await;
}

/// As keys: found in sets, by updates, and swept by ranges.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_key_is_found() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let mut offset = 0;
        for (n, (type_name, texts, ask)) in TYPES.iter().enumerate() {
            if ["longtext", "longblob", "point"].contains(type_name) {
                continue;
            }
            let texts: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
            let key = table(&format!("k{n}"), &[&format!("c {type_name}!"), "v int(11)"], &[0]);
            let pair =
                table(&format!("p{n}"), &[&format!("c {type_name}!"), "d int(11)!", "v int(11)"], &[0, 1]);
            offset += 1;
            let rows = texts.iter().flat_map(|text| {
                [
                    insert(&key, &[text, "1"]),
                    insert(&pair, &[text, "1", "1"]),
                    insert(&pair, &[text, "2", "1"]),
                ]
            });
            bed.commit(offset, rows.collect()).await;
            offset += 1;
            let rows = texts.iter().flat_map(|text| {
                [
                    partial(&key, &[], &[(0, text), (1, "2")]),
                    update(&pair, &[text, "1", "2"]),
                    delete(&pair, &[(0, text), (1, "2")]),
                ]
            });
            bed.commit(offset, rows.collect()).await;
            let mut expected: Vec<String> = texts.iter().map(|text| format!("{text}|2")).collect();
            expected.sort();
            for name in ["k", "p"] {
                let mut found = bed.rows(&format!("SELECT {ask}, v FROM {name}{n}")).await;
                found.sort();
                assert_eq!(found, expected, "{type_name} {name}");
            }
            offset += 1;
            bed.commit(offset, texts.iter().map(|text| delete(&key, &[(0, text)])).collect()).await;
            assert_eq!(bed.rows(&format!("SELECT COUNT(*) FROM k{n}")).await, ["0"], "{type_name}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_keep_their_bits() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let t = table("f", &["id int(11)!", "f float", "d double"], &[0]);
        // MariaDB has no -0, which has a test of its own.
        let zero = if bed.server.product() == Product::MariaDb { "0" } else { "-0" };
        let singles = ["0.1", "3.4028235e+38", "1e-45", "16777216", zero, "1.17549435e-38", "8388609", "0.3"];
        let doubles =
            ["0.1", "1.7976931348623157e+308", "5e-324", "0.30000000000000004", zero, "1e+23", "1e22", "2.5"];
        let ids: Vec<String> = (0..8).map(|i| i.to_string()).collect();
        let rows = (0..8).map(|i| insert(&t, &[&ids[i], singles[i], doubles[i]])).collect();
        bed.commit(1, rows).await;
        let same = |found: f64, sent: f64| found.to_bits() == sent.to_bits();
        // The binary protocol sends the bits.
        let found: Vec<(f32, f64)> = bed.conn.exec("SELECT f, d FROM f ORDER BY id", ()).await.unwrap();
        for (i, (single, double)) in found.into_iter().enumerate() {
            let sent = singles[i].parse::<f32>().unwrap();
            assert!(same(single.into(), sent.into()), "{} came as {single}", singles[i]);
            assert!(same(double, doubles[i].parse().unwrap()), "{} came as {double}", doubles[i]);
        }
        let bare = table("g", &["f float", "d double"], &[]);
        let rows = (0..8).map(|i| insert(&bare, &[singles[i], doubles[i]])).collect();
        bed.commit(2, rows).await;
        let gone = (0..8).map(|i| delete(&bare, &[(0, singles[i]), (1, doubles[i])])).collect();
        bed.commit(3, gone).await;
        assert_eq!(bed.rows("SELECT COUNT(*) FROM g").await, ["0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_found_again_by_its_meaning() {
    Bed::each("CREATE TABLE j (doc JSON); CREATE TABLE t (x INT)", async |mut bed| {
        let kind = bed
            .rows("SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_NAME = 'j' AND TABLE_SCHEMA = 'app'")
            .await
            .remove(0);
        let j = table("j", &[&format!("doc {kind}@utf8mb4_bin")], &[]);
        let texts = [r#"{"a": 1, "b": [1, 2, {"c": "it's \\ \u0001"}]}"#, r#""text""#, "null", "1.5", "[]"];
        bed.commit(1, texts.iter().map(|text| insert(&j, &[text])).collect()).await;
        bed.commit(2, texts.iter().take(4).map(|text| delete(&j, &[(0, text)])).collect()).await;
        assert_eq!(bed.rows("SELECT doc FROM j").await, ["[]"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_cannot_hold_names_table_column_and_key() {
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, l VARCHAR(9) CHARACTER SET latin1, n TINYINT NOT NULL DEFAULT 0,
        d DECIMAL(5,2), c VARCHAR(3), e ENUM('a','b') NOT NULL DEFAULT 'a', ts DATETIME(2), x INT CHECK (x < 10))";
    Bed::each(setup, async |mut bed| {
        let t = table(
            "t",
            &[
                "id int(11)!",
                "l varchar(9)",
                "n int(11)",
                "d decimal(20,6)",
                "c varchar(9)",
                "e enum('a','b','c')",
                "ts datetime(6)",
                "x int(11)",
            ],
            &[0],
        );
        bed.commit(
            1,
            vec![insert(&t, &["1", "é", "1", "1.50", "abc", "a", "2024-01-01 00:00:00.120000", "1"])],
        )
        .await;
        assert_eq!(bed.rows("SELECT HEX(l), d, ts FROM t").await, ["E9|1.50|2024-01-01 00:00:00.12"]);
        for (column, value) in [
            ("l", "\u{1F600}"),
            ("n", "128"),
            ("n", "~"),
            ("d", "1.005000"),
            ("d", "1000"),
            ("c", "abcd"),
            ("c", "abc "),
            ("e", "c"),
            ("e", "A"),
            ("ts", "2024-01-01 00:00:00.123000"),
        ] {
            let at = t.columns.iter().position(|c| c.name == column).unwrap();
            let mut cells = ["7", "a", "1", "1", "a", "a", "~", "1"];
            cells[at] = value;
            let good = insert(&t, &["6", "a", "1", "1", "a", "a", "~", "1"]);
            let failing = bed.refused(2, vec![good, insert(&t, &cells)]).await;
            assert_eq!(failing.table, "app.t");
            assert_eq!(failing.column.as_deref(), Some(column), "{column} {value}: {}", failing.reason);
            assert_eq!(failing.key, ["id=7"]);
            assert_eq!(failing.position, Position::new(1, 2, 2));
        }
        let failing = bed.refused(2, vec![insert(&t, &["7", "a", "1", "1", "a", "a", "~", "10"])]).await;
        assert!(failing.reason.contains("check constraint"), "{}", failing.reason);
        // The row is mended at the source before it comes again.
        bed.commit(2, vec![insert(&t, &["7", "a", "1", "1", "a", "b", "~", "9"])]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_beyond_max_allowed_packet_is_named_and_one_near_it_arrives() {
    let options = ServerOptions::default().set("max_allowed_packet", "1M");
    let mut bed = Bed::with(options, "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)", &[], true).await;
    let t = table("t", &["id int(11)!", "b longblob"], &[0]);
    let hex = |bytes: usize| format!("\\x{}", "27".repeat(bytes));
    // Every byte is a quote, which is doubled.
    bed.commit(1, (1..6).map(|id| insert(&t, &[&id.to_string(), &hex(500_000)])).collect()).await;
    assert_eq!(bed.rows("SELECT COUNT(*), SUM(LENGTH(b)) FROM t").await, ["5|2500000"]);
    let failing = bed.refused(2, vec![insert(&t, &["8", &hex(1 << 20)])]).await;
    assert_eq!(failing.key, ["id=8"]);
    assert!(failing.reason.contains("SET GLOBAL max_allowed_packet"), "{}", failing.reason);
}

/// MariaDB would make 0 of it, and say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_negative_zero_is_kept_or_refused() {
    Bed::each("CREATE TABLE t (id INT PRIMARY KEY, f FLOAT, d DOUBLE, i INT)", async |mut bed| {
        let t = table("t", &["id int(11)!", "f float", "d double", "i int(11)"], &[0]);
        bed.commit(1, vec![insert(&t, &["1", "0", "0", "1"])]).await;
        match bed.server.product() {
            Product::MySql => {
                bed.commit(2, vec![insert(&t, &["2", "-0", "-0", "1"]), update(&t, &["1", "-0", "-0", "1"])])
                    .await;
                let rows = bed.rows("SELECT CONCAT_WS(' ', f, d) FROM t").await;
                assert_eq!(rows, ["-0 -0", "-0 -0"]);
            }
            Product::MariaDb => {
                for (cells, column) in [(["2", "-0", "0", "1"], "f"), (["1", "0", "-0", "1"], "d")] {
                    let change = if cells[0] == "1" { update(&t, &cells) } else { insert(&t, &cells) };
                    let failing = bed.refused(2, vec![change]).await;
                    assert_eq!(failing.table, "app.t");
                    assert_eq!(failing.column.as_deref(), Some(column));
                    assert_eq!(failing.key, [format!("id={}", cells[0])]);
                    assert!(failing.reason.contains("negative zero"), "{}", failing.reason);
                }
                // The reason for it: whatever a statement writes.
                bed.run("REPLACE INTO t VALUES (3, '-0', '-0', 1), (4, -0e0, 0e0 * -1, 1)").await;
                let rows = bed.rows("SELECT CONCAT_WS(' ', f, d) FROM t").await;
                assert_eq!(rows, ["0 0", "0 0", "0 0"]);
            }
        }
    })
    .await;
}
