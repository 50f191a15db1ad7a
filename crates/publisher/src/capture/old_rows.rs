//! Whose old rows are captured whole.

use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::event::EventOp;
use rowbridge_schema::{TableName, TablePatterns};

use crate::webhook::is_membership;

/// The tables of which an update or delete is captured with the whole old row, where the source lets us choose: those that
/// an endpoint other than a bridge may get. A bridge finds rows by their key, and is spared the rest.
#[derive(Debug, Clone, Default)]
pub struct OldRows(Vec<TablePatterns>);

impl OldRows {
    /// What these endpoints make use of.
    #[must_use]
    pub fn of(endpoints: &[EndpointConfig]) -> Self {
        let wanted = |endpoint: &&EndpointConfig| {
            endpoint.webhook.as_ref().is_some_and(|webhook| {
                // Where a filter says which rows, an update may come out as an insert.
                webhook.when.as_ref().is_some_and(is_membership)
                    || webhook.operations.iter().any(|op| matches!(op, EventOp::Update | EventOp::Delete))
            })
        };
        Self(endpoints.iter().filter(wanted).map(|endpoint| endpoint.tables.clone()).collect())
    }

    /// Those of every table.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![TablePatterns::all()])
    }

    /// Whether the table's old rows are wanted.
    #[must_use]
    pub fn of_table(&self, table: &TableName) -> bool {
        self.0.iter().any(|patterns| patterns.matches(table))
    }
}
