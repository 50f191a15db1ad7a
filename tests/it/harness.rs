//! The harness itself: a fault that it does not inject, or a difference that it does not see, would make every other
//! test worthless.

mod crossing;
mod mariadb;

use std::path::Path;
use std::time::{Duration, Instant};

use rowbridge_tests::compare::{
    Difference, Side, postgres_tables_equal, sqlite_databases_equal, sqlite_tables_equal, wait_for_count,
    wait_until_equal,
};
use rowbridge_tests::metrics::{Metrics, wait_for};
use rowbridge_tests::port::free_port;
use rowbridge_tests::postgres::{Cluster, ClusterOptions, Stop};
use rowbridge_tests::process::{Daemon, DaemonOptions, signal};
use rowbridge_tests::proxy::{Direction, Mode, Proxy};
use rowbridge_tests::scenario::{Pair, PairOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::wait::DEADLINE;
use rowbridge_tests::webhook::{Forged, Receiver, Reply, secret, send_raw, sign, signature_holds};

const MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn cluster_starts_restarts_and_keeps_its_port() {
    let cluster = Cluster::start(ClusterOptions::default().set("wal_sender_timeout", "7s")).await;
    assert_eq!(
        cluster.psql("postgres", "SHOW wal_level; SHOW wal_sender_timeout; SHOW fsync").await,
        "logical\n7s\noff\n"
    );
    cluster.create_database("shop").await;
    cluster
        .execute("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)")
        .await;
    let port = cluster.port();
    cluster.restart().await;
    assert_eq!(cluster.port(), port);
    assert_eq!(cluster.query_text("shop", "SELECT count(*) FROM t").await.as_deref(), Some("10"));
    cluster.stop(Stop::Fast).await;
    assert!(!cluster.is_running());
    cluster.start_again().await;
    assert!(cluster.is_running());

    cluster.create_database("copy").await;
    let schema = cluster.dump_schema("shop").await;
    cluster.psql("copy", &schema).await;
    assert_eq!(cluster.query_text("copy", "SELECT count(*) FROM public.t").await.as_deref(), Some("0"));
    cluster.pgbench("shop", &["-i", "-q", "-s", "1"]).await;
    let report = cluster.pgbench("shop", &["-t", "5"]).await;
    assert!(report.contains("number of transactions actually processed: 5/5"), "{report}");
}

#[tokio::test]
async fn killed_cluster_recovers_what_was_committed() {
    let cluster = Cluster::start(ClusterOptions::durable()).await;
    assert_eq!(cluster.psql("postgres", "SHOW fsync").await, "on\n");
    cluster.execute("postgres", "CREATE TABLE t (id int)").await;
    for _ in 0..3 {
        let open = cluster.connect("postgres").await;
        open.batch_execute("BEGIN; INSERT INTO t VALUES (0)").await.unwrap();
        cluster.execute("postgres", "INSERT INTO t VALUES (1)").await;
        cluster.kill9();
        assert!(open.simple_query("SELECT 1").await.is_err());
        cluster.start_again().await;
    }
    assert_eq!(cluster.psql("postgres", "SELECT id, count(*) FROM t GROUP BY id").await, "1|3\n");
    assert!(cluster.log_tail(500).contains("automatic recovery in progress"), "{}", cluster.log_tail(50));
    cluster.stop(Stop::Immediate).await;
    cluster.start_again().await;
}

#[tokio::test]
async fn newer_clusters_are_clusters_too() {
    for major in [17, 18] {
        let Some(options) = ClusterOptions::version(major) else { continue };
        let cluster = Cluster::start(options).await;
        let version = cluster.psql("postgres", "SHOW server_version").await;
        assert!(version.starts_with(&format!("{major}.")), "{version}");
        cluster.pgbench("postgres", &["-i", "-q", "-s", "1"]).await;
        cluster.create_database("copy").await;
        let schema = cluster.dump_schema("postgres").await;
        cluster.psql("copy", &schema).await;
        let open = cluster.connect("postgres").await;
        cluster.kill9();
        assert!(open.simple_query("SELECT 1").await.is_err());
        cluster.start_again().await;
        let count = "SELECT count(*) FROM pgbench_accounts";
        assert_eq!(cluster.query_text("postgres", count).await.as_deref(), Some("100000"));
        assert_eq!(cluster.query_text("copy", count).await.as_deref(), Some("0"));
    }
}

#[tokio::test]
async fn restored_cluster_has_forgotten_what_came_later() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.execute("postgres", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let backup = cluster.backup().await;
    cluster.execute("postgres", "INSERT INTO t VALUES (2)").await;
    for _ in 0..2 {
        cluster.restore(&backup).await;
        assert_eq!(cluster.psql("postgres", "SELECT id FROM t").await, "1\n");
        cluster.execute("postgres", "INSERT INTO t VALUES (3)").await;
    }
}

#[tokio::test]
async fn postgres_oracle_accepts_equality_and_shows_differences() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    for name in ["a", "b"] {
        cluster.create_database(name).await;
    }
    let columns = [
        "id int, n numeric, s text, t timestamptz, f float8",
        "s text, f float8, t timestamptz, n numeric, id int",
    ];
    let rows = "INSERT INTO t (id, n, s, t, f) VALUES
        (1, 1.50, 'x', '2024-02-29 12:00+02', 0.1), (2, NULL, '', 'infinity', 'NaN'), (3, 7, NULL, NULL, '-0'),
        (4, 1, 'a,\"b', NULL, 1e300), (4, 1, 'a,\"b', NULL, 1e300)";
    for (name, columns) in ["a", "b"].iter().zip(columns) {
        cluster.execute(name, &format!("CREATE TABLE t ({columns}); {rows}")).await;
    }
    let source = cluster.connect("a").await;
    let target = cluster.connect("b").await;
    // How the sessions print values must not matter, and must be as before afterwards.
    target
        .batch_execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = -3")
        .await
        .unwrap();
    let t = [("public.t", "public.t")];
    postgres_tables_equal(&source, &target, &t).await.unwrap();
    let zone: String = target.query_one("SHOW timezone", &[]).await.unwrap().get(0);
    assert_eq!(zone, "Asia/Tokyo");

    let changes = [
        ("UPDATE t SET n = 1.5 WHERE id = 1", "a digit of scale"),
        ("UPDATE t SET s = NULL WHERE id = 2", "NULL for an empty text"),
        ("UPDATE t SET f = 0 WHERE id = 3", "the sign of zero"),
        ("UPDATE t SET t = t + interval '1 microsecond' WHERE id = 1", "a microsecond"),
        ("DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE id = 4)", "one of two identical rows"),
        ("INSERT INTO t SELECT * FROM t WHERE id = 4 LIMIT 1", "a third identical row"),
    ];
    for (change, what) in changes {
        target.batch_execute(&format!("BEGIN; {change}; COMMIT")).await.unwrap();
        let difference = postgres_tables_equal(&source, &target, &t).await.expect_err(what);
        let Difference::Rows(found) = &difference else { panic!("{difference}") };
        assert!(found.missing + found.surplus >= 1 && found.source_count == 5, "{what}: {difference}");
        target.batch_execute(&format!("TRUNCATE t; {rows}")).await.unwrap();
        postgres_tables_equal(&source, &target, &t).await.unwrap();
    }

    source.batch_execute("INSERT INTO t (id) SELECT generate_series(100, 124)").await.unwrap();
    let difference = postgres_tables_equal(&source, &target, &t).await.unwrap_err();
    let Difference::Rows(found) = &difference else { panic!("{difference}") };
    assert_eq!((found.missing, found.surplus), (25, 0));
    assert_eq!((found.source_count, found.target_count), (30, 5));
    assert_eq!(found.first_missing.len(), 10);

    source.batch_execute("ALTER TABLE t ADD COLUMN more int").await.unwrap();
    let difference = postgres_tables_equal(&source, &target, &t).await.unwrap_err();
    assert!(
        matches!(&difference, Difference::Columns { only_source, .. } if only_source == &["more"]),
        "{difference}"
    );
    target.batch_execute("DROP TABLE t").await.unwrap();
    let difference = postgres_tables_equal(&source, &target, &t).await.unwrap_err();
    assert!(matches!(difference, Difference::MissingTable { side: Side::Target, .. }), "{difference}");
}

