//! Makes events of changes, and what is sent of events.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rowbridge_schema::config::{CloudEventsMode, EventFormat, Order, Templated, WebhookConfig};
use rowbridge_schema::event::debezium::{self, ColumnShape, Options};
use rowbridge_schema::event::outbox::{OutboxConfig, OutboxError};
use rowbridge_schema::event::shape::{Shape as Columns, ShapeConfig, ShapeError};
use rowbridge_schema::event::template::{TemplateError, Visible};
use rowbridge_schema::event::{Event, EventOp, Field, OwnedEvent, cloudevents, json, xml};
use rowbridge_schema::expr::{ExprError, Input, Row, Sent};
use rowbridge_schema::wire::{Op, Run};
use rowbridge_schema::{EndpointName, Position, SourceId, StreamName, TableDef, TableId, TableName};

use super::cursor::EventKey;
use super::filter::Filter;
use super::message::Messages;
use super::unmade::{RowError, Unmade};
use super::window::Item;
use crate::journal::TableRef;

/// What all events of a lane have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) stream: StreamName,
    pub(crate) endpoint: EndpointName,
    pub(crate) source: SourceId,
    /// Name of the source's database; empty where it has none.
    pub(crate) database: String,
    pub(crate) webhook: Box<WebhookConfig>,
    /// Tables whose new rows are messages.
    pub(crate) outboxes: Arc<[OutboxConfig]>,
}

/// A table of whose changes no events can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// The journal's definition cannot be read.
    #[error("the definition of {table} in the journal cannot be read")]
    Definition { table: TableName, source: serde_json::Error },
    /// The endpoint's filter does not fit the table as it is now.
    #[error("endpoint.when does not fit {table}")]
    Filter { table: TableName, source: ExprError },
    /// What the endpoint is to see of the columns does not fit the table as it is now.
    #[error("endpoint.columns do not fit {table}")]
    Columns { table: TableName, source: Box<ShapeError> },
    /// A template names a column that the table does not have now.
    #[error("endpoint.{templated} does not fit {table}")]
    Template { table: TableName, templated: Templated, source: Box<TemplateError> },
    /// An outbox's configuration does not fit the table as it is now.
    #[error("[[outbox]] does not fit {table}")]
    Outbox { table: TableName, source: OutboxError },
    /// The journal's rows cannot be read.
    #[error("rows of {table} in the journal cannot be read")]
    Rows { table: TableName, source: serde_json::Error },
}

/// A table's shape, prepared once.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) name: Arc<TableName>,
    pub(super) def: TableDef,
    pub(super) sent: usize,
    filter: Option<Filter>,
    /// What the endpoint sees of its columns.
    columns: Columns,
    /// It is an outbox.
    messages: Option<Messages>,
}

impl Shape {
    /// The columns that the endpoint sees, under its names; values of its own may be missing.
    fn columns(&self) -> impl Iterator<Item = ColumnShape<'_>> {
        let not_null =
            |name: &str| self.def.columns.iter().any(|column| column.not_null && column.name == name);
        self.columns.fields().map(move |(name, column)| ColumnShape {
            name,
            column,
            not_null: not_null(name),
        })
    }

    fn key_differs(&self, old: &Sent<'_>, new: &Sent<'_>) -> bool {
        self.def.key.iter().any(|at| {
            let at = usize::from(*at);
            old.cell(at).is_some_and(|cell| new.cell(at) != Some(cell))
        })
    }
}

/// One change of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) index: usize,
    pub(crate) position: Position,
    pub(crate) committed_at: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) common: Common,
    shapes: HashMap<TableId, Arc<Shape>>,
}

impl Maker {
    pub(crate) fn new(common: Common) -> Self {
        Self { common, shapes: HashMap::new() }
    }

