//! `[subscriber]`, `[target]`, `[[receive]]`, `[[map]]`.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::error::Problem;
use super::load::{database, signing_keys, socket_address};
use super::load_endpoint::above_zero;
use super::load_publisher::STREAM_EXPECTED;
use super::reader::{Field, Keys, Reader, Section, quoted_key};
use super::{ColumnMap, DeletePolicy, MapConfig, ReceiveConfig, SubscriberConfig, TargetConfig, defaults};
use crate::name::StreamName;
use crate::secret::SigningKey;
use crate::types::Form;

pub(super) const SUBSCRIBER: Keys = Keys { section: "subscriber", keys: &["listen", "trusted_proxies"] };

pub(super) const TARGET: Keys = Keys { section: "target", keys: &["kind", "url", "create"] };

pub(super) const RECEIVE: Keys =
    Keys { section: "receive", keys: &["path", "stream", "secret", "allow_from", "max_body", "tolerance"] };

pub(super) const MAP: Keys = Keys { section: "map", keys: &["from", "to", "columns", "delete"] };

pub(super) const MAP_COLUMN: Keys = Keys { section: "map.columns.NAME", keys: &["to", "as"] };

/// `None` without `[subscriber]`, `Some(None)` if something in it is wrong. Sections are read even if others miss.
pub(super) fn read(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Option<SubscriberConfig>> {
    let subscriber = root.get("subscriber");
    let mut listen = None;
    let mut trusted_proxies = None;
    if let Some(section) = subscriber.as_ref().and_then(|field| reader.section(field, &SUBSCRIBER)) {
        listen = section
            .require(reader, "listen", "listen = \"0.0.0.0:9500\"")
            .and_then(|field| socket_address(reader, &field));
        trusted_proxies = match section.get("trusted_proxies") {
            None => Some(Vec::new()),
            Some(field) => networks(reader, &field),
        };
    }
    let target = root.get("target").and_then(|field| {
        let section = reader.section(&field, &TARGET)?;
        let database = database(reader, &section);
        let create = section.get("create").map_or(Some(true), |field| reader.boolean(&field));
        Some(TargetConfig { database: database?, create: create? })
    });
    let receives = root.get("receive").and_then(|field| receives(reader, &field));
    let maps = root.get("map").map_or(Some(Vec::new()), |field| maps(reader, &field));
    subscriber?;
    let config = || {
        Some(SubscriberConfig {
            listen: listen?,
            trusted_proxies: trusted_proxies?,
            target: target?,
            receives: receives?,
            maps: maps?,
        })
    };
    Some(config())
}

/// Networks in CIDR form; a bare address is a network of one.
pub(super) fn networks(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<IpNet>> {
    const EXAMPLE: &str = "\"10.0.0.0/8\" or \"192.0.2.7\"";
    let elements = reader.list(field, "a list of networks", "[\"10.0.0.0/8\"]")?;
    let networks: Vec<_> = elements
        .iter()
        .map(|element| {
            let text = reader.text(element, "a network or an address", EXAMPLE)?;
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            network.or_else(|| {
                reader.unexpected(element, "a network or an address", format_args!("such as {EXAMPLE}"))
            })
        })
        .collect();
    networks.into_iter().collect()
}

/// What no two `[[receive]]` may share.
#[derive(Default)]
struct Seen {
    paths: Vec<(String, usize)>,
    streams: Vec<(StreamName, usize)>,
    /// Keys of the sections before the present one.
    secrets: Vec<(SigningKey, usize)>,
}

fn receives(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<ReceiveConfig>> {
    let sections = reader.sections(field, &RECEIVE);
    let mut seen = Seen::default();
    let receives: Vec<_> = sections.iter().map(|section| receive(reader, section, &mut seen)).collect();
    receives.into_iter().collect()
}

fn receive(reader: &mut Reader<'_>, section: &Section<'_>, seen: &mut Seen) -> Option<ReceiveConfig> {
    let path = section.require(reader, "path", "path = \"/in/shop\"").and_then(|field| {
        let path = receive_path(reader, &field)?;
        reader.unique(&mut seen.paths, path.clone(), &field, "the path tells what is received apart");
        Some(path)
    });
    let stream = section.require(reader, "stream", "stream = \"shop\"").and_then(|field| {
        let stream: StreamName = reader.parsed(&field, STREAM_EXPECTED, "\"shop\"")?;
        reader.unique(&mut seen.streams, stream.clone(), &field, "a stream is received in one place");
        Some(stream)
    });
    let secrets = section.require(reader, "secret", "secret = \"${WEBHOOK_SECRET}\"").and_then(|field| {
        let secrets = signing_keys(reader, &field)?;
        // Within a list nothing speaks against a repetition, so only other sections' keys are compared.
        let mut others = std::mem::take(&mut seen.secrets);
        let first_own = others.len();
        for secret in &secrets {
            match others[..first_own].iter().find(|(other, _)| other == secret) {
                Some(&(_, first)) => {
                    let (line, _) = reader.place(first);
                    let rule = "a secret belongs to one [[receive]]; make another with `rowbridge secret`";
                    reader.report(&field, Problem::Duplicate { line, rule });
                }
                None => others.push((secret.clone(), field.at)),
            }
        }
        seen.secrets = others;
        Some(secrets)
    });
    let allow_from = match section.get("allow_from") {
        None => Some(None),
        Some(field) => networks(reader, &field).map(|networks| {
            if networks.is_empty() {
                let way_out = "it lets nobody in; leave it out to let in any peer with a valid signature";
                reader.report(&field, Problem::EmptyList { way_out });
            }
            Some(networks)
        }),
    };
    let max_body = section.get("max_body").map_or(Some(defaults::MAX_BODY), |field| {
        let bytes = reader.bytes(&field)?;
        if bytes < defaults::MIN_BODY {
            reader.report(&field, Problem::TooSmall { least: "1 KiB, better \"64 MiB\"" });
        }
        Some(bytes)
    });
    let tolerance = section
        .get("tolerance")
        .map_or(Some(defaults::TOLERANCE), |field| above_zero(reader, &field, "1ms, better \"5m\""));
    Some(ReceiveConfig {
        path: path?,
        stream: stream?,
        secrets: secrets?,
        allow_from: allow_from?,
        max_body: max_body?,
        tolerance: tolerance?,
    })
}

/// An exact path, compared byte by byte with the request's; what a client would escape or cut off cannot match.
fn receive_path(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    const EXPECTED: &str = "a path that starts with /, of visible ASCII without ? # { }";
    let path = reader.text(field, EXPECTED, "\"/in/shop\"")?;
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'{' | b'}');
    if !path.starts_with('/') || !path.bytes().all(fits) {
        return reader.unexpected(field, EXPECTED, "such as \"/in/shop\"");
    }
    Some(path)
}

fn maps(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<MapConfig>> {
    let sections = reader.sections(field, &MAP);
    let mut from_seen = Vec::new();
    let mut to_seen = Vec::new();
    let maps: Vec<_> =
        sections.iter().map(|section| map(reader, section, &mut from_seen, &mut to_seen)).collect();
    maps.into_iter().collect()
}

fn map(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    from_seen: &mut Vec<(String, usize)>,
    to_seen: &mut Vec<(String, usize)>,
) -> Option<MapConfig> {
    let from = section.require(reader, "from", "from = \"public.orders\"").and_then(|field| {
        let from = table_name(reader, &field, "\"public.orders\"")?;
        reader.unique(from_seen, from.clone(), &field, "a table is mapped once");
        Some(from)
    });
    let to = section.require(reader, "to", "to = \"orders\"").and_then(|field| {
        let to = table_name(reader, &field, "\"orders\"")?;
        reader.unique(to_seen, to.clone(), &field, "two tables cannot become one");
        Some(to)
    });
    let columns = section.get("columns").map_or(Some(Vec::new()), |field| columns(reader, &field));
    let delete = section.get("delete").map_or(Some(DeletePolicy::Hard), |field| {
        const EXPECTED: &str = "\"hard\", \"soft:COLUMN\" or \"ignore\"";
        const EXAMPLE: &str = "\"soft:deleted_at\"";
        let text = reader.text(&field, EXPECTED, EXAMPLE)?;
        match (text.as_str(), text.strip_prefix("soft:")) {
            ("hard", _) => Some(DeletePolicy::Hard),
            ("ignore", _) => Some(DeletePolicy::Ignore),
            (_, Some(column)) if !column.is_empty() => Some(DeletePolicy::Soft(column.to_owned())),
            _ => reader.unexpected(&field, EXPECTED, format_args!("such as {EXAMPLE}")),
        }
    });
    Some(MapConfig { from: from?, to: to?, columns: columns?, delete: delete? })
}

/// One table, raw: a pattern here would be taken for a name that no table has.
pub(super) fn table_name(reader: &mut Reader<'_>, field: &Field<'_>, example: &str) -> Option<String> {
    const EXPECTED: &str = "the name of one table, without * or quotes";
    let name = reader.filled_text(field, EXPECTED, example)?;
    if name.contains(['*', '"', '`']) || name.starts_with(['.', '!']) || name.ends_with('.') {
        return reader.unexpected(field, EXPECTED, format_args!("such as {example}"));
    }
    Some(name)
}

fn columns(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<(String, ColumnMap)>> {
    const EXAMPLE: &str = "{ customer_id = \"client_id\", note = false }";
    let DeValue::Table(table) = field.value else {
        return reader.unexpected(field, "a table of columns", format_args!("such as {EXAMPLE}"));
    };
    let mut names = Vec::new();
    // The parser sorts by name; of two equal ones the later in the file is the wrong one.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let columns: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| {
            let column = key.get_ref().as_ref();
            let entry = field.child(format!("{}.{}", field.key, quoted_key(column)), value);
            let map = match entry.value {
                DeValue::Boolean(false) => ColumnMap::Drop,
                DeValue::String(_) => {
                    let name = reader.filled_text(&entry, "a column's name", "\"client_id\"")?;
                    reader.unique(&mut names, name.clone(), &entry, "two columns cannot become one");
                    ColumnMap::Rename(name)
                }
                DeValue::Table(_) => convert(reader, &entry, &mut names)?,
                _ => {
                    let way_out = "columns that are not named here stay as they are";
                    const EXPECTED: &str =
                        "a new name, false to drop the column, or { as = \"text\" } to convert it";
                    return reader.unexpected(&entry, EXPECTED, way_out);
                }
            };
            Some((column.to_owned(), map))
        })
        .collect();
    columns.into_iter().collect()
}

/// `{ to = "client_id", as = "text" }`
fn convert(
    reader: &mut Reader<'_>,
    entry: &Field<'_>,
    names: &mut Vec<(String, usize)>,
) -> Option<ColumnMap> {
    let section = reader.section(entry, &MAP_COLUMN)?;
    let form = match section.get("as") {
        Some(field) => {
            const EXPECTED: &str = "\"text\", \"utc\" or \"null_if_zero\"";
            let way_out = "a column that is only renamed takes the name alone: client = \"customer\"";
            reader.choice(&field.named(format!("{}.as", entry.key)), EXPECTED, Form::NAMES, way_out)
        }
        None => {
            reader.push(entry.at, format!("{}.as", entry.key), Problem::Missing { example: "as = \"text\"" });
            None
        }
    };
    let to = match section.get("to") {
        None => None,
        Some(field) => {
            let field = field.named(format!("{}.to", entry.key));
            let name = reader.filled_text(&field, "a column's name", "\"client_id\"")?;
            reader.unique(names, name.clone(), &field, "two columns cannot become one");
            Some(name)
        }
    };
    Some(ColumnMap::Convert { to, form: form? })
}
