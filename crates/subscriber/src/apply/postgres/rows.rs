//! Changes one by one, in source order: keyless tables, tables linked by foreign keys or triggers where those fire, and
//! the replay after the set form has met a constraint.

use std::borrow::Cow;

use rowbridge_schema::Cell;
use rowbridge_schema::wire::Op;
use tokio_postgres::types::{ToSql, Type};

use super::binding::Binding;
use super::error::{Verdict, describe};
use super::session::Session;
use super::set::{RowFault, Texts, check_row, key_texts, text};
use super::statement;
use crate::apply::clock::time_text;
use crate::plan::{Event, Row};

/// Why a change was not applied.
#[derive(Debug)]
pub(super) enum RowError {
    /// The row is at fault.
    Fault(RowFault),
    /// The server says that the row is at fault.
    Refused(RowFault, tokio_postgres::Error),
    /// Something else.
    Server(tokio_postgres::Error),
}

/// A fault of one change.
pub(super) fn fault(
    binding: &Binding,
    event: &Event<'_>,
    column: Option<String>,
    reason: String,
) -> RowFault {
    let def = &binding.def;
    let key = event.key_before(&def.key).map(|key| key_texts(def, &key)).unwrap_or_default();
    RowFault { position: event.position, table: def.name.to_string(), column, key, reason }
}

/// Runs a statement whose parameters are all `text[]`.
pub(super) async fn execute(
    session: &mut Session,
    sql: &str,
    params: &[Texts<'_>],
) -> Result<u64, tokio_postgres::Error> {
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
    session.execute(sql, &vec![Type::TEXT_ARRAY; params.len()], &params).await
}

fn single<'d>(cells: &[&'d Cell<'d>]) -> Vec<Texts<'d>> {
    cells.iter().map(|cell| vec![text(cell)]).collect()
}

/// The written cells of some columns of a row.
fn cells<'d>(binding: &Binding, row: &Row<'d>, columns: &[u16]) -> Vec<Texts<'d>> {
    let written = columns.iter().filter(|&&c| binding.column(c).is_some());
    written.map(|&c| vec![row.cell(c).and_then(text)]).collect()
}

/// Applies one change.
pub(super) async fn apply(
    session: &mut Session,
    binding: &Binding,
    event: &Event<'_>,
) -> Result<(), RowError> {
    let row = event.row();
    check_row(binding, &row, event.position).map_err(RowError::Fault)?;
    let applied = if binding.def.key.is_empty() {
        keyless(session, binding, event, &row).await
    } else {
        keyed(session, binding, event, &row).await
    };
    match applied {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(RowError::Fault(fault(binding, event, None, reason.to_owned()))),
        Err(error) if session.verdict(&error) == Verdict::Data => {
            let (column, reason) = describe(&error);
            Err(RowError::Refused(fault(binding, event, column, reason), error))
        }
        Err(error) => Err(RowError::Server(error)),
    }
}

const MISSING: &str = "the row to update is missing at the target; take a new snapshot of the table";

async fn keyed(
    session: &mut Session,
    binding: &Binding,
    event: &Event<'_>,
    row: &Row<'_>,
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    let def = &binding.def;
    let Some(before) = event.key_before(&def.key) else {
        return Ok(Some("the change carries no key; the source's replica identity does not cover it"));
    };
    if before.iter().any(|cell| cell.is_null()) {
        return Ok(Some("a column of the key is NULL"));
    }
    let columns = row.columns();
    match event.op {
        Op::Delete => {
            if binding.ignore_deletes {
                return Ok(None);
            }
            let mut params = single(&before);
            if binding.soft.is_some() {
                params.push(vec![Some(Cow::Owned(time_text(event.at)))]);
            }
            execute(session, &statement::delete(binding), &params).await?;
            return Ok(None);
        }
        Op::Update => {
            let Some(after) = event.key_after(&def.key) else {
                return Ok(Some("the change carries no key"));
            };
            // The key is written only if it changes: an identity column would refuse.
            let key_stays = before == after;
            let set: Vec<u16> = columns
                .iter()
                .copied()
                .filter(|c| binding.column(*c).is_some() && !(key_stays && def.key.contains(c)))
                .collect();
            let complete = columns.len() >= binding.shape().complete;
            if !set.is_empty() {
                let mut params = single(&before);
                params.extend(cells(binding, row, &set));
                if execute(session, &statement::update(binding, &set), &params).await? > 0 {
                    return Ok(None);
                }
                if !complete {
                    return Ok((!event.maybe_missing).then_some(MISSING));
                }
            } else if !complete {
                return Ok(None);
            }
        }
        Op::Insert | Op::Read | Op::Truncate => {}
    }
    let params = cells(binding, row, &columns);
    for sql in statement::upsert(binding, &columns) {
        execute(session, &sql, &params).await?;
    }
    Ok(None)
}

