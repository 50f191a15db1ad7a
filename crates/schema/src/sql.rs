//! Quoting of identifiers and literals. Names come from catalogs and the wire: they are always quoted, never trusted.

use crate::table::TableName;

/// `name` in double quotes, quotes doubled: PostgreSQL and SQLite.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."table"` or `"table"`.
#[must_use]
pub fn qualified(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", ident(schema), ident(&name.name)),
        None => ident(&name.name),
    }
}

/// A string literal for PostgreSQL with `standard_conforming_strings` on, and for SQLite.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `name` in backticks, backticks doubled: MySQL and MariaDB, whatever `ANSI_QUOTES` says.
#[must_use]
pub fn backticked(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `database`.`table` `` or `` `table` ``.
#[must_use]
pub fn backticked_table(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", backticked(schema), backticked(&name.name)),
        None => backticked(&name.name),
    }
}
