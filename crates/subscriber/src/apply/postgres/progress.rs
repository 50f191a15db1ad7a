//! `rowbridge_progress`: where each lane stands, written in the transaction that writes its rows.

use rowbridge_schema::sql::ident;
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::{PostgresError, failed};
use super::session::Session;
use crate::apply::Progress;

/// The table's name, in the connection's current schema.
pub(super) const TABLE: &str = "rowbridge_progress";

/// A lane's row and the statements on it.
pub(super) struct ProgressRow {
    table: String,
    pub(super) stream: StreamName,
    pub(super) endpoint: EndpointName,
}

const TEXT4: &[Type] = &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8];

impl ProgressRow {
    /// The row of a lane in a schema.
    pub(super) fn new(schema: &str, stream: &StreamName, endpoint: &EndpointName) -> Self {
        Self {
            table: format!("{}.{TABLE}", ident(schema)),
            stream: stream.clone(),
            endpoint: endpoint.clone(),
        }
    }

    /// Reads the row; `lock` holds it until the transaction ends.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        lock: bool,
    ) -> Result<Option<Progress>, PostgresError> {
        let sql = format!(
            "SELECT source, position FROM {} WHERE stream = $1 AND endpoint = $2{}",
            self.table,
            if lock { " FOR UPDATE" } else { "" }
        );
        let doing = "reading progress";
        let statement =
            session.prepare(&sql, &[Type::TEXT, Type::TEXT]).await.map_err(|e| failed(doing, e))?;
        let row = session
            .client
            .query_opt(&statement, &[&self.stream.as_str(), &self.endpoint.as_str()])
            .await
            .map_err(locked)?;
        let Some(row) = row else { return Ok(None) };
        // The table may be one that somebody else made: another type or a NULL is an error as well.
        let source = row.try_get(0).ok().map(SourceId);
        let position = row.try_get::<_, &str>(1).ok().and_then(|text| text.parse().ok());
        match (source, position) {
            (Some(source), Some(position)) => Ok(Some(Progress { source, position })),
            _ => Err(PostgresError::ProgressRow {
                stream: self.stream.to_string(),
                endpoint: self.endpoint.to_string(),
            }),
        }
    }

    /// Inserts the row of an unknown lane; false if somebody has been there. Waits for another session's insert.
    pub(super) async fn insert(
        &self,
        session: &mut Session,
        source: &SourceId,
        to: Position,
    ) -> Result<bool, PostgresError> {
        let sql = format!(
            "INSERT INTO {} (stream, endpoint, source, epoch, position, updated_at) \
             VALUES ($1, $2, $3, $4, $5, now()) ON CONFLICT (stream, endpoint) DO NOTHING",
            self.table
        );
        let types: Vec<Type> = TEXT4.iter().cloned().chain([Type::TEXT]).collect();
        let (stream, endpoint) = (self.stream.as_str(), self.endpoint.as_str());
        let epoch = i64::from(to.epoch);
        let inserted = session
            .execute(&sql, &types, &[&stream, &endpoint, &source.0, &epoch, &to.to_string()])
            .await
            .map_err(locked)?;
        Ok(inserted == 1)
    }

    /// Writes the row that this transaction has locked.
    pub(super) async fn write(
        &self,
        session: &mut Session,
        source: &SourceId,
        to: Position,
    ) -> Result<(), PostgresError> {
        let sql = format!(
            "UPDATE {} SET source = $3, epoch = $4, position = $5, updated_at = now() \
             WHERE stream = $1 AND endpoint = $2",
            self.table
        );
        let types: Vec<Type> = TEXT4.iter().cloned().chain([Type::TEXT]).collect();
        let (stream, endpoint) = (self.stream.as_str(), self.endpoint.as_str());
        let epoch = i64::from(to.epoch);
        session
            .execute(&sql, &types, &[&stream, &endpoint, &source.0, &epoch, &to.to_string()])
            .await
            .map_err(locked)?;
        Ok(())
    }

    /// Moves the row from a position that is believed to be stored, or fails with `division_by_zero`, so that everything
    /// that follows in the same round trip fails with it.
    pub(super) fn advance_sql(&self) -> String {
        format!(
            "WITH moved AS (UPDATE {} SET position = $6, epoch = $7, updated_at = now() WHERE stream = $1 \
             AND endpoint = $2 AND source = $3 AND epoch = $4 AND position = $5 RETURNING 1) \
             SELECT 1 / count(*) FROM moved",
            self.table
        )
    }

    /// Types of the parameters of [`Self::advance_sql`].
    pub(super) const ADVANCE_TYPES: &'static [Type] =
        &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::TEXT, Type::TEXT, Type::INT8];

    /// Makes the table if it is missing.
    pub(super) async fn create_table(&self, session: &Session) -> Result<(), PostgresError> {
        let exists = session
            .client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.table])
            .await
            .map_err(|e| failed("looking for the progress table", e))?;
        if exists.get(0) {
            return Ok(());
        }
        let sql = create_sql(&self.table);
        match session.batch(&sql).await {
            Ok(()) => Ok(()),
            // Two lanes opened at once: IF NOT EXISTS does not look at what is not committed yet.
            Err(error)
                if matches!(error.code(), Some(&SqlState::UNIQUE_VIOLATION | &SqlState::DUPLICATE_TABLE)) =>
            {
                Ok(())
            }
            Err(source) if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(PostgresError::ProgressTable { sql, source })
            }
            Err(error) => Err(failed("making the progress table", error)),
        }
    }
}

/// The statement that makes the table.
pub(super) fn create_sql(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (stream text NOT NULL, endpoint text NOT NULL, source text NOT NULL, \
         epoch bigint NOT NULL, position text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), \
         PRIMARY KEY (stream, endpoint))"
    )
}

fn locked(error: tokio_postgres::Error) -> PostgresError {
    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
        PostgresError::Locked
    } else {
        failed("writing progress", error)
    }
}
