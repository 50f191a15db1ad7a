//! The publisher's life: a source that is opened again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rowbridge_schema::config::ConfirmPolicy;
use rowbridge_schema::{Classified, Position};
use tokio::sync::watch;

use super::lanes::Lanes;
use super::takeover::{TakeOver, failed};
use super::{OpenError, Publisher};
use crate::capture::{Capture, CaptureStart};
use crate::journal::{Journal as _, JournalError, Resume};
use crate::pump::{self, Parts, PumpEnd, PumpStatus};
use crate::snapshot::SnapshotReader;
use crate::source::{OpenSource, Source};
use crate::state::{Identity, present_second};

/// First wait after a lost source.
const REOPEN_FIRST: Duration = Duration::from_millis(200);
/// How often a standby looks whether it must take over.
const STAND_BY: Duration = Duration::from_secs(1);
/// How often a full disk is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);
/// Longest wait; a state that needs a person is looked at as often.
const REOPEN_MAX: Duration = Duration::from_secs(10);

impl Publisher {
    pub(super) async fn run_source<S: Source>(
        self,
        source: S,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), OpenError> {
        let mut lanes = Lanes::new(&self);
        // With `delivered` another publisher may be at it, and a standby leaves the targets alone.
        if let Identity { source: Some(id), fresh: false, epoch, .. } = self.state.identity()?
            && self.config.journal.confirm == ConfirmPolicy::Journaled
        {
            self.plan_lanes_from_now()?;
            lanes.start(&self, &id, epoch, &shutdown)?;
        }
        if self.state.wants_snapshot_all()? {
            self.start_over()?;
        }
        let mut life =
            Life { resume: self.recovered.resume.clone(), behind: false, alone: false, wait: REOPEN_FIRST };
        while !*shutdown.borrow() {
            let ended = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                opened = self.open_source(&source, &mut life) => match opened {
                    Ok(Ok((opened, identity))) => {
                        life.wait = REOPEN_FIRST;
                        Ok((opened, identity))
                    }
                    Ok(Err(failed)) => Err(failed),
                    Err(error) => Err(life.wait_for_room(error)?),
                },
            };
            let ended = match ended {
                Ok((opened, identity)) => {
                    let ended = self.pump(opened, &identity, &mut lanes, &mut life, &shutdown).await;
                    life.resume = self.journal.durable().borrow().resume.clone().or(life.resume.take());
                    match ended {
                        Ok(ended) => ended,
                        Err(error) => Ended::Failed(life.wait_for_room(error)?),
                    }
                }
                Err(failed) => Ended::Failed(failed),
            };
            let again = match ended {
                Ended::Shutdown => break,
                Ended::SnapshotAll => true,
                Ended::Failed(failed) => self.failed(failed, &mut life, &mut lanes, &mut shutdown).await?,
            };
            if again && let Err(error) = self.start_over() {
                // What was asked for is asked for until then.
                let failed = life.wait_for_room(error)?;
                self.failed(failed, &mut life, &mut lanes, &mut shutdown).await?;
            }
        }
        lanes.join().await;
        Ok(())
    }

    /// Opens the source, whatever has to be found out before. Cancel safe: what was begun is begun again.
    async fn open_source<S: Source>(
        &self,
        source: &S,
        life: &mut Life,
    ) -> Result<Result<Open<S>, Failed>, OpenError> {
        let delivered = self.config.journal.confirm == ConfirmPolicy::Delivered;
        let mut identity = self.state.identity()?;
        let claimed = self.state.is_claimed()?;
        let lost = !identity.fresh && life.resume.is_none();
        if delivered && (!claimed || lost || life.behind) {
            match self.take_over(source).await? {
                TakeOver::Done(resume) => {
                    life.resume = Some(resume);
                    life.behind = false;
                    identity = self.state.identity()?;
                }
                TakeOver::Nothing => {}
                TakeOver::Failed(failed) => return Ok(Err(failed)),
            }
        }
        if !identity.fresh && life.resume.is_none() {
            let problem = "the journal is gone, but state_dir knows that changes were captured; what was not delivered is \
                           lost. Run `rowbridge snapshot --all` to send everything again"
                .to_owned();
            return Ok(Err(Failed::Problem { problem, permanent: true }));
        }
        if !self.state.is_claimed()? {
            if let Err(error) = source.refuse_taken().await {
                return Ok(Err(self.refused(source, &error).await));
            }
            self.state.claim()?;
        }
        if identity.fresh {
            let known = self.positions_known(identity.source.as_ref()).await;
            for (_, position) in known.positions {
                self.state.saw_epoch(position.epoch)?;
            }
            identity = self.state.identity()?;
            if !known.complete {
                // Somebody may know an epoch of this very second that a lost state began.
                wait_for_second(identity.epoch).await;
            }
        }
        let start = CaptureStart {
            epoch: identity.epoch,
            last: self.journal.last(),
            resume: life.resume.clone().filter(|_| !identity.fresh),
        };
        match source.open(start, identity.clone()).await {
            Ok(opened) => Ok(Ok((opened, identity))),
            Err(error) => {
                let failed = failed(source, &error);
                // What is at the source is not ours, or nobody knows: whoever looks next looks anew.
                if failed.is_permanent() || delivered && matches!(failed, Failed::InUse { .. }) {
                    self.state.unclaim()?;
                }
                Ok(Err(failed))
            }
        }
    }

    /// A slot that was there before this state, with what the targets say.
    async fn refused<S: Source>(&self, source: &S, error: &<S::Capture as Capture>::Error) -> Failed {
        let failed = failed(source, error);
        let Failed::Taken { problem } = failed else { return failed };
        let known = self.positions_known(None).await.positions;
        let known = known.iter().map(|(name, position)| {
            format!(" Endpoint {name} stands at {} ({position}).", source.shown(position.offset))
        });
        Failed::Taken { problem: problem + &known.collect::<String>() }
    }

    /// Says why capture does not run and waits for the next try; true if an operator wants to start over.
    async fn failed(
        &self,
        failed: Failed,
        life: &mut Life,
        lanes: &mut Lanes,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<bool, OpenError> {
        let delivered = self.config.journal.confirm == ConfirmPolicy::Delivered;
        let (problem, permanent) = match failed {
            Failed::InUse { by, .. } if delivered => {
                lanes.stop().await;
                life.alone = false;
                return self.stand_by(format!("standby: {by}"), shutdown).await;
            }
            Failed::Ahead { .. } if delivered && !life.behind => {
                // Another publisher has delivered what we did not see.
                lanes.stop().await;
                (life.alone, life.behind) = (false, true);
                return self.state.wants_snapshot_all().map_err(Into::into);
            }
            Failed::InUse { problem, .. } => (problem, false),
            Failed::Ahead { problem } | Failed::Taken { problem } => (problem, true),
            Failed::Problem { problem, permanent } => (problem, permanent),
        };
        if self.status.borrow().source.as_ref() != Some(&problem) {
            if permanent {
                tracing::error!(%problem, "capture needs a person");
            } else {
                tracing::warn!(%problem, "capture is interrupted and goes on when the source is there");
            }
        }
        self.status.send_modify(|status| status.source = Some(problem));
        let pause =
            if permanent { REOPEN_MAX } else { life.wait.mul_f64(rand::rng().random_range(0.5..1.0)) };
        life.wait = (life.wait * 2).min(REOPEN_MAX);
        self.pause(pause, shutdown).await
    }

    /// Another publisher of the stream is at it: this one looks every second whether it still is.
    async fn stand_by(
        &self,
        problem: String,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<bool, OpenError> {
        if self.status.borrow().source.as_ref() != Some(&problem) {
            tracing::info!(%problem, "waiting to take over");
        }
        self.status.send_modify(|status| {
            status.source = Some(problem);
            status.lanes.clear();
        });
        self.pause(STAND_BY, shutdown).await
    }

    /// Waits, looking for a request to start over; true if there was one.
    async fn pause(&self, pause: Duration, shutdown: &mut watch::Receiver<bool>) -> Result<bool, OpenError> {
        let until = tokio::time::Instant::now() + pause;
        loop {
            if self.state.wants_snapshot_all()? {
                return Ok(true);
            }
            let next = until.min(tokio::time::Instant::now() + Duration::from_secs(1));
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(false),
                () = tokio::time::sleep_until(next) => {}
            }
            if next == until {
                return Ok(false);
            }
        }
    }

    /// A new epoch: slot or change log are made anew and every table is sent again.
    fn start_over(&self) -> Result<(), OpenError> {
        let identity = self.state.start_over()?;
        tracing::info!(epoch = identity.epoch, "everything is sent again");
        Ok(())
    }

    async fn pump<C: Capture, R: SnapshotReader + 'static>(
        &self,
        opened: OpenSource<C, R>,
        before: &Identity,
        lanes: &mut Lanes,
        life: &mut Life,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Ended, OpenError> {
        let OpenSource { capture, mut reader, source, identity, resume, start, begins, added, unfinished } =
            opened;
        if let Some(known) = before.source.as_ref().filter(|known| **known != source && !before.fresh) {
            let problem = format!(
                "this is database {source}, but the journal belongs to {known}; point source.url back, or run \
                 `rowbridge snapshot --all` to send everything from this one"
            );
            return Ok(Ended::problem(problem, true));
        }
        let tables = match reader.tables().await {
            Ok(tables) => tables,
            Err(error) => {
                return Ok(Ended::problem(describe(&error), !error.class().is_retryable()));
            }
        };
        self.plan_tables(&tables, &added, identity.fresh)?;
        if self.config.journal.confirm == ConfirmPolicy::Delivered && unfinished && !life.alone {
            // Who was sending them, how far, and what of that has arrived is known to nobody.
            tracing::warn!("a snapshot was under way in an earlier life: every table is sent again");
            self.plan_everything(&tables)?;
        }
        life.alone = true;
        if identity.fresh {
            // Durable before anything is captured: from here on the slot belongs to this journal.
            self.journal.mark(resume.clone()).await?;
            let mut durable = self.journal.durable();
            let _ = durable.wait_for(|durable| durable.resume.as_ref() == Some(&resume)).await;
        }
        // Before the state says that this epoch has begun: a kill in between must not lose it.
        let again = before.fresh && self.state.starts_over()?;
        let snapshot_from = again.then(|| Position::new(identity.epoch, 0, 0));
        if let Some(from) = snapshot_from {
            self.state.set_snapshot_from(from)?;
        }
        let identity = Identity { fresh: false, source: Some(source.clone()), ..identity };
        self.state.set_identity(&identity)?;
        self.plan_lanes(&tables)?;
        lanes.start(self, &source, identity.epoch, shutdown)?;
        lanes.board().began(identity.epoch, snapshot_from)?;
        self.status.send_modify(|status| status.source = None);
        let (pump_status, mut pump_changes) = watch::channel(PumpStatus::default());
        let parts = Parts {
            reached: capture.reached_by(&begins),
            capture,
            reader,
            journal: Arc::clone(&self.journal),
            state: Arc::clone(&self.state),
            metrics: self.capture_metrics.clone(),
            confirm: self.config.journal.confirm,
            max_retained: self.config.source.max_retained,
            lanes: lanes.board(),
            delivered: lanes.delivered(),
            wishes: Arc::clone(&self.wishes),
            status: pump_status,
            shutdown: shutdown.clone(),
        };
        let mirror = self.status.clone();
        let mirrored = tokio::spawn(async move {
            while pump_changes.changed().await.is_ok() {
                let now = pump_changes.borrow_and_update().clone();
                mirror.send_modify(|status| status.pump = now);
            }
        });
        let ended = pump::run(parts, identity.epoch, start).await;
        mirrored.abort();
        Ok(match ended {
            Ok(PumpEnd::Shutdown) => Ended::Shutdown,
            Ok(PumpEnd::SnapshotAll) => Ended::SnapshotAll,
            Err(pump::PumpError::Capture(error)) => {
                Ended::problem(describe(&error), !error.class().is_retryable())
            }
            Err(pump::PumpError::Snapshot(error)) => {
                Ended::problem(describe(&error), !error.class().is_retryable())
            }
            Err(pump::PumpError::Journal(error)) => return Err(error.into()),
            Err(pump::PumpError::State(error)) => return Err(error.into()),
        })
    }
}

