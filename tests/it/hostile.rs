//! Requests and answers from people who do not know the secret, and from broken senders who do: nothing of theirs is
//! ever written, and nothing that matters is told in a log.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rowbridge_tests::metrics::{Metrics, http_client};
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::wait::{self, DEADLINE};
use rowbridge_tests::webhook::{Answer, Forged, Received, Receiver, Reply, now, secret, send_raw, sign};

const TABLE: [&str; 1] = ["public.t"];
const SCHEMA: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v text)";
/// In every row: must not be in any log.
const VALUE: &str = "tell-nobody-4711";
/// Of the pair; see `scenario`.
const SEED: u8 = 7;

fn forged(received: &Received) -> Forged {
    let header = |name: &str| received.header(name).map(str::to_owned);
    let encoding = header("content-encoding").map(|value| ("content-encoding".to_owned(), value));
    Forged {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        content_type: header("content-type"),
        headers: encoding.into_iter().collect(),
        body: received.body.clone(),
    }
}

fn carries_rows(received: &Received) -> bool {
    received.json()["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty())
}

/// A man in the middle, who passes what he gets and may keep deliveries with rows to himself.
fn middle(url: String) -> (Receiver, Arc<AtomicBool>) {
    let keeps = Arc::new(AtomicBool::new(false));
    let keeping = Arc::clone(&keeps);
    let receiver = Receiver::start(move |received| {
        if keeping.load(Relaxed) && carries_rows(received) {
            return Reply::status(503);
        }
        let passed = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(forged(received).post(&url))
        });
        let Ok(Answer { status, headers, body }) = passed else { return Reply::status(502) };
        let signed = headers.iter().filter(|(name, _)| name.starts_with("webhook-"));
        signed.fold(Reply::status(status).body(body), |reply, (name, value)| reply.header(name, value))
    });
    (receiver, keeps)
}

