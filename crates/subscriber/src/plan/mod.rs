//! Planning: from a delivery and the operator's mapping to what a target has to do. Pure, no I/O.
//!
//! [`plan`] drops what a target already has and cuts the rest at barriers (TRUNCATE, snapshot ranges, a changed table
//! shape). Between two barriers, [`fold`] keeps the last change per key, which the property test in this folder proves
//! equal to the sequence.

pub mod fold;
pub mod mapping;
#[cfg(test)]
mod model;
mod occupants;

use std::collections::{HashMap, HashSet};

pub use fold::{Deleted, Equality, Folded, KeyText, PartialRow, Row, Shape, Unfoldable, Upsert, fold};
pub use mapping::{MapError, MappedTable, Mapping};
use rowbridge_schema::wire::{Chunk, Delivery, Op};
use rowbridge_schema::{Cell, Position, TableId, TableName};

/// One change of one row, borrowed from its delivery.
#[derive(Debug, Clone, Copy)]
pub struct Event<'d> {
    /// Where in the stream.
    pub position: Position,
    /// The table's shape.
    pub table: TableId,
    /// Never [`Op::Truncate`].
    pub op: Op,
    /// Columns of `old`.
    pub old_columns: &'d [u16],
    /// Old cells: the key, or the full old row, or nothing.
    pub old: &'d [Cell<'d>],
    /// Columns of `new`.
    pub new_columns: &'d [u16],
    /// New cells; absent columns keep their value.
    pub new: &'d [Cell<'d>],
    /// The row may be missing at the target.
    pub maybe_missing: bool,
    /// Commit time at the source in microseconds since 1970.
    pub at: i64,
}

impl<'d> Event<'d> {
    /// The old cell of a column, if it was sent.
    #[must_use]
    pub fn old_cell(&self, column: u16) -> Option<&'d Cell<'d>> {
        self.old_columns.iter().position(|&c| c == column).and_then(|i| self.old.get(i))
    }

    /// The new cell of a column, if it was sent. An update whose full old row was sent takes what the new one leaves
    /// out (unchanged TOAST) from the old one.
    #[must_use]
    pub fn new_cell(&self, column: u16) -> Option<&'d Cell<'d>> {
        self.new_columns
            .iter()
            .position(|&c| c == column)
            .and_then(|i| self.new.get(i))
            .or_else(|| if self.op == Op::Update { self.old_cell(column) } else { None })
    }

    /// The key that finds the row at the target: the old one where it was sent. `None` if a key column was not sent.
    #[must_use]
    pub fn key_before(&self, key: &[u16]) -> Option<Vec<&'d Cell<'d>>> {
        key.iter().map(|&k| self.old_cell(k).or_else(|| self.new_cell(k))).collect()
    }

    /// The key that the row has afterwards. `None` for deletes.
    #[must_use]
    pub fn key_after(&self, key: &[u16]) -> Option<Vec<&'d Cell<'d>>> {
        if self.op == Op::Delete { None } else { key.iter().map(|&k| self.new_cell(k)).collect() }
    }

    /// The new row: what was sent, filled from the full old row.
    #[must_use]
    pub fn row(&self) -> Row<'d> {
        let fill = self.op == Op::Update && self.old_columns.iter().any(|c| !self.new_columns.contains(c));
        if !fill {
            return Row::Sent { columns: self.new_columns, cells: self.new };
        }
        let mut cells: Vec<_> = self.new_columns.iter().copied().zip(self.new).collect();
        let rest = self.old_columns.iter().copied().zip(self.old);
        cells.extend(rest.filter(|(column, _)| !self.new_columns.contains(column)));
        cells.sort_by_key(|(column, _)| *column);
        Row::Merged(cells)
    }
}

