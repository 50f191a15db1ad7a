//! One job of an operator: dead letters sent again, a part of the stream sent again, a sample event.
//!
//! A job's requests go over the endpoint's connections beside those of its lane. They do not count for its health, and
//! nothing of them moves the lane's cursor.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rowbridge_schema::config::{Rate, Start};
use rowbridge_schema::event::{EventOp, OwnedEvent};
use rowbridge_schema::{Position, TableName, TablePatterns};
use tokio::time::{Instant, sleep, sleep_until};

use super::cursor::EventKey;
use super::desk::Place;
use super::make::Maker;
use super::outcome::{Verdict, judge};
use super::outgoing::{Ended, Outgoing};
use super::rate::Bucket;
use super::reading::{Reading, Replay};
use super::retry::{self, Next};
use super::sender::Refused;
use super::window::{Item, Parcel, ParcelLimits, Window};
use crate::deliveries::{
    Job, JobEnd, JobSpec, Letter, Origin, Outcome, Recorder, Replay as ReplaySpec, Settled, StoreError,
};
use crate::journal::{Journal, JournalError};

/// Letters in hand at a time.
const CLAIM: u32 = 16;
/// How often progress is written down.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How far a test looks for an event in the journal, in steps of a few hundred blocks.
const SAMPLE_LOOKS: usize = 64;
/// A replay gives an event up after so many attempts in a row.
const MOST_ATTEMPTS: u32 = 10;

/// Does one job.
pub(super) struct Worker<J: Journal> {
    place: Arc<Place>,
    journal: Arc<J>,
    recorder: Arc<Recorder>,
}

impl<J: Journal> Worker<J> {
    pub(super) fn new(place: Arc<Place>, journal: Arc<J>, recorder: Arc<Recorder>) -> Self {
        Self { place, journal, recorder }
    }

    /// Does a job that was started, and ends it.
    pub(super) async fn run(&self, job: Job) -> Result<(), StoreError> {
        let id = job.id;
        let end = match &job.spec {
            JobSpec::Retry { .. } => self.retry(&job).await?,
            JobSpec::Replay(spec) => self.replay(&job, spec).await?,
            JobSpec::Test => return self.test(&job).await,
        };
        if let Some(end) = end {
            self.recorder.finish(id, end).await?;
        }
        Ok(())
    }

    /// `None`: it was called off.
    async fn retry(&self, job: &Job) -> Result<Option<JobEnd>, StoreError> {
        let mut progress = job.progress;
        loop {
            let letters = self.recorder.claim(job.id, CLAIM).await?;
            if letters.is_empty() {
                return Ok(Some(JobEnd::Done));
            }
            for letter in letters {
                let id = letter.id;
                let settled = self.send_letter(letter).await;
                match &settled {
                    Settled::Delivered => progress.sent += 1,
                    Settled::Dead { .. } => progress.failed += 1,
                }
                self.recorder.settle(id, settled).await?;
            }
            if !self.recorder.progress(job.id, progress).await? {
                return Ok(None);
            }
        }
    }

    /// Sends a letter as it was, signed anew; what a template makes of its events is made again.
    async fn send_letter(&self, letter: Letter) -> Settled {
        let letter = letter.letter;
        if let Some(source) = letter.source.as_deref().filter(|source| Maker::is_change(source)) {
            return self.send_again(source).await;
        }
        let events: Vec<OwnedEvent> = match letter.source.as_deref().map(serde_json::from_str).transpose() {
            Ok(events) => events.unwrap_or_default(),
            Err(error) => {
                return Settled::Dead {
                    class: Some("store".to_owned()),
                    reason: format!("the letter's events cannot be read: {error}"),
                    status: None,
                    attempts: 1,
                };
            }
        };
        let item = |event: Option<OwnedEvent>| Item {
            key: EventKey { position: letter.position, part: 0 },
            lane: 0,
            id: letter.event.as_str().into(),
            op: EventOp::Update,
            table: Arc::new(TableName::bare(letter.table.as_deref().unwrap_or_default())),
            shown_key: letter.key.as_deref().map(Into::into),
            committed_at: 0,
            barrier: false,
            headers: Vec::new(),
            body: Bytes::new(),
            event: event.map(Arc::new),
            alone: false,
            fault: None,
        };
        let items = match events.is_empty() {
            true => vec![item(None)],
            false => events.into_iter().map(|event| item(Some(event))).collect(),
        };
        let outgoing = Outgoing {
            number: 0,
            parcel: Parcel { items },
            id: letter.webhook_id.as_str().into(),
            body: letter.body.into(),
            attempts: 1,
            first_at: None,
            origin: Origin::Retry,
            content_type: Some(letter.content_type),
            path: None,
            headers: letter.headers,
            fault: None,
            ready: None,
        };
        let outgoing = outgoing.rendered(&self.place.config);
        self.send_once(outgoing).await
    }

