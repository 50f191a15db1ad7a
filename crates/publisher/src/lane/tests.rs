use std::time::Duration;

use prometheus::Registry;
use proptest::prelude::*;
use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::wire::{AnswerStatus, parse_delivery};
use rowbridge_schema::{SourceId, TablePatterns};
use tokio::task::JoinHandle;

use super::testing::{Fault as Trick, MemoryJournal, Target, at, change, part};
use super::*;
use crate::journal::JournalReader as _;

struct Running {
    handle: LaneHandle,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Running {
    async fn until(&self, wanted: impl Fn(&LaneStatus) -> bool) -> LaneStatus {
        let mut status = self.handle.status();
        match tokio::time::timeout(Duration::from_secs(10), status.wait_for(|status| wanted(status))).await {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("the lane never came there: {:#?}", self.handle.status().borrow()),
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

fn config(target: &Target) -> LaneConfig {
    LaneConfig {
        stream: "shop".parse().unwrap(),
        source: SourceId("db-1".to_owned()),
        endpoint: EndpointConfig {
            name: "copy".parse().unwrap(),
            url: format!("http://127.0.0.1:{}/in/shop", target.port).parse().unwrap(),
            secrets: vec![target.key.clone()],
            tables: TablePatterns::all(),
            allow_networks: vec![],
            ca: None,
            timeout: Duration::from_secs(5),
            start: rowbridge_schema::config::Start::Snapshot,
        },
        start: Position::ZERO,
        first: Position::ZERO,
        orders: Orders { epoch: u32::MAX, ..Orders::default() },
        max_transaction: 1 << 20,
        shutdown_grace: Duration::from_secs(2),
        // Long enough to stay out of the way of tests that are not about them.
        timing: Timing { empty_every: Duration::from_secs(60), probe_every: Duration::from_secs(60) },
    }
}

fn run(config: LaneConfig, journal: &Arc<MemoryJournal>) -> Running {
    let registry = Registry::new();
    let metrics = PublisherMetrics::new(&registry).unwrap();
    let (lane, handle) = Lane::new(config, Arc::clone(journal), None, &metrics).unwrap();
    let (stop, stopped) = watch::channel(false);
    Running { handle, stop, task: tokio::spawn(lane.run(stopped)), registry }
}

fn commits(positions: &[Position]) -> Vec<u64> {
    positions.iter().map(|position| position.offset.at).collect()
}

#[tokio::test]
async fn a_signed_200_moves_the_cursor_and_trims() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=3).for_each(|commit| journal.push(change(commit, "orders")));
    let lane = run(config(&target), &journal);
    let status = lane.until(|status| status.acked == Some(at(3, 1))).await;
    assert_eq!((status.state, status.repeated), (LaneState::Running, 0));
    journal.push(change(4, "orders"));
    lane.until(|status| status.acked == Some(at(4, 1))).await;
    assert_eq!(*journal.released.borrow(), Some(at(4, 1)));
    target.with(|state| {
        assert_eq!(commits(&state.applied), [1, 2, 3, 4]);
        assert_eq!((state.seen[0].prev, state.seen[0].to), (None, None), "a handshake comes first");
        assert_eq!(
            state.seen[1].prev,
            Some(Position::ZERO),
            "a lane that the target never heard of has no position to have reached"
        );
        assert_eq!(state.seen[2].prev, Some(at(3, 1)));
        assert_eq!((state.bad_signatures, state.connections), (0, 1), "one connection, kept alive");
    });
    let families = lane.registry.gather();
    let latency =
        families.iter().find(|family| family.name() == "rowbridge_lane_commit_to_ack_seconds").unwrap();
    assert_eq!(latency.get_metric()[0].get_histogram().get_sample_count(), 4);
    lane.stop().await;
}

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
        *orders = Orders { snapshot_from: Some(Position::new(8, 0, 0)), epoch: 8, detached: None };
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
async fn one_request_is_in_flight_and_batches_grow_meanwhile() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.delay = Duration::from_millis(5));
    (1..=6000).for_each(|commit| journal.push(change(commit, "orders")));
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked == Some(at(6000, 1))).await;
    target.with(|state| {
        assert_eq!(state.most_in_flight, 1);
        assert_eq!(commits(&state.applied), (1..=6000).collect::<Vec<_>>());
        let sizes: Vec<_> = state.seen[1..].iter().map(|seen| seen.changes.len()).collect();
        assert!(sizes.len() < 10 && sizes[1] > sizes[0], "{sizes:?}");
    });
    // While one is in flight, what comes gathers into one.
    target.with(|state| (state.seen.clear(), state.delay = Duration::from_millis(200)));
    journal.push(change(6001, "orders"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    for commit in 6002..=6020 {
        journal.push(change(commit, "orders"));
        tokio::task::yield_now().await;
    }
    lane.until(|status| status.acked == Some(at(6020, 1))).await;
    target.with(|state| {
        let sizes: Vec<_> = state.seen.iter().map(|seen| seen.changes.len()).collect();
        assert_eq!(sizes, [1, 19], "alone when idle, together when busy");
    });
    lane.stop().await;
}

#[tokio::test]
async fn a_killed_lane_repeats_at_most_one_delivery() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.delay = Duration::from_millis(20));
    let mut commit = 0;
    for _ in 0..5 {
        (0..500).for_each(|_| {
            commit += 1;
            journal.push(change(commit, "orders"));
        });
        let before = target.with(|state| state.seen.len());
        let lane = run(config(&target), &journal);
        target.until(|state| state.seen.len() >= before + 2).await;
        lane.task.abort();
        let _ = lane.task.await;
    }
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked == Some(at(commit, 1))).await;
    target.with(|state| {
        assert_eq!(commits(&state.applied), (1..=commit).collect::<Vec<_>>());
        let (mut reached, mut repeated) = (Position::ZERO, 0);
        for seen in state.seen.iter().filter(|seen| !seen.changes.is_empty()) {
            repeated += usize::from(seen.changes[0] <= reached);
            reached = reached.max(seen.changes[seen.changes.len() - 1]);
        }
        assert!(repeated <= 5, "{repeated} repetitions after five kills");
    });
    lane.stop().await;
}

