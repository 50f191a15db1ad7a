//! PostgreSQL's logical messages as events.

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};

use super::outbox::wait_until;
use super::*;

/// Type and payload of each message, the first time that it came, and that its id stayed the same.
fn told(requests: &[Received]) -> Vec<(String, Value)> {
    let (mut told, mut ids) = (Vec::new(), Vec::new());
    for request in requests {
        let event = request.json();
        assert_eq!(request.header("webhook-id"), event["id"].as_str());
        if ids.contains(&event["id"]) {
            continue;
        }
        ids.push(event["id"].clone());
        let message = &event["data"]["message"];
        let shown = match event["type"].as_str() {
            Some("message") => (message["type"].as_str().unwrap().to_owned(), message["payload"].clone()),
            other => (other.unwrap().to_owned(), event["data"]["key"]["id"].clone()),
        };
        told.push(shown);
    }
    told
}

async fn sending(all: &Receiver, debezium: &Receiver) -> Pair {
    let mut pair = Pair::prepare(PairOptions::crossing(Kind::Postgres, Kind::Sqlite)).await;
    pair.source_execute("CREATE TABLE orders (id bigint PRIMARY KEY, status text)").await;
    let config = &mut pair.publisher_config;
    config.source_extra += "messages = [\"app.*\", \"!app.draft\"]\n";
    config.endpoints.push(endpoint("all", all, "json"));
    config.endpoints.push(endpoint("debezium", debezium, "debezium").with("operations = [\"message\"]"));
    pair.write_configs();
    pair
}

fn emit(transactional: bool, prefix: &str, content: &str) -> String {
    format!("SELECT pg_logical_emit_message({transactional}, '{prefix}', {content})")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logical_messages_are_events_in_their_order() {
    let (all, debezium) = (Receiver::accepting(), Receiver::accepting());
    let pair = sending(&all, &debezium).await;
    pair.start().await;
    // In a transaction: in order with its rows. Rolled back: never, but for one that is of no transaction.
    pair.source_execute(&format!(
        "BEGIN; {}; INSERT INTO orders VALUES (1, 'new'); {}; {}; COMMIT",
        emit(true, "app.a", "'{\"n\": 1}'"),
        emit(true, "other", "'no'"),
        emit(true, "app.b", "'not JSON'"),
    ))
    .await;
    let (lost, alone) = (emit(true, "app.lost", "'x'"), emit(false, "app.alone", "'{\"n\": 2}'"));
    pair.source_execute(&format!("BEGIN; {lost}; {alone}; ROLLBACK")).await;
    pair.source_execute(&emit(true, "app.draft", "'x'")).await;
    pair.source_execute(&emit(true, "app.c", "'\\x00ff10'::bytea")).await;
    pair.source_execute("INSERT INTO orders VALUES (2, 'new')").await;
    let requests = wait_until(&all, |requests| told(requests).len() >= 6).await;
    let expected = [
        ("app.a", json!({"n": 1})),
        ("row.insert", json!(1)),
        ("app.b", json!("not JSON")),
        ("app.alone", json!({"n": 2})),
        ("app.c", json!("AP8Q")),
        ("row.insert", json!(2)),
    ];
    assert_eq!(told(&requests), expected.map(|(kind, payload)| (kind.to_owned(), payload)));
    let event = requests
        .iter()
        .map(Received::json)
        .find(|event| event["data"]["message"]["type"] == "app.c")
        .unwrap();
    assert_eq!(event["data"]["message"]["encoding"], "base64");
    assert_eq!((&event["schema"], &event["table"]), (&Value::Null, &json!("pg_logical_message")));
    let envelopes = debezium.wait_for_requests(4, DEADLINE).await;
    let envelopes: Vec<Value> = envelopes.iter().map(Received::json).collect();
    assert!(envelopes.iter().all(|envelope| envelope["op"] == "m"), "{envelopes:?}");
    assert_eq!(envelopes[3]["message"], json!({"prefix": "app.c", "content": "AP8Q"}));
    assert_eq!(envelopes[0]["message"], json!({"prefix": "app.a", "content": "eyJuIjogMX0="}));
    assert_eq!(
        (&envelopes[0]["source"]["table"], &envelopes[0]["source"]["schema"]),
        (&json!(""), &json!(""))
    );
    // The bridge passes them by, and is where the source is.
    pair.wait_equal(&["orders"]).await;
    assert_eq!(pair.target_file().count("pg_logical_message"), None);
}

/// Kills of the publisher while messages of both kinds come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logical_messages_survive_kills() {
    let (all, debezium) = (Receiver::accepting(), Receiver::accepting());
    let pair = sending(&all, &debezium).await;
    pair.start().await;
    let rounds = rowbridge_tests::size::size(40, 400);
    for at in 1..=rounds {
        let alone = emit(false, "app.alone", &format!("'{at}'"));
        let within = emit(true, "app.within", &format!("'{at}'"));
        pair.source_execute(&alone).await;
        pair.source_execute(&format!("BEGIN; INSERT INTO orders VALUES ({at}, 'new'); {within}; COMMIT"))
            .await;
        if at % (rounds / 4) == 0 {
            pair.publisher().kill9();
            // One that nobody hears at once.
            pair.source_execute(&emit(false, "app.alone", &format!("'{at}5'"))).await;
            pair.publisher().start();
        }
    }
    pair.wait_publisher().await;
    pair.source_execute(&emit(true, "app.end", "'0'")).await;
    let requests =
        wait_until(&all, |requests| told(requests).iter().any(|(kind, _)| kind == "app.end")).await;
    let mut expected = Vec::new();
    for at in 1..=rounds {
        expected.extend([("app.alone", at), ("row.insert", at), ("app.within", at)]);
        if at % (rounds / 4) == 0 {
            expected.push(("app.alone", at * 10 + 5));
        }
    }
    expected.push(("app.end", 0));
    let expected: Vec<_> = expected.into_iter().map(|(kind, at)| (kind.to_owned(), json!(at))).collect();
    assert_eq!(told(&requests), expected);
    pair.wait_equal(&["orders"]).await;
    // In order with a restart, nothing comes again.
    let before = all.requests().len();
    pair.publisher().restart().await;
    pair.wait_publisher().await;
    pair.source_execute(&emit(false, "app.alone", "'1'")).await;
    pair.source_execute("INSERT INTO orders VALUES (100000, 'new')").await;
    let requests = wait_until(&all, |requests| requests.len() >= before + 2).await;
    assert_eq!(requests.len(), before + 2, "a message came again after a restart in order");
}
