//! The common case: one round trip, and the careful way if something is not as it is believed to be.

use rowbridge_schema::Position;
use rowbridge_schema::wire::Delivery;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tracing::debug;

use super::brief::{self, Brief, Failed, Param};
use super::error::{PostgresError, Verdict};
use super::lane::{LOCK_PROGRESS, LOCK_ROWS, Outcome, PostgresLane, Stop, stop};
use super::progress::ProgressRow;
use super::set::{self, Call, Flight};
use super::straight::Straight;
use crate::apply::{Applied, Progress};
use crate::plan::{Event, Plan, Step, plan};

/// Most statements of one round trip. More tables than this in one delivery take the careful way.
const MAX_IN_FLIGHT: usize = 256;

/// What goes out before the statements that write rows: the beginning, progress, another bound for locks.
const BEFORE_ROWS: usize = 3;

/// What became of statements that went out together.
type Sent = Result<(), Failed>;

impl PostgresLane {
    /// The set form of everything in one round trip.
    pub(super) async fn quickly(&mut self, delivery: &Delivery<'_>, to: Position) -> Result<Outcome, Stop> {
        let Some(stored) = self.committed.clone() else { return Ok(Outcome::Careful) };
        if self.collecting.is_none() || delivery.head.open || stored.source != delivery.head.source {
            return Ok(Outcome::Careful);
        }
        let straight = self.straight(delivery, stored.position);
        let plan = if straight.is_some() { Plan::default() } else { plan(delivery, Some(stored.position)) };
        let events: &[Event<'_>] = match &plan.steps[..] {
            [] => &[],
            [Step::Rows(events)] => events,
            _ => return Ok(Outcome::Careful),
        };
        let Ok(Some(mut calls)) = self.calls(events, false, true) else { return Ok(Outcome::Careful) };
        calls.extend(self.collected(events));
        if calls.len().max(straight.as_ref().map_or(0, Vec::len)) > MAX_IN_FLIGHT {
            return Ok(Outcome::Careful);
        }
        let doing = "applying a delivery";
        let small = straight.is_none() && brief::fits(&calls);
        let sent = match small {
            true => self.briefly(&stored, to, &calls).await,
            false => self.in_flight(&stored, to, &calls, straight.as_deref().unwrap_or_default()).await,
        };
        let error = sent.map_err(|e| stop(doing, e))?.err();
        let Some(Failed { before_rows, error }) = error else {
            self.committed = Some(Progress { source: stored.source, position: to });
            let changes = straight.map_or(plan.changes, |all| all.iter().map(Straight::changes).sum());
            return Ok(Outcome::Done(Applied::Committed { position: to, changes }));
        };
        debug!(before_rows, error = %error, "the quick way failed");
        let copied = straight.is_some() || calls.iter().any(|call| call.copy.is_some());
        if (small || copied) && error.as_db_error().is_some() {
            // Nothing was done behind what failed, not even the end of the transaction.
            self.session.batch("ROLLBACK").await.map_err(|e| stop(doing, e))?;
        }
        if copied && error.as_db_error().is_some() {
            self.refrain_from_copy(events.iter().map(|event| event.table));
            self.refrain_from_copy(straight.iter().flatten().map(Straight::table));
        }
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && before_rows {
            return Err(Stop::Error(PostgresError::Locked));
        }
        match self.session.verdict(&error) {
            Verdict::Data => Ok(Outcome::Careful),
            Verdict::Catalog | Verdict::Again | Verdict::Refused => Err(stop(doing, error)),
        }
    }

    /// A small delivery as one message. The inner error is that of a statement.
    async fn briefly(&mut self, stored: &Progress, to: Position, calls: &[Call<'_>]) -> Result<Sent, Error> {
        let (old, new) = (stored.position.to_string(), to.to_string());
        let mut brief = Brief::begin(&mut self.session);
        let advance = [
            Param::Text(self.row.stream.as_str()),
            Param::Text(self.row.endpoint.as_str()),
            Param::Text(&stored.source.0),
            Param::Number(i64::from(stored.position.epoch)),
            Param::Text(&old),
            Param::Text(&new),
            Param::Number(i64::from(to.epoch)),
        ];
        brief.add(&mut self.session, &self.row.advance_sql(), &advance).await?;
        brief.rows_follow();
        brief.add_calls(&mut self.session, calls).await?;
        Ok(brief.commit(&self.session).await)
    }

    /// A delivery as statements that go out together, with COPYs between them. As [`Self::briefly`].
    async fn in_flight(
        &mut self,
        stored: &Progress,
        to: Position,
        calls: &[Call<'_>],
        straight: &[Straight<'_>],
    ) -> Result<Sent, Error> {
        let advance = self.session.prepare(&self.row.advance_sql(), ProgressRow::ADVANCE_TYPES).await?;
        let (stream, endpoint) = (self.row.stream.as_str(), self.row.endpoint.as_str());
        let (old, new) = (stored.position.to_string(), to.to_string());
        let (old_epoch, new_epoch) = (i64::from(stored.position.epoch), i64::from(to.epoch));
        let (session, sets) = set::flights(&mut self.session, calls, true).await?;
        let mut flights: Vec<Flight<'_>> = Vec::with_capacity(sets.len() + 4);
        let batch = |sql: &'static str| {
            Flight::Statement(Box::pin(async move { session.batch(sql).await.map(|()| 0) }))
        };
        flights.push(batch(LOCK_PROGRESS));
        flights.push(Flight::Statement(Box::pin(async {
            let params: [&(dyn ToSql + Sync); 7] =
                [&stream, &endpoint, &stored.source.0, &old_epoch, &old, &new, &new_epoch];
            session.client.query_one(&advance, &params).await.map(|_| 1)
        })));
        flights.push(batch(LOCK_ROWS));
        flights.extend(sets);
        flights.extend(straight.iter().map(|rows| Flight::Copy(Box::pin(rows.send(session)))));
        flights.push(batch("COMMIT"));
        let results = set::fly(flights).await;
        let failed = results.into_iter().enumerate().find_map(|(i, result)| {
            let error = result.err()?;
            Some(Failed { before_rows: i < BEFORE_ROWS, error })
        });
        Ok(failed.map_or(Ok(()), Err))
    }
}
