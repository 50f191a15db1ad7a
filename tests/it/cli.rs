//! The command line: exit codes, and that each message goes where it belongs and says what to do.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rowbridge_tests::config::{Endpoint, Publisher, Subscriber, quoted};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions, binary, signal};
use rowbridge_tests::sqlite::SqliteFile;
use rowbridge_tests::webhook::secret;
use tempfile::TempDir;

/// Runs a command to its end, in an empty environment as far as Rowbridge is concerned.
pub(crate) fn rowbridge(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for name in ["ROWBRIDGE_CONFIG", "ROWBRIDGE_LOG", "ROWBRIDGE_LOG_FORMAT"] {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().expect("ended by a signal"), text(stdout), text(stderr))
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("rowbridge-cli-").tempdir().unwrap()
}

/// A publisher and a subscriber over two SQLite files, in one configuration file.
struct Both {
    folder: TempDir,
    source: SqliteFile,
    admin_port: u16,
    port: u16,
}

impl Both {
    fn new() -> Self {
        let (folder, source) = (folder(), SqliteFile::create("source"));
        source.execute(
            "CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO goods VALUES (1, 'x')",
        );
        let (port, admin_port) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{port}/in/shop");
        let state = folder.path().join("state");
        let publisher = Publisher::new("sqlite", &source.url(), &["*"], &state, admin_port)
            .endpoint(Endpoint::bridge("copy", &url, &secret(1)));
        let target = format!("sqlite:{}", folder.path().join("copy.db").display());
        let subscriber = Subscriber::new("sqlite", &target, port, &secret(1), free_port());
        let subscriber = subscriber.text();
        let (subscriber, _) = subscriber.split_once("[admin]").unwrap();
        let text = publisher.text() + subscriber;
        std::fs::write(folder.path().join("rowbridge.toml"), text).unwrap();
        Self { folder, source, admin_port, port }
    }

    fn rowbridge(&self, args: &[&str]) -> (i32, String, String) {
        rowbridge(self.folder.path(), args)
    }

    async fn start(&self) -> Daemon {
        let daemon =
            Daemon::spawn(DaemonOptions::run("rowbridge", &self.folder.path().join("rowbridge.toml")));
        let url = format!("http://127.0.0.1:{}/readyz", self.admin_port);
        rowbridge_tests::wait::until("readiness", rowbridge_tests::wait::DEADLINE, || async {
            let answer = reqwest_get(&url).await.map_err(|error| error.to_string())?;
            if answer.0 == 200 { Ok(()) } else { Err(answer.1) }
        })
        .await;
        daemon
    }

    fn copied(&self) -> Option<u64> {
        let copy = rusqlite::Connection::open(self.folder.path().join("copy.db")).ok()?;
        copy.query_row("SELECT count(*) FROM goods", [], |row| row.get::<_, i64>(0))
            .ok()
            .map(i64::unsigned_abs)
    }
}

