//! ALTER TABLE at the source while the bridge runs, from MariaDB to MariaDB and from MySQL 9 to MySQL 9: rows from before,
//! around and after the change keep their values in their columns, and where the target must be altered first, the lane
//! says how.

use rowbridge_tests::mariadb::{ServerOptions, Version};
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::wait::{self, DEADLINE};

use crate::faults::not_ready;

const T: [&str; 1] = ["shop.t"];

/// Letters and figures, so that a value in the wrong column cannot go unnoticed.
const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, letters VARCHAR(60), figure INT)";

async fn prepared(options: ServerOptions, schema: &str) -> Pair {
    let options =
        PairOptions { source_server: options.clone(), target_server: options, ..PairOptions::mariadb() };
    let pair = Pair::prepare(options).await;
    let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
        UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    pair.source_execute(schema).await;
    pair.source_execute(&format!(
        "INSERT INTO t (id, letters, figure) SELECT i, CONCAT('row ', i), i * 10 FROM
            (SELECT 1 + a.d + 10 * b.d + 100 * c.d AS i FROM {digits} a, {digits} b, {digits} c) n WHERE i <= 500"
    ))
    .await;
    pair.start().await;
    pair.wait_equal(&T).await;
    pair
}

async fn each(schema: &str, run: impl AsyncFn(Pair)) {
    for version in [Version::Installed, Version::MySql9] {
        let Some(options) = ServerOptions::of(version) else { continue };
        println!("{version:?}");
        run(prepared(options, schema).await).await;
    }
}

/// Runs at the target what `/readyz` told to, and lets the publisher ask again now instead of within a minute.
async fn alter_target_and_restart(pair: &Pair, sql: &str) {
    pair.target_execute(sql).await;
    pair.publisher().restart().await;
    pair.wait_equal(&T).await;
    pair.wait_publisher().await;
}

async fn target_text(pair: &Pair, sql: &str) -> String {
    pair.target_server().query_text(DATABASE, sql).await.unwrap_or_default()
}

