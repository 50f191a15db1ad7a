//! The configured target, of any kind.

use std::sync::Arc;

use rowbridge_schema::config::{DatabaseUrl, ServerUrl, SubscriberConfig};
use rowbridge_schema::{Classified as _, Dialect, tls};
use rowbridge_subscriber::apply::mysql::MysqlTarget;
use rowbridge_subscriber::apply::postgres::PostgresTarget;
use rowbridge_subscriber::apply::sqlite::SqliteTarget;
use rowbridge_subscriber::plan::Mapping;

use crate::failure::{Failure, chain};

pub(crate) enum Target {
    Postgres(PostgresTarget),
    Mysql(MysqlTarget),
    Sqlite(SqliteTarget),
}

impl Target {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// `[[map]]` entries that contradict each other, or certificates that cannot be read: both are the file's.
    pub(crate) fn new(config: &SubscriberConfig) -> Result<Self, Failure> {
        let dialect = match config.target.database {
            DatabaseUrl::Postgres(_) => Dialect::Postgres,
            DatabaseUrl::Mysql(_) => Dialect::Mysql,
            DatabaseUrl::Sqlite(_) => Dialect::Sqlite,
        };
        let mapping = Mapping::new(&config.maps, dialect).map_err(|errors| {
            let lines: Vec<_> = errors
                .iter()
                .map(|error| match error.hint() {
                    Some(hint) => format!("{error}. {hint}"),
                    None => error.to_string(),
                })
                .collect();
            Failure::usage(lines.join("\n"))
        })?;
        let mapping = Arc::new(match &config.target.database {
            DatabaseUrl::Mysql(url) if !url.database.is_empty() => mapping.into_one_database(),
            _ => mapping,
        });
        let create = config.target.create;
        Ok(match &config.target.database {
            DatabaseUrl::Postgres(url) => {
                let pem = root_certificate(url)?;
                let tls = tls::postgres_client(url.ssl_mode, pem.as_deref()).map_err(no_tls)?;
                Self::Postgres(PostgresTarget::new(url.clone(), tls, mapping, create))
            }
            DatabaseUrl::Mysql(url) => {
                let pem = root_certificate(url)?;
                let roots = tls::authorities(url.ssl_mode, pem.as_deref()).map_err(no_tls)?;
                Self::Mysql(MysqlTarget::new(url.clone(), roots, mapping, create))
            }
            DatabaseUrl::Sqlite(path) => Self::Sqlite(SqliteTarget::new(path, mapping, create)),
        })
    }
}

fn root_certificate(url: &ServerUrl) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = &url.ssl_root_cert else { return Ok(None) };
    std::fs::read(path).map(Some).map_err(|error| {
        Failure::usage(format!("cannot read {} (sslrootcert in target.url): {error}", path.display()))
    })
}

fn no_tls(error: tls::TlsError) -> Failure {
    Failure::usage(format!("TLS cannot be set up for target.url: {}", chain(&error)))
}
