//! Finding or making the target of every table that a delivery refers to, before its transaction begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_schema::sql::ident;
use rowbridge_schema::types::{ColumnType, Server};
use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Dialect, TableDef, TableId, TableName};
use tracing::warn;

use super::binding::{self, Binding, Misfit};
use super::catalog::{self, TargetTable};
use super::create::{self, CreateError};
use super::error::{Verdict, describe, verdict};
use super::lane::{PostgresLane, Stop, stop};
use crate::cross::{self, Conversions};
use crate::plan::MappedTable;

/// Table shapes remembered per lane.
const MAX_BINDINGS: usize = 4096;

/// How long a look at the target's catalog holds. Dropped columns are noticed at once, a type that was narrowed is not.
const BINDINGS_AGE: Duration = Duration::from_secs(60);

impl PostgresLane {
    /// Fits every table of the delivery onto the target, making what is missing if that is allowed.
    pub(super) async fn bind_all(&mut self, delivery: &Delivery<'_>) -> Result<(), Stop> {
        let first = |id: TableId| {
            let uses = |block: &&rowbridge_schema::wire::Block<'_>| {
                block.runs.iter().any(|run| run.table == id)
                    || block.head.chunk.as_ref().is_some_and(|chunk| chunk.table == id)
            };
            delivery.blocks.iter().find(uses).map(|block| block.head.first)
        };
        // Shapes of long ago leave with the rest: what is still written is soon read again.
        let old = self.bound_at.elapsed() > BINDINGS_AGE && self.staged.is_none();
        if old || self.bindings.len() > MAX_BINDINGS {
            self.bindings.clear();
            self.bound_at = Instant::now();
        }
        let mut failing = Vec::new();
        for (&id, def) in &delivery.tables {
            if self.bindings.contains_key(&id) {
                continue;
            }
            let Some(position) = first(id) else { continue };
            match self.bind(def, id).await? {
                Ok(binding) => {
                    self.bindings.insert(id, Arc::new(binding));
                }
                Err(Misfit { column, reason }) => {
                    let table = def.name.to_string();
                    failing.push(FailingChange { position, table, column, key: Vec::new(), reason });
                }
            }
        }
        failing.sort_by_key(|change| change.position);
        if failing.is_empty() { Ok(()) } else { Err(Stop::Rejected(failing)) }
    }

    async fn bind(&mut self, def: &TableDef, id: TableId) -> Result<Result<Binding, Misfit>, Stop> {
        let whole = |reason: String| Ok(Err(Misfit { column: None, reason }));
        let doing = "reading the target's catalog";
        let first_time = self.warned.insert(id);
        let mapping = &self.settings.mapping;
        let mapped = match mapping.table(def) {
            Ok(mapped) => mapped,
            Err(error) => return whole(explain(&error)),
        };
        let schema = mapped.target.schema.clone().unwrap_or_else(|| self.session.schema.clone());
        let target = TableName::new(schema, &mapped.target.name);
        if let Err(error) = mapping.claim(&def.name, &target) {
            return whole(explain(&error));
        }
        if first_time && !mapped.unmatched.is_empty() {
            warn!(table = %def.name, columns = ?mapped.unmatched, "the map names columns that the table does not have");
        }
        if target.name == super::progress::TABLE {
            return whole("rowbridge_progress cannot be written from a source".to_owned());
        }
        let crossing = cross::needed(def, &mapped, Dialect::Postgres);
        let source = def;
        let made_as;
        let def = if crossing {
            made_as = cross::made(source, &mapped, Server::Postgres);
            &made_as
        } else {
            source
        };
        let made = if self.settings.create { create::types(&self.session, def).await } else { Ok(()) };
        let mut found = catalog::load(&self.session, &target).await.map_err(|e| stop(doing, e))?;
        let made = match (made, &found) {
            (Ok(()), None) if self.settings.create => {
                create::table(&self.session, def, &mapped, &target).await
            }
            (made, _) => made,
        };
        match made {
            Ok(()) => {}
            Err(CreateError::Server(error)) => return Err(stop("making a table", error)),
            Err(CreateError::Statement { sql, source }) if verdict(&source) != Verdict::Again => {
                return whole(format!("the target refuses ({}); run there `{sql}`", describe(&source).1));
            }
            Err(CreateError::Statement { source, .. }) => return Err(stop("making a table", source)),
            Err(CreateError::NotAType { column, type_name }) => {
                let reason = format!(
                    "the target does not know type {type_name}; make it there, or install its extension"
                );
                return Ok(Err(Misfit { column: Some(column), reason }));
            }
        }
        if found.is_none() && self.settings.create {
            found = catalog::load(&self.session, &target).await.map_err(|e| stop(doing, e))?;
        }
        let Some(found) = found else {
            return whole(format!(
                "table {target} is missing at the target; set target.create = true, or run there `{}`",
                create::table_sql(def, &mapped, &target)
            ));
        };
        if !self.settings.create {
            for definition in &def.types {
                let rowbridge_schema::TypeDefinition::Enum { name, labels } = definition else { continue };
                let missing = catalog::missing_labels(&self.session, name, labels);
                let missing = missing.await.map_err(|e| stop(doing, e))?.unwrap_or_default();
                if let Some(label) = missing.first() {
                    let sql = catalog::add_label(name, labels, label);
                    return whole(format!("enum {name} of the target lacks a label; run there `{sql}`"));
                }
            }
        }
        if first_time && found.deferrable && self.session.replica {
            warn!(
                table = %target,
                "deferrable unique constraints are not enforced under session_replication_role = replica: \
                 let nobody else write this table"
            );
        }
        let bound =
            if crossing { crossed(source, &mapped, &found) } else { binding::bind(def, &mapped, &found) };
        if first_time
            && let Ok(binding) = &bound
            && !binding.def.key.is_empty()
            && !binding.arbiter
        {
            warn!(table = %target, "the target's table has no unique index on the key: applying is slow");
        }
        Ok(bound)
    }
}

/// Fits a shape whose values are converted.
fn crossed(def: &TableDef, mapped: &MappedTable, target: &TargetTable) -> Result<Binding, Misfit> {
    let find = |name: &str| target.columns.iter().find(|column| column.name == name);
    let base = |name: &str| {
        find(name).map(|column| ColumnType::parse(Dialect::Postgres, &column.base_type, None, &[]))
    };
    let shape = Conversions::shape(def, mapped, Server::Postgres, |name| {
        find(name).map(|column| (column.type_name.clone(), None))
    });
    let mut binding = binding::bind(&shape, mapped, target)?;
    let conversions = Conversions::plan(def, mapped, Server::Postgres, base).map_err(|misfit| {
        let name = mapped.columns[misfit.column].as_deref().unwrap_or_default();
        let reason = format!(
            "{}; run: ALTER TABLE {} ALTER COLUMN {} TYPE {}",
            misfit.reason,
            binding.table,
            ident(name),
            misfit.wanted.type_name
        );
        Misfit { column: Some(def.columns[misfit.column].name.clone()), reason }
    })?;
    binding.deferrable = def.dialect == Dialect::Postgres;
    binding.conversions = Some(conversions);
    Ok(binding)
}

fn explain(error: &crate::plan::MapError) -> String {
    use rowbridge_schema::Classified;
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{error}{hint}")
}
