//! The type of a column that Rowbridge makes.

use super::Form;
use super::kind::{Affinity, Charset, ColumnType, Kind, Limit};
use crate::table::Dialect;

/// Which server a table is made in. MySQL and MariaDB name the collation that tells all texts apart differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// PostgreSQL
    Postgres,
    /// MySQL 8 and later.
    Mysql,
    /// MariaDB 10.6 and later.
    Mariadb,
    /// SQLite
    Sqlite,
}

impl Server {
    /// Whose types it has.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Postgres => Dialect::Postgres,
            Self::Mysql | Self::Mariadb => Dialect::Mysql,
            Self::Sqlite => Dialect::Sqlite,
        }
    }

    /// The collation that tells all texts apart, also by blanks at their end; `None` where every column does.
    #[must_use]
    pub fn exact_collation(self) -> Option<&'static str> {
        match self {
            Self::Mysql => Some("utf8mb4_0900_bin"),
            Self::Mariadb => Some("utf8mb4_nopad_bin"),
            Self::Postgres | Self::Sqlite => None,
        }
    }
}

/// A type as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The type's name with modifiers.
    pub type_name: String,
    /// The collation, where the default one would take different texts for equal.
    pub collation: Option<&'static str>,
}

/// InnoDB's longest index entry in bytes.
const MYSQL_KEY_BYTES: usize = 3072;
/// Longer ones are `longtext`: all VARCHARs of a row share 65,535 bytes.
const MYSQL_VARCHAR: u32 = 255;

/// The type that Rowbridge gives a column in another database (or, with `form`, in the same).
///
/// It holds every value of the source's type exactly; what no type holds (`NaN` in a `DECIMAL`, years BC in a `DATE`) is
/// refused value by value. `key_parts` is the number of columns of the key that the column belongs to, 0 if to none: MySQL
/// needs bounded types there.
#[must_use]
pub fn made_as(source: &ColumnType, server: Server, key_parts: usize, form: Option<Form>) -> Made {
    let kind = match form {
        Some(Form::Text) => &Kind::Text { limit: Limit::None, padded: false, charset: Charset::Utf8 },
        Some(Form::Utc) => match source.kind {
            Kind::Timestamp(fraction) => &Kind::Timestamptz(fraction),
            _ => &Kind::Timestamptz(6),
        },
        Some(Form::NullIfZero) | None => &source.kind,
    };
    match server {
        Server::Postgres => Made { type_name: postgres(kind, source), collation: None },
        Server::Sqlite => Made { type_name: sqlite(kind).to_owned(), collation: None },
        Server::Mysql | Server::Mariadb => mysql(kind, source, key_parts, server.exact_collation()),
    }
}

/// What a SQLite column is for, by its declared name.
enum Purpose {
    Boolean,
    Number,
    Text,
}

fn purpose(source: &ColumnType) -> Purpose {
    let upper = source.name.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    if has("BOOL") {
        Purpose::Boolean
    } else if ["NUM", "DEC", "MONEY", "FIXED"].into_iter().any(has) {
        Purpose::Number
    } else {
        // DATE, DATETIME, JSON, UUID, STRING: mostly texts. A number in such a column cannot be taken for a text, since
        // SQLite would have made a number of it.
        Purpose::Text
    }
}

