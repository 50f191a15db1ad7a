//! `[[outbox]]`: tables whose new rows are messages.

use toml::de::DeValue;

use super::error::Problem;
use super::load_subscriber::table_name;
use super::reader::{Field, Keys, Reader, Section};
use super::{EndpointConfig, SourceConfig, defaults};
use crate::event::outbox::{OutboxConfig, OutboxLines};
use crate::pattern::TablePatterns;

pub(super) const OUTBOX: Keys =
    Keys { section: "outbox", keys: &["table", "id", "type", "key", "payload", "json", "headers"] };

pub(super) fn outboxes(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<OutboxConfig>> {
    let sections = reader.sections(field, &OUTBOX);
    let mut tables = Vec::new();
    let outboxes: Vec<_> = sections.iter().map(|section| outbox(reader, section, &mut tables)).collect();
    outboxes.into_iter().collect()
}

fn outbox(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    tables: &mut Vec<(String, usize)>,
) -> Option<OutboxConfig> {
    const TABLE: &str = "\"public.outbox\"";
    let table = section.require(reader, "table", "table = \"public.outbox\"").and_then(|field| {
        let name = table_name(reader, &field, TABLE)?;
        if name.rsplit('.').next().is_some_and(|name| name.starts_with("rowbridge_")) {
            return reader.unexpected(
                &field,
                "a table of yours",
                "rowbridge_... is what Rowbridge makes itself",
            );
        }
        reader.unique(tables, name.clone(), &field, "a table is one outbox");
        Some(name)
    });
    let id = column(reader, section, "id", defaults::OUTBOX_ID);
    let kind = column(reader, section, "type", defaults::OUTBOX_TYPE);
    let key = column(reader, section, "key", defaults::OUTBOX_KEY);
    let payload = section.get("payload").map_or(Some(defaults::OUTBOX_PAYLOAD.to_owned()), |field| {
        reader.filled_text(&field, "a column's name", "\"payload\"")
    });
    let json = section.get("json").map_or(Some(false), |field| reader.boolean(&field));
    let headers = match section.get("headers") {
        None => Some(None),
        Some(field) => headers(reader, &field).map(Some),
    };
    let (own, _) = reader.place(section.at);
    let line = |key| section.get(key).map_or(own, |field| reader.place(field.at).0);
    let lines = OutboxLines {
        table: line("table"),
        id: line("id"),
        kind: line("type"),
        key: line("key"),
        payload: line("payload"),
        headers: line("headers"),
    };
    Some(OutboxConfig {
        table: table?,
        id: id?,
        kind: kind?,
        key: key?,
        payload: payload?,
        json: json?,
        headers: headers?,
        lines,
    })
}

/// A column, or `false` where the table has none.
fn column(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    usual: &str,
) -> Option<Option<String>> {
    const EXPECTED: &str = "a column's name, or false";
    match section.get(key) {
        None => Some(Some(usual.to_owned())),
        Some(field) => match field.value {
            DeValue::Boolean(false) => Some(None),
            DeValue::String(_) => reader.filled_text(&field, EXPECTED, &format!("{usual:?}")).map(Some),
            _ => reader.unexpected(&field, EXPECTED, "false says that the table has none"),
        },
    }
}

fn headers(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<String>> {
    let elements = reader.list(field, "a list of columns", "[\"tenant\"]")?;
    let mut seen = Vec::new();
    let names: Vec<_> = elements
        .iter()
        .map(|element| {
            let name = reader.filled_text(element, "a column's name", "\"tenant\"")?;
            reader.unique(&mut seen, name.clone(), element, "a column travels once");
            Some(name)
        })
        .collect();
    names.into_iter().collect()
}

/// Outboxes are captured whatever `source.tables` says, and copied by no bridge unless its `tables` names one as it is:
/// a pattern means the application's data.
pub(super) fn apply(source: &mut SourceConfig, endpoints: &mut [EndpointConfig]) {
    for outbox in &source.outboxes {
        if !outbox.is_logical() {
            source.tables.push(true, &outbox.table);
        }
        for bridge in endpoints.iter_mut().filter(|endpoint| endpoint.webhook.is_none()) {
            if outbox.is_logical() || !bridge.tables.names(&outbox.table) {
                bridge.tables.push(false, &outbox.table);
            }
        }
    }
}

/// `source.messages`: which logical messages, by patterns of their prefixes.
pub(super) fn messages(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<TablePatterns> {
    const EXPECTED: &str = "a pattern of prefixes";
    let elements = reader.list(field, "a list of prefixes", "[\"order.*\"]")?;
    if elements.is_empty() {
        reader.report(field, Problem::EmptyList { way_out: "leave it out to send none" });
        return None;
    }
    let patterns: Vec<_> = elements
        .iter()
        .map(|element| {
            let text = reader.filled_text(element, EXPECTED, "\"order.*\"")?;
            if text == "!" {
                return reader.unexpected(element, EXPECTED, "such as \"!order.draft\"");
            }
            Some(text)
        })
        .collect();
    let patterns = patterns.into_iter().collect::<Option<Vec<_>>>()?;
    if patterns.iter().all(|pattern| pattern.starts_with('!')) {
        reader.report(field, Problem::SelectsNothing);
        return None;
    }
    TablePatterns::new(&patterns).ok()
}

/// Messages are for endpoints that are not Rowbridge: without one, a file with an outbox says something that never happens.
pub(super) fn needs_webhook(reader: &mut Reader<'_>, field: &Field<'_>, endpoints: &[EndpointConfig]) {
    if endpoints.iter().all(|endpoint| endpoint.webhook.is_none()) {
        let way_out = "messages go to endpoints of any format but bridge";
        reader.report(
            field,
            Problem::Needs { needed: "an [[endpoint]] with another format than bridge", way_out },
        );
    }
}
