//! Finding or making the target of every table that a delivery refers to, before its transaction begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_schema::types::{ColumnType, Server};
use rowbridge_schema::wire::{Delivery, FailingChange};
use rowbridge_schema::{Classified as _, Dialect, TableDef, TableId, TableName};
use tracing::{info, warn};

use super::binding::{self, Binding, Misfit};
use super::catalog::{self, TargetTable};
use super::create;
use super::error::{Verdict, describe, verdict};
use super::follow;
use super::lane::{MysqlLane, Stop, stop};
use super::session::Flavor;
use crate::cross::{self, Conversions};
use crate::plan::MappedTable;

/// Table shapes remembered per lane.
const MAX_BINDINGS: usize = 4096;

/// How long a look at the target's catalog holds. Dropped columns are noticed at once, a type that was narrowed is not.
const BINDINGS_AGE: Duration = Duration::from_secs(60);

/// Databases that belong to the server.
pub(super) const SYSTEM: &[&str] = &["mysql", "information_schema", "performance_schema", "sys"];

impl MysqlLane {
    /// Looks at the target's catalog again at the next delivery.
    pub(super) fn forget(&mut self) {
        self.bindings.clear();
        self.linked = None;
        self.bound_at = Instant::now();
    }

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
            self.forget();
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
        let first_time = self.warned.insert(id);
        let mapping = &self.settings.mapping;
        let mapped = match mapping.table(def) {
            Ok(mapped) => mapped,
            Err(error) => return whole(explain(&error)),
        };
        let schema = mapped.target.schema.clone().or_else(|| self.session.database.clone());
        let Some(schema) = schema else {
            return whole(format!(
                "the target has no database for table {}; name one in target.url, or in a [[map]]: to = \"DATABASE.{}\"",
                mapped.target.name, mapped.target.name
            ));
        };
        let target = TableName::new(schema, &mapped.target.name);
        let claimed = match self.session.folds_names {
            true => TableName::new(
                target.schema.as_deref().unwrap_or_default().to_lowercase(),
                target.name.to_lowercase(),
            ),
            false => target.clone(),
        };
        if let Err(error) = mapping.claim(&def.name, &claimed) {
            return whole(explain(&error));
        }
        if first_time && !mapped.unmatched.is_empty() {
            warn!(table = %def.name, columns = ?mapped.unmatched, "the map names columns that the table does not have");
        }
        let is_system = |schema: &str| SYSTEM.contains(&schema.to_lowercase().as_str());
        if target.schema.as_deref().is_some_and(is_system) {
            return whole(format!("{target} belongs to the server and cannot be written from a source"));
        }
        if target.name.to_lowercase().starts_with("rowbridge_") {
            return whole(format!("{target} belongs to Rowbridge and cannot be written from a source"));
        }
        let crossing = cross::needed(def, &mapped, Dialect::Mysql);
        let server = match self.session.flavor {
            Flavor::Mysql => Server::Mysql,
            Flavor::MariaDb => Server::Mariadb,
        };
        let made_as = crossing.then(|| cross::made(def, &mapped, server));
        let found = match self.find(made_as.as_ref().unwrap_or(def), &mapped, &target).await? {
            Ok(found) => found,
            Err(misfit) => return Ok(Err(misfit)),
        };
        let bound = match crossing {
            true => crossed(def, &mapped, &found, server),
            false => binding::bind(def, &mapped, &found),
        };
        let bound = bound.and_then(|mut binding| {
            if server == Server::Mariadb {
                let columns = binding.columns.iter_mut().flatten();
                columns.for_each(|column| column.form.without_negative_zero());
            }
            binding::keep_apart(&mut binding, def, &mapped, &found, server).map(|()| binding)
        });
        if first_time && let Ok(binding) = &bound {
            remark(&target, binding);
        }
        Ok(bound)
    }

    /// The target's table, which may have to be made.
    async fn find(
        &mut self,
        def: &TableDef,
        mapped: &MappedTable,
        target: &TableName,
    ) -> Result<Result<TargetTable, Misfit>, Stop> {
        let doing = "reading the target's catalog";
        let whole = |reason: String| Ok(Err(Misfit { column: None, reason }));
        if self.linked.is_none() {
            let linked = follow::acting_keys(&mut self.session).await.map_err(|e| stop(doing, e))?;
            self.linked = Some(linked);
        }
        let mut found = catalog::load(&mut self.session, target).await.map_err(|e| stop(doing, e))?;
        if matches!(found, Ok(None)) {
            let collations = create::collations(&mut self.session, def).await.map_err(|e| stop(doing, e))?;
            let statements = match create::statements(def, mapped, target, &collations) {
                Ok(statements) => statements,
                Err(misfit) => return Ok(Err(misfit)),
            };
            if !self.settings.create {
                return whole(format!(
                    "table {target} is missing at the target; set target.create = true, or run there: {}",
                    statements.whole()
                ));
            }
            // In a session of its own: DDL would commit what is open in this one.
            let mut session = self.settings.connect().await?;
            match statements.run(&mut session).await {
                Ok(()) => {}
                Err((sql, error))
                    if matches!(error, mysql_async::Error::Server(_))
                        && verdict(&error) != Verdict::Again =>
                {
                    let code = super::error::code(&error).unwrap_or_default();
                    return whole(format!(
                        "the target refuses ({}, error {code}): run there: {sql}",
                        describe(&error).1
                    ));
                }
                Err((_, error)) => return Err(stop("making a table", error)),
            }
            info!(
                table = %target,
                "made a table at the target: columns and key only, no foreign keys, checks, triggers or other indexes"
            );
            found = catalog::load(&mut self.session, target).await.map_err(|e| stop(doing, e))?;
        }
        match found {
            Ok(Some(mut found)) => {
                let keys = self.linked.iter().flatten();
                let is = |name: &TableName| {
                    let same = |a: &str, b: &str| self.session.same_name(a, b);
                    same(&name.name, &found.name.name)
                        && same(
                            name.schema.as_deref().unwrap_or_default(),
                            found.name.schema.as_deref().unwrap_or_default(),
                        )
                };
                let linked = keys.clone().any(|key| is(&key.child) || is(&key.parent));
                let referring = keys.filter(|key| is(&key.parent)).cloned().collect();
                (found.linked, found.referring) = (linked, referring);
                Ok(Ok(found))
            }
            Ok(None) => whole(format!("table {target} is missing at the target although it was just made")),
            Err(reason) => whole(reason),
        }
    }
}

