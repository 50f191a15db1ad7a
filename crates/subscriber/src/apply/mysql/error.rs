//! What can go wrong with a MySQL target, and what each error of the server means for a delivery.

use mysql_async::Error;
use rowbridge_schema::{Class, Classified};

use crate::plan::MapError;

/// Why a target cannot be used or an apply came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// No connection.
    #[error("no connection to MySQL at {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// The server has not answered for so long.
    #[error("no answer from MySQL at {address} within {seconds} s")]
    Silent {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Wrong user, password or database: a person has to act.
    #[error("MySQL at {address} refuses {user}")]
    Login {
        /// Host and port.
        address: String,
        /// User.
        user: String,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// `sslmode` asks for TLS, which the server does not offer.
    #[error("MySQL at {address} offers no TLS")]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// The session's settings do not hold: there is a proxy that shares sessions.
    #[error("MySQL at {address} is behind a proxy that drops the session's settings")]
    Pooler {
        /// Host and port.
        address: String,
    },
    /// Too old.
    #[error("the server is {version}, which is too old")]
    Version {
        /// What it says.
        version: String,
    },
    /// `rowbridge_progress` is missing and may not be made.
    #[error("the progress table cannot be made")]
    ProgressTable {
        /// What a privileged user has to run.
        sql: String,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// A re-snapshot needs a table for its keys, which may not be made.
    #[error("the table that a re-snapshot needs for its keys cannot be made")]
    Collection {
        /// The statement.
        sql: String,
        /// The driver's error.
        #[source]
        source: Error,
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
    #[error("the connection to MySQL was lost while {doing}")]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// Deadlock, lock timeout, shutdown, read-only, out of resources: nothing was applied.
    #[error("MySQL asks to try again while {doing}{}", number(source))]
    TryAgain {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// The server refuses for good: privileges, missing objects.
    #[error("MySQL refuses while {doing}{}", number(source))]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: Error,
    },
    /// The `[[map]]` does not work out.
    #[error(transparent)]
    Mapping(#[from] MapError),
    /// The delivery refers to a table that it does not define.
    #[error("the delivery does not define a table that it refers to")]
    Undefined,
}

impl Classified for MysqlError {
    fn class(&self) -> Class {
        match self {
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Lost { .. }
            | Self::Locked
            | Self::TryAgain { .. } => Class::RETRYABLE,
            Self::Login { .. }
            | Self::NoTls { .. }
            | Self::Pooler { .. }
            | Self::Version { .. }
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
            Self::Login { .. } => {
                Some("Check user, password, host and database in target.url, and the user's host part.".into())
            }
            Self::NoTls { .. } => {
                Some("Give the server a certificate, or set sslmode=disable on a trusted network.".into())
            }
            Self::Pooler { .. } => {
                Some("Point target.url at the server itself, or switch multiplexing off for this user.".into())
            }
            Self::Version { .. } => Some("Upgrade to MySQL 8.0 or MariaDB 10.6 at least.".into()),
            Self::ProgressTable { sql, .. } => Some(format!("Run as a privileged user: {sql}")),
            Self::Collection { .. } => Some(
                "Grant the user CREATE and DROP on the database that holds rowbridge_progress.".into(),
            ),
            Self::ProgressRow { .. } => Some("Restore the row, or delete it and take a new snapshot.".into()),
            Self::Refused { source, .. } if is_denied(source) => Some(
                "Grant the user SELECT, INSERT, UPDATE and DELETE on the tables that it writes; `rowbridge check` \
                 prints what else is missing."
                    .into(),
            ),
            Self::Mapping(error) => error.hint(),
            Self::Connect { .. }
            | Self::Silent { .. }
            | Self::Lost { .. }
            | Self::Locked
            | Self::TryAgain { .. }
            | Self::Refused { .. }
            | Self::Undefined => None,
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

/// `ER_DUP_ENTRY`
pub(super) const DUPLICATE: u16 = 1062;
/// `ER_LOCK_WAIT_TIMEOUT`
pub(super) const LOCK_WAIT: u16 = 1205;
/// `ER_LOCK_DEADLOCK`
pub(super) const DEADLOCK: u16 = 1213;
/// `ER_FK_DEPTH_EXCEEDED`
const FK_DEPTH: u16 = 3008;
/// `ER_FK_MAX_TABLES_IN_CASCADE_CHAIN_EXCEEDED`
const FK_TABLES: u16 = 6575;
/// `ER_BAD_NULL_ERROR`
pub(super) const NULL: u16 = 1048;

/// ` (error 1213)`: the server's text may hold a row's values.
fn number(error: &Error) -> String {
    code(error).map(|code| format!(" (error {code})")).unwrap_or_default()
}

/// The server's number of an error; `None` if it is not the server's.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// Whether the row that another refers to is missing: `ER_NO_REFERENCED_ROW`, `ER_NO_REFERENCED_ROW_2`
pub(super) fn is_parentless(error: &Error) -> bool {
    matches!(code(error), Some(1216 | 1452))
}

/// `ER_DBACCESS_DENIED_ERROR`, `ER_TABLEACCESS_DENIED_ERROR`, `ER_COLUMNACCESS_DENIED_ERROR`,
/// `ER_SPECIFIC_ACCESS_DENIED_ERROR`
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(code(error), Some(1044 | 1142 | 1143 | 1227))
}

/// Whether a login can only work after a person has acted.
pub(super) fn is_login(error: &Error) -> bool {
    // ER_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_HOST_NOT_PRIVILEGED, ER_ACCOUNT_HAS_BEEN_LOCKED,
    // ER_MUST_CHANGE_PASSWORD
    matches!(code(error), Some(1044 | 1045 | 1049 | 1130 | 1698 | 1820 | 1862 | 3118 | 4151))
}

/// Reads an error of the target. Unknown means "try again": permanence needs proof.
pub(super) fn verdict(error: &Error) -> Verdict {
    let Error::Server(error) = error else { return Verdict::Again };
    match error.code {
        // Deadlock, lock wait, changed by others (MariaDB's snapshot isolation), read-only, interrupted, table full.
        DEADLOCK | LOCK_WAIT | 1020 | 1290 | 1792 | 1836 | 1317 | 1927 | 1114 | 1053 | 1412 | 1615 => {
            Verdict::Again
        }
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 => Verdict::Refused,
        // Columns, tables, databases, indexes that are gone, count of columns, generated by now.
        1049 | 1051 | 1054 | 1072 | 1091 | 1136 | 1146 | 1176 | 1906 | 3105 => Verdict::Catalog,
        // NULL, duplicates, ranges, cut values, foreign keys, checks, partitions, geometry, JSON, collations, row size.
        NULL
        | DUPLICATE
        | 1118
        | 1138
        | 1169
        | 1216
        | 1217
        | 1263
        | 1264
        | 1265
        | 1267
        | 1292
        | 1364
        | 1366
        | 1367
        | 1406
        | 1411
        | 1416
        | 1426
        | 1441
        | 1451
        | 1452
        | 1525
        | 1526
        | 1586
        | 1644
        | 1690
        | 1748
        | 1761
        | 1762
        | FK_DEPTH
        | FK_TABLES
        | 3140..=3160
        | 3643
        | 3819
        | 3854
        | 4025
        | 4079 => Verdict::Data,
        _ => match error.state.get(..2) {
            Some("22" | "23" | "45") => Verdict::Data,
            // Syntax: nothing that another try would change.
            Some("42") => Verdict::Refused,
            _ => Verdict::Again,
        },
    }
}

/// Wraps an error that is no verdict on the data.
pub(super) fn failed(doing: &'static str, source: Error) -> MysqlError {
    // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED
    let gone = !matches!(source, Error::Server(_)) || matches!(code(&source), Some(1053 | 1927));
    match verdict(&source) {
        _ if gone => MysqlError::Lost { doing, source },
        Verdict::Again => MysqlError::TryAgain { doing, source },
        Verdict::Data | Verdict::Catalog | Verdict::Refused => MysqlError::Refused { doing, source },
    }
}

/// What the server says, without the values that its messages quote: the column, and the reason.
pub(super) fn describe(error: &Error) -> (Option<String>, String) {
    let Error::Server(error) = error else { return (None, "the server closed the connection".to_owned()) };
    let message = error.message.as_str();
    let column = match error.code {
        NULL | 1263 => named(message, "Column ").or_else(|| named(message, "column ")),
        1264 | 1265 | 1292 | 1366 | 1406 | 1411 => named(message, "for column "),
        1364 => named(message, "Field "),
        _ => None,
    };
    let reason = match error.code {
        DUPLICATE | 1586 => {
            let key = named(message, "for key ").unwrap_or_default();
            format!("another row has the same values in unique index {key:?} of the target")
        }
        NULL | 1263 | 1364 => "the target's column is NOT NULL and gets no value".to_owned(),
        1264 | 1690 => "the value is out of range for the target's type".to_owned(),
        1265 | 1406 => "the value is too long or not exact for the target's type".to_owned(),
        1366 => "the value cannot be held by the charset or type of the target's column".to_owned(),
        1292 | 1411 | 1525 => "the value is not valid for the target's type".to_owned(),
        1216 | 1452 => {
            "a foreign key of the target is not met: the row that it refers to is missing".to_owned()
        }
        FK_DEPTH | FK_TABLES => {
            "a chain of foreign keys is longer than the target follows; MySQL 9.6 and later follow as many \
                                 as earlier ones with innodb_native_foreign_keys = ON"
                .to_owned()
        }
        1217 | 1451 => "a foreign key of the target is not met: other rows refer to this one".to_owned(),
        3819 | 4025 => "a check constraint of the target is not met".to_owned(),
        1526 | 1748 => "no partition of the target takes the row".to_owned(),
        1118 => "the row is too large for the target's table".to_owned(),
        3140..=3160 => "the value is not valid JSON for the target".to_owned(),
        1644 => "a trigger of the target refuses the row".to_owned(),
        _ => "the target refuses the row".to_owned(),
    };
    (column, format!("{reason} (error {}, SQLSTATE {})", error.code, error.state))
}

/// The quoted name behind the last `word`: `'c'`, or the last part of MariaDB's `` `db`.`t`.`c` ``.
fn named(message: &str, word: &str) -> Option<String> {
    let rest = &message[message.rfind(word)? + word.len()..];
    if let Some(rest) = rest.strip_prefix('\'') {
        return rest.split_once('\'').map(|(name, _)| name.to_owned());
    }
    let end = rest.rfind('`').filter(|_| rest.starts_with('`'))?;
    rest[..end].rsplit_once('`').map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16, message: &str) -> Error {
        Error::Server(ServerError { code, message: message.into(), state: "23000".into() })
    }

    #[test]
    fn messages_lose_the_values_that_they_quote() {
        let (column, reason) = describe(&server(1062, "Duplicate entry '4111 1111' for key 'email'"));
        assert_eq!(column, None);
        assert!(reason.starts_with("another row has the same values in unique index \"email\""), "{reason}");
        let text = "Incorrect string value: '\\xF0' for column `shop`.`t`.`note` at row 1";
        let (column, reason) = describe(&server(1366, text));
        assert_eq!(column.as_deref(), Some("note"));
        assert!(!reason.contains("xF0"));
        let (column, _) = describe(&server(1264, "Out of range value for column 'n' at row 3"));
        assert_eq!(column.as_deref(), Some("n"));
        let (column, _) = describe(&server(1048, "Column 'n' cannot be null"));
        assert_eq!(column.as_deref(), Some("n"));
        let (column, _) = describe(&server(1364, "Field 'n' doesn't have a default value"));
        assert_eq!(column.as_deref(), Some("n"));
    }

    #[test]
    fn what_is_unknown_is_tried_again() {
        assert_eq!(verdict(&server(1213, "")), Verdict::Again);
        let odd = ServerError { code: 9999, message: String::new(), state: "HY000".into() };
        assert_eq!(verdict(&Error::Server(odd)), Verdict::Again);
        assert_eq!(verdict(&server(1062, "")), Verdict::Data);
        assert_eq!(verdict(&server(1146, "")), Verdict::Catalog);
    }
}
