//! The last resort before a row is refused: work out the final rows, delete every key involved, insert the final rows.
//! Rows that swap unique values pass this way, which no order of single changes allows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, TableId};

use super::binding::Binding;
use super::pipe::{Halt, Pipe, Purpose};
use super::rows::{RowError, bad, fault};
use super::session::Session;
use super::set::{self, SetError};
use super::statement::{BadValue, Sql};
use crate::plan::{Event, KeyText};

/// Whether these changes have final rows that can be worked out. Where foreign keys act, deleting a row on the way could
/// take rows of other tables with it.
pub(super) fn possible(bindings: &HashMap<TableId, Arc<Binding>>, events: &[Event<'_>]) -> bool {
    events.iter().all(|event| {
        bindings.get(&event.table).is_some_and(|binding| {
            let key = &binding.def.key;
            let keyed = event.key_before(key).is_some_and(|k| k.iter().all(|cell| !cell.is_null()));
            keyed
                && !binding.ordered()
                && binding.foldable(event)
                && binding.soft.is_none()
                && !binding.ignore_deletes
        })
    })
}

/// A row by the literals of its written columns, then, if the target has it already, of the target's own columns.
type FinalRow = Vec<Vec<u8>>;

struct TableState<'d> {
    binding: Arc<Binding>,
    /// Every key involved, in the order of its first appearance, with the row that is to be there.
    keys: Vec<(Vec<&'d Cell<'d>>, Option<FinalRow>)>,
    index: HashMap<Vec<Cow<'d, str>>, usize>,
}

impl<'d> TableState<'d> {
    fn slot(&mut self, key: Vec<&'d Cell<'d>>) -> usize {
        let texts = match self.binding.shape().key_text(&key) {
            Some(KeyText::One(text)) => vec![text],
            Some(KeyText::Many(texts)) => texts,
            None => Vec::new(),
        };
        let keys = &mut self.keys;
        *self.index.entry(texts).or_insert_with(|| {
            keys.push((key, None));
            keys.len() - 1
        })
    }
}

/// Why the final rows were not written.
pub(super) enum SettleError {
    /// See [`RowError`].
    Row(RowError),
    /// Reading failed.
    Read(mysql_async::Error),
}

impl From<RowError> for SettleError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl From<Halt> for SettleError {
    fn from(halt: Halt) -> Self {
        Self::Row(RowError::Halt(halt))
    }
}

/// Writes the outcome of `events`.
pub(super) async fn apply<'d>(
    session: &mut Session,
    bindings: &HashMap<TableId, Arc<Binding>>,
    events: &[Event<'d>],
) -> Result<(), SettleError> {
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
        read(session, table).await?;
    }
    for event in events {
        if let Some(&at) = by_id.get(&event.table) {
            change(&mut tables[at], event)?;
        }
    }
    let mut pipe = Pipe::new(session);
    for table in &tables {
        let keys = table.keys.iter().map(|(key, _)| key.as_slice());
        match set::remove(&mut pipe, &table.binding, keys).await {
            Ok(()) => {}
            Err(SetError::Halt(halt)) => return Err(halt.into()),
            // `change` has made literals of the same values.
            Err(SetError::Value) => return Err(Halt::Changed(0).into()),
        }
    }
    for table in &tables {
        insert(&mut pipe, table).await?;
    }
    Ok(pipe.flush().await?)
}

/// Reads what the target has under the keys, each by itself, so that the server's equality decides what it finds.
async fn read(session: &mut Session, table: &mut TableState<'_>) -> Result<(), SettleError> {
    let binding = table.binding.clone();
    let written = binding.written();
    let forms: Vec<_> = written
        .iter()
        .filter_map(|&c| binding.column(c))
        .map(|column| (column.ident.as_str(), &column.form))
        .chain(binding.extra.iter().map(|(name, form)| (name.as_str(), form)))
        .collect();
    let names: Vec<_> = forms.iter().map(|(name, _)| *name).collect();
    let head = format!("SELECT {} FROM {}{} WHERE ", names.join(", "), binding.table, binding.force_index);
    for (key, row) in &mut table.keys {
        let mut sql = Sql::default();
        sql.push(&head);
        if sql.key_is(&binding, key).is_err() {
            // No row here can have such a key.
            continue;
        }
        sql.push(" FOR UPDATE");
        let found = session.read(sql.bytes).await.map_err(SettleError::Read)?;
        let Some(found) = found.into_iter().next() else { continue };
        let literal = |(value, (_, form)): (mysql_async::Value, &(&str, &super::form::Form))| {
            let mut literal = Vec::new();
            form.literal_of(&value, &mut literal);
            literal
        };
        *row = Some(found.unwrap().into_iter().zip(&forms).map(literal).collect());
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
    let mut values = old.unwrap_or_else(|| vec![b"DEFAULT".to_vec(); columns.len()]);
    for (value, &column) in values.iter_mut().zip(&columns) {
        if let Some(cell) = row.cell(column) {
            let mut sql = Sql::default();
            sql.value(&binding, column, Some(cell)).map_err(|e: BadValue| bad(&binding, event, e))?;
            *value = sql.bytes;
        }
    }
    if let Some(after) = event.key_after(&binding.def.key) {
        let slot = table.slot(after);
        table.keys[slot].1 = Some(values);
    }
    Ok(())
}

/// Inserts row by row: a row that is new has no values of the target's own columns and gets their defaults.
async fn insert(pipe: &mut Pipe<'_>, table: &TableState<'_>) -> Result<(), Halt> {
    let binding = &table.binding;
    let written: Vec<_> = binding.written().into_iter().filter_map(|c| binding.column(c)).collect();
    let written = written.iter().map(|column| column.ident.as_str());
    let all: Vec<_> = written.chain(binding.extra.iter().map(|(name, _)| name.as_str())).collect();
    for row in table.keys.iter().filter_map(|(_, row)| row.as_ref()) {
        let sql = pipe.sql();
        sql.push(&format!("INSERT INTO {} ({}) VALUES (", binding.table, all[..row.len()].join(", ")));
        let mut first = true;
        for literal in row {
            sql.separate(&mut first, ",");
            sql.bytes.extend_from_slice(literal);
        }
        sql.push(")");
        pipe.end(Purpose::Change(0)).await?;
    }
    Ok(())
}
