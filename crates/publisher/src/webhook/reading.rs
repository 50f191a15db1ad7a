//! From the journal's blocks into the window.

use std::sync::Arc;

use rowbridge_schema::config::{Order, Start};
use rowbridge_schema::wire::{BlockHead, Op, Run, Step, read_run, run_part};
use rowbridge_schema::{Class, Classified, Position, TablePatterns};

use super::cursor::EventKey;
use super::make::{Change, MakeError, Maker, Shape};
use super::window::{Item, Window};
use crate::journal::{Block, JournalError, JournalReader};

/// Blocks looked at in one go, so that a lane that passes over gigabytes still hears a stop, ...
const LOOK: usize = 256;
/// ... and changes: about as many as become events while one answer is waited for, so that no answer waits for them.
const LOOK_CHANGES: usize = 8;
/// Rows of a run that are read together, and the bytes at which it is enough. What of them does not fit into the window is
/// read again with the next.
const PART_ROWS: usize = LOOK_CHANGES;
const PART_BYTES: usize = 16 << 10;

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Make(#[from] MakeError),
}

impl Classified for ReadError {
    fn class(&self) -> Class {
        Class::Permanent
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(error) => error.hint(),
            Self::Make(MakeError::Filter { .. }) => {
                Some("Correct endpoint.when and restart; events wait in the journal.".to_owned())
            }
            Self::Make(MakeError::Columns { .. }) => {
                Some("Correct endpoint.columns and restart; events wait in the journal.".to_owned())
            }
            Self::Make(MakeError::Template { templated, .. }) => Some(format!(
                "Correct endpoint.{templated}, or leave the table out, and restart; events wait in the journal."
            )),
            Self::Make(MakeError::Outbox { source, .. }) => {
                Some(format!("{} Restart then; events wait in the journal.", source.fix()))
            }
            Self::Make(_) => Some(
                "The journal was written by another release: start that one again, and let it deliver what is there."
                    .to_owned(),
            ),
        }
    }
}

/// Which part of the stream is sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay {
    pub(crate) from: Position,
    pub(crate) to: Position,
    /// Commit times in microseconds since 1970: at or after, before.
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
}

impl Replay {
    fn holds(&self, position: Position) -> bool {
        (self.from..=self.to).contains(&position)
    }

    fn takes(&self, committed_at: i64) -> bool {
        self.since.is_none_or(|since| since <= committed_at)
            && self.until.is_none_or(|until| committed_at < until)
    }
}

/// A block that was begun.
#[derive(Debug)]
struct Begun {
    block: Arc<Block>,
    run: usize,
    /// The part of the run that is next: its place in the run's JSON, and the number of its first row.
    part: usize,
    first: usize,
    /// Rows of the part that were taken in.
    taken: usize,
}

impl Begun {
    fn new(block: Arc<Block>) -> Self {
        Self { block, run: 0, part: 0, first: 0, taken: 0 }
    }

    fn next_run(&mut self) {
        (self.run, self.part, self.first, self.taken) = (self.run + 1, 0, 0, 0);
    }

    fn next_part(&mut self, at: usize, rows: usize) {
        (self.part, self.first, self.taken) = (at, self.first + rows, 0);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    reader: R,
    maker: Maker,
    tables: TablePatterns,
    only: Option<TablePatterns>,
    start: Start,
    begun: Option<Begun>,
    /// A barrier that waits until everything before it is settled.
    held: Vec<Item>,
    /// What is in the window is a barrier: nothing joins it.
    fenced: bool,
    /// Everything up to here is in the window, settled, or not for this endpoint.
    scanned: Position,
    /// What is sent again, if this is no more than a replay.
    replay: Option<Replay>,
}

impl<R: JournalReader> Reading<R> {
    pub(crate) fn new(
        reader: R,
        maker: Maker,
        tables: TablePatterns,
        start: Start,
        scanned: Position,
    ) -> Self {
        Self {
            reader,
            maker,
            tables,
            only: None,
            start,
            begun: None,
            held: Vec::new(),
            fenced: false,
            scanned,
            replay: None,
        }
    }

    /// Reads only what is to be sent again, and marks it so.
    pub(crate) fn replaying(self, replay: Replay) -> Self {
        Self { replay: Some(replay), ..self }
    }

    /// Only these tables of the endpoint's.
    pub(crate) fn only(self, only: TablePatterns) -> Self {
        Self { only: Some(only), ..self }
    }

    /// Whether a block is begun, or something of it waits.
    pub(crate) fn is_within(&self) -> bool {
        self.begun.is_some() || !self.held.is_empty()
    }

    /// Everything up to here was looked at.
    pub(crate) fn scanned(&self) -> Position {
        self.scanned
    }

