//! Dead letters in the hands of a job.

use rusqlite::{Connection, params};

use super::job::{self, Job, JobSpec};
use super::letter::{self, Letter, LetterState};

/// How a retried letter ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has it.
    Delivered,
    /// It waits for a person again.
    Dead {
        /// Label of the error's class.
        class: Option<String>,
        /// Why, without secrets.
        reason: String,
        /// Status of the last answer.
        status: Option<u16>,
        /// Attempts that the retry made.
        attempts: u32,
    },
}

/// Takes the next letters of a retry job, the oldest first, with their bodies. Nothing if the job does not run.
pub(super) fn claim(db: &Connection, job: i64, limit: u32) -> rusqlite::Result<Vec<Letter>> {
    let Some(Job { spec: JobSpec::Retry { letters }, endpoint, .. }) = job::running(db, job)? else {
        return Ok(Vec::new());
    };
    let behind: i64 = db.query_row("SELECT letter FROM jobs WHERE id = ?1", [job], |row| row.get(0))?;
    let mut wanted = letters.to_where();
    wanted.and("endpoint = ?", [endpoint.as_str().to_owned().into()]);
    wanted.and("id > ?", [behind.into()]);
    wanted.and("state = ?", [LetterState::Dead.name().to_owned().into()]);
    let sql = format!("SELECT id FROM dead_letters {} ORDER BY id LIMIT {limit}", wanted.sql());
    let ids: Vec<i64> =
        db.prepare(&sql)?.query_map(wanted.params(), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut claimed = Vec::with_capacity(ids.len());
    for id in ids {
        db.prepare_cached("UPDATE dead_letters SET state = 'retrying', job = ?2 WHERE id = ?1")?
            .execute([id, job])?;
        db.prepare_cached("UPDATE jobs SET letter = ?1 WHERE id = ?2")?.execute([id, job])?;
        claimed.extend(letter::get(db, id)?);
    }
    Ok(claimed)
}

/// Gives back what a job had in hand when it was cut short, so that it can be claimed again.
pub(super) fn give_back(db: &Connection, job: i64) -> rusqlite::Result<()> {
    let first: Option<i64> = db.query_row(
        "SELECT min(id) FROM dead_letters WHERE state = 'retrying' AND job = ?1",
        [job],
        |row| row.get(0),
    )?;
    if let Some(first) = first {
        db.execute("UPDATE dead_letters SET state = 'dead' WHERE state = 'retrying' AND job = ?1", [job])?;
        db.execute("UPDATE jobs SET letter = min(letter, ?1) WHERE id = ?2", [first - 1, job])?;
    }
    Ok(())
}

/// Writes down how a retried letter ended. One that was discarded meanwhile stays gone.
pub(super) fn settle(db: &Connection, id: i64, settled: &Settled, at_ms: i64) -> rusqlite::Result<bool> {
    let changed = match settled {
        Settled::Delivered => db
            .prepare_cached("UPDATE dead_letters SET state = 'done', done_at = ?2 WHERE id = ?1")?
            .execute([id, at_ms])?,
        Settled::Dead { class, reason, status, attempts } => db
            .prepare_cached(
                "UPDATE dead_letters SET state = 'dead', dead_at = ?2, class = ?3, reason = ?4, status = ?5,
                 attempts = attempts + ?6 WHERE id = ?1",
            )?
            .execute(params![id, at_ms, class, reason, status, attempts])?,
    };
    Ok(changed == 1)
}
