//! Where a lane goes on: targets that stand elsewhere, and journals that do not hold it.

use super::*;

#[tokio::test]
async fn a_restored_target_is_met_where_it_stands() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=5).for_each(|commit| journal.push(change(commit, "orders")));
    let mut config = config(&target);
    config.timing.empty_every = Duration::from_millis(100);
    let lane = run(config, &journal);
    lane.until(|status| status.acked == Some(at(5, 1))).await;
    // Last night's backup, while the source is idle: the next empty delivery finds out.
    target.with(|state| (state.position, state.applied) = (Some(at(2, 1)), vec![at(1, 1), at(2, 1)]));
    target.until(|state| state.applied.len() == 5).await;
    lane.until(|status| status.acked == Some(at(5, 1))).await;
    target.with(|state| assert_eq!(commits(&state.applied), [1, 2, 3, 4, 5]));
    // A target that lost everything is met at the lane's start.
    target.with(|state| (state.position, state.applied) = (None, vec![]));
    target.until(|state| commits(&state.applied) == [1, 2, 3, 4, 5]).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_lane_that_takes_nothing_of_a_full_journal_says_so_at_once() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(change(1, "orders"));
    let mut config = config(&target);
    config.endpoint.tables = TablePatterns::new(&["public.orders"]).unwrap();
    // The test ends only because of the shortage.
    config.timing.empty_every = Duration::from_secs(3600);
    let lane = run(config, &journal);
    lane.until(|status| status.acked == Some(at(1, 1))).await;
    journal.push(change(2, "others"));
    let status = lane.until(|status| status.scanned == Some(at(2, 1))).await;
    assert_eq!(status.acked, Some(at(1, 1)), "one that has room waits for something to say");
    journal.short.send_replace(true);
    lane.until(|status| status.acked == Some(at(2, 1))).await;
    // As long as it lasts, and not without end where there is nothing to tell.
    journal.push(change(3, "others"));
    lane.until(|status| status.acked == Some(at(3, 1))).await;
    let seen = target.with(|state| state.seen.len());
    journal.push(change(4, "orders"));
    lane.until(|status| status.acked == Some(at(4, 1))).await;
    target.with(|state| assert_eq!(state.seen.len(), seen + 1));
    lane.stop().await;
}

#[tokio::test]
async fn a_target_of_an_earlier_life_needs_a_snapshot_of_this_one() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    let here = Position { epoch: 9, ..at(5, 1) };
    target.with(|state| state.position = Some(at(4, 1)));
    let mut block = Arc::into_inner(change(5, "orders")).unwrap();
    (block.head.first, block.head.last) = (here, here);
    journal.push(Arc::new(block));
    let lane = run(LaneConfig { first: Position::new(9, 0, 0), ..config(&target) }, &journal);
    let status = lane.until(|status| status.state.label() == "needs_snapshot").await;
    assert!(status.state.to_string().contains("`rowbridge snapshot --all`"), "{}", status.state);
    target.with(|state| assert!(state.applied.is_empty()));
    lane.handle.order(|orders| orders.snapshot_from = Some(Position { epoch: 9, ..at(0, 0) }));
    lane.until(|status| status.acked == Some(here)).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_target_in_a_later_epoch_is_not_taken_for_one_that_is_ahead() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.position = Some(Position { epoch: 7, ..at(1, 1) }));
    journal.push(change(5, "orders"));
    let mut config = config(&target);
    config.orders.epoch = at(5, 1).epoch;
    let lane = run(config, &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::Halted { .. })).await;
    let text = status.state.to_string();
    assert!(text.contains("later epoch") && text.contains("`rowbridge snapshot --all`"), "{text}");
    // A new epoch that lies above takes the lane on at once, not at the next probe.
    lane.handle.order(|orders| {
        *orders = Orders { snapshot_from: Some(Position::new(8, 0, 0)), epoch: 8, ..Orders::default() };
    });
    lane.until(|status| status.state == LaneState::Running).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_detached_lane_is_silent_until_it_is_attached_behind_a_snapshot() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=3).for_each(|commit| journal.push(change(commit, "orders")));
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked == Some(at(3, 1))).await;
    lane.handle.order(|orders| orders.detached = Some("too slow".to_owned()));
    let status = lane.until(|status| matches!(status.state, LaneState::Detached { .. })).await;
    let text = status.state.to_string();
    assert!(text.contains("too slow") && text.contains("`rowbridge snapshot --endpoint copy`"), "{text}");
    assert!(!status.state.is_ready());
    let seen = target.with(|state| state.seen.len());
    (4..=6).for_each(|commit| journal.push(change(commit, "orders")));
    lane.handle.order(|orders| orders.epoch -= 1);
    lane.handle.order(|orders| (orders.detached, orders.snapshot_from) = (None, Some(at(5, 1))));
    lane.until(|status| status.acked == Some(at(6, 1)) && status.state == LaneState::Running).await;
    target.with(|state| {
        assert_eq!(commits(&state.applied), [1, 2, 3, 6]);
        let next = &state.seen[seen];
        assert!(next.changes.is_empty() && next.prev.is_none(), "a handshake comes first");
    });
    lane.stop().await;
    // As it is after a restart.
    let mut config = config(&target);
    config.orders.detached = Some("too slow".to_owned());
    let lane = run(config, &journal);
    lane.until(|status| matches!(status.state, LaneState::Detached { .. })).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_target_behind_the_journal_needs_a_snapshot_and_goes_on_with_it() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.position = Some(at(2, 1)));
    (1..=6).for_each(|commit| journal.push(change(commit, "orders")));
    journal.trim(at(4, 1));
    let mut config = config(&target);
    config.timing.empty_every = Duration::from_millis(50);
    let lane = run(config, &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::NeedsSnapshot { .. })).await;
    assert!(status.state.to_string().contains("`rowbridge snapshot --all`"));
    assert!(!status.state.is_ready());
    assert_eq!(*journal.released.borrow(), Some(at(6, 1)), "a lane that cannot go on holds nothing");
    lane.handle.order(|orders| orders.snapshot_from = Some(at(5, 1)));
    lane.until(|status| status.acked == Some(at(6, 1)) && status.state == LaneState::Running).await;
    target.with(|state| {
        assert_eq!(commits(&state.applied), [6]);
        assert_eq!(state.seen.iter().find(|seen| !seen.changes.is_empty()).unwrap().prev, Some(at(2, 1)));
    });
    lane.stop().await;
}

