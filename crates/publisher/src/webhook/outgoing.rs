//! One request of a lane, the same bytes in every attempt.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rowbridge_schema::config::{CloudEventsMode, EventFormat};
use rowbridge_schema::event::{Framing, cloudevents, json, xml};
use rowbridge_schema::signature::batch_id;

use super::sender::Failure;
use super::settings::WebhookLaneConfig;
use super::window::Parcel;
use crate::deliveries::{Attempt, NewLetter, Origin, Outcome, Timings};
use crate::http::{Response, Timing};

/// Events on their way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Tells requests of the lane apart.
    pub(crate) number: u64,
    pub(crate) parcel: Parcel,
    /// `webhook-id`: the event's id, or a hash of all ids.
    pub(crate) id: Arc<str>,
    pub(crate) body: Bytes,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// When the first one began.
    pub(crate) first_at: Option<SystemTime>,
    /// Why it is sent.
    pub(crate) origin: Origin,
    /// Where it is not what the endpoint's format says now: a dead letter is sent as it was.
    pub(crate) content_type: Option<String>,
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outgoing: Outgoing,
    pub(crate) began: SystemTime,
    pub(crate) timing: Timing,
    pub(crate) result: Result<Response, Failure>,
}

/// How the events of a request become its body.
pub(crate) fn framing(format: EventFormat, batched: bool) -> Framing {
    match format {
        EventFormat::Xml if !batched => xml::SINGLE,
        _ if !batched => Framing::BARE,
        EventFormat::Xml => xml::BATCH,
        EventFormat::CloudEvents(_) => cloudevents::BATCH,
        EventFormat::Json | EventFormat::Debezium => json::BATCH,
    }
}

/// `Content-Type` of a request.
pub(crate) fn content_type(format: EventFormat) -> &'static str {
    match format {
        EventFormat::Json | EventFormat::Debezium => json::CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Structured) => cloudevents::STRUCTURED_CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Binary) => cloudevents::BINARY_CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Batch) => cloudevents::BATCH_CONTENT_TYPE,
        EventFormat::Xml => xml::CONTENT_TYPE,
    }
}

impl Outgoing {
    pub(crate) fn new(number: u64, parcel: Parcel, config: &WebhookLaneConfig) -> Self {
        let webhook = config.webhook();
        // Whoever asked for batches gets them, also of one event.
        let batched = webhook.policy.batch.max_events > 1;
        let framing = framing(webhook.format, batched);
        let (id, body): (Arc<str>, Bytes) = match parcel.items.as_slice() {
            [item] if framing == Framing::BARE => (Arc::clone(&item.id), item.body.clone()),
            items => {
                let mut body = Vec::with_capacity(parcel.bytes() + framing.overhead(items.len()));
                framing.body(&mut body, items, |out, item| out.extend_from_slice(&item.body));
                if let ([item], false) = (items, batched) {
                    let id = Arc::clone(&item.id);
                    return Self::of(number, parcel, id, body.into());
                }
                let ids: Vec<&str> = items.iter().map(|item| item.id.as_ref()).collect();
                let (stream, endpoint) = (config.stream.as_str(), config.endpoint.name.as_str());
                (batch_id(stream, endpoint, "", &ids.join(",")).into(), body.into())
            }
        };
        Self::of(number, parcel, id, body)
    }

    fn of(number: u64, parcel: Parcel, id: Arc<str>, body: Bytes) -> Self {
        Self {
            number,
            parcel,
            id,
            body,
            attempts: 0,
            first_at: None,
            origin: Origin::Stream,
            content_type: None,
        }
    }

    /// Commit time of its oldest event in microseconds since 1970.
    pub(crate) fn oldest(&self) -> i64 {
        self.parcel.items.iter().map(|item| item.committed_at).min().unwrap_or(i64::MAX)
    }

    /// The one table, if there is one.
    fn table(&self) -> Option<String> {
        let mut tables = self.parcel.items.iter().map(|item| &item.table);
        let first = tables.next()?;
        tables.all(|table| table == first).then(|| first.to_string())
    }

    /// What it is as a dead letter.
    pub(crate) fn letter(
        &self,
        config: &WebhookLaneConfig,
        reason: &str,
        class: &str,
        status: Option<u16>,
    ) -> Option<NewLetter> {
        let (first, last) = (self.parcel.items.first()?, self.parcel.items.last()?);
        let single = self.parcel.items.len() == 1;
        Some(NewLetter {
            endpoint: config.endpoint.name.clone(),
            webhook_id: self.id.to_string(),
            event: first.id.to_string(),
            events: u32::try_from(self.parcel.items.len()).unwrap_or(u32::MAX),
            position: last.key.position,
            table: self.table(),
            op: single.then(|| first.op.name().to_owned()),
            key: first.shown_key.as_deref().filter(|_| single).map(str::to_owned),
            content_type: content_type(config.webhook().format).to_owned(),
            headers: if single { first.headers.clone() } else { Vec::new() },
            body: self.body.to_vec(),
            class: Some(class.to_owned()),
            reason: reason.to_owned(),
            status,
            attempts: self.attempts,
            first_at_ms: self.first_at.map_or(0, millis),
            dead_at_ms: millis(SystemTime::now()),
        })
    }
}

impl Ended {
    /// What the attempt log says of it.
    pub(crate) fn attempt(
        &self,
        config: &WebhookLaneConfig,
        outcome: Outcome,
        error: Option<(&'static str, &str)>,
    ) -> Attempt {
        let outgoing = &self.outgoing;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let response = self.result.as_ref().ok();
        let (first, last) = (outgoing.parcel.items.first(), outgoing.parcel.items.last());
        Attempt {
            endpoint: config.endpoint.name.clone(),
            webhook_id: outgoing.id.to_string(),
            event: first.map(|item| item.id.to_string()).filter(|id| **id != *outgoing.id),
            events: u32::try_from(outgoing.parcel.items.len()).unwrap_or(u32::MAX),
            position: last.map(|item| item.key.position),
            table: outgoing.table(),
            attempt: outgoing.attempts,
            started_at_ms: millis(self.began),
            outcome,
            status: response.map(|response| response.status),
            class: error.map(|(class, _)| class.to_owned()),
            error: error.map(|(_, text)| text.to_owned()),
            timings: Timings {
                dns_us: self.timing.dns.map(micros),
                connect_us: self.timing.connect.map(micros),
                tls_us: self.timing.tls.map(micros),
                first_byte_us: self.timing.first_byte.map(micros),
                total_us: micros(self.timing.total),
            },
            excerpt: response.map(|response| response.body.to_vec()).unwrap_or_default(),
            request_bytes: outgoing.body.len() as u64,
            origin: outgoing.origin,
        }
    }
}

pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
