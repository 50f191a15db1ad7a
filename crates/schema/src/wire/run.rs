//! Runs: consecutive changes of one table with one operation and one set of columns.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::scan;
use crate::cell::{Cell, Class};
use crate::table::TableId;

/// Bytes left over in a body from which on they are given back: to make a small allocation smaller gains nothing.
const WORTH_GIVING_BACK: usize = 16 << 10;

/// What a run does to its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// `row.insert`
    #[serde(rename = "i")]
    Insert,
    /// `row.update`
    #[serde(rename = "u")]
    Update,
    /// `row.delete`
    #[serde(rename = "d")]
    Delete,
    /// `row.read`: a row of a snapshot.
    #[serde(rename = "r")]
    Read,
    /// `table.truncate`: no rows. Adjacent truncates of one block are one statement at the source.
    #[serde(rename = "t")]
    Truncate,
}

impl Op {
    /// The letter on the wire.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Insert => 'i',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Read => 'r',
            Self::Truncate => 't',
        }
    }

    /// The event type's name, for metrics and other formats.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Insert => "row.insert",
            Self::Update => "row.update",
            Self::Delete => "row.delete",
            Self::Read => "row.read",
            Self::Truncate => "table.truncate",
        }
    }
}

/// What a run's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Row `j` of a run stands at the block's offset, ordinal `n + j`: sources with transactions in their log.
    #[default]
    Ordinal,
    /// Row `j` of a run stands at offset `n + j`, ordinal 1: sources that number their changes (SQLite).
    Offset,
}

/// What makes two consecutive changes members of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunKind<'a> {
    /// The table's shape.
    pub table: TableId,
    /// Index of the table in the writer's list of tables; see [`RunIndex::table`].
    pub table_index: u32,
    /// The operation.
    pub op: Op,
    /// Columns of the old tuple that each row starts with: the key of a deleted row, the old key where a key changed, or
    /// all columns where the source sends full old rows. Empty where the source sent none.
    pub old: &'a [u16],
    /// Columns of the new tuple; those absent (unchanged TOAST) are not listed.
    pub new: &'a [u16],
    /// The row may be missing at the target, because the table's snapshot has not come that far.
    pub maybe_missing: bool,
}

/// Where a run lies in the body, so that a lane can take some tables and pass others without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunIndex {
    /// Index into the block's list of tables.
    pub table: u32,
    /// Number of changes in the run (1 for a truncate).
    pub count: u32,
    /// First byte of the run's JSON in the body.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// Writes runs as JSON, in source order, separated by commas.
#[derive(Debug, Default)]
pub struct RunWriter {
    body: Vec<u8>,
    runs: Vec<RunIndex>,
    open: Option<OpenRun>,
}

#[derive(Debug)]
struct OpenRun {
    table: TableId,
    op: Op,
    old: Vec<u16>,
    new: Vec<u16>,
    maybe_missing: bool,
    next_number: u64,
}

/// Writes the cells of one row: those of the old columns, then those of the new ones.
#[derive(Debug)]
pub struct RowWriter<'a> {
    body: &'a mut Vec<u8>,
    first: bool,
}

impl RowWriter<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.body.push(b',');
        }
    }

    /// NULL.
    pub fn null(&mut self) {
        self.separate();
        self.body.extend_from_slice(b"null");
    }

    /// The canonical text of the column's type.
    pub fn text(&mut self, text: &str) {
        self.separate();
        json_string(self.body, text);
    }

    /// A value whose storage class differs from its column's.
    pub fn classed(&mut self, class: Class, text: &str) {
        self.separate();
        self.body.extend_from_slice(b"{\"");
        self.body.extend_from_slice(class.tag().as_bytes());
        self.body.extend_from_slice(b"\":");
        json_string(self.body, text);
        self.body.push(b'}');
    }

    /// Any cell.
    pub fn cell(&mut self, cell: &Cell<'_>) {
        match cell {
            Cell::Null => self.null(),
            Cell::Text(text) => self.text(text),
            Cell::Classed(class, text) => self.classed(*class, text),
        }
    }
}

