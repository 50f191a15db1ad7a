//! What each kind of answer does to the cursor and the state.

use super::*;

#[tokio::test]
async fn answers_that_prove_nothing_trim_nothing() {
    for trick in [Trick::Unsigned, Trick::Status(200, ""), Trick::Status(204, ""), Trick::Status(409, "")] {
        let (target, journal) = (Target::start().await, MemoryJournal::new());
        target.with(|state| state.faults.extend([trick.clone(), trick.clone()]));
        journal.push(change(1, "orders"));
        let lane = run(config(&target), &journal);
        lane.until(|status| matches!(status.state, LaneState::Retrying { attempt: 2, .. })).await;
        assert_eq!(*journal.released.borrow(), Some(Position::ZERO), "{trick:?}");
        lane.until(|status| status.acked == Some(at(1, 1))).await;
        target.with(|state| {
            let sent = &state.seen[1..];
            assert_eq!(sent.len(), 3);
            assert!(
                sent.iter().all(|seen| seen.id == sent[0].id && seen.body == sent[0].body),
                "retries are the same"
            );
            assert_eq!(commits(&state.applied), [1]);
        });
        lane.stop().await;
    }
}

#[tokio::test]
async fn a_forged_answer_is_not_believed() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.always = Some(Trick::Forged));
    journal.push(change(1, "orders"));
    let lane = run(config(&target), &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::Retrying { attempt: 3.., .. })).await;
    assert_eq!((status.acked, *journal.released.borrow()), (None, None));
    assert!(status.state.to_string().contains("no signature matches"), "{}", status.state);
    lane.stop().await;
}

#[tokio::test]
async fn a_lost_answer_repeats_one_delivery_without_effect() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.push_back(Trick::CutAnswer));
    journal.push(change(1, "orders"));
    let lane = run(config(&target), &journal);
    let status = lane.until(|status| status.acked == Some(at(1, 1))).await;
    assert_eq!(status.repeated, 1);
    target.with(|state| {
        assert_eq!(commits(&state.applied), [1]);
        assert_eq!(state.seen[1].id, state.seen[2].id);
    });
    lane.stop().await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.push_back(Trick::Status(503, "retry-after: 1\r\n")));
    journal.push(change(1, "orders"));
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked == Some(at(1, 1))).await;
    let waited = target.with(|state| state.seen[2].at - state.seen[1].at);
    assert!((Duration::from_secs(1)..Duration::from_millis(1900)).contains(&waited), "{waited:?}");
    lane.stop().await;
}

#[tokio::test]
async fn what_needs_a_person_halts_and_heals_by_probing() {
    let faults = [
        Trick::Status(401, ""),
        Trick::Status(404, ""),
        Trick::Status(302, "location: http://127.0.0.1:1/\r\n"),
        Trick::Signed(422, AnswerStatus::Rejected),
        Trick::Signed(409, AnswerStatus::ForeignSource),
        Trick::Signed(409, AnswerStatus::OldEpoch),
        Trick::Status(413, ""),
        Trick::Status(410, ""),
    ];
    for fault in faults {
        let (target, journal) = (Target::start().await, MemoryJournal::new());
        target.with(|state| state.faults.extend([fault.clone(), fault.clone()]));
        journal.push(change(1, "orders"));
        let mut config = config(&target);
        config.timing.probe_every = Duration::from_millis(50);
        let lane = run(config, &journal);
        let status = lane.until(|status| matches!(status.state, LaneState::Halted { .. })).await;
        assert_eq!(status.acked, Some(Position::ZERO), "{fault:?}");
        lane.until(|status| status.acked == Some(at(1, 1)) && status.state == LaneState::Running).await;
        target.with(|state| {
            assert_eq!(state.seen.len(), 4, "{fault:?}");
            assert!(state.seen[1..].iter().all(|seen| seen.id == state.seen[1].id));
        });
        lane.stop().await;
    }
}

#[tokio::test]
async fn only_a_signed_410_disables() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.push_back(Trick::Signed(410, AnswerStatus::Unavailable)));
    journal.push(change(1, "orders"));
    let mut config = config(&target);
    config.timing = Timing { empty_every: Duration::from_millis(20), probe_every: Duration::from_millis(20) };
    let timing = config.timing;
    let lane = run(config, &journal);
    lane.until(|status| matches!(status.state, LaneState::Disabled { .. })).await;
    let before = target.with(|state| state.seen.len());
    an_idle_lane_has_spoken(timing).await;
    assert_eq!(target.with(|state| state.seen.len()), before);
    lane.stop().await;
}

#[tokio::test]
async fn a_silent_endpoint_times_out_and_an_absent_one_is_retried() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.push_back(Trick::Slow(Duration::from_secs(30))));
    journal.push(change(1, "orders"));
    let mut slow = config(&target);
    slow.endpoint.timeout = Duration::from_millis(200);
    let lane = run(slow, &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::Retrying { .. })).await;
    assert!(status.state.to_string().contains("endpoint.timeout"), "{}", status.state);
    lane.until(|status| status.acked == Some(at(1, 1))).await;
    lane.stop().await;

    target.with(|state| state.always = Some(Trick::CutRequest));
    let lane = run(config(&target), &journal);
    lane.until(|status| matches!(status.state, LaneState::Retrying { attempt: 2.., .. })).await;
    target.with(|state| state.always = None);
    lane.until(|status| status.state == LaneState::Running).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_refused_address_halts_with_the_way_out() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(change(1, "orders"));
    let mut by_name = config(&target);
    by_name.endpoint.url = format!("http://localhost:{}/in/shop", target.port).parse().unwrap();
    let lane = run(by_name, &journal);
    lane.until(|status| status.acked == Some(at(1, 1))).await;
    lane.stop().await;

    let request = || Delivery::handshake(&common()).request;
    let lookup = |ip: &'static str| -> address::Lookup {
        Arc::new(move |_| {
            Box::pin(async move { Ok(vec![std::net::SocketAddr::new(ip.parse().unwrap(), 0)]) })
        })
    };
    let mut elsewhere = config(&target).endpoint;
    elsewhere.url = format!("http://warehouse.internal:{}/in/shop", target.port).parse().unwrap();
    for ip in ["10.0.0.3", "127.0.0.1", "::ffff:127.0.0.1"] {
        let client = Client::with_lookup(&elsewhere, None, lookup(ip)).unwrap();
        let error = client.attempt(&request()).await.unwrap_err();
        let ip: std::net::IpAddr = ip.parse().unwrap();
        assert!(
            matches!(&error, AttemptError::Address(AddressError::NotPublic { ip: found, .. }) if *found == ip)
        );
        assert!(
            !error.class().is_retryable() && error.to_string().contains("endpoint.allow_networks"),
            "{error}"
        );
    }
    elsewhere.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    let client = Client::with_lookup(&elsewhere, None, lookup("127.0.0.1")).unwrap();
    assert_eq!(client.attempt(&request()).await.unwrap().status, 200);
    let client = Client::with_lookup(&elsewhere, None, lookup("169.254.169.254")).unwrap();
    let error = client.attempt(&request()).await.unwrap_err();
    assert!(matches!(error, AttemptError::Address(AddressError::Metadata { .. })), "{error}");

    let mut metadata = config(&target);
    metadata.endpoint.url = "http://169.254.169.254/latest".parse().unwrap();
    let metrics = PublisherMetrics::new(&Registry::new()).unwrap();
    assert!(Lane::new(metadata, journal, None, &metrics).is_err());
}
