//! What an expression is evaluated on.

use crate::cell::Cell;
use crate::event::EventOp;
use crate::position::Position;
use crate::table::TableName;

/// What `message` has, in the order of its row's cells: texts, and `payload` and `headers` as JSON.
pub const MESSAGE: [&str; 5] = ["id", "type", "key", "payload", "headers"];

/// A row's cells by the index of their column in the table's definition.
pub trait Row {
    /// The column's cell; `None` if it was not sent.
    fn cell(&self, column: usize) -> Option<&Cell<'_>>;
}

/// One entry per column of the table.
impl Row for Vec<Option<Cell<'_>>> {
    fn cell(&self, column: usize) -> Option<&Cell<'_>> {
        self.get(column)?.as_ref()
    }
}

/// One entry per column of the table.
impl Row for &[Option<&Cell<'_>>] {
    fn cell(&self, column: usize) -> Option<&Cell<'_>> {
        *self.get(column)?
    }
}

/// A row as a run of the wire holds it: the cells of some columns.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// Indexes of the columns that were sent, in the order of their cells.
    pub columns: &'a [u16],
    /// Their cells.
    pub cells: &'a [Cell<'a>],
}

impl Row for Sent<'_> {
    fn cell(&self, column: usize) -> Option<&Cell<'_>> {
        // Mostly all columns are sent, in order.
        let at = match self.columns.get(column) {
            Some(&found) if usize::from(found) == column => column,
            _ => self.columns.iter().position(|&found| usize::from(found) == column)?,
        };
        self.cells.get(at)
    }
}

/// One change, as expressions see it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `op`
    pub op: EventOp,
    /// `before`: the old row, as far as it is known.
    pub before: Option<&'a dyn Row>,
    /// `after`: the new row, less the columns that were not sent.
    pub after: Option<&'a dyn Row>,
    /// `message`: [`MESSAGE`], if it is one.
    pub message: Option<&'a dyn Row>,
    /// `table` and `schema`
    pub table: &'a TableName,
    /// `stream`
    pub stream: &'a str,
    /// `endpoint`
    pub endpoint: &'a str,
    /// `position`
    pub position: Position,
    /// `commit_time`, in microseconds since 1970.
    pub committed_at: i64,
}