async fn keyless(
    session: &mut Session,
    binding: &Binding,
    event: &Event<'_>,
    row: &Row<'_>,
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    if matches!(event.op, Op::Insert | Op::Read | Op::Truncate) {
        let columns = row.columns();
        execute(session, &statement::insert(binding, &columns), &cells(binding, row, &columns)).await?;
        return Ok(None);
    }
    let written = binding.written();
    let old = Row::Sent { columns: event.old_columns, cells: event.old };
    if written.iter().any(|&c| old.cell(c).is_none()) {
        return Ok(Some(
            "a table without key needs full old rows; at the source, run ALTER TABLE ... REPLICA IDENTITY FULL",
        ));
    }
    let mut params = cells(binding, &old, &written);
    if event.op == Op::Delete {
        execute(session, &statement::delete_one(binding, &written), &params).await?;
        return Ok(None);
    }
    let new: Vec<u16> = row.columns().into_iter().filter(|&c| binding.column(c).is_some()).collect();
    params.extend(cells(binding, row, &new));
    let rows = execute(session, &statement::update_one(binding, &written, &new), &params).await?;
    Ok((rows == 0 && !event.maybe_missing).then_some(MISSING))
}

/// Deletes from which one pass over the whole table is worth it: alone, each ends where its row is found.
const DELETES_TOGETHER: usize = 8;

/// How many changes from the first on, all of one keyless table, [`together`] takes.
pub(super) fn alike(binding: &Binding, events: &[Event<'_>]) -> usize {
    let Some(first) = events.first() else { return 0 };
    let same = |e: &&Event<'_>| {
        e.table == first.table
            && match first.op {
                Op::Insert | Op::Read => {
                    matches!(e.op, Op::Insert | Op::Read) && e.new_columns == first.new_columns
                }
                Op::Delete => e.op == Op::Delete && e.old_columns == first.old_columns,
                Op::Update | Op::Truncate => false,
            }
    };
    let knows_all = || binding.written().iter().all(|column| first.old_columns.contains(column));
    if !binding.def.key.is_empty() || (first.op == Op::Delete && !knows_all()) {
        return 1;
    }
    let count = events.iter().take_while(same).count().max(1);
    if first.op == Op::Delete && count < DELETES_TOGETHER { 1 } else { count }
}

/// Inserts or deletes consecutive rows of a keyless table at once: one by one, each delete would read the table from its
/// start, over all that those before have deleted.
pub(super) async fn together(
    session: &mut Session,
    binding: &Binding,
    events: &[Event<'_>],
) -> Result<(), RowError> {
    let Some(first) = events.first() else { return Ok(()) };
    let deletes = first.op == Op::Delete;
    let columns = if deletes { binding.written() } else { first.row().columns() };
    let written = columns.iter().filter(|&&c| binding.column(c).is_some()).count();
    let mut params: Vec<Texts<'_>> = vec![Vec::with_capacity(events.len()); written];
    for event in events {
        let row = event.row();
        check_row(binding, &row, event.position).map_err(RowError::Fault)?;
        if !deletes {
            super::set::push(&mut params, binding, &row);
            continue;
        }
        let old = Row::Sent { columns: event.old_columns, cells: event.old };
        for (param, cell) in params.iter_mut().zip(cells(binding, &old, &columns)) {
            param.extend(cell);
        }
    }
    let sql = if deletes {
        statement::delete_many(binding, &columns)
    } else {
        statement::insert(binding, &columns)
    };
    execute(session, &sql, &params).await.map(|_| ()).map_err(|error| {
        if session.verdict(&error) == Verdict::Data {
            let (column, reason) = describe(&error);
            RowError::Refused(fault(binding, first, column, reason), error)
        } else {
            RowError::Server(error)
        }
    })
}
