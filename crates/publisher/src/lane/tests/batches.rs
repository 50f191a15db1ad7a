//! What goes into one delivery.

use super::*;

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
    target.hold(true);
    target.with(|state| (state.seen.clear(), state.delay = Duration::ZERO));
    journal.push(change(6001, "orders"));
    target.until(|state| state.in_flight == 1).await;
    for commit in 6002..=6020 {
        journal.push(change(commit, "orders"));
        tokio::task::yield_now().await;
    }
    target.hold(false);
    lane.until(|status| status.acked == Some(at(6020, 1))).await;
    target.with(|state| {
        let sizes: Vec<_> = state.seen.iter().map(|seen| seen.changes.len()).collect();
        assert_eq!(sizes, [1, 19], "alone when idle, together when busy");
    });
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
async fn a_target_that_has_it_all_is_not_sent_the_halves_of_it() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| {
        state.faults.extend([Trick::CutAnswer, Trick::Status(413, ""), Trick::Status(413, "")])
    });
    (1..=100).for_each(|commit| journal.push(part(commit, 1, &["orders"], 1_000, true)));
    let lane = run(config(&target), &journal);
    let status = lane.until(|status| status.acked == Some(at(100, 1))).await;
    assert_eq!(status.repeated, 3, "the whole, its half, and a quarter that was answered");
    journal.push(change(101, "orders"));
    lane.until(|status| status.acked == Some(at(101, 1)) && status.state == LaneState::Running).await;
    target.with(|state| assert_eq!(commits(&state.applied), (1..=101).collect::<Vec<_>>()));
    lane.stop().await;
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
