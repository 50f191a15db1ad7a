//! What verified deliveries come to.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rowbridge_schema::Position;
use rowbridge_schema::SourceId;
use rowbridge_schema::wire::AnswerStatus;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::fake::{FakeTarget, Fault};
use super::harness::{Post, at, body, eventually, head, read_reply, start, start_with};
use crate::{Limits, TargetHealth};

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_tells_where_the_lane_stands() {
    let harness = start().await;
    let ask = head(None, None);
    let answer = harness.answer(&harness.deliver(&ask, &[]).await);
    assert_eq!((answer.status, answer.position), (AnswerStatus::Applied, None));
    assert!(harness.target.shared.progress.lock().unwrap().is_empty());
    harness.target.set_progress("pg-1", at(7));
    let answer = harness.answer(&harness.deliver(&ask, &[]).await);
    assert_eq!((answer.status, answer.position), (AnswerStatus::Applied, Some(at(7))));
    let mut foreign = ask;
    foreign.source = SourceId("pg-2".into());
    let reply = harness.deliver(&foreign, &[]).await;
    let answer = harness.answer(&reply);
    assert_eq!((reply.status, answer.status), (409, AnswerStatus::ForeignSource));
    assert_eq!(answer.position, Some(at(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_like_the_first_and_changes_nothing() {
    let harness = start().await;
    let post = harness.post(body(&head(Some(0), Some(30)), &[10, 20, 30]));
    for _ in 0..2 {
        let reply = harness.send(&post).await;
        let answer = harness.answer(&reply);
        assert_eq!((reply.status, answer.status), (200, AnswerStatus::Applied));
        assert_eq!((answer.position, answer.endpoint.as_str()), (Some(at(30)), "copy"));
    }
    assert_eq!(harness.target.applies(), [3, 0]);
    assert_eq!(harness.target.shared.opened.load(Ordering::SeqCst), 1);
    assert_eq!(harness.metric("rowbridge_apply_changes_total", "applied"), 3.0);
    assert_eq!(harness.metric("rowbridge_apply_changes_total", "duplicate"), 3.0);
    assert_eq!(harness.metric("rowbridge_commit_to_apply_seconds", "shop"), 3.0);
    assert_eq!(harness.metric("rowbridge_receive_requests_total", "200"), 2.0);
    assert_eq!(harness.metric("rowbridge_receive_duration_seconds", "shop"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_transaction_are_staged_and_committed_by_the_last() {
    let harness = start().await;
    let mut part = head(Some(0), Some(10));
    part.open = true;
    let answer = harness.answer(&harness.deliver(&part, &[10]).await);
    assert_eq!((answer.status, answer.position, answer.staged), (AnswerStatus::Staged, None, Some(at(10))));
    let answer = harness.answer(&harness.deliver(&head(Some(10), Some(20)), &[20]).await);
    assert_eq!((answer.status, answer.position), (AnswerStatus::Applied, Some(at(20))));
    assert_eq!((answer.staged, harness.target.shared.rolled_back.load(Ordering::SeqCst)), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_rest_does_not_come_is_rolled_back() {
    // Far more than two requests take one after the other.
    let limits = Limits { staged_timeout: Duration::from_secs(2), ..Limits::default() };
    let harness = start_with(FakeTarget::new(), limits, |_| {}).await;
    let rolled_back = || harness.target.shared.rolled_back.load(Ordering::SeqCst);
    let mut part = head(Some(0), Some(10));
    part.open = true;
    harness.deliver(&part, &[10]).await;
    eventually("the timer rolls back", || rolled_back() == 1).await;
    let reply = harness.deliver(&head(Some(10), Some(20)), &[20]).await;
    assert_eq!((reply.status, harness.answer(&reply).status), (409, AnswerStatus::Gap));
    // A part that goes on in time stops the timer.
    harness.deliver(&part, &[10]).await;
    assert_eq!(harness.deliver(&head(Some(10), Some(20)), &[20]).await.status, 200);
    // A part that came later, in another lane, runs out of time; the first would have done so before.
    part.endpoint = "other".parse().unwrap();
    harness.deliver(&part, &[10]).await;
    eventually("the other lane's timer rolls back", || rolled_back() >= 2).await;
    assert_eq!(rolled_back(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_follow_ends_the_open_transaction() {
    let harness = start().await;
    let rolled_back = || harness.target.shared.rolled_back.load(Ordering::SeqCst);
    let mut part = head(Some(0), Some(10));
    part.open = true;
    for (round, rejected) in [false, true].into_iter().enumerate() {
        assert_eq!(harness.answer(&harness.deliver(&part, &[10]).await).status, AnswerStatus::Staged);
        let (next, expected) = if rejected {
            harness.target.fail_next(Fault::Reject);
            (head(Some(10), Some(20)), AnswerStatus::Rejected)
        } else {
            (head(Some(15), Some(20)), AnswerStatus::Gap)
        };
        let answer = harness.answer(&harness.deliver(&next, &[20]).await);
        assert_eq!((answer.status, answer.position), (expected, None));
        assert_eq!(rolled_back(), round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_say_where_the_target_stands() {
    let harness = start().await;
    harness.target.set_progress("pg-1", Position { epoch: 2, ..at(10) });
    let committed = Some(Position { epoch: 2, ..at(10) });
    let mut gap = head(Some(20), Some(30));
    (gap.prev, gap.to) = (Some(Position { epoch: 2, ..at(20) }), Some(Position { epoch: 2, ..at(30) }));
    let old = head(Some(0), Some(30));
    let mut foreign = old.clone();
    foreign.source = SourceId("pg-2".into());
    let cases =
        [(gap, AnswerStatus::Gap), (old, AnswerStatus::OldEpoch), (foreign, AnswerStatus::ForeignSource)];
    for (head, status) in cases {
        let reply = harness.deliver(&head, &[30]).await;
        let answer = harness.answer(&reply);
        assert_eq!((reply.status, answer.status, answer.position), (409, status, committed));
        assert!(answer.message.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_target_are_told_by_their_class() {
    let harness = start().await;
    let delivery = head(Some(0), Some(10));
    harness.target.fail_next(Fault::Reject);
    let reply = harness.deliver(&delivery, &[10]).await;
    let answer = harness.answer(&reply);
    assert_eq!((reply.status, answer.status), (422, AnswerStatus::Rejected));
    assert_eq!(answer.failing[0].table, "public.orders");
    assert_eq!(harness.target.shared.opened.load(Ordering::SeqCst), 1);

    harness.target.fail_next(Fault::Lost);
    let reply = harness.deliver(&delivery, &[10]).await;
    assert_eq!((reply.status, harness.answer(&reply).status), (503, AnswerStatus::Unavailable));
    assert_eq!(reply.header("retry-after"), Some("1"));

    harness.target.fail_next(Fault::NoRights);
    let reply = harness.deliver(&delivery, &[10]).await;
    let answer = harness.answer(&reply);
    assert_eq!((reply.status, answer.status), (422, AnswerStatus::Rejected));
    assert_eq!(answer.message.as_deref(), Some("the fake target has a fault: NoRights. Run the GRANT."));

    harness.target.fail_next(Fault::Panic);
    assert_eq!(harness.deliver(&delivery, &[10]).await.status, 500);

    // Each fault cost its session and nothing else.
    assert_eq!(harness.deliver(&delivery, &[10]).await.status, 200);
    assert_eq!(harness.target.shared.opened.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_is_reported_and_found_again() {
    let target = FakeTarget::new();
    target.shared.away.store(true, Ordering::SeqCst);
    let mut harness = start_with(target, Limits::default(), |_| {}).await;
    harness.health.wait_for(|health| matches!(health, TargetHealth::Failed { .. })).await.unwrap();
    let reply = harness.deliver(&head(Some(0), Some(10)), &[10]).await;
    assert_eq!((reply.status, harness.answer(&reply).status), (503, AnswerStatus::Unavailable));
    harness.target.shared.away.store(false, Ordering::SeqCst);
    harness.health.wait_for(|health| *health == TargetHealth::Reachable).await.unwrap();
    assert_eq!(harness.deliver(&head(Some(0), Some(10)), &[10]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_takes_one_request_at_a_time_and_other_lanes_go_on() {
    let limits = Limits { lane_wait: Duration::from_millis(300), ..Limits::default() };
    let harness = start_with(FakeTarget::closed(), limits, |_| {}).await;
    let delivery = head(Some(0), Some(10));
    let (first, second) = tokio::join!(harness.deliver(&delivery, &[10]), async {
        eventually("the first is at work", || harness.target.shared.at_work.load(Ordering::SeqCst) == 1)
            .await;
        let busy = harness.deliver(&delivery, &[10]).await;
        let mut other = delivery.clone();
        other.endpoint = "other".parse().unwrap();
        harness.target.gate.add_permits(2);
        assert_eq!(harness.deliver(&other, &[10]).await.status, 200);
        busy
    });
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert_eq!(harness.answer(&second).status, AnswerStatus::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_of_a_lane_are_applied_in_turn() {
    let harness = start().await;
    let delivery = head(Some(0), Some(10));
    let all = (0..16).map(|_| harness.deliver(&delivery, &[10]));
    for reply in futures_util::future::join_all(all).await {
        assert_eq!(reply.status, 200);
    }
    let applies = harness.target.applies();
    assert_eq!((applies.len(), applies.iter().sum::<u64>()), (16, 1));
    assert_eq!(harness.target.shared.most_at_work.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_bounded_and_idle_ones_make_room() {
    let limits = Limits { max_lanes: 2, ..Limits::default() };
    let harness = start_with(FakeTarget::closed(), limits, |_| {}).await;
    let to = |name: &str| {
        let mut head = head(Some(0), Some(10));
        head.endpoint = name.parse().unwrap();
        head
    };
    let (a, b, third) = (to("a"), to("b"), to("c"));
    let (a, b, refused) = tokio::join!(harness.deliver(&a, &[10]), harness.deliver(&b, &[10]), async {
        eventually("both are at work", || harness.target.shared.at_work.load(Ordering::SeqCst) == 2).await;
        let refused = harness.deliver(&third, &[10]).await;
        harness.target.gate.add_permits(100);
        refused
    });
    assert_eq!((a.status, b.status, refused.status), (200, 200, 503));
    for name in ["c", "d", "a"] {
        assert_eq!(harness.deliver(&to(name), &[10]).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_interrupt_its_transaction() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let harness = start_with(FakeTarget::closed(), limits, |_| {}).await;
    let delivery = head(Some(0), Some(10));
    let mut stream = harness.connect().await;
    stream.write_all(&harness.post(body(&delivery, &[10])).bytes()).await.unwrap();
    eventually("it is at work", || harness.target.shared.at_work.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    // The one connection that there may be is free again: the server knows that the client is gone.
    let elsewhere = Post { path: "/elsewhere", ..harness.post(Vec::new()) };
    assert_eq!(harness.send(&elsewhere).await.status, 404);
    assert_eq!(harness.target.shared.at_work.load(Ordering::SeqCst), 1);
    harness.target.gate.add_permits(100);
    eventually("it is committed", || harness.target.applies() == [1]).await;
    assert_eq!(harness.deliver(&delivery, &[10]).await.status, 200);
    assert_eq!(harness.target.applies(), [1, 0]);
    assert_eq!(harness.target.shared.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let harness = start_with(FakeTarget::closed(), Limits::default(), |_| {}).await;
    let _half_open = harness.connect().await;
    let mut staged = head(Some(0), Some(5));
    (staged.open, staged.endpoint) = (true, "other".parse().unwrap());
    harness.target.gate.add_permits(1);
    assert_eq!(harness.deliver(&staged, &[5]).await.status, 200);
    let mut stream = harness.connect().await;
    stream.write_all(&harness.post(body(&head(Some(0), Some(10)), &[10])).bytes()).await.unwrap();
    eventually("it is at work", || harness.target.shared.at_work.load(Ordering::SeqCst) == 1).await;
    harness.stop.send(true).unwrap();
    let addr = harness.addr;
    while TcpStream::connect(addr).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    harness.target.gate.add_permits(100);
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(2), harness.running).await.expect("it stops at once").unwrap();
    assert_eq!(harness.target.applies(), [1, 1]);
    assert_eq!(harness.target.shared.rolled_back.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_up_after_the_grace() {
    let harness = start_with(FakeTarget::closed(), Limits::default(), |_| {}).await;
    let mut stream = harness.connect().await;
    stream.write_all(&harness.post(body(&head(Some(0), Some(10)), &[10])).bytes()).await.unwrap();
    eventually("it is at work", || harness.target.shared.at_work.load(Ordering::SeqCst) == 1).await;
    harness.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(6), harness.running).await.expect("the grace is 3 s").unwrap();
    assert_eq!(harness.target.shared.at_work.load(Ordering::SeqCst), 0);
    assert!(harness.target.applies().is_empty());
}
