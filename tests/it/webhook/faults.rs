//! Endpoints that fail in all the ways there are, and kills.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// Every event once at least, in order as first sent, and each retry under the id of the first attempt.
pub(crate) fn account(requests: &[Received], rows: i64) {
    let mut first = HashSet::new();
    let order: Vec<i64> = ids(requests).into_iter().filter(|id| first.insert(*id)).collect();
    assert_eq!(order, (1..=rows).collect::<Vec<_>>(), "lost or out of order");
    let mut webhook_ids = HashMap::new();
    for request in requests {
        let row = id(&request.json());
        let webhook_id = request.header("webhook-id").unwrap().to_owned();
        let known = webhook_ids.entry(row).or_insert_with(|| webhook_id.clone());
        assert_eq!(*known, webhook_id, "row {row} came under two ids");
    }
}

/// Inserts rows at a steady rate; the moments at which they were committed.
async fn insert_steadily(sending: &Sending, rows: i64, per_second: u32) -> Vec<Instant> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut commits = Vec::new();
    for id in 1..=rows {
        tick.tick().await;
        sending.insert(id..=id);
        commits.push(Instant::now());
    }
    commits
}

/// From commit to arrival, p50 and p99 in milliseconds, of rows that came in order.
fn waits(commits: &[Instant], requests: &[Received]) -> (f64, f64) {
    let waits =
        commits.iter().zip(requests).map(|(commit, request)| request.at.saturating_duration_since(*commit));
    let mut waits: Vec<f64> = waits.map(|wait| wait.as_secs_f64() * 1e3).collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

/// Waits until the log of attempts holds what `enough` says of an endpoint, and gives their outcomes.
async fn attempts(sending: &Sending, endpoint: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        let (code, out, _) =
            sending.rowbridge(&["attempts", "--endpoint", endpoint, "--limit", "100000", "--json"]);
        assert_eq!(code, 0);
        let outcomes: Vec<String> = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|attempt| attempt["outcome"].as_str().unwrap().to_owned())
            .collect();
        // The last attempt is recorded within a moment of its answer.
        if enough(&outcomes) {
            return outcomes;
        }
        let now = tokio::time::Instant::now();
        assert!(now < until, "{} attempts of {endpoint} are recorded", outcomes.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_endpoints_lose_nothing_and_harm_nobody() {
    // At full size for a minute. All but the dead one can keep up with the rate.
    let rows = rowbridge_tests::size::size(120, 1_800);
    let per_second = rowbridge_tests::size::size(200, 30);
    let count = |every: usize, reply: fn() -> Reply| {
        let seen = AtomicUsize::new(0);
        move |_: &Received| match seen.fetch_add(1, Ordering::Relaxed) % every {
            0 => reply(),
            _ => Reply::status(204),
        }
    };
    let alone = {
        let healthy = Receiver::accepting();
        let sending = Sending::start([endpoint("healthy", &healthy, "json")]).await;
        let rows = rowbridge_tests::size::size(120, 600);
        let commits = insert_steadily(&sending, rows, per_second).await;
        waits(&commits, &wait_for_ids(&healthy, 1..=rows, |_| true).await)
    };
    let healthy = Receiver::accepting();
    let slow = Receiver::start(|_| Reply::status(200).after(Duration::from_millis(10)));
    let half = Receiver::start(count(2, || Reply::status(500)));
    let throttled = Receiver::start(count(40, || Reply::status(429).header("retry-after", "1")));
    let resets = Receiver::start(count(3, Reply::reset));
    let dead = format!("http://127.0.0.1:{}/hook", free_port());
    let fast = "retry = { first = \"5ms\", max = \"50ms\" }";
    let sending = Sending::start([
        endpoint("healthy", &healthy, "json"),
        endpoint("slow", &slow, "json"),
        endpoint("half", &half, "json").with(fast),
        endpoint("throttled", &throttled, "json").with(fast),
        endpoint("resets", &resets, "json").with(fast),
        Endpoint::new("dead", &dead, &secret(1), "json").with(fast),
    ])
    .await;
    let commits = insert_steadily(&sending, rows, per_second).await;
    for (receiver, name) in [
        (&healthy, "healthy"),
        (&slow, "slow"),
        (&half, "half"),
        (&throttled, "throttled"),
        (&resets, "resets"),
    ] {
        wait_for_ids(receiver, 1..=rows, |_| true).await;
        // A connection that is reset before an answer is replaced within the attempt.
        let resent = name == "resets";
        let delivered =
            |outcomes: &[String]| outcomes.iter().filter(|outcome| *outcome == "delivered").count();
        let outcomes = attempts(&sending, name, |outcomes| {
            if resent {
                delivered(outcomes) as i64 == rows
            } else {
                outcomes.len() == receiver.requests().len()
            }
        })
        .await;
        let requests = receiver.requests();
        account(&requests, rows);
        assert!(outcomes.len() <= requests.len(), "{name}: {} attempts", outcomes.len());
        assert_eq!(delivered(&outcomes) as i64, rows, "{name}: each was delivered once");
        if ["healthy", "slow"].contains(&name) {
            assert_eq!(requests.len() as i64, rows, "{name} got everything once");
        }
    }
    let outcomes = attempts(&sending, "dead", |outcomes| !outcomes.is_empty()).await;
    assert!(outcomes.iter().all(|outcome| outcome == "retry"), "{outcomes:?}");
    // A request that was told to come back in a second did not come before.
    let requests = throttled.requests();
    for pair in requests.windows(2) {
        if pair[0].header("webhook-id") == pair[1].header("webhook-id") {
            assert!(pair[1].at - pair[0].at >= Duration::from_secs(1), "Retry-After was not obeyed");
        }
    }
    let beside = waits(&commits, &healthy.requests());
    println!(
        "the healthy endpoint, commit to arrival: alone p50 {:.1} ms, p99 {:.1} ms; beside five bad ones p50 {:.1} ms, p99 {:.1} ms",
        alone.0, alone.1, beside.0, beside.1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_repeat_at_most_what_was_in_flight() {
    let receiver = Receiver::start(|_| Reply::status(204).after(Duration::from_millis(2)));
    let wide = Receiver::start(|_| Reply::status(204).after(Duration::from_millis(2)));
    let sending = Sending::start([
        endpoint("strict", &receiver, "json"),
        endpoint("wide", &wide, "json").with("order = \"none\"\nconcurrency = 5"),
    ])
    .await;
    let rows = rowbridge_tests::size::size(600, 6_000);
    let kills = rowbridge_tests::size::size(5, 24);
    let mut next = 1;
    for kill in 1..=kills {
        let upto = rows * kill / kills;
        sending.insert(next..=upto);
        next = upto + 1;
        receiver.wait_for_requests((upto as usize).saturating_sub(40), DEADLINE).await;
        sending.daemon.kill9();
        sending.daemon.start();
    }
    let requests = wait_for_ids(&receiver, 1..=rows, |_| true).await;
    account(&requests, rows);
    let repeated = requests.len() as i64 - rows;
    let all = wait_for_ids(&wide, 1..=rows, |_| true).await;
    let repeated_wide = all.len() as i64 - rows;
    println!("{kills} kills: {repeated} requests repeated in order, {repeated_wide} of 5 at a time");
    assert!(repeated <= kills, "{repeated} repeated by {kills} kills");
    assert!(repeated_wide <= 5 * kills, "{repeated_wide} repeated by {kills} kills with 5 in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_the_same_requests_after_a_kill() {
    let held = Receiver::start(|_| Reply::status(204).after(Duration::from_secs(600)));
    let sending = Sending::start([endpoint("crm", &held, "json").with("batch = { max_events = 10 }")]).await;
    sending.source.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5)
         INSERT INTO orders SELECT i, 'new', 1 FROM n",
    );
    let first = held.wait_for_requests(1, DEADLINE).await;
    sending.daemon.kill9();
    // More has come since: it is not mixed into the request that may have arrived.
    sending.source.execute(
        "WITH RECURSIVE n(i) AS (SELECT 6 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
         INSERT INTO orders SELECT i, 'new', 1 FROM n",
    );
    held.answer_with(|_| Reply::status(204));
    sending.daemon.start();
    let requests = held.wait_for_requests(5, DEADLINE).await;
    assert_eq!(requests[1].header("webhook-id"), first[0].header("webhook-id"));
    assert_eq!(requests[1].body, first[0].body);
    let seen: Vec<i64> = requests[1..]
        .iter()
        .flat_map(|request| request.json().as_array().unwrap().iter().map(id).collect::<Vec<_>>())
        .collect();
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permanent_errors_are_set_aside_or_halt() {
    let refusing = |request: &Received| Reply::status(if id(&request.json()) == 2 { 400 } else { 204 });
    let (aside, halted) = (Receiver::start(refusing), Receiver::start(refusing));
    let sending = Sending::start([
        endpoint("aside", &aside, "json"),
        endpoint("halted", &halted, "json").with("on_permanent_error = \"halt\""),
    ])
    .await;
    sending.insert(1..=3);
    wait_for_ids(&aside, 1..=3, |_| true).await;
    sending.daemon.wait_for_line(|line| line.contains("the lane is halted")).await;
    assert_eq!(ids(&halted.requests()), [1, 2]);
    let (code, out, _) = sending.rowbridge(&["dead-letter", "list", "--json"]);
    let letters: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, letters.len()), (0, 1), "{out}");
    assert_eq!(letters[0]["endpoint"], "aside");
    // Once the receiver takes it, a retry delivers the same bytes under the same id.
    let refused = aside.requests().into_iter().find(|request| id(&request.json()) == 2).unwrap();
    aside.answer_with(|_| Reply::status(204));
    let (code, _, err) = sending.rowbridge(&["dead-letter", "retry", "--all", "--yes"]);
    assert_eq!(code, 0, "{err}");
    let requests = aside.wait_for_requests(4, DEADLINE).await;
    assert_eq!(
        (&requests[3].body, requests[3].header("webhook-id")),
        (&refused.body, refused.header("webhook-id"))
    );
    assert!(requests[3].is_signed_with(&secret(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_disables_until_an_operator_enables() {
    let receiver = Receiver::start(|_| Reply::status(410));
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    sending.insert(1..=3);
    sending.daemon.wait_for_line(|line| line.contains("the lane is disabled")).await;
    assert_eq!(receiver.requests().len(), 1);
    receiver.answer_with(|_| Reply::status(204));
    // It stays so over a restart.
    let mark = sending.daemon.log().mark();
    sending.daemon.restart().await;
    sending
        .daemon
        .wait_for_line_since(mark, DEADLINE, |line: &str| line.contains("the lane is disabled"))
        .await;
    let (code, _, err) = sending.rowbridge(&["endpoint", "enable", "crm"]);
    assert_eq!(code, 0, "{err}");
    let requests = wait_for_ids(&receiver, 1..=3, |_| true).await;
    assert_eq!(ids(&requests), [1, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_not_followed() {
    let elsewhere = Receiver::accepting();
    let location = elsewhere.url("/secret");
    let receiver = Receiver::start(move |_| Reply::status(302).header("location", &location));
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    sending.insert(1..=1);
    sending
        .daemon
        .wait_for_line(|line| line.contains("set aside as a dead letter") && line.contains("redirects"))
        .await;
    assert!(elsewhere.requests().is_empty());
    let paths: Vec<String> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/hook?x=1"]);
}
