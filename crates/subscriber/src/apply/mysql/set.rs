//! The set form: folded changes as a few statements over many rows.

use rowbridge_schema::{Cell, Position, TableDef};

use super::binding::Binding;
use super::pipe::{Halt, Pipe, Purpose};
use super::statement::{BadValue, Sql, text, time_text};
use crate::plan::{Deleted, Folded, PartialRow, Row, Upsert};

/// Most rows of one INSERT.
const INSERT_ROWS: usize = 1000;

/// Most keys of one DELETE. Both servers build a range for each.
const DELETE_KEYS: usize = 500;

/// A row that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowFault {
    pub(super) position: Position,
    pub(super) table: String,
    pub(super) column: Option<String>,
    pub(super) key: Vec<String>,
    pub(super) reason: String,
}

/// Why a set was not written.
#[derive(Debug)]
pub(super) enum SetError {
    /// A value does not fit; row by row tells which.
    Value,
    /// See [`Halt`].
    Halt(Halt),
}

impl From<BadValue> for SetError {
    fn from(_: BadValue) -> Self {
        Self::Value
    }
}

impl From<Halt> for SetError {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// `column=value` for each part of a key.
pub(super) fn key_texts(def: &TableDef, key: &[&Cell<'_>]) -> Vec<String> {
    def.key
        .iter()
        .zip(key)
        .filter_map(|(&k, cell)| def.columns.get(usize::from(k)).map(|column| (column, cell)))
        .map(|(column, cell)| format!("{}={}", column.name, cell.as_str().unwrap_or("NULL")))
        .collect()
}

/// How rows that should be there afterwards are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    /// `INSERT .. ON DUPLICATE KEY UPDATE`
    Upsert,
    /// `INSERT`, which refuses a row that is there.
    Insert,
    /// Each an UPDATE, then an INSERT if it found nothing.
    EachAlone,
}

/// A statement over many keys that is being built.
struct Keys<'b> {
    binding: &'b Binding,
    head: String,
    tail: String,
    count: usize,
}

impl<'b> Keys<'b> {
    fn delete(binding: &'b Binding) -> Self {
        Self {
            binding,
            // Only this form takes an index by force.
            head: format!("DELETE t FROM {} AS t{} WHERE ", binding.table, binding.force_index),
            tail: String::new(),
            count: 0,
        }
    }

    async fn add(&mut self, pipe: &mut Pipe<'_>, key: &[&Cell<'_>]) -> Result<(), SetError> {
        if self.count == 0 {
            pipe.sql().push(&self.head);
        }
        pipe.sql().add_key(self.binding, key, self.count == 0)?;
        self.count += 1;
        if self.count >= DELETE_KEYS || pipe.open_bytes() >= pipe.statement_bytes() {
            self.end(pipe).await?;
        }
        Ok(())
    }

    async fn end(&mut self, pipe: &mut Pipe<'_>) -> Result<(), SetError> {
        if std::mem::take(&mut self.count) > 0 {
            pipe.sql().end_keys();
            pipe.sql().push(&self.tail);
            pipe.end(Purpose::Change(0)).await?;
        }
        Ok(())
    }
}

/// Deletes rows by key whatever the policy says.
pub(super) async fn remove<'k, 'c: 'k>(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    keys: impl Iterator<Item = &'k [&'c Cell<'c>]>,
) -> Result<(), SetError> {
    let mut statement = Keys::delete(binding);
    for key in keys {
        statement.add(pipe, key).await?;
    }
    statement.end(pipe).await
}

