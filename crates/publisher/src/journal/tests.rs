//! The journal as a whole, on real files.

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

/// A disk that can be filled, held and broken.
#[derive(Debug, Default)]
struct FaultyDisk {
    /// Bytes that may still be written, if `limited`.
    room: AtomicU64,
    limited: AtomicBool,
    fail_sync: AtomicBool,
    held: Mutex<bool>,
    released: Condvar,
}

impl FaultyDisk {
    fn limit(&self, room: u64) {
        self.room.store(room, Ordering::SeqCst);
        self.limited.store(true, Ordering::SeqCst);
    }

    fn hold_sync(&self, hold: bool) {
        *self.held.lock().unwrap() = hold;
        self.released.notify_all();
    }
}

impl Disk for FaultyDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.limited.load(Ordering::SeqCst) {
            let room = self.room.load(Ordering::SeqCst);
            let fits = room.min(bytes.len() as u64);
            self.room.store(room - fits, Ordering::SeqCst);
            // As a real disk does: what fits is written, then comes the error.
            OsDisk.write(file, &bytes[..fits as usize], at)?;
            if fits < bytes.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            return Ok(());
        }
        OsDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.released.wait(held).unwrap();
        }
        if self.fail_sync.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        OsDisk.sync(file)
    }
}

fn open_faulty(dir: &TempDir, options: JournalOptions) -> (SegmentJournal, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::default());
    let (journal, _) =
        SegmentJournal::open_on(dir.path(), options, Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    (journal, disk)
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

/// Three blocks in one synced segment; their frames' offsets and the end. The table's frame is part of the first.
async fn three_blocks(dir: &TempDir) -> Vec<u64> {
    let (journal, _) = open(dir, SMALL);
    let mut ends = vec![HEADER_LEN];
    for at in 1..=3 {
        append(&journal, block(at, 50)).await;
        ends.push(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len());
    }
    durable_to(&journal, end_of(3)).await;
    ends
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let source = TempDir::new().unwrap();
    let ends = three_blocks(&source).await;
    let whole = std::fs::read(segment_path(source.path(), 1)).unwrap();
    for cut in ends[2] + 1..ends[3] {
        for zeros in [0, (ends[3] - cut) as usize] {
            let dir = TempDir::new().unwrap();
            std::fs::create_dir(dir.path().join("journal")).unwrap();
            let mut torn = whole[..cut as usize].to_vec();
            torn.resize(torn.len() + zeros, 0);
            std::fs::write(segment_path(dir.path(), 1), torn).unwrap();
            let (journal, recovered) = open(&dir, SMALL);
            assert_eq!(recovered.last, Some(end_of(2)), "cut at {cut}");
            assert_eq!((recovered.resume, recovered.last_ends), (block(2, 0).resume, true));
            assert!(recovered.lost_durable, "the header knows that block 3 had been synced");
            assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), ends[2]);
            append(&journal, block(3, 51)).await;
            let mut reader = journal.reader(Position::ZERO).unwrap();
            assert_eq!(read_all(&mut reader), [block(1, 50), block(2, 50), block(3, 51)]);
        }
    }
}

