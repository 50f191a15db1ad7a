//! What can go wrong with a PostgreSQL target, and what each error of the server means for a delivery.

use rowbridge_schema::{Class, Classified};
use tokio_postgres::error::SqlState;

use crate::plan::MapError;

/// Why a target cannot be used or an apply came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection, or it was lost.
    #[error("no connection to PostgreSQL at {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Wrong role, password or database: a person has to act.
    #[error("PostgreSQL at {address} refuses {user}")]
    Login {
        /// Host and port.
        address: String,
        /// Role.
        user: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// `sslmode` asks for TLS and no TLS settings were given.
    #[error("sslmode asks for TLS, but there are no TLS settings")]
    NoTls,
    /// There is a pooler between.
    #[error("PostgreSQL at {address} is behind a connection pooler: {evidence}")]
    Pooler {
        /// Host and port.
        address: String,
        /// What gave it away.
        evidence: PoolerEvidence,
    },
    /// No schema on the search path.
    #[error("the connection has no current schema for rowbridge_progress")]
    NoSchema,
    /// `rowbridge_progress` is missing and may not be made.
    #[error("the progress table cannot be made")]
    ProgressTable {
        /// What a privileged role has to run.
        sql: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The table that a re-snapshot needs may not be made.
    #[error("the table that collects the keys of a re-snapshot cannot be made in schema {schema}")]
    Collection {
        /// The schema of the progress table.
        schema: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The progress row holds something that is no position.
    #[error("the progress row of {stream}/{endpoint} holds no position")]
    ProgressRow {
        /// Stream.
        stream: String,
        /// Endpoint.
        endpoint: String,
    },
    /// Another session holds the lane's progress row.
    #[error("the lane's progress row is locked by another session")]
    Locked,
    /// The connection is gone. Whether a COMMIT that was under way took effect, the next look at progress tells.
    #[error("the connection to PostgreSQL was lost while {doing}")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Deadlock, serialization failure, shutdown, lock timeout, out of resources: nothing was applied.
    #[error("PostgreSQL asks to try again while {doing}")]
    TryAgain {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server refuses for good: privileges, missing objects.
    #[error("PostgreSQL refuses while {doing}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The `[[map]]` does not work out.
    #[error(transparent)]
    Mapping(#[from] MapError),
    /// The delivery refers to a table that it does not define.
    #[error("the delivery does not define a table that it refers to")]
    Undefined,
}

/// How a pooler shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolerEvidence {
    /// Session settings in the startup packet are refused.
    #[error("it refuses session settings in the startup packet")]
    StartupRefused,
    /// They are swallowed.
    #[error("it drops session settings of the startup packet")]
    StartupDropped,
    /// Two statements of one session met two server processes.
    #[error("two statements of one session ran in two server processes")]
    ProcessChanged,
}

impl Classified for PostgresError {
    fn class(&self) -> Class {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Locked | Self::TryAgain { .. } => {
                Class::RETRYABLE
            }
            Self::Login { .. }
            | Self::NoTls
            | Self::Pooler { .. }
            | Self::NoSchema
            | Self::ProgressTable { .. }
            | Self::Collection { .. }
            | Self::ProgressRow { .. }
            | Self::Refused { .. }
            | Self::Mapping(_)
            | Self::Undefined => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Login { .. } => Some("Check user, password and database in target.url, and pg_hba.conf.".into()),
            Self::NoTls => Some("Give TLS settings, or set sslmode=disable on a trusted network.".into()),
            Self::Pooler { .. } => Some("Point target.url at the server itself, or at a pooler in session mode that passes startup options.".into()),
            Self::NoSchema => Some("Create a schema that is on the role's search_path, for example `CREATE SCHEMA public`.".into()),
            Self::ProgressTable { sql, .. } => Some(format!("Run as the database's owner: {sql}")),
            Self::Collection { schema, .. } => Some(format!("Run as the schema's owner, with the role of target.url: GRANT CREATE ON SCHEMA {} TO ROLE. `rowbridge check` prints it in full.", rowbridge_schema::sql::ident(schema))),
            Self::ProgressRow { .. } => Some("Restore the row, or delete it and take a new snapshot.".into()),
            Self::Refused { source, .. } if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Some("Grant the role SELECT, INSERT, UPDATE, DELETE and TRUNCATE on the tables that it writes; `rowbridge check` prints what else is missing.".into()),
            Self::Refused { source, .. } if names_missing(source) => Some("Make at the target what the message names. If a trigger, default or function does not find it, qualify the name there: the session's search_path is pg_catalog.".into()),
            Self::Refused { .. } => None,
            Self::Mapping(error) => error.hint(),
            Self::Connect { .. } | Self::Lost { .. } | Self::Locked | Self::TryAgain { .. } | Self::Undefined => None,
        }
    }
}

/// What an error of a statement means for the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The data is at fault: constraint, value, or an operation that the rows do not allow.
    Data,
    /// An object is not as it was: look at the catalog again.
    Catalog,
    /// Nothing to do with the data: try the whole delivery again.
    Again,
    /// Refused for good, whatever the data.
    Refused,
}

/// Reads an error of the target. Unknown means "try again": permanence needs proof.
pub(super) fn verdict(error: &tokio_postgres::Error) -> Verdict {
    let Some(state) = error.code() else { return Verdict::Again };
    let code = state.code();
    match (&code[..2], code) {
        // unsafe_new_enum_value_usage goes away with the next transaction.
        (_, "55P04" | "55P03" | "55006") => Verdict::Again,
        // insufficient_privilege
        (_, "42501") => Verdict::Refused,
        // generated_always: an identity key cannot be updated, but the row can be deleted and inserted.
        (_, "428C9") => Verdict::Data,
        ("42" | "3F" | "26", _) => Verdict::Catalog,
        // cardinality_violation: two rows of one statement have keys that the target takes for equal.
        ("21" | "22" | "23" | "44" | "P0", _) => Verdict::Data,
        // "cached plan must not change result type" and the like.
        (_, "0A000") => Verdict::Catalog,
        // program_limit_exceeded: a row too wide for its index or page.
        ("54", _) => Verdict::Data,
        _ => Verdict::Again,
    }
}

/// Whether a statement names an object that does not exist. Where the catalog was read just before, it is not the table
/// but a value (of `regclass`, `regproc` and the like), a trigger, a default or a function that names it.
pub(super) fn names_missing(error: &tokio_postgres::Error) -> bool {
    let missing = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::AMBIGUOUS_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ];
    error.code().is_some_and(|code| missing.contains(code))
}

