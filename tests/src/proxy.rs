//! A TCP proxy that breaks connections on purpose, switched while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::port::free_port;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Pass,
    /// Nobody listens: new connections are refused and present ones are reset.
    Refuse,
    /// Half-open: connections are accepted and kept, and no byte moves, as behind a firewall that forgot a state.
    /// Held bytes move on with the next [`Mode::Pass`].
    Stall,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server behind the proxy.
    Up,
    /// From the server to the client.
    Down,
}

/// What passed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted since the start.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Bytes forwarded to the server.
    pub up_bytes: u64,
    /// Bytes forwarded to the client.
    pub down_bytes: u64,
    /// Connections reset by [`Proxy::cut`], [`Proxy::cut_after`] or [`Mode::Refuse`].
    pub cuts: u64,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    mode: Mode,
    upstream: SocketAddr,
    delay: [Duration; 2],
    bytes_per_second: [Option<u64>; 2],
    /// Grows with every cut and every refusal; a connection that was accepted under a smaller one is reset.
    cut: u64,
}

#[derive(Debug)]
struct Shared {
    settings: watch::Sender<Settings>,
    /// Bytes that may still pass in a direction before the connection is reset; used once.
    allowance: Mutex<[Option<u64>; 2]>,
    connections: AtomicU64,
    open: AtomicU64,
    cuts: AtomicU64,
    bytes: [AtomicU64; 2],
    changed: watch::Sender<()>,
    listening: watch::Sender<bool>,
}

/// A proxy on 127.0.0.1. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and forwards to `upstream`, which need not be there yet.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let port = free_port();
        let settings = Settings {
            mode: Mode::Pass,
            upstream,
            delay: [Duration::ZERO; 2],
            bytes_per_second: [None; 2],
            cut: 0,
        };
        let shared = Arc::new(Shared {
            settings: watch::Sender::new(settings),
            allowance: Mutex::new([None; 2]),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            changed: watch::Sender::new(()),
            listening: watch::Sender::new(true),
        });
        // Bound here, so that the first connection of the test cannot come too early.
        let listener = bind(port).unwrap_or_else(|error| panic!("cannot listen on port {port}: {error}"));
        let task = crate::background().spawn(accept(port, listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    /// As [`Self::start`] towards a port of this machine.
    #[must_use]
    pub fn to_port(port: u16) -> Self {
        Self::start((Ipv4Addr::LOCALHOST, port).into())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what happens to connections; once this returns, new ones are refused or accepted accordingly.
    pub async fn set_mode(&self, mode: Mode) {
        self.shared.settings.send_modify(|settings| {
            settings.mode = mode;
            // Counted like a cut: a refusal that is over before a connection's task looks has happened all the same.
            settings.cut += u64::from(mode == Mode::Refuse);
        });
        let listening = mode != Mode::Refuse;
        let _ = self.shared.listening.subscribe().wait_for(|now| *now == listening).await;
    }

    /// Resets all connections that [`Stats::connections`] has counted; new ones follow the mode. One that the kernel has
    /// taken and the proxy has not is new: wait until it is counted where that matters.
    pub fn cut(&self) {
        self.shared.settings.send_modify(|settings| settings.cut += 1);
    }

    /// Lets `bytes` more pass in a direction, over all connections, then resets the connection that wants to move the
    /// next one, once. `(Direction::Down, 0)` loses the answer to the next request, `(Direction::Up, n)` cuts a body.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.allowance.lock().unwrap()[direction as usize] = Some(bytes);
    }

    /// Every byte arrives this much later; order stays.
    pub fn set_delay(&self, direction: Direction, delay: Duration) {
        self.shared.settings.send_modify(|settings| settings.delay[direction as usize] = delay);
    }

    /// Limits the speed per connection, in bytes per second; `None` lifts the limit.
    pub fn set_throttle(&self, direction: Direction, bytes_per_second: Option<u64>) {
        self.shared.settings.send_modify(|s| s.bytes_per_second[direction as usize] = bytes_per_second);
    }

    /// New connections go to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.settings.send_modify(|settings| settings.upstream = upstream);
    }

    /// What passed so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            connections: shared.connections.load(Relaxed),
            open: shared.open.load(Relaxed),
            up_bytes: shared.bytes[Direction::Up as usize].load(Relaxed),
            down_bytes: shared.bytes[Direction::Down as usize].load(Relaxed),
            cuts: shared.cuts.load(Relaxed),
        }
    }

    /// Waits until the numbers satisfy `wanted`, for example until a cut has happened.
    ///
    /// # Panics
    /// At the deadline, with the numbers.
    pub async fn wait_stats(&self, deadline: Duration, wanted: impl Fn(&Stats) -> bool) -> Stats {
        let mut changed = self.shared.changed.subscribe();
        let ends = Instant::now() + deadline;
        loop {
            changed.borrow_and_update();
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            if tokio::time::timeout_at(ends, changed.changed()).await.is_err() {
                panic!("the proxy did not see what the test waits for in {deadline:?}: {stats:?}");
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

fn bind(port: u16) -> io::Result<std::net::TcpListener> {
    // The standard library sets SO_REUSEADDR, which lets us listen again beside connections in TIME_WAIT.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(port: u16, first: std::net::TcpListener, shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    let mut listener = TcpListener::from_std(first).ok();
    loop {
        let refuse = settings.borrow_and_update().mode == Mode::Refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = bind(port).and_then(TcpListener::from_std).ok();
        }
        shared.listening.send_replace(listener.is_some());
        let next = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None if refuse => std::future::pending().await,
                None => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(io::ErrorKind::AddrInUse.into())
                }
            }
        };
        tokio::select! {
            biased;
            // The owner keeps a sender in `shared`, so this never fails.
            _ = settings.changed() => {}
            accepted = next => {
                if let Ok((client, _)) = accepted {
                    let shared = Arc::clone(&shared);
                    // Looked at before the connection is counted: whoever has seen it counted may cut it, however
                    // late its task comes to run.
                    let cut_at_start = shared.settings.borrow().cut;
                    shared.connections.fetch_add(1, Relaxed);
                    shared.open.fetch_add(1, Relaxed);
                    shared.changed.send_replace(());
                    tokio::spawn(async move {
                        if serve(client, cut_at_start, &shared).await {
                            shared.cuts.fetch_add(1, Relaxed);
                        }
                        shared.open.fetch_sub(1, Relaxed);
                        shared.changed.send_replace(());
                    });
                }
            }
        }
    }
}