#[tokio::test]
async fn what_was_never_synced_is_no_loss() {
    let dir = TempDir::new().unwrap();
    let ends = three_blocks(&dir).await;
    let file = OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap();
    segment::note_synced(&file, ends[1]).unwrap();
    // A power failure kept the third block's page, but not the second's.
    file.write_all_at(&[0; 20], ends[1] + 10).unwrap();
    let (_, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.last, recovered.lost_durable), (Some(end_of(1)), false));
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), ends[1]);
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_named_with_its_place() {
    let dir = TempDir::new().unwrap();
    let ends = three_blocks(&dir).await;
    let path = segment_path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    for at in ends[1]..ends[2] {
        let mut damaged = whole.clone();
        damaged[at as usize] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match SegmentJournal::open(dir.path(), SMALL) {
            Err(JournalError::Corrupt { path: named, offset, after, .. }) => {
                assert_eq!((named, offset, after), (path.clone(), ends[1], end_of(1)), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing was changed");
    }
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_found_by_the_reader() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    for at in 1..=20 {
        append(&journal, block(at, 10_000)).await;
    }
    drop(journal);
    let path = segment_path(dir.path(), 1);
    let len = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", len - 5).unwrap();
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!(recovered.last, Some(end_of(20)));
    let mut reader = journal.reader(Position::ZERO).unwrap();
    let err = loop {
        match reader.try_next() {
            Ok(block) => assert!(block.is_some(), "the damage was passed over"),
            Err(err) => break err,
        }
    };
    let JournalError::Corrupt { path: named, after, .. } = err else { panic!("{err}") };
    assert_eq!(named, path);
    assert!(after > end_of(1) && after < end_of(20));

    // A segment that ends early, at a frame's end, lacks blocks as well.
    file.set_len(HEADER_LEN).unwrap();
    drop(journal);
    let (journal, _) = open(&dir, SMALL);
    let mut reader = journal.reader(Position::ZERO).unwrap();
    assert!(matches!(reader.try_next(), Err(JournalError::Corrupt { .. })));
}

#[tokio::test]
async fn a_missing_segment_is_an_error_and_an_unfinished_one_is_not() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    for at in 1..=20 {
        append(&journal, block(at, 10_000)).await;
    }
    assert_eq!(journal.stats().segments, 4);
    drop(journal);
    for len in [0, 10, 64, 200] {
        std::fs::write(segment_path(dir.path(), 5), vec![0; len]).unwrap();
        let (journal, recovered) = open(&dir, SMALL);
        assert_eq!((recovered.last, recovered.resume), (Some(end_of(20)), block(20, 0).resume));
        assert_eq!(journal.stats().segments, 4);
    }
    std::fs::remove_file(segment_path(dir.path(), 2)).unwrap();
    let err = SegmentJournal::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(err, JournalError::Corrupt { .. }), "{err}");
}

#[tokio::test]
async fn the_resume_point_is_found_however_far_back_it_is() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    append(&journal, block(1, 10)).await;
    for ordinal in 1..=20 {
        let mut part = block(2, 10_000);
        (part.ends, part.resume) = (false, None);
        part.head.first.ordinal = 3 * ordinal - 2;
        part.head.last.ordinal = 3 * ordinal;
        append(&journal, part).await;
    }
    drop(journal);
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.resume, recovered.last_ends), (block(1, 0).resume, false));
    drop(journal);
    // The newest segments lose what follows their header.
    for sequence in 3..=4 {
        let file = OpenOptions::new().write(true).open(segment_path(dir.path(), sequence)).unwrap();
        segment::note_synced(&file, HEADER_LEN).unwrap();
        file.set_len(HEADER_LEN).unwrap();
    }
    let (_, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.resume, recovered.last_ends), (block(1, 0).resume, false));
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

