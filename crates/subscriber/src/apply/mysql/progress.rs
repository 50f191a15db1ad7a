//! `rowbridge_progress`: where each lane stands, written in the transaction that writes its rows.

use mysql_async::Error;
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName, TableName};

use super::error::{DUPLICATE, LOCK_WAIT, MysqlError, code, failed, is_denied};
use super::pipe::{Pipe, Purpose};
use super::session::Session;
use super::statement::{ident, qualified, text};
use crate::apply::Progress;

/// The table's name.
pub(super) const TABLE: &str = "rowbridge_progress";

/// The database that holds it where the URL names none.
pub(super) const DATABASE: &str = "rowbridge";

/// Seconds that somebody else may hold the lane's own row. Other rows wait as long as the target's users need.
const LOCK_SECONDS: u32 = 2;

/// A lane's row and the statements on it.
pub(super) struct ProgressRow {
    pub(super) table: TableName,
    /// `stream = '..' AND endpoint = '..'`
    condition: String,
    pub(super) stream: StreamName,
    pub(super) endpoint: EndpointName,
}

/// Where the table is, or will be.
pub(super) fn place(session: &Session) -> TableName {
    TableName::new(session.database.as_deref().unwrap_or(DATABASE), TABLE)
}

impl ProgressRow {
    /// The row of a lane.
    pub(super) fn new(session: &Session, stream: &StreamName, endpoint: &EndpointName) -> Self {
        Self {
            table: place(session),
            condition: format!(
                "stream = {} AND endpoint = {}",
                text(stream.as_str()),
                text(endpoint.as_str())
            ),
            stream: stream.clone(),
            endpoint: endpoint.clone(),
        }
    }

    /// One of our other tables, quoted.
    pub(super) fn beside(&self, name: &str) -> String {
        super::collect::beside(&self.table, name)
    }

    /// The stream's tables that collect keys now.
    pub(super) async fn collecting(
        &self,
        session: &mut Session,
    ) -> Result<std::collections::HashSet<String>, MysqlError> {
        let prefix = crate::apply::collection::of_stream(&self.stream);
        let found = super::collect::tables(session, &self.table, &prefix).await;
        found.map_err(|e| failed("looking for a re-snapshot", e))
    }

    /// Begins the transaction in which the lane's row is taken. Whatever was open is undone: the server would commit it.
    pub(super) fn begin() -> String {
        format!("ROLLBACK;SET innodb_lock_wait_timeout = {LOCK_SECONDS};START TRANSACTION")
    }

    /// The same for a pipe.
    pub(super) fn begin_in(pipe: &mut Pipe<'_>) {
        Self::begin().split(';').for_each(|sql| pipe.control(sql));
    }

    /// Rows wait as long as the server says.
    pub(super) fn patient(session: &Session) -> String {
        format!("SET innodb_lock_wait_timeout = {}", session.lock_wait)
    }