/// Everything in the target: rows, and where the lane stands.
async fn written(pair: &Pair) -> String {
    let sql = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM t;
               SELECT stream, endpoint, source, epoch, position, updated_at FROM rowbridge_progress;
               SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    pair.target_cluster().psql(DATABASE, sql).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Head of a request as raw text, up to its body.
fn head(length: &str) -> String {
    format!(
        "POST /in/shop HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nwebhook-id: a\r\n\
         webhook-timestamp: {}\r\nwebhook-signature: v1,AAAA\r\n{length}\r\n\r\n",
        now()
    )
}

/// How long a connection is kept open on our side; the subscriber's own patience is 10 s and 30 s.
const KEPT: Duration = Duration::from_secs(150);

/// How a connection that stops in the middle ends: what was answered, and whether the subscriber closed it.
async fn stops(port: u16, bytes: String) -> (String, bool) {
    let started = Instant::now();
    let answer = send_raw(port, bytes.as_bytes(), KEPT).await.unwrap_or_default();
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed() < KEPT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_broken_senders_write_nothing() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    let port = pair.subscriber_config.port;
    let url = format!("http://127.0.0.1:{port}/in/shop");
    let (receiver, keeps) = middle(url.clone());
    pair.publisher_config.endpoints[0].url = receiver.url("/in/shop");
    pair.write_configs();
    pair.source_execute(SCHEMA).await;
    pair.start().await;
    pair.source_execute(&format!("INSERT INTO t SELECT i, '{VALUE}' FROM generate_series(1, 100) i")).await;
    pair.wait_equal(&TABLE).await;

    // A delivery that the subscriber has, and one that it would take if it came from the right hands.
    let known = receiver.requests().into_iter().rfind(carries_rows).expect("a delivery");
    keeps.store(true, Relaxed);
    let before = receiver.requests().len();
    pair.source_execute(&format!("INSERT INTO t VALUES (200, '{VALUE}'); DELETE FROM t WHERE id < 50")).await;
    let kept = wait::until("a delivery that is kept back", DEADLINE, || async {
        receiver.requests()[before..].iter().find(|r| carries_rows(r)).cloned().ok_or("none yet".to_owned())
    })
    .await;
    assert_eq!(pair.publisher().terminate().await.code(), Some(0));
    let state = written(&pair).await;

    let half_open = stops(port, "POST /in/shop HTTP/1.1\r\nhost: x\r\n".into());
    let slow_body = stops(port, head("content-length: 100") + "{");
    let attacks = async {
        let replay = forged(&known).post(&url).await.unwrap();
        assert_eq!(replay.status, 200, "an exact replay is a duplicate: {}", replay.text());
        assert_eq!(written(&pair).await, state, "after a replay");

        let good = forged(&kept);
        let (id, body) = (good.id.clone().unwrap(), good.body.clone());
        let resigned = |seed: u8, seconds: i64| {
            let mut forged = Forged::signed_at(&secret(seed), &id, now() + seconds, body.clone());
            forged.headers = good.headers.clone();
            forged
        };
        let mut changed = good.clone();
        let at = changed.body.len() / 2;
        changed.body[at] ^= 1;
        let mut later = good.clone();
        later.timestamp = Some((now() + 1).to_string());
        let mut other_id = good.clone();
        other_id.id = Some(format!("{id}0"));
        let mut empty_key = good.clone();
        empty_key.signature = Some(sign("whsec_", &id, good.timestamp.as_deref().unwrap(), &body));
        let refused = [
            ("a wrong secret", resigned(8, 0)),
            ("an old timestamp", resigned(SEED, -3600)),
            ("a timestamp in the future", resigned(SEED, 3600)),
            ("a changed body", changed),
            ("another timestamp", later),
            ("another id", other_id),
            ("an empty key", empty_key),
            ("no signature", Forged { signature: None, ..good.clone() }),
            ("no headers", Forged { id: None, timestamp: None, signature: None, ..good.clone() }),
            ("an unknown version", Forged { signature: Some("v9,AAAA".into()), ..good.clone() }),
        ];
        let mut texts = Vec::new();
        for (what, request) in refused {
            let answer = request.post(&url).await.unwrap();
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            assert!(answer.header("webhook-signature").is_none(), "{what}: the refusal is signed");
            texts.push(answer.text());
        }
        texts.dedup();
        assert_eq!(texts.len(), 1, "refusals differ: {texts:?}");
        assert_eq!(written(&pair).await, state, "after forged deliveries");

        // Too much of it.
        let announced = send_raw(port, (head("content-length: 104857600") + "{").as_bytes(), DEADLINE).await;
        assert!(announced.unwrap().starts_with(b"HTTP/1.1 413 "));
        let mut chunked = head("transfer-encoding: chunked").into_bytes();
        let piece = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
        (0..100).for_each(|_| chunked.extend_from_slice(&piece));
        let streamed = send_raw(port, &chunked, DEADLINE).await.unwrap();
        assert!(streamed.starts_with(b"HTTP/1.1 413 "), "{}", String::from_utf8_lossy(&streamed));
        drop(chunked);
        let zeros = vec![b' '; 100 << 20];
        for (encoding, body) in [("zstd", zstd::encode_all(&zeros[..], 3).unwrap()), ("gzip", gzip(&zeros))] {
            assert!(body.len() < 1 << 20);
            let bomb = Forged::signed(&secret(SEED), "bomb", body).header("content-encoding", encoding);
            assert_eq!(bomb.post(&url).await.unwrap().status, 413, "{encoding}");
        }
        assert!(pair.subscriber().peak_rss_bytes() < 400 << 20, "{}", pair.subscriber().peak_rss_bytes());

        // Nonsense from somebody who has the secret.
        let text = String::from_utf8_lossy(&kept.inflated()).into_owned();
        for (what, body) in [
            ("no JSON", "{\"a\": ".to_owned()),
            ("no delivery", "[1, 2, 3]".to_owned()),
            ("nothing", String::new()),
            ("deep nesting", "[".repeat(200_000)),
            ("half a delivery", text[..text.len() / 2].to_owned()),
            ("another stream", text.replacen("\"stream\":\"shop\"", "\"stream\":\"other\"", 1)),
            ("a wrong version", text.replacen("\"rowbridge\":1", "\"rowbridge\":99", 1)),
        ] {
            let answer = Forged::signed(&secret(SEED), "nonsense", body).post(&url).await.unwrap();
            assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        }
        let broken = Forged::signed(&secret(SEED), "b", "xyz").header("content-encoding", "zstd");
        assert_eq!(broken.post(&url).await.unwrap().status, 400);
        let unknown = Forged::signed(&secret(SEED), "b", "{}").header("content-encoding", "br");
        assert_eq!(unknown.post(&url).await.unwrap().status, 415);
        let elsewhere = format!("http://127.0.0.1:{port}/in/other");
        assert_eq!(good.post(&elsewhere).await.unwrap().status, 404);
        assert_eq!(http_client().get(&url).send().await.unwrap().status(), 405);
        assert_eq!(written(&pair).await, state, "after nonsense");
    };
    let ((), half_open, slow_body) = tokio::join!(attacks, half_open, slow_body);
    assert!(half_open.1, "half a head is kept open");
    assert!(slow_body.0.starts_with("HTTP/1.1 408 ") || slow_body.0.is_empty(), "{}", slow_body.0);
    assert!(slow_body.1, "half a body is kept open");
    assert_eq!(written(&pair).await, state);

    // The same bytes from the right hands do take effect, so nothing above was refused for another reason.
    let mut right = Forged::signed(&secret(SEED), kept.header("webhook-id").unwrap(), kept.body.clone());
    right.headers = forged(&kept).headers;
    assert_eq!(right.post(&url).await.unwrap().status, 200);
    assert_ne!(written(&pair).await, state);
    pair.wait_equal(&TABLE).await;

    // A row that the target refuses is named by table and position in the logs, never by its values.
    keeps.store(false, Relaxed);
    pair.target_execute(&format!("ALTER TABLE t ADD CHECK (id < 1000 OR v <> '{VALUE}')")).await;
    let mark = pair.subscriber().log().mark();
    pair.publisher().start();
    pair.source_execute(&format!("INSERT INTO t VALUES (1000, '{VALUE}')")).await;
    let rejected = |line: &str| line.contains("rejected") && line.contains("public.t");
    pair.subscriber().wait_for_line_since(mark, DEADLINE, rejected).await;
    pair.publisher().wait_for_line(|line| line.contains("the lane is halted")).await;
    for daemon in [pair.publisher(), pair.subscriber()] {
        let log = daemon.log().since(0).join("\n") + &daemon.output().since(0).join("\n");
        for hidden in [VALUE, secret(SEED).trim_start_matches("whsec_")] {
            let line = log.lines().find(|line| line.contains(hidden));
            assert!(line.is_none(), "a log line holds {hidden}: {}", line.unwrap_or_default());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_the_subscriber_did_not_sign_count_for_nothing() {
    let pair = Pair::prepare(PairOptions::postgres().with_http_proxy()).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute("INSERT INTO t SELECT i, 'before' FROM generate_series(1, 50) i").await;
    pair.start().await;
    pair.wait_equal(&TABLE).await;
    let admin = pair.publisher_config.admin_port;
    let deliveries = || async {
        let metrics = Metrics::scrape(admin).await.unwrap();
        metrics.value("rowbridge_lane_deliveries_total", &[]).unwrap()
    };

    let answer = |status: &str, position: &str| {
        format!(
            "{{\"rowbridge\":1,\"stream\":\"shop\",\"endpoint\":\"copy\",\"status\":\"{status}\",\
             \"position\":{position},\"staged\":null,\"formats\":[\"bridge\"],\"encodings\":[],\"max_body\":null,\
             \"message\":null,\"failing\":[]}}"
        )
    };
    let done = answer("applied", "\"ffffffff-00000000ffffffffffffffff-0000000001\"");
    let gap = answer("gap", "null");
    let signed = |status: u16, body: &str, seed: u8, id: &str| {
        let timestamp = now().to_string();
        let signature = sign(&secret(seed), id, &timestamp, body.as_bytes());
        Reply::status(status)
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &signature)
            .body(body)
    };
    let fake = Receiver::start(move |received| {
        let id = received.header("webhook-id").unwrap_or_default().to_owned();
        match received.number % 6 {
            0 => Reply::status(200).body(done.clone()),
            1 => signed(200, &done, 9, &id),
            // Signed by the right one, but for another request.
            2 => signed(200, &done, SEED, "rwb_other"),
            3 => Reply::status(409).body(gap.clone()),
            4 => signed(409, &gap, 9, &id),
            _ => Reply::status(204),
        }
    });
    let before = deliveries().await;
    pair.http_proxy().set_upstream(([127, 0, 0, 1], fake.port()).into());
    pair.http_proxy().cut();
    pair.source_execute("UPDATE t SET v = 'after' WHERE id % 2 = 0; DELETE FROM t WHERE id < 10").await;
    pair.source_execute("INSERT INTO t SELECT i, 'after' FROM generate_series(51, 90) i").await;
    fake.wait_for_requests(7, DEADLINE).await;
    assert_eq!(deliveries().await, before, "the lane took a forged answer for a delivery");
    let metrics = Metrics::scrape(admin).await.unwrap();
    assert!(
        metrics.value("rowbridge_journal_undelivered_bytes", &[]).unwrap() > 0.0,
        "the journal was trimmed"
    );

    // A restart in front of the fake: not even the handshake gets past it.
    pair.publisher().kill9();
    pair.publisher().start();
    let so_far = fake.requests().len();
    fake.wait_for_requests(so_far + 6, DEADLINE).await;
    pair.http_proxy().set_upstream(([127, 0, 0, 1], pair.subscriber_config.port).into());
    pair.http_proxy().cut();
    pair.wait_equal(&TABLE).await;
    pair.wait_publisher().await;

    // An unsigned 410 asks for a person, as every other 4xx of something in the way does; it ends nothing.
    fake.answer_with(|_| Reply::status(410));
    pair.http_proxy().set_upstream(([127, 0, 0, 1], fake.port()).into());
    pair.http_proxy().cut();
    pair.source_execute("INSERT INTO t VALUES (1000, 'last')").await;
    pair.publisher().wait_for_line(|line| line.contains("the lane is halted") && line.contains("410")).await;
    pair.http_proxy().set_upstream(([127, 0, 0, 1], pair.subscriber_config.port).into());
    pair.http_proxy().cut();
    pair.publisher().restart().await;
    pair.wait_equal(&TABLE).await;
}
