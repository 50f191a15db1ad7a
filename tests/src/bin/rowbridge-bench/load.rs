//! What the source is made to do: transactions, made while they are committed, the same for each database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::RngExt as _;
use rowbridge_tests::scenario::Kind;

use super::arguments::number;
use super::tables::{Shape, delete, insert_large, name, update};

/// Statements that are one transaction.
type Transaction = Vec<String>;

/// Keys of the `updates` load.
const FEW_KEYS: u64 = 100;
/// Bytes of a value of the `large` load, and characters: random bits, so that nothing on the way gets it smaller.
const LARGE_BYTES: usize = 1 << 20;

/// A workload that is committed as fast as one session can.
pub(super) struct Load {
    pub(super) shape: Shape,
    pub(super) tables: u64,
    /// Statements that make the rows that are there before anything is measured.
    pub(super) before: Vec<String>,
    pub(super) transactions: Box<dyn Iterator<Item = Transaction> + Send>,
    /// Changes in all.
    pub(super) rows: u64,
}

/// The names of [`load`].
pub(super) const LOADS: [&str; 6] = ["bulk", "wide", "large", "updates", "deletes", "transaction"];

/// A load by its name, as large as was asked for.
pub(super) fn load(workload: &str, kind: Kind) -> Option<Load> {
    Some(match workload {
        "bulk" => {
            inserts(kind, Shape::Usual, 1, number("--rows", 200_000), number("--per-transaction", 1_000))
        }
        "wide" => inserts(kind, Shape::Wide, 1, number("--rows", 20_000), number("--per-transaction", 100)),
        "transaction" => {
            let rows = number("--rows", 2_000_000);
            inserts(kind, Shape::Usual, 1, rows, rows)
        }
        "large" => large(kind, number("--rows", 200), number("--per-transaction", 1)),
        "updates" => updates(kind, number("--rows", 200_000)),
        "deletes" => deletes(kind, number("--rows", 200_000), number("--per-transaction", 1_000)),
        _ => return None,
    })
}

/// The keys from 1 on in pieces, first and last of each.
fn pieces(rows: u64, size: u64) -> impl Iterator<Item = (u64, u64)> + Send {
    let size = size.clamp(1, rows.max(1));
    (0..rows.div_ceil(size)).map(move |n| (n * size + 1, ((n + 1) * size).min(rows)))
}

/// Rows that pass before anything is measured, so that caches and plans are not: keys that no load has.
fn first_rows(kind: Kind, shape: Shape, tables: u64) -> Vec<String> {
    const FROM: u64 = 1 << 40;
    let count = if tables > 100 { 1 } else { 100 };
    (1..=tables).map(|table| shape.insert(kind, &name(table), FROM, FROM + count - 1)).collect()
}

/// New rows, each transaction into the next table.
pub(super) fn inserts(kind: Kind, shape: Shape, tables: u64, rows: u64, per_transaction: u64) -> Load {
    let transactions = pieces(rows, per_transaction)
        .zip((1..=tables).cycle())
        .map(move |((from, to), table)| vec![shape.insert(kind, &name(table), from, to)]);
    let before = first_rows(kind, shape, tables);
    Load { shape, tables, before, transactions: Box::new(transactions), rows }
}

fn large(kind: Kind, rows: u64, per_transaction: u64) -> Load {
    let row = |id| {
        let mut bytes = vec![0; LARGE_BYTES / 4 * 3];
        rand::rng().fill(&mut bytes[..]);
        insert_large(&name(1), id, &STANDARD_NO_PAD.encode(bytes))
    };
    let transactions = pieces(rows, per_transaction).map(move |(from, to)| (from..=to).map(row).collect());
    let before = first_rows(kind, Shape::Large, 1);
    Load { shape: Shape::Large, tables: 1, before, transactions: Box::new(transactions), rows }
}

/// Few rows, changed again and again: each transaction changes all of them once.
fn updates(kind: Kind, rows: u64) -> Load {
    let before = vec![Shape::Usual.insert(kind, &name(1), 1, FEW_KEYS)];
    let transactions = pieces(rows, FEW_KEYS).map(|(from, to)| vec![update(&name(1), 1, to - from + 1)]);
    Load { shape: Shape::Usual, tables: 1, before, transactions: Box::new(transactions), rows }
}

/// Rows that are there, removed.
fn deletes(kind: Kind, rows: u64, per_transaction: u64) -> Load {
    let before =
        pieces(rows, 10_000).map(|(from, to)| Shape::Usual.insert(kind, &name(1), from, to)).collect();
    let transactions = pieces(rows, per_transaction).map(|(from, to)| vec![delete(&name(1), from, to)]);
    Load { shape: Shape::Usual, tables: 1, before, transactions: Box::new(transactions), rows }
}
