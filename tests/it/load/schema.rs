//! The tables of the load, in each kind of database.

use rowbridge_tests::scenario::Kind;

/// Everything that [`schema`] makes.
pub(crate) const TABLES: [&str; 5] = ["items", "orders", "loose", "named", "typed"];

/// Columns of `typed`.
pub(super) const TYPED: [&str; 16] = [
    "id", "small", "large", "flag", "day", "tod", "moment", "stamp", "single", "real_one", "bits", "bytes",
    "fixed", "txt", "mood", "doc",
];

/// Another unique index, a key of several columns, no key at all, a key that compares without case, and many types.
pub(crate) fn schema(kind: Kind) -> &'static str {
    match kind {
        Kind::Mariadb => {
            "CREATE TABLE items (id INT PRIMARY KEY, code VARCHAR(40) UNIQUE, price DECIMAL(12,2), ratio DOUBLE,
                data BLOB, note VARCHAR(20) NOT NULL DEFAULT 'none');
             CREATE TABLE orders (region VARCHAR(20), number INT, total BIGINT, v TEXT, PRIMARY KEY (region, number));
             CREATE TABLE loose (a INT, b VARCHAR(20), c DOUBLE);
             CREATE TABLE named (name VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY, n INT, v TEXT);
             CREATE TABLE typed (id INT PRIMARY KEY, small TINYINT, large BIGINT UNSIGNED, flag BOOLEAN, day DATE,
                tod TIME(3), moment DATETIME(6), stamp TIMESTAMP(6) NULL, single FLOAT, real_one DOUBLE, bits BIT(10),
                bytes VARBINARY(3000), fixed CHAR(8) CHARACTER SET latin1, txt MEDIUMTEXT,
                mood ENUM('sad', 'ok', 'it''s'), doc JSON)"
        }
        Kind::Postgres => {
            "CREATE TABLE items (id int PRIMARY KEY, code varchar(40) UNIQUE, price numeric(12,2),
                ratio float8, data bytea, note varchar(20) NOT NULL DEFAULT 'none');
             CREATE TABLE orders (region varchar(20), number int, total bigint, v text, PRIMARY KEY (region, number));
             CREATE TABLE loose (a int, b varchar(20), c float8); ALTER TABLE loose REPLICA IDENTITY FULL;
             CREATE TABLE named (name varchar(40) PRIMARY KEY, n int, v text);
             CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s');
             CREATE TABLE typed (id int PRIMARY KEY, small smallint, large numeric(20,0), flag bool, day date,
                tod time(3), moment timestamp(6), stamp timestamptz, single real, real_one float8, bits bit(10), bytes bytea,
                fixed char(8), txt text, mood mood, doc json)"
        }
        Kind::Sqlite => {
            "CREATE TABLE items (id INTEGER PRIMARY KEY, code TEXT UNIQUE, price TEXT, ratio REAL, data BLOB,
                note TEXT NOT NULL DEFAULT 'none');
             CREATE TABLE orders (region TEXT NOT NULL, number INTEGER NOT NULL, total INTEGER, v TEXT,
                PRIMARY KEY (region, number));
             CREATE TABLE loose (a INTEGER, b TEXT, c REAL);
             CREATE TABLE named (name TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, n INTEGER, v TEXT);
             CREATE TABLE typed (id INTEGER PRIMARY KEY, small INTEGER, large INTEGER, flag BOOLEAN, day TEXT, tod TEXT,
                moment TEXT, stamp TEXT, single REAL, real_one REAL, bits TEXT, bytes BLOB, fixed TEXT, txt TEXT, mood TEXT,
                doc TEXT)"
        }
    }
}

/// Rows that are there before the bridge, for a snapshot that takes a while.
pub(crate) fn fill(kind: Kind, rows: u32) -> String {
    let (numbers, text) = match kind {
        // MySQL has no sequences.
        Kind::Mariadb => (
            format!("(SELECT i FROM ({}) all_of_them WHERE i <= {rows}) n", digits(rows)),
            "CONCAT('old ', i)",
        ),
        Kind::Postgres => (format!("generate_series(1, {rows}) i"), "'old ' || i"),
        Kind::Sqlite => (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i FROM n) n"
            ),
            "'old ' || i",
        ),
    };
    format!(
        "INSERT INTO items (id, code, ratio) SELECT i, {text}, i * 0.5 FROM {numbers};
         INSERT INTO orders SELECT 'old', i, i, {text} FROM {numbers};
         INSERT INTO loose SELECT i % 100, 'old', i % 10 FROM {numbers} WHERE i % 10 = 0;
         INSERT INTO named SELECT {text}, i, {text} FROM {numbers};
         INSERT INTO typed (id, small, txt) SELECT i, i % 100, {text} FROM {numbers}"
    )
}

/// The numbers from 1 on with as many digits as this one.
fn digits(number: u32) -> String {
    let one =
        "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL
        SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let places = 0..number.to_string().len();
    let sum: Vec<String> =
        places.clone().map(|place| format!("{} * d{place}.d", 10_u64.pow(place as u32))).collect();
    let from: Vec<String> = places.map(|place| format!("{one} d{place}")).collect();
    format!("SELECT 1 + {} AS i FROM {}", sum.join(" + "), from.join(" CROSS JOIN "))
}
