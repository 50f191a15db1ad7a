//! Nothing grows without bound, and what may not be dropped is refused.

use std::path::Path;
use std::time::Duration;

use super::super::{
    AttemptFilter, DELIVERIES_FILE, LetterFilter, LetterState, Limits, Outcome, Recorder, Settled, Store,
    StoreError, now_ms,
};
use super::super::{JobSpec, schema};
use super::{attempt, letter, name};

/// Bytes on disk, the write-ahead log included.
fn bytes_on_disk(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Waits until the file's own sum of attempts and excerpts is within the bound.
async fn pruned(dir: &Path, max: u64) -> (i64, i64) {
    let db = schema::open(&dir.join(DELIVERIES_FILE), false).unwrap();
    for _ in 0..2_000 {
        let totals = super::super::prune::totals(&db).unwrap();
        if totals.0 + totals.1 <= max as i64 {
            return totals;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not pruned: {:?}", super::super::prune::totals(&db).unwrap());
}

#[tokio::test]
async fn ten_times_the_bound_stays_under_it() {
    const MAX: u64 = 4 << 20;
    // The log of a checkpoint, and free pages that are not worth giving back.
    const SLACK: u64 = (4 << 20) + (4 << 20) + (1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { attempts_max_bytes: MAX, queue_bytes: 1 << 20, ..Limits::default() };
    let recorder = Recorder::open(dir.path(), limits).unwrap();
    let (mut put, mut number, mut most) = (0, 0, 0);
    let began = now_ms();
    while put < 10 * MAX {
        for _ in 0..200 {
            let outcome = if number % 3 == 0 { Outcome::Retry } else { Outcome::Delivered };
            let mut attempt = attempt(["shop", "crm", "chat"][number as usize % 3], number, outcome);
            attempt.started_at_ms = began + number as i64;
            if number % 5 == 0 {
                attempt.excerpt = vec![b'x'; (number as usize * 37) % 9_000];
            }
            put += 250 + attempt.excerpt.len() as u64;
            recorder.attempt(attempt);
            number += 1;
        }
        recorder.flush().await.unwrap();
        most = most.max(bytes_on_disk(dir.path()));
    }
    assert_eq!(recorder.dropped(), Default::default());
    let (attempts, excerpts) = pruned(dir.path(), MAX).await;
    assert!(most <= MAX + MAX / 5 + SLACK, "{most} bytes on disk");
    // The bound is used, and excerpts went first.
    assert!((attempts + excerpts) as u64 > MAX / 2 && excerpts as u64 <= MAX / 4, "{attempts} {excerpts}");
    // The sums are those of the rows.
    let db = schema::open(&dir.path().join(DELIVERIES_FILE), false).unwrap();
    let sum: i64 = db.query_row("SELECT sum(bytes) FROM attempts", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, attempts);
    // The newest stay, excerpt included; every excerpt that stays has its attempt.
    let newest = recorder.store().attempts(&AttemptFilter { limit: 10, ..AttemptFilter::default() }).unwrap();
    assert_eq!(newest[0].attempt.position.unwrap().offset.at, number - 1);
    assert!(newest.iter().any(|recorded| recorded.attempt.excerpt.len() > 100));
    let orphans: i64 = db
        .query_row("SELECT count(*) FROM excerpts WHERE attempt NOT IN (SELECT id FROM attempts)", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(orphans, 0);
    // The estimate is honest: the file is about what the sums say.
    let pages: i64 = db
        .query_row("SELECT count(*) FROM dbstat WHERE name IN ('attempts', 'excerpts', 'attempts_endpoint', 'attempts_failed')",
            [], |row| row.get(0))
        .unwrap();
    assert!(pages as u64 * 4096 <= MAX + MAX / 5, "{pages} pages");
}

#[tokio::test]
async fn a_lower_bound_gives_the_disk_its_room_back() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let now = now_ms();
    for number in 0..3_000 {
        let mut attempt = attempt("shop", number, Outcome::Retry);
        attempt.started_at_ms = now;
        attempt.excerpt = vec![b'x'; 8_000];
        recorder.attempt(attempt);
        if number % 100 == 0 {
            recorder.flush().await.unwrap();
        }
    }
    recorder.flush().await.unwrap();
    drop(recorder);
    assert!(bytes_on_disk(dir.path()) > 24_000_000);
    let limits = Limits { attempts_max_bytes: 1 << 20, ..Limits::default() };
    let _recorder = Recorder::open(dir.path(), limits).unwrap();
    for _ in 0..1_000 {
        if bytes_on_disk(dir.path()) < 13_000_000 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} bytes on disk", bytes_on_disk(dir.path()));
}

#[tokio::test]
async fn what_is_old_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        attempts_retain: Some(Duration::from_secs(60)),
        letters_retain: Some(Duration::from_secs(120)),
        ..Limits::default()
    };
    let recorder = Recorder::open(dir.path(), limits.clone()).unwrap();
    let now = now_ms();
    for (number, age) in [(1, 90_000), (2, 61_000), (3, 59_000 - 20_000), (4, 0)] {
        let mut attempt = attempt("shop", number, Outcome::Retry);
        attempt.started_at_ms = now - age;
        recorder.attempt(attempt);
        let mut letter = letter("shop", number, b"{}");
        letter.dead_at_ms = now - 2 * age;
        recorder.dead_letter(letter).await.unwrap();
    }
    drop(recorder);
    let recorder = Recorder::open(dir.path(), limits).unwrap();
    for _ in 0..500 {
        let attempts = recorder.store().attempts(&AttemptFilter::default()).unwrap();
        let letters = recorder.store().letters(&LetterFilter::default(), None, 10).unwrap();
        if (attempts.len(), letters.len()) == (2, 2) {
            assert_eq!(attempts.iter().map(|a| a.attempt.started_at_ms).min(), Some(now - 39_000));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", recorder.store().attempts(&AttemptFilter::default()));
}

#[tokio::test]
async fn a_letter_that_finds_no_room_is_refused_and_delivered_ones_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { letters_max_bytes: 100_000, ..Limits::default() };
    let recorder = Recorder::open(dir.path(), limits).unwrap();
    let body = [b'x'; 10_000];
    let mut taken = 0;
    let full = loop {
        match recorder.dead_letter(letter("shop", taken, &body)).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { held, max: 100_000, .. } if held > 80_000), "{full}");
    assert!((7..10).contains(&taken), "{taken}");
    // The same letter once more takes no more room.
    recorder.dead_letter(letter("shop", 0, &body)).await.unwrap();
    let count = |states: &[LetterState]| {
        let filter = LetterFilter { states: states.to_vec(), ..LetterFilter::default() };
        recorder.store().letters(&filter, None, 100).unwrap().len() as u64
    };
    assert_eq!(count(&[]), taken);
    let spec = JobSpec::Retry { letters: LetterFilter { ids: vec![1], ..LetterFilter::default() } };
    let job = recorder.store().ask(&name("shop"), &spec).unwrap();
    recorder.start(job).await.unwrap().unwrap();
    let claimed = recorder.claim(job, 10).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].letter.body.len()), (1, 10_000));
    assert!(recorder.settle(1, Settled::Delivered).await.unwrap());
    recorder.dead_letter(letter("shop", 77, &body)).await.unwrap();
    assert_eq!((count(&[LetterState::Done]), count(&[LetterState::Dead])), (0, taken));
    assert!(matches!(recorder.dead_letter(letter("shop", 78, &body)).await, Err(StoreError::Full { .. })));
    // A person makes room from a process of their own.
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.discard_letters(&LetterFilter::dead()).unwrap(), taken);
    recorder.dead_letter(letter("shop", 78, &body)).await.unwrap();
    // Numbers are never used again.
    assert!(recorder.store().last_letter().unwrap() > taken as i64);
}
