use super::*;
use crate::types::tests as types;

fn json(dialect: Dialect, column: &str, value: &str) -> String {
    let mut out = Vec::new();
    write_json(&mut out, &types::column(dialect, column), &types::cell(dialect, value));
    String::from_utf8(out).unwrap()
}

#[test]
fn postgresql() {
    let cases = [
        ("boolean", "t", "true"),
        ("boolean", "maybe", "\"maybe\""),
        ("bigint", "9007199254740991", "9007199254740991"),
        ("bigint", "-9007199254740992", "\"-9007199254740992\""),
        ("integer", "~", "null"),
        ("numeric(10,2)", "1.10", "1.10"),
        ("numeric", "1234567890123456", "\"1234567890123456\""),
        ("numeric", "NaN", "\"NaN\""),
        ("double precision", "1e+300", "1e+300"),
        ("double precision", "-Infinity", "\"-Infinity\""),
        ("bytea", "\\x00ff", "\"AP8=\""),
        ("bytea", "\\x0", "\"\\\\x0\""),
        ("date", "2026-01-02", "\"2026-01-02\""),
        ("timestamp without time zone", "2026-01-02 03:04:05.123456", "\"2026-01-02T03:04:05.123456\""),
        ("timestamp without time zone", "0044-03-15 00:00:00 BC", "\"0044-03-15 00:00:00 BC\""),
        ("timestamp with time zone", "2026-01-02 03:04:05+00", "\"2026-01-02T03:04:05Z\""),
        ("timestamp with time zone", "2026-01-02 03:04:05+01", "\"2026-01-02 03:04:05+01\""),
        ("timestamp with time zone", "-infinity", "\"-infinity\""),
        ("json", "{\"a\":  1.50, \"b\": 1e400}", "{\"a\":  1.50, \"b\": 1e400}"),
        ("json", "{\"a\"", "\"{\\\"a\\\"\""),
        ("jsonb", "null", "null"),
        ("integer[]", "[0:1]={{1,NULL},{2,3}}", "[[1,null],[2,3]]"),
        ("bigint[]", "{9007199254740992}", "[\"9007199254740992\"]"),
        ("timestamp with time zone[]", "{\"2026-01-02 03:04:05+00\"}", "[\"2026-01-02T03:04:05Z\"]"),
        ("jsonb[]", "{\"{\\\"a\\\": 1}\"}", "[{\"a\": 1}]"),
        ("bytea[]", "{\"\\\\x00ff\"}", "[\"AP8=\"]"),
        ("text[]", "{a", "\"{a\""),
        ("public.mood[]", "{\"it's\",NULL}", "[\"it's\",null]"),
        ("int4range", "[1,5)", "\"[1,5)\""),
        ("bit(1)", "1", "\"1\""),
        ("public.vector", "[1,0.5]", "[1,0.5]"),
    ];
    for (column, value, expected) in cases {
        assert_eq!(json(Dialect::Postgres, column, value), expected, "{column} {value}");
    }
}

#[test]
fn mysql() {
    let cases = [
        ("tinyint(1)", "1", "1"),
        ("bit(1)", "1", "true"),
        ("bit(2)", "01", "\"01\""),
        ("bigint(20) unsigned", "18446744073709551615", "\"18446744073709551615\""),
        ("year(4)", "0000", "0"),
        ("datetime", "2026-01-02 03:04:05", "\"2026-01-02T03:04:05\""),
        ("datetime", "0000-00-00 00:00:00", "\"0000-00-00 00:00:00\""),
        ("timestamp(3)", "2026-01-02 03:04:05.120+00", "\"2026-01-02T03:04:05.120Z\""),
        ("time", "-838:59:59", "\"-838:59:59\""),
        ("set('a','b')", "a,b", "[\"a\",\"b\"]"),
        ("set('a','b')", "", "[]"),
        ("enum('a')", "", "\"\""),
        ("json", "{\"a\": [1, 2.5]}", "{\"a\": [1, 2.5]}"),
        ("binary(3)", "\\x610000", "\"YQAA\""),
    ];
    for (column, value, expected) in cases {
        assert_eq!(json(Dialect::Mysql, column, value), expected, "{column} {value}");
    }
}

#[test]
fn sqlite() {
    let cases = [
        ("INTEGER", "1", "1"),
        ("INTEGER", "9223372036854775807", "\"9223372036854775807\""),
        ("INTEGER", "t:abc", "\"abc\""),
        ("INTEGER", "b:00ff", "{\"base64\":\"AP8=\"}"),
        ("TEXT", "12", "\"12\""),
        ("TEXT", "i:12", "12"),
        ("TEXT", "u:ff", "{\"text_base64\":\"/w==\"}"),
        ("REAL", "1.0", "1.0"),
        ("REAL", "Infinity", "\"Infinity\""),
        ("BLOB", "00ff", "\"AP8=\""),
        ("BLOB", "t:abc", "{\"text\":\"abc\"}"),
        ("BLOB", "i:5", "5"),
        ("BLOB", "r:-Infinity", "{\"number\":\"-Infinity\"}"),
        ("BLOB", "0g", "{\"text\":\"0g\"}"),
        ("", "00ff", "{\"base64\":\"AP8=\"}"),
        ("", "t:abc", "\"abc\""),
        ("DECIMAL(10,2)", "r:12.5", "12.5"),
        ("BOOLEAN", "1", "1"),
    ];
    for (column, value, expected) in cases {
        assert_eq!(json(Dialect::Sqlite, column, value), expected, "{column} {value}");
    }
}
