//! What one would write by hand to send a table's changes as JSON batches: a replication stream, a body of what has come
//! while the request before was under way, a signature, and a confirmation after the answer. It knows one table and only
//! inserts; no retries, no timeout, no log, no journal.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rowbridge_publisher::capture::postgres::client::{Connector, connect_options};
use rowbridge_publisher::capture::postgres::pgoutput::{Cell, Message, parse};
use rowbridge_publisher::capture::postgres::walsender::{Frame, ReplicationStream, SlotOptions, Walsender};
use rowbridge_schema::config::DatabaseUrl;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::webhook::{now, secret};
use sha2::Sha256;
use tokio::net::TcpStream;

use super::super::arguments::{number, text};
use super::super::tables::name;
use super::BATCH;

const SLOT: &str = "hand";
const BATCH_BYTES: usize = 1 << 20;
/// The columns of the table, and whether JSON has their values without quotes.
const COLUMNS: [(&str, bool); 6] =
    [("id", true), ("note", false), ("amount", true), ("at", false), ("data", true), ("ok", false)];

/// Starts it, as a process of its own, and waits until it reads.
pub(super) async fn start(url: &str, port: u16) -> Daemon {
    let url = &format!("{url}?sslmode=disable");
    let args = ["sender", "--url", url, "--port", &port.to_string()].map(Into::into).to_vec();
    let program = std::env::current_exe().unwrap();
    let daemon = Daemon::spawn(DaemonOptions { name: "sender".to_owned(), program, args, env: Vec::new() });
    daemon.wait_for_line(|line| line == "reading").await;
    daemon
}

/// The process.
pub(in super::super) fn send() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = subscribe(&text("--url").unwrap()).await;
        let port: u16 = number("--port", 0);
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (sender, driver) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(driver);
        eprintln!("reading");
        pass_on(stream, sender).await;
    });
}

async fn subscribe(url: &str) -> ReplicationStream {
    let DatabaseUrl::Postgres(url) = DatabaseUrl::parse(url).unwrap() else { panic!("{url}") };
    let connector = Connector { url, tls: None };
    let client = connector.connect("hand").await.unwrap();
    client.batch_execute(&format!("CREATE PUBLICATION hand FOR TABLE public.{}", name(1))).await.unwrap();
    let mut walsender = Walsender::connect(&connect_options(&connector).unwrap()).await.unwrap();
    let slot = SlotOptions { temporary: true, ..SlotOptions::default() };
    walsender.create_slot(SLOT, slot).await.unwrap();
    walsender.start_replication(SLOT, 0, &["hand".to_owned()], &[]).await.unwrap()
}

/// Events that wait.
#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    events: usize,
    /// End of the last whole transaction among them.
    end: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events >= BATCH || self.body.len() >= BATCH_BYTES
    }

    fn take(&mut self, frame: Frame, commit_us: &mut i64) {
        let Frame::XLogData { wal_start, data, .. } = frame else { return };
        match parse(&data).unwrap() {
            Message::Begin { commit_time_us, .. } => *commit_us = commit_time_us,
            Message::Commit { end_lsn, .. } => self.end = end_lsn,
            Message::Insert { new, .. } => {
                self.body.push(if self.events == 0 { b'[' } else { b',' });
                self.events += 1;
                let head = format!(
                    "{{\"op\":\"insert\",\"table\":\"bench\",\"position\":{wal_start},\"committed_at_us\":{commit_us},"
                );
                self.body.extend_from_slice(head.as_bytes());
                let mut cells = new.cells();
                let id = cells.next();
                if let Some(Cell::Text(id)) = id {
                    self.body.extend_from_slice(format!("\"key\":{{\"id\":{id}}},\"after\":{{").as_bytes());
                }
                for ((name, bare), cell) in COLUMNS.iter().zip(id.into_iter().chain(cells)) {
                    if *name != "id" {
                        self.body.push(b',');
                    }
                    self.body.extend_from_slice(format!("\"{name}\":").as_bytes());
                    match cell {
                        Cell::Text(text) if *bare => self.body.extend_from_slice(text.as_bytes()),
                        Cell::Text("t") if *name == "ok" => self.body.extend_from_slice(b"true"),
                        Cell::Text("f") if *name == "ok" => self.body.extend_from_slice(b"false"),
                        Cell::Text(text) => serde_json::to_writer(&mut self.body, text).unwrap(),
                        _ => self.body.extend_from_slice(b"null"),
                    }
                }
                self.body.extend_from_slice(b"}}");
            }
            _ => {}
        }
    }
}

async fn pass_on(mut stream: ReplicationStream, mut sender: SendRequest<Full<Bytes>>) {
    let mut waiting = Batch::default();
    let mut commit_us = 0;
    let mut number = 0_u64;
    loop {
        while waiting.events == 0 {
            waiting.take(stream.next().await.unwrap(), &mut commit_us);
        }
        while !waiting.is_full() {
            let Some(frame) = stream.try_next().unwrap() else { break };
            waiting.take(frame, &mut commit_us);
        }
        number += 1;
        let batch = std::mem::take(&mut waiting);
        let request = sender.send_request(request(batch.body, number));
        tokio::pin!(request);
        let response = loop {
            tokio::select! {
                response = &mut request => break response.unwrap(),
                frame = stream.next(), if !waiting.is_full() => waiting.take(frame.unwrap(), &mut commit_us),
            }
        };
        assert!(response.status().is_success());
        response.into_body().collect().await.unwrap();
        if batch.end > 0 {
            stream.standby_status(batch.end, batch.end, false).await.unwrap();
        }
    }
}

fn request(mut body: Vec<u8>, number: u64) -> hyper::Request<Full<Bytes>> {
    body.push(b']');
    let secret = secret(1);
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, timestamp) = (format!("hand:{number}"), now().to_string());
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body] {
        mac.update(part);
    }
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    hyper::Request::post("/sink")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}
