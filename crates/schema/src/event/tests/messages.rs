//! Messages in every format.

use serde_json::{Value, json};

use super::golden::compare;
use super::{bodies, text};
use crate::cell::Cell;
use crate::event::debezium::{self, Options};
use crate::event::outbox::{Outbox, OutboxConfig, OutboxLines};
use crate::event::{Event, EventOp};
use crate::expr::Row;
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Column, Dialect, TableDef, TableName};

/// What a message's event refers to.
pub(super) struct Said {
    pub(super) name: &'static str,
    outbox: Outbox,
    row: Vec<Option<Cell<'static>>>,
    table: TableName,
    id: String,
    stream: StreamName,
    endpoint: EndpointName,
    source: SourceId,
    position: Position,
}

impl Said {
    fn new(name: &'static str, ordinal: u64, payload: &str, cells: [Option<&'static str>; 6]) -> Self {
        let columns = [
            ("id", "uuid"),
            ("type", "text"),
            ("aggregateid", "text"),
            ("payload", payload),
            ("aggregatetype", "text"),
            ("Trace-Parent", "text"),
        ];
        let def = TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "outbox"),
            columns: columns.map(|(name, kind)| Column::new(name, kind)).to_vec(),
            key: vec![0],
            types: vec![],
            options: vec![],
        };
        let config = OutboxConfig {
            table: "public.outbox".into(),
            id: Some("id".into()),
            kind: Some("type".into()),
            key: Some("aggregateid".into()),
            payload: "payload".into(),
            json: false,
            headers: None,
            lines: OutboxLines::default(),
        };
        let position = Position::new(2, 0x1a_7f00_c2b8, ordinal);
        Self {
            name,
            outbox: Outbox::compile(&config, &def).unwrap(),
            row: cells.map(|cell| Some(cell.map_or(Cell::Null, Cell::text))).to_vec(),
            table: def.name,
            id: format!("shop:{position}"),
            stream: "shop".parse().unwrap(),
            endpoint: "crm".parse().unwrap(),
            source: SourceId("postgres:7301122334455667788:rowbridge_shop".into()),
            position,
        }
    }

    pub(super) fn event(&self) -> Event<'_> {
        Event {
            id: &self.id,
            op: EventOp::Message,
            stream: &self.stream,
            endpoint: &self.endpoint,
            source: &self.source,
            database: "shop",
            dialect: Dialect::Postgres,
            table: &self.table,
            position: self.position,
            committed_at: 1_767_323_045_678_901,
            replay: false,
            key: vec![],
            before: None,
            after: None,
            changed: None,
            message: Some(self.outbox.message(&self.row as &dyn Row)),
        }
    }
}

pub(super) fn all() -> Vec<Said> {
    let id = Some("6a0f3c1e-0000-4000-8000-000000000001");
    let document = Some("{\"order\": 42, \"total\": 19.90, \"big\": 9007199254740993}");
    let trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    vec![
        Said::new("json", 1, "jsonb", [id, Some("order.paid"), Some("42"), document, Some("order"), trace]),
        Said::new(
            "text",
            2,
            "text",
            [id, Some("\u{e9} \u{1}"), Some("a/b %"), Some("say \"hi\" & <b>\n"), None, None],
        ),
        Said::new("bytes", 3, "bytea", [id, Some(""), None, Some("\\x00ff10"), Some("order"), None]),
        Said::new("nothing", 4, "jsonb", [None; 6]),
    ]
}

#[test]
fn messages_are_written_as_the_files_say() {
    for said in all() {
        for (ending, body) in bodies(&said.event()) {
            compare(&format!("messages/{}.{ending}", said.name), &body);
        }
        let written =
            text(|out| debezium::write_event(out, &said.event(), debezium::Part::Whole, &Options::default()));
        compare(&format!("messages/{}.debezium.json", said.name), &written);
    }
}

#[test]
fn a_message_says_the_same_in_every_format() {
    let all = all();
    let event = all[0].event();
    let [(_, plain), (_, structured), (_, binary), (_, xml)] = bodies(&event);
    let plain: Value = serde_json::from_str(&plain).unwrap();
    let structured: Value = serde_json::from_str(&structured).unwrap();
    let message = &plain["data"]["message"];
    assert_eq!((&plain["type"], &plain["data"]["op"]), (&json!("message"), &json!("message")));
    assert_eq!(
        (&message["type"], &message["key"], &message["encoding"]),
        (&json!("order.paid"), &json!("42"), &Value::Null)
    );
    assert_eq!(message["headers"]["aggregatetype"], "order");
    // The application's own event: its type, its key, its data, and what travels along by names that are allowed.
    assert_eq!((&structured["type"], &structured["subject"]), (&json!("order.paid"), &json!("42")));
    assert_eq!(structured["data"], message["payload"]);
    assert_eq!(structured["traceparent"], message["headers"]["Trace-Parent"]);
    let (headers, body) = binary.split_once("\n\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), message["payload"]);
    assert!(
        headers.contains("\nce-type: order.paid\n") && headers.contains("\nce-aggregatetype: order"),
        "{headers}"
    );
    let document = roxmltree::Document::parse(&xml).unwrap();
    let said = document.root_element().children().find(|child| child.has_tag_name("message")).unwrap();
    assert_eq!((said.attribute("type"), said.attribute("key")), (Some("order.paid"), Some("42")));
    let payload = said.children().find(|child| child.has_tag_name("payload")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(payload.text().unwrap()).unwrap(), message["payload"]);

    let event = all[2].event();
    let [(_, plain), (_, structured), (_, binary), _] = bodies_of_bytes(&event);
    assert_eq!(plain["data"]["message"]["payload"], "AP8Q");
    assert_eq!(plain["data"]["message"]["encoding"], "base64");
    assert_eq!((&structured["data_base64"], &structured["type"]), (&json!("AP8Q"), &json!("message")));
    assert_eq!(structured["datacontenttype"], "application/octet-stream");
    assert_eq!(binary, json!([0, 255, 16]));
}

/// As [`bodies`], for a body in binary mode that is no text.
fn bodies_of_bytes(event: &Event<'_>) -> [(&'static str, Value); 4] {
    use crate::event::{cloudevents, json, xml};
    let mut raw = Vec::new();
    cloudevents::write_binary(&mut raw, event);
    let parse = |text: String| serde_json::from_str(&text).unwrap();
    [
        ("json", parse(text(|out| json::write_event(out, event)))),
        ("cloudevents.json", parse(text(|out| cloudevents::write_structured(out, event)))),
        ("cloudevents.http", json!(raw)),
        ("xml", Value::from(text(|out| xml::write_event(out, event)))),
    ]
}
