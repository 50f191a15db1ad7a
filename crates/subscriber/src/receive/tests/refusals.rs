//! What strangers and broken senders get.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rowbridge_schema::SigningKey;
use rowbridge_schema::signature::sign;
use rowbridge_schema::wire::AnswerStatus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fake::FakeTarget;
use super::harness::{
    Harness, MAX_BODY, Post, ROW_VALUE, body, eventually, head, now, read_reply, start, start_with,
};
use crate::Limits;

fn good(harness: &Harness) -> Post {
    harness.post(body(&head(Some(0), Some(10)), &[10]))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_sign_gets_one_text_and_changes_nothing() {
    let harness = start().await;
    let plain = body(&head(Some(0), Some(10)), &[10]);
    let mut changed = good(&harness);
    let last = changed.body.len() - 3;
    changed.body[last] ^= 1;
    let reply = harness.send(&Post::signed(&SigningKey::generate(), plain.clone())).await;
    assert_eq!(reply.status, 401);
    let others = [
        changed,
        Post::signed_at(&harness.key, plain.clone(), now() - 400),
        Post::signed_at(&harness.key, plain.clone(), now() + 400),
        good(&harness).with("webhook-timestamp", "soon"),
        good(&harness).with("webhook-id", "another"),
        good(&harness).with("webhook-signature", "v1,AAAA"),
        good(&harness).without("webhook-id"),
        good(&harness).without("webhook-timestamp"),
        good(&harness).without("webhook-signature"),
    ];
    for post in others {
        let other = harness.send(&post).await;
        assert_eq!((other.status, other.text()), (401, reply.text()));
        assert_eq!(other.header("webhook-signature"), None);
    }
    assert!(harness.target.applies().is_empty());
    assert_eq!(harness.metric("rowbridge_receive_requests_total", "401"), 10.0);
    assert_eq!(harness.send(&good(&harness)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_method_come_before_everything_else() {
    let harness = start_with(FakeTarget::new(), Limits::default(), |config| {
        config.receives[0].allow_from = Some(vec![]);
    })
    .await;
    for path in ["/", "/in/shop/", "/in/shopX", "/in/SHOP"] {
        assert_eq!(harness.send(&Post { path, ..good(&harness) }).await.status, 404, "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = harness.send(&Post { method, body: vec![], ..good(&harness) }).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(harness.send(&good(&harness)).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_json_in_a_known_encoding_is_read() {
    let harness = start().await;
    for content_type in ["text/plain", "application/jsonp", ""] {
        let post = good(&harness).with("content-type", content_type);
        assert_eq!(harness.send(&post).await.status, 415, "{content_type}");
    }
    assert_eq!(harness.send(&good(&harness).without("content-type")).await.status, 415);
    for encoding in ["br", "gzip, zstd", "zstd, identity"] {
        let reply = harness.send(&good(&harness).with("content-encoding", encoding)).await;
        assert_eq!((reply.status, reply.header("accept-encoding")), (415, Some("zstd, gzip")), "{encoding}");
    }
    let post = good(&harness).with("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(harness.send(&post.with("content-encoding", "identity")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_refused_before_it_is_sent() {
    let harness = start().await;
    // Announced: the answer comes although no byte of the body has been sent.
    let mut stream = harness.connect().await;
    stream.write_all(&good(&harness).head("content-length: 104857600")).await.unwrap();
    let reply = read_reply(&mut stream).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));

    // Chunked: the answer comes with the first byte too many, and the rest is not kept.
    let mut stream = harness.connect().await;
    stream.write_all(&good(&harness).head("transfer-encoding: chunked")).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
    for _ in 0..=MAX_BODY / 65536 {
        stream.write_all(&chunk).await.unwrap();
    }
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 413);

    // A sender that writes all of its 100 MB before it reads still finds the answer and no reset.
    let mut stream = harness.connect().await;
    stream.write_all(&good(&harness).head("content-length: 104857600")).await.unwrap();
    for _ in 0..100 {
        stream.write_all(&vec![b' '; 1 << 20]).await.unwrap();
    }
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 413);
    assert!(harness.target.applies().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_stop_at_the_cap_and_packed_deliveries_are_read() {
    let harness = start().await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let bomb = vec![b' '; 256 << 20];
    for (encoding, packed) in [("zstd", zstd(&bomb)), ("gzip", gzip(&bomb))] {
        assert!((packed.len() as u64) < MAX_BODY);
        let reply = harness.send(&harness.post(packed).with("content-encoding", encoding)).await;
        assert_eq!((reply.status, harness.answer(&reply).status), (413, AnswerStatus::Malformed));
        let reply =
            harness.send(&harness.post(b"not packed".to_vec()).with("content-encoding", encoding)).await;
        assert_eq!((reply.status, harness.answer(&reply).status), (400, AnswerStatus::Malformed));
    }
    assert!(harness.target.applies().is_empty());
    for (prev, encoding) in [(0, "zstd"), (10, "gzip")] {
        let plain = body(&head(Some(prev), Some(prev + 10)), &[prev + 10]);
        let packed = if encoding == "zstd" { zstd(&plain) } else { gzip(&plain) };
        let reply = harness.send(&harness.post(packed).with("content-encoding", encoding)).await;
        assert_eq!(harness.answer(&reply).status, AnswerStatus::Applied);
    }
    assert_eq!(harness.target.applies(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_but_no_delivery_is_answered_and_signed() {
    let harness = start().await;
    let text = String::from_utf8(body(&head(Some(0), Some(10)), &[10])).unwrap();
    let cases = [
        ("garbage".to_owned(), "unknown", "not a bridge delivery"),
        ("[".repeat(100_000), "unknown", "not a bridge delivery"),
        (text.replace("\"rowbridge\":1", "\"rowbridge\":9"), "copy", "wire version 9"),
        (text.replace("\"shop\"", "\"other\""), "copy", "belongs to stream other"),
        (text.replacen("{", "{\"open\":true,\"split\":true,", 1), "copy", "open or split"),
        (String::from_utf8(body(&head(None, Some(10)), &[10])).unwrap(), "copy", "prev and to"),
    ];
    for (text, endpoint, message) in cases {
        let reply = harness.send(&harness.post(text.into_bytes())).await;
        let answer = harness.answer(&reply);
        assert_eq!((reply.status, answer.status), (400, AnswerStatus::Malformed));
        assert_eq!(answer.endpoint.as_str(), endpoint);
        assert!(answer.message.as_deref().unwrap().contains(message), "{answer:?}");
        assert!(!reply.text().contains(ROW_VALUE));
    }
    assert!(harness.target.applies().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dribbles_is_closed_and_an_idle_one_is_kept() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_secs(4),
        ..Limits::default()
    };
    let harness = start_with(FakeTarget::new(), limits, |_| {}).await;
    let begun = Instant::now();
    let mut silent = harness.connect().await;
    let mut partial = harness.connect().await;
    partial.write_all(b"POST /in/shop HTTP/1.1\r\nhost: test\r\n").await.unwrap();
    assert!(read_reply(&mut silent).await.is_none());
    assert!(read_reply(&mut partial).await.is_none());
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let mut dribbling = harness.connect().await;
    let dribbled = async {
        while dribbling.write_all(b"a").await.is_ok() {
            // A pace: each byte comes well within the time that silence would be given.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dribbled).await.expect("closed although it goes on sending");

    let mut slow = harness.connect().await;
    let post = good(&harness);
    let bytes = post.bytes();
    slow.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    assert_eq!(read_reply(&mut slow).await.unwrap().status, 408);

    // Kept alive for longer than a head may take, closed at last.
    let mut idle = harness.connect().await;
    for _ in 0..2 {
        idle.write_all(&bytes).await.unwrap();
        assert_eq!(read_reply(&mut idle).await.unwrap().status, 200);
        let mut silent = harness.connect().await;
        assert!(read_reply(&mut silent).await.is_none(), "a head was waited for until now");
    }
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let harness = start().await;
    let long = good(&harness).with("x-long", &"a".repeat(20_000));
    assert_eq!(harness.send(&long).await.status, 431);
    let mut many = good(&harness);
    many.headers.extend((0..70).map(|_| ("x-many", "a".to_owned())));
    assert_eq!(harness.send(&many).await.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_memory_are_bounded() {
    let limits = Limits { max_connections: 1, max_buffered_bytes: 0, ..Limits::default() };
    let harness = start_with(FakeTarget::new(), limits, |_| {}).await;
    let first = harness.connect().await;
    let mut second = harness.connect().await;
    second.write_all(&good(&harness).bytes()).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), read_reply(&mut second)).await;
    assert!(waited.is_err(), "the second connection had to wait");
    drop(first);
    assert_eq!(read_reply(&mut second).await.unwrap().status, 200);
    drop(second);

    // Two bodies that each stop one byte short of the route's bound hold all that bodies may hold together.
    let limits = Limits { max_buffered_bytes: 0, ..Limits::default() };
    let harness = start_with(FakeTarget::new(), limits, |_| {}).await;
    let mut holding = Vec::new();
    for _ in 0..2 {
        let mut stream = harness.connect().await;
        stream.write_all(&good(&harness).head(&format!("content-length: {MAX_BODY}"))).await.unwrap();
        stream.write_all(&vec![b' '; MAX_BODY as usize - 1]).await.unwrap();
        holding.push(stream);
    }
    let refused = async {
        loop {
            let reply = harness.send(&good(&harness)).await;
            if reply.status == 503 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(Duration::from_secs(10), refused).await.expect("memory is bounded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(holding);
    let harness = &harness;
    let freed = async { while harness.send(&good(harness)).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("memory is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_checked_and_forwarded_ones_only_believed_from_proxies() {
    let proxied = |config: &mut rowbridge_schema::config::SubscriberConfig| {
        config.receives[0].allow_from = Some(vec!["203.0.113.0/24".parse().unwrap()]);
    };
    let harness = start_with(FakeTarget::new(), Limits::default(), proxied).await;
    assert_eq!(harness.send(&good(&harness)).await.status, 403);
    let forged = good(&harness).with("x-forwarded-for", "203.0.113.5");
    assert_eq!(harness.send(&forged).await.status, 403);

    let harness = start_with(FakeTarget::new(), Limits::default(), |config| {
        proxied(config);
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let through = |value: &str| good(&harness).with("x-forwarded-for", value);
    assert_eq!(harness.send(&through("203.0.113.5")).await.status, 200);
    assert_eq!(harness.send(&through("203.0.113.5, 198.51.100.1")).await.status, 403);
    assert_eq!(harness.send(&through("nonsense")).await.status, 403);
    assert_eq!(harness.send(&good(&harness)).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_replaced_while_it_runs() {
    let harness = start().await;
    let new = SigningKey::generate();
    let mut config = harness.config.clone();
    config.receives[0].secrets = vec![new.clone(), harness.key.clone()];
    harness.secrets.replace(&config.receives);
    let plain = body(&head(Some(0), Some(10)), &[10]);
    for key in [&new, &harness.key] {
        let reply = harness.send(&Post::signed(key, plain.clone())).await;
        // Signed with both: whichever end rotates first can read the answers.
        assert_eq!(reply.answer(std::slice::from_ref(&new)).status, AnswerStatus::Applied);
        harness.answer(&reply);
    }
    config.receives[0].secrets = vec![new.clone()];
    harness.secrets.replace(&config.receives);
    assert_eq!(harness.send(&Post::signed(&harness.key, plain)).await.status, 401);
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// One thread, so that the thread's own log subscriber sees everything.
#[tokio::test]
async fn logs_hold_reasons_and_neither_secrets_nor_bodies() {
    let capture = Capture::default();
    let writer = capture.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let harness = start().await;
    let stranger = SigningKey::generate();
    let plain = body(&head(Some(0), Some(10)), &[10]);
    let forged = Post::signed(&stranger, plain.clone());
    assert_eq!(harness.send(&forged).await.status, 401);
    assert_eq!(harness.send(&Post { path: "/in/x?token=abc", ..forged.clone() }).await.status, 404);
    let text = String::from_utf8(plain.clone()).unwrap();
    let broken = text.replace("\"op\":\"i\"", "\"op\":\"Z\"");
    assert_eq!(harness.send(&harness.post(broken.into_bytes())).await.status, 400);
    harness.target.fail_next(super::fake::Fault::Reject);
    assert_eq!(harness.send(&good(&harness)).await.status, 422);
    harness.target.fail_next(super::fake::Fault::NoRights);
    assert_eq!(harness.send(&good(&harness)).await.status, 422);
    assert_eq!(harness.send(&good(&harness)).await.status, 200);

    let ours = |log: &str| -> String {
        log.lines().filter(|line| line.contains("rowbridge_subscriber")).collect::<Vec<_>>().join("\n")
    };
    eventually("the log is written", || {
        ours(&String::from_utf8_lossy(&capture.0.lock().unwrap())).contains("delivery applied")
    })
    .await;
    let log = ours(&String::from_utf8_lossy(&capture.0.lock().unwrap()));
    assert!(log.contains("request refused"), "{log}");
    assert!(log.contains("no signature matches"), "{log}");
    assert!(log.contains("delivery rejected by the target"), "{log}");
    let signature = sign(std::slice::from_ref(&stranger), "rwb_0123", now(), &plain);
    let keys = [harness.key.to_text(), stranger.to_text(), signature];
    for secret in keys.iter().map(|key| &key[6..]).chain([ROW_VALUE, "id=1", "token=abc"]) {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
