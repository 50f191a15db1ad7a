//! `rowbridge-bench WORKLOAD [--kind KIND] [--pairs N]`: Rowbridge beside the replication of PostgreSQL or MariaDB itself,
//! or an SQLite application with Rowbridge beside one without, or webhooks beside a sender written by hand, the same work on
//! the same machine in the same run. Prints one line per measurement and a summary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program: fail loudly"
)]

mod mariadb;
mod rates;
mod snapshot;
mod sqlite;
mod webhooks;

use std::time::{Duration, Instant};

use rowbridge_tests::postgres::ClusterOptions;
use rowbridge_tests::scenario::{DATABASE, Pair, PairOptions};
use tokio_postgres::Client;

const TABLE: &str = "CREATE TABLE bench (id bigint PRIMARY KEY, note text, amount numeric, at timestamptz, data jsonb, ok boolean)";
const VALUES: &str =
    "SELECT i, 'note number ' || i, i * 1.25, now(), jsonb_build_object('n', i, 'tag', 'abc'), i % 2 = 0";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum System {
    Native,
    Rowbridge,
}

fn durable() -> ClusterOptions {
    ClusterOptions::durable()
        .set("shared_buffers", "512MB")
        .set("max_wal_size", "4GB")
        .set("synchronous_commit", "on")
}

/// Durable servers, and nothing between them yet.
async fn prepare() -> Pair {
    let mut options = PairOptions::postgres();
    options.source = durable();
    options.target = durable();
    Pair::prepare(options).await
}

