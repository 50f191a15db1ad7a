//! What operators do with endpoints: pause, test, replay.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_endpoint_holds_its_events() {
    let (crm, other) = (Receiver::accepting(), Receiver::accepting());
    let sending = Sending::start([endpoint("crm", &crm, "json"), endpoint("other", &other, "json")]).await;
    let mark = sending.daemon.log().mark();
    assert_eq!(sending.rowbridge(&["endpoint", "pause", "crm"]).0, 0);
    sending
        .daemon
        .wait_for_line_since(mark, DEADLINE, |line: &str| line.contains("the lane is paused"))
        .await;
    sending.insert(1..=5);
    wait_for_ids(&other, 1..=5, |_| true).await;
    assert!(crm.requests().is_empty());
    // Also over a restart.
    sending.daemon.kill9();
    sending.daemon.start();
    sending.insert(6..=7);
    wait_for_ids(&other, 6..=7, |_| true).await;
    assert!(crm.requests().is_empty());
    assert_eq!(sending.rowbridge(&["endpoint", "resume", "crm"]).0, 0);
    let requests = wait_for_ids(&crm, 1..=7, |_| true).await;
    assert_eq!(ids(&requests), (1..=7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_shows_what_the_endpoint_says() {
    let receiver = Receiver::start(|_| Reply::status(418).body("short and stout"));
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    let (code, out, err) = sending.rowbridge(&["endpoint", "test", "crm", "--json"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("418") && out.contains("short and stout"), "{out}");
    let request = &receiver.wait_for_requests(1, DEADLINE).await[0];
    assert!(
        request.is_signed_with(&secret(1)) && request.header("webhook-id").unwrap().starts_with("shop:test-")
    );
    receiver.answer_with(|_| Reply::status(204));
    let (code, out, err) = sending.rowbridge(&["endpoint", "test", "crm"]);
    assert_eq!(code, 0, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_is_of_a_kind_that_the_endpoint_takes() {
    let receiver = Receiver::accepting();
    let of = |name: &str, format: &str, lines: &str| {
        Endpoint::new(name, &receiver.url(&format!("/{name}")), &secret(1), format).with(lines)
    };
    let messages = "operations = [\"message\"]";
    let sending = Sending::prepare([
        of("mails", "json", messages),
        of("cloud", "cloudevents", messages),
        of("binary", "cloudevents", "mode = \"binary\"\ntables = [\"outbox\"]"),
        of("cdc", "debezium", messages),
        of("xml", "xml", messages),
        of("deletes", "json", "operations = [\"delete\", \"truncate\"]"),
    ]);
    sending.source.execute("CREATE TABLE outbox (id TEXT, type TEXT, aggregateid TEXT, payload TEXT)");
    let path = sending.folder.path().join("rowbridge.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}\n[[outbox]]\ntable = \"outbox\"\n")).unwrap();
    sending.daemon.start();
    sending.daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
    let mut seen = Vec::new();
    for name in ["mails", "cloud", "binary", "cdc", "xml", "deletes"] {
        let (code, out, err) = sending.rowbridge(&["endpoint", "test", name]);
        assert_eq!(code, 0, "{name}: {out}{err}");
        seen.push(receiver.wait_for_requests(seen.len() + 1, DEADLINE).await.remove(seen.len()));
    }
    assert!(seen.iter().all(|request| request.is_signed_with(&secret(1))));
    let note = json!({"note": "a test event of Rowbridge"});
    let [mails, cloud, binary, cdc, xml, deletes] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(mails.json()["type"], "message");
    assert_eq!(mails.json()["data"]["message"]["payload"], note, "{}", mails.json());
    assert_eq!((&cloud.json()["type"], &cloud.json()["data"]), (&json!("rowbridge.test"), &note));
    assert_eq!(binary.header("ce-type"), Some("rowbridge.test"));
    assert_eq!(binary.json(), note);
    assert_eq!(cdc.json(), note, "the payload alone, as Debezium has it");
    assert!(String::from_utf8_lossy(&xml.body).contains("op=\"message\""), "{xml:?}");
    assert_eq!(deletes.json()["data"]["op"], "delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_sends_a_part_again_and_says_so() {
    let receiver = Receiver::accepting();
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    sending.insert(1..=20);
    let first = wait_for_ids(&receiver, 1..=20, |_| true).await;
    let position = |row: usize| first[row - 1].json()["position"].as_str().unwrap().to_owned();
    let (from, to) = (position(5), position(9));
    let (code, out, err) =
        sending.rowbridge(&["replay", "--endpoint", "crm", "--from", &from, "--to", &to, "--follow"]);
    assert_eq!(code, 0, "{out}{err}");
    let requests = receiver.wait_for_requests(25, DEADLINE).await;
    assert_eq!(ids(&requests[20..]), [5, 6, 7, 8, 9]);
    for (again, before) in requests[20..].iter().zip(&first[4..9]) {
        assert_eq!(again.header("webhook-id"), before.header("webhook-id"));
        assert_eq!(
            (again.header("rowbridge-replay"), before.header("rowbridge-replay")),
            (Some("true"), None)
        );
        assert_eq!(again.json()["replay"], true);
    }
    // The lane goes on where it was.
    sending.insert(21..=21);
    let requests = wait_for_ids(&receiver, 21..=21, |_| true).await;
    assert_eq!(requests.len(), 26);
    let (code, out, err) = sending.rowbridge(&["replay", "--endpoint", "crm", "--since", "1h", "--follow"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(ids(&receiver.wait_for_requests(47, DEADLINE).await[26..]), (1..=21).collect::<Vec<_>>());
}
