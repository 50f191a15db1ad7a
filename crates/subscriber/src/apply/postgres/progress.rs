//! `rowbridge_progress`: where each lane stands, written in the transaction that writes its rows.

use rowbridge_schema::sql::ident;
use rowbridge_schema::wire::DeliveryHead;
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::{PostgresError, failed};
use super::session::Session;
use crate::apply::{Applied, Progress};

/// The table's name, in the connection's current schema.
pub(super) const TABLE: &str = "rowbridge_progress";

/// What a delivery means for a lane that stands somewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Apply what lies above this position, and write `to`.
    Apply(Option<Position>),
    /// Nothing to write.
    Answer(Applied),
}

/// Compares a delivery with what is stored (or staged in the lane's open transaction).
///
/// - Another source is refused, unless its epoch is higher than the stored one: then it takes the lane over.
/// - An unknown lane starts with `prev` null (from the publisher's own start) or zero; a later start is a gap, upon which
///   the publisher sends null.
/// - A known lane takes any `prev` at or below what is stored; what it has is dropped change by change.
pub(super) fn decide(stored: Option<&Progress>, head: &DeliveryHead) -> Decision {
    let committed = stored.map(|progress| progress.position);
    let Some(to) = head.to else {
        return Decision::Answer(match committed {
            Some(position) => Applied::Committed { position, changes: 0 },
            None => Applied::Gap { position: None },
        });
    };
    let Some(stored) = stored else {
        return match head.prev {
            None | Some(Position::ZERO) => Decision::Apply(None),
            Some(_) => Decision::Answer(Applied::Gap { position: None }),
        };
    };
    let position = stored.position;
    if stored.source != head.source && to.epoch <= position.epoch {
        return Decision::Answer(Applied::ForeignSource { expected: stored.source.clone(), position });
    }
    if to.epoch < position.epoch {
        return Decision::Answer(Applied::OldEpoch { position });
    }
    if to <= position {
        return Decision::Answer(Applied::Committed { position, changes: 0 });
    }
    match head.prev {
        Some(prev) if prev <= position => Decision::Apply(Some(position)),
        _ => Decision::Answer(Applied::Gap { position: Some(position) }),
    }
}

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
        let position = row.get::<_, &str>(1).parse().map_err(|_| PostgresError::ProgressRow {
            stream: self.stream.to_string(),
            endpoint: self.endpoint.to_string(),
        })?;
        Ok(Some(Progress { source: SourceId(row.get(0)), position }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn head(source: &str, prev: Option<Position>, to: Option<Position>) -> DeliveryHead {
        DeliveryHead {
            rowbridge: 1,
            stream: "s".parse().unwrap(),
            endpoint: "e".parse().unwrap(),
            source: SourceId(source.into()),
            prev,
            to,
            open: false,
            split: false,
        }
    }

    #[test]
    fn a_lane_takes_what_joins_on_to_what_it_has() {
        let at = |n| Position::new(1, n, 1);
        let newer = |n| Position::new(2, n, 1);
        let stored = Progress { source: SourceId("a".into()), position: at(5) };
        let known = |source, prev, to| decide(Some(&stored), &head(source, prev, Some(to)));
        let unknown = |prev| decide(None, &head("a", prev, Some(at(9))));
        let gap = |position| Decision::Answer(Applied::Gap { position });
        let done = Decision::Answer(Applied::Committed { position: at(5), changes: 0 });

        assert_eq!(unknown(None), Decision::Apply(None));
        assert_eq!(unknown(Some(Position::ZERO)), Decision::Apply(None));
        assert_eq!(unknown(Some(at(3))), gap(None));
        assert_eq!(known("a", Some(at(5)), at(9)), Decision::Apply(Some(at(5))));
        assert_eq!(known("a", Some(at(2)), at(9)), Decision::Apply(Some(at(5))));
        assert_eq!(known("a", Some(at(6)), at(9)), gap(Some(at(5))));
        assert_eq!(known("a", None, at(9)), gap(Some(at(5))));
        assert_eq!(known("a", Some(at(2)), at(5)), done);
        assert_eq!(known("a", None, at(4)), done);
        let foreign =
            Decision::Answer(Applied::ForeignSource { expected: SourceId("a".into()), position: at(5) });
        assert_eq!(known("b", Some(at(5)), at(9)), foreign);
        assert_eq!(known("b", Some(at(5)), newer(1)), Decision::Apply(Some(at(5))));
        let old = Position::new(0, 99, 1);
        assert_eq!(
            known("a", Some(Position::ZERO), old),
            Decision::Answer(Applied::OldEpoch { position: at(5) })
        );
    }
}
