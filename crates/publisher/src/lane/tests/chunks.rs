//! Chunks of a snapshot in a lane that takes some tables.

use rowbridge_schema::wire::{Chunk, KeyRange, Sweep};

use super::super::testing::table;
use super::*;
use crate::journal::Block;

/// A chunk at `commit`: `rows` rows of `name`, or none, with what a chunk says besides.
fn chunk(commit: u64, name: &str, rows: usize, done: bool) -> Arc<Block> {
    let source = part(commit, 1, &vec![name; rows.max(1)], 10, true);
    let mut block = Block::clone(&source);
    if rows == 0 {
        // All keys of the range were changed or deleted meanwhile.
        (block.body, block.runs) = Default::default();
    }
    block.head.chunk = Some(Chunk {
        table: table(name).id,
        clear: false,
        sweep: Some(Sweep::Next),
        prune: Some(KeyRange { after: None, upto: Some(vec!["9".to_owned()]) }),
        skipped: vec![vec!["4".to_owned()]],
        done,
    });
    Arc::new(block)
}

#[tokio::test]
async fn a_lane_takes_the_chunks_of_its_tables_and_no_others() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    journal.push(chunk(1, "audit", 3, false));
    journal.push(chunk(2, "orders", 3, false));
    journal.push(change(3, "orders"));
    journal.push(chunk(4, "audit", 0, true));
    // Nothing to write, but something to delete: bounds and skipped keys travel without rows.
    journal.push(chunk(5, "orders", 0, true));
    let mut elsewhere = Block::clone(&chunk(6, "orders", 2, true));
    elsewhere.only = vec!["other".parse().unwrap()];
    journal.push(Arc::new(elsewhere));
    let mut ours = Block::clone(&chunk(7, "orders", 2, true));
    ours.only = vec!["other".parse().unwrap(), "copy".parse().unwrap()];
    journal.push(Arc::new(ours));
    journal.push(chunk(8, "audit", 3, true));
    let mut config = config(&target);
    config.endpoint.tables = TablePatterns::new(&["public.orders"]).unwrap();
    config.timing.empty_every = Duration::from_millis(50);
    let lane = run(config, &journal);
    // What is not for us moves the position all the same.
    target.until(|state| state.position == Some(at(8, 3))).await;
    lane.stop().await;
    target.with(|state| {
        assert_eq!(commits(&state.applied), [2, 2, 2, 3, 7, 7]);
        assert!(state.seen.iter().all(|seen| seen.tables.iter().all(|name| name == "public.orders")));
        let chunks: Vec<_> = state.seen.iter().flat_map(|seen| &seen.chunks).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.done).collect::<Vec<_>>(), [false, true, true]);
        let wanted = chunk(1, "orders", 1, true).head.chunk.clone().unwrap();
        assert!(chunks.iter().all(|chunk| Chunk { done: true, ..(*chunk).clone() } == wanted), "{chunks:#?}");
    });
}

#[tokio::test]
async fn a_lane_without_any_table_of_a_snapshot_gets_none_of_it() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    (1..=20).for_each(|commit| journal.push(chunk(commit, "audit", 50, commit == 20)));
    let mut config = config(&target);
    config.endpoint.tables = TablePatterns::new(&["public.orders"]).unwrap();
    config.timing.empty_every = Duration::from_millis(50);
    let lane = run(config, &journal);
    target.until(|state| state.position == Some(at(20, 50))).await;
    lane.stop().await;
    target.with(|state| {
        assert!(state.seen.iter().all(|seen| seen.chunks.is_empty() && seen.changes.is_empty()));
        assert!(state.seen.iter().all(|seen| seen.tables.is_empty() && seen.body.len() < 1000));
    });
}
