//! The captured tables of a source, for who wants to know their shapes without capturing.

use std::path::Path;

use rowbridge_schema::config::{DatabaseUrl, SourceConfig};
use rowbridge_schema::{Classified as _, TableDef, TablePatterns, tls};
use rusqlite::{Connection, OpenFlags};

use crate::capture::mysql::{self, MysqlError};
use crate::capture::postgres::PostgresError;
use crate::capture::sqlite::{SqliteError, inspect};
use crate::snapshot::SnapshotReader as _;
use crate::snapshot::mysql::MysqlSnapshot;
use crate::snapshot::postgres::PostgresSnapshot;
use crate::source::connector;

/// Why the tables of a source are not known.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// TLS towards the source.
    #[error("TLS cannot be set up for source.url")]
    Tls(#[from] tls::TlsError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// MySQL or MariaDB.
    #[error(transparent)]
    Mysql(#[from] MysqlError),
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
}

impl TablesError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tls(_) => None,
            Self::Postgres(error) => error.hint(),
            Self::Mysql(error) => error.hint(),
            Self::Sqlite(error) => error.hint(),
        }
    }
}

/// Asks the source for the tables that `source.tables` takes, by name. Changes nothing there, and needs neither slot nor
/// change log.
///
/// # Errors
/// The source cannot be reached, or refuses.
pub async fn source_tables(source: &SourceConfig) -> Result<Vec<TableDef>, TablesError> {
    let patterns = source.tables.clone();
    match &source.database {
        DatabaseUrl::Postgres(url) => Ok(PostgresSnapshot::new(connector(url)?, patterns).tables().await?),
        DatabaseUrl::Mysql(url) => {
            let connector = mysql::client::Connector::new(url)?;
            Ok(MysqlSnapshot::new(connector, patterns).tables().await?)
        }
        DatabaseUrl::Sqlite(path) => Ok(tokio::task::block_in_place(|| sqlite(path, &patterns))?),
    }
}

/// A snapshot's reader would ask for the change log, which is not there before the first start.
fn sqlite(path: &Path, patterns: &TablePatterns) -> Result<Vec<TableDef>, SqliteError> {
    let fail = |source| SqliteError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    conn.busy_timeout(std::time::Duration::from_secs(2)).map_err(fail)?;
    Ok(inspect::captured(&conn, patterns)?.into_iter().map(|table| table.def).collect())
}
