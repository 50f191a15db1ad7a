//! Payloads of the journal's frames.
//!
//! Limits: a text 4 GiB, an endpoint's name 64 bytes (its own rule), 65,535 endpoints in `only`; the frame's limit of
//! 512 MiB comes first. All integers are little-endian, nothing is padded.
//!
//! ```text
//! position  epoch u32, file u32, at u64, ordinal u64                                       24 bytes
//! text      length u32, UTF-8
//! block     last position, first position, at i64 (microseconds since 1970), flags u8,
//!           only: count u16, texts; resume: text if flag 4; chunk: JSON text if flag 8;
//!           tables: count u32, ids of 8 bytes; runs: count u32, each table, count, start, end u32;
//!           body: length u32, bytes
//!           flags: 1 the transaction ends here, 2 numbers count offsets, 4 has resume, 8 is a chunk
//! mark      the resume point's text, unprefixed
//! table     id of 8 bytes, the definition's canonical JSON, unprefixed
//! ```
//!
//! A table's JSON is written once per segment, before the first block that names it: beside a small transaction it
//! would be most of the bytes. Whoever reads a segment from its start, or has written it, knows the tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rowbridge_schema::wire::{BlockHead, RunIndex, Step};
use rowbridge_schema::{EndpointName, Offset, Position, TableId, TableName};

use super::{Block, Resume, TableRef};

/// Why a payload is not what its frame says, or a frame not one; a fixed text for [`super::JournalError::Corrupt`].
pub(super) type Reason = &'static str;

const ENDS: u8 = 1;
const STEP_OFFSET: u8 = 2;
const HAS_RESUME: u8 = 4;
const HAS_CHUNK: u8 = 8;
const ALL_FLAGS: u8 = ENDS | STEP_OFFSET | HAS_RESUME | HAS_CHUNK;

/// Every table that was written or read in this process, by its fingerprint, so that JSON is parsed once. Grows with
/// the number of shapes that tables ever had, which is small.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<HashMap<TableId, Arc<TableRef>>>);

impl Tables {
    /// Makes a table known that is about to be written.
    pub(super) fn add(&self, table: &Arc<TableRef>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(table.id).or_insert_with(|| Arc::clone(table));
    }

    fn get(&self, id: TableId) -> Option<Arc<TableRef>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(&position.epoch.to_le_bytes());
    out.extend_from_slice(&position.offset.file.to_le_bytes());
    out.extend_from_slice(&position.offset.at.to_le_bytes());
    out.extend_from_slice(&position.ordinal.to_le_bytes());
}

/// Lengths above `u32` are cut here and refused by the frame's limit, which is lower.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Writes a block's payload. Tables are named by id only.
pub(super) fn put_block(out: &mut Vec<u8>, block: &Block) {
    let head = &block.head;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    put_position(out, head.last);
    put_position(out, head.first);
    out.extend_from_slice(&head.at.to_le_bytes());
    out.push(
        flag(block.ends, ENDS)
            | flag(head.step == Step::Offset, STEP_OFFSET)
            | flag(block.resume.is_some(), HAS_RESUME)
            | flag(head.chunk.is_some(), HAS_CHUNK),
    );
    let only = u16::try_from(block.only.len()).expect("there are far fewer than 65,536 endpoints");
    out.extend_from_slice(&only.to_le_bytes());
    for name in &block.only {
        put_text(out, name.as_str());
    }
    if let Some(resume) = &block.resume {
        put_text(out, &resume.0);
    }
    if let Some(chunk) = &head.chunk {
        put_text(out, &serde_json::to_string(chunk).expect("a chunk holds only keys and flags"));
    }
    put_len(out, block.tables.len());
    for table in &block.tables {
        out.extend_from_slice(&table.id.0);
    }
    put_len(out, block.runs.len());
    for run in &block.runs {
        for number in [run.table, run.count, run.start, run.end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    put_len(out, block.body.len());
    out.extend_from_slice(&block.body);
}

/// Writes a table's payload.
pub(super) fn put_table(out: &mut Vec<u8>, table: &TableRef) {
    out.extend_from_slice(&table.id.0);
    out.extend_from_slice(table.json.as_bytes());
}

/// Bytes not yet read. Every step checks what is left, so that damaged lengths end in a reason and not in a panic.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("a field goes beyond its frame")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("a field goes beyond its frame")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    fn position(&mut self) -> Result<Position, Reason> {
        let epoch = self.u32()?;
        let offset = Offset { file: self.u32()?, at: self.u64()? };
        Ok(Position { epoch, offset, ordinal: self.u64()? })
    }

    fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Result<&'a str, Reason> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    /// A count of items of at least `size` bytes each: what cannot be there is not allocated for either.
    fn count(&mut self, size: usize) -> Result<usize, Reason> {
        let count = self.u32()? as usize;
        if count > self.0.len() / size {
            return Err("a list goes beyond its frame");
        }
        Ok(count)
    }
}

