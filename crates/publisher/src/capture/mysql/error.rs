//! What can go wrong at a MySQL or MariaDB source.

use mysql_async::Error;
use rowbridge_schema::{Class, Classified, TableName};

/// Access denied for user.
const ER_ACCESS_DENIED: u16 = 1045;
/// Access denied to a database.
const ER_DBACCESS_DENIED: u16 = 1044;
/// No such database.
const ER_BAD_DB: u16 = 1049;
/// A privilege on a table is missing.
const ER_TABLEACCESS_DENIED: u16 = 1142;
/// A global privilege is missing.
const ER_SPECIFIC_ACCESS_DENIED: u16 = 1227;
/// The server's single code for everything that a replica may not read.
const ER_MASTER_FATAL_ERROR_READING_BINLOG: u16 = 1236;
/// MariaDB's own code for a replica with another's number.
const ER_SLAVE_SAME_ID: u16 = 4052;

/// Why capture or snapshot stopped.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// No session.
    #[error("cannot connect to the source at {at}")]
    Connect {
        /// `host:port` or the socket.
        at: String,
        /// Why.
        #[source]
        source: Error,
    },
    /// A statement failed.
    #[error("cannot {action} at the source")]
    Query {
        /// What the statement was for.
        action: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
    /// The binlog connection failed or was ended by the server.
    #[error("the binlog connection failed")]
    Stream(#[source] Error),
    /// The binlog connection ended without a word, or was silent for too long.
    #[error("the binlog connection is lost: {what}")]
    Lost {
        /// What was seen.
        what: &'static str,
    },
    /// A server setting or privilege is missing.
    #[error("the source is not ready: {problem}")]
    NotReady {
        /// What is missing.
        problem: String,
        /// The statement or setting that mends it.
        fix: String,
    },
    /// The server does not have the log from our position on.
    #[error("the source's binary log from {since} on is not there any more: {reason}")]
    LogGone {
        /// Where we stand.
        since: String,
        /// The server's own words, or what we compared.
        reason: String,
    },
    /// Another replica with our id.
    #[error("another client reads the binary log with our server_id {server_id}")]
    SameServerId {
        /// Ours.
        server_id: u32,
    },
    /// An event that is not understood, or does not fit what came before.
    #[error("the event at {at} of the binary log cannot be read: {what}")]
    Event {
        /// `FILE:POSITION` of its end.
        at: String,
        /// What does not fit.
        what: String,
    },
    /// Rows of a captured table changed by a statement in the log, so that nobody knows which.
    #[error("at {at} of the binary log {table} was changed by a statement ({verb}), not by rows")]
    Statement {
        /// `FILE:POSITION`
        at: String,
        /// The captured table.
        table: TableName,
        /// First word of the statement.
        verb: String,
    },
    /// Row events without the columns' names.
    #[error("row events of {table} carry no column names")]
    NoMetadata {
        /// The table.
        table: TableName,
    },
    /// What the columns of a table were at this point of the log cannot be told.
    #[error("the shape of {table} at {at} of the binary log cannot be made certain: {what}")]
    Shape {
        /// The table.
        table: TableName,
        /// `FILE:POSITION`
        at: String,
        /// What is not known.
        what: String,
    },
    /// A value that its column cannot hold.
    #[error("a value of {table}.{column} at {at} of the binary log cannot be read: {what}")]
    Value {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// `FILE:POSITION`
        at: String,
        /// What is wrong with it.
        what: String,
    },
    /// A read of several steps that cannot go on.
    #[error("a snapshot was interrupted: {what}")]
    Interrupted {
        /// What came between.
        what: &'static str,
    },
    /// A value of a snapshot that its column's type does not explain.
    #[error("a value of {table}.{column} cannot be read: {what}")]
    Cell {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Keys whose text does not lead back to their rows, so that a snapshot would never know where it is.
    #[error("no key of the next rows of {table} is found again by its text")]
    KeyLost {
        /// The table.
        table: TableName,
    },
    /// The history of shapes in `state_dir`.
    #[error("the history of table shapes failed")]
    History(#[from] crate::state::StateError),
}

impl MysqlError {
    /// For `map_err`.
    pub(crate) fn query(action: &'static str) -> impl FnOnce(Error) -> Self {
        move |source| Self::Query { action, source }
    }

    /// Classes what the server says instead of an event. Error 1236 is one code for many causes; only its text tells them
    /// apart, and both servers have kept these words since 5.6.
    pub(crate) fn stream(error: Error, since: &str, server_id: u32) -> Self {
        let Error::Server(server) = &error else { return Self::Stream(error) };
        if server.code == ER_SLAVE_SAME_ID || server.message.contains("same server_uuid/server_id") {
            return Self::SameServerId { server_id };
        }
        if server.code != ER_MASTER_FATAL_ERROR_READING_BINLOG {
            return Self::Stream(error);
        }
        const GONE: [&str; 9] = [
            "not in the master's binlog",
            "Could not find first log file name",
            "purged",
            "could not find next log",
            "impossible position",
            "not found in binlog",
            "does not have or is ahead",
            // MySQL says it of a slave or, since 8.0.26, of a replica.
            "has more GTIDs than the",
            // Without GTIDs.
            "position > file size",
        ];
        let text = &server.message;
        if GONE.iter().any(|words| text.to_lowercase().contains(&words.to_lowercase())) {
            return Self::LogGone { since: since.to_owned(), reason: text.clone() };
        }
        Self::Stream(error)
    }
}

/// Which server errors need a person. Side: source. Everything unknown is retried.
fn class_of(error: &Error) -> Class {
    match error {
        Error::Server(server) => match server.code {
            ER_ACCESS_DENIED
            | ER_DBACCESS_DENIED
            | ER_BAD_DB
            | ER_TABLEACCESS_DENIED
            | ER_SPECIFIC_ACCESS_DENIED => Class::Permanent,
            _ => Class::RETRYABLE,
        },
        Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer) => Class::Permanent,
        _ => Class::RETRYABLE,
    }
}

impl Classified for MysqlError {
    fn class(&self) -> Class {
        match self {
            Self::Connect { source, .. } | Self::Query { source, .. } | Self::Stream(source) => {
                class_of(source)
            }
            Self::Lost { .. } | Self::Interrupted { .. } => Class::RETRYABLE,
            Self::History(error) if error.is_full() => Class::RETRYABLE,
            Self::NotReady { .. }
            | Self::LogGone { .. }
            | Self::SameServerId { .. }
            | Self::Event { .. }
            | Self::Statement { .. }
            | Self::NoMetadata { .. }
            | Self::Shape { .. }
            | Self::Value { .. }
            | Self::Cell { .. }
            | Self::KeyLost { .. }
            | Self::History(_) => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { fix, .. } => Some(fix.clone()),
            Self::LogGone { .. } => Some(
                "Run `rowbridge snapshot --all` to send all tables again, also removing what was deleted meanwhile; \
                 keep logs longer with binlog_expire_logs_seconds."
                    .to_owned(),
            ),
            Self::SameServerId { .. } => Some(
                "Stop the other copy of this publisher; a copied state_dir must not run twice.".to_owned(),
            ),
            Self::Statement { .. } => Some(
                "Let all sessions write with binlog_format = ROW, then run `rowbridge snapshot --all`.".to_owned(),
            ),
            Self::NoMetadata { .. } => Some(
                "Run `SET GLOBAL binlog_row_metadata = FULL;` at the source and set it in the server's configuration, \
                 then run `rowbridge snapshot --all`."
                    .to_owned(),
            ),
            Self::Event { .. } | Self::Shape { .. } | Self::Value { .. } => {
                Some("Run `rowbridge snapshot --all` to go on behind it.".to_owned())
            }
            Self::Connect { source, .. } | Self::Query { source, .. } | Self::Stream(source) => hint_of(source),
            Self::Cell { .. } => Some("Correct the value at the source, or leave the table out of source.tables.".to_owned()),
            Self::KeyLost { .. } => Some(
                "Convert the key's columns to utf8mb4 at the source, or leave the table out of source.tables.".to_owned(),
            ),
            Self::Lost { .. } | Self::Interrupted { .. } | Self::History(_) => None,
        }
    }
}

fn hint_of(error: &Error) -> Option<String> {
    let Error::Server(server) = error else {
        return matches!(error, Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer))
            .then(|| "Enable TLS at the server, or set sslmode=disable in source.url.".to_owned());
    };
    Some(
        match server.code {
            ER_ACCESS_DENIED => "Correct user and password in source.url.",
            ER_BAD_DB => "Correct the database's name in source.url.",
            ER_DBACCESS_DENIED | ER_TABLEACCESS_DENIED => {
                "Grant SELECT on the captured tables to the user in source.url."
            }
            ER_SPECIFIC_ACCESS_DENIED => {
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the user in source.url."
            }
            _ => return None,
        }
        .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fatal(message: &str) -> MysqlError {
        let error = mysql_async::ServerError {
            code: ER_MASTER_FATAL_ERROR_READING_BINLOG,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        };
        MysqlError::stream(Error::Server(error), "bin.000001:4", 7)
    }

    #[test]
    fn what_a_server_says_instead_of_an_event_is_classed() {
        for gone in [
            "Error: connecting slave requested to start from GTID 7-1-513, which is not in the master's binlog",
            "Could not find first log file name in binary log index file",
            "Cannot replicate because the source purged required binary logs.",
            "Client requested source to start replication from impossible position",
            "Client requested source to start replication from position > file size",
            "Replica has more GTIDs than the source has, using the source's SERVER_UUID.",
        ] {
            let error = fatal(gone);
            assert!(matches!(&error, MysqlError::LogGone { .. }), "{gone}");
            assert!(error.hint().is_some_and(|hint| hint.contains("rowbridge snapshot --all")));
        }
        let same = "A slave with the same server_uuid/server_id as this slave has connected to the master";
        assert!(matches!(fatal(same), MysqlError::SameServerId { server_id: 7 }));
        let other = fatal("log event entry exceeded max_allowed_packet");
        assert!(matches!(other, MysqlError::Stream(_)) && other.class().is_retryable());
    }
}
