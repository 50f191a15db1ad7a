//! Endpoints that are not Rowbridge: what they get, in which order, and what becomes of it when they fail.

mod alert;
mod asked;
pub(crate) mod faults;
mod joining;
mod messages;
mod old_rows;
mod operate;
mod outbox;
mod reach;
mod request;
mod row_errors;
mod takeover;

use std::time::Duration;

use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::webhook::{Received, Receiver, Reply, secret};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::rowbridge;

const DEADLINE: Duration = Duration::from_secs(30);
const TABLE: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total NUMERIC)";

/// A publisher of one SQLite file.
pub(crate) struct Sending {
    folder: TempDir,
    source: SqliteFile,
    pub(crate) daemon: Daemon,
}

impl Sending {
    pub(crate) fn prepare(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let folder = tempfile::Builder::new().prefix("rowbridge-webhook-").tempdir().unwrap();
        let source = SqliteFile::create("source");
        source.execute(TABLE);
        let state = folder.path().join("state");
        let mut config = Publisher::new("sqlite", &source.url(), &["*"], &state, free_port());
        config.endpoints.extend(endpoints);
        let path = folder.path().join("rowbridge.toml");
        std::fs::write(&path, config.text()).unwrap();
        let daemon = Daemon::new(DaemonOptions::run("publisher", &path));
        Self { folder, source, daemon }
    }

    /// Adds tables to the configuration, for the next start.
    pub(crate) fn add(&self, tables: &str) {
        let config = std::fs::read_to_string(self.path()).unwrap();
        std::fs::write(self.path(), format!("{config}\n{tables}\n")).unwrap();
    }

    pub(crate) async fn start(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let sending = Self::prepare(endpoints);
        sending.daemon.start();
        // The triggers are there: what is written from now on is captured.
        sending.daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
        sending
    }

    /// Inserts orders with these ids, each in a transaction of its own.
    pub(crate) fn insert(&self, ids: std::ops::RangeInclusive<i64>) {
        for id in ids {
            self.source.execute(&format!("INSERT INTO orders VALUES ({id}, 'new', {id}.5)"));
        }
    }

    pub(crate) fn state_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("rowbridge.toml")
    }

    /// Starts again with a configuration in which one text is another.
    fn restart_with(&self, from: &str, to: &str) {
        self.daemon.kill9();
        let config = std::fs::read_to_string(self.path()).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(self.path(), config.replace(from, to)).unwrap();
        self.daemon.start();
    }

    /// Waits until so many dead letters are there, the newest first.
    pub(crate) async fn letters(&self, count: usize) -> Vec<Value> {
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            let (code, out, err) = self.rowbridge(&["dead-letter", "list", "--json"]);
            assert_eq!(code, 0, "{err}");
            let letters: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if letters.len() >= count {
                return letters;
            }
            assert!(tokio::time::Instant::now() < until, "{letters:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn rowbridge(&self, args: &[&str]) -> (i32, String, String) {
        rowbridge(self.folder.path(), args)
    }
}

pub(crate) fn endpoint(name: &str, receiver: &Receiver, format: &str) -> Endpoint {
    Endpoint::new(name, &receiver.url("/hook?x=1"), &secret(1), format)
}

/// Ids of the rows that requests of one event each carried.
fn ids(requests: &[Received]) -> Vec<i64> {
    requests.iter().map(|request| id(&request.json())).collect()
}

pub(crate) fn id(event: &Value) -> i64 {
    let data = &event["data"];
    data["key"]["id"].as_i64().unwrap_or_else(|| panic!("no id in {event}"))
}

