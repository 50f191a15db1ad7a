//! Which events pass an endpoint's `when`, and as what.
//!
//! A condition that speaks of the row alone (`after.total > 1000`) says which rows the endpoint has: a row that enters it
//! is an insert there, one that leaves it a delete, so that the endpoint ends up with just those rows. One that speaks of
//! the change itself (`op`, `before`, `changed(...)`) picks events, and those that it picks pass as they are.

use rowbridge_schema::event::EventOp;
use rowbridge_schema::expr::{Bound, ExprError, Input, Program, Purpose, Row, Sent};
use rowbridge_schema::{Cell, TableDef};

use super::make::{Change, Common, Shape};
use super::unmade::RowError;

/// Whether a condition says which rows, not which events.
pub(crate) fn is_membership(program: &Program) -> bool {
    !["op", "before", "position", "commit_time"].iter().any(|name| program.names(name))
}

/// A condition, bound to one shape of a table.
#[derive(Debug)]
pub(crate) struct Filter {
    bound: Bound,
    /// It says which rows, not which events.
    membership: bool,
    /// Columns that it needs of a row.
    needs: Vec<u16>,
}

/// The new row with what is known of the old one in its place.
struct Old<'a> {
    old: Sent<'a>,
    new: Sent<'a>,
}

impl Row for Old<'_> {
    fn cell(&self, column: usize) -> Option<&Cell<'_>> {
        self.old.cell(column).or_else(|| self.new.cell(column))
    }
}

impl Filter {
    pub(crate) fn new(program: &Program, def: &TableDef) -> Result<Self, ExprError> {
        let bound = program.bind(def, Purpose::Condition)?;
        let membership = is_membership(program);
        let needs = program
            .columns()
            .iter()
            .filter_map(|used| def.columns.iter().position(|column| column.name == used.name))
            .map(|at| at as u16)
            .collect();
        Ok(Self { bound, membership, needs })
    }

    /// As what a change may pass.
    pub(crate) fn may_see(&self, op: EventOp) -> &'static [EventOp] {
        match op {
            EventOp::Insert => &[EventOp::Insert],
            EventOp::Update if self.membership => &[EventOp::Insert, EventOp::Update, EventOp::Delete],
            EventOp::Update => &[EventOp::Update],
            EventOp::Delete => &[EventOp::Delete],
            EventOp::Read => &[EventOp::Read],
            EventOp::Truncate => &[EventOp::Truncate],
            EventOp::Message => &[EventOp::Message],
        }
    }

    /// What the endpoint sees of a change; `None`: nothing.
    pub(crate) fn seen(
        &self,
        common: &Common,
        shape: &Shape,
        change: Change<'_>,
        op: EventOp,
    ) -> Result<Option<EventOp>, RowError> {
        let run = change.run;
        let (old_cells, new_cells) =
            if op == EventOp::Truncate { (&[][..], &[][..]) } else { run.row(change.index) };
        let old = Sent { columns: &run.old, cells: old_cells };
        let new = Sent { columns: &run.new, cells: new_cells };
        let has = |columns: &[u16]| !columns.is_empty();
        let matches = |before: Option<&dyn Row>, after: Option<&dyn Row>| {
            let input = Input {
                op,
                before,
                after,
                message: None,
                table: &shape.name,
                stream: common.stream.as_str(),
                endpoint: common.endpoint.as_str(),
                position: change.position,
                committed_at: change.committed_at,
            };
            self.bound.matches(&input).map_err(RowError::Filter)
        };
        let before: Option<&dyn Row> = if has(&run.old) { Some(&old) } else { None };
        let after: Option<&dyn Row> = if has(&run.new) { Some(&new) } else { None };
        if !self.membership {
            return Ok(matches(before, after)?.then_some(op));
        }
        // What the source told of the old row may not be what the condition needs. Where the key did not change and no old
        // row came, the key's columns are those of the new one.
        let known = self.needs.iter().all(|at| {
            run.old.contains(at) || op == EventOp::Update && run.old.is_empty() && shape.def.key.contains(at)
        });
        match op {
            // Messages are picked elsewhere: they have no rows.
            EventOp::Truncate | EventOp::Message => Ok(Some(op)),
            EventOp::Insert | EventOp::Read => Ok(matches(None, after)?.then_some(op)),
            // A receiver that never had the row passes over its delete; one that had it must not keep it.
            EventOp::Delete if !known => Ok(Some(op)),
            EventOp::Delete => Ok(matches(before, before)?.then_some(op)),
            EventOp::Update => {
                let now = matches(before, after)?;
                let was = match known {
                    true => Some(matches(before, Some(&Old { old, new }))?),
                    false => None,
                };
                Ok(match (was, now) {
                    (Some(false), true) => Some(EventOp::Insert),
                    (_, true) => Some(EventOp::Update),
                    (Some(false), false) => None,
                    (_, false) => Some(EventOp::Delete),
                })
            }
        }
    }
}
