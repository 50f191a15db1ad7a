//! The application whose database is copied: a small shop with customers, products, stock, orders and reviews. Every run
//! does the same, as its dice are seeded.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::names;

/// The schema is an application's own: foreign keys that cascade, unique columns, keys of one and two columns, tables with
/// and without rowid, every storage class.
const SCHEMA: &str = "
    CREATE TABLE customers (
        id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, city TEXT,
        spent_cents INTEGER NOT NULL DEFAULT 0, discount REAL, avatar BLOB, created_at TEXT NOT NULL);
    CREATE TABLE products (
        sku TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, price_cents INTEGER NOT NULL CHECK (price_cents > 0),
        weight_kg REAL NOT NULL, active INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
    CREATE TABLE stock (
        sku TEXT PRIMARY KEY REFERENCES products (sku) ON UPDATE CASCADE ON DELETE CASCADE,
        quantity INTEGER NOT NULL, counted_at TEXT NOT NULL);
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY, number TEXT NOT NULL UNIQUE,
        customer_id INTEGER NOT NULL REFERENCES customers (id) ON UPDATE CASCADE,
        status TEXT NOT NULL CHECK (status IN ('placed', 'paid', 'shipped')),
        total_cents INTEGER NOT NULL, note TEXT, placed_at TEXT NOT NULL);
    CREATE TABLE order_items (
        order_id INTEGER NOT NULL REFERENCES orders (id) ON UPDATE CASCADE ON DELETE CASCADE,
        line INTEGER NOT NULL,
        sku TEXT NOT NULL REFERENCES products (sku) ON UPDATE CASCADE,
        quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, PRIMARY KEY (order_id, line));
    CREATE TABLE reviews (
        id INTEGER PRIMARY KEY, sku TEXT NOT NULL REFERENCES products (sku) ON UPDATE CASCADE ON DELETE CASCADE,
        customer_id INTEGER REFERENCES customers (id) ON UPDATE CASCADE ON DELETE SET NULL,
        stars INTEGER NOT NULL, text TEXT, UNIQUE (sku, customer_id));
    CREATE TABLE heartbeats (id INTEGER PRIMARY KEY, at TEXT NOT NULL);
    CREATE INDEX order_items_by_sku ON order_items (sku);
    CREATE INDEX orders_by_customer ON orders (customer_id);
    CREATE INDEX reviews_by_customer ON reviews (customer_id);";

const CUSTOMERS: i64 = 300;
const PRODUCTS: i64 = 150;
/// Heartbeats that stay: older ones go in bulk.
const HEARTBEATS: i64 = 2_000;

/// What was done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
}

/// Rows inserted, updated and deleted by the shop's own statements, by table; what cascades from them comes on top.
pub(super) type Tally = BTreeMap<&'static str, [u64; 3]>;

/// The application's connection and dice.
#[derive(Debug)]
pub(super) struct Shop {
    db: Connection,
    dice: StdRng,
    tally: Tally,
    skus: Vec<String>,
    next_customer: i64,
    next_order: i64,
    next_product: i64,
    next_heartbeat: i64,
}

