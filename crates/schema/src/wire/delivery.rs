//! One POST: head, table definitions and blocks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use super::run::Run;
use super::run::Step;
use crate::name::{EndpointName, SourceId, StreamName};
use crate::position::Position;
use crate::table::{TableDef, TableId};

/// What a delivery says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryHead {
    /// [`super::WIRE_VERSION`]
    pub rowbridge: u32,
    /// Namespace of the positions.
    pub stream: StreamName,
    /// The lane's endpoint.
    pub endpoint: EndpointName,
    /// Which database this comes from.
    pub source: SourceId,
    /// The position that the target must have reached; null asks where it is (the handshake: no blocks follow).
    pub prev: Option<Position>,
    /// The position that the target will have reached; null in a handshake.
    pub to: Option<Position>,
    /// The last block's transaction goes on in the next delivery: apply, answer `staged`, do not commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// The last block's transaction goes on in the next delivery, but is too large to be applied whole: commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split: bool,
}

/// What a block says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHead {
    /// Position of the first change before any filter.
    pub first: Position,
    /// Position that a target has reached when it has applied the block.
    pub last: Position,
    /// Commit time at the source in microseconds since 1970.
    pub at: i64,
    /// What a run's number counts.
    #[serde(default)]
    pub step: Step,
    /// Set on a snapshot's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Chunk>,
}

/// A key range of a snapshot, placed between two transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The table's shape.
    pub table: TableId,
    /// Delete all rows of the table first: a keyless table starts over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
    /// A re-snapshot of a table with a key: what was deleted meanwhile goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// Delete what lies in this range and is neither sent nor skipped. A target that orders these keys in another way
    /// leaves it, and removes everything at the end instead; see [`Sweep`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<KeyRange>,
    /// Keys that a later transaction, already in the stream, has changed: neither sent nor deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Vec<String>>,
    /// The table's last chunk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// Where a chunk stands in a re-snapshot. A target that cannot delete range by range, since its order of keys is another
/// or the source's order is its own (`prune` is absent), collects every key that is sent or skipped, and every key that
/// the stream inserts or updates, from the first chunk on; with the chunk that says `done` it deletes all other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// The re-snapshot begins: what was collected before counts for nothing.
    First,
    /// It goes on with the next range.
    Next,
    /// Rows that were read again by their keys; they make up no range.
    Again,
}

/// Keys above `after` up to and including `upto`; an open end is null. Each key lists its columns in key order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KeyRange {
    /// Exclusive lower bound.
    pub after: Option<Vec<String>>,
    /// Inclusive upper bound.
    pub upto: Option<Vec<String>>,
}

/// Joins a delivery from parts that are already encoded.
///
/// `tables` are (id, definition JSON), each once; `blocks` are (head, body) where the body is the comma-separated JSON of
/// the runs that this lane takes.
#[must_use]
pub fn encode_delivery<'a>(
    head: &DeliveryHead,
    tables: impl Iterator<Item = (TableId, &'a str)>,
    blocks: impl Iterator<Item = (&'a BlockHead, &'a [&'a [u8]])>,
    capacity: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity + 512);
    serde_json::to_writer(&mut out, head).expect("a head holds only names and positions");
    out.pop();
    out.extend_from_slice(b",\"tables\":{");
    for (i, (id, json)) in tables.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\"{id}\":{json}");
    }
    out.extend_from_slice(b"},\"blocks\":[");
    for (i, (head, pieces)) in blocks.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, head).expect("a block head holds only positions and keys");
        out.pop();
        out.extend_from_slice(b",\"runs\":[");
        for (j, piece) in pieces.iter().enumerate() {
            if j > 0 {
                out.push(b',');
            }
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    out
}

/// A delivery as it was read.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// What it says of itself.
    pub head: DeliveryHead,
    /// Definitions by fingerprint, checked against their JSON.
    pub tables: HashMap<TableId, TableDef>,
    /// Blocks in commit order.
    pub blocks: Vec<Block<'a>>,
}

/// A block as it was read.
#[derive(Debug)]
pub struct Block<'a> {
    /// What it says of itself.
    pub head: BlockHead,
    /// Runs in source order.
    pub runs: Vec<Run<'a>>,
}

impl Block<'_> {
    /// The position of change `index` of a run of this block.
    #[must_use]
    pub fn position(&self, run: &Run<'_>, index: usize) -> Position {
        let number = run.number.saturating_add(index as u64);
        match self.head.step {
            Step::Ordinal => self.head.last.with_ordinal(number),
            Step::Offset => {
                let mut position = self.head.last.with_ordinal(1);
                position.offset.at = number;
                position
            }
        }
    }
}