#[tokio::test]
async fn parts_of_a_transaction_are_staged_and_committed_together() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(change(1, "orders"));
    journal.push(part(2, 1, &["orders"; 3], 100_000, false));
    let mut config = config(&target);
    config.timing.empty_every = Duration::from_millis(50);
    let lane = run(config, &journal);
    lane.until(|status| status.staged == Some(at(2, 3))).await;
    // In an open transaction nothing else is said, however long its next part takes.
    let before = target.with(|state| state.seen.len());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(target.with(|state| (state.seen.len(), state.position)), (before, Some(at(1, 1))));
    assert_eq!(*journal.released.borrow(), Some(at(1, 1)), "staged is not committed");
    journal.push(part(2, 4, &["orders"], 10, false));
    lane.until(|status| status.staged == Some(at(2, 4))).await;
    journal.push(part(2, 5, &["orders"], 10, true));
    journal.push(change(3, "orders"));
    lane.until(|status| status.acked == Some(at(3, 1))).await;
    target.with(|state| {
        let data: Vec<_> = state.seen.iter().filter(|seen| !seen.changes.is_empty()).collect();
        let shape: Vec<_> = data.iter().map(|seen| (seen.to.unwrap(), seen.open, seen.split)).collect();
        assert_eq!(
            shape,
            [
                (at(1, 1), false, false),
                (at(2, 3), true, false),
                (at(2, 4), true, false),
                (at(2, 5), false, false),
                (at(3, 1), false, false)
            ]
        );
        assert_eq!(commits(&state.applied), [1, 2, 2, 2, 2, 2, 3]);
    });
    lane.stop().await;
}

#[tokio::test]
async fn a_lost_open_transaction_is_sent_again_from_its_beginning() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(part(2, 1, &["orders"; 2], 10, false));
    let lane = run(config(&target), &journal);
    lane.until(|status| status.staged == Some(at(2, 2))).await;
    target.with(|state| state.staged = None);
    journal.push(part(2, 3, &["orders"; 2], 10, true));
    lane.until(|status| status.acked == Some(at(2, 4))).await;
    target.with(|state| assert_eq!(state.applied, [at(2, 1), at(2, 2), at(2, 3), at(2, 4)]));
    lane.stop().await;
}

