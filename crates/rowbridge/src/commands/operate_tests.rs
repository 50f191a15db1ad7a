//! The commands that operate deliveries, against a store that a publisher has filled.

use clap::Parser;
use rowbridge_publisher::deliveries::{JobSpec, JobState, LetterFilter, Limits, NewLetter, Recorder, Store};
use rowbridge_publisher::state::State;
use rowbridge_schema::Position;

use super::{attempts, dead_letter, endpoint, replay};
use crate::failure::Failure;

#[derive(Debug, Parser)]
enum Command {
    Endpoint(endpoint::EndpointArgs),
    Attempts(attempts::AttemptsArgs),
    DeadLetter(dead_letter::DeadLetterArgs),
    Replay(replay::ReplayArgs),
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| serde_json::json!(dir.path().join(name)).to_string();
        let endpoint = |name: &str| {
            format!(
                "[[endpoint]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:9/in\"\nformat = \"bridge\"\n\
                 secret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"\n"
            )
        };
        let url = serde_json::json!(format!("sqlite:{}", dir.path().join("shop.db").display()));
        let text = format!(
            "[publisher]\nstream = \"shop\"\nstate_dir = {}\n[source]\nkind = \"sqlite\"\nurl = {url}\ntables = [\"*\"]\n{}{}",
            at("state"),
            endpoint("crm"),
            endpoint("chat")
        );
        std::fs::write(dir.path().join("rowbridge.toml"), text).unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Result<(), Failure> {
        let config = self.0.path().join("rowbridge.toml");
        let all = ["rowbridge"].iter().chain(args).map(|arg| (*arg).to_owned());
        let all = all.chain(["--config".to_owned(), config.display().to_string()]);
        match Command::try_parse_from(all).unwrap() {
            Command::Endpoint(args) => args.run(),
            Command::Attempts(args) => args.run(),
            Command::DeadLetter(args) => args.run(),
            Command::Replay(args) => args.run(),
        }
    }

    fn fails(&self, args: &[&str]) -> (u8, String) {
        let failure = self.run(args).unwrap_err();
        (failure.exit.code(), failure.message)
    }

    fn state(&self) -> std::path::PathBuf {
        self.0.path().join("state")
    }

    /// Three letters: 1 and 2 to `crm`, 3 to an endpoint that the file does not have any more.
    async fn filled(&self) -> Store {
        std::fs::create_dir_all(self.state()).unwrap();
        let recorder = Recorder::open(&self.state(), Limits::default()).unwrap();
        for (number, endpoint) in [(1, "crm"), (2, "crm"), (3, "gone")] {
            let letter = NewLetter {
                endpoint: endpoint.parse().unwrap(),
                webhook_id: format!("msg_{number}"),
                event: format!("shop:{number}"),
                events: 1,
                position: Position::new(1, number, 1),
                table: Some(if number == 1 { "orders" } else { "items" }.into()),
                op: Some("insert".into()),
                key: None,
                content_type: "application/json".into(),
                headers: vec![],
                body: b"{}".to_vec(),
                source: None,
                class: None,
                reason: "answered 422".into(),
                status: Some(422),
                attempts: 1,
                first_at_ms: 1,
                dead_at_ms: 2,
            };
            recorder.dead_letter(letter).await.unwrap();
        }
        Store::open(&self.state()).unwrap()
    }
}

#[test]
fn a_publisher_that_never_ran_is_the_environment() {
    let folder = Folder::new();
    for args in [
        &["attempts"][..],
        &["endpoint", "list"],
        &["endpoint", "pause", "crm"],
        &["dead-letter", "list"],
        &["replay", "list"],
    ] {
        let (code, message) = folder.fails(args);
        assert!(code == 3 && message.contains("no publisher has run"), "{args:?}: {code} {message}");
    }
    assert!(!folder.state().exists());
}

#[tokio::test]
async fn an_unknown_endpoint_is_wrong_usage_that_names_the_known_ones() {
    let folder = Folder::new();
    let store = folder.filled().await;
    for args in [
        &["attempts", "--endpoint", "cmr"][..],
        &["endpoint", "pause", "cmr"],
        &["endpoint", "test", "cmr"],
        &["dead-letter", "retry", "--all", "--endpoint", "cmr"],
        &["replay", "--endpoint", "cmr", "--since", "1h"],
    ] {
        let (code, message) = folder.fails(args);
        assert!(code == 2 && message.contains("no endpoint cmr; it has"), "{args:?}: {code} {message}");
        assert!(message.contains("chat") && message.contains("crm"), "{args:?}: {message}");
    }
    // One that was taken out of the file still has its letters.
    folder.run(&["dead-letter", "list", "--endpoint", "gone"]).unwrap();
    assert!(store.open_jobs().unwrap().is_empty());
}

