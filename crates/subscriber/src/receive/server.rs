//! The listener: connections with deadlines.
//!
//! hyper has one timer for reading a head and runs it while a connection idles, too, so that it cannot tell a sender that
//! dribbles from a lane that has nothing to say. Connections are therefore driven here against a clock of three phases:
//!
//! ```text
//! accepted -> Head --head complete--> Busy --answered--> Idle --first byte--> Head
//!             header_timeout          (the handler's      idle_timeout
//!                                      own deadlines)
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

use super::limits::{Limits, MAX_HEADER_BYTES, MAX_HEADERS, READ_BUFFER_BYTES};

/// How long accepting pauses after an error such as "too many open files", which does not go away by asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer, and whether the request's body may still be on its way.
pub(crate) struct Handled {
    pub(crate) response: Response<Full<Bytes>>,
    pub(crate) body_unread: bool,
}

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when the client goes away.
    fn handle(
        self: Arc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Handled> + Send;

    /// The number of open connections has changed.
    fn connections(&self, open: usize);
}

/// Accepts until `stop`, then lets requests in flight finish until the grace is over. Returns when the last connection
/// is closed.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    let for_connections = stop.clone();
    loop {
        tokio::select! {
            biased;
            // 1. No more work once we are asked to stop; a dropped sender asks, too.
            () = stopped(&mut stop) => break,
            // 2. What has ended makes room.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            // 3. One more.
            accepted = accept(&listener, &slots) => match accepted {
                Ok((stream, peer, slot)) => {
                    let (handler, limits, stop) = (Arc::clone(&handler), limits.clone(), for_connections.clone());
                    connections.spawn(async move {
                        connection(stream, peer.ip(), handler, &limits, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        handler.connections(connections.len());
    }
    drop(listener);
    let deadline = Instant::now() + grace;
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout_at(deadline, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests were still in flight when the grace was over"
        );
    }
    connections.shutdown().await;
    handler.connections(0);
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Cancel safety: cancel safe; a permit that was taken for nobody goes back.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: IpAddr,
    handler: Arc<H>,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small: with Nagle's algorithm they would wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection was gone before it was served");
        return;
    }
    let clock = Arc::new(Clock::new(limits));
    let service = service_fn(|request: Request<Incoming>| {
        let (clock, handler) = (Arc::clone(&clock), Arc::clone(&handler));
        clock.head_is_complete();
        Box::pin(async move {
            let handled = handler.handle(peer, request).await;
            clock.answered(handled.body_unread);
            Ok::<_, Infallible>(handled.response)
        })
    });
    let io = TokioIo::new(Watched { stream, clock: Arc::clone(&clock) });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(io, service);

    let mut timer = Box::pin(sleep_until(clock.created));
    let mut stopping = false;
    let end = loop {
        let driven = std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(result.map_err(Some));
            }
            clock.poll_deadline(timer.as_mut(), cx).map(|()| Err(None))
        });
        tokio::select! {
            biased;
            end = driven => break end,
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                // Closes what idles and what has not sent a byte yet; the rest after its answer.
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match end {
        Ok(()) => {}
        Err(None) => {
            tracing::debug!(%peer, "connection closed after a deadline");
            return;
        }
        Err(Some(error)) => {
            tracing::debug!(%peer, %error, "connection ended");
            if !clock.body_unread() {
                return;
            }
        }
    }
    let mut stream = connection.into_parts().io.into_inner().stream;
    if stream.shutdown().await.is_ok() && clock.body_unread() {
        // The time is bounded, not the bytes: the faster the sender, the sooner it reads our answer.
        let _ = timeout(limits.linger, swallow(&mut stream)).await;
    }
}

async fn swallow(stream: &mut TcpStream) {
    let mut waste = vec![0; 16 * 1024];
    while matches!(stream.read(&mut waste).await, Ok(read) if read > 0) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A head is awaited or under way.
    Head,
    /// The handler has it.
    Busy,
    /// Answered; the next request has not begun.
    Idle,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    body_unread: bool,
}

/// Where a connection stands. Set by the service and the socket, read by the driver, all within one task.
#[derive(Debug)]
struct Clock {
    header_timeout: Duration,
    idle_timeout: Duration,
    created: Instant,
    state: Mutex<State>,
}

impl Clock {
    fn new(limits: &Limits) -> Self {
        let created = Instant::now();
        let state = State { phase: Phase::Head, since: created, body_unread: false };
        Self {
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            created,
            state: Mutex::new(state),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, phase: Phase) {
        self.with(|state| (state.phase, state.since) = (phase, Instant::now()));
    }

    fn head_is_complete(&self) {
        self.enter(Phase::Busy);
    }

    fn answered(&self, body_unread: bool) {
        self.enter(Phase::Idle);
        self.with(|state| state.body_unread = body_unread);
    }

    fn received(&self) {
        self.with(|state| {
            if state.phase == Phase::Idle {
                (state.phase, state.since) = (Phase::Head, Instant::now());
            }
        });
    }

    fn body_unread(&self) -> bool {
        self.with(|state| state.body_unread)
    }

    fn poll_deadline(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        let (phase, since) = self.with(|state| (state.phase, state.since));
        let deadline = match phase {
            Phase::Head => since + self.header_timeout,
            Phase::Idle => since + self.idle_timeout,
            Phase::Busy => return Poll::Pending,
        };
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.poll(cx)
    }
}

/// A socket that tells the clock when something arrives.
struct Watched {
    stream: TcpStream,
    clock: Arc<Clock>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.clock.received();
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
