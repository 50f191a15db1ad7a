//! A publisher of MariaDB or MySQL that is killed during its snapshots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rowbridge_schema::Position;
use rowbridge_schema::wire::{Answer, AnswerStatus, Op, WIRE_VERSION, parse_delivery};
use rowbridge_tests::config::{Endpoint, Publisher};
use rowbridge_tests::mariadb::{Server, ServerOptions, Version};
use rowbridge_tests::metrics::{Metrics, wait_for};
use rowbridge_tests::port::free_port;
use rowbridge_tests::process::{Daemon, DaemonOptions};
use rowbridge_tests::wait::until;
use rowbridge_tests::webhook::{Received, Receiver, Reply, now, secret, sign};

use super::DEADLINE;

/// The other end of a bridge: a table of keys and values in memory, and how far it is.
#[derive(Default)]
struct Copy {
    position: Option<Position>,
    rows: HashMap<(String, String), String>,
    /// Snapshot blocks that were taken, and how many may be.
    chunks: usize,
    allowed: usize,
}

impl Copy {
    fn take(&mut self, request: &Received) -> Reply {
        let body = request.inflated();
        let delivery = parse_delivery(&body).unwrap();
        let head = &delivery.head;
        // A lane that was never heard of begins with null or zero.
        let joins_on = match self.position {
            Some(position) => head.to.is_none() || head.prev.is_some_and(|prev| prev <= position),
            None => head.to.is_some() && head.prev.is_none_or(|prev| prev == Position::ZERO),
        };
        if !joins_on {
            return self.answer(request, head, 409, AnswerStatus::Gap);
        }
        for block in &delivery.blocks {
            if Some(block.head.last) <= self.position {
                continue;
            }
            if block.head.chunk.is_some() {
                if self.chunks == self.allowed {
                    return Reply::status(503);
                }
                self.chunks += 1;
            }
            for run in &block.runs {
                let name = &delivery.tables[&run.table].name.name;
                for index in 0..run.changes() {
                    let (old, new) = run.row(index);
                    let text = |cell: &rowbridge_schema::Cell<'_>| cell.as_str().unwrap().to_owned();
                    match run.op {
                        Op::Delete => {
                            self.rows.remove(&(name.clone(), text(&old[0])));
                        }
                        _ => {
                            self.rows.insert((name.clone(), text(&new[0])), text(&new[1]));
                        }
                    }
                }
            }
            self.position = Some(block.head.last);
        }
        self.position = self.position.max(head.to);
        self.answer(request, head, 200, AnswerStatus::Applied)
    }

    fn answer(
        &self,
        request: &Received,
        head: &rowbridge_schema::wire::DeliveryHead,
        code: u16,
        status: AnswerStatus,
    ) -> Reply {
        let answer = Answer {
            rowbridge: WIRE_VERSION,
            stream: head.stream.clone(),
            endpoint: head.endpoint.clone(),
            status,
            position: self.position,
            staged: None,
            formats: vec!["bridge".into()],
            encodings: vec![],
            max_body: Some(64 << 20),
            message: None,
            failing: vec![],
        };
        let body = serde_json::to_vec(&answer).unwrap();
        let (id, timestamp) = (request.header("webhook-id").unwrap(), now().to_string());
        Reply::status(code)
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &sign(&secret(1), id, &timestamp, &body))
            .header("content-type", "application/json")
            .body(body)
    }
}

const TABLES: [&str; 3] = ["one", "three", "two"];
const ROWS: usize = 40_000;
const LIVES: usize = 3;

/// It goes on with the range where it was, not from the start of the table, let alone of everything.
#[tokio::test]
async fn a_snapshot_goes_on_where_it_was_killed() {
    goes_on(ServerOptions::default()).await;
}

#[tokio::test]
async fn a_snapshot_of_mysql_goes_on_where_it_was_killed() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    goes_on(options.set("binlog_transaction_compression", "ON")).await;
}

#[tokio::test]
async fn a_snapshot_of_mysql_without_gtids_goes_on_where_it_was_killed() {
    let Some(options) = ServerOptions::of(Version::MySql9) else { return };
    goes_on(options.without_gtids()).await;
}