    /// The shape of a table, read from its definition the first time.
    pub(crate) fn shape(&mut self, table: &TableRef) -> Result<Arc<Shape>, MakeError> {
        if let Some(shape) = self.shapes.get(&table.id) {
            return Ok(Arc::clone(shape));
        }
        let def: TableDef = serde_json::from_str(&table.json)
            .map_err(|source| MakeError::Definition { table: table.name.clone(), source })?;
        let sent = def.sent_columns().len();
        let messages = Messages::of(&self.common, &def)?;
        let filter = match &self.common.webhook.when {
            Some(program) if messages.is_none() => Some(
                Filter::new(program, &def)
                    .map_err(|source| MakeError::Filter { table: table.name.clone(), source })?,
            ),
            _ => None,
        };
        // A message is not made of the columns that an endpoint chooses from.
        let chosen = if messages.is_none() { &self.common.webhook.shape } else { &ShapeConfig::default() };
        let columns = Columns::compile(chosen, &def)
            .map_err(|source| MakeError::Columns { table: table.name.clone(), source: Box::new(source) })?;
        if messages.is_none() {
            let batched = self.common.webhook.policy.batch.max_events > 1;
            let fits = self.common.webhook.request.fits(&Visible::shaped(&def.name, &columns), batched);
            fits.map_err(|(templated, source)| MakeError::Template {
                table: table.name.clone(),
                templated,
                source: Box::new(source),
            })?;
        }
        let shape =
            Arc::new(Shape { name: Arc::new(def.name.clone()), sent, filter, columns, messages, def });
        self.shapes.insert(table.id, Arc::clone(&shape));
        Ok(shape)
    }

