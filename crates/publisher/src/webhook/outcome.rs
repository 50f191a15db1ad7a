//! What the end of a request does to a lane.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rowbridge_schema::config::OnPermanentError;
use rowbridge_schema::{Class, Classified as _, Failpoint};
use tokio::time::Instant;

use super::breaker::Change;
use super::outgoing::{Ended, Outgoing};
use super::retry::{self, Next};
use super::sender::Failure;
use super::{Done, PROBE_EVERY, WebhookLane};
use crate::deliveries::{EndpointChange, EventKind, Outcome, StoreError};
use crate::journal::Journal;
use crate::lane::{LaneState, retry_after};

/// What an answer, or the lack of one, means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Retry { error: String, class: &'static str, after: Option<Duration> },
    Permanent { error: String, class: &'static str, hint: Option<String> },
    Gone,
}

/// 2xx is done; 408, 425, 429 and 5xx are tried again, as is no answer at all; 410 disables the endpoint; everything else,
/// redirects included, is permanent, unless `retry_on` names it.
pub(super) fn judge(ended: &Ended, retry_on: &[u16]) -> Verdict {
    let response = match &ended.result {
        Ok(response) => response,
        Err(error) => {
            let text = chain(error);
            let class = error.label();
            return match error.class() {
                Class::Retryable { after } => Verdict::Retry { error: text, class, after },
                Class::Permanent => Verdict::Permanent { error: text, class, hint: error.hint() },
            };
        }
    };
    let status = response.status;
    let error = || match &response.location {
        Some(_) => format!("the endpoint answered {status}: redirects are not followed"),
        None => format!("the endpoint answered {status}"),
    };
    match status {
        200..=299 => Verdict::Done,
        410 => Verdict::Gone,
        408 | 425 | 429 | 500..=599 => {
            let wish = response.retry_after.as_deref();
            let after =
                wish.and_then(|wish| retry_after(&wish.value, wish.date.as_deref(), SystemTime::now()));
            let class = if status == 429 { "throttled" } else { "status" };
            Verdict::Retry { error: error(), class, after }
        }
        _ if retry_on.contains(&status) => Verdict::Retry { error: error(), class: "status", after: None },
        300..=399 => Verdict::Permanent {
            error: error(),
            class: "redirect",
            hint: Some("Write the address that it leads to in endpoint.url.".to_owned()),
        },
        _ => Verdict::Permanent { error: error(), class: "status", hint: None },
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl<J: Journal> WebhookLane<J> {
    pub(super) fn ended(&mut self, ended: Ended) {
        Failpoint::WebhookAnswered.pass();
        let now = Instant::now();
        let verdict = judge(&ended, &self.config.webhook().policy.retry_on);
        let seconds = ended.timing.total.as_secs_f64();
        if matches!(ended.result, Err(Failure::Refused(_))) {
            self.breaker.withdrawn();
        } else {
            match self.breaker.ended(verdict == Verdict::Done, now) {
                Change::None => {}
                Change::Opened => self.breaker_opened(),
                Change::Closed => self.breaker_closed(),
            }
        }
        if verdict != Verdict::Done {
            // The log has attempts in the order in which they ended.
            self.account();
        }
        match verdict {
            Verdict::Done => {
                self.delivered(&ended.outgoing);
                Failpoint::WebhookSettled.pass();
                self.told.push(ended);
            }
            Verdict::Retry { error, class, after } => {
                let policy = &self.config.webhook().policy;
                let attempts = ended.outgoing.attempts;
                match retry::next(policy, attempts, ended.outgoing.oldest(), after, SystemTime::now()) {
                    Next::After(wait) => {
                        self.metrics.attempt("retry", seconds);
                        self.metrics.retry(class);
                        self.record(&ended, Outcome::Retry, Some((class, &error)));
                        self.failing(&ended.outgoing, error);
                        let key = (now + wait, ended.outgoing.number);
                        self.retries.insert(key, ended.outgoing);
                    }
                    Next::GiveUp => {
                        self.metrics.attempt("permanent", seconds);
                        self.record(&ended, Outcome::Expired, Some((class, &error)));
                        self.permanent(ended, &error, class, None);
                    }
                }
            }
            Verdict::Permanent { error, class, hint } => {
                self.metrics.attempt("permanent", seconds);
                self.record(&ended, Outcome::Permanent, Some((class, &error)));
                self.permanent(ended, &error, class, hint);
            }
            Verdict::Gone => {
                self.metrics.attempt("permanent", seconds);
                let error = "the endpoint answered 410: it takes nothing any more";
                self.record(&ended, Outcome::Disabled, Some(("gone", error)));
                self.retries.insert((now, ended.outgoing.number), ended.outgoing);
                self.disable(error);
            }
        }
    }

    /// Writes down in metrics and attempt log what was delivered.
    pub(super) fn account(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let (mut deliveries, mut changes) = (0, 0);
        for ended in std::mem::take(&mut self.told) {
            for item in &ended.outgoing.parcel.items {
                let age = (micros as i64).saturating_sub(item.committed_at).max(0);
                self.metrics.latency.observe(age as f64 / 1e6);
            }
            self.metrics.delivered(ended.timing.total.as_secs_f64());
            self.record(&ended, Outcome::Delivered, None);
            deliveries += 1;
            changes += ended.outgoing.parcel.items.len() as u64;
        }
        self.metrics.deliveries.inc_by(deliveries);
        self.metrics.changes.inc_by(changes);
        self.status.send_modify(|status| {
            status.deliveries += deliveries;
            status.changes += changes;
        });
    }

    fn delivered(&mut self, outgoing: &Outgoing) {
        if self.halted == Some(outgoing.number) {
            self.halted = None;
        }
        self.settle(outgoing);
        if self.halted.is_none() && !self.breaker.is_open() && self.retries.is_empty() {
            self.recovered();
        }
    }

    /// Delivered or set aside: the lane is past it.
    pub(super) fn settle(&mut self, outgoing: &Outgoing) {
        let mark = self.window.settle(&outgoing.parcel);
        let keys = outgoing.parcel.keys();
        if self.config.webhook().policy.batch.max_events > 1 {
            self.cursor.settle_group(&keys);
        } else if mark.is_none() {
            keys.iter().for_each(|key| self.cursor.settle(*key));
        }
        if let Some(mark) = mark {
            self.advance(mark);
        }
        self.unsynced = true;
    }

    /// It fails for good: it is set aside, or a person is waited for.
    fn permanent(&mut self, ended: Ended, error: &str, class: &'static str, hint: Option<String>) {
        let status = ended.result.as_ref().ok().map(|response| response.status);
        let halts = self.config.webhook().policy.on_permanent_error == OnPermanentError::Halt;
        let letter = ended.outgoing.letter(&self.config, error, class, status).filter(|_| !halts);
        let Some(letter) = letter else { return self.halt(ended.outgoing, error.to_owned(), hint) };
        tracing::warn!(
            endpoint = %self.config.endpoint.name,
            delivery_id = %ended.outgoing.id,
            attempts = ended.outgoing.attempts,
            %error,
            "set aside as a dead letter"
        );
        let recorder = Arc::clone(&self.recorder);
        self.flight.push(Box::pin(async move {
            let written = recorder.dead_letter(letter).await;
            Done::SetAside(ended.outgoing, written)
        }));
    }

    /// It is set aside, or there is no room for it: then it is held.
    pub(super) fn set_aside(&mut self, outgoing: Outgoing, written: Result<i64, StoreError>) {
        match written {
            Ok(_) => {
                Failpoint::LetterWritten.pass();
                self.metrics.dead_letters.inc();
                if self.halted == Some(outgoing.number) {
                    self.halted = None;
                }
                self.settle(&outgoing);
                if self.halted.is_none() && self.retries.is_empty() && !self.breaker.is_open() {
                    self.recovered();
                }
            }
            Err(error) => {
                let hint = error.hint();
                self.halt(outgoing, error.to_string(), hint);
            }
        }
    }

    /// A person is needed. Only this request goes out, now and then, to see whether it still is.
    fn halt(&mut self, outgoing: Outgoing, reason: String, hint: Option<String>) {
        self.halted = Some(outgoing.number);
        self.tell(EventKind::Failing, Some(reason.clone()));
        let hint = hint.or_else(|| Some("It is tried again every minute.".to_owned()));
        self.enter(LaneState::Halted { reason, hint });
        self.retries.insert((Instant::now() + PROBE_EVERY, outgoing.number), outgoing);
    }
}

impl<J: Journal> WebhookLane<J> {
    pub(super) fn record(&self, ended: &Ended, outcome: Outcome, error: Option<(&'static str, &str)>) {
        self.recorder.attempt(ended.attempt(&self.config, outcome, error));
    }

    /// Deliveries fail; the first failure in a row is news.
    fn failing(&mut self, outgoing: &Outgoing, error: String) {
        let state = self.status.borrow().state.clone();
        let since = match &state {
            LaneState::Retrying { since, .. } => *since,
            LaneState::Starting | LaneState::Running => {
                self.tell(EventKind::Failing, Some(error.clone()));
                SystemTime::now()
            }
            _ => return,
        };
        self.enter(LaneState::Retrying { attempt: outgoing.attempts, error, since });
    }

    fn recovered(&mut self) {
        let was = self.status.borrow().state.clone();
        match was {
            LaneState::Retrying { .. } | LaneState::Halted { .. } => {
                self.tell(EventKind::Recovered, None);
                self.enter(LaneState::Running);
            }
            LaneState::Starting => self.enter(LaneState::Running),
            _ => {}
        }
    }

    fn breaker_opened(&mut self) {
        tracing::warn!(endpoint = %self.config.endpoint.name, "most attempts fail: events are held, and one is tried now and then");
        self.tell(EventKind::BreakerOpened, None);
    }

    fn breaker_closed(&mut self) {
        tracing::info!(endpoint = %self.config.endpoint.name, "an attempt succeeded: events are sent again");
        self.tell(EventKind::BreakerClosed, None);
    }

    /// Nothing is sent until an operator enables the endpoint; its events are held.
    fn disable(&mut self, reason: &str) {
        self.tell(EventKind::Disabled, Some(reason.to_owned()));
        self.enter(LaneState::Disabled { reason: reason.to_owned() });
    }

    /// Writes down a change of the endpoint's state, for whoever is to be told.
    fn tell(&self, kind: EventKind, reason: Option<String>) {
        let (recorder, name) = (Arc::clone(&self.recorder), self.config.endpoint.name.clone());
        tokio::spawn(async move {
            if let Err(error) = recorder.change_endpoint(&name, EndpointChange { kind, reason }).await {
                tracing::warn!(endpoint = %name, %error, "a change of the endpoint's state cannot be written down");
            }
        });
    }

    pub(super) fn enter(&mut self, state: LaneState) {
        let news = !state.is_same(&self.status.borrow().state);
        if news {
            state.log(&self.config.endpoint.name);
            self.metrics.state(&LaneState::LABELS, state.label());
        }
        self.status.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }
}
