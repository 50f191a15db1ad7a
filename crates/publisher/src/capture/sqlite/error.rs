//! Why a SQLite source cannot go on.

use std::path::PathBuf;

use rowbridge_schema::{Class, Classified, TableName};

/// What can go wrong at a SQLite source, in capture and in snapshots. Texts name files and tables, never values.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The file cannot be opened: missing, not readable, a missing folder.
    #[error("cannot open the SQLite database {path}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Readers and the application would block each other.
    #[error("{path} is in journal mode {mode}, capture needs WAL")]
    NotWal {
        /// The database file.
        path: PathBuf,
        /// Its journal mode.
        mode: String,
    },
    /// SQLite refused a statement.
    #[error("cannot {action}")]
    Sql {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The change log reached its row cap, so that the triggers stopped writing to it. Changes were lost to the stream.
    #[error(
        "the change log of {path} reached its cap and stopped: changes after log id {last} were not captured"
    )]
    Overflowed {
        /// The database file.
        path: PathBuf,
        /// Highest log id.
        last: i64,
    },
    /// The log was pruned beyond the resume point: another publisher confirmed it, or an old journal was put back.
    #[error(
        "the change log of {path} begins after id {pruned}, the journal ends at {resume}: changes in between are gone"
    )]
    Gone {
        /// The database file.
        path: PathBuf,
        /// Highest id removed from the log.
        pruned: i64,
        /// Where capture was to go on.
        resume: i64,
    },
    /// The log ends before the resume point: an older copy of the file was put back.
    #[error(
        "the change log of {path} ends at id {end}, the journal already has id {resume}: positions started over"
    )]
    StartedOver {
        /// The database file.
        path: PathBuf,
        /// Highest id in the log.
        end: i64,
        /// Where capture was to go on.
        resume: i64,
    },
    /// Another file now has the database's name.
    #[error("{path} was replaced by another file while it was open")]
    Replaced {
        /// The database file.
        path: PathBuf,
    },
    /// Capture was never installed in this file, or was removed from it.
    #[error("{path} has no change log")]
    NotInstalled {
        /// The database file.
        path: PathBuf,
    },
    /// The log was made by another release.
    #[error("the change log of {path} has format {found}, this release reads {expected}")]
    Format {
        /// The database file.
        path: PathBuf,
        /// Format found.
        found: String,
        /// Format of this release.
        expected: u32,
    },
    /// A log row that makes no sense. Never skipped.
    #[error("row {id} of the change log of table number {table} cannot be read: {reason}")]
    LogRow {
        /// Log id.
        id: i64,
        /// Number of the table in `rowbridge_tables`.
        table: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A resume point that capture did not make.
    #[error("the resume point is not a change-log id")]
    Resume,
    /// More columns than a log row can hold.
    #[error("table {table} has {columns} columns, at most {max} can be captured")]
    TooWide {
        /// The table.
        table: TableName,
        /// Columns that would be sent.
        columns: usize,
        /// The bound.
        max: usize,
    },
    /// The read transaction of a keyless table ended before the table was read whole.
    #[error("reading {table} was interrupted: a table without key must be read again from its beginning")]
    Interrupted {
        /// The table.
        table: TableName,
    },
    /// The operating system does not tell about changes of the folder.
    #[error("cannot watch {path} for changes")]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: notify::Error,
    },
    /// The thread that owns the connection could not start or has ended.
    #[error("the SQLite reader of {path} has stopped")]
    Stopped {
        /// The database file.
        path: PathBuf,
    },
}

impl SqliteError {
    /// Wraps what SQLite said about `action`.
    pub(crate) fn sql(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sql { action, source }
    }

    /// Whether a lock of another connection was in the way.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sql { source, .. } if is_busy(source))
    }
}

/// Whether a lock of another connection was in the way.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// What fails again until a person acts; everything else (locks, disks, a file that is being moved) may heal.
fn sql_class(error: &rusqlite::Error) -> Class {
    use rusqlite::ErrorCode::{AuthorizationForStatementDenied, DatabaseCorrupt, NotADatabase, ReadOnly};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase | ReadOnly | AuthorizationForStatementDenied) => Class::Permanent,
        _ => Class::RETRYABLE,
    }
}

impl Classified for SqliteError {
    fn class(&self) -> Class {
        match self {
            Self::Open { source, .. } | Self::Sql { source, .. } => sql_class(source),
            Self::Replaced { .. } | Self::Interrupted { .. } | Self::Watch { .. } | Self::Stopped { .. } => {
                Class::RETRYABLE
            }
            Self::NotWal { .. }
            | Self::Overflowed { .. }
            | Self::Gone { .. }
            | Self::StartedOver { .. }
            | Self::NotInstalled { .. }
            | Self::Format { .. }
            | Self::LogRow { .. }
            | Self::Resume
            | Self::TooWide { .. } => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotWal { path, .. } => format!(
                "Run `sqlite3 {} 'PRAGMA journal_mode=WAL'` while the application is stopped. The mode stays with the file.",
                path.display()
            ),
            Self::Overflowed { .. } => "Run `rowbridge snapshot --all`: it starts the log again and re-sends all tables. \
                 Raise source.max_log_rows if Rowbridge may be down for longer."
                .to_owned(),
            Self::Gone { .. } | Self::StartedOver { .. } => {
                "Run `rowbridge snapshot --all`: it goes on from the present end of the log and re-sends all tables."
                    .to_owned()
            }
            Self::NotInstalled { .. } => {
                "Start `rowbridge run`, which makes the change log, or check that source.url names the right file.".to_owned()
            }
            Self::Format { .. } => {
                "Let the older release drain the log, run `rowbridge teardown --source --yes`, then start this one.".to_owned()
            }
            Self::LogRow { .. } => {
                "Something else wrote to rowbridge_log. Run `rowbridge teardown --source --yes` and start again, \
                 which re-sends all tables."
                    .to_owned()
            }
            Self::TooWide { table, .. } => format!("Exclude it: add \"!{table}\" to source.tables."),
            Self::Resume => "The journal belongs to another kind of source. Use another state_dir.".to_owned(),
            Self::Open { path, .. } if path.is_dir() => {
                format!("{} is a folder: write the database file into source.url.", path.display())
            }
            Self::Open { path, .. } if !path.exists() => {
                "There is no such file: correct source.url, or start the application that makes it.".to_owned()
            }
            Self::Open { .. } => "Let the service read and write the file and its folder.".to_owned(),
            Self::Sql { .. }
            | Self::Replaced { .. }
            | Self::Interrupted { .. }
            | Self::Watch { .. }
            | Self::Stopped { .. } => return None,
        })
    }
}
