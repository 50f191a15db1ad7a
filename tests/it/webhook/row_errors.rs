//! Expressions that fail for one row: the event is set aside, or halts its endpoint, and the others go.

use rowbridge_tests::metrics;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_computed_column_that_fails_for_a_row_sets_that_event_aside() {
    let receiver = Receiver::accepting();
    let columns = "columns = { share = { value = \"100 / after.total\" }, status = { mask = true } }";
    let sending = Sending::start([endpoint("crm", &receiver, "json").with(columns)]).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'a', 4)");
    sending.source.execute("INSERT INTO orders VALUES (2, 'b', 0)");
    sending.source.execute("INSERT INTO orders VALUES (3, 'c', 5)");
    let requests = receiver.wait_for_requests(2, DEADLINE).await;
    assert_eq!(ids(&requests), [1, 3]);
    let letter = sending.letters(1).await.remove(0);
    assert_eq!(
        (&letter["error_class"], &letter["op"], &letter["key"]),
        (&json!("expression"), &json!("insert"), &json!("id=2"))
    );
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("share") && reason.contains("division by zero"), "{letter}");
    let number = letter["id"].to_string();
    let (_, shown, _) = sending.rowbridge(&["dead-letter", "show", &number]);
    let event: Value = serde_json::from_str(shown.trim()).unwrap();
    assert_eq!(event["data"]["after"], json!({"id": 2, "status": "***", "total": 0}), "{event}");
    let (_, out, _) = sending.rowbridge(&["attempts", "--endpoint", "crm", "--failed", "--json"]);
    let attempt: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(
        (&attempt["error_class"], &attempt["outcome"]),
        (&json!("expression"), &json!("permanent")),
        "{out}"
    );
    let config = std::fs::read_to_string(sending.path()).unwrap();
    let port = config.split("[admin]").nth(1).and_then(|text| text.split(['"', ':']).nth(2)).unwrap();
    let labels = [("endpoint", "crm")];
    let count = "rowbridge_lane_dead_letters_total";
    metrics::wait_for(port.parse().unwrap(), count, &labels, DEADLINE, |value| value == 1.0).await;
    // What is still wrong stays a dead letter; what was corrected arrives.
    let (_, out, _) = sending.rowbridge(&["dead-letter", "retry", &number, "--follow", "--json"]);
    let job: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&job["sent"], &job["failed"]), (&json!(0), &json!(1)), "{job}");
    sending.restart_with("100 / after.total", "after.total == 0 ? 0 : 100 / after.total");
    let (code, out, err) = sending.rowbridge(&["dead-letter", "retry", &number, "--follow"]);
    assert_eq!(code, 0, "{out}{err}");
    let requests = receiver.wait_for_requests(3, DEADLINE).await;
    let event = requests[2].json();
    assert_eq!(event["data"]["after"]["share"].as_f64(), Some(0.0), "{event}");
    assert_eq!(
        (event["data"]["after"]["id"].as_i64(), event["data"]["op"].as_str()),
        (Some(2), Some("insert"))
    );
    assert_eq!(requests[2].header("webhook-id"), letter["webhook_id"].as_str());
    assert!(requests[2].is_signed_with(&secret(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_fails_for_a_row_leaves_its_batch_alone() {
    let receiver = Receiver::accepting();
    let lines = "when = \"100 / after.total > 1\"\nbatch = { max_events = 10 }";
    let sending = Sending::start([endpoint("crm", &receiver, "json").with(lines)]).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'a', 4), (2, 'b', 0), (3, 'c', 5), (4, 'd', 500)");
    sending.source.execute("INSERT INTO orders VALUES (5, 'e', 6)");
    let until = tokio::time::Instant::now() + DEADLINE;
    let all = |requests: &[Received]| -> Vec<i64> {
        requests
            .iter()
            .flat_map(|request| request.json().as_array().unwrap().iter().map(id).collect::<Vec<_>>())
            .collect()
    };
    while all(&receiver.requests()).len() < 3 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(all(&receiver.requests()), [1, 3, 5]);
    let letter = sending.letters(1).await.remove(0);
    assert_eq!((&letter["key"], &letter["events"]), (&json!("id=2"), &json!(1)));
    assert!(letter["reason"].as_str().unwrap().contains("endpoint.when"), "{letter}");
    // By the filter as it is then, the event is not for this endpoint: the letter is done with.
    sending.restart_with("100 / after.total > 1", "after.total > 0");
    let (code, out, err) =
        sending.rowbridge(&["dead-letter", "retry", &letter["id"].to_string(), "--follow"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(all(&receiver.requests()).iter().all(|id| *id != 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_to_halt_halts_at_the_row() {
    let receiver = Receiver::accepting();
    let lines = "when = \"100 / after.total > 1\"\non_permanent_error = \"halt\"\noperations = [\"insert\"]";
    let sending = Sending::start([endpoint("crm", &receiver, "json").with(lines)]).await;
    sending.source.execute(
        "INSERT INTO orders VALUES (1, 'a', 4); UPDATE orders SET total = 5 WHERE id = 1;
         INSERT INTO orders VALUES (2, 'b', 0); INSERT INTO orders VALUES (3, 'c', 5)",
    );
    let line = sending.daemon.wait_for_line(|line| line.contains("division by zero")).await;
    assert!(line.contains("endpoint.when"), "{line}");
    assert_eq!(ids(&receiver.requests()), [1]);
    sending.restart_with("100 / after.total > 1", "after.total == 0 || 100 / after.total > 1");
    let requests = receiver.wait_for_requests(3, DEADLINE).await;
    assert_eq!(ids(&requests), [1, 2, 3]);
}
