//! What a body is, and what it says in a few lines: names and keys, not whole rows.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use rowbridge_schema::Cell;
use rowbridge_schema::wire::{Block, Delivery, DeliveryHead, Op, Run, parse_delivery};
use serde_json::Value;

use super::json;

/// Changes or events that are told one by one.
const MAX_LINES: usize = 20;
/// Larger JSON is shown without being looked into: as values it takes several times its size.
const MAX_PARSED: usize = 8 << 20;

/// A body that was looked at.
#[derive(Debug)]
pub(super) struct Content<'a> {
    /// `bridge`, `json`, `cloudevents`, `debezium`, or what the bytes are: `other-json`, `text`, `binary`, `empty`.
    pub(super) format: &'static str,
    /// One line per event; empty where there is nothing to sum up.
    pub(super) summary: Vec<String>,
    pub(super) shown: Shown<'a>,
    /// Of a bridge delivery that could be read.
    pub(super) bridge: Option<DeliveryHead>,
}

/// The body in its most readable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    Empty,
    /// Valid JSON.
    Json(&'a str),
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Content<'_> {
    /// Of a body that was not read.
    pub(super) fn nothing() -> Self {
        Self { format: "empty", summary: Vec::new(), shown: Shown::Empty, bridge: None }
    }
}

/// Looks at a body after it was inflated. Never fails: what is not understood is text or bytes.
pub(super) fn read<'a>(headers: &HeaderMap, body: &'a [u8]) -> Content<'a> {
    let shown = if body.is_empty() {
        Shown::Empty
    } else if let Some(text) = json::valid(body) {
        Shown::Json(text)
    } else {
        std::str::from_utf8(body).map_or(Shown::Binary(body), Shown::Text)
    };
    let (mut bridge, mut known) = (None, None);
    if let Shown::Json(text) = shown {
        if let Ok(delivery) = parse_delivery(body) {
            known = Some(("bridge", bridge_lines(&delivery)));
            bridge = Some(delivery.head);
        } else if text.len() <= MAX_PARSED
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            known = events(headers, &value);
        }
    }
    if known.is_none() && headers.contains_key("ce-specversion") {
        known = Some(("cloudevents", vec![cloud_event(|name| ce_header(headers, name), None)]));
    }
    let (format, summary) = known.unwrap_or_else(|| {
        let format = match shown {
            Shown::Empty => "empty",
            Shown::Json(_) => "other-json",
            Shown::Text(_) => "text",
            Shown::Binary(_) => "binary",
        };
        (format, Vec::new())
    });
    Content { format, summary, shown, bridge }
}

/// One or several events in one of the formats for other people's receivers.
fn events(headers: &HeaderMap, value: &Value) -> Option<(&'static str, Vec<String>)> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_cloud = content_type.to_ascii_lowercase().starts_with("application/cloudevents");
    if !is_cloud && headers.contains_key("ce-specversion") {
        return Some(("cloudevents", vec![cloud_event(|name| ce_header(headers, name), Some(value))]));
    }
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let first = list.first()?;
    let structured = |value: &Value| cloud_event(|name| text_of(value.get(name)?), value.get("data"));
    type Tell<'f> = &'f dyn Fn(&Value) -> Option<String>;
    let (format, tell): (_, Tell<'_>) = if is_cloud || first.get("specversion").is_some() {
        ("cloudevents", &|value| Some(structured(value)))
    } else if debezium(first).is_some() {
        ("debezium", &debezium)
    } else if plain(first).is_some() {
        ("json", &plain)
    } else {
        return None;
    };
    let unknown = || "an event of another form".to_owned();
    let mut lines: Vec<_> =
        list.iter().take(MAX_LINES).map(|value| tell(value).unwrap_or_else(unknown)).collect();
    if list.len() > MAX_LINES {
        lines.push(format!("and {} more", list.len() - MAX_LINES));
    }
    Some((format, lines))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn names(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn pairs(object: &Value) -> Option<String> {
    let pairs: Vec<_> = object
        .as_object()?
        .iter()
        .map(|(name, value)| format!("{name}={}", text_of(value).unwrap_or_else(|| "null".to_owned())))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(" "))
}

/// Joins what is there.
fn line<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// Key and changed columns of the member `data`, which `json` and `cloudevents` share; of a message its type and key.
fn row(data: &Value) -> [Option<String>; 2] {
    if let Some(message) = data.get("message").filter(|_| data["op"] == "message") {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        return [text("type").map(str::to_owned), text("key").map(|key| format!("key={key}"))];
    }
    let changed = data.get("changed").and_then(Value::as_array).filter(|list| !list.is_empty());
    [data.get("key").and_then(pairs), changed.map(|list| format!("changed {}", names(list)))]
}

/// The format `json`.
fn plain(value: &Value) -> Option<String> {
    let (kind, data) = (value.get("type")?.as_str()?, value.get("data")?);
    data.get("op")?.as_str()?;
    let table = [value.get("schema"), value.get("table")];
    let table: Vec<_> = table.into_iter().flatten().filter_map(Value::as_str).collect();
    let [key, changed] = row(data);
    let replay = value.get("replay").is_some_and(|replay| *replay == true).then(|| "replay".to_owned());
    Some(line([Some(kind.to_owned()), Some(table.join(".")), key, changed, replay]))
}

fn cloud_event(attribute: impl Fn(&str) -> Option<String>, data: Option<&Value>) -> String {
    let kind = attribute("type").unwrap_or_else(|| "no type".to_owned());
    let [key, changed] = data.map(row).unwrap_or_default();
    let key = key.or_else(|| attribute("subject").map(|subject| format!("subject {subject}")));
    line([Some(kind), attribute("source"), key, changed])
}

fn ce_header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(format!("ce-{name}"))?.to_str().ok().map(str::to_owned)
}

