//! Clocks that are wrong, and that jump by hours while everything runs.

use std::time::Duration;

use rowbridge_tests::clock::Clock;
use rowbridge_tests::process::Daemon;
use rowbridge_tests::proxy::Mode;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::webhook::{Receiver, Reply, secret};

use crate::faults::{not_ready, snapshot_all};
use crate::load::{Running, TABLES, fill, schema};
use crate::webhook::{Sending, endpoint, wait_for_ids};

/// What goes on after a jump goes on within this: well below an hour, and above every wait of a lane (a halted one asks
/// again after a minute).
const SOON: Duration = Duration::from_secs(90);

async fn running(publisher: &Clock, subscriber: &Clock) -> Pair {
    let pair = Pair::prepare(PairOptions::crossing(Kind::Sqlite, Kind::Sqlite).with_http_proxy()).await;
    publisher.hang_up(pair.publisher());
    subscriber.hang_up(pair.subscriber());
    pair.source_execute(schema(Kind::Sqlite)).await;
    pair.source_execute(&fill(Kind::Sqlite, 100)).await;
    pair.start().await;
    pair.wait_equal(&TABLES).await;
    pair
}

fn insert(id: i64) -> String {
    format!("INSERT INTO orders VALUES ('clock', {id}, 1, 'x')")
}

async fn says(daemon: &Daemon, mark: usize, words: &[&str]) {
    daemon.wait_for_line_since(mark, SOON, |line: &str| words.iter().all(|word| line.contains(word))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_is_named_and_delivery_goes_on_once_it_is_right() {
    let (here, there) = (Clock::right(), Clock::right());
    let pair = running(&here, &there).await;
    let mark = pair.subscriber().log().mark();
    // More than receive.tolerance.
    there.set_hours(2);
    pair.source_execute(&insert(1)).await;
    says(pair.subscriber(), mark, &["refused", "the timestamp is -7", "check both clocks"]).await;
    not_ready(&pair, &["endpoint copy", "401", "their clocks"]).await;
    there.set_hours(0);
    pair.wait_equal_within(&TABLES, SOON).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_hold_nothing_up() {
    let clock = Clock::right();
    let pair = running(&clock, &clock).await;
    let load = Running::start(&pair, 1).await;
    for hours in [5, -30, 0, 300, -5] {
        // A lane that waits to try again, while the clock jumps.
        let mark = pair.publisher().log().mark();
        pair.http_proxy().set_mode(Mode::Refuse).await;
        says(pair.publisher(), mark, &["attempt failed; trying again"]).await;
        clock.set_hours(hours);
        pair.http_proxy().set_mode(Mode::Pass).await;
        wait_for_delivery(&pair).await;
    }
    // Ends that start under a clock that is behind what they have written.
    clock.set_hours(-7);
    pair.publisher().kill9();
    pair.subscriber().kill9();
    pair.start().await;
    wait_for_delivery(&pair).await;
    load.stop().await;
    pair.wait_equal_within(&TABLES, SOON).await;
    assert!(pair.publisher().is_running() && pair.subscriber().is_running());
}

/// Waits until the lane is at work.
async fn wait_for_delivery(pair: &Pair) {
    let deliveries = "rowbridge_lane_deliveries_total";
    let port = pair.publisher_config.admin_port;
    let now = rowbridge_tests::metrics::Metrics::scrape(port).await.unwrap();
    let now = now.value(deliveries, &[]).unwrap_or(0.0);
    rowbridge_tests::wait::until("a delivery", SOON, || async move {
        let metrics = rowbridge_tests::metrics::Metrics::scrape(port).await?;
        let value = metrics.value(deliveries, &[]).unwrap_or(0.0);
        if value > now { Ok(()) } else { Err(format!("{deliveries} is {value}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_and_alerts_do_not_wait_for_a_clock_to_catch_up() {
    let clock = Clock::right();
    let (crm, on_call) = (Receiver::accepting(), Receiver::accepting());
    // Not so fast that the breaker opens.
    let slow = "retry = { first = \"1s\", max = \"1s\" }";
    let alert = format!(
        "[[alert]]\nname = \"on-call\"\nurl = \"{}\"\nsignature = \"none\"\nafter = \"2s\"\n\
         on = [\"failing\", \"recovered\"]\n",
        on_call.url("/alert")
    );
    let sending = Sending::prepare([endpoint("crm", &crm, "json").with(slow)]);
    sending.add(&alert);
    clock.hang_up(&sending.daemon);
    sending.daemon.start();
    sending.daemon.wait_for_line(|line| line.contains("the lane delivers")).await;
    sending.insert(1..=5);
    wait_for_ids(&crm, 1..=5, |_| true).await;

    // An outage begins, and the clock is set back before it counts as one.
    crm.answer_with(|_| Reply::status(500));
    sending.insert(6..=6);
    crm.wait_for_requests(7, SOON).await;
    clock.set_hours(-5);
    let told = on_call.wait_for_requests(1, SOON).await;
    assert_eq!(told[0].json()["type"], "endpoint.failing");
    crm.answer_with(|_| Reply::status(204));
    wait_for_ids(&crm, 1..=6, |_| true).await;
    let told = on_call.wait_for_requests(2, SOON).await;
    assert_eq!(told[1].json()["type"], "endpoint.recovered");

    // Attempts, alerts and cursor are of a time that has not come.
    sending.daemon.kill9();
    clock.set_hours(-100);
    sending.daemon.start();
    sending.insert(7..=9);
    let requests = wait_for_ids(&crm, 1..=9, |request| request.is_signed_with(&secret(1))).await;
    crate::webhook::faults::account(&requests, 9);
    // Forward again, over the time that attempts are kept.
    clock.set_hours(24 * 30);
    sending.insert(10..=12);
    let requests = wait_for_ids(&crm, 1..=12, |_| true).await;
    crate::webhook::faults::account(&requests, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_began_in_the_future_can_begin_anew() {
    let clock = Clock::right();
    clock.set_hours(24 * 365);
    let pair = running(&clock, &clock).await;
    clock.set_hours(0);
    pair.source_execute(&insert(1)).await;
    pair.wait_equal_within(&TABLES, SOON).await;
    snapshot_all(&pair);
    pair.source_execute(&insert(2)).await;
    pair.publisher().wait_for_line(|line| line.contains("everything is sent again")).await;
    pair.wait_equal_within(&TABLES, SOON).await;

    // Without its state the publisher's epoch is the present second, which lies below what the target knows.
    pair.publisher().kill9();
    std::fs::remove_dir_all(pair.state_dir()).unwrap();
    pair.publisher().start();
    pair.source_execute(&insert(3)).await;
    not_ready(&pair, &["endpoint copy", "rowbridge snapshot --all"]).await;
    snapshot_all(&pair);
    pair.wait_equal_within(&TABLES, SOON).await;
}