#[tokio::test]
async fn waiting_for_equality_survives_a_restart_of_the_target() {
    let (source, target) =
        tokio::join!(Cluster::start(ClusterOptions::default()), Cluster::start(ClusterOptions::default()));
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    source.execute("postgres", &format!("{table}; INSERT INTO t VALUES (1), (2)")).await;
    target.execute("postgres", &format!("{table}; INSERT INTO t VALUES (1)")).await;
    let (from, to) = (source.url("postgres"), target.url("postgres"));
    let wait = wait_until_equal(&from, &to, &[("public.t", "public.t")], DEADLINE);
    let act = async {
        // The sessions that the wait compares with, and that the restart ends under it.
        session_besides(&target).await;
        target.restart().await;
        target.execute("postgres", "INSERT INTO t VALUES (2)").await;
    };
    tokio::join!(wait, act);
    wait_for_count(&target.connect("postgres").await, "public.t", 2, DEADLINE).await;
}

/// Waits until somebody besides this function has a session there.
async fn session_besides(cluster: &Cluster) {
    let own = cluster.connect("postgres").await;
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND query LIKE '%FROM%'";
    rowbridge_tests::wait::until("a session of the comparison", DEADLINE, || async {
        match own.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) {
            0 => Err("none yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "(2)")]
async fn waiting_for_equality_ends_with_the_difference() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster
        .execute("postgres", "CREATE TABLE a (id int); CREATE TABLE b (id int); INSERT INTO a VALUES (2)")
        .await;
    let url = cluster.url("postgres");
    wait_until_equal(&url, &url, &[("public.a", "public.b")], MOMENT).await;
}

#[test]
fn sqlite_oracle_sees_storage_class_bits_and_tables() {
    let (source, target) = (SqliteFile::create("source"), SqliteFile::create("target"));
    let rows = "INSERT INTO t VALUES (1, 1), (2, 1.0), (3, '1'), (4, x'31'), (5, NULL), (6, -0.0), (7, 'ä'), (7, 'ä')";
    for file in [&source, &target] {
        file.execute(&format!("CREATE TABLE t (id INTEGER, v BLOB); {rows}"));
        assert_eq!(file.query_text("SELECT journal_mode FROM pragma_journal_mode").as_deref(), Some("wal"));
    }
    target.execute("CREATE TABLE rowbridge_progress (x); INSERT INTO rowbridge_progress VALUES (1)");
    sqlite_databases_equal(source.path(), target.path()).unwrap();
    for value in
        ["(1, 1.0)", "(2, 1)", "(3, x'31')", "(4, '1')", "(5, '')", "(6, 0.0)", "(7, CAST(x'c3a5' AS TEXT))"]
    {
        let backup = target.backup();
        let id = &value[1..2];
        target.execute(&format!("DELETE FROM t WHERE rowid = (SELECT min(rowid) FROM t WHERE id = {id}); INSERT INTO t VALUES {value}"));
        let difference = sqlite_databases_equal(source.path(), target.path()).expect_err(value);
        let Difference::Rows(found) = &difference else { panic!("{value}: {difference}") };
        assert_eq!((found.missing, found.surplus), (1, 1), "{value}: {difference}");
        target.restore(&backup);
        sqlite_databases_equal(source.path(), target.path()).unwrap();
    }
    target.execute("DELETE FROM t WHERE rowid = (SELECT max(rowid) FROM t)");
    assert_eq!(target.count("t"), Some(7));
    assert_eq!(target.count("u"), None);
    sqlite_databases_equal(source.path(), target.path()).unwrap_err();
    target.execute("INSERT INTO t VALUES (7, 'ä'); CREATE TABLE extra (x)");
    sqlite_databases_equal(source.path(), target.path()).unwrap_err();
    sqlite_tables_equal(source.path(), target.path(), &[("t", "t")]).unwrap();
}

#[tokio::test]
async fn proxy_passes_refuses_and_cuts() {
    let receiver = Receiver::accepting();
    let proxy = Proxy::to_port(receiver.port());
    let url = format!("http://127.0.0.1:{}/x", proxy.port());
    let post = || async { Forged::signed(&secret(1), "msg_1", "hello").post(&url).await };
    assert_eq!(post().await.unwrap().status, 204);
    assert!(proxy.stats().up_bytes > 100 && proxy.stats().connections == 1, "{:?}", proxy.stats());

    proxy.set_mode(Mode::Refuse).await;
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.set_mode(Mode::Pass).await;
    assert_eq!(post().await.unwrap().status, 204);

    // The request takes effect, its answer is lost, once.
    let before = receiver.requests().len();
    proxy.cut_after(Direction::Down, 0);
    assert!(post().await.is_err());
    assert_eq!(receiver.requests().len(), before + 1);
    assert_eq!(post().await.unwrap().status, 204);

    // A cut in the middle of a body: the receiver never sees a whole request.
    let before = receiver.requests().len();
    proxy.cut_after(Direction::Up, 20_000);
    let up_bytes = proxy.stats().up_bytes;
    assert!(Forged::signed(&secret(1), "msg_1", vec![b'x'; 100_000]).post(&url).await.is_err());
    assert_eq!(proxy.stats().up_bytes, up_bytes + 20_000);
    assert_eq!(receiver.requests().len(), before);

    // The end of a connection reaches its client before the proxy counts it.
    proxy.wait_stats(DEADLINE, |stats| stats.open == 0).await;
    let mut idle = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    proxy.wait_stats(DEADLINE, |stats| stats.open == 1).await;
    let cuts = proxy.stats().cuts;
    proxy.cut();
    let error = tokio::io::AsyncReadExt::read(&mut idle, &mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    proxy.wait_stats(DEADLINE, |stats| stats.cuts == cuts + 1 && stats.open == 0).await;
}

#[tokio::test]
async fn proxy_stalls_delays_and_throttles() {
    let receiver = Receiver::accepting();
    let proxy = Proxy::to_port(receiver.port());
    let url = format!("http://127.0.0.1:{}/x", proxy.port());
    let send = |bytes: usize| {
        let url = url.clone();
        async move {
            let started = Instant::now();
            let answer = Forged::signed(&secret(1), "msg_1", vec![b'x'; bytes]).post(&url).await;
            (answer.unwrap().status, started.elapsed())
        }
    };
    proxy.set_mode(Mode::Stall).await;
    let held = tokio::spawn(send(10));
    proxy.wait_stats(DEADLINE, |stats| stats.connections == 1).await;
    // Requests that begin later and meet no stall are answered meanwhile.
    let beside = Proxy::to_port(receiver.port());
    for _ in 0..3 {
        let url = format!("http://127.0.0.1:{}/beside", beside.port());
        assert_eq!(Forged::signed(&secret(1), "msg_2", "").post(&url).await.unwrap().status, 204);
    }
    assert!(receiver.requests().iter().all(|request| request.path == "/beside") && !held.is_finished());
    proxy.set_mode(Mode::Pass).await;
    assert_eq!(held.await.unwrap().0, 204);

    proxy.set_delay(Direction::Down, MOMENT);
    let (status, took) = send(10).await;
    assert!(status == 204 && took >= MOMENT, "{took:?}");
    proxy.set_delay(Direction::Down, Duration::ZERO);

    proxy.set_throttle(Direction::Up, Some(100_000));
    let (status, took) = send(50_000).await;
    assert!(status == 204 && took >= Duration::from_millis(450), "{took:?}");
    proxy.set_throttle(Direction::Up, None);

    let other = Receiver::start(|_| Reply::status(418));
    proxy.set_upstream(([127, 0, 0, 1], other.port()).into());
    assert_eq!(send(10).await.0, 418);
}

#[tokio::test]
async fn proxy_breaks_and_heals_a_database_session() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let proxy = Proxy::to_port(cluster.port());
    let url = cluster.url_via(proxy.port(), "postgres");
    let client = rowbridge_tests::postgres::connect(&url).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    proxy.set_mode(Mode::Stall).await;
    // Time, since nothing else ends a wait for nothing; it cannot fail on a slow machine, only see less.
    assert!(
        tokio::time::timeout(MOMENT, client.simple_query("SELECT 1")).await.is_err(),
        "a stalled line answered"
    );
    proxy.set_mode(Mode::Pass).await;
    client.simple_query("SELECT 1").await.unwrap();
    proxy.cut();
    assert!(client.simple_query("SELECT 1").await.is_err());
    rowbridge_tests::postgres::connect(&url).await.unwrap();
}

/// Published vectors: svix-docs, receiving/verifying-payloads, and the Rust library of standard-webhooks.
#[test]
fn signatures_match_published_vectors() {
    let vectors: [(&str, &str, &str, &[u8], &str); 2] = [
        (
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            "1731705121",
            br#"{"event_type":"ping","data":{"success":true}}"#,
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "1649367553",
            br#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];
    for (secret, id, timestamp, body, signature) in vectors {
        assert_eq!(sign(secret, id, timestamp, body), signature);
        assert!(signature_holds(secret, id, timestamp, body, &format!("v9,abc v1,AAAA {signature}")));
        assert!(!signature_holds(secret, id, timestamp, &[body, b" "].concat(), signature));
        assert!(!signature_holds(secret, id, "1731705122", body, signature));
        assert!(!signature_holds(secret, id, timestamp, body, &signature.replace("v1,", "v2,")));
        assert!(!signature_holds(secret, id, timestamp, body, "v1,"));
    }
}

#[tokio::test]
async fn receiver_records_requests_and_answers_as_told() {
    let receiver = Receiver::start(|request| match request.number {
        1 => Reply::status(503).header("Retry-After", "1").body("later"),
        2 => Reply::reset(),
        3 => Reply::status(200).after(MOMENT),
        _ => Reply::status(204),
    });
    let url = receiver.url("/in/shop?x=1");
    let forged = Forged::signed(&secret(2), "msg_7", r#"{"a":1}"#).header("X-More", "yes");
    let answer = forged.post(&url).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after"), answer.text().as_str()),
        (503, Some("1"), "later")
    );
    assert!(forged.post(&url).await.is_err());
    let started = Instant::now();
    assert_eq!(forged.post(&url).await.unwrap().status, 200);
    assert!(started.elapsed() >= MOMENT);
    receiver.answer_with(|request| Reply::status(if request.is_signed_with(&secret(2)) { 204 } else { 401 }));
    assert_eq!(forged.post(&url).await.unwrap().status, 204);
    assert_eq!(Forged { body: b"other".to_vec(), ..forged.clone() }.post(&url).await.unwrap().status, 401);
    assert_eq!(Forged { signature: None, ..forged }.post(&url).await.unwrap().status, 401);

    let chunked = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = send_raw(receiver.port(), chunked, DEADLINE).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));

    let requests = receiver.wait_for_requests(7, DEADLINE).await;
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/in/shop?x=1"));
    assert_eq!((requests[0].header("X-More"), requests[0].json()["a"].as_i64()), (Some("yes"), Some(1)));
    assert_eq!(requests[6].body, b"abcde");
}

#[tokio::test]
async fn metrics_are_scraped_until_they_fit() {
    let receiver = Receiver::start(|request| {
        Reply::status(200).body(format!("# TYPE n counter\nn{{endpoint=\"a\"}} {}\n", request.number))
    });
    assert_eq!(
        wait_for(receiver.port(), "n", &[("endpoint", "a")], DEADLINE, |value| value >= 3.0).await,
        3.0
    );
    receiver.answer_with(|_| Reply::status(500));
    assert!(Metrics::scrape(receiver.port()).await.is_err());
}

fn shell(script: &str) -> DaemonOptions {
    DaemonOptions {
        name: "script".into(),
        program: Path::new("/bin/sh").into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
    }
}

#[tokio::test]
async fn daemon_is_watched_stopped_frozen_and_killed() {
    let daemon = Daemon::spawn(shell(
        "trap 'echo bye >&2; exit 7' TERM; echo out; echo \"$GREETING $$\" >&2; while :; do sleep 0.02; done",
    ));
    let line = daemon.wait_for_line(|line| line.starts_with("hello")).await;
    assert_eq!(line, format!("hello {}", daemon.pid()), "the wrapper replaces itself with the program");
    assert!(daemon.is_running() && daemon.peak_rss_bytes() > 100_000 && daemon.cpu_seconds() >= 0.0);

    daemon.freeze();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    rowbridge_tests::wait::until("a frozen process", DEADLINE, || async {
        if state().contains(") T ") { Ok(()) } else { Err(state()) }
    })
    .await;
    daemon.thaw();
    assert_eq!(daemon.terminate().await.code(), Some(7));
    let mark = daemon.log().mark();
    daemon.start();
    daemon.wait_for_line_since(mark, DEADLINE, |line| line.starts_with("hello")).await;
    assert!(daemon.log().since(0).contains(&"bye".to_owned()));
    daemon.kill9();
    assert_eq!((daemon.exit_status().unwrap().code(), daemon.is_running()), (None, false));
    daemon.start();
    daemon.wait_for_line(|line| line.starts_with("hello")).await;
    let pid = daemon.pid();
    drop(daemon);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
#[should_panic(expected = "the only line")]
async fn daemon_that_ends_early_shows_its_last_lines() {
    Daemon::spawn(shell("echo the only line >&2; exit 3")).wait_for_line(|line| line == "ready").await;
}

/// The death signal belongs to the thread that started the child, so children must outlive the thread that asked.
#[tokio::test]
async fn daemon_outlives_the_thread_that_started_it() {
    let script = "trap 'echo still here >&2' USR1; echo up >&2; while :; do sleep 0.02; done";
    let asks = || {
        let thread = std::fs::read_link("/proc/thread-self").unwrap();
        (Daemon::spawn(shell(script)), Path::new("/proc").join(thread))
    };
    let (daemon, thread) = std::thread::spawn(asks).join().unwrap();
    daemon.wait_for_line(|line| line == "up").await;
    // The kernel sends death signals before it takes the thread off its list, so this is when they have been sent; and
    // a process that has one answers nothing more.
    rowbridge_tests::wait::until("the end of the thread", DEADLINE, || async {
        if thread.exists() { Err(format!("{} is there", thread.display())) } else { Ok(()) }
    })
    .await;
    signal(daemon.pid(), "USR1");
    daemon.wait_for_line(|line| line == "still here").await;
}

#[test]
fn ports_are_given_out_once() {
    let mut ports: Vec<u16> = (0..100).map(|_| free_port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 100);
}

#[tokio::test]
async fn pair_has_two_servers_with_proxies_on_every_line() {
    let pair = Pair::prepare(PairOptions::postgres().with_http_proxy().with_database_proxies()).await;
    let source = format!(":{}/shop", pair.source_proxy().port());
    assert!(pair.publisher_config.url.ends_with(&source), "{}", pair.publisher_config.url);
    let target = format!(":{}/shop", pair.target_proxy().port());
    assert!(pair.subscriber_config.url.ends_with(&target), "{}", pair.subscriber_config.url);
    let endpoint = format!("http://127.0.0.1:{}/in/shop", pair.http_proxy().port());
    assert_eq!(pair.publisher_config.endpoints[0].url, endpoint);
    assert_eq!(std::fs::read_to_string(pair.publisher_path()).unwrap(), pair.publisher_config.text());
    assert_eq!(std::fs::read_to_string(pair.subscriber_path()).unwrap(), pair.subscriber_config.text());

    let client = rowbridge_tests::postgres::connect(&pair.publisher_config.url).await.unwrap();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await.unwrap();
    assert!(pair.source_proxy().stats().connections == 1);
    pair.target_execute("CREATE TABLE t (id int PRIMARY KEY)").await;
    let same = pair.wait_equal(&["public.t"]);
    let copy = async {
        session_besides(pair.target_cluster()).await;
        pair.target_execute("INSERT INTO t VALUES (1)").await;
    };
    tokio::join!(same, copy);
}

#[tokio::test]
async fn sqlite_pair_compares_its_files() {
    let pair = Pair::prepare(PairOptions::sqlite().with_http_proxy()).await;
    assert_eq!(pair.publisher_config.url, format!("sqlite:{}", pair.source_file().path().display()));
    pair.source_execute("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    pair.target_execute("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    pair.wait_equal(&["t"]).await;
    pair.wait_equal(&[]).await;
}
