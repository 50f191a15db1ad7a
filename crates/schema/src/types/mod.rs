//! What a column's type is, which type takes its place in another database, and how values get there.
//!
//! - [`ColumnType`] reads a type as PostgreSQL, MySQL (MariaDB) or SQLite names it.
//! - [`made_as`] names the type of a column that Rowbridge makes for it in another database: one that holds every value
//!   of the source's type exactly, as far as that database has one.
//! - [`Conversion`] is planned once per column, against the type that the target's column really has, and then turns the
//!   canonical text of each value into the canonical text of the target's type: exactly, or not at all
//!   ([`Unholdable`]). Precision, scale, length and range are checked here, not by a server that might round.
//!
//! `docs/types.md` has the canonical texts and, printed from this code, the table of all crossings.

pub(crate) mod arithmetic;
mod bytes;
mod conversion;
mod json;
mod kind;
mod made;
pub(crate) mod number;
mod parse_mysql;
mod parse_postgres;
mod parse_sqlite;
mod plan;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod text;
pub(crate) mod time;

pub use conversion::{Conversion, Mismatch, Unholdable};
pub use kind::{Affinity, Charset, ColumnType, Kind, Limit};
pub use made::{Made, Server, made_as, too_long_together};

use serde::{Deserialize, Serialize};

/// A conversion that the operator asks for, by `as` in a `[[map]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The canonical text, whatever the type. From SQLite the storage class is not kept.
    Text,
    /// A timestamp without time zone is taken as UTC.
    Utc,
    /// A date or timestamp of MySQL whose year, month or day is zero becomes NULL.
    NullIfZero,
}

impl Form {
    /// All forms, as they are written.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("text", Self::Text), ("utc", Self::Utc), ("null_if_zero", Self::NullIfZero)];
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Utc => "utc",
            Self::NullIfZero => "null_if_zero",
        })
    }
}
