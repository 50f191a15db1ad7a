//! Rows that a re-snapshot has not come to and that are in the way: the source has them no more, or with other values, and
//! the range that would say so is still to come. They hold a value that a row of a range which comes now has, or one that a
//! change of the stream has just written, where a unique index allows one of it.
//!
//! Only rows that are still to come or to be removed are taken away: those whose keys have not been collected. What the
//! source still has comes back with its own range. A row that this re-snapshot or the stream has brought already stays, so
//! that a unique index which the source does not have is still a refusal.

use rowbridge_schema::Cell;

use super::binding::Binding;
use super::pipe::{Halt, Pipe, Purpose};
use super::statement::BadValue;
use crate::plan::Event;

/// Most rows of one statement.
const ROWS: usize = 500;

/// Why nothing was removed.
pub(super) enum StaleError {
    /// A value does not fit: its row will be refused, and named.
    Value,
    /// See [`Halt`].
    Halt(Halt),
}

impl From<BadValue> for StaleError {
    fn from(_: BadValue) -> Self {
        Self::Value
    }
}

impl From<Halt> for StaleError {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// Removes rows that hold a unique value of the rows `sent` and whose keys are not in the table `collected`.
pub(super) async fn make_room(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    sent: &[Event<'_>],
    collected: &str,
) -> Result<(), StaleError> {
    // A soft delete leaves the value where it is.
    if binding.soft.is_some() {
        return Ok(());
    }
    for index in &binding.others {
        let rows: Vec<_> = sent.iter().filter_map(|event| values(event, index)).collect();
        let mut rest = rows.as_slice();
        while !rest.is_empty() {
            let taken = statement(pipe, binding, index, rest, collected)?;
            rest = &rest[taken..];
            pipe.end(Purpose::Control).await?;
        }
    }
    Ok(pipe.flush().await?)
}

/// Builds the statement for as many rows as fit one, at least one, and says how many.
fn statement(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    index: &[(u16, Option<u32>)],
    rows: &[Vec<&Cell<'_>>],
    collected: &str,
) -> Result<usize, BadValue> {
    begin(pipe, binding, index, collected);
    let mut count = 0;
    for row in rows.iter().take(ROWS) {
        if count > 0 && pipe.open_bytes() >= pipe.statement_bytes() {
            break;
        }
        pipe.sql().push(if count == 0 { "(" } else { ", (" });
        let mut first = true;
        for (&(column, prefix), cell) in index.iter().zip(row) {
            pipe.sql().separate(&mut first, ", ");
            if prefix.is_some() {
                pipe.sql().push("LEFT(");
            }
            pipe.sql().value(binding, column, Some(cell))?;
            if let Some(length) = prefix {
                pipe.sql().push(&format!(", {length})"));
            }
        }
        pipe.sql().push(")");
        count += 1;
    }
    pipe.sql().push(")");
    Ok(count)
}

/// A row's values in an index; `None` where one is NULL, which is like no other, or was not sent.
fn values<'d>(event: &Event<'d>, index: &[(u16, Option<u32>)]) -> Option<Vec<&'d Cell<'d>>> {
    index.iter().map(|&(column, _)| event.new_cell(column).filter(|cell| !cell.is_null())).collect()
}

fn begin(pipe: &mut Pipe<'_>, binding: &Binding, index: &[(u16, Option<u32>)], collected: &str) {
    let columns: Vec<String> = index
        .iter()
        .filter_map(|&(column, prefix)| {
            let name = &binding.column(column)?.ident;
            Some(prefix.map_or_else(|| format!("t.{name}"), |length| format!("LEFT(t.{name}, {length})")))
        })
        .collect();
    let on: Vec<_> = binding.key_idents().map(|name| format!("k.{name} = t.{name}")).collect();
    let first = binding.key_idents().next().unwrap_or_default();
    pipe.sql().push(&format!(
        "DELETE t FROM {} AS t LEFT JOIN {collected} AS k ON {} WHERE k.{first} IS NULL AND ({}) IN (",
        binding.table,
        on.join(" AND "),
        columns.join(", ")
    ));
}
