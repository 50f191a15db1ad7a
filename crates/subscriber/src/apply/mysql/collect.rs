//! Collecting the keys that a re-snapshot has met, and removing all other rows at its end, where the order of keys here
//! is another than at the source, or where rows that it has not come to may be in the way.
//!
//! Making and dropping a table would commit what is open. So the table is made in a session of its own, before anything
//! is collected, and dropped after the transaction that needed it last. Should either be left undone or without its
//! transaction, keys are collected for nothing until the next re-snapshot begins, which empties the table.

use std::collections::HashSet;

use mysql_async::Error;
use rowbridge_schema::wire::{Chunk, Op, Sweep};
use rowbridge_schema::{Cell, Position, TableName};

use super::binding::Binding;
use super::error::{MysqlError, Verdict, describe, failed, is_denied, verdict};
use super::lane::{MysqlLane, Stop, rejected, stop};
use super::pipe::{Halt, Pipe, Purpose};
use super::progress::ProgressRow;
use super::session::Session;
use super::set::{RowFault, SetError};
use super::statement::{qualified, text};
use crate::apply::collection;
use crate::plan::Event;

const DOING: &str = "collecting the keys of a re-snapshot";

/// Most keys of one INSERT.
const KEYS: usize = 1000;

/// Names of tables of ours beside `progress` that begin with a prefix.
pub(super) async fn tables(
    session: &mut Session,
    progress: &TableName,
    prefix: &str,
) -> Result<HashSet<String>, Error> {
    let schema = text(progress.schema.as_deref().unwrap_or_default());
    let names: Vec<String> = session
        .query(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND LEFT(TABLE_NAME, {}) = {}",
            prefix.len(),
            text(prefix)
        ))
        .await?;
    Ok(names.into_iter().collect())
}

/// Adds a statement's worth of keys; `keys` are all of one table.
async fn note<'c>(
    pipe: &mut Pipe<'_>,
    binding: &Binding,
    table: &str,
    keys: impl Iterator<Item = Vec<&'c Cell<'c>>>,
) -> Result<(), SetError> {
    let mut count = 0;
    let names: Vec<&str> = binding.key_idents().collect();
    let first_name = names.first().copied().unwrap_or_default();
    let tail = format!(" ON DUPLICATE KEY UPDATE {first_name} = {table}.{first_name}");
    for key in keys {
        match count {
            0 => pipe.sql().push(&format!("INSERT INTO {table} ({}) VALUES ", names.join(", "))),
            _ => pipe.sql().push(","),
        }
        let single = key.len() == 1;
        if single {
            pipe.sql().push("(");
        }
        pipe.sql().key_tuple(binding, &key)?;
        if single {
            pipe.sql().push(")");
        }
        count += 1;
        if count >= KEYS || pipe.open_bytes() >= pipe.statement_bytes() {
            count = 0;
            pipe.sql().push(&tail);
            pipe.end(Purpose::Control).await?;
        }
    }
    if count > 0 {
        pipe.sql().push(&tail);
        pipe.end(Purpose::Control).await?;
    }
    Ok(())
}

/// What of the lane collecting depends on.
pub(super) struct Collecting<'l> {
    pub(super) row: &'l ProgressRow,
    pub(super) open: &'l HashSet<String>,
}

impl Collecting<'_> {
    /// The table that collects the keys of a table now, quoted.
    fn table(&self, binding: &Binding) -> Option<String> {
        let name = collection::name(&self.row.stream, &self.row.endpoint, &binding.def);
        self.open.contains(&name).then(|| self.row.beside(&name))
    }

    /// Notes the keys which changes of the stream leave behind: those rows are newer than what the re-snapshot has read,
    /// or in a range that it has left.
    pub(super) async fn collect(
        &self,
        pipe: &mut Pipe<'_>,
        bindings: &std::collections::HashMap<rowbridge_schema::TableId, std::sync::Arc<Binding>>,
        events: &[Event<'_>],
    ) -> Result<(), SetError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut seen = HashSet::new();
        for event in events {
            if !seen.insert(event.table) {
                continue;
            }
            let Some(binding) = bindings.get(&event.table).filter(|binding| !binding.def.key.is_empty())
            else {
                continue;
            };
            let Some(table) = self.table(binding) else { continue };
            let of_table = events.iter().filter(|e| e.table == event.table && e.op != Op::Delete);
            let keys = of_table.filter_map(|event| event.key_after(&binding.def.key));
            note(pipe, binding, &table, keys).await?;
        }
        Ok(())
    }
}

impl MysqlLane {
    /// Notes the keys of changes that were just applied.
    pub(super) async fn collect(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        let Some(open) = self.collecting.as_ref().filter(|open| !open.is_empty()) else { return Ok(()) };
        let collecting = Collecting { row: &self.row, open };
        let mut pipe = Pipe::new(&mut self.session);
        let noted = collecting.collect(&mut pipe, &self.bindings, events).await;
        match noted {
            Ok(()) => pipe.flush().await.map_err(halted),
            Err(SetError::Halt(halt)) => Err(halted(halt)),
            // Such a row was refused before.
            Err(SetError::Value) => Ok(()),
        }
    }

    /// The table that collects the keys of a table now, quoted.
    pub(super) fn collection(&self, binding: &Binding) -> Option<String> {
        let open = self.collecting.as_ref()?;
        Collecting { row: &self.row, open }.table(binding)
    }