fn json_string(body: &mut Vec<u8>, text: &str) {
    let escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    // Without a branch per byte, since hardly any value needs escaping.
    if !text.bytes().fold(false, |found, byte| found | escaped(byte)) {
        body.reserve(text.len() + 2);
        body.push(b'"');
        body.extend_from_slice(text.as_bytes());
        return body.push(b'"');
    }
    serde_json::to_writer(body, text).expect("writing a string to memory cannot fail");
}

fn write_columns(body: &mut Vec<u8>, name: &str, columns: &[u16]) {
    let _ = write!(body, ",\"{name}\":[");
    for (i, column) in columns.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(body, "{comma}{column}");
    }
    body.push(b']');
}

impl RunWriter {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty body with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { body: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Bytes written so far, without the end of the open run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Appends one change with number `n`; the closure writes exactly `kind.old.len() + kind.new.len()` cells.
    pub fn row(&mut self, kind: RunKind<'_>, n: u64, write: impl FnOnce(&mut RowWriter<'_>)) {
        let continues = self.open.as_ref().is_some_and(|open| {
            open.next_number == n
                && open.table == kind.table
                && open.op == kind.op
                && open.maybe_missing == kind.maybe_missing
                && open.old == kind.old
                && open.new == kind.new
        });
        if continues {
            self.body.push(b',');
        } else {
            self.begin(kind, n);
        }
        self.body.push(b'[');
        write(&mut RowWriter { body: &mut self.body, first: true });
        self.body.push(b']');
        if let Some(open) = &mut self.open {
            open.next_number = n + 1;
        }
        if let Some(run) = self.runs.last_mut() {
            run.count += 1;
        }
    }

    /// Appends a TRUNCATE of one table as change number `n`.
    pub fn truncate(&mut self, table: TableId, table_index: u32, n: u64) {
        self.end_run();
        self.separate_runs();
        let start = self.body.len() as u32;
        let _ = write!(self.body, "{{\"t\":\"{table}\",\"n\":{n},\"op\":\"t\"}}");
        self.runs.push(RunIndex { table: table_index, count: 1, start, end: self.body.len() as u32 });
    }

    fn begin(&mut self, kind: RunKind<'_>, n: u64) {
        self.end_run();
        self.separate_runs();
        let start = self.body.len() as u32;
        let _ = write!(self.body, "{{\"t\":\"{}\",\"n\":{n},\"op\":\"{}\"", kind.table, kind.op.letter());
        if !kind.old.is_empty() {
            write_columns(&mut self.body, "k", kind.old);
        }
        if !kind.new.is_empty() {
            write_columns(&mut self.body, "c", kind.new);
        }
        if kind.maybe_missing {
            self.body.extend_from_slice(b",\"m\":true");
        }
        self.body.extend_from_slice(b",\"r\":[");
        self.runs.push(RunIndex { table: kind.table_index, count: 0, start, end: start });
        self.open = Some(OpenRun {
            table: kind.table,
            op: kind.op,
            old: kind.old.to_vec(),
            new: kind.new.to_vec(),
            maybe_missing: kind.maybe_missing,
            next_number: n,
        });
    }

    fn separate_runs(&mut self) {
        if !self.body.is_empty() {
            self.body.push(b',');
        }
    }

    fn end_run(&mut self) {
        if self.open.take().is_some() {
            self.body.extend_from_slice(b"]}");
            if let Some(run) = self.runs.last_mut() {
                run.end = self.body.len() as u32;
            }
        }
    }

    /// The body and its index. Room that is left over is given back where it is worth it: blocks are kept for a while, and
    /// counted by their length.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Vec<RunIndex>) {
        self.end_run();
        if self.body.capacity() - self.body.len() >= WORTH_GIVING_BACK {
            self.body.shrink_to_fit();
        }
        (self.body, self.runs)
    }
}

/// A run as it was read: cells lie row after row in one vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<'a> {
    /// The table's fingerprint.
    pub table: TableId,
    /// Number of the first change; see [`Step`].
    pub number: u64,
    /// The operation.
    pub op: Op,
    /// Columns of the old tuple.
    pub old: Vec<u16>,
    /// Columns of the new tuple.
    pub new: Vec<u16>,
    /// Rows may be missing at the target.
    pub maybe_missing: bool,
    /// `rows() * (old.len() + new.len())` cells.
    pub cells: Vec<Cell<'a>>,
}

