//! A source that is not ready says what to run, and what it says works.

use std::io::Write as _;

use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};

use super::*;

/// The statement between backticks.
fn told(text: &str) -> String {
    let mut parts = text.split('`');
    let statement = parts.nth(1).unwrap_or_else(|| panic!("no statement in: {text}"));
    statement.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_that_is_not_ready_says_what_to_run() {
    let mut options = PairOptions::postgres();
    options.source = options.source.set("wal_level", "replica");
    let mut pair = Pair::prepare(options).await;
    pair.source_execute(SCHEMA).await;
    pair.source_execute(&insert(1, 30)).await;
    pair.source_execute("CREATE ROLE \"Sync er\" LOGIN PASSWORD 'right'").await;
    let cluster = pair.source_cluster();
    let hba = cluster.data().join("pg_hba.conf");
    let rules = std::fs::read_to_string(&hba).unwrap();
    let mut file = std::fs::File::options().write(true).truncate(true).open(&hba).unwrap();
    let strict = "host all \"Sync er\" 127.0.0.1/32 scram-sha-256\n";
    file.write_all(format!("{strict}{rules}").as_bytes()).unwrap();
    pair.source_execute("SELECT pg_reload_conf()").await;

    let port = cluster.port();
    let url = |password: &str| format!("postgres://Sync%20er:{password}@127.0.0.1:{port}/{DATABASE}");
    pair.publisher_config.url = url("wrong-secret");
    pair.write_configs();
    pair.subscriber().start();
    pair.publisher().start();
    let text = not_ready(&pair, &["password authentication failed", "source.url"]).await;
    assert!(!text.contains("wrong-secret"), "{text}");
    pair.publisher().terminate().await;
    pair.publisher_config.url = url("right");
    pair.write_configs();
    pair.publisher().start();

    // Each step does what the text says, and nothing else. A restart saves the wait until it is looked at again.
    let text = not_ready(&pair, &["wal_level is replica"]).await;
    pair.source_execute(&told(&text)).await;
    pair.source_cluster().restart().await;
    pair.publisher().restart().await;
    let text = not_ready(&pair, &["may not replicate"]).await;
    pair.source_execute(&told(&text)).await;
    pair.publisher().restart().await;
    let text = not_ready(&pair, &["publications"]).await;
    pair.source_execute(&told(&text)).await;
    pair.publisher().restart().await;
    let text = not_ready(&pair, &["SELECT", "GRANT"]).await;
    pair.source_execute(&told(&text)).await;
    // The last one without a restart: it is looked at again by itself.
    pair.wait_equal(&TABLES).await;
    pair.wait_publisher().await;
    pair.source_execute(&insert(31, 40)).await;
    pair.wait_equal(&TABLES).await;
    let log = pair.publisher().log().since(0).join("\n");
    assert!(!log.contains("wrong-secret") && !log.contains("right@"), "a password is in the log");
}
