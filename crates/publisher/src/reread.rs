//! A replay towards a bridge: the rows that changed in a part of the stream are read again and sent as they are now.
//!
//! A copy must not be told the past: an old change would overwrite a newer row. So the journal only tells which rows
//! changed; the pump reads them at the source and lets them into the stream for this endpoint alone, rows that are gone as
//! deletes. A job that was cut short goes on behind the last position whose rows are in the journal; what it repeats does
//! no harm.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::{EndpointConfig, Rate};
use rowbridge_schema::wire::{BlockHead, Op, Run, read_run};
use rowbridge_schema::{Cell, Position, TableDef, TableId, TableName, TablePatterns};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::deliveries::{Job, JobEnd, Progress, Recorder, Replay, StoreError};
use crate::journal::{Block, Journal, JournalError, JournalReader as _, TableRef};
use crate::pump::{Granted, KeyWish, Wishes};
use crate::webhook::{Bucket, before, chain, position};

/// Rows that are asked for at once, which are in memory together.
const ROWS_AT_ONCE: usize = 250;
/// Blocks looked at before others get their turn.
const LOOK: usize = 64;
/// How often it is looked whether the job was called off, while the source is away.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often rows are asked for whose read ended with the pump: a source that is lost ends it too.
const MOST_TRIES: u32 = 5;

/// Does one job; see the module.
pub(crate) struct Reread<J: Journal> {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) journal: Arc<J>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) wishes: Arc<Wishes>,
}

/// What of the stream is meant.
struct Window {
    from: Position,
    to: Position,
    since: Option<i64>,
    until: Option<i64>,
    tables: TablePatterns,
}

/// Rows of one table, by the definition that they were captured under.
struct Rows {
    def: TableDef,
    keys: HashSet<Vec<Cell<'static>>>,
}

/// Rows that are to be asked for.
#[derive(Default)]
struct Batch {
    tables: HashMap<TableId, Rows>,
    count: usize,
    /// Tables with changes that name no row.
    nameless: BTreeSet<TableName>,
}

/// How it ended before the end.
enum Cut {
    /// It was called off.
    Off,
    Failed(String),
}

impl<J: Journal> Reread<J> {
    /// Does a job that was started, and ends it.
    pub(crate) async fn run(&self, job: &Job, spec: &Replay) -> Result<(), StoreError> {
        let end = match self.replay(job, spec).await? {
            Ok(()) => JobEnd::Done,
            Err(Cut::Off) => return Ok(()),
            Err(Cut::Failed(error)) => JobEnd::Failed { error },
        };
        self.recorder.finish(job.id, end).await?;
        Ok(())
    }

    async fn replay(&self, job: &Job, spec: &Replay) -> Result<Result<(), Cut>, StoreError> {
        let failed = |error: String| Ok(Err(Cut::Failed(error)));
        let Some(last) = self.journal.last() else { return Ok(Ok(())) };
        let tables = match spec.tables.as_slice() {
            [] => TablePatterns::all(),
            patterns => match TablePatterns::new(patterns) {
                Ok(tables) => tables,
                Err(error) => return failed(error.to_string()),
            },
        };
        let micros = |ms: i64| ms.saturating_mul(1000);
        let window = Window {
            from: spec.from.unwrap_or(Position::ZERO),
            to: spec.to.unwrap_or(last).min(last),
            since: spec.since_ms.map(micros),
            until: spec.until_ms.map(micros),
            tables,
        };
        let after = match (job.progress.position, spec.from) {
            (Some(position), _) => position,
            (None, Some(from)) => before(from),
            (None, None) => self.journal.oldest(),
        };
        let mut reader = match self.journal.reader(after) {
            Ok(reader) => reader,
            Err(JournalError::Gone { oldest }) => {
                return failed(format!(
                    "the journal begins after {oldest}; what came before was removed after delivery (journal.retain)"
                ));
            }
            Err(error) => return failed(chain(&error)),
        };
        let rate = spec.per_second.map(|count| Rate { count, per: Duration::from_secs(1) });
        let mut bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        let (mut progress, mut batch, mut looked) = (job.progress, Batch::default(), 0);
        loop {
            let block = match reader.try_next() {
                Ok(block) => block.filter(|block| block.head.first <= window.to),
                Err(error) => return failed(chain(&error)),
            };
            let at = block.as_ref().map(|block| block.head.last);
            if let Some(block) = &block
                && let Err(error) = self.look(block, &window, &mut batch)
            {
                return failed(error);
            }
            if batch.count >= ROWS_AT_ONCE || block.is_none() {
                let done = self.ask_for(job.id, &mut batch, &mut progress, bucket.as_mut()).await?;
                if let Err(cut) = done {
                    return Ok(Err(cut));
                }
                progress.position = at.or(progress.position);
                if !self.recorder.progress(job.id, progress).await? {
                    return Ok(Err(Cut::Off));
                }
            }
            if block.is_none() {
                break;
            }
            looked += 1;
            if looked % LOOK == 0 {
                tokio::task::yield_now().await;
            }
        }
        if batch.nameless.is_empty() {
            return Ok(Ok(()));
        }
        let tables: Vec<String> = batch.nameless.iter().map(ToString::to_string).collect();
        let tables = tables.join(" ");
        failed(format!(
            "the other rows are sent, but some changes name no row (no key, or TRUNCATE): run `rowbridge snapshot {tables}`"
        ))
    }

