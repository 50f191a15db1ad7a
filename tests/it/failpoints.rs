//! Every place where a process can be killed by name (`rowbridge_schema::failpoint`): it dies there, twice, under a load
//! that does not stop for it, and is started again. In the end the copy equals the source row for row, and no more
//! deliveries came twice than there were deaths.
//!
//! A place that nothing passes fails its test, and one without a test fails [`every_failpoint_has_a_test`].

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use rowbridge_schema::Failpoint;
use rowbridge_tests::kills::{Kills, account, repeated};
use rowbridge_tests::process::Daemon;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::webhook::{Received, Receiver, Reply};

use crate::load::{Running, TABLES, fill, schema};
use crate::webhook::{Sending, endpoint, faults, id, wait_for_ids};

/// What `abort` raises. A kill by the harness is SIGKILL.
const SIGABRT: i32 = 6;
/// A place is passed within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);
const KINDS: [Kind; 3] = [Kind::Postgres, Kind::Mariadb, Kind::Sqlite];

macro_rules! failpoints {
    ($($name:ident: $run:ident($point:ident);)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $run(Failpoint::$point).await;
        })*

        #[test]
        fn every_failpoint_has_a_test() {
            let tested = [$(Failpoint::$point),*];
            for point in Failpoint::ALL {
                assert!(tested.contains(point), "{point:?} has no test");
            }
        }
    };
}

failpoints! {
    journal_written: publisher(JournalWritten);
    journal_synced: publisher(JournalSynced);
    source_confirmed: publisher(SourceConfirmed);
    segment_removed: publisher(SegmentRemoved);
    range_appended: publisher(RangeAppended);
    table_appended: publisher(TableAppended);
    delivery_answered: publisher(DeliveryAnswered);
    delivery_released: publisher(DeliveryReleased);
    webhook_answered: webhook(WebhookAnswered);
    webhook_settled: webhook(WebhookSettled);
    cursor_written: webhook(CursorWritten);
    letter_written: webhook(LetterWritten);
    progress_written: subscriber(ProgressWritten);
    table_written: subscriber(TableWritten);
    before_commit: subscriber(BeforeCommit);
    committed: subscriber(Committed);
}

/// As `deploy/Containerfile` and README.md build it.
#[test]
fn what_is_shipped_has_none_of_them() {
    let tree = |more: &[&str]| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        command.args(["tree", "--offline", "--locked", "-p", "rowbridge", "-e", "normal"]);
        command.args(["--prefix", "none", "--format", "{p} {f}"]).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let schema = text.lines().find(|line| line.starts_with("rowbridge-schema "));
        schema.expect("the program has both ends").ends_with(" failpoints")
    };
    assert!(tree(&["--features", "failpoints"]));
    assert!(!tree(&[]));
}

/// The next start dies when it passes the place for the `count`th time; none: it lives.
fn arm(daemon: &Daemon, point: Failpoint, count: Option<u64>) {
    let value = count.map(|count| format!("{}:{count}", point.name()));
    daemon.set_env("ROWBRIDGE_FAILPOINT", value.as_deref());
}

/// Waits for the death that [`arm`] has ordered.
async fn dies(daemon: &Daemon, point: Failpoint, mark: usize) {
    let status = daemon.wait_exit(PATIENCE).await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point:?}: {status}; {}", daemon.last_lines());
    let line = format!("failpoint {}", point.name());
    daemon.wait_for_line_since(mark, PATIENCE, |said| said == line).await;
}

async fn publisher(point: Failpoint) {
    for kind in KINDS {
        let pair = prepare(point, kind).await;
        let kills = kill_at(&pair, pair.publisher(), point).await;
        account(&pair, Kills { publisher: kills, ..Kills::default() }).await;
    }
}

async fn subscriber(point: Failpoint) {
    for kind in KINDS {
        let pair = prepare(point, kind).await;
        let kills = kill_at(&pair, pair.subscriber(), point).await;
        let again = repeated(&pair).await;
        account(&pair, Kills { subscriber: kills, ..Kills::default() }).await;
        if point == Failpoint::Committed {
            assert!(again >= 1.0, "what was committed and not answered was not sent again");
        }
    }
}

