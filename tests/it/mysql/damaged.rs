//! A log that is damaged or says that it is not whole, and a link that has died: the stream stops and says why, and goes on
//! where it was once that is mended.

use rowbridge_publisher::capture::Capture as _;
use rowbridge_publisher::capture::mysql::MysqlError;
use rowbridge_publisher::journal::Resume;
use rowbridge_schema::Classified as _;
use rowbridge_tests::binlog::LogFile;
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};
use rowbridge_tests::proxy::{Mode, Proxy};

use super::{DEADLINE, Folder, Tap, server};

const WRITE_ROWS: u8 = 23;
const INCIDENT: u8 = 26;
const PAYLOAD: u8 = 40;
/// Of the event's header.
const TYPE: usize = 4;

/// Three rows in a log file that is closed, and a stream that begins before them.
async fn three_rows(server: &Server) -> (Tap, LogFile) {
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(300))").await;
    let tap = Tap::open(server).await;
    let file = server.binlog_position().await.file;
    let rows = "INSERT INTO t VALUES (1, 'one'); INSERT INTO t VALUES (2, REPEAT('two', 100));
                INSERT INTO t VALUES (3, 'three'); FLUSH LOGS";
    server.execute("shop", rows).await;
    (tap, LogFile::read(&server.data().join(file)))
}

/// The stream ends at the second row with an error; with the file as it was, it goes on right there.
async fn stops_and_goes_on(server: &Server, tap: Tap, log: &LogFile, says: &str) {
    let mut tap = tap.again(server).await.unwrap();
    let error = tap.drain().await.unwrap_err();
    assert!(matches!(&error, MysqlError::Event { what, .. } if what.contains(says)), "{error}");
    assert!(!error.class().is_retryable() && error.hint().is_some());
    // Opened again, it does not come past it.
    let mut tap = tap.again(server).await.unwrap();
    assert!(matches!(tap.drain().await.unwrap_err(), MysqlError::Event { .. }));
    log.repair();
    let two = format!("i t id=2 v={}", "two".repeat(100));
    let mut tap = tap.again(server).await.unwrap();
    assert_eq!(tap.lines().await, [&two, ".", "i t id=3 v=three", "."]);
}

#[tokio::test]
async fn a_wrong_checksum_stops_the_stream() {
    let server = server(&[]).await;
    let (tap, log) = three_rows(&server).await;
    log.damage(log.find(WRITE_ROWS, b"twotwo"), |body| *body.last_mut().unwrap() ^= 1);
    stops_and_goes_on(&server, tap, &log, "its checksum does not match").await;
}

#[tokio::test]
async fn an_incident_stops_the_stream() {
    let server = server(&[]).await;
    let (tap, log) = three_rows(&server).await;
    log.forge(log.find(WRITE_ROWS, b"twotwo"), |event| event[TYPE] = INCIDENT);
    stops_and_goes_on(&server, tap, &log, "it lost changes (INCIDENT)").await;
}

#[tokio::test]
async fn an_unknown_event_stops_the_stream() {
    let server = server(&[]).await;
    let (tap, log) = three_rows(&server).await;
    log.forge(log.find(WRITE_ROWS, b"twotwo"), |event| event[TYPE] = 99);
    stops_and_goes_on(&server, tap, &log, "an event of type 99 is not known").await;
}

/// The fields of a payload event: type, length, value; the payload is the last one.
fn payload(event: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let body = &mut event[19..];
    let mut at = 0;
    // 0 ends the list.
    while body[at] != 0 {
        let length = &body[at + 1..];
        at += match length[0] {
            252 => 4 + usize::from(u16::from_le_bytes([length[1], length[2]])),
            short => 2 + usize::from(short),
        };
    }
    change(&mut body[at + 1..]);
}

#[tokio::test]
async fn a_payload_that_cannot_be_unpacked_stops_the_stream() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let server = Server::start(options.set("binlog_transaction_compression", "ON")).await;
    server.create_database("shop").await;
    let (tap, log) = three_rows(&server).await;
    let second = log.find_behind(log.find(PAYLOAD, b""), PAYLOAD);
    for (what, change) in [
        ("its head", (|bytes: &mut [u8]| bytes[..4].fill(0)) as fn(&mut [u8])),
        ("its end", |bytes: &mut [u8]| bytes.iter_mut().rev().take(9).for_each(|byte| *byte ^= 0xff)),
        ("its middle", |bytes: &mut [u8]| {
            let half = bytes.len() / 2;
            bytes[half..half + 4].fill(0xa5);
        }),
    ] {
        println!("{what}");
        log.forge(second, |event| payload(event, change));
        let mut tap =
            Tap::begin(&server, Folder::new(), Some(Resume(tap.opened.from.to_string().into())), None)
                .await
                .unwrap();
        let error = tap.drain().await.unwrap_err();
        assert!(matches!(&error, MysqlError::Event { .. }), "{error:?}");
        assert!(!error.class().is_retryable());
        assert!(tap.resume.is_some(), "the first row is past");
        log.repair();
        let mut tap = tap.again(&server).await.unwrap();
        let two = format!("i t id=2 v={}", "two".repeat(100));
        assert_eq!(tap.lines().await, [&two, ".", "i t id=3 v=three", "."]);
    }
    log.forge(second, |event| payload(event, |bytes| bytes[..4].fill(0)));
    stops_and_goes_on(&server, tap, &log, "could not be unpacked").await;
}

/// A link on which nothing comes, not even what the server says by itself when there is nothing to say.
#[tokio::test]
async fn a_silent_link_is_given_up() {
    let server = server(&[]).await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let proxy = Proxy::to_port(server.port());
    let mut tap =
        Tap::begin_at(&server.url_via(proxy.port(), "shop"), Folder::new(), None, None).await.unwrap();
    server.execute("shop", "INSERT INTO t VALUES (1)").await;
    assert_eq!(tap.lines().await, ["i t id=1", "."]);
    proxy.set_mode(Mode::Stall).await;
    server.execute("shop", "INSERT INTO t VALUES (2)").await;
    let error = loop {
        match tokio::time::timeout(DEADLINE, tap.capture.next()).await.expect("a dead link is noticed") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MysqlError::Lost { .. }) && error.class().is_retryable(), "{error}");
    proxy.set_mode(Mode::Pass).await;
    let mut tap = tap.again(&server).await.unwrap();
    assert_eq!(tap.lines().await, ["i t id=2", "."]);
}
