//! A subscriber on loopback, and a client that can misbehave, because it writes its bytes by hand.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use rowbridge_schema::config::{DatabaseUrl, ReceiveConfig, SubscriberConfig, TargetConfig};
use rowbridge_schema::signature::{SignedHeaders, sign, verify};
use rowbridge_schema::wire::{
    Answer, BlockHead, DeliveryHead, Op, RunKind, RunWriter, Step, encode_delivery,
};
use rowbridge_schema::{Column, Dialect, Position, SigningKey, SourceId, TableDef, TableName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fake::FakeTarget;
use crate::{Limits, SecretsHandle, Subscriber, TargetHealth};

/// A value in every row: it must not show up in any log.
pub(super) const ROW_VALUE: &str = "the-customer-is-unhappy";
pub(super) const MAX_BODY: u64 = 1 << 20;

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(super) fn at(offset: u64) -> Position {
    Position::new(1, offset, 1)
}

pub(super) fn head(prev: Option<u64>, to: Option<u64>) -> DeliveryHead {
    DeliveryHead {
        rowbridge: 1,
        stream: "shop".parse().unwrap(),
        endpoint: "copy".parse().unwrap(),
        source: SourceId("pg-1".into()),
        prev: prev.map(|prev| if prev == 0 { Position::ZERO } else { at(prev) }),
        to: to.map(at),
        open: false,
        split: false,
    }
}

/// One insert at each of the offsets.
pub(super) fn body(head: &DeliveryHead, offsets: &[u64]) -> Vec<u8> {
    let column = |name: &str| Column::new(name, "text");
    let def = TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: vec![column("id"), column("note")],
        key: vec![0],
        types: vec![],
        options: vec![],
    };
    let kind = RunKind {
        table: def.id(),
        table_index: 0,
        op: Op::Insert,
        old: &[],
        new: &[0, 1],
        maybe_missing: false,
    };
    let micros = i64::try_from(now()).unwrap() * 1_000_000 - 2_000_000;
    let blocks: Vec<(BlockHead, Vec<u8>)> = offsets
        .iter()
        .map(|&offset| {
            let mut writer = RunWriter::new();
            writer.row(kind, 1, |row| {
                row.text("1");
                row.text(ROW_VALUE);
            });
            let position = Position { epoch: head.to.unwrap().epoch, ..at(offset) };
            let block =
                BlockHead { first: position, last: position, at: micros, step: Step::Ordinal, chunk: None };
            (block, writer.finish().0)
        })
        .collect();
    let pieces: Vec<[&[u8]; 1]> = blocks.iter().map(|(_, runs)| [runs.as_slice()]).collect();
    let blocks = blocks.iter().zip(&pieces).map(|((block, _), piece)| (block, &piece[..]));
    let json = def.to_json();
    encode_delivery(head, [(def.id(), json.as_str())].into_iter(), blocks, 0)
}

/// A POST in the making.
#[derive(Clone)]
pub(super) struct Post {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Post {
    pub(super) fn signed_at(key: &SigningKey, body: Vec<u8>, timestamp: u64) -> Self {
        let id = "rwb_0123";
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", sign(std::slice::from_ref(key), id, timestamp, &body)),
        ];
        Self { method: "POST", path: "/in/shop", headers, body }
    }