fn postgres(kind: &Kind, source: &ColumnType) -> String {
    let plain = |name: &str| name.to_owned();
    match kind {
        Kind::Bool => plain("boolean"),
        Kind::Integer { bits, unsigned } => plain(match (bits, unsigned) {
            (8 | 16, false) | (8, true) => "smallint",
            (24 | 32, false) | (16 | 24, true) => "integer",
            (32, true) | (_, false) => "bigint",
            (_, true) => "numeric(20,0)",
        }),
        Kind::Decimal { size: Some((precision, scale)), .. } => format!("numeric({precision},{scale})"),
        Kind::Decimal { size: None, .. } => plain("numeric"),
        Kind::Float { bits: 32, .. } => plain("real"),
        Kind::Float { .. } => plain("double precision"),
        Kind::Text { limit: Limit::Chars(length @ 1..), .. } => format!("character varying({length})"),
        // The length of zero characters that MySQL has.
        Kind::Text { .. } | Kind::Enum(_) | Kind::Set(_) => plain("text"),
        Kind::Bytes { .. } | Kind::Geometry => plain("bytea"),
        Kind::Date => plain("date"),
        Kind::Time(fraction) => format!("time({fraction}) without time zone"),
        Kind::Timetz(fraction) => format!("time({fraction}) with time zone"),
        Kind::Timestamp(fraction) => format!("timestamp({fraction}) without time zone"),
        Kind::Timestamptz(fraction) => format!("timestamp({fraction}) with time zone"),
        Kind::Duration(_) | Kind::Interval { .. } => plain("interval"),
        Kind::Uuid => plain("uuid"),
        // `jsonb` would put keys in another order and write numbers its own way.
        Kind::Json { .. } => plain("json"),
        Kind::Bit { length: Some(length), varying: false } => format!("bit({length})"),
        Kind::Bit { .. } => plain("bit varying"),
        Kind::Year => plain("smallint"),
        Kind::Inet { .. } => plain("inet"),
        Kind::Vector => plain("real[]"),
        Kind::Array(_) | Kind::Range | Kind::Other => plain("text"),
        Kind::Dynamic(affinity) => plain(match affinity {
            Affinity::Integer => "bigint",
            Affinity::Real => "double precision",
            Affinity::Text => "text",
            // Without a name values are of any class, most of them numbers and texts.
            Affinity::Blob if source.name.trim().is_empty() => "text",
            Affinity::Blob => "bytea",
            Affinity::Numeric => match purpose(source) {
                Purpose::Boolean => "smallint",
                Purpose::Number => "numeric",
                Purpose::Text => "text",
            },
        }),
    }
}

fn sqlite(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        // Beyond 63 bits SQLite makes a REAL of it.
        Kind::Integer { bits: 64, unsigned: true } => "TEXT",
        Kind::Integer { .. } | Kind::Year => "INTEGER",
        Kind::Float { .. } => "REAL",
        Kind::Bytes { .. } | Kind::Geometry => "BLOB",
        // Decimals would become REAL, and dates have no type of their own.
        _ => "TEXT",
    }
}

/// Bytes of a row that MySQL gives to its columns, less what other things of a row may take.
const MYSQL_ROW_BYTES: usize = 60_000;
/// What any other column takes at most, pointers to long values included.
const MYSQL_COLUMN_BYTES: usize = 32;

/// The bounded texts of a table that are made `longtext`, since all columns of a row share 65,535 bytes in MySQL: the
/// longest first. By column whether it may be, which those of a key may not, and its type.
#[must_use]
pub fn too_long_together(columns: &[(bool, Made)]) -> Vec<usize> {
    let bytes = |made: &Made| {
        let length = ["varchar(", "char("].iter().find_map(|name| made.type_name.strip_prefix(name));
        let characters = length.and_then(|rest| rest.trim_end_matches(')').parse::<usize>().ok());
        characters.map_or(MYSQL_COLUMN_BYTES, |characters| 4 * characters + 2)
    };
    let mut sizes: Vec<(usize, usize)> = columns.iter().map(|(_, made)| bytes(made)).enumerate().collect();
    let mut total: usize = sizes.iter().map(|(_, size)| size).sum();
    sizes.sort_by_key(|&(at, size)| (std::cmp::Reverse(size), at));
    let mut long = Vec::new();
    for (at, size) in sizes.into_iter().filter(|&(at, _)| columns[at].0) {
        if total <= MYSQL_ROW_BYTES || size <= MYSQL_COLUMN_BYTES {
            break;
        }
        total -= size - MYSQL_COLUMN_BYTES;
        long.push(at);
    }
    long
}

