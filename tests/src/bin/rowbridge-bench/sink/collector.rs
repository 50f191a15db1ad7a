//! The receiver of the batches, a process of its own: takes everything, and when all events are there says so, and then
//! whether each of them came once and in order. It verifies no signature, so that it is never what is measured.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::arguments::number;
use super::PATIENCE;

/// A collector that runs.
pub(super) struct Collector {
    daemon: Daemon,
    port: u16,
}

/// What it has taken.
pub(super) struct Seen {
    /// How long ago the last event came.
    pub(super) ago: Duration,
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

impl Collector {
    /// Starts one that waits for so many events.
    pub(super) async fn start(events: u64) -> Self {
        let args = vec!["collector".into(), "--events".into(), events.to_string().into()];
        let program = std::env::current_exe().unwrap();
        let daemon =
            Daemon::spawn(DaemonOptions { name: "collector".to_owned(), program, args, env: Vec::new() });
        let line = daemon.wait_for_line(|line| line.starts_with("port ")).await;
        Self { daemon, port: line["port ".len()..].parse().unwrap() }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the last event. None may be missing, repeated or out of order.
    pub(super) async fn seen(&self) -> Seen {
        let line = self.daemon.wait_for_line_since(0, PATIENCE, |line| line.starts_with('{')).await;
        let seen: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(seen["disorder"], 0, "events were repeated or out of order: {line}");
        let ended = seen["ended_us"].as_u64().unwrap();
        Seen {
            ago: Duration::from_micros(now_us().saturating_sub(ended)),
            requests: seen["requests"].as_u64().unwrap(),
            bytes: seen["bytes"].as_u64().unwrap(),
        }
    }
}

fn now_us() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

#[derive(Default)]
struct State {
    bodies: Vec<Bytes>,
    events: usize,
    told: bool,
}

/// The process: one thread, as a small service would have.
pub(in super::super) fn serve() {
    let wanted = number::<usize>("--events", 1);
    let state = Rc::new(RefCell::new(State::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        eprintln!("port {}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let state = Rc::clone(&state);
            let service = service_fn(move |request| answer(request, Rc::clone(&state), wanted));
            tokio::task::spawn_local(async move {
                // Whoever closes the connection, even in the middle, ends it and nothing else.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

async fn answer(
    request: Request<Incoming>,
    state: Rc<RefCell<State>>,
    wanted: usize,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let body = body.to_bytes();
        let mut state = state.borrow_mut();
        // Counted now, read later: what the sender does is to be measured.
        state.events += body.windows(KEY.len()).filter(|window| *window == KEY).count();
        state.bodies.push(body);
        if state.events >= wanted && !state.told {
            state.told = true;
            report(&state, now_us());
        }
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What each event has once.
const KEY: &[u8] = b"\"key\":{\"id\":";

fn report(state: &State, ended_us: u64) {
    let began = Instant::now();
    let mut last = 0;
    let mut disorder = 0;
    for body in &state.bodies {
        let events: Vec<Value> = serde_json::from_slice(body).unwrap();
        for event in events {
            let data = if event["data"].is_object() { &event["data"] } else { &event };
            let id = data["key"]["id"].as_i64().unwrap();
            assert_eq!(data["after"]["id"], id, "{event}");
            disorder += usize::from(id != last + 1);
            last = id;
        }
    }
    let bytes: usize = state.bodies.iter().map(Bytes::len).sum();
    let report = json!({
        "disorder": disorder,
        "requests": state.bodies.len(),
        "bytes": bytes,
        "ended_us": ended_us,
        "read_ms": began.elapsed().as_millis() as u64,
    });
    eprintln!("{report}");
}
