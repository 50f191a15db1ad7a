//! Changes one by one, in source order: keyless tables, tables linked by foreign keys that act, keys whose equality only
//! the server knows, and the replay after the set form has met a constraint.

use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, TableId};

use super::binding::Binding;
use super::error::describe;
use super::pipe::{Halt, Pipe, Purpose};
use super::set::{Inserts, RowFault, insert_unless, key_texts};
use super::statement::{BadValue, text, time_text};
use crate::plan::{Event, Row};

/// Why changes were not applied.
#[derive(Debug)]
pub(super) enum RowError {
    /// The row is at fault, whatever the server says.
    Fault(RowFault),
    /// See [`Halt`].
    Halt(Halt),
}

impl From<Halt> for RowError {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// How changes are written one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Neighbours that are all new rows (or replace theirs by key) share a statement, which applies them in order too.
    Together,
    /// Each has its own, so that an error names its change.
    Apart,
    /// The same, and what follows from a change of a row that others refer to is done here: see [`super::follow`].
    Following,
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

/// A value that does not fit.
pub(super) fn bad(binding: &Binding, event: &Event<'_>, bad: BadValue) -> RowError {
    let column = binding.def.columns.get(usize::from(bad.column)).map(|column| column.name.clone());
    RowError::Fault(fault(binding, event, column, bad.reason.to_owned()))
}

const MISSING: &str = "the row to update is missing at the target; take a new snapshot of the table";

/// What stopped the statements, as a fault of the row; `None` if it says nothing about a row.
pub(super) fn fault_of(
    bindings: &HashMap<TableId, Arc<Binding>>,
    events: &[Event<'_>],
    halt: &Halt,
    max_packet: usize,
) -> Option<RowFault> {
    let of = |change: &usize, column, reason| {
        let event = events.get(*change)?;
        Some(fault(bindings.get(&event.table)?, event, column, reason))
    };
    match halt {
        Halt::Server(Purpose::Change(change) | Purpose::Found(change), error) => {
            let (column, reason) = describe(error);
            of(change, column, reason)
        }
        Halt::Server(Purpose::Progress | Purpose::Guard | Purpose::Control, _) => None,
        Halt::Missing(change) => of(change, None, MISSING.to_owned()),
        Halt::Changed(change) => of(change, None, "the target would change a value of the row".to_owned()),
        Halt::TooLarge { change, bytes } => of(
            change,
            None,
            format!(
                "the row takes {bytes} bytes, and the target's max_allowed_packet is {max_packet}; run there: SET GLOBAL \
                 max_allowed_packet = {}, and restart the subscriber",
                (bytes + 1024).next_power_of_two().min(1 << 30)
            ),
        ),
    }
}

/// Applies changes in their order. `number` gives the number of a change for [`fault_of`].
pub(super) async fn apply(
    pipe: &mut Pipe<'_>,
    bindings: &HashMap<TableId, Arc<Binding>>,
    events: &[(usize, Event<'_>)],
    manner: Manner,
) -> Result<(), RowError> {
    let mut open: Option<(&Arc<Binding>, TableId, Inserts)> = None;
    let mut at = 0;
    while let Some((number, event)) = events.get(at) {
        let from_here = &events[at..];
        at += 1;
        let Some(binding) = bindings.get(&event.table) else { continue };
        check(binding, event)?;
        let row = event.row();
        let odd = binding.has_enum_error(event);
        if !odd && joins(binding, event, &row) {
            let same = |(_, table, inserts): &(&Arc<Binding>, TableId, Inserts)| {
                manner == Manner::Together && *table == event.table && inserts.takes(&row)
            };
            if !open.as_ref().is_some_and(same) {
                if let Some((binding, _, mut inserts)) = open.take() {
                    inserts.end(pipe, binding).await?;
                }
                let inserts = Inserts::new(row.columns(), !binding.def.key.is_empty());
                open = Some((binding, event.table, inserts));
            }
            let Some((_, _, inserts)) = &mut open else { continue };
            inserts.push(pipe, binding, &row, *number).map_err(|e| bad(binding, event, e))?;
            if inserts.is_full(pipe) {
                inserts.end(pipe, binding).await?;
            }
            continue;
        }
        if let Some((binding, _, mut inserts)) = open.take() {
            inserts.end(pipe, binding).await?;
        }
        if odd {
            pipe.lenient(true);
        }
        if manner == Manner::Together && binding.def.key.is_empty() && event.op == Op::Delete {
            let same = |(_, e): &&(usize, Event<'_>)| e.table == event.table && e.op == Op::Delete;
            let count = from_here.iter().take_while(same).count();
            for (number, event, count) in alike(&from_here[..count]) {
                keyless(pipe, binding, event, &event.row(), number, count).await?;
            }
            at += count - 1;
        } else if binding.def.key.is_empty() {
            keyless(pipe, binding, event, &row, *number, 1).await?;
        } else {
            keyed(pipe, binding, event, &row, (*number, manner)).await?;
        }
        if odd {
            pipe.lenient(false);
        }
    }
    if let Some((binding, _, mut inserts)) = open.take() {
        inserts.end(pipe, binding).await?;
    }
    Ok(())
}

/// Whether an INSERT (with ON DUPLICATE KEY UPDATE, where there is a key) is all that the change needs.
fn joins(binding: &Binding, event: &Event<'_>, row: &Row<'_>) -> bool {
    let key = &binding.def.key;
    match event.op {
        Op::Insert | Op::Read => key.is_empty() || binding.arbiter,
        // A row of a linked table is updated as such, so that the foreign keys act.
        Op::Update => {
            binding.arbiter
                && !binding.linked
                && row.len() >= binding.shape().complete
                && event.key_before(key) == event.key_after(key)
        }
        Op::Delete | Op::Truncate => false,
    }
}

/// Whether the change says which row it is about.
fn check(binding: &Binding, event: &Event<'_>) -> Result<(), RowError> {
    let key = &binding.def.key;
    if key.is_empty() {
        return Ok(());
    }
    let reason = match event.key_before(key) {
        None => "the change carries no key; set binlog_row_image = FULL or MINIMAL at the source",
        Some(cells) if cells.iter().any(|cell| cell.is_null()) => "a column of the key is NULL",
        Some(_) if event.op == Op::Update && event.key_after(key).is_none() => "the change carries no key",
        Some(_) => return Ok(()),
    };
    Err(RowError::Fault(fault(binding, event, None, reason.to_owned())))
}

async fn keyed(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    event: &Event<'_>,
    row: &Row<'_>,
    (number, manner): (usize, Manner),
) -> Result<(), RowError> {
    let wrong = |e: BadValue| bad(binding, event, e);
    let Some(before) = event.key_before(&binding.def.key) else { return Ok(()) };
    let columns = row.columns();
    let act = |pipe: &mut Pipe<'_>, on: bool| {
        if binding.linked {
            pipe.control(if on { "SET foreign_key_checks = 1" } else { "SET foreign_key_checks = 0" });
        }
    };
    match event.op {
        Op::Delete if binding.ignore_deletes => Ok(()),
        Op::Delete => {
            act(pipe, true);
            let sql = pipe.sql();
            match &binding.soft {
                Some(soft) => {
                    let time = text(&time_text(event.at, soft.digits));
                    let (table, force) = (&binding.table, &binding.force_index);
                    sql.push(&format!("UPDATE {table}{force} SET {} = {time} WHERE ", soft.ident));
                    sql.key_is(binding, &before).map_err(wrong)?;
                    sql.push(&format!(" AND {} IS NULL", soft.ident));
                }
                None => {
                    sql.push(&format!("DELETE t FROM {} AS t{} WHERE ", binding.table, binding.force_index));
                    sql.key_is(binding, &before).map_err(wrong)?;
                }
            }
            pipe.end(Purpose::Change(number)).await?;
            act(pipe, false);
            Ok(())
        }
        Op::Insert | Op::Read | Op::Truncate => {
            update_or_insert(pipe, binding, (&before, None), row, (number, false), wrong).await
        }
        Op::Update => {
            let after = event.key_after(&binding.def.key).unwrap_or_default();
            let key_stays = before == after;
            let following = binding.linked && manner == Manner::Following;
            let followers = binding.followers.as_ref().filter(|_| following);
            let acts = followers.is_none();
            if let Some(followers) = followers {
                followers.before(pipe, binding, event, number).await?;
            }
            if row.len() >= binding.shape().complete {
                let moved = (!key_stays).then_some(after.as_slice());
                update_or_insert(pipe, binding, (&before, moved), row, (number, acts), wrong).await?;
            } else {
                let set =
                    |c: &u16| binding.column(*c).is_some() && !(key_stays && binding.def.key.contains(c));
                let set: Vec<u16> = columns.iter().copied().filter(set).collect();
                if set.is_empty() {
                    return Ok(());
                }
                act(pipe, acts);
                pipe.sql().update_head(binding, &set, |column| row.cell(column)).map_err(wrong)?;
                pipe.sql().push(" WHERE ");
                pipe.sql().key_is(binding, &before).map_err(wrong)?;
                let found = !event.maybe_missing;
                pipe.end(if found { Purpose::Found(number) } else { Purpose::Change(number) }).await?;
                act(pipe, false);
            }
            match followers {
                Some(followers) => followers.behind(pipe, binding, event, number).await,
                None => Ok(()),
            }
        }
    }
}

/// Updates the row under its old key, else the one under its new key, else inserts it. Only the first may set off foreign
/// keys, and only where the source has updated a row, too (`acts`): a row that is missing here is inserted whether or not the
/// one that it refers to is there already.
async fn update_or_insert(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    (before, after): (&[&Cell<'_>], Option<&[&Cell<'_>]>),
    row: &Row<'_>,
    (number, acts): (usize, bool),
    wrong: impl Fn(BadValue) -> RowError,
) -> Result<(), RowError> {
    let columns = row.columns();
    let acts = binding.linked && acts;
    if acts {
        pipe.control("SET foreign_key_checks = 1");
    }
    pipe.sql().update_head(binding, &columns, |column| row.cell(column)).map_err(&wrong)?;
    pipe.sql().push(" WHERE ");
    pipe.sql().key_is(binding, before).map_err(&wrong)?;
    pipe.end(Purpose::Change(number)).await?;
    pipe.control(match acts {
        true => "SET @rowbridge = ROW_COUNT(), foreign_key_checks = 0",
        false => "SET @rowbridge = ROW_COUNT()",
    });
    if let Some(after) = after {
        pipe.sql().update_head(binding, &columns, |column| row.cell(column)).map_err(&wrong)?;
        pipe.sql().push(" WHERE ");
        pipe.sql().key_is(binding, after).map_err(&wrong)?;
        pipe.sql().push(" AND @rowbridge = 0");
        pipe.end(Purpose::Change(number)).await?;
        pipe.control("SET @rowbridge = @rowbridge + ROW_COUNT()");
    }
    insert_unless(pipe.sql(), binding, &columns, row, "@rowbridge = 0").map_err(&wrong)?;
    Ok(pipe.end(Purpose::Change(number)).await?)
}

/// Deletes of identical rows as one and how many they are. Each statement reads the table from its start, over all that
/// those before have deleted: of ten thousand identical rows, one by one, the last is found behind ten thousand others.
fn alike<'e, 'd>(deletes: &'e [(usize, Event<'d>)]) -> Vec<(usize, &'e Event<'d>, usize)> {
    let mut rows: Vec<(usize, &Event<'_>, usize)> = Vec::new();
    let mut places: HashMap<(&[u16], &[Cell<'_>]), usize> = HashMap::new();
    for (number, event) in deletes {
        let place = *places.entry((event.old_columns, event.old)).or_insert(rows.len());
        match rows.get_mut(place) {
            Some((_, _, count)) => *count += 1,
            None => rows.push((*number, event, 1)),
        }
    }
    rows
}

/// `count`: how many rows a delete takes.
async fn keyless(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    event: &Event<'_>,
    row: &Row<'_>,
    number: usize,
    count: usize,
) -> Result<(), RowError> {
    let wrong = |e: BadValue| bad(binding, event, e);
    if matches!(event.op, Op::Insert | Op::Read | Op::Truncate) {
        let mut inserts = Inserts::new(row.columns(), false);
        inserts.push(pipe, binding, row, number).map_err(wrong)?;
        return Ok(inserts.end(pipe, binding).await?);
    }
    let written = binding.written();
    let old = Row::Sent { columns: event.old_columns, cells: event.old };
    if written.iter().any(|&c| old.cell(c).is_none()) {
        let reason =
            "a table without key needs full old rows; at the source, SET GLOBAL binlog_row_image = FULL";
        return Err(RowError::Fault(fault(binding, event, None, reason.to_owned())));
    }
    let sql = pipe.sql();
    if event.op == Op::Delete {
        sql.push(&format!("DELETE FROM {} WHERE ", binding.table));
        sql.same_row(binding, &written, |column| old.cell(column)).map_err(wrong)?;
        sql.push(&format!(" LIMIT {count}"));
        return Ok(pipe.end(Purpose::Change(number)).await?);
    }
    let new: Vec<u16> = row.columns().into_iter().filter(|&c| binding.column(c).is_some()).collect();
    sql.update_head(binding, &new, |column| row.cell(column)).map_err(wrong)?;
    sql.push(" WHERE ");
    sql.same_row(binding, &written, |column| old.cell(column)).map_err(wrong)?;
    sql.push(" LIMIT 1");
    let purpose = if event.maybe_missing { Purpose::Change(number) } else { Purpose::Found(number) };
    Ok(pipe.end(purpose).await?)
}
