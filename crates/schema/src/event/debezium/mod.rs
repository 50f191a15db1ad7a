//! The `debezium` format: the change events of Debezium's PostgreSQL and MySQL connectors as JSON without schemas
//! (`schemas.enable=false`) under the connectors' default settings, so that their consumers work unchanged.
//!
//! ```text
//! {"before":…,"after":…,"source":{…},"transaction":null,"op":"u","ts_ms":…,"ts_us":…,"ts_ns":…}
//! ```
//!
//! The oracle is Debezium 3.6 itself: `tests/interop/record-debezium` records what it makes of a script of changes, and
//! a test compares those events with ours field by field. `docs/debezium.md` has the representation of every type.
//!
//! What differs, and why:
//!
//! | field | here | in Debezium |
//! | --- | --- | --- |
//! | `source.version` | Rowbridge's version | Debezium's |
//! | `source.lsn`, `source.sequence` | LSN of the transaction's commit record, for all of its rows, twice in `sequence` | LSN of the row, and of the last commit before it |
//! | `source.txId`, `xmin`, `origin`, `origin_lsn` | null: an event has no transaction id | id of the transaction; the others mostly null |
//! | `source.ts_*` of a snapshot row | as the event has it | start of the snapshot |
//! | `source.snapshot` | `true` for snapshot rows | also `first`, `last`, `first_in_data_collection` … |
//! | `source.file`, `pos`, `row` | number of the binlog file in six digits, offset of the commit, ordinal in the transaction | name of the file, offset of the row's event, number in it |
//! | `source.server_id`, `gtid`, `thread`, `query` | 0, null, null, null | known from the binlog |
//! | `ts_ms`, `ts_us`, `ts_ns` | [`Options::processed_at`], or the commit time | when the connector saw the row |
//! | column defaults | NULL is null, an unknown old value is null or zero | the column's default stands in the place of null |
//! | key | the columns that identify a row at the source (a replica identity's index) | the primary key; what the index does not tell is 0 |
//! | `numeric` with negative scale | unscaled value at that scale | at scale 2048 + s |
//! | `name` | text | null, but in snapshots |
//! | `time[]` | microseconds | cut to milliseconds, in microseconds |
//! | arrays of arrays | arrays of arrays | lists of nulls, or of Java's object names |
//! | `bit(n)[]`, n > 1 | array of base64 | null |
//! | timestamps after 294247-01-10 | 2^63 - 1 | a negative number |
//! | `NaN` and infinities of `numeric` | the text | not supported by the connector |
//! | MySQL's `YEAR` 0000 | 0 | 1900 |
//! | MySQL's `ENUM` labels with a comma | the label | a backslash before the comma |
//! | MySQL's `TIMESTAMP(f)` in snapshots | f digits, as in the stream | without zeros at the end |
//!
//! A key change is two events, as in Debezium: a delete of the old key, then a create of the new one ([`parts`]). Debezium
//! marks them by the headers [`NEW_KEY_HEADER`] and [`OLD_KEY_HEADER`], which are HTTP's here as in its HTTP sink
//! ([`Message::http_header`]). Tombstones are never sent.
//!
//! SQLite has no connector there. Its events have `"connector":"sqlite"` and plain JSON values.

mod envelope;
mod form;
mod number;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;

use crate::event::natural::push_base64;
use crate::event::{Event, EventOp, Field};
use crate::table::TypeDefinition;
use crate::types::ColumnType;

/// What stands for a value that is stored outside of its row and was not touched by an update.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Header of the delete that a key change begins with: the new key.
pub const NEW_KEY_HEADER: &str = "__debezium.newkey";

/// Header of the create that a key change ends with: the old key.
pub const OLD_KEY_HEADER: &str = "__debezium.oldkey";

/// What Debezium Server's HTTP sink puts before the name of a header (`debezium.sink.http.headers.prefix`).
const HTTP_PREFIX: &str = "x-debezium-";

/// A column as the receiver sees it, whether or not an event carries a value for it.
#[derive(Debug, Clone, Copy)]
pub struct ColumnShape<'a> {
    /// Name.
    pub name: &'a str,
    /// Type.
    pub column: &'a ColumnType,
    /// NOT NULL at the source: unknown values are zeros and empty texts instead of null.
    pub not_null: bool,
}

