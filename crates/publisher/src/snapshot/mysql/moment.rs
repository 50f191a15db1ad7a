//! The moment of a read: which transactions it sees, and where the log is behind it.
//!
//! Both servers write a commit to the log, and a replica may have it, before other sessions see its rows. So what a read
//! contains is never taken from the end of the log:
//!
//! - **MariaDB** opens a consistent snapshot and the log position that belongs to it in one step (`binlog_snapshot_file`,
//!   `binlog_snapshot_position`). An XA COMMIT is logged before its engine commits, so where there were any, the table is
//!   locked instead.
//! - **MySQL with GTIDs**: `gtid_executed` grows after a commit is visible. What is in it before the snapshot is opened is
//!   contained; what is not may be, too, which does no harm to rows that have keys: they are left to the stream.
//! - **A lock** for the rest (tables on MySQL without key or with rows that foreign keys change unlogged, MySQL without
//!   GTIDs): `LOCK TABLES .. READ` on a second
//!   connection waits for every transaction that wrote the table, visibility included, and holds new ones back while the
//!   snapshot is opened and the log's end is read. Then it goes; the rows are read without it.

use std::collections::HashSet;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Row};
use rowbridge_schema::sql::{backticked, backticked_table};
use rowbridge_schema::{Offset, TableName};

use crate::capture::mysql::MysqlError;
use crate::capture::mysql::client::{Server, Session};
use crate::capture::mysql::gtid::{MysqlSet, file_number};
use crate::capture::mysql::setup::variable;
use crate::snapshot::Containment;

/// Seconds for which writers may be held up by a lock that waits. After it they go on, and the lock is tried again.
const LOCK_WAIT_SECONDS: u32 = 1;
/// Between two tries of a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(250);
/// How often a wait is spoken of.
const WARN_EVERY: Duration = Duration::from_secs(30);

const ER_DBACCESS_DENIED: u16 = 1044;
/// Its database is gone, or the table is.
pub(super) const GONE: [u16; 2] = [1049, 1146];
const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;

/// How a read's moment is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The server tells the log position of a snapshot.
    Snapshot,
    /// The server tells what was executed before it.
    Executed,
    /// The table is locked while the snapshot is opened.
    Locked,
}

/// The way for a table, as the server is now. `exact`: it must be known of every transaction that changes the table whether
/// the read has seen it.
pub(super) async fn way(session: &mut Session, exact: bool) -> Result<Way, MysqlError> {
    let failed = || MysqlError::query("read the server's status");
    if session.server.is_mariadb() {
        let commits: Option<(String, u64)> =
            session.conn.query_first("SHOW GLOBAL STATUS LIKE 'Com_xa_commit'").await.map_err(failed())?;
        return Ok(if commits.is_some_and(|(_, count)| count > 0) { Way::Locked } else { Way::Snapshot });
    }
    match variable(&mut session.conn, "gtid_mode").await?.as_deref() {
        Some("ON") if exact => Ok(Way::Locked),
        Some("ON") => Ok(Way::Executed),
        Some("OFF") | None => Ok(Way::Locked),
        Some(between) => Err(MysqlError::NotReady {
            problem: format!("gtid_mode is {between}: only some transactions have a name"),
            fix:
                "Finish the change of mode: `SET GLOBAL gtid_mode = ON;` (or OFF), one step after the other."
                    .to_owned(),
        }),
    }
}

