//! `rowbridge listen` with the real binary: what it prints, answers, counts and saves.

use std::time::Duration;

use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions, binary, signal};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::wait::DEADLINE;
use rowbridge_tests::webhook::{Answer, Forged, now, secret, send_raw, signature_holds};
use serde_json::{Value, json};

use crate::cli::rowbridge;

/// A running `rowbridge listen --json`.
struct Listener {
    daemon: Daemon,
    url: String,
}

impl Listener {
    async fn start(args: &[&str]) -> Self {
        let args = [&["listen", "--port", "0", "--json"], args].concat();
        let daemon = Daemon::spawn(DaemonOptions {
            name: "listen".into(),
            program: binary(),
            args: args.iter().map(Into::into).collect(),
            env: vec![("LISTEN_TEST_SECRET".into(), secret(1))],
        });
        let mut listener = Self { daemon, url: String::new() };
        let first = listener.line(0).await;
        assert_eq!(first["event"], "listening");
        listener.url = first["url"].as_str().unwrap().to_owned();
        listener
    }

    /// The line of that number on stdout, waiting for it.
    async fn line(&self, number: usize) -> Value {
        let line = rowbridge_tests::wait::until("a line on stdout", DEADLINE, || async {
            let lines = self.daemon.output().since(number);
            lines.into_iter().next().ok_or_else(|| self.daemon.last_lines())
        })
        .await;
        serde_json::from_str(&line).unwrap()
    }

    async fn post(&self, request: &Forged) -> Answer {
        request.post(&self.url).await.unwrap()
    }

    /// What it says after SIGINT.
    async fn summary(&self, requests: usize) -> Value {
        signal(self.daemon.pid(), "INT");
        assert!(self.daemon.wait_exit(DEADLINE).await.success());
        self.line(requests + 1).await
    }
}

