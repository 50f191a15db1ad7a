//! Every value arrives with its storage class and all its bits.

use super::*;

#[test]
fn every_storage_class_and_its_extremes_survive() {
    let mut bed = Bed::new("");
    let t = table("v", &["id INTEGER", "i INTEGER", "r REAL", "t TEXT", "b BLOB", "n NUMERIC", "x"], &[0]);
    let rows: [[&str; 7]; 8] = [
        ["1", "9223372036854775807", "1.5", "ö\u{0}z", "00ff", "7", "0a"],
        ["2", "-9223372036854775808", "Infinity", "", "", "r:0.5", "i:1"],
        ["3", "~", "-Infinity", "~", "~", "~", "~"],
        ["4", "r:0.5", "5e-324", "u:ff00fe", "t:text", "t:word", "r:1.0"],
        ["5", "t:word", "1.7976931348623157e308", "b:00", "i:5", "b:ff", "r:-0.0"],
        ["6", "b:ff", "t:word", "t:5", "r:0.1", "9007199254740993", "t:5"],
        ["7", "0", "0.1", "1e5", "u:80", "r:1e300", "u:c328"],
        ["8", "1", "r:3.0", "x", "i:-1", "i:3", "r:Infinity"],
    ];
    bed.commit(1, rows.iter().map(|row| insert(&t, row)).collect());
    let stored = bed.rows("SELECT id, i, r, t, b, n, x FROM v ORDER BY id");
    let expected = [
        "1|9223372036854775807|r:1.5|ö\u{0}z|b:[00, ff]|7|b:[0a]",
        "2|-9223372036854775808|r:inf||b:[]|r:0.5|1",
        "3|~|r:-inf|~|~|~|~",
        "4|r:0.5|r:5e-324|u:[ff, 00, fe]|text|word|r:1.0",
        "5|word|r:1.7976931348623157e308|b:[00]|5|b:[ff]|r:-0.0",
        "6|b:[ff]|word|5|r:0.1|9007199254740993|5",
        "7|0|r:0.1|1e5|u:[80]|r:1e300|u:[c3, 28]",
        "8|1|r:3.0|x|-1|3|r:inf",
    ];
    assert_eq!(stored, expected);
    assert_eq!(bed.rows("SELECT length(CAST(t AS BLOB)) FROM v WHERE id = 1"), ["4"]);
}

#[test]
fn a_text_that_is_not_of_its_class_is_refused_with_its_column() {
    let mut bed = Bed::new("");
    let t = table("v", &["id INTEGER", "b BLOB"], &[0]);
    bed.commit(1, vec![insert(&t, &["1", "00"])]);
    for (cells, column) in [
        (["2", "0g"], "b"),
        (["x", "00"], "id"),
        (["3", "r:NaN"], "b"),
        (["4", "i:9223372036854775808"], "b"),
    ] {
        let failing = bed.refused(2, vec![insert(&t, &["5", "00"]), insert(&t, &cells)]);
        assert_eq!(failing.column.as_deref(), Some(column));
        assert_eq!(failing.position, Position::new(1, 2, 2));
        assert!(!failing.reason.contains("0g"), "no values in messages");
    }
}

#[test]
fn keys_compare_as_the_source_compares_them() {
    let mut bed = Bed::new("");
    let mut nocase = table("c", &["k TEXT", "v INTEGER"], &[0]);
    nocase.columns[0].collation = Some("NOCASE".into());
    bed.commit(1, vec![insert(&nocase, &["ab", "1"]), update(&nocase, &["AB", "2"])]);
    assert_eq!(bed.rows("SELECT * FROM c"), ["AB|2"]);
    bed.commit(2, vec![rekey(&nocase, &[(0, "AB")], &["aB", "3"])]);
    assert_eq!(bed.rows("SELECT * FROM c"), ["aB|3"]);
    bed.commit(3, vec![delete(&nocase, &[(0, "ab")])]);
    assert!(bed.rows("SELECT * FROM c").is_empty());

    let untyped = table("u", &["k", "v INTEGER"], &[0]);
    bed.commit(
        4,
        vec![
            insert(&untyped, &["i:1", "1"]),
            insert(&untyped, &["t:1", "2"]),
            insert(&untyped, &["31", "3"]),
        ],
    );
    bed.commit(5, vec![update(&untyped, &["r:1.0", "4"])]);
    assert_eq!(bed.rows("SELECT k, v FROM u ORDER BY v"), ["1|2", "b:[31]|3", "r:1.0|4"]);
}
