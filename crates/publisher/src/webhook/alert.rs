//! Tells people how endpoints are doing: one lane per `[[alert]]`, reading the list of what has happened to endpoints.
//!
//! What an alert lane itself fails at is recorded as attempts and makes no news of its own. It is told at least once, in
//! order: the cursor moves after the answer, and a repetition has the same `webhook-id`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rowbridge_schema::config::{AlertConfig, WebhookConfig};
use rowbridge_schema::event::{Event, EventOp, Field, OwnedEvent};
use rowbridge_schema::types::ColumnType;
use rowbridge_schema::{Cell, Dialect, Position, SourceId, StreamName, TableName};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::cursor::EventKey;
use super::outcome::{Verdict, judge};
use super::outgoing::Outgoing;
use super::retry::{self, Next};
use super::sender::Sender;
use super::settings::{WebhookLaneConfig, WebhookSetupError, webhook_tls};
use super::window::{Item, Parcel};
use crate::deliveries::{
    Attempt, EVENTS_KEPT, EndpointEvent, EventKind, Outcome, Recorder, StoreError, now_ms,
};
use crate::lane::Orders;

/// The store is looked at again this long after it could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Tell,
    Pass,
    /// Nobody knows yet whether it lasts.
    Wait,
}

/// One `[[alert]]`; see the module.
pub(crate) struct AlertLane {
    alert: AlertConfig,
    lane: WebhookLaneConfig,
    sender: Sender,
    recorder: Arc<Recorder>,
    /// Settled, though something before it is not.
    settled: BTreeSet<i64>,
    /// When a failure has lasted. Not by the clock on the wall, which may be set back by hours meanwhile.
    lasts: BTreeMap<i64, Instant>,
}

impl AlertLane {
    /// Makes the client; nothing is connected yet.
    ///
    /// # Errors
    /// Its address, certificates or credentials.
    pub(crate) fn new(
        alert: AlertConfig,
        webhook: Box<WebhookConfig>,
        stream: StreamName,
        state_dir: PathBuf,
        recorder: Arc<Recorder>,
    ) -> Result<Self, WebhookSetupError> {
        let tls = webhook_tls(&alert.endpoint, &webhook)?;
        let lane = WebhookLaneConfig {
            stream,
            source: SourceId("rowbridge".to_owned()),
            database: String::new(),
            state_dir,
            endpoint: alert.endpoint.clone(),
            webhook,
            outboxes: Arc::new([]),
            start: Position::ZERO,
            orders: Orders::default(),
            window_bytes: 0,
            shutdown_grace: Duration::ZERO,
        };
        let sender = Sender::new(&lane, tls)?;
        Ok(Self { alert, lane, sender, recorder, settled: BTreeSet::new(), lasts: BTreeMap::new() })
    }

    /// Tells until shutdown. Cancel safety: what is under way may have arrived, and is told again after the start.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut commands = self.recorder.requests();
        let mut changes = self.recorder.endpoint_changes();
        loop {
            commands.borrow_and_update();
            changes.borrow_and_update();
            let next = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                told = self.tell_what_is_new() => told,
            };
            let again = next.unwrap_or_else(|error| {
                tracing::warn!(alert = %self.alert.endpoint.name, %error, "what happened to endpoints cannot be read");
                Some(Instant::now() + LOOK_AGAIN)
            });
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                Ok(()) = commands.changed() => {}
                Ok(()) = changes.changed() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// Returns when something that is not decided yet will be.
    async fn tell_what_is_new(&mut self) -> Result<Option<Instant>, StoreError> {
        let reader = format!("alert:{}", self.alert.endpoint.name);
        let cursor = match self.recorder.store().cursor(&reader)? {
            Some(cursor) => cursor,
            // Whoever is new hears what happens from now on.
            None => {
                let last = self.recorder.store().last_event()?;
                self.recorder.set_cursor(&reader, last).await?;
                last
            }
        };
        let events = self.recorder.store().events(0, EVENTS_KEPT)?;
        let new = events.iter().position(|event| event.id > cursor).unwrap_or(events.len());
        let mut wait: Option<Instant> = None;
        for at in new..events.len() {
            let event = &events[at];
            if self.settled.contains(&event.id) {
                continue;
            }
            let left = || Instant::now() + left(event, &self.alert, now_ms());
            let lasts = *self.lasts.entry(event.id).or_insert_with(left);
            match decide(&events, at, &self.alert, lasts <= Instant::now()) {
                Decision::Wait => {
                    wait = Some(wait.map_or(lasts, |wait| wait.min(lasts)));
                    continue;
                }
                Decision::Tell => self.tell(event).await,
                Decision::Pass => {}
            }
            self.settled.insert(event.id);
            self.advance(&reader, &events[new..]).await?;
        }
        Ok(wait)
    }

