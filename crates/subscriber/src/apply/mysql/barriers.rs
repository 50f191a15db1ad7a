//! What stands between two runs of row changes: TRUNCATE, and the rows that a snapshot's range removes.

use rowbridge_schema::wire::{Chunk, Delivery};
use rowbridge_schema::{Cell, Position, TableId};

use super::binding::Binding;
use super::error::{MysqlError, Verdict, describe, verdict};
use super::lane::{MysqlLane, Stop, rejected, stop};
use super::pipe::{Halt, Pipe, Purpose};
use super::set::RowFault;
use super::stale::{self, StaleError};
use super::statement::{BadValue, Sql};
use crate::plan::Event;

/// Removes all rows. TRUNCATE would commit what is open.
fn clear(binding: &Binding) -> String {
    match &binding.soft {
        None => format!("DELETE FROM {}", binding.table),
        Some(soft) => format!(
            "UPDATE {0} SET {1} = UTC_TIMESTAMP({2}) WHERE {1} IS NULL",
            binding.table, soft.ident, soft.digits
        ),
    }
}

/// `` (`a`, `b`) > (1, 2) `` written so that an index on the key is used.
fn beyond(
    sql: &mut Sql,
    binding: &Binding,
    bound: &[&Cell<'_>],
    or_equal: bool,
    sign: &str,
) -> Result<(), BadValue> {
    let names: Vec<&str> = binding.key_idents().collect();
    sql.push("(");
    for at in 0..bound.len() {
        if at > 0 {
            sql.push(" OR ");
        }
        sql.push("(");
        for (before, name) in names.iter().enumerate().take(at + 1) {
            if before > 0 {
                sql.push(" AND ");
            }
            let last = before == at;
            let sign = match (last, or_equal && at + 1 == bound.len()) {
                (false, _) => "=".to_owned(),
                (true, true) => format!("{sign}="),
                (true, false) => sign.to_owned(),
            };
            sql.push(&format!("{name} {sign} "));
            let column = binding.def.key[before];
            sql.value(binding, column, Some(bound[before]))?;
        }
        sql.push(")");
    }
    sql.push(")");
    Ok(())
}

impl MysqlLane {
    pub(super) async fn truncate(
        &mut self,
        delivery: &Delivery<'_>,
        tables: &[TableId],
        position: Position,
    ) -> Result<(), Stop> {
        for id in tables {
            let Some(binding) = self.bindings.get(id) else {
                return Err(Stop::Error(MysqlError::Undefined));
            };
            if binding.ignore_deletes {
                continue;
            }
            if let Err(error) = self.session.run(&clear(binding)).await {
                if verdict(&error) != Verdict::Data {
                    return Err(stop("truncating", error));
                }
                let table = delivery.tables.get(id).map(|def| def.name.to_string()).unwrap_or_default();
                let (column, reason) = describe(&error);
                return Err(rejected(RowFault { position, table, column, key: Vec::new(), reason }));
            }
        }
        Ok(())
    }

    pub(super) async fn chunk(
        &mut self,
        chunk: &Chunk,
        sent: &[Event<'_>],
        begins: bool,
        position: Position,
    ) -> Result<(), Stop> {
        let doing = "preparing a snapshot's range";
        let Some(binding) = self.bindings.get(&chunk.table).cloned() else {
            return Err(Stop::Error(MysqlError::Undefined));
        };
        if binding.ignore_deletes {
            return Ok(());
        }
        if chunk.clear && begins {
            self.session.run(&clear(&binding)).await.map_err(|e| stop(doing, e))?;
        }
        if chunk.sweep.is_none() || binding.def.key.is_empty() {
            return Ok(());
        }
        // A row that is stale may have to give way to one of the stream, which takes to know where the re-snapshot is.
        let by_range = binding.same_order && !binding.unique_besides;
        let Some(range) = chunk.prune.as_ref().filter(|_| by_range) else {
            return self.sweep(&binding, chunk, sent, begins, position).await;
        };
        let key = &binding.def.key;
        let misfit = |reason: &str| {
            let table = binding.def.name.to_string();
            rejected(RowFault { position, table, column: None, key: Vec::new(), reason: reason.to_owned() })
        };
        let bounds = [&range.after, &range.upto].into_iter().flatten();
        if chunk.skipped.iter().chain(bounds).any(|texts| texts.len() != key.len()) {
            return Err(misfit("a key of a snapshot's range does not have the columns of the key"));
        }
        let bad = |bad: BadValue| misfit(bad.reason);
        let mut pipe = Pipe::new(&mut self.session);
        let sql = pipe.sql();
        match &binding.soft {
            None => {
                sql.push(&format!("DELETE t FROM {} AS t{} WHERE TRUE", binding.table, binding.force_index));
            }
            Some(soft) => sql.push(&format!(
                "UPDATE {}{} SET {} = UTC_TIMESTAMP({}) WHERE {} IS NULL",
                binding.table, binding.force_index, soft.ident, soft.digits, soft.ident
            )),
        }
        for (bound, or_equal, sign) in [(&range.after, false, ">"), (&range.upto, true, "<")] {
            let Some(texts) = bound else { continue };
            let cells: Vec<Cell<'_>> = texts.iter().map(|text| Cell::text(text)).collect();
            sql.push(" AND ");
            beyond(sql, &binding, &cells.iter().collect::<Vec<_>>(), or_equal, sign).map_err(bad)?;
        }
        let mut first = true;
        let names: Vec<&str> = binding.key_idents().collect();
        let list = match names.len() {
            1 => names.join(""),
            _ => format!("({})", names.join(", ")),
        };
        let mut stays = |sql: &mut Sql, cells: &[&Cell<'_>]| {
            sql.push(&if std::mem::take(&mut first) {
                format!(" AND {list} NOT IN (")
            } else {
                ", ".to_owned()
            });
            sql.key_tuple(&binding, cells)
        };
        for event in sent {
            let cells = event.key_after(key).ok_or_else(|| misfit("a row of a snapshot carries no key"))?;
            stays(sql, &cells).map_err(bad)?;
        }
        for texts in &chunk.skipped {
            let cells: Vec<Cell<'_>> = texts.iter().map(|text| Cell::text(text)).collect();
            stays(sql, &cells.iter().collect::<Vec<_>>()).map_err(bad)?;
        }
        if !first {
            sql.push(")");
        }
        let pruned = match pipe.end(Purpose::Change(0)).await {
            Ok(()) => pipe.flush().await,
            halted => halted,
        };
        match pruned {
            Ok(()) | Err(Halt::Missing(_) | Halt::Changed(_)) => Ok(()),
            Err(Halt::Server(_, error)) if verdict(&error) == Verdict::Data => {
                Err(misfit(&describe(&error).1))
            }
            Err(Halt::Server(_, error)) => Err(stop(doing, error)),
            Err(Halt::TooLarge { .. }) => {
                Err(misfit("the keys of a snapshot's range do not fit the target's max_allowed_packet"))
            }
        }
    }

    /// Takes rows away that a re-snapshot has not come to and that are in the way of changes; false if no table of theirs
    /// is under one.
    pub(super) async fn clear_the_way(&mut self, events: &[Event<'_>]) -> Result<bool, Stop> {
        let mut tables: Vec<(TableId, Position)> = Vec::new();
        for event in events {
            if !tables.iter().any(|(table, _)| *table == event.table) {
                tables.push((event.table, event.position));
            }
        }
        let mut some = false;
        for (table, position) in tables {
            let Some(binding) = self.bindings.get(&table).filter(|b| !b.def.key.is_empty()).cloned() else {
                continue;
            };
            let Some(collected) = self.collection(&binding) else { continue };
            let of_table: Vec<_> = events.iter().filter(|event| event.table == table).copied().collect();
            self.make_room(&binding, &of_table, &collected, position).await?;
            some = true;
        }
        Ok(some)
    }

    /// Takes rows away that a re-snapshot has not come to and that are in the way of the rows `sent`.
    pub(super) async fn make_room(
        &mut self,
        binding: &Binding,
        sent: &[Event<'_>],
        collected: &str,
        position: Position,
    ) -> Result<(), Stop> {
        let mut pipe = Pipe::new(&mut self.session);
        let refused = |reason: &str| {
            let table = binding.def.name.to_string();
            rejected(RowFault { position, table, column: None, key: Vec::new(), reason: reason.to_owned() })
        };
        match stale::make_room(&mut pipe, binding, sent, collected).await {
            // The rows themselves follow, and their refusal names one.
            Ok(()) | Err(StaleError::Value) => Ok(()),
            Err(StaleError::Halt(Halt::Server(_, error))) if verdict(&error) == Verdict::Data => {
                Err(refused(&describe(&error).1))
            }
            Err(StaleError::Halt(Halt::Server(_, error))) => Err(stop("preparing a snapshot's range", error)),
            Err(StaleError::Halt(Halt::TooLarge { .. })) => Err(refused(
                "the unique values of a snapshot's range do not fit the target's max_allowed_packet",
            )),
            Err(StaleError::Halt(Halt::Missing(_) | Halt::Changed(_))) => Ok(()),
        }
    }
}
