//! The receiver of the webhook measurements, a process of its own: takes everything, checks order and loss, and says when
//! the counted requests began and ended. It verifies no signature, so that it is never what is measured.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rowbridge_tests::process::{Daemon, DaemonOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::arguments::number;

/// How long a measurement may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// A receiver that runs.
pub(super) struct Receiver {
    daemon: Daemon,
    port: u16,
}

/// What a receiver has seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Requests per second, without those at the beginning that were not to count.
    pub(super) per_second: f64,
    /// Connections that carried them.
    pub(super) connections: usize,
    /// Bytes of a body, on average.
    pub(super) body_bytes: usize,
}

impl Receiver {
    /// Starts one that ends after `requests`, of which the first `skipped` do not count.
    pub(super) async fn start(requests: usize, skipped: usize) -> Self {
        let number = |number: usize| number.to_string().into();
        let args =
            vec!["receiver".into(), "--requests".into(), number(requests), "--skip".into(), number(skipped)];
        let program = std::env::current_exe().unwrap();
        let daemon =
            Daemon::spawn(DaemonOptions { name: "receiver".to_owned(), program, args, env: Vec::new() });
        let line = daemon.wait_for_line(|line| line.starts_with("port ")).await;
        Self { daemon, port: line["port ".len()..].parse().unwrap() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the last request. Nothing may be missing, repeated or out of order. It answers as long as `self` lives.
    pub(super) async fn seen(&self) -> Seen {
        let line = self.daemon.wait_for_line_since(0, PATIENCE, |line| line.starts_with('{')).await;
        let seen: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(seen["disorder"], 0, "requests were repeated or out of order: {line}");
        Seen {
            per_second: seen["per_second"].as_f64().unwrap(),
            connections: seen["connections"].as_u64().unwrap() as usize,
            body_bytes: seen["body_bytes"].as_u64().unwrap() as usize,
        }
    }
}

/// What a path has taken.
#[derive(Default)]
struct Place {
    last: Vec<u8>,
    of_key: HashMap<Vec<u8>, Vec<u8>>,
    all: HashSet<Vec<u8>>,
}

impl Place {
    /// Whether a request comes as the path's first part promises: in order, in order for its key, or once.
    fn take(&mut self, path: &[u8], id: &[u8], body: &[u8]) -> bool {
        let last = if path.starts_with(b"/strict/") {
            &mut self.last
        } else if path.starts_with(b"/key/") {
            self.of_key.entry(key(body).to_vec()).or_default()
        } else {
            return self.all.insert(id.to_vec());
        };
        let follows = last.as_slice() < id;
        last.clear();
        last.extend_from_slice(id);
        follows
    }
}

struct State {
    places: HashMap<Vec<u8>, Place>,
    wanted: usize,
    skipped: usize,
    count: usize,
    disorder: usize,
    connections: usize,
    body_bytes: usize,
    began: Option<Instant>,
}

impl State {
    fn take(&mut self, path: &[u8], id: &[u8], body: &[u8]) {
        if !self.places.contains_key(path) {
            self.places.insert(path.to_vec(), Place::default());
        }
        let in_order = self.places.get_mut(path).unwrap().take(path, id, body);
        self.disorder += usize::from(!in_order);
        self.count += 1;
        self.body_bytes += body.len();
        if self.count > self.skipped {
            self.began.get_or_insert_with(Instant::now);
        }
        if self.count == self.wanted {
            let seconds = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
            let report = json!({
                "per_second": (self.wanted - self.skipped - 1) as f64 / seconds,
                "disorder": self.disorder,
                "connections": self.connections,
                "body_bytes": self.body_bytes / self.count,
            });
            eprintln!("{report}");
        }
    }
}

/// The process: one thread, as a small service would have.
pub(in super::super) fn serve() {
    let state = State {
        places: HashMap::new(),
        wanted: number("--requests", 1),
        skipped: number("--skip", 0),
        count: 0,
        disorder: 0,
        connections: 0,
        body_bytes: 0,
        began: None,
    };
    let state = Rc::new(RefCell::new(state));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        eprintln!("port {}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            state.borrow_mut().connections += 1;
            let state = Rc::clone(&state);
            tokio::task::spawn_local(async move {
                // Whoever closes the connection, even in the middle, ends it and nothing else.
                let _ = answer(stream, &state).await;
            });
        }
    });
}

async fn answer(mut stream: TcpStream, state: &RefCell<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        while let Some(request) = Request::read(&buffer) {
            state.borrow_mut().take(request.path, request.id, request.body);
            let end = request.end;
            buffer.drain(..end);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

struct Request<'a> {
    path: &'a [u8],
    id: &'a [u8],
    body: &'a [u8],
    end: usize,
}

impl<'a> Request<'a> {
    /// The request at the beginning of `bytes`, if all of it is there.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let head = find(bytes, b"\r\n\r\n")?;
        let mut lines = bytes[..head].split(|byte| *byte == b'\n');
        let path = lines.next()?.split(|byte| *byte == b' ').nth(1)?;
        let (mut length, mut id) = (0, &b""[..]);
        for line in lines {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value).ok()?.parse().ok()?;
            } else if name.eq_ignore_ascii_case(b"webhook-id") {
                id = value;
            }
        }
        let end = head + 4 + length;
        Some(Self { path, id, body: bytes.get(head + 4..end)?, end })
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The key of an event of format `json`, as it is written there.
fn key(body: &[u8]) -> &[u8] {
    const KEY: &[u8] = b"\"key\":{\"id\":";
    let from = find(body, KEY).expect("an event has a key") + KEY.len();
    let length = body[from..].iter().position(|byte| *byte == b'}').unwrap();
    &body[from..from + length]
}
