//! Many changes at once come out as the same changes one at a time.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// A row of the source: unique value and another one.
type Rows = BTreeMap<String, (Option<u32>, u32)>;

/// What a source with immediate constraints can do next; `None` if it would refuse.
fn step(random: &mut StdRng, rows: &mut Rows, def: &TableDef, full: bool) -> Option<Change> {
    let spell = |random: &mut StdRng, key: u32| {
        let key = format!("k{key}");
        if random.random_bool(0.3) { key.to_uppercase() } else { key }
    };
    let is = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let text = |unique: Option<u32>| unique.map_or("~".to_owned(), |unique| unique.to_string());
    let key = random.random_range(0..6);
    let key = spell(random, key);
    let unique = random.random_bool(0.8).then(|| random.random_range(0..8));
    let value = random.random_range(0..100);
    let taken = |rows: &Rows, but: &str| {
        unique.is_some() && rows.iter().any(|(k, (u, _))| *u == unique && !is(k, but))
    };
    let found = rows.keys().find(|k| is(k, &key)).cloned();
    match (random.random_range(0..10), found) {
        (0..3, None) if !taken(rows, "") => {
            rows.insert(key.clone(), (unique, value));
            Some(insert(def, &[&key, &text(unique), &value.to_string()]))
        }
        (3..5, Some(old)) => {
            rows.remove(&old);
            Some(delete(def, &[(0, &old)]))
        }
        (5..8, Some(old)) if !taken(rows, &old) => {
            let (before, after) = (rows.remove(&old)?, (unique, value));
            rows.insert(old.clone(), after);
            let (b, a) = ([old.as_str(), &text(before.0), &before.1.to_string()].map(str::to_owned), after);
            let new = [old.as_str(), &text(a.0), &a.1.to_string()].map(str::to_owned);
            let (b, new) = (b.each_ref().map(String::as_str), new.each_ref().map(String::as_str));
            Some(match full {
                true => change(def, &b, &new),
                false => partial(def, &[], &[(0, new[0]), (1, new[1])]),
            })
            .inspect(|_| {
                if !full {
                    // The value was not sent.
                    rows.get_mut(&old).unwrap().1 = before.1;
                }
            })
        }
        (8..10, Some(old)) => {
            let to = random.random_range(0..6);
            let to = spell(random, to);
            if rows.keys().any(|k| is(k, &to) && *k != old) {
                return None;
            }
            let (unique, value) = rows.remove(&old)?;
            rows.insert(to.clone(), (unique, value));
            let (unique, value) = (text(unique), value.to_string());
            Some(change(def, &[&old, &unique, &value], &[&to, &unique, &value]))
        }
        _ => None,
    }
}

async fn runs(seed: u64, setup: &str, full: bool) {
    let setup = setup.to_owned();
    Bed::each(&setup, async |mut bed| {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let t = table("t", &["k varchar(9)!", "u int(11)", "v int(11)"], &[0]);
        let mut rows = Rows::new();
        for offset in 1..=120 {
            let wanted = random.random_range(1..30);
            let changes: Vec<_> =
                (0..wanted * 3).filter_map(|_| step(&mut random, &mut rows, &t, full)).take(wanted).collect();
            let before = rows.len();
            if changes.is_empty() {
                continue;
            }
            // `take` stops the steps too, so the model has made no more than these.
            bed.commit(offset, changes.clone()).await;
            let expected: Vec<String> = rows
                .iter()
                .map(|(k, (u, v))| format!("{k}|{}|{v}", u.map_or("~".to_owned(), |u| u.to_string())))
                .collect();
            let found = bed.rows("SELECT * FROM t ORDER BY BINARY k").await;
            assert_eq!(found, expected, "seed {seed}, transaction {offset}: {changes:#?} ({before} rows)");
        }
    })
    .await;
}

const CASELESS: &str = "CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, u INT, v INT)";
const UNIQUE: &str =
    "CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, u INT UNIQUE, v INT)";
const OWN: &str = "CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, u INT UNIQUE, v INT,
    own INT INVISIBLE DEFAULT 1)";
/// Without an index on the key, and with a collation that is applied in order.
const ODD: &str = "CREATE TABLE t (k VARCHAR(9) COLLATE utf8mb4_latvian_ci, u INT, v INT, INDEX (k))";

#[tokio::test(flavor = "multi_thread")]
async fn full_rows_in_sets() {
    for seed in 0..2 {
        runs(seed, CASELESS, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_rows_in_sets() {
    runs(10, CASELESS, false).await;
    runs(11, UNIQUE, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_rows_with_unique_values() {
    for seed in 20..22 {
        runs(seed, UNIQUE, true).await;
        runs(seed, OWN, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_order() {
    runs(30, ODD, true).await;
    runs(31, ODD, false).await;
}
