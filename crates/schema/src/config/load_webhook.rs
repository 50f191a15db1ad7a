//! The keys of `[[endpoint]]` that only endpoints other than Rowbridge have.

use std::time::Duration;

use toml::de::DeValue;

use super::error::Problem;
use super::load_endpoint::above_zero;
use super::reader::{Field, Keys, Reader, Section};
use super::request::RequestConfig;
use super::webhook::{
    Batch, CloudEventsMode, EventFormat, Lines, OnPermanentError, Order, Rate, RetrySchedule, WebhookConfig,
    WebhookPolicy,
};
use super::{defaults, load_columns};
use crate::event::EventOp;
use crate::event::shape::ShapeConfig;
use crate::expr::{Program, Purpose, Scope};

/// All that there is, which is what an endpoint gets that does not choose.
const OPERATIONS: [EventOp; 6] =
    [EventOp::Insert, EventOp::Update, EventOp::Delete, EventOp::Truncate, EventOp::Read, EventOp::Message];

const BATCH: Keys = Keys { section: "endpoint.batch", keys: &["max_events", "max_bytes", "max_wait"] };
const RETRY: Keys = Keys { section: "endpoint.retry", keys: &["first", "max"] };

/// `Some(None)` is the bridge.
pub(super) fn format(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<EventFormat>> {
    let Some(field) = section.get("format") else { return Some(None) };
    let structured = EventFormat::CloudEvents(CloudEventsMode::Structured);
    let choices = [
        ("bridge", None),
        ("json", Some(EventFormat::Json)),
        ("cloudevents", Some(structured)),
        ("debezium", Some(EventFormat::Debezium)),
        ("xml", Some(EventFormat::Xml)),
        ("template", Some(EventFormat::Template)),
    ];
    const EXPECTED: &str = "\"bridge\", \"json\", \"cloudevents\", \"debezium\", \"xml\" or \"template\"";
    let format = reader.choice(&field, EXPECTED, &choices, "bridge is for a Rowbridge subscriber")?;
    let Some(field) = section.get("mode") else { return Some(format) };
    match format {
        Some(EventFormat::CloudEvents(_)) => {
            let modes = [
                ("structured", CloudEventsMode::Structured),
                ("binary", CloudEventsMode::Binary),
                ("batch", CloudEventsMode::Batch),
            ];
            let expected = "\"structured\", \"binary\" or \"batch\"";
            let mode = reader.choice(&field, expected, &modes, "structured has everything in the body")?;
            Some(Some(EventFormat::CloudEvents(mode)))
        }
        Some(other) => {
            reader.report(&field, Problem::NotForFormat { format: other.name() });
            Some(Some(other))
        }
        // Reported with the other keys that a bridge has no use for.
        None => Some(None),
    }
}

/// What is known of an endpoint without the look of its requests.
pub(super) struct Parts {
    format: EventFormat,
    operations: Vec<EventOp>,
    when: Option<Program>,
    shape: ShapeConfig,
    policy: WebhookPolicy,
    lines: Lines,
}

impl Parts {
    pub(super) fn with(self, request: RequestConfig) -> WebhookConfig {
        let Self { format, operations, when, shape, policy, lines } = self;
        WebhookConfig { format, operations, when, shape, policy, request, lines }
    }
}

pub(super) fn webhook(reader: &mut Reader<'_>, section: &Section<'_>, format: EventFormat) -> Option<Parts> {
    let operations = match section.get("operations") {
        None => Some(OPERATIONS.to_vec()),
        Some(field) => operations(reader, &field),
    };
    let when = match section.get("when") {
        None => Some(None),
        Some(field) => condition(reader, &field).map(Some),
    };
    let shape = load_columns::shape(reader, section);
    let policy = policy(reader, section, format);
    let line = |key| section.get(key).map_or(0, |field| reader.place(field.at).0);
    let columns = match line("columns") {
        0 => line("keep"),
        columns => columns,
    };
    let lines =
        Lines { when: line("when"), columns, url: line("url"), headers: line("headers"), body: line("body") };
    Some(Parts { format, operations: operations?, when: when?, shape: shape?, policy: policy?, lines })
}

/// What can be known of a condition without knowing the tables: their columns are compared by `check` and at the start.
pub(super) fn condition(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Program> {
    let text = reader.filled_text(field, "a condition", "\"after.total > 1000\"")?;
    let parsed = Program::parse(&text).and_then(|program| {
        program.check(&Scope { table: None, purpose: Purpose::Condition })?;
        Ok(program)
    });
    parsed.map_err(|error| reader.report(field, Problem::expression(&text, error))).ok()
}

fn operations(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<EventOp>> {
    const EXPECTED: &str = "a list of operations";
    const WORDS: &str = "\"insert\", \"update\", \"delete\", \"truncate\", \"read\" or \"message\"";
    let elements = reader.list(field, EXPECTED, "[\"insert\", \"update\"]")?;
    if elements.is_empty() {
        reader.report(field, Problem::EmptyList { way_out: "leave it out to send all of them" });
        return None;
    }
    let choices = OPERATIONS.map(|op| (op.name(), op));
    let all: Vec<_> = elements
        .iter()
        .map(|element| {
            reader.choice(element, WORDS, &choices, "read is a row of a snapshot, message is of an outbox")
        })
        .collect();
    all.into_iter().collect()
}

fn policy(reader: &mut Reader<'_>, section: &Section<'_>, format: EventFormat) -> Option<WebhookPolicy> {
    let usual = WebhookPolicy::default();
    let batch = match section.get("batch") {
        None if format == EventFormat::CloudEvents(CloudEventsMode::Batch) => {
            Some(Batch { max_events: defaults::BATCH_MAX_EVENTS, ..usual.batch })
        }
        None => Some(usual.batch),
        Some(field) => batch(reader, &field, format),
    };
    let order = section.get("order").map_or(Some(usual.order), |field| {
        let choices = [("strict", Order::Strict), ("key", Order::Key), ("none", Order::None)];
        let expected = "\"strict\", \"key\" or \"none\"";
        reader.choice(&field, expected, &choices, "key: in order within a key, side by side across keys")
    });
    let concurrency = match section.get("concurrency") {
        None if matches!(order, None | Some(Order::Strict)) => Some(1),
        None => Some(defaults::CONCURRENCY),
        Some(field) => concurrency(reader, &field, order),
    };
    let rate = match section.get("rate") {
        None => Some(None),
        Some(field) => rate(reader, &field).map(Some),
    };
    let retry = section.get("retry").map_or(Some(usual.retry), |field| retry(reader, &field));
    let retry_on = section.get("retry_on").map_or(Some(Vec::new()), |field| statuses(reader, &field));
    let max_age = match section.get("max_age") {
        None => Some(usual.max_age),
        Some(field) => never_or(reader, &field),
    };
    let on_permanent_error =
        section.get("on_permanent_error").map_or(Some(usual.on_permanent_error), |field| {
            let choices = [("dead_letter", OnPermanentError::DeadLetter), ("halt", OnPermanentError::Halt)];
            let way_out = "dead_letter sets the event aside, halt waits for a person";
            reader.choice(&field, "\"dead_letter\" or \"halt\"", &choices, way_out)
        });
    Some(WebhookPolicy {
        batch: batch?,
        order: order?,
        concurrency: concurrency?,
        rate: rate?,
        retry: retry?,
        retry_on: retry_on?,
        max_age: max_age?,
        on_permanent_error: on_permanent_error?,
    })
}

fn batch(reader: &mut Reader<'_>, field: &Field<'_>, format: EventFormat) -> Option<Batch> {
    let section = reader.section(field, &BATCH)?;
    let max_events = section.get("max_events").map_or(Some(defaults::BATCH_MAX_EVENTS as u64), |field| {
        let count = reader.count_of(&field, "a number of events", "such as 100")?;
        if count == 0 {
            reader.report(&field, Problem::TooSmall { least: "1" });
        }
        Some(count.min(100_000))
    });
    let max_bytes =
        section.get("max_bytes").map_or(Some(defaults::BATCH_MAX_BYTES as u64), |field| reader.bytes(&field));
    let max_wait = section.get("max_wait").map_or(Some(Duration::ZERO), |field| reader.duration(&field));
    // Any other mode of CloudEvents is one event by definition.
    let single =
        matches!(format, EventFormat::CloudEvents(CloudEventsMode::Structured | CloudEventsMode::Binary));
    if single && max_events != Some(1) {
        let way_out = "write mode = \"batch\"";
        reader
            .report(field, Problem::Contradicts { other: "this mode of format = \"cloudevents\"", way_out });
        return None;
    }
    Some(Batch {
        max_events: usize::try_from(max_events?).ok()?,
        max_bytes: usize::try_from(max_bytes?).ok()?,
        max_wait: max_wait?,
    })
}

fn concurrency(reader: &mut Reader<'_>, field: &Field<'_>, order: Option<Order>) -> Option<usize> {
    let count = reader.count_of(field, "a number of requests", "such as 8")?;
    if count == 0 {
        reader.report(field, Problem::TooSmall { least: "1" });
        return None;
    }
    if count > 1 && order == Some(Order::Strict) {
        let way_out = "write order = \"key\", or \"none\" if order means nothing to the endpoint";
        reader.report(field, Problem::Contradicts { other: "order = \"strict\"", way_out });
        return None;
    }
    usize::try_from(count.min(1_000)).ok()
}

/// `"100/s"`, `"30/min"`, `"1000/h"`
fn rate(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Rate> {
    const EXPECTED: &str = "a rate";
    const WAY_OUT: &str = "such as \"100/s\", \"30/min\" or \"1000/h\"";
    let DeValue::String(_) = field.value else { return reader.unexpected(field, EXPECTED, WAY_OUT) };
    let text = reader.text(field, EXPECTED, "\"100/s\"")?;
    let parsed = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count: u32 = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
        Some(Rate { count, per: Duration::from_secs(seconds) })
    });
    parsed.or_else(|| reader.unexpected(field, EXPECTED, WAY_OUT))
}

/// `{ first = "200ms", max = "5m" }`, or a list of waits.
pub(super) fn retry(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<RetrySchedule> {
    match field.value {
        DeValue::Table(_) => {
            let section = reader.section(field, &RETRY)?;
            let first = section.get("first").map_or(Some(defaults::RETRY_FIRST), |field| {
                above_zero(reader, &field, "1ms, better \"200ms\"")
            });
            let max = section
                .get("max")
                .map_or(Some(defaults::RETRY_MAX), |field| above_zero(reader, &field, "1ms, better \"5m\""));
            Some(RetrySchedule::Exponential { first: first?, max: max? })
        }
        DeValue::Array(_) => {
            let elements = reader.list(field, "a list of waits", "[\"5s\", \"5m\", \"1h\"]")?;
            let waits: Vec<_> = elements.iter().map(|element| reader.duration(element)).collect();
            Some(RetrySchedule::List(waits.into_iter().collect::<Option<_>>()?))
        }
        _ => reader.unexpected(
            field,
            "a table or a list of waits",
            "such as { first = \"200ms\", max = \"5m\" } or [\"5s\", \"5m\", \"1h\"]",
        ),
    }
}

/// Statuses that are worth another try at this endpoint.
fn statuses(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<u16>> {
    const EXPECTED: &str = "a status from 300 to 499, other than 410";
    let elements = reader.list(field, "a list of statuses", "[404, 409]")?;
    let mut statuses = Vec::with_capacity(elements.len());
    for element in &elements {
        let count = reader.count_of(element, EXPECTED, "such as 409")?;
        match u16::try_from(count).ok().filter(|status| (300..500).contains(status) && *status != 410) {
            Some(status) => statuses.push(status),
            None => {
                return reader.unexpected(
                    element,
                    EXPECTED,
                    "410 disables an endpoint, 5xx is tried again anyway",
                );
            }
        }
    }
    Some(statuses)
}

/// A duration, or `"never"`.
pub(super) fn never_or(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Option<Duration>> {
    if matches!(field.value, DeValue::String(text) if text == "never") {
        return Some(None);
    }
    above_zero(reader, field, "1s, better \"72h\", or \"never\"").map(Some)
}