impl<'a> Run<'a> {
    /// Cells per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.old.len() + self.new.len()
    }

    /// Number of changes: rows, or 1 for a truncate.
    #[must_use]
    pub fn changes(&self) -> usize {
        if self.op == Op::Truncate { 1 } else { self.cells.len() / self.width().max(1) }
    }

    /// The old and the new cells of row `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> (&[Cell<'a>], &[Cell<'a>]) {
        let width = self.width();
        self.cells[index * width..(index + 1) * width].split_at(self.old.len())
    }
}

/// Reads one run's JSON, borrowing what needs no unescaping.
///
/// # Errors
/// Malformed JSON, an unknown operation, rows of the wrong width.
pub fn read_run(json: &[u8]) -> Result<Run<'_>, serde_json::Error> {
    serde_json::from_slice(json)
}

impl<'de: 'a, 'a> Deserialize<'de> for Run<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RunVisitor)
    }
}

struct RunVisitor;

impl<'de> Visitor<'de> for RunVisitor {
    type Value = Run<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a run of changes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Run<'de>, A::Error> {
        use serde::de::Error as _;
        let (mut table, mut number, mut op) = (None, None, None);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut maybe_missing = false;
        let mut cells = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "t" => {
                    let text = map.next_value::<Cow<'de, str>>()?;
                    table = Some(text.parse::<TableId>().map_err(A::Error::custom)?);
                }
                "n" => number = Some(map.next_value()?),
                "op" => op = Some(map.next_value()?),
                // The width must be known before the rows are: columns come first, or the run is refused.
                "k" if cells.is_none() => old = map.next_value()?,
                "c" if cells.is_none() => new = map.next_value()?,
                "m" => maybe_missing = map.next_value()?,
                "r" => cells = Some(rows(map.next_value()?, old.len() + new.len())?),
                other => return Err(A::Error::custom(format_args!("unexpected key {other:?} in a run"))),
            }
        }
        let op = op.ok_or_else(|| A::Error::missing_field("op"))?;
        let cells = cells.unwrap_or_default();
        if (op == Op::Truncate) != cells.is_empty() {
            return Err(A::Error::custom("a run has rows exactly if it is not a truncate"));
        }
        Ok(Run {
            table: table.ok_or_else(|| A::Error::missing_field("t"))?,
            number: number.ok_or_else(|| A::Error::missing_field("n"))?,
            op,
            old,
            new,
            maybe_missing,
            cells,
        })
    }
}

/// Rows whose JSON is known to be well formed.
fn rows<'a, E: serde::de::Error>(json: &'a RawValue, width: usize) -> Result<Vec<Cell<'a>>, E> {
    if let Some(cells) = scan::rows(json.get(), width) {
        return Ok(cells);
    }
    // Not as this release writes it, or not rows of this width: then the reason is wanted.
    let mut rows = serde_json::Deserializer::from_str(json.get());
    Rows { width }.deserialize(&mut rows).map_err(E::custom)
}

struct Rows {
    width: usize,
}

impl<'de> DeserializeSeed<'de> for Rows {
    type Value = Vec<Cell<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows {
    type Value = Vec<Cell<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::new();
        while rows.next_element_seed(RowSeed { width: self.width, cells: &mut cells })?.is_some() {}
        Ok(cells)
    }
}

struct RowSeed<'a, 'de> {
    width: usize,
    cells: &'a mut Vec<Cell<'de>>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a row of {} cells", self.width)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let start = self.cells.len();
        while let Some(cell) = row.next_element::<Cell<'de>>()? {
            self.cells.push(cell);
        }
        let found = self.cells.len() - start;
        if found != self.width || found == 0 {
            return Err(serde::de::Error::invalid_length(found, &self));
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a string, or an object of one storage class")
    }

    fn visit_unit<E>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        use serde::de::Error as _;
        let tag: Cow<'de, str> = map.next_key()?.ok_or_else(|| A::Error::custom("an empty cell object"))?;
        let class = Class::from_tag(&tag).ok_or_else(|| A::Error::custom("an unknown storage class"))?;
        let Cell::Text(text) = map.next_value()? else {
            return Err(A::Error::custom("a classed cell holds a string"));
        };
        if map.next_key::<Cow<'de, str>>()?.is_some() {
            return Err(A::Error::custom("a cell object has one key"));
        }
        Ok(Cell::Classed(class, text))
    }
}
