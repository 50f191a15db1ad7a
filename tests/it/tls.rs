//! TLS on every line of a bridge, with authorities that nobody but the test knows.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rowbridge_tests::config::{Endpoint, Publisher, Subscriber, quoted};
use rowbridge_tests::port::free_port;
use rowbridge_tests::postgres::{Cluster, ClusterOptions};
use rowbridge_tests::process::binary;
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::tls::{Authority, Terminator, self_signed};
use rowbridge_tests::webhook::secret;
use tempfile::TempDir;

const HOST: &str = "127.0.0.1";
/// Leads to the same servers; no certificate here is for it.
const OTHER_HOST: &str = "127.0.0.2";
const PASSWORD: &str = "correct-horse";
const ROLE: &str = "CREATE ROLE bridge LOGIN SUPERUSER PASSWORD 'correct-horse'";

/// A file beside the test's others.
fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("rowbridge-tls-").tempdir().unwrap()
}

/// `rowbridge check` of a configuration: its exit code and what it says. With `system_roots` the machine trusts the
/// authorities of that file and nobody else.
fn check(folder: &TempDir, config: &str, system_roots: Option<&Path>) -> (i32, String) {
    let config = file(folder, "check.toml", config);
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(config).stdin(Stdio::null());
    for name in ["ROWBRIDGE_CONFIG", "ROWBRIDGE_LOG", "ROWBRIDGE_LOG_FORMAT", "SSL_CERT_DIR", "SSL_CERT_FILE"]
    {
        command.env_remove(name);
    }
    if let Some(path) = system_roots {
        command.env("SSL_CERT_FILE", path);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("ended by a signal"), String::from_utf8(text).unwrap())
}

/// The line that names an error of `part`.
fn error_line<'a>(text: &'a str, part: &str) -> &'a str {
    let begin = format!("error  {part}:");
    text.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no {begin} in {text}"))
}

