//! Changes that nothing can be sent of, because an expression of the endpoint's fails for their row.
//!
//! Such a change goes the way of an event that its receiver refuses for good: it is set aside, or halts the lane, in its
//! place. A dead letter keeps the change as the source made it, so that the event is made anew once the expression was
//! corrected.

use std::sync::Arc;

use rowbridge_schema::event::shape::ComputeError;
use rowbridge_schema::expr::EvalError;
use rowbridge_schema::wire::{Op, Run, RunKind, RunWriter, read_run};
use rowbridge_schema::{Classified as _, Position, TableDef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::make::{Change, MakeError, Maker, Shape};
use super::window::Item;
use crate::journal::TableRef;

/// Which expression fails for a row. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("endpoint.when fails for this row")]
    Filter(#[source] EvalError),
    #[error(transparent)]
    Computed(ComputeError),
}

impl RowError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Filter(error) | Self::Computed(ComputeError { source: error, .. }) => error.hint(),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unmade {
    pub(crate) error: RowError,
    /// The change as JSON, for [`Maker::again`].
    pub(crate) change: String,
}

/// A change as a dead letter keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<'a> {
    /// The table's definition.
    #[serde(borrow)]
    table: &'a RawValue,
    /// A run of this one change.
    #[serde(borrow)]
    run: &'a RawValue,
    position: Position,
    /// Microseconds since 1970.
    committed_at: i64,
    replay: bool,
}

/// Why a kept change is no event now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgainError {
    #[error("the letter's change cannot be read")]
    Unreadable(#[source] serde_json::Error),
    #[error(transparent)]
    Make(#[from] MakeError),
}

impl Unmade {
    pub(super) fn new(error: RowError, shape: &Shape, change: Change<'_>, replay: bool) -> Arc<Self> {
        let Change { run, index, position, committed_at } = change;
        let run = one(run, index);
        let table = shape.def.to_json();
        // Both are JSON of our own making.
        let change = match (serde_json::from_str(&table), serde_json::from_str(&run)) {
            (Ok(table), Ok(run)) => {
                let kept = Kept { table, run, position, committed_at, replay };
                serde_json::to_string(&kept).unwrap_or_default()
            }
            _ => String::new(),
        };
        Arc::new(Self { error, change })
    }
}

/// The run's JSON with one of its changes only.
fn one(run: &Run<'_>, index: usize) -> String {
    let mut writer = RunWriter::new();
    if run.op == Op::Truncate {
        writer.truncate(run.table, 0, run.number);
    } else {
        let (old, new) = run.row(index);
        let kind = RunKind {
            table: run.table,
            table_index: 0,
            op: run.op,
            old: &run.old,
            new: &run.new,
            maybe_missing: run.maybe_missing,
        };
        let number = run.number.saturating_add(index as u64);
        writer.row(kind, number, |cells| old.iter().chain(new).for_each(|cell| cells.cell(cell)));
    }
    String::from_utf8(writer.finish().0).unwrap_or_default()
}

impl Maker {
    /// Whether what a dead letter keeps is a change, not events.
    pub(crate) fn is_change(source: &str) -> bool {
        source.starts_with('{')
    }

    /// Makes again what is sent of a change that was set aside: with the filter and the columns of today, perhaps nothing.
    pub(crate) fn again(&mut self, source: &str) -> Result<Vec<Item>, AgainError> {
        let kept: Kept<'_> = serde_json::from_str(source).map_err(AgainError::Unreadable)?;
        let def: TableDef = serde_json::from_str(kept.table.get()).map_err(AgainError::Unreadable)?;
        let run = read_run(kept.run.get().as_bytes()).map_err(AgainError::Unreadable)?;
        let shape = self.shape(&TableRef::new(&def))?;
        let change = Change { run: &run, index: 0, position: kept.position, committed_at: kept.committed_at };
        let mut items = Vec::new();
        if run.changes() > 0 {
            self.items(&shape, change, kept.replay, &mut items);
        }
        Ok(items)
    }
}
