//! Values of every type, with extremes, against what the server itself says.

use mysql_async::Row;
use rowbridge_tests::mariadb::Server;

use super::{Tap, server};

/// Inserts literals into a column of a type, and gives what the stream says of them, which a snapshot says, too.
async fn streamed(server: &Server, tap: &mut Tap, column: &str, literals: &[&str]) -> Vec<String> {
    server.execute("shop", &format!("CREATE OR REPLACE TABLE v (n INT PRIMARY KEY, v {column})")).await;
    tap.lines().await;
    for (at, literal) in literals.iter().enumerate() {
        let mode =
            "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', character_set_client = utf8mb4";
        server.execute("shop", &format!("{mode}; INSERT INTO v (n, v) VALUES ({at}, {literal})")).await;
    }
    let lines = tap.lines().await;
    let values = lines.iter().filter_map(|line| line.strip_prefix("i v n=")?.split_once(" v="));
    let values: Vec<String> = values.map(|(_, value)| value.to_owned()).collect();
    assert_eq!(
        super::snapshot::values(&server.url("shop"), "v").await,
        values,
        "snapshot and stream of {column}"
    );
    values
}

#[tokio::test]
async fn every_type_has_its_canonical_text() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE v (n INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    let nines = "9".repeat(35);
    let decimal = format!("-{nines}.{}", "9".repeat(30));
    let bits = format!("1{}1", "0".repeat(62));
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("TINYINT", &["-128", "127"], &["-128", "127"]),
        ("SMALLINT UNSIGNED", &["65535"], &["65535"]),
        ("MEDIUMINT", &["-8388608", "8388607"], &["-8388608", "8388607"]),
        ("MEDIUMINT UNSIGNED ZEROFILL", &["5"], &["5"]),
        ("BIGINT UNSIGNED", &["18446744073709551615"], &["18446744073709551615"]),
        ("BIGINT", &["-9223372036854775808"], &["-9223372036854775808"]),
        (
            "DECIMAL(65,30)",
            &[&decimal, "0", "0.5"],
            &[&decimal, "0.000000000000000000000000000000", "0.500000000000000000000000000000"],
        ),
        ("DECIMAL(5,2)", &["-0.001", "1.5"], &["0.00", "1.50"]),
        ("FLOAT", &["0.1", "16777216", "1e38", "-0.0"], &["0.1", "1.6777216e+07", "1e+38", "0"]),
        (
            "DOUBLE",
            &["0.1e0", "1e15", "1.7976931348623157e308", "5e-324"],
            &["0.1", "1e+15", "1.7976931348623157e+308", "5e-324"],
        ),
        ("BIT(64)", &["0x8000000000000001"], &[&bits]),
        ("BIT(3)", &["5"], &["101"]),
        ("YEAR", &["0000", "1901", "2155"], &["0000", "1901", "2155"]),
        (
            "DATE",
            &["'0000-00-00'", "'2024-00-10'", "'2024-02-31'", "'9999-12-31'"],
            &["0000-00-00", "2024-00-10", "2024-02-31", "9999-12-31"],
        ),
        (
            "DATETIME(6)",
            &["'0000-00-00'", "'9999-12-31 23:59:59.999999'", "'2024-02-31 01:02:03.000004'"],
            &["0000-00-00 00:00:00.000000", "9999-12-31 23:59:59.999999", "2024-02-31 01:02:03.000004"],
        ),
        ("DATETIME", &["'1000-01-01'"], &["1000-01-01 00:00:00"]),
        (
            "TIMESTAMP(3) NULL",
            &["0", "'2038-01-19 03:14:07.999'", "'1970-01-01 00:00:01'"],
            &["0000-00-00 00:00:00.000+00", "2038-01-19 03:14:07.999+00", "1970-01-01 00:00:01.000+00"],
        ),
        (
            "TIME(6)",
            &["'-838:59:59.999999'", "'00:00:00.000001'", "'-00:00:00.000001'"],
            &["-838:59:59.999999", "00:00:00.000001", "-00:00:00.000001"],
        ),
        ("TIME(3)", &["'-1:02:03.004'", "'838:59:59.999'"], &["-01:02:03.004", "838:59:59.999"]),
        ("TIME", &["'-838:59:59'", "'12:00:00'"], &["-838:59:59", "12:00:00"]),
        ("CHAR(4) CHARACTER SET latin1", &["'€ÿ  '", "x'8185'"], &["€ÿ", "\u{81}…"]),
        ("CHAR(200)", &["'𝄞'"], &["𝄞"]),
        ("VARCHAR(300) CHARACTER SET utf8mb3", &["'é '"], &["é "]),
        ("LONGTEXT", &["'𝄞\\0\\n'"], &["𝄞\0\n"]),
        ("BINARY(3)", &["'a'", "''"], &["\\x610000", "\\x000000"]),
        ("VARBINARY(300)", &["x'00ff00'"], &["\\x00ff00"]),
        ("BLOB", &["x'deadbeef'", "''"], &["\\xdeadbeef", "\\x"]),
        (
            "ENUM('a','B''x','','c\\\\d') CHARACTER SET utf8mb4",
            &["2", "0", "3", "4"],
            &["B'x", "", "", "c\\d"],
        ),
        ("SET('x','y','z')", &["5", "0"], &["x,z", ""]),
        ("ENUM('é','ß') CHARACTER SET latin2", &["1", "2"], &["é", "ß"]),
        ("JSON", &["'{\"b\" : 1}'"], &["{\"b\" : 1}"]),
        (
            "UUID",
            &[
                "'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
                "'018f0000-0000-7000-8000-0123456789ab'",
                "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
                "'00000000-0000-0000-0000-000000000000'",
                "'123e4567-e89b-62d3-8456-426614174000'",
                "'123e4567-e89b-62d3-0456-426614174000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                "'1ec9414c-232a-6b00-b3c8-9f6bdeced800'",
            ],
            &[
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
                "018f0000-0000-7000-8000-0123456789ab",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "00000000-0000-0000-0000-000000000000",
                "123e4567-e89b-62d3-8456-426614174000",
                "123e4567-e89b-62d3-0456-426614174000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "1ec9414c-232a-6b00-b3c8-9f6bdeced800",
            ],
        ),
        ("INET4", &["'1.2.3.0'", "'0.0.0.0'"], &["1.2.3.0", "0.0.0.0"]),
        (
            "POINT",
            &["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 2)', 4326)"],
            &[
                "0101000000000000000000F03F0000000000000040",
                "0101000020E6100000000000000000F03F0000000000000040",
            ],
        ),
        ("VARCHAR(500) COMPRESSED", &["REPEAT('a', 300)", "'short'", "''"], &[&"a".repeat(300), "short", ""]),
        ("TEXT COMPRESSED", &["REPEAT('b', 5000)"], &[&"b".repeat(5000)]),
        ("BLOB COMPRESSED", &["REPEAT('c', 500)"], &[&format!("\\x{}", "63".repeat(500))]),
        ("VARCHAR(9) INVISIBLE", &["'x'"], &["x"]),
    ];
    for (column, literals, expected) in cases {
        assert_eq!(streamed(&server, &mut tap, column, literals).await, *expected, "{column}");
    }
}