#[tokio::test]
async fn a_transaction_beyond_the_bound_is_split() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    // Room for one part in each delivery.
    target.with(|state| state.max_body = Some(220_000));
    for i in 0..8 {
        journal.push(part(2, i * 2 + 1, &["orders"; 2], 100_000, i == 7));
    }
    let mut config = config(&target);
    config.max_transaction = 500_000;
    let lane = run(config, &journal);
    lane.until(|status| status.acked == Some(at(2, 16))).await;
    target.with(|state| {
        assert_eq!(state.applied, (1..=16).map(|ordinal| at(2, ordinal)).collect::<Vec<_>>());
        let shape: Vec<_> = state.seen[1..].iter().map(|seen| (seen.open, seen.split)).collect();
        // 200 KB per delivery: more than 500 KB were sent with the third and the sixth.
        let (open, split, end) = ((true, false), (false, true), (false, false));
        assert_eq!(shape, [open, open, split, open, open, split, open, end]);
    });
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
    for commit in 1..400 {
        journal.push(change(commit, "audit"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(target.with(|state| state.position) > Some(at(1, 1)));
    lane.stop().await;
}

#[tokio::test]
async fn the_told_bound_cuts_batches_and_one_block_beyond_it_halts() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.max_body = Some(20_000));
    (1..=30).for_each(|commit| journal.push(part(commit, 1, &["orders"], 5_000, true)));
    journal.push(part(31, 1, &["orders", "lines"], 15_000, true));
    journal.push(change(32, "orders"));
    let mut config = config(&target);
    config.timing.probe_every = Duration::from_millis(100);
    let lane = run(config, &journal);
    let status = lane.until(|status| matches!(status.state, LaneState::Halted { .. })).await;
    let text = status.state.to_string();
    assert!(text.contains("public.orders, public.lines") && text.contains(&at(31, 2).to_string()), "{text}");
    assert_eq!(status.acked, Some(at(30, 1)));
    assert!(target.with(|state| state.seen.iter().all(|seen| seen.body.len() <= 20_000)));
    target.with(|state| state.max_body = Some(50_000));
    lane.until(|status| status.acked == Some(at(32, 1)) && status.state == LaneState::Running).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_413_halves_and_goes_on() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.extend([Trick::Status(413, ""), Trick::Status(413, "")]));
    (1..=100).for_each(|commit| journal.push(part(commit, 1, &["orders"], 1_000, true)));
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked == Some(at(100, 1))).await;
    target.with(|state| {
        let sizes: Vec<_> = state.seen[1..].iter().map(|seen| seen.body.len()).collect();
        assert!(sizes[1] <= sizes[0] / 2 + 1_500 && sizes[2] <= sizes[1] / 2 + 1_500, "{sizes:?}");
        assert_eq!(commits(&state.applied), (1..=100).collect::<Vec<_>>());
    });
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
    let lane = run(config, &journal);
    lane.until(|status| matches!(status.state, LaneState::Disabled { .. })).await;
    let before = target.with(|state| state.seen.len());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(target.with(|state| state.seen.len()), before);
    lane.stop().await;
}