    /// What is sent of a change: nothing, one event, or two where the format makes two of a changed key. Where an expression
    /// fails for its row, one item that says so.
    pub(crate) fn items<'a>(&self, shape: &'a Shape, change: Change<'a>, replay: bool, out: &mut Vec<Item>) {
        if let Some(messages) = &shape.messages {
            return self.message(messages, shape, change, replay, out);
        }
        let mut op = match change.run.op {
            Op::Insert => EventOp::Insert,
            Op::Update => EventOp::Update,
            Op::Delete => EventOp::Delete,
            Op::Read => EventOp::Read,
            Op::Truncate => EventOp::Truncate,
        };
        let mut failed = None;
        if let Some(filter) = &shape.filter {
            // What the endpoint does not get in any case is not asked about.
            if !filter.may_see(op).iter().any(|seen| self.common.webhook.operations.contains(seen)) {
                return;
            }
            match filter.seen(&self.common, shape, change, op) {
                Ok(Some(seen)) => op = seen,
                Ok(None) => return,
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() && !self.common.webhook.operations.contains(&op) {
            return;
        }
        let cells = match op {
            EventOp::Truncate => (&[][..], &[][..]),
            _ => change.run.row(change.index),
        };
        let old = Sent { columns: &change.run.old, cells: cells.0 };
        let new = Sent { columns: &change.run.new, cells: cells.1 };
        let (mut before, mut after) = (some(&old), some(&new));
        let newest = after.or(before);
        let moved = before.is_some() && after.is_some() && shape.key_differs(&old, &new);
        let full_old = change.run.old.len() == shape.sent;
        // What left the filter is gone, and what entered it is new, for this endpoint.
        match op {
            EventOp::Delete => (before, after) = (before.or(after), None),
            EventOp::Insert => before = None,
            EventOp::Update | EventOp::Read | EventOp::Truncate | EventOp::Message => {}
        }
        let id = format!("{}:{}", self.common.stream, change.position);
        let changed = match (before, after) {
            (Some(before), Some(after)) if full_old => Some(shape.columns.changed(before, after)),
            _ => None,
        };
        let mut fields = |row| self.fields(shape, change, op, before, row, &mut failed);
        let (shown_before, shown_after) = (fields(before), fields(after));
        let event = Event {
            id: &id,
            op,
            stream: &self.common.stream,
            endpoint: &self.common.endpoint,
            source: &self.common.source,
            database: &self.common.database,
            dialect: shape.def.dialect,
            table: &shape.name,
            position: change.position,
            committed_at: change.committed_at,
            replay,
            key: after.or(before).map(|row| shape.columns.key(row)).unwrap_or_default(),
            before: shown_before,
            after: shown_after,
            changed,
            message: None,
        };
        let lane = self.lane(shape, change.position, newest);
        let shown_key = shown(&event.key);
        let fault = failed.map(|error| Unmade::new(error, shape, change, replay));
        let (kept, alone) = self.kept(&event, fault.as_ref());
        let first = out.len();
        let mut part = 0;
        self.render(shape, &event, &mut |headers, body| {
            out.push(Item {
                key: EventKey { position: change.position, part },
                lane,
                id: if part == 0 { id.as_str().into() } else { format!("{id}-{part}").into() },
                op,
                table: Arc::clone(&shape.name),
                shown_key: shown_key.clone(),
                committed_at: change.committed_at,
                barrier: moved || op == EventOp::Truncate,
                headers,
                // Without the room that was left for a longer one.
                body: body.into_boxed_slice().into(),
                event: kept.clone(),
                alone,
                fault: fault.clone(),
            });
            part += 1;
        });
        if fault.is_some() {
            out.truncate(first + 1);
        }
    }

    /// The event for templates, where there are any, and whether it would spoil a batch.
    pub(super) fn kept(
        &self,
        event: &Event<'_>,
        fault: Option<&Arc<Unmade>>,
    ) -> (Option<Arc<OwnedEvent>>, bool) {
        let request = &self.common.webhook.request;
        let batched = self.common.webhook.policy.batch.max_events > 1;
        if fault.is_some() {
            return (None, batched);
        }
        if !request.has_templates() {
            return (None, false);
        }
        let alone = batched && request.render(std::slice::from_ref(event), true).is_err();
        (Some(Arc::new(OwnedEvent::of(event))), alone)
    }

    /// A row as the endpoint sees it; without computed columns where an expression has `failed`, as one of them may here.
    fn fields<'a>(
        &'a self,
        shape: &'a Shape,
        change: Change<'a>,
        op: EventOp,
        before: Option<&'a Sent<'a>>,
        row: Option<&'a Sent<'a>>,
        failed: &mut Option<RowError>,
    ) -> Option<Vec<Field<'a>>> {
        let row = row?;
        let input = Input {
            op,
            before: before.map(|row| row as &dyn Row),
            after: Some(row),
            message: None,
            table: &shape.name,
            stream: self.common.stream.as_str(),
            endpoint: self.common.endpoint.as_str(),
            position: change.position,
            committed_at: change.committed_at,
        };
        if failed.is_none() {
            match shape.columns.apply(row, Some(&input)) {
                Ok(fields) => return Some(fields),
                Err(error) => *failed = Some(RowError::Computed(error)),
            }
        }
        Some(shape.columns.apply(row, None).unwrap_or_default())
    }

    /// Events of one lane leave in order. Told by the table's own key, whatever the endpoint sees of it.
    fn lane(&self, shape: &Shape, position: Position, row: Option<&Sent<'_>>) -> u64 {
        let mut hash = DefaultHasher::new();
        match self.common.webhook.policy.order {
            Order::Strict => return 0,
            Order::None => position.hash(&mut hash),
            Order::Key => {
                shape.name.hash(&mut hash);
                shape
                    .def
                    .key
                    .iter()
                    .for_each(|at| row.and_then(|row| row.cell(usize::from(*at))).hash(&mut hash));
            }
        }
        hash.finish()
    }

    pub(super) fn render(
        &self,
        shape: &Shape,
        event: &Event<'_>,
        take: &mut dyn FnMut(Vec<(String, String)>, Vec<u8>),
    ) {
        let mut body = Vec::with_capacity(512);
        let mut headers = Vec::new();
        match self.common.webhook.format {
            EventFormat::Json | EventFormat::Template => json::write_event(&mut body, event),
            EventFormat::CloudEvents(CloudEventsMode::Structured | CloudEventsMode::Batch) => {
                cloudevents::write_structured(&mut body, event);
            }
            EventFormat::CloudEvents(CloudEventsMode::Binary) => {
                cloudevents::write_binary(&mut body, event);
                let own = cloudevents::binary_headers(event).into_iter();
                // That of most events is the endpoint's; a message's may be another.
                headers.extend(own.filter(|(name, value)| {
                    name != "content-type" || value != cloudevents::BINARY_CONTENT_TYPE
                }));
            }
            EventFormat::Xml => xml::write_event(&mut body, event),
            EventFormat::Debezium => {
                // A changed key is two events there, each with a request of its own.
                let columns: Vec<ColumnShape<'_>> = shape.columns().collect();
                let options = Options { columns: &columns, types: &shape.def.types, ..Options::default() };
                let batched = self.common.webhook.policy.batch.max_events > 1;
                for message in debezium::write_events(event, &options) {
                    // Several events have no headers of their own.
                    let header = message.http_header().filter(|_| !batched);
                    take(header.into_iter().collect(), message.value);
                }
                return;
            }
        }
        take(headers, body);
    }
}

/// `id=42`, `a=1,b=2`: for a dead letter's list. Long values are cut.
fn shown(key: &[Field<'_>]) -> Option<Box<str>> {
    const LONGEST: usize = 200;
    let text: Vec<String> =
        key.iter().map(|field| format!("{}={}", field.name, field.cell.as_str().unwrap_or("null"))).collect();
    let mut text = text.join(",");
    text.truncate(text.floor_char_boundary(LONGEST));
    (!text.is_empty()).then(|| text.into())
}

/// A row, if the source sent one.
fn some<'a, 'b>(row: &'b Sent<'a>) -> Option<&'b Sent<'a>> {
    (!row.columns.is_empty()).then_some(row)
}
