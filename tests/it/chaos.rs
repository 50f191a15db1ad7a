//! Everything that can go wrong, at random and all mixed, under a load that does not stop for it. In the end the copy equals
//! the source row for row, no process has ended by itself, and no more deliveries came twice than there were faults.
//!
//! A seed says which faults come when. `ROWBRIDGE_CHAOS_SEED` repeats one.

mod fault;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowbridge_tests::clock::Clock;
use rowbridge_tests::kills::repeated;
use rowbridge_tests::mariadb::ServerOptions;
use rowbridge_tests::metrics::{Metrics, http_client};
use rowbridge_tests::postgres::ClusterOptions;
use rowbridge_tests::scenario::{Kind, Pair, PairOptions};
use rowbridge_tests::size::{full, size};

pub(crate) use self::fault::Disk;
use self::fault::{Fault, Stranger};
use crate::load::{Running, TABLES, fill, schema};

type Counts = BTreeMap<Fault, u32>;

/// A run under faults.
struct Chaos<'p> {
    pair: &'p Pair,
    random: StdRng,
    /// Somebody else at the subscriber's address.
    stranger: Stranger,
    /// The publisher's own file system, where one can be made.
    disk: Option<Disk>,
    /// The clock of both ends, where it can be set.
    clock: Option<Clock>,
    /// How often each fault was there; 0 for one that did not come.
    counts: Counts,
    /// Deadlocks at the target with somebody else.
    deadlocks: u32,
    /// Deliveries that brought what the target had already, by subscriber processes that are gone.
    repeated: u32,
}

impl<'p> Chaos<'p> {
    fn new(pair: &'p Pair, seed: u64, disk: Option<Disk>, clock: Option<Clock>) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let (stranger, counts) = (Stranger::start(), Counts::new());
        let mut chaos = Self { pair, random, stranger, disk, clock, counts, deadlocks: 0, repeated: 0 };
        chaos.counts =
            Fault::ALL.into_iter().filter(|fault| fault.exists(&chaos)).map(|fault| (fault, 0)).collect();
        chaos
    }

    /// One fault after the other, each over before the next begins.
    async fn rage(&mut self, time: Duration) {
        let ends = Instant::now() + time;
        let mut faults: Vec<Fault> = self.counts.keys().copied().collect();
        while Instant::now() < ends {
            // All of them in a random order before any comes again: a short run meets each kind, as far as it gets.
            for at in (1..faults.len()).rev() {
                let other = self.random.random_range(0..=at);
                faults.swap(at, other);
            }
            for fault in &faults {
                if Instant::now() >= ends {
                    break;
                }
                self.rest(20..300).await;
                fault.happen(self).await;
                *self.counts.entry(*fault).or_default() += 1;
                self.nobody_ended();
            }
        }
    }

