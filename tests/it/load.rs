//! An application that writes whatever its database allows, into tables whose values every target can hold: one load for
//! all kinds of source.

mod schema;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowbridge_tests::scenario::{Kind, Pair};
use tokio::task::JoinHandle;

pub(crate) use self::schema::{TABLES, fill, schema};
use self::session::{Outcome, Session};

/// One writer.
pub(crate) struct Application {
    kind: Kind,
    session: Session,
    random: StdRng,
}

impl Application {
    /// Connects to the source.
    pub(crate) async fn open(pair: &Pair) -> Self {
        let seed: u64 = rand::rng().random();
        println!("the application's seed is {seed}");
        Self::seeded(pair, seed).await
    }

    async fn seeded(pair: &Pair, seed: u64) -> Self {
        let (kind, session) = (pair.source_kind(), Session::open(pair).await);
        Self { kind, session, random: StdRng::seed_from_u64(seed) }
    }

    /// Commits or rolls back so many transactions.
    pub(crate) async fn transactions(&mut self, count: u32) {
        for _ in 0..count {
            self.transaction().await;
        }
    }

    /// What becomes of one that the server breaks off is the server's business: the copy has to do the same.
    async fn transaction(&mut self) {
        // SQLite would not let a reader become a writer.
        let begin = if self.kind == Kind::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let Outcome::Done = self.session.run(begin).await else { return };
        for _ in 0..self.below(6) + 1 {
            let sql = match self.below(10) {
                0 => self.undone(),
                _ => self.change(),
            };
            for statement in sql {
                if self.session.attempt(&statement).await == Outcome::Over {
                    // PostgreSQL waits to hear that we know.
                    self.session.run("ROLLBACK").await;
                    return;
                }
            }
        }
        let end = if self.random.random_bool(0.95) { "COMMIT" } else { "ROLLBACK" };
        self.session.run(end).await;
    }

    /// A savepoint whose changes are taken back, with one inside that was released.
    fn undone(&mut self) -> Vec<String> {
        let mut sql = vec!["SAVEPOINT outer_one".to_owned()];
        sql.extend(self.change());
        sql.push("SAVEPOINT inner_one".into());
        sql.extend(self.change());
        sql.push("RELEASE SAVEPOINT inner_one".into());
        sql.push("ROLLBACK TO SAVEPOINT outer_one".into());
        sql.extend(self.change());
        sql.push("RELEASE SAVEPOINT outer_one".into());
        sql
    }

    fn change(&mut self) -> Vec<String> {
        match self.below(9) {
            0..=2 => self.items(),
            3 | 4 => self.orders(),
            5 => self.keyless(),
            6 => self.named(),
            7 if self.kind == Kind::Mariadb => self.several_tables(),
            _ => self.typed(),
        }
    }

    fn items(&mut self) -> Vec<String> {
        let (id, other) = (self.below(400), self.below(400));
        let code = match self.below(8) {
            0 => "NULL".to_owned(),
            _ => format!("'code {}'", self.below(150)),
        };
        let (price, ratio, data) = (self.money(), self.real(), self.bytes());
        let row = format!("({id}, {code}, {price}, {ratio}, {data})");
        let into = "INTO items (id, code, price, ratio, data) VALUES";
        let sql = match self.below(8) {
            0 => self.insert_ignore(into, &row),
            1 => match self.kind {
                Kind::Postgres => {
                    return vec![
                        format!("DELETE FROM items WHERE id = {id} OR code = {code}"),
                        format!("INSERT {into} {row}"),
                    ];
                }
                _ => format!("REPLACE {into} {row}"),
            },
            2 => match self.kind {
                // By the key or by the other index, whichever row it meets first.
                Kind::Mariadb => format!(
                    "INSERT {into} {row} ON DUPLICATE KEY UPDATE price = VALUES(price), note = RIGHT(CONCAT(note, 'd'), 20)"
                ),
                _ => format!(
                    "INSERT {into} {row} ON CONFLICT (id) DO UPDATE SET price = excluded.price,
                     note = substr(items.note || 'i', 1, 20)"
                ),
            },
            3 => format!("UPDATE items SET code = {code}, ratio = {ratio} WHERE id = {id}"),
            4 => format!("UPDATE items SET id = {other} WHERE id = {id}"),
            5 => format!(
                "UPDATE items SET data = {data}, price = {price} WHERE id < 400 AND id % 50 = {}",
                id % 50
            ),
            6 => return self.swap(),
            _ => format!("DELETE FROM items WHERE id BETWEEN {id} AND {}", id + 3),
        };
        vec![sql]
    }

    /// Two rows exchange what must be unique.
    fn swap(&mut self) -> Vec<String> {
        let (a, b) = (self.below(150), self.below(150));
        let step = |from: &str, to: &str| format!("UPDATE items SET code = '{to}' WHERE code = '{from}'");
        let (a, b) = (format!("code {a}"), format!("code {b}"));
        vec![step(&a, "between"), step(&b, &a), step("between", &b)]
    }

