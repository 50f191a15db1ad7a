//! Changes of rows, in source order.
//!
//! Source order is right by construction: SQLite checks unique indexes row by row, so every state that the source went
//! through was valid there. It fails only where the source replaced rows without saying so (REPLACE) or where the target
//! differs; then [`super::repair`] writes the final rows of the table.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::wire::{FailingChange, Op};
use rowbridge_schema::{Cell, Failpoint, Position, TableId};
use rusqlite::{Connection, params_from_iter};

use super::catalog::Resolved;
use super::error::objection;
use super::value::{Bound, Stored, bound};
use super::{repair, statement};
use crate::plan::Event;

/// Why a change was not applied.
#[derive(Debug)]
pub(super) enum Stop {
    /// SQLite failed; no verdict on the data.
    Sqlite(rusqlite::Error),
    /// The change itself is in the way.
    Refused {
        /// The table's shape.
        table: TableId,
        /// Another row is in the way.
        unique: bool,
        /// What to tell the publisher.
        failing: Box<FailingChange>,
    },
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Where a value of a row stands.
#[derive(Debug, Clone, Copy)]
struct Source {
    column: u16,
    old: bool,
    index: usize,
}

/// What all rows of a run have in common.
#[derive(Debug)]
struct Shape {
    /// What is written.
    write: Vec<Source>,
    /// Whether that is all that the source sends of a row.
    complete: bool,
    before: Option<Vec<Source>>,
    after: Option<Vec<Source>>,
    /// The full old row.
    identity: Option<Vec<Source>>,
    sql: [Option<Rc<str>>; 6],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Insert,
    Upsert,
    Update,
    MoveKey,
    UpdateIdentical,
    Delete,
}

type ShapeKey = (TableId, Op, usize, usize, usize, usize);

/// Applies changes of one delivery.
pub(super) struct Writer<'c> {
    conn: &'c Connection,
    tables: &'c HashMap<TableId, Arc<Resolved>>,
    shapes: HashMap<ShapeKey, Shape>,
    /// A key that is taken gives way: what REPLACE did at the source.
    displace: bool,
}

impl<'c> Writer<'c> {
    /// A writer for one delivery, whose tables are resolved.
    pub(super) fn new(conn: &'c Connection, tables: &'c HashMap<TableId, Arc<Resolved>>) -> Self {
        Self { conn, tables, shapes: HashMap::new(), displace: false }
    }

    /// The same, letting rows displace each other.
    pub(super) fn displacing(conn: &'c Connection, tables: &'c HashMap<TableId, Arc<Resolved>>) -> Self {
        Self { displace: true, ..Self::new(conn, tables) }
    }

    /// Applies the changes between two barriers: all or none.
    pub(super) fn step(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        let mut repaired: HashSet<TableId> = HashSet::new();
        loop {
            self.conn.execute_batch("SAVEPOINT rowbridge_step")?;
            let stop = match self.ordered(events, &repaired) {
                Ok(()) => {
                    self.conn.execute_batch("RELEASE rowbridge_step")?;
                    return Ok(());
                }
                Err(stop) => stop,
            };
            match &stop {
                // Tables do not affect each other, since foreign keys are off: only this one takes the long way.
                Stop::Refused { table, unique: true, .. }
                    if self.tables.get(table).is_some_and(|t| !t.key.is_empty())
                        && repaired.insert(*table) =>
                {
                    undo_step(self.conn)?;
                }
                _ => return Err(stop),
            }
        }
    }

    fn ordered(&mut self, events: &[Event<'_>], repaired: &HashSet<TableId>) -> Result<(), Stop> {
        let mut before = None;
        for event in events.iter().filter(|event| !repaired.contains(&event.table)) {
            if before.replace(event.table).is_some_and(|before| before != event.table) {
                Failpoint::TableWritten.pass();
            }
            self.event(event)?;
        }
        for id in repaired {
            let Some(table) = self.tables.get(id) else { continue };
            let events: Vec<_> = events.iter().filter(|event| event.table == *id).collect();
            repair::repair(self.conn, *id, table, &events)?;
        }
        Ok(())
    }

    /// Applies one change.
    pub(super) fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let Some(table) = self.tables.get(&event.table).map(Arc::clone) else { return Ok(()) };
        let key = (
            event.table,
            event.op,
            event.old_columns.as_ptr() as usize,
            event.old_columns.len(),
            event.new_columns.as_ptr() as usize,
            event.new_columns.len(),
        );
        // The column lists lie in the delivery, which outlives this value: one address, one list.
        let shape = self.shapes.entry(key).or_insert_with(|| Shape::new(&table, event));
        let row = RowOp { conn: self.conn, table: &table, event, displace: self.displace };
        match event.op {
            Op::Insert | Op::Read => row.insert(shape),
            Op::Update => row.update(shape),
            Op::Delete => row.delete(shape),
            Op::Truncate => Ok(()),
        }
    }
}