async fn reqwest_get(url: &str) -> Result<(u16, String), reqwest::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = reqwest::get(url).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_known() {
    let folder = folder();
    let (code, stdout, stderr) = rowbridge(folder.path(), &["frobnicate"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("frobnicate") && stderr.contains("--help"), "{stderr}");
    let (code, _, stderr) = rowbridge(folder.path(), &["demo", "--json"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--seconds"), "{stderr}");
    let (code, stdout, stderr) = rowbridge(folder.path(), &["--log", "shop=loud", "secret"]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
}

#[test]
fn the_version_and_help_go_to_stdout() {
    let folder = folder();
    let (code, stdout, stderr) = rowbridge(folder.path(), &["--version"]);
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, concat!("rowbridge ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
    let (code, stdout, _) = rowbridge(folder.path(), &["--help"]);
    assert_eq!(code, 0);
    for command in
        ["run", "publish", "subscribe", "check", "snapshot", "teardown", "demo", "listen", "secret", "config"]
    {
        assert!(stdout.lines().any(|line| line.trim_start().starts_with(command)), "{command} in {stdout}");
    }
}

#[test]
fn every_error_of_a_file_is_told_with_its_place() {
    let folder = folder();
    let (code, _, stderr) = rowbridge(folder.path(), &["run"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("rowbridge.toml") && stderr.contains("rowbridge config default"), "{stderr}");

    let file = folder.path().join("broken.toml");
    std::fs::write(&file, "[admin]\nlistn = \"127.0.0.1:9400\"\n\n[subscriber]\nlisten = \"nowhere\"\n")
        .unwrap();
    for command in ["run", "check"] {
        let (code, stdout, stderr) = rowbridge(folder.path(), &[command, "--config", "broken.toml"]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains("broken.toml:2:1: admin.listn"), "{stderr}");
        assert!(stderr.contains("broken.toml:5:10: subscriber.listen"), "{stderr}");
    }
}

#[test]
fn an_end_that_the_file_does_not_describe_is_a_wrong_configuration() {
    let folder = folder();
    let text = Subscriber::new("sqlite", "sqlite:copy.db", free_port(), &secret(1), free_port()).text();
    std::fs::write(folder.path().join("rowbridge.toml"), text).unwrap();
    for args in [&["publish"][..], &["snapshot", "--all"], &["teardown", "--source"]] {
        let (code, _, stderr) = rowbridge(folder.path(), args);
        assert_eq!(code, 2, "{args:?}");
        assert!(stderr.contains("[publisher]"), "{args:?}: {stderr}");
    }
}

#[test]
fn the_default_file_is_valid_once_its_secrets_are_there() {
    let folder = folder();
    let (code, stdout, _) = rowbridge(folder.path(), &["config", "default"]);
    assert_eq!(code, 0);
    stdout.parse::<toml::Table>().unwrap();
    std::fs::write(folder.path().join("rowbridge.toml"), &stdout).unwrap();
    let (code, _, stderr) = rowbridge(folder.path(), &["check"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("WAREHOUSE_WEBHOOK_SECRET") && !stderr.contains("unknown key"), "{stderr}");
}

#[test]
fn secrets_are_new_each_time_and_long_enough() {
    let folder = folder();
    let one = || {
        let (code, stdout, _) = rowbridge(folder.path(), &["secret"]);
        assert_eq!(code, 0);
        stdout.strip_suffix('\n').unwrap().to_owned()
    };
    let (first, second) = (one(), one());
    assert_ne!(first, second);
    // 32 bytes are 44 characters of base64.
    assert_eq!((first.strip_prefix("whsec_").unwrap().len(), first.lines().count()), (44, 1));
    let (code, stdout, _) = rowbridge(folder.path(), &["secret", "--ed25519"]);
    assert_eq!(code, 0);
    let (private, public) = stdout.trim_end().split_once('\n').unwrap();
    let private = rowbridge_schema::SigningKey::parse(private).unwrap();
    assert_eq!(private.verifying().to_text(), public);
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let mut child = Command::new(binary())
        .args(["config", "default"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn check_says_which_server_is_away_and_what_to_do() {
    let folder = folder();
    let (away, nobody) = (free_port(), free_port());
    let url = format!("postgres://shop@127.0.0.1:{away}/shop");
    let endpoint = Endpoint::bridge("copy", &format!("http://127.0.0.1:{nobody}/in/shop"), &secret(1));
    let state = folder.path().join("state");
    let config = Publisher::new("postgres", &url, &["public.*"], &state, free_port()).endpoint(endpoint);
    std::fs::write(folder.path().join("rowbridge.toml"), config.text()).unwrap();
    let (code, stdout, stderr) = rowbridge(folder.path(), &["check"]);
    assert_eq!(code, 1, "{stdout}{stderr}");
    let source =
        stdout.lines().find(|line| line.starts_with("error  source:")).unwrap_or_else(|| panic!("{stdout}"));
    assert!(source.contains(&away.to_string()) || source.contains("127.0.0.1"), "{source}");
    assert!(source.contains("refused"), "{source}");
    assert!(stdout.contains("error  endpoint: copy: cannot connect"), "{stdout}");
    assert!(!state.exists(), "check makes nothing");

    let (code, stdout, _) = rowbridge(folder.path(), &["check", "--json"]);
    assert_eq!(code, 1);
    let findings: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(findings.iter().any(|finding| finding["part"] == "source" && finding["severity"] == "error"));
    let (code, _, stderr) = rowbridge(folder.path(), &["teardown", "--source"]);
    assert_eq!(code, 3, "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_runs_both_ends_until_sigterm() {
    let both = Both::new();
    let (code, stdout, stderr) = both.rowbridge(&["check"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("is the subscriber of this file"), "{stdout}");

    let daemon = both.start().await;
    rowbridge_tests::wait::until("the copy", rowbridge_tests::wait::DEADLINE, || async {
        if both.copied() == Some(1) { Ok(()) } else { Err(format!("{:?} rows", both.copied())) }
    })
    .await;
    let get = |path: &str| reqwest_get_owned(format!("http://127.0.0.1:{}{path}", both.admin_port));
    assert_eq!(get("/healthz").await.0, 200);
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for name in [
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_start_time_seconds ",
        "process_open_fds ",
        "rowbridge_build_info{version=",
        "rowbridge_lane_deliveries_total{",
        "rowbridge_apply_changes_total{",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} in {metrics}");
    }

    // While it runs, the endpoint takes deliveries with our secret, and a second process is turned away.
    let (code, stdout, stderr) = both.rowbridge(&["check"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("takes deliveries with this secret"), "{stdout}");
    let (code, _, stderr) = both.rowbridge(&["publish"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("in use"), "{stderr}");

    // A row that vanished from the copy comes back with a snapshot of its table.
    let copy = rusqlite::Connection::open(both.folder.path().join("copy.db")).unwrap();
    copy.busy_timeout(Duration::from_secs(5)).unwrap();
    copy.execute("DELETE FROM goods", []).unwrap();
    assert_eq!(both.rowbridge(&["snapshot", "nothing"]).0, 0, "a table of that name may come to be");
    let (code, _, stderr) = both.rowbridge(&["snapshot", "goods"]);
    assert_eq!(code, 0, "{stderr}");
    rowbridge_tests::wait::until("the row", rowbridge_tests::wait::DEADLINE, || async {
        if both.copied() == Some(1) { Ok(()) } else { Err(format!("{:?} rows", both.copied())) }
    })
    .await;

    assert_eq!(daemon.terminate().await.code(), Some(0), "{}", daemon.last_lines());
    assert!(daemon.log().since(0).iter().all(|line| line.starts_with('{')), "{}", daemon.last_lines());

    teardown(&both);
}

fn teardown(both: &Both) {
    let made = || {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'rowbridge%' AND type IN ('table', 'trigger')";
        both.source.query_text(sql).unwrap()
    };
    let before = made();
    assert_ne!(before, "0");
    let (code, listed, stderr) = both.rowbridge(&["teardown", "--source", "--target"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("--yes"), "{stderr}");
    assert!(listed.contains("target: progress of stream shop, endpoint copy"), "{listed}");
    assert_eq!(made(), before, "listing drops nothing");
    let (code, dropped, stderr) = both.rowbridge(&["teardown", "--source", "--target", "--yes"]);
    assert_eq!((code, &dropped), (0, &listed), "{stderr}");
    assert_eq!(made(), "0");
    let (code, rest, _) = both.rowbridge(&["teardown", "--source", "--target"]);
    assert_eq!((code, rest.as_str()), (0, ""));
    assert_eq!(both.copied(), Some(1), "copied rows stay");
}

async fn reqwest_get_owned(url: String) -> (u16, String) {
    reqwest_get(&url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_a_wrong_secret_from_a_wrong_path() {
    let both = Both::new();
    let _daemon = both.start().await;
    let check = |url: &str, key: &str| {
        let folder = folder();
        let state = folder.path().join("state");
        let config = Publisher::new("sqlite", &both.source.url(), &["*"], &state, free_port())
            .endpoint(Endpoint::bridge("copy", url, key));
        let file = folder.path().join("other.toml");
        std::fs::write(&file, config.text()).unwrap();
        let (code, stdout, _) = rowbridge(folder.path(), &["check", "--config", file.to_str().unwrap()]);
        (code, stdout)
    };
    let address = format!("http://127.0.0.1:{}", both.port);
    let (code, stdout) = check(&format!("{address}/in/shop"), &secret(2));
    assert!(code == 1 && stdout.contains("401") && stdout.contains("receive.secret"), "{stdout}");
    let (code, stdout) = check(&format!("{address}/in/elsewhere"), &secret(1));
    assert!(code == 1 && stdout.contains("404") && stdout.contains("receive.path"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_ends_the_start_with_1() {
    let both = Both::new();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", both.port)).unwrap();
    let (code, _, stderr) = both.rowbridge(&["run"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&both.port.to_string()) && stderr.contains("subscriber.listen"), "{stderr}");
}

#[test]
fn the_demo_ends_with_equal_databases_and_leaves_nothing() {
    let folder = folder();
    let temporary = quoted(folder.path().to_str().unwrap());
    let output = Command::new(binary())
        .args(["demo", "--seconds", "3", "--json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let result: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["equal"], true, "{stdout}");
    assert!(
        result["changes"].as_u64().unwrap() > 500 && result["deliveries"].as_u64().unwrap() > 0,
        "{stdout}"
    );
    assert!(result["p50_ms"].as_f64().unwrap() <= result["p99_ms"].as_f64().unwrap(), "{stdout}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "left in {temporary}");
}

#[test]
fn ctrl_c_ends_the_demo_with_its_comparison() {
    let folder = folder();
    let mut child = Command::new(binary())
        .args(["demo"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It runs once it has printed its first second.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdout = String::new();
    while !stdout.contains(" s  ") {
        stdout += &(lines.next().unwrap().unwrap() + "\n");
    }
    signal(child.id(), "INT");
    lines.for_each(|line| stdout += &(line.unwrap() + "\n"));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.lines().last().unwrap().starts_with("EQUAL: "), "{stdout}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
