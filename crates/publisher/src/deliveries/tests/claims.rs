//! Dead letters and the jobs that retry them.

use super::super::{
    JobEnd, JobSpec, JobState, LetterFilter, LetterState, Limits, NewLetter, Outcome, Progress, Recorder,
    Replay, Settled, Store,
};
use super::{attempt, letter, name};

fn open() -> (tempfile::TempDir, Recorder) {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    (dir, recorder)
}

fn retry(filter: LetterFilter) -> JobSpec {
    JobSpec::Retry { letters: filter }
}

#[tokio::test]
async fn letters_come_back_exactly_without_what_opens_doors() {
    let (_dir, recorder) = open();
    let mut new = letter("shop", 3, &[0, 159, 146, 150, b'\n']);
    let kept = [("ce-id".to_owned(), "1".to_owned()), ("X-Shop".to_owned(), "a".to_owned())];
    new.headers = kept.to_vec();
    for secret in [
        "Authorization",
        "webhook-signature",
        "Stripe-Signature",
        "X-Hub-Signature-256",
        "x-api-key",
        "Cookie",
        "X-Gitlab-Token",
        "webhook-timestamp",
    ] {
        assert!(!NewLetter::keeps_header(secret), "{secret}");
        new.headers.push((secret.to_owned(), "hunter2".to_owned()));
    }
    let id = recorder.dead_letter(new.clone()).await.unwrap();
    let found = recorder.store().letter(id).unwrap().unwrap();
    new.headers = kept.to_vec();
    assert_eq!((found.letter.clone(), found.state, found.body_bytes), (new, LetterState::Dead, 5));
    let listed = recorder.store().letters(&LetterFilter::default(), None, 10).unwrap().remove(0);
    assert_eq!((listed.letter.body.len(), listed.body_bytes), (0, 5));
    assert_eq!(recorder.store().letter(id + 1).unwrap(), None);
}

#[tokio::test]
async fn filters_find_what_they_name() {
    let (_dir, recorder) = open();
    for (number, endpoint, table) in
        [(1, "shop", "public.orders"), (2, "shop", "public.order_items"), (3, "crm", "audit.log")]
    {
        let mut letter = letter(endpoint, number, b"{}");
        letter.table = Some(table.into());
        if number == 3 {
            letter.class = Some("tls".into());
            letter.reason = "cannot set up TLS with crm.example.com".into();
        }
        recorder.dead_letter(letter).await.unwrap();
    }
    let found = |filter: LetterFilter| -> Vec<i64> {
        let counted: u64 =
            recorder.store().count_letters(&filter).unwrap().iter().map(|(_, count)| count.letters).sum();
        let found: Vec<i64> =
            recorder.store().letters(&filter, None, 10).unwrap().iter().map(|letter| letter.id).collect();
        assert_eq!(counted, found.len() as u64);
        found
    };
    let all = LetterFilter::default;
    assert_eq!(found(all()), [3, 2, 1]);
    assert_eq!(found(LetterFilter { endpoint: Some(name("crm")), ..all() }), [3]);
    assert_eq!(found(LetterFilter { tables: vec!["public.*".into()], ..all() }), [2, 1]);
    let without = vec!["public.*".into(), "!*.order_items".into()];
    assert_eq!(found(LetterFilter { tables: without, ..all() }), [1]);
    assert_eq!(found(LetterFilter { since_ms: Some(7), until_ms: Some(8), ..all() }), [2]);
    assert_eq!(found(LetterFilter { reason: Some("tls".into()), ..all() }), [3]);
    assert_eq!(found(LetterFilter { reason: Some("Unprocessable".into()), ..all() }), [2, 1]);
    assert_eq!(found(LetterFilter { ids: vec![1, 3, 9], ..all() }), [3, 1]);
    assert_eq!(found(LetterFilter { upto: Some(2), ..all() }), [2, 1]);
    assert!(found(LetterFilter { states: vec![LetterState::Done], ..all() }).is_empty());
}

