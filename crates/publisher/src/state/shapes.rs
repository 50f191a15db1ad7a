//! What a MySQL source needs remembered: our number among its replicas, and what its tables looked like.

use rand::RngExt as _;
use rowbridge_schema::{TableDef, TableName};
use rusqlite::OptionalExtension as _;

use super::{State, StateError};

impl State {
    /// Our number among the replicas of a MySQL source: drawn once, since a server drops the older of two with the same
    /// one. From the upper half, where people do not number servers.
    ///
    /// # Errors
    /// The file's.
    pub fn replica_id(&self) -> Result<u32, StateError> {
        if let Some(id) = self.meta("replica_id")?.and_then(|text| text.parse().ok()) {
            return Ok(id);
        }
        let id = rand::rng().random_range(1 << 31..u32::MAX);
        self.set_meta("replica_id", &id.to_string())?;
        Ok(id)
    }

    /// Remembers what a table looks like; a shape that is known becomes the newest one. Old ones are forgotten.
    ///
    /// # Errors
    /// The file's.
    pub fn add_shape(&self, def: &TableDef) -> Result<(), StateError> {
        let (name, json) = (def.name.to_string(), def.to_json());
        self.with(|db| {
            let transaction = db.transaction()?;
            let newest: Option<String> = transaction
                .query_row(
                    "SELECT def FROM shapes WHERE name = ?1 ORDER BY id DESC LIMIT 1",
                    [&name],
                    |row| row.get(0),
                )
                .optional()?;
            if newest.as_ref() == Some(&json) {
                return Ok(());
            }
            transaction
                .execute("INSERT OR REPLACE INTO shapes (name, def) VALUES (?1, ?2)", [&name, &json])?;
            transaction.execute(
                "DELETE FROM shapes WHERE name = ?1 AND id NOT IN
                 (SELECT id FROM shapes WHERE name = ?1 ORDER BY id DESC LIMIT 64)",
                [&name],
            )?;
            transaction.commit()
        })
    }

    /// What a table looked like, the newest first.
    ///
    /// # Errors
    /// The file's.
    pub fn shapes(&self, table: &TableName) -> Result<Vec<TableDef>, StateError> {
        let found: Vec<String> = self.with(|db| {
            let mut statement = db.prepare("SELECT def FROM shapes WHERE name = ?1 ORDER BY id DESC")?;
            statement.query_map([table.to_string()], |row| row.get(0))?.collect()
        })?;
        Ok(found.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
    }
}
