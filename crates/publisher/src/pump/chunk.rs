//! A chunk's rows as a block.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rowbridge_schema::wire::{BlockHead, Chunk, KeyRange, Op, RunKind, RunWriter, Step, Sweep};
use rowbridge_schema::{EndpointName, Position};

use crate::capture::Key;
use crate::journal::{Block, TableRef};
use crate::snapshot::{CellRow, Cells, ChunkRead};

/// How a chunk enters the stream.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Delete all rows of the table first.
    pub clear: bool,
    /// Remove what was deleted at the source meanwhile.
    pub sweep: Option<Sweep>,
    /// That can be done in the chunk's range.
    pub prune: bool,
    /// The table ends here.
    pub done: bool,
    /// Keys that later transactions, already in the stream, have changed.
    pub skip: HashSet<Key>,
    /// Who takes it.
    pub only: Vec<EndpointName>,
}

/// The key of a row of `read.cells`.
pub(super) fn key_of(read: &ChunkRead, sent: &[u16], row: CellRow<'_>) -> Key {
    let text = |key: &u16| {
        let at = sent.iter().position(|column| column == key);
        at.and_then(|at| row.text(at)).unwrap_or_default().to_owned()
    };
    read.table.key.iter().map(text).collect()
}

/// Room for rows as JSON, unless much of their text is escaped.
fn body_bytes(cells: &Cells) -> usize {
    // `null,` is more than the quotes and the comma of a text. A row has brackets and a comma.
    cells.text_bytes() + cells.len() * (5 * cells.width() + 3) + 256
}

/// Encodes the rows behind position `last`. An empty chunk still says that the table exists, and how far it goes.
pub(super) fn encode(read: &ChunkRead, entry: Entry, last: Position) -> Block {
    let table = Arc::new(TableRef::new(&read.table));
    let sent = read.table.sent_columns();
    let kind =
        RunKind { table: table.id, table_index: 0, op: Op::Read, old: &[], new: &sent, maybe_missing: false };
    let mut writer = RunWriter::with_capacity(body_bytes(&read.cells));
    let mut ordinal = last.ordinal;
    for row in read.cells.rows() {
        if !entry.skip.is_empty() && entry.skip.contains(&key_of(read, &sent, row)) {
            continue;
        }
        ordinal += 1;
        writer.row(kind, ordinal, |cells| row.iter().for_each(|cell| cells.cell(&cell)));
    }
    let (body, runs) = writer.finish();
    let chunk = Chunk {
        table: table.id,
        clear: entry.clear,
        sweep: entry.sweep,
        prune: entry
            .prune
            .then(|| KeyRange { after: read.range.after.clone(), upto: read.range.upto.clone() }),
        skipped: if entry.sweep.is_some() { entry.skip.into_iter().collect() } else { vec![] },
        done: entry.done,
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let head = BlockHead {
        first: last.with_ordinal(last.ordinal + 1),
        // One past the last row, so that an empty chunk has a place of its own, too.
        last: last.with_ordinal(ordinal + 1),
        at,
        step: Step::Ordinal,
        chunk: Some(chunk),
    };
    Block { head, ends: true, resume: None, only: entry.only, tables: vec![table], runs, body }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::wire::read_run;
    use rowbridge_schema::{Cell, Column, Dialect, Offset, StorageClass, TableDef, TableName};

    use super::*;
    use crate::snapshot::{Containment, Unlogged};

    fn read(rows: u32, row: impl Fn(u32, &mut Cells)) -> ChunkRead {
        let column = |name: &str| Column {
            name: name.to_owned(),
            type_name: "text".to_owned(),
            not_null: false,
            generated: None,
            collation: None,
        };
        let table = TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("shop", "t"),
            columns: ["v", "b", "a"].map(column).into(),
            key: vec![2, 1],
            types: vec![],
            options: vec![],
        };
        let mut cells = Cells::new(3);
        (0..rows).for_each(|number| row(number, &mut cells));
        ChunkRead {
            table,
            cells,
            range: KeyRange::default(),
            portable_order: false,
            done: true,
            containment: Containment::UpTo(Offset::default()),
            after: Offset::default(),
            unlogged: Unlogged::default(),
        }
    }

    #[test]
    fn rows_are_written_as_they_were_read_less_those_to_skip() {
        let read = read(4, |number, cells| {
            match number {
                0 => cells.push_null(),
                1 => cells.push(&Cell::Classed(StorageClass::Blob, "00ff".into())),
                _ => cells.push_text("\"\n"),
            }
            cells.push_text("");
            cells.push_text(&number.to_string());
        });
        let skip = HashSet::from([vec!["2".to_owned(), String::new()]]);
        let block = encode(&read, Entry { skip, ..Entry::default() }, Position::new(7, 3, 10));
        assert_eq!((block.head.first.ordinal, block.head.last.ordinal, block.changes()), (11, 14, 3));
        let run = read_run(&block.body).unwrap();
        assert_eq!((run.number, run.new.as_slice(), run.op), (11, [0, 1, 2].as_slice(), Op::Read));
        let (classed, escaped) = (Cell::Classed(StorageClass::Blob, "00ff".into()), Cell::text("\"\n"));
        let expected: Vec<Cell<'_>> = [(Cell::Null, "0"), (classed, "1"), (escaped, "3")]
            .into_iter()
            .flat_map(|(first, number)| [first, Cell::text(""), Cell::text(number)])
            .collect();
        assert_eq!(run.cells, expected);
    }

    #[test]
    fn a_body_is_neither_moved_nor_larger_than_its_rows() {
        for null in [true, false] {
            let read = read(20_000, |number, cells| {
                cells.push_text(&number.to_string());
                (0..2).for_each(|_| if null { cells.push_null() } else { cells.push_text("") });
            });
            let room = body_bytes(&read.cells);
            let block = encode(&read, Entry::default(), Position::new(1, 0, 0));
            assert!(block.body.len() <= room, "{} {room}", block.body.len());
            assert!(block.body.capacity() < block.body.len() + (32 << 10));
        }
    }
}