    fn orders(&mut self) -> Vec<String> {
        let (region, number) = (["north", "South", "öst"][self.below(3) as usize], self.below(80));
        let (total, v, other) = (self.random.random::<i64>(), self.text(), self.below(80));
        let into = "INTO orders (region, number, total, v) VALUES";
        let row = format!("('{region}', {number}, {total}, {v})");
        let sql = match self.below(5) {
            0 | 1 => match self.kind {
                Kind::Mariadb => format!("INSERT {into} {row} ON DUPLICATE KEY UPDATE total = VALUES(total)"),
                _ => format!(
                    "INSERT {into} {row} ON CONFLICT (region, number) DO UPDATE SET total = excluded.total"
                ),
            },
            2 => self.insert_ignore(into, &row),
            3 => format!(
                "UPDATE orders SET number = {other}, v = {v} WHERE region = '{region}' AND number = {number}"
            ),
            _ => format!("DELETE FROM orders WHERE region = '{region}' AND number = {number}"),
        };
        vec![sql]
    }

    /// Few different values, so that rows have twins.
    fn keyless(&mut self) -> Vec<String> {
        let a = ["NULL", "0", "1", "2"][self.below(4) as usize];
        let b = ["NULL", "'b'", "''"][self.below(3) as usize];
        let c = if self.below(2) == 0 { "0.1".to_owned() } else { self.real() };
        let kind = self.kind;
        let one = |what: &str| match kind {
            Kind::Mariadb => format!("{what} WHERE a = 1 LIMIT 1"),
            Kind::Postgres => format!("{what} WHERE ctid = (SELECT min(ctid) FROM loose WHERE a = 1)"),
            Kind::Sqlite => format!("{what} WHERE rowid = (SELECT min(rowid) FROM loose WHERE a = 1)"),
        };
        let sql = match self.below(40) {
            // Ends a transaction of MariaDB. PostgreSQL 15 cannot always decode a TRUNCATE that was under way when its slot
            // was made ("could not map filenode"), and then never gets beyond it.
            0 if self.kind == Kind::Mariadb => "TRUNCATE TABLE loose".to_owned(),
            0 => "DELETE FROM loose".to_owned(),
            1..=15 => format!("INSERT INTO loose VALUES ({a}, {b}, {c})"),
            16..=20 => "INSERT INTO loose SELECT a, b, c FROM loose LIMIT 2".to_owned(),
            21..=28 => one(&format!("UPDATE loose SET a = {a}, c = {c}")),
            _ => one("DELETE FROM loose"),
        };
        vec![sql]
    }

    /// A key that compares without case where the kind has such.
    fn named(&mut self) -> Vec<String> {
        let number = self.below(60);
        let name = if self.below(2) == 0 { format!("Name{number}") } else { format!("nAME{number}") };
        let v = self.text();
        let into = "INTO named (name, n, v) VALUES";
        let row = format!("('{name}', {number}, {v})");
        let sql = match self.below(5) {
            0 if self.kind != Kind::Postgres => format!("REPLACE {into} {row}"),
            0 | 1 => self.insert_ignore(into, &row),
            2 if self.kind == Kind::Mariadb => {
                format!("INSERT {into} {row} ON DUPLICATE KEY UPDATE name = UPPER(name), n = n + 1")
            }
            2 => format!("UPDATE named SET name = upper(name), n = n + 1 WHERE name = '{name}'"),
            3 => format!("UPDATE named SET name = lower(name), v = {v} WHERE name = '{name}'"),
            _ => format!("DELETE FROM named WHERE name = '{name}'"),
        };
        vec![sql]
    }

    /// One statement that writes two tables.
    fn several_tables(&mut self) -> Vec<String> {
        let (from, text) = (self.below(80), self.text());
        let join = format!(
            "items JOIN orders ON orders.region = 'north' AND orders.number = items.id AND items.id BETWEEN {from} AND {}",
            from + 3
        );
        vec![match self.below(3) {
            0 => format!("DELETE items, orders FROM {join}"),
            _ => format!("UPDATE {join} SET items.note = 'both', orders.v = {text}"),
        }]
    }

    fn typed(&mut self) -> Vec<String> {
        let id = self.below(200);
        let into = format!("INTO typed ({}) VALUES", schema::TYPED.join(", "));
        let row = self.typed_row(id);
        let sql = match self.below(4) {
            0 | 1 if self.kind != Kind::Postgres => format!("REPLACE {into} {row}"),
            0 | 1 => {
                return vec![format!("DELETE FROM typed WHERE id = {id}"), format!("INSERT {into} {row}")];
            }
            2 => format!("UPDATE typed SET small = NULL, txt = {} WHERE id = {id}", self.text()),
            _ => format!("DELETE FROM typed WHERE id = {id}"),
        };
        vec![sql]
    }

