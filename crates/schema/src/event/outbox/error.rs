//! What a table and its `[[outbox]]` do not agree on.

use crate::table::TableName;

/// Why no messages can be made of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// A column that the table does not have.
    #[error("{table} has no column {column}{}", did_you_mean(.nearest.as_deref()))]
    UnknownColumn {
        /// Of `[[outbox]]`.
        key: &'static str,
        /// The table.
        table: TableName,
        /// The configured name, or the default.
        column: String,
        /// What it most likely means.
        nearest: Option<String>,
    },
    /// A column whose values the source's log does not carry.
    #[error("{column} of {table} is a generated column, which the source does not send")]
    Generated {
        /// Of `[[outbox]]`.
        key: &'static str,
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
}

impl OutboxError {
    /// The key of `[[outbox]]` that is wrong.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::UnknownColumn { key, .. } | Self::Generated { key, .. } => key,
        }
    }

    /// What to do.
    #[must_use]
    pub fn fix(&self) -> String {
        match (self, self.key()) {
            (Self::UnknownColumn { .. }, key @ ("id" | "type" | "key")) => {
                format!("Name the column by outbox.{key}, or write {key} = false if the table has none.")
            }
            (_, key) => format!("Name another column by outbox.{key}."),
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!(" (did you mean {name}?)"))
}