/// What a target does between two barriers, or a barrier.
#[derive(Debug)]
pub enum Step<'d> {
    /// Changes of rows in source order. Tables that share a name share a shape.
    Rows(Vec<Event<'d>>),
    /// One TRUNCATE of several tables.
    Truncate {
        /// The tables.
        tables: Vec<TableId>,
        /// Position of the last of them.
        position: Position,
    },
    /// What comes before the rows of a snapshot's chunk, which follow as [`Step::Rows`]: rows are removed, and a table
    /// without any is known to exist.
    Chunk {
        /// What to remove.
        chunk: &'d Chunk,
        /// The chunk's rows, which stay.
        sent: Vec<Event<'d>>,
        /// The target has nothing of the chunk yet: what is to be done before its first row is to be done.
        begins: bool,
        /// End of the chunk.
        position: Position,
    },
}

/// What a delivery comes to.
#[derive(Debug, Default)]
pub struct Plan<'d> {
    /// In order.
    pub steps: Vec<Step<'d>>,
    /// Changes that are new to the target.
    pub changes: u64,
}

impl Plan<'_> {
    /// The tables that the steps touch.
    #[must_use]
    pub fn tables(&self) -> HashSet<TableId> {
        let mut tables = HashSet::new();
        for step in &self.steps {
            match step {
                Step::Rows(events) => tables.extend(events.iter().map(|event| event.table)),
                Step::Truncate { tables: truncated, .. } => tables.extend(truncated),
                Step::Chunk { chunk, .. } => {
                    tables.insert(chunk.table);
                }
            }
        }
        tables
    }
}

struct Builder<'d> {
    steps: Vec<Step<'d>>,
    rows: Vec<Event<'d>>,
    shapes: HashMap<&'d TableName, TableId>,
}

impl Builder<'_> {
    fn barrier(&mut self) {
        self.shapes.clear();
        if !self.rows.is_empty() {
            self.steps.push(Step::Rows(std::mem::take(&mut self.rows)));
        }
    }
}

/// Cuts a delivery into steps, without the changes at or below `after`.
#[must_use]
pub fn plan<'d>(delivery: &'d Delivery<'d>, after: Option<Position>) -> Plan<'d> {
    let after = after.unwrap_or(Position::ZERO);
    let mut builder = Builder { steps: Vec::new(), rows: Vec::new(), shapes: HashMap::new() };
    let mut changes = 0;
    for block in &delivery.blocks {
        if block.head.last <= after {
            continue;
        }
        let events = |run: &'d rowbridge_schema::wire::Run<'d>| {
            (0..run.changes()).map(move |index| {
                let (old, new) = run.row(index);
                Event {
                    position: block.position(run, index),
                    table: run.table,
                    op: run.op,
                    old_columns: &run.old,
                    old,
                    new_columns: &run.new,
                    new,
                    maybe_missing: run.maybe_missing,
                    at: block.head.at,
                }
            })
        };
        // An empty one still says that there is a table.
        if let Some(chunk) = &block.head.chunk
            && (chunk.clear || chunk.sweep.is_some() || block.runs.is_empty())
        {
            builder.barrier();
            let rows = block.runs.iter().filter(|run| run.op != Op::Truncate && run.table == chunk.table);
            builder.steps.push(Step::Chunk {
                chunk,
                sent: rows.flat_map(events).collect(),
                begins: block.head.first > after,
                position: block.head.last,
            });
        }
        let mut truncating = false;
        for run in &block.runs {
            if run.op == Op::Truncate {
                let position = block.position(run, 0);
                if position <= after {
                    continue;
                }
                changes += 1;
                builder.barrier();
                match builder.steps.last_mut() {
                    Some(Step::Truncate { tables, position: last }) if truncating => {
                        tables.push(run.table);
                        *last = position;
                    }
                    _ => builder.steps.push(Step::Truncate { tables: vec![run.table], position }),
                }
                truncating = true;
                continue;
            }
            truncating = false;
            if let Some(def) = delivery.tables.get(&run.table)
                && *builder.shapes.entry(&def.name).or_insert(run.table) != run.table
            {
                builder.barrier();
                builder.shapes.insert(&def.name, run.table);
            }
            let before = builder.rows.len();
            builder.rows.extend(events(run).filter(|event| event.position > after));
            changes += (builder.rows.len() - before) as u64;
        }
    }
    builder.barrier();
    Plan { steps: builder.steps, changes }
}