/// What a publisher's life knows that is not stored.
struct Life {
    /// Where capture goes on.
    resume: Option<Resume>,
    /// The source was confirmed beyond our journal: another publisher has delivered what lies between.
    behind: bool,
    /// Nobody but us has read the source since this process first did.
    alone: bool,
    wait: Duration,
}

impl Life {
    /// A full disk is waited for, as an absent source is: whatever could not be noted is found out again. Anything else
    /// that the state and the journal meet ends the publisher.
    fn wait_for_room(&mut self, error: OpenError) -> Result<Failed, OpenError> {
        let full = match &error {
            OpenError::State(error) => error.is_full(),
            OpenError::Journal(error) => {
                matches!(error, JournalError::Full { .. } | JournalError::DiskFull { .. })
            }
            _ => false,
        };
        if !full {
            return Err(error);
        }
        self.wait = self.wait.max(LOOK_FOR_ROOM);
        let problem = format!("{}. Make room on the disk of publisher.state_dir", chain(&error));
        Ok(Failed::Problem { problem, permanent: false })
    }
}

/// An open source, and who we were before.
type Open<S> = (OpenSource<<S as Source>::Capture, <S as Source>::Reader>, Identity);

/// Why capture does not run.
pub(super) enum Failed {
    /// Another publisher reads the source.
    InUse { by: String, problem: String },
    /// The source was confirmed beyond our journal.
    Ahead { problem: String },
    /// What is at the source belongs to another state.
    Taken { problem: String },
    /// Anything else.
    Problem { problem: String, permanent: bool },
}

impl Failed {
    fn is_permanent(&self) -> bool {
        match self {
            Self::InUse { .. } => false,
            Self::Ahead { .. } | Self::Taken { .. } => true,
            Self::Problem { permanent, .. } => *permanent,
        }
    }
}

enum Ended {
    Shutdown,
    SnapshotAll,
    Failed(Failed),
}

impl Ended {
    fn problem(problem: String, permanent: bool) -> Self {
        Self::Failed(Failed::Problem { problem, permanent })
    }
}

/// Waits until the second that a new epoch is named after is over: a state that begins later has a later one. Where the
/// epoch lies further ahead, a clock was set back, and targets were asked.
pub(super) async fn wait_for_second(epoch: u32) {
    while (present_second()..present_second().saturating_add(5)).contains(&epoch) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// An error with its causes and what to do, as one line.
pub(super) fn describe<E: std::error::Error + Classified>(error: &E) -> String {
    let text = chain(error);
    match error.hint() {
        Some(hint) => format!("{text}. {hint}"),
        None => text,
    }
}
