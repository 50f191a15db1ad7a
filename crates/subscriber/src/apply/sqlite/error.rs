//! What can go wrong with a SQLite target, and what each of its codes means for a delivery.

use std::path::{Path, PathBuf};

use rowbridge_schema::{Class, Classified};
use rusqlite::{Error, ErrorCode, ffi};

/// Why a target cannot be used or an apply came to no verdict. Nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// No file, and none may be made.
    #[error("there is no database file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file was deleted, moved or replaced while the lane had it open. A reopened lane uses the new one.
    #[error("the database file {path} is no longer the one that was opened")]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error("cannot open the database file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// Another connection holds the write lock for longer than the busy timeout.
    #[error("the database is locked by another connection while {doing}")]
    Busy {
        /// What was being done.
        doing: &'static str,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// No space, or a page limit.
    #[error("no space left for {path} while {doing}")]
    Full {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// The file or its folder may not be written.
    #[error("the database file {path} is read-only")]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// The file is damaged or not a database.
    #[error("the database file {path} is damaged or not a database")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// The progress table is missing and may not be made.
    #[error("the table rowbridge_progress is missing")]
    ProgressTable {
        /// What makes it.
        sql: &'static str,
    },
    /// The progress row holds something that is no position.
    #[error("the progress row of {stream}/{endpoint} holds no position")]
    ProgressRow {
        /// Stream.
        stream: String,
        /// Endpoint.
        endpoint: String,
    },
    /// Anything else that SQLite reports. Retried, since nothing proves that it stays.
    #[error("SQLite failed while {doing}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// SQLite's error.
        #[source]
        source: Error,
    },
    /// The delivery refers to a table that it does not define.
    #[error("the delivery does not define a table that it refers to")]
    Undefined,
}

impl Classified for SqliteError {
    fn class(&self) -> Class {
        match self {
            Self::Busy { .. }
            | Self::Full { .. }
            | Self::Moved { .. }
            | Self::Open { .. }
            | Self::Failed { .. } => Class::RETRYABLE,
            Self::Missing { .. }
            | Self::ReadOnly { .. }
            | Self::Corrupt { .. }
            | Self::ProgressTable { .. }
            | Self::ProgressRow { .. }
            | Self::Undefined => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => "Correct target.url, or set target.create = true.".into(),
            Self::Full { path, .. } => format!("Make room on the disk of {}.", path.display()),
            Self::ReadOnly { path, .. } => {
                format!("Let the service write {} and the folder that it is in.", path.display())
            }
            Self::Corrupt { path, .. } => {
                format!("Restore {} from a backup, or remove it and take a new snapshot.", path.display())
            }
            Self::ProgressTable { sql } => format!("Run `{sql}`."),
            Self::ProgressRow { .. } => "Restore the row, or delete it and take a new snapshot.".into(),
            Self::Open { path, .. } if path.is_dir() => {
                format!("{} is a folder: write the database file into target.url.", path.display())
            }
            Self::Open { path, .. } if path.parent().is_some_and(|folder| !folder.exists()) => {
                "Make the folder of the file, or correct target.url.".into()
            }
            Self::Open { .. } => "Let the service read and write the file and its folder.".into(),
            Self::Busy { .. } | Self::Moved { .. } | Self::Failed { .. } | Self::Undefined => return None,
        })
    }
}

/// Classes an error of SQLite that says nothing about the data.
pub(super) fn failed(path: &Path, doing: &'static str, source: Error) -> SqliteError {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteError::Busy { doing, source },
        Some(ErrorCode::DiskFull) => SqliteError::Full { path, doing, source },
        Some(ErrorCode::ReadOnly)
            if source.sqlite_extended_error_code() == Some(ffi::SQLITE_READONLY_DBMOVED) =>
        {
            SqliteError::Moved { path }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => SqliteError::ReadOnly { path, source },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => SqliteError::Corrupt { path, source },
        Some(ErrorCode::CannotOpen) => SqliteError::Open { path, source },
        _ => SqliteError::Failed { doing, source },
    }
}

/// What SQLite has against a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Objection {
    /// Another row is in the way, which a later change of the delivery may take away.
    pub(super) unique: bool,
    /// The column at the target, where the message names exactly one.
    pub(super) column: Option<String>,
    /// For the publisher's operator. Names, no values.
    pub(super) reason: String,
}

/// Whether an error is a verdict on the data: a constraint, a type that STRICT or a rowid refuses, a value too large.
/// Everything else abandons the attempt.
pub(super) fn objection(error: &Error) -> Option<Objection> {
    let Error::SqliteFailure(code, message) = error else { return None };
    if !matches!(code.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) {
        return None;
    }
    let unique = matches!(
        code.extended_code,
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID
    );
    let message = message.clone().unwrap_or_else(|| "the target refuses the row".into());
    // `UNIQUE constraint failed: t.a, t.b`; `NOT NULL constraint failed: t.a`;
    // `cannot store TEXT value in INTEGER column t.a`
    let named = match message.rsplit_once(" failed: ") {
        Some((kind, names)) if unique || kind.starts_with("NOT NULL") => Some(names),
        Some(_) => None,
        None => message.rsplit_once(" column ").map(|(_, name)| name),
    };
    let column = named
        .filter(|names| !names.contains(", "))
        .and_then(|name| name.split_once('.'))
        .map(|(_, column)| column.to_owned());
    Some(Objection { unique, column, reason: message })
}

/// Whether SQLite refuses the statement itself (its grammar or the names in it).
pub(super) fn is_statement(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown))
        || matches!(error, Error::SqlInputError { .. })
}
