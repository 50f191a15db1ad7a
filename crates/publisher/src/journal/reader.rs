//! A cursor over the journal: from memory while it keeps up, else from the files.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rowbridge_schema::Position;
use tokio::sync::watch;

use super::segment::{self, Addr, BLOCK, Fault, FrameWindow, TABLE};
use super::state::{Shared, State};
use super::{Block, JournalError, JournalReader, codec};

/// See [`JournalReader`]. Belongs to one lane; stays usable while segments before it are removed.
pub struct SegmentReader {
    shared: Arc<Shared>,
    appended: watch::Receiver<()>,
    /// The next frame to look at.
    cursor: Addr,
    /// Last position of the last block returned, or where the reader was asked to begin.
    at: Position,
    /// The file of the cursor's segment, if it was needed.
    window: Option<FrameWindow>,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader")
            .field("cursor", &self.cursor)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// What a look at the state says.
enum Next {
    Nothing,
    Block(Arc<Block>),
    /// Frames of the cursor's segment up to this offset.
    File {
        end: u64,
    },
    /// Look again: the cursor has gone to another segment.
    Again,
}

impl SegmentReader {
    pub(super) fn new(shared: Arc<Shared>, after: Position) -> Result<Self, JournalError> {
        let appended = shared.appended.subscribe();
        let cursor = {
            let state = shared.state();
            state.check()?;
            if after < state.oldest() {
                return Err(JournalError::Gone { oldest: state.oldest() });
            }
            // The last segment that begins at or before `after`; who is at its end anyway skips all of its frames.
            let place = state.segments.partition_point(|segment| segment.begin <= after).saturating_sub(1);
            match state.last.is_none_or(|last| last <= after) && state.visible == state.written() {
                true => state.visible,
                false => Addr::start_of(state.segments[place].sequence),
            }
        };
        Ok(Self { shared, appended, cursor, at: after, window: None })
    }

    fn go_to(&mut self, cursor: Addr) {
        if cursor.sequence != self.cursor.sequence {
            self.window = None;
        }
        self.cursor = cursor;
    }

    /// Looks at the state; moves over what has no block.
    fn look(&mut self) -> Result<Next, JournalError> {
        let shared = Arc::clone(&self.shared);
        let state = shared.state();
        state.check()?;
        let first = state.segments.front().map_or(0, |segment| segment.sequence);
        if self.cursor.sequence < first {
            if self.at < state.oldest() {
                return Err(JournalError::Gone { oldest: state.oldest() });
            }
            self.go_to(Addr::start_of(first));
        }
        if self.cursor >= state.visible {
            return Ok(Next::Nothing);
        }
        if state.tail.covers(self.cursor) {
            return Ok(match state.tail.next(self.cursor) {
                Some((next, block)) if next <= state.visible => {
                    self.go_to(next);
                    Next::Block(block)
                }
                _ => {
                    self.go_to(state.visible);
                    Next::Nothing
                }
            });
        }
        self.look_at_file(&state)
    }

    fn look_at_file(&mut self, state: &State) -> Result<Next, JournalError> {
        let place = state.segments.partition_point(|segment| segment.sequence < self.cursor.sequence);
        let end = match self.cursor.sequence == state.visible.sequence {
            true => state.visible.offset,
            false => state.segments[place].bytes,
        };
        if self.cursor.offset < end {
            return Ok(Next::File { end });
        }
        // The end of a closed segment, since it is before what is visible.
        let next = &state.segments[place + 1];
        if self.at < next.begin {
            return Err(self.corrupt("blocks are missing at the segment's end"));
        }
        self.go_to(Addr::start_of(next.sequence));
        Ok(Next::Again)
    }

    fn corrupt(&self, reason: &'static str) -> JournalError {
        JournalError::Corrupt {
            path: segment::path_of(&self.shared.dir, self.cursor.sequence),
            offset: self.cursor.offset,
            after: self.at,
            reason,
        }
    }

    fn io(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { action, path: segment::path_of(&self.shared.dir, self.cursor.sequence), source }
    }

    /// The file of the cursor's segment; `None` if it was removed since the state was looked at.
    fn open(&self) -> Result<Option<FrameWindow>, JournalError> {
        match File::open(segment::path_of(&self.shared.dir, self.cursor.sequence)) {
            Ok(file) => Ok(Some(FrameWindow::new(file))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let first = self.shared.state().segments.front().map_or(0, |segment| segment.sequence);
                if self.cursor.sequence < first { Ok(None) } else { Err(self.io("open", err)) }
            }
            Err(err) => Err(self.io("open", err)),
        }
    }

    /// The next block of the cursor's segment before `end`.
    fn read(&mut self, end: u64) -> Result<Option<Arc<Block>>, JournalError> {
        let mut window = match self.window.take() {
            Some(window) => window,
            None => match self.open()? {
                Some(window) => window,
                None => return Ok(None),
            },
        };
        let result = self.read_from(&mut window, end);
        self.window = Some(window);
        result
    }

    fn read_from(&mut self, window: &mut FrameWindow, end: u64) -> Result<Option<Arc<Block>>, JournalError> {
        while self.cursor.offset < end {
            if let Some((next, block)) = self.shared.recent.get(self.cursor) {
                self.cursor.offset = next;
                return Ok(Some(block));
            }
            let frame = match window.frame(self.cursor.offset, end) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(Fault::Broken(reason)) => return Err(self.corrupt(reason)),
                Err(Fault::Io(err)) => return Err(self.io("read", err)),
            };
            let block = match frame.kind {
                BLOCK => {
                    let last = codec::read_position(frame.payload).map_err(|reason| self.corrupt(reason))?;
                    // Not decoded if it will not be returned.
                    if last > self.at {
                        Some(codec::read_block(frame.payload, &self.shared.tables))
                    } else {
                        None
                    }
                }
                TABLE => {
                    codec::read_table(frame.payload, &self.shared.tables)
                        .map_err(|reason| self.corrupt(reason))?;
                    None
                }
                _ => None,
            };
            let next = frame.next;
            if let Some(block) = block {
                let block = Arc::new(block.map_err(|reason| self.corrupt(reason))?);
                self.shared.recent.put(self.cursor, next, &block);
                self.cursor.offset = next;
                return Ok(Some(block));
            }
            self.cursor.offset = next;
        }
        Ok(None)
    }

    /// Whether [`JournalReader::try_next`] has something to look at, or an error to tell.
    fn may_have_next(&self) -> bool {
        let state = self.shared.state();
        state.failure.is_some() || self.cursor < state.visible || self.at < state.oldest()
    }
}

impl JournalReader for SegmentReader {
    fn try_next(&mut self) -> Result<Option<Arc<Block>>, JournalError> {
        loop {
            let block = match self.look()? {
                Next::Nothing => return Ok(None),
                Next::Again => continue,
                Next::Block(block) => block,
                Next::File { end } => match self.read(end)? {
                    Some(block) => block,
                    None => continue,
                },
            };
            if block.head.last > self.at {
                self.at = block.head.last;
                return Ok(Some(block));
            }
        }
    }

    async fn ready(&mut self) {
        loop {
            // Marked as seen before looking, so that what is appended in between wakes.
            self.appended.borrow_and_update();
            if self.may_have_next() {
                return;
            }
            // The sender lives in `self.shared`.
            let _ = self.appended.changed().await;
        }
    }
}
