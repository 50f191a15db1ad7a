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

/// What a transaction does, and to which key.
enum Change {
    Insert(u64),
    Update(u64),
    Delete(u64),
}

impl Change {
    /// Half inserts, three in ten updates, two in ten deletes.
    fn of(number: u64) -> Self {
        let (round, place) = (number / 10, number % 10);
        let inserted = BEFORE + round * 5;
        match place {
            0 | 2 | 4 | 6 | 8 => Self::Insert(inserted + place / 2 + 1),
            // Far behind the newest, far before the next to be removed.
            1 | 5 | 9 => Self::Update(inserted - BEFORE / 2 + place),
            _ => Self::Delete(round * 2 + u64::from(place == 7) + 1),
        }
    }

    fn sql(&self, kind: Kind) -> String {
        match *self {
            Self::Insert(id) => Shape::Usual.insert(kind, &name(1), id, id),
            Self::Update(id) => update(&name(1), id, id),
            Self::Delete(id) => delete(&name(1), id, id),
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
            source.commit(&[Change::of(n as u64).sql(kind), tick]).await;
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
            match Change::of(n) {
                Change::Insert(id) => assert!(rows.insert(id), "{n} inserts {id} again"),
                Change::Update(id) => assert!(rows.contains(&id), "{n} changes {id}, which is not there"),
                Change::Delete(id) => assert!(rows.remove(&id), "{n} removes {id}, which is not there"),
            }
        }
    }
}
