//! Rows of other kinds of databases.

use rowbridge_schema::TypeDefinition;
use rowbridge_schema::config::{ColumnMap, DeletePolicy};
use rowbridge_schema::types::Form;
use rowbridge_schema::wire::{KeyRange, Sweep};

use super::*;

fn mysql(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    let mut def = table(name, columns, key);
    def.dialect = Dialect::Mysql;
    def.name = TableName::new("shop", name);
    def
}

fn postgres(name: &str, columns: &[&str], key: &[u16]) -> TableDef {
    let mut def = table(name, columns, key);
    def.dialect = Dialect::Postgres;
    def.name = TableName::new("public", name);
    def
}

fn map(from: &str, to: &str, columns: &[(&str, ColumnMap)]) -> MapConfig {
    let columns = columns.iter().map(|(name, map)| ((*name).to_owned(), map.clone())).collect();
    MapConfig { from: from.into(), to: to.into(), columns, delete: DeletePolicy::Hard }
}

fn convert(form: Form) -> ColumnMap {
    ColumnMap::Convert { to: None, form }
}

#[test]
fn a_table_of_mysql_is_made_and_its_rows_are_converted() {
    let mut bed = Bed::new("");
    let mut t = mysql(
        "v",
        &[
            "id! bigint(20) unsigned",
            "n decimal(10,2)",
            "f double",
            "at timestamp(3)",
            "b varbinary(9)",
            "y year(4)",
            "e enum('a','B')",
            "g int(11)",
        ],
        &[0],
    );
    t.columns[7].generated = Some("`id` % 2".into());
    bed.commit(
        1,
        vec![
            insert(
                &t,
                &[
                    "18446744073709551615",
                    "1.50",
                    "1e+300",
                    "2024-01-31 00:00:00.500+00",
                    "\\x00ff",
                    "0000",
                    "B",
                ],
            ),
            insert(&t, &["2", "~", "-1", "~", "~", "2024", ""]),
        ],
    );
    let declared = bed.rows("SELECT name, type, \"notnull\", pk FROM pragma_table_info('v')");
    assert_eq!(
        declared,
        [
            "id|TEXT|1|1",
            "n|TEXT|0|0",
            "f|REAL|0|0",
            "at|TEXT|0|0",
            "b|BLOB|0|0",
            "y|INTEGER|0|0",
            "e|TEXT|0|0"
        ]
    );
    let stored = "SELECT id, n, f, at, b, y, e FROM v ORDER BY id";
    assert_eq!(
        bed.rows(stored),
        ["18446744073709551615|1.50|r:1e300|2024-01-31 00:00:00.500Z|b:[00, ff]|0|B", "2|~|r:-1.0|~|~|2024|"]
    );
    // Rows are found by the converted key.
    bed.commit(2, vec![rekey(&t, &[(0, "18446744073709551615")], &["3", "2.00", "~", "~", "~", "~", "a"])]);
    bed.commit(3, vec![delete(&t, &[(0, "2")])]);
    assert_eq!(bed.rows("SELECT id, n, e FROM v"), ["3|2.00|a"]);
}

#[test]
fn what_does_not_fit_names_column_and_key_and_no_value() {
    let mut bed = Bed::new("CREATE TABLE v (id INTEGER PRIMARY KEY, n DECIMAL(10,2), t DATETIME)");
    let t = postgres("v", &["id integer", "n numeric", "t text"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "1.50", "2024-01-31"]), insert(&t, &["2", "2.00", "x"])]);
    assert_eq!(bed.rows("SELECT * FROM v"), ["1|r:1.5|2024-01-31", "2|2|x"]);
    for (cells, column, reason) in [
        (["3", "0.1234567890123456789", "x"], "n", "not exact"),
        (["3", "NaN", "x"], "n", "NaN"),
        (["3", "1", "1234"], "t", "looks like a number"),
    ] {
        let failing = bed.refused(2, vec![insert(&t, &["9", "1", "x"]), insert(&t, &cells)]);
        assert_eq!((failing.table.as_str(), failing.column.as_deref()), ("public.v", Some(column)));
        assert_eq!(failing.key, ["id=3"]);
        assert_eq!(failing.position, Position::new(1, 2, 2));
        assert!(
            failing.reason.contains(reason) && failing.reason.contains("of SQLite"),
            "{}",
            failing.reason
        );
        assert!(!failing.reason.contains("1234"), "{}", failing.reason);
    }
    // A delete has its own key.
    let failing = bed.refused(2, vec![delete(&t, &[(0, "99999999999999999999")])]);
    assert_eq!(failing.key, ["id=99999999999999999999"]);
}

#[test]
fn several_failing_changes_are_named_and_what_is_there_already_is_not_looked_at() {
    let mut bed = Bed::new("");
    let t = postgres("v", &["id integer", "n real"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "0.5"])]);
    let block = delivery(bed.position())
        .block(2, vec![insert(&t, &["2", "NaN"]), insert(&t, &["3", "0.5"]), insert(&t, &["4", "NaN"])]);
    let Applied::Rejected { failing, .. } = bed.apply(&block) else { panic!("applied") };
    let keys: Vec<_> = failing.iter().map(|change| change.key.join(",")).collect();
    assert_eq!(keys, ["id=2", "id=4"]);
    // A replay of what is committed, whatever it holds, is none of our business.
    let replay = delivery(Some(Position::ZERO))
        .block(1, vec![insert(&t, &["1", "NaN"])])
        .block(2, vec![insert(&t, &["2", "0.5"])]);
    let position = Position::new(1, 2, 1);
    assert_eq!(bed.apply(&replay), Applied::Committed { position, changes: 1 });
    assert_eq!(bed.rows("SELECT * FROM v"), ["1|r:0.5", "2|r:0.5"]);
}

