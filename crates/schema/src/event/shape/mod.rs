//! Which columns an endpoint sees, under which names, and how much of their values.
//!
//! A [`ShapeConfig`] is compiled once per shape of a table ([`Shape::compile`]) and then applied to rows
//! ([`Shape::apply`]), where a column that is left as it is costs no copy: its field borrows the cell.
//!
//! - Fields come in the table's order, computed ones after them in their own order. `keep` says which columns, not in
//!   which order: an order that differs from the table's would have to be repeated with every column that is added.
//! - A dropped column is not there for any part of an event. If it belongs to the key, the event's key lacks it, and
//!   where that leaves no column, the key is empty; [`Shape::lost_key`] names them, so that `check` can warn. Which
//!   deliveries wait for each other is still decided by the whole key.
//! - NULL stays NULL under every rule. Masks, hashes and shortened texts are text, whatever the column was.
//! - `changed` names a masked column when its true value changed: it tells that it changed, and nothing else.
//! - Computed columns see the table's own columns under their own names, dropped and masked ones too.

mod compile;
mod error;
mod rule;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::Field;
use crate::cell::Cell;
use crate::expr::{Bound, Input, Program, Row};
use crate::secret::Secret;
use crate::types::ColumnType;

pub use error::{ComputeError, ShapeError};
use rule::Compiled;

/// What an endpoint sees of its tables' columns. The default is everything as it is.
#[derive(Debug, Clone, Default)]
pub struct ShapeConfig {
    /// Only these columns, by their names in the table; `None`: all.
    pub keep: Option<Vec<String>>,
    /// What happens to single columns, by their names in the table.
    pub columns: Vec<(String, ColumnRule)>,
    /// Columns that the table does not have.
    pub computed: Vec<ComputedColumn>,
}

/// What happens to one column.
#[derive(Debug, Clone, Default)]
pub struct ColumnRule {
    /// What becomes of the value.
    pub action: Action,
    /// The name that the receiver sees; `None`: the column's own.
    pub rename: Option<String>,
}

/// What becomes of a column's values.
#[derive(Debug, Clone, Default)]
pub enum Action {
    /// They are left as they are.
    #[default]
    Pass,
    /// The column is not sent.
    Drop,
    /// `***`, whatever the value.
    Mask,
    /// `***` and the last characters; `***` alone where the value has no more characters than that.
    MaskAllBut {
        /// How many characters are shown.
        last: usize,
    },
    /// HMAC-SHA-256 of the canonical text, in 64 hexadecimal digits: equal values have equal hashes, so that receivers can
    /// join, and nobody without the key can try values out.
    Hash {
        /// The key, at least [`ShapeConfig::HASH_KEY_BYTES`].
        key: Secret,
    },
    /// The first characters.
    Truncate {
        /// How many characters are kept.
        chars: usize,
    },
}

/// A column that is made of others.
#[derive(Debug, Clone)]
pub struct ComputedColumn {
    /// The name that the receiver sees.
    pub name: String,
    /// What it holds, in the language of row filters; `after` is the row that the column belongs to.
    pub program: Program,
}

impl ShapeConfig {
    /// Shortest key of a hash, in bytes. A shorter one can be tried out by whoever knows one value and its hash.
    pub const HASH_KEY_BYTES: usize = 16;
}

/// What an endpoint sees of one table.
#[derive(Debug)]
pub struct Shape {
    columns: Vec<Shaped>,
    computed: Vec<Made>,
    /// Indexes into `columns`, in key order.
    key: Vec<usize>,
    lost_key: Vec<String>,
}

/// A column of the table that is sent.
#[derive(Debug)]
struct Shaped {
    /// Its index in the table's definition.
    at: usize,
    name: String,
    column: ColumnType,
    rule: Compiled,
}

/// A column that is computed.
#[derive(Debug)]
struct Made {
    name: String,
    bound: Bound,
}

impl Shape {
    /// The row as the endpoint sees it; columns that were not sent have no field. `computing` is the change for computed
    /// columns, with `after` being the row itself (of an update's old row, too: `after.x` is then its old value); without
    /// it there are none.
    ///
    /// # Errors
    /// A computed column fails for this row.
    pub fn apply<'a>(
        &'a self,
        row: &'a dyn Row,
        computing: Option<&Input<'a>>,
    ) -> Result<Vec<Field<'a>>, ComputeError> {
        let mut fields = Vec::with_capacity(self.columns.len() + self.computed.len());
        fields.extend(self.columns.iter().filter_map(|shaped| shaped.field(row)));
        let Some(input) = computing else { return Ok(fields) };
        for made in &self.computed {
            let cell = made.bound.cell(input);
            let cell = cell.map_err(|source| ComputeError { column: made.name.clone(), source })?;
            if let Some(cell) = cell {
                fields.push(Field { name: &made.name, column: made.bound.column_type(), cell });
            }
        }
        Ok(fields)
    }

    /// The row's key as the endpoint sees it, in key order, less what is dropped.
    #[must_use]
    pub fn key<'a>(&'a self, row: &'a dyn Row) -> Vec<Field<'a>> {
        self.key.iter().filter_map(|at| self.columns[*at].field(row)).collect()
    }

    /// The name that the endpoint sees of a column of the table, by its index there; `None` if it is dropped.
    #[must_use]
    pub fn name(&self, column: usize) -> Option<&str> {
        let at = self.columns.binary_search_by_key(&column, |shaped| shaped.at).ok()?;
        Some(&self.columns[at].name)
    }

    /// Names of the columns that differ between two rows, for an event's `changed`: told by the true values, and for
    /// computed columns not at all.
    #[must_use]
    pub fn changed<'a>(&'a self, before: &dyn Row, after: &dyn Row) -> Vec<&'a str> {
        let differs = |shaped: &&Shaped| {
            let now = after.cell(shaped.at);
            now.is_some() && now != before.cell(shaped.at)
        };
        self.columns.iter().filter(differs).map(|shaped| shaped.name.as_str()).collect()
    }

    /// All names and types that rows may have, computed ones last.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &ColumnType)> {
        let columns = self.columns.iter().map(|shaped| (shaped.name.as_str(), shaped.shown_type()));
        columns.chain(self.computed.iter().map(|made| (made.name.as_str(), made.bound.column_type())))
    }

    /// Names of the key's columns, in key order.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|at| self.columns[*at].name.as_str())
    }

    /// Columns of the key that are dropped, by their names in the table: the events' key lacks them.
    #[must_use]
    pub fn lost_key(&self) -> &[String] {
        &self.lost_key
    }
}

impl Shaped {
    fn shown_type(&self) -> &ColumnType {
        if matches!(self.rule, Compiled::Pass) { &self.column } else { rule::text_type() }
    }

    fn field<'a>(&'a self, row: &'a dyn Row) -> Option<Field<'a>> {
        let cell = row.cell(self.at)?;
        let (column, cell) = match (&self.rule, cell) {
            (_, Cell::Null) => (self.shown_type(), Cell::Null),
            (Compiled::Pass, Cell::Text(text)) => (&self.column, Cell::Text(Cow::Borrowed(&**text))),
            (Compiled::Pass, Cell::Classed(class, text)) => {
                (&self.column, Cell::Classed(*class, Cow::Borrowed(&**text)))
            }
            (rule, Cell::Text(text) | Cell::Classed(_, text)) => {
                (rule::text_type(), Cell::Text(rule.apply(text)))
            }
        };
        Some(Field { name: &self.name, column, cell })
    }
}