async fn goes_on(options: ServerOptions) {
    let server = Server::start(options).await;
    server.create_database("shop").await;
    for name in TABLES {
        server
            .execute(
                "shop",
                &format!(
                    "CREATE TABLE {name} (id VARCHAR(12) PRIMARY KEY, v VARCHAR(400) NOT NULL);
                     INSERT INTO {name} WITH RECURSIVE digits (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digits WHERE d < 9),
                       numbers (n) AS (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 1
                                       FROM digits a, digits b, digits c, digits e, digits f)
                       SELECT CONCAT('k', n), RPAD(n, 300, '.') FROM numbers WHERE n <= {ROWS}"
                ),
            )
            .await;
    }
    let copy = Arc::new(Mutex::new(Copy::default()));
    let taking = Arc::clone(&copy);
    let receiver = Receiver::start(move |request| taking.lock().unwrap().take(request));
    let folder = tempfile::tempdir().unwrap();
    let admin_port = free_port();
    let mut config =
        Publisher::new("mysql", &server.url("shop"), &["shop.*"], &folder.path().join("state"), admin_port)
            .endpoint(Endpoint::bridge("copy", &receiver.url("/in/shop"), &secret(1)));
    // The reader is never far ahead of what was taken.
    config.journal_extra = "max_bytes = \"6 MiB\"".into();
    let path = folder.path().join("rowbridge.toml");
    std::fs::write(&path, config.text()).unwrap();
    let publisher = Daemon::new(DaemonOptions::run("publisher", &path));
    let changes = "rowbridge_capture_changes_total";
    let labels = [("stream", "shop")];
    let mut read = 0.0;
    for life in 1..=LIVES {
        copy.lock().unwrap().allowed = 4 * life;
        publisher.start();
        until("ranges at the copy", DEADLINE, || async {
            let copy = copy.lock().unwrap();
            if copy.chunks == copy.allowed { Ok(()) } else { Err(format!("{} ranges", copy.chunks)) }
        })
        .await;
        // Streaming goes on meanwhile.
        for name in TABLES {
            let sql = format!(
                "UPDATE {name} SET v = 'life {life}' WHERE id IN ('k{life}', 'k2{life}000');
                 DELETE FROM {name} WHERE id IN ('k1{life}', 'k1{life}999');
                 INSERT INTO {name} VALUES ('new {life}', 'n')"
            );
            server.execute("shop", &sql).await;
        }
        wait_for(admin_port, "rowbridge_capture_paused", &labels, DEADLINE, |paused| paused == 1.0).await;
        read += Metrics::scrape(admin_port).await.unwrap().value(changes, &labels).unwrap();
        publisher.kill9();
    }
    copy.lock().unwrap().allowed = usize::MAX;
    publisher.start();
    let rows = server.query("shop", "SELECT 'one', id, v FROM one UNION ALL SELECT 'two', id, v FROM two UNION ALL SELECT 'three', id, v FROM three").await;
    let source: HashMap<(String, String), String> =
        rows.iter().map(|row| ((row.get(0).unwrap(), row.get(1).unwrap()), row.get(2).unwrap())).collect();
    until("equal rows", DEADLINE, || async {
        let copy = copy.lock().unwrap();
        let differing = source.iter().filter(|(key, value)| copy.rows.get(*key) != Some(*value)).count();
        let surplus = copy.rows.keys().filter(|key| !source.contains_key(*key)).count();
        if differing + surplus == 0 { Ok(()) } else { Err(format!("{differing} differ, {surplus} too many")) }
    })
    .await;
    wait_for(admin_port, "rowbridge_snapshot_pending_tables", &labels, DEADLINE, |left| left == 0.0).await;
    read += Metrics::scrape(admin_port).await.unwrap().value(changes, &labels).unwrap();
    let again = read - (TABLES.len() * ROWS) as f64;
    println!("{again} of {} rows were read again after {LIVES} kills", TABLES.len() * ROWS);
    // A range holds about 6,800 of these rows; what was read when the kill came is read again, and what the log's
    // capture repeats.
    assert!(again < (LIVES * 14_000) as f64, "{again} rows were read again");
    assert!(copy.lock().unwrap().chunks >= TABLES.len() * 4);
}
