//! Every value comes through as it was stored.

use proptest::prelude::*;
use rowbridge_schema::sqlite_type::{parse_hex, parse_real};
use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, StorageClass};
use rusqlite::types::{Value, ValueRef};

use super::{App, Log, brief};

/// What a target would store for a cell.
fn stored(cell: &Cell<'_>, natural: StorageClass) -> Value {
    let (class, text) = match cell {
        Cell::Null => return Value::Null,
        Cell::Text(text) => (natural, text),
        Cell::Classed(class, text) => (*class, text),
    };
    match class {
        StorageClass::Integer => Value::Integer(text.parse().unwrap()),
        StorageClass::Real => Value::Real(parse_real(text).unwrap()),
        StorageClass::Text => Value::Text(text.to_string()),
        // rusqlite's text is UTF-8: bytes stand in for what it cannot hold.
        StorageClass::Blob | StorageClass::RawText => Value::Blob(parse_hex(text).unwrap()),
    }
}

fn assert_same(a: ValueRef<'_>, b: ValueRef<'_>) {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => assert_eq!(a.to_bits(), b.to_bits()),
        (a, b) => assert_eq!(a, b),
    }
}

const SCHEMA: &str =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER, r REAL, t TEXT, b BLOB, n NUMERIC, x);
    CREATE TABLE s(id INTEGER PRIMARY KEY, i INTEGER, r REAL, t TEXT, b BLOB, n ANY, x ANY) STRICT";

const NATURAL: [StorageClass; 7] = [
    StorageClass::Integer,
    StorageClass::Integer,
    StorageClass::Real,
    StorageClass::Text,
    StorageClass::Blob,
    StorageClass::Integer,
    StorageClass::Blob,
];

/// Stores one value in each column of `t`, and compares the log with what the table says that it holds.
fn through(app: &App, log: &mut Log, value: &Value) {
    app.conn.execute("INSERT INTO t(i, r, t, b, n, x) VALUES(?1, ?1, ?1, ?1, ?1, ?1)", [value]).unwrap();
    app.conn.execute("UPDATE t SET id = id + 1000000", []).unwrap();
    app.conn.execute("DELETE FROM t WHERE id < 0", []).unwrap();
    let changes = log.changes();
    assert_eq!(changes.iter().map(|c| c.op).collect::<Vec<_>>(), [Op::Insert, Op::Update]);
    let mut statement = app.conn.prepare("SELECT * FROM t").unwrap();
    let mut rows = statement.query([]).unwrap();
    let row = rows.next().unwrap().unwrap();
    for change in &changes {
        for (i, natural) in NATURAL.iter().enumerate().skip(1) {
            assert_same((&stored(&change.new[i], *natural)).into(), row.get_ref(i).unwrap());
        }
    }
    drop(rows);
    app.run("DELETE FROM t");
    let deleted = log.changes();
    assert_eq!(deleted[0].old[1..], changes[0].new[1..]);
}

#[test]
fn extremes_come_through_bit_for_bit() {
    let app = App::new(SCHEMA);
    let mut log = Log::install(&app);
    for number in [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1] {
        through(&app, &mut log, &Value::Integer(number));
    }
    let reals = [
        0.0,
        -0.0,
        0.1 + 0.2,
        1.0,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_007_199_254_740_993.0,
        1.7976931348623157e308,
        2.225073858507201e-308,
    ];
    for number in reals {
        through(&app, &mut log, &Value::Real(number));
    }
    for text in ["", "a\0b", "ö\"'\\\n", "12", "1e5", " 7 ", "\u{10ffff}"] {
        through(&app, &mut log, &Value::Text(text.to_owned()));
    }
    through(&app, &mut log, &Value::Blob(vec![]));
    through(&app, &mut log, &Value::Blob((0..=255).collect()));
    through(&app, &mut log, &Value::Null);
}

#[test]
fn text_that_is_not_utf8_keeps_its_bytes() {
    let app = App::new(SCHEMA);
    let mut log = Log::install(&app);
    app.run("INSERT INTO t(t, x) VALUES(CAST(x'41ff00' AS TEXT), CAST(x'fe' AS TEXT))");
    let changes = log.changes();
    assert_eq!(changes[0].new[3], Cell::Classed(StorageClass::RawText, "41ff00".into()));
    assert_eq!(changes[0].new[6], Cell::Classed(StorageClass::RawText, "fe".into()));
}

