//! PostgreSQL as a target.

mod barriers;
mod bind;
mod binding;
mod brief;
mod catalog;
mod check;
mod collect;
mod copy;
mod create;
mod error;
mod lane;
mod progress;
mod quick;
mod rows;
mod session;
mod set;
mod settle;
mod stale;
mod statement;
mod straight;
mod types;
mod watch;

use std::sync::Arc;

pub use error::{PoolerEvidence, PostgresError};
pub use lane::PostgresLane;
use progress::ProgressRow;
use rowbridge_schema::config::ServerUrl;
use rowbridge_schema::{EndpointName, StreamName};
use session::Session;

use super::ApplyTarget;
use crate::plan::Mapping;

/// A PostgreSQL database that lanes write to.
#[derive(Clone)]
pub struct PostgresTarget {
    settings: Arc<Settings>,
}

/// What all lanes of a target share.
struct Settings {
    url: ServerUrl,
    tls: Option<Arc<rustls::ClientConfig>>,
    mapping: Arc<Mapping>,
    create: bool,
}

impl PostgresTarget {
    /// A target. `tls` has to verify as far as `url.ssl_mode` asks for; without it only `disable` and `prefer` work.
    /// `create` allows to make missing schemas, types and tables. Nothing is connected yet.
    #[must_use]
    pub fn new(
        url: ServerUrl,
        tls: Option<Arc<rustls::ClientConfig>>,
        mapping: Arc<Mapping>,
        create: bool,
    ) -> Self {
        Self { settings: Arc::new(Settings { url, tls, mapping, create }) }
    }

    async fn connect(&self) -> Result<Session, PostgresError> {
        Session::connect(&self.settings.url, self.settings.tls.as_ref()).await
    }
}

impl ApplyTarget for PostgresTarget {
    type Lane = PostgresLane;
    type Error = PostgresError;

    async fn open(
        &self,
        stream: &StreamName,
        endpoint: &EndpointName,
    ) -> Result<PostgresLane, PostgresError> {
        let session = self.connect().await?;
        let row = ProgressRow::new(&session.schema, stream, endpoint);
        PostgresLane::open(self.settings.clone(), session, row).await
    }
}
