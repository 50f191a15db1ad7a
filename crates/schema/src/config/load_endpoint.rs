//! `[[endpoint]]`: who gets events, and how the endpoint is reached. What only endpoints other than Rowbridge have is in
//! `load_webhook`.

use std::time::Duration;

use super::error::Problem;
use super::load::{signing_keys, table_patterns};
use super::load_publisher::STREAM_EXPECTED;
use super::load_request::{self, Address};
use super::load_subscriber::networks;
use super::load_webhook;
use super::reader::{Field, Keys, Reader, Section};
use super::{CloudEventsMode, EndpointConfig, EventFormat, Start, defaults};
use crate::name::EndpointName;
use crate::pattern::TablePatterns;

pub(super) const ENDPOINT: Keys = Keys {
    section: "endpoint",
    keys: &[
        "name",
        "url",
        "secret",
        "format",
        "tables",
        "allow_networks",
        "ca",
        "timeout",
        "start",
        // Of endpoints that are not Rowbridge.
        "mode",
        "operations",
        "when",
        "keep",
        "columns",
        "batch",
        "order",
        "concurrency",
        "rate",
        "retry",
        "retry_on",
        "max_age",
        "on_permanent_error",
        "body",
        "content_type",
        "headers",
        "signature",
        "auth",
        "client_cert",
        "client_key",
        "proxy",
        "compression",
    ],
};

/// What every endpoint has; a bridge has no use for the others.
const COMMON: [&str; 9] =
    ["name", "url", "secret", "format", "tables", "allow_networks", "ca", "timeout", "start"];

/// `names` gets those of all endpoints, and where each stands.
pub(super) fn endpoints(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    names: &mut Vec<(EndpointName, usize)>,
) -> Option<Vec<EndpointConfig>> {
    let sections = reader.sections(field, &ENDPOINT);
    let endpoints: Vec<_> = sections.iter().map(|section| endpoint(reader, section, names)).collect();
    endpoints.into_iter().collect()
}

fn endpoint(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    names: &mut Vec<(EndpointName, usize)>,
) -> Option<EndpointConfig> {
    let name = section.require(reader, "name", "name = \"warehouse\"").and_then(|field| {
        let name: EndpointName = reader.parsed(&field, STREAM_EXPECTED, "\"warehouse\"")?;
        reader.unique(names, name.clone(), &field, "the name tells endpoints apart");
        Some(name)
    });
    let allow_networks = match section.get("allow_networks") {
        None => Some(Vec::new()),
        Some(field) => networks(reader, &field),
    };
    let format = load_webhook::format(reader, section);
    let networks = allow_networks.as_deref();
    let address = section
        .require(reader, "url", "url = \"https://warehouse.internal:9500/in/shop\"")
        .and_then(|field| load_request::address(reader, &field, networks, format != Some(None)));
    let (url, path) = match address {
        None => (None, None),
        Some(Address { url, path }) => (Some(url), path),
    };
    let (secrets, webhook) = match format {
        None => {
            section
                .get("secret")
                .filter(|_| section.get("signature").is_none())
                .and_then(|field| signing_keys(reader, &field));
            (None, None)
        }
        Some(None) => {
            for field in ENDPOINT.keys.iter().filter(|key| !COMMON.contains(key)) {
                if let Some(field) = section.get(field) {
                    reader.report(&field, Problem::NotForBridge);
                }
            }
            let secrets = section
                .require(reader, "secret", "secret = \"${WEBHOOK_SECRET}\"")
                .and_then(|field| signing_keys(reader, &field));
            (secrets, Some(None))
        }
        Some(Some(format)) => {
            let webhook = load_webhook::webhook(reader, section, format);
            let template = format == EventFormat::Template;
            let request = load_request::request(reader, section, path, networks, template);
            if format == EventFormat::CloudEvents(CloudEventsMode::Binary) {
                load_request::no_attributes(reader, section);
            }
            let webhook = webhook.zip(request).map(|(parts, request)| parts.with(request));
            (Some(Vec::new()), webhook.map(|webhook| Some(Box::new(webhook))))
        }
    };
    let tables = section
        .get("tables")
        .map_or_else(|| Some(TablePatterns::all()), |field| table_patterns(reader, &field));
    let ca = load_request::pem(reader, section, "ca");
    let timeout = section
        .get("timeout")
        .map_or(Some(defaults::ENDPOINT_TIMEOUT), |field| above_zero(reader, &field, "1ms, better \"30s\""));
    // Existing rows are what a copy needs; a chat channel is better off without.
    let usual = if format == Some(None) { Start::Snapshot } else { Start::Now };
    let start = section.get("start").map_or(Some(usual), |field| {
        let choices = [("snapshot", Start::Snapshot), ("now", Start::Now)];
        reader.choice(&field, "\"snapshot\" or \"now\"", &choices, "snapshot sends existing rows first")
    });
    Some(EndpointConfig {
        name: name?,
        url: url?,
        secrets: secrets?,
        tables: tables?,
        allow_networks: allow_networks?,
        ca: ca?,
        timeout: timeout?,
        start: start?,
        webhook: webhook?,
    })
}

/// Zero means zero, and then nothing would ever succeed.
pub(super) fn above_zero(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    least: &'static str,
) -> Option<Duration> {
    let duration = reader.duration(field)?;
    if duration.is_zero() {
        reader.report(field, Problem::TooSmall { least });
    }
    Some(duration)
}