#[test]
fn asked_for_conversions_change_the_column() {
    let columns = [
        ("x", convert(Form::Text)),
        ("d", convert(Form::NullIfZero)),
        ("at", ColumnMap::Convert { to: Some("made".into()), form: Form::Utc }),
    ];
    let mut bed =
        Bed::with("", &[map("shop.v", "w", &columns), map("s", "s", &[("x", convert(Form::Text))])], true);
    let t = mysql("v", &["id! int(11)", "x varbinary(9)", "d! date", "at datetime"], &[0]);
    bed.commit(
        1,
        vec![
            insert(&t, &["1", "\\x00", "0000-00-00", "2024-01-31 00:00:00"]),
            insert(&t, &["2", "~", "2024-01-31", "~"]),
        ],
    );
    assert_eq!(
        bed.rows("SELECT id, x, d, made FROM w"),
        ["1|\\x00|~|2024-01-31 00:00:00Z", "2|~|2024-01-31|~"]
    );
    // Between SQLites too: the class goes, the text stays.
    let s = table("s", &["id INTEGER", "x", "y"], &[0]);
    bed.commit(2, vec![insert(&s, &["1", "i:5", "i:5"]), insert(&s, &["2", "00ff", "00ff"])]);
    assert_eq!(bed.rows("SELECT * FROM s"), ["1|5|5", "2|00ff|b:[00, ff]"]);
    assert_eq!(bed.rows("SELECT typeof(x), typeof(y) FROM s WHERE id = 1"), ["text|integer"]);
    let failing = bed.refused(3, vec![insert(&s, &["3", "u:ff", "~"])]);
    assert_eq!(failing.column.as_deref(), Some("x"));
}

#[test]
fn types_without_a_way_are_refused_with_the_type_that_would_do() {
    let mut bed = Bed::with(
        "CREATE TABLE v (id INTEGER PRIMARY KEY, b)",
        &[map("public.v", "v", &[("b", convert(Form::NullIfZero))])],
        true,
    );
    let t = postgres("v", &["id integer", "b date"], &[0]);
    let failing = bed.refused(1, vec![insert(&t, &["1", "2024-01-31"])]);
    assert_eq!(failing.column.as_deref(), Some("b"));
    assert!(
        failing.reason.contains("as = \"null_if_zero\"") && failing.reason.ends_with("as TEXT"),
        "{}",
        failing.reason
    );
}

#[test]
fn ranges_of_keys_hold_where_the_order_is_the_same() {
    let prune = |after: Option<&str>, upto: Option<&str>, skipped: &[&str], def: &TableDef| {
        let key = |text: &str| vec![text.to_owned()];
        Chunk {
            table: def.id(),
            clear: false,
            sweep: Some(if after.is_none() { Sweep::First } else { Sweep::Next }),
            prune: Some(KeyRange { after: after.map(key), upto: upto.map(key) }),
            skipped: skipped.iter().map(|text| key(text)).collect(),
            done: upto.is_none(),
        }
    };
    let mut bed = Bed::new("");
    let n = postgres("n", &["id integer"], &[0]);
    let rows = |def: &TableDef, ids: &[&str]| ids.iter().map(|id| insert(def, &[id])).collect::<Vec<_>>();
    bed.commit(1, rows(&n, &["-5", "1", "2", "3", "9"]));
    let chunk = delivery(bed.position()).chunk(
        2,
        &n,
        prune(Some("0"), Some("5"), &["2"], &n),
        vec![read(&n, &["1"])],
    );
    bed.apply(&chunk);
    assert_eq!(bed.rows("SELECT id FROM n ORDER BY id"), ["-5", "1", "2", "9"]);

    // As text, 9 lies behind 10: what was met nowhere goes with the last range.
    let t = mysql("t", &["id bigint(20) unsigned"], &[0]);
    bed.commit(3, rows(&t, &["1", "5", "9", "10", "30"]));
    let first = prune(None, Some("9"), &["5"], &t);
    let prev = bed.position();
    bed.apply(&delivery(prev).chunk(4, &t, first, vec![read(&t, &["1"])]));
    assert_eq!(bed.rows("SELECT id FROM t ORDER BY id"), ["1", "10", "30", "5", "9"]);
    let second = prune(Some("9"), None, &[], &t);
    let prev = bed.position();
    bed.apply(&delivery(prev).chunk(5, &t, second, vec![read(&t, &["10"])]));
    assert_eq!(bed.rows("SELECT id FROM t ORDER BY id"), ["1", "10", "5"]);
}

#[test]
fn enums_and_domains_of_postgres_are_what_they_hold() {
    let mut bed = Bed::new("");
    let mut t = postgres("v", &["id integer", "m public.mood", "p public.price", "l integer[]"], &[0]);
    t.types = vec![
        TypeDefinition::Enum { name: TableName::new("public", "mood"), labels: vec!["fine".into()] },
        TypeDefinition::Domain { name: TableName::new("public", "price"), base: "integer".into() },
    ];
    bed.commit(1, vec![insert(&t, &["1", "fine", "5", "{1,NULL}"])]);
    assert_eq!(bed.rows("SELECT id, m, p, l FROM v"), ["1|fine|5|{1,NULL}"]);
    assert_eq!(bed.rows("SELECT typeof(p) FROM v"), ["integer"]);
    // A row that leaves columns out keeps them.
    bed.commit(2, vec![Change::new(&t, Op::Update, &[(0, "1")], &[(0, "1"), (2, "6")])]);
    assert_eq!(bed.rows("SELECT id, m, p, l FROM v"), ["1|fine|6|{1,NULL}"]);
}
