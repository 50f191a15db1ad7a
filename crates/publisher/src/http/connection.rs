//! One connection and the exchanges on it.
//!
//! Nothing drives a connection but the exchange that uses it, in its own task: a request needs no switch to another task
//! and back, and dropping the exchange closes the connection. Head and body leave in one write. While they do, answers are
//! read: a server may refuse a body before it has read all of it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::answer::{Body, Head, MAX_HEAD};
use super::error::ExchangeError;
use super::request::Response;
use super::timing::{Phase, Stopwatch};

/// Most bytes of a body that are read; beyond it the connection is closed.
pub(super) const MAX_READ: usize = 64 * 1024;
/// Most bytes of a body that are kept of an answer.
pub(super) const MAX_KEPT: usize = 8 * 1024;
/// Bytes that are read at once. A longer head makes room for itself; few are.
const BUFFER: usize = 2 * 1024;

/// What bytes travel on: TCP, or TLS over it, through a proxy or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection with at most one exchange at a time.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: Input,
    /// The head of a request, written here so that the room is made once.
    head: Vec<u8>,
    /// Whether it can take a request, as far as is known.
    open: bool,
    /// Whether an exchange came before.
    pub(super) used: bool,
}

/// An exchange that did not come to its end.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) source: ExchangeError,
    pub(super) status: Option<u16>,
    /// Whether the connection ended before any byte of an answer.
    pub(super) silent: bool,
}

impl Connection {
    /// Boxed, since it goes from hand to hand.
    pub(super) fn new(stream: Box<dyn Stream>) -> Box<Self> {
        Box::new(Self { stream, input: Input::default(), head: Vec::new(), open: true, used: false })
    }

    /// Whether it can take a request now. Sees a close that has arrived.
    pub(super) fn is_open(&mut self) -> bool {
        if self.open {
            // Nobody has asked, so that whatever comes is an end, or meant for nobody.
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            let mut context = Context::from_waker(Waker::noop());
            self.open = Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer).is_pending();
        }
        self.open
    }

    /// Sends a request, whose head `write` writes, and reads the answer, of whose body at most `keep` bytes are kept.
    /// Whether the connection can be used again, [`Self::is_open`] says.
    pub(super) async fn exchange(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        keep: usize,
        watch: &mut Stopwatch,
    ) -> Result<Response, Broken> {
        watch.enter(Phase::Answer);
        watch.reused = self.used;
        watch.first_byte(None);
        self.used = true;
        // Until the answer has come to its end.
        self.open = false;
        let begun = Instant::now();
        self.head.clear();
        write(&mut self.head);
        let Self { stream, input, head, open, .. } = self;
        let mut wire = Wire { stream, sending: Sending::new(head, body) };
        let mut known = 0;
        let head = loop {
            let before = input.unread().len();
            let read = match Head::read(input.unread(), known) {
                Ok(None) => wire.more(input, MAX_HEAD).await,
                Ok(Some(head)) if head.is_interim() => {
                    input.pass(head.length);
                    known = 0;
                    continue;
                }
                Ok(Some(head)) => break head,
                Err(error) => Err(error),
            };
            known = before;
            let silent = !watch.has_first_byte();
            read.map_err(|source| Broken { source, status: None, silent })?;
            if silent {
                watch.first_byte(Some(begun.elapsed()));
            }
        };
        let status = head.status;
        watch.status = Some(status);
        watch.enter(Phase::Body);
        input.pass(head.length);
        let (mut body, mut kept, mut read) = (head.body, Vec::new(), 0);
        let ended = loop {
            let broken = |source| Broken { source, status: Some(status), silent: false };
            let piece = body.next(input.unread()).map_err(broken)?;
            read += piece.data.len();
            kept.extend_from_slice(&piece.data[..piece.data.len().min(keep - kept.len())]);
            let (used, last) = (piece.used, piece.last);
            input.pass(used);
            if last || read > MAX_READ {
                break last;
            }
            if input.unread().is_empty() {
                match wire.more(input, BUFFER).await {
                    Ok(()) => {}
                    Err(ExchangeError::Closed) if body == Body::UntilClose => break false,
                    Err(source) => return Err(broken(source)),
                }
            }
        };
        // A body that nobody wanted to the end, and bytes that nobody has asked for, leave it of no use.
        *open = ended && head.keeps && wire.sending.is_done() && input.unread().is_empty();
        input.rest();
        watch.leave();
        Ok(Response {
            status,
            retry_after: head.retry_after,
            content_type: head.content_type,
            location: head.location,
            body: kept.into(),
            truncated: read > keep,
        })
    }
}

/// Both directions at once.
struct Wire<'a> {
    stream: &'a mut Box<dyn Stream>,
    sending: Sending<'a>,
}

impl Wire<'_> {
    /// Reads something, and goes on sending meanwhile. A request that could not be sent may have an answer all the same.
    async fn more(&mut self, input: &mut Input, most: usize) -> Result<(), ExchangeError> {
        let read = poll_fn(|context| {
            self.sending.poll(self.stream, context);
            input.poll(self.stream, context, most)
        })
        .await;
        match (read, self.sending.failed.take()) {
            (Ok(1..), failed) => {
                self.sending.failed = failed;
                Ok(())
            }
            (_, Some(source)) | (Err(source), None) => Err(ExchangeError::Io(source)),
            (Ok(0), None) => Err(ExchangeError::Closed),
        }
    }
}

/// What of a request has not left yet.
struct Sending<'a> {
    parts: [&'a [u8]; 2],
    flushed: bool,
    failed: Option<io::Error>,
}

impl<'a> Sending<'a> {
    fn new(head: &'a [u8], body: &'a [u8]) -> Self {
        Self { parts: [head, body], flushed: false, failed: None }
    }

    fn is_done(&self) -> bool {
        self.flushed && self.failed.is_none()
    }

    /// Sends as much as can be sent now.
    fn poll(&mut self, stream: &mut Box<dyn Stream>, context: &mut Context<'_>) {
        while !self.flushed && self.failed.is_none() {
            let mut stream = Pin::new(&mut *stream);
            let sent = match self.parts {
                [[], []] => stream.poll_flush(context).map_ok(|()| {
                    self.flushed = true;
                    0
                }),
                [[], body] => stream.poll_write(context, body),
                parts => stream.as_mut().poll_write_vectored(context, &parts.map(IoSlice::new)),
            };
            match sent {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) if !self.flushed => self.failed = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.passed(count),
                Poll::Ready(Err(error)) => self.failed = Some(error),
            }
        }
    }

    fn passed(&mut self, mut count: usize) {
        for part in &mut self.parts {
            let of_it = count.min(part.len());
            *part = &part[of_it..];
            count -= of_it;
        }
    }
}

/// What was read and is not used yet.
#[derive(Default)]
struct Input {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    fn pass(&mut self, count: usize) {
        self.from += count;
    }

    /// Reads something behind what is unread, of which there are fewer than `most` bytes. 0: there is nothing more.
    fn poll(
        &mut self,
        stream: &mut Box<dyn Stream>,
        context: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.buffer.len() {
            self.buffer.resize((2 * self.to).clamp(BUFFER, most.max(BUFFER)), 0);
        }
        let mut room = ReadBuf::new(&mut self.buffer[self.to..]);
        ready!(Pin::new(stream).poll_read(context, &mut room))?;
        let count = room.filled().len();
        self.to += count;
        Poll::Ready(Ok(count))
    }

    /// Gives back what a long head has taken.
    fn rest(&mut self) {
        if self.buffer.len() > BUFFER && self.unread().is_empty() {
            *self = Self::default();
        }
    }
}