    /// Notes which rows a block changes.
    fn look(&self, block: &Block, window: &Window, batch: &mut Batch) -> Result<(), String> {
        let in_time = window.since.is_none_or(|since| since <= block.head.at)
            && window.until.is_none_or(|until| block.head.at < until);
        let for_us = block.only.is_empty() || block.only.contains(&self.endpoint.name);
        if !in_time || !for_us {
            return Ok(());
        }
        for index in &block.runs {
            let Some(table) = block.tables.get(index.table as usize) else { continue };
            if !self.endpoint.tables.matches(&table.name) || !window.tables.matches(&table.name) {
                continue;
            }
            let json = block.body.get(index.start as usize..index.end as usize).unwrap_or_default();
            let unreadable = |error: serde_json::Error| {
                format!("rows of {} in the journal cannot be read: {error}", table.name)
            };
            let run = read_run(json).map_err(unreadable)?;
            batch.add(table, &run, &block.head, window).map_err(unreadable)?;
        }
        Ok(())
    }

    /// Has the pump send what was gathered.
    async fn ask_for(
        &self,
        job: i64,
        batch: &mut Batch,
        progress: &mut Progress,
        mut bucket: Option<&mut Bucket>,
    ) -> Result<Result<(), Cut>, StoreError> {
        batch.count = 0;
        for (_, rows) in std::mem::take(&mut batch.tables) {
            let keys: Vec<_> = rows.keys.into_iter().collect();
            for keys in keys.chunks(ROWS_AT_ONCE) {
                for _ in keys {
                    if let Some(bucket) = bucket.as_deref_mut() {
                        sleep_until(bucket.next()).await;
                        bucket.take(Instant::now());
                    }
                }
                if let Err(cut) = self.insist(job, &rows.def, keys, *progress).await? {
                    return Ok(Err(cut));
                }
                progress.sent += keys.len() as u64;
            }
        }
        Ok(Ok(()))
    }

    /// Asks until they are in the journal.
    async fn insist(
        &self,
        job: i64,
        def: &TableDef,
        keys: &[Vec<Cell<'static>>],
        progress: Progress,
    ) -> Result<Result<(), Cut>, StoreError> {
        let table = &def.name;
        for _ in 0..MOST_TRIES {
            let (done, mut granted) = oneshot::channel();
            self.wishes.push(KeyWish {
                endpoint: self.endpoint.name.clone(),
                table: table.clone(),
                columns: def.key.iter().map(|&at| def.columns[usize::from(at)].name.clone()).collect(),
                keys: keys.to_vec(),
                done,
            });
            loop {
                tokio::select! {
                    answer = &mut granted => match answer {
                        Ok(Granted::Placed) => return Ok(Ok(())),
                        Ok(Granted::Gone) => {
                            return Ok(Err(Cut::Failed(format!(
                                "{table} is gone, or has another key than when its rows changed: run `rowbridge snapshot {table}`"
                            ))));
                        }
                        Err(_) => break,
                    },
                    () = sleep(ASK_EVERY) => {
                        if !self.recorder.progress(job, progress).await? {
                            return Ok(Err(Cut::Off));
                        }
                    }
                }
            }
            sleep(ASK_EVERY).await;
        }
        Ok(Err(Cut::Failed(format!("rows of {table} cannot be read from the source now; the log says why"))))
    }
}

impl Batch {
    fn add(
        &mut self,
        table: &TableRef,
        run: &Run<'_>,
        head: &BlockHead,
        window: &Window,
    ) -> Result<(), serde_json::Error> {
        let rows = match self.tables.entry(table.id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let def: TableDef = serde_json::from_str(&table.json)?;
                place.insert(Rows { def, keys: HashSet::new() })
            }
        };
        for index in 0..run.changes() {
            let position = position(head, run, index);
            if !(window.from..=window.to).contains(&position) {
                continue;
            }
            if rows.def.key.is_empty() || run.op == Op::Truncate {
                self.nameless.insert(rows.def.name.clone());
                continue;
            }
            let (old, new) = run.row(index);
            for (columns, cells) in [(&run.old, old), (&run.new, new)] {
                let cell = |at: &u16| {
                    let place = columns.iter().position(|column| column == at)?;
                    cells.get(place).map(|cell| cell.clone().into_owned())
                };
                if let Some(key) = rows.def.key.iter().map(cell).collect::<Option<Vec<_>>>()
                    && rows.keys.insert(key)
                {
                    self.count += 1;
                }
            }
        }
        Ok(())
    }
}
