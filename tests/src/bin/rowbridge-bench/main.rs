//! `rowbridge-bench WORKLOAD [OPTION VALUE]...`: Rowbridge beside the replication of PostgreSQL or MariaDB itself, or an
//! SQLite application with Rowbridge beside one without, or webhooks beside a sender written by hand, the same work on the
//! same machine in the same run. Prints a line per measurement, and a table with the medians at the end.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program: fail loudly"
)]

mod arguments;
mod bridge;
mod costs;
mod figures;
mod idle;
mod load;
mod native;
mod oltp;
mod rates;
mod report;
mod session;
mod sink;
mod snapshot;
mod sqlite;
mod stream;
mod summary;
mod table;
mod tables;
mod tpcb;
mod webhooks;
mod wire;

use rowbridge_tests::scenario::Kind;

use self::arguments::{Crossing, number, text};
use self::load::{LOADS, inserts, load};
use self::report::{Measurement, Report, System};
use self::stream::Down;
use self::tables::Shape;

const USAGE: &str =
    "usage: rowbridge-bench WORKLOAD [--kind KIND] [--pairs N] [--json FILE] [OPTION VALUE]...
  KIND is postgres, mariadb, sqlite, or two of them, such as mariadb-postgres; - as FILE is stdout
  bulk [--rows N] [--per-transaction N]
  wide [--rows N] [--per-transaction N]
  large [--rows N] [--per-transaction N]
  updates [--rows N]
  deletes [--rows N] [--per-transaction N]
  transaction [--rows N]
  oltp [--rate N] [--seconds N]
  tpcb [--seconds N]
  snapshot [--rows N]
  tables [--rows N] [--tables N]
  catchup [--rows N] [--per-transaction N] [--down publisher|subscriber]
  idle [--seconds N] [--tables N]
  curve tables [--rows N] [--per-transaction N] [--tables N]
without --kind:
  curve endpoints [--events N]
  webhooks [--events N] [--only strict|key|none|endpoints]
  sink [--rows N] [--per-transaction N]
  sqlite [--rows N]
  rates [--rows N]";

fn usage(problem: &str) -> ! {
    eprintln!("{problem}\n{USAGE}");
    std::process::exit(2);
}

fn main() {
    let workload = arguments::workload();
    match workload.as_str() {
        // Processes that workloads start.
        "receiver" => webhooks::receiver::serve(),
        "collector" => sink::collector::serve(),
        "sender" => sink::sender::send(),
        _ => measure(&workload),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn measure(workload: &str) {
    let (mut report, pairs) = (Report::new(), number("--pairs", 3));
    match workload {
        "rates" => rates::rates(number("--rows", 200_000)).await,
        "sink" => sink::sink(&mut report, pairs).await,
        "sqlite" => sqlite::sqlite(&mut report, pairs, number("--rows", 50_000)).await,
        "webhooks" => {
            let only = text("--only");
            webhooks::webhooks(&mut report, pairs, number("--events", 100_000), only.as_deref()).await;
        }
        "curve endpoints" => webhooks::endpoints(&mut report, pairs, number("--events", 200_000)).await,
        _ => in_pairs(&mut report, workload, pairs).await,
    }
    report.finish();
}

/// Each variant of a workload, native replication first where there is one.
async fn in_pairs(report: &mut Report, workload: &str, pairs: u32) {
    let crossing = Crossing::asked_for();
    for variant in variants(workload, crossing) {
        for _ in 0..pairs {
            for system in [System::Native, System::Rowbridge] {
                if system == System::Rowbridge || variant.has_native(crossing) {
                    report.add(variant.measure(crossing, system).await);
                }
            }
        }
    }
}

/// What is measured in pairs: a workload, and what is varied in it.
enum Variant {
    Load(String),
    Oltp,
    Tpcb,
    Snapshot { tables: u64, rows: u64 },
    Catchup { down: Down, rows: u64 },
    Idle { tables: u64 },
    Curve { tables: u64 },
}

fn variants(workload: &str, crossing: Crossing) -> Vec<Variant> {
    match workload {
        "oltp" => vec![Variant::Oltp],
        "tpcb" if (crossing.source, crossing.target) == (Kind::Postgres, Kind::Postgres) => {
            vec![Variant::Tpcb]
        }
        "tpcb" => usage("pgbench is of PostgreSQL only"),
        "snapshot" => vec![Variant::Snapshot { tables: 1, rows: number("--rows", 500_000) }],
        "tables" => {
            vec![Variant::Snapshot { tables: number("--tables", 50), rows: number("--rows", 500_000) }]
        }
        // Two sizes, since memory must not depend on them.
        "catchup" => {
            let (down, rows) = (Down::asked_for(), number("--rows", 1_000_000));
            [rows / 4, rows].map(|rows| Variant::Catchup { down, rows }).into()
        }
        "idle" => counts(&[1, 100]).into_iter().map(|tables| Variant::Idle { tables }).collect(),
        "curve tables" => {
            counts(&[1, 10, 100, 1_000]).into_iter().map(|tables| Variant::Curve { tables }).collect()
        }
        _ if LOADS.contains(&workload) => vec![Variant::Load(workload.to_owned())],
        _ => usage(&format!("no such workload: {workload}")),
    }
}

/// So many tables each time, or only as many as was asked for.
fn counts(usual: &[u64]) -> Vec<u64> {
    match text("--tables") {
        Some(_) => vec![number("--tables", 1)],
        None => usual.to_vec(),
    }
}

impl Variant {
    /// Whether there is something to compare with.
    fn has_native(&self, crossing: Crossing) -> bool {
        match self {
            // MariaDB's replication copies no rows that are there.
            Self::Snapshot { .. } => crossing.has_native() && crossing.source == Kind::Postgres,
            // Native replication has no place for a backlog but the source's log.
            Self::Catchup { down, .. } => crossing.has_native() && *down == Down::Publisher,
            _ => crossing.has_native(),
        }
    }

    async fn measure(&self, crossing: Crossing, system: System) -> Measurement {
        let kind = crossing.source;
        match self {
            Self::Load(name) => {
                let load = load(name, kind).expect("a name of LOADS");
                stream::through(crossing, system, load, name, "").await
            }
            Self::Oltp => oltp::oltp(crossing, system).await,
            Self::Tpcb => tpcb::tpcb(crossing, system).await,
            Self::Snapshot { tables, rows } => snapshot::snapshot(crossing, system, *tables, *rows).await,
            Self::Catchup { down, rows } => {
                let load = inserts(kind, Shape::Usual, 1, *rows, number("--per-transaction", 1_000));
                stream::catchup(crossing, system, *down, load).await
            }
            Self::Idle { tables } => idle::idle(crossing, system, *tables).await,
            Self::Curve { tables } => {
                let (rows, per_transaction) = (number("--rows", 200_000), number("--per-transaction", 100));
                let load = inserts(kind, Shape::Usual, *tables, rows, per_transaction);
                stream::through(crossing, system, load, "curve", &format!("{tables} tables")).await
            }
        }
    }
}
