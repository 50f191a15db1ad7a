//! A pooler that is no session from end to end is refused with the reason, by `check` and at the start, before it can
//! spoil the sessions of others.

use std::path::Path;

use rowbridge_tests::config::{Endpoint, Publisher, Subscriber};
use rowbridge_tests::pgbouncer::Pooler;
use rowbridge_tests::port::free_port;
use rowbridge_tests::postgres::{Cluster, ClusterOptions, connect};
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::webhook::secret;

use crate::cli::rowbridge;

const REFUSES: &str = "it refuses session settings in the startup packet";
const DROPS: &str = "it drops session settings of the startup packet";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poolers_are_refused_with_the_reason() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_database("shop").await;
    cluster.execute("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    for mode in ["transaction", "session"] {
        for (ignored, evidence) in [("", REFUSES), ("options,extra_float_digits", DROPS)] {
            let Some(pooler) = Pooler::start(&cluster, mode, ignored).await else { return };
            let url = cluster.url_via(pooler.port(), "shop");
            let folder = tempfile::Builder::new().prefix("rowbridge-pooler-").tempdir().unwrap();
            let endpoint =
                Endpoint::bridge("copy", &format!("http://127.0.0.1:{}/in/shop", free_port()), &secret(1));
            let publisher =
                Publisher::new("postgres", &url, &["public.*"], &folder.path().join("state"), free_port())
                    .endpoint(endpoint);
            let text = format!("a connection pooler stands between us and the source: {evidence}");
            refused(folder.path(), "publisher", &publisher.text(), &text, "Point source.url at the server")
                .await;
            let subscriber = Subscriber::new("postgres", &url, free_port(), &secret(1), free_port());
            let text = format!("is behind a connection pooler: {evidence}");
            refused(folder.path(), "subscriber", &subscriber.text(), &text, "Point target.url at the server")
                .await;
            // Somebody else who gets the pooled session finds it as it was.
            let other = connect(&url).await.unwrap();
            let row = other
                .query_one("SELECT current_setting('search_path'), current_setting('application_name')", &[])
                .await;
            let row = row.unwrap();
            assert_eq!(row.get::<_, &str>(0), "\"$user\", public");
            assert!(!row.get::<_, &str>(1).contains("probe"));
        }
    }
    let made = "SELECT count(*) FROM pg_class WHERE relname LIKE 'rowbridge%'";
    assert_eq!(cluster.query_text("shop", made).await.as_deref(), Some("0"));
}

/// `check` fails with the text and what to do; `run` says the text too, and goes no further.
async fn refused(folder: &Path, name: &str, config: &str, text: &str, fix: &str) {
    let path = folder.join("rowbridge.toml");
    std::fs::write(&path, config).unwrap();
    let (code, stdout, stderr) = rowbridge(folder, &["check"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains(text) && stdout.contains(fix), "{stdout}{stderr}");
    let daemon = Daemon::spawn(DaemonOptions::run(name, &path));
    daemon.wait_for_line(|line| line.contains(text)).await;
}