#[tokio::test]
async fn a_full_journal_waits_for_delivery_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    let (fast, slow) = (lane("fast"), lane("slow"));
    journal.set_lanes(&[fast.clone(), slow.clone()]);
    let mut at = 0;
    let err = loop {
        at += 1;
        match journal.append(Arc::new(block(at, 20_000))).await {
            Ok(new) => assert!(new),
            Err(err) => break err,
        }
    };
    assert!(matches!(err, JournalError::Full { max_bytes: MIB, .. }), "{err}");
    assert_eq!(journal.last(), Some(end_of(at - 1)));
    let full = journal.stats();
    assert!(full.bytes <= MIB && full.bytes > MIB - 64 * 1024, "{full:?}");
    assert_eq!(full.bytes, full.undelivered_bytes);

    let room = journal.room();
    tokio::pin!(room);
    journal.release(&fast, end_of(at));
    let early = timeout(Duration::from_millis(50), &mut room).await;
    assert!(early.is_err(), "the slow lane still needs everything");
    assert!(matches!(journal.append(Arc::new(block(at, 20_000))).await, Err(JournalError::Full { .. })));
    journal.release(&slow, end_of(8));
    timeout(SOON, &mut room).await.unwrap();
    assert!(append(&journal, block(at, 20_000)).await);
    assert!(journal.stats().bytes <= MIB);

    // Removed was only what both had.
    let oldest = journal.oldest();
    assert!(oldest > Position::ZERO && oldest <= end_of(8), "{oldest}");
    assert!(
        matches!(journal.reader(Position::ZERO), Err(JournalError::Gone { oldest: told }) if told == oldest)
    );
    let mut reader = journal.reader(end_of(8)).unwrap();
    assert_eq!(offsets(&read_all(&mut reader)), (9..=at).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_block_above_the_bound_passes_alone() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    journal.set_lanes(&[lane("a")]);
    append(&journal, block(1, 100)).await;
    let huge = Arc::new(block(2, 2 * MIB as usize));
    assert!(matches!(journal.append(Arc::clone(&huge)).await, Err(JournalError::Full { .. })));
    journal.release(&lane("a"), end_of(1));
    timeout(SOON, journal.room()).await.unwrap();
    assert!(journal.append(huge).await.unwrap());
    assert!(matches!(journal.append(Arc::new(block(3, 1))).await, Err(JournalError::Full { .. })));
    journal.release(&lane("a"), end_of(2));
    assert!(append(&journal, block(3, 1)).await);
    assert_eq!(journal.stats().segments, 1);
}

#[tokio::test]
async fn retention_removes_only_what_every_lane_has_delivered() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, JournalOptions { max_bytes: MIB, retain: Duration::ZERO });
    for at in 1..=30 {
        append(&journal, block(at, 9_000)).await;
    }
    let shared = journal.shared_for_tests();
    shared.expire();
    assert_eq!(journal.oldest(), Position::ZERO, "no lanes were named yet");
    journal.release(&lane("a"), end_of(30));
    shared.expire();
    assert_eq!(journal.oldest(), Position::ZERO, "no lanes were named yet");
    journal.set_lanes(&[lane("a"), lane("b")]);
    shared.expire();
    assert_eq!(journal.oldest(), Position::ZERO, "b has delivered nothing");

    let mut stale = journal.reader(Position::ZERO).unwrap();
    let mut ahead = journal.reader(Position::ZERO).unwrap();
    for _ in 0..15 {
        ahead.try_next().unwrap().unwrap();
    }
    journal.release(&lane("b"), end_of(15));
    shared.expire();
    let oldest = journal.oldest();
    assert!(oldest > Position::ZERO && oldest <= end_of(15), "{oldest}");
    assert_eq!(offsets(&read_all(&mut ahead)), (16..=30).collect::<Vec<_>>());
    assert!(matches!(stale.try_next(), Err(JournalError::Gone { oldest: told }) if told == oldest));

    // A lane that goes back holds again what is still there.
    journal.release(&lane("b"), end_of(30));
    journal.release(&lane("b"), end_of(15));
    shared.expire();
    assert_eq!(journal.oldest(), oldest);
    journal.set_lanes(&[lane("a")]);
    shared.expire();
    assert_eq!(journal.stats().segments, 1, "the one that is written to stays");
    assert_eq!(journal.stats().undelivered_bytes, 0);
    assert!(append(&journal, block(31, 10)).await);
    drop(journal);
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!(recovered.oldest, journal.oldest());
    assert_eq!(recovered.last, Some(end_of(31)));
    assert!(recovered.oldest > end_of(20));
}

#[tokio::test]
async fn what_is_delivered_stays_while_it_is_young() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(&dir, SMALL);
    journal.set_lanes(&[lane("a")]);
    for at in 1..=30 {
        append(&journal, block(at, 9_000)).await;
    }
    journal.release(&lane("a"), end_of(30));
    journal.shared_for_tests().expire();
    assert_eq!(journal.oldest(), Position::ZERO);
    // It leaves first when space is short.
    for at in 31..=150 {
        append(&journal, block(at, 9_000)).await;
        journal.release(&lane("a"), end_of(at));
    }
    assert!(journal.stats().bytes <= MIB);
    assert!(journal.stats().bytes > MIB / 2);
    assert!(journal.oldest() > Position::ZERO);
}