#[tokio::test]
async fn each_signature_is_judged_and_repeats_are_counted() {
    let listener = Listener::start(&["--secret", "env:LISTEN_TEST_SECRET", "--secret", &secret(2)]).await;
    let body = r#"{ "n" : 9007199254740993, "text": "ü" }"#;
    let unsigned = Forged { signature: None, ..Forged::signed(&secret(1), "unsigned", body) };
    for (request, verdict) in [
        (Forged::signed(&secret(1), "first", body), "holds"),
        (Forged::signed(&secret(2), "rotated", body), "holds"),
        (Forged::signed(&secret(3), "wrong", body), "mismatch"),
        (Forged::signed_at(&secret(1), "stale", now() - 400, body), "stale"),
        (unsigned, "missing"),
        (Forged::signed(&secret(1), "first", body), "holds"),
    ] {
        // Answered as told, whatever the signature: the verdict is for the reader.
        assert_eq!(listener.post(&request).await.status, 200, "{verdict}");
    }
    let mut lines = Vec::new();
    for number in 1..=6 {
        lines.push(listener.line(number).await);
    }
    let verdicts: Vec<_> = lines.iter().map(|line| line["signature"]["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["holds", "holds", "mismatch", "stale", "missing", "holds"]);
    let skew = lines[3]["signature"]["skew_seconds"].as_i64().unwrap();
    assert!((-410..=-400).contains(&skew), "{skew}");
    assert!(lines[4]["signature"]["text"].as_str().unwrap().contains("webhook-signature"), "{}", lines[4]);
    assert_eq!((&lines[0]["attempt"], &lines[5]["attempt"]), (&json!(1), &json!(2)));
    assert!(listener.daemon.output().tail(9).contains(r#""body":{"n":9007199254740993,"text":"ü"}"#));

    let summary = listener.summary(6).await;
    assert_eq!(
        summary,
        json!({"event": "summary", "requests": 6, "distinct_ids": 5, "repeats": 1, "bad_signatures": 3,
            "dropped": 0, "by_status": {"200": 6}})
    );
    let said = listener.daemon.output().tail(99) + &listener.daemon.log().tail(99);
    assert!(!said.contains("whsec_"), "{said}");
}

#[tokio::test]
async fn failures_are_as_told_and_the_same_for_a_seed() {
    let args = ["--fail-rate", "0.5", "--fail-status", "503", "--retry-after", "5s", "--seed", "11"];
    let mut runs = Vec::new();
    for _ in 0..2 {
        let listener = Listener::start(&args).await;
        let mut statuses = Vec::new();
        for number in 0..20 {
            let answer = listener.post(&Forged::signed(&secret(1), &format!("m{number}"), "{}")).await;
            assert_eq!(answer.header("retry-after"), (answer.status == 503).then_some("5"));
            statuses.push(answer.status);
        }
        let summary = listener.summary(20).await;
        let failed = statuses.iter().filter(|status| **status == 503).count();
        assert_eq!(summary["by_status"], json!({"200": 20 - failed, "503": failed}));
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&200) && runs[0].contains(&503), "{runs:?}");
}

#[tokio::test]
async fn a_status_a_delay_and_the_end_of_an_endpoint() {
    let listener = Listener::start(&["--status", "202", "--delay", "300ms", "--gone-after", "1"]).await;
    let begun = std::time::Instant::now();
    assert_eq!(listener.post(&Forged::signed(&secret(1), "a", "{}")).await.status, 202);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    for id in ["b", "c"] {
        assert_eq!(listener.post(&Forged::signed(&secret(1), id, "{}")).await.status, 410);
    }
    let line = listener.line(2).await;
    assert_eq!((&line["status"], &line["delay_ms"]), (&json!(410), &json!(300)));
}

#[tokio::test]
async fn a_dropped_request_gets_no_answer_and_is_shown() {
    let listener = Listener::start(&["--drop-rate", "1"]).await;
    let request = Forged::signed(&secret(1), "a", "{}");
    assert!(request.post(&listener.url).await.is_err());
    assert_eq!(listener.line(1).await["status"], Value::Null);
    assert_eq!(listener.summary(1).await["dropped"], 1);
}

#[tokio::test]
async fn it_ends_by_itself_after_count_requests_with_their_answers_sent() {
    let listener = Listener::start(&["--count", "2", "--delay", "300ms", "--path", "/in"]).await;
    let elsewhere = listener.url.replace("/in", "/favicon.ico");
    let request = Forged::signed(&secret(1), "a", "{}");
    assert_eq!(request.post(&elsewhere).await.unwrap().status, 404);
    let (one, two) = tokio::join!(request.post(&listener.url), request.post(&listener.url));
    assert_eq!((one.unwrap().status, two.unwrap().status), (200, 200));
    assert!(listener.daemon.wait_exit(DEADLINE).await.success());
    let summary = listener.line(4).await;
    assert_eq!((&summary["requests"], &summary["by_status"]), (&json!(3), &json!({"200": 2, "404": 1})));
}

#[tokio::test]
async fn requests_are_saved_as_they_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests");
    let listener = Listener::start(&["--save", path.to_str().unwrap(), "--secret", &secret(1)]).await;
    let packed = zstd::encode_all(&b"{\"a\": 1}"[..], 1).unwrap();
    let request = Forged::signed(&secret(1), "a", packed.clone())
        .header("content-encoding", "zstd")
        .header("authorization", "Bearer hunter2");
    assert_eq!(listener.post(&request).await.status, 200);
    let line = listener.line(1).await;
    assert_eq!((&line["body"], &line["signature"]["verdict"]), (&json!({"a": 1}), &json!("holds")));
    let mut files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let [body, headers] = &files[..] else { panic!("{files:?}") };
    assert!(body.to_str().unwrap().ends_with("-000001.body"), "{files:?}");
    assert_eq!(std::fs::read(body).unwrap(), packed);
    let headers = std::fs::read_to_string(headers).unwrap();
    assert!(headers.starts_with("POST /\n") && headers.contains("\nwebhook-id: a\n"), "{headers}");
    assert!(headers.contains("\nauthorization: Bearer ***\n"), "{headers}");
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_announced_or_not() {
    let listener = Listener::start(&["--max-body", "1 KiB"]).await;
    let fits = Forged::signed(&secret(1), "a", vec![b'x'; 1024]);
    assert_eq!(listener.post(&fits).await.status, 200);
    let large = Forged::signed(&secret(1), "b", vec![b'x'; 4 << 20]);
    assert_eq!(listener.post(&large).await.status, 413);
    let port = listener.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let mut chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..64 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'x'; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = send_raw(port, &chunked, DEADLINE).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
    // A bomb is shown as it was sent.
    let bomb = zstd::encode_all(&vec![b' '; 1 << 20][..], 1).unwrap();
    let bomb = Forged::signed(&secret(1), "c", bomb).header("content-encoding", "zstd");
    assert_eq!(listener.post(&bomb).await.status, 200);
    assert!(listener.line(4).await["note"].as_str().unwrap().contains("--max-body"));
    assert_eq!(listener.summary(4).await["by_status"], json!({"200": 2, "413": 2}));
}

/// The head of a delivery of the lane shop/copy; null positions ask.
fn bridge(prev: Value, to: &Value) -> String {
    json!({"rowbridge": 1, "stream": "shop", "endpoint": "copy", "source": "s", "prev": prev, "to": to,
        "tables": {}, "blocks": []})
    .to_string()
}

#[tokio::test]
async fn it_stands_in_for_a_subscriber_where_it_has_the_secret() {
    let to = json!("00000001-00000000000000001a7f00c2-0000000001");
    let zero = json!("00000000-000000000000000000000000-0000000000");
    let listener = Listener::start(&["--secret", &secret(1)]).await;
    let mut positions = Vec::new();
    for (id, body) in [
        ("h1", bridge(Value::Null, &Value::Null)),
        ("d1", bridge(zero, &to)),
        ("h2", bridge(Value::Null, &Value::Null)),
    ] {
        let answer = listener.post(&Forged::signed(&secret(1), id, body)).await;
        let header = |name| answer.header(name).unwrap();
        assert_eq!((answer.status, header("webhook-id")), (200, id));
        let (time, signature) = (header("webhook-timestamp"), header("webhook-signature"));
        assert!(signature_holds(&secret(1), id, time, &answer.body, signature));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["status"], "applied");
        positions.push(body["position"].clone());
    }
    assert_eq!(positions, [Value::Null, to.clone(), to.clone()]);
    assert_eq!(listener.line(1).await["summary"], json!(["shop/copy asks for the position"]));

    // Not signed by this secret: a bare 200, which no publisher takes, and one hint.
    for id in ["x", "y"] {
        let answer = listener.post(&Forged::signed(&secret(2), id, bridge(Value::Null, &Value::Null))).await;
        assert_eq!((answer.status, answer.header("webhook-signature")), (200, None));
    }
    assert_eq!(listener.daemon.log().tail(99).matches("hint:").count(), 1);
}

#[tokio::test]
async fn a_real_publisher_takes_its_answers() {
    let listener = Listener::start(&["--secret", &secret(1)]).await;
    let (folder, source) = (tempfile::tempdir().unwrap(), SqliteFile::create("source"));
    source
        .execute("CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO goods VALUES (1, 'x')");
    let state = folder.path().join("state");
    let endpoint = Endpoint::bridge("copy", &listener.url, &secret(1));
    let publisher = Publisher::new("sqlite", &source.url(), &["*"], &state, free_port()).endpoint(endpoint);
    let file = folder.path().join("publisher.toml");
    std::fs::write(&file, publisher.text()).unwrap();
    let publisher = Daemon::spawn(DaemonOptions::run("publisher", &file));
    // The first row comes with the snapshot; only what is written after it is an insert.
    for (row, told) in
        [(1, "row.read  goods  id=1"), (2, "row.insert  goods  id=2"), (3, "row.insert  goods  id=3")]
    {
        if row > 1 {
            source.execute(&format!("INSERT INTO goods VALUES ({row}, 'y')"));
        }
        let arrived = |line: &String| line.contains(told);
        rowbridge_tests::wait::until(told, DEADLINE, || async {
            let output = listener.daemon.output();
            if output.since(0).iter().any(arrived) {
                Ok(())
            } else {
                Err(output.tail(9) + &publisher.last_lines())
            }
        })
        .await;
    }
    assert!(publisher.terminate().await.success());
    let lines = listener.daemon.output().since(1);
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["format"] == "bridge" && line["attempt"] == 1), "{lines:?}");
    assert!(lines.iter().all(|line| line["signature"]["verdict"] == "holds"), "{lines:?}");
    let told = serde_json::to_string(&lines).unwrap();
    // Each row was sent once: had an answer not been taken, it would have come again.
    for row in 1..=3 {
        assert_eq!(told.matches(&format!("  goods  id={row}")).count(), 1, "{told}");
    }
}

