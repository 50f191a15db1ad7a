//! What newer servers have and the installed ones have not. Each needs a server of `tests/servers`, and says so without it.

use rowbridge_tests::postgres::ClusterOptions;
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};

/// A publication may carry stored generated columns since PostgreSQL 18, and must where REPLICA IDENTITY FULL is to name
/// rows. The copy computes its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_generated_columns_are_computed_by_the_copy() {
    let (Some(source), Some(target)) = (ClusterOptions::version(18), ClusterOptions::version(18)) else {
        return;
    };
    let pair = Pair::prepare(PairOptions { source, target, ..PairOptions::postgres() }).await;
    pair.source_execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE t (twice int GENERATED ALWAYS AS (a * 2) STORED, id int PRIMARY KEY, a int,
                         thrice int GENERATED ALWAYS AS (a * 3) VIRTUAL, m mood DEFAULT 'sad', b text);
         CREATE TABLE whole (a int, shout text GENERATED ALWAYS AS (upper(b)) STORED, b text);
         ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE loose (a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL);
         ALTER TABLE loose REPLICA IDENTITY FULL;
         INSERT INTO t (id, a, b) SELECT i, i, 'b' || i FROM generate_series(1, 100) i;
         INSERT INTO whole (a, b) SELECT i, 'b' || i FROM generate_series(1, 100) i",
    )
    .await;
    pair.start().await;
    let tables = ["public.t", "public.whole"];
    pair.wait_equal(&tables).await;
    let changes = |n: i32| {
        format!(
            "INSERT INTO t (id, a, b) SELECT i, i, repeat('long', 2000) FROM generate_series({n}, {n} + 20) i;
             UPDATE t SET a = a + 1, m = 'happy' WHERE id % 3 = 0;
             UPDATE t SET id = id + 1000 WHERE id IN ({n}, {n} - 97);
             DELETE FROM t WHERE id % 10 = 9;
             INSERT INTO whole (a, b) VALUES ({n}, repeat('long', 2000));
             UPDATE whole SET a = a + 1 WHERE a > {n} - 120;
             UPDATE whole SET b = b || '!' WHERE a % 5 = 0;
             DELETE FROM whole WHERE a % 10 = 7"
        )
    };
    pair.source_execute(&changes(200)).await;
    pair.wait_equal(&tables).await;
    // The server refuses the application's updates of a published table whose virtual columns would name its rows.
    pair.source_execute("INSERT INTO loose VALUES (1), (2); UPDATE loose SET a = 3 WHERE a = 1").await;
    // As it was made by an earlier version.
    let sql = "SELECT pubname::text FROM pg_publication WHERE pubgencols = 's'";
    let name =
        pair.source_cluster().query_text(DATABASE, sql).await.expect("a publication with generated columns");
    pair.source_execute("DELETE FROM whole WHERE a % 10 = 3").await;
    pair.publisher().terminate().await;
    let unset = format!("ALTER PUBLICATION \"{name}\" SET (publish_generated_columns = none)");
    pair.source_execute(&unset).await;
    pair.publisher().start();
    pair.wait_publisher().await;
    assert_eq!(pair.source_cluster().query_text(DATABASE, sql).await, Some(name));
    pair.source_execute(&changes(300)).await;
    pair.wait_equal(&tables).await;
    pair.publisher().restart().await;
    pair.source_execute(&changes(400)).await;
    pair.wait_equal(&tables).await;
}