#[tokio::test]
async fn a_chunk_is_seen_only_when_it_is_durable() {
    let dir = TempDir::new().unwrap();
    let (journal, disk) = open_faulty(&dir, SMALL);
    let mut reader = journal.reader(Position::ZERO).unwrap();
    disk.hold_sync(true);
    append(&journal, block(1, 10)).await;
    assert_eq!(offsets(&read_all(&mut reader)), [1], "a change need not be durable");
    let appending = journal.append(Arc::new(chunk(2, 10)));
    tokio::pin!(appending);
    assert!(timeout(Duration::from_millis(100), &mut appending).await.is_err());
    assert_eq!(journal.last(), Some(end_of(2)));
    assert_eq!(reader.try_next().unwrap(), None);
    assert_eq!(journal.durable().borrow().position, None);
    disk.hold_sync(false);
    assert!(timeout(SOON, &mut appending).await.unwrap().unwrap());
    assert!(journal.durable().borrow().position >= Some(end_of(2)));
    timeout(SOON, reader.ready()).await.unwrap();
    assert_eq!(read_all(&mut reader), [chunk(2, 10)]);
}

#[tokio::test]
async fn a_failed_sync_is_final() {
    let dir = TempDir::new().unwrap();
    let (journal, disk) = open_faulty(&dir, SMALL);
    append(&journal, block(1, 10)).await;
    durable_to(&journal, end_of(1)).await;
    let mut reader = journal.reader(end_of(1)).unwrap();
    disk.fail_sync.store(true, Ordering::SeqCst);
    append(&journal, block(2, 10)).await;
    let mut durable = journal.durable();
    let closed = async { while durable.changed().await.is_ok() {} };
    timeout(SOON, closed).await.unwrap();
    assert_eq!(durable.borrow().position, Some(end_of(1)));
    disk.fail_sync.store(false, Ordering::SeqCst);
    let err = journal.append(Arc::new(block(3, 10))).await.unwrap_err();
    assert!(matches!(err, JournalError::Io { action: "sync", .. }), "{err}");
    assert!(journal.mark(Resume("0/9".into())).await.is_err());
    timeout(SOON, reader.ready()).await.unwrap();
    assert!(reader.try_next().is_err());
    assert!(journal.reader(Position::ZERO).is_err());
}