/// Serves one connection that was accepted when so many cuts had been made; true when it was cut.
async fn serve(mut client: TcpStream, cut_at_start: u64, shared: &Shared) -> bool {
    let mut settings = shared.settings.subscribe();
    let cut = async {
        let _ = settings.wait_for(|s| s.cut != cut_at_start || s.mode == Mode::Refuse).await;
    };
    tokio::pin!(cut);

    let connect = async {
        passing(shared).await;
        let upstream = shared.settings.borrow().upstream;
        TcpStream::connect(upstream).await
    };
    let mut server = tokio::select! {
        () = &mut cut => {
            let _ = client.set_zero_linger();
            return true;
        }
        connected = connect => match connected {
            Ok(server) => server,
            Err(_) => {
                // The server is away: the client sees a reset, the nearest thing to a refused connection.
                let _ = client.set_zero_linger();
                return false;
            }
        },
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);

    let was_cut = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let both = async {
            tokio::try_join!(
                pump(client_read, server_write, Direction::Up, shared),
                pump(server_read, client_write, Direction::Down, shared)
            )
        };
        tokio::select! {
            () = &mut cut => true,
            // An error on either side resets both, so that a broken connection looks broken.
            ended = both => match ended {
                Ok(_) => return false,
                Err(End::Cut) => true,
                Err(End::Broken) => {
                    // Behind a stall nobody learns that the other side is gone.
                    passing(shared).await;
                    false
                }
            },
        }
    };
    let _ = client.set_zero_linger();
    let _ = server.set_zero_linger();
    was_cut
}

enum End {
    Cut,
    Broken,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Returns once bytes may move.
async fn passing(shared: &Shared) {
    let _ = shared.settings.subscribe().wait_for(|settings| settings.mode != Mode::Stall).await;
}

/// Moves bytes one way until the end of the stream, which it passes on.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    direction: Direction,
    shared: &Shared,
) -> Result<(), End> {
    // Chunks wait here with the time they are due, so a delay adds latency without limiting throughput.
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let read = async move {
        loop {
            passing(shared).await;
            let mut chunk = vec![0; 16 * 1024];
            let count = from.read(&mut chunk).await?;
            if count == 0 {
                return Ok::<(), End>(());
            }
            chunk.truncate(count);
            let at = Instant::now() + shared.settings.borrow().delay[direction as usize];
            if queue.send((at, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((at, chunk)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                passing(shared).await;
                let rate = shared.settings.borrow().bytes_per_second[direction as usize];
                // A twentieth of a second's worth at a time, so that a slow body really trickles.
                let slice = rate.map_or(rest.len(), |rate| rest.len().min((rate / 20).max(1) as usize));
                let (allowed, cut) = take_allowance(shared, direction, slice);
                to.write_all(&rest[..allowed]).await?;
                shared.bytes[direction as usize].fetch_add(allowed as u64, Relaxed);
                shared.changed.send_replace(());
                if cut {
                    to.flush().await?;
                    return Err(End::Cut);
                }
                rest = &rest[allowed..];
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs_f64(allowed as f64 / rate.max(1) as f64)).await;
                }
            }
        }
        passing(shared).await;
        to.shutdown().await?;
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// How many of `wanted` bytes may pass, and whether the connection is cut after them.
fn take_allowance(shared: &Shared, direction: Direction, wanted: usize) -> (usize, bool) {
    let mut allowances = shared.allowance.lock().unwrap();
    let allowance = &mut allowances[direction as usize];
    match *allowance {
        None => (wanted, false),
        Some(left) if left >= wanted as u64 => {
            *allowance = Some(left - wanted as u64);
            (wanted, false)
        }
        Some(left) => {
            *allowance = None;
            (left as usize, true)
        }
    }
}