/// A running replication of table `bench`, by one of the two.
async fn bridge(system: System) -> Pair {
    let pair = prepare().await;
    pair.source_execute(TABLE).await;
    pair.target_execute(TABLE).await;
    match system {
        System::Native => {
            pair.source_execute("CREATE PUBLICATION bench FOR TABLE bench").await;
            let url = pair.source_cluster().url(DATABASE);
            pair.target_execute(&format!("CREATE SUBSCRIPTION bench CONNECTION '{url}' PUBLICATION bench"))
                .await;
            let target = pair.target().await;
            loop {
                let sql = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
                if target.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        System::Rowbridge => pair.start().await,
    }
    // The first rows pass before anything is measured: caches, plans and snapshots are out of the way.
    pair.source_execute(&format!("INSERT INTO bench {VALUES} FROM generate_series(-100, -1) i")).await;
    let target = pair.target().await;
    while target.query_one("SELECT count(*) FROM bench", &[]).await.unwrap().get::<_, i64>(0) < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pair
}

/// Rows per second from the first commit to the last row visible.
async fn bulk(system: System, rows: i64, per_transaction: i64) -> f64 {
    let pair = bridge(system).await;
    let source = pair.source().await;
    let target = pair.target().await;
    let insert = source
        .prepare(&format!("INSERT INTO bench {VALUES} FROM generate_series($1::bigint, $2::bigint) i"))
        .await
        .unwrap();
    let load = tokio::spawn(async move {
        let mut first = None;
        let mut from = 1;
        while from <= rows {
            source.execute(&insert, &[&from, &(from + per_transaction - 1)]).await.unwrap();
            first.get_or_insert_with(Instant::now);
            from += per_transaction;
        }
        (first.unwrap(), Instant::now())
    });
    let seen = target.prepare("SELECT 1 FROM bench WHERE id = $1").await.unwrap();
    while target.query(&seen, &[&rows]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let end = Instant::now();
    let (first, loaded) = load.await.unwrap();
    let rate = rows as f64 / (end - first).as_secs_f64();
    println!(
        "bulk {system:?}: {rate:.0} rows/s ({:.2} s, load alone {:.2} s)",
        (end - first).as_secs_f64(),
        (loaded - first).as_secs_f64()
    );
    if system == System::Rowbridge {
        snapshot::costs(&pair);
    }
    rate
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Milliseconds from commit to visible, p50 and p99, at a fixed rate of single-row transactions.
async fn oltp(system: System, per_second: u32, seconds: u32) -> (f64, f64) {
    let pair = bridge(system).await;
    let source = pair.source().await;
    let target: Client = pair.target().await;
    let count = i64::from(per_second * seconds);
    let insert = source
        .prepare(&format!("INSERT INTO bench {VALUES} FROM generate_series($1::bigint, $1::bigint) i"))
        .await
        .unwrap();
    let load = tokio::spawn(async move {
        let mut commits = Vec::with_capacity(count as usize);
        let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        for id in 1..=count {
            tick.tick().await;
            source.execute(&insert, &[&id]).await.unwrap();
            commits.push(Instant::now());
        }
        commits
    });
    let seen = target.prepare("SELECT coalesce(max(id), 0) FROM bench WHERE id > $1").await.unwrap();
    let mut visible = Vec::with_capacity(count as usize);
    while (visible.len() as i64) < count {
        let last: i64 = target.query_one(&seen, &[&(visible.len() as i64)]).await.unwrap().get(0);
        let now = Instant::now();
        while (visible.len() as i64) < last {
            visible.push(now);
        }
        // The runtime's timer counts in milliseconds, which is what is to be measured.
        tokio::task::block_in_place(|| std::thread::sleep(Duration::from_micros(100)));
    }
    let commits = load.await.unwrap();
    let mut waits: Vec<f64> = commits
        .iter()
        .zip(&visible)
        .map(|(commit, seen)| seen.saturating_duration_since(*commit).as_secs_f64() * 1e3)
        .collect();
    waits.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&waits, 0.5), percentile(&waits, 0.99));
    println!("oltp {system:?}: p50 {p50:.2} ms, p99 {p99:.2} ms at {per_second}/s");
    (p50, p99)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text_argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn argument(name: &str, default: i64) -> i64 {
    text_argument(name).map_or(default, |text| text.parse().expect("a whole number"))
}

const USAGE: &str = "usage: rowbridge-bench bulk|oltp [--kind postgres|mariadb] [--pairs N] [--rows N] [--rate N] [--seconds N]
       rowbridge-bench catchup [--pairs N] [--rows N]
       rowbridge-bench rates [--rows N]
       rowbridge-bench snapshot|sqlite [--pairs N] [--rows N] [--rate N] [--seconds N]
       rowbridge-bench webhooks [--pairs N] [--events N] [--only strict|key|none|endpoints]";

fn usage() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2);
}

fn main() {
    let workload = std::env::args().nth(1).unwrap_or_default();
    // A process that `webhooks` starts.
    if workload == "receiver" {
        return webhooks::receiver::serve();
    }
    measure(&workload);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn measure(workload: &str) {
    let pairs = argument("--pairs", 3);
    let mariadb = match text_argument("--kind").as_deref() {
        None | Some("postgres") => false,
        Some("mariadb") => true,
        Some(_) => usage(),
    };
    match workload {
        "bulk" => {
            let rows = argument("--rows", 200_000);
            let mut ratios = Vec::new();
            for _ in 0..pairs {
                let mut rates = [0.0; 2];
                for (rate, system) in rates.iter_mut().zip([System::Native, System::Rowbridge]) {
                    *rate = match mariadb {
                        true => mariadb::bulk(system, rows, 1_000).await,
                        false => bulk(system, rows, 1_000).await,
                    };
                }
                ratios.push(rates[1] / rates[0]);
            }
            println!("bulk: median of Rowbridge / native over {pairs} pairs: {:.2}", median(ratios));
        }
        "catchup" => {
            let rows = argument("--rows", 1_000_000);
            let mut ratios = Vec::new();
            for _ in 0..pairs {
                let native = mariadb::catchup(System::Native, rows, 1_000).await;
                let ours = mariadb::catchup(System::Rowbridge, rows, 1_000).await;
                ratios.push(ours / native);
            }
            println!("catchup: median of Rowbridge / native over {pairs} pairs: {:.2}", median(ratios));
        }
        "rates" => rates::rates(argument("--rows", 200_000) as usize).await,
        "oltp" => {
            let (rate, seconds) = (argument("--rate", 500) as u32, argument("--seconds", 10) as u32);
            let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
            for _ in 0..pairs {
                let mut waits = [(0.0, 0.0); 2];
                for (wait, system) in waits.iter_mut().zip([System::Native, System::Rowbridge]) {
                    *wait = match mariadb {
                        true => mariadb::oltp(system, rate, seconds).await,
                        false => oltp(system, rate, seconds).await,
                    };
                }
                p50s.push(waits[1].0 / waits[0].0);
                p99s.push(waits[1].1 / waits[0].1);
            }
            println!(
                "oltp: median of Rowbridge / native over {pairs} pairs: p50 {:.2}, p99 {:.2}",
                median(p50s),
                median(p99s)
            );
        }
        "snapshot" => {
            let rows = argument("--rows", 500_000);
            let mut ratios = Vec::new();
            for _ in 0..pairs {
                let native = snapshot::snapshot(System::Native, rows).await;
                let ours = snapshot::snapshot(System::Rowbridge, rows).await;
                ratios.push(ours / native);
            }
            println!("snapshot: median of Rowbridge / native over {pairs} pairs: {:.2}", median(ratios));
        }
        "sqlite" => {
            let (rate, seconds) = (argument("--rate", 200) as u32, argument("--seconds", 10) as u32);
            sqlite::sqlite(pairs, argument("--rows", 50_000), rate, seconds).await;
        }
        "webhooks" => {
            webhooks::webhooks(
                pairs,
                argument("--events", 100_000) as usize,
                text_argument("--only").as_deref(),
            )
            .await;
        }
        _ => usage(),
    }
}