    /// Makes the events of a change anew, of which an expression had failed, and sends them.
    async fn send_again(&self, source: &str) -> Settled {
        let config = &self.place.config;
        let items = match Maker::new(config.common()).again(source) {
            Ok(items) => items,
            Err(error) => {
                let reason = super::outcome::chain(&error);
                return Settled::Dead {
                    class: Some("expression".to_owned()),
                    reason,
                    status: None,
                    attempts: 1,
                };
            }
        };
        if items.is_empty() {
            tracing::info!(endpoint = %config.endpoint.name, "the endpoint does not take the event of a dead letter any more");
        }
        for item in items {
            let mut outgoing = Outgoing::new(0, Parcel { items: vec![item] }, config);
            outgoing.attempts = 1;
            outgoing.origin = Origin::Retry;
            let settled = self.send_once(outgoing).await;
            if settled != Settled::Delivered {
                return settled;
            }
        }
        Settled::Delivered
    }

    async fn send_once(&self, outgoing: Outgoing) -> Settled {
        let ended = self.place.sender.send(outgoing).await;
        match self.judged(&ended) {
            Ok(()) => Settled::Delivered,
            Err(Refusal { reason, class, .. }) => Settled::Dead {
                class: Some(class.to_owned()),
                reason,
                status: ended.result.as_ref().ok().map(|response| response.status),
                attempts: 1,
            },
        }
    }