    async fn advance(&mut self, reader: &str, new: &[EndpointEvent]) -> Result<(), StoreError> {
        let done = new.iter().take_while(|event| self.settled.contains(&event.id)).last();
        let Some(done) = done.map(|event| event.id) else { return Ok(()) };
        self.recorder.set_cursor(reader, done).await?;
        self.settled.retain(|id| *id > done);
        self.lasts.retain(|id, _| *id > done);
        Ok(())
    }

    /// Tries until it is taken, refused for good, or too old.
    async fn tell(&self, event: &EndpointEvent) {
        let parcel = Parcel { items: vec![self.item(event)] };
        let mut outgoing = Outgoing::new(0, parcel, &self.lane);
        let policy = &self.lane.webhook.policy;
        loop {
            outgoing.attempts = outgoing.attempts.saturating_add(1);
            let ended = self.sender.send(outgoing).await;
            let (outcome, error, wait) = match judge(&ended, &policy.retry_on) {
                Verdict::Done => (Outcome::Delivered, None, None),
                Verdict::Retry { error, class, after } => {
                    let (attempts, at) = (ended.outgoing.attempts, event.at_ms.saturating_mul(1000));
                    match retry::next(policy, attempts, at, after, SystemTime::now()) {
                        Next::After(wait) => (Outcome::Retry, Some((class, error)), Some(wait)),
                        Next::GiveUp => (Outcome::Expired, Some((class, error)), None),
                    }
                }
                Verdict::Permanent { error, class, .. } => (Outcome::Permanent, Some((class, error)), None),
                Verdict::Gone => {
                    (Outcome::Permanent, Some(("gone", "the endpoint answered 410".to_owned())), None)
                }
            };
            let told = error.as_ref().map(|(class, error)| (*class, error.as_str()));
            let attempt = ended.attempt(&self.lane, outcome, told);
            self.recorder.attempt(Attempt { position: None, ..attempt });
            outgoing = ended.outgoing;
            match (wait, error) {
                (Some(wait), _) => sleep(wait).await,
                (None, None) => return,
                (None, Some((_, error))) => {
                    tracing::error!(alert = %self.alert.endpoint.name, endpoint = %event.endpoint, kind = event.kind.name(), %error, "an alert could not be delivered");
                    return;
                }
            }
        }
    }

    fn item(&self, event: &EndpointEvent) -> Item {
        let id = format!("{}:alert-{}", self.lane.stream, event.id);
        let kind = format!("endpoint.{}", event.kind.name());
        let table = TableName::new("rowbridge", "alert");
        let text = ColumnType::parse(Dialect::Postgres, "text", None, &[]);
        let field = |name, value: Option<&str>| Field {
            name,
            column: &text,
            cell: value.map_or(Cell::Null, |value| Cell::text(value).into_owned()),
        };
        let row = vec![
            field("endpoint", Some(event.endpoint.as_str())),
            field("type", Some(&kind)),
            field("state", Some(event.kind.name())),
            field("reason", event.reason.as_deref()),
        ];
        let whence = self.lane.whence();
        let shown = Event {
            id: &id,
            op: EventOp::Insert,
            stream: whence.stream,
            endpoint: whence.endpoint,
            source: whence.source,
            database: whence.database,
            dialect: Dialect::Postgres,
            table: &table,
            position: Position::ZERO,
            committed_at: event.at_ms.saturating_mul(1000),
            replay: false,
            key: row[..1].to_vec(),
            before: None,
            after: Some(row),
            changed: None,
            message: None,
        };
        let body = json!({
            "id": id,
            "type": kind,
            "timestamp": shown.commit_time(),
            "stream": self.lane.stream.as_str(),
            "data": {
                "endpoint": event.endpoint.as_str(),
                "state": event.kind.name(),
                "reason": event.reason,
            },
        });
        Item {
            key: EventKey { position: Position::ZERO, part: 0 },
            lane: 0,
            id: id.as_str().into(),
            op: EventOp::Insert,
            table: Arc::new(table.clone()),
            shown_key: None,
            committed_at: event.at_ms.saturating_mul(1000),
            barrier: false,
            headers: Vec::new(),
            body: Bytes::from(body.to_string()),
            event: Some(Arc::new(OwnedEvent::of(&shown))),
            alone: false,
            fault: None,
        }
    }
}

/// How long a failure that is looked at for the first time has still to last. One of the future, since the clock was set
/// back, has begun now.
fn left(event: &EndpointEvent, alert: &AlertConfig, now_ms: i64) -> Duration {
    let age = u64::try_from(now_ms.saturating_sub(event.at_ms)).unwrap_or(0);
    alert.after.saturating_sub(Duration::from_millis(age))
}