/// Why a body is not a delivery. Texts name places, never values.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not JSON of this shape. The message of the parser names line and column.
    #[error("the body is not a bridge delivery (line {line}, column {column})")]
    Json {
        /// Line in the body.
        line: usize,
        /// Column in the line.
        column: usize,
        /// What was wrong, for the receiver's own log at debug level.
        #[source]
        source: serde_json::Error,
    },
    /// A wire version that this release does not read.
    #[error(
        "the delivery has wire version {found}, this release reads {expected}: upgrade the subscriber first"
    )]
    Version {
        /// Version found.
        found: u32,
        /// Version read by this release.
        expected: u32,
    },
    /// A definition that is not the one its fingerprint names.
    #[error("table definition {id} does not have that fingerprint")]
    Fingerprint {
        /// The fingerprint claimed.
        id: TableId,
    },
    /// A run whose table is not defined in the delivery, or whose columns are not in the table.
    #[error("a run refers to table {id} or to a column that the delivery does not define")]
    UnknownTable {
        /// The fingerprint referred to.
        id: TableId,
    },
    /// Blocks out of order, or outside `prev`..`to`.
    #[error("block at {at} is out of order")]
    Order {
        /// First position of the offending block.
        at: Position,
    },
}

impl From<serde_json::Error> for WireError {
    fn from(source: serde_json::Error) -> Self {
        Self::Json { line: source.line(), column: source.column(), source }
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    rowbridge: u32,
}

#[derive(Deserialize)]
struct RawDelivery<'a> {
    rowbridge: u32,
    stream: StreamName,
    endpoint: EndpointName,
    source: SourceId,
    prev: Option<Position>,
    to: Option<Position>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    split: bool,
    #[serde(borrow)]
    tables: RawTables<'a>,
    #[serde(borrow)]
    blocks: Vec<RawBlock<'a>>,
}

#[derive(Deserialize)]
struct RawBlock<'a> {
    first: Position,
    last: Position,
    at: i64,
    #[serde(default)]
    step: Step,
    #[serde(default)]
    chunk: Option<Chunk>,
    #[serde(borrow)]
    runs: Vec<Run<'a>>,
}

struct RawTables<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawTables<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables;
        impl<'de> Visitor<'de> for Tables {
            type Value = RawTables<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("table definitions by fingerprint")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tables = Vec::new();
                while let Some(entry) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    if tables.len() == usize::from(u16::MAX) {
                        return Err(A::Error::custom("too many table definitions"));
                    }
                    tables.push(entry);
                }
                Ok(RawTables(tables))
            }
        }
        deserializer.deserialize_map(Tables)
    }
}

