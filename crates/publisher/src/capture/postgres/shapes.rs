//! What the catalog is asked while the stream waits: the tables that there are, and what a Relation message means.

use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::{TableDef, TableName};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;

use super::catalog::{self, Catalog};
use super::error::PostgresError;
use super::look::{self, Found};
use super::relation::{self, Announced, Relation, Resolved};
use super::setup::{self, PublicationPlan};
use super::transaction::Transaction;
use super::{CATALOG_INTERVAL, PostgresCapture};
use crate::capture::Captured;
use crate::state::{self, SentColumns};

/// How long the catalog may take. Seconds are much even with very many tables.
const PATIENCE: Duration = Duration::from_secs(300);

/// A commit is visible to others microseconds after it was shipped, or when the synchronous standby has it.
const VISIBLE_POLL: Duration = Duration::from_millis(2);

/// A question to the catalog. It runs as a task of its own: `next` is cancelled many times a second while a snapshot waits
/// for the stream, and a question that began anew each time would never be answered.
pub(super) enum Question {
    Catalog(JoinHandle<Result<Found, PostgresError>>),
    Relation(JoinHandle<Result<Resolved, PostgresError>>),
    Visible(JoinHandle<Result<(), PostgresError>>),
}

/// Cancel safe: the task goes on.
pub(super) async fn answer<T>(task: &mut JoinHandle<Result<T, PostgresError>>) -> Result<T, PostgresError> {
    let died = PostgresError::Stream { what: "a look into the catalog was broken off" };
    task.await.unwrap_or(Err(died))
}

/// Asks in a task of its own.
pub(super) fn ask<T: Send + 'static>(
    question: impl Future<Output = Result<T, PostgresError>> + Send + 'static,
) -> JoinHandle<Result<T, PostgresError>> {
    let silent = PostgresError::Silent { action: "read the catalog", seconds: PATIENCE.as_secs() };
    tokio::spawn(async move { timeout(PATIENCE, question).await.unwrap_or(Err(silent)) })
}

impl PostgresCapture {
    /// Asks what the announced relation is.
    pub(super) fn ask_relation(&mut self, announced: Announced) {
        if !self.reread && !self.catalog.roots.contains_key(&announced.oid) {
            self.reread = true;
            self.ask_catalog();
            return;
        }
        let (catalog, sql) = (Arc::clone(&self.catalog), Arc::clone(&self.sql));
        let tables = self.options.source.tables.clone();
        self.asking = Some(Question::Relation(ask(async move {
            let captured = |name: &TableName| tables.matches(name);
            relation::resolve(&announced, &catalog, captured, &sql).await
        })));
    }

    /// Takes in what the announced relation is.
    pub(super) fn resolved(&mut self, resolved: Resolved) {
        let Resolved { mut relation, moved } = resolved;
        if moved && !self.reread {
            self.reread = true;
            self.ask_catalog();
            return;
        }
        self.reread = false;
        let Some(announced) = self.announced.take() else { return };
        if let Some(relation) = &mut relation {
            relation.watched = self.watched.contains(&relation.def.name);
        }
        if let Some(now) = &relation {
            let mut columns = state::columns(&now.def);
            if now.leaf_of.is_some()
                && let Some(sent) = self.sent.get(&now.def.name)
            {
                // A leaf may have an order of its own.
                let place = |column: &(String, String)| sent.iter().position(|c| c == column);
                columns.sort_by_key(|column| place(column).unwrap_or(usize::MAX));
            }
            let known = self.catalog.tables.get(&now.def.name);
            if let Some(look) = &mut self.look {
                look.outdated |= known.is_none_or(|known| known.def != now.def);
            }
            self.has_columns(&now.def, columns);
        }
        self.relations.insert(announced.oid, relation);
        self.said.insert(announced.oid, announced);
    }

    /// Sends a table again whose columns are not those with which its rows were sent. Stream and catalog both tell: the
    /// catalog of a table that nobody writes, the stream before the catalog is looked at again.
    fn has_columns(&mut self, def: &TableDef, columns: SentColumns) {
        if self.sent.get(&def.name).is_some_and(|sent| state::values_changed(sent, &columns)) {
            tracing::info!(table = %def.name, "columns changed: the table is sent again");
            self.pending.push_back(Captured::TableAdded { def: def.clone(), resync: true });
            self.unseen = self.transaction.as_ref().map(Transaction::xid).or(self.unseen);
        }
        self.sent.insert(def.name.clone(), columns);
    }