fn mysql(kind: &Kind, source: &ColumnType, key_parts: usize, distinct: Option<&'static str>) -> Made {
    let plain = |name: &str| Made { type_name: name.to_owned(), collation: None };
    let ascii = |name: &str| Made { type_name: name.to_owned(), collation: Some("ascii_bin") };
    let share = MYSQL_KEY_BYTES / key_parts.max(1);
    let text = |most: Option<u32>| {
        let type_name = match (most, key_parts) {
            (Some(most), 0) if most <= MYSQL_VARCHAR => format!("varchar({most})"),
            (_, 0) => "longtext".to_owned(),
            (most, _) => format!("varchar({})", most.unwrap_or(u32::MAX).min(share as u32 / 4)),
        };
        Made { type_name, collation: distinct }
    };
    match kind {
        Kind::Bool => plain("tinyint(1)"),
        Kind::Integer { bits, unsigned } => {
            let name = match bits {
                8 => "tinyint",
                16 => "smallint",
                24 => "mediumint",
                32 => "int",
                _ => "bigint",
            };
            plain(&if *unsigned { format!("{name} unsigned") } else { name.to_owned() })
        }
        Kind::Decimal { size: Some((precision, scale)), .. } => {
            let digits = i64::from(*precision).max(i64::from(*scale)) + i64::from(-scale).max(0);
            let scale = (*scale).max(0);
            if digits <= 65 && scale <= 30 {
                plain(&format!("decimal({digits},{scale})"))
            } else {
                text(None)
            }
        }
        // DECIMAL(65,30) would refuse much and fill up the rest with zeros.
        Kind::Decimal { size: None, .. } => text(None),
        Kind::Float { bits: 32, .. } => plain("float"),
        Kind::Float { .. } => plain("double"),
        Kind::Text { limit: Limit::Chars(length), padded: true, .. }
            if *length <= MYSQL_VARCHAR && key_parts == 0 =>
        {
            Made { type_name: format!("char({length})"), collation: distinct }
        }
        Kind::Text { limit, .. } => text(match limit {
            Limit::Chars(length) => Some(*length),
            Limit::Bytes(length) => u32::try_from(*length).ok(),
            Limit::None => None,
        }),
        Kind::Bytes { .. } if key_parts > 0 => plain(&format!("varbinary({share})")),
        Kind::Bytes { .. } | Kind::Geometry => plain("longblob"),
        Kind::Date => plain("date"),
        Kind::Time(fraction) | Kind::Duration(fraction) => plain(&format!("time({fraction})")),
        // TIMESTAMP ends in 2038: a point in time is a DATETIME in UTC.
        Kind::Timestamp(fraction) | Kind::Timestamptz(fraction) => plain(&format!("datetime({fraction})")),
        Kind::Uuid => ascii("char(36)"),
        Kind::Bit { length: Some(length), varying: false } if *length <= 64 => {
            plain(&format!("bit({length})"))
        }
        Kind::Year => plain("year"),
        Kind::Inet { .. } => ascii("varchar(43)"),
        Kind::Timetz(_) => ascii("varchar(21)"),
        Kind::Interval { .. } => ascii("varchar(80)"),
        // JSON would put keys in another order and make doubles of numbers.
        Kind::Json { .. }
        | Kind::Bit { .. }
        | Kind::Enum(_)
        | Kind::Set(_)
        | Kind::Array(_)
        | Kind::Range
        | Kind::Vector
        | Kind::Other => text(None),
        Kind::Dynamic(affinity) => match affinity {
            Affinity::Integer => plain("bigint"),
            Affinity::Real => plain("double"),
            Affinity::Blob if key_parts > 0 && !source.name.trim().is_empty() => {
                plain(&format!("varbinary({share})"))
            }
            Affinity::Blob if !source.name.trim().is_empty() => plain("longblob"),
            Affinity::Numeric if matches!(purpose(source), Purpose::Boolean) => plain("smallint"),
            Affinity::Numeric | Affinity::Text | Affinity::Blob => text(None),
        },
    }
}
