//! The configured target, of either kind.

use std::sync::Arc;

use rowbridge_schema::config::{DatabaseUrl, SubscriberConfig};
use rowbridge_schema::{Classified as _, Dialect, tls};
use rowbridge_subscriber::apply::postgres::PostgresTarget;
use rowbridge_subscriber::apply::sqlite::SqliteTarget;
use rowbridge_subscriber::plan::Mapping;

use crate::failure::{Failure, chain};

pub(crate) enum Target {
    Postgres(PostgresTarget),
    Sqlite(SqliteTarget),
}

impl Target {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// `[[map]]` entries that contradict each other, or certificates that cannot be read: both are the file's.
    pub(crate) fn new(config: &SubscriberConfig) -> Result<Self, Failure> {
        let mapping = Self::mapping(config)?;
        let create = config.target.create;
        Ok(match &config.target.database {
            DatabaseUrl::Postgres(url) => {
                let tls = tls::of_postgres_url(url).map_err(|error| {
                    Failure::usage(format!("TLS cannot be set up for target.url: {}", chain(&error)))
                })?;
                Self::Postgres(PostgresTarget::new(url.clone(), tls, mapping, create))
            }
            DatabaseUrl::Sqlite(path) => Self::Sqlite(SqliteTarget::new(path, mapping, create)),
        })
    }

    /// What `[[map]]` says.
    ///
    /// # Errors
    /// Entries that contradict each other.
    pub(crate) fn mapping(config: &SubscriberConfig) -> Result<Arc<Mapping>, Failure> {
        let dialect = match config.target.database {
            DatabaseUrl::Postgres(_) => Dialect::Postgres,
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
        Ok(Arc::new(mapping))
    }
}