#[tokio::test]
async fn a_retry_takes_each_letter_once_and_goes_on_after_a_kill() {
    let (dir, recorder) = open();
    for number in 1..=5 {
        recorder.dead_letter(letter("shop", number, b"{}")).await.unwrap();
        recorder.dead_letter(letter("crm", number, b"{}")).await.unwrap();
    }
    let upto = recorder.store().last_letter().unwrap();
    let filter = LetterFilter { upto: Some(upto), ..LetterFilter::dead() };
    let job = Store::open(dir.path()).unwrap().ask(&name("shop"), &retry(filter)).unwrap();
    assert!(recorder.claim(job, 9).await.unwrap().is_empty(), "it does not run yet");
    recorder.start(job).await.unwrap().unwrap();
    let ids = |letters: &[super::super::Letter]| letters.iter().map(|letter| letter.id).collect::<Vec<_>>();
    let claimed = recorder.claim(job, 2).await.unwrap();
    assert_eq!(ids(&claimed), [1, 3]);
    assert!(claimed.iter().all(|letter| letter.state == LetterState::Retrying && letter.job == Some(job)));
    assert!(recorder.settle(1, Settled::Delivered).await.unwrap());
    drop(recorder);

    // Killed with letter 3 in hand.
    let recorder = Recorder::open(dir.path(), Limits::default()).unwrap();
    let open = recorder.store().open_jobs().unwrap();
    assert_eq!((open.len(), open[0].state), (1, JobState::Running));
    recorder.start(job).await.unwrap().unwrap();
    assert_eq!(ids(&recorder.claim(job, 2).await.unwrap()), [3, 5]);
    let dead = Settled::Dead {
        class: Some("timeout".into()),
        reason: "no answer".into(),
        status: None,
        attempts: 3,
    };
    assert!(recorder.settle(3, dead).await.unwrap());
    assert!(recorder.settle(5, Settled::Delivered).await.unwrap());
    // One that dies now is not meant, nor is one that died again.
    recorder.dead_letter(letter("shop", 6, b"{}")).await.unwrap();
    assert_eq!(ids(&recorder.claim(job, 9).await.unwrap()), [7, 9]);
    assert!(recorder.claim(job, 9).await.unwrap().is_empty());
    let progress = Progress { sent: 2, failed: 1, total: Some(5), position: None };
    assert!(recorder.progress(job, progress).await.unwrap());
    assert!(recorder.finish(job, JobEnd::Done).await.unwrap());
    assert!(!recorder.finish(job, JobEnd::Done).await.unwrap());
    let store = recorder.store();
    let ended = store.job(job).unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.progress, ended.finished_at_ms.is_some()),
        (JobState::Done, progress, true)
    );
    // What it still had in hand waits again.
    let states: Vec<_> =
        [1, 3, 5, 7, 9].iter().map(|id| store.letter(*id).unwrap().unwrap().state.name()).collect();
    assert_eq!(states, ["done", "dead", "done", "dead", "dead"]);
    let third = store.letter(3).unwrap().unwrap().letter;
    assert_eq!((third.attempts, third.reason.as_str(), third.status), (4, "no answer", None));
}

#[tokio::test]
async fn a_letter_that_is_recorded_twice_is_one() {
    let (_dir, recorder) = open();
    let first = recorder.dead_letter(letter("shop", 1, b"{}")).await.unwrap();
    let mut again = letter("shop", 1, b"{\"again\":1}");
    again.first_at_ms = 50;
    again.dead_at_ms = 60;
    assert_eq!(recorder.dead_letter(again).await.unwrap(), first);
    let count = recorder.store().count_letters(&LetterFilter::default()).unwrap();
    let letter = recorder.store().letter(first).unwrap().unwrap().letter;
    assert_eq!((count.len(), count[0].1.letters), (1, 1));
    assert_eq!((letter.first_at_ms, letter.dead_at_ms, letter.body.len()), (1, 60, 11));
}

#[tokio::test]
async fn a_job_that_is_called_off_tells_its_doer() {
    let (dir, recorder) = open();
    recorder.dead_letter(letter("shop", 1, b"{}")).await.unwrap();
    let command = Store::open(dir.path()).unwrap();
    let replay =
        Replay { since_ms: Some(1), per_second: Some(50), tables: vec!["a.*".into()], ..Replay::default() };
    let (one, two) = (
        command.ask(&name("shop"), &JobSpec::Replay(replay.clone())).unwrap(),
        command.ask(&name("shop"), &retry(LetterFilter::dead())).unwrap(),
    );
    let open = recorder.store().open_jobs().unwrap();
    assert_eq!(open.iter().map(|job| job.id).collect::<Vec<_>>(), [one, two]);
    assert_eq!(open[0].spec, JobSpec::Replay(replay));
    recorder.start(two).await.unwrap().unwrap();
    assert_eq!(recorder.claim(two, 9).await.unwrap().len(), 1);
    for job in [one, two] {
        assert!(command.cancel_job(job).unwrap() && !command.cancel_job(job).unwrap());
    }
    assert!(!recorder.progress(two, Progress::default()).await.unwrap());
    assert!(recorder.claim(two, 9).await.unwrap().is_empty());
    assert!(!recorder.finish(two, JobEnd::Done).await.unwrap());
    assert_eq!(recorder.start(one).await.unwrap(), None);
    assert_eq!(command.letter(1).unwrap().unwrap().state, LetterState::Dead);
    // What was in flight may still be told.
    assert!(recorder.settle(1, Settled::Delivered).await.unwrap());
    assert_eq!(command.letter(1).unwrap().unwrap().state, LetterState::Done);
    assert_eq!(command.jobs(Some("replay"), 10).unwrap().len(), 1);
    assert_eq!(command.jobs(None, 10).unwrap().len(), 2);
    assert!(command.open_jobs().unwrap().is_empty());
}

#[tokio::test]
async fn a_test_ends_with_its_attempt() {
    let (dir, recorder) = open();
    let command = Store::open(dir.path()).unwrap();
    let job = command.ask(&name("shop"), &JobSpec::Test).unwrap();
    recorder.start(job).await.unwrap().unwrap();
    let made = attempt("shop", 1, Outcome::Retry);
    assert!(recorder.finish_test(job, made.clone()).await.unwrap());
    let job = command.job(job).unwrap().unwrap();
    assert_eq!(job.state, JobState::Done);
    assert_eq!(command.attempt(job.attempt.unwrap()).unwrap().unwrap().attempt, made);
}