#[tokio::test]
async fn a_stop_finishes_the_delivery_in_flight() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.faults.push_back(Trick::Slow(Duration::from_millis(300))));
    journal.push(change(1, "orders"));
    let lane = run(config(&target), &journal);
    target.until(|state| state.seen.len() == 1).await;
    lane.until(|status| status.acked.is_some()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = lane.handle.status();
    lane.stop().await;
    assert_eq!(status.borrow().acked, Some(at(1, 1)));
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

#[tokio::test]
async fn large_bodies_are_compressed_for_those_who_take_it() {
    let journal = MemoryJournal::new();
    journal.push(part(1, 1, &["orders"], 5_000, true));
    journal.push(change(2, "orders"));
    let common = common();
    let mut limits = Limits::default();
    let deliver = |zstd: bool, limits: &mut Limits, from: Position| {
        let mut reader = journal.reader(from).unwrap();
        assert!(reader.try_next().unwrap().is_some());
        let mut batcher = Batcher::new(journal.reader(from).unwrap(), Chain::at(None, from));
        batcher.collect(&common, limits).unwrap();
        batcher.seal(&common, limits, zstd)
    };
    let plain = deliver(false, &mut limits, Position::ZERO);
    let small = deliver(true, &mut limits, Position::ZERO);
    assert_eq!((plain.request.encoding, small.request.encoding), (None, Some("zstd")));
    assert_eq!(zstd::bulk::decompress(&small.request.body, 1 << 20).unwrap(), plain.request.body);
    assert_eq!(parse_delivery(&plain.request.body).unwrap().blocks.len(), 2);
    assert_eq!(deliver(true, &mut limits, at(1, 1)).request.encoding, None, "a small body stays as it is");
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

fn common() -> Common {
    Common {
        stream: "shop".parse().unwrap(),
        endpoint: "copy".parse().unwrap(),
        source: SourceId("db-1".to_owned()),
        tables: TablePatterns::all(),
        max_transaction: 1 << 20,
    }
}

/// Transactions as parts, each part as the tables that its changes belong to (true: ours).
fn any_stream() -> impl Strategy<Value = Vec<Vec<Vec<bool>>>> {
    let part = proptest::collection::vec(any::<bool>(), 1..6);
    proptest::collection::vec(proptest::collection::vec(part, 1..5), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the stream, the bounds and the moments at which blocks appear: what is ours arrives once and in order,
    /// deliveries follow each other, and a transaction is left open exactly while it goes on.
    #[test]
    fn deliveries_cover_the_stream(
        stream in any_stream(),
        max_body in 6_000u64..12_000,
        max_transaction in 500u64..5_000,
        looks in proptest::collection::vec(1usize..6, 1..200),
    ) {
        let mut common = common();
        common.tables = TablePatterns::new(&["public.ours"]).unwrap();
        common.max_transaction = max_transaction;
        let (journal, mut limits) = (MemoryJournal::new(), Limits::default());
        limits.told(max_body);
        let (mut blocks, mut ours, mut ends) = (Vec::new(), Vec::new(), std::collections::HashSet::new());
        for (commit, parts) in stream.iter().enumerate() {
            let (commit, mut ordinal) = (commit as u64 + 1, 1);
            for (i, changes) in parts.iter().enumerate() {
                let tables: Vec<_> = changes.iter().map(|ours| if *ours { "ours" } else { "theirs" }).collect();
                let block = part(commit, ordinal, &tables, 200, i + 1 == parts.len());
                let mine = changes.iter().enumerate().filter(|(_, ours)| **ours);
                ours.extend(mine.map(|(i, _)| at(commit, ordinal + i as u64)));
                ordinal += tables.len() as u64;
                if block.ends {
                    ends.insert(block.head.last);
                }
                blocks.push(block);
            }
        }
        let mut batcher = Batcher::new(journal.reader(Position::ZERO).unwrap(), Chain::at(None, Position::ZERO));
        let (mut arrived, mut prev, mut open) = (Vec::new(), Some(Position::ZERO), false);
        let mut looks = looks.iter().cycle();
        let end = blocks.last().map(|block: &Arc<crate::journal::Block>| block.head.last).unwrap();
        let mut blocks = blocks.into_iter();
        while batcher.chain().scanned < end || batcher.has_content() {
            blocks.by_ref().take(*looks.next().unwrap()).for_each(|block| journal.push(block));
            batcher.collect(&common, &limits).unwrap();
            if !batcher.has_content() {
                prop_assert!(!batcher.is_closed());
                continue;
            }
            let made = batcher.seal(&common, &mut limits, false);
            prop_assert!(made.blocks <= 1 || made.bytes as u64 <= max_body, "{} bytes", made.bytes);
            let delivery = parse_delivery(&made.request.body).unwrap();
            prop_assert_eq!(delivery.head.prev, prev);
            let changes: Vec<_> = delivery.blocks.iter()
                .flat_map(|b| b.runs.iter().flat_map(move |run| (0..run.changes()).map(move |i| b.position(run, i))))
                .collect();
            prop_assert_eq!(changes.len() as u64, made.changes);
            let to = delivery.head.to.unwrap();
            if delivery.head.open || delivery.head.split || open {
                let mut commits: Vec<_> = changes.iter().map(|change| change.offset).collect();
                commits.dedup();
                prop_assert!(commits.len() <= 1, "an unfinished transaction is alone");
            }
            prop_assert!(!(delivery.head.open || delivery.head.split) || !ends.contains(&to));
            prop_assert!(!open || delivery.head.open || delivery.head.split || ends.contains(&to));
            (prev, open) = (Some(to), delivery.head.open);
            arrived.extend(changes);
        }
        prop_assert!(!open);
        prop_assert_eq!(arrived, ours);
    }
}
