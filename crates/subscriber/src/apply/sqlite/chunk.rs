//! Removing rows before those of a snapshot's chunk arrive, and TRUNCATE.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::wire::{Chunk, FailingChange};
use rowbridge_schema::{Position, TableId};
use rusqlite::{Connection, params_from_iter};

use super::catalog::Resolved;
use super::error::objection;
use super::repair::KeySet;
use super::rows::{Stop, bind_key, failing_table};
use super::statement;
use super::value::{Bound, bound_key_text};
use crate::plan::Event;

/// Where a removal stands in the stream, and of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) id: TableId,
    pub(super) table: &'a Resolved,
    pub(super) position: Position,
    /// Commit time at the source in microseconds since 1970, for soft deletes.
    pub(super) at: i64,
}

impl Place<'_> {
    fn refused(&self, reason: String) -> Stop {
        let failing: FailingChange =
            failing_table(self.position, self.table.source.to_string(), None, reason);
        Stop::Refused { table: self.id, unique: false, failing: Box::new(failing) }
    }

    fn remove(&self, conn: &Connection, condition: &str, mut values: Vec<Bound<'_>>) -> Result<(), Stop> {
        let Some(sql) = statement::delete(self.table, condition, values.len() + 1) else { return Ok(()) };
        if matches!(self.table.mapped.delete, DeletePolicy::Soft(_)) {
            values.push(Bound::Integer(self.at));
        }
        let done = conn.prepare_cached(&sql)?.execute(params_from_iter(&values));
        done.map(|_| ()).map_err(|error| match objection(&error) {
            // A trigger of the target.
            Some(objection) => self.refused(objection.reason),
            None => Stop::Sqlite(error),
        })
    }
}

/// Removes all rows. SQLite has no TRUNCATE; a DELETE without condition drops the pages as well.
pub(super) fn clear(conn: &Connection, place: Place<'_>) -> Result<(), Stop> {
    place.remove(conn, "1", Vec::new())
}

/// Removes the rows in the chunk's range that are neither sent nor skipped.
pub(super) fn prune(
    conn: &Connection,
    place: Place<'_>,
    chunk: &Chunk,
    sent: &[Event<'_>],
) -> Result<(), Stop> {
    let Some(range) = &chunk.prune else { return Ok(()) };
    let table = place.table;
    let malformed = || place.refused("the snapshot's key range does not fit the table's key".into());
    let texts = |key: &Vec<String>| -> Result<Vec<Bound<'static>>, Stop> {
        if key.len() != table.key.len() || key.is_empty() {
            return Err(malformed());
        }
        let values = table.key.iter().zip(key).map(|(column, text)| {
            let natural = table.natural.get(usize::from(column.index)).copied();
            natural.map(|natural| bound_key_text(text, natural).into_owned())
        });
        values.collect::<Option<_>>().ok_or_else(malformed)
    };
    if table.key.is_empty() {
        return Err(malformed());
    }
    let kept = KeySet::new(conn, table)?;
    for event in sent {
        let key = event.key_after(&table.mapped.key).and_then(|cells| bind_key(table, &cells));
        kept.add(&key.ok_or_else(malformed)?)?;
    }
    for key in &chunk.skipped {
        kept.add(&texts(key)?)?;
    }
    let mut bounds = Vec::new();
    for key in range.after.iter().chain(&range.upto) {
        bounds.extend(texts(key)?);
    }
    let within = statement::where_range(table, range.after.is_some(), range.upto.is_some());
    let condition = format!("{within} AND {}", KeySet::excludes(table));
    place.remove(conn, &condition, bounds)?;
    kept.drop()?;
    Ok(())
}