#[tokio::test]
async fn a_target_ahead_of_the_journal_is_left_alone() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.position = Some(at(9, 1)));
    (1..=3).for_each(|commit| journal.push(change(commit, "orders")));
    let lane = run(config(&target), &journal);
    let status = lane.until(|status| status.answered.is_some()).await;
    assert_eq!(status.answered, Some(at(9, 1)));
    (4..=10).for_each(|commit| journal.push(change(commit, "orders")));
    lane.until(|status| status.acked == Some(at(10, 1))).await;
    target.with(|state| assert_eq!(commits(&state.applied), [10]));
    lane.stop().await;
}

#[tokio::test]
async fn tables_are_filtered_and_the_position_still_moves() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    let mut config = config(&target);
    config.endpoint.tables = TablePatterns::new(&["public.orders", "public.lines"]).unwrap();
    config.timing.empty_every = Duration::from_millis(100);
    journal.push(part(1, 1, &["orders", "lines", "audit", "orders", "audit", "audit", "lines"], 10, true));
    journal.push(change(2, "audit"));
    let mut elsewhere = change(3, "orders").as_ref().clone();
    elsewhere.only = vec!["other".parse().unwrap()];
    journal.push(Arc::new(elsewhere));
    let lane = run(config, &journal);
    target.until(|state| state.position == Some(at(3, 1))).await;
    target.with(|state| {
        assert_eq!(state.applied, [at(1, 1), at(1, 2), at(1, 4), at(1, 7)]);
        assert_eq!(state.seen[1].tables, ["public.lines", "public.orders"]);
    });
    // A long transaction of which only the middle is for us still ends at once.
    journal.push(part(4, 1, &["audit"; 2], 10, false));
    journal.push(part(4, 3, &["orders", "audit"], 10, false));
    lane.until(|status| status.staged.is_some()).await;
    journal.push(part(4, 5, &["audit"; 2], 10, false));
    journal.push(part(4, 7, &["audit"; 2], 10, true));
    lane.until(|status| status.acked == Some(at(4, 8))).await;
    // And one of which nothing is for us opens nothing.
    let before = target.with(|state| state.seen.len());
    journal.push(part(5, 1, &["audit"; 2], 10, false));
    lane.until(|status| status.acked == Some(at(5, 2))).await;
    target
        .with(|state| assert!(state.seen[before..].iter().all(|seen| !seen.open && seen.changes.is_empty())));
    lane.stop().await;
}

#[tokio::test]
async fn a_busy_stream_of_other_tables_does_not_keep_the_position_back() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    let mut config = config(&target);
    config.endpoint.tables = TablePatterns::new(&["public.orders"]).unwrap();
    config.timing.empty_every = Duration::from_millis(50);
    let lane = run(config, &journal);
    let mut commit = 0;
    let busy = async {
        loop {
            commit += 1;
            journal.push(change(commit, "audit"));
            // Far more often than the lane may be idle.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = target.until(|state| state.position > Some(at(1, 1))) => {}
        () = busy => {}
    }
    lane.stop().await;
}

#[tokio::test]
async fn a_damaged_journal_halts_behind_what_is_whole_and_heals() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=3).for_each(|commit| journal.push(change(commit, "orders")));
    *journal.broken.lock().unwrap() = Some(at(2, 1));
    target.with(|state| state.delay = Duration::from_millis(20));
    let mut config = config(&target);
    config.timing = Timing { empty_every: Duration::from_millis(50), probe_every: Duration::from_millis(50) };
    let lane = run(config, &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::Halted { .. })).await;
    assert!(status.state.to_string().contains("segment-1 is damaged at byte 7"), "{}", status.state);
    // What is whole is delivered all the same.
    lane.until(|status| status.acked == Some(at(2, 1)) && matches!(status.state, LaneState::Halted { .. }))
        .await;
    *journal.broken.lock().unwrap() = None;
    lane.until(|status| status.acked == Some(at(3, 1)) && status.state == LaneState::Running).await;
    target.with(|state| assert_eq!(commits(&state.applied), [1, 2, 3]));
    lane.stop().await;
}
