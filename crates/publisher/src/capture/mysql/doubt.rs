//! Which tables' keys are not certain, and up to where in the log.
//!
//! A table map names the primary key as it was when its rows were written. A unique index that is the key of a table without
//! one is in the catalog only, which may be ahead of the log that is being read: the index may have come, gone or become
//! another one in between, and a row that is looked for by it may not be the only one. So until the log has been read up to
//! where it ended when the catalog was, the rows of such a table are taken for those of a table without key, each told by
//! all of its values. That is right whatever the key was. So they are, too, as long
//! as the catalog may be behind the log: see [`super::catalog::settle`].

use std::collections::{HashMap, HashSet};

use rowbridge_schema::{Offset, TableDef, TableName};

use super::catalog::Catalog;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    until: HashMap<TableName, Offset>,
    /// A statement was seen that may have changed their keys, and the catalog was not read since.
    altered: HashSet<TableName>,
}

/// Names of the key's columns.
fn key(def: &TableDef) -> Vec<&str> {
    def.key.iter().filter_map(|&at| def.columns.get(usize::from(at))).map(|column| &*column.name).collect()
}

impl Doubts {
    /// A table's shapes that were known before an interruption; the log ended at `end` when its present one was looked up.
    /// None of them tells of which time it is.
    pub(super) fn recall(&mut self, now: &TableDef, before: &[TableDef], end: Offset) {
        if before.iter().any(|def| key(def) != key(now)) {
            self.until.insert(now.name.clone(), end);
        }
    }

    /// A statement may have changed a table's key.
    pub(super) fn alter(&mut self, table: TableName) {
        self.altered.insert(table);
    }

    /// The catalog was read, and then the log ended at `end`.
    pub(super) fn look(&mut self, before: &Catalog, now: &Catalog, end: Offset) {
        let changed = now.tables.values().filter(|table| {
            let known = before.tables.get(&table.def.name);
            known.is_some_and(|known| key(&known.def) != key(&table.def))
        });
        let changed = changed.map(|table| table.def.name.clone());
        self.until.extend(changed.chain(self.altered.drain()).map(|table| (table, end)));
    }

    /// Whether a table's key at a place of the log is not certain.
    pub(super) fn has(&self, table: &TableName, at: Offset) -> bool {
        self.altered.contains(table) || self.until.get(table).is_some_and(|until| at < *until)
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Column, Dialect};

    use super::super::catalog::CatalogTable;
    use super::*;

    fn def(name: &str, key: &[u16]) -> TableDef {
        let column = |name: &str| Column {
            name: name.to_owned(),
            type_name: "int(11)".to_owned(),
            not_null: true,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Mysql,
            name: TableName::new("shop", name),
            columns: vec![column("a"), column("b")],
            key: key.to_vec(),
            types: vec![],
            options: vec![],
        }
    }

    fn catalog(defs: &[TableDef]) -> Catalog {
        let table =
            |def: &TableDef| CatalogTable { def: def.clone(), transactional: true, invisible: vec![] };
        Catalog { tables: defs.iter().map(|def| (def.name.clone(), table(def))).collect() }
    }

    fn at(at: u64) -> Offset {
        Offset { file: 1, at }
    }

    #[test]
    fn a_key_is_certain_where_the_log_is_as_far_as_the_catalog() {
        let (t, other) = (TableName::new("shop", "t"), TableName::new("shop", "other"));
        let mut doubts = Doubts::default();
        let before = catalog(&[def("t", &[0]), def("other", &[0])]);
        doubts.look(&before, &before, at(100));
        assert!(!doubts.has(&t, at(1)));
        // The catalog is ahead: nothing of it was seen in the log.
        let now = catalog(&[def("t", &[1]), def("other", &[0])]);
        doubts.look(&before, &now, at(200));
        assert!(doubts.has(&t, at(199)) && !doubts.has(&t, at(200)) && !doubts.has(&other, at(199)));
        // There and back: the catalog looks the same.
        doubts.alter(other.clone());
        assert!(doubts.has(&other, at(250)));
        doubts.look(&now, &now, at(300));
        assert!(doubts.has(&other, at(299)) && !doubts.has(&other, at(300)) && !doubts.has(&t, at(299)));
    }

    #[test]
    fn shapes_from_before_an_interruption_tell_no_time() {
        let mut doubts = Doubts::default();
        doubts.recall(&def("t", &[0]), &[def("t", &[0])], at(100));
        assert!(!doubts.has(&TableName::new("shop", "t"), at(1)));
        doubts.recall(&def("t", &[0]), &[def("t", &[0]), def("t", &[])], at(100));
        assert!(doubts.has(&TableName::new("shop", "t"), at(99)));
    }
}