impl Shape {
    fn new(table: &Resolved, event: &Event<'_>) -> Self {
        let find = |columns: &[u16], column: u16, old: bool| {
            let index = columns.iter().position(|&c| c == column)?;
            Some(Source { column, old, index })
        };
        let old = |column: u16| find(event.old_columns, column, true);
        let new = |column: u16| {
            let filled = || if event.op == Op::Update { old(column) } else { None };
            find(event.new_columns, column, false).or_else(filled)
        };
        let written: Vec<u16> =
            (0..table.mapped.columns.len() as u16).filter(|&c| table.mapped.column(c).is_some()).collect();
        let write: Vec<Source> = written.iter().filter_map(|&column| new(column)).collect();
        let key = || table.key.iter().map(|column| column.index);
        Self {
            complete: write.len() == written.len(),
            before: key().map(|column| old(column).or_else(|| new(column))).collect(),
            after: key().map(new).collect(),
            identity: written.iter().map(|&column| old(column)).collect(),
            write,
            sql: [const { None }; 6],
        }
    }

    fn sql(&mut self, kind: Kind, make: impl FnOnce(&Self) -> String) -> Rc<str> {
        if let Some(sql) = &self.sql[kind as usize] {
            return Rc::clone(sql);
        }
        let sql: Rc<str> = make(self).into();
        self.sql[kind as usize] = Some(Rc::clone(&sql));
        sql
    }
}

fn names<'t>(table: &'t Resolved, sources: &[Source]) -> Vec<&'t str> {
    sources.iter().filter_map(|source| table.mapped.column(source.column)).collect()
}

/// One change on its way into one table.
struct RowOp<'a> {
    conn: &'a Connection,
    table: &'a Resolved,
    event: &'a Event<'a>,
    displace: bool,
}

impl<'a> RowOp<'a> {
    fn cell(&self, source: &Source) -> &'a Cell<'a> {
        let cells = if source.old { self.event.old } else { self.event.new };
        cells.get(source.index).unwrap_or(&Cell::Null)
    }

    fn has_null(&self, sources: &[Source]) -> bool {
        sources.iter().any(|source| self.cell(source).is_null())
    }