/// Addresses and texts of charsets are the server's own output.
#[tokio::test]
async fn what_only_the_server_knows_is_as_it_prints() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE v (n INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    let printed = |rows: Vec<Row>| -> Vec<String> { rows.iter().map(|row| row.get(0).unwrap()).collect() };
    let addresses = [
        "'::'",
        "'::1'",
        "'::ffff:1.2.3.4'",
        "'::1.2.3.4'",
        "'1::'",
        "'2001:db8::1:0:0:1'",
        "'1:0:0:2:0:0:0:3'",
        "'::1:2'",
        "'1:0:2:3:4:5:6:7'",
        "'::ffff:0:1.2.3.4'",
        "'::0.0.1.2'",
        "'ff02::'",
    ];
    let streamed_addresses = streamed(&server, &mut tap, "INET6", &addresses).await;
    assert_eq!(
        streamed_addresses,
        printed(server.query("shop", "SELECT CAST(v AS CHAR) FROM v ORDER BY n").await)
    );
    let charsets: Vec<(String, i64)> = server
        .query("", "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'")
        .await
        .iter()
        .map(|row| (row.get(0).unwrap(), row.get(1).unwrap()))
        .collect();
    assert!(charsets.len() > 30);
    for (charset, _) in charsets {
        let texts: Vec<String> =
            ["'plain ~ text'", "'äöü ÄÖÜ ß é'", "'Ωπ жя שא ไทย'", "'漢字かなカナ한글'", "''"]
                .iter()
                .map(|text| format!("CONVERT({text} USING {charset})"))
                .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let column = format!("VARCHAR(40) CHARACTER SET {charset}");
        let streamed = streamed(&server, &mut tap, &column, &texts).await;
        let told = printed(server.query("shop", "SELECT CONVERT(v USING utf8mb4) FROM v ORDER BY n").await);
        assert_eq!(streamed, told, "{charset}");
    }
}

#[tokio::test]
async fn old_temporal_forms_are_read() {
    let server = server(&[("mysql56_temporal_format", "0")]).await;
    server.execute("shop", "CREATE TABLE v (n INT PRIMARY KEY)").await;
    let mut tap = Tap::open(&server).await;
    for (column, literals, expected) in [
        (
            "DATETIME",
            &["'2024-01-31 23:59:59'", "'0000-00-00'"][..],
            &["2024-01-31 23:59:59", "0000-00-00 00:00:00"][..],
        ),
        ("TIME", &["'-838:59:59'", "'00:00:01'"], &["-838:59:59", "00:00:01"]),
        ("TIMESTAMP NULL", &["'2024-01-31 23:59:59'"], &["2024-01-31 23:59:59+00"]),
    ] {
        assert_eq!(streamed(&server, &mut tap, column, literals).await, expected, "{column}");
    }
}
