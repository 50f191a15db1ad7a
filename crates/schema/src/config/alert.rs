//! `[[alert]]`: who is told when an endpoint fails, and when it works again.

use std::time::Duration;

use ipnet::IpNet;

use super::error::Problem;
use super::load_endpoint::above_zero;
use super::load_publisher::STREAM_EXPECTED;
use super::load_request::{self, Address};
use super::load_subscriber::networks;
use super::load_webhook::{never_or, retry};
use super::reader::{Field, Keys, Reader, Section};
use super::request::{RequestConfig, Templated};
use super::webhook::{EventFormat, Lines, RetrySchedule, WebhookConfig, WebhookPolicy};
use super::{EndpointConfig, Start, defaults};
use crate::event::EventOp;
use crate::event::shape::ShapeConfig;
use crate::event::template::Visible;
use crate::name::EndpointName;
use crate::pattern::TablePatterns;
use crate::table::TableName;

/// What can happen to an endpoint, as `[[alert]]` names it.
pub const ALERT_KINDS: [&str; 8] =
    ["failing", "recovered", "disabled", "enabled", "paused", "resumed", "breaker_opened", "breaker_closed"];

pub(super) const ALERT: Keys = Keys {
    section: "alert",
    keys: &[
        "name",
        "url",
        "secret",
        "signature",
        "format",
        "body",
        "content_type",
        "headers",
        "auth",
        "client_cert",
        "client_key",
        "proxy",
        "compression",
        "allow_networks",
        "ca",
        "timeout",
        "retry",
        "max_age",
        "on",
        "after",
    ],
};

/// `[[alert]]`
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// How it is reached, as an endpoint of the format `json` or `template`.
    pub endpoint: EndpointConfig,
    /// Of [`ALERT_KINDS`], what it is told.
    pub kinds: Vec<&'static str>,
    /// How long an endpoint fails before that is told; one that recovers within is not told at all.
    pub after: Duration,
}

/// `names` are those of the endpoints, and where each stands.
pub(super) fn alerts(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    mut names: Vec<(EndpointName, usize)>,
) -> Option<Vec<AlertConfig>> {
    let sections = reader.sections(field, &ALERT);
    let alerts: Vec<_> = sections.iter().map(|section| alert(reader, section, &mut names)).collect();
    alerts.into_iter().collect()
}

fn alert(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    names: &mut Vec<(EndpointName, usize)>,
) -> Option<AlertConfig> {
    let name = section.require(reader, "name", "name = \"on-call\"").and_then(|field| {
        let name: EndpointName = reader.parsed(&field, STREAM_EXPECTED, "\"on-call\"")?;
        reader.unique(names, name.clone(), &field, "attempts are recorded under the name");
        Some(name)
    });
    let allow_networks: Option<Vec<IpNet>> = match section.get("allow_networks") {
        None => Some(Vec::new()),
        Some(field) => networks(reader, &field),
    };
    let networks = allow_networks.as_deref();
    let address = section
        .require(reader, "url", "url = \"https://hooks.example.com/on-call\"")
        .and_then(|field| load_request::address(reader, &field, networks, true));
    let format = section.get("format").map_or(Some(EventFormat::Json), |field| {
        let choices = [("json", EventFormat::Json), ("template", EventFormat::Template)];
        reader.choice(&field, "\"json\" or \"template\"", &choices, "json is a plain object")
    });
    let (url, path) = match address {
        None => (None, None),
        Some(Address { url, path }) => (Some(url), path),
    };
    let request = format.and_then(|format| {
        load_request::request(reader, section, path, networks, format == EventFormat::Template)
    });
    if let Some(request) = &request {
        fits(reader, section, request);
    }
    let ca = load_request::pem(reader, section, "ca");
    let timeout = section
        .get("timeout")
        .map_or(Some(defaults::ENDPOINT_TIMEOUT), |field| above_zero(reader, &field, "1ms, better \"30s\""));
    let usual = WebhookPolicy::default();
    let schedule: Option<RetrySchedule> =
        section.get("retry").map_or(Some(usual.retry.clone()), |field| retry(reader, &field));
    let max_age = match section.get("max_age") {
        None => Some(usual.max_age),
        Some(field) => never_or(reader, &field),
    };
    let kinds = match section.get("on") {
        None => Some(ALERT_KINDS.to_vec()),
        Some(field) => kinds(reader, &field),
    };
    let after = section.get("after").map_or(Some(defaults::ALERT_AFTER), |field| reader.duration(&field));
    let webhook = WebhookConfig {
        format: format?,
        operations: vec![EventOp::Insert],
        when: None,
        shape: ShapeConfig::default(),
        policy: WebhookPolicy { retry: schedule?, max_age: max_age?, ..usual },
        request: request?,
        lines: Lines::default(),
    };
    let endpoint = EndpointConfig {
        name: name?,
        url: url?,
        secrets: Vec::new(),
        tables: TablePatterns::all(),
        allow_networks: allow_networks?,
        ca: ca?,
        timeout: timeout?,
        start: Start::Now,
        webhook: Some(Box::new(webhook)),
    };
    Some(AlertConfig { endpoint, kinds: kinds?, after: after? })
}

/// Every alert has the same columns, so that its templates are checked at once.
fn fits(reader: &mut Reader<'_>, section: &Section<'_>, request: &RequestConfig) {
    let table = TableName::new("rowbridge", "alert");
    let columns = vec!["endpoint", "type", "state", "reason"];
    let visible = Visible { table: &table, columns, key: vec!["endpoint"] };
    let Err((templated, error)) = request.check(&[visible], false) else { return };
    let key = match templated {
        Templated::Url => "url",
        Templated::Header(_) => "headers",
        Templated::Body => "body",
    };
    if let Some(field) = section.get(key) {
        reader.report(&field, Problem::template(&error));
    }
}

fn kinds(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<&'static str>> {
    const WORDS: &str = "\"failing\", \"recovered\", \"disabled\", \"enabled\", \"paused\", \"resumed\", \
                         \"breaker_opened\" or \"breaker_closed\"";
    let elements = reader.list(field, "a list of changes", "[\"failing\", \"recovered\"]")?;
    if elements.is_empty() {
        reader.report(field, Problem::EmptyList { way_out: "leave it out to be told of all" });
        return None;
    }
    let choices = ALERT_KINDS.map(|kind| (kind, kind));
    let way_out = "such as [\"failing\", \"recovered\"]";
    let all: Vec<_> =
        elements.iter().map(|element| reader.choice(element, WORDS, &choices, way_out)).collect();
    all.into_iter().collect()
}