    pub(super) fn signed(key: &SigningKey, body: Vec<u8>) -> Self {
        Self::signed_at(key, body, now())
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    /// The head; `framing` is its last line, such as `content-length: 5`.
    pub(super) fn head(&self, framing: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(framing);
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head(&format!("content-length: {}", self.body.len()));
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The answer, whose signature under the request's id must hold.
    pub(super) fn answer(&self, keys: &[SigningKey]) -> Answer {
        assert_eq!(self.header("webhook-id"), Some("rwb_0123"), "{self:?}");
        let signed = SignedHeaders {
            id: "rwb_0123",
            timestamp: self.header("webhook-timestamp").unwrap(),
            signature: self.header("webhook-signature").unwrap(),
        };
        assert_eq!(verify(keys, signed, &self.body, now(), 5), Ok(()));
        let answer: Answer = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(answer.formats, ["bridge"]);
        assert_eq!(answer.encodings, ["zstd", "gzip"]);
        assert_eq!(answer.max_body, Some(MAX_BODY));
        answer
    }
}

/// Reads one reply. `None` if the connection was closed instead.
pub(super) async fn read_reply(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let status = head[9..12].parse().unwrap();
            let mut reply = Reply { status, head, body: bytes[end + 4..].to_vec() };
            let length: usize = reply.header("content-length").unwrap_or("0").parse().unwrap();
            while reply.body.len() < length {
                let mut more = vec![0; length - reply.body.len()];
                let read = stream.read(&mut more).await.unwrap();
                assert_ne!(read, 0, "cut reply");
                reply.body.extend_from_slice(&more[..read]);
            }
            return Some(reply);
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => {
                assert!(bytes.is_empty(), "cut reply");
                return None;
            }
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    }
}

pub(super) struct Harness {
    pub(super) addr: SocketAddr,
    pub(super) target: FakeTarget,
    pub(super) key: SigningKey,
    pub(super) registry: Registry,
    pub(super) health: watch::Receiver<TargetHealth>,
    pub(super) secrets: SecretsHandle,
    pub(super) config: SubscriberConfig,
    pub(super) stop: watch::Sender<bool>,
    pub(super) running: JoinHandle<()>,
}

pub(super) async fn start() -> Harness {
    start_with(FakeTarget::new(), Limits::default(), |_| {}).await
}

pub(super) async fn start_with(
    target: FakeTarget,
    limits: Limits,
    change: impl FnOnce(&mut SubscriberConfig),
) -> Harness {
    let key = SigningKey::generate();
    let receive = ReceiveConfig {
        path: "/in/shop".to_owned(),
        stream: "shop".parse().unwrap(),
        secrets: vec![key.clone()],
        allow_from: None,
        max_body: MAX_BODY,
        tolerance: Duration::from_secs(300),
    };
    let mut config = SubscriberConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        trusted_proxies: vec![],
        target: TargetConfig { database: DatabaseUrl::Sqlite("unused".into()), create: true },
        receives: vec![receive],
        maps: vec![],
    };
    change(&mut config);
    let registry = Registry::new();
    let grace = Duration::from_secs(3);
    let subscriber = Subscriber::bind(&config, target.clone(), &registry, limits, grace).await.unwrap();
    let (addr, health, secrets) = (subscriber.local_addr(), subscriber.health(), subscriber.secrets());
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(subscriber.run(stopped));
    Harness { addr, target, key, registry, health, secrets, config, stop, running }
}

impl Harness {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    pub(super) async fn send(&self, post: &Post) -> Reply {
        let exchange = async {
            let mut stream = self.connect().await;
            stream.write_all(&post.bytes()).await.unwrap();
            read_reply(&mut stream).await.expect("an answer")
        };
        timeout(Duration::from_secs(20), exchange).await.expect("an answer in time")
    }

    pub(super) fn post(&self, body: Vec<u8>) -> Post {
        Post::signed(&self.key, body)
    }

    /// Sends a signed delivery with one insert at each of the offsets.
    pub(super) async fn deliver(&self, head: &DeliveryHead, offsets: &[u64]) -> Reply {
        self.send(&self.post(body(head, offsets))).await
    }

    pub(super) fn answer(&self, reply: &Reply) -> Answer {
        reply.answer(std::slice::from_ref(&self.key))
    }

    /// The sum over all series of a counter, or of a histogram's counts, that carry `label`.
    pub(super) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|f| f.get_metric());
        metrics
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label))
            .map(|metric| metric.get_counter().get_value() + metric.get_histogram().get_sample_count() as f64)
            .sum()
    }
}

/// Waits until a condition holds that no notification announces.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}