impl Shop {
    /// Opens a new shop with customers, products and a few orders.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;",
        )?;
        db.execute_batch(SCHEMA)?;
        db.set_prepared_statement_cache_capacity(64);
        let mut shop = Self {
            db,
            dice: StdRng::seed_from_u64(7),
            tally: Tally::new(),
            skus: Vec::new(),
            next_customer: 1,
            next_order: 1,
            next_product: 1,
            next_heartbeat: 1,
        };
        shop.db.execute_batch("BEGIN")?;
        for _ in 0..CUSTOMERS {
            shop.new_customer()?;
        }
        for _ in 0..PRODUCTS {
            shop.new_product()?;
        }
        for _ in 0..CUSTOMERS {
            shop.place_order()?;
            shop.review()?;
        }
        shop.db.execute_batch("COMMIT")?;
        shop.tally.clear();
        Ok(shop)
    }

    /// One transaction: something that happens in a shop, and a heartbeat. `before_commit` hears the heartbeat's number.
    /// After an error nothing of it has happened.
    pub(super) fn trade(&mut self, before_commit: impl FnOnce(i64)) -> rusqlite::Result<()> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let (skus, tally) = (self.skus.clone(), self.tally.clone());
        let done = self.happen().and_then(|()| {
            let id = self.beat()?;
            before_commit(id);
            self.db.execute_batch("COMMIT")
        });
        if done.is_err() {
            let _ = self.db.execute_batch("ROLLBACK");
            (self.skus, self.tally) = (skus, tally);
        }
        done
    }

    /// What was written since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn happen(&mut self) -> rusqlite::Result<()> {
        match self.dice.random_range(0..100) {
            0..32 => self.place_order(),
            32..54 => self.advance_order(),
            54..60 => self.cancel_order(),
            60..69 => self.new_customer(),
            69..73 => self.change_email(),
            73..75 => self.swap_emails(),
            75..78 => self.remove_customer(),
            78..84 => self.change_price(),
            84..87 => self.restock(),
            87..89 => self.rename_sku(),
            89..90 => self.renumber_order(),
            90..91 => self.replace_product(),
            _ => self.review(),
        }
    }

    fn run(
        &mut self,
        table: &'static str,
        op: Op,
        sql: &'static str,
        params: impl Params,
    ) -> rusqlite::Result<usize> {
        let rows = self.db.prepare_cached(sql)?.execute(params)?;
        self.tally.entry(table).or_default()[op as usize] += rows as u64;
        Ok(rows)
    }

    fn beat(&mut self) -> rusqlite::Result<i64> {
        let id = self.next_heartbeat;
        self.next_heartbeat += 1;
        self.db.prepare_cached("INSERT INTO heartbeats VALUES (?1, ?2)")?.execute(params![id, now()])?;
        if id % (HEARTBEATS / 2) == 0 {
            self.db.prepare_cached("DELETE FROM heartbeats WHERE id <= ?1")?.execute([id - HEARTBEATS])?;
        }
        Ok(id)
    }

    /// A row at random, without reading them all: the first at or above a random key.
    fn some_id(&mut self, sql: &'static str, below: i64) -> rusqlite::Result<Option<i64>> {
        let from = self.dice.random_range(0..below.max(1));
        self.db.prepare_cached(sql)?.query_row([from], |row| row.get(0)).optional()
    }

    fn some_customer(&mut self) -> rusqlite::Result<Option<i64>> {
        self.some_id("SELECT id FROM customers WHERE id >= ?1 ORDER BY id LIMIT 1", self.next_customer)
    }

    fn some_order(&mut self) -> rusqlite::Result<Option<i64>> {
        self.some_id("SELECT id FROM orders WHERE id >= ?1 ORDER BY id LIMIT 1", self.next_order)
    }

    fn some_sku(&mut self) -> String {
        let index = self.dice.random_range(0..self.skus.len());
        self.skus[index].clone()
    }

    fn new_customer(&mut self) -> rusqlite::Result<()> {
        let id = self.next_customer;
        self.next_customer += 1;
        let avatar: Option<Vec<u8>> = (id % 3 == 0).then(|| self.dice.random::<[u8; 24]>().to_vec());
        let discount: Option<f64> = (id % 4 == 0).then(|| self.dice.random_range(0.0..0.3));
        let values =
            params![id, names::email(id), names::person(id), names::city(id), discount, avatar, now()];
        self.run(
            "customers",
            Op::Insert,
            "INSERT INTO customers (id, email, name, city, discount, avatar, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            values,
        )?;
        Ok(())
    }

    fn new_product(&mut self) -> rusqlite::Result<()> {
        let number = self.next_product;
        self.next_product += 1;
        let sku = format!("SKU-{number:05}");
        let (price, weight) = (self.dice.random_range(199..49_999), self.dice.random_range(0.05..40.0));
        self.run(
            "products",
            Op::Insert,
            "INSERT INTO products (sku, name, price_cents, weight_kg) VALUES (?1, ?2, ?3, ?4)",
            params![sku, names::product(number), price, weight],
        )?;
        self.run("stock", Op::Insert, "INSERT INTO stock VALUES (?1, 500, ?2)", params![sku, now()])?;
        self.skus.push(sku);
        Ok(())
    }

    fn place_order(&mut self) -> rusqlite::Result<()> {
        let Some(customer) = self.some_customer()? else { return Ok(()) };
        let id = self.next_order;
        self.next_order += 1;
        let note = (id % 5 == 0).then_some("leave at the door\nring twice");
        self.run(
            "orders",
            Op::Insert,
            "INSERT INTO orders VALUES (?1, ?2, ?3, 'placed', 0, ?4, ?5)",
            params![id, format!("R-{id:07}"), customer, note, now()],
        )?;
        for line in 1..=self.dice.random_range(1..=5) {
            let (sku, quantity) = (self.some_sku(), self.dice.random_range(1..4));
            self.run(
                "order_items",
                Op::Insert,
                "INSERT INTO order_items
                 SELECT ?1, ?2, sku, ?4, price_cents FROM products WHERE sku = ?3",
                params![id, line, sku, quantity],
            )?;
            self.run(
                "stock",
                Op::Update,
                "UPDATE stock SET quantity = quantity - ?2 WHERE sku = ?1",
                params![sku, quantity],
            )?;
        }
        self.run(
            "orders",
            Op::Update,
            "UPDATE orders SET total_cents =
                 (SELECT sum(quantity * price_cents) FROM order_items WHERE order_id = ?1) WHERE id = ?1",
            [id],
        )?;
        self.run(
            "customers",
            Op::Update,
            "UPDATE customers SET spent_cents = spent_cents + (SELECT total_cents FROM orders WHERE id = ?2)
             WHERE id = ?1",
            [customer, id],
        )?;
        Ok(())
    }

    fn advance_order(&mut self) -> rusqlite::Result<()> {
        let Some(id) = self.some_order()? else { return Ok(()) };
        self.run(
            "orders",
            Op::Update,
            "UPDATE orders SET status = CASE status WHEN 'placed' THEN 'paid' ELSE 'shipped' END WHERE id = ?1",
            [id],
        )?;
        Ok(())
    }

    /// The order's lines go by cascade.
    fn cancel_order(&mut self) -> rusqlite::Result<()> {
        let Some(id) = self.some_order()? else { return Ok(()) };
        self.run(
            "stock",
            Op::Update,
            "UPDATE stock SET quantity = stock.quantity + items.quantity
             FROM (SELECT sku, sum(quantity) AS quantity FROM order_items WHERE order_id = ?1 GROUP BY sku) AS items
             WHERE items.sku = stock.sku",
            [id],
        )?;
        self.run("orders", Op::Delete, "DELETE FROM orders WHERE id = ?1", [id])?;
        Ok(())
    }

    fn change_email(&mut self) -> rusqlite::Result<()> {
        let Some(id) = self.some_customer()? else { return Ok(()) };
        let email = format!("{}.{}", self.dice.random_range(0..1_000_000_000), names::email(id));
        self.run(
            "customers",
            Op::Update,
            "UPDATE customers SET email = ?2 WHERE id = ?1",
            params![id, email],
        )?;
        Ok(())
    }

    /// Two rows exchange the value of a unique column, by way of a third value.
    fn swap_emails(&mut self) -> rusqlite::Result<()> {
        let (Some(one), Some(other)) = (self.some_customer()?, self.some_customer()?) else { return Ok(()) };
        if one == other {
            return Ok(());
        }
        let email = |id: i64| {
            self.db
                .prepare_cached("SELECT email FROM customers WHERE id = ?1")?
                .query_row([id], |row| row.get::<_, String>(0))
        };
        let (first, second) = (email(one)?, email(other)?);
        for (id, email) in [(one, "between"), (other, first.as_str()), (one, second.as_str())] {
            let values = params![id, email];
            self.run("customers", Op::Update, "UPDATE customers SET email = ?2 WHERE id = ?1", values)?;
        }
        Ok(())
    }

    /// Their reviews stay without a name; customers with orders stay.
    fn remove_customer(&mut self) -> rusqlite::Result<()> {
        let Some(id) = self.some_customer()? else { return Ok(()) };
        self.run(
            "customers",
            Op::Delete,
            "DELETE FROM customers WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM orders WHERE customer_id = ?1)",
            [id],
        )?;
        Ok(())
    }

    fn change_price(&mut self) -> rusqlite::Result<()> {
        let (sku, factor) = (self.some_sku(), self.dice.random_range(0.8..1.25));
        self.run(
            "products",
            Op::Update,
            "UPDATE products SET price_cents = max(1, CAST(price_cents * ?2 AS INTEGER)) WHERE sku = ?1",
            params![sku, factor],
        )?;
        Ok(())
    }

    /// Many rows with one statement.
    fn restock(&mut self) -> rusqlite::Result<()> {
        let below = self.dice.random_range(300..480);
        self.run(
            "stock",
            Op::Update,
            "UPDATE stock SET quantity = quantity + 100, counted_at = ?2 WHERE quantity < ?1",
            params![below, now()],
        )?;
        Ok(())
    }

    /// A key changes, and with it every row that refers to it.
    fn rename_sku(&mut self) -> rusqlite::Result<()> {
        let index = self.dice.random_range(0..self.skus.len());
        let (base, version) = match self.skus[index].split_once(".v") {
            Some((base, version)) => (base.to_owned(), version.parse::<u32>().unwrap_or(1)),
            None => (self.skus[index].clone(), 1),
        };
        let renamed = format!("{base}.v{}", version + 1);
        let values = params![self.skus[index].clone(), renamed];
        self.run("products", Op::Update, "UPDATE products SET sku = ?2 WHERE sku = ?1", values)?;
        self.skus[index] = renamed;
        Ok(())
    }

    fn renumber_order(&mut self) -> rusqlite::Result<()> {
        let Some(id) = self.some_order()? else { return Ok(()) };
        let to = self.next_order;
        self.next_order += 1;
        self.run("orders", Op::Update, "UPDATE orders SET id = ?2 WHERE id = ?1", [id, to])?;
        Ok(())
    }

    /// A product that nobody ordered makes room for a new one of the same name.
    fn replace_product(&mut self) -> rusqlite::Result<()> {
        self.new_product()?;
        let sku = self.some_sku();
        let gone = self.run(
            "products",
            Op::Delete,
            "DELETE FROM products WHERE sku = ?1 AND NOT EXISTS (SELECT 1 FROM order_items WHERE sku = ?1)",
            [&sku],
        )?;
        if gone > 0 {
            self.skus.retain(|known| *known != sku);
        }
        Ok(())
    }

    /// A customer has one opinion of a product: a second one replaces the first, which is gone without a DELETE.
    fn review(&mut self) -> rusqlite::Result<()> {
        let Some(customer) = self.some_customer()? else { return Ok(()) };
        // Few products are talked about, so that opinions do get replaced.
        let sku = self.skus[self.dice.random_range(0..self.skus.len().min(20))].clone();
        let (stars, words) =
            (self.dice.random_range(1..=5), names::verdict(self.dice.random_range(0..1_000)));
        self.run(
            "reviews",
            Op::Insert,
            "INSERT OR REPLACE INTO reviews (sku, customer_id, stars, text) VALUES (?1, ?2, ?3, nullif(?4, ''))",
            params![sku, customer, stars, words],
        )?;
        Ok(())
    }
}

