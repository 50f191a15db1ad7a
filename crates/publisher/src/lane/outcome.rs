//! What an answer, or the lack of one, does to a lane: where it goes on, and which state it enters.

use std::time::{Duration, SystemTime};

use rowbridge_schema::wire::Answer;
use rowbridge_schema::{Classified as _, Failpoint, Position};
use tokio::time::Instant;

use super::answer::{Expected, Reply, Verdict, judge};
use super::batch::{Batcher, Chain, Delivery};
use super::{AttemptError, Fault, Lane, LaneState};
use crate::journal::{Journal, JournalError};

impl<J: Journal> Lane<J> {
    pub(super) fn answered(&mut self, reply: Result<Reply, AttemptError>, took: Duration) {
        let Some(delivery) = self.current.clone() else { return };
        let verdict = match reply {
            Ok(reply) => {
                let expected = Expected {
                    stream: &self.common.stream,
                    endpoint: &self.common.endpoint,
                    keys: &self.config.endpoint.secrets,
                    id: &delivery.request.id,
                    to: delivery.to,
                    open: delivery.open,
                    begins: self.config.orders.snapshot_from,
                };
                judge(&reply, &expected, SystemTime::now())
            }
            Err(error) => {
                let fault = Fault::Attempt(error);
                if fault.class().is_retryable() {
                    Verdict::Retry { fault, after: None }
                } else {
                    Verdict::Halt(fault)
                }
            }
        };
        let outcome = match &verdict {
            Verdict::Done(_) => "delivered",
            Verdict::Staged(_) => "staged",
            Verdict::Rewind(_) => "rewind",
            Verdict::Retry { .. } => "retry",
            Verdict::TooLarge | Verdict::Halt(_) | Verdict::Disable(_) => "permanent",
        };
        self.metrics.attempt(outcome, took.as_secs_f64());
        match verdict {
            Verdict::Done(answer) => self.done(&delivery, &answer),
            Verdict::Staged(answer) => self.staged(&delivery, &answer),
            Verdict::Rewind(answer) => self.rewind(&answer),
            Verdict::TooLarge => self.too_large(&delivery, None),
            Verdict::Retry { fault, after } => self.retry(fault, after),
            Verdict::Halt(fault) => self.halt(fault),
            Verdict::Disable(fault) => self.disable(fault),
        }
    }

    /// What every signed answer tells.
    fn learn(&mut self, answer: &Answer) {
        if let Some(max_body) = answer.max_body {
            self.max_body = Some(max_body);
            self.limits.told(max_body);
        }
        if !answer.encodings.is_empty() {
            self.zstd = !self.client.is_loopback() && answer.encodings.iter().any(|name| name == "zstd");
        }
        self.status.send_modify(|status| status.answered = answer.position);
    }

    fn done(&mut self, delivery: &Delivery, answer: &Answer) {
        self.learn(answer);
        self.succeeded(delivery);
        self.backoff.reset();
        if delivery.is_handshake() {
            return self.open(answer.position);
        }
        self.rewinds = 0;
        if answer.position > delivery.to {
            // It arrived before as a part of more, whose answer was lost: what comes up to there is known as well.
            return self.open(answer.position);
        }
        if let Some(acked) = answer.position {
            self.journal.release(&self.common.endpoint, acked);
            self.status.send_modify(|status| {
                status.acked = Some(acked);
                status.staged = None;
            });
            Failpoint::DeliveryReleased.pass();
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        for at in &delivery.commits {
            let micros = (now as i64).saturating_sub(*at).max(0);
            self.metrics.latency.observe(micros as f64 / 1e6);
        }
        if delivery.split {
            tracing::info!(
                endpoint = %self.common.endpoint,
                max_transaction = self.common.max_transaction,
                "a transaction beyond source.max_transaction is applied in parts"
            );
        }
        self.running();
    }

    fn staged(&mut self, delivery: &Delivery, answer: &Answer) {
        self.learn(answer);
        self.succeeded(delivery);
        // The backoff is kept: only a commit shows that a target which lost its open transaction has recovered.
        self.status.send_modify(|status| status.staged = answer.staged);
        self.running();
    }

    fn running(&mut self) {
        // Without a reader the journal failed meanwhile, and this was only the delivery that was still in flight.
        if self.batcher.is_some() {
            self.stuck = false;
            self.enter(LaneState::Running);
        }
    }

    fn succeeded(&mut self, delivery: &Delivery) {
        self.current = None;
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        if !delivery.is_handshake() {
            self.metrics.deliveries.inc();
            self.metrics.changes.inc_by(delivery.changes);
            self.status.send_modify(|status| {
                status.deliveries += 1;
                status.changes += delivery.changes;
            });
        }
    }

    /// Goes on behind what the target has committed. Nothing of the lane survives this but its limits.
    fn open(&mut self, position: Option<Position>) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        let cursor = position.unwrap_or(self.config.start);
        let from = cursor.max(self.config.orders.snapshot_from.unwrap_or(Position::ZERO));
        if position.is_some() && from < self.config.first {
            return self.need_snapshot(cursor, self.config.first);
        }
        if from.epoch > self.config.orders.epoch {
            // Whatever we captured lies below, and would count as delivered.
            self.halt(Fault::OldEpoch { message: Some(format!("it stands at {from}")), stands: Some(from) });
            return self.handshake(self.due);
        }
        match self.journal.reader(from) {
            Ok(reader) => {
                self.batcher = Some(Batcher::new(reader, Chain::at(position, from)));
                self.journal.release(&self.common.endpoint, from);
                self.status.send_modify(|status| {
                    status.acked = Some(cursor);
                    status.scanned = Some(from);
                    status.staged = None;
                });
                if !self.stuck {
                    self.enter(LaneState::Running);
                }
            }
            Err(JournalError::Gone { oldest }) => self.need_snapshot(cursor, oldest),
            Err(error) => self.journal_failed(error),
        }
    }