#[tokio::test]
async fn many_letters_need_a_yes_and_named_ones_do_not() {
    let folder = Folder::new();
    let store = folder.filled().await;
    folder.run(&["dead-letter", "retry", "--all", "--table", "orders"]).unwrap();
    folder.run(&["dead-letter", "discard", "--all"]).unwrap();
    assert!(store.open_jobs().unwrap().is_empty());
    assert_eq!(store.letters(&LetterFilter::dead(), None, 9).unwrap().len(), 3);

    folder.run(&["dead-letter", "retry", "--all", "--table", "orders", "--yes"]).unwrap();
    let job = store.open_jobs().unwrap().remove(0);
    let JobSpec::Retry { letters } = &job.spec else { panic!("{job:?}") };
    assert_eq!((job.endpoint.as_str(), letters.upto), ("crm", Some(3)));
    let meant: Vec<_> = store.letters(letters, None, 9).unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(meant, [1]);
    folder.run(&["dead-letter", "retry", "2"]).unwrap();
    assert_eq!(store.open_jobs().unwrap().len(), 2);
    // Nobody could send this one.
    assert_eq!(folder.fails(&["dead-letter", "retry", "3"]), (1, "no dead letter matches".into()));
    let (code, message) = folder.fails(&["dead-letter", "retry", "2", "77"]);
    assert!(code == 2 && message.contains("no dead letter 77"), "{code} {message}");
    assert_eq!(folder.fails(&["dead-letter", "show", "77"]).0, 2);
    folder.run(&["dead-letter", "show", "3", "--json"]).unwrap();

    folder.run(&["dead-letter", "discard", "3"]).unwrap();
    folder.run(&["dead-letter", "discard", "--all", "--reason", "422", "--yes", "--json"]).unwrap();
    assert!(store.letters(&LetterFilter::default(), None, 9).unwrap().is_empty());
    assert_eq!(folder.fails(&["dead-letter", "discard", "--all"]).0, 1);
}

#[tokio::test]
async fn endpoints_are_paused_without_a_publisher_and_tested_only_with_one() {
    let folder = Folder::new();
    let store = folder.filled().await;
    let crm = "crm".parse().unwrap();
    let paused = || store.endpoint(&crm).unwrap().is_some_and(|row| row.paused_at_ms.is_some());
    for (command, expected) in [("pause", true), ("pause", true), ("resume", false), ("enable", false)] {
        folder.run(&["endpoint", command, "crm"]).unwrap();
        assert_eq!(paused(), expected, "{command}");
    }
    folder.run(&["endpoint", "list", "--json"]).unwrap();
    let (code, message) = folder.fails(&["endpoint", "test", "crm"]);
    assert!(code == 3 && message.contains("no publisher runs"), "{code} {message}");
    assert!(store.open_jobs().unwrap().is_empty());
    // A publisher that does not answer: the job does not stay behind.
    let _lock = State::open(&folder.state(), &"shop".parse().unwrap()).unwrap();
    let (code, message) = folder.fails(&["endpoint", "test", "crm", "--wait", "200ms"]);
    assert!(code == 1 && message.contains("--wait"), "{code} {message}");
    assert!(store.open_jobs().unwrap().is_empty());
}

#[tokio::test]
async fn a_test_shows_what_the_publisher_got() {
    use rowbridge_publisher::deliveries::{Attempt, Origin, Outcome, Timings};
    let folder = Folder::new();
    drop(folder.filled().await);
    let _lock = State::open(&folder.state(), &"shop".parse().unwrap()).unwrap();
    let recorder = Recorder::open(&folder.state(), Limits::default()).unwrap();
    for (outcome, code) in [(Outcome::Delivered, 0), (Outcome::Permanent, 1)] {
        let result = std::thread::scope(|scope| {
            let command = scope.spawn(|| folder.run(&["endpoint", "test", "crm"]));
            // On a thread of its own, since this one has a runtime already.
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let job = loop {
                        if let Some(job) = recorder.store().open_jobs().unwrap().pop() {
                            break job;
                        }
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    };
                    recorder.start(job.id).await.unwrap().unwrap();
                    let attempt = Attempt {
                        endpoint: job.endpoint,
                        webhook_id: "test_1".into(),
                        event: None,
                        events: 1,
                        position: None,
                        table: None,
                        attempt: 1,
                        started_at_ms: 1,
                        outcome,
                        status: Some(200),
                        class: None,
                        error: None,
                        timings: Timings::default(),
                        excerpt: b"ok\x1b[31m".to_vec(),
                        request_bytes: 2,
                        origin: Origin::Test,
                    };
                    recorder.finish_test(job.id, attempt).await.unwrap();
                });
            });
            command.join().unwrap()
        });
        assert_eq!(result.map_or_else(|failure| failure.exit.code(), |()| 0), code);
    }
}

#[tokio::test]
async fn replays_are_left_listed_and_called_off() {
    let folder = Folder::new();
    let store = folder.filled().await;
    let ask = ["replay", "--endpoint", "crm", "--since", "2h", "--rate", "50/s", "--tables", "or*"];
    folder.run(&ask).unwrap();
    let job = store.open_jobs().unwrap().remove(0);
    let JobSpec::Replay(replay) = &job.spec else { panic!("{job:?}") };
    let window = replay.until_ms.unwrap() - replay.since_ms.unwrap();
    assert!((7_199_000..7_260_000).contains(&window), "{window}");
    assert_eq!((replay.per_second, replay.tables.as_slice()), (Some(50), &["or*".to_owned()][..]));
    // Without a publisher nobody is waited for.
    folder
        .run(&["replay", "--endpoint", "chat", "--from", &Position::new(1, 2, 1).to_string(), "--follow"])
        .unwrap();
    let backwards = folder.fails(&["replay", "--endpoint", "crm", "--since", "1h", "--until", "2h"]);
    assert!(backwards.0 == 2 && backwards.1.contains("before the beginning"), "{backwards:?}");
    assert_eq!(store.open_jobs().unwrap().len(), 2);
    folder.run(&["replay", "list"]).unwrap();
    folder.run(&["replay", "cancel", "1", "--json"]).unwrap();
    assert_eq!(store.job(1).unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(folder.fails(&["replay", "cancel", "1"]).0, 1);
    assert_eq!(folder.fails(&["replay", "cancel", "9"]).0, 2);
}
