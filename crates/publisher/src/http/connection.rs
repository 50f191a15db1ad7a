//! One connection and the exchanges on it.
//!
//! Nothing drives a connection but the exchange that uses it, in its own task: a request needs no switch to another task
//! and back, and dropping the exchange closes the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::drive::Drive;
use super::request::Response;
use super::timing::{Phase, Stopwatch};

/// Most bytes of a body that are read; beyond it the connection is closed.
pub(super) const MAX_READ: usize = 64 * 1024;
/// Most bytes of a body that are kept of an answer.
pub(super) const MAX_KEPT: usize = 8 * 1024;

/// What bytes travel on: TCP, or TLS over it, through a proxy or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Driver = http1::Connection<TokioIo<Metered>, Full<Bytes>>;

/// An open connection with at most one exchange at a time.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Driver>,
    drive: Drive,
    meter: Arc<Meter>,
    /// Whether an exchange came before.
    pub(super) used: bool,
}

/// An exchange that did not come to its end.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) source: hyper::Error,
    pub(super) status: Option<u16>,
    /// Whether the connection ended before any byte of an answer.
    pub(super) silent: bool,
}

impl Connection {
    /// Boxed, since it is large and goes from hand to hand.
    pub(super) async fn open(stream: Box<dyn Stream>) -> Result<Box<Self>, hyper::Error> {
        let meter = Arc::new(Meter { opened: Instant::now(), first: AtomicU64::new(0) });
        let io = TokioIo::new(Metered { stream, meter: Arc::clone(&meter) });
        let (sender, driver) = http1::Builder::new().handshake(io).await?;
        Ok(Box::new(Self { sender, driver: Some(driver), drive: Drive::new(), meter, used: false }))
    }

    /// Whether it can take a request now. Sees a close that has arrived.
    pub(super) fn is_open(&mut self) -> bool {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.driver = None;
        }
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends one request and reads the answer, of whose body at most `keep` bytes are kept. Whether the connection can be
    /// used again, [`Self::is_open`] says.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<Full<Bytes>>,
        keep: usize,
        watch: &mut Stopwatch,
    ) -> Result<Response, Broken> {
        watch.enter(Phase::Answer);
        watch.reused = self.used;
        watch.first_byte(None);
        let begun = self.meter.reset();
        self.used = true;
        let answer = self.drive.run(&mut self.driver, self.sender.try_send_request(request)).await;
        watch.first_byte(self.meter.first_byte().map(|at| at.saturating_sub(begun)));
        let response = answer.map_err(|error| {
            let source = error.into_error();
            // Closed, not garbled: the peer sent nothing at all.
            let silent = self.meter.first_byte().is_none() && !source.is_user();
            Broken { source, status: None, silent }
        })?;
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        watch.status = Some(status);
        watch.enter(Phase::Body);
        let (mut kept, mut read) = (Vec::new(), 0);
        while !body.is_end_stream()
            && let Some(frame) = self.drive.run(&mut self.driver, body.frame()).await
        {
            let frame = frame.map_err(|source| Broken { source, status: Some(status), silent: false })?;
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            read += data.len();
            kept.extend_from_slice(&data[..data.len().min(keep - kept.len())]);
            if read > MAX_READ {
                self.driver = None;
                break;
            }
        }
        watch.leave();
        Ok(Response::new(status, &head.headers, kept.into(), read > keep))
    }
}

/// When the first byte of an answer came, to the nanosecond since the connection was opened; 0 is not yet.
struct Meter {
    opened: Instant,
    first: AtomicU64,
}

impl Meter {
    /// Begins anew; the present moment since the opening.
    fn reset(&self) -> Duration {
        self.first.store(0, Ordering::Relaxed);
        self.opened.elapsed()
    }

    fn first_byte(&self) -> Option<Duration> {
        Some(self.first.load(Ordering::Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }

    fn read(&self) {
        if self.first.load(Ordering::Relaxed) == 0 {
            let nanos = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
            self.first.store(nanos, Ordering::Relaxed);
        }
    }
}

/// A stream that notes when something is read.
struct Metered {
    stream: Box<dyn Stream>,
    meter: Arc<Meter>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.meter.read();
        }
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