    /// Waits until a snapshot sees the transaction: a commit is shipped before it is visible to others, and rows that were
    /// read in between would be those from before the ALTER, whose rewrite is not in the stream.
    pub(super) fn ask_visible(&mut self, xid: u32) {
        let sql = Arc::clone(&self.sql);
        self.asking = Some(Question::Visible(ask(async move {
            // A transaction gives up the lock on its own id after it has become visible. Anybody may look.
            let open = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
                        WHERE locktype = 'transactionid' AND transactionid = $1::text::pg_catalog.xid)";
            let failed = |source| PostgresError::query("wait for a commit", source);
            while sql
                .query_one(open, &[&xid.to_string()])
                .await
                .and_then(|row| row.try_get(0))
                .map_err(failed)?
            {
                tokio::time::sleep(VISIBLE_POLL).await;
            }
            Ok(())
        })));
    }

    /// Asks for the whole catalog and brings the publications in line with it. A look that is under way is older.
    pub(super) fn ask_catalog(&mut self) {
        self.look = None;
        let sql = Arc::clone(&self.sql);
        let (tables, publication) =
            (self.options.source.tables.clone(), self.options.source.publication.clone());
        self.asking = Some(Question::Catalog(ask(async move {
            let (catalog, plan) = look::read(&sql, &tables, &publication).await?;
            match setup::run_publications(&sql, &plan).await {
                Ok(()) => Ok((catalog, plan)),
                // The stream goes on, and the next look tries again.
                Err(PostgresError::Query { source, .. })
                    if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) =>
                {
                    tracing::warn!(statements = ?plan.statements, "the publications wait for a lock of another session");
                    Ok((catalog, PublicationPlan::default()))
                }
                Err(error) => Err(error),
            }
        })));
    }

    /// Takes in the catalog; what is gone stays known, since the stream may still speak of it.
    pub(super) fn reloaded(&mut self, mut catalog: Catalog, plan: &PublicationPlan) {
        for name in &plan.added {
            if let Some(table) = catalog.tables.get(name) {
                tracing::info!(table = %name, "a new table joins");
                self.pending.push_back(Captured::TableAdded { def: table.def.clone(), resync: false });
            }
        }
        for name in &plan.upgraded {
            if let Some(table) = catalog.tables.get(name) {
                tracing::info!(table = %name, "a table got an identity: it is sent again");
                self.pending.push_back(Captured::TableAdded { def: table.def.clone(), resync: true });
            }
        }
        for (name, before) in &self.catalog.tables {
            let Some(now) = catalog.tables.get(name).filter(|now| now.oid == before.oid) else { continue };
            let detached = before.leaves.iter().any(|leaf| !now.leaves.iter().any(|l| l.oid == leaf.oid));
            let attached = now
                .leaves
                .iter()
                .any(|leaf| leaf.attached && !before.leaves.iter().any(|l| l.oid == leaf.oid));
            if detached || attached {
                tracing::info!(table = %name, "a partition was attached, detached or dropped: the table is sent again");
                self.pending.push_back(Captured::TableAdded { def: now.def.clone(), resync: true });
            }
        }
        for (name, now) in &catalog.tables {
            if self.catalog.tables.get(name).is_none_or(|before| before.oid != now.oid) {
                // Another table: it is sent as a new one.
                self.sent.remove(name);
            }
            let before = self.catalog.tables.get(name).filter(|before| before.oid == now.oid);
            if let Some(column) = before.and_then(|before| now.replaced_column(before)) {
                tracing::info!(table = %name, %column, "a column was dropped and added anew: the table is sent again");
                self.pending.push_back(Captured::TableAdded { def: now.def.clone(), resync: true });
                self.sent.insert(name.clone(), state::columns(&now.def));
            }
            self.has_columns(&now.def, state::columns(&now.def));
        }
        for (oid, root) in &self.catalog.roots {
            catalog.roots.entry(*oid).or_insert_with(|| root.clone());
        }
        // Rows of a table that was attached or detached belong elsewhere from now on; a new label of an enum is not
        // announced in the stream.
        let elsewhere = |oid: &u32, known: &Option<Relation>| {
            let root = catalog.roots.get(oid);
            let types = root.and_then(|name| catalog.tables.get(name)).map(|table| &table.def.types);
            let known = known.as_ref().map(|relation| &relation.def);
            root != known.map(|def| &def.name)
                || types.is_some_and(|types| known.is_some_and(|def| def.types != *types))
        };
        self.moved =
            self.relations.iter().filter(|(oid, known)| elsewhere(oid, known)).map(|(oid, _)| *oid).collect();
        self.catalog = Arc::new(catalog);
        self.catalog_due = Instant::now() + CATALOG_INTERVAL;
    }
}

pub(super) fn sent_columns(table: &catalog::CatalogTable) -> (TableName, SentColumns) {
    (table.def.name.clone(), state::columns(&table.def))
}
