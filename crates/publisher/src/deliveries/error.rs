//! Why the store does not do what it was asked.

use std::path::PathBuf;
use std::sync::Arc;

use rowbridge_schema::{Class, Classified};

use crate::state::is_damage;

/// Why the store does not do what it was asked. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No publisher has made the file yet.
    #[error("{path} does not exist: no publisher has run on this state_dir")]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, locked for long, or cannot be written.
    #[error("cannot use {path}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why; shared by everything that was to be committed together.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A later version has changed the file.
    #[error("{path} was written by a later version of rowbridge (layout {found}, known up to {known})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Dead letters take all the room that they may take.
    #[error(
        "no room for another dead letter of {needed} bytes: {held} of {max} bytes (dead_letters.max_bytes) are in use"
    )]
    Full {
        /// Bytes that the letter takes.
        needed: u64,
        /// Bytes of letters that wait for a person.
        held: u64,
        /// The bound.
        max: u64,
    },
    /// The writing thread has ended.
    #[error("the delivery store is closed")]
    Closed,
}

impl Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            // A disk gets room, a lock is let go; a lane holds meanwhile.
            Self::Database { .. } | Self::Full { .. } | Self::Closed => Class::RETRYABLE,
            Self::Absent { .. } | Self::Newer { .. } => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some(
                "Retry or discard dead letters (`rowbridge dead-letter list`), or raise dead_letters.max_bytes. \
                 Until then the endpoint holds its events in the journal."
                    .to_owned(),
            ),
            Self::Newer { .. } => Some("Run that version, or a later one.".to_owned()),
            Self::Absent { .. } => Some("Start the publisher once: `rowbridge run`.".to_owned()),
            Self::Database { source, .. } if is_damage(source) => Some(
                "The file is damaged. Stop the publisher, move deliveries.db and the files deliveries.db-* in \
                 publisher.state_dir away and start: attempts, dead letters, jobs and which endpoints are paused are \
                 lost with it, and nothing else."
                    .to_owned(),
            ),
            Self::Database { .. } | Self::Closed => None,
        }
    }
}

/// What a piece of work inside a transaction can fail with, before anybody knows the file's name.
#[derive(Debug)]
pub(super) enum WorkError {
    Sql(rusqlite::Error),
    Full { needed: i64, held: i64, max: i64 },
}

impl From<rusqlite::Error> for WorkError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl WorkError {
    pub(super) fn at(self, path: &std::path::Path) -> StoreError {
        match self {
            Self::Sql(source) => StoreError::Database { path: path.to_owned(), source: Arc::new(source) },
            Self::Full { needed, held, max } => StoreError::Full {
                needed: needed.unsigned_abs(),
                held: held.unsigned_abs(),
                max: max.unsigned_abs(),
            },
        }
    }
}
