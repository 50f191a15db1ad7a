//! What was measured: one [`Measurement`] each time, a table and JSON lines of all of them, and at the end the medians with
//! the ratio of Rowbridge to what it is compared with.

use std::fs::File;
use std::io::Write as _;

use serde_json::{Value, json};

use super::arguments;
use super::costs::Process;
use super::figures::Figure;
use super::summary::summaries;
use super::table;

/// What stands between two databases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum System {
    /// The replication of the database itself.
    Native,
    Rowbridge,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Rowbridge => OURS,
        }
    }
}

/// The name of what is compared with all others.
pub(super) const OURS: &str = "rowbridge";

/// Milliseconds from commit to visible at the copy.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

impl Latency {
    pub(super) fn of(mut milliseconds: Vec<f64>) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        let at = |share: f64| milliseconds[((milliseconds.len() - 1) as f64 * share) as usize];
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// One workload through one system, once. What a field cannot say is none: servers of a file, daemons of native replication,
/// bytes where the kernel was not asked.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) workload: String,
    /// What is varied within the workload, such as `100 tables`; may be empty.
    pub(super) variant: String,
    pub(super) crossing: String,
    /// Of [`System`], or what else there is to compare with.
    pub(super) system: &'static str,
    /// Changes that have arrived; 0 where nothing was to happen.
    pub(super) rows: u64,
    /// From the first commit to the last row visible.
    pub(super) seconds: f64,
    pub(super) latency: Option<Latency>,
    /// In the order of [`Process::ALL`].
    pub(super) cpu_seconds: [Option<f64>; 4],
    /// The time in which processor time was counted: a little more than `seconds`.
    pub(super) cpu_wall_seconds: f64,
    /// In the order of [`Process::ALL`].
    pub(super) peak_bytes: [Option<u64>; 4],
    /// Between the two ends, both ways.
    pub(super) wire_bytes: Option<u64>,
    /// Requests that were acknowledged.
    pub(super) deliveries: Option<u64>,
}

impl Measurement {
    pub(super) fn new(workload: &str, variant: &str, crossing: &str, system: &'static str) -> Self {
        Self {
            workload: workload.to_owned(),
            variant: variant.to_owned(),
            crossing: crossing.to_owned(),
            system,
            rows: 0,
            seconds: 0.0,
            latency: None,
            cpu_seconds: [None; 4],
            cpu_wall_seconds: 0.0,
            peak_bytes: [None; 4],
            wire_bytes: None,
            deliveries: None,
        }
    }

    fn json(&self) -> Value {
        let by_process = |value: &dyn Fn(usize) -> Value| -> Value {
            Process::ALL
                .iter()
                .enumerate()
                .map(|(n, process)| (process.name().to_owned(), value(n)))
                .collect()
        };
        let mut object = json!({
            "type": "measurement",
            "workload": self.workload,
            "variant": self.variant,
            "crossing": self.crossing,
            "system": self.system,
            "rows": self.rows,
            "seconds": self.seconds,
            "cpu_seconds": by_process(&|n| self.cpu_seconds[n].into()),
            "cpu_wall_seconds": self.cpu_wall_seconds,
            "peak_rss_bytes": by_process(&|n| self.peak_bytes[n].into()),
            "wire_bytes": self.wire_bytes,
        });
        for (figure, value) in Figure::ALL.into_iter().zip(self.figures()) {
            object[figure.name()] = value.into();
        }
        object
    }
}

/// All measurements of a run.
pub(super) struct Report {
    measurements: Vec<Measurement>,
    json: Option<Box<dyn std::io::Write>>,
    /// Whether JSON takes the place of the table on stdout.
    json_only: bool,
}

impl Report {
    /// `--json FILE` writes JSON lines to a file, `--json -` to stdout in place of the table.
    pub(super) fn new() -> Self {
        let path = arguments::text("--json");
        let json_only = path.as_deref() == Some("-");
        let json: Option<Box<dyn std::io::Write>> = match path {
            None => None,
            Some(_) if json_only => Some(Box::new(std::io::stdout())),
            Some(path) => Some(Box::new(File::create(path).unwrap())),
        };
        Self { measurements: Vec::new(), json, json_only }
    }

    /// Takes a measurement, and writes it at once: a run that fails later has said this much.
    pub(super) fn add(&mut self, measurement: Measurement) {
        self.write(&measurement.json());
        eprintln!("{}", table::line(&measurement));
        self.measurements.push(measurement);
    }

    /// Writes what is known when all is measured.
    pub(super) fn finish(mut self) {
        let summaries = summaries(&self.measurements);
        for summary in &summaries {
            self.write(&summary.json());
        }
        if !self.json_only && !self.measurements.is_empty() {
            print!("{}", table::text(&self.measurements, &summaries));
        }
    }

    fn write(&mut self, value: &Value) {
        if let Some(json) = &mut self.json {
            writeln!(json, "{value}").unwrap();
        }
    }
}
