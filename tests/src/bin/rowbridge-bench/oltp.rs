//! Transactions at a fixed rate, and how long each takes until it is visible at the copy.

use std::time::{Duration, Instant};

use rowbridge_tests::scenario::Kind;

use super::arguments::{Crossing, number};
use super::bridge::Bridge;
use super::costs::Sample;
use super::report::{Latency, Measurement, System};
use super::tables::{Shape, delete, name, update};

/// Rows that are there before, so that there is something to change and to remove.
const BEFORE: u64 = 1_000;

/// Half inserts, three in ten updates, two in ten deletes, one row each.
fn change(kind: Kind, number: u64) -> String {
    let (round, place) = (number / 10, number % 10);
    let inserted = BEFORE + round * 5;
    match place {
        0 | 2 | 4 | 6 | 8 => {
            let id = inserted + place / 2 + 1;
            Shape::Usual.insert(kind, &name(1), id, id)
        }
        1 | 5 | 9 => {
            // Far behind the newest, far before the next to be removed.
            let id = inserted - BEFORE / 2 + place;
            update(&name(1), id, id)
        }
        _ => {
            let id = round * 2 + u64::from(place == 7) + 1;
            delete(&name(1), id, id)
        }
    }
}

/// Milliseconds from commit to visible. Each transaction also sets the row that the observer looks at: two changes.
pub(super) async fn oltp(crossing: Crossing, system: System) -> Measurement {
    let (rate, seconds) = (number("--rate", 500_u64), number("--seconds", 10_u64));
    let count = rate * seconds;
    let mut bridge = Bridge::start(crossing, system, Shape::Usual, 1).await;
    let kind = bridge.kind();
    bridge.fill([Shape::Usual.insert(kind, &name(1), 1, BEFORE)]).await;
    let (mut source, mut target) = (bridge.source().await, bridge.target().await);
    let ticks: Vec<String> = (0..count).map(|_| bridge.next_tick()).collect();
    let question = bridge.tick_query();
    let first = target.number(&question).await.unwrap();
    let costs = Sample::take(&bridge.pair, system).await;
    let started = Instant::now();
    let load = tokio::spawn(async move {
        let mut commits = Vec::with_capacity(count as usize);
        let mut pace = tokio::time::interval(Duration::from_secs(1) / rate as u32);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for (n, tick) in ticks.into_iter().enumerate() {
            pace.tick().await;
            source.commit(&[change(kind, n as u64), tick]).await;
            commits.push(Instant::now());
        }
        commits
    });
    let mut visible = Vec::with_capacity(count as usize);
    while (visible.len() as u64) < count {
        let last = target.number(&question).await.unwrap() - first;
        visible.resize((last as usize).max(visible.len()), Instant::now());
        // The runtime's timer counts in milliseconds, which is what is to be measured.
        tokio::task::block_in_place(|| std::thread::sleep(Duration::from_micros(100)));
    }
    let mut measurement = Measurement::new("oltp", &format!("{rate}/s"), &crossing.name(), system.name());
    measurement.seconds = started.elapsed().as_secs_f64();
    Sample::take(&bridge.pair, system).await.since(&costs, &bridge.pair, &mut measurement);
    let commits = load.await.unwrap();
    let waits = commits.iter().zip(&visible);
    let waits = waits.map(|(commit, seen)| seen.saturating_duration_since(*commit).as_secs_f64() * 1e3);
    measurement.latency = Some(Latency::of(waits.collect()));
    measurement.rows = 2 * count;
    bridge.verify().await;
    measurement
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_change_finds_its_row() {
        let mut rows: BTreeSet<u64> = (1..=BEFORE).collect();
        for n in 0..20_000 {
            let sql = change(Kind::Mariadb, n);
            let id: u64 = sql.rsplit(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| {
                // `... FROM (SELECT seq AS i FROM seq_1_to_1) AS s`
                sql.split("_to_").nth(1).unwrap().split(')').next().unwrap().parse().unwrap()
            });
            if sql.starts_with("INSERT") {
                assert!(rows.insert(id), "{sql}");
            } else if sql.starts_with("DELETE") {
                assert!(rows.remove(&id), "{sql}");
            } else {
                assert!(rows.contains(&id), "{sql}");
            }
        }
    }
}
