//! Rows that a re-snapshot has not come to and that are in the way: the source has them no more, or with other values, and
//! the range that would say so is still to come. They hold a value that a change has just written, where a unique index
//! allows one of it.
//!
//! Only rows that are still to come or to be removed are taken away: those whose keys have not been collected. What the
//! source still has comes back with its own range. A soft delete takes them out of partial indexes only.

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;
use rusqlite::{Connection, params_from_iter};

use super::catalog::{KeyColumn, Resolved};
use super::keys::KeySet;
use super::statement;
use super::value::{Bound, bound};
use crate::plan::Event;

/// Removes rows that hold a unique value of a change and whose keys are not in the set `collection`.
pub(super) fn make_room(
    conn: &Connection,
    table: &Resolved,
    collection: &str,
    events: &[Event<'_>],
) -> rusqlite::Result<()> {
    let uncollected = KeySet::lasting(conn, table, collection).excludes(table);
    for index in &table.others {
        let terms: Vec<_> = index.iter().enumerate().map(|(at, column)| term(column, at + 1)).collect();
        let condition = format!("{} AND {uncollected}", terms.join(" AND "));
        let Some(sql) = statement::delete(table, &condition, index.len() + 1) else { continue };
        let soft = matches!(table.mapped.delete, DeletePolicy::Soft(_));
        for event in events {
            let Some(mut values) = values(table, event, index) else { continue };
            values.extend(soft.then_some(Bound::Integer(event.at)));
            conn.prepare_cached(&sql)?.execute(params_from_iter(&values))?;
        }
    }
    Ok(())
}

fn term(column: &KeyColumn, parameter: usize) -> String {
    let collation = column.collation.as_deref().unwrap_or("BINARY");
    format!("{} COLLATE {} = ?{parameter}", ident(&column.name), ident(collation))
}

/// A row's values in an index; `None` where one is NULL, which is like no other, or was not sent.
fn values<'d>(table: &Resolved, event: &Event<'d>, index: &[KeyColumn]) -> Option<Vec<Bound<'d>>> {
    let value = |column: &KeyColumn| {
        let cell = event.new_cell(column.index).filter(|cell| !cell.is_null())?;
        bound(cell, *table.natural.get(usize::from(column.index))?)
    };
    index.iter().map(value).collect()
}
