//! Types by what they hold.

use serde::{Deserialize, Serialize};

use super::{parse_mysql, parse_postgres, parse_sqlite};
use crate::table::{Column, Dialect, TableDef, TypeDefinition};

/// How much a text or byte string may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// No limit that a delivery could reach.
    None,
    /// Characters.
    Chars(u32),
    /// Bytes.
    Bytes(u64),
}

/// Which characters a text column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Charset {
    /// All of Unicode.
    Utf8,
    /// Unicode's first plane: MySQL's `utf8mb3` and `ucs2`.
    Plane0,
    /// MySQL's `latin1`, which is Windows-1252 with its five gaps filled.
    Latin1,
    /// `ascii`
    Ascii,
    /// Another one: the server refuses what it does not have.
    Other,
}

/// SQLite's column affinity (<https://sqlite.org/datatype3.html>, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// `INT` in the name.
    Integer,
    /// `CHAR`, `CLOB` or `TEXT`.
    Text,
    /// `BLOB`, or no name at all: values stay as they are.
    Blob,
    /// `REAL`, `FLOA` or `DOUB`.
    Real,
    /// Anything else.
    Numeric,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// PostgreSQL `boolean`: `t`, `f`.
    Bool,
    /// Whole numbers.
    Integer {
        /// 8, 16, 24, 32 or 64.
        bits: u32,
        /// From 0 on.
        unsigned: bool,
    },
    /// Decimal numbers.
    Decimal {
        /// Digits in all, and digits after the point (negative: zeros before it); none without bounds.
        size: Option<(u32, i32)>,
        /// From 0 on.
        unsigned: bool,
    },
    /// Binary floating point.
    Float {
        /// 32 or 64.
        bits: u32,
        /// MySQL's `FLOAT(M,D)`: digits after the point that the server rounds to.
        scale: Option<u32>,
        /// From 0 on.
        unsigned: bool,
    },
    /// Characters.
    Text {
        /// Longest text.
        limit: Limit,
        /// `char(n)`: blanks at the end do not count.
        padded: bool,
        /// Which characters.
        charset: Charset,
    },
    /// Bytes.
    Bytes {
        /// Longest string.
        limit: Limit,
        /// `BINARY(n)`: filled up with zeros.
        fixed: bool,
    },
    /// A day.
    Date,
    /// A time of day, from 00:00:00 to 24:00:00, with digits of the fraction.
    Time(u32),
    /// MySQL's `TIME`: a span of less than 839 hours, with digits of the fraction.
    Duration(u32),
    /// A time of day with an offset.
    Timetz(u32),
    /// Date and time without zone.
    Timestamp(u32),
    /// A point in time.
    Timestamptz(u32),
    /// Months, days and microseconds; `true` if the column keeps all fields.
    Interval {
        /// Digits of the fraction.
        fraction: u32,
        /// The column is declared with fewer fields.
        limited: bool,
    },
    /// 128 bits.
    Uuid,
    /// JSON.
    Json {
        /// The text is kept byte for byte.
        verbatim: bool,
    },
    /// Bits.
    Bit {
        /// How many; none: any number.
        length: Option<u32>,
        /// Up to so many.
        varying: bool,
    },
    /// MySQL's `YEAR`.
    Year,
    /// One of some labels; empty where the labels are not known.
    Enum(Vec<String>),
    /// Several of some labels.
    Set(Vec<String>),
    /// PostgreSQL array by the name of its elements' type.
    Array(String),
    /// Range or multirange.
    Range,
    /// IP address, with or without mask.
    Inet {
        /// Which ones: 4, 6 or both (0).
        version: u8,
        /// A mask may follow.
        masks: bool,
    },
    /// Geometry as EWKB.
    Geometry,
    /// 32-bit floats.
    Vector,
    /// A SQLite column, whose values have a class of their own.
    Dynamic(Affinity),
    /// A type of the server that is known by its text only.
    Other,
}

/// A column's type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnType {
    /// Whose.
    pub dialect: Dialect,
    /// As the server names it, domains resolved.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

impl ColumnType {
    /// Reads a type's name. `types` are the user-defined types that it may refer to.
    #[must_use]
    pub fn parse(
        dialect: Dialect,
        type_name: &str,
        collation: Option<&str>,
        types: &[TypeDefinition],
    ) -> Self {
        let (name, kind) = match dialect {
            Dialect::Postgres => parse_postgres::parse(type_name, types),
            Dialect::Mysql => (type_name.to_owned(), parse_mysql::parse(type_name, collation)),
            Dialect::Sqlite => (type_name.to_owned(), Kind::Dynamic(parse_sqlite::affinity(type_name))),
        };
        Self { dialect, name, kind }
    }

    /// The type of a table's column.
    #[must_use]
    pub fn of(def: &TableDef, column: &Column) -> Self {
        Self::parse(def.dialect, &column.type_name, column.collation.as_deref(), &def.types)
    }

    /// The type as a message names it.
    pub(super) fn shown(&self) -> String {
        match (self.dialect, self.name.trim()) {
            (Dialect::Sqlite, "") => "of a SQLite column without type".to_owned(),
            (_, name) => format!("{name} of {}", self.dialect.title()),
        }
    }
}

impl Dialect {
    /// The name as people write it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// A type's name without its modifiers, and the modifiers: `numeric(10,2)` is `numeric` with 10 and 2.
pub(super) fn split(type_name: &str) -> (String, Vec<i64>) {
    let Some(start) = type_name.find('(') else { return (type_name.trim().to_owned(), Vec::new()) };
    let Some(end) = type_name[start..].find(')').map(|end| start + end) else {
        return (type_name.trim().to_owned(), Vec::new());
    };
    let modifiers =
        type_name[start + 1..end].split(',').filter_map(|text| text.trim().parse().ok()).collect();
    let name = format!("{}{}", type_name[..start].trim_end(), &type_name[end + 1..]);
    (name.trim().to_owned(), modifiers)
}