    fn typed_row(&mut self, id: i64) -> String {
        let (year, month, day) = (self.below(120) + 1975, self.below(12) + 1, self.below(28) + 1);
        let (hour, second, micro) = (self.below(24), self.below(60), self.below(1_000_000));
        let date = format!("{year}-{month:02}-{day:02}");
        // Before 2038, where MariaDB's TIMESTAMP ends.
        let stamp = format!("{}-{month:02}-{day:02} {hour:02}:00:{second:02}.{micro:06}", year.min(2037));
        let (small, flag) = (self.below(256) - 128, self.below(2) == 1);
        let flag = match (self.kind, flag) {
            (Kind::Postgres, flag) => flag.to_string(),
            (_, flag) => u8::from(flag).to_string(),
        };
        let large: u64 = match self.kind {
            Kind::Sqlite => self.random.random_range(0..=i64::MAX as u64),
            _ => self.random.random(),
        };
        let single: f32 = self.random.random_range(-1e9..1e9);
        let bits = format!("{:010b}", self.below(1024));
        let bits = match self.kind {
            Kind::Sqlite => format!("'{bits}'"),
            _ => format!("b'{bits}'"),
        };
        let (bytes, text, real) = (self.bytes(), self.text(), self.real());
        let mood = ["sad", "ok", "it''s"][self.below(3) as usize];
        let day_time = format!("{hour:02}:{second:02}:{second:02}.{:03}", micro / 1000);
        format!(
            "({id}, {small}, {large}, {flag}, '{date}', '{day_time}', '{stamp}', '{stamp}', {single:e}, {real}, {bits}, \
             {bytes}, 'c{id}', {text}, '{mood}', '{{\"n\": [{id}, null]}}')"
        )
    }

    fn insert_ignore(&self, into: &str, row: &str) -> String {
        match self.kind {
            Kind::Mariadb => format!("INSERT IGNORE {into} {row}"),
            Kind::Postgres => format!("INSERT {into} {row} ON CONFLICT DO NOTHING"),
            Kind::Sqlite => format!("INSERT OR IGNORE {into} {row}"),
        }
    }

    fn money(&mut self) -> String {
        let cents = self.random.random_range(-99_999_999_999_i64..=99_999_999_999);
        let money =
            format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
        // A number would become a float there, and lose its last zero.
        if self.kind == Kind::Sqlite { format!("'{money}'") } else { money }
    }

    fn real(&mut self) -> String {
        match self.below(6) {
            0 => "NULL".into(),
            1 => ["0.1", "1e300", "2.2250738585072014e-308", "-1e-5"][self.below(4) as usize].into(),
            _ => format!("{:e}", self.random.random_range(-1e18_f64..1e18)),
        }
    }

    fn bytes(&mut self) -> String {
        let length = if self.below(10) == 0 { self.below(3_000) } else { self.below(30) };
        let digits: String = (0..length).map(|_| format!("{:02x}", self.random.random::<u8>())).collect();
        if self.kind == Kind::Postgres { format!("'\\x{digits}'") } else { format!("x'{digits}'") }
    }

    fn text(&mut self) -> String {
        let text = match self.below(10) {
            0 => return "NULL".into(),
            1 => ["", "12", " ", "\"'\\\n\t", "straße \u{2603}", "\u{1f600}"][self.below(6) as usize]
                .to_owned(),
            2 => "long ".repeat(self.below(100) as usize + 1),
            _ => format!("text {}", self.below(1_000_000)),
        };
        let text = text.replace('\'', "''");
        if self.kind == Kind::Mariadb {
            format!("'{}'", text.replace('\\', "\\\\"))
        } else {
            format!("'{text}'")
        }
    }

    fn below(&mut self, end: i64) -> i64 {
        self.random.random_range(0..end)
    }
}

/// Applications at work.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Running {
    /// Starts so many, each with a session of its own and a short rest after each transaction.
    pub(crate) async fn start(pair: &Pair, writers: usize) -> Self {
        let seed: u64 = rand::rng().random();
        println!("the applications' seed is {seed}");
        Self::seeded(pair, writers, seed).await
    }

    /// The same, each with a seed that follows from `seed`.
    pub(crate) async fn seeded(pair: &Pair, writers: usize, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for writer in 0..writers {
            let mut application = Application::seeded(pair, seed.wrapping_add(writer as u64)).await;
            let stopped = Arc::clone(&stop);
            tasks.push(tokio::spawn(async move {
                let mut count = 0;
                while !stopped.load(Ordering::Relaxed) {
                    application.transaction().await;
                    count += 1;
                    // A pace, not a wait.
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                count
            }));
        }
        Self { stop, tasks }
    }

    /// Stops them and says how many transactions there were.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for task in self.tasks {
            count += task.await.unwrap();
        }
        count
    }
}
