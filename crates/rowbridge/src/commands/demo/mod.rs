//! `rowbridge demo`: a shop's SQLite database, copied live by the real publisher and the real subscriber over real
//! webhooks, and compared row for row at the end.

mod bridge;
mod compare;
mod names;
mod probe;
mod report;
mod shop;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use prometheus::Registry;
use tempfile::TempDir;
use tokio::time::MissedTickBehavior;

use self::bridge::{Bridge, Delivered};
use self::probe::Probe;
use self::report::{HEADING, Outcome, Second};
use self::shop::Shop;
use self::writer::Writer;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::signals::StopSignals;

/// How long the first rows, and the last, may take to arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the end of a wait is looked for.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Stop after so many seconds instead of at Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Print only the result, as one JSON object; needs --seconds
    #[arg(long, requires = "seconds")]
    json: bool,
    /// Leave the folder with both databases, the journal and a configuration file for `rowbridge run`
    #[arg(long)]
    keep: bool,
}

impl DemoArgs {
    /// Runs the demo.
    ///
    /// # Errors
    /// Source and copy differ in the end (1), or there is no room for them (3).
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let signals = StopSignals::listen()
            .map_err(|error| Failure::environment(format!("cannot listen for signals: {error}")))?;
        let folder = tempfile::Builder::new()
            .prefix("rowbridge-demo-")
            .tempdir()
            .map_err(|error| Failure::environment(format!("cannot make a temporary folder: {error}")))?;
        let result = self.show(folder.path(), signals).await;
        self.clear(folder)?;
        result
    }

    fn clear(&self, folder: TempDir) -> Result<(), Failure> {
        if self.keep {
            let folder = folder.keep();
            output::say(format!(
                "kept {0}; go on with: rowbridge run --config {0}/rowbridge.toml",
                folder.display()
            ));
            return Ok(());
        }
        let path = folder.path().to_owned();
        folder
            .close()
            .map_err(|error| Failure::environment(format!("cannot remove {}: {error}", path.display())))
    }

    async fn show(&self, folder: &Path, signals: StopSignals) -> Result<(), Failure> {
        let mut demo = Demo::start(folder, signals).await?;
        if !self.json {
            output::text(&demo.greeting())?;
        }
        let result = demo.watch(self.seconds.map(Duration::from_secs), !self.json).await;
        // Whatever went wrong, everything is stopped before the folder goes.
        let outcome = match result {
            Ok(seconds) => demo.finish(seconds, !self.json).await,
            Err(failure) => {
                let _ = demo.writer.stop();
                Err(failure)
            }
        };
        demo.end().await?;
        let mut outcome = outcome?;
        output::line(if self.json { outcome.json() } else { outcome.text() })?;
        match outcome.is_equal() {
            true => Ok(()),
            // The report has said it.
            false => Err(Failure { exit: Exit::Failed, message: String::new() }),
        }
    }
}

/// Everything that runs.
struct Demo {
    source: PathBuf,
    copy: PathBuf,
    bridge: Bridge,
    writer: Writer,
    probe: Arc<Probe>,
    reader: Option<std::thread::JoinHandle<()>>,
    signals: StopSignals,
}

fn at_shop(error: &rusqlite::Error) -> Failure {
    Failure::environment(format!("the demo's shop cannot be written: {error}"))
}

fn no_thread(error: &std::io::Error) -> Failure {
    Failure::environment(format!("cannot start a thread: {error}"))
}

impl Demo {
    async fn start(folder: &Path, signals: StopSignals) -> Result<Self, Failure> {
        let (source, copy) = (folder.join("shop.db"), folder.join("copy.db"));
        let shop = Shop::open(&source).map_err(|error| at_shop(&error))?;
        let probe = Arc::new(Probe::default());
        let reader = probe::start(Arc::clone(&probe), copy.clone()).map_err(|error| no_thread(&error))?;
        // The shop is open for business before anybody copies it.
        let writer = Writer::start(shop, Arc::clone(&probe)).map_err(|error| no_thread(&error))?;
        let bridge = Bridge::start(folder, &Registry::new()).await?;
        Ok(Self { source, copy, bridge, writer, probe, reader: Some(reader), signals })
    }

    fn greeting(&self) -> String {
        format!(
            "A shop writes to    {}\nRowbridge sends to  http://{}/in/shop (signed webhooks)\nThe copy lives in   {}\n\n",
            self.source.display(),
            self.bridge.address,
            self.copy.display(),
        )
    }

