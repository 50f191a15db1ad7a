//! What a table and an endpoint's columns do not agree on.

use crate::expr::{EvalError, ExprError};
use crate::table::TableName;

/// A computed column has no value for a row. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the computed column {column} fails for this row")]
pub struct ComputeError {
    /// The name that the receiver sees.
    pub column: String,
    /// What failed.
    pub source: EvalError,
}

/// Why columns cannot be shaped as configured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// A column that the table does not have.
    #[error("{table} has no column {column}{}", did_you_mean(.nearest.as_deref()))]
    UnknownColumn {
        /// The table.
        table: TableName,
        /// The configured name.
        column: String,
        /// What it most likely means.
        nearest: Option<String>,
    },
    /// A column whose values the source's log does not carry.
    #[error("{column} of {table} is a generated column, which is not sent; compute it instead")]
    Generated {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
    /// A rule for a column that is not kept.
    #[error("{column} has a rule, but keep does not list it; add it to keep, or remove the rule")]
    NotKept {
        /// The column.
        column: String,
    },
    /// Two rules, or two places in `keep`, for one column.
    #[error("{column} is configured twice; write one rule")]
    Twice {
        /// The column.
        column: String,
    },
    /// Two columns would have one name.
    #[error("two columns of {table} would be called {name}; rename or drop one of them")]
    SameName {
        /// The table.
        table: TableName,
        /// The name that both would have.
        name: String,
    },
    /// A new name without letters.
    #[error("the new name of {column} is empty; write a name, or drop the column")]
    EmptyName {
        /// The column.
        column: String,
    },
    /// A key that can be guessed.
    #[error(
        "the key that {column} is hashed with has {bytes} bytes, it needs at least {}; make one with \
         `openssl rand -hex 32`",
        super::ShapeConfig::HASH_KEY_BYTES
    )]
    ShortKey {
        /// The column.
        column: String,
        /// Its length.
        bytes: usize,
    },
    /// Nothing would be left.
    #[error("no column of {table} is left; keep at least one")]
    Nothing {
        /// The table.
        table: TableName,
    },
    /// A computed column's expression does not fit the table.
    #[error("the computed column {column} does not fit {table}")]
    Computed {
        /// The table.
        table: TableName,
        /// The computed column.
        column: String,
        /// What is wrong and where.
        source: ExprError,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!(" (did you mean {name}?)"))
}