pub(super) fn read_position(bytes: &[u8]) -> Result<Position, Reason> {
    Input(bytes).position()
}

/// Reads a block's payload.
///
/// # Errors
/// What does not fit; also a run outside the body or of no table, so that readers may slice without checks.
pub(super) fn read_block(payload: &[u8], tables: &Tables) -> Result<Block, Reason> {
    let mut input = Input(payload);
    let last = input.position()?;
    let first = input.position()?;
    let at = i64::from_le_bytes(input.array()?);
    let [flags] = input.array()?;
    if flags & !ALL_FLAGS != 0 {
        return Err("a block has flags that this release does not know");
    }
    let mut only = Vec::new();
    for _ in 0..u16::from_le_bytes(input.array()?) {
        only.push(input.text()?.parse::<EndpointName>().map_err(|_| "a name is not an endpoint's")?);
    }
    let resume = match flags & HAS_RESUME {
        0 => None,
        _ => Some(Resume(input.text()?.into())),
    };
    let chunk = match flags & HAS_CHUNK {
        0 => None,
        _ => Some(serde_json::from_str(input.text()?).map_err(|_| "a chunk's head is not its JSON")?),
    };
    let table_refs = (0..input.count(8)?)
        .map(|_| {
            tables
                .get(TableId(input.array()?))
                .ok_or("a block names a table that its segment does not define")
        })
        .collect::<Result<Vec<_>, Reason>>()?;
    let runs = (0..input.count(16)?)
        .map(|_| {
            Ok(RunIndex { table: input.u32()?, count: input.u32()?, start: input.u32()?, end: input.u32()? })
        })
        .collect::<Result<Vec<_>, Reason>>()?;
    let body = input.bytes()?.to_vec();
    if !input.0.is_empty() {
        return Err("a block is followed by bytes that are none of its fields");
    }
    let fits = |run: &RunIndex| {
        (run.table as usize) < table_refs.len() && run.start <= run.end && run.end as usize <= body.len()
    };
    if !runs.iter().all(fits) {
        return Err("a run lies outside its block");
    }
    let step = if flags & STEP_OFFSET == 0 { Step::Ordinal } else { Step::Offset };
    let head = BlockHead { first, last, at, step, chunk };
    Ok(Block { head, ends: flags & ENDS != 0, resume, only, tables: table_refs, runs, body })
}

/// Reads a mark's payload.
pub(super) fn read_mark(payload: &[u8]) -> Result<Resume, Reason> {
    std::str::from_utf8(payload).map(|text| Resume(text.into())).map_err(|_| "a mark is not UTF-8")
}

/// Reads a table's payload and makes the table known.
pub(super) fn read_table(payload: &[u8], tables: &Tables) -> Result<TableId, Reason> {
    let mut input = Input(payload);
    let id = TableId(input.array()?);
    if tables.get(id).is_none() {
        let json = std::str::from_utf8(input.0).map_err(|_| "a table's definition is not UTF-8")?;
        // The name is all that the journal's users ask of a definition; lanes send the JSON as it is.
        let name: TableName =
            serde_json::from_str(json).map_err(|_| "a table's definition is not its JSON")?;
        tables.add(&Arc::new(TableRef { id, name, json: json.to_owned() }));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::any_block;
    use super::*;

    fn known(block: &Block) -> Tables {
        let tables = Tables::default();
        for table in &block.tables {
            let mut payload = Vec::new();
            put_table(&mut payload, table);
            assert_eq!(read_table(&payload, &tables), Ok(table.id));
        }
        tables
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_went(block in any_block()) {
            let mut payload = Vec::new();
            put_block(&mut payload, &block);
            prop_assert_eq!(read_block(&payload, &known(&block)), Ok(block));
        }

        #[test]
        fn a_shorter_or_changed_payload_never_panics(block in any_block(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut payload = Vec::new();
            put_block(&mut payload, &block);
            let tables = known(&block);
            let at = at.index(payload.len());
            prop_assert!(read_block(&payload[..at], &tables).is_err());
            payload[at] ^= 1 << bit;
            if let Ok(changed) = read_block(&payload, &tables) {
                for run in &changed.runs {
                    prop_assert!(changed.body.get(run.start as usize..run.end as usize).is_some());
                    prop_assert!(changed.tables.get(run.table as usize).is_some());
                }
            }
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let tables = Tables::default();
            let _ = read_block(&bytes, &tables);
            let _ = read_table(&bytes, &tables);
            let _ = read_mark(&bytes);
        }
    }

    #[test]
    fn an_unknown_table_is_named_as_the_reason() {
        let block = super::super::samples::block(1, 10);
        let mut payload = Vec::new();
        put_block(&mut payload, &block);
        assert_eq!(
            read_block(&payload, &Tables::default()),
            Err("a block names a table that its segment does not define")
        );
    }
}