    /// Shows what flows until the time is over or somebody wants an end. Returns how long it flowed.
    async fn watch(&mut self, time: Option<Duration>, show: bool) -> Result<f64, Failure> {
        let begun = Instant::now();
        while !self.bridge.is_streaming() {
            self.look_after(begun)?;
            tokio::select! {
                _ = self.signals.next() => return Ok(0.0),
                failure = self.bridge.running.ended() => return Err(failure),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // What the first rows took says nothing about changes.
        self.probe.reset();
        let streaming = Instant::now();
        if show {
            let Delivered { changes, .. } = self.bridge.delivered();
            output::line(format!(
                "existing rows and the first changes copied in {:.1} s ({changes} rows); now live{}\n",
                begun.elapsed().as_secs_f64(),
                if time.is_none() { ", until Ctrl-C" } else { "" },
            ))?;
            output::line(HEADING)?;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let end = tokio::time::sleep(time.unwrap_or(Duration::MAX / 4));
        tokio::pin!(end);
        let (mut seconds, mut measured) = (0, 0);
        let mut transactions = self.writer.transactions();
        let mut delivered = self.bridge.delivered();
        self.writer.take_tally();
        loop {
            tokio::select! {
                biased;
                _ = self.signals.next() => break,
                failure = self.bridge.running.ended() => return Err(failure),
                _ = ticks.tick() => {}
                () = &mut end => break,
            }
            if self.writer.has_ended() {
                break;
            }
            seconds += 1;
            let taken = self.probe.since(measured);
            measured += taken.len();
            let (written, now) = (self.writer.transactions(), self.bridge.delivered());
            let second = Second {
                number: seconds,
                transactions: written - transactions,
                delivered: Delivered {
                    changes: now.changes - delivered.changes,
                    deliveries: now.deliveries - delivered.deliveries,
                    repeated: now.repeated - delivered.repeated,
                },
                behind: self.probe.behind(),
                taken,
                tally: self.writer.take_tally(),
            };
            (transactions, delivered) = (written, now);
            if show {
                output::line(report::line(second))?;
            }
        }
        Ok(streaming.elapsed().as_secs_f64())
    }

    fn look_after(&self, begun: Instant) -> Result<(), Failure> {
        if begun.elapsed() < DEADLINE {
            return Ok(());
        }
        let problems = self.bridge.status.borrow().problems();
        Err(Failure::failed(format!(
            "the copy did not begin within {} s: {}",
            DEADLINE.as_secs(),
            if problems.is_empty() {
                "existing rows are still being sent".to_owned()
            } else {
                problems.join("; ")
            },
        )))
    }

    /// Closes the shop, waits until the copy shows its last transaction, and compares.
    async fn finish(&mut self, seconds: f64, show: bool) -> Result<Outcome, Failure> {
        tokio::task::block_in_place(|| self.writer.stop()).map_err(|error| at_shop(&error))?;
        if show {
            output::line("\nthe shop is closed; comparing every row of source and copy")?;
        }
        let closed = Instant::now();
        let is_there = |demo: &Self| demo.probe.has_caught_up() && demo.bridge.is_streaming();
        while !is_there(self) && closed.elapsed() < DEADLINE {
            tokio::select! {
                code = self.signals.next() => return Err(interrupted(code)),
                failure = self.bridge.running.ended() => return Err(failure),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let caught_up = is_there(self);
        let tables = tokio::task::block_in_place(|| compare::compare(&self.source, &self.copy))
            .map_err(|error| Failure::environment(format!("source and copy cannot be compared: {error}")))?;
        // The publisher's own counts are mirrored ten times a second.
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(Outcome {
            seconds,
            transactions: self.writer.transactions(),
            delivered: self.bridge.delivered(),
            taken: self.probe.since(0),
            tables,
            caught_up,
        })
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.probe.stop();
        if let Some(reader) = self.reader.take() {
            let _ = tokio::task::block_in_place(|| reader.join());
        }
        let mut signals = self.signals;
        tokio::select! {
            stopped = self.bridge.running.stop() => stopped,
            code = signals.next() => Err(interrupted(code)),
        }
    }
}

/// A second signal: no more waiting, but the folder still goes.
fn interrupted(_code: u8) -> Failure {
    Failure::failed("interrupted before source and copy were compared")
}