/// Opens the snapshot; says what it contains. `None` if the table is gone.
pub(super) async fn begin(
    session: &mut Session,
    way: Way,
    locker: &mut Option<Session>,
    table: &TableName,
) -> Result<Option<Containment>, MysqlError> {
    match way {
        Way::Snapshot => {
            open(&mut session.conn).await?;
            Ok(Some(Containment::UpTo(snapshot_position(&mut session.conn).await?)))
        }
        Way::Executed => {
            let executed = executed(&mut session.conn).await?;
            open(&mut session.conn).await?;
            Ok(Some(Containment::Gtids(executed)))
        }
        Way::Locked => {
            let Some(locker) = locker.as_mut() else {
                return Err(MysqlError::Interrupted { what: "there is no second connection" });
            };
            if !lock(locker, table).await? {
                return Ok(None);
            }
            open(&mut session.conn).await?;
            let seen = contained(locker).await?;
            let unlocked = locker.conn.query_drop("UNLOCK TABLES").await;
            unlocked.map_err(MysqlError::query("unlock a table"))?;
            Ok(Some(seen))
        }
    }
}

/// Everything that is committed now, while a table that is locked stands still.
pub(super) async fn contained(session: &mut Session) -> Result<Containment, MysqlError> {
    let by_gtid = !session.server.is_mariadb()
        && variable(&mut session.conn, "gtid_mode").await?.as_deref() == Some("ON");
    Ok(if by_gtid {
        Containment::Gtids(executed(&mut session.conn).await?)
    } else {
        Containment::UpTo(log_end(&mut session.conn, &session.server).await?)
    })
}

async fn open(conn: &mut Conn) -> Result<(), MysqlError> {
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        .await
        .map_err(MysqlError::query("open a snapshot"))
}

/// Waits for the table's writers and holds new ones back; false if there is no such table. A transaction that stays open
/// keeps us waiting, but not the others behind us: the lock is given up and tried again.
pub(super) async fn lock(session: &mut Session, table: &TableName) -> Result<bool, MysqlError> {
    let conn = &mut session.conn;
    let failed = || MysqlError::query("lock a table for its snapshot");
    conn.query_drop(format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}")).await.map_err(failed())?;
    let sql = format!("LOCK TABLES {} READ", backticked_table(table));
    let mut waited = Duration::ZERO;
    loop {
        match conn.query_drop(&sql).await {
            Ok(()) => return Ok(true),
            Err(Error::Server(error)) if GONE.contains(&error.code) => return Ok(false),
            Err(Error::Server(error)) if error.code == ER_DBACCESS_DENIED => {
                let database = backticked(table.schema.as_deref().unwrap_or_default());
                return Err(MysqlError::NotReady {
                    problem: format!("the snapshot of {table} must lock it for a moment"),
                    fix: format!("GRANT LOCK TABLES ON {database}.* to the user in source.url."),
                });
            }
            Err(Error::Server(error)) if error.code == ER_LOCK_WAIT_TIMEOUT => {}
            Err(error) => return Err(failed()(error)),
        }
        let before = waited.as_secs() / WARN_EVERY.as_secs();
        waited += LOCK_PAUSE + Duration::from_secs(u64::from(LOCK_WAIT_SECONDS));
        if waited.as_secs() / WARN_EVERY.as_secs() != before {
            tracing::warn!(%table, "a snapshot waits for transactions that have written the table; see SHOW PROCESSLIST");
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Returns once everything that may have been shipped before the call is visible to reads.
pub(super) async fn settle(session: &mut Session) -> Result<(), MysqlError> {
    let mut pause = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    let shipped = if session.server.is_mariadb() {
        Shipped::UpTo(log_end(&mut session.conn, &session.server).await?)
    } else {
        Shipped::Owned(owned(&mut session.conn).await?)
    };
    while !shipped.is_visible(&mut session.conn).await? {
        let before = waited.as_secs() / WARN_EVERY.as_secs();
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(500));
        if waited.as_secs() / WARN_EVERY.as_secs() != before {
            tracing::warn!("a snapshot waits for commits that the server has logged but not finished");
        }
    }
    Ok(())
}

/// What the log may hold.
enum Shipped {
    /// MariaDB.
    UpTo(Offset),
    /// MySQL: transactions that have a name and are not finished. None without GTIDs, where every read is under a lock.
    Owned(HashSet<String>),
}

impl Shipped {
    async fn is_visible(&self, conn: &mut Conn) -> Result<bool, MysqlError> {
        match self {
            Self::UpTo(end) => {
                open(conn).await?;
                let seen = snapshot_position(conn).await?;
                end_snapshot(conn).await?;
                Ok(seen >= *end)
            }
            Self::Owned(then) if then.is_empty() => Ok(true),
            Self::Owned(then) => Ok(then.is_disjoint(&owned(conn).await?)),
        }
    }
}

pub(super) async fn end_snapshot(conn: &mut Conn) -> Result<(), MysqlError> {
    conn.query_drop("COMMIT").await.map_err(MysqlError::query("end a snapshot"))
}

async fn executed(conn: &mut Conn) -> Result<MysqlSet, MysqlError> {
    let failed = || MysqlError::query("read gtid_executed");
    let text: Option<String> = conn.query_first("SELECT @@GLOBAL.gtid_executed").await.map_err(failed())?;
    text.unwrap_or_default().parse().map_err(|_| MysqlError::NotReady {
        problem: "gtid_executed is not understood".to_owned(),
        fix: "Report the output of SELECT @@GLOBAL.gtid_executed.".to_owned(),
    })
}

async fn owned(conn: &mut Conn) -> Result<HashSet<String>, MysqlError> {
    let failed = || MysqlError::query("read gtid_owned");
    let text: Option<String> = conn.query_first("SELECT @@GLOBAL.gtid_owned").await.map_err(failed())?;
    Ok(owned_in(&text.unwrap_or_default()))
}

/// `uuid:7#41:8#42,uuid:tag:1#43`: numbers with the thread that owns them.
fn owned_in(text: &str) -> HashSet<String> {
    let mut owned = HashSet::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let mut parts = entry.split(':');
        let mut prefix = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match part.split_once('#') {
                Some((number, _thread)) => {
                    owned.insert(format!("{prefix}:{number}"));
                }
                None => prefix = format!("{prefix}:{part}"),
            }
        }
    }
    owned
}

