//! From the journal's blocks into the window.

use std::sync::Arc;

use rowbridge_schema::config::{Order, Start};
use rowbridge_schema::wire::{BlockHead, Op, Run, Step, read_run};
use rowbridge_schema::{Class, Classified, Position, TablePatterns};

use super::cursor::EventKey;
use super::make::{Change, MakeError, Maker};
use super::window::{Item, Window};
use crate::journal::{Block, JournalError, JournalReader};

/// Blocks looked at in one go, so that a lane that passes over gigabytes still hears a stop.
const LOOK: usize = 256;

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
            Self::Journal(_) => None,
            Self::Make(MakeError::Filter { .. } | MakeError::Row { .. }) => {
                Some("Correct endpoint.when and restart; events wait in the journal.".to_owned())
            }
            Self::Make(MakeError::Columns { .. } | MakeError::Computed { .. }) => {
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
    row: usize,
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
        for _ in 0..LOOK {
            if self.fenced || !self.held.is_empty() || !window.has_room() {
                return Ok(false);
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
                self.begun = Some(Begun { block, run: 0, row: 0 });
            }
            self.go_on(window, &settled)?;
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

    fn go_on(&mut self, window: &mut Window, settled: &impl Fn(EventKey) -> bool) -> Result<(), ReadError> {
        let Some(mut begun) = self.begun.take() else { return Ok(()) };
        let key_order = self.maker.common.webhook.policy.order == Order::Key;
        let mut items = Vec::new();
        while let Some(index) = begun.block.runs.get(begun.run) {
            let block = &begun.block;
            let wanted =
                |name| self.tables.matches(name) && self.only.as_ref().is_none_or(|only| only.matches(name));
            let table = block.tables.get(index.table as usize).filter(|table| wanted(&table.name));
            let Some(table) = table else {
                (begun.run, begun.row) = (begun.run + 1, 0);
                continue;
            };
            let shape = self.maker.shape(table)?;
            let json = block.body.get(index.start as usize..index.end as usize).unwrap_or_default();
            let run =
                read_run(json).map_err(|source| MakeError::Rows { table: table.name.clone(), source })?;
            for row in begun.row..run.changes() {
                if !window.has_room() {
                    begun.row = row;
                    self.begun = Some(begun);
                    return Ok(());
                }
                let position = position(&block.head, &run, row);
                if settled(EventKey { position, part: 0 }) && settled(EventKey { position, part: 1 }) {
                    continue;
                }
                if self.replay.as_ref().is_some_and(|replay| !replay.holds(position)) {
                    continue;
                }
                let change = Change { run: &run, index: row, position, committed_at: block.head.at };
                self.maker.items(&shape, change, self.replay.is_some(), &mut items)?;
                items.retain(|item| !settled(item.key));
                if key_order && items.iter().any(|item| item.barrier) && !window.is_empty() {
                    self.held = items;
                    begun.row = row + 1;
                    self.begun = Some(begun);
                    return Ok(());
                }
                self.fenced = key_order && items.iter().any(|item| item.barrier);
                items.drain(..).for_each(|item| window.push(item));
                if self.fenced {
                    begun.row = row + 1;
                    self.begun = Some(begun);
                    return Ok(());
                }
            }
            (begun.run, begun.row) = (begun.run + 1, 0);
        }
        self.scanned = begun.block.head.last;
        Ok(())
    }
}

/// The position of change `row` of a run.
fn position(head: &BlockHead, run: &Run<'_>, row: usize) -> Position {
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
