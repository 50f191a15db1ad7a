//! Old rows of MariaDB and SQLite: complete where an endpoint gets them, and no concern of a bridge.

use rowbridge_tests::scenario::{Kind, Pair, PairOptions};

use super::*;

const TABLES: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, status VARCHAR(20), total INT, note VARCHAR(20));
    CREATE TABLE other (id INTEGER PRIMARY KEY, v INT);
    INSERT INTO orders VALUES (1, 'new', 10, 'a'), (2, 'old', 20, NULL), (5, 'new', 50, 'e'), (6, 'old', 60, 'f');
    INSERT INTO other VALUES (1, 1)";

/// The row that ends what a test looks at.
const LAST: i64 = 99;

async fn prepared(kind: Kind) -> Pair {
    let pair = Pair::prepare(PairOptions::crossing(kind, kind)).await;
    pair.source_execute(TABLES).await;
    pair
}

/// `op id`, in the order in which they came, up to the last row.
async fn seen(receiver: &Receiver) -> Vec<String> {
    let requests = wait_for_ids(receiver, LAST..=LAST, |_| true).await;
    let brief = |request: &Received| {
        let event = request.json();
        format!("{} {}", event["data"]["op"].as_str().unwrap(), id(&event))
    };
    requests.iter().map(brief).filter(|brief| !brief.ends_with(&LAST.to_string())).collect()
}

fn row(id: i64, status: &str, total: i64, note: Option<&str>) -> Value {
    json!({"id": id, "status": status, "total": total, "note": note})
}

