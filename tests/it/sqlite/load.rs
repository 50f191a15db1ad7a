//! An application that writes whatever SQLite allows, on a connection and a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowbridge_tests::sqlite::SqliteFile;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Params, params};

/// Everything that [`SCHEMA`] makes.
pub(super) const TABLES: [&str; 7] = ["items", "lines", "orders", "loose", "maybe", "named", "typed"];

/// Another unique index, a cascade, no rowid, no key at all, a key that may be NULL, a key that compares without case, and
/// strict types.
pub(super) const SCHEMA: &str = "
    CREATE TABLE items (id INTEGER PRIMARY KEY, code TEXT UNIQUE, v, price REAL, data BLOB,
        note TEXT NOT NULL DEFAULT 'none');
    CREATE TABLE lines (id INTEGER PRIMARY KEY,
        item INTEGER REFERENCES items(id) ON DELETE CASCADE ON UPDATE CASCADE, n INT);
    CREATE TABLE orders (region TEXT, number INTEGER, total NUMERIC, v, PRIMARY KEY (region, number)) WITHOUT ROWID;
    CREATE TABLE loose (a, b TEXT, c REAL);
    CREATE TABLE maybe (k TEXT PRIMARY KEY, v);
    CREATE TABLE named (name TEXT NOT NULL COLLATE NOCASE PRIMARY KEY, n INTEGER, v);
    CREATE TABLE typed (id INTEGER PRIMARY KEY, i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT";

/// One writer.
#[derive(Debug)]
pub(super) struct Application {
    connection: Connection,
    random: StdRng,
}

impl Application {
    /// Opens the file.
    pub(super) fn open(file: &SqliteFile) -> Self {
        let seed: u64 = rand::rng().random();
        println!("the application's seed is {seed}");
        Self { connection: file.open(), random: StdRng::seed_from_u64(seed) }
    }

    /// Commits or rolls back so many transactions.
    pub(super) fn transactions(&mut self, count: u32) {
        for _ in 0..count {
            self.transaction();
        }
    }

    fn transaction(&mut self) {
        let mode = if self.random.random_bool(0.8) { "BEGIN IMMEDIATE" } else { "BEGIN EXCLUSIVE" };
        self.sql(mode);
        for _ in 0..self.below(6) + 1 {
            match self.below(10) {
                0 => self.undone(),
                _ => self.change(),
            }
        }
        let end = if self.random.random_bool(0.95) { "COMMIT" } else { "ROLLBACK" };
        self.sql(end);
    }

    /// A savepoint whose changes are taken back, with one inside that was released.
    fn undone(&mut self) {
        self.sql("SAVEPOINT outer_one");
        self.change();
        self.sql("SAVEPOINT inner_one");
        self.change();
        self.sql("RELEASE inner_one");
        self.sql("ROLLBACK TO outer_one");
        self.change();
        self.sql("RELEASE outer_one");
    }

    fn change(&mut self) {
        match self.below(7) {
            0 | 1 => self.items(),
            2 => self.lines(),
            3 => self.orders(),
            4 => self.keyless(),
            5 => self.named(),
            _ => self.typed(),
        }
    }

    fn items(&mut self) {
        let (id, other) = (self.below(400), self.below(400));
        let code = (self.below(8) > 0).then(|| format!("code {}", self.below(150)));
        let (v, price, data) = (self.value(), self.value(), self.value());
        match self.below(7) {
            0 => self.run(
                "INSERT OR IGNORE INTO items (id, code, v, price, data) VALUES (?, ?, ?, ?, ?)",
                params![id, code, v, price, data],
            ),
            1 => self.run(
                "INSERT OR REPLACE INTO items (id, code, v, price, data) VALUES (?, ?, ?, ?, ?)",
                params![id, code, v, price, data],
            ),
            2 => self.run(
                "INSERT INTO items (id, code, v, price) VALUES (?, ?, ?, ?)
                 ON CONFLICT (code) DO UPDATE SET v = excluded.v, note = note || 'c'
                 ON CONFLICT (id) DO UPDATE SET price = excluded.price, note = substr(note || 'i', -20)",
                params![id, code, v, price],
            ),
            3 => self.run("UPDATE OR REPLACE items SET code = ?, v = ? WHERE id = ?", params![code, v, id]),
            4 => self.run("UPDATE OR IGNORE items SET id = ? WHERE id = ?", params![other, id]),
            5 => self
                .run("UPDATE items SET data = ?, price = ? WHERE id % 50 = ?", params![data, price, id % 50]),
            _ => self.run("DELETE FROM items WHERE id BETWEEN ? AND ?", params![id, id + 3]),
        }
    }

    fn lines(&mut self) {
        let (id, item, n) = (self.below(600), self.below(400), self.value());
        match self.below(4) {
            0 | 1 => self.run("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", params![id, item, n]),
            2 => self.run("UPDATE OR REPLACE lines SET id = ?, n = ? WHERE item = ?", params![id, n, item]),
            _ => self.run("DELETE FROM lines WHERE id = ?", params![id]),
        }
    }

    fn orders(&mut self) {
        let (region, number) = (["north", "South", "öst"][self.below(3) as usize], self.below(80));
        let (total, v, other) = (self.value(), self.value(), self.below(80));
        match self.below(5) {
            0 | 1 => self.run(
                "INSERT INTO orders VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET total = excluded.total",
                params![region, number, total, v],
            ),
            2 => self.run("REPLACE INTO orders VALUES (?, ?, ?, ?)", params![region, number, total, v]),
            3 => self.run(
                "UPDATE OR REPLACE orders SET number = ?, v = ? WHERE (region, number) = (?, ?)",
                params![other, v, region, number],
            ),
            _ => self.run("DELETE FROM orders WHERE (region, number) = (?, ?)", params![region, number]),
        }
    }

    /// Few different values, so that rows have twins.
    fn keyless(&mut self) {
        let few = |random: &mut StdRng| match random.random_range(0..4) {
            0 => Value::Null,
            1 => Value::Real(1.0),
            _ => Value::Integer(random.random_range(0..4)),
        };
        let (a, b, c) = (few(&mut self.random), few(&mut self.random), self.value());
        let place = self.below(100);
        let key = (self.below(4) > 0).then(|| format!("k{}", self.below(40)));
        let one = "(SELECT rowid FROM loose LIMIT 1 OFFSET ?)";
        match self.below(8) {
            0 | 1 => self.run("INSERT INTO loose VALUES (?, ?, ?)", params![a, b, c]),
            2 => self.run("INSERT INTO loose SELECT a, b, c FROM loose LIMIT 2 OFFSET ?", params![place]),
            3 => self.run(
                &format!("UPDATE loose SET a = ?2 WHERE rowid = {}", one.replace('?', "?1")),
                params![place, a],
            ),
            4 => self.run(&format!("DELETE FROM loose WHERE rowid = {one}"), params![place]),
            5 => self.run("INSERT OR REPLACE INTO maybe VALUES (?, ?)", params![key, c]),
            6 => self.run(
                "UPDATE OR REPLACE maybe SET k = ? WHERE k = ?",
                params![key, format!("k{}", place % 40)],
            ),
            _ => self.run(
                "DELETE FROM maybe WHERE rowid = (SELECT max(rowid) FROM maybe) - ?",
                params![place % 8],
            ),
        }
    }

    fn named(&mut self) {
        let number = self.below(60);
        let name =
            if self.random.random_bool(0.5) { format!("Name{number}") } else { format!("nAME{number}") };
        let v = self.value();
        match self.below(5) {
            0 | 1 => self.run("REPLACE INTO named VALUES (?, ?, ?)", params![name, number, v]),
            2 => self.run(
                "INSERT INTO named VALUES (?, 0, ?) ON CONFLICT DO UPDATE SET name = upper(name), n = n + 1",
                params![name, v],
            ),
            3 => self.run("UPDATE named SET name = lower(name), v = ? WHERE name = ?", params![v, name]),
            _ => self.run("DELETE FROM named WHERE name = ?", params![name]),
        }
    }

    fn typed(&mut self) {
        let id = self.below(200);
        let any = self.value();
        let (i, r): (i64, f64) = (self.random.random(), self.random.random_range(-1e9..1e9));
        let bytes: Vec<u8> = (0..self.below(40)).map(|_| self.random.random()).collect();
        match self.below(4) {
            0 | 1 => self.run(
                "REPLACE INTO typed VALUES (?, ?, ?, ?, ?, ?)",
                params![id, i, r, format!("text \u{1f600} {i}"), bytes, any],
            ),
            2 => self.run("UPDATE typed SET a = ?, i = NULL, r = r * -1 WHERE id = ?", params![any, id]),
            _ => self.run("DELETE FROM typed WHERE id = ?", params![id]),
        }
    }

    /// Any storage class, with the values that are easily spoilt on the way.
    fn value(&mut self) -> Value {
        match self.below(12) {
            0 | 1 => Value::Null,
            2 => Value::Integer(self.random.random()),
            3 => Value::Integer([0, 1, i64::MIN, i64::MAX][self.below(4) as usize]),
            4 => Value::Real(self.random.random_range(-1e18..1e18)),
            5 => Value::Real(
                [-0.0, 1.0, 0.1, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY][self.below(6) as usize],
            ),
            6 => Value::Text(
                ["", "12", "1e3", "a\0b", "\"'\\\n", "straße \u{2603}"][self.below(6) as usize].to_owned(),
            ),
            7 => Value::Blob(Vec::new()),
            8 => Value::Blob((0..self.below(3_000)).map(|_| self.random.random()).collect()),
            _ => Value::Text(format!("text {}", self.below(1_000_000))),
        }
    }

    fn below(&mut self, end: i64) -> i64 {
        self.random.random_range(0..end)
    }

    fn sql(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A row that the schema refuses is a part of the load; anything else that fails is not.
    fn run(&self, sql: &str, params: impl Params) {
        let result = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        match result {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) => {
                panic!("{sql}: {error}");
            }
            _ => {}
        }
    }
}

/// An application at work.
#[derive(Debug)]
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Running {
    /// Starts to write, with a short rest after each transaction.
    pub(super) fn start(file: &SqliteFile) -> Self {
        let mut application = Application::open(file);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                application.transaction();
                count += 1;
                // A pace, not a wait.
                std::thread::sleep(Duration::from_millis(1));
            }
            count
        });
        Self { stop, thread }
    }

    /// Stops and says how many transactions there were.
    pub(super) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