#[tokio::test]
async fn a_full_disk_leaves_the_journal_as_it_was() {
    let dir = TempDir::new().unwrap();
    let (journal, disk) = open_faulty(&dir, SMALL);
    journal.set_lanes(&[lane("a")]);
    for at in 1..=20 {
        append(&journal, block(at, 9_000)).await;
    }
    let len = |sequence| std::fs::metadata(segment_path(dir.path(), sequence)).unwrap().len();
    let segments = journal.stats().segments as u64;
    let before = len(segments);
    disk.limit(4_000);
    let err = journal.append(Arc::new(block(21, 9_000))).await.unwrap_err();
    assert!(
        matches!(&err, JournalError::DiskFull { path } if *path == segment_path(dir.path(), segments)),
        "{err}"
    );
    assert_eq!(len(segments), before);
    assert_eq!(journal.last(), Some(end_of(20)));
    timeout(SOON, journal.room()).await.unwrap();
    assert!(matches!(journal.append(Arc::new(block(21, 9_000))).await, Err(JournalError::DiskFull { .. })));

    // What is delivered makes room, without anybody asking.
    journal.release(&lane("a"), end_of(15));
    timeout(SOON, journal.room()).await.unwrap();
    let mut waited = 0;
    while journal.oldest() == Position::ZERO && waited < 1000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        waited += 1;
    }
    assert!(journal.oldest() > Position::ZERO && journal.oldest() <= end_of(15));
    disk.limit(MIB);
    assert!(append(&journal, block(21, 9_000)).await);
    drop(journal);
    let (journal, recovered) = open(&dir, SMALL);
    assert_eq!((recovered.last, recovered.lost_durable), (Some(end_of(21)), false));
    let mut reader = journal.reader(end_of(15)).unwrap();
    assert_eq!(offsets(&read_all(&mut reader)), (16..=21).collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Action {
    Append {
        len: usize,
        chunk: bool,
        ends: bool,
        skip: u64,
    },
    Replay,
    Mark,
    Sync,
    Reopen,
    /// The end of the last segment was not written.
    Tear(usize),
    Release {
        lane: usize,
        back: u64,
    },
    Expire,
    Read {
        from: u64,
    },
    Follow,
}

fn any_action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![3 => 0..300usize, 3 => 5_000..30_000usize, 1 => 60_000..150_000usize];
    prop_oneof![
        12 => (len, any::<bool>(), prop::bool::weighted(0.8), 1..5u64).prop_map(|(len, chunk, ends, skip)| {
            Action::Append { len, chunk: chunk && len < 300, ends, skip }
        }),
        1 => Just(Action::Replay),
        1 => Just(Action::Mark),
        1 => Just(Action::Sync),
        2 => Just(Action::Reopen),
        1 => (1..400usize).prop_map(Action::Tear),
        4 => (0..2usize, 0..10u64).prop_map(|(lane, back)| Action::Release { lane, back }),
        1 => Just(Action::Expire),
        3 => (0..120u64).prop_map(|from| Action::Read { from }),
        4 => Just(Action::Follow),
    ]
}

/// What the journal should hold: every block, and which of them may be gone.
#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    resume: Option<Resume>,
    released: [Option<Position>; 2],
    /// The furthest that both lanes had ever delivered.
    cleared: Position,
}

impl Model {
    fn after(&self, position: Position) -> Vec<Block> {
        self.blocks.iter().filter(|block| block.head.last > position).cloned().collect()
    }

    fn last(&self) -> Option<Position> {
        self.blocks.last().map(|block| block.head.last)
    }
}