    /// Reads the row; `lock` holds it until the transaction ends.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        lock: bool,
    ) -> Result<Option<Progress>, MysqlError> {
        let sql = format!(
            "SELECT source, position FROM {} WHERE {}{}",
            qualified(&self.table),
            self.condition,
            if lock { " FOR UPDATE" } else { "" }
        );
        let rows: Vec<(String, String)> = session.query(&sql).await.map_err(locked)?;
        let Some((source, position)) = rows.into_iter().next() else { return Ok(None) };
        let position = position.parse().map_err(|_| MysqlError::ProgressRow {
            stream: self.stream.to_string(),
            endpoint: self.endpoint.to_string(),
        })?;
        Ok(Some(Progress { source: SourceId(source), position }))
    }

    /// Inserts the row of an unknown lane; false if somebody has been there. Waits for another session's insert.
    pub(super) async fn insert(
        &self,
        session: &mut Session,
        source: &SourceId,
        to: Position,
    ) -> Result<bool, MysqlError> {
        let sql = format!(
            "INSERT INTO {} (stream, endpoint, source, epoch, position, updated_at) VALUES ({}, {}, {}, {}, {}, \
             UTC_TIMESTAMP(6))",
            qualified(&self.table),
            text(self.stream.as_str()),
            text(self.endpoint.as_str()),
            text(&source.0),
            to.epoch,
            text(&to.to_string())
        );
        match session.run(&sql).await {
            Ok(()) => Ok(true),
            Err(error) if code(&error) == Some(DUPLICATE) => Ok(false),
            Err(error) => Err(locked(error)),
        }
    }

    /// Writes the row that this transaction has locked.
    pub(super) async fn write(
        &self,
        session: &mut Session,
        source: &SourceId,
        to: Position,
    ) -> Result<(), MysqlError> {
        let sql = format!(
            "UPDATE {} SET source = {}, epoch = {}, position = {}, updated_at = UTC_TIMESTAMP(6) WHERE {}",
            qualified(&self.table),
            text(&source.0),
            to.epoch,
            text(&to.to_string()),
            self.condition
        );
        session.run(&sql).await.map_err(locked)
    }

    /// Moves the row from where it is believed to be, or fails, so that nothing that follows is run.
    pub(super) fn advance(&self, pipe: &mut Pipe<'_>, from: &Progress, to: Position) {
        let table = qualified(&self.table);
        let (epoch, position) = (to.epoch, to.to_string());
        let update = format!(
            "UPDATE {table} SET epoch = {epoch}, position = {}, updated_at = UTC_TIMESTAMP(6) WHERE {} AND \
             source = {} AND epoch = {} AND position = {}",
            text(&position),
            self.condition,
            text(&from.source.0),
            from.position.epoch,
            text(&from.position.to_string())
        );
        pipe.purposeful(&update, Purpose::Progress);
        // `source` takes no NULL, and nothing else in SQL fails on demand.
        let guard = format!(
            "INSERT INTO {table} (stream, endpoint, source, epoch, position, updated_at) SELECT '', '', NULL, 0, '', \
             UTC_TIMESTAMP(6) FROM DUAL WHERE ROW_COUNT() = 0"
        );
        pipe.purposeful(&guard, Purpose::Guard);
    }

    /// Makes the table, and its database, if they are missing.
    pub(super) async fn create_table(&self, session: &mut Session) -> Result<(), MysqlError> {
        if exists(session, &self.table).await.map_err(|e| failed("looking for the progress table", e))? {
            return Ok(());
        }
        for sql in create_sql(&self.table, session.database.is_none()) {
            match session.run(&sql).await {
                Ok(()) => {}
                Err(source) if is_denied(&source) => return Err(MysqlError::ProgressTable { sql, source }),
                Err(error) => return Err(failed("making the progress table", error)),
            }
        }
        Ok(())
    }
}

/// Whether a table is there.
pub(super) async fn exists(session: &mut Session, table: &TableName) -> Result<bool, Error> {
    let of_table = Session::of_table(table.schema.as_deref().unwrap_or_default(), &table.name);
    let found: Vec<u64> =
        session.query(&format!("SELECT COUNT(*) FROM information_schema.TABLES WHERE {of_table}")).await?;
    Ok(found.first().is_some_and(|count| *count > 0))
}

/// The statements that make the table.
pub(super) fn create_sql(table: &TableName, with_database: bool) -> Vec<String> {
    let database = table.schema.as_deref().unwrap_or(DATABASE);
    let mut list = Vec::new();
    if with_database {
        list.push(format!("CREATE DATABASE IF NOT EXISTS {}", ident(database)));
    }
    let ascii = "CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
    list.push(format!(
        "CREATE TABLE IF NOT EXISTS {} (stream VARCHAR(64) {ascii}, endpoint VARCHAR(64) {ascii}, \
         source VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, epoch BIGINT UNSIGNED NOT NULL, \
         position VARCHAR(64) {ascii}, updated_at DATETIME(6) NOT NULL, PRIMARY KEY (stream, endpoint)) \
         ENGINE = InnoDB",
        qualified(table)
    ));
    list
}

fn locked(error: Error) -> MysqlError {
    if code(&error) == Some(LOCK_WAIT) { MysqlError::Locked } else { failed("writing progress", error) }
}
