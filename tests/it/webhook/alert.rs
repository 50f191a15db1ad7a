//! Who is told how endpoints are doing.

use rowbridge_tests::config::Endpoint;

use super::*;

/// A publisher with these endpoints and alerts.
async fn start(endpoints: Vec<Endpoint>, alerts: &str) -> Sending {
    let sending = Sending::prepare(endpoints);
    sending.add(alerts);
    sending.daemon.start();
    sending.daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
    sending
}

fn alert(name: &str, receiver: &Receiver, lines: &str) -> String {
    format!("[[alert]]\nname = \"{name}\"\nurl = \"{}\"\n{lines}\n", receiver.url("/alert"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_and_recoveries_are_told_once_over_restarts() {
    let (crm, on_call, chat) = (Receiver::accepting(), Receiver::accepting(), Receiver::accepting());
    let fast = "retry = { first = \"5ms\", max = \"50ms\" }";
    let body = "body = '{\"text\": \"{{ after.endpoint }} is {{ after.state }}: {{ after.reason }}\"}'";
    let signed = format!("secret = \"{}\"\nafter = \"0s\"\n{fast}", secret(2));
    let sending = start(
        vec![endpoint("crm", &crm, "json").with(fast)],
        &[
            alert("on-call", &on_call, &signed),
            alert(
                "chat",
                &chat,
                &format!(
                    "signature = \"none\"\nformat = \"template\"\n{body}\non = [\"disabled\"]\nafter = \"0s\""
                ),
            ),
        ]
        .concat(),
    )
    .await;
    // The first telling is refused at first: it is told again, under the same id.
    on_call.answer_with(|request| Reply::status(if request.number == 1 { 503 } else { 204 }));
    crm.answer_with(|_| Reply::status(500));
    sending.insert(1..=1);
    let told = on_call.wait_for_requests(2, DEADLINE).await;
    assert!(told.iter().all(|request| request.is_signed_with(&secret(2))));
    assert_eq!((&told[0].body, told[0].header("webhook-id")), (&told[1].body, told[1].header("webhook-id")));
    let event = told[1].json();
    assert_eq!((&event["type"], &event["data"]["endpoint"]), (&json!("endpoint.failing"), &json!("crm")));
    assert!(event["data"]["reason"].as_str().unwrap().contains("500"), "{event}");
    crm.answer_with(|_| Reply::status(204));
    let told = on_call.wait_for_requests(3, DEADLINE).await;
    assert_eq!(told[2].json()["type"], "endpoint.recovered");
    // Nothing is told again after a restart, and what happens then is.
    sending.daemon.kill9();
    crm.answer_with(|_| Reply::status(410));
    sending.daemon.start();
    sending.insert(2..=2);
    let told = chat.wait_for_requests(1, DEADLINE).await;
    assert_eq!(
        told[0].json()["text"],
        "crm is disabled: the endpoint answered 410: it takes nothing any more"
    );
    let until = tokio::time::Instant::now() + DEADLINE;
    let told = loop {
        let told = on_call.requests();
        if told.iter().any(|request| request.json()["type"] == "endpoint.disabled") {
            break told;
        }
        assert!(tokio::time::Instant::now() < until, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // What was under way when it was killed may come again, under the same id.
    let mut types: Vec<(String, String)> = told
        .iter()
        .map(|request| (request.header("webhook-id").unwrap().to_owned(), request.json()["type"].to_string()))
        .collect();
    types.dedup();
    let types: Vec<&str> = types.iter().map(|(_, kind)| kind.trim_matches('"')).collect();
    assert_eq!(types, ["endpoint.failing", "endpoint.recovered", "endpoint.disabled"]);
    let (code, out, err) = sending.rowbridge(&["attempts", "--endpoint", "on-call", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"status\":503") && out.contains("\"status\":204"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_is_told_of_too_and_a_short_failure_is_not() {
    let (crm, now, later) = (Receiver::accepting(), Receiver::accepting(), Receiver::accepting());
    let dead = format!("http://127.0.0.1:{}/in/shop", free_port());
    let lines = |after: &str| format!("signature = \"none\"\nafter = \"{after}\"");
    let sending = start(
        vec![Endpoint::bridge("copy", &dead, &secret(1)), endpoint("crm", &crm, "json")],
        &[alert("now", &now, &lines("0s")), alert("later", &later, &lines("1h"))].concat(),
    )
    .await;
    let told = now.wait_for_requests(1, DEADLINE).await;
    assert_eq!(told[0].json()["data"]["endpoint"], "copy");
    assert_eq!(told[0].json()["type"], "endpoint.failing");
    crm.answer_with(|_| Reply::status(500));
    sending.insert(1..=1);
    now.wait_for_requests(2, DEADLINE).await;
    crm.answer_with(|_| Reply::status(204));
    now.wait_for_requests(3, DEADLINE).await;
    // Paused is told at once: what came before it was not.
    assert_eq!(sending.rowbridge(&["endpoint", "pause", "crm"]).0, 0);
    let told = later.wait_for_requests(1, DEADLINE).await;
    assert_eq!(told[0].json()["type"], "endpoint.paused");
    assert_eq!(told.len(), 1);
}
