//! What `rowbridge check` says of filters that ask for old rows.

use rowbridge_tests::mariadb::{Server, ServerOptions};
use rowbridge_tests::postgres::{Cluster, ClusterOptions};

use super::*;

/// Endpoints whose filters ask for old rows, and some that do not.
fn asking(kind: &str, url: &str, folder: &TempDir, receiver: &Receiver) -> Publisher {
    let mut config = Publisher::new(kind, url, &["*"], &folder.path().join("state"), free_port());
    let orders = |name: &str| endpoint(name, receiver, "json").with("tables = [\"*orders\"]");
    config.endpoints.extend([
        orders("active").with("when = \"after.status == 'new' && after.id > 0\""),
        orders("moves").with("when = \"changed('total') || before.status == 'x'\""),
        orders("made").with("columns = { was = { value = \"before.note\" } }"),
        orders("keys").with("when = \"key.id > 5\""),
        orders("inserts").with("when = \"op == 'insert' && after.total > 1\""),
        endpoint("plain", receiver, "json").with("tables = [\"*\", \"!*log\"]"),
        endpoint("inserts-alone", receiver, "json").with("operations = [\"insert\"]"),
    ]);
    config
}

fn check(folder: &TempDir, config: &Publisher) -> String {
    std::fs::write(folder.path().join("rowbridge.toml"), config.text()).unwrap();
    let (code, out, err) = rowbridge(folder.path(), &["check"]);
    assert_eq!(code, 0, "{out}{err}");
    out
}

/// What is told of old values: the columns of each finding.
fn told(out: &str) -> Vec<&str> {
    let told = out.lines().filter(|line| line.contains("old values of"));
    told.filter_map(|line| line.split(['(', ')']).nth(1)).collect()
}

/// Statements below the findings.
fn fixes(out: &str, verb: &str) -> Vec<String> {
    let mut fixes: Vec<String> =
        out.lines().map(str::trim).filter(|line| line.starts_with(verb)).map(str::to_owned).collect();
    fixes.dedup();
    fixes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_of_postgres_tables_that_send_no_old_rows() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::accepting());
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.create_database("shop").await;
    cluster
        .execute(
            "shop",
            "CREATE TABLE orders (id int PRIMARY KEY, status text, total int, note text);
             CREATE TABLE old_orders (id int PRIMARY KEY, status text, total int, note text) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF old_orders FOR VALUES FROM (0) TO (10);
             CREATE TABLE part_2 PARTITION OF old_orders FOR VALUES FROM (10) TO (20);
             ALTER TABLE part_1 REPLICA IDENTITY FULL",
        )
        .await;
    let config = asking("postgres", &cluster.url("shop"), &folder, &receiver);
    let out = check(&folder, &config);
    let both = ["status", "status", "total, status", "total, status", "note", "note"];
    assert_eq!(told(&out), both, "{out}");
    assert!(
        out.contains("endpoint.when: the server does not send old values of public.orders (status)"),
        "{out}"
    );
    assert!(out.contains("arrives as an update") && out.contains("before is null there"), "{out}");
    let mut statements = fixes(&out, "ALTER TABLE");
    statements.sort();
    statements.dedup();
    assert_eq!(statements.len(), 2, "{out}");
    for statement in statements {
        cluster.execute("shop", &statement).await;
    }
    let out = check(&folder, &config);
    assert_eq!(told(&out), [""; 0], "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_of_a_mariadb_that_logs_no_old_rows() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::accepting());
    let server = Server::start(ServerOptions::default().set("binlog_row_image", "MINIMAL")).await;
    server.create_database("shop").await;
    let table = "CREATE TABLE orders (id INT PRIMARY KEY, status TEXT, total INT, note TEXT)";
    server.execute("shop", table).await;
    let config = asking("mysql", &server.url("shop"), &folder, &receiver);
    let out = check(&folder, &config);
    assert_eq!(told(&out), ["status", "total, status", "note"], "{out}");
    assert!(
        out.contains("binlog_row_image = MINIMAL does not send old values of shop.orders (status)"),
        "{out}"
    );
    for statement in fixes(&out, "SET GLOBAL binlog_row_image") {
        server.execute("", &statement).await;
    }
    let out = check(&folder, &config);
    assert_eq!(told(&out), [""; 0], "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_old_rows_take_of_a_change_log() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::accepting());
    let source = SqliteFile::create("source");
    let wide: Vec<String> = (0..20).map(|at| format!("c{at}")).collect();
    source.execute(&format!(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total, note);
         CREATE TABLE wide (id INTEGER PRIMARY KEY, {}); CREATE TABLE keyless (v);
         CREATE TABLE log (id INTEGER PRIMARY KEY, v)",
        wide.join(", ")
    ));
    let config = asking("sqlite", &source.url(), &folder, &receiver);
    let out = check(&folder, &config);
    assert_eq!(told(&out), [""; 0], "{out}");
    let logged: Vec<&str> = out.lines().filter(|line| line.contains("the whole old row")).collect();
    assert_eq!(logged.len(), 2, "{out}");
    assert!(logged[0].contains("orders: ") && logged[0].contains("(1 of source.max_log_rows"), "{out}");
    assert!(logged[1].contains("wide: ") && logged[1].contains("(2 of source.max_log_rows"), "{out}");
}
