//! PostgreSQL to PostgreSQL when something goes wrong: each test breaks one thing on purpose and says what must hold.

mod catalog;
mod detached;
mod lines;
mod lost;
mod ready;
mod refused;
mod standby;

use std::time::{Duration, Instant};

use rowbridge_publisher::state::{Request, request};
use rowbridge_tests::metrics::http_client;
use rowbridge_tests::scenario::{DATABASE, Pair};
use rowbridge_tests::wait::{self, DEADLINE};

/// `source.slot` as it is by default.
const SLOT: &str = "rowbridge_shop";

/// Whole numbers compare alike everywhere, text does not, and the last table has nothing to compare: a snapshot that
/// removes what is gone takes another way for each.
const TABLES: [&str; 3] = ["public.numbered", "public.named", "public.keyless"];

const SCHEMA: &str = "
    CREATE TABLE numbered (id bigint PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
    CREATE TABLE named (id text PRIMARY KEY, v text, n int NOT NULL DEFAULT 0);
    CREATE TABLE keyless (id bigint, v text)";

/// Rows `from..=to` in all three tables, in one transaction.
fn insert(from: i64, to: i64) -> String {
    format!(
        "BEGIN;
         INSERT INTO numbered SELECT i, 'row ' || i FROM generate_series({from}, {to}) i;
         INSERT INTO named SELECT 'key ' || i, 'row ' || i FROM generate_series({from}, {to}) i;
         INSERT INTO keyless SELECT i, 'row ' || i FROM generate_series({from}, {to}) i;
         COMMIT"
    )
}

/// Deletes rows from the keyed tables. The keyless one has no replica identity, so the source refuses nothing there, and
/// nobody hears of a delete: it is only used where a snapshot follows.
fn delete(from: i64, to: i64) -> String {
    format!(
        "BEGIN;
         DELETE FROM numbered WHERE id BETWEEN {from} AND {to};
         DELETE FROM named WHERE id IN (SELECT 'key ' || i FROM generate_series({from}, {to}) i);
         COMMIT"
    )
}

fn delete_keyless(from: i64, to: i64) -> String {
    format!("DELETE FROM keyless WHERE id BETWEEN {from} AND {to}")
}

/// Waits until `/readyz` is not 200 and its text holds all of `wanted`; gives the text.
pub(crate) async fn not_ready(pair: &Pair, wanted: &[&str]) -> String {
    not_ready_at(pair.publisher_config.admin_port, wanted).await
}

async fn not_ready_at(port: u16, wanted: &[&str]) -> String {
    let url = &format!("http://127.0.0.1:{port}/readyz");
    let client = &http_client();
    wait::until(&format!("a 503 that says {wanted:?}"), DEADLINE, || async move {
        let answer = client.get(url).send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        let fits = status == 503 && wanted.iter().all(|part| text.contains(part));
        if fits { Ok(text) } else { Err(format!("{status}: {text}")) }
    })
    .await
}

/// What `rowbridge snapshot --all` leaves for the publisher.
pub(crate) fn snapshot_all(pair: &Pair) {
    request(pair.state_dir(), &Request::SnapshotAll).unwrap();
}

async fn source_value(pair: &Pair, sql: &str) -> String {
    pair.source_cluster().query_text(DATABASE, sql).await.unwrap_or_default()
}

async fn current_lsn(pair: &Pair) -> String {
    source_value(pair, "SELECT pg_current_wal_lsn()::text").await
}

/// Whether the slot has passed an LSN.
async fn slot_passed(pair: &Pair, lsn: &str) -> bool {
    let sql = format!(
        "SELECT (confirmed_flush_lsn >= '{lsn}')::text FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    );
    source_value(pair, &sql).await == "true"
}

async fn wait_slot_passed(pair: &Pair, lsn: &str, deadline: Duration) -> Duration {
    let started = Instant::now();
    wait::until("the slot to pass what was written", deadline, || async {
        if slot_passed(pair, lsn).await { Ok(()) } else { Err(format!("it stands before {lsn}")) }
    })
    .await;
    started.elapsed()
}

/// Stops the publisher in order and drops its slot.
async fn drop_slot(pair: &Pair) {
    wait::until("the slot to be free", DEADLINE, || async {
        let sql = format!("SELECT pg_drop_replication_slot('{SLOT}')");
        let client = pair.source().await;
        client.batch_execute(&sql).await.map_err(|error| format!("{error:?}"))
    })
    .await;
}
