//! Connections, until somebody asks for an end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::receive::{Closed, Receiver};

/// How long accepting pauses after an error such as "too many open files", which does not go away by asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a head, and between two requests: above the 10 s between two empty deliveries of an idle lane.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long the rest of a body is swallowed whose answer was sent early: closed at once, the kernel would send a reset
/// that can overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// As the subscriber's.
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Accepts until `stop`, then lets requests in flight finish until the grace is over.
pub(super) async fn serve(
    listener: TcpListener,
    receiver: Arc<Receiver>,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let for_connections = stop.clone();
    loop {
        let accepted = async {
            // Never closed, so there is a permit sooner or later.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (accepted, slot) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let (receiver, stop) = (Arc::clone(&receiver), for_connections.clone());
                    connections.spawn(async move {
                        connection(stream, peer, receiver, stop).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    receiver: Arc<Receiver>,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small: with Nagle's algorithm they would wait for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let body_unread = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: http::Request<Incoming>| {
        let (receiver, body_unread) = (Arc::clone(&receiver), Arc::clone(&body_unread));
        Box::pin(async move {
            let answered = receiver.receive(peer, request).await?;
            body_unread.store(answered.body_unread, Ordering::Relaxed);
            Ok::<_, Closed>(answered.response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = stopped(&mut stop), if !stopping => {
                stopping = true;
                // Closes what idles; the rest after its answer.
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let unread = body_unread.load(Ordering::Relaxed);
    if ended.is_err() && !unread {
        // An answer that was not to be, a client that went away, a head that never came: closed as it is.
        return;
    }
    let mut stream = connection.into_parts().io.into_inner();
    if stream.shutdown().await.is_ok() && unread {
        let _ = timeout(LINGER, swallow(&mut stream)).await;
    }
}

async fn swallow(stream: &mut TcpStream) {
    let mut waste = vec![0; 16 * 1024];
    while matches!(stream.read(&mut waste).await, Ok(read) if read > 0) {}
}
