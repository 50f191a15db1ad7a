//! The look into the catalog that is due every few seconds, since the stream says nothing of new tables. It goes on beside
//! the stream, in a session of its own: with thousands of tables it takes long.
//!
//! Where the stream needs the catalog it waits, see [`super::shapes`]. What a look has found is taken in between two
//! transactions, as if it had been read there. That is right because
//!
//! - nothing is overwritten that is newer. A Relation message that says otherwise than the catalog from before the look
//!   makes it outdated, and a catalog that is read for another reason (a table that is not known, one that became a
//!   partition, an unknown label) ends it. A message that says the same as the catalog from before is no news: where the
//!   look says otherwise, it is newer, or saw what was undone at once, which the next look mends;
//! - a look only reads. Publications are changed while the stream waits, so that a new table is told before its first
//!   change comes, and whatever ends a look, nothing is lost with it.
//!
//! What a look does not settle is asked again at once, and then the stream waits: nothing is learned meanwhile, so that
//! this answer counts, however much the stream has to say.

use std::sync::Arc;

use futures_util::FutureExt;
use rowbridge_schema::TablePatterns;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::PostgresCapture;
use super::catalog::{self, Catalog};
use super::error::PostgresError;
use super::setup::{self, PublicationPlan};
use super::shapes::{answer, ask};

/// The catalog, and what it takes to bring the publications in line with it.
pub(super) type Found = (Catalog, PublicationPlan);

/// A look that is under way. It ends when it is dropped.
pub(super) struct Look {
    task: JoinHandle<Result<Found, PostgresError>>,
    /// The stream has said something meanwhile that the catalog before did not say.
    pub outdated: bool,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the catalog; changes nothing.
pub(super) async fn read(
    client: &Client,
    tables: &TablePatterns,
    publication: &str,
) -> Result<Found, PostgresError> {
    let catalog = catalog::load(client, tables, None).await?;
    let plan = setup::plan_publications(client, &catalog, publication).await?;
    Ok((catalog, plan))
}

/// What a look has found; without one this waits forever. Cancel safe: the look goes on.
pub(super) async fn found(look: Option<&mut Look>) -> Result<Found, PostgresError> {
    match look {
        Some(look) => answer(&mut look.task).await,
        None => std::future::pending().await,
    }
}

impl PostgresCapture {
    /// Begins a look if one is due.
    pub(super) fn look_if_due(&mut self) {
        if self.look.is_some() || Instant::now() < self.catalog_due {
            return;
        }
        let client = Arc::clone(&self.looks);
        let source = &self.options.source;
        let (tables, publication) = (source.tables.clone(), source.publication.clone());
        let task = ask(async move { read(&client, &tables, &publication).await });
        self.look = Some(Look { task, outdated: false });
    }

    /// What the look has found, if it is there: a stream that never pauses must not keep it from being taken in.
    pub(super) fn found(&mut self) -> Option<Result<Found, PostgresError>> {
        self.look.as_mut().and_then(|look| found(Some(look)).now_or_never())
    }

    /// Takes in what the look has found. Between transactions only.
    pub(super) fn looked(&mut self, found: Result<Found, PostgresError>) -> Result<(), PostgresError> {
        let outdated = self.look.take().is_some_and(|look| look.outdated);
        let (catalog, plan) = found?;
        if outdated || !plan.statements.is_empty() {
            self.ask_catalog();
        } else {
            self.reloaded(catalog, &plan);
        }
        Ok(())
    }
}
