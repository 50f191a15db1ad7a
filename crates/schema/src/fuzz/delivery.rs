//! The body of a bridge delivery.

use crate::cell::Cell;
use crate::table::TableId;
use crate::wire::{
    Delivery, Op, Run, RunKind, RunWriter, encode_delivery, parse_delivery, read_run, run_part,
};

/// A body is read, written again with the publisher's own writer, and read again.
pub fn delivery(data: &[u8]) {
    // What lies in a journal is taken in parts before it is read.
    let mut from = 0;
    while let Some(next) = run_part(data, from, 2, 64).next {
        assert!(next > from, "a part without bytes");
        from = next;
    }
    if let Ok(run) = read_run(data) {
        for index in 0..if run.op == Op::Truncate { 0 } else { run.changes() } {
            let _ = run.row(index);
        }
    }
    let Ok(read) = parse_delivery(data) else { return };
    let Some(body) = written(&read) else { return };
    let again = parse_delivery(&body).expect("what is written as it was read is a delivery");
    assert_eq!(again.head, read.head);
    assert_eq!(again.tables, read.tables);
    assert_eq!(again.blocks.len(), read.blocks.len());
    for (left, right) in again.blocks.iter().zip(&read.blocks) {
        assert_eq!(left.head, right.head);
        assert!(changes(&left.runs).eq(changes(&right.runs)), "other changes");
    }
}

/// `None` where a number leaves no room for the next one: our own never do.
fn written(delivery: &Delivery<'_>) -> Option<Vec<u8>> {
    let tables: Vec<(TableId, String)> =
        delivery.tables.iter().map(|(id, def)| (*id, def.to_json())).collect();
    // A definition may be written in another order or with blanks; ours is the canonical one.
    if tables.iter().any(|(id, json)| TableId::of_json(json) != *id) {
        return None;
    }
    let mut bodies = Vec::new();
    for block in &delivery.blocks {
        let mut writer = RunWriter::new();
        for run in &block.runs {
            run.number.checked_add(run.changes() as u64)?;
            write(run, &mut writer);
        }
        let (body, index) = writer.finish();
        for run in index {
            parts(&body[run.start as usize..run.end as usize]);
        }
        bodies.push(body);
    }
    let pieces: Vec<Vec<&[u8]>> =
        bodies.iter().map(|body| if body.is_empty() { vec![] } else { vec![body.as_slice()] }).collect();
    let blocks = delivery.blocks.iter().zip(&pieces).map(|(block, pieces)| (&block.head, pieces.as_slice()));
    let tables = tables.iter().map(|(id, json)| (*id, json.as_str()));
    Some(encode_delivery(&delivery.head, tables, blocks, 0))
}

fn write(run: &Run<'_>, writer: &mut RunWriter) {
    if run.op == Op::Truncate {
        return writer.truncate(run.table, 0, run.number);
    }
    for index in 0..run.changes() {
        let kind = RunKind {
            table: run.table,
            table_index: 0,
            op: run.op,
            old: &run.old,
            new: &run.new,
            maybe_missing: run.maybe_missing,
        };
        let (old, new) = run.row(index);
        writer.row(kind, run.number + index as u64, |row| {
            old.iter().chain(new).for_each(|cell| row.cell(cell));
        });
    }
}

/// The parts of a run hold each of its rows once.
fn parts(json: &[u8]) {
    let whole = read_run(json).expect("what the writer made is a run");
    let (mut rows, mut from) = (0, 0);
    loop {
        let part = run_part(json, from, 2, 64);
        let read = read_run(&part.json).expect("a part is a run");
        let cells = whole.cells.get(rows * whole.width()..).unwrap_or_default();
        assert!(cells.starts_with(&read.cells), "a part has other cells");
        rows += read.changes();
        match part.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(rows, whole.changes());
}

type Change<'a> = (TableId, Op, u64, Vec<u16>, Vec<u16>, bool, &'a [Cell<'a>]);

/// Changes one by one: runs that go on are one run when they are written.
fn changes<'a>(runs: &'a [Run<'a>]) -> impl Iterator<Item = Change<'a>> {
    runs.iter().flat_map(|run| {
        (0..run.changes()).map(move |index| {
            let number = run.number + index as u64;
            if run.op == Op::Truncate {
                return (run.table, run.op, number, vec![], vec![], false, &[][..]);
            }
            let width = run.width();
            let cells = &run.cells[index * width..(index + 1) * width];
            (run.table, run.op, number, run.old.clone(), run.new.clone(), run.maybe_missing, cells)
        })
    })
}
