//! Killed in the middle, and used by several processes at once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::{
    AttemptFilter, DELIVERIES_FILE, JobSpec, LetterFilter, Limits, Outcome, Recorder, Store, schema,
};
use super::{attempt, letter, name};

const DIR: &str = "ROWBRIDGE_TEST_DELIVERIES_DIR";

/// Attempts of the tests begin in 1970.
fn keep() -> Limits {
    Limits { attempts_retain: None, ..Limits::default() }
}

/// This test binary once more, with one of the children below.
fn child(which: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("deliveries::tests::kill::{which}"), "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "a process that another test starts and kills"]
async fn child_that_is_killed() {
    let dir = std::env::var(DIR).unwrap();
    let recorder = Recorder::open(Path::new(&dir), keep()).unwrap();
    for number in 0u64.. {
        for _ in 0..50 {
            recorder.attempt(attempt("shop", number, Outcome::Retry));
        }
        recorder.dead_letter(letter("shop", number, &[b'x'; 3_000])).await.unwrap();
        // Told only once it is on disk.
        writeln!(std::io::stdout(), "letter {number}").unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=3 {
        let mut child = child("child_that_is_killed", dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines {
            let line = line.unwrap();
            // The harness prints the test's name in front of the first line.
            let Some((_, number)) = line.split_once("letter ") else { continue };
            count = number.parse::<u64>().unwrap() + 1;
            if count == 20 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= 20 * round, "{count}");
        acknowledged = count.max(acknowledged);
        let recorder = Recorder::open(dir.path(), keep()).unwrap();
        let letters = recorder.store().count_letters(&LetterFilter::dead()).unwrap()[0].1.letters;
        assert!((acknowledged..=acknowledged + 1).contains(&letters), "{letters} of {acknowledged}");
        let db = schema::open(&dir.path().join(DELIVERIES_FILE), false).unwrap();
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        for (what, table) in [("attempts", "attempts"), ("dead_letters", "dead_letters")] {
            let sql =
                format!("SELECT (SELECT sum(bytes) FROM {table}), bytes FROM totals WHERE what = '{what}'");
            let (rows, total): (i64, i64) =
                db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(rows, total, "{what}");
        }
        // Attempts handed over before an acknowledged letter are on disk with it.
        let filter = AttemptFilter { limit: u32::MAX, ..AttemptFilter::default() };
        let attempts = recorder.store().attempts(&filter).unwrap();
        let last = attempts.iter().filter(|a| a.attempt.started_at_ms == count as i64 - 1).count();
        assert!(last >= 50, "{last}");
    }
}

#[tokio::test]
#[ignore = "a process that another test starts"]
async fn child_that_commands() {
    let dir = std::env::var(DIR).unwrap();
    for _ in 0..50 {
        // As a command: opened anew each time.
        let store = Store::open(Path::new(&dir)).unwrap();
        store.ask(&name("shop"), &JobSpec::Test).unwrap();
        store.attempts(&AttemptFilter::default()).unwrap();
        store.letters(&LetterFilter::default(), None, 100).unwrap();
    }
}

#[tokio::test]
async fn commands_and_the_publisher_do_not_hurt_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), keep()).unwrap();
    let mut children = [child("child_that_commands", dir.path()), child("child_that_commands", dir.path())];
    let mut number = 0;
    let mut begun = std::collections::BTreeSet::new();
    loop {
        let over = children.iter_mut().all(|child| child.try_wait().unwrap().is_some());
        for _ in 0..20 {
            recorder.attempt(attempt("shop", number, Outcome::Delivered));
            number += 1;
        }
        recorder.dead_letter(letter("shop", number, b"{}")).await.unwrap();
        for job in recorder.store().open_jobs().unwrap() {
            if begun.insert(job.id) {
                recorder.start(job.id).await.unwrap().unwrap();
                assert!(
                    recorder.finish_test(job.id, attempt("crm", number, Outcome::Delivered)).await.unwrap()
                );
            }
        }
        if over {
            break;
        }
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!((begun.len(), recorder.dropped()), (100, Default::default()));
    recorder.flush().await.unwrap();
    let count = |endpoint: &str| {
        let filter =
            AttemptFilter { endpoint: Some(name(endpoint)), limit: u32::MAX, ..AttemptFilter::default() };
        recorder.store().attempts(&filter).unwrap().len() as u64
    };
    assert_eq!((count("crm"), count("shop")), (100, number));
    assert_eq!(recorder.store().jobs(Some("test"), 1_000).unwrap().len(), 100);
}
