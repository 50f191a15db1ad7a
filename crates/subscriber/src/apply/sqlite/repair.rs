//! The long way for a table whose changes collide on a unique index when they are applied one by one.
//!
//! The rows involved are copied to a table that has no unique index but the key, the changes are applied there, the old
//! and new keys are deleted at the target and the final rows inserted. Rows that are not involved stay where they are: a
//! collision with one of those is real.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::TableId;
use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;
use rusqlite::{Connection, params_from_iter};

use super::catalog::Resolved;
use super::error::objection;
use super::keys::{KeySet, key_declarations, key_names};
use super::rows::{Stop, Writer, bind_key, failing, key_texts};
use super::value::Stored;
use super::{create, statement};
use crate::plan::Event;

/// Name of the copy.
const COPY: &str = "temp.rowbridge_copy";

/// Writes the final rows of one table's changes.
pub(super) fn repair(
    conn: &Connection,
    id: TableId,
    table: &Arc<Resolved>,
    events: &[&Event<'_>],
) -> Result<(), Stop> {
    let keys = KeySet::temporary(conn, table)?;
    for event in events {
        for cells in [event.key_before(&table.mapped.key), event.key_after(&table.mapped.key)] {
            if let Some(key) = cells.and_then(|cells| bind_key(table, &cells)) {
                keys.add(&key)?;
            }
        }
    }
    let touched = keys.all()?;
    keys.drop()?;

    let stored: Vec<_> = table.columns.iter().filter(|column| !column.generated).collect();
    let declarations: Vec<_> = stored
        .iter()
        .filter(|column| !statement::in_key(table, &column.name))
        .map(|column| match column.declared.as_str() {
            "" => ident(&column.name),
            declared => format!("{} {}", ident(&column.name), create::type_sql(declared)),
        })
        .chain(key_declarations(table))
        .chain([format!("UNIQUE ({})", key_names(table))])
        .collect();
    conn.execute_batch(&format!(
        "DROP TABLE IF EXISTS {COPY}; CREATE TEMP TABLE rowbridge_copy ({})",
        declarations.join(", ")
    ))?;
    let columns = stored.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ");
    let condition = statement::where_key_is(table, 1);
    let copy =
        format!("INSERT INTO {COPY} ({columns}) SELECT {columns} FROM {} WHERE {condition}", table.sql_name);
    for key in &touched {
        conn.prepare_cached(&copy)?.execute(params_from_iter(key))?;
    }

    let mut image = Resolved::clone(table);
    image.sql_name = COPY.to_owned();
    for column in &mut image.key {
        column.collation.get_or_insert_with(|| "BINARY".to_owned());
    }
    let tables = HashMap::from([(id, Arc::new(image))]);
    let mut writer = Writer::displacing(conn, &tables);
    for event in events {
        writer.event(event)?;
    }
    drop(writer);

    let remove = format!("DELETE FROM {} WHERE {condition}", table.sql_name);
    for key in &touched {
        conn.prepare_cached(&remove)?.execute(params_from_iter(key))?;
    }
    put_back(conn, id, table, events, &columns)?;
    conn.execute_batch(&format!("DROP TABLE {COPY}"))?;
    Ok(())
}

/// Inserts row by row, so that a collision names its row.
fn put_back(
    conn: &Connection,
    id: TableId,
    table: &Resolved,
    events: &[&Event<'_>],
    columns: &str,
) -> Result<(), Stop> {
    let Some(rowid) = table.rowid.or_else(|| {
        let hides = |name: &&&str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        ["rowid", "_rowid_", "oid"].iter().find(|name| !hides(name)).copied()
    }) else {
        // Three columns that hide every name of the rowid: all at once, blaming the last change.
        let all = conn.execute(
            &format!("INSERT OR ABORT INTO {} ({columns}) SELECT {columns} FROM {COPY}", table.sql_name),
            [],
        );
        return all.map(|_| ()).map_err(|error| refusal(id, table, events, None, error));
    };
    let rowids: Vec<i64> = conn
        .prepare(&format!("SELECT {rowid} FROM {COPY} ORDER BY 1"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let insert = format!(
        "INSERT OR ABORT INTO {} ({columns}) SELECT {columns} FROM {COPY} WHERE {rowid} = ?1",
        table.sql_name
    );
    for row in rowids {
        let Err(error) = conn.prepare_cached(&insert)?.execute([row]) else { continue };
        let select = format!("SELECT {} FROM {COPY} WHERE {rowid} = ?1", key_names(table));
        let key: Vec<Stored> =
            conn.query_row(&select, [row], |found| (0..table.key.len()).map(|i| found.get(i)).collect())?;
        return Err(refusal(id, table, events, Some(&key_texts(&key)), error));
    }
    Ok(())
}

fn refusal(
    id: TableId,
    table: &Resolved,
    events: &[&Event<'_>],
    key: Option<&[String]>,
    error: rusqlite::Error,
) -> Stop {
    let Some(objection) = objection(&error) else { return Stop::Sqlite(error) };
    let wrote = |event: &&&Event<'_>| {
        let (Some(key), Some(cells)) = (key, event.key_after(&table.mapped.key)) else { return false };
        key.iter().zip(cells).all(|(text, cell)| cell.as_str().unwrap_or("NULL") == text)
    };
    let Some(event) = events.iter().rev().find(wrote).or(events.last()) else { return Stop::Sqlite(error) };
    let column = objection.column.map(|name| table.source_column(&name).map_or(name.clone(), str::to_owned));
    let reason = match (&table.mapped.delete, objection.unique) {
        (DeletePolicy::Soft(_) | DeletePolicy::Ignore, true) => format!(
            "{}; a row that was deleted at the source may still hold the value: remove it at the target",
            objection.reason
        ),
        (_, true) => format!("{}; a row that the source does not have holds the value", objection.reason),
        (_, false) => objection.reason,
    };
    let failing = failing(table, event, column, reason);
    Stop::Refused { table: id, unique: objection.unique, failing: Box::new(failing) }
}
