//! Rows of PostgreSQL and SQLite.

use rowbridge_schema::cell::Class;
use rowbridge_schema::config::{ColumnMap, DeletePolicy};
use rowbridge_schema::types::Form;
use rowbridge_schema::wire::{KeyRange, Sweep};
use rowbridge_tests::mariadb::Product;

use super::*;

fn foreign(dialect: Dialect, name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    let column = |text: &&str| {
        let (name, type_name) = text.split_once(' ').unwrap();
        let mut column = Column::new(name, type_name.trim_end_matches('!'));
        column.not_null = type_name.ends_with('!');
        column
    };
    let name = match dialect {
        Dialect::Sqlite => TableName::bare(name),
        _ => TableName::new("public", name),
    };
    let columns = columns.iter().map(column).collect();
    TableDef { dialect, name, columns, key: key.to_vec(), types: vec![], options: vec![] }
}

fn postgres(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    foreign(Dialect::Postgres, name, columns, key)
}

fn sqlite(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    foreign(Dialect::Sqlite, name, columns, key)
}

/// An insert whose cells may carry a class: `"r:1.5"`.
fn classed(def: &TableDef, cells: &[&str]) -> Change {
    let mut change = insert(def, cells);
    for (_, cell) in &mut change.new {
        let text = cell.as_str().unwrap_or_default().to_owned();
        if let Some((class, rest)) =
            text.split_once(':').and_then(|(tag, rest)| Some((Class::from_tag(tag)?, rest)))
        {
            *cell = Cell::Classed(class, rest.to_owned().into());
        }
    }
    change
}