    /// A fault's own length, or the time between two.
    async fn rest(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = self.random.random_range(milliseconds);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn nobody_ended(&self) {
        for daemon in [self.pair.publisher(), self.pair.subscriber()] {
            assert!(daemon.is_running(), "a process has ended by itself: {}", daemon.last_lines());
        }
    }

    /// Counters die with their process.
    async fn count_repeated(&mut self) {
        self.repeated += repeated(self.pair).await as u32;
    }
}

/// Returns how often each fault was there, and how many deadlocks there were.
async fn run(options: PairOptions, seed: u64) -> (Counts, u32) {
    println!("seed {seed}");
    let source = options.kind;
    let pair = Pair::prepare(options).await;
    let disk = Disk::mount(pair.state_dir());
    pair.source_execute(schema(source)).await;
    pair.source_execute(&fill(source, size(5_000, 20_000))).await;
    // A file has one writer at a time.
    let load = Running::seeded(&pair, if source == Kind::Sqlite { 1 } else { 2 }, seed).await;
    let clock = Clock::find();
    if let Some(clock) = &clock {
        clock.hang_up(pair.publisher());
        clock.hang_up(pair.subscriber());
    }
    pair.start().await;
    let mut chaos = Chaos::new(&pair, seed, disk, clock);
    chaos.rage(Duration::from_secs(size(10, 30))).await;
    let transactions = load.stop().await;
    let patience = Duration::from_secs(size(90, 240));
    let ports = [pair.publisher_config.admin_port, pair.subscriber_config.admin_port];
    let telling = tokio::spawn(tell_after(patience - Duration::from_secs(5), ports));
    pair.wait_equal_within(&TABLES, patience).await;
    telling.abort();
    chaos.nobody_ended();
    chaos.count_repeated().await;
    let faults: u32 = chaos.counts.values().sum();
    println!(
        "seed {seed}: {transactions} transactions, {faults} faults, {} deadlocks, {} deliveries repeated; {:?}",
        chaos.deadlocks, chaos.repeated, chaos.counts
    );
    // A fault at the line may break several deliveries of one lane only one after the other.
    assert!(chaos.repeated <= faults, "more deliveries were repeated than there were faults");
    let metrics = Metrics::scrape(pair.publisher_config.admin_port).await.unwrap();
    assert_eq!(metrics.value("rowbridge_snapshot_pending_tables", &[("stream", "shop")]), Some(0.0));
    (chaos.counts, chaos.deadlocks)
}

/// Where both ends stand, shortly before nobody waits any longer: whether a change is still on its way, or will never come.
async fn tell_after(time: Duration, ports: [u16; 2]) {
    tokio::time::sleep(time).await;
    for port in ports {
        let answer = http_client().get(format!("http://127.0.0.1:{port}/metrics")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        text.lines()
            .filter(|line| line.starts_with("rowbridge_") && !line.contains("_bucket"))
            .for_each(|line| println!("{line}"));
    }
}

async fn seeds(source: Kind, target: Kind) {
    let seed = std::env::var("ROWBRIDGE_CHAOS_SEED").ok();
    let seeds: Vec<u64> = match seed {
        Some(seed) => vec![seed.parse().expect("ROWBRIDGE_CHAOS_SEED is a number")],
        None => (0..size(1, 20)).map(|_| rand::rng().random()).collect(),
    };
    let (mut counts, mut deadlocks) = (Counts::new(), 0);
    let runs = seeds.len();
    for seed in seeds {
        // Servers are killed, too: what they have committed must be on disk.
        let options = PairOptions {
            source: ClusterOptions::durable(),
            target: ClusterOptions::durable(),
            source_server: ServerOptions::durable(),
            target_server: ServerOptions::durable(),
            ..PairOptions::crossing(source, target)
        };
        let (of_run, deadlocks_of_run) = run(options.with_http_proxy().with_database_proxies(), seed).await;
        of_run.into_iter().for_each(|(fault, count)| *counts.entry(fault).or_default() += count);
        deadlocks += deadlocks_of_run;
    }
    let faults: u32 = counts.values().sum();
    println!("all {runs} seeds: {faults} faults, {deadlocks} deadlocks; {counts:?}");
    // A single run is too short to promise that.
    if full() && runs > 1 {
        let missed: Vec<&Fault> =
            counts.iter().filter(|(_, count)| **count == 0).map(|(fault, _)| fault).collect();
        assert!(missed.is_empty(), "never there: {missed:?}");
        assert!(target == Kind::Sqlite || deadlocks > 0, "no deadlock at the target");
    }
}

macro_rules! chaos {
    ($($name:ident: $source:ident to $target:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            seeds(Kind::$source, Kind::$target).await;
        })*
    };
}

chaos! {
    from_postgres_to_postgres: Postgres to Postgres;
    from_mariadb_to_mariadb: Mariadb to Mariadb;
    from_sqlite_to_sqlite: Sqlite to Sqlite;
    from_postgres_to_mariadb: Postgres to Mariadb;
    from_mariadb_to_sqlite: Mariadb to Sqlite;
}