/// Debezium's envelope, with or without its schema around it.
fn debezium(value: &Value) -> Option<String> {
    let event = value.get("payload").unwrap_or(value);
    let source = event.get("source")?.as_object()?;
    let (before, after) = (event.get("before"), event.get("after"));
    let op = match event.get("op")?.as_str()? {
        "c" => "insert",
        "u" => "update",
        "d" => "delete",
        "r" => "read",
        "t" => "truncate",
        "m" => "message",
        _ => return None,
    };
    let part = |name: &str| source.get(name).and_then(Value::as_str);
    let table = [part("schema").or_else(|| part("db")), part("table")];
    // That of a logical message has neither.
    let table: Vec<_> = table.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let changed =
        before.and_then(Value::as_object).zip(after.and_then(Value::as_object)).map(|(old, new)| {
            let changed: Vec<_> = new
                .iter()
                .filter(|(name, value)| old.get(*name) != Some(value))
                .map(|(name, _)| name.as_str())
                .collect();
            changed.join(", ")
        });
    // Which columns are the key is not in the envelope.
    let changed = changed.filter(|names| !names.is_empty()).map(|names| format!("changed {names}"));
    Some(line([Some(op.to_owned()), Some(table.join(".")), changed]))
}

fn bridge_lines(delivery: &Delivery<'_>) -> Vec<String> {
    let head = &delivery.head;
    let place = |position: Option<_>| position.map_or_else(|| "-".to_owned(), |place| format!("{place}"));
    let mut lines = vec![match head.to {
        None => format!("{}/{} asks for the position", head.stream, head.endpoint),
        Some(_) if delivery.blocks.is_empty() => {
            format!("{}/{} nothing new, up to {}", head.stream, head.endpoint, place(head.to))
        }
        Some(_) => {
            format!("{}/{} {} .. {}", head.stream, head.endpoint, place(head.prev), place(head.to))
        }
    }];
    let mut changes = 0;
    for block in &delivery.blocks {
        for run in &block.runs {
            for index in 0..run.changes() {
                changes += 1;
                if changes <= MAX_LINES {
                    lines.push(change(delivery, block, run, index));
                }
            }
        }
    }
    if changes > MAX_LINES {
        lines.push(format!("and {} more", changes - MAX_LINES));
    }
    lines
}

fn change(delivery: &Delivery<'_>, block: &Block<'_>, run: &Run<'_>, index: usize) -> String {
    // Reading has checked that every run's table and columns are defined.
    let Some(table) = delivery.tables.get(&run.table) else { return String::new() };
    let kind = run.op.event_type().to_owned();
    let replay = block.head.chunk.as_ref().map(|_| "snapshot".to_owned());
    if run.op == Op::Truncate {
        return line([Some(kind), Some(table.name.to_string()), None, None, replay]);
    }
    let (old, new) = run.row(index);
    let find = |columns: &[u16], cells: &'_ [Cell<'_>], wanted: u16| {
        let at = columns.iter().position(|column| *column == wanted)?;
        cells.get(at).map(|cell| cell.as_str().unwrap_or("null").to_owned())
    };
    let name = |column: u16| table.columns[usize::from(column)].name.as_str();
    let key: Vec<_> = table
        .key
        .iter()
        .filter_map(|&column| {
            let value = find(&run.new, new, column).or_else(|| find(&run.old, old, column))?;
            Some(format!("{}={value}", name(column)))
        })
        .collect();
    // Known only where the whole old row was sent.
    let whole = run.op == Op::Update && run.new.iter().all(|column| run.old.contains(column));
    let changed: Vec<_> = run
        .new
        .iter()
        .zip(new)
        .filter(|(column, cell)| {
            let at = run.old.iter().position(|old| old == *column);
            at.and_then(|at| old.get(at)) != Some(*cell)
        })
        .map(|(column, _)| name(*column))
        .collect();
    let changed = (whole && !changed.is_empty()).then(|| format!("changed {}", changed.join(", ")));
    line([Some(kind), Some(table.name.to_string()), Some(key.join(" ")), changed, replay])
}

#[cfg(test)]
mod tests;
