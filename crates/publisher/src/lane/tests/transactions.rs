//! Transactions that are larger than one delivery.

use super::*;

#[tokio::test]
async fn parts_of_a_transaction_are_staged_and_committed_together() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(change(1, "orders"));
    journal.push(part(2, 1, &["orders"; 3], 100_000, false));
    let mut config = config(&target);
    config.timing.empty_every = Duration::from_millis(50);
    let timing = config.timing;
    let lane = run(config, &journal);
    lane.until(|status| status.staged == Some(at(2, 3))).await;
    // In an open transaction nothing else is said, however long its next part takes.
    let before = target.with(|state| state.seen.len());
    an_idle_lane_has_spoken(timing).await;
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