/// Fits a shape whose values are converted.
fn crossed(
    def: &TableDef,
    mapped: &MappedTable,
    target: &TargetTable,
    server: Server,
) -> Result<Binding, Misfit> {
    let shape = Conversions::shape(def, mapped, server, |name| {
        target.column(name).map(|column| (column.type_text.clone(), column.collation.clone()))
    });
    let mut binding = binding::bind(&shape, mapped, target)?;
    let actual = |name: &str| {
        let column = target.column(name)?;
        Some(ColumnType::parse(Dialect::Mysql, &column.type_text, column.collation.as_deref(), &[]))
    };
    let conversions = Conversions::plan(def, mapped, server, actual).map_err(|misfit| {
        let name = mapped.columns[misfit.column].as_deref().unwrap_or_default();
        let reason = format!("{}; run: {}", misfit.reason, target.modify(name, &misfit.wanted));
        Misfit { column: Some(def.columns[misfit.column].name.clone()), reason }
    })?;
    // Only a source of this kind may keep its cascades to itself.
    binding.linked &= def.dialect == Dialect::Mysql;
    binding.deferrable = def.dialect == Dialect::Postgres;
    binding.conversions = Some(conversions);
    Ok(binding)
}

/// What is worth a line in the log when a shape is first seen.
fn remark(target: &TableName, binding: &Binding) {
    let keyed = !binding.def.key.is_empty();
    if keyed && binding.force_index.is_empty() {
        warn!(table = %target, "the target's table has no unique index on the key: applying is slow");
    }
    if binding.triggers {
        warn!(table = %target, "the target's table has triggers, which fire for every row (MySQL cannot switch them off)");
    }
    if keyed && binding.linked {
        info!(table = %target, "foreign keys of the target act on this table: it is applied row by row in source order");
    }
}

fn explain(error: &crate::plan::MapError) -> String {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{error}{hint}")
}
