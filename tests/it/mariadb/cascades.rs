//! What foreign keys do to other rows while these are being sent, for the first time and again. MariaDB logs the parent's
//! change only, so that nothing in the log says which rows of a range that was read before are not so any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowbridge_publisher::state::{Request, request};
use rowbridge_tests::mariadb::{ServerOptions, Version};
use rowbridge_tests::metrics::wait_for;
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use rowbridge_tests::size::size;
use tokio::task::JoinHandle;

/// By name, children come before their parents. In `tree` a row's parent lies behind it, and it refers to itself.
const SCHEMA: &str =
    "CREATE TABLE parents (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL UNIQUE, filler VARCHAR(300));
     CREATE TABLE children (id INT PRIMARY KEY, parent INT, code VARCHAR(20), filler VARCHAR(300),
        FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE,
        FOREIGN KEY (code) REFERENCES parents (code) ON DELETE SET NULL ON UPDATE CASCADE);
     CREATE TABLE grandchildren (child INT, n INT, filler VARCHAR(300), PRIMARY KEY (child, n),
        FOREIGN KEY (child) REFERENCES children (id) ON DELETE CASCADE ON UPDATE CASCADE);
     CREATE TABLE leaves (parent INT, v INT, KEY (parent),
        FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE SET NULL);
     CREATE TABLE tree (id INT PRIMARY KEY, up INT, filler VARCHAR(300),
        FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)";

const TABLES: [&str; 5] = ["shop.parents", "shop.children", "shop.grandchildren", "shop.leaves", "shop.tree"];

/// Rows of `parents`, `children` and `tree` in the beginning.
const PARENTS: i64 = 3_000;
const CHILDREN: i64 = 30_000;
const TREE: i64 = 20_000;

fn patience() -> Duration {
    Duration::from_secs(size(120, 400))
}

fn numbers(count: i64) -> String {
    let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
        UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    format!(
        "(SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d AS i
            FROM {digits} a, {digits} b, {digits} c, {digits} d, {digits} e) n WHERE i <= {count}"
    )
}

/// Each parent has children all over the table, each row of the tree those of half its distance from the end.
async fn fill(pair: &Pair) {
    let filler = "REPEAT('x', 280)";
    pair.source_execute(&format!(
        "INSERT INTO parents SELECT i, CONCAT('c', i), {filler} FROM {parents};
         INSERT INTO children SELECT i, 1 + i % {PARENTS}, CONCAT('c', 1 + i * 7 % {PARENTS}), {filler} FROM {children};
         INSERT INTO grandchildren SELECT i, 1, {filler} FROM {children};
         INSERT INTO leaves SELECT 1 + i % {PARENTS}, i FROM {parents};
         INSERT INTO tree SELECT i, NULLIF({TREE} + 1 - ({TREE} + 1 - i) DIV 2, {TREE} + 1), {filler} FROM {tree}
            ORDER BY i DESC",
        parents = numbers(PARENTS),
        children = numbers(CHILDREN),
        tree = numbers(TREE),
    ))
    .await;
}

/// Changes parents until told to stop: what follows from it, the foreign keys do.
struct Family {
    conn: Conn,
    random: StdRng,
    fresh: i64,
}

impl Family {
    /// A row at or behind a random place, by its key.
    fn some(&mut self, beyond: i64) -> String {
        format!("WHERE id >= {} ORDER BY id LIMIT 1", self.random.random_range(1..beyond))
    }

