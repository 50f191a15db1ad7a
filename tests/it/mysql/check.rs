//! `rowbridge check` of sources that are not as they should be: what it says, and that what it says mends it.

use rowbridge_publisher::check::{Finding, Severity, check_source, teardown_source};
use rowbridge_schema::TablePatterns;
use rowbridge_schema::config::{DatabaseUrl, SnapshotMode, SourceConfig};
use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};
use rowbridge_tests::port::free_port;
use rowbridge_tests::webhook::secret;

use super::server;
use crate::cli::rowbridge;

fn source(url: &str, tables: &[&str]) -> SourceConfig {
    SourceConfig {
        outboxes: Vec::new(),
        messages: None,
        database: DatabaseUrl::parse(url).unwrap(),
        tables: TablePatterns::new(tables).unwrap(),
        snapshot: SnapshotMode::Initial,
        slot: String::new(),
        publication: String::new(),
        max_transaction: 1 << 28,
        max_retained: None,
        max_log_rows: 1,
    }
}

/// Findings as `severity: what | fix`.
async fn found(url: &str, tables: &[&str]) -> Vec<String> {
    let findings = check_source(&source(url, tables)).await;
    let line = |finding: Finding| {
        let severity = match finding.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warn",
            Severity::Error => "error",
        };
        let fix = finding.fix.filter(|fix| !fix.is_empty()).map_or(String::new(), |fix| format!(" | {fix}"));
        format!("{severity}: {}{fix}", finding.what)
    };
    findings.into_iter().map(line).collect()
}

fn has(findings: &[String], wanted: &str) {
    assert!(findings.iter().any(|finding| finding == wanted), "{wanted}\nis not in\n{}", findings.join("\n"));
}

fn begins(findings: &[String], wanted: &str) {
    assert!(
        findings.iter().any(|finding| finding.starts_with(wanted)),
        "{wanted}\nis not in\n{}",
        findings.join("\n")
    );
}

fn problems(findings: &[String]) -> Vec<&String> {
    findings.iter().filter(|finding| !finding.starts_with("ok: ")).collect()
}

