//! Rows that a re-snapshot has not come to and that are in the way: the source has them no more, or with other values, and
//! the range that would say so is still to come. They hold a value that a change has just written, where a unique index
//! allows one of it.
//!
//! Only rows that are still to come or to be removed are taken away: those whose keys have not been collected. What the
//! source still has comes back with its own range. A soft delete takes them out of partial indexes only.

use rowbridge_schema::TableId;

use super::error::Verdict;
use super::lane::{PostgresLane, Stop, stop};
use super::set::{self, Call, Texts};
use super::statement;
use crate::plan::Event;

impl PostgresLane {
    /// Takes rows away that a re-snapshot has not come to and that are in the way of changes; false if no table of theirs
    /// is under one.
    pub(super) async fn clear_the_way(&mut self, events: &[Event<'_>]) -> Result<bool, Stop> {
        let mut tables: Vec<TableId> = Vec::new();
        for event in events {
            if !tables.contains(&event.table) {
                tables.push(event.table);
            }
        }
        let mut calls = Vec::new();
        for table in tables {
            let Some(binding) = self.bindings.get(&table).filter(|b| !b.def.key.is_empty()) else { continue };
            // Where foreign keys fire, other tables' rows would go along.
            if binding.linked && !self.session.replica {
                continue;
            }
            let Some(collected) = self.collection(binding) else { continue };
            for index in &binding.others {
                let mut params: Vec<Texts<'_>> = vec![Vec::new(); index.len()];
                for row in events.iter().filter(|event| event.table == table) {
                    // NULL is like no other value.
                    let cell = |(column, _): &(u16, String)| row.new_cell(*column).and_then(set::text);
                    if let Some(values) = index.iter().map(cell).collect::<Option<Vec<_>>>() {
                        params.iter_mut().zip(values).for_each(|(param, value)| param.push(Some(value)));
                    }
                }
                let statements = vec![statement::make_room(binding, index, &collected)];
                calls.push(Call { statements, params, expect: None, copy: None });
            }
        }
        match set::run(&mut self.session, &calls).await {
            Ok(_) => Ok(!calls.is_empty()),
            // A value that does not fit: its row was refused, and named.
            Err(error) if self.session.verdict(&error) == Verdict::Data => Ok(false),
            Err(error) => Err(stop("making room for rows", error)),
        }
    }
}