async fn every_change_tells_its_old_row(kind: Kind) {
    let mut pair = prepared(kind).await;
    let [all, active, changes, debezium] = [(); 4].map(|()| Receiver::accepting());
    let table = if kind == Kind::Mariadb { "tables = [\"shop.orders\"]" } else { "tables = [\"orders\"]" };
    pair.publisher_config.endpoints.extend([
        endpoint("all", &all, "json").with(table),
        endpoint("active", &active, "json").with(table).with("when = \"after.status == 'new'\""),
        endpoint("changes", &changes, "json")
            .with(table)
            .with("when = \"changed('status') && before.total >= 11 || key.id == 99\""),
        endpoint("debezium", &debezium, "debezium").with(table),
    ]);
    pair.write_configs();
    pair.start().await;
    pair.wait_equal(&["orders", "other"]).await;
    for sql in [
        "UPDATE orders SET total = 11 WHERE id = 1",
        "UPDATE orders SET status = 'old', note = NULL WHERE id = 1",
        "UPDATE orders SET total = 12 WHERE id = 1",
        "UPDATE orders SET status = 'new' WHERE id = 2",
        "UPDATE orders SET note = 'x' WHERE id = 2",
        "UPDATE orders SET id = 3 WHERE id = 2",
        "DELETE FROM orders WHERE id = 3",
        "DELETE FROM orders WHERE id = 1",
        "REPLACE INTO orders VALUES (5, 'old', 51, 'e')",
        "REPLACE INTO orders VALUES (6, 'old', 61, 'f')",
        "INSERT INTO orders VALUES (7, 'old', 70, NULL)",
        "UPDATE orders SET total = 71 WHERE id = 7",
        "DELETE FROM orders WHERE id = 7",
        "UPDATE other SET v = 2",
        "INSERT INTO orders VALUES (99, 'new', 0, NULL)",
    ] {
        pair.source_execute(sql).await;
    }
    // A row that leaves is a delete, one that enters an insert, and one that was never in is not heard of.
    assert_eq!(
        seen(&active).await,
        ["update 1", "delete 1", "insert 2", "update 2", "update 3", "delete 3", "delete 5"],
        "{kind:?}"
    );
    let changes = seen(&changes).await;
    assert!(changes.starts_with(&["update 1".into(), "update 2".into()]), "{changes:?}");
    let events = wait_for_ids(&all, LAST..=LAST, |_| true).await;
    let events: Vec<Value> = events.iter().map(|request| request.json()["data"].clone()).collect();
    let change = |event: &Value| (event["before"].clone(), event["after"].clone(), event["changed"].clone());
    let expected = [
        (row(1, "new", 10, Some("a")), row(1, "new", 11, Some("a")), json!(["total"])),
        (row(1, "new", 11, Some("a")), row(1, "old", 11, None), json!(["status", "note"])),
        (row(1, "old", 11, None), row(1, "old", 12, None), json!(["total"])),
        (row(2, "old", 20, None), row(2, "new", 20, None), json!(["status"])),
        (row(2, "new", 20, None), row(2, "new", 20, Some("x")), json!(["note"])),
        (row(2, "new", 20, Some("x")), row(3, "new", 20, Some("x")), json!(["id"])),
        (row(3, "new", 20, Some("x")), Value::Null, Value::Null),
        (row(1, "old", 12, None), Value::Null, Value::Null),
    ];
    for (event, expected) in events.iter().zip(&expected) {
        assert_eq!(change(event), *expected, "{kind:?}: {event}");
    }
    // REPLACE is an update in one log, a delete and an insert in the other: the old row is in both.
    for (id, old) in [(5, row(5, "new", 50, Some("e"))), (6, row(6, "old", 60, Some("f")))] {
        let told = events.iter().find(|event| event["key"]["id"] == id).unwrap();
        assert_eq!(told["before"], old, "{kind:?}: {told}");
    }
    let requests = debezium.wait_for_requests(8, DEADLINE).await;
    assert_eq!(requests[0].json()["before"], row(1, "new", 10, Some("a")), "{}", requests[0].json());
    pair.wait_equal(&["orders", "other"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_mariadb_tells_its_old_row() {
    every_change_tells_its_old_row(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_sqlite_tells_its_old_row() {
    every_change_tells_its_old_row(Kind::Sqlite).await;
}

/// How many of a file's triggers log old rows, for each of the two tables.
fn forms(pair: &Pair) -> Option<String> {
    pair.source_file().query_text(
        "SELECT group_concat(tbl_name || ' ' || n, ', ') FROM (
             SELECT tbl_name, sum(instr(sql, ',''U'',') > 0) AS n FROM sqlite_schema
             WHERE type = 'trigger' AND tbl_name IN ('orders', 'other') GROUP BY tbl_name ORDER BY tbl_name)",
    )
}

/// Endpoints come and go while changes are logged that nobody reads.
async fn endpoints_come_and_go(kind: Kind) {
    let mut pair = prepared(kind).await;
    let plain = kind == Kind::Sqlite;
    pair.start().await;
    pair.wait_equal(&["orders", "other"]).await;
    pair.source_execute("UPDATE orders SET total = 11 WHERE id = 1").await;
    pair.wait_equal(&["orders", "other"]).await;
    if plain {
        assert_eq!(forms(&pair).as_deref(), Some("orders 0, other 0"));
    }
    pair.publisher().terminate().await;
    pair.source_execute(
        "UPDATE orders SET total = 12 WHERE id = 1; UPDATE orders SET id = 4 WHERE id = 2; DELETE FROM orders WHERE id = 5;
         UPDATE other SET v = 3",
    )
    .await;

    let receiver = Receiver::accepting();
    let table = if plain { "tables = [\"orders\"]" } else { "tables = [\"shop.orders\"]" };
    pair.publisher_config.endpoints.push(endpoint("crm", &receiver, "json").with(table));
    pair.write_configs();
    let mark = pair.publisher().log().mark();
    pair.publisher().start();
    pair.wait_publisher().await;
    pair.wait_equal(&["orders", "other"]).await;
    if plain {
        assert_eq!(forms(&pair).as_deref(), Some("orders 1, other 0"));
    }
    pair.source_execute(
        "UPDATE orders SET total = 13 WHERE id = 1; UPDATE orders SET id = 8 WHERE id = 4; UPDATE other SET v = 4;
         INSERT INTO orders VALUES (99, 'new', 0, NULL)",
    )
    .await;
    assert_eq!(
        seen(&receiver).await,
        ["update 1", "update 4", "delete 5", "update 1", "update 8"],
        "{kind:?}"
    );
    let events: Vec<Value> =
        receiver.requests().iter().map(|request| request.json()["data"].clone()).collect();
    // What was logged before anybody wanted old rows has none in SQLite; the log of MariaDB has them anyway.
    let before = if plain { Value::Null } else { row(1, "new", 11, Some("a")) };
    assert_eq!((&events[0]["before"], &events[0]["after"]["total"]), (&before, &json!(12)));
    assert_eq!(events[1]["before"]["id"], 2);
    assert_eq!(events[2]["before"], row(5, "new", 50, Some("e")));
    assert_eq!(
        (&events[3]["before"], &events[3]["changed"]),
        (&row(1, "new", 12, Some("a")), &json!(["total"]))
    );
    assert_eq!(events[4]["before"], row(4, "old", 20, None));
    pair.wait_equal(&["orders", "other"]).await;

    pair.publisher().terminate().await;
    pair.source_execute(
        "UPDATE orders SET total = 14 WHERE id = 1; UPDATE orders SET id = 2 WHERE id = 8; UPDATE orders SET note = 'z'",
    )
    .await;
    pair.publisher_config.endpoints.pop();
    pair.write_configs();
    pair.publisher().start();
    pair.wait_publisher().await;
    pair.source_execute("UPDATE orders SET id = id + 100 WHERE id = 99; DELETE FROM orders WHERE id = 2")
        .await;
    pair.wait_equal(&["orders", "other"]).await;
    if plain {
        assert_eq!(forms(&pair).as_deref(), Some("orders 0, other 0"));
    }
    let again = pair.publisher().log().since(mark);
    let again: Vec<_> = again.iter().filter(|line| line.contains("sent again")).collect();
    assert!(again.is_empty(), "a table was sent again: {again:?}");
    let pending = rowbridge_tests::metrics::Metrics::scrape(pair.publisher_config.admin_port).await.unwrap();
    assert_eq!(pending.value("rowbridge_snapshot_pending_tables", &[("stream", "shop")]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_mariadb_come_and_go() {
    endpoints_come_and_go(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_of_sqlite_come_and_go() {
    endpoints_come_and_go(Kind::Sqlite).await;
}

/// Random changes, replaced rows among them, beside an endpoint, to targets that write a batch as a set.
async fn a_bridge_beside_an_endpoint_stays_equal(source: Kind, target: Kind) {
    let mut pair = Pair::prepare(PairOptions::crossing(source, target)).await;
    pair.source_execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, v INT, note VARCHAR(20))").await;
    let receiver = Receiver::accepting();
    pair.publisher_config
        .endpoints
        .push(endpoint("crm", &receiver, "json").with("batch = { max_events = 1000 }"));
    pair.write_configs();
    pair.start().await;
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..rowbridge_tests::size::size(20, 200) {
        let mut sql = String::from("BEGIN;");
        for _ in 0..30 {
            let (id, other) = (random(12), random(12));
            sql += &match random(6) {
                0 | 1 => format!("REPLACE INTO orders VALUES ({id}, {round}, 'r{other}');"),
                2 => format!("DELETE FROM orders WHERE id = {id};"),
                3 => format!(
                    "DELETE FROM orders WHERE id = {other}; UPDATE orders SET id = {other} WHERE id = {id};"
                ),
                _ => format!("UPDATE orders SET v = v + 1, note = 'u{other}' WHERE id = {id};"),
            };
        }
        pair.source_execute(&(sql + "COMMIT")).await;
        if round % 10 == 5 {
            pair.publisher().kill9();
            pair.publisher().start();
        }
    }
    pair.wait_equal(&["orders"]).await;
    assert!(!receiver.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_of_mariadb_beside_an_endpoint_stays_equal() {
    a_bridge_beside_an_endpoint_stays_equal(Kind::Mariadb, Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_of_sqlite_beside_an_endpoint_stays_equal() {
    a_bridge_beside_an_endpoint_stays_equal(Kind::Sqlite, Kind::Mariadb).await;
}
