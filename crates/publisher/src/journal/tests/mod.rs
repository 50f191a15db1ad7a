//! The journal as a whole, on real files.

mod damage;
mod model;
mod space;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rowbridge_schema::{EndpointName, Position};
use tempfile::TempDir;
use tokio::time::timeout;

use super::samples::{block, chunk};
use super::segment::{self, Disk, HEADER_LEN, OsDisk};
use super::state::Trim;
use super::*;

const MIB: u64 = 1 << 20;
/// Segments of 64 KiB.
const SMALL: JournalOptions = JournalOptions { max_bytes: MIB, retain: Duration::from_secs(3600) };
const SOON: Duration = Duration::from_secs(20);

fn open(dir: &TempDir, options: JournalOptions) -> (SegmentJournal, Recovered) {
    SegmentJournal::open(dir.path(), options).unwrap()
}

fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    segment::path_of(&dir.join("journal"), sequence)
}

fn lane(name: &str) -> EndpointName {
    name.parse().unwrap()
}

fn end_of(at: u64) -> Position {
    block(at, 0).head.last
}

async fn append(journal: &SegmentJournal, block: Block) -> bool {
    journal.append(Arc::new(block)).await.unwrap()
}

async fn durable_to(journal: &SegmentJournal, position: Position) -> Durable {
    let mut durable = journal.durable();
    let reached = durable.wait_for(|durable| durable.position >= Some(position));
    timeout(SOON, reached).await.unwrap().unwrap().clone()
}

fn read_all(reader: &mut SegmentReader) -> Vec<Block> {
    std::iter::from_fn(|| reader.try_next().unwrap()).map(|block| (*block).clone()).collect()
}

fn offsets(blocks: &[Block]) -> Vec<u64> {
    blocks.iter().map(|block| block.head.last.offset.at).collect()
}

#[tokio::test]
async fn a_new_journal_is_empty_and_an_old_one_goes_on() {
    let dir = TempDir::new().unwrap();
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!(
        recovered,
        Recovered { last: None, last_ends: false, resume: None, oldest: Position::ZERO, lost_durable: false }
    );
    let mut part = block(10, 500);
    (part.ends, part.resume) = (false, None);
    assert!(append(&journal, block(5, 100)).await);
    assert!(append(&journal, part.clone()).await);
    let durable = durable_to(&journal, end_of(10)).await;
    assert_eq!(durable, Durable { position: Some(end_of(10)), resume: block(5, 0).resume });
    drop(journal);

    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.last, recovered.last_ends), (Some(end_of(10)), false));
    assert_eq!((recovered.resume, recovered.lost_durable), (block(5, 0).resume, false));
    assert_eq!(*journal.durable().borrow(), durable);
    assert!(!append(&journal, part.clone()).await, "a replay is no news");
    assert!(!append(&journal, block(5, 100)).await);
    assert!(append(&journal, block(11, 7)).await);
    let mut reader = journal.reader(Position::ZERO).unwrap();
    assert_eq!(read_all(&mut reader), [block(5, 100), part, block(11, 7)]);
    assert_eq!(reader.try_next().unwrap(), None);
}

#[tokio::test]
async fn a_block_cut_otherwise_than_before_is_taken() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    append(&journal, block(10, 10)).await;
    let mut overlapping = block(20, 10);
    overlapping.head.first = end_of(10);
    assert!(append(&journal, overlapping.clone()).await);
    assert_eq!(journal.last(), Some(overlapping.head.last));
}

#[tokio::test]
async fn a_mark_moves_the_resume_point_and_outlives_a_restart() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    append(&journal, block(3, 10)).await;
    journal.mark(Resume("0/99".into())).await.unwrap();
    let mut durable = journal.durable();
    let marked = durable.wait_for(|durable| durable.resume == Some(Resume("0/99".into())));
    assert_eq!(timeout(SOON, marked).await.unwrap().unwrap().position, Some(end_of(3)));
    let mut reader = journal.reader(Position::ZERO).unwrap();
    assert_eq!(read_all(&mut reader).len(), 1);
    drop(journal);
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.last, recovered.resume), (Some(end_of(3)), Some(Resume("0/99".into()))));
    let mut reader = journal.reader(Position::ZERO).unwrap();
    assert_eq!(read_all(&mut reader), [block(3, 10)]);
}

#[tokio::test]
async fn readers_begin_anywhere_and_follow_over_segments() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    let mut follower = journal.reader(Position::ZERO).unwrap();
    let mut followed = Vec::new();
    for at in 1..=30 {
        append(&journal, block(at, 9_000)).await;
        if at % 7 == 0 {
            followed.extend(read_all(&mut follower));
        }
    }
    followed.extend(read_all(&mut follower));
    assert_eq!(offsets(&followed), (1..=30).collect::<Vec<_>>());
    assert!(journal.stats().segments > 3);
    drop(journal);

    let (journal, _) = open(&dir, SMALL);
    for after in 0..=31 {
        // In the middle of a block too: the block ends after it.
        for ordinal in [0, 3] {
            let mut reader = journal.reader(Position::new(1, after, ordinal)).unwrap();
            let first = if ordinal == 0 { after.max(1) } else { after + 1 };
            let blocks = read_all(&mut reader);
            assert_eq!(offsets(&blocks), (first..=30).collect::<Vec<_>>(), "after {after}/{ordinal}");
            for found in &blocks {
                assert_eq!(*found, block(found.head.last.offset.at, 9_000));
            }
        }
    }
    let mut reader = journal.reader(end_of(28)).unwrap();
    append(&journal, block(31, 9_000)).await;
    assert_eq!(offsets(&read_all(&mut reader)), [29, 30, 31]);
}

#[tokio::test]
async fn readers_side_by_side_hold_a_large_block_once() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    for at in 1..=3 {
        append(&journal, block(at, 20_000)).await;
    }
    drop(journal);
    let (journal, _) = open(&dir, SMALL);
    let mut readers: Vec<_> = (0..3).map(|_| journal.reader(Position::ZERO).unwrap()).collect();
    for at in 1..=3 {
        let blocks: Vec<_> = readers.iter_mut().map(|reader| reader.try_next().unwrap().unwrap()).collect();
        assert_eq!(*blocks[0], block(at, 20_000));
        assert!(blocks.iter().all(|other| Arc::ptr_eq(&blocks[0], other)));
    }
    assert!(readers.iter_mut().all(|reader| reader.try_next().unwrap().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_misses_nothing() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    let mut reader = journal.reader(Position::ZERO).unwrap();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&300) {
            // Dropped and asked again: nothing is lost by that.
            let _ = timeout(Duration::from_micros(50), reader.ready()).await;
            reader.ready().await;
            while let Some(block) = reader.try_next().unwrap() {
                seen.push(block.head.last.offset.at);
            }
        }
        seen
    });
    for at in 1..=300 {
        append(&journal, block(at, 2_000)).await;
        if at % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let seen = timeout(SOON, reading).await.unwrap().unwrap();
    assert_eq!(seen, (1..=300).collect::<Vec<_>>());
}
