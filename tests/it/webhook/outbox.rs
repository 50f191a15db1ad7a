//! Messages from outbox tables of all three databases, beside a bridge that copies the other tables.

use rowbridge_tests::kills::kill_in_turn;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};

use super::*;

/// Two receivers: one takes everything, one only some messages, as CloudEvents.
struct Told {
    pair: Pair,
    all: Receiver,
    paid: Receiver,
}

const DELETED_AT_ONCE: &str = "BEGIN;
     INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES ('m2', 'order', '1', 'order.seen', '{\"order\": 1}');
     DELETE FROM outbox WHERE id = 'm2';
     COMMIT";

fn schema(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => {
            "CREATE TABLE orders (id bigint PRIMARY KEY, status text);
             CREATE TABLE outbox (id text PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)"
        }
        Kind::Mariadb => {
            "CREATE TABLE orders (id bigint PRIMARY KEY, status varchar(20));
             CREATE TABLE outbox (id varchar(36) PRIMARY KEY, aggregatetype varchar(20), aggregateid varchar(20),
                 type varchar(20), payload json)"
        }
        Kind::Sqlite => {
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT);
             CREATE TABLE outbox (id TEXT PRIMARY KEY, aggregatetype TEXT, aggregateid TEXT, type TEXT, payload TEXT)"
        }
    }
}

fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "public.outbox",
        Kind::Mariadb => "shop.outbox",
        Kind::Sqlite => "outbox",
    }
}

fn message(id: &str, key: &str, kind: &str) -> String {
    format!(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
         VALUES ('{id}', 'order', '{key}', '{kind}', '{{\"order\": {key}, \"total\": 19.90}}')"
    )
}

impl Told {
    async fn prepare(kind: Kind) -> Self {
        let mut pair = Pair::prepare(PairOptions::crossing(kind, Kind::Sqlite)).await;
        pair.source_execute(schema(kind)).await;
        pair.source_execute(&message("m0", "0", "order.paid")).await;
        let (all, paid) = (Receiver::accepting(), Receiver::accepting());
        let config = &mut pair.publisher_config;
        config.endpoints.push(endpoint("all", &all, "json"));
        config.endpoints.push(endpoint("paid", &paid, "cloudevents").with(
            "operations = [\"message\"]\nwhen = \"message.type == 'order.paid' && message.payload.total > 10\"\n\
             order = \"key\"\nconcurrency = 4",
        ));
        let json = if kind == Kind::Postgres { "" } else { "json = true\n" };
        config.extra += &format!("[[outbox]]\ntable = \"{}\"\n{json}", table(kind));
        pair.write_configs();
        Self { pair, all, paid }
    }
}

