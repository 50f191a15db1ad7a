//! What is recorded comes back, and is found.

use rowbridge_schema::Position;

use super::super::{AttemptFilter, Limits, MAX_EXCERPT, Origin, Outcome, Recorder, Timings};
use super::{attempt, name};

async fn recorded(attempts: Vec<super::Attempt>) -> (tempfile::TempDir, Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { attempts_retain: None, ..Limits::default() };
    let recorder = Recorder::open(dir.path(), limits).unwrap();
    for attempt in attempts {
        recorder.attempt(attempt);
    }
    recorder.flush().await.unwrap();
    (dir, recorder)
}

#[tokio::test]
async fn attempts_come_back_as_they_were() {
    let plain = attempt("shop", 7, Outcome::Delivered);
    let mut batch = attempt("crm", 9, Outcome::Permanent);
    batch.webhook_id = "msg_2f6d".into();
    batch.event = Some(format!("shop:{}", Position::new(1, 3, 1)));
    batch.events = 7;
    batch.table = None;
    batch.origin = Origin::Replay;
    batch.timings = Timings {
        dns_us: Some(1),
        connect_us: Some(2),
        tls_us: Some(3),
        first_byte_us: Some(4),
        total_us: 10,
    };
    let mut test = attempt("crm", 1, Outcome::Retry);
    test.webhook_id = "test_1".into();
    test.position = None;
    test.status = None;
    test.origin = Origin::Test;
    let (_dir, recorder) = recorded(vec![plain.clone(), batch.clone(), test.clone()]).await;
    let all = recorder.store().attempts(&AttemptFilter::default()).unwrap();
    let attempts: Vec<_> = all.iter().map(|recorded| recorded.attempt.clone()).collect();
    assert_eq!(attempts, [test, batch, plain]);
    assert_eq!(recorder.store().attempt(all[1].id).unwrap().as_ref(), Some(&all[1]));
    assert_eq!(recorder.store().attempt(99).unwrap(), None);
}

#[tokio::test]
async fn long_texts_and_answers_are_cut() {
    let mut long = attempt("shop", 1, Outcome::Retry);
    long.error = Some("\u{e4}".repeat(1_000));
    long.excerpt = vec![7; 100_000];
    let (_dir, recorder) = recorded(vec![long]).await;
    let found = recorder.store().attempts(&AttemptFilter::default()).unwrap().remove(0).attempt;
    assert_eq!((found.error.unwrap().chars().count(), found.excerpt.len()), (512, MAX_EXCERPT));
}

#[tokio::test]
async fn filters_find_what_they_name() {
    let mut batch = attempt("crm", 40, Outcome::Delivered);
    batch.webhook_id = "msg_1".into();
    batch.event = Some(format!("shop:{}", Position::new(1, 20, 1)));
    batch.events = 21;
    let mut attempts: Vec<_> = (0..10).map(|n| attempt("shop", n, Outcome::Delivered)).collect();
    attempts.push(attempt("shop", 10, Outcome::Retry));
    attempts.push(attempt("crm", 11, Outcome::Permanent));
    attempts.push(batch);
    let (_dir, recorder) = recorded(attempts).await;
    let found = |filter: AttemptFilter| -> Vec<u64> {
        let found = recorder.store().attempts(&filter).unwrap();
        found.iter().map(|recorded| recorded.attempt.position.unwrap().offset.at).collect()
    };
    let default = AttemptFilter::default;
    assert_eq!(found(AttemptFilter { endpoint: Some(name("crm")), ..default() }), [40, 11]);
    assert_eq!(found(AttemptFilter { failed: true, ..default() }), [11, 10]);
    assert_eq!(found(AttemptFilter { failed: true, endpoint: Some(name("shop")), ..default() }), [10]);
    assert_eq!(found(AttemptFilter { since_ms: Some(9), until_ms: Some(11), ..default() }), [10, 9]);
    assert_eq!(found(AttemptFilter { limit: 2, ..default() }), [40, 11]);
    assert_eq!(found(AttemptFilter { before: Some(3), ..default() }), [1, 0]);
    assert!(found(AttemptFilter { endpoint: Some(name("nobody")), ..default() }).is_empty());
    let event = |number| Some(format!("shop:{}", Position::new(1, number, 1)));
    assert_eq!(found(AttemptFilter { event: event(3), ..default() }), [3]);
    for inside in [20, 21, 40] {
        assert_eq!(found(AttemptFilter { event: event(inside), ..default() }), [40], "{inside}");
    }
    for outside in [19, 41] {
        assert!(found(AttemptFilter { event: event(outside), ..default() }).is_empty(), "{outside}");
    }
    assert_eq!(found(AttemptFilter { event: Some("msg_1".into()), ..default() }), [40]);
}
