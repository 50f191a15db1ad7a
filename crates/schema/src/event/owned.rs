//! An event that outlives the block of the journal which it was made of: templates are rendered when a request is put
//! together, and again when a dead letter is retried.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Event, EventOp, Field, Message};
use crate::cell::Cell;
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{Dialect, TableName};
use crate::types::ColumnType;

/// What all events of an endpoint have in common.
#[derive(Debug, Clone, Copy)]
pub struct Whence<'a> {
    /// Namespace of the positions.
    pub stream: &'a StreamName,
    /// For whom they are.
    pub endpoint: &'a EndpointName,
    /// Which database they come from.
    pub source: &'a SourceId,
    /// That database's name, empty where it has none.
    pub database: &'a str,
}

/// An [`Event`] with values of its own. As JSON it is what a dead letter of a template keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedEvent {
    id: String,
    op: EventOp,
    dialect: Dialect,
    table: TableName,
    position: Position,
    committed_at: i64,
    replay: bool,
    key: Vec<OwnedField>,
    before: Option<Vec<OwnedField>>,
    after: Option<Vec<OwnedField>>,
    changed: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<OwnedMessage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OwnedMessage {
    id: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    payload: OwnedField,
    headers: Vec<OwnedField>,
    logical: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OwnedField {
    name: String,
    column: ColumnType,
    #[serde(with = "cell")]
    cell: Cell<'static>,
}

/// As a cell travels on the wire.
mod cell {
    use serde::ser::SerializeMap as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::cell::Cell;

    pub(super) fn serialize<S: Serializer>(cell: &Cell<'static>, serializer: S) -> Result<S::Ok, S::Error> {
        match cell {
            Cell::Null => serializer.serialize_unit(),
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Classed(class, text) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(class.tag(), text)?;
                map.end()
            }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cell<'static>, D::Error> {
        Cell::deserialize(deserializer).map(Cell::into_owned)
    }
}

impl OwnedField {
    fn of(field: &Field<'_>) -> Self {
        Self {
            name: field.name.to_owned(),
            column: field.column.clone(),
            cell: field.cell.clone().into_owned(),
        }
    }

    fn field(&self) -> Field<'_> {
        Field { name: &self.name, column: &self.column, cell: self.cell.clone() }
    }
}

impl OwnedMessage {
    fn of(message: &Message<'_>) -> Self {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Self {
            id: text(&message.id),
            kind: text(&message.kind),
            key: text(&message.key),
            payload: OwnedField::of(&message.payload),
            headers: message.headers.iter().map(OwnedField::of).collect(),
            logical: message.logical,
        }
    }

    fn message(&self) -> Message<'_> {
        Message {
            id: self.id.as_deref().map(Cow::Borrowed),
            kind: self.kind.as_deref().map(Cow::Borrowed),
            key: self.key.as_deref().map(Cow::Borrowed),
            payload: self.payload.field(),
            headers: self.headers.iter().map(OwnedField::field).collect(),
            logical: self.logical,
        }
    }
}

impl OwnedEvent {
    /// A copy.
    #[must_use]
    pub fn of(event: &Event<'_>) -> Self {
        let own = |row: &Vec<Field<'_>>| row.iter().map(OwnedField::of).collect();
        Self {
            id: event.id.to_owned(),
            op: event.op,
            dialect: event.dialect,
            table: event.table.clone(),
            position: event.position,
            committed_at: event.committed_at,
            replay: event.replay,
            key: own(&event.key),
            before: event.before.as_ref().map(own),
            after: event.after.as_ref().map(own),
            changed: event
                .changed
                .as_ref()
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            message: event.message.as_ref().map(OwnedMessage::of),
        }
    }

    /// The event again, for the endpoint that it was made for.
    #[must_use]
    pub fn event<'a>(&'a self, whence: Whence<'a>) -> Event<'a> {
        let row = |row: &'a Vec<OwnedField>| row.iter().map(OwnedField::field).collect();
        Event {
            id: &self.id,
            op: self.op,
            stream: whence.stream,
            endpoint: whence.endpoint,
            source: whence.source,
            database: whence.database,
            dialect: self.dialect,
            table: &self.table,
            position: self.position,
            committed_at: self.committed_at,
            replay: self.replay,
            key: row(&self.key),
            before: self.before.as_ref().map(row),
            after: self.after.as_ref().map(row),
            changed: self.changed.as_ref().map(|names| names.iter().map(String::as_str).collect()),
            message: self.message.as_ref().map(OwnedMessage::message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Class;

    #[test]
    fn an_event_survives_being_stored() {
        let (stream, endpoint) = ("shop".parse().unwrap(), "crm".parse().unwrap());
        let (source, table) = (SourceId("pg:1".to_owned()), TableName::new("public", "orders"));
        let whence = Whence { stream: &stream, endpoint: &endpoint, source: &source, database: "shop" };
        let column = ColumnType::parse(Dialect::Sqlite, "numeric(10,2)", None, &[]);
        let field = |name, cell| Field { name, column: &column, cell };
        let row = vec![
            field("id", Cell::text("9007199254740993")),
            field("note", Cell::Null),
            field("blob", Cell::Classed(Class::Blob, "00ff".into())),
        ];
        let event = Event {
            id: "shop:1",
            op: EventOp::Update,
            stream: whence.stream,
            endpoint: whence.endpoint,
            source: whence.source,
            database: whence.database,
            dialect: Dialect::Sqlite,
            table: &table,
            position: Position::new(1, 2, 3),
            committed_at: -5,
            replay: true,
            key: row[..1].to_vec(),
            before: Some(row[..1].to_vec()),
            after: Some(row.clone()),
            changed: Some(vec!["note"]),
            message: Some(Message {
                id: None,
                kind: Some("order.paid".into()),
                key: Some("7".into()),
                payload: field("payload", Cell::text("{}")),
                headers: row.clone(),
                logical: false,
            }),
        };
        let json = serde_json::to_string(&OwnedEvent::of(&event)).unwrap();
        let read: OwnedEvent = serde_json::from_str(&json).unwrap();
        assert_eq!(format!("{:?}", read.event(whence)), format!("{event:?}"));
    }
}
