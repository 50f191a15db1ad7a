//! `rowbridge_progress`: where each lane stands, written in the transaction that writes its rows.

use std::collections::HashSet;

use rowbridge_schema::{EndpointName, Position, SourceId, StreamName};
use rusqlite::{Connection, OptionalExtension as _};

use super::error::SqliteError;
use super::session::Session;
use crate::apply::{Progress, collection};

/// The statement that makes the table.
pub(super) const CREATE_SQL: &str = "CREATE TABLE IF NOT EXISTS main.rowbridge_progress (stream TEXT NOT NULL, \
     endpoint TEXT NOT NULL, source TEXT NOT NULL, epoch INTEGER NOT NULL, position TEXT NOT NULL, \
     updated_at TEXT NOT NULL, PRIMARY KEY (stream, endpoint))";

/// A lane's row and the statements on it.
#[derive(Debug)]
pub(super) struct ProgressRow {
    pub(super) stream: StreamName,
    pub(super) endpoint: EndpointName,
}

/// Names of tables of ours that begin with a prefix.
pub(super) fn tables(conn: &Connection, prefix: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare_cached(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND substr(name, 1, length(?1)) = ?1 ORDER BY 1",
    )?
    .query_map([prefix], |row| row.get(0))?
    .collect()
}

impl ProgressRow {
    /// The row of a lane.
    pub(super) fn new(stream: &StreamName, endpoint: &EndpointName) -> Self {
        Self { stream: stream.clone(), endpoint: endpoint.clone() }
    }

    /// Makes the table if it is missing and may be made.
    pub(super) fn create_table(session: &Session, create: bool) -> Result<(), SqliteError> {
        let doing = "looking for the progress table";
        let exists = session
            .conn
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' \
                 AND name = 'rowbridge_progress' COLLATE NOCASE)",
                [],
                |row| row.get::<_, bool>(0),
            )
            .map_err(|source| session.failed(doing, source))?;
        match (exists, create) {
            (true, _) => Ok(()),
            (false, true) => session.batch("making the progress table", CREATE_SQL),
            (false, false) => Err(SqliteError::ProgressTable { sql: CREATE_SQL }),
        }
    }

    /// Reads the row.
    pub(super) fn read(&self, session: &Session) -> Result<Option<Progress>, SqliteError> {
        let row: Option<(String, String)> = session
            .conn
            .prepare_cached(
                "SELECT source, position FROM main.rowbridge_progress WHERE stream = ?1 AND endpoint = ?2",
            )
            .and_then(|mut statement| {
                let key = [self.stream.as_str(), self.endpoint.as_str()];
                statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(|source| session.failed("reading progress", source))?;
        let Some((source, position)) = row else { return Ok(None) };
        let position = position.parse().map_err(|_| SqliteError::ProgressRow {
            stream: self.stream.to_string(),
            endpoint: self.endpoint.to_string(),
        })?;
        Ok(Some(Progress { source: SourceId(source), position }))
    }

    /// The stream's tables that collect keys for a re-snapshot now.
    pub(super) fn collecting(&self, session: &Session) -> Result<HashSet<String>, SqliteError> {
        let found = tables(&session.conn, &collection::of_stream(&self.stream));
        let found = found.map_err(|source| session.failed("looking for a re-snapshot", source))?;
        Ok(found.into_iter().collect())
    }

    /// Writes the row. The transaction already holds the write lock.
    pub(super) fn write(
        &self,
        session: &Session,
        source: &SourceId,
        to: Position,
    ) -> Result<(), SqliteError> {
        session
            .conn
            .prepare_cached(
                "INSERT INTO main.rowbridge_progress (stream, endpoint, source, epoch, position, updated_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) \
                 ON CONFLICT (stream, endpoint) DO UPDATE SET source = excluded.source, epoch = excluded.epoch, \
                 position = excluded.position, updated_at = excluded.updated_at",
            )
            .and_then(|mut statement| {
                statement.execute((
                    self.stream.as_str(),
                    self.endpoint.as_str(),
                    &source.0,
                    to.epoch,
                    to.to_string(),
                ))
            })
            .map(|_| ())
            .map_err(|source| session.failed("writing progress", source))
    }
}
