//! Lines that break, ends that are away or frozen, processes that are killed in the middle.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rowbridge_tests::metrics::{Metrics, wait_for};
use rowbridge_tests::proxy::{Direction, Mode, Proxy};
use rowbridge_tests::scenario::{ENDPOINT, Pair, PairOptions};
use rowbridge_tests::size::size;

use super::*;

async fn prepared(options: PairOptions) -> Pair {
    let mut pair = Pair::prepare(options).await;
    pair.publisher_config.endpoints[0].extra = "timeout = \"2s\"\n".into();
    pair.write_configs();
    pair.source_execute(SCHEMA).await;
    pair
}

async fn running(options: PairOptions) -> Pair {
    let pair = prepared(options).await;
    pair.source_execute(&insert(1, 300)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    pair
}

/// Small transactions of every kind for a while.
async fn write_for(pair: &Pair, time: Duration) {
    let client = pair.source().await;
    let started = Instant::now();
    let mut next = 1000;
    while started.elapsed() < time {
        client.batch_execute(&insert(next, next + 1)).await.unwrap();
        let update = format!("UPDATE named SET n = n + 1 WHERE id IN ('key 7', 'key {next}')");
        client.batch_execute(&update).await.unwrap();
        client.batch_execute("UPDATE numbered SET id = -id WHERE id IN (8, -8)").await.unwrap();
        client.batch_execute(&delete(next - 20, next - 20)).await.unwrap();
        next += 2;
        // Not a wait for anything: some dozens of transactions a second, so that each delivery is small.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_that_is_away_holds_nothing_at_the_source() {
    let pair = running(PairOptions::postgres()).await;
    pair.source_execute("INSERT INTO numbered VALUES (0, 'counter', 0)").await;
    pair.wait_equal(&TABLES).await;
    pair.subscriber().kill9();
    let client = pair.source().await;
    for _ in 0..2000 {
        client.batch_execute("UPDATE numbered SET n = n + 1 WHERE id = 0").await.unwrap();
    }
    pair.source_execute(&insert(500, 900)).await;
    let lsn = current_lsn(&pair).await;
    wait_slot_passed(&pair, &lsn, DEADLINE).await;
    not_ready(&pair, &["endpoint copy"]).await;
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_journal_undelivered_bytes", &[], DEADLINE, |bytes| bytes > 10_000.0).await;

    // What came later never shows before what came earlier.
    let target = pair.target().await;
    let watch = async {
        let mut seen = 0;
        while seen < 2000 {
            let row = target.query_one("SELECT n FROM numbered WHERE id = 0", &[]).await.unwrap();
            let now: i32 = row.get(0);
            assert!(now >= seen, "the counter went from {seen} back to {now}");
            seen = now;
            let later: i64 =
                target.query_one("SELECT count(*) FROM numbered WHERE id >= 500", &[]).await.unwrap().get(0);
            assert!(later == 0 || later == 401, "a part of a transaction is visible: {later} rows");
        }
    };
    pair.subscriber().start();
    tokio::time::timeout(DEADLINE, watch).await.expect("the counter does not arrive");
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

/// The publisher's patience ends before the target's: what nobody waits for any more is applied all the same, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_that_outlasts_its_request_takes_effect_once() {
    let pair = running(PairOptions::postgres()).await;
    let other = pair.target().await;
    other.batch_execute("BEGIN; LOCK TABLE named IN EXCLUSIVE MODE").await.unwrap();
    pair.source_execute(&insert(1000, 1100)).await;
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_lane_retries_total", &[], DEADLINE, |retries| retries >= 2.0).await;
    let applied = "SELECT count(*)::text FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = pair.target_cluster().query_text(DATABASE, applied).await;
    assert_eq!(waiting.as_deref(), Some("1"), "one request applies, the others find it busy");
    pair.source_execute(&insert(1101, 1110)).await;
    other.batch_execute("COMMIT").await.unwrap();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_policy_keeps_what_is_not_delivered_at_the_source() {
    let mut pair = Pair::prepare(PairOptions::postgres()).await;
    pair.publisher_config.journal_extra = "confirm = \"delivered\"".into();
    pair.write_configs();
    pair.source_execute(SCHEMA).await;
    pair.start().await;
    pair.source_execute(&insert(1, 10)).await;
    let delivered = current_lsn(&pair).await;
    pair.wait_equal(&TABLES).await;
    wait_slot_passed(&pair, &delivered, DEADLINE).await;

    pair.subscriber().kill9();
    pair.source_execute(&insert(11, 20)).await;
    let written = current_lsn(&pair).await;
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_capture_changes_total", &[], DEADLINE, |changes| changes >= 60.0).await;
    // Neither a restart nor idle progress may confirm what lies in the journal only.
    pair.publisher().terminate().await;
    pair.publisher().start();
    let sql = format!(
        "SELECT (s.write_lsn >= '{written}' AND s.reply_time > s.backend_start + interval '7 s')::text
         FROM pg_stat_replication s WHERE application_name = 'rowbridge stream'"
    );
    wait::until("the publisher to report for a while", DEADLINE, || async {
        pair.source_execute("SELECT pg_logical_emit_message(false, 'other', 'traffic')").await;
        assert!(!slot_passed(&pair, &written).await, "the slot passed what is not delivered");
        let told = source_value(&pair, &sql).await;
        if told == "true" { Ok(()) } else { Err(format!("not yet: {told:?}")) }
    })
    .await;
    assert!(!slot_passed(&pair, &written).await, "the slot passed what is not delivered");

    pair.subscriber().start();
    pair.wait_equal(&TABLES).await;
    wait_slot_passed(&pair, &written, DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_journal_pauses_capture_and_keeps_the_slot_alive() {
    let mut options = PairOptions::postgres();
    options.source = options.source.set("wal_sender_timeout", "3s");
    let mut pair = Pair::prepare(options).await;
    pair.publisher_config.journal_extra = "max_bytes = \"256 KiB\"".into();
    pair.write_configs();
    pair.source_execute(SCHEMA).await;
    pair.start().await;
    pair.source_execute(&insert(1, 10)).await;
    pair.wait_equal(&TABLES).await;

    pair.subscriber().kill9();
    let client = pair.source().await;
    for part in 0..60 {
        client.batch_execute(&insert(1000 + part * 100, 1099 + part * 100)).await.unwrap();
    }
    let admin = pair.publisher_config.admin_port;
    wait_for(admin, "rowbridge_capture_paused", &[], DEADLINE, |paused| paused == 1.0).await;
    not_ready(&pair, &["capture is paused", "journal"]).await;
    let pid = source_value(&pair, "SELECT pid::text FROM pg_stat_replication").await;
    // The server hears from us although we take nothing, for longer than it waits for silent ones.
    let alive = "SELECT (reply_time > backend_start + interval '9 s')::text FROM pg_stat_replication";
    wait::until("a live slot", DEADLINE, || async {
        if source_value(&pair, alive).await == "true" { Ok(()) } else { Err("no reply yet".to_owned()) }
    })
    .await;
    let same = source_value(&pair, "SELECT pid::text FROM pg_stat_replication").await;
    assert_eq!(pid, same, "the server gave the paused publisher up");
    let metrics = Metrics::scrape(admin).await.unwrap();
    assert_eq!(metrics.value("rowbridge_capture_paused", &[]), Some(1.0));
    let bytes = metrics.value("rowbridge_journal_bytes", &[]).unwrap();
    assert!(bytes < 1.5 * 256.0 * 1024.0, "the journal grew to {bytes} bytes");

    pair.subscriber().start();
    pair.wait_equal(&TABLES).await;
    wait_for(admin, "rowbridge_capture_paused", &[], DEADLINE, |paused| paused == 0.0).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_break_at_random_lose_and_double_nothing() {
    let pair = running(PairOptions::postgres().with_http_proxy().with_database_proxies()).await;
    let time = Duration::from_secs(size(8, 60));
    let faults = async {
        let until = Instant::now() + time;
        while Instant::now() < until {
            // Here and below time is the fault: when a line breaks and how long it stays so is what varies.
            let pause = rand::rng().random_range(20..250);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let (which, what) = (rand::rng().random_range(0..3), rand::rng().random_range(0..5));
            let proxy: &Proxy = [pair.source_proxy(), pair.http_proxy(), pair.target_proxy()][which];
            match what {
                0 => proxy.cut(),
                1 => proxy.cut_after(Direction::Down, rand::rng().random_range(0..2000)),
                2 => proxy.cut_after(Direction::Up, rand::rng().random_range(0..2000)),
                3 => {
                    proxy.set_mode(Mode::Refuse).await;
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    proxy.set_mode(Mode::Pass).await;
                }
                _ => {
                    proxy.set_mode(Mode::Stall).await;
                    let stall = rand::rng().random_range(50..if which == 1 { 2600 } else { 700 });
                    tokio::time::sleep(Duration::from_millis(stall)).await;
                    proxy.set_mode(Mode::Pass).await;
                }
            }
        }
    };
    tokio::join!(write_for(&pair, time), faults);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

/// A connection that died without a word: nothing comes back on it, ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_ends_are_waited_for() {
    let pair = running(PairOptions::postgres().with_http_proxy()).await;
    let admin = pair.publisher_config.admin_port;
    let delivered = || async {
        let metrics = Metrics::scrape(admin).await.unwrap();
        let value = |name: &str, class: &[(&str, &str)]| metrics.value(name, class).unwrap_or(0.0);
        (
            value("rowbridge_lane_delivered_changes_total", &[]),
            value("rowbridge_lane_retries_total", &[("class", "timeout")]),
        )
    };
    let freeze = async {
        for daemon in [pair.subscriber(), pair.publisher(), pair.subscriber()] {
            let (changes, timeouts) = delivered().await;
            wait_for(admin, "rowbridge_lane_delivered_changes_total", &[], DEADLINE, |now| now > changes)
                .await;
            daemon.freeze();
            if std::ptr::eq(daemon, pair.subscriber()) {
                // The delivery was given up, and is made again.
                let class = [("class", "timeout")];
                wait_for(admin, "rowbridge_lane_retries_total", &class, DEADLINE, |now| now > timeouts).await;
            } else {
                // A frozen publisher tells nothing, so this one is time: longer than endpoint.timeout.
                tokio::time::sleep(Duration::from_millis(2600)).await;
            }
            daemon.thaw();
        }
    };
    tokio::select! {
        () = write_for(&pair, Duration::MAX) => {}
        () = freeze => {}
    }
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    assert!(pair.publisher().is_running() && pair.subscriber().is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_that_is_lost_after_the_commit_is_asked_for_once() {
    let pair = running(PairOptions::postgres().with_http_proxy()).await;
    let repeated = || async {
        let metrics = Metrics::scrape(pair.subscriber_config.admin_port).await.unwrap();
        metrics.value("rowbridge_receive_repeated_deliveries_total", &[]).unwrap_or(0.0)
    };
    assert_eq!(repeated().await, 0.0);
    let admin = pair.publisher_config.admin_port;
    for round in 1..=3 {
        // Right behind a delivery, so that no empty one comes first.
        pair.source_execute(&insert(round * 1000, round * 1000)).await;
        pair.wait_equal(&TABLES).await;
        wait_for(admin, "rowbridge_lane_lag_seconds", &[], DEADLINE, |lag| lag == 0.0).await;
        let cuts = pair.http_proxy().stats().cuts;
        pair.http_proxy().cut_after(Direction::Down, 0);
        pair.source_execute(&insert(round * 1000 + 1, round * 1000 + 50)).await;
        pair.http_proxy().wait_stats(DEADLINE, |stats| stats.cuts == cuts + 1).await;
        pair.wait_equal(&TABLES).await;
        pair.wait_publisher().await;
        pair.source_execute(&insert(round * 1000 + 100, round * 1000 + 100)).await;
        pair.wait_equal(&TABLES).await;
        assert_eq!(repeated().await, round as f64, "deliveries repeated after {round} lost answers");
    }
    let metrics = Metrics::scrape(pair.publisher_config.admin_port).await.unwrap();
    let sent = metrics.value("rowbridge_lane_repeated_deliveries_total", &[("endpoint", ENDPOINT)]);
    assert_eq!(sent, Some(3.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_source_lets_the_log_of_others_go() {
    let pair = running(PairOptions::postgres()).await;
    pair.source_cluster().create_database("other").await;
    let fill = "CREATE TABLE t AS SELECT i, repeat('x', 200) AS v FROM generate_series(1, 20000) i";
    pair.source_cluster().execute("other", fill).await;
    let lsn = current_lsn(&pair).await;
    let took = wait_slot_passed(&pair, &lsn, Duration::from_secs(20)).await;
    println!("the slot passed the writes of another database after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_transaction_is_applied_whole_although_both_ends_are_killed() {
    let rows: i64 = size(100_000, 300_000);
    let pair = running(PairOptions::postgres().with_http_proxy()).await;
    let statement = format!(
        "BEGIN; INSERT INTO numbered SELECT i, md5(i::text) FROM generate_series(1000, {0}) i;
         INSERT INTO keyless SELECT i, md5(i::text) FROM generate_series(1000, {0}) i; COMMIT",
        rows + 999
    );
    let before = pair.http_proxy().stats().up_bytes;
    pair.source_execute(&statement).await;
    let target = pair.target().await;
    let count = || async {
        let sql = "SELECT (SELECT count(*) FROM numbered WHERE id >= 1000),
                          (SELECT count(*) FROM keyless WHERE id >= 1000)";
        let row = target.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    // A row takes more than 40 bytes in each table.
    let bytes = (rows * 80) as u64;
    let mut so_far = before;
    for part in 1..=3 {
        let wanted = so_far + bytes * part / 12;
        pair.http_proxy().wait_stats(DEADLINE, |stats| stats.up_bytes > wanted).await;
        assert_eq!(count().await, (0, 0), "a part of the transaction is visible");
        match part {
            2 => {
                pair.publisher().kill9();
                pair.publisher().start();
            }
            _ => {
                pair.subscriber().kill9();
                pair.subscriber().start();
            }
        }
        so_far = pair.http_proxy().stats().up_bytes;
    }
    wait::until("the transaction", Duration::from_secs(size(120, 240)), || async {
        match count().await {
            (0, 0) => Err("nothing yet".to_owned()),
            both => {
                assert_eq!(both, (rows, rows));
                Ok(())
            }
        }
    })
    .await;
    pair.wait_equal(&TABLES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_daemons_end_in_order_and_lose_nothing() {
    let pair = running(PairOptions::postgres()).await;
    let stops = async {
        for daemon in [pair.publisher(), pair.subscriber(), pair.publisher(), pair.subscriber()] {
            // Stopped at some moment of its work, whatever that is.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let mark = daemon.log().mark();
            assert_eq!(daemon.terminate().await.code(), Some(0), "{}", daemon.last_lines());
            let log = daemon.log().since(mark).join("\n");
            assert!(!log.contains("gave up") && !log.contains("given up"), "work of milliseconds: {log}");
            daemon.start();
        }
    };
    tokio::join!(write_for(&pair, Duration::from_secs(4)), stops);
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_key_that_change_before_they_are_sent() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(
        "CREATE TABLE loose (id bigint, v text); ALTER TABLE loose REPLICA IDENTITY FULL; \
         INSERT INTO loose SELECT i, 'row ' || i FROM generate_series(1, 300) i; \
         CREATE TABLE held (id bigint PRIMARY KEY)",
    )
    .await;
    pair.publisher().start();
    wait::until("the slot", DEADLINE, || async {
        let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND active");
        let found: i64 = pair.source().await.query_one(&sql, &[]).await.unwrap().get(0);
        if found == 1 { Ok(()) } else { Err("it is not there".to_owned()) }
    })
    .await;
    // Without a subscriber the first handshake waits, and with it every row: all of this comes before them.
    pair.source_execute("UPDATE loose SET v = 'early' WHERE id % 3 = 0; DELETE FROM loose WHERE id % 5 = 0")
        .await;
    pair.subscriber().start();
    pair.source_execute("UPDATE loose SET v = 'late' WHERE id % 7 = 0").await;
    pair.wait_equal(&["public.loose", "public.held"]).await;
}
