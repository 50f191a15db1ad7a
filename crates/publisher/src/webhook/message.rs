//! Messages: what is sent of a new row of an outbox.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rowbridge_schema::config::Order;
use rowbridge_schema::event::outbox::{Outbox, OutboxError};
use rowbridge_schema::event::{Event, EventOp, Message};
use rowbridge_schema::expr::{Bound, ExprError, Input, Program, Row, Sent};
use rowbridge_schema::wire::Op;
use rowbridge_schema::{Position, TableDef, TableName};

use super::cursor::EventKey;
use super::make::{Change, Common, MakeError, Maker, Shape};
use super::unmade::{RowError, Unmade};
use super::window::Item;

/// How messages are made of a table's rows.
#[derive(Debug)]
pub(super) struct Messages {
    outbox: Outbox,
    filter: Option<Filter>,
}

/// The endpoint's `when`, for messages.
#[derive(Debug)]
struct Filter {
    bound: Bound,
    /// It asks for something of the message, so that a row has to be made.
    asks: bool,
}

impl Messages {
    /// `None` for a table that is no outbox.
    pub(super) fn of(common: &Common, def: &TableDef) -> Result<Option<Self>, MakeError> {
        let Some(config) = common.outboxes.iter().find(|outbox| outbox.is(&def.name)) else {
            return Ok(None);
        };
        let outbox = Outbox::compile(config, def)
            .map_err(|source: OutboxError| MakeError::Outbox { table: def.name.clone(), source })?;
        let filter = common.webhook.when.as_ref().map(|program| filter(program, &def.name)).transpose()?;
        Ok(Some(Self { outbox, filter }))
    }

    fn takes(
        &self,
        maker: &Maker,
        shape: &Shape,
        change: Change<'_>,
        message: &Message<'_>,
    ) -> Result<bool, RowError> {
        let Some(Filter { bound, asks }) = &self.filter else { return Ok(true) };
        let row = if *asks { message.row() } else { Vec::new() };
        let input = Input {
            op: EventOp::Message,
            before: None,
            after: None,
            message: Some(&row as &dyn Row),
            table: &shape.name,
            stream: maker.common.stream.as_str(),
            endpoint: maker.common.endpoint.as_str(),
            position: change.position,
            committed_at: change.committed_at,
        };
        bound.matches(&input).map_err(RowError::Filter)
    }
}

fn filter(program: &Program, table: &TableName) -> Result<Filter, MakeError> {
    let failed = |source: ExprError| MakeError::Filter { table: table.clone(), source };
    Ok(Filter { bound: program.bind_message().map_err(failed)?, asks: program.names("message") })
}

impl Maker {
    /// What is sent of a change of an outbox: a message for a new row. That old ones are cleared away is nobody's business,
    /// and existing ones were messages once.
    pub(super) fn message<'a>(
        &self,
        messages: &'a Messages,
        shape: &'a Shape,
        change: Change<'a>,
        replay: bool,
        out: &mut Vec<Item>,
    ) {
        if change.run.op != Op::Insert || !self.common.webhook.operations.contains(&EventOp::Message) {
            return;
        }
        let (_, cells) = change.run.row(change.index);
        let row = Sent { columns: &change.run.new, cells };
        let message = messages.outbox.message(&row);
        let fault = match messages.takes(self, shape, change, &message) {
            Ok(true) => None,
            Ok(false) => return,
            Err(error) => Some(Unmade::new(error, shape, change, replay)),
        };
        let id = format!("{}:{}", self.common.stream, change.position);
        // Logical messages have no key; those of one prefix belong together.
        let key = if message.logical { &message.kind } else { &message.key };
        let lane = self.message_lane(shape, change.position, key.as_deref());
        let shown_key = message.key.as_deref().map(|key| shown("key", key));
        let shown_key = shown_key.or_else(|| message.kind.as_deref().map(|kind| shown("type", kind)));
        let event = Event {
            id: &id,
            op: EventOp::Message,
            stream: &self.common.stream,
            endpoint: &self.common.endpoint,
            source: &self.common.source,
            database: &self.common.database,
            dialect: shape.def.dialect,
            table: &shape.name,
            position: change.position,
            committed_at: change.committed_at,
            replay,
            key: Vec::new(),
            before: None,
            after: None,
            changed: None,
            message: Some(message),
        };
        let (kept, alone) = self.kept(&event, fault.as_ref());
        self.render(shape, &event, &mut |headers, body| {
            out.push(Item {
                key: EventKey { position: change.position, part: 0 },
                lane,
                id: id.as_str().into(),
                op: EventOp::Message,
                table: Arc::clone(&shape.name),
                shown_key: shown_key.clone(),
                committed_at: change.committed_at,
                barrier: false,
                headers,
                // Without the room that was left for a longer one.
                body: body.into_boxed_slice().into(),
                event: kept.clone(),
                alone,
                fault: fault.clone(),
            });
        });
    }

    /// Messages of one key leave in order; one without key waits for no other.
    fn message_lane(&self, shape: &Shape, position: Position, key: Option<&str>) -> u64 {
        let mut hash = DefaultHasher::new();
        match (self.common.webhook.policy.order, key) {
            (Order::Strict, _) => return 0,
            (Order::Key, Some(key)) => (&shape.name, key).hash(&mut hash),
            (Order::Key, None) | (Order::None, _) => position.hash(&mut hash),
        }
        hash.finish()
    }
}

/// For a dead letter's list.
fn shown(name: &str, value: &str) -> Box<str> {
    const LONGEST: usize = 200;
    let mut text = format!("{name}={value}");
    text.truncate(text.floor_char_boundary(LONGEST));
    text.into()
}
