//! Every type with its extremes, in canonical texts: those of the tables in `docs/types.md`.

use rowbridge_schema::Dialect;
use rowbridge_schema::cell::Class;
use rowbridge_schema::sql::literal;
use rowbridge_schema::sqlite_type::natural_class;

/// Types of the docs that the servers of this test lack: extensions of PostgreSQL, and MySQL's own.
pub(super) const BEYOND: &[&str] =
    &["public.geometry", "public.vector", "public.citext", "json", "vector(2)"];

pub(super) const LABELS: &[&str] = &["it's", "a \"b\"", ""];

pub(super) const TYPES: &str = "CREATE TYPE public.mood AS ENUM ('it''s', 'a \"b\"', '');
    CREATE DOMAIN public.price AS numeric(10,2); CREATE TYPE public.address AS (street text);
    CREATE TYPE public.floatrange AS RANGE (subtype = float8)";

pub(super) type Samples = &'static [(&'static str, &'static [&'static str])];

pub(super) fn of(kind: Dialect) -> Samples {
    match kind {
        Dialect::Postgres => POSTGRES,
        Dialect::Mysql => MYSQL,
        Dialect::Sqlite => SQLITE,
    }
}

/// A value as the docs show it.
pub(super) fn shown(text: &str) -> String {
    let escaped: String = text.escape_debug().collect();
    let escaped = escaped.replace("\\'", "'").replace("\\\"", "\"").replace("\\\\", "\\");
    let short: String = escaped.chars().take(40).collect();
    if escaped.chars().count() > 40 { format!("{short}...") } else { short }
}

/// Display widths are no part of a type, but for the one that means a boolean.
pub(super) fn without_width(made: &str) -> String {
    let integers = ["smallint(", "mediumint(", "int(", "bigint(", "year("];
    match integers.iter().find(|name| made.starts_with(**name)).and_then(|_| made.split_once('(')) {
        Some((name, rest)) => format!("{name}{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => made.to_owned(),
    }
}

/// A canonical text as a literal of MariaDB.
pub(super) fn mysql_literal(declared: &str, text: &str) -> String {
    let digits = text.trim_start_matches("\\x");
    match declared.split('(').next().unwrap_or_default() {
        "bit" => format!("b'{text}'"),
        "binary" | "varbinary" | "longblob" => format!("x'{digits}'"),
        "point" | "geometrycollection" => format!("ST_GeomFromWKB(x'{digits}')"),
        "float" | "double" | "year" => text.to_owned(),
        "timestamp" => literal(text.trim_end_matches("+00")),
        _ => literal(text),
    }
}

/// The class of a value before which it may stand, and the text.
pub(super) fn classed<'t>(declared: &str, text: &'t str) -> (Class, &'t str) {
    match text.split_once(':').and_then(|(tag, rest)| Some((Class::from_tag(tag)?, rest))) {
        Some(classed) => classed,
        None => (natural_class(declared), text),
    }
}

pub(super) fn sqlite_literal(class: Class, text: &str) -> String {
    match class {
        Class::Integer => text.to_owned(),
        Class::Real => text.replace("Infinity", "9e999"),
        Class::Text => match text.split_once('\0') {
            Some((before, after)) => format!("{} || char(0) || {}", literal(before), literal(after)),
            None => literal(text),
        },
        Class::Blob => format!("x'{text}'"),
        Class::RawText => format!("CAST(x'{text}' AS TEXT)"),
    }
}

