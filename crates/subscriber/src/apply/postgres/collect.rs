//! Collecting the keys that a re-snapshot has met, and removing all other rows at its end, where the order of keys here
//! is another than at the source, or where rows that it has not come to may be in the way.

use rowbridge_schema::sql::ident;
use rowbridge_schema::wire::{Chunk, Op, Sweep};
use rowbridge_schema::{Position, TableId};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::binding::Binding;
use super::error::{PostgresError, Verdict, describe, failed, verdict};
use super::lane::{PostgresLane, Stop, rejected, stop};
use super::progress::ProgressRow;
use super::session::Session;
use super::set::{self, Call, RowFault, Texts};
use super::statement;
use crate::apply::collection;
use crate::plan::Event;

const DOING: &str = "collecting the keys of a re-snapshot";

/// Names of tables of ours in a schema that begin with a prefix.
pub(super) async fn tables(session: &Session, prefix: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let pattern = format!("{}%", prefix.replace('_', "\\_"));
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1::text AND c.relkind = 'r' AND c.relname LIKE $2::text ORDER BY 1";
    let rows = session.client.query(sql, &[&session.schema, &pattern]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

impl ProgressRow {
    /// The stream's tables that collect keys now.
    pub(super) async fn collecting(
        &self,
        session: &Session,
    ) -> Result<std::collections::HashSet<String>, PostgresError> {
        let found = tables(session, &collection::of_stream(&self.stream)).await;
        Ok(found.map_err(|e| failed("looking for a re-snapshot", e))?.into_iter().collect())
    }
}

/// The key's texts of rows as parameters.
#[derive(Default)]
struct Keys<'d>(Vec<Texts<'d>>);

impl<'d> Keys<'d> {
    /// False if the event carries no key.
    fn push(&mut self, binding: &Binding, event: &Event<'d>) -> bool {
        let Some(cells) = event.key_after(&binding.def.key) else { return false };
        self.0.resize_with(cells.len(), Vec::new);
        self.0.iter_mut().zip(cells).for_each(|(param, cell)| param.push(set::text(cell)));
        true
    }

    fn call(self, binding: &Binding, table: &str) -> Option<Call<'d>> {
        let statements = vec![statement::collect(binding, table)];
        let filled = self.0.first().is_some_and(|texts| !texts.is_empty());
        filled.then_some(Call { statements, params: self.0, expect: None, copy: None })
    }
}

impl PostgresLane {
    fn collection_name(&self, binding: &Binding) -> String {
        collection::name(&self.row.stream, &self.row.endpoint, &binding.def)
    }

    fn qualified(&self, name: &str) -> String {
        format!("{}.{}", ident(&self.session.schema), ident(name))
    }

    /// The table that collects the keys of a table now, quoted.
    pub(super) fn collection(&self, binding: &Binding) -> Option<String> {
        let open = self.collecting.as_ref().filter(|open| !open.is_empty())?;
        let name = self.collection_name(binding);
        open.contains(&name).then(|| self.qualified(&name))
    }

    /// Statements that note the keys which changes of the stream leave behind: those rows are newer than what the
    /// re-snapshot has read, or in a range that it has left.
    pub(super) fn collected<'d>(&self, events: &[Event<'d>]) -> Vec<Call<'d>> {
        if self.collecting.as_ref().is_none_or(|open| open.is_empty()) {
            return Vec::new();
        }
        let mut tables: Vec<(TableId, Option<String>, Keys<'d>)> = Vec::new();
        for event in events.iter().filter(|event| event.op != Op::Delete) {
            let Some(binding) = self.bindings.get(&event.table) else { continue };
            let at = tables.iter().position(|(id, ..)| *id == event.table).unwrap_or_else(|| {
                tables.push((event.table, self.collection(binding), Keys::default()));
                tables.len() - 1
            });
            if tables[at].1.is_some() {
                tables[at].2.push(binding, event);
            }
        }
        let call = |(id, table, keys): (TableId, Option<String>, Keys<'d>)| {
            keys.call(self.bindings.get(&id)?, &table?)
        };
        tables.into_iter().filter_map(call).collect()
    }

    /// Notes the keys of changes that were just applied.
    pub(super) async fn collect(&mut self, events: &[Event<'_>]) -> Result<(), Stop> {
        let calls = self.collected(events);
        set::run(&mut self.session, &calls).await.map(drop).map_err(|e| stop(DOING, e))
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
        let mut keys = Keys::default();
        if !sent.iter().all(|event| keys.push(binding, event)) {
            return Err(refused("a row of a snapshot carries no key"));
        }
        let mut skipped: Vec<Texts<'_>> = vec![Vec::new(); binding.def.key.len()];
        for texts in &chunk.skipped {
            if texts.len() != skipped.len() {
                return Err(refused("a key of a snapshot's range does not have the columns of the key"));
            }
            skipped.iter_mut().zip(texts).for_each(|(param, text)| param.push(Some(text.as_str().into())));
        }
        let calls: Vec<Call<'_>> =
            [keys, Keys(skipped)].into_iter().filter_map(|keys| keys.call(binding, &table)).collect();
        let noted = set::run(&mut self.session, &calls).await.map(drop);
        let removed = match noted {
            Ok(()) if chunk.done => self.end_collection(binding, &table).await,
            noted => noted,
        };
        removed.map_err(|error| match verdict(&error) {
            Verdict::Data => refused(&describe(&error).1),
            _ => stop(DOING, error),
        })
    }

    /// Makes the table for a re-snapshot, without what an earlier one has left.
    async fn begin_collection(&mut self, binding: &Binding) -> Result<(), Stop> {
        let (stream, endpoint) = (&self.row.stream, &self.row.endpoint);
        let prefix = collection::of_table(stream, endpoint, &binding.def.name);
        let left: Vec<String> =
            self.collecting.iter().flatten().filter(|name| name.starts_with(&prefix)).cloned().collect();
        for name in left {
            let sql = format!("DROP TABLE IF EXISTS {}", self.qualified(&name));
            self.session.batch(&sql).await.map_err(|e| stop(DOING, e))?;
            self.collecting.get_or_insert_default().remove(&name);
        }
        let name = self.collection_name(binding);
        let sql = statement::create_collection(binding, &self.qualified(&name));
        self.session.batch(&sql).await.map_err(|source| {
            if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                let schema = self.session.schema.clone();
                return Stop::Error(PostgresError::Collection { schema, source });
            }
            stop(DOING, source)
        })?;
        self.collecting.get_or_insert_default().insert(name);
        Ok(())
    }

    /// Removes what was not collected, and the table.
    async fn end_collection(&mut self, binding: &Binding, table: &str) -> Result<(), tokio_postgres::Error> {
        // Without statistics the server may take a large table for a small one and compare each row with each.
        self.session.batch(&format!("ANALYZE {table}")).await?;
        let sql = statement::sweep(binding, table);
        let none: &[&(dyn ToSql + Sync)] = &[];
        let removed = self.session.client.execute(&sql, none).await?;
        self.session.batch(&format!("DROP TABLE {table}")).await?;
        let name = self.collection_name(binding);
        self.collecting.get_or_insert_default().remove(&name);
        tracing::info!(table = %binding.def.name, removed, "a re-snapshot is complete");
        Ok(())
    }
}