    /// Resolves when [`Self::fill`] may find something. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        if self.begun.is_none() && self.held.is_empty() {
            self.reader.ready().await;
        }
    }

    /// Takes in what is there, as far as the window has room. Returns whether more may be there at once.
    pub(crate) fn fill(
        &mut self,
        window: &mut Window,
        settled: impl Fn(EventKey) -> bool,
    ) -> Result<bool, ReadError> {
        if window.is_empty() {
            self.fenced = false;
            if !self.held.is_empty() {
                self.fenced = true;
                self.held.drain(..).for_each(|item| window.push(item));
            }
        }
        let mut left = LOOK_CHANGES;
        for _ in 0..LOOK {
            if self.fenced || !self.held.is_empty() || !window.has_room() {
                return Ok(false);
            }
            if left == 0 {
                break;
            }
            if self.begun.is_none() {
                let Some(block) = self.reader.try_next()? else { return Ok(false) };
                if block.head.last <= self.scanned {
                    continue;
                }
                if !self.is_for_us(&block) {
                    self.scanned = block.head.last;
                    continue;
                }
                self.begun = Some(Begun::new(block));
            }
            self.go_on(window, &mut left, &settled)?;
        }
        Ok(true)
    }

    /// Whether the endpoint takes the block at all. One that wants no existing rows gets those that are meant for it alone.
    fn is_for_us(&self, block: &Block) -> bool {
        if self.replay.as_ref().is_some_and(|replay| !replay.takes(block.head.at)) {
            return false;
        }
        let named = block.only.contains(&self.maker.common.endpoint);
        let wanted = block.only.is_empty() && (self.start == Start::Snapshot || block.head.chunk.is_none());
        named || wanted
    }

    /// Takes in the rest of the block that was begun, unless the window becomes full, no changes are `left` to be looked at,
    /// or a barrier comes.
    fn go_on(
        &mut self,
        window: &mut Window,
        left: &mut usize,
        settled: &impl Fn(EventKey) -> bool,
    ) -> Result<(), ReadError> {
        let Some(mut begun) = self.begun.take() else { return Ok(()) };
        while let Some(index) = begun.block.runs.get(begun.run) {
            let block = &begun.block;
            let wanted =
                |name| self.tables.matches(name) && self.only.as_ref().is_none_or(|only| only.matches(name));
            let table = block.tables.get(index.table as usize).filter(|table| wanted(&table.name));
            let Some(table) = table else {
                begun.next_run();
                continue;
            };
            let shape = self.maker.shape(table)?;
            let json = block.body.get(index.start as usize..index.end as usize).unwrap_or_default();
            let part = run_part(json, begun.part, PART_ROWS, PART_BYTES);
            let run = read_run(&part.json)
                .map_err(|source| MakeError::Rows { table: table.name.clone(), source })?;
            for row in begun.taken..run.changes() {
                begun.taken = row;
                if !window.has_room() || *left == 0 {
                    self.begun = Some(begun);
                    return Ok(());
                }
                *left -= 1;
                if self.row(window, &begun, &shape, &run, settled)? {
                    begun.taken = row + 1;
                    self.begun = Some(begun);
                    return Ok(());
                }
            }
            match part.next {
                Some(at) => begun.next_part(at, run.changes()),
                None => begun.next_run(),
            }
        }
        self.scanned = begun.block.head.last;
        Ok(())
    }

    /// Takes in the next row of a part; whether that is a barrier, or waits for one.
    fn row(
        &mut self,
        window: &mut Window,
        begun: &Begun,
        shape: &Shape,
        run: &Run<'_>,
        settled: &impl Fn(EventKey) -> bool,
    ) -> Result<bool, ReadError> {
        let head = &begun.block.head;
        let position = position(head, run, begun.first + begun.taken);
        if settled(EventKey { position, part: 0 }) && settled(EventKey { position, part: 1 }) {
            return Ok(false);
        }
        if self.replay.as_ref().is_some_and(|replay| !replay.holds(position)) {
            return Ok(false);
        }
        let mut items = Vec::new();
        let change = Change { run, index: begun.taken, position, committed_at: head.at };
        self.maker.items(shape, change, self.replay.is_some(), &mut items);
        items.retain(|item| !settled(item.key));
        let key_order = self.maker.common.webhook.policy.order == Order::Key;
        let barrier = key_order && items.iter().any(|item| item.barrier);
        if barrier && !window.is_empty() {
            self.held = items;
            return Ok(true);
        }
        self.fenced = barrier;
        items.drain(..).for_each(|item| window.push(item));
        Ok(barrier)
    }
}

/// The position of change `row` of a run.
pub(crate) fn position(head: &BlockHead, run: &Run<'_>, row: usize) -> Position {
    let number = if run.op == Op::Truncate { run.number } else { run.number.saturating_add(row as u64) };
    match head.step {
        Step::Ordinal => head.last.with_ordinal(number),
        Step::Offset => {
            let mut position = head.last.with_ordinal(1);
            position.offset.at = number;
            position
        }
    }
}