async fn target_says(pair: &Pair, sql: &str, wanted: &str) {
    wait::until(&format!("{wanted:?} from {sql}"), DEADLINE, || async {
        let found = target_text(pair, sql).await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

/// The statement that `/readyz` names, up to what it says to everybody.
fn statement(text: &str) -> String {
    let start = text.rfind("ALTER TABLE").unwrap_or_else(|| panic!("no ALTER TABLE in {text}"));
    let end = text[start..].find(". Correct the target's").map_or(text.len(), |at| start + at);
    text[start..end].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_columns() {
    each(SCHEMA, async |pair| {
        pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
        // In the middle, where what follows moves to the right.
        pair.source_execute("ALTER TABLE t ADD COLUMN `the colour` VARCHAR(9) DEFAULT 'red' AFTER id").await;
        pair.source_execute(
            "INSERT INTO t VALUES (502, 'green', 'after', 2); UPDATE t SET figure = 77 WHERE id = 7",
        )
        .await;
        let text = not_ready(&pair, &["halted", "shop.t", "the colour", "ALTER TABLE"]).await;
        let alter = statement(&text);
        assert!(
            alter.starts_with("ALTER TABLE `shop`.`t` ADD COLUMN `the colour` varchar(9)"),
            "{alter} in {text}"
        );
        target_says(&pair, "SELECT COUNT(*) FROM t WHERE id = 501", "1").await;
        assert_eq!(target_text(&pair, "SELECT COUNT(*) FROM t WHERE id = 502").await, "0");
        alter_target_and_restart(&pair, &alter).await;
        assert_eq!(target_text(&pair, "SELECT COUNT(*) FROM t WHERE `the colour` = 'red'").await, "501");
        let row = "SELECT CONCAT_WS(',', id, `the colour`, letters, figure) FROM t WHERE id =";
        assert_eq!(target_text(&pair, &format!("{row} 502")).await, "502,green,after,2");
        assert_eq!(target_text(&pair, &format!("{row} 7")).await, "7,red,row 7,77");

        // The target first, with a default of its own: only what is sent again makes existing rows equal.
        pair.target_execute("ALTER TABLE t ADD COLUMN size INT DEFAULT 8").await;
        pair.source_execute("ALTER TABLE t ADD COLUMN size INT DEFAULT 3 FIRST").await;
        pair.source_execute("INSERT INTO t VALUES (4, 503, 'blue', 'last', 3)").await;
        pair.wait_equal(&T).await;
        assert_eq!(target_text(&pair, "SELECT COUNT(*) FROM t WHERE size = 3").await, "502");
        pair.wait_publisher().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_columns() {
    let schema = "CREATE TABLE t (id INT PRIMARY KEY, letters VARCHAR(60), must VARCHAR(9) NOT NULL DEFAULT 'm', figure INT)";
    each(schema, async |pair| {
        pair.source_execute("INSERT INTO t VALUES (501, 'before', 'm', 1)").await;
        pair.source_execute("ALTER TABLE t DROP COLUMN letters").await;
        pair.source_execute("INSERT INTO t VALUES (502, 'n', 2)").await;
        pair.source_execute("UPDATE t SET figure = 77 WHERE id = 7; DELETE FROM t WHERE id = 8").await;
        let all = "SELECT CONCAT(COUNT(*), ' ', SUM(figure), ' ', GROUP_CONCAT(DISTINCT must ORDER BY must)) FROM t";
        let wanted = pair.source_server().query_text(DATABASE, all).await.unwrap();
        target_says(&pair, all, &wanted).await;
        let row = "SELECT CONCAT(id, ',', COALESCE(letters, '-'), ',', must, ',', figure) FROM t WHERE id =";
        for (id, wanted) in [(501, "501,before,m,1"), (502, "502,-,n,2"), (7, "7,row 7,m,77")] {
            target_says(&pair, &format!("{row} {id}"), wanted).await;
        }
        pair.wait_publisher().await;
        // Once the operator has dropped it there, too, both are equal.
        pair.target_execute("ALTER TABLE t DROP COLUMN letters").await;
        pair.source_execute("INSERT INTO t VALUES (503, 'o', 3)").await;
        pair.wait_equal(&T).await;
        pair.wait_publisher().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_columns() {
    each(SCHEMA, async |pair| {
        pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
        pair.source_execute("ALTER TABLE t RENAME COLUMN letters TO word").await;
        pair.source_execute("INSERT INTO t VALUES (502, 'after', 2)").await;
        let add = "ALTER TABLE `shop`.`t` ADD COLUMN `word` varchar(60)";
        let rename = "ALTER TABLE `shop`.`t` RENAME COLUMN `letters` TO `word`";
        not_ready(&pair, &["halted", "shop.t", "word", add, rename]).await;
        alter_target_and_restart(&pair, rename).await;

        // Two columns that swap their names: the order stays, the meaning does not.
        pair.target_execute("ALTER TABLE t ADD COLUMN other VARCHAR(60)").await;
        pair.source_execute("ALTER TABLE t ADD COLUMN other VARCHAR(60) DEFAULT 'other'").await;
        pair.wait_equal(&T).await;
        pair.source_execute("INSERT INTO t VALUES (503, 'word', 3, 'other')").await;
        pair.source_execute("ALTER TABLE t RENAME COLUMN word TO other, RENAME COLUMN other TO word").await;
        pair.source_execute("INSERT INTO t VALUES (504, 'now other', 4, 'now word')").await;
        target_says(&pair, "SELECT CONCAT(word, ',', other) FROM t WHERE id = 504", "now word,now other")
            .await;
        target_says(&pair, "SELECT CONCAT(word, ',', other) FROM t WHERE id = 503", "other,word").await;
        pair.wait_equal(&T).await;
        pair.wait_publisher().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reordered_columns() {
    each(
        "CREATE TABLE t (id INT PRIMARY KEY, letters VARCHAR(60), other VARCHAR(60), figure INT)",
        async |pair| {
            pair.source_execute("INSERT INTO t VALUES (501, 'letters', 'other', 1)").await;
            pair.source_execute("ALTER TABLE t MODIFY other VARCHAR(60) AFTER id, MODIFY figure INT FIRST")
                .await;
            pair.source_execute(
                "INSERT INTO t VALUES (2, 502, 'other', 'letters'); UPDATE t SET letters = 'l' WHERE id = 9",
            )
            .await;
            pair.source_execute(
                "ALTER TABLE t MODIFY id INT AFTER letters; INSERT INTO t VALUES (3, 'o', 'l', 503)",
            )
            .await;
            pair.wait_equal(&T).await;
            let row = "SELECT CONCAT_WS(',', id, letters, other, figure) FROM t WHERE id =";
            for (id, wanted) in
                [(501, "501,letters,other,1"), (502, "502,letters,other,2"), (503, "503,l,o,3")]
            {
                assert_eq!(target_text(&pair, &format!("{row} {id}")).await, wanted);
            }
            pair.wait_publisher().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_types() {
    each(SCHEMA, async |pair| {
        pair.source_execute("INSERT INTO t VALUES (501, 'before', 1)").await;
        pair.source_execute("ALTER TABLE t MODIFY figure BIGINT UNSIGNED").await;
        pair.source_execute("INSERT INTO t VALUES (502, 'after', 18446744073709551615)").await;
        not_ready(&pair, &["halted", "shop.t", "figure", "out of range"]).await;
        alter_target_and_restart(&pair, "ALTER TABLE t MODIFY figure BIGINT UNSIGNED").await;

        // A type that the target's cannot hold is named with the statement.
        pair.source_execute(
            "UPDATE t SET figure = 5 WHERE id = 502; ALTER TABLE t MODIFY figure VARCHAR(30)",
        )
        .await;
        pair.source_execute("INSERT INTO t VALUES (503, 'after', 'no number')").await;
        let text =
            not_ready(&pair, &["halted", "shop.t", "figure", "MODIFY COLUMN `figure` varchar(30)"]).await;
        alter_target_and_restart(&pair, &statement(&text)).await;
        assert_eq!(target_text(&pair, "SELECT figure FROM t WHERE id = 5").await, "50");

        // The target first, where every row gets another value: nothing halts.
        pair.source_execute("DELETE FROM t WHERE id = 503; INSERT INTO t VALUES (504, 'before', '4')").await;
        pair.wait_equal(&T).await;
        pair.target_execute("ALTER TABLE t MODIFY figure DECIMAL(20,2)").await;
        pair.source_execute("ALTER TABLE t MODIFY figure DECIMAL(20,2)").await;
        pair.source_execute("UPDATE t SET figure = figure + 0.25 WHERE id < 100").await;
        pair.wait_equal(&T).await;
        assert_eq!(target_text(&pair, "SELECT figure FROM t WHERE id = 5").await, "50.25");
        pair.wait_publisher().await;
    })
    .await;
}

/// Nobody reads the log while rows and shapes change in turn: each row is read by the shape of its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_while_the_publisher_is_down() {
    each(SCHEMA, async |pair| {
        pair.publisher().terminate().await;
        // What the target needs in the end, and has to hold meanwhile.
        pair.target_execute(
            "ALTER TABLE t ADD COLUMN size BIGINT, ADD COLUMN word VARCHAR(60), MODIFY figure BIGINT",
        )
        .await;
        for sql in [
            "INSERT INTO t VALUES (501, 'first', 1); UPDATE t SET letters = 'old shape' WHERE id = 7",
            "ALTER TABLE t ADD COLUMN size BIGINT DEFAULT 3 FIRST",
            "INSERT INTO t VALUES (4, 502, 'second', 2); UPDATE t SET size = 5 WHERE id = 8",
            "ALTER TABLE t RENAME COLUMN figure TO swap, RENAME COLUMN size TO figure",
            "ALTER TABLE t RENAME COLUMN swap TO size",
            "INSERT INTO t VALUES (6, 503, 'third', 7); DELETE FROM t WHERE id = 9",
            "ALTER TABLE t MODIFY figure BIGINT AFTER letters, MODIFY size BIGINT",
            "INSERT INTO t VALUES (504, 'fourth', 8, 9); UPDATE t SET id = 1000 WHERE id = 10",
            "ALTER TABLE t RENAME COLUMN letters TO word",
            "INSERT INTO t VALUES (505, 'fifth', 10, 11)",
        ] {
            pair.source_execute(sql).await;
        }
        pair.publisher().start();
        let row = "SELECT CONCAT_WS(',', id, word, figure, size) FROM t WHERE id =";
        let ids = [501, 502, 503, 504, 505, 7, 8, 1000];
        for id in ids {
            let row = format!("{row} {id}");
            let wanted = pair.source_server().query_text(DATABASE, &row).await.unwrap();
            target_says(&pair, &row, &wanted).await;
        }
        let gone = "SELECT COUNT(*) FROM t WHERE id IN (9, 10)";
        assert_eq!(target_text(&pair, gone).await, "0");
        // `letters` is no column of the source any more.
        pair.target_execute("ALTER TABLE t DROP COLUMN letters").await;
        pair.wait_equal(&T).await;
        pair.wait_publisher().await;
    })
    .await;
}

/// The same while the lane lags: the publisher reads all along, the target gets everything at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_while_the_subscriber_is_down() {
    each(SCHEMA, async |pair| {
        pair.subscriber().terminate().await;
        pair.target_execute("ALTER TABLE t ADD COLUMN size BIGINT, MODIFY figure BIGINT").await;
        for sql in [
            "INSERT INTO t VALUES (501, 'first', 1); UPDATE t SET letters = 'old shape' WHERE id = 7",
            "ALTER TABLE t ADD COLUMN size BIGINT DEFAULT 3 FIRST",
            "INSERT INTO t VALUES (4, 502, 'second', 2); UPDATE t SET size = 5 WHERE id = 8",
            "ALTER TABLE t MODIFY figure BIGINT AFTER id, MODIFY size BIGINT AFTER letters",
            "INSERT INTO t VALUES (503, 6, 'third', 7); DELETE FROM t WHERE id = 9",
            "ALTER TABLE t DROP COLUMN size",
            "INSERT INTO t VALUES (504, 8, 'fourth'); UPDATE t SET id = 1000 WHERE id = 10",
            "ALTER TABLE t ADD COLUMN size BIGINT DEFAULT 12",
            "INSERT INTO t VALUES (505, 10, 'fifth', 13)",
        ] {
            pair.source_execute(sql).await;
        }
        pair.subscriber().start();
        pair.wait_subscriber().await;
        pair.wait_equal(&T).await;
        assert_eq!(target_text(&pair, "SELECT COUNT(*) FROM t WHERE size = 12").await, "503");
        pair.wait_publisher().await;
    })
    .await;
}

/// A unique index is the key, as long as it is there: each row is found as it could be found at its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_keys_that_come_and_go_while_the_publisher_is_down() {
    let schema =
        "CREATE TABLE t (id INT NOT NULL, letters VARCHAR(60), figure INT NOT NULL, UNIQUE by_id (id))";
    each(schema, async |pair| {
        // What Rowbridge has made refuses what the source has for a while.
        pair.target_execute("ALTER TABLE t DROP PRIMARY KEY, ADD INDEX (id)").await;
        // It believes in an index for a while.
        pair.subscriber().restart().await;
        pair.wait_subscriber().await;
        pair.source_execute("INSERT INTO t VALUES (601, 'one', 6), (602, 'other', 6), (603, 'third', 7)").await;
        pair.wait_equal(&T).await;
        pair.publisher().terminate().await;
        for sql in [
            // By what is the key later, two rows would be meant.
            "UPDATE t SET letters = 'changed' WHERE id = 601; DELETE FROM t WHERE id = 602",
            "ALTER TABLE t DROP INDEX by_id",
            // By what was the key before and is again, these are one row.
            "INSERT INTO t VALUES (601, 'twin', 8), (603, 'twin', 9); UPDATE t SET figure = 99 WHERE letters = 'twin' AND id = 601",
            "UPDATE t SET letters = 'thrice' WHERE figure = 7; DELETE FROM t WHERE letters = 'twin'",
            "INSERT INTO t VALUES (700, 'same', 1), (700, 'same', 1), (700, 'same', 1); DELETE FROM t WHERE id = 700 LIMIT 2",
            "CREATE UNIQUE INDEX by_figure ON t (figure)",
            "UPDATE t SET id = 5 WHERE figure = 6; UPDATE t SET id = 5 WHERE figure = 80; DELETE FROM t WHERE figure = 90",
            "DROP INDEX by_figure ON t",
            "UPDATE t SET id = 1005 WHERE figure = 6; UPDATE t SET figure = 6 WHERE id = 3; UPDATE t SET id = 8 WHERE figure = 80",
            "ALTER TABLE t ADD UNIQUE by_id (id)",
            "UPDATE t SET letters = 'last' WHERE id = 3; UPDATE t SET letters = 'moved', id = 1006 WHERE id = 1005; DELETE FROM t WHERE id = 4",
        ] {
            pair.source_execute(sql).await;
        }
        pair.publisher().start();
        pair.wait_equal(&T).await;
        pair.wait_publisher().await;
        // What is logged from now on has its key again, and so has what is read.
        pair.source_execute("UPDATE t SET letters = 'now' WHERE id = 3; UPDATE t SET id = 1007 WHERE id = 1006").await;
        pair.wait_equal(&T).await;
    })
    .await;
}

/// The same while the stream is read all along, and the table is sent again in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_keys_that_come_and_go_while_the_stream_is_read() {
    let schema =
        "CREATE TABLE t (id INT NOT NULL, letters VARCHAR(60), figure INT NOT NULL, UNIQUE by_id (id))";
    each(schema, async |pair| {
        pair.target_execute("ALTER TABLE t DROP PRIMARY KEY, ADD INDEX (id)").await;
        // It believes in an index for a while.
        pair.subscriber().restart().await;
        pair.wait_subscriber().await;
        for round in 0..10 {
            let twin = 700 + round;
            for sql in [
                format!("UPDATE t SET letters = 'keyed {round}' WHERE id % 10 = {round}"),
                "ALTER TABLE t DROP INDEX by_id".to_owned(),
                format!("INSERT INTO t VALUES (1, 'twin', {twin}), (2, 'twin', {twin}); UPDATE t SET letters = 'more' WHERE figure = {twin} AND id = 2"),
                format!("DELETE FROM t WHERE figure = {twin}; ALTER TABLE t ADD UNIQUE by_id (id)"),
                format!("UPDATE t SET figure = figure + 1 WHERE id = {round} + 1; INSERT INTO t VALUES ({twin}, 'new', 0)"),
                "ALTER TABLE t FORCE".to_owned(),
            ] {
                pair.source_execute(&sql).await;
            }
        }
        pair.wait_equal(&T).await;
        pair.wait_publisher().await;
    })
    .await;
}
