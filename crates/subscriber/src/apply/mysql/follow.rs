//! What follows from a row's change where other rows refer to it, done here instead of by the server.
//!
//! InnoDB lets foreign keys act only where it also asks for the rows that the changed row refers to itself. While tables are
//! sent for the first time, those may not have come: then the change of the row goes in without its foreign keys, and the
//! rows that refer to it are changed by statements of their own, from which the server goes on.

use mysql_async::{Error, Row};
use rowbridge_schema::{Cell, TableName};

use super::binding::Binding;
use super::catalog::word;
use super::pipe::{Pipe, Purpose};
use super::rows::{RowError, bad};
use super::session::Session;
use super::statement::{ident, qualified};
use crate::plan::Event;

/// A foreign key that acts when a row that it refers to is deleted or gets another key.
#[derive(Debug, Clone)]
pub(super) struct ActingKey {
    pub(super) child: TableName,
    pub(super) parent: TableName,
    /// The child's columns, each with the parent's.
    columns: Vec<(String, String)>,
    on_update: OnUpdate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnUpdate {
    Cascade,
    SetNull,
    Nothing,
}

/// All foreign keys that act.
///
/// # Errors
/// Those of the query.
pub(super) async fn acting_keys(session: &mut Session) -> Result<Vec<ActingKey>, Error> {
    let rows: Vec<Row> = session
        .query(
            "SELECT r.CONSTRAINT_SCHEMA, r.TABLE_NAME, r.CONSTRAINT_NAME, r.UPDATE_RULE, k.COLUMN_NAME, \
                    k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME \
             FROM information_schema.REFERENTIAL_CONSTRAINTS r \
             JOIN information_schema.KEY_COLUMN_USAGE k \
               ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME \
              AND k.TABLE_NAME = r.TABLE_NAME AND k.REFERENCED_TABLE_NAME = r.REFERENCED_TABLE_NAME \
             WHERE r.UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR r.DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
             ORDER BY 1, 2, 3, k.ORDINAL_POSITION",
        )
        .await?;
    let mut keys: Vec<ActingKey> = Vec::new();
    let mut last = None;
    for row in &rows {
        let text = |at| word(row, at).unwrap_or_default();
        let name = (text(0), text(1), text(2));
        if last.as_ref() != Some(&name) {
            let on_update = match text(3).as_str() {
                "CASCADE" => OnUpdate::Cascade,
                "SET NULL" => OnUpdate::SetNull,
                _ => OnUpdate::Nothing,
            };
            let (child, parent) = (TableName::new(text(0), text(1)), TableName::new(text(5), text(6)));
            keys.push(ActingKey { child, parent, columns: Vec::new(), on_update });
            last = Some(name);
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push((text(4), text(7)));
        }
    }
    Ok(keys)
}

/// What follows from a change of a table's row.
#[derive(Debug, Clone, Default)]
pub(super) struct Followers {
    /// Rows that follow the key.
    rows: Vec<Dependent>,
    /// Columns outside the key that are referred to.
    others: Vec<u16>,
}

/// Rows of another table that refer to columns of the key.
#[derive(Debug, Clone)]
struct Dependent {
    /// Quoted.
    table: String,
    /// The key's columns, each with the one that refers to it, quoted.
    columns: Vec<(u16, String)>,
    /// They get the new values; else NULL.
    cascades: bool,
}

impl Followers {
    /// Of the table that `referring` refer to; `written` finds a column of the source by its name at the target. `None` if
    /// the server alone can tell what follows: a foreign key refers to columns of the key together with others.
    pub(super) fn new(
        referring: &[ActingKey],
        key: &[u16],
        written: impl Fn(&String) -> Option<u16>,
    ) -> Option<Self> {
        let mut followers = Self::default();
        for acting in referring.iter().filter(|acting| acting.on_update != OnUpdate::Nothing) {
            let columns = acting.columns.iter().map(|(child, parent)| Some((written(parent)?, ident(child))));
            let columns: Vec<(u16, String)> = columns.collect::<Option<_>>()?;
            let in_key = columns.iter().filter(|(column, _)| key.contains(column)).count();
            if in_key == 0 {
                followers.others.extend(columns.iter().map(|(column, _)| *column));
            } else if in_key == columns.len() {
                let cascades = acting.on_update == OnUpdate::Cascade;
                followers.rows.push(Dependent { table: qualified(&acting.child), columns, cascades });
            } else {
                return None;
            }
        }
        Some(followers)
    }

    /// Before the row itself: what is referred to outside its key. The server asks for the rows that a row refers to only
    /// where it writes their columns anew, which these are not, as a rule.
    pub(super) async fn before(
        &self,
        pipe: &mut Pipe<'_>,
        binding: &Binding,
        event: &Event<'_>,
        number: usize,
    ) -> Result<(), RowError> {
        let row = event.row();
        let sent: Vec<u16> =
            self.others.iter().copied().filter(|&column| row.cell(column).is_some()).collect();
        let Some(key) = event.key_before(&binding.def.key).filter(|_| !sent.is_empty()) else {
            return Ok(());
        };
        pipe.control("SET foreign_key_checks = 1");
        pipe.sql()
            .update_head(binding, &sent, |column| row.cell(column))
            .map_err(|e| bad(binding, event, e))?;
        pipe.sql().push(" WHERE ");
        pipe.sql().key_is(binding, &key).map_err(|e| bad(binding, event, e))?;
        pipe.end(Purpose::Change(number)).await?;
        pipe.control("SET foreign_key_checks = 0");
        Ok(())
    }

    /// Behind the row itself: the rows that refer to its key. What follows from their change, the server does.
    pub(super) async fn behind(
        &self,
        pipe: &mut Pipe<'_>,
        binding: &Binding,
        event: &Event<'_>,
        number: usize,
    ) -> Result<(), RowError> {
        let key = &binding.def.key;
        let (Some(old), Some(new)) = (event.key_before(key), event.key_after(key)) else { return Ok(()) };
        for dependent in &self.rows {
            if dependent
                .columns
                .iter()
                .all(|(column, _)| cell(key, &old, *column) == cell(key, &new, *column))
            {
                continue;
            }
            pipe.control("SET foreign_key_checks = 1");
            pipe.sql().push(&format!("UPDATE {} SET ", dependent.table));
            let mut first = true;
            for (column, name) in &dependent.columns {
                pipe.sql().separate(&mut first, ", ");
                pipe.sql().push(name);
                pipe.sql().push(" = ");
                let value = cell(key, &new, *column).filter(|_| dependent.cascades);
                match value {
                    Some(value) => {
                        pipe.sql().value(binding, *column, Some(value)).map_err(|e| bad(binding, event, e))?
                    }
                    None => pipe.sql().push("NULL"),
                }
            }
            pipe.sql().push(" WHERE ");
            let mut first = true;
            for (column, name) in &dependent.columns {
                let Some(value) = cell(key, &old, *column) else { continue };
                pipe.sql().separate(&mut first, " AND ");
                pipe.sql().push(name);
                pipe.sql().push(" = ");
                pipe.sql().in_key(binding, *column, value).map_err(|e| bad(binding, event, e))?;
            }
            pipe.end(Purpose::Change(number)).await?;
            pipe.control("SET foreign_key_checks = 0");
        }
        Ok(())
    }
}

/// The value of a column in a key.
fn cell<'c>(key: &[u16], cells: &[&'c Cell<'c>], column: u16) -> Option<&'c Cell<'c>> {
    cells.get(key.iter().position(|&k| k == column)?).copied()
}
