//! The event that `rowbridge endpoint test` sends: of a table that there is not, and of a kind that the endpoint takes.

use std::time::SystemTime;

use rowbridge_schema::event::EventOp;
use rowbridge_schema::event::outbox::{OutboxConfig, OutboxLines};
use rowbridge_schema::event::shape::ShapeConfig;
use rowbridge_schema::wire::{Op, Run};
use rowbridge_schema::{Cell, Column, Dialect, Position, TableDef, TableName};

use super::make::{Change, Maker};
use super::settings::WebhookLaneConfig;
use super::window::Item;
use crate::journal::TableRef;

/// What an endpoint that does not choose is shown first.
const ROWS: [EventOp; 5] =
    [EventOp::Insert, EventOp::Update, EventOp::Read, EventOp::Delete, EventOp::Truncate];
/// What a sample says.
const NOTE: &str = "a test event of Rowbridge";

/// The kind of event that the endpoint is tested with: a message where it takes nothing else.
fn kind(config: &WebhookLaneConfig) -> EventOp {
    let takes = &config.webhook().operations;
    let is_outbox = |name: &&str| config.outboxes.iter().any(|outbox| outbox.table == **name);
    let outboxes_alone = config.endpoint.tables.named().is_some_and(|names| names.iter().all(is_outbox));
    let row = ROWS.into_iter().find(|op| takes.contains(op));
    match row.filter(|_| !outboxes_alone || !takes.contains(&EventOp::Message)) {
        Some(op) => op,
        None => EventOp::Message,
    }
}

/// An event that no operator has asked for, in the endpoint's format.
pub(super) fn sample(config: &WebhookLaneConfig) -> Item {
    let kind = kind(config);
    let mut common = config.common();
    common.webhook.operations = vec![kind];
    common.webhook.when = None;
    common.webhook.shape = ShapeConfig::default();
    common.webhook.request.without_templates();
    let def = table(kind);
    common.outboxes = match kind {
        EventOp::Message => [outbox(&def)].into(),
        _ => [].into(),
    };
    let table = TableRef::new(&def);
    let run = run(kind, &table);
    let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let change = Change { run: &run, index: 0, position: Position::ZERO, committed_at: micros as i64 };
    let mut maker = Maker::new(common);
    let mut items = Vec::new();
    if let Ok(shape) = maker.shape(&table) {
        maker.items(&shape, change, false, &mut items);
    }
    items.pop().expect("a change of a plain table is one event in every format")
}

fn table(kind: EventOp) -> TableDef {
    let column = |name: &str, kind: &str| Column { not_null: true, ..Column::new(name, kind) };
    let columns = match kind {
        EventOp::Message => [("id", "bigint"), ("type", "text"), ("key", "text"), ("payload", "jsonb")]
            .map(|(name, kind)| column(name, kind))
            .to_vec(),
        _ => vec![column("id", "bigint"), column("note", "text")],
    };
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("rowbridge", "test"),
        columns,
        key: vec![0],
        types: Vec::new(),
        options: Vec::new(),
    }
}

fn outbox(def: &TableDef) -> OutboxConfig {
    let named = |name: &str| Some(name.to_owned());
    OutboxConfig {
        table: def.name.to_string(),
        id: named("id"),
        kind: named("type"),
        key: named("key"),
        payload: "payload".to_owned(),
        json: false,
        headers: Some(Vec::new()),
        lines: OutboxLines::default(),
    }
}

fn run(kind: EventOp, table: &TableRef) -> Run<'static> {
    let op = match kind {
        EventOp::Insert | EventOp::Message => Op::Insert,
        EventOp::Update => Op::Update,
        EventOp::Read => Op::Read,
        EventOp::Delete => Op::Delete,
        EventOp::Truncate => Op::Truncate,
    };
    let text = |text: &str| Cell::text(text).into_owned();
    let row = vec![text("1"), text(NOTE)];
    let (old, new, cells) = match kind {
        EventOp::Truncate => (Vec::new(), Vec::new(), Vec::new()),
        EventOp::Delete => (vec![0, 1], Vec::new(), row),
        EventOp::Update => {
            let cells = vec![text("1"), text("before"), text("1"), text(NOTE)];
            (vec![0, 1], vec![0, 1], cells)
        }
        EventOp::Insert | EventOp::Read => (Vec::new(), vec![0, 1], row),
        EventOp::Message => {
            let payload = serde_json::json!({ "note": NOTE }).to_string();
            let cells = vec![text("1"), text("rowbridge.test"), text("1"), text(&payload)];
            (Vec::new(), vec![0, 1, 2, 3], cells)
        }
    };
    Run { table: table.id, number: 1, op, old, new, maybe_missing: false, cells }
}
