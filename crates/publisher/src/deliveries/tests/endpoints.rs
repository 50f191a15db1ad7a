//! How endpoints are doing, and who hears of it.

use std::time::Duration;

use super::super::{EVENTS_KEPT, EndpointChange, EventKind, Limits, NOTICE_EVERY, Outcome, Recorder, Store};
use super::{attempt, name};

#[tokio::test]
async fn only_news_is_news() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let command = Store::open(dir.path()).unwrap();
    let shop = name("shop");
    assert_eq!(command.endpoint(&shop).unwrap(), None);
    let failing = EndpointChange::because(EventKind::Failing, "answered 503");
    assert!(recorder.change_endpoint(&shop, failing.clone()).await.unwrap());
    assert!(!recorder.change_endpoint(&shop, failing).await.unwrap());
    let disabled = EndpointChange::because(EventKind::Disabled, "answered 410");
    assert!(recorder.change_endpoint(&shop, disabled).await.unwrap());
    let row = command.endpoint(&shop).unwrap().unwrap();
    assert_eq!(row.disabled_reason.as_deref(), Some("answered 410"));
    assert!(row.failing_since_ms.is_some() && row.disabled_at_ms.is_some() && row.paused_at_ms.is_none());
    for (kind, news) in [
        (EventKind::Enabled, true),
        (EventKind::Enabled, false),
        (EventKind::Recovered, false),
        (EventKind::Resumed, false),
        (EventKind::Paused, true),
        (EventKind::Paused, false),
        (EventKind::Resumed, true),
        (EventKind::BreakerClosed, false),
        (EventKind::BreakerOpened, true),
        (EventKind::BreakerClosed, true),
    ] {
        assert_eq!(command.change_endpoint(&shop, &EndpointChange::new(kind)).unwrap(), news, "{kind:?}");
    }
    let events = recorder.store().events(0, 100).unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(
        kinds,
        ["failing", "disabled", "enabled", "paused", "resumed", "breaker_opened", "breaker_closed"]
    );
    assert_eq!(events[1].reason.as_deref(), Some("answered 410"));
    assert_eq!(recorder.store().cursor("ops").unwrap(), None);
    recorder.set_cursor("ops", events[4].id).await.unwrap();
    recorder.set_cursor("ops", events[2].id).await.unwrap();
    let cursor = recorder.store().cursor("ops").unwrap().unwrap();
    assert_eq!(recorder.store().events(cursor, 100).unwrap(), events[5..]);
    assert_eq!(recorder.store().last_event().unwrap(), events[6].id);
}

#[tokio::test]
async fn events_do_not_grow_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let db = super::super::schema::open(&dir.path().join(super::super::DELIVERIES_FILE), false).unwrap();
    db.execute_batch(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {EVENTS_KEPT})
         INSERT INTO endpoint_events (at, endpoint, kind) SELECT i, 'shop', 'failing' FROM n"
    ))
    .unwrap();
    for kind in [EventKind::Paused, EventKind::Resumed] {
        recorder.change_endpoint(&name("shop"), EndpointChange::new(kind)).await.unwrap();
    }
    let events = recorder.store().events(0, u32::MAX).unwrap();
    assert_eq!((events.len() as u32, events[0].id), (EVENTS_KEPT, 3));
}

#[tokio::test]
async fn attempts_of_the_stream_tell_how_an_endpoint_is() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    recorder.attempt(attempt("shop", 5, Outcome::Delivered));
    recorder.attempt(attempt("shop", 4, Outcome::Delivered));
    recorder.attempt(attempt("shop", 6, Outcome::Retry));
    let mut replayed = attempt("shop", 9, Outcome::Delivered);
    replayed.origin = super::super::Origin::Replay;
    recorder.attempt(replayed);
    drop(recorder);
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let row = recorder.store().endpoint(&name("shop")).unwrap().unwrap();
    assert_eq!((row.last_success_at_ms, row.last_failure_at_ms), (Some(5), Some(6)));
    assert_eq!(row.last_error.as_deref(), Some("answered 503 Service Unavailable"));
    // A later success leaves the failure as it is.
    recorder.attempt(attempt("shop", 7, Outcome::Delivered));
    drop(recorder);
    let row = Store::open(dir.path()).unwrap().endpoint(&name("shop")).unwrap().unwrap();
    assert_eq!((row.last_success_at_ms, row.last_failure_at_ms), (Some(7), Some(6)));
    assert!(row.last_error.is_some());
}

#[tokio::test]
async fn a_command_is_noticed_and_our_own_writes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let mut requests = recorder.requests();
    for number in 0..100 {
        recorder.attempt(attempt("shop", number, Outcome::Delivered));
        recorder.change_endpoint(&name("crm"), EndpointChange::new(EventKind::Failing)).await.unwrap();
    }
    tokio::time::sleep(2 * NOTICE_EVERY).await;
    assert!(!requests.has_changed().unwrap());
    let command = Store::open(dir.path()).unwrap();
    command.change_endpoint(&name("shop"), &EndpointChange::new(EventKind::Paused)).unwrap();
    let noticed = tokio::time::timeout(Duration::from_secs(10), requests.changed()).await;
    noticed.unwrap().unwrap();
    assert!(recorder.store().endpoint(&name("shop")).unwrap().unwrap().paused_at_ms.is_some());
}
