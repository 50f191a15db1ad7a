//! Values into columns that were there before, one table per kind.

use super::super::Form;
use super::super::Unholdable::{self, *};
use super::*;

use crate::table::Dialect::{Mysql, Postgres, Sqlite};

type Case<'a> = (&'a str, Result<&'a str, Unholdable>);

fn check(from: Dialect, source: &str, to: Dialect, target: &str, cases: &[Case<'_>]) {
    let (source_type, target_type) = (column(from, source), column(to, target));
    for (value, expected) in cases {
        let found = converted(&source_type, &target_type, value);
        assert_eq!(found, expected.map(str::to_owned), "{value:?} of {source:?} in {target:?}");
    }
}

#[test]
fn numbers() {
    check(Postgres, "integer", Mysql, "tinyint(4)", &[("-128", Ok("-128")), ("128", Err(Range))]);
    check(
        Postgres,
        "bigint",
        Mysql,
        "int(10) unsigned",
        &[("4294967295", Ok("4294967295")), ("-1", Err(Range))],
    );
    check(
        Mysql,
        "bigint(20) unsigned",
        Postgres,
        "bigint",
        &[("9223372036854775808", Err(Range)), ("1", Ok("1"))],
    );
    check(Mysql, "tinyint(1)", Postgres, "boolean", &[("1", Ok("t")), ("0", Ok("f")), ("2", Err(Range))]);
    check(Mysql, "bit(1)", Postgres, "boolean", &[("1", Ok("t"))]);
    check(Postgres, "boolean", Mysql, "tinyint(1)", &[("t", Ok("1")), ("f", Ok("0")), ("~", Ok("~"))]);
    check(Mysql, "year(4)", Postgres, "smallint", &[("0000", Ok("0")), ("2155", Ok("2155"))]);
    check(
        Postgres,
        "smallint",
        Mysql,
        "year(4)",
        &[("0", Ok("0000")), ("1900", Err(Range)), ("2024", Ok("2024"))],
    );
    check(
        Postgres,
        "numeric",
        Mysql,
        "decimal(10,2)",
        &[
            ("1.5", Ok("1.50")),
            ("1.500", Ok("1.50")),
            ("1.505", Err(Scale)),
            ("123456789", Err(Range)),
            ("NaN", Err(NotANumber)),
            ("-Infinity", Err(Infinite)),
        ],
    );
    check(
        Postgres,
        "numeric",
        Mysql,
        "decimal(10,2) unsigned",
        &[("-0.01", Err(Range)), ("0.00", Ok("0.00"))],
    );
    check(
        Postgres,
        "numeric",
        Mysql,
        "int(11)",
        &[("5.00", Ok("5")), ("5.5", Err(Scale)), ("NaN", Err(NotANumber))],
    );
    check(
        Postgres,
        "double precision",
        Mysql,
        "double",
        &[("NaN", Err(NotANumber)), ("Infinity", Err(Infinite)), ("-0", Ok("-0")), ("1e+300", Ok("1e+300"))],
    );
    check(
        Postgres,
        "double precision",
        Mysql,
        "float",
        &[("0.5", Ok("0.5")), ("0.1234567890123", Err(Inexact)), ("1e+300", Err(Range))],
    );
    check(Postgres, "real", Mysql, "double", &[("0.1", Ok("0.1")), ("1e+06", Ok("1000000"))]);
    check(Postgres, "double precision", Mysql, "float(7,2)", &[("0.25", Ok("0.25")), ("0.125", Err(Scale))]);
    check(Postgres, "double precision", Mysql, "double unsigned", &[("-1", Err(Range))]);
    check(
        Mysql,
        "double",
        Postgres,
        "numeric",
        &[("1e+20", Ok("100000000000000000000")), ("-0", Err(NegativeZero))],
    );
    check(
        Mysql,
        "bigint(20)",
        Postgres,
        "double precision",
        &[("9007199254740993", Err(Inexact)), ("5", Ok("5"))],
    );
    check(Mysql, "decimal(10,2)", Postgres, "numeric", &[("-0.50", Ok("-0.50"))]);
    check(Mysql, "decimal(10,2)", Postgres, "numeric(12,4)", &[("-0.50", Ok("-0.5000"))]);
    check(Mysql, "bit(8)", Postgres, "bit(8)", &[("00000101", Ok("00000101"))]);
    check(Mysql, "bit(8)", Postgres, "bit(9)", &[("00000101", Err(Filled))]);
    check(Postgres, "bit varying(70)", Mysql, "bit(64)", &[("1", Err(Filled))]);
}

#[test]
fn texts_and_bytes() {
    check(Mysql, "varchar(20)@utf8mb4_bin", Postgres, "text", &[("a", Ok("a")), ("a\0", Err(Nul))]);
    check(
        Postgres,
        "text",
        Mysql,
        "varchar(3)@utf8mb4_bin",
        &[("\u{e4}\u{f6}\u{fc}", Ok("\u{e4}\u{f6}\u{fc}")), ("abcd", Err(Length))],
    );
    check(Postgres, "text", Mysql, "tinytext@utf8mb4_bin", &[(&"\u{e4}".repeat(128), Err(Length))]);
    check(Postgres, "text", Mysql, "char(3)@utf8mb4_bin", &[("a ", Err(Blanks)), ("a", Ok("a"))]);
    check(Postgres, "character(3)", Mysql, "char(3)@utf8mb4_bin", &[("a  ", Ok("a"))]);
    check(Postgres, "character(3)", Mysql, "varchar(3)@utf8mb4_bin", &[("a  ", Ok("a  "))]);
    check(
        Postgres,
        "text",
        Mysql,
        "text@latin1_swedish_ci",
        &[("\u{20ac}\u{e4}", Ok("\u{20ac}\u{e4}")), ("\u{160}", Ok("\u{160}")), ("\u{416}", Err(Charset))],
    );
    check(
        Postgres,
        "text",
        Mysql,
        "text@utf8mb3_bin",
        &[("\u{ffff}", Ok("\u{ffff}")), ("\u{1F600}", Err(Charset))],
    );
    check(Postgres, "text", Mysql, "text@ascii_bin", &[("\u{e4}", Err(Charset))]);
    check(
        Postgres,
        "bytea",
        Mysql,
        "binary(2)",
        &[("\\x00ff", Ok("\\x00ff")), ("\\x00", Err(Filled)), ("\\x000000", Err(Length))],
    );
    check(Mysql, "binary(3)", Postgres, "bytea", &[("\\x610000", Ok("\\x610000"))]);
    check(Mysql, "point", Postgres, "bytea", &[("0101", Ok("\\x0101"))]);
    check(Mysql, "point", Postgres, "public.geometry", &[("0101", Ok("0101"))]);
    check(Postgres, "bytea", Mysql, "geometry", &[("\\x0101", Ok("0101"))]);
    check(
        Postgres,
        "public.mood",
        Mysql,
        "enum('it''s','b')@utf8mb4_bin",
        &[("it's", Ok("it's")), ("", Err(Label))],
    );
    check(
        Postgres,
        "text",
        Mysql,
        "set('a','b c')",
        &[("a,b c", Ok("a,b c")), ("b c,a", Err(NotOfType)), ("x", Err(Label)), ("", Ok(""))],
    );
    check(
        Mysql,
        "set('a','b c','NULL','q\"\\')",
        Postgres,
        "text[]",
        &[("a,b c,NULL,q\"\\", Ok("{a,\"b c\",\"NULL\",\"q\\\"\\\\\"}")), ("", Ok("{}"))],
    );
    check(Mysql, "vector(2)", Postgres, "real[]", &[("[1,0.5]", Ok("{1,0.5}"))]);
    check(
        Postgres,
        "real[]",
        Mysql,
        "vector(2)",
        &[("{1,0.5}", Ok("[1,0.5]")), ("{{1}}", Err(NotOfType)), ("{1,NULL}", Err(NotOfType))],
    );
    check(
        Postgres,
        "jsonb",
        Mysql,
        "json",
        &[("{\"a\": 1.10}", Ok("{\"a\": 1.10}")), ("123456789012345678901.5", Err(Inexact))],
    );
    check(Mysql, "json", Postgres, "jsonb", &[("{\"a\": 1}", Ok("{\"a\": 1}")), ("\"\\u0000\"", Err(Nul))]);
    check(Mysql, "json", Postgres, "json", &[("\"\\u0000\"", Ok("\"\\u0000\""))]);
    check(
        Postgres,
        "inet",
        Mysql,
        "inet4",
        &[("10.0.0.1", Ok("10.0.0.1")), ("10.0.0.1/8", Err(Address)), ("::1", Err(Address))],
    );
    check(
        Mysql,
        "uuid",
        Postgres,
        "uuid",
        &[("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", Ok("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))],
    );
    check(
        Mysql,
        "varchar(36)@ascii_bin",
        Postgres,
        "uuid",
        &[("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", Err(NotOfType))],
    );
}

#[test]
fn padded_texts_of_postgresql() {
    let cases: [Case<'_>; 4] =
        [("ab    ", Ok("ab    ")), ("ab", Ok("ab    ")), ("ab ", Err(Blanks)), ("ab     ", Err(Blanks))];
    check(Sqlite, "TEXT", Postgres, "character(6)", &cases);
}

#[test]
fn dates_and_times() {
    check(
        Mysql,
        "date",
        Postgres,
        "date",
        &[
            ("2024-02-29", Ok("2024-02-29")),
            ("0000-00-00", Err(ZeroDate)),
            ("2024-00-10", Err(ZeroDate)),
            ("2023-02-29", Err(Calendar)),
            ("2024-02-31", Err(Calendar)),
            ("1900-02-29", Err(Calendar)),
        ],
    );
    check(
        Postgres,
        "date",
        Mysql,
        "date",
        &[("0044-03-15 BC", Err(Year)), ("infinity", Err(Infinite)), ("10000-01-01", Err(Year))],
    );
    check(
        Mysql,
        "datetime(6)",
        Postgres,
        "timestamp(6) without time zone",
        &[
            ("2024-01-31 23:59:59.100000", Ok("2024-01-31 23:59:59.1")),
            ("2024-01-31 00:00:00.000000", Ok("2024-01-31 00:00:00")),
        ],
    );
    check(
        Postgres,
        "timestamp without time zone",
        Mysql,
        "datetime(3)",
        &[
            ("2024-01-31 23:59:59.1", Ok("2024-01-31 23:59:59.100")),
            ("2024-01-31 23:59:59.1234", Err(Fraction)),
            ("-infinity", Err(Infinite)),
        ],
    );
    check(Postgres, "date", Mysql, "datetime(1)", &[("2024-01-31", Ok("2024-01-31 00:00:00.0"))]);
    check(
        Postgres,
        "timestamp with time zone",
        Mysql,
        "datetime(6)",
        &[("2024-01-31 23:59:59+00", Ok("2024-01-31 23:59:59.000000"))],
    );
    check(
        Postgres,
        "timestamp with time zone",
        Mysql,
        "timestamp(3)",
        &[
            ("2024-01-31 23:59:59+00", Ok("2024-01-31 23:59:59.000+00")),
            ("1970-01-01 00:00:00+00", Err(Range)),
            ("1970-01-01 00:00:01+00", Ok("1970-01-01 00:00:01.000+00")),
            ("2107-01-01 00:00:00+00", Err(Range)),
        ],
    );
    check(
        Mysql,
        "timestamp",
        Postgres,
        "timestamp with time zone",
        &[
            ("2024-01-31 23:59:59+00", Ok("2024-01-31 23:59:59+00")),
            ("0000-00-00 00:00:00+00", Err(ZeroDate)),
        ],
    );
    check(
        Mysql,
        "time(6)",
        Postgres,
        "interval",
        &[("-838:59:59.000000", Ok("-838:59:59")), ("-00:00:00.100000", Ok("-00:00:00.1"))],
    );
    check(
        Mysql,
        "time(6)",
        Postgres,
        "time without time zone",
        &[
            ("24:00:00.000000", Ok("24:00:00")),
            ("24:00:01.000000", Err(BeyondDay)),
            ("-01:00:00.000000", Err(BeyondDay)),
        ],
    );
    check(
        Postgres,
        "time without time zone",
        Mysql,
        "time(2)",
        &[("12:00:00.1", Ok("12:00:00.10")), ("12:00:00.123", Err(Fraction))],
    );
    check(
        Postgres,
        "interval",
        Mysql,
        "time(0)",
        &[
            ("-04:05:06", Ok("-04:05:06")),
            ("1 day", Err(Months)),
            ("839:00:00", Err(Range)),
            ("838:59:59", Ok("838:59:59")),
        ],
    );
    check(
        Postgres,
        "time with time zone",
        Mysql,
        "varchar(21)@ascii_bin",
        &[("24:00:00-15:59:59", Ok("24:00:00-15:59:59"))],
    );
}

#[test]
fn into_sqlite() {
    check(Postgres, "boolean", Sqlite, "BOOLEAN", &[("t", Ok("1")), ("f", Ok("0"))]);
    check(
        Mysql,
        "bigint(20) unsigned",
        Sqlite,
        "INTEGER",
        &[("9223372036854775807", Ok("9223372036854775807")), ("9223372036854775808", Err(Range))],
    );
    check(Postgres, "bigint", Sqlite, "REAL", &[("5", Ok("5.0")), ("9007199254740993", Err(Inexact))]);
    check(
        Postgres,
        "numeric",
        Sqlite,
        "DECIMAL(10,2)",
        &[
            ("1.50", Ok("r:1.5")),
            ("2.00", Ok("2")),
            ("12345678901234567890.1", Err(Inexact)),
            ("NaN", Err(NotANumber)),
        ],
    );
    check(
        Postgres,
        "double precision",
        Sqlite,
        "REAL",
        &[
            ("1e+300", Ok("1e300")),
            ("-0", Err(NegativeZero)),
            ("Infinity", Ok("Infinity")),
            ("NaN", Err(NotANumber)),
        ],
    );
    check(
        Postgres,
        "double precision",
        Sqlite,
        "NUMERIC",
        &[("-0", Err(NegativeZero)), ("0.1", Ok("r:0.1"))],
    );
    check(Postgres, "double precision", Sqlite, "TEXT", &[("NaN", Ok("NaN")), ("1e+15", Ok("1e+15"))]);
    check(
        Postgres,
        "text",
        Sqlite,
        "DATETIME",
        &[
            ("2024-01-31", Ok("t:2024-01-31")),
            ("12", Err(Affinity)),
            (" 1e5 ", Err(Affinity)),
            ("", Ok("t:")),
        ],
    );
    check(Postgres, "text", Sqlite, "BLOB", &[("12", Ok("t:12"))]);
    check(Postgres, "bytea", Sqlite, "BLOB", &[("\\x00ff", Ok("00ff"))]);
    check(Postgres, "bytea", Sqlite, "TEXT", &[("\\x00ff", Ok("b:00ff"))]);
    check(
        Postgres,
        "timestamp with time zone",
        Sqlite,
        "TEXT",
        &[
            ("2024-01-31 00:00:00.5+00", Ok("2024-01-31 00:00:00.5Z")),
            ("0044-03-15 00:00:00+00 BC", Ok("0044-03-15 00:00:00Z BC")),
            ("infinity", Ok("infinity")),
        ],
    );
    check(Mysql, "year(4)", Sqlite, "INTEGER", &[("0000", Ok("0")), ("2024", Ok("2024"))]);
    check(Mysql, "point", Sqlite, "BLOB", &[("0101", Ok("0101"))]);
}

#[test]
fn out_of_sqlite() {
    check(
        Sqlite,
        "INTEGER",
        Postgres,
        "bigint",
        &[
            ("5", Ok("5")),
            ("t:abc", Err(NotOfType)),
            ("r:5.5", Err(Scale)),
            ("b:00", Err(Unholdable::Class(crate::cell::Class::Blob))),
        ],
    );
    check(Sqlite, "INTEGER", Postgres, "boolean", &[("1", Ok("t")), ("2", Err(Range))]);
    check(
        Sqlite,
        "REAL",
        Postgres,
        "double precision",
        &[("1.0", Ok("1")), ("1e300", Ok("1e+300")), ("Infinity", Ok("Infinity"))],
    );
    check(Sqlite, "REAL", Postgres, "real", &[("0.1", Ok("0.1")), ("0.30000000000000004", Err(Inexact))]);
    check(
        Sqlite,
        "TEXT",
        Postgres,
        "numeric(10,2)",
        &[
            ("1.50", Ok("1.50")),
            ("1.5", Ok("1.50")),
            ("1.505", Err(Scale)),
            ("x", Err(NotOfType)),
            ("NaN", Ok("NaN")),
        ],
    );
    check(
        Sqlite,
        "TEXT",
        Postgres,
        "timestamp with time zone",
        &[
            ("2024-01-31 00:00:00Z", Ok("2024-01-31 00:00:00+00")),
            ("2024-01-31T00:00:00Z", Ok("2024-01-31 00:00:00+00")),
            ("2024-01-31 00:00:00", Err(NoZone)),
            ("2024-01-31 00:00:00+02", Err(Offset)),
        ],
    );
    check(
        Sqlite,
        "TEXT",
        Postgres,
        "timestamp without time zone",
        &[("2024-01-31 00:00:00Z", Err(NotOfType)), ("2024-02-30 00:00:00", Err(Calendar))],
    );
    check(
        Sqlite,
        "DATETIME",
        Postgres,
        "text",
        &[
            ("t:2024-01-31", Ok("2024-01-31")),
            ("12", Ok("12")),
            ("b:00", Err(Unholdable::Class(crate::cell::Class::Blob))),
        ],
    );
    check(
        Sqlite,
        "",
        Postgres,
        "text",
        &[("t:12", Ok("12")), ("i:12", Err(Unholdable::Class(crate::cell::Class::Integer)))],
    );
    check(
        Sqlite,
        "TEXT",
        Postgres,
        "real[]",
        &[("{0.1,NULL}", Ok("{0.1,NULL}")), ("{0.12345678901}", Err(Inexact))],
    );
    check(
        Sqlite,
        "TEXT",
        Postgres,
        "timestamp without time zone[]",
        &[("{\"2024-01-01 00:00:00.1234567\"}", Err(Fraction))],
    );
    check(Sqlite, "TEXT", Postgres, "json", &[("{\"a\":1}", Ok("{\"a\":1}")), ("{", Err(NotOfType))]);
    check(Sqlite, "TEXT", Mysql, "longtext@utf8mb4_bin", &[("u:ff", Err(RawText)), ("nul\0", Ok("nul\0"))]);
}

#[test]
fn what_never_fits_is_a_mismatch() {
    for (from, source, to, target) in [
        (Mysql, "datetime", Postgres, "timestamp with time zone"),
        (Mysql, "timestamp", Postgres, "timestamp without time zone"),
        (Postgres, "timestamp with time zone", Mysql, "date"),
        (Postgres, "numeric", Mysql, "double"),
        (Postgres, "text", Mysql, "blob"),
        (Mysql, "blob", Postgres, "uuid"),
        (Mysql, "varchar(20)", Postgres, "money"),
        (Mysql, "varchar(20)", Postgres, "numeric(9,1)[]"),
        (Mysql, "time", Postgres, "interval day to second(3)"),
        (Sqlite, "BLOB", Postgres, "text"),
        (Sqlite, "REAL", Postgres, "bytea"),
        (Postgres, "integer", Mysql, "date"),
    ] {
        let found = Conversion::between(&column(from, source), &column(to, target));
        assert!(found.is_err(), "{source} into {target}");
    }
    let error = Conversion::between(&column(Mysql, "datetime"), &column(Postgres, "date")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "values of type datetime of MySQL cannot be kept exactly in a column of type date of PostgreSQL"
    );
}

#[test]
fn asked_for_conversions() {
    let run = |from, source, to, target, form, value| {
        let (source, target) = (column(from, source), column(to, target));
        let conversion = Conversion::with(&source, &target, Some(form)).map_err(|error| error.to_string())?;
        conversion.convert(cell(from, value)).map(|cell| shown(&cell)).map_err(|why| why.to_string())
    };
    let text = |from, source, to, target, value| run(from, source, to, target, Form::Text, value);
    assert_eq!(text(Postgres, "bytea", Postgres, "text", "\\x00ff"), Ok("\\x00ff".into()));
    assert_eq!(text(Postgres, "numeric", Mysql, "longtext", "NaN"), Ok("NaN".into()));
    assert_eq!(text(Mysql, "date", Postgres, "text", "0000-00-00"), Ok("0000-00-00".into()));
    assert_eq!(text(Sqlite, "", Postgres, "text", "i:1"), Ok("1".into()));
    assert_eq!(text(Sqlite, "BLOB", Sqlite, "TEXT", "00ff"), Ok("00ff".into()));
    assert_eq!(text(Sqlite, "INTEGER", Sqlite, "TEXT", "5"), Ok("5".into()));
    assert!(text(Sqlite, "TEXT", Postgres, "text", "u:ff").unwrap_err().contains("UTF-8"));
    assert!(text(Postgres, "integer", Postgres, "integer", "5").is_err());
    let utc = |from, source, to, target, value| run(from, source, to, target, Form::Utc, value);
    let zoned = "timestamp with time zone";
    assert_eq!(
        utc(Mysql, "datetime(3)", Postgres, zoned, "2024-01-31 23:59:59.500"),
        Ok("2024-01-31 23:59:59.5+00".into())
    );
    assert_eq!(
        utc(Sqlite, "TEXT", Postgres, zoned, "2024-01-31 23:59:59"),
        Ok("2024-01-31 23:59:59+00".into())
    );
    assert_eq!(
        utc(Mysql, "datetime", Sqlite, "TEXT", "2024-01-31 23:59:59"),
        Ok("2024-01-31 23:59:59Z".into())
    );
    assert!(utc(Mysql, "date", Postgres, zoned, "2024-01-31").is_err());
    let zero = |source, value| {
        run(Mysql, source, Postgres, if source == "date" { "date" } else { zoned }, Form::NullIfZero, value)
    };
    assert_eq!(zero("date", "0000-00-00"), Ok("~".into()));
    assert_eq!(zero("date", "2024-00-10"), Ok("~".into()));
    assert_eq!(zero("date", "0009-01-01"), Ok("0009-01-01".into()));
    assert_eq!(zero("timestamp", "0000-00-00 00:00:00+00"), Ok("~".into()));
    assert!(run(Postgres, "date", Postgres, "date", Form::NullIfZero, "2024-01-01").is_err());
}

#[test]
fn domains_are_what_lies_under_them() {
    for name in ["public.price", "public.\"Net price\"", "\"public\".\"price\""] {
        assert_eq!(column(Postgres, name).name, "numeric(10,2)", "{name}");
    }
    let forged = [crate::table::TypeDefinition::Domain {
        name: crate::table::TableName::new("a", "b"),
        base: "a.b".into(),
    }];
    assert_eq!(ColumnType::parse(Postgres, "a.b", None, &forged).name, "a.b");
}

#[test]
fn nothing_is_copied_where_nothing_changes() {
    use std::borrow::Cow;
    for (from, source, to, target, value) in [
        (Postgres, "integer", Mysql, "bigint(20)", "5"),
        (Postgres, "bigint", Mysql, "int(11)", "5"),
        (Postgres, "text", Mysql, "varchar(20)@utf8mb4_bin", "abc"),
        (Mysql, "datetime", Postgres, "timestamp(0) without time zone", "2024-01-31 23:59:59"),
        (Postgres, "bytea", Sqlite, "BLOB", "\\x00ff"),
        (Postgres, "text", Sqlite, "TEXT", "abc"),
        (Mysql, "decimal(10,2)", Postgres, "numeric(10,2)", "1.50"),
    ] {
        let conversion = Conversion::between(&column(from, source), &column(to, target)).unwrap();
        let cell = conversion.convert(Cell::text(value)).unwrap();
        assert!(matches!(cell, Cell::Text(Cow::Borrowed(_))), "{source} into {target}: {cell:?}");
    }
    let same = Conversion::between(&column(Postgres, "integer"), &column(Mysql, "bigint(20)")).unwrap();
    assert!(same.is_identity());
}

/// The shortest digits are not always the closest ones, and servers differ in which of them they print.
#[test]
fn a_float_of_32_bits_is_one_with_any_digits() {
    let convert = |source: &str, text: &'static str| {
        let conversion = Conversion::between(&column(Postgres, source), &column(Mysql, "float")).unwrap();
        conversion.convert(Cell::text(text)).map(|cell| cell.as_str().unwrap().to_owned())
    };
    let written = convert("real", "8.589973e+09").unwrap();
    for text in ["8.5899735e+09", "8589973504", "8589973500"] {
        assert_eq!(convert("real", text), Ok(written.clone()), "{text}");
    }
    assert!(convert("double precision", "8589973501").is_err());
}

/// A range of keys of the source is one at the target only where both order its keys alike.
#[test]
fn only_some_keys_lie_in_one_order() {
    let keeps = |from: (Dialect, &str), to: (Dialect, &str)| {
        Conversion::between(&column(from.0, from.1), &column(to.0, to.1)).unwrap().keeps_order()
    };
    use Dialect::{Mysql, Postgres, Sqlite};
    assert!(keeps((Postgres, "bigint"), (Mysql, "bigint")));
    assert!(keeps((Postgres, "bytea"), (Mysql, "varbinary(9)")));
    assert!(keeps((Postgres, "uuid"), (Sqlite, "TEXT")));
    // Texts that are written as they came are ordered by a collation all the same.
    assert!(!keeps((Postgres, "text"), (Mysql, "longtext@utf8mb4_nopad_bin")));
    assert!(!keeps((Sqlite, "TEXT"), (Mysql, "varchar(768)@utf8mb4_nopad_bin")));
    assert!(!keeps((Postgres, "uuid"), (Mysql, "uuid")));
    assert!(!keeps((Mysql, "uuid"), (Postgres, "uuid")));
    assert!(!keeps((Mysql, "uuid"), (Sqlite, "TEXT")));
}