const DECLARED: &str =
    "SELECT COLUMN_NAME, REGEXP_REPLACE(COLUMN_TYPE, 'int[(][0-9]+[)]', 'int'), IS_NULLABLE,
    REGEXP_REPLACE(COLLATION_NAME, '0900_bin', 'nopad_bin') FROM information_schema.COLUMNS
    WHERE TABLE_SCHEMA = 'app' AND TABLE_NAME = 'v' ORDER BY ORDINAL_POSITION";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_postgres_is_made_and_its_rows_are_converted() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let mut t = postgres(
            "v",
            &[
                "k text!",
                "n numeric",
                "d numeric(10,2)",
                "f double precision",
                "at timestamp with time zone",
                "b bytea",
                "ok boolean",
                "u uuid",
                "i interval",
                "c character(4)",
                "g integer",
            ],
            &[0],
        );
        t.columns[10].generated = Some("(1 + 1)".into());
        let row = |k: &'static str| {
            let cells = [
                k,
                "1.000",
                "1.50",
                "1e+300",
                "2024-01-31 00:00:00.5+00",
                "\\x00ff",
                "t",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "1 year -2 mons +3 days -04:05:06.000007",
                "ab  ",
            ];
            cells.to_vec()
        };
        bed.commit(1, vec![insert(&t, &row("a")), insert(&t, &row("A")), insert(&t, &row("a "))]).await;
        assert_eq!(
            bed.rows(DECLARED).await,
            [
                "k|varchar(768)|NO|utf8mb4_nopad_bin",
                "n|longtext|YES|utf8mb4_nopad_bin",
                "d|decimal(10,2)|YES|~",
                "f|double|YES|~",
                "at|datetime(6)|YES|~",
                "b|longblob|YES|~",
                "ok|tinyint|YES|~",
                "u|char(36)|YES|ascii_bin",
                "i|varchar(80)|YES|ascii_bin",
                "c|char(4)|YES|utf8mb4_nopad_bin",
            ]
        );
        let stored = "SELECT CONCAT('<', k, '>'), n, d, f, at, HEX(b), ok, u, i, c FROM v ORDER BY k";
        let rest = "1.000|1.50|1e300|2024-01-31 00:00:00.500000|00FF|1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|\
            1 year -2 mons +3 days -04:05:06.000007|ab";
        assert_eq!(bed.rows(stored).await, ["<A>", "<a>", "<a >"].map(|k| format!("{k}|{rest}")));
        // Rows are found by their keys, which are three.
        bed.commit(2, vec![partial(&t, &[(0, "a ")], &[(0, "b"), (2, "2.00")]), delete(&t, &[(0, "A")])])
            .await;
        bed.commit(3, vec![update(&t, &[&["a", "~", "~", "~"], &row("a")[4..]].concat())]).await;
        assert_eq!(bed.rows("SELECT k, n, d, f FROM v ORDER BY k").await, ["a|~|~|~", "b|1.000|2.00|1e300"]);
        bed.commit(4, vec![truncate(&t)]).await;
        assert_eq!(bed.rows("SELECT COUNT(*) FROM v").await, ["0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_sqlite_is_made_and_its_rows_are_converted() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let t =
            sqlite("v", &["id INTEGER", "t TEXT", "r REAL", "b BLOB", "n NUMERIC", "x ", "l BOOLEAN"], &[0]);
        let nul = "nul\0 \u{1F600}";
        bed.commit(
            1,
            vec![
                classed(&t, &["-9223372036854775808", nul, "1.0", "00ff", "r:0.1", "t:it's", "1"]),
                classed(&t, &["1", "~", "1e300", "", "t:007", "~", "~"]),
            ],
        )
        .await;
        assert_eq!(
            bed.rows(DECLARED).await,
            [
                "id|bigint|NO|~",
                "t|longtext|YES|utf8mb4_nopad_bin",
                "r|double|YES|~",
                "b|longblob|YES|~",
                "n|longtext|YES|utf8mb4_nopad_bin",
                "x|longtext|YES|utf8mb4_nopad_bin",
                "l|smallint|YES|~",
            ]
        );
        assert_eq!(
            bed.rows("SELECT id, t, r, HEX(b), n, x, l FROM v ORDER BY id").await,
            [format!("-9223372036854775808|{nul}|1|00FF|0.1|it's|1"), "1|~|1e300||007|~|~".to_owned()]
        );
        for (cells, column, reason) in [
            (["r:1.5", "~", "~", "~", "~", "~", "~"], "id", "more digits"),
            (["2", "b:00", "~", "~", "~", "~", "~"], "t", "class BLOB"),
            (["2", "u:ff", "~", "~", "~", "~", "~"], "t", "not valid UTF-8"),
            (["2", "~", "Infinity", "~", "~", "~", "~"], "r", "infinite"),
            (["2", "~", "t:abc", "~", "~", "~", "~"], "r", "no value of the column's type"),
            (["2", "~", "~", "i:1", "~", "~", "~"], "b", "class INTEGER"),
            (["2", "~", "~", "~", "~", "i:1", "~"], "x", "class INTEGER"),
            (["2", "~", "~", "~", "~", "~", "t:yes"], "l", "no value of the column's type"),
        ] {
            let failing = bed.refused(2, vec![classed(&t, &cells)]).await;
            assert_eq!((failing.table.as_str(), failing.column.as_deref()), ("v", Some(column)));
            assert_eq!(failing.key, [format!("id={}", cells[0].trim_start_matches("r:"))]);
            assert!(failing.reason.contains(reason), "{}", failing.reason);
        }
        // SQLite takes NULL in a primary key that is no rowid.
        let k = sqlite("k", &["id TEXT", "v TEXT"], &[0]);
        let failing = bed.refused(2, vec![insert(&k, &["~", "x"])]).await;
        assert!(failing.reason.contains("NULL"), "{}", failing.reason);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_names_column_and_key_and_no_value() {
    let setup =
        "CREATE TABLE t (id INT PRIMARY KEY, n DECIMAL(10,2), d DATE, at DATETIME(3), ts TIMESTAMP(6) NULL,
        s VARCHAR(5) CHARACTER SET utf8mb3, f FLOAT, c CHAR(3), tm TIME(6), u BIGINT UNSIGNED, j BINARY(2))";
    Bed::each(setup, async |mut bed| {
        let names = ["id", "n", "d", "at", "ts", "s", "f", "c", "tm", "u", "j"];
        let columns = [
            "id integer",
            "n numeric",
            "d date",
            "at timestamp without time zone",
            "ts timestamp with time zone",
            "s text",
            "f real",
            "c text",
            "tm interval",
            "u bigint",
            "j bytea",
        ];
        let t = postgres("t", &columns, &[0]);
        let good = [
            "1",
            "1.5",
            "9999-12-31",
            "0001-01-01 00:00:00.123",
            "2037-12-31 23:59:59.999999+00",
            "abc",
            "0.1",
            "abc",
            "-838:59:58.999999",
            "1",
            "\\x0102",
        ];
        bed.commit(1, vec![insert(&t, &good)]).await;
        assert_eq!(
            bed.rows("SELECT n, d, at, ts, f, tm, HEX(j) FROM t").await,
            ["1.50|9999-12-31|0001-01-01 00:00:00.123|2037-12-31 23:59:59.999999|0.1|-838:59:58.999999|0102"]
        );
        for (column, value, reason) in [
            ("id", "2147483648", "out of range"),
            ("n", "0.125", "more digits after the point"),
            ("n", "NaN", "NaN"),
            ("n", "-Infinity", "infinite"),
            ("n", "123456789.00", "out of range"),
            ("d", "0044-03-15 BC", "the year lies outside"),
            ("d", "10000-01-01", "the year lies outside"),
            ("d", "infinity", "infinite"),
            ("at", "2024-01-01 00:00:00.1234", "finer fraction"),
            ("at", "4713-01-01 00:00:00 BC", "the year lies outside"),
            ("ts", "1970-01-01 00:00:00+00", "out of range"),
            ("ts", "2106-02-08 00:00:00+00", ""),
            ("ts", "-infinity", "infinite"),
            ("s", "\u{1F600}", "character set lacks"),
            ("s", "abcdef", "longer than the column allows"),
            ("f", "NaN", "NaN"),
            ("f", "Infinity", "infinite"),
            ("c", "ab ", "ends with blanks"),
            ("tm", "1 day", "days or months"),
            ("tm", "839:00:00", "out of range"),
            ("u", "-1", "out of range"),
            ("j", "\\x01", "shorter than the column"),
        ] {
            let at = names.iter().position(|name| *name == column).unwrap();
            let mut cells = good;
            cells[0] = "7";
            cells[at] = value;
            let mut other = good;
            other[0] = "6";
            let failing = bed.refused(2, vec![insert(&t, &other), insert(&t, &cells)]).await;
            assert_eq!(failing.table, "public.t");
            assert_eq!(failing.column.as_deref(), Some(column), "{column} {value}: {}", failing.reason);
            assert_eq!(failing.key, [format!("id={}", cells[0])]);
            assert_eq!(failing.position, Position::new(1, 2, 2));
            assert!(failing.reason.contains(reason), "{column} {value}: {}", failing.reason);
            let telling = value.len() > 4 && failing.reason.contains(value);
            assert!(!telling, "no value in {}", failing.reason);
        }
        if bed.server.product() == Product::MariaDb {
            let mut cells = good;
            (cells[0], cells[6]) = ("7", "-0");
            let failing = bed.refused(2, vec![insert(&t, &cells)]).await;
            assert!(failing.reason.contains("negative zero"), "{}", failing.reason);
        }
    })
    .await;
}

/// Each row of a table without key is found by all its values.
#[tokio::test(flavor = "multi_thread")]
async fn every_converted_value_is_found_again() {
    const TYPES: &[(&str, &[&str])] = &[
        ("smallint", &["-32768", "32767"]),
        ("bigint", &["-9223372036854775808", "9223372036854775807"]),
        ("numeric", &["1.000", "-0.00000000000000000001", "NaN", "-Infinity"]),
        ("numeric(10,2)", &["12345678.90", "-0.05"]),
        ("numeric(3,-2)", &["12300"]),
        ("numeric(3,5)", &["0.00123"]),
        ("real", &["0.1", "3.4028235e+38", "1e-45"]),
        ("double precision", &["0.30000000000000004", "5e-324", "1.7976931348623157e+308"]),
        ("money", &["-$92,233,720,368,547,758.08"]),
        ("boolean", &["t", "f"]),
        ("text", &["", " ", "a", "A", "\u{e4}", "a\u{308}", "\u{1F600}\n\\'", "\u{1}"]),
        ("character varying(10)", &["ab  ", "\u{e4}\u{f6}\u{fc}"]),
        ("character(6)", &["ab    ", "      "]),
        ("bytea", &["\\x", "\\x00ff5c27"]),
        ("date", &["2024-02-29", "9999-12-31", "0001-01-01"]),
        ("time without time zone", &["24:00:00", "23:59:59.999999", "00:00:00"]),
        ("time with time zone", &["24:00:00-15:59:59", "12:34:56.789+05:30"]),
        ("timestamp without time zone", &["2024-02-29 12:00:00.123456", "0001-01-01 00:00:00"]),
        ("timestamp with time zone", &["2024-02-29 12:00:00.1+00", "1900-01-01 00:00:00+00"]),
        ("interval", &["1 year -2 mons +3 days -04:05:06.000007", "-178000000 years"]),
        ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("json", &["{\"a\": 1, \"a\":  2.50, \"\\u0000\": 1e400}"]),
        ("bit(5)", &["01010"]),
        ("bit varying(70)", &["", "1"]),
        ("oid", &["4294967295"]),
        ("xid8", &["18446744073709551615"]),
        ("int4range", &["empty", "[1,5)"]),
        ("text[]", &["{NULL,\"NULL\",\"\",\"a,b\",\"q\\\"\\\\\"}"]),
    ];
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let mut offset = 0;
        for (n, (type_name, texts)) in TYPES.iter().enumerate() {
            let bare = postgres(&format!("bare{n}"), &[&format!("c {type_name}")], &[]);
            offset += 1;
            bed.commit(offset, texts.iter().map(|text| insert(&bare, &[text])).collect()).await;
            for (left, text) in (0..texts.len()).rev().zip(texts.iter()) {
                offset += 1;
                bed.commit(offset, vec![delete(&bare, &[(0, text)])]).await;
                let count = format!("SELECT COUNT(*) FROM bare{n}");
                assert_eq!(bed.rows(&count).await, [left.to_string()], "{type_name} {text:?}");
            }
        }
    })
    .await;
}

