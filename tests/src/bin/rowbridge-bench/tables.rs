//! The tables that are measured, and the statements that fill and change them, in the words of each database.

use rowbridge_tests::scenario::Kind;

/// What a column holds.
#[derive(Clone, Copy)]
enum Value {
    Number,
    Text,
    Decimal,
    Time,
    Json,
    Flag,
    /// Filled by [`Shape::insert_large`].
    Large,
}

impl Value {
    fn declared(self, kind: Kind) -> &'static str {
        let [postgres, mariadb, sqlite] = match self {
            Self::Number => ["bigint", "BIGINT", "INTEGER"],
            Self::Text => ["text", "VARCHAR(100)", "TEXT"],
            Self::Decimal => ["numeric", "DECIMAL(20,2)", "REAL"],
            Self::Time => ["timestamptz", "DATETIME(6)", "TEXT"],
            Self::Json => ["jsonb", "JSON", "TEXT"],
            Self::Flag => ["boolean", "BOOLEAN", "INTEGER"],
            Self::Large => ["text", "LONGTEXT", "TEXT"],
        };
        match kind {
            Kind::Postgres => postgres,
            Kind::Mariadb => mariadb,
            Kind::Sqlite => sqlite,
        }
    }

    /// An expression over the number `i`.
    fn made(self, kind: Kind) -> &'static str {
        let [postgres, mariadb, sqlite] = match self {
            Self::Number => ["i"; 3],
            Self::Text => ["'note number ' || i", "CONCAT('note number ', i)", "'note number ' || i"],
            Self::Decimal => ["i * 1.25"; 3],
            Self::Time => ["now()", "NOW(6)", "strftime('%Y-%m-%d %H:%M:%f', 'now')"],
            Self::Json => [
                "jsonb_build_object('n', i, 'tag', 'abc')",
                "JSON_OBJECT('n', i, 'tag', 'abc')",
                "json_object('n', i, 'tag', 'abc')",
            ],
            Self::Flag => ["i % 2 = 0"; 3],
            Self::Large => ["'x'"; 3],
        };
        match kind {
            Kind::Postgres => postgres,
            Kind::Mariadb => mariadb,
            Kind::Sqlite => sqlite,
        }
    }
}

/// What a table looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Six columns of six types, about 100 bytes a row.
    Usual,
    /// A key and 99 columns of the same types.
    Wide,
    /// A key and one text.
    Large,
}

impl Shape {
    /// The columns after the key `id`.
    fn columns(self) -> Vec<(String, Value)> {
        let usual = [
            ("note", Value::Text),
            ("amount", Value::Decimal),
            ("at", Value::Time),
            ("data", Value::Json),
            ("ok", Value::Flag),
        ];
        match self {
            Self::Usual => usual.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            Self::Wide => {
                let more = usual.iter().chain([&("number", Value::Number)]).cycle().zip(1..=99);
                more.map(|((name, value), n)| (format!("{name}_{n}"), *value)).collect()
            }
            Self::Large => vec![("value".to_owned(), Value::Large)],
        }
    }

    /// The statement that makes a table.
    pub(super) fn create(self, kind: Kind, table: &str) -> String {
        let columns: Vec<String> =
            self.columns().iter().map(|(name, value)| format!(", {name} {}", value.declared(kind))).collect();
        let key = Value::Number.declared(kind);
        format!("CREATE TABLE {table} (id {key} PRIMARY KEY{})", columns.concat())
    }

    /// The statement that inserts the rows of some keys.
    pub(super) fn insert(self, kind: Kind, table: &str, from: u64, to: u64) -> String {
        let values: Vec<String> =
            self.columns().iter().map(|(_, value)| format!(", {}", value.made(kind))).collect();
        let series = match kind {
            Kind::Postgres => format!("generate_series({from}::bigint, {to}::bigint) AS s(i)"),
            Kind::Mariadb => format!("(SELECT seq AS i FROM seq_{from}_to_{to}) AS s"),
            Kind::Sqlite => format!(
                "(WITH RECURSIVE s(i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM s WHERE i < {to}) SELECT i FROM s)"
            ),
        };
        format!("INSERT INTO {table} SELECT i{} FROM {series}", values.concat())
    }
}

/// The statement that inserts a row of [`Shape::Large`].
pub(super) fn insert_large(table: &str, id: u64, value: &str) -> String {
    format!("INSERT INTO {table} VALUES ({id}, '{value}')")
}

/// The statement that changes the rows of some keys.
pub(super) fn update(table: &str, from: u64, to: u64) -> String {
    format!("UPDATE {table} SET amount = amount + 1 WHERE id BETWEEN {from} AND {to}")
}

/// The statement that removes the rows of some keys.
pub(super) fn delete(table: &str, from: u64, to: u64) -> String {
    format!("DELETE FROM {table} WHERE id BETWEEN {from} AND {to}")
}

/// Table number `n`, from 1 on.
pub(super) fn name(n: u64) -> String {
    format!("bench_{n}")
}

/// A table of one row, whose number each end of a load sets: once it is visible at the copy, all before it is.
pub(super) const TICK: &str = "bench_tick";

/// The statements that make [`TICK`].
pub(super) fn create_tick(kind: Kind) -> [String; 2] {
    let number = Value::Number.declared(kind);
    [
        format!("CREATE TABLE {TICK} (id {number} PRIMARY KEY, n {number})"),
        format!("INSERT INTO {TICK} VALUES (1, 0)"),
    ]
}

/// The statement that sets the number of [`TICK`].
pub(super) fn tick(n: u64) -> String {
    format!("UPDATE {TICK} SET n = {n} WHERE id = 1")
}
