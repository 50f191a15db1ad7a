//! Two publishers where there may be one.

use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::scenario::{Pair, PairOptions};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_publisher_is_refused() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(SCHEMA).await;
    pair.start().await;
    let mut second = pair.publisher_config.clone();
    second.admin_port = free_port();
    let path = pair.publisher_path().with_file_name("second.toml");
    std::fs::write(&path, second.text()).unwrap();
    let daemon = Daemon::spawn(DaemonOptions::run("second publisher", &path));
    let status = daemon.wait_exit(DEADLINE).await;
    assert!(!status.success());
    assert!(
        daemon.log().tail(20).contains("is in use by another rowbridge process"),
        "{}",
        daemon.last_lines()
    );

    // A folder of its own does not help: the slot has one owner.
    second.state_dir = pair.state_dir().with_file_name("second");
    std::fs::write(&path, second.text()).unwrap();
    daemon.start();
    not_ready_at(second.admin_port, &[SLOT, "in use", "source.slot"]).await;
    pair.publisher().terminate().await;
    not_ready_at(second.admin_port, &[SLOT, "exists", "source.slot", "rowbridge snapshot --all"]).await;
    daemon.terminate().await;

    // And it has taken nothing from the first.
    pair.source_execute(&insert(1, 100)).await;
    pair.publisher().start();
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
}
