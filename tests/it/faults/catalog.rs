//! A catalog that answers late: the look for new tables waits at the source, and the stream goes on beside it.

use rowbridge_tests::scenario::PairOptions;
use tokio_postgres::Client;

use super::*;

const T: &str = "public.t";
const NEW: &str = "public.new";

async fn running() -> Pair {
    let pair = Pair::prepare(PairOptions::postgres()).await;
    pair.source_execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')").await;
    pair.start().await;
    pair.wait_equal(&[T]).await;
    pair
}

/// How many sessions of capture wait for what is held up.
const WAITING: &str = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.relation = 'pg_enum'::regclass AND NOT l.granted
      AND a.application_name IN ('rowbridge capture', 'rowbridge catalog')";

/// Holds looks into the catalog up until the session ends, and waits until one has come so far: it reads tables and columns
/// first, labels last. Nothing else reads labels where no column is of an enum.
async fn hold_up(pair: &Pair) -> Client {
    let holder = pair.source().await;
    holder.batch_execute("BEGIN; LOCK TABLE pg_catalog.pg_enum IN ACCESS EXCLUSIVE MODE").await.unwrap();
    wait::until("a look that waits", DEADLINE, || async {
        if source_value(pair, WAITING).await == "0" { Err("none does".to_owned()) } else { Ok(()) }
    })
    .await;
    holder
}

async fn wait_target(pair: &Pair, sql: &str, wanted: &str) {
    wait::until(&format!("{wanted} from {sql}"), DEADLINE, || async {
        let found = pair.target_cluster().query_text(DATABASE, sql).await.unwrap_or_default();
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// A table that is made now is found by the next look.
async fn new_table_arrives(pair: &Pair) {
    pair.source_execute("CREATE TABLE new (id int PRIMARY KEY, v text); INSERT INTO new VALUES (1, 'one')")
        .await;
    pair.wait_equal(&[T, NEW]).await;
    pair.source_execute("INSERT INTO new VALUES (2, 'two'); UPDATE new SET v = 'uno' WHERE id = 1").await;
    pair.wait_equal(&[T, NEW]).await;
    pair.wait_publisher().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_go_on_while_the_catalog_is_looked_at() {
    let pair = running().await;
    let holder = hold_up(&pair).await;
    for round in 2..=4 {
        pair.source_execute(&format!(
            "BEGIN; INSERT INTO t VALUES ({round}, 'x'); UPDATE t SET v = 'round {round}'; COMMIT"
        ))
        .await;
        wait_target(&pair, &format!("SELECT count(*) FROM t WHERE v = 'round {round}'"), &round.to_string())
            .await;
    }
    assert_ne!(source_value(&pair, WAITING).await, "0", "the look that was held up is over");
    drop(holder);
    new_table_arrives(&pair).await;
}

/// What the look has read is from before the ALTER. Taken in, it would have the table sent again with its old columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_from_before_an_alter_is_thrown_away() {
    let pair = running().await;
    pair.target_execute("ALTER TABLE t ADD COLUMN figure int").await;
    let holder = hold_up(&pair).await;
    let mark = pair.publisher().log().mark();
    pair.source_execute("ALTER TABLE t ADD COLUMN figure int; INSERT INTO t VALUES (2, 'two', 3)").await;
    wait_target(&pair, "SELECT figure FROM t WHERE id = 2", "3").await;
    drop(holder);
    new_table_arrives(&pair).await;
    let log = pair.publisher().log().since(mark);
    let again: Vec<_> = log.iter().filter(|line| line.contains("columns changed")).collect();
    assert_eq!(again.len(), 1, "{again:#?}");
}