/// Reads and checks a body. Everything that refers to something is checked here, so that planning cannot meet a
/// reference into nothing: fingerprints match, runs refer to defined tables and columns, blocks are in order.
///
/// # Errors
/// What is wrong; see [`WireError`].
pub fn parse_delivery(body: &[u8]) -> Result<Delivery<'_>, WireError> {
    let raw: RawDelivery<'_> = match serde_json::from_slice(body) {
        Ok(raw) => raw,
        Err(error) => {
            // A newer wire may not parse at all: say that rather than "line 1, column 80".
            if let Ok(VersionOnly { rowbridge: found }) = serde_json::from_slice(body)
                && found != super::WIRE_VERSION
            {
                return Err(WireError::Version { found, expected: super::WIRE_VERSION });
            }
            return Err(error.into());
        }
    };
    if raw.rowbridge != super::WIRE_VERSION {
        return Err(WireError::Version { found: raw.rowbridge, expected: super::WIRE_VERSION });
    }
    let mut tables = HashMap::with_capacity(raw.tables.0.len());
    for (text, json) in raw.tables.0 {
        let id: TableId = text.parse().map_err(serde_json::Error::custom)?;
        if TableId::of_json(json.get()) != id {
            return Err(WireError::Fingerprint { id });
        }
        let def: TableDef = serde_json::from_str(json.get())?;
        let columns = def.columns.len();
        if columns > usize::from(u16::MAX) || def.key.iter().any(|&k| usize::from(k) >= columns) {
            return Err(WireError::UnknownTable { id });
        }
        tables.insert(id, def);
    }
    let mut reached = raw.prev.unwrap_or(Position::ZERO);
    let mut blocks = Vec::with_capacity(raw.blocks.len());
    for RawBlock { first, last, at, step, chunk, runs } in raw.blocks {
        // Only the first block may begin before `prev`: a block that was cut elsewhere in an earlier life overlaps it.
        let overlaps = first <= reached && !(blocks.is_empty() && last > reached);
        if overlaps || last < first || raw.to.is_none_or(|to| last > to) {
            return Err(WireError::Order { at: first });
        }
        reached = last;
        if let Some(id) = chunk.as_ref().map(|c| c.table).filter(|id| !tables.contains_key(id)) {
            return Err(WireError::UnknownTable { id });
        }
        for run in &runs {
            let known = tables.get(&run.table).is_some_and(|def| {
                let within = |columns: &[u16]| columns.iter().all(|&c| usize::from(c) < def.columns.len());
                within(&run.old) && within(&run.new)
            });
            if !known {
                return Err(WireError::UnknownTable { id: run.table });
            }
        }
        blocks.push(Block { head: BlockHead { first, last, at, step, chunk }, runs });
    }
    let head = DeliveryHead {
        rowbridge: raw.rowbridge,
        stream: raw.stream,
        endpoint: raw.endpoint,
        source: raw.source,
        prev: raw.prev,
        to: raw.to,
        open: raw.open,
        split: raw.split,
    };
    Ok(Delivery { head, tables, blocks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell, Class};
    use crate::table::{Column, Dialect, TableName};
    use crate::wire::{Op, RunKind, RunWriter};

    fn table() -> TableDef {
        let column = |name: &str, type_name: &str| Column {
            name: name.into(),
            type_name: type_name.into(),
            not_null: false,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "or\"ders"),
            columns: vec![column("id", "bigint"), column("note", "text")],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    fn delivery() -> (Vec<u8>, TableId) {
        let def = table();
        let id = def.id();
        let mut writer = RunWriter::new();
        let insert = RunKind {
            table: id,
            table_index: 0,
            op: Op::Insert,
            old: &[],
            new: &[0, 1],
            maybe_missing: false,
        };
        writer.row(insert, 1, |row| {
            row.text("1");
            row.text("a\"\u{1}ö");
        });
        writer.row(insert, 2, |row| {
            row.text("2");
            row.null();
        });
        writer.row(RunKind { op: Op::Update, old: &[0], ..insert }, 3, |row| {
            row.text("2");
            row.text("3");
            row.classed(Class::Blob, "00ff");
        });
        writer.truncate(id, 0, 4);
        let (body, runs) = writer.finish();
        let counts: Vec<u32> = runs.iter().map(|run| run.count).collect();
        assert_eq!(counts, [2, 1, 1]);
        for run in &runs {
            read_run_at(&body, run.start, run.end);
        }
        let first = Position::new(1, 100, 1);
        let head = DeliveryHead {
            rowbridge: 1,
            stream: "shop".parse().unwrap(),
            endpoint: "copy".parse().unwrap(),
            source: SourceId("pg-1".into()),
            prev: Some(Position::ZERO),
            to: Some(first.with_ordinal(4)),
            open: false,
            split: false,
        };
        let block = BlockHead { first, last: first.with_ordinal(4), at: 5, step: Step::Ordinal, chunk: None };
        let json = def.to_json();
        let pieces: [&[u8]; 1] = [&body];
        let bytes =
            encode_delivery(&head, [(id, json.as_str())].into_iter(), [(&block, &pieces[..])].into_iter(), 0);
        (bytes, id)
    }

    fn read_run_at(body: &[u8], start: u32, end: u32) {
        crate::wire::read_run(&body[start as usize..end as usize]).unwrap();
    }

    #[test]
    fn a_delivery_reads_back_as_it_was_written() {
        let (bytes, id) = delivery();
        let delivery = parse_delivery(&bytes).unwrap();
        assert_eq!(delivery.tables[&id], table());
        let block = &delivery.blocks[0];
        assert_eq!(block.runs.len(), 3);
        assert_eq!(block.runs[0].changes(), 2);
        assert_eq!(block.runs[0].row(0).1[1], Cell::text("a\"\u{1}ö"));
        assert_eq!(block.runs[0].row(1).1[1], Cell::Null);
        let (old, new) = block.runs[1].row(0);
        assert_eq!(old, [Cell::text("2")]);
        assert_eq!(new[1], Cell::Classed(Class::Blob, "00ff".into()));
        assert_eq!(block.position(&block.runs[1], 0), Position::new(1, 100, 3));
        assert_eq!((block.runs[2].op, block.runs[2].changes()), (Op::Truncate, 1));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (bytes, id) = delivery();
        let text = String::from_utf8(bytes).unwrap();
        let refused = |from: &str, to: &str| {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            parse_delivery(changed.as_bytes()).unwrap_err()
        };
        assert!(matches!(refused("\"rowbridge\":1", "\"rowbridge\":2"), WireError::Version { found: 2, .. }));
        assert!(matches!(refused("\"bigint\"", "\"int\""), WireError::Fingerprint { .. }));
        assert!(matches!(refused("\"c\":[0,1]", "\"c\":[0,2]"), WireError::UnknownTable { .. }));
        assert!(matches!(refused("\"c\":[0,1]", "\"c\":[0]"), WireError::Json { .. }));
        assert!(matches!(refused("\"op\":\"t\"", "\"op\":\"x\""), WireError::Json { .. }));
        assert!(matches!(refused("-0000000001\",\"last", "-0000000009\",\"last"), WireError::Order { .. }));
        let unknown = text.replace(&format!("\"t\":\"{id}\""), "\"t\":\"0000000000000000\"");
        assert!(matches!(parse_delivery(unknown.as_bytes()), Err(WireError::UnknownTable { .. })));
        for end in 0..text.len() {
            assert!(parse_delivery(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }
}