/// Whether an event is told. A failure is told once it lasts; one that is over before, and its end, are not. Where the
/// clock was set back between the two, nobody knows how long it was, and both are told.
fn decide(events: &[EndpointEvent], at: usize, alert: &AlertConfig, lasts: bool) -> Decision {
    let event = &events[at];
    if !alert.kinds.contains(&event.kind.name()) {
        return Decision::Pass;
    }
    let after = i64::try_from(alert.after.as_millis()).unwrap_or(i64::MAX);
    let same = |other: &&EndpointEvent| other.endpoint == event.endpoint;
    let ends = |kind: EventKind| matches!(kind, EventKind::Recovered | EventKind::Enabled);
    match event.kind {
        EventKind::Failing => {
            let over = events[at + 1..].iter().filter(same).find(|other| ends(other.kind));
            match over {
                Some(over) if (event.at_ms..event.at_ms.saturating_add(after)).contains(&over.at_ms) => {
                    Decision::Pass
                }
                None if !lasts => Decision::Wait,
                _ => Decision::Tell,
            }
        }
        EventKind::Recovered => {
            let began = events[..at].iter().rev().filter(same).find(|other| other.kind == EventKind::Failing);
            match began {
                Some(began) if (began.at_ms..began.at_ms.saturating_add(after)).contains(&event.at_ms) => {
                    Decision::Pass
                }
                _ => Decision::Tell,
            }
        }
        _ => Decision::Tell,
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::config::ALERT_KINDS;

    use super::*;

    fn event(id: i64, at_ms: i64, endpoint: &str, kind: EventKind) -> EndpointEvent {
        EndpointEvent { id, at_ms, endpoint: endpoint.parse().unwrap(), kind, reason: None }
    }

    fn alert(kinds: &[&'static str]) -> AlertConfig {
        let text = "[publisher]\nstream = \"s\"\nstate_dir = \"/s\"\n[source]\nkind = \"sqlite\"\n\
                    url = \"sqlite:/a\"\ntables = [\"*\"]\n[[endpoint]]\nname = \"e\"\nurl = \"http://127.0.0.1/\"\n\
                    format = \"json\"\nsignature = \"none\"\n[[alert]]\nname = \"a\"\nurl = \"http://127.0.0.1/\"\n\
                    signature = \"none\"\nafter = \"1s\"\n";
        let none = |_: &str| None;
        let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let config = rowbridge_schema::config::load("f".as_ref(), text, &none, &no_file).unwrap();
        let alert = config.publisher.unwrap().alerts.remove(0);
        AlertConfig { kinds: kinds.to_vec(), ..alert }
    }

    #[test]
    fn what_is_over_soon_is_no_news() {
        let all = alert(&ALERT_KINDS);
        let events = [
            event(1, 1_000, "a", EventKind::Failing),
            event(2, 1_500, "b", EventKind::Failing),
            event(3, 1_900, "a", EventKind::Recovered),
            event(4, 2_600, "b", EventKind::Recovered),
            event(5, 9_000, "b", EventKind::Failing),
            event(6, 9_100, "b", EventKind::Disabled),
        ];
        let decisions = |lasts| (0..6).map(|at| decide(&events, at, &all, lasts)).collect::<Vec<_>>();
        use Decision::{Pass, Tell, Wait};
        assert_eq!(decisions(false), [Pass, Tell, Pass, Tell, Wait, Tell]);
        assert_eq!(decisions(true)[4], Tell, "disabled is not recovered");
        let millis = |now_ms| left(&events[4], &all, now_ms).as_millis();
        assert_eq!((millis(9_000), millis(9_200), millis(10_000), millis(99_000)), (1_000, 800, 0, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_alert() {
        let all = alert(&ALERT_KINDS);
        let hours = 5 * 3600 * 1000;
        let events = [
            event(1, hours, "a", EventKind::Failing),
            event(2, 700, "a", EventKind::Recovered),
            event(3, hours, "b", EventKind::Failing),
        ];
        assert_eq!(left(&events[2], &all, 800), Duration::from_secs(1), "and not five hours");
        let decisions = |lasts| (0..3).map(|at| decide(&events, at, &all, lasts)).collect::<Vec<_>>();
        use Decision::{Tell, Wait};
        assert_eq!(decisions(false), [Tell, Tell, Wait]);
        assert_eq!(decisions(true)[2], Tell);
    }

    #[test]
    fn only_what_is_asked_for_is_told() {
        let some = alert(&["disabled"]);
        let events = [event(1, 0, "a", EventKind::Failing), event(2, 0, "a", EventKind::Disabled)];
        assert_eq!(decide(&events, 0, &some, true), Decision::Pass);
        assert_eq!(decide(&events, 1, &some, true), Decision::Tell);
    }

    #[test]
    fn every_kind_has_its_name_in_the_configuration() {
        for kind in ALERT_KINDS {
            assert_eq!(EventKind::parse(kind).unwrap().name(), kind);
        }
    }
}
