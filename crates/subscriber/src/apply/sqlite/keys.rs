//! Sets of keys in tables, which compare as the target's key does.

use rowbridge_schema::sql::ident;
use rusqlite::{Connection, params_from_iter};

use super::catalog::{KeyColumn, Resolved};
use super::value::{Bound, Stored};
use super::{create, statement};

/// The set of one statement's work.
const TEMPORARY: &str = "temp.rowbridge_keys";

pub(super) fn key_declarations(table: &Resolved) -> Vec<String> {
    let declare = |column: &KeyColumn| {
        let collation = column.collation.as_deref().unwrap_or("BINARY");
        let declared = table.declared(&column.name);
        let type_sql = if declared.is_empty() { String::new() } else { create::type_sql(declared) };
        format!("{} {type_sql} COLLATE {}", ident(&column.name), ident(collation))
    };
    table.key.iter().map(declare).collect()
}

pub(super) fn key_names(table: &Resolved) -> String {
    table.key.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ")
}

/// A set of keys.
pub(super) struct KeySet<'a> {
    conn: &'a Connection,
    /// Its table, quoted, with its database.
    place: String,
    add: String,
    names: String,
}

impl<'a> KeySet<'a> {
    /// An empty set that no other connection sees; there is one at a time.
    pub(super) fn temporary(conn: &'a Connection, table: &Resolved) -> rusqlite::Result<Self> {
        let set = Self::at(conn, table, TEMPORARY.to_owned());
        set.create(table)?;
        Ok(set)
    }

    /// The set in table `name` of the target's file. It lasts until it is dropped, over restarts.
    pub(super) fn lasting(conn: &'a Connection, table: &Resolved, name: &str) -> Self {
        Self::at(conn, table, format!("main.{}", ident(name)))
    }

    fn at(conn: &'a Connection, table: &Resolved, place: String) -> Self {
        let names = key_names(table);
        let parameters: Vec<_> = (1..=table.key.len()).map(|n| format!("?{n}")).collect();
        // NULLs are distinct to a unique index.
        let add = format!(
            "INSERT INTO {place} ({names}) SELECT {} WHERE NOT EXISTS (SELECT 1 FROM {place} WHERE {})",
            parameters.join(", "),
            statement::where_key_is(table, 1)
        );
        Self { conn, place, add, names }
    }

    /// Makes its table, empty.
    pub(super) fn create(&self, table: &Resolved) -> rusqlite::Result<()> {
        let Self { conn, place, names, .. } = self;
        conn.execute_batch(&format!(
            "DROP TABLE IF EXISTS {place}; CREATE TABLE {place} ({}, UNIQUE ({names}))",
            key_declarations(table).join(", ")
        ))
    }

    /// Adds a key.
    pub(super) fn add(&self, key: &[Bound<'_>]) -> rusqlite::Result<()> {
        self.conn.prepare_cached(&self.add)?.execute(params_from_iter(key)).map(|_| ())
    }

    /// `NOT EXISTS (..)`: the row of the target's table is not in the set.
    pub(super) fn excludes(&self, table: &Resolved) -> String {
        let terms: Vec<_> = table
            .key
            .iter()
            .map(|column| format!("k.{0} IS {1}.{0}", ident(&column.name), table.sql_name))
            .collect();
        format!("NOT EXISTS (SELECT 1 FROM {} AS k WHERE {})", self.place, terms.join(" AND "))
    }

    pub(super) fn all(&self) -> rusqlite::Result<Vec<Vec<Stored>>> {
        let mut statement = self.conn.prepare(&format!("SELECT {} FROM {}", self.names, self.place))?;
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|i| row.get(i)).collect())?;
        rows.collect()
    }

    /// Ends the set.
    pub(super) fn drop(self) -> rusqlite::Result<()> {
        self.conn.execute_batch(&format!("DROP TABLE {}", self.place))
    }
}