/// Wraps an error that is no verdict on the data.
pub(super) fn failed(doing: &'static str, source: tokio_postgres::Error) -> PostgresError {
    let gone = source.code().is_none_or(|state| matches!(&state.code()[..3], "57P" | "080"));
    match verdict(&source) {
        _ if gone => PostgresError::Lost { doing, source },
        Verdict::Again => PostgresError::TryAgain { doing, source },
        Verdict::Data | Verdict::Catalog | Verdict::Refused => PostgresError::Refused { doing, source },
    }
}

/// What the server says, without values: `detail` quotes rows and is left out, and so is the message where it quotes one.
pub(super) fn describe(error: &tokio_postgres::Error) -> (Option<String>, String) {
    let Some(db) = error.as_db_error() else { return (None, "the server closed the connection".to_owned()) };
    let column = db.column().map(str::to_owned);
    let code = db.code().code();
    let name = db.constraint().unwrap_or_default();
    let reason = match code {
        "23505" => format!("another row has the same values in unique constraint {name:?} of the target"),
        "23503" => format!("foreign key {name:?} of the target is not met"),
        "23514" => format!("check constraint {name:?} of the target is not met"),
        "23P01" => format!("exclusion constraint {name:?} of the target is not met"),
        "23502" => "the target's column is NOT NULL and gets no value".to_owned(),
        // Messages of class 22 quote the value ("invalid input syntax for type integer: ...").
        "22P02" => format!("the value is not valid for the target's type ({})", before_value(db.message())),
        "22001" => format!("the value is too long for the target's type ({})", db.message()),
        "22003" => "the value is out of range for the target's type".to_owned(),
        _ => before_value(db.message()).to_owned(),
    };
    (column, format!("{reason} (SQLSTATE {code})"))
}

/// Server messages quote values in double quotes after a colon.
fn before_value(message: &str) -> &str {
    message.find(": \"").map_or(message, |end| &message[..end])
}

/// Whether a login can only work after a person has acted.
pub(super) fn is_login(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::INVALID_PASSWORD
                | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                | &SqlState::INVALID_CATALOG_NAME
                | &SqlState::INSUFFICIENT_PRIVILEGE
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_the_values_that_they_quote() {
        assert_eq!(
            before_value("invalid input syntax for type integer: \"4111 1111\""),
            "invalid input syntax for type integer"
        );
        assert_eq!(before_value("division by zero"), "division by zero");
    }
}
