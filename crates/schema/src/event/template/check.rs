//! Templates against the tables whose events they get.

use super::error::{Problem, TemplateError};
use super::read::{Lookup, Uses};
use super::scope::{COMMON, RowName};
use crate::event::shape::Shape;
use crate::suggest::nearest;
use crate::table::{TableDef, TableName};

/// What an endpoint sees of a table.
#[derive(Debug, Clone)]
pub struct Visible<'a> {
    /// The table.
    pub table: &'a TableName,
    /// Names of its columns, as the endpoint sees them.
    pub columns: Vec<&'a str>,
    /// Those of its key.
    pub key: Vec<&'a str>,
}

impl<'a> Visible<'a> {
    /// A table that is sent as it is.
    #[must_use]
    pub fn all(def: &'a TableDef) -> Self {
        let name = |at: &u16| def.columns.get(usize::from(*at)).map(|column| column.name.as_str());
        Self {
            table: &def.name,
            columns: def.sent_columns().iter().filter_map(name).collect(),
            key: def.key.iter().filter_map(name).collect(),
        }
    }

    /// A table that is shaped.
    #[must_use]
    pub fn shaped(table: &'a TableName, shape: &'a Shape) -> Self {
        Self {
            table,
            columns: shape.fields().map(|(name, _)| name).collect(),
            key: shape.key_names().collect(),
        }
    }

    fn names(&self, lookup: &Lookup) -> &[&'a str] {
        if lookup.row == Some(RowName::Key) { &self.key } else { &self.columns }
    }
}

/// Whether a single table has the columns that are named without a condition; others may be meant for other tables.
pub(super) fn fits(uses: &Uses, table: &Visible<'_>, batch: bool) -> Result<(), TemplateError> {
    check_those(uses, std::slice::from_ref(table), batch, |lookup| !lookup.guarded)
}

/// Every column must exist in every table whose events come; one that stands behind a condition or has a default, in at
/// least one of them. In a batch, the members of a single event have no value.
pub(super) fn check(uses: &Uses, tables: &[Visible<'_>], batch: bool) -> Result<(), TemplateError> {
    check_those(uses, tables, batch, |_| true)
}

fn check_those(
    uses: &Uses,
    tables: &[Visible<'_>],
    batch: bool,
    those: impl Fn(&Lookup) -> bool,
) -> Result<(), TemplateError> {
    if batch {
        let of_one = uses.outer.iter().filter(|(name, _)| !COMMON.contains(name));
        if let Some((name, place)) = of_one.min_by_key(|(_, place)| **place) {
            return Err(TemplateError { place: *place, problem: Problem::Batched { name } });
        }
    }
    for lookup in uses.lookups.iter().filter(|lookup| those(lookup)) {
        let lacks = |table: &&Visible<'_>| !table.names(lookup).contains(&lookup.column.as_str());
        let lacking: Vec<_> = tables.iter().filter(lacks).collect();
        let Some(first) = lacking.first() else { continue };
        if lookup.guarded && lacking.len() < tables.len() {
            continue;
        }
        let column = lookup.column.clone();
        let table = first.table.clone();
        let nearest = nearest(&column, first.names(lookup).iter().copied()).map(str::to_owned);
        let problem = if lookup.row == Some(RowName::Key) && first.columns.contains(&column.as_str()) {
            Problem::NotInKey { column, table }
        } else {
            Problem::UnknownColumn { column, table, nearest }
        };
        return Err(TemplateError { place: lookup.place, problem });
    }
    Ok(())
}
