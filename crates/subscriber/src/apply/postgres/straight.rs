//! Deliveries that bring nothing but new rows, many per table: a first copy, a load. Their rows go out by COPY as they lie
//! in the delivery. Nothing is gathered or folded before; should a key come twice, or be there, the server says so, and
//! the delivery is applied as any other.

use rowbridge_schema::wire::{Delivery, Op, Run};
use rowbridge_schema::{Position, TableId, TableName};

use super::binding::Binding;
use super::copy;
use super::lane::PostgresLane;
use super::session::Session;
use super::set::COPY_FROM_ROWS;
use super::types::Check;

/// Rows of one table that have the same columns.
pub(super) struct Straight<'d> {
    table: TableId,
    columns: &'d [u16],
    /// By place among the columns: whether they are written.
    written: Vec<bool>,
    sql: String,
    runs: Vec<&'d Run<'d>>,
    rows: usize,
}

impl<'d> Straight<'d> {
    fn new(binding: &Binding, run: &'d Run<'d>) -> Self {
        Self {
            table: run.table,
            columns: &run.new,
            written: run.new.iter().map(|&c| binding.column(c).is_some()).collect(),
            sql: copy::statement(binding, &run.new),
            runs: Vec::new(),
            rows: 0,
        }
    }

    pub(super) fn table(&self) -> TableId {
        self.table
    }

    pub(super) fn changes(&self) -> u64 {
        self.rows as u64
    }

    pub(super) async fn send(&self, session: &Session) -> Result<u64, tokio_postgres::Error> {
        let rows = self.runs.iter().flat_map(|run| run.cells.chunks(self.written.len()));
        let written =
            rows.map(|row| row.iter().zip(&self.written).filter(|(_, w)| **w).map(|(cell, _)| cell));
        copy::send(session, &self.sql, written).await
    }

    /// Whether every value is one that the target's types keep. The others are named where rows go one by one.
    fn keeps_all(&self, binding: &Binding) -> bool {
        let checks =
            self.columns.iter().map(|&c| binding.column(c).map_or(Check::None, |column| column.check));
        let checks: Vec<_> = checks.enumerate().filter(|(_, check)| *check != Check::None).collect();
        let mut rows = self.runs.iter().flat_map(|run| run.cells.chunks(self.written.len()));
        checks.is_empty()
            || rows.all(|row| {
                checks
                    .iter()
                    .all(|(at, check)| row[*at].as_str().is_none_or(|text| check.fault(text).is_none()))
            })
    }
}

impl PostgresLane {
    /// The delivery's rows by table, if all of them can go straight, and none of them is known.
    pub(super) fn straight<'d>(
        &self,
        delivery: &'d Delivery<'d>,
        after: Position,
    ) -> Option<Vec<Straight<'d>>> {
        let mut all: Vec<Straight<'d>> = Vec::new();
        let mut names: Vec<(&TableName, TableId)> = Vec::new();
        for block in &delivery.blocks {
            let plain = |chunk: &rowbridge_schema::wire::Chunk| !chunk.clear && chunk.sweep.is_none();
            if block.head.first <= after
                || block.runs.is_empty()
                || !block.head.chunk.as_ref().is_none_or(plain)
            {
                return None;
            }
            for run in &block.runs {
                if !matches!(run.op, Op::Insert | Op::Read) || !run.old.is_empty() {
                    return None;
                }
                let at = match all.iter().rposition(|one| one.table == run.table && one.columns == run.new) {
                    Some(at) => at,
                    None => {
                        let binding = self.bindings.get(&run.table)?;
                        let name = &delivery.tables.get(&run.table)?.name;
                        let reshaped = names.iter().any(|(known, id)| *known == name && *id != run.table);
                        if reshaped || !self.goes_straight(binding, run) {
                            return None;
                        }
                        names.push((name, run.table));
                        all.push(Straight::new(binding, run));
                        all.len() - 1
                    }
                };
                all[at].rows += run.changes();
                all[at].runs.push(run);
            }
        }
        let fits = |one: &Straight<'_>| {
            one.rows >= COPY_FROM_ROWS
                && self.bindings.get(&one.table).is_some_and(|binding| one.keeps_all(binding))
        };
        (!all.is_empty() && all.iter().all(fits)).then_some(all)
    }

    fn goes_straight(&self, binding: &Binding, run: &Run<'_>) -> bool {
        binding.takes_copy()
            && !binding.ordered(self.session.replica)
            && self.no_copy.get(&run.table).is_none_or(|tries| *tries == 0)
            && self.collection(binding).is_none()
            && binding.def.key.iter().all(|key| run.new.contains(key))
    }
}