    fn bind(&self, sources: impl IntoIterator<Item = Source>) -> Result<Vec<Bound<'a>>, Stop> {
        sources
            .into_iter()
            .map(|source| {
                let column = usize::from(source.column);
                let natural = self.table.natural.get(column);
                natural.and_then(|&natural| bound(self.cell(&source), natural)).ok_or_else(|| {
                    let column = self.table.source_columns.get(column).cloned();
                    self.refused(column, false, "the value's text is not of its storage class".into())
                })
            })
            .collect()
    }

    fn run(&self, sql: &str, values: &[Bound<'_>]) -> Result<usize, Stop> {
        let mut statement = self.conn.prepare_cached(sql)?;
        statement.execute(params_from_iter(values)).map_err(|error| match objection(&error) {
            Some(objection) => {
                let column = objection.column.map(|name| match self.table.source_column(&name) {
                    Some(source) => source.to_owned(),
                    None => name,
                });
                self.refused(column, objection.unique, objection.reason)
            }
            None => Stop::Sqlite(error),
        })
    }

    fn refused(&self, column: Option<String>, unique: bool, reason: String) -> Stop {
        let failing = failing(self.table, self.event, column, reason);
        Stop::Refused { table: self.event.table, unique, failing: Box::new(failing) }
    }

    fn malformed(&self) -> Stop {
        self.refused(None, false, "the change does not carry the columns that find its row".into())
    }

    /// A row that is not there. A target with rows that the source never sent, or without rows that it did, is not ours to
    /// complete from half a row.
    fn missing(&self) -> Result<(), Stop> {
        if self.event.maybe_missing {
            return Ok(());
        }
        let reason = "the row is missing at the target and the change does not carry all of it; take a new snapshot \
                      of the table";
        Err(self.refused(None, false, reason.into()))
    }

    fn insert(&self, shape: &mut Shape) -> Result<(), Stop> {
        let Some(after) = &shape.after else { return Err(self.malformed()) };
        let without_key = after.is_empty() || self.has_null(after);
        if without_key && self.table.key.iter().any(|column| column.collation.is_none()) {
            // NULL for a rowid would draw a number of the target's own.
            return Err(self.refused(
                None,
                false,
                "the key is NULL, which the target's key cannot be".into(),
            ));
        }
        let sql = match without_key {
            true => shape.sql(Kind::Insert, |s| statement::insert(self.table, &names(self.table, &s.write))),
            false => shape.sql(Kind::Upsert, |s| statement::upsert(self.table, &names(self.table, &s.write))),
        };
        self.run(&sql, &self.bind(shape.write.iter().copied())?).map(|_| ())
    }

    fn update(&self, shape: &mut Shape) -> Result<(), Stop> {
        let (Some(before), Some(after)) = (&shape.before, &shape.after) else { return Err(self.malformed()) };
        if before.is_empty() || self.has_null(before) {
            return self.update_identical(shape);
        }
        let moves = before.iter().zip(after).any(|(before, after)| self.cell(before) != self.cell(after));
        let skip_key = !moves && self.table.exact_key;
        let sources: Vec<Source> = shape
            .write
            .iter()
            .filter(|source| !(skip_key && self.table.key.iter().any(|key| key.index == source.column)))
            .copied()
            .collect();
        let mut found = 0;
        if !sources.is_empty() {
            let complete = shape.complete;
            let values = self.bind(sources.iter().chain(before).copied())?;
            let kind = if moves { Kind::MoveKey } else { Kind::Update };
            let sql = shape.sql(kind, |_| {
                let condition = statement::where_key(self.table, sources.len() + 1);
                statement::update(self.table, &names(self.table, &sources), complete, &condition)
            });
            found = match self.run(&sql, &values) {
                Err(Stop::Refused { unique: true, .. }) if self.displace && moves => {
                    self.delete_key(shape)?;
                    self.run(&sql, &values)?
                }
                found => found?,
            };
        }
        match (found, shape.complete) {
            (0, true) => self.insert(shape),
            (0, false) if !sources.is_empty() => self.missing(),
            _ => Ok(()),
        }
    }

    /// Removes the row that has the key which this one is about to take.
    fn delete_key(&self, shape: &Shape) -> Result<(), Stop> {
        let Some(after) = &shape.after else { return Err(self.malformed()) };
        let values = self.bind(after.iter().copied())?;
        let condition = statement::where_key(self.table, 1);
        self.run(&format!("DELETE FROM {} WHERE {condition}", self.table.sql_name), &values).map(|_| ())
    }

    fn update_identical(&self, shape: &mut Shape) -> Result<(), Stop> {
        let (Some(identity), Some(rowid)) = (&shape.identity, self.table.rowid) else {
            return Err(self.malformed());
        };
        let values = self.bind(shape.write.iter().chain(identity).copied())?;
        let sql = shape.sql(Kind::UpdateIdentical, |s| {
            let identity = s.identity.as_deref().unwrap_or_default();
            let condition = statement::where_identical(
                self.table,
                rowid,
                &names(self.table, identity),
                s.write.len() + 1,
            );
            statement::update(self.table, &names(self.table, &s.write), false, &condition)
        });
        match self.run(&sql, &values)? {
            0 => self.missing(),
            _ => Ok(()),
        }
    }

    /// A row that is already gone is as it should be.
    fn delete(&self, shape: &mut Shape) -> Result<(), Stop> {
        let Some(before) = &shape.before else { return Err(self.malformed()) };
        if matches!(self.table.mapped.delete, DeletePolicy::Ignore) {
            return Ok(());
        }
        let identical = before.is_empty() || self.has_null(before);
        let rowid = self.table.rowid.unwrap_or_default();
        let sources: &[Source] = match (identical, &shape.identity) {
            (false, _) => before,
            (true, Some(identity)) if !rowid.is_empty() => identity,
            (true, _) => return Err(self.malformed()),
        };
        let mut values = self.bind(sources.iter().copied())?;
        let make = |sources: &[Source]| {
            let condition = match identical {
                true => statement::where_identical(self.table, rowid, &names(self.table, sources), 1),
                false => statement::where_key(self.table, 1),
            };
            statement::delete(self.table, &condition, sources.len() + 1).unwrap_or_default()
        };
        if matches!(self.table.mapped.delete, DeletePolicy::Soft(_)) {
            values.push(Bound::Integer(self.event.at));
        }
        if identical {
            let sql = make(sources);
            return self.run(&sql, &values).map(|_| ());
        }
        let sql = shape.sql(Kind::Delete, |s| make(s.before.as_deref().unwrap_or_default()));
        self.run(&sql, &values).map(|_| ())
    }
}

/// Undoes a step that was refused.
pub(super) fn undo_step(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("ROLLBACK TO rowbridge_step; RELEASE rowbridge_step")
}

/// Names a change that cannot be applied.
pub(super) fn failing(
    table: &Resolved,
    event: &Event<'_>,
    column: Option<String>,
    reason: String,
) -> FailingChange {
    let cells = event.key_after(&table.mapped.key).or_else(|| event.key_before(&table.mapped.key));
    let key = table.mapped.key.iter().zip(cells.unwrap_or_default()).map(|(&index, cell)| {
        let name = table.source_columns.get(usize::from(index)).map_or("", String::as_str);
        format!("{name}={}", cell.as_str().unwrap_or("NULL"))
    });
    FailingChange {
        position: event.position,
        table: table.source.to_string(),
        column,
        key: key.collect(),
        reason,
    }
}

/// Names a table that cannot be written.
pub(super) fn failing_table(
    position: Position,
    table: String,
    column: Option<String>,
    reason: String,
) -> FailingChange {
    FailingChange { position, table, column, key: Vec::new(), reason }
}

/// Key texts of a stored row, in the order of the key.
pub(super) fn key_texts(values: &[Stored]) -> Vec<String> {
    values.iter().map(super::value::display).collect()
}

/// Cells of a key as they are bound.
pub(super) fn bind_key<'e>(table: &Resolved, cells: &[&'e Cell<'e>]) -> Option<Vec<Bound<'e>>> {
    table
        .key
        .iter()
        .zip(cells)
        .map(|(column, cell)| bound(cell, *table.natural.get(usize::from(column.index))?))
        .collect()
}
