//! The last resort before a row is refused: work out the final rows, delete every key involved, insert the final rows.
//! Rows that swap unique values pass this way, which no order of single changes allows without deferrable constraints.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, TableId};
use tokio_postgres::types::{ToSql, Type};

use super::binding::Binding;
use super::rows::{RowError, execute, fault};
use super::session::Session;
use super::set::{Texts, text};
use super::statement;
use crate::plan::Event;

/// Whether these changes have final rows that can be worked out. Where foreign keys fire, deleting a row on the way could
/// take rows of other tables with it.
pub(super) fn possible(
    bindings: &HashMap<TableId, Arc<Binding>>,
    events: &[Event<'_>],
    replica: bool,
) -> bool {
    events.iter().all(|event| {
        bindings.get(&event.table).is_some_and(|binding| {
            let key = &binding.def.key;
            let keyed = event.key_before(key).is_some_and(|k| k.iter().all(|cell| !cell.is_null()));
            let fires = binding.linked && !replica;
            !key.is_empty() && !fires && binding.soft.is_none() && !binding.ignore_deletes && keyed
        })
    })
}

/// A row by the texts of its written columns, then, if the target has it already, of the target's own columns.
type FinalRow<'d> = Vec<Option<Cow<'d, str>>>;

struct TableState<'d> {
    binding: Arc<Binding>,
    /// Every key involved, in the order of its first appearance, with the row that is to be there.
    keys: Vec<(Vec<&'d Cell<'d>>, Option<FinalRow<'d>>)>,
    index: HashMap<Vec<Cow<'d, str>>, usize>,
}

impl<'d> TableState<'d> {
    fn slot(&mut self, key: Vec<&'d Cell<'d>>) -> usize {
        let texts = comparable(&self.binding, &key);
        let keys = &mut self.keys;
        *self.index.entry(texts).or_insert_with(|| {
            keys.push((key, None));
            keys.len() - 1
        })
    }

    fn key_params(&self) -> Vec<Texts<'d>> {
        let width = self.binding.def.key.len();
        (0..width)
            .map(|i| self.keys.iter().map(|(key, _)| key.get(i).and_then(|c| text(c))).collect())
            .collect()
    }
}

fn comparable<'d>(binding: &Binding, key: &[&'d Cell<'d>]) -> Vec<Cow<'d, str>> {
    use crate::plan::KeyText;
    match binding.shape().key_text(key) {
        Some(KeyText::One(text)) => vec![text],
        Some(KeyText::Many(texts)) if texts.len() == key.len() => texts,
        _ => key.iter().filter_map(|cell| text(cell)).collect(),
    }
}

/// Writes the outcome of `events`.
pub(super) async fn apply<'d>(
    session: &mut Session,
    bindings: &HashMap<TableId, Arc<Binding>>,
    events: &[Event<'d>],
) -> Result<(), RowError> {
    let mut tables: Vec<TableState<'d>> = Vec::new();
    let mut by_id: HashMap<TableId, usize> = HashMap::new();
    for event in events {
        let Some(binding) = bindings.get(&event.table) else { continue };
        let at = *by_id.entry(event.table).or_insert_with(|| {
            let binding = binding.clone();
            tables.push(TableState { binding, keys: Vec::new(), index: HashMap::new() });
            tables.len() - 1
        });
        let keys = [event.key_before(&binding.def.key), event.key_after(&binding.def.key)];
        for key in keys.into_iter().flatten() {
            tables[at].slot(key);
        }
    }
    for table in &mut tables {
        read(session, table).await.map_err(RowError::Server)?;
    }
    for event in events {
        if let Some(&at) = by_id.get(&event.table) {
            change(&mut tables[at], event)?;
        }
    }
    for table in &tables {
        let params = table.key_params();
        execute(session, &statement::remove(&table.binding), &params).await.map_err(RowError::Server)?;
    }
    for table in &tables {
        let columns = table.binding.written();
        // A row that is new has no values of the target's own columns: those get their defaults.
        for extra in [table.binding.extra.len(), 0] {
            let mut params: Vec<Texts<'_>> = vec![Vec::new(); columns.len() + extra];
            let rows = table.keys.iter().filter_map(|(_, row)| row.as_ref());
            for row in rows.filter(|row| row.len() == columns.len() + extra) {
                params.iter_mut().zip(row).for_each(|(param, value)| param.push(value.clone()));
            }
            if params.first().is_some_and(|texts| !texts.is_empty()) {
                let sql = statement::restore(&table.binding, &columns, extra > 0);
                execute(session, &sql, &params).await.map_err(RowError::Server)?;
            }
            if table.binding.extra.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads what the target has under the keys.
async fn read(session: &mut Session, table: &mut TableState<'_>) -> Result<(), tokio_postgres::Error> {
    let binding = table.binding.clone();
    let columns = binding.written();
    let sql = statement::read(&binding, &columns);
    let params = table.key_params();
    let keys = binding.def.key.len();
    let statement = session.prepare(&sql, &vec![Type::TEXT_ARRAY; keys]).await?;
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
    for found in session.client.query(&statement, &params).await? {
        let cells: Vec<Cell<'_>> = (0..keys).map(|i| Cell::Text(Cow::Borrowed(found.get(i)))).collect();
        let key: Vec<Cow<'_, str>> = {
            let borrowed: Vec<&Cell<'_>> = cells.iter().collect();
            comparable(&binding, &borrowed).into_iter().map(|text| Cow::Owned(text.into_owned())).collect()
        };
        let values = keys..keys + columns.len() + binding.extra.len();
        if let Some(&slot) = table.index.get(&key) {
            table.keys[slot].1 =
                Some(values.map(|i| found.get::<_, Option<String>>(i).map(Cow::Owned)).collect());
        }
    }
    Ok(())
}

/// Applies one change to the rows in memory.
fn change<'d>(table: &mut TableState<'d>, event: &Event<'d>) -> Result<(), RowError> {
    let binding = table.binding.clone();
    let Some(before) = event.key_before(&binding.def.key) else { return Ok(()) };
    let slot = table.slot(before);
    let old = table.keys[slot].1.take();
    if event.op == Op::Delete {
        return Ok(());
    }
    let row = event.row();
    let columns = binding.written();
    if event.op == Op::Update && old.is_none() && row.len() < binding.shape().complete {
        if event.maybe_missing {
            return Ok(());
        }
        let reason =
            "the row to update is missing at the target; take a new snapshot of the table".to_owned();
        return Err(RowError::Fault(fault(&binding, event, None, reason)));
    }
    let mut values = old.unwrap_or_else(|| vec![None; columns.len()]);
    for (value, &column) in values.iter_mut().zip(&columns) {
        if let Some(cell) = row.cell(column) {
            *value = text(cell);
        }
    }
    if let Some(after) = event.key_after(&binding.def.key) {
        let slot = table.slot(after);
        table.keys[slot].1 = Some(values);
    }
    Ok(())
}