async fn deletes(pipe: &mut Pipe<'_>, binding: &Binding, deletes: &[Deleted<'_>]) -> Result<(), SetError> {
    let Some(soft) = &binding.soft else {
        return remove(pipe, binding, deletes.iter().map(|deleted| deleted.key.as_slice())).await;
    };
    // Those of one transaction have one time.
    for group in deletes.chunk_by(|a, b| a.at == b.at) {
        let Some(first) = group.first() else { continue };
        let mut statement = Keys {
            binding,
            head: format!(
                "UPDATE {}{} SET {} = {} WHERE ",
                binding.table,
                binding.force_index,
                soft.ident,
                text(&time_text(first.at, soft.digits))
            ),
            tail: format!(" AND {} IS NULL", soft.ident),
            count: 0,
        };
        for deleted in group {
            statement.add(pipe, &deleted.key).await?;
        }
        statement.end(pipe).await?;
    }
    Ok(())
}

/// Inserts of several rows with the same columns.
pub(super) struct Inserts {
    columns: Vec<u16>,
    on_duplicate: bool,
    rows: usize,
    /// The first change in the open statement.
    first: usize,
}

impl Inserts {
    pub(super) fn new(columns: Vec<u16>, on_duplicate: bool) -> Self {
        Self { columns, on_duplicate, rows: 0, first: 0 }
    }

    /// Whether a row with these columns can join.
    pub(super) fn takes(&self, row: &Row<'_>) -> bool {
        match row {
            Row::Sent { columns, .. } => *columns == self.columns,
            Row::Merged(cells) => cells.iter().map(|(column, _)| column).eq(&self.columns),
        }
    }

    /// Adds a row to the open statement, which is a new one if none is open.
    pub(super) fn push(
        &mut self,
        pipe: &mut Pipe<'_>,
        binding: &Binding,
        row: &Row<'_>,
        change: usize,
    ) -> Result<(), BadValue> {
        let sql = pipe.sql();
        if self.rows == 0 {
            sql.insert_head(binding, &self.columns);
            sql.push("VALUES ");
            self.first = change;
        } else {
            sql.push(",");
        }
        self.rows += 1;
        sql.push("(");
        match row {
            Row::Sent { columns, cells } => {
                let mut first = true;
                for (&column, cell) in columns.iter().zip(*cells) {
                    if binding.column(column).is_some() {
                        sql.separate(&mut first, ",");
                        sql.value(binding, column, Some(cell))?;
                    }
                }
            }
            Row::Merged(_) => sql.values(binding, &self.columns, |column| row.cell(column))?,
        }
        sql.push(")");
        Ok(())
    }

    /// Whether the open statement is long enough.
    pub(super) fn is_full(&self, pipe: &Pipe<'_>) -> bool {
        self.rows >= INSERT_ROWS || pipe.open_bytes() >= pipe.statement_bytes()
    }

    /// Ends the open statement, if there is one.
    pub(super) async fn end(&mut self, pipe: &mut Pipe<'_>, binding: &Binding) -> Result<(), Halt> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        if self.on_duplicate {
            let row_alias = pipe.row_alias;
            pipe.sql().on_duplicate(binding, &self.columns, row_alias);
        }
        pipe.end(Purpose::Change(self.first)).await
    }
}

