//! Lanes against a target in memory.

mod answers;
mod batches;
mod chunks;
mod halted;
mod line;
mod positions;
mod transactions;

use std::time::Duration;

use prometheus::Registry;
use proptest::prelude::*;
use rowbridge_schema::config::EndpointConfig;
use rowbridge_schema::wire::{AnswerStatus, parse_delivery};
use rowbridge_schema::{Classified as _, SourceId, TablePatterns};
use tokio::task::JoinHandle;

use super::batch::Chain;
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
            webhook: None,
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

/// Returns when a lane that began now, with nothing to do but to speak up when it is idle, has done so three times. One
/// with the same timing that began earlier and has not spoken until then keeps silent.
async fn an_idle_lane_has_spoken(timing: Timing) {
    let target = Target::start().await;
    let lane = run(LaneConfig { timing, ..config(&target) }, &MemoryJournal::new());
    target.until(|state| state.seen.len() > 3).await;
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
async fn a_stop_finishes_the_delivery_in_flight() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked.is_some()).await;
    target.hold(true);
    journal.push(change(1, "orders"));
    target.until(|state| state.in_flight == 1).await;
    let status = lane.handle.status();
    lane.stop.send_replace(true);
    // The lane looks for a stop before it looks for an answer.
    target.hold(false);
    lane.stop().await;
    assert_eq!(status.borrow().acked, Some(at(1, 1)));
}
