//! What a source must be like, and where its log is.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};
use rowbridge_schema::{Offset, SourceId};

use super::client::Server;
use super::error::MysqlError;
use super::gtid::{Gtids, MariadbPosition, ResumePoint, file_number};

/// A server variable, or nothing where the server does not have it.
///
/// # Errors
/// The query's.
pub async fn variable(conn: &mut Conn, name: &str) -> Result<Option<String>, MysqlError> {
    let row: Option<(String, String)> = conn
        .exec_first("SHOW GLOBAL VARIABLES WHERE Variable_name = ?", (name,))
        .await
        .map_err(MysqlError::query("read a server variable"))?;
    Ok(row.map(|(_, value)| value))
}

/// Checks what a stream needs.
///
/// # Errors
/// `NotReady` with the statement that mends it.
pub async fn preflight(conn: &mut Conn, server: &Server) -> Result<(), MysqlError> {
    let not_ready = |problem: String, fix: &str| Err(MysqlError::NotReady { problem, fix: fix.to_owned() });
    if variable(conn, "log_bin").await?.as_deref() != Some("ON") {
        return not_ready(
            "the server writes no binary log".into(),
            "Set log_bin and server_id in the server's configuration and restart it.",
        );
    }
    let format = variable(conn, "binlog_format").await?.unwrap_or_default();
    if format != "ROW" {
        return not_ready(
            format!("binlog_format is {format}"),
            "Run `SET GLOBAL binlog_format = 'ROW';`, set it in the server's configuration, and let all sessions reconnect.",
        );
    }
    match variable(conn, "binlog_row_metadata").await?.as_deref() {
        Some("FULL") => {}
        Some(metadata) => {
            return not_ready(
                format!("binlog_row_metadata is {metadata}: row events carry no column names"),
                "Run `SET GLOBAL binlog_row_metadata = FULL;` and set it in the server's configuration.",
            );
        }
        None => {
            return not_ready(
                format!("{server} has no binlog_row_metadata"),
                "Use MySQL 8.0 or MariaDB 10.6, or later.",
            );
        }
    }
    let partial = variable(conn, "binlog_row_value_options").await?.unwrap_or_default();
    if !partial.is_empty() {
        return not_ready(
            format!("binlog_row_value_options is {partial}: changed JSON documents are logged in part"),
            "Run `SET GLOBAL binlog_row_value_options = '';` and set it in the server's configuration.",
        );
    }
    Ok(())
}

/// Which server this is. MySQL has a uuid. MariaDB has nothing of the kind that outlives a change of its port or network
/// card (`server_uid` is made of these), so that it is known by its `server_id`; that its log is the one that we read, is
/// checked against the log itself ([`same_log`]).
///
/// # Errors
/// The query's.
pub async fn source_id(conn: &mut Conn, server: &Server) -> Result<SourceId, MysqlError> {
    let (kind, name) = if server.is_mariadb() { ("mariadb", "server_id") } else { ("mysql", "server_uuid") };
    let id = variable(conn, name).await?.unwrap_or_default();
    Ok(SourceId(format!("{kind}:{id}")))
}

/// The end of the log.
///
/// # Errors
/// The query's; `NotReady` if there is no log.
pub async fn log_end(conn: &mut Conn, server: &Server) -> Result<ResumePoint, MysqlError> {
    let failed = || MysqlError::query("read the end of the binary log");
    let row: Option<Row> = conn.query_first(server.log_status_statement()).await.map_err(failed())?;
    let none = || MysqlError::NotReady {
        problem: "the server writes no binary log".into(),
        fix: "Set log_bin in the server's configuration and restart it.".into(),
    };
    let row = row.ok_or_else(none)?;
    let file: String = row.get(0).ok_or_else(none)?;
    let at: u64 = row.get(1).ok_or_else(none)?;
    let text: Option<String> = if server.is_mariadb() {
        conn.exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&file, at)).await.map_err(failed())?.flatten()
    } else {
        row.get::<Option<String>, _>(4).flatten()
    };
    let gtids = Gtids::parse(server.is_mariadb(), &text.unwrap_or_default());
    let gtids = gtids.map_err(|_| MysqlError::NotReady {
        problem: "the server's set of transactions is not understood".into(),
        fix: "Report the output of SHOW MASTER STATUS.".into(),
    })?;
    Ok(ResumePoint { file, at, gtids })
}

/// The offset of a place.
#[must_use]
pub fn offset(point: &ResumePoint) -> Offset {
    Offset { file: file_number(&point.file).unwrap_or(0), at: point.at }
}

/// MariaDB: whether the server's log has at our place what we have read. Another server, or a log that was begun anew, may
/// have the same file names, and the same GTIDs for other transactions.
///
/// # Errors
/// `LogGone`, the query's.
pub async fn same_log(conn: &mut Conn, from: &ResumePoint) -> Result<(), MysqlError> {
    let Gtids::Mariadb(ours) = &from.gtids else { return Ok(()) };
    let found: Option<Option<String>> = conn
        .exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&from.file, from.at))
        .await
        .map_err(MysqlError::query("compare positions in the binary log"))?;
    let gone = |reason: String| Err(MysqlError::LogGone { since: from.to_string(), reason });
    let Some(text) = found.flatten() else {
        return gone(format!("file {} is not in the server's list of logs, or is shorter", from.file));
    };
    match text.parse::<MariadbPosition>() {
        Ok(theirs) if theirs.agrees(ours) => Ok(()),
        _ => gone(format!("the server's log has {text} there")),
    }
}

/// Prepared XA transactions: their rows lie before a log position that is taken now, and their commits will lie behind it.
/// Servers that do not tell us (MySQL without XA_RECOVER_ADMIN) are trusted; such a commit is then refused when it comes.
///
/// # Errors
/// `NotReady` if there are any.
pub async fn refuse_prepared(conn: &mut Conn) -> Result<(), MysqlError> {
    let prepared: Vec<Row> = match conn.query("XA RECOVER").await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(%error, "prepared XA transactions are not shown to us");
            return Ok(());
        }
    };
    if prepared.is_empty() {
        return Ok(());
    }
    Err(MysqlError::NotReady {
        problem: format!("{} XA transactions are prepared and not decided", prepared.len()),
        fix:
            "Commit or roll back what `XA RECOVER` shows: their rows lie before the point from which we read."
                .into(),
    })
}