/// Milliseconds since 1970 as text: an application's own clock, not ours.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_trades_without_errors_and_touches_every_table_in_every_way() {
        let folder = tempfile::tempdir().unwrap();
        let mut shop = Shop::open(&folder.path().join("shop.db")).unwrap();
        let mut beats = Vec::new();
        for _ in 0..3_000 {
            shop.trade(|beat| beats.push(beat)).unwrap();
        }
        assert_eq!(beats, (1..=3_000).collect::<Vec<_>>());
        let tally = shop.take_tally();
        for (table, ops) in [
            ("customers", [true, true, true]),
            ("products", [true, true, false]),
            ("stock", [true, true, false]),
            ("orders", [true, true, true]),
            ("order_items", [true, false, false]),
            ("reviews", [true, false, false]),
        ] {
            let done = tally[table].map(|rows| rows > 0);
            assert!(
                ops.iter().zip(done).all(|(wanted, done)| done || !wanted),
                "{table}: {:?}",
                tally[table]
            );
        }
        let broken: Option<String> =
            shop.db.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional().unwrap();
        assert_eq!(broken, None);
        let replaced: i64 =
            shop.db.query_row("SELECT max(id) - count(*) FROM reviews", [], |row| row.get(0)).unwrap();
        assert!(replaced > 0, "REPLACE took no row's place");
    }
}