/// Whether two texts mean the same, by rules that owe nothing to the converter.
pub(super) fn same(declared: &str, sent: &str, found: &str) -> bool {
    let name = declared.split(['(', '@']).next().unwrap_or_default().trim();
    let number = |text: &str| -> Option<f64> { text.replace("Infinity", "inf").parse().ok() };
    let time = |text: &str| {
        let text = text.trim_end_matches(" BC").trim_end_matches("+00").trim_end_matches('Z');
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let hexadecimal = |text: &str| text.trim_start_matches("\\x").to_lowercase();
    match name {
        "boolean" => matches!((sent, found), ("t", "1") | ("f", "0")),
        // A double holds each 32-bit float, so that its own text may be longer.
        "real" | "float" => number(sent).map(|sent| sent as f32) == number(found).map(|found| found as f32),
        "double" | "double precision" | "REAL" => {
            number(sent).map(f64::to_bits) == number(found).map(f64::to_bits)
        }
        // The sample that has no other digits than its first.
        "NUMERIC" => sent == "1e300" && found == format!("1{}", "0".repeat(300)),
        "year" => sent.parse::<u32>().ok() == found.parse::<u32>().ok() && sent.parse::<u32>().is_ok(),
        "character" => sent.trim_end_matches(' ') == found,
        "timestamp"
        | "datetime"
        | "time"
        | "timestamp without time zone"
        | "timestamp with time zone"
        | "time without time zone" => {
            time(sent) == time(found) && sent.ends_with(" BC") == found.ends_with(" BC")
        }
        "bytea" | "binary" | "varbinary" | "longblob" | "BLOB" | "point" | "geometrycollection" => {
            hexadecimal(sent) == hexadecimal(found)
        }
        _ => false,
    }
}

const POSTGRES: Samples = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    (
        "numeric",
        &["1.000", "-0.00000000000000000001", "123456789012345678901234567890123456789.5", "NaN", "Infinity"],
    ),
    ("numeric(10,2)", &["12345678.90", "-0.05", "NaN"]),
    ("numeric(3,-2)", &["12300", "-99900"]),
    ("numeric(3,5)", &["0.00123"]),
    ("numeric(100,40)", &["1.0000000000000000000000000000000000000001"]),
    ("public.price", &["12.50"]),
    ("real", &["0.1", "3.4028235e+38", "1e-45", "-0", "NaN", "Infinity"]),
    (
        "double precision",
        &["0.30000000000000004", "5e-324", "1.7976931348623157e+308", "-0", "NaN", "-Infinity"],
    ),
    ("money", &["$1,234.50", "-$92,233,720,368,547,758.08"]),
    ("boolean", &["t", "f"]),
    ("text", &["", " ", "\u{1F600}\u{e4}\n\\", "\u{1}"]),
    ("character varying(10)", &["ab  ", "\u{e4}\u{f6}\u{fc}"]),
    ("character(6)", &["ab    ", "      "]),
    ("name", &["a name"]),
    ("\"char\"", &["x", ""]),
    ("bytea", &["\\x", "\\x00ff5c27"]),
    ("date", &["2024-02-29", "9999-12-31", "0001-01-01", "5874897-12-31", "0044-03-15 BC", "infinity"]),
    ("time without time zone", &["24:00:00", "23:59:59.999999", "00:00:00"]),
    ("time(2) without time zone", &["12:00:00.12"]),
    ("time with time zone", &["24:00:00-15:59:59", "12:34:56.789+05:30"]),
    (
        "timestamp without time zone",
        &["2024-02-29 12:00:00.123456", "0044-03-15 00:00:00 BC", "294276-12-31 23:59:59.999999", "infinity"],
    ),
    ("timestamp(3) without time zone", &["2024-02-29 12:00:00.123"]),
    (
        "timestamp with time zone",
        &["2024-02-29 12:00:00.1+00", "1900-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC", "-infinity"],
    ),
    ("interval", &["1 year -2 mons +3 days -04:05:06.000007", "00:00:00", "-178000000 years"]),
    ("inet", &["10.1.2.3/8", "fe80::1/64", "192.0.2.1"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["{\"a\": 1, \"a\":  2.50, \"\\u0000\": 1e400}", " [ 1 ] "]),
    ("jsonb", &["{\"a\": [null, 1.00], \"b\": 123456789012345678901234567890.10}"]),
    ("xml", &["<a b=\"c\">&lt;x/&gt;</a>"]),
    ("bit(5)", &["01010"]),
    ("bit(70)", &["1010101010101010101010101010101010101010101010101010101010101010101010"]),
    ("bit varying(70)", &["", "1"]),
    ("tsvector", &["'a b':1A,2 'c'"]),
    ("tsquery", &["'a' & !( 'b' | 'c':*AB )"]),
    ("point", &["(-0,1e+300)"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("pg_lsn", &["FFFFFFFF/FFFFFFFF"]),
    ("oid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("regclass", &["pg_class", "-"]),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    ("int4range", &["empty", "[1,5)", "(,)"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",infinity)"]),
    ("int8multirange", &["{[1,3),[5,)}"]),
    ("public.floatrange", &["[0.1,1e+300)"]),
    ("integer[]", &["{1,NULL,-3}", "[0:0][5:6]={{1,2}}"]),
    ("text[]", &["{NULL,\"NULL\",\"\",\"a,b\",\"q\\\"\\\\\"}"]),
    ("numeric(9,1)[]", &["{1.5}"]),
    ("public.mood", &["it's", "a \"b\"", ""]),
    ("public.address", &["(\"a \"\"street\"\"\")"]),
];

const MYSQL: Samples = &[
    ("tinyint(1)", &["-128", "127"]),
    ("tinyint(3) unsigned", &["0", "255"]),
    ("smallint(6)", &["-32768", "32767"]),
    ("smallint(5) unsigned zerofill", &["65535"]),
    ("mediumint(9)", &["-8388608", "8388607"]),
    ("mediumint(8) unsigned", &["16777215"]),
    ("int(11)", &["-2147483648", "2147483647"]),
    ("int(10) unsigned", &["4294967295"]),
    ("bigint(20)", &["-9223372036854775808", "9223372036854775807"]),
    ("bigint(20) unsigned", &["0", "18446744073709551615"]),
    ("decimal(10,2)", &["-12345678.90", "0.00"]),
    ("decimal(65,30) unsigned", &["99999999999999999999999999999999999.999999999999999999999999999999"]),
    ("float", &["0.1", "3.40282e+38"]),
    ("double", &["0.30000000000000004", "1.7976931348623157e+308", "5e-324"]),
    ("bit(1)", &["1"]),
    ("bit(64)", &["1000000000000000000000000000000000000000000000000000000000000001"]),
    ("year(4)", &["0000", "1901", "2155"]),
    ("date", &["2024-02-29", "1000-01-01", "9999-12-31", "0000-00-00", "2024-00-10", "2024-02-31"]),
    ("datetime", &["2024-01-31 23:59:59", "0000-00-00 00:00:00"]),
    (
        "datetime(6)",
        &["2024-01-31 23:59:59.100000", "9999-12-31 23:59:59.999999", "0001-01-01 00:00:00.000000"],
    ),
    ("timestamp", &["1970-01-01 00:00:01+00", "2038-01-19 03:14:07+00", "0000-00-00 00:00:00+00"]),
    ("timestamp(3)", &["2024-01-31 23:59:59.120+00"]),
    ("time", &["-838:59:59", "838:59:59", "00:00:00"]),
    ("time(6)", &["-00:00:00.000001", "23:59:59.999999"]),
    ("char(6)@utf8mb4_general_ci", &["ab", ""]),
    ("varchar(20)@latin1_swedish_ci", &["ab  ", "\u{20ac}\u{e4}", "nul\0"]),
    ("text@utf8mb4_general_ci", &["\u{1F600}", "nul\0"]),
    ("longtext@utf8mb4_bin", &["{\"a\":  1}"]),
    ("binary(3)", &["\\x610000"]),
    ("varbinary(20)", &["\\x", "\\x6100"]),
    ("longblob", &["\\xdeadbeef"]),
    ("enum('large','it''s','x,y')@utf8mb4_general_ci", &["large", "it's", "x,y", ""]),
    ("set('a','c d','NULL')@utf8mb4_general_ci", &["a,c d,NULL", ""]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a00"]),
    ("inet4", &["10.1.0.0"]),
    ("inet6", &["2001:db8::", "::ffff:1.2.3.4"]),
    ("point", &["0101000000000000000000f03f0000000000000040"]),
    ("geometrycollection", &["010700000000000000"]),
];

/// The class of a value stands before it where it is not the one that the column declares.
const SQLITE: Samples = &[
    ("INTEGER", &["-9223372036854775808", "9223372036854775807", "r:1.5", "t:abc", "b:00ff"]),
    ("BIGINT UNSIGNED", &["9223372036854775807", "r:1e300"]),
    ("REAL", &["0.1", "1e300", "Infinity", "t:abc"]),
    ("TEXT", &["", "12", "\u{1F600}", "nul\0", "b:00ff", "u:ff"]),
    ("VARCHAR(20)", &["longer than twenty characters"]),
    ("BLOB", &["", "00ff", "i:1", "t:abc"]),
    ("", &["t:abc", "t:12", "i:1", "r:1.5", "00ff"]),
    ("BOOLEAN", &["0", "1", "t:yes"]),
    ("NUMERIC", &["12", "r:0.1", "r:1e300", "t:abc"]),
    ("DECIMAL(10,2)", &["12", "r:12.5"]),
    ("DATE", &["t:2024-02-29", "1700000000", "b:00"]),
    ("DATETIME", &["t:2024-02-29 12:00:00", "r:2460000.5"]),
    ("JSON", &["t:{\"a\": 1}", "12"]),
];
