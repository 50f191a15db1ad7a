//! What leaves: by age, by size, in small steps.

use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};

use super::attempt::excerpt_bytes;
use super::label::signed;
use super::{JOBS_KEPT, Limits, now_ms};

/// Rows that one step deletes at least. Under load twice what has come in, so that the size falls while it is over the bound.
const STEP: usize = 500;
/// Rows that one statement deletes: how exactly the bound is met.
const CHUNK: usize = 50;
/// How often age is looked at.
const AGE_EVERY: Duration = Duration::from_secs(10);
/// Free pages are given back above this many, if they are a quarter of the file, ...
const FREE_PAGES: i64 = 1024;
/// ... so many in one step.
const VACUUM_STEP: i64 = 256;

pub(super) struct Pruner {
    limits: Limits,
    age_due: Instant,
    shrinking: bool,
}

impl Pruner {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, age_due: Instant::now(), shrinking: false }
    }

    /// Deletes a little after `written` messages; true if there is more to delete.
    pub(super) fn step(&mut self, db: &mut Connection, written: usize) -> rusqlite::Result<bool> {
        let budget = STEP.max(2 * written);
        let mut more = self.by_size(db, budget)?;
        if more {
            // A lower bound than before: pages will be free.
            self.age_due = Instant::now();
        }
        let due = Instant::now() >= self.age_due;
        if due {
            let older = self.by_age(db, budget)?;
            if !older {
                self.age_due = Instant::now() + AGE_EVERY;
            }
            more |= older;
        }
        if due || self.shrinking {
            let shrinking = give_back_pages(db)?;
            if self.shrinking && !shrinking {
                // The file gets shorter when the log is written back.
                db.prepare("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
            }
            self.shrinking = shrinking;
            more |= shrinking;
        }
        Ok(more)
    }

    /// Excerpts go first, down to a quarter of the bound: the newest ones are worth more than the oldest attempts.
    fn by_size(&self, db: &mut Connection, budget: usize) -> rusqlite::Result<bool> {
        let max = signed(self.limits.attempts_max_bytes);
        let (mut attempts, mut excerpts) = totals(db)?;
        if attempts + excerpts <= max {
            return Ok(false);
        }
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        (attempts, excerpts) = totals(&transaction)?;
        let mut deleted = 0;
        while attempts + excerpts > max && deleted < budget {
            if excerpts > max / 4 {
                let (rows, bytes) = delete_excerpts(&transaction)?;
                excerpts -= bytes;
                deleted += rows;
                if rows == 0 {
                    excerpts = 0;
                }
            } else {
                let gone = delete_attempts(&transaction, i64::MAX)?;
                attempts -= gone.attempt_bytes;
                excerpts -= gone.excerpt_bytes;
                deleted += gone.rows;
                if gone.rows == 0 {
                    (attempts, excerpts) = (0, 0);
                }
            }
        }
        set_totals(&transaction, attempts, excerpts)?;
        transaction.commit()?;
        Ok(attempts + excerpts > max)
    }

    fn by_age(&self, db: &mut Connection, budget: usize) -> rusqlite::Result<bool> {
        let before = |retain: Duration| now_ms().saturating_sub(signed(retain.as_millis() as u64));
        let old = self.limits.attempts_retain.map_or(i64::MIN, before);
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut attempts, mut excerpts) = totals(&transaction)?;
        let mut deleted = 0;
        while deleted < budget {
            let gone = delete_attempts(&transaction, old)?;
            attempts -= gone.attempt_bytes;
            excerpts -= gone.excerpt_bytes;
            deleted += gone.rows;
            if gone.rows == 0 {
                break;
            }
        }
        set_totals(&transaction, attempts, excerpts)?;
        let some = format!("ORDER BY id LIMIT {CHUNK}");
        let mut letters = transaction.execute(
            &format!(
                "DELETE FROM dead_letters WHERE id IN
                 (SELECT id FROM dead_letters WHERE state = 'done' AND done_at < ?1 {some})"
            ),
            [old],
        )?;
        if let Some(retain) = self.limits.letters_retain {
            letters += transaction.execute(
                &format!(
                    "DELETE FROM dead_letters WHERE id IN
                     (SELECT id FROM dead_letters WHERE state = 'dead' AND dead_at < ?1 {some})"
                ),
                [before(retain)],
            )?;
        }
        let jobs = transaction.execute(
            &format!(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state NOT IN ('queued', 'running')
                 AND id <= (SELECT max(id) FROM jobs) - ?1 {some})"
            ),
            [JOBS_KEPT],
        )?;
        transaction.commit()?;
        Ok(deleted >= budget || letters >= CHUNK || jobs >= CHUNK)
    }
}

/// Bytes of attempts and of excerpts.
pub(super) fn totals(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.prepare_cached(
        "SELECT (SELECT bytes FROM totals WHERE what = 'attempts'), (SELECT bytes FROM totals WHERE what = 'excerpts')",
    )?
    .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn set_totals(db: &Connection, attempts: i64, excerpts: i64) -> rusqlite::Result<()> {
    let mut set = db.prepare_cached("UPDATE totals SET bytes = max(0, ?2) WHERE what = ?1")?;
    set.execute(params!["attempts", attempts])?;
    set.execute(params!["excerpts", excerpts])?;
    Ok(())
}

/// Deletes the oldest excerpts.
fn delete_excerpts(db: &Connection) -> rusqlite::Result<(usize, i64)> {
    let mut statement = db.prepare_cached(
        "DELETE FROM excerpts WHERE attempt IN
         (SELECT attempt FROM excerpts ORDER BY attempt LIMIT ?1) RETURNING length(body)",
    )?;
    let mut rows = statement.query([CHUNK as i64])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        bytes += excerpt_bytes(usize::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
    }
    Ok((count, bytes))
}

#[derive(Default)]
struct Gone {
    rows: usize,
    attempt_bytes: i64,
    excerpt_bytes: i64,
}

/// Deletes those of the oldest attempts that began before `before`, with their excerpts. Attempts are recorded when they
/// end, so age and number go together but for a few.
fn delete_attempts(db: &Connection, before: i64) -> rusqlite::Result<Gone> {
    let mut statement = db.prepare_cached(
        "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts ORDER BY id LIMIT ?2) AND started_at < ?1
         RETURNING id, bytes",
    )?;
    let mut excerpt = db.prepare_cached("DELETE FROM excerpts WHERE attempt = ?1 RETURNING length(body)")?;
    let mut rows = statement.query(params![before, CHUNK as i64])?;
    let (mut gone, mut ids) = (Gone::default(), Vec::new());
    while let Some(row) = rows.next()? {
        ids.push(row.get::<_, i64>(0)?);
        gone.attempt_bytes += row.get::<_, i64>(1)?;
    }
    for id in &ids {
        let mut rows = excerpt.query([id])?;
        while let Some(row) = rows.next()? {
            gone.excerpt_bytes += excerpt_bytes(usize::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
        }
    }
    gone.rows = ids.len();
    Ok(gone)
}

/// Gives free pages back to the file system when they are many; true if there are more of them.
fn give_back_pages(db: &Connection) -> rusqlite::Result<bool> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (pragma("freelist_count")?, pragma("page_count")?);
    if free < FREE_PAGES || free < all / 4 {
        return Ok(false);
    }
    // One page is given back per row of the answer.
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_STEP})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