#[tokio::test]
async fn people_get_text_without_colours_in_a_pipe() {
    let daemon = Daemon::spawn(DaemonOptions {
        name: "listen".into(),
        program: binary(),
        args: ["listen", "--port", "0", "--secret", &secret(1), "--count", "1"].map(Into::into).to_vec(),
        env: vec![],
    });
    let greeting = rowbridge_tests::wait::until("the greeting", DEADLINE, || async {
        daemon.output().since(0).into_iter().next().ok_or_else(|| daemon.last_lines())
    })
    .await;
    let url = greeting.split([' ', ';']).find(|word| word.starts_with("http://")).unwrap();
    let event =
        r#"{"type":"row.delete","schema":null,"table":"goods","data":{"op":"delete","key":{"id":7}}}"#;
    let answer = Forged::signed(&secret(1), "a", event).post(url).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(daemon.wait_exit(DEADLINE).await.success());
    let lines = rowbridge_tests::wait::until("the summary", DEADLINE, || async {
        let lines = daemon.output().since(1);
        if lines.len() == 5 { Ok(lines) } else { Err(lines.join("\n")) }
    })
    .await;
    assert!(lines[0].ends_with("POST /  application/json  89 B  -> 200"), "{}", lines[0]);
    assert_eq!(lines[1..4], ["  a", "  signature holds", "  row.delete  goods  id=7"]);
    assert_eq!(lines[4], "1 request, 1 distinct id, 0 repeats, 0 bad signatures; answered 200 x 1");
}

#[tokio::test]
async fn an_address_that_is_taken_names_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (code, stdout, stderr) = rowbridge(folder.path(), &["listen", "--port", &port.to_string()]);
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.contains("--port 0") && stderr.contains(&port.to_string()), "{stderr}");
    let (code, _, stderr) = rowbridge(folder.path(), &["listen", "--secret", "hunter2"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("rowbridge secret") && !stderr.contains("hunter2"), "{stderr}");
}
