//! Files of `state_dir` that a disk has changed, cut or lost: either it is repaired, or the publisher says what to do, and
//! what it says makes the copy equal again. Nothing is passed over in silence.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowbridge_tests::proxy::Mode;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::wait;
use rowbridge_tests::webhook::{Receiver, Reply};

use crate::cli::rowbridge;
use crate::faults::not_ready;
use crate::load::{TABLES, fill, schema};
use crate::webhook::{Sending, endpoint, faults, wait_for_ids};

const KINDS: [Kind; 3] = [Kind::Postgres, Kind::Mariadb, Kind::Sqlite];
const SOON: Duration = Duration::from_secs(60);

/// A bridge that has delivered some rows, whose publisher is stopped.
async fn stopped(kind: Kind) -> Pair {
    println!("{}", kind.name());
    let pair = Pair::prepare(PairOptions::crossing(kind, kind).with_http_proxy()).await;
    pair.source_execute(schema(kind)).await;
    pair.source_execute(&fill(kind, 200)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    for id in 1..=20 {
        pair.source_execute(&order(id)).await;
    }
    pair.wait_equal(&TABLES).await;
    if kind == Kind::Sqlite {
        // What was confirmed is removed from the change log once nobody writes, but for the last row.
        wait::until("a short change log", SOON, || async {
            let rows = "SELECT (SELECT max(id) FROM rowbridge_log) - pruned FROM rowbridge_state";
            let rows = pair.source_file().query_text(rows).unwrap();
            if rows == "1" { Ok(()) } else { Err(format!("{rows} rows")) }
        })
        .await;
    }
    pair.publisher().terminate().await;
    pair
}

fn order(id: i64) -> String {
    format!("INSERT INTO orders VALUES ('damaged', {id}, {id}, 'x')")
}

/// The journal's segments, the oldest first.
fn segments(state_dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(state_dir.join("journal")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x04], at).unwrap();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// Deletes and inserts at the source while the publisher is in trouble.
async fn go_on(pair: &Pair, id: i64) {
    pair.source_execute("DELETE FROM items WHERE id BETWEEN 10 AND 30").await;
    pair.source_execute("DELETE FROM orders WHERE region = 'damaged' AND number < 5").await;
    pair.source_execute(&order(id)).await;
}

/// Runs a command of the publisher's configuration, which must succeed.
fn command(pair: &Pair, args: &[&str]) {
    let config = pair.publisher_path();
    let args = [args, &["--config", config.to_str().unwrap()]].concat();
    let (code, _, err) = rowbridge(config.parent().unwrap(), &args);
    assert_eq!(code, 0, "{err}");
}

/// Starts the publisher, which must refuse with all of these words; returns what it said.
async fn refuses(pair: &Pair, words: &[&str]) {
    let mark = pair.publisher().log().mark();
    pair.publisher().start();
    let status = pair.publisher().wait_exit(SOON).await;
    let said = pair.publisher().log().since(mark).join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_write_behind_the_journal_is_cut() {
    for kind in KINDS {
        let pair = stopped(kind).await;
        let last = segments(pair.state_dir()).pop().unwrap();
        let whole = length(&last);
        let mut file = OpenOptions::new().append(true).open(&last).unwrap();
        // The head of a frame whose end never came.
        file.write_all(&[200, 0, 0, 0, 1, 2, 3, 4, 1, b'x', b'y']).unwrap();
        go_on(&pair, 1000).await;
        pair.publisher().start();
        let line = pair.publisher().wait_for_line(|line| line.contains("torn tail")).await;
        assert!(line.contains("\"cut_bytes\":11"), "{line}");
        pair.wait_equal(&TABLES).await;
        pair.wait_publisher().await;
        assert!(length(&last) > whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_lost_its_end_is_told_or_captured_again() {
    for kind in KINDS {
        let pair = stopped(kind).await;
        let last = segments(pair.state_dir()).pop().unwrap();
        let file = OpenOptions::new().write(true).open(&last).unwrap();
        // What is gone was synced, and the source was told so.
        file.set_len(length(&last) - 600).unwrap();
        go_on(&pair, 1000).await;
        let mark = pair.publisher().log().mark();
        pair.publisher().start();
        let lacks = |line: &str| line.contains("the journal lacks blocks that were on disk");
        pair.publisher().wait_for_line_since(mark, SOON, lacks).await;
        match kind {
            // The binary log is not trimmed by those who read it.
            Kind::Mariadb => {}
            Kind::Postgres => {
                not_ready(&pair, &["but the journal ends at", "rowbridge snapshot --all"]).await;
                command(&pair, &["snapshot", "--all"]);
            }
            Kind::Sqlite => {
                not_ready(&pair, &["the change log of", "the journal ends at", "rowbridge snapshot --all"])
                    .await;
                command(&pair, &["snapshot", "--all"]);
            }
        }
        pair.wait_equal(&TABLES).await;
        pair.wait_publisher().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_journal_is_refused_with_the_way_out() {
    for kind in KINDS {
        let pair = stopped(kind).await;
        // In the header, then in the middle of the first frame.
        for at in [20, 120] {
            let first = segments(pair.state_dir()).remove(0);
            flip(&first, at);
            go_on(&pair, 1000 + at as i64).await;
            refuses(&pair, &["is damaged at byte", first.to_str().unwrap(), "rowbridge snapshot --all"])
                .await;
            // As it says.
            let away = pair.state_dir().with_file_name(format!("journal-{at}"));
            std::fs::rename(pair.state_dir().join("journal"), away).unwrap();
            command(&pair, &["snapshot", "--all"]);
            pair.publisher().start();
            pair.wait_equal(&TABLES).await;
            pair.wait_publisher().await;
            pair.source_execute(&order(2000 + at as i64)).await;
            pair.wait_equal(&TABLES).await;
            pair.publisher().terminate().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_what_waits_for_delivery_halts_the_lane() {
    let mut pair = stopped(Kind::Sqlite).await;
    pair.publisher_config.journal_extra = "max_bytes = \"2 MiB\"".into();
    pair.write_configs();
    pair.http_proxy().set_mode(Mode::Refuse).await;
    pair.publisher().start();
    pair.publisher().wait_for_line(|line| line.contains("cannot connect")).await;
    for id in 100..150 {
        let text = "waits ".repeat(2_000);
        pair.source_execute(&format!("INSERT INTO orders VALUES ('waits', {id}, 1, '{text}')")).await;
    }
    let folder = pair.state_dir().to_owned();
    wait::until("several segments", SOON, || async {
        let count = segments(&folder).len();
        if count > 4 { Ok(()) } else { Err(format!("{count} segments")) }
    })
    .await;
    pair.publisher().kill9();
    let closed = segments(pair.state_dir()).swap_remove(2);
    flip(&closed, length(&closed) / 2);
    pair.http_proxy().set_mode(Mode::Pass).await;
    pair.publisher().start();
    not_ready(&pair, &["is damaged at byte", closed.to_str().unwrap(), "rowbridge snapshot --all"]).await;
    // Capture goes on; nothing behind the damage was sent.
    go_on(&pair, 1000).await;
    let rows = pair.target_file().query_text("SELECT count(*) FROM orders WHERE region = 'waits'");
    assert!(rows.unwrap().parse::<u32>().unwrap() < 50);
    command(&pair, &["snapshot", "--all"]);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_file_is_refused_with_the_way_out() {
    for kind in KINDS {
        let pair = stopped(kind).await;
        let file = pair.state_dir().join("state.db");
        // The source's name, in the middle of a page whose structure is whole.
        let bytes = std::fs::read(&file).unwrap();
        let key = b"first_epoch";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        flip(&file, at as u64);
        go_on(&pair, 1000).await;
        refuses(&pair, &["state.db is damaged", "rowbridge snapshot --all"]).await;
        std::fs::rename(pair.state_dir(), pair.state_dir().with_file_name("damaged")).unwrap();
        pair.publisher().start();
        wait::until("a new state", SOON, || async {
            if file.is_file() { Ok(()) } else { Err("no state.db yet".to_owned()) }
        })
        .await;
        command(&pair, &["snapshot", "--all"]);
        pair.wait_equal(&TABLES).await;
        pair.wait_publisher().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_of_deliveries_is_refused_with_the_way_out() {
    let pair = stopped(Kind::Sqlite).await;
    let file = pair.state_dir().join("deliveries.db");
    flip(&file, 3);
    go_on(&pair, 1000).await;
    refuses(&pair, &["deliveries.db", "not a database", "move deliveries.db"]).await;
    for name in ["deliveries.db", "deliveries.db-wal", "deliveries.db-shm"] {
        let _ = std::fs::remove_file(pair.state_dir().join(name));
    }
    pair.publisher().start();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_cursor_sends_again_and_says_so() {
    let receiver = Receiver::start(|_| Reply::status(204));
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    sending.insert(1..=20);
    wait_for_ids(&receiver, 1..=20, |_| true).await;
    sending.daemon.terminate().await;
    let cursor = sending.state_dir().join("cursors/crm.cursor");
    flip(&cursor, length(&cursor) / 2);
    let mark = sending.daemon.log().mark();
    sending.daemon.start();
    let cut = |line: &str| line.contains("the end of a cursor cannot be read") && line.contains("cut_bytes");
    sending.daemon.wait_for_line_since(mark, SOON, cut).await;
    sending.insert(21..=30);
    let requests = wait_for_ids(&receiver, 1..=30, |_| true).await;
    // What it had settled comes again, each under the id that it had; nothing is left out.
    faults::account(&requests, 30);
}