async fn run_against_model(actions: Vec<Action>) {
    let dir = TempDir::new().unwrap();
    let options = JournalOptions { max_bytes: MIB / 2, retain: Duration::from_secs(3600) };
    let lanes = [lane("a"), lane("b")];
    let (mut journal, _) = open(&dir, options);
    journal.set_lanes(&lanes);
    let mut model = Model::default();
    let mut follower = journal.reader(Position::ZERO).unwrap();
    let mut followed = Position::ZERO;
    for action in actions {
        match action {
            Action::Append { len, chunk: is_chunk, ends, skip } => {
                let at = model.last().map_or(0, |last| last.offset.at) + skip;
                let mut next = if is_chunk { chunk(at, len) } else { block(at, len) };
                if !ends {
                    (next.ends, next.resume) = (false, None);
                }
                match journal.append(Arc::new(next.clone())).await {
                    Ok(new) => {
                        assert!(new);
                        if next.resume.is_some() {
                            model.resume.clone_from(&next.resume);
                        }
                        model.blocks.push(next);
                    }
                    Err(JournalError::Full { .. }) => {
                        let stats = journal.stats();
                        assert!(stats.bytes + len as u64 + 2_000 > options.max_bytes, "{stats:?} {len}");
                        let delivered = model.released.iter().min().copied().flatten() >= model.last();
                        assert!(!delivered, "full of what nobody needs");
                    }
                    Err(err) => panic!("{err}"),
                }
            }
            Action::Replay => {
                if let Some(block) = model.blocks.get(model.blocks.len() / 2) {
                    assert!(!append(&journal, block.clone()).await);
                }
            }
            Action::Mark => {
                let resume = Resume(format!("mark {}", model.blocks.len()).into());
                journal.mark(resume.clone()).await.unwrap();
                model.resume = Some(resume);
            }
            Action::Sync => {
                if let Some(last) = model.last() {
                    let durable = durable_to(&journal, last).await;
                    assert_eq!(durable.position, Some(last));
                }
            }
            Action::Reopen | Action::Tear(_) => {
                let oldest = journal.oldest();
                drop(follower);
                drop(journal);
                let newest = newest_segment(&dir);
                if let Action::Tear(len) = action {
                    let file = OpenOptions::new().append(true).open(&newest).unwrap();
                    io::Write::write_all(&mut &file, &vec![b'x'; len]).unwrap();
                }
                let (reopened, recovered) = open(&dir, options);
                assert_eq!(recovered.last, model.last());
                assert_eq!(recovered.resume, model.resume);
                assert_eq!(recovered.last_ends, model.blocks.last().is_some_and(|block| block.ends));
                // The sync thread may have removed more before it ended.
                assert!(recovered.oldest >= oldest && !recovered.lost_durable);
                journal = reopened;
                journal.set_lanes(&lanes);
                // Lanes learn where their targets are when they connect, and tell.
                for (lane, released) in lanes.iter().zip(model.released) {
                    if let Some(position) = released {
                        journal.release(lane, position);
                    }
                }
                followed = followed.max(recovered.oldest);
                follower = journal.reader(followed).unwrap();
            }
            Action::Release { lane, back } => {
                let Some(block) = model.blocks.iter().rev().nth(back as usize) else { continue };
                model.released[lane] = Some(block.head.last);
                journal.release(&lanes[lane], block.head.last);
            }
            Action::Expire => _ = journal.shared_for_tests().trim(Trim::Delivered).unwrap(),
            Action::Read { from } => {
                let after = Position::new(1, from, 3);
                check_read(&journal, after, &model);
            }
            Action::Follow => match follower.try_next() {
                Ok(Some(block)) => {
                    assert_eq!(Some(&*block), model.after(followed).first());
                    followed = block.head.last;
                    if model.last() != Some(followed) {
                        timeout(SOON, follower.ready()).await.unwrap();
                    }
                }
                Ok(None) => assert_eq!(model.last().unwrap_or_default(), followed),
                Err(JournalError::Gone { oldest }) => {
                    assert!(followed < oldest);
                    followed = oldest;
                    follower = journal.reader(oldest).unwrap();
                }
                Err(err) => panic!("{err}"),
            },
        }
        assert_eq!(journal.last(), model.last());
        let stats = journal.stats();
        assert!(stats.undelivered_bytes <= stats.bytes);
        // Nothing was removed that was not at some time delivered by both.
        let both = model.released.iter().min().copied().flatten().unwrap_or_default();
        model.cleared = model.cleared.max(both);
        assert!(journal.oldest() <= model.cleared, "{} {}", journal.oldest(), model.cleared);
    }
    check_read(&journal, journal.oldest(), &model);
}

/// What is there after `after` is what the model says. The sync thread may remove delivered segments meanwhile.
fn check_read(journal: &SegmentJournal, after: Position, model: &Model) {
    let mut expected = model.after(after).into_iter();
    let gone = |err| match err {
        JournalError::Gone { oldest } => assert!(oldest <= model.cleared, "{oldest} {}", model.cleared),
        err => panic!("{err}"),
    };
    let mut reader = match journal.reader(after) {
        Ok(reader) => reader,
        Err(err) => return gone(err),
    };
    loop {
        match reader.try_next() {
            Ok(None) => break,
            Ok(Some(block)) => assert_eq!(Some(&*block), expected.next().as_ref()),
            Err(err) => return gone(err),
        }
    }
    assert_eq!(expected.next(), None, "the journal ended early");
}

fn newest_segment(dir: &TempDir) -> PathBuf {
    let names = std::fs::read_dir(dir.path().join("journal")).unwrap();
    names.map(|entry| entry.unwrap().path()).max().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_actions_agrees_with_a_list(actions in prop::collection::vec(any_action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run_against_model(actions));
    }
}