/// Whoever makes a table must not make one row of several.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_target_takes_for_one_are_refused() {
    let setup = "CREATE TABLE t (k VARCHAR(50) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
        CREATE TABLE padded (k VARCHAR(50) COLLATE utf8mb4_bin PRIMARY KEY, v INT);
        CREATE TABLE fixed (k VARCHAR(50) COLLATE utf8mb4_bin PRIMARY KEY, v INT);
        CREATE TABLE ids (k CHAR(36) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
        CREATE TABLE own (k VARCHAR(50) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)";
    Bed::each(setup, async |mut bed| {
        let t = postgres("t", &["k text", "v integer"], &[0]);
        let failing = bed.refused(1, vec![insert(&t, &["a", "1"]), insert(&t, &["A", "2"])]).await;
        assert_eq!((failing.table.as_str(), failing.column.as_deref()), ("public.t", Some("k")));
        assert!(
            failing.reason.contains("utf8mb4_general_ci takes more texts for equal"),
            "{}",
            failing.reason
        );
        let (_, statement) = failing.reason.split_once("; run: ").unwrap();
        bed.run(statement).await;
        bed.commit(1, vec![insert(&t, &["a", "1"]), insert(&t, &["A", "2"]), insert(&t, &["a ", "3"])]).await;
        assert_eq!(bed.rows("SELECT v FROM t ORDER BY k").await, ["2", "1", "3"]);

        // Blanks at the end are the only thing that this one does not see.
        let padded = postgres("padded", &["k text", "v integer"], &[0]);
        bed.commit(2, vec![insert(&padded, &["a", "1"]), insert(&padded, &["A", "2"])]).await;
        let failing = bed.refused(3, vec![insert(&padded, &["a ", "3"])]).await;
        assert_eq!(
            (failing.column.as_deref(), failing.key.as_slice()),
            (Some("k"), &["k=a ".to_owned()][..])
        );
        assert!(failing.reason.contains("ends with a blank"), "{}", failing.reason);
        assert_eq!(bed.rows("SELECT k, v FROM padded ORDER BY k").await, ["A|2", "a|1"]);
        // Nor does PostgreSQL see those of a `char(n)`.
        let fixed = postgres("fixed", &["k character(4)", "v integer"], &[0]);
        bed.commit(3, vec![insert(&fixed, &["a   ", "1"]), update(&fixed, &["a   ", "2"])]).await;
        assert_eq!(bed.rows("SELECT v FROM fixed").await, ["2"]);
        // Nothing of a UUID gets lost.
        let ids = postgres("ids", &["k uuid", "v integer"], &[0]);
        bed.commit(4, vec![insert(&ids, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "1"])]).await;
        // MySQL's own texts are compared by their collation.
        let own = table("own", &["k varchar(50)@utf8mb4_bin!", "v int(11)"], &[0]);
        let failing = bed.refused(5, vec![insert(&own, &["a", "1"])]).await;
        assert!(
            failing.reason.contains("MODIFY COLUMN `k` varchar(50) CHARACTER SET utf8mb4"),
            "{}",
            failing.reason
        );
        let own = table("own", &["k varchar(50)@utf8mb4_general_ci!", "v int(11)"], &[0]);
        bed.commit(5, vec![insert(&own, &["a", "1"])]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_beyond_an_index_are_refused_and_wide_ones_are_found() {
    Bed::each("CREATE TABLE t (x INT)", async |mut bed| {
        let k = postgres("k", &["a text", "b bytea", "c uuid", "v integer"], &[0, 1, 2]);
        let long = "\u{1F600}".repeat(256);
        let bytes = format!("\\x{}", "27".repeat(1024));
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        bed.commit(1, vec![insert(&k, &[&long, &bytes, id, "1"])]).await;
        bed.commit(2, vec![update(&k, &[&long, &bytes, id, "2"])]).await;
        assert_eq!(bed.rows("SELECT v FROM k").await, ["2"]);
        let failing = bed.refused(3, vec![insert(&k, &[&format!("{long}x"), &bytes, id, "1"])]).await;
        assert!(failing.reason.contains("longer than the column allows"), "{}", failing.reason);
        assert_eq!(failing.column.as_deref(), Some("a"));
        // 80 columns of 255 characters are more than a row has beside its long columns.
        let names: Vec<String> = (0..80).map(|n| format!("c{n} character varying(255)")).collect();
        let mut columns = vec!["id integer"];
        columns.extend(names.iter().map(String::as_str));
        let wide = postgres("wide", &columns, &[0]);
        let value = "\u{e4}".repeat(255);
        let mut cells = vec!["1"];
        cells.resize(81, &value);
        bed.commit(3, vec![insert(&wide, &cells)]).await;
        assert_eq!(bed.rows("SELECT CHAR_LENGTH(c0), CHAR_LENGTH(c79) FROM wide").await, ["255|255"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_says_what_to_run() {
    let setup =
        "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE dates (id INT PRIMARY KEY, v DATE NOT NULL)";
    let mut bed = Bed::with(ServerOptions::default(), setup, &[], false).await;
    let one = |name: &str, v: &str| postgres(name, &["id integer!", v], &[0]);
    let mut reason = async |def: &TableDef| bed.refused(1, vec![insert(def, &["1", "1"])]).await.reason;
    let missing = reason(&one("nowhere", "v text")).await;
    assert!(
        missing.contains(
            "CREATE TABLE IF NOT EXISTS `app`.`nowhere` (`id` int NOT NULL, `v` longtext CHARACTER SET utf8mb4 COLLATE \
             utf8mb4_nopad_bin NULL, PRIMARY KEY (`id`))"
        ),
        "{missing}"
    );
    let lacking = reason(&one("t", "v text")).await;
    assert!(
        lacking.ends_with("ADD COLUMN `v` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"),
        "{lacking}"
    );
    let other = reason(&one("dates", "v numeric(5,2)")).await;
    assert!(other.contains("values of type numeric(5,2) of PostgreSQL cannot be kept exactly"), "{other}");
    assert!(
        other.ends_with("run: ALTER TABLE `app`.`dates` MODIFY COLUMN `v` decimal(5,2) NOT NULL"),
        "{other}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_for_conversions_change_the_column() {
    let convert = |to: Option<&str>, form| ColumnMap::Convert { to: to.map(Into::into), form };
    let map = |from: &str, to: &str, columns: &[(&str, ColumnMap)]| MapConfig {
        from: from.into(),
        to: to.into(),
        columns: columns.iter().map(|(name, map)| ((*name).to_owned(), map.clone())).collect(),
        delete: DeletePolicy::Hard,
    };
    let maps = [
        map("public.p", "p", &[("f", convert(Some("g"), Form::Text)), ("at", convert(None, Form::Utc))]),
        map("s", "s", &[("x", convert(None, Form::Text))]),
        map("app.m", "m2", &[("d", convert(None, Form::NullIfZero)), ("k", convert(None, Form::Text))]),
    ];
    let mut bed = Bed::with(ServerOptions::default(), "CREATE TABLE t (x INT)", &maps, true).await;
    let p = postgres("p", &["id integer", "f double precision", "at timestamp(3) without time zone"], &[0]);
    bed.commit(1, vec![insert(&p, &["1", "NaN", "2024-01-01 00:00:00.5"]), insert(&p, &["2", "-0", "~"])])
        .await;
    assert_eq!(bed.rows("SELECT * FROM p ORDER BY id").await, ["1|NaN|2024-01-01 00:00:00.500", "2|-0|~"]);
    let s = sqlite("s", &["id INTEGER", "x "], &[0]);
    bed.commit(
        2,
        vec![classed(&s, &["1", "i:7"]), classed(&s, &["2", "r:1.5"]), classed(&s, &["3", "00ff"])],
    )
    .await;
    assert_eq!(bed.rows("SELECT x FROM s ORDER BY id").await, ["7", "1.5", "00ff"]);
    // Between servers of one kind only the columns that are named.
    let m = table("m", &["k int(11)!", "d date!", "v varchar(9)@utf8mb4_bin"], &[0]);
    bed.commit(3, vec![insert(&m, &["1", "0000-00-00", "x"]), insert(&m, &["2", "2024-01-01", "y"])]).await;
    assert_eq!(bed.rows("SELECT * FROM m2 ORDER BY k").await, ["1|~|x", "2|2024-01-01|y"]);
    let types =
        "SELECT COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_NAME = 'm2' AND TABLE_SCHEMA = 'app'";
    assert_eq!(bed.rows(types).await, ["varchar(768)", "date", "varchar(9)"]);
}

fn range(def: &TableDef, after: Option<&str>, upto: Option<&str>, sweep: Sweep) -> Chunk {
    let key = |text: &str| vec![text.to_owned()];
    Chunk {
        table: def.id(),
        clear: false,
        sweep: Some(sweep),
        prune: Some(KeyRange { after: after.map(key), upto: upto.map(key) }),
        skipped: vec![],
        done: upto.is_none(),
    }
}

/// A range of keys is one only where the target orders keys as the source does: integers, but no texts and no UUIDs.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_removes_what_was_deleted_meanwhile() {
    let setup = "CREATE TABLE t (x INT); CREATE TABLE plain (k LONGTEXT COLLATE utf8mb4_bin NOT NULL, v INT, KEY (k(50)))";
    Bed::each(setup, async |mut bed| {
        let native = bed.server.product() == Product::MariaDb;
        if native {
            bed.run("CREATE TABLE native (k UUID PRIMARY KEY, v INT)").await;
        }
        let mut offset = 0;
        for (name, type_name, keys) in [
            ("numbers", "bigint", ["-5", "3", "40", "500", "6000"]),
            // As a source with an English collation orders them.
            ("words", "text", ["a", "B", "c", "D", "e"]),
            ("plain", "text", ["a", "B", "c", "D", "e"]),
            (
                "native",
                "uuid",
                [
                    "00000000-0000-1000-8000-000000000009",
                    "10000000-0000-1000-8000-000000000008",
                    "20000000-0000-1000-8000-000000000007",
                    "30000000-0000-1000-8000-000000000006",
                    "40000000-0000-1000-8000-000000000005",
                ],
            ),
        ] {
            if name == "native" && !native {
                continue;
            }
            let t = postgres(name, &[&format!("k {type_name}"), "v integer"], &[0]);
            offset += 1;
            bed.commit(offset, keys.iter().map(|key| insert(&t, &[key, "0"])).collect()).await;
            // Two ranges; the second and the fourth row are gone at the source.
            let prev = bed.position().await;
            let first = range(&t, None, Some(keys[2]), Sweep::First);
            offset += 1;
            bed.apply(&delivery(prev).chunk(
                offset,
                first,
                &t,
                vec![read(&t, &[keys[0], "1"]), read(&t, &[keys[2], "1"])],
            ))
            .await;
            let prev = bed.position().await;
            let second = range(&t, Some(keys[2]), None, Sweep::Next);
            offset += 1;
            bed.apply(&delivery(prev).chunk(offset, second, &t, vec![read(&t, &[keys[4], "1"])])).await;
            let left: Vec<String> = [0, 2, 4].iter().map(|&at| format!("{}|1", keys[at])).collect();
            let order = if type_name == "bigint" { "k" } else { "CAST(k AS CHAR)" };
            assert_eq!(
                bed.rows(&format!("SELECT k, v FROM {name} ORDER BY LOWER({order}) + 0, LOWER({order})"))
                    .await,
                left,
                "{name}"
            );
        }
    })
    .await;
}