    /// Takes part in a re-snapshot by collecting keys; removes all other rows with its last chunk.
    pub(super) async fn sweep(
        &mut self,
        binding: &Binding,
        chunk: &Chunk,
        sent: &[Event<'_>],
        begins: bool,
        position: Position,
    ) -> Result<(), Stop> {
        if chunk.sweep == Some(Sweep::First) && begins {
            self.begin_collection(binding).await?;
        }
        let Some(table) = self.collection(binding) else {
            if chunk.sweep != Some(Sweep::Again) {
                collection::warn_missing(&binding.def.name);
            }
            return Ok(());
        };
        let refused = |reason: &str| {
            let table = binding.def.name.to_string();
            rejected(RowFault { position, table, column: None, key: Vec::new(), reason: reason.to_owned() })
        };
        let key = &binding.def.key;
        if sent.iter().any(|event| event.key_after(key).is_none()) {
            return Err(refused("a row of a snapshot carries no key"));
        }
        if chunk.skipped.iter().any(|texts| texts.len() != key.len()) {
            return Err(refused("a key of a snapshot's range does not have the columns of the key"));
        }
        let skipped: Vec<Vec<Cell<'_>>> =
            chunk.skipped.iter().map(|texts| texts.iter().map(|text| Cell::text(text)).collect()).collect();
        let keys = sent
            .iter()
            .filter_map(|event| event.key_after(key))
            .chain(skipped.iter().map(|cells| cells.iter().collect()));
        let mut pipe = Pipe::new(&mut self.session);
        let noted = note(&mut pipe, binding, &table, keys).await;
        let noted = match noted {
            Ok(()) => pipe.flush().await,
            Err(SetError::Halt(halt)) => Err(halt),
            Err(SetError::Value) => return Err(refused("a key of a snapshot does not fit the target's key")),
        };
        let data = |error: Error| match verdict(&error) {
            Verdict::Data => refused(&describe(&error).1),
            _ => stop(DOING, error),
        };
        match noted {
            Ok(()) => {}
            Err(Halt::Server(_, error)) => return Err(data(error)),
            Err(_) => return Err(refused("the keys of a snapshot's range do not fit max_allowed_packet")),
        }
        if chunk.done {
            self.session.run(&remove_others(binding, &table)).await.map_err(data)?;
            self.drops.push(collection::name(&self.row.stream, &self.row.endpoint, &binding.def));
            tracing::info!(table = %binding.def.name, "a re-snapshot is complete");
            return Ok(());
        }
        self.make_room(binding, sent, &table, position).await
    }

    /// Makes the table for a re-snapshot, without what an earlier one has left.
    async fn begin_collection(&mut self, binding: &Binding) -> Result<(), Stop> {
        let (stream, endpoint) = (&self.row.stream, &self.row.endpoint);
        let prefix = collection::of_table(stream, endpoint, &binding.def.name);
        let name = collection::name(stream, endpoint, &binding.def);
        let open = self.collecting.get_or_insert_default();
        // Those of another key wait for the end of the transaction.
        self.drops.extend(open.iter().filter(|other| other.starts_with(&prefix) && **other != name).cloned());
        let table = self.row.beside(&name);
        if !open.contains(&name) {
            let keys = binding.key_types.join(", ");
            let sql =
                format!("CREATE TABLE IF NOT EXISTS {table} ({keys}, {}) ENGINE = InnoDB", binding.key_index);
            let mut session = self.settings.connect().await?;
            session.run(&sql).await.map_err(|source| {
                if is_denied(&source) {
                    return Stop::Error(MysqlError::Collection { sql, source });
                }
                stop(DOING, source)
            })?;
            open.insert(name);
        }
        self.session.run(&format!("DELETE FROM {table}")).await.map_err(|e| stop(DOING, e))
    }

    /// Drops the tables that the transaction which was just committed needed last.
    pub(super) async fn drop_collections(&mut self) -> Result<(), MysqlError> {
        for name in std::mem::take(&mut self.drops) {
            let sql = format!("DROP TABLE IF EXISTS {}", self.row.beside(&name));
            self.session.run(&sql).await.map_err(|e| failed(DOING, e))?;
            self.collecting.get_or_insert_default().remove(&name);
        }
        Ok(())
    }
}

fn remove_others(binding: &Binding, table: &str) -> String {
    let on: Vec<_> = binding.key_idents().map(|name| format!("k.{name} = t.{name}")).collect();
    let first = binding.key_idents().next().unwrap_or_default();
    let (target, on) = (&binding.table, on.join(" AND "));
    match &binding.soft {
        None => format!("DELETE t FROM {target} AS t LEFT JOIN {table} AS k ON {on} WHERE k.{first} IS NULL"),
        Some(soft) => format!(
            "UPDATE {target} AS t LEFT JOIN {table} AS k ON {on} SET t.{0} = UTC_TIMESTAMP({1}) WHERE k.{first} IS NULL \
             AND t.{0} IS NULL",
            soft.ident, soft.digits
        ),
    }
}

fn halted(halt: Halt) -> Stop {
    match halt {
        Halt::Server(_, error) => stop(DOING, error),
        Halt::Missing(_) | Halt::Changed(_) | Halt::TooLarge { .. } => Stop::Error(MysqlError::Undefined),
    }
}

/// The place of one of our tables, for `check` and `teardown`.
pub(super) fn beside(progress: &TableName, name: &str) -> String {
    qualified(&TableName { schema: progress.schema.clone(), name: name.to_owned() })
}
