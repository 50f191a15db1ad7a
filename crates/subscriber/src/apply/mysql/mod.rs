//! MySQL and MariaDB as a target.

mod barriers;
mod bind;
mod binding;
mod catalog;
mod check;
mod collation;
mod collect;
mod create;
mod error;
mod follow;
mod form;
mod lane;
mod pipe;
mod progress;
mod rows;
mod session;
mod set;
mod settle;
mod stale;
mod statement;
mod types;

use std::sync::Arc;

pub use error::MysqlError;
pub use lane::MysqlLane;
use progress::ProgressRow;
use rowbridge_schema::config::ServerUrl;
use rowbridge_schema::{EndpointName, StreamName};
use session::Session;

use super::ApplyTarget;
use crate::plan::Mapping;

/// A MySQL or MariaDB server that lanes write to.
#[derive(Clone)]
pub struct MysqlTarget {
    settings: Arc<Settings>,
}

/// What all lanes of a target share.
struct Settings {
    url: ServerUrl,
    roots: Vec<Vec<u8>>,
    mapping: Arc<Mapping>,
    create: bool,
}

impl Settings {
    async fn connect(&self) -> Result<Session, MysqlError> {
        Session::connect(&self.url, &self.roots).await
    }
}

impl MysqlTarget {
    /// A target. `roots` are the trusted authorities in DER, for the modes of `url.ssl_mode` that verify. `create` allows
    /// to make missing databases and tables. Nothing is connected yet.
    #[must_use]
    pub fn new(url: ServerUrl, roots: Vec<Vec<u8>>, mapping: Arc<Mapping>, create: bool) -> Self {
        Self { settings: Arc::new(Settings { url, roots, mapping, create }) }
    }
}

impl ApplyTarget for MysqlTarget {
    type Lane = MysqlLane;
    type Error = MysqlError;

    async fn open(&self, stream: &StreamName, endpoint: &EndpointName) -> Result<MysqlLane, MysqlError> {
        let session = self.settings.connect().await?;
        let row = ProgressRow::new(&session, stream, endpoint);
        MysqlLane::open(self.settings.clone(), session, row).await
    }
}
