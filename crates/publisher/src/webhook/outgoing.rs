//! One request of a lane, the same bytes in every attempt.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rowbridge_schema::config::{CloudEventsMode, EventFormat};
use rowbridge_schema::event::{Framing, OwnedEvent, cloudevents, json, xml};
use rowbridge_schema::signature::batch_id;

use super::sender::{Failure, Refused};
use super::settings::WebhookLaneConfig;
use super::window::{Item, Parcel};
use crate::deliveries::{Attempt, NewLetter, Origin, Outcome, Timings};
use crate::http::{Request, Response, Timing};

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
    /// `Content-Type`, where it is not what the endpoint's format says now: a dead letter is sent as it was.
    pub(crate) content_type: Option<String>,
    /// Path and query, where they come from the events.
    pub(crate) path: Option<String>,
    /// Headers that come from the events.
    pub(crate) headers: Vec<(String, String)>,
    /// Why it cannot be sent whatever the receiver says.
    pub(crate) fault: Option<Refused>,
    /// Its first attempt, made ready.
    pub(crate) ready: Option<Box<Ready>>,
}

/// A signed request.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its timestamp: seconds since 1970.
    pub(crate) seconds: u64,
    pub(crate) request: Request,
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
        EventFormat::Json | EventFormat::Debezium | EventFormat::Template => json::BATCH,
    }
}

/// `Content-Type` of events in a format; of a template, that of the plain events behind it.
pub(crate) fn content_type(format: EventFormat) -> &'static str {
    match format {
        EventFormat::Json | EventFormat::Debezium | EventFormat::Template => json::CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Structured) => cloudevents::STRUCTURED_CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Binary) => cloudevents::BINARY_CONTENT_TYPE,
        EventFormat::CloudEvents(CloudEventsMode::Batch) => cloudevents::BATCH_CONTENT_TYPE,
        EventFormat::Xml => xml::CONTENT_TYPE,
    }
}

impl Outgoing {
    pub(crate) fn new(number: u64, parcel: Parcel, config: &WebhookLaneConfig) -> Self {
        let batched = config.batched();
        let framing = framing(config.webhook().format, batched);
        let (id, body): (Arc<str>, Bytes) = match parcel.items.as_slice() {
            [item] if framing == Framing::BARE => (Arc::clone(&item.id), item.body.clone()),
            items => {
                let body = framed(&parcel, framing);
                match (items, batched) {
                    ([item], false) => (Arc::clone(&item.id), body),
                    _ => {
                        let ids: Vec<&str> = items.iter().map(|item| item.id.as_ref()).collect();
                        let (stream, endpoint) = (config.stream.as_str(), config.endpoint.name.as_str());
                        (batch_id(stream, endpoint, "", &ids.join(",")).into(), body)
                    }
                }
            }
        };
        let headers = match parcel.items.as_slice() {
            [item] => item.headers.clone(),
            _ => Vec::new(),
        };
        let unmade = parcel.items.iter().find_map(|item| item.fault.as_deref());
        let fault = unmade.map(|unmade| Refused::Row(unmade.error.clone()));
        let outgoing = Self {
            number,
            parcel,
            id,
            body,
            attempts: 0,
            first_at: None,
            origin: Origin::Stream,
            content_type: None,
            path: None,
            headers,
            fault,
            ready: None,
        };
        outgoing.rendered(config)
    }

    /// With what templates make of its events.
    pub(crate) fn rendered(mut self, config: &WebhookLaneConfig) -> Self {
        let request = &config.webhook().request;
        let whence = config.whence();
        let events = self.parcel.items.iter().filter_map(|item| item.event.as_deref());
        let events: Vec<_> = events.map(|event| event.event(whence)).collect();
        if events.is_empty() || !request.has_templates() {
            return self;
        }
        match request.render(&events, config.batched()) {
            Ok(rendered) => {
                drop(events);
                self.path = rendered.path;
                // What the event says of itself goes before what the configuration makes of it.
                let own = self.headers.len();
                let free = |name: &String| self.headers[..own].iter().all(|(own, _)| own != name);
                let further: Vec<_> = rendered.headers.into_iter().filter(|(name, _)| free(name)).collect();
                self.headers.extend(further);
                if let (Some(body), Some(template)) = (rendered.body, &request.body) {
                    self.body = body.into();
                    self.content_type = Some(template.content_type().as_str().to_owned());
                }
            }
            Err((templated, source)) => {
                drop(events);
                self.fault = Some(Refused::Template { templated, source });
            }
        }
        self
    }

    /// Whether it is made of just these events.
    pub(crate) fn is_of(&self, parcel: &Parcel) -> bool {
        let same = |(one, other): (&Item, &Item)| Arc::ptr_eq(&one.id, &other.id);
        self.parcel.items.len() == parcel.items.len() && self.parcel.items.iter().zip(&parcel.items).all(same)
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
        let format = config.webhook().format;
        // What a template makes of an event may hold secrets of the configuration, and is made again when it is retried.
        let body = match format {
            EventFormat::Template => framed(&self.parcel, framing(format, config.batched())),
            _ => self.body.clone(),
        };
        let events: Vec<&OwnedEvent> =
            self.parcel.items.iter().filter_map(|item| item.event.as_deref()).collect();
        let unmade = first.fault.as_deref().map(|unmade| unmade.change.clone());
        Some(NewLetter {
            endpoint: config.endpoint.name.clone(),
            webhook_id: self.id.to_string(),
            event: first.id.to_string(),
            events: u32::try_from(self.parcel.items.len()).unwrap_or(u32::MAX),
            position: last.key.position,
            table: self.table(),
            op: single.then(|| first.op.name().to_owned()),
            key: first.shown_key.as_deref().filter(|_| single).map(str::to_owned),
            content_type: content_type(format).to_owned(),
            headers: if single { first.headers.clone() } else { Vec::new() },
            body: body.to_vec(),
            source: unmade.or_else(|| (!events.is_empty()).then(|| serde_json::json!(events).to_string())),
            class: Some(class.to_owned()),
            reason: reason.to_owned(),
            status,
            attempts: self.attempts,
            first_at_ms: self.first_at.map_or(0, millis),
            dead_at_ms: millis(SystemTime::now()),
        })
    }
}

/// The bodies of all events as one.
fn framed(parcel: &Parcel, framing: Framing) -> Bytes {
    let mut body = Vec::with_capacity(parcel.bytes() + framing.overhead(parcel.items.len()));
    framing.body(&mut body, &parcel.items, |out, item| out.extend_from_slice(&item.body));
    body.into()
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
