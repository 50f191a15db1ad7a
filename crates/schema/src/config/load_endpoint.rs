//! `[[endpoint]]`: who gets events, and how the endpoint is reached. What only endpoints other than Rowbridge have is in
//! `load_webhook`.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::address::{AddressError, check_url};
use super::error::Problem;
use super::load::{signing_keys, table_patterns};
use super::load_publisher::STREAM_EXPECTED;
use super::load_subscriber::networks;
use super::load_webhook::{self, WEBHOOK_KEYS};
use super::reader::{Field, Keys, Reader, Section};
use super::{EndpointConfig, Start, defaults};
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
    ],
};

pub(super) fn endpoints(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<EndpointConfig>> {
    let sections = reader.sections(field, &ENDPOINT);
    let mut names = Vec::new();
    let endpoints: Vec<_> = sections.iter().map(|section| endpoint(reader, section, &mut names)).collect();
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
    let url = section
        .require(reader, "url", "url = \"https://warehouse.internal:9500/in/shop\"")
        .and_then(|field| endpoint_url(reader, &field, allow_networks.as_deref()));
    let secrets = section
        .require(reader, "secret", "secret = \"${WEBHOOK_SECRET}\"")
        .and_then(|field| signing_keys(reader, &field));
    let format = load_webhook::format(reader, section);
    if format == Some(None) {
        for field in WEBHOOK_KEYS.iter().filter_map(|key| section.get(key)) {
            reader.report(&field, Problem::NotForBridge);
        }
    }
    let webhook = match format {
        None => None,
        Some(None) => Some(None),
        Some(Some(format)) => {
            load_webhook::webhook(reader, section, format).map(|webhook| Some(Box::new(webhook)))
        }
    };
    let tables = section
        .get("tables")
        .map_or_else(|| Some(TablePatterns::all()), |field| table_patterns(reader, &field));
    let ca = match section.get("ca") {
        None => Some(None),
        Some(field) => reader
            .filled_text(&field, "the path of a PEM file", "\"/etc/rowbridge/ca.pem\"")
            .map(|path| Some(PathBuf::from(path))),
    };
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

/// `allow_networks` is `None` if it could not be read: http towards a name is then given the benefit of the doubt, as
/// one mistake should not be reported as two.
fn endpoint_url(reader: &mut Reader<'_>, field: &Field<'_>, allow_networks: Option<&[IpNet]>) -> Option<Url> {
    let text = reader.text(field, "a URL", "\"https://warehouse.internal:9500/in/shop\"")?;
    let url = Url::parse(&text).map_err(|error| reader.report(field, error)).ok()?;
    match check_url(&url, allow_networks.unwrap_or_default()) {
        Err(AddressError::HttpsRequired) if allow_networks.is_none() => None,
        Err(error) => {
            reader.report(field, error);
            None
        }
        Ok(()) => Some(url),
    }
}