async fn prepare(point: Failpoint, kind: Kind) -> Pair {
    println!("{} between two of {}", point.name(), kind.name());
    let mut pair = Pair::prepare(PairOptions::crossing(kind, kind)).await;
    if point == Failpoint::SegmentRemoved {
        // The smallest segments, removed as soon as they are delivered.
        pair.publisher_config.journal_extra = "max_bytes = \"1 MiB\"\nretain = \"0s\"".into();
        pair.write_configs();
    }
    pair.source_execute(schema(kind)).await;
    pair.source_execute(&fill(kind, 500)).await;
    // More than one range.
    pair.source_execute("CREATE TABLE large (id INTEGER PRIMARY KEY, v TEXT)").await;
    let (statements, text) = match point {
        Failpoint::RangeAppended => (20, "large ".repeat(10_000)),
        _ => (1, "small".to_owned()),
    };
    for id in 0..statements {
        let rows: Vec<String> = (0..20).map(|row| format!("({}, '{text}{row}')", id * 20 + row)).collect();
        pair.source_execute(&format!("INSERT INTO large VALUES {}", rows.join(", "))).await;
    }
    pair
}

/// Lets a process die at its first passing of a place and, in its next life, at its third. Returns how often it died.
async fn kill_at(pair: &Pair, victim: &Daemon, point: Failpoint) -> u32 {
    let passings = [1, 3];
    let load = Running::start(pair, if pair.source_kind() == Kind::Sqlite { 1 } else { 2 }).await;
    let mark = victim.log().mark();
    arm(victim, point, Some(passings[0]));
    pair.subscriber().start();
    pair.wait_subscriber().await;
    pair.publisher().start();
    dies(victim, point, mark).await;
    for passing in passings[1..].iter().map(|passing| Some(*passing)).chain([None]) {
        let mark = victim.log().mark();
        arm(victim, point, passing);
        victim.start();
        if passing.is_some() {
            dies(victim, point, mark).await;
        }
    }
    let transactions = load.stop().await;
    println!("{}: {transactions} transactions", point.name());
    let mut tables = TABLES.to_vec();
    tables.push("large");
    pair.wait_equal(&tables).await;
    assert!(victim.is_running(), "{}", victim.last_lines());
    passings.len() as u32
}

/// An endpoint that is not Rowbridge gets each event at least once, in order, and at most one of them twice per death.
async fn webhook(point: Failpoint) {
    let refused = move |request: &Received| point == Failpoint::LetterWritten && id(&request.json()) % 5 == 2;
    let receiver = Receiver::start(move |request| Reply::status(if refused(request) { 400 } else { 204 }));
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    let (rows, passings) = (40, [1, 3]);
    sending.daemon.kill9();
    for (life, passing) in passings.into_iter().map(Some).chain([None]).enumerate() {
        let mark = sending.daemon.log().mark();
        arm(&sending.daemon, point, passing);
        sending.daemon.start();
        let first = life as i64 * rows;
        sending.insert(first + 1..=first + rows);
        if passing.is_some() {
            dies(&sending.daemon, point, mark).await;
        }
    }
    let all = 3 * rows;
    let requests = wait_for_ids(&receiver, 1..=all, |_| true).await;
    faults::account(&requests, all);
    let repeated = requests.len() as i64 - all;
    println!("{}: {repeated} requests repeated", point.name());
    assert!(
        repeated <= passings.len() as i64,
        "{repeated} requests were repeated by {} deaths",
        passings.len()
    );
    if point == Failpoint::LetterWritten {
        let wanted: Vec<i64> = (1..=all).filter(|id| id % 5 == 2).collect();
        let letters = sending.letters(wanted.len()).await;
        let mut set_aside: Vec<i64> = letters
            .iter()
            .map(|letter| letter["key"].as_str().unwrap().strip_prefix("id=").unwrap().parse().unwrap())
            .collect();
        set_aside.sort_unstable();
        set_aside.dedup();
        assert_eq!(set_aside, wanted, "{letters:?}");
    }
}