/// What that error advises, on the line below it.
fn advice<'a>(text: &'a str, part: &str) -> &'a str {
    let error = error_line(text, part);
    text.lines().skip_while(|line| *line != error).nth(1).unwrap_or_else(|| panic!("no advice in {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_take_nothing_but_tls_are_bridged() {
    let (folder, authority) = (folder(), Authority::new("databases"));
    let roots = file(&folder, "ca.pem", &authority.pem());
    let mut options = PairOptions::postgres();
    options.source = ClusterOptions::tls(authority.issue(&[HOST]));
    options.target = ClusterOptions::tls(authority.issue(&[HOST]));
    let mut pair = Pair::prepare(options).await;
    for cluster in [pair.source_cluster(), pair.target_cluster()] {
        cluster.execute("postgres", ROLE).await;
        let plain = format!("postgres://bridge:{PASSWORD}@{HOST}:{}/{DATABASE}", cluster.port());
        let refused = rowbridge_tests::postgres::connect(&plain).await.unwrap_err();
        let refused = format!("{refused:?}");
        assert!(refused.contains("no encryption"), "the server takes more than TLS: {refused}");
    }
    pair.publisher_config.url = pair.source_cluster().tls_url(HOST, "bridge", PASSWORD, DATABASE, &roots);
    pair.subscriber_config.url = pair.target_cluster().tls_url(HOST, "bridge", PASSWORD, DATABASE, &roots);
    pair.write_configs();
    pair.source_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 5000) i",
    )
    .await;
    pair.start().await;
    pair.wait_equal(&["public.t"]).await;
    pair.source_execute("UPDATE t SET v = 'new' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0").await;
    pair.wait_equal(&["public.t"]).await;

    // All sessions of the bridge were seen to be encrypted by the server, not only asked for as such.
    let sql = "SELECT bool_and(s.ssl) AND count(*) > 0 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
               WHERE a.usename = 'bridge'";
    for cluster in [pair.source_cluster(), pair.target_cluster()] {
        assert_eq!(cluster.query_text("postgres", sql).await.as_deref(), Some("true"));
    }

    // Servers and daemons start again, with changes before, between and after.
    pair.source_execute("INSERT INTO t SELECT i, 'before' FROM generate_series(6000, 6100) i").await;
    pair.publisher().kill9();
    pair.source_execute("INSERT INTO t SELECT i, 'between' FROM generate_series(7000, 7100) i").await;
    tokio::join!(pair.source_cluster().restart(), pair.target_cluster().restart());
    pair.publisher().start();
    pair.subscriber().restart().await;
    pair.source_execute("UPDATE t SET v = 'after' WHERE id < 100").await;
    pair.wait_equal(&["public.t"]).await;
    pair.wait_publisher().await;
    pair.wait_subscriber().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_with_the_tls_of_a_database() {
    let (folder, authority) = (folder(), Authority::new("databases"));
    let roots = file(&folder, "ca.pem", &authority.pem());
    let stranger = file(&folder, "stranger.pem", &Authority::new("somebody else").pem());
    let cluster = Cluster::start(ClusterOptions::tls(authority.issue(&[HOST]))).await;
    cluster.execute("postgres", ROLE).await;
    cluster.execute("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;

    // Both ends make their connections with the same rules, and say the same.
    let both = |host: &str, password: &str, roots: &Path| {
        let url = cluster.tls_url(host, "bridge", password, "postgres", roots);
        let state = folder.path().join("state");
        let source = Publisher::new("postgres", &url, &["public.*"], &state, free_port())
            .endpoint(Endpoint::bridge("copy", &format!("http://127.0.0.1:{}/", free_port()), &secret(1)));
        let target = Subscriber::new("postgres", &url, free_port(), &secret(1), free_port());
        [("source", check(&folder, &source.text(), None)), ("target", check(&folder, &target.text(), None))]
    };
    for (part, (code, text)) in both(HOST, PASSWORD, &roots) {
        assert!(!text.contains(&format!("error  {part}:")), "{code}: {text}");
    }
    for (what, host, password, roots, expected) in [
        ("a wrong authority", HOST, PASSWORD, &stranger, &["UnknownIssuer"][..]),
        ("a wrong host name", OTHER_HOST, PASSWORD, &roots, &["not valid for name", OTHER_HOST]),
        ("a wrong password", HOST, "wrong", &roots, &["password authentication failed"]),
    ] {
        for (part, (code, text)) in both(host, password, roots) {
            let line = error_line(&text, part);
            assert_eq!(code, 1, "{what}: {text}");
            assert!(expected.iter().all(|word| line.contains(word)), "{what}: {text}");
            assert!(!text.contains(PASSWORD), "{what}: {text}");
        }
    }
    let broken = file(&folder, "broken.pem", "nothing of the kind");
    let missing = folder.path().join("missing.pem");
    for (roots, expected) in [
        (&broken, ["cannot use", "broken.pem", "contains no certificate"]),
        (&missing, ["cannot read", "missing.pem", "No such file"]),
    ] {
        for (part, (code, text)) in both(HOST, PASSWORD, roots) {
            let line = error_line(&text, part);
            assert!(code == 1 && expected.iter().all(|word| line.contains(word)), "{text}");
        }
    }

    let own = self_signed(&[HOST]);
    let own_roots = file(&folder, "own.pem", &own.pem);
    cluster.set_certificate(&own);
    cluster.restart().await;
    for (part, (code, text)) in both(HOST, PASSWORD, &own_roots) {
        let line = error_line(&text, part);
        assert!(code == 1 && line.contains("CA:TRUE") && line.contains("CA:FALSE"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_behind_tls_is_trusted_by_its_authority() {
    let (folder, authority) = (folder(), Authority::new("partner"));
    let roots = file(&folder, "ca.pem", &authority.pem());
    let stranger = file(&folder, "stranger.pem", &Authority::new("somebody else").pem());
    let mut pair = Pair::prepare(PairOptions::sqlite()).await;
    let terminator = Terminator::start(&authority.issue(&[HOST]), pair.subscriber_config.port);
    let url = |host: &str| format!("https://{host}:{}/in/shop", terminator.port());
    let endpoint = &mut pair.publisher_config.endpoints[0];
    endpoint.url = url(HOST);
    endpoint.extra = format!("ca = {}\n", quoted(roots.to_str().unwrap()));
    let key = endpoint.secret.clone();
    pair.write_configs();
    pair.source_execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old')")
        .await;
    pair.start().await;
    pair.wait_equal(&["t"]).await;
    pair.source_execute("INSERT INTO t VALUES (2, 'new'); UPDATE t SET v = 'newer' WHERE id = 1").await;
    pair.wait_equal(&["t"]).await;
    pair.publisher().restart().await;
    pair.source_execute("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'last')").await;
    pair.wait_equal(&["t"]).await;

    let source = SqliteFile::create("source");
    source.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let asked = |host: &str, ca: Option<&Path>, system: Option<&Path>| {
        let mut endpoint = Endpoint::bridge("copy", &url(host), &key);
        if let Some(ca) = ca {
            endpoint = endpoint.with(&format!("ca = {}", quoted(ca.to_str().unwrap())));
        }
        let state = folder.path().join("state");
        let config = Publisher::new("sqlite", &source.url(), &["*"], &state, free_port()).endpoint(endpoint);
        check(&folder, &config.text(), system)
    };
    // In the file, or in what the machine trusts.
    for (ca, system) in [(Some(&roots), None), (None, Some(&roots)), (Some(&roots), Some(&stranger))] {
        let (code, text) = asked(HOST, ca.map(PathBuf::as_path), system.map(PathBuf::as_path));
        assert!(code == 0 && text.contains("takes deliveries with this secret"), "{ca:?} {system:?}: {text}");
    }
    let broken = file(&folder, "broken.pem", "nothing of the kind");
    let missing = folder.path().join("missing.pem");
    for (what, host, ca, expected, fix) in [
        ("a wrong authority", HOST, &stranger, "UnknownIssuer", "endpoint.ca"),
        ("a wrong host name", OTHER_HOST, &roots, "not valid for name \"127.0.0.2\"", "endpoint.url"),
        ("a file without a certificate", HOST, &broken, "contains no certificate", "endpoint.ca"),
        ("no file", HOST, &missing, "missing.pem: No such file", "endpoint.ca"),
    ] {
        let (code, text) = asked(host, Some(ca), Some(&stranger));
        assert!(code == 1 && error_line(&text, "endpoint").contains(expected), "{what}: {text}");
        assert!(advice(&text, "endpoint").contains(fix), "{what}: {text}");
    }

    let toward = |port: u16, ca: &Path| {
        let endpoint = Endpoint::bridge("copy", &format!("https://{HOST}:{port}/in/shop"), &key)
            .with(&format!("ca = {}", quoted(ca.to_str().unwrap())));
        let state = folder.path().join("state");
        let config = Publisher::new("sqlite", &source.url(), &["*"], &state, free_port()).endpoint(endpoint);
        check(&folder, &config.text(), Some(&stranger))
    };
    let own = self_signed(&[HOST]);
    let own_roots = file(&folder, "own.pem", &own.pem);
    let showing_own = Terminator::start(&own, pair.subscriber_config.port);
    let (code, text) = toward(showing_own.port(), &own_roots);
    assert!(code == 1 && error_line(&text, "endpoint").contains("CA:FALSE"), "{text}");
    let (code, text) = toward(pair.subscriber_config.port, &roots);
    assert!(code == 1 && error_line(&text, "endpoint").contains("cannot set up TLS"), "{text}");
    assert!(advice(&text, "endpoint").contains("speaks no TLS"), "{text}");
}