#[test]
fn strict_tables_and_their_any_keep_classes() {
    let app = App::new(SCHEMA);
    let mut log = Log::install(&app);
    app.run("INSERT INTO s VALUES(1, 2, 3, 'four', x'05', '006', 7.5)");
    let changes = log.changes();
    assert_eq!(changes[0].def.options, ["STRICT"]);
    assert_eq!(changes[0].new[2], Cell::text("3.0"));
    assert_eq!(changes[0].new[5], Cell::Classed(StorageClass::Text, "006".into()));
}

#[test]
fn generated_columns_are_described_and_not_sent() {
    let app = App::new(
        "CREATE TABLE t(a INTEGER PRIMARY KEY, s AS (a * 2) STORED, \"b c\" TEXT, v AS (\"b c\" || '!'))",
    );
    let mut log = Log::install(&app);
    app.run("INSERT INTO t(a, \"b c\") VALUES(1, 'x')");
    let changes = log.changes();
    assert_eq!(brief(&changes), ["i t 1,x"]);
    let generated: Vec<_> = changes[0].def.columns.iter().map(|c| c.generated.as_deref()).collect();
    assert_eq!(generated, [None, Some("a * 2"), None, Some("\"b c\" || '!'")]);
}

#[test]
fn wide_rows_come_back_whole() {
    for columns in [31, 32, 33, 64, 400, 1_989] {
        let list: Vec<String> = (0..columns).map(|i| format!("k{i} INTEGER")).collect();
        let app = App::new(&format!(
            "CREATE TABLE keyed(id INTEGER PRIMARY KEY, {0}); CREATE TABLE keyless({0});
             CREATE TABLE u(id INTEGER PRIMARY KEY, {0}, UNIQUE(k1))",
            list.join(",")
        ));
        let mut log = Log::install(&app);
        let numbers: Vec<String> = (0..columns).map(|i| i.to_string()).collect();
        let numbers = numbers.join(",");
        app.run(&format!("INSERT INTO keyed VALUES(9, {numbers}); UPDATE keyed SET id = 10"));
        app.run(&format!(
            "INSERT INTO keyless VALUES({numbers}); UPDATE keyless SET k0 = 7; DELETE FROM keyless"
        ));
        app.run(&format!("INSERT INTO u VALUES(1, {numbers}); REPLACE INTO u VALUES(2, {numbers})"));
        let expected = [
            format!("i keyed 9,{numbers}"),
            format!("u keyed [9] 10,{numbers}"),
            format!("i keyless {numbers}"),
            format!("u keyless [{numbers}] 7{}", &numbers[1..]),
            format!("d keyless [7{}]", &numbers[1..]),
            format!("i u 1,{numbers}"),
            format!("d u [1,{numbers}]"),
            format!("i u 2,{numbers}"),
        ];
        assert_eq!(brief(&log.changes()), expected);
    }
}

#[test]
fn names_need_no_alphabet() {
    let app = App::new(
        "CREATE TABLE \"Größe \"\"x\"\" 'y' ; --\"(\"select\" INTEGER PRIMARY KEY, \"a.b\" UNIQUE, \"NEW\" TEXT, rowid, oid)",
    );
    let mut log = Log::install(&app);
    let table = "\"größe \"\"X\"\" 'y' ; --\"".replace("größe", "Größe");
    app.run(&format!("INSERT INTO {table} VALUES(1, 2, 'n', 3, 4)"));
    app.run(&format!("REPLACE INTO {table} VALUES(2, 2, 'm', 3, 4)"));
    let name = "Größe \"x\" 'y' ; --";
    assert_eq!(
        brief(&log.changes()),
        [format!("i {name} 1,2,n,3,4"), format!("d {name} [1,2,n,3,4]"), format!("i {name} 2,2,m,3,4")]
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("SQLite has no NaN", |v| !v.is_nan())
            .prop_map(Value::Real),
        ".{0,8}".prop_map(Value::Text),
        "[0-9.eE+\\- \0]{0,8}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Blob),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn any_value_comes_through(values in prop::collection::vec(any_value(), 1..20)) {
        let app = App::new(SCHEMA);
        let mut log = Log::install(&app);
        for value in &values {
            through(&app, &mut log, value);
        }
    }
}