/// Waits until a receiver has taken events of all these rows.
pub(crate) async fn wait_for_ids(
    receiver: &Receiver,
    wanted: std::ops::RangeInclusive<i64>,
    taken: impl Fn(&Received) -> bool,
) -> Vec<Received> {
    let until = tokio::time::Instant::now() + 4 * DEADLINE;
    loop {
        let requests: Vec<_> = receiver.requests().into_iter().filter(&taken).collect();
        let have: std::collections::HashSet<i64> = ids(&requests).into_iter().collect();
        if wanted.clone().all(|id| have.contains(&id)) {
            return requests;
        }
        assert!(tokio::time::Instant::now() < until, "{} of {wanted:?} came", have.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_says_the_same_and_is_signed() {
    let receiver = Receiver::accepting();
    let formats = ["json", "cloudevents", "debezium", "xml"];
    let mut endpoints: Vec<_> = formats
        .iter()
        .map(|format| Endpoint::new(format, &receiver.url(&format!("/{format}")), &secret(1), format))
        .collect();
    endpoints.push(
        Endpoint::new("binary", &receiver.url("/binary"), &secret(1), "cloudevents")
            .with("mode = \"binary\""),
    );
    let sending = Sending::start(endpoints).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'new', 19.5)");
    sending.source.execute("UPDATE orders SET total = 20 WHERE id = 1");
    sending.source.execute("DELETE FROM orders WHERE id = 1");
    let requests = receiver.wait_for_requests(15, DEADLINE).await;
    let of = |path: &str| -> Vec<Received> {
        requests.iter().filter(|request| request.path == path).cloned().collect()
    };
    for request in &requests {
        assert_eq!(request.method, "POST");
        assert!(request.is_signed_with(&secret(1)), "{request:?}");
        assert!(request.header("webhook-id").unwrap().starts_with("shop:"));
    }
    let json = of("/json");
    let ops: Vec<Value> = json.iter().map(|request| request.json()["data"]["op"].clone()).collect();
    assert_eq!(ops, ["insert", "update", "delete"]);
    assert_eq!(json[1].json()["data"]["after"], json!({"id": 1, "status": "new", "total": 20}));
    assert_eq!(json[1].json()["id"], json[1].header("webhook-id").unwrap());
    assert_eq!(json[0].header("content-type"), Some("application/json"));
    let structured = of("/cloudevents");
    assert_eq!(structured[0].header("content-type"), Some("application/cloudevents+json"));
    assert_eq!(structured[2].json()["type"], "row.delete");
    let binary = of("/binary");
    assert_eq!(
        (binary[0].header("ce-specversion"), binary[0].header("ce-type")),
        (Some("1.0"), Some("row.insert"))
    );
    assert_eq!(binary[0].json()["after"], json!({"id": 1, "status": "new", "total": 19.5}));
    let debezium = of("/debezium");
    let ops: Vec<Value> = debezium.iter().map(|request| request.json()["op"].clone()).collect();
    assert_eq!(ops, ["c", "u", "d"]);
    let xml = of("/xml");
    assert!(xml[0].header("content-type").unwrap().starts_with("application/xml"), "{:?}", xml[0]);
    assert!(String::from_utf8(xml[0].body.clone()).unwrap().starts_with("<?xml"), "{:?}", xml[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_keeps_an_endpoint_at_the_rows_that_it_names() {
    let (active, changes) = (Receiver::accepting(), Receiver::accepting());
    let sending = Sending::start([
        endpoint("active", &active, "json").with("when = \"after.status == 'new'\""),
        endpoint("changes", &changes, "json")
            .with("when = \"op == 'delete' || op == 'insert' && after.total > 2\""),
    ])
    .await;
    sending.source.execute(
        "INSERT INTO orders VALUES (1, 'new', 1), (2, 'old', 2), (3, 'new', 3);
         UPDATE orders SET status = 'old' WHERE id = 3;
         UPDATE orders SET status = 'new' WHERE id = 2;
         DELETE FROM orders WHERE id = 1;
         INSERT INTO orders VALUES (9, 'new', 9)",
    );
    let seen = |requests: &[Received]| -> Vec<(String, i64)> {
        requests
            .iter()
            .map(|request| request.json())
            .map(|event| (event["data"]["op"].as_str().unwrap().to_owned(), id(&event)))
            .collect()
    };
    let expect =
        |list: &[(&str, i64)]| list.iter().map(|(op, id)| ((*op).to_owned(), *id)).collect::<Vec<_>>();
    let requests = wait_for_ids(&active, 9..=9, |_| true).await;
    assert_eq!(
        seen(&requests),
        expect(&[("insert", 1), ("insert", 3), ("delete", 3), ("insert", 2), ("delete", 1), ("insert", 9)])
    );
    let requests = wait_for_ids(&changes, 9..=9, |_| true).await;
    assert_eq!(seen(&requests), expect(&[("insert", 3), ("delete", 1), ("insert", 9)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_sees_the_columns_that_it_is_meant_to_see() {
    let receiver = Receiver::accepting();
    let columns = "columns = { status = { mask = true }, total = { to = \"amount\", truncate = 2 }, \
                   twice = { value = \"after.total * 2\" } }";
    let sending = Sending::start([endpoint("crm", &receiver, "json").with(columns)]).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'secret', 19.5)");
    let requests = receiver.wait_for_requests(1, DEADLINE).await;
    let after = requests[0].json()["data"]["after"].clone();
    assert_eq!((&after["id"], &after["status"], &after["amount"]), (&json!(1), &json!("***"), &json!("19")));
    assert_eq!(after["twice"].as_f64(), Some(39.0), "{after}");
    assert!(!String::from_utf8_lossy(&requests[0].body).contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_filters_and_columns_are_told_by_check_with_their_place() {
    let receiver = Receiver::accepting();
    let sending = Sending::prepare([
        endpoint("filter", &receiver, "json").with("when = \"after.totl > 1\""),
        endpoint("columns", &receiver, "json").with("keep = [\"id\", \"emial\"]"),
        Endpoint::new("away", &format!("http://127.0.0.1:{}/", free_port()), &secret(1), "json"),
    ]);
    let (code, out, _) = sending.rowbridge(&["check"]);
    assert_eq!(code, 1, "{out}");
    for told in [
        "endpoint.when: orders",
        "totl",
        "total",
        "endpoint.columns: orders",
        "emial",
        "away: cannot connect",
    ] {
        assert!(out.contains(told), "{told} is not in {out}");
    }
    assert!(out.contains("rowbridge.toml:") && receiver.requests().is_empty(), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_hold_what_has_gathered() {
    let receiver = Receiver::start(|_| Reply::status(204).after(Duration::from_millis(50)));
    let sending =
        Sending::start([endpoint("crm", &receiver, "json").with("batch = { max_events = 7 }")]).await;
    sending.insert(1..=40);
    let until = tokio::time::Instant::now() + DEADLINE;
    let (requests, ids) = loop {
        let requests = receiver.requests();
        let ids: Vec<i64> = requests
            .iter()
            .flat_map(|request| request.json().as_array().unwrap().iter().map(id).collect::<Vec<_>>())
            .collect();
        if ids.len() >= 40 || tokio::time::Instant::now() > until {
            break (requests, ids);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ids, (1..=40).collect::<Vec<_>>());
    let sizes: Vec<usize> = requests.iter().map(|request| request.json().as_array().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| (1..=7).contains(size)) && sizes.contains(&7), "{sizes:?}");
    assert!(requests.iter().all(|request| request.is_signed_with(&secret(1))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_in_order_while_others_overtake() {
    // Row 1 fails until the others are there.
    let receiver = Receiver::start(|request| {
        let failing = id(&request.json()) == 1;
        Reply::status(if failing { 503 } else { 204 })
    });
    let sending =
        Sending::start([endpoint("crm", &receiver, "json").with("order = \"key\"\nconcurrency = 4")]).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'a', 1)");
    sending.source.execute("UPDATE orders SET status = 'b' WHERE id = 1");
    sending.insert(2..=60);
    for id in 2..=60 {
        sending.source.execute(&format!("UPDATE orders SET status = 'done' WHERE id = {id}"));
    }
    wait_for_ids(&receiver, 2..=60, |request| {
        let event = request.json();
        id(&event) != 1 && event["data"]["op"] == "update"
    })
    .await;
    assert!(
        receiver
            .requests()
            .iter()
            .filter(|request| id(&request.json()) == 1)
            .all(|request| { request.json()["data"]["op"] == "insert" })
    );
    receiver.answer_with(|_| Reply::status(204));
    let requests = wait_for_ids(&receiver, 1..=1, |request| request.json()["data"]["op"] == "update").await;
    assert_eq!(ids(&requests).iter().filter(|id| **id == 1).count(), 1);
    for row in 2..=60 {
        let ops: Vec<String> = receiver
            .requests()
            .iter()
            .map(|request| request.json())
            .filter(|event| id(event) == row)
            .map(|event| event["data"]["op"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ops, ["insert", "update"], "row {row}");
    }
}
