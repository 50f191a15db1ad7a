//! Reads a recording of `tests/interop/record-debezium`, and makes the same events.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::super::{ColumnShape, Message, Options, write_events};
use crate::event::{Event, EventOp, Field};
use crate::table::TableDef;
use crate::types::ColumnType;
use crate::{Cell, EndpointName, Position, SourceId, StreamName};

/// A change as Rowbridge captures it: a cell is null, `[text]`, or `"unchanged"`.
#[derive(Deserialize)]
pub(super) struct Change {
    op: String,
    pub(super) table: String,
    #[serde(default)]
    commit: u64,
    #[serde(default)]
    file: u32,
    #[serde(default)]
    committed_at: i64,
    #[serde(default)]
    ordinal: u64,
    #[serde(default)]
    old_is: String,
    old: Option<Vec<Value>>,
    new: Option<Vec<Value>>,
}

/// One event of Debezium.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub(super) key: Value,
    pub(super) value: Value,
}

pub(super) struct Recording {
    pub(super) tables: BTreeMap<String, TableDef>,
    pub(super) changes: Vec<Change>,
    pub(super) events: Vec<Recorded>,
}

fn lines<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Recording {
    pub(super) fn read(tables: &str, changes: &str, events: &str) -> Self {
        let tables: Vec<TableDef> = serde_json::from_str(tables).unwrap();
        Self {
            tables: tables.into_iter().map(|table| (table.name.name.clone(), table)).collect(),
            changes: lines(changes),
            events: lines(events),
        }
    }

    /// Our messages for one change.
    pub(super) fn messages(&self, change: &Change, database: &str) -> Vec<Message> {
        let table = &self.tables[&change.table];
        let types: Vec<ColumnType> =
            table.columns.iter().map(|column| ColumnType::of(table, column)).collect();
        let columns: Vec<ColumnShape<'_>> = table
            .columns
            .iter()
            .zip(&types)
            .map(|(column, parsed)| ColumnShape {
                name: &column.name,
                column: parsed,
                not_null: column.not_null,
            })
            .collect();
        let fields = |cells: &[Value], key_only: bool| -> Vec<Field<'_>> {
            let mut fields = Vec::new();
            for (at, cell) in cells.iter().enumerate() {
                let cell = match cell {
                    Value::Null => Cell::Null,
                    Value::Array(text) => Cell::Text(text[0].as_str().unwrap().to_owned().into()),
                    _ => continue,
                };
                if !key_only || table.key.contains(&(at as u16)) {
                    fields.push(Field { name: columns[at].name, column: columns[at].column, cell });
                }
            }
            fields
        };
        let before = change.old.as_deref().map(|cells| fields(cells, change.old_is == "key"));
        let after = change.new.as_deref().map(|cells| fields(cells, false));
        let row = after.as_ref().or(before.as_ref()).cloned().unwrap_or_default();
        let key = table.key.iter().filter_map(|&at| {
            row.iter().find(|field| field.name == table.columns[usize::from(at)].name).cloned()
        });
        let event = Event {
            id: "s:1",
            op: match change.op.as_str() {
                "insert" => EventOp::Insert,
                "update" => EventOp::Update,
                "delete" => EventOp::Delete,
                "read" => EventOp::Read,
                _ => EventOp::Truncate,
            },
            stream: &"shop".parse::<StreamName>().unwrap(),
            endpoint: &"e".parse::<EndpointName>().unwrap(),
            source: &SourceId("d".to_owned()),
            database,
            dialect: table.dialect,
            table: &table.name,
            position: Position {
                epoch: 1,
                offset: crate::Offset { file: change.file, at: change.commit },
                ordinal: change.ordinal,
            },
            committed_at: change.committed_at,
            replay: false,
            key: key.collect(),
            before,
            after,
            changed: None,
            message: None,
        };
        let options =
            Options { name: Some("rowbridge"), columns: &columns, types: &table.types, ..Options::default() };
        write_events(&event, &options)
    }

    /// Debezium's events for a change, taken out of the recording: reads by their row, since tables are read in another
    /// order there, all others in their order.
    pub(super) fn take(&mut self, change: &Change, ours: &[Message]) -> Vec<Recorded> {
        ours.iter()
            .map(|message| {
                let at = if change.op == "read" {
                    let mine: Value = serde_json::from_slice(&message.value).unwrap();
                    let first = &self.tables[&change.table].columns[0].name;
                    self.events.iter().position(|event| {
                        event.value["op"] == "r"
                            && event.value["source"]["table"] == change.table.as_str()
                            && event.value["after"][first] == mine["after"][first]
                    })
                } else {
                    Some(0)
                };
                self.events.remove(at.unwrap())
            })
            .collect()
    }

    /// Compares all, and names every field that differs: `source.lsn`, `after texts.na`.
    pub(super) fn differences(mut self, database: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            let ours = self.messages(&change, database);
            for (message, theirs) in ours.iter().zip(self.take(&change, &ours)) {
                let key =
                    message.key.as_ref().map_or(Value::Null, |key| serde_json::from_slice(key).unwrap());
                if !same(&key, &theirs.key) {
                    found.insert(format!("key {}", change.table));
                }
                let mine: Value = serde_json::from_slice(&message.value).unwrap();
                self.compare(&change, &mine, &theirs.value, &mut found);
            }
        }
        assert_eq!(self.events.len(), 0, "events of Debezium that no change made");
        found
    }

    fn compare(&self, change: &Change, mine: &Value, theirs: &Value, found: &mut BTreeSet<String>) {
        let read = if change.op == "read" { " (read)" } else { "" };
        for name in names(mine, theirs) {
            let (one, other) = (&mine[&name], &theirs[&name]);
            if !one.is_object() || !other.is_object() {
                if one != other {
                    found.insert(name);
                }
                continue;
            }
            for field in names(one, other) {
                if name == "source" {
                    if one.get(&field) != other.get(&field) {
                        found.insert(format!("source.{field}{read}"));
                    }
                } else if !self.same_cell(&change.table, &field, one.get(&field), other.get(&field)) {
                    found.insert(format!("{name} {}.{field}", change.table));
                }
            }
        }
    }

    /// Objects in a text (hstore) have no order.
    fn same_cell(&self, table: &str, name: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
        let (Some(one), Some(other)) = (one, other) else { return one == other };
        let column = self.tables[table].columns.iter().find(|column| column.name == name).unwrap();
        if let (true, Value::String(one), Value::String(other)) =
            (column.type_name.contains("hstore"), one, other)
        {
            return serde_json::from_str::<Value>(one).unwrap()
                == serde_json::from_str::<Value>(other).unwrap();
        }
        if let (true, Some(one), Some(other)) =
            (matches!(column.type_name.as_str(), "real" | "float"), one.as_f64(), other.as_f64())
        {
            // Java prints more digits than it needs to (1.4e-45).
            return (one as f32).to_bits() == (other as f32).to_bits();
        }
        same(one, other)
    }
}

/// All members of two objects.
fn names(one: &Value, other: &Value) -> BTreeSet<String> {
    [one, other].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys().cloned()).collect()
}

/// `1e20` and `1.0e20` are one number; whole numbers are compared as such.
fn same(one: &Value, other: &Value) -> bool {
    one == other
        || (one.is_f64()
            && other.is_f64()
            && one.as_f64().map(f64::to_bits) == other.as_f64().map(f64::to_bits))
}