    async fn replay(&self, job: &Job, spec: &ReplaySpec) -> Result<Option<JobEnd>, StoreError> {
        let failed = |error: String| Ok(Some(JobEnd::Failed { error }));
        let Some(last) = self.journal.last() else { return Ok(Some(JobEnd::Done)) };
        let micros = |ms: i64| ms.saturating_mul(1000);
        let replay = Replay {
            from: spec.from.unwrap_or(Position::ZERO),
            to: spec.to.unwrap_or(last).min(last),
            since: spec.since_ms.map(micros),
            until: spec.until_ms.map(micros),
        };
        let tables = match spec.tables.as_slice() {
            [] => TablePatterns::all(),
            patterns => match TablePatterns::new(patterns) {
                Ok(tables) => tables,
                Err(error) => return failed(error.to_string()),
            },
        };
        // Behind what an earlier life has sent.
        let oldest = self.journal.oldest();
        let after = match (job.progress.position, spec.from) {
            (Some(position), _) => position,
            (None, Some(from)) => before(from),
            (None, None) => oldest,
        };
        let reader = match self.journal.reader(after) {
            Ok(reader) => reader,
            Err(JournalError::Gone { oldest }) => {
                return failed(format!(
                    "the journal begins after {oldest}; what came before was removed after delivery (journal.retain)"
                ));
            }
            Err(error) => return failed(super::outcome::chain(&error)),
        };
        let config = &self.place.config;
        let endpoint_tables = config.endpoint.tables.clone();
        let maker = Maker::new(config.common());
        // Also existing rows, if the window holds some.
        let mut reading = Reading::new(reader, maker, endpoint_tables, Start::Snapshot, after)
            .replaying(replay)
            .only(tables);
        let mut window = Window::new(1 << 20, 1000);
        let batch = config.webhook().policy.batch;
        let limits = ParcelLimits { events: batch.max_events, bytes: batch.max_bytes };
        let mut progress = job.progress;
        let rate = spec.per_second.map(|count| Rate { count, per: Duration::from_secs(1) });
        let mut bucket = rate.map(|rate| Bucket::new(rate, Instant::now()));
        let mut told = Instant::now();
        let begun_before = job.progress.position;
        loop {
            let settled = |event: EventKey| begun_before.is_some_and(|done| event.position <= done);
            let more = match reading.fill(&mut window, settled) {
                Ok(more) => more,
                Err(error) => return failed(super::outcome::chain(&error)),
            };
            let Some(parcel) = window.take(limits) else {
                // A block may end behind the last position that is wanted.
                if window.is_empty() && (reading.scanned() >= replay.to || !more && !reading.is_within()) {
                    self.recorder.progress(job.id, progress).await?;
                    return Ok(Some(JobEnd::Done));
                }
                continue;
            };
            for _ in &parcel.items {
                if let Some(bucket) = &mut bucket {
                    sleep_until(bucket.next()).await;
                    bucket.take(Instant::now());
                }
            }
            let events = parcel.items.len() as u64;
            let position = parcel.items.last().map(|item| item.key.position);
            let mut outgoing = Outgoing::new(0, parcel, config);
            outgoing.origin = Origin::Replay;
            let parcel = match self.insist(outgoing).await {
                Ok(parcel) => {
                    progress.sent += events;
                    parcel
                }
                Err(parcel) => {
                    progress.failed += events;
                    parcel
                }
            };
            window.settle(&parcel);
            progress.position = position;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                if !self.recorder.progress(job.id, progress).await? {
                    return Ok(None);
                }
            }
        }
    }

    /// Tries until it is delivered, or fails for good.
    async fn insist(&self, mut outgoing: Outgoing) -> Result<Parcel, Parcel> {
        loop {
            outgoing.attempts += 1;
            let ended = self.place.sender.send(outgoing).await;
            let judged = self.judged(&ended);
            outgoing = ended.outgoing;
            let Err(refusal) = judged else { return Ok(outgoing.parcel) };
            if !refusal.retryable || outgoing.attempts >= MOST_ATTEMPTS {
                return Err(outgoing.parcel);
            }
            let policy = &self.place.config.webhook().policy;
            match retry::next(policy, outgoing.attempts, i64::MAX, refusal.after, SystemTime::now()) {
                Next::After(wait) => sleep(wait).await,
                Next::GiveUp => return Err(outgoing.parcel),
            }
        }
    }

    async fn test(&self, job: &Job) -> Result<(), StoreError> {
        let config = &self.place.config;
        let sample = match config.webhook().request.has_templates() {
            true => self.recent(),
            false => None,
        };
        let missing = sample.is_none() && config.webhook().request.has_templates();
        let mut item = sample.unwrap_or_else(|| super::sample::sample(config));
        item.id = format!("{}:test-{}", config.stream, job.id).into();
        let mut outgoing = Outgoing::new(0, Parcel { items: vec![item] }, config);
        if missing {
            outgoing.fault = Some(Refused::NoSample);
        }
        outgoing.attempts = 1;
        outgoing.origin = Origin::Test;
        let ended = self.place.sender.send(outgoing).await;
        let verdict = judge(&ended, &[]);
        let attempt = match &verdict {
            Verdict::Done => ended.attempt(config, Outcome::Delivered, None),
            Verdict::Retry { error, class, .. } => {
                ended.attempt(config, Outcome::Retry, Some((class, error)))
            }
            Verdict::Permanent { error, class, .. } => {
                ended.attempt(config, Outcome::Permanent, Some((class, error)))
            }
            Verdict::Gone => {
                ended.attempt(config, Outcome::Disabled, Some(("gone", "the endpoint answered 410")))
            }
        };
        self.recorder.finish_test(job.id, crate::deliveries::Attempt { position: None, ..attempt }).await?;
        Ok(())
    }

    /// An event of the endpoint's that the journal still has, for templates that name columns.
    fn recent(&self) -> Option<Item> {
        let config = &self.place.config;
        let oldest = self.journal.oldest();
        let reader = self.journal.reader(oldest).ok()?;
        let maker = Maker::new(config.common());
        let mut reading =
            Reading::new(reader, maker, config.endpoint.tables.clone(), Start::Snapshot, oldest);
        let mut window = Window::new(1, 1);
        for _ in 0..SAMPLE_LOOKS {
            let more = reading.fill(&mut window, |_| false).ok()?;
            if let Some(parcel) = window.take(ParcelLimits { events: 1, bytes: usize::MAX }) {
                match parcel.items.first() {
                    Some(item) if item.fault.is_none() => return Some(item.clone()),
                    _ => window.settle(&parcel),
                };
                continue;
            }
            if !more {
                return None;
            }
        }
        None
    }

    /// Records how an attempt ended.
    fn judged(&self, ended: &Ended) -> Result<(), Refusal> {
        let policy = &self.place.config.webhook().policy;
        let config = &self.place.config;
        let (outcome, refusal) = match judge(ended, &policy.retry_on) {
            Verdict::Done => (Outcome::Delivered, None),
            Verdict::Retry { error, class, after } => {
                (Outcome::Retry, Some(Refusal { reason: error, class, retryable: true, after }))
            }
            Verdict::Permanent { error, class, .. } => {
                (Outcome::Permanent, Some(Refusal { reason: error, class, retryable: false, after: None }))
            }
            Verdict::Gone => {
                let reason = "the endpoint answered 410: it takes nothing any more".to_owned();
                (Outcome::Permanent, Some(Refusal { reason, class: "gone", retryable: false, after: None }))
            }
        };
        let error = refusal.as_ref().map(|refusal| (refusal.class, refusal.reason.as_str()));
        self.recorder.attempt(ended.attempt(config, outcome, error));
        refusal.map_or(Ok(()), Err)
    }
}

struct Refusal {
    reason: String,
    class: &'static str,
    retryable: bool,
    after: Option<Duration>,
}

/// The position right before another, so that a reader that begins behind it finds the other.
pub(crate) fn before(position: Position) -> Position {
    match position.ordinal {
        0 => {
            let mut before = position;
            before.offset.at = before.offset.at.saturating_sub(1);
            before
        }
        ordinal => position.with_ordinal(ordinal - 1),
    }
}