/// Ids of the messages, each once, in the order in which they first came.
fn ids_of_messages(requests: &[Received]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for event in requests.iter().map(Received::json).filter(|event| event["type"] == "message") {
        let id = event["data"]["message"]["id"].as_str().unwrap().to_owned();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

async fn wait_for_message(receiver: &Receiver, id: &str) -> Vec<Received> {
    wait_until(receiver, |requests| ids_of_messages(requests).iter().any(|found| found == id)).await
}

/// Waits until what has come is enough.
pub(super) async fn wait_until(receiver: &Receiver, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
    let until = tokio::time::Instant::now() + 4 * DEADLINE;
    loop {
        let requests = receiver.requests();
        if enough(&requests) {
            return requests;
        }
        let seen = requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
        assert!(tokio::time::Instant::now() < until, "not all has come: {:?}", seen.collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn new_rows_are_messages_and_nothing_else_is(kind: Kind) {
    let told = Told::prepare(kind).await;
    let pair = &told.pair;
    pair.start().await;
    pair.source_execute(&format!(
        "BEGIN; INSERT INTO orders VALUES (1, 'paid'); {}; COMMIT",
        message("m1", "1", "order.paid")
    ))
    .await;
    pair.source_execute(DELETED_AT_ONCE).await;
    pair.source_execute(&format!("BEGIN; {}; ROLLBACK", message("lost", "1", "order.paid"))).await;
    pair.source_execute("UPDATE outbox SET type = 'order.seen' WHERE id = 'm1'").await;
    pair.source_execute("DELETE FROM outbox WHERE id = 'm1'").await;
    pair.source_execute(&message("m3", "2", "order.paid")).await;
    let requests = wait_for_message(&told.all, "m3").await;
    let seen: Vec<(String, String)> = requests
        .iter()
        .map(Received::json)
        .map(|event| (event["type"].as_str().unwrap().into(), event["table"].as_str().unwrap().into()))
        .collect();
    let expected =
        [("row.insert", "orders"), ("message", "outbox"), ("message", "outbox"), ("message", "outbox")];
    assert_eq!(seen, expected.map(|(kind, table)| (kind.to_owned(), table.to_owned())));
    assert_eq!(ids_of_messages(&requests), ["m1", "m2", "m3"]);
    let first = requests[1].json();
    let message = &first["data"]["message"];
    assert_eq!((&message["type"], &message["key"]), (&json!("order.paid"), &json!("1")));
    assert_eq!(message["payload"], json!({"order": 1, "total": 19.9}), "{first}");
    assert_eq!(message["headers"], json!({"aggregatetype": "order"}));
    assert_eq!(requests[1].header("webhook-id"), first["id"].as_str());
    // The other endpoint has those that it asked for, as events of the application's own.
    let paid = told.paid.wait_for_requests(2, DEADLINE).await;
    let shown: Vec<_> = paid.iter().map(Received::json).collect();
    let mut subjects: Vec<_> = shown.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["1", "2"]);
    assert!(shown.iter().all(|event| event["type"] == "order.paid"), "{shown:?}");
    assert!(shown.iter().all(|event| event["data"]["total"] == 19.9), "{shown:?}");
    // The bridge has the orders and no outbox.
    pair.wait_equal(&["orders"]).await;
    assert_eq!(pair.target_file().count("outbox"), None, "the bridge copied the outbox");
    let (code, out, err) = rowbridge(
        pair.publisher_path().parent().unwrap(),
        &["check", "--config", pair.publisher_path().to_str().unwrap()],
    );
    assert!(out.contains(&format!("{} is an outbox", table(kind))), "{code} {out} {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_in_postgres() {
    new_rows_are_messages_and_nothing_else_is(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_in_mariadb() {
    new_rows_are_messages_and_nothing_else_is(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_in_sqlite() {
    new_rows_are_messages_and_nothing_else_is(Kind::Sqlite).await;
}

/// Publisher and subscriber are killed while messages come, and the table is cleared all the time.
async fn messages_survive_kills(kind: Kind) {
    let told = Told::prepare(kind).await;
    let pair = &told.pair;
    pair.start().await;
    let count = rowbridge_tests::size::size(60, 600);
    let writing = async {
        for at in 1..=count {
            let message = message(&format!("k{at}"), &(at % 7).to_string(), "order.paid");
            pair.source_execute(&format!(
                "BEGIN; INSERT INTO orders VALUES ({at}, 'paid'); {message}; COMMIT"
            ))
            .await;
            pair.source_execute(&format!("DELETE FROM outbox WHERE id = 'k{}'", at - 1)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(writing, kill_in_turn(pair, 3, Duration::from_millis(600)));
    pair.wait_publisher().await;
    let requests = wait_for_message(&told.all, &format!("k{count}")).await;
    assert_eq!(ids_of_messages(&requests), (1..=count).map(|at| format!("k{at}")).collect::<Vec<_>>());
    let mut known = std::collections::HashMap::new();
    for request in &requests {
        let event = request.json();
        let webhook_id = request.header("webhook-id").unwrap().to_owned();
        assert_eq!(event["id"], webhook_id);
        if event["type"] == "message" {
            let id = event["data"]["message"]["id"].as_str().unwrap().to_owned();
            let first = known.entry(id).or_insert_with(|| webhook_id.clone());
            assert_eq!(*first, webhook_id, "a message came under two ids");
        } else {
            assert_eq!((&event["type"], &event["table"]), (&json!("row.insert"), &json!("orders")));
        }
    }
    pair.wait_equal(&["orders"]).await;
    assert_eq!(pair.target_file().count("outbox"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_postgres_survive_kills() {
    messages_survive_kills(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_mariadb_survive_kills() {
    messages_survive_kills(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_copies_an_outbox_that_it_names() {
    let mut told = Told::prepare(Kind::Sqlite).await;
    let bridge = &mut told.pair.publisher_config.endpoints[0];
    *bridge = bridge.clone().with("tables = [\"*\", \"outbox\"]");
    told.pair.write_configs();
    told.pair.start().await;
    told.pair.source_execute(&message("m1", "1", "order.paid")).await;
    let requests = wait_for_message(&told.all, "m1").await;
    assert_eq!(ids_of_messages(&requests), ["m1"], "existing rows are no messages");
    told.pair.wait_equal(&["orders", "outbox"]).await;
    assert_eq!(told.pair.target_file().count("outbox"), Some(2), "the bridge has existing rows, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_missing_is_told_by_check_and_halts_what_needs_it() {
    let receiver = Receiver::accepting();
    let sending = Sending::prepare([endpoint("crm", &receiver, "json")]);
    let path = sending.folder.path().join("rowbridge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let outbox = "[[outbox]]\ntable = \"outbox\"\nkey = \"order_id\"\n[[outbox]]\ntable = \"letters\"\n";
    std::fs::write(&path, format!("{text}{outbox}")).unwrap();
    sending.source.execute("CREATE TABLE outbox (id TEXT, type TEXT, orderid TEXT, payload TEXT)");
    let (code, out, _) = sending.rowbridge(&["check"]);
    assert_eq!(code, 1, "{out}");
    for told in [
        "outbox.key: outbox has no column order_id (did you mean orderid?)",
        "outbox.table: there is no table letters",
    ] {
        assert!(out.contains(told), "{told} is not in {out}");
    }
    sending.daemon.start();
    sending.daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
    sending.source.execute("INSERT INTO outbox VALUES ('a', 'b', 'c', 'd')");
    sending
        .daemon
        .wait_for_line(|line| line.contains("[[outbox]] does not fit outbox") && line.contains("order_id"))
        .await;
    assert!(receiver.requests().is_empty());
    // Once the file is right, what has waited is sent.
    std::fs::write(&path, format!("{text}{}", outbox.replace("order_id", "orderid"))).unwrap();
    sending.daemon.restart().await;
    let requests = wait_for_message(&receiver, "a").await;
    assert_eq!(requests[0].json()["data"]["message"]["key"], "c");
}
