//! Bounds, retention, and disks that are full or broken.

use super::*;

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