/// A statement of a fix, as somebody would run it.
fn statements(findings: &[String]) -> Vec<String> {
    let fixes =
        findings.iter().filter_map(|finding| finding.split_once(" | ")).flat_map(|(_, fix)| fix.lines());
    fixes
        .filter(|line| ["SET ", "GRANT "].iter().any(|verb| line.starts_with(verb)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn mariadb_settings_come_with_the_statement_that_mends_them() {
    let server = server(&[
        ("binlog_format", "MIXED"),
        ("binlog_row_metadata", "NO_LOG"),
        ("binlog_row_image", "MINIMAL"),
        ("binlog_expire_logs_seconds", "3600"),
        ("gtid_strict_mode", "OFF"),
    ])
    .await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let url = server.url("shop");
    let findings = found(&url, &["shop.*", "shop.typo"]).await;
    let set = |name: &str, value: &str| {
        format!(
            "SET GLOBAL {name} = {value};\nand in the server's configuration, under [mariadbd]: {name} = {value}"
        )
    };
    for (severity, what, fix) in [
        (
            "error",
            "binlog_format is MIXED: changes are logged as statements; sessions that are open keep it",
            set("binlog_format", "ROW"),
        ),
        (
            "error",
            "binlog_row_metadata is NO_LOG: rows are logged without the names of their columns",
            set("binlog_row_metadata", "FULL"),
        ),
        (
            "warn",
            "binlog_row_image is MINIMAL: an update cannot make a row whole that the target has lost",
            set("binlog_row_image", "'FULL'"),
        ),
        (
            "warn",
            "binary logs are kept for 3600 s: a publisher that is away for longer needs a new snapshot",
            set("binlog_expire_logs_seconds", "604800"),
        ),
    ] {
        has(&findings, &format!("{severity}: {what} | {fix}"));
    }
    begins(&findings, "warn: gtid_strict_mode is OFF");
    begins(&findings, "warn: source.tables: \"shop.typo\" matches no table");
    begins(&findings, "ok: connected to MariaDB ");
    begins(&findings, "ok: the binary log can be read (from bin.");
    for statement in statements(&findings) {
        server.execute("", &statement).await;
    }
    let findings = found(&url, &["shop.*"]).await;
    assert!(problems(&findings).is_empty(), "{findings:?}");
    begins(&found(&url, &["nothing.*"]).await, "error: no table matches source.tables | ");
}

#[tokio::test]
async fn privileges_come_with_their_grant() {
    let server = server(&[]).await;
    server
        .execute("shop", "CREATE TABLE a (id INT PRIMARY KEY, v INT); CREATE TABLE b (id INT) ENGINE = Aria")
        .await;
    server.create_user("rowbridge", "s3cret", &["SELECT (id) ON shop.a", "INSERT ON shop.b"]).await;
    let url = server.url_of("rowbridge", "s3cret", "");
    let findings = found(&url, &["shop.*"]).await;
    let grant = "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'rowbridge'@'%';";
    has(&findings, &format!("error: the end of the binary log may not be read | {grant}"));
    begins(
        &findings,
        "error: 1 tables of shop cannot be read for their snapshot: b | GRANT SELECT ON `shop`.* TO 'rowbridge'@'%';",
    );
    has(
        &findings,
        "error: tables without key must be locked for a moment when their snapshot begins, which 'rowbridge'@'%' may not \
         | GRANT LOCK TABLES ON `shop`.* TO 'rowbridge'@'%';",
    );
    for statement in statements(&findings) {
        server.execute("", &statement).await;
    }
    let findings = found(&url, &["shop.*"]).await;
    let left: Vec<_> = findings.iter().filter(|finding| finding.starts_with("error")).collect();
    assert!(left.is_empty(), "{left:?}");
    // May look at the log's end, but not read it.
    server.execute("", "REVOKE REPLICATION SLAVE ON *.* FROM rowbridge").await;
    has(&found(&url, &["shop.*"]).await, &format!("error: the binary log may not be read | {grant}"));
    let wrong = found(&server.url_of("rowbridge", "wrong", ""), &["shop.*"]).await;
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].contains("Access denied") && wrong[0].ends_with("Correct user and password in source.url."),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn tables_that_are_hard_to_follow_are_named() {
    let server = server(&[("binlog_ignore_db", "hidden"), ("gtid_strict_mode", "ON")]).await;
    server.create_database("hidden").await;
    server
        .execute(
            "shop",
            "CREATE TABLE parent (a INT, b INT, PRIMARY KEY (a, b));
             CREATE TABLE child (id INT PRIMARY KEY, x INT, y INT,
                 CONSTRAINT fk FOREIGN KEY (x, y) REFERENCES parent (a, b) ON DELETE CASCADE ON UPDATE SET NULL);
             CREATE TABLE fine (id INT PRIMARY KEY, x INT, y INT, FOREIGN KEY (x, y) REFERENCES parent (a, b));
             CREATE TABLE log (line TEXT CHARACTER SET gbk) ENGINE = MyISAM;
             CREATE TABLE hidden.t (id INT PRIMARY KEY)",
        )
        .await;
    let findings = found(&server.url(""), &["shop.*", "hidden.*"]).await;
    begins(
        &findings,
        "error: binlog_ignore_db keeps hidden out of the binary log | In the server's configuration, under [mariadbd]: ",
    );
    begins(&findings, "warn: shop.log has no key: ");
    has(
        &findings,
        "warn: shop.log is not in a transactional engine: what a rolled back transaction wrote stays | \
         ALTER TABLE `shop`.`log` ENGINE = InnoDB;",
    );
    has(&findings, "ok: the server itself converts texts in gbk");
    let cascade = findings.iter().find(|finding| finding.contains("foreign key fk of shop.child")).unwrap();
    assert!(
        cascade.ends_with(
            "At the target: ALTER TABLE `shop`.`child` ADD CONSTRAINT `fk` FOREIGN KEY (`x`, `y`) REFERENCES \
             `shop`.`parent` (`a`, `b`) ON UPDATE SET NULL ON DELETE CASCADE;"
        ),
        "{cascade}"
    );
    assert_eq!(problems(&findings).len(), 4, "{findings:?}");
    let alone = found(&server.url(""), &["shop.child"]).await;
    let lost = alone.iter().find(|finding| finding.contains("foreign key fk of shop.child")).unwrap();
    assert!(
        lost.starts_with("error: ")
            && lost.contains("shop.parent, to which it refers, is not captured")
            && lost.ends_with("Add shop.parent to source.tables, or leave shop.child out of them."),
        "{lost}"
    );
}

#[tokio::test]
async fn a_server_without_a_log_or_behind_another_is_told() {
    let replica = server(&[("log_slave_updates", "OFF")]).await;
    replica
        .execute("", "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'")
        .await;
    replica.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    has(
        &found(&replica.url("shop"), &["shop.*"]).await,
        "error: the server is a replica and log_slave_updates is OFF: what it applies is not in its log | In the server's \
         configuration, under [mariadbd]: log_slave_updates = ON; then restart it.",
    );
    let silent = Server::start(ServerOptions::default().set("skip_log_bin", "1")).await;
    silent.create_database("shop").await;
    silent.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    has(
        &found(&silent.url("shop"), &["shop.*"]).await,
        "error: log_bin is OFF: the server writes no binary log | In the server's configuration, under [mariadbd]: log_bin = \
         binlog and a server_id of its own; then restart it.",
    );
}

#[tokio::test]
async fn mysql_settings_come_with_the_statement_that_mends_them() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    let server = Server::start(options.without_gtids()).await;
    server.create_database("shop").await;
    server.execute("shop", "CREATE TABLE t (id INT PRIMARY KEY)").await;
    server
        .execute(
            "",
            "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'; SET GLOBAL binlog_row_metadata = 'MINIMAL';
             SET GLOBAL binlog_expire_logs_seconds = 60",
        )
        .await;
    server.create_user("rowbridge", "s3cret", &["SELECT ON shop.*"]).await;
    let url = server.url_of("rowbridge", "s3cret", "");
    let findings = found(&url, &["shop.*"]).await;
    has(
        &findings,
        "error: binlog_row_value_options is PARTIAL_JSON: changed JSON documents are logged in part | \
         SET PERSIST binlog_row_value_options = '';",
    );
    has(
        &findings,
        "error: binlog_row_metadata is MINIMAL: rows are logged without the names of their columns | \
         SET PERSIST binlog_row_metadata = FULL;",
    );
    has(
        &findings,
        "error: the end of the binary log may not be read | \
         GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'rowbridge'@'%';",
    );
    begins(&findings, "error: tables must be locked for a moment when their snapshot begins");
    let off = findings.iter().find(|finding| finding.starts_with("warn: gtid_mode is OFF")).unwrap();
    assert!(off.ends_with("SET PERSIST gtid_mode = ON_PERMISSIVE;\nSET PERSIST gtid_mode = ON;"), "{off}");
    for statement in statements(&findings) {
        server.execute("", &statement).await;
    }
    let findings = found(&url, &["shop.*"]).await;
    assert!(problems(&findings).is_empty(), "{findings:?}");
    has(&findings, "ok: gtid_mode is ON, enforce_gtid_consistency is ON");
    server.execute("", "SET GLOBAL gtid_mode = ON_PERMISSIVE").await;
    has(
        &found(&url, &["shop.*"]).await,
        "error: gtid_mode is ON_PERMISSIVE: only some transactions have a name | \
         SET PERSIST enforce_gtid_consistency = ON;\nSET PERSIST gtid_mode = ON;",
    );
}

/// Nothing is made at the source, so there is nothing to take away.
#[tokio::test]
async fn a_teardown_has_nothing_to_do() {
    let server = server(&[]).await;
    let config = source(&server.url("shop"), &["shop.*"]);
    assert!(teardown_source(&config, true).await.unwrap().is_empty());
    let folder = tempfile::tempdir().unwrap();
    let config =
        Publisher::new("mysql", &server.url("shop"), &["shop.*"], &folder.path().join("state"), free_port())
            .endpoint(Endpoint::bridge("copy", "http://127.0.0.1:1/in/shop", &secret(1)));
    std::fs::write(folder.path().join("rowbridge.toml"), config.text()).unwrap();
    let (code, stdout, stderr) = rowbridge(folder.path(), &["teardown", "--source", "--yes"]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.contains("makes nothing in MySQL and MariaDB"), "{stderr}");
}