/// What an event itself does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// `source.name`, Debezium's `topic.prefix`; none is the stream's name.
    pub name: Option<&'a str>,
    /// The table's columns in order, less those that the endpoint drops. With it, rows always have all columns.
    pub columns: &'a [ColumnShape<'a>],
    /// The user-defined types that the columns refer to.
    pub types: &'a [TypeDefinition],
    /// `ts_us`, microseconds since 1970; none is the commit time, so that an event is always the same bytes.
    pub processed_at: Option<i64>,
    /// Columns of types that the connector has no schema for (composites, `box`, multiranges …) are sent as base64 of
    /// their text instead of being left out: Debezium's `include.unknown.datatypes`.
    pub include_unknown: bool,
}

/// Which half of an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The delete of a key change.
    OldKey,
    /// The create of a key change.
    NewKey,
}

/// One message: Debezium's key, value and headers, each a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The key's columns; none for tables without key and for truncates.
    pub key: Option<Vec<u8>>,
    /// The envelope.
    pub value: Vec<u8>,
    /// [`NEW_KEY_HEADER`] or [`OLD_KEY_HEADER`] with the other key.
    pub header: Option<(&'static str, Vec<u8>)>,
}

impl Message {
    /// The message's header as Debezium Server's HTTP sink sends it by default: a prefix before the name, the value in base64
    /// (`debezium.sink.http.headers.encode.base64`).
    #[must_use]
    pub fn http_header(&self) -> Option<(String, String)> {
        let (name, key) = self.header.as_ref()?;
        let mut value = Vec::new();
        push_base64(&mut value, key);
        Some((format!("{HTTP_PREFIX}{name}"), String::from_utf8_lossy(&value).into_owned()))
    }
}

/// What an event is sent as: one part, or two for an update that changes the key.
#[must_use]
pub fn parts(event: &Event<'_>) -> &'static [Part] {
    if old_key(event).is_some() { &[Part::OldKey, Part::NewKey] } else { &[Part::Whole] }
}

/// Appends the value of one part of an event. Well-formed JSON whatever the cells hold.
///
/// A message of an outbox is its payload and nothing else, as Debezium's outbox event router makes it by default. A logical
/// message has an envelope of its own, with the content in base64.
pub fn write_event(out: &mut Vec<u8>, event: &Event<'_>, part: Part, options: &Options<'_>) {
    if let Some(message) = &event.message {
        return match message.logical {
            true => envelope::write_message(out, event, message, options),
            false => message.payload().write_json(out),
        };
    }
    envelope::write(out, event, part, options);
}

/// The messages of an event in order, by [`parts`].
#[must_use]
pub fn write_events(event: &Event<'_>, options: &Options<'_>) -> Vec<Message> {
    let key = |fields: &[&Field<'_>]| {
        let mut out = Vec::new();
        envelope::write_key(&mut out, fields, options);
        out
    };
    let new: Vec<&Field<'_>> = event.key.iter().collect();
    let old = old_key(event);
    parts(event)
        .iter()
        .map(|&part| {
            let mut value = Vec::new();
            write_event(&mut value, event, part, options);
            let (own, header) = match (part, &old) {
                (Part::OldKey, Some(old)) => (old, Some((NEW_KEY_HEADER, key(&new)))),
                (Part::NewKey, Some(old)) => (&new, Some((OLD_KEY_HEADER, key(old)))),
                _ => (&new, None),
            };
            let own = (!own.is_empty() && event.op != EventOp::Truncate).then(|| key(own));
            Message { key: own, value, header }
        })
        .collect()
}

/// The old key of an update that changes it.
fn old_key<'e, 'a>(event: &'e Event<'a>) -> Option<Vec<&'e Field<'a>>> {
    let before = event.before.as_deref().filter(|_| event.op == EventOp::Update)?;
    let old: Option<Vec<_>> =
        event.key.iter().map(|key| before.iter().find(|field| field.name == key.name)).collect();
    let old = old?;
    old.iter().zip(&event.key).any(|(old, new)| old.cell != new.cell).then_some(old)
}