/// The log position of the open snapshot.
async fn snapshot_position(conn: &mut Conn) -> Result<Offset, MysqlError> {
    let rows: Vec<(String, String)> = conn
        .query("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")
        .await
        .map_err(MysqlError::query("read a snapshot's log position"))?;
    let value = |name: &str| {
        let row = rows.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        row.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    place(
        value("binlog_snapshot_file"),
        value("binlog_snapshot_position").and_then(|position| position.parse().ok()),
    )
}

/// The end of the log.
pub(super) async fn log_end(conn: &mut Conn, server: &Server) -> Result<Offset, MysqlError> {
    let row: Option<Row> = conn
        .query_first(server.log_status_statement())
        .await
        .map_err(MysqlError::query("read the end of the binary log"))?;
    let file: Option<String> = row.as_ref().and_then(|row| row.get(0));
    place(file.as_deref(), row.as_ref().and_then(|row| row.get(1)))
}

fn place(file: Option<&str>, at: Option<u64>) -> Result<Offset, MysqlError> {
    match (file.and_then(file_number), at) {
        (Some(file), Some(at)) => Ok(Offset { file, at }),
        _ => Err(MysqlError::NotReady {
            problem: "the server does not tell where its binary log is".to_owned(),
            fix: "Set log_bin in the server's configuration and restart it.".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_transactions_are_known_by_their_numbers() {
        let owned = owned_in(
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:7#41:8#42,\n3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:7#5",
        );
        let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let expected = [format!("{server}:7"), format!("{server}:8"), format!("{server}:tag:7")];
        assert_eq!(owned, expected.into());
        assert!(owned_in("").is_empty());
    }

    #[test]
    fn a_place_needs_a_numbered_file() {
        assert_eq!(place(Some("bin.000007"), Some(99)).unwrap(), Offset { file: 7, at: 99 });
        assert!(place(Some("bin"), Some(99)).is_err() && place(None, Some(1)).is_err());
        assert!(place(Some("bin.000007"), None).is_err());
    }
}
