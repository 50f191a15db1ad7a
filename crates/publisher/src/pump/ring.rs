//! Tables that refer to themselves or to each other, and what goes from row to row along that without being logged.
//!
//! A chain of such rows is only broken off at a target as at the source if all of its rows are there. While they are sent
//! for the first time, one in the middle may still be missing. So where a row went or changed its key meanwhile, these
//! tables are sent a second time: then all rows are there from the beginning on.

use std::collections::HashSet;

use rowbridge_schema::TableName;

use crate::capture::{CapturedBlock, Consequence};
use crate::snapshot::Unlogged;

/// Rings whose tables are being sent.
#[derive(Debug, Default)]
pub(super) struct Rings(Vec<Ring>);

#[derive(Debug)]
struct Ring {
    tables: Vec<TableName>,
    by_key: bool,
    /// Something happened in it.
    stirred: bool,
    /// Those that are on their second way.
    again: HashSet<TableName>,
}

impl Rings {
    /// A table's first range is about to be read, or one of those behind it, of which nobody knows what happened before.
    pub(super) fn join(&mut self, unlogged: &Unlogged, goes_on: bool) {
        let tables = &unlogged.ring;
        if tables.is_empty() || self.0.iter().any(|ring| ring.tables == *tables) {
            return;
        }
        self.0.retain(|ring| !ring.tables.iter().any(|table| tables.contains(table)));
        self.0.push(Ring {
            tables: tables.clone(),
            by_key: unlogged.by_key,
            // Where there are several tables, a chain may pass through one of them before its first range is read.
            stirred: goes_on || tables.len() > 1,
            again: HashSet::new(),
        });
    }

    /// Looks at what happened.
    pub(super) fn note(&mut self, block: &CapturedBlock) {
        for ring in self.0.iter_mut().filter(|ring| !ring.stirred) {
            ring.stirred = block.changed.iter().any(|change| {
                let counts = match change.consequence {
                    Consequence::None => false,
                    Consequence::Value => !ring.by_key,
                    Consequence::Key => true,
                };
                counts && ring.tables.contains(&change.table)
            });
        }
    }

    /// Whether a table waits until all others of its ring were sent once.
    pub(super) fn is_last(&self, table: &TableName) -> bool {
        self.0.iter().any(|ring| ring.again.contains(table))
    }

    /// A table was sent; whether that has to be done again.
    pub(super) fn sent(&mut self, table: &TableName) -> bool {
        let Some(at) = self.0.iter().position(|ring| ring.tables.contains(table)) else { return false };
        let ring = &mut self.0[at];
        if !ring.again.remove(table) && ring.stirred {
            ring.again.insert(table.clone());
            return true;
        }
        if ring.again.is_empty() {
            self.0.remove(at);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::wire::{BlockHead, Step};
    use rowbridge_schema::{Offset, Position};

    use super::*;
    use crate::capture::{ChangedKey, TxToken};
    use crate::journal::Block;

    fn name(text: &str) -> TableName {
        TableName::new("shop", text)
    }

    fn ring(tables: &[&str], by_key: bool) -> Unlogged {
        let ring: Vec<TableName> = tables.iter().map(|table| name(table)).collect();
        Unlogged { ancestors: ring.clone(), ring, by_key }
    }

    fn change(table: &str, consequence: Consequence) -> CapturedBlock {
        let at = Position::new(1, 7, 1);
        let head = BlockHead { first: at, last: at, at: 0, step: Step::Ordinal, chunk: None };
        let block = Block {
            head,
            ends: true,
            resume: None,
            only: vec![],
            tables: vec![],
            runs: vec![],
            body: vec![],
        };
        let changed = ChangedKey { table: name(table), key: vec!["1".into()], partial: false, consequence };
        CapturedBlock { block, token: TxToken::Offset(Offset { file: 1, at: 7 }), changed: vec![changed] }
    }

    #[test]
    fn a_table_goes_twice_if_a_row_went_meanwhile() {
        let mut rings = Rings::default();
        rings.join(&ring(&["tree"], true), false);
        for quiet in [("tree", Consequence::None), ("tree", Consequence::Value), ("t", Consequence::Key)] {
            rings.note(&change(quiet.0, quiet.1));
        }
        assert!(!rings.sent(&name("tree")), "nothing happened");
        rings.join(&ring(&["tree"], true), false);
        rings.note(&change("tree", Consequence::Key));
        assert!(rings.sent(&name("tree")) && rings.is_last(&name("tree")));
        rings.note(&change("tree", Consequence::Key));
        assert!(!rings.sent(&name("tree")), "all rows were there");
        assert!(!rings.is_last(&name("tree")) && !rings.sent(&name("other")));
    }

    #[test]
    fn what_happened_before_a_restart_is_not_known() {
        let mut rings = Rings::default();
        rings.join(&ring(&["tree"], true), true);
        assert!(rings.sent(&name("tree")));
    }

    #[test]
    fn other_keys_than_the_primary_one_change_with_any_value() {
        let mut rings = Rings::default();
        rings.join(&ring(&["tree"], false), false);
        rings.note(&change("tree", Consequence::Value));
        assert!(rings.sent(&name("tree")));
    }

    #[test]
    fn tables_that_refer_to_each_other_wait_for_each_other() {
        let mut rings = Rings::default();
        rings.join(&ring(&["a", "b"], true), false);
        assert!(rings.sent(&name("a")) && rings.is_last(&name("a")) && !rings.is_last(&name("b")));
        rings.join(&ring(&["a", "b"], true), false);
        assert!(rings.sent(&name("b")));
        assert!(!rings.sent(&name("a")) && !rings.sent(&name("b")));
    }
}