    fn rewind(&mut self, answer: &Answer) {
        self.learn(answer);
        self.metrics.rewinds.inc();
        self.rewinds += 1;
        tracing::info!(
            endpoint = %self.common.endpoint,
            position = answer.position.map(tracing::field::display),
            "the target stands further back; going back there"
        );
        self.open(answer.position);
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        // A target that loses an open transaction is met once; one that says this again and again is in trouble.
        if self.rewinds > 1 && self.batcher.is_some() {
            let wait = self.backoff.next(None);
            self.collect();
            if self.batcher.as_ref().is_some_and(Batcher::has_content) {
                self.seal_next();
                if let Some(delivery) = self.next.take() {
                    self.begin(delivery, Instant::now() + wait);
                }
            }
        }
    }

    pub(super) fn too_large(&mut self, delivery: &Delivery, max_body: Option<u64>) {
        let cut = delivery.blocks > 1 && self.batcher.is_some();
        if cut {
            self.limits.halve(delivery.bytes);
            tracing::warn!(
                endpoint = %self.common.endpoint,
                bytes = delivery.bytes,
                "the delivery is too large for the endpoint; sending half"
            );
            self.current = None;
            self.next = None;
            match self.journal.reader(delivery.before.scanned) {
                Ok(reader) => self.batcher = Some(Batcher::new(reader, delivery.before)),
                Err(JournalError::Gone { oldest }) => self.need_snapshot(delivery.before.scanned, oldest),
                Err(error) => self.journal_failed(error),
            }
            return;
        }
        let at = delivery.to.unwrap_or(Position::ZERO);
        let fault = Fault::TooLarge { tables: delivery.tables.clone(), at, bytes: delivery.bytes, max_body };
        self.halt(fault);
        if max_body.is_some() {
            // Only a handshake can tell that the limit was raised.
            self.stuck = true;
            self.handshake(Instant::now() + self.config.timing.probe_every);
        }
    }

    fn retry(&mut self, fault: Fault, after: Option<Duration>) {
        self.metrics.retry(fault.label());
        let wait = self.backoff.next(after);
        self.due = Instant::now() + wait;
        let error = fault.report();
        tracing::debug!(endpoint = %self.common.endpoint, attempt = self.attempts, %error, ?wait, "attempt failed");
        // A halted lane that probes stays halted: a person is still needed for what halted it.
        if matches!(self.status.borrow().state, LaneState::Halted { .. } | LaneState::NeedsSnapshot { .. }) {
            self.due = self.due.max(Instant::now() + self.config.timing.probe_every);
            return;
        }
        let since = match &self.status.borrow().state {
            LaneState::Retrying { since, .. } => *since,
            _ => SystemTime::now(),
        };
        self.enter(LaneState::Retrying { attempt: self.attempts, error, since });
    }

    fn halt(&mut self, fault: Fault) {
        if let Fault::ForeignSource { stands, .. } | Fault::OldEpoch { stands, .. } = &fault {
            self.status.send_modify(|status| status.answered = *stands);
        }
        self.due = Instant::now() + self.config.timing.probe_every;
        self.enter(LaneState::Halted { reason: fault.report(), hint: fault.hint() });
    }

    fn disable(&mut self, fault: Fault) {
        self.fall_silent();
        self.enter(LaneState::Disabled { reason: fault.report() });
    }

    /// Reading starts over with a handshake; what was read and encoded before the failure is still delivered.
    pub(super) fn journal_failed(&mut self, error: JournalError) {
        self.stuck = true;
        self.batcher = None;
        let fault = Fault::Journal(error);
        if self.current.is_none() && self.next.is_none() {
            self.halt(fault);
            self.handshake(self.due);
        } else {
            self.enter(LaneState::Halted { reason: fault.report(), hint: fault.hint() });
        }
    }

    /// The journal does not hold what the target needs. Nothing can be delivered before a snapshot, so this lane must not
    /// hold the journal either.
    fn need_snapshot(&mut self, wanted: Position, oldest: Position) {
        self.current = None;
        self.next = None;
        self.batcher = None;
        if let Some(last) = self.journal.last() {
            self.journal.release(&self.common.endpoint, last);
        }
        self.status.send_modify(|status| {
            status.acked = Some(wanted);
            status.staged = None;
        });
        self.idle_at = Instant::now() + self.config.timing.empty_every;
        self.enter(LaneState::NeedsSnapshot { wanted, oldest });
    }

    /// Enters a state; the log hears of it once.
    pub(super) fn enter(&mut self, state: LaneState) {
        let news = !state.is_same(&self.status.borrow().state);
        if news {
            state.log(&self.common.endpoint);
            self.metrics.state(&LaneState::LABELS, state.label());
        }
        self.status.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }
}