/// `UPDATE` by key, then `INSERT` if it found none.
async fn update_or_insert(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    key: &[&Cell<'_>],
    row: &Row<'_>,
) -> Result<(), SetError> {
    let columns = row.columns();
    pipe.sql().update_head(binding, &columns, |column| row.cell(column))?;
    pipe.sql().push(" WHERE ");
    pipe.sql().key_is(binding, key)?;
    pipe.end(Purpose::Change(0)).await?;
    insert_unless(pipe.sql(), binding, &columns, row, "ROW_COUNT() = 0")?;
    Ok(pipe.end(Purpose::Change(0)).await?)
}

/// `INSERT .. SELECT .. WHERE condition`
pub(super) fn insert_unless(
    sql: &mut Sql,
    binding: &Binding,
    columns: &[u16],
    row: &Row<'_>,
    condition: &str,
) -> Result<(), BadValue> {
    sql.insert_head(binding, columns);
    sql.push("SELECT ");
    sql.values(binding, columns, |column| row.cell(column))?;
    sql.push(" FROM DUAL WHERE ");
    sql.push(condition);
    Ok(())
}

/// Writes the outcome of a table's changes: what goes, then what is there afterwards, then what changes in part.
///
/// With a unique index besides the key, ON DUPLICATE KEY would overwrite whatever row it meets, so that rows which should
/// be new are inserted (`trusting`; if one is there, the whole is done again without), rows that are known in full and have
/// no column of the target's own are deleted and inserted again, and all others are updated one by one.
pub(super) async fn write(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    folded: &Folded<'_>,
    trusting: bool,
) -> Result<(), SetError> {
    if !binding.ignore_deletes {
        deletes(pipe, binding, &folded.deletes).await?;
    }
    let complete = binding.shape().complete;
    let way = |upsert: &Upsert<'_>| {
        let plain = !binding.arbiter && binding.unique_besides && !binding.force_index.is_empty();
        match upsert {
            _ if binding.arbiter => (Write::Upsert, false),
            Upsert { fresh: true, .. } if plain && trusting => (Write::Insert, false),
            Upsert { row, .. } if plain && binding.replaceable() && row.len() >= complete => {
                (Write::Insert, true)
            }
            _ => (Write::EachAlone, false),
        }
    };
    // Before anything is inserted, so that values move between rows freely.
    let mut replaced = Keys::delete(binding);
    for upsert in folded.upserts.iter().filter(|upsert| way(upsert).1) {
        let key: Option<Vec<_>> = binding.def.key.iter().map(|&k| upsert.row.cell(k)).collect();
        replaced.add(pipe, &key.ok_or(SetError::Value)?).await?;
    }
    replaced.end(pipe).await?;

    let mut groups: Vec<(Write, Inserts, Vec<&Upsert<'_>>)> = Vec::new();
    let mut last = 0;
    for upsert in &folded.upserts {
        let (write, _) = way(upsert);
        let fits =
            |(w, inserts, _): &(Write, Inserts, Vec<&Upsert<'_>>)| *w == write && inserts.takes(&upsert.row);
        if !groups.get(last).is_some_and(fits) {
            last = groups.iter().position(fits).unwrap_or_else(|| {
                groups.push((write, Inserts::new(upsert.row.columns(), write == Write::Upsert), Vec::new()));
                groups.len() - 1
            });
        }
        groups[last].2.push(upsert);
    }
    for (write, mut inserts, upserts) in groups {
        for upsert in upserts {
            if write == Write::EachAlone {
                let key: Option<Vec<_>> = binding.def.key.iter().map(|&k| upsert.row.cell(k)).collect();
                let key = key.ok_or(SetError::Value)?;
                update_or_insert(pipe, binding, &key, &upsert.row).await?;
                continue;
            }
            inserts.push(pipe, binding, &upsert.row, 0)?;
            if inserts.is_full(pipe) {
                inserts.end(pipe, binding).await?;
            }
        }
        inserts.end(pipe, binding).await?;
    }
    for update in &folded.updates {
        partial(pipe, binding, update).await?;
    }
    Ok(())
}

/// Columns of a partial update that are set: the key stays, unless equal keys may differ in text.
async fn partial(pipe: &mut Pipe<'_>, binding: &Binding, update: &PartialRow<'_>) -> Result<(), SetError> {
    let keep =
        |c: &u16| binding.column(*c).is_some() && (binding.rewrites_key() || !binding.def.key.contains(c));
    let columns: Vec<u16> = update.row.columns().into_iter().filter(keep).collect();
    // Nothing but the key was sent, and the key is as it was.
    if columns.is_empty() {
        return Ok(());
    }
    pipe.sql().update_head(binding, &columns, |column| update.row.cell(column))?;
    pipe.sql().push(" WHERE ");
    pipe.sql().key_is(binding, &update.key)?;
    let purpose = if update.maybe_missing { Purpose::Change(0) } else { Purpose::Found(0) };
    Ok(pipe.end(purpose).await?)
}
