//! ALTER TABLE at the source while the bridge runs, from PostgreSQL to PostgreSQL: rows from before, around and after the
//! change keep their values in their columns, and where the target must be altered first, the lane says how.

use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::wait::{self, DEADLINE};

use super::faults::not_ready;

const T: [&str; 1] = ["public.t"];

/// Letters and figures, so that a value in the wrong column cannot go unnoticed.
const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, letters text, figure int)";

async fn running(schema: &str) -> Pair {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(schema).await;
    pair.source_execute(
        "INSERT INTO t (id, letters, figure) SELECT i, 'row ' || i, i * 10 FROM generate_series(1, 500) i",
    )
    .await;
    pair.start().await;
    pair.wait_equal(&T).await;
    pair
}

/// The same statement at both ends, the target first.
async fn alter_both(pair: &Pair, sql: &str) {
    pair.target_execute(sql).await;
    pair.source_execute(sql).await;
}

/// Runs at the target what `/readyz` told to, and lets the publisher ask again now instead of within a minute.
async fn alter_target_and_restart(pair: &Pair, sql: &str) {
    pair.target_execute(sql).await;
    pair.publisher().restart().await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

async fn target_text(pair: &Pair, sql: &str) -> String {
    pair.target_cluster().query_text(DATABASE, sql).await.unwrap_or_default()
}

async fn target_says(pair: &Pair, sql: &str, wanted: &str) {
    wait::until(&format!("{wanted:?} from {sql}"), DEADLINE, || async {
        let found = target_text(pair, sql).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// The last statement that `/readyz` names.
fn statement(text: &str) -> &str {
    let start = text.rfind("`ALTER TABLE").unwrap_or_else(|| panic!("no ALTER TABLE in {text}")) + 1;
    text[start..].split('`').next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn column_with_default_that_the_target_has() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    // The target's default is another one: only what is sent again makes existing rows equal.
    pair.target_execute("ALTER TABLE t ADD COLUMN colour text DEFAULT 'of the target'").await;
    pair.source_execute("ALTER TABLE t ADD COLUMN colour text NOT NULL DEFAULT 'red'").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 2, 'green')").await;
    pair.source_execute("UPDATE t SET colour = 'blue' WHERE id = 7").await;
    pair.wait_equal(&T).await;
    assert_eq!(target_text(&pair, "SELECT count(*) FROM t WHERE colour = 'red'").await, "500");

    // In one transaction with rows on both sides of it.
    pair.target_execute("ALTER TABLE t ADD COLUMN size int").await;
    pair.source_execute(
        "BEGIN; INSERT INTO t VALUES (503, 'before', 3, 'black'); ALTER TABLE t ADD COLUMN size int DEFAULT 42;
         INSERT INTO t VALUES (504, 'after', 4, 'white', 43); UPDATE t SET figure = 5 WHERE id = 503; COMMIT",
    )
    .await;
    pair.wait_equal(&T).await;
    assert_eq!(target_text(&pair, "SELECT count(*) FROM t WHERE size = 42").await, "503");
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn column_with_default_that_the_target_lacks() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    pair.source_execute("ALTER TABLE t ADD COLUMN \"the colour\" varchar(9) DEFAULT 'red'").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 2, 'green')").await;
    let text = not_ready(&pair, &["halted", "public.t", "the colour", "ALTER TABLE"]).await;
    assert_eq!(
        statement(&text),
        "ALTER TABLE \"public\".\"t\" ADD COLUMN \"the colour\" character varying(9)",
        "{text}"
    );
    target_says(&pair, "SELECT count(*) FROM t WHERE id = 501", "1").await;
    assert_eq!(target_text(&pair, "SELECT count(*) FROM t WHERE id = 502").await, "0");
    alter_target_and_restart(&pair, statement(&text)).await;
    assert_eq!(target_text(&pair, "SELECT count(*) FROM t WHERE \"the colour\" = 'red'").await, "501");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_column_stays_at_the_target() {
    // The column in the middle: what follows it moves to the left in every message.
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    pair.source_execute("ALTER TABLE t DROP COLUMN letters").await;
    pair.source_execute("INSERT INTO t VALUES (502, 2)").await;
    pair.source_execute("UPDATE t SET figure = 77 WHERE id = 7; DELETE FROM t WHERE id = 8").await;
    let all = "SELECT count(*) || ' ' || sum(figure) FROM t";
    let wanted = pair.source_cluster().query_text(DATABASE, all).await.unwrap();
    target_says(&pair, all, &wanted).await;
    target_says(&pair, "SELECT id || ',' || figure || ',' || letters FROM t WHERE id = 501", "501,1,before")
        .await;
    target_says(
        &pair,
        "SELECT id || ',' || figure || ',' || coalesce(letters, '-') FROM t WHERE id = 502",
        "502,2,-",
    )
    .await;
    target_says(&pair, "SELECT id || ',' || figure || ',' || letters FROM t WHERE id = 7", "7,77,row 7")
        .await;
    pair.wait_publisher().await;
    // Once the operator has dropped it there, too, both are equal.
    pair.target_execute("ALTER TABLE t DROP COLUMN letters").await;
    pair.source_execute("INSERT INTO t VALUES (503, 3)").await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_column_that_must_not_be_null_halts() {
    let pair = running("CREATE TABLE t (id int PRIMARY KEY, letters text NOT NULL, figure int)").await;
    pair.source_execute("ALTER TABLE t DROP COLUMN letters; INSERT INTO t VALUES (501, 1)").await;
    not_ready(&pair, &["halted", "public.t", "letters", "NOT NULL"]).await;
    alter_target_and_restart(&pair, "ALTER TABLE t DROP COLUMN letters").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_type_with_rewrite() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    // Every row is rewritten, with other values, and nothing of that is in the log.
    pair.source_execute("ALTER TABLE t ALTER COLUMN figure TYPE bigint USING figure * 10000000000").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 9000000000)").await;
    let text = not_ready(&pair, &["halted", "public.t", "column figure", "out of range"]).await;
    assert_eq!(
        statement(&text),
        "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"figure\" TYPE bigint",
        "{text}"
    );
    alter_target_and_restart(&pair, statement(&text)).await;
    assert_eq!(target_text(&pair, "SELECT figure FROM t WHERE id = 5").await, "500000000000");

    // The target first: nothing halts.
    pair.source_execute("INSERT INTO t VALUES (503, 'before', 3)").await;
    alter_both(&pair, "ALTER TABLE t ALTER COLUMN letters TYPE varchar(7) USING left(letters, 7)").await;
    pair.source_execute("INSERT INTO t VALUES (504, 'after', 4)").await;
    pair.wait_equal(&T).await;
    alter_both(&pair, "ALTER TABLE t ALTER COLUMN figure TYPE numeric(20,2)").await;
    pair.source_execute("UPDATE t SET figure = figure / 3 WHERE id < 100").await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn narrowed_text_leaves_a_wider_target_alone() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    pair.source_execute("ALTER TABLE t ALTER COLUMN letters TYPE varchar(5) USING 'x' || id").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 2)").await;
    pair.wait_equal(&T).await;
    assert_eq!(target_text(&pair, "SELECT letters FROM t WHERE id = 400").await, "x400");
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_column() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    pair.source_execute("ALTER TABLE t RENAME COLUMN letters TO word").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 2)").await;
    let add = "ALTER TABLE \"public\".\"t\" ADD COLUMN \"word\" text";
    let text = not_ready(&pair, &["halted", "public.t", "word", add]).await;
    assert_eq!(
        statement(&text),
        "ALTER TABLE \"public\".\"t\" RENAME COLUMN \"letters\" TO \"word\"",
        "{text}"
    );
    alter_target_and_restart(&pair, statement(&text)).await;

    // Two columns that swap their names: the order stays, the meaning does not.
    pair.target_execute("ALTER TABLE t ADD COLUMN other text").await;
    pair.source_execute("ALTER TABLE t ADD COLUMN other text DEFAULT 'other'").await;
    pair.wait_equal(&T).await;
    pair.source_execute("INSERT INTO t VALUES (503, 'word', 3, 'other')").await;
    pair.source_execute(
        "BEGIN; ALTER TABLE t RENAME COLUMN word TO swap; ALTER TABLE t RENAME COLUMN other TO word;
         ALTER TABLE t RENAME COLUMN swap TO other; COMMIT",
    )
    .await;
    pair.source_execute("INSERT INTO t VALUES (504, 'now other', 4, 'now word')").await;
    target_says(&pair, "SELECT word || ',' || other FROM t WHERE id = 504", "now word,now other").await;
    target_says(&pair, "SELECT word || ',' || other FROM t WHERE id = 503", "other,word").await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

/// The table's first change in the stream is one with the new shape, so that nothing in the stream tells of the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn column_of_a_table_that_nobody_wrote() {
    let pair = running(SCHEMA).await;
    pair.target_execute("ALTER TABLE t ADD COLUMN size int, ADD COLUMN weight int").await;
    pair.source_execute(
        "ALTER TABLE t ADD COLUMN size int DEFAULT 3; INSERT INTO t VALUES (501, 'after', 1, 4)",
    )
    .await;
    let sizes = "SELECT count(size) || ' ' || sum(size) FROM t";
    target_says(&pair, sizes, "501 1504").await;
    // And nobody writes it afterwards either.
    pair.source_execute("ALTER TABLE t ADD COLUMN weight int DEFAULT 5").await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

/// Name, type and place stay, the values do not; nobody writes, so that only the catalog can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn column_dropped_and_added_under_its_name() {
    let pair = running(SCHEMA).await;
    pair.source_execute("ALTER TABLE t DROP COLUMN figure, ADD COLUMN figure int DEFAULT 3").await;
    pair.wait_equal(&T).await;
    assert_eq!(target_text(&pair, "SELECT sum(figure) FROM t").await, "1500");
    pair.wait_publisher().await;
}

/// While nobody looks: the new shape is all that the publisher ever sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_while_the_publisher_is_down() {
    let pair = running(SCHEMA).await;
    pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
    pair.wait_equal(&T).await;
    pair.publisher().terminate().await;
    pair.target_execute("ALTER TABLE t ADD COLUMN size int").await;
    pair.source_execute("UPDATE t SET letters = 'old shape' WHERE id = 7").await;
    pair.source_execute("ALTER TABLE t ADD COLUMN size int DEFAULT 3").await;
    pair.source_execute("INSERT INTO t VALUES (502, 'after', 2, 4)").await;
    pair.publisher().start();
    pair.wait_equal(&T).await;
    pair.publisher().terminate().await;
    pair.source_execute(
        "BEGIN; ALTER TABLE t RENAME figure TO swap; ALTER TABLE t RENAME size TO figure;
         ALTER TABLE t RENAME swap TO size; COMMIT",
    )
    .await;
    pair.publisher().start();
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

/// The stream says nothing of a new label, and the row that has it may come at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_labels_of_an_enum_are_there_before_their_rows() {
    let schema = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN temper AS mood;
        CREATE TABLE t (id int PRIMARY KEY, letters text, figure int, one mood, many mood[], within temper)";
    let pair = running(schema).await;
    for round in 1..=3 {
        let first = 1000 * round;
        pair.source_execute(&format!("ALTER TYPE mood ADD VALUE 'it''s {round}' BEFORE 'happy'")).await;
        pair.source_execute(&format!("INSERT INTO t (id, one) VALUES ({first}, 'it''s {round}')")).await;
        pair.source_execute(&format!("ALTER TYPE mood ADD VALUE 'many, {round}'")).await;
        pair.source_execute(&format!(
            "UPDATE t SET many = '{{sad,NULL,\"many, {round}\"}}' WHERE id = {round}"
        ))
        .await;
        pair.source_execute(&format!("ALTER TYPE mood ADD VALUE 'within {round}'")).await;
        // Beside other rows of a transaction, and behind a first label that is known.
        pair.source_execute(&format!(
            "BEGIN; UPDATE t SET one = 'sad' WHERE id < 50;
             INSERT INTO t (id, one, within) VALUES ({first} + 1, 'happy', 'within {round}'); DELETE FROM t WHERE id = 50 + {round};
             COMMIT"
        ))
        .await;
        pair.wait_equal(&T).await;
    }
    pair.wait_publisher().await;
}

/// A partition that is truncated says only that something is gone: the table is sent again, and once more if that happens
/// while it is being sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_truncated_one_after_another() {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute(
        "CREATE TABLE t (id int PRIMARY KEY, letters text, figure int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (1000);
         CREATE TABLE middle PARTITION OF t FOR VALUES FROM (1000) TO (2000);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (2000) TO (100000);
         INSERT INTO t SELECT i, repeat('x', 100), i FROM generate_series(0, 20000) i",
    )
    .await;
    pair.start().await;
    pair.wait_equal(&T).await;
    for round in 0..8 {
        pair.source_execute(
            "INSERT INTO t SELECT i, 'again', i FROM generate_series(0, 1999) i ON CONFLICT DO NOTHING",
        )
        .await;
        pair.wait_equal(&T).await;
        pair.source_execute("TRUNCATE low").await;
        // More and more of the first run is done when the second is asked for.
        for n in 0..round * 10 {
            pair.source_execute(&format!("UPDATE t SET figure = -{n} WHERE id = 2000 + {n}")).await;
        }
        pair.source_execute("TRUNCATE middle").await;
        pair.wait_equal(&T).await;
    }
}
