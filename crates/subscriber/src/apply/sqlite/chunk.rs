//! Removing rows before those of a snapshot's chunk arrive, and TRUNCATE.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::wire::{Chunk, FailingChange, KeyRange};
use rowbridge_schema::{Position, TableId};
use rusqlite::{Connection, params_from_iter};

use super::catalog::Resolved;
use super::error::objection;
use super::keys::KeySet;

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

/// What a chunk of a re-snapshot says of keys, as they are bound.
struct Keys<'a> {
    place: Place<'a>,
}

impl<'a> Keys<'a> {
    fn malformed(&self) -> Stop {
        self.place.refused("the snapshot's key range does not fit the table's key".into())
    }

    fn texts(&self, key: &[String]) -> Result<Vec<Bound<'static>>, Stop> {
        let table = self.place.table;
        if key.len() != table.key.len() || key.is_empty() {
            return Err(self.malformed());
        }
        let values = table.key.iter().zip(key).map(|(column, text)| {
            let natural = table.natural.get(usize::from(column.index)).copied();
            natural.map(|natural| bound_key_text(text, natural).into_owned())
        });
        values.collect::<Option<_>>().ok_or_else(|| self.malformed())
    }

    /// Adds the keys that stay.
    fn add_to(&self, set: &KeySet<'_>, chunk: &Chunk, sent: &[Event<'_>]) -> Result<(), Stop> {
        let table = self.place.table;
        for event in sent {
            let key = event.key_after(&table.mapped.key).and_then(|cells| bind_key(table, &cells));
            set.add(&key.ok_or_else(|| self.malformed())?)?;
        }
        for key in &chunk.skipped {
            set.add(&self.texts(key)?)?;
        }
        Ok(())
    }
}

/// Removes the rows in the chunk's range that are neither sent nor skipped.
pub(super) fn prune(
    conn: &Connection,
    place: Place<'_>,
    chunk: &Chunk,
    range: &KeyRange,
    sent: &[Event<'_>],
) -> Result<(), Stop> {
    let (table, keys) = (place.table, Keys { place });
    let kept = KeySet::temporary(conn, table)?;
    keys.add_to(&kept, chunk, sent)?;
    let mut bounds = Vec::new();
    for key in range.after.iter().chain(&range.upto) {
        bounds.extend(keys.texts(key)?);
    }
    let within = statement::where_range(table, range.after.is_some(), range.upto.is_some());
    place.remove(conn, &format!("{within} AND {}", kept.excludes(table)), bounds)?;
    kept.drop()?;
    Ok(())
}

/// Adds a chunk's keys to those that a re-snapshot has met. With its last chunk removes all other rows, and the set.
pub(super) fn sweep(
    conn: &Connection,
    place: Place<'_>,
    chunk: &Chunk,
    sent: &[Event<'_>],
    collection: &str,
) -> Result<(), Stop> {
    let met = KeySet::lasting(conn, place.table, collection);
    Keys { place }.add_to(&met, chunk, sent)?;
    if chunk.done {
        place.remove(conn, &met.excludes(place.table), Vec::new())?;
        met.drop()?;
        tracing::info!(table = %place.table.source, "a re-snapshot is complete");
    }
    Ok(())
}

/// Adds the keys that changes of the stream leave behind to those that a re-snapshot has met: such rows are newer than
/// what it has read, or in a range that it has left.
pub(super) fn collect(
    conn: &Connection,
    table: &Resolved,
    collection: &str,
    event: &Event<'_>,
) -> Result<(), Stop> {
    let key = event.key_after(&table.mapped.key).and_then(|cells| bind_key(table, &cells));
    match key.filter(|key| !key.is_empty()) {
        Some(key) => Ok(KeySet::lasting(conn, table, collection).add(&key)?),
        None => Ok(()),
    }
}
