//! What stands between two runs of row changes: TRUNCATE, and the rows that a snapshot's range removes.

use rowbridge_schema::wire::{Chunk, Delivery};
use rowbridge_schema::{Position, TableId};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::error::{PostgresError, Verdict, describe, verdict};
use super::lane::{PostgresLane, Stop, rejected, stop};
use super::set::{self, RowFault, Texts};
use super::statement;
use crate::plan::Event;

impl PostgresLane {
    pub(super) async fn truncate(
        &mut self,
        delivery: &Delivery<'_>,
        tables: &[TableId],
        position: Position,
    ) -> Result<(), Stop> {
        let mut names: Vec<&str> = Vec::new();
        let mut soft = Vec::new();
        for id in tables {
            let Some(binding) = self.bindings.get(id) else {
                return Err(Stop::Error(PostgresError::Undefined));
            };
            if binding.soft.is_some() {
                soft.push(statement::clear(binding));
            } else if !binding.ignore_deletes && !names.contains(&binding.table.as_str()) {
                names.push(&binding.table);
            }
        }
        if !names.is_empty() {
            soft.push(format!("TRUNCATE {}", names.join(", ")));
        }
        for sql in soft {
            if let Err(error) = self.session.batch(&sql).await {
                // feature_not_supported here means that other tables refer to one of these.
                let linked = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
                if !linked && verdict(&error) != Verdict::Data {
                    return Err(stop("truncating", error));
                }
                let refers = error.as_db_error().and_then(|db| db.detail()).unwrap_or_default();
                let reason = if linked {
                    format!(
                        "the target refuses to truncate a table that others refer to: {refers}; drop that foreign key at the target"
                    )
                } else {
                    describe(&error).1
                };
                let table =
                    tables.iter().filter_map(|id| delivery.tables.get(id)).map(|def| def.name.to_string());
                let table = table.collect::<Vec<_>>().join(", ");
                return Err(rejected(RowFault { position, table, column: None, key: Vec::new(), reason }));
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
            return Err(Stop::Error(PostgresError::Undefined));
        };
        if binding.ignore_deletes {
            return Ok(());
        }
        if chunk.clear && begins {
            self.session.batch(&statement::clear(&binding)).await.map_err(|e| stop(doing, e))?;
        }
        if chunk.sweep.is_none() || binding.def.key.is_empty() {
            return Ok(());
        }
        // A row that is stale may have to give way to one of the stream, which takes to know where the re-snapshot is.
        let by_range = binding.orders_alike && binding.others.is_empty();
        let Some(range) = chunk.prune.as_ref().filter(|_| by_range) else {
            return self.sweep(&binding, chunk, sent, begins, position).await;
        };
        let key = &binding.def.key;
        let misfit = |reason: &str| {
            let table = binding.def.name.to_string();
            rejected(RowFault { position, table, column: None, key: Vec::new(), reason: reason.to_owned() })
        };
        let mut params: Vec<Texts<'_>> = vec![Vec::new(); key.len()];
        for event in sent {
            let cells = event.key_after(key).ok_or_else(|| misfit("a row of a snapshot carries no key"))?;
            params.iter_mut().zip(cells).for_each(|(param, cell)| param.push(set::text(cell)));
        }
        let bounds = [&range.after, &range.upto].into_iter().flatten();
        if chunk.skipped.iter().chain(bounds.clone()).any(|texts| texts.len() != key.len()) {
            return Err(misfit("a key of a snapshot's range does not have the columns of the key"));
        }
        for texts in &chunk.skipped {
            params.iter_mut().zip(texts).for_each(|(param, text)| param.push(Some(text.as_str().into())));
        }
        for bound in bounds {
            params.extend(bound.iter().map(|text| vec![Some(text.as_str().into())]));
        }
        let sql = statement::prune(&binding, range.after.is_some(), range.upto.is_some());
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|texts| texts as &(dyn ToSql + Sync)).collect();
        let types = vec![Type::TEXT_ARRAY; params.len()];
        match self.session.execute(&sql, &types, &params).await {
            Ok(_) => Ok(()),
            Err(error) if verdict(&error) == Verdict::Data => Err(misfit(&describe(&error).1)),
            Err(error) => Err(stop(doing, error)),
        }
    }
}