    fn change(&mut self) -> String {
        self.fresh += 1;
        let (id, filler) = (self.fresh, "REPEAT('n', 280)");
        let (one, other) = (self.some(PARENTS), self.some(CHILDREN));
        match self.random.random_range(0..9) {
            0 => format!("DELETE FROM parents {one}"),
            1 => format!("UPDATE parents SET id = {id} {one}"),
            2 => format!("UPDATE parents SET code = 'm{id}' {one}"),
            3 => format!("UPDATE children SET id = {id} {other}"),
            4 => format!("DELETE FROM children {other}"),
            5 => format!(
                "BEGIN; INSERT INTO parents VALUES ({id}, 'p{id}', {filler});
                 INSERT INTO children SELECT 100000000 + {id} * 10 + s.n, {id}, 'p{id}', {filler} FROM
                    (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3) s;
                 INSERT INTO grandchildren VALUES (100000000 + {id} * 10, 1, 'g'), (100000002 + {id} * 10, 2, 'g');
                 INSERT INTO leaves VALUES ({id}, {id}); COMMIT"
            ),
            6 => format!("DELETE FROM tree {}", self.some(TREE)),
            // Under the row that comes last.
            7 => format!(
                "UPDATE tree SET up = (SELECT last FROM (SELECT MAX(id) AS last FROM tree) x) {}",
                self.some(TREE)
            ),
            _ => format!("INSERT INTO tree SELECT {}, id, {filler} FROM tree {}", -id, self.some(TREE)),
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> u64 {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let sql = self.change();
            match self.conn.query_drop(&sql).await {
                Ok(()) => count += 1,
                // Another writer's locks.
                Err(mysql_async::Error::Server(error)) if matches!(error.code, 1205 | 1213) => {
                    self.conn.query_drop("ROLLBACK").await.unwrap();
                }
                Err(error) => panic!("{sql}: {error}"),
            }
            // A pace, not a wait.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        count
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Load {
    /// `round`: keys of one are not those of another.
    async fn start(pair: &Pair, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..2 {
            let conn = pair.source_server().connect(DATABASE).await;
            let number = 2 * round + writer;
            let random = StdRng::seed_from_u64(number);
            let fresh = 1_000_000 * (1 + number as i64);
            tasks.push(tokio::spawn(Family { conn, random, fresh }.run(Arc::clone(&stop))));
        }
        Self { stop, tasks }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for task in self.tasks {
            count += task.await.unwrap();
        }
        count
    }
}

async fn pending(pair: &Pair, some: bool) {
    let port = pair.publisher_config.admin_port;
    wait_for(port, "rowbridge_snapshot_pending_tables", &[], patience(), |tables| (tables > 0.0) == some)
        .await;
}

async fn cascades_meet_ranges_under_way(options: PairOptions, before: &str) {
    let pair = Pair::prepare(options).await;
    pair.source_execute(SCHEMA).await;
    pair.target_execute(SCHEMA).await;
    pair.source_execute(before).await;
    fill(&pair).await;
    let load = Load::start(&pair, 0).await;
    pair.start().await;
    pending(&pair, false).await;
    let first = load.stop().await;
    pair.wait_equal_within(&TABLES, patience()).await;
    let load = Load::start(&pair, 1).await;
    for _ in 0..size(2, 10) {
        request(pair.state_dir(), &Request::Snapshot(TABLES.map(str::to_owned).to_vec())).unwrap();
        pending(&pair, true).await;
        pending(&pair, false).await;
    }
    let again = load.stop().await;
    println!("{first} and {again} transactions");
    assert!(first > 50 && again > 50, "the application was held up");
    pair.wait_equal_within(&TABLES, patience()).await;
    pair.wait_publisher().await;
}

/// MariaDB tells the log position of a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_meet_ranges_under_way_in_mariadb() {
    cascades_meet_ranges_under_way(PairOptions::mariadb(), "DO 0").await;
}

/// It does not once an XA transaction was committed: ranges are read under a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_meet_ranges_that_are_locked() {
    let xa = "CREATE TABLE decided (id INT PRIMARY KEY);
        XA START 'x'; INSERT INTO decided VALUES (1); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'";
    cascades_meet_ranges_under_way(PairOptions::mariadb(), xa).await;
}

/// MySQL up to 9.5 leaves cascades to its engine, and later ones do where they are told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_meet_ranges_under_way_in_mysql() {
    let Some(server) = ServerOptions::of(Version::MySql9) else { return };
    let server = server.set("innodb-native-foreign-keys", "ON");
    let options =
        PairOptions { source_server: server.clone(), target_server: server, ..PairOptions::mariadb() };
    cascades_meet_ranges_under_way(options, "DO 0").await;
}
