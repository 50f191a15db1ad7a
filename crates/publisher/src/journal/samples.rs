//! Blocks for the journal's tests.

use std::sync::Arc;

use proptest::prelude::*;
use rowbridge_schema::wire::{BlockHead, Chunk, KeyRange, RunIndex, Step, Sweep};
use rowbridge_schema::{Column, Dialect, EndpointName, Offset, Position, TableDef, TableId, TableName};

use super::{Block, Resume, TableRef};

pub(super) fn table(name: &str) -> Arc<TableRef> {
    let column = Column {
        name: "id".to_owned(),
        type_name: "bigint".to_owned(),
        not_null: true,
        generated: None,
        collation: None,
    };
    Arc::new(TableRef::new(&TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", name),
        columns: vec![column],
        key: vec![0],
        types: Vec::new(),
        options: Vec::new(),
    }))
}

/// A whole transaction at offset `at` with a body of `len` bytes that depends on both.
pub(super) fn block(at: u64, len: usize) -> Block {
    Block {
        head: BlockHead {
            first: Position::new(1, at, 1),
            last: Position::new(1, at, 3),
            at: 1_700_000_000_000_000,
            step: Step::Ordinal,
            chunk: None,
        },
        ends: true,
        resume: Some(Resume(format!("0/{at:X}").into())),
        only: Vec::new(),
        tables: vec![table("orders")],
        runs: vec![RunIndex { table: 0, count: 3, start: 0, end: len as u32 }],
        body: (0..len).map(|i| b'a' + ((at as usize + i) % 26) as u8).collect(),
    }
}

/// The same with a chunk's head: readers see it only once it is durable.
pub(super) fn chunk(at: u64, len: usize) -> Block {
    let mut block = block(at, len);
    block.head.chunk = Some(Chunk {
        table: block.tables[0].id,
        clear: false,
        sweep: None,
        prune: None,
        skipped: Vec::new(),
        done: false,
    });
    block
}

fn any_position() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(epoch, file, at, ordinal)| Position {
        epoch,
        offset: Offset { file, at },
        ordinal,
    })
}

fn any_chunk() -> impl Strategy<Value = Chunk> {
    let key = || prop::collection::vec(".{0,8}", 0..3);
    (
        any::<[u8; 8]>(),
        any::<bool>(),
        prop::option::of(prop::sample::select(vec![Sweep::First, Sweep::Next, Sweep::Again])),
        prop::option::of(key()),
        prop::collection::vec(key(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(id, clear, sweep, upto, skipped, done)| Chunk {
            table: TableId(id),
            clear,
            sweep,
            prune: upto.map(|upto| KeyRange { after: None, upto: Some(upto) }),
            skipped,
            done,
        })
}

pub(super) fn any_block() -> impl Strategy<Value = Block> {
    let name = "[a-z0-9_-]{1,64}".prop_map(|name| name.parse::<EndpointName>().unwrap());
    let offset = any::<bool>().prop_map(|offset| if offset { Step::Offset } else { Step::Ordinal });
    (
        (any_position(), any_position(), any::<i64>(), offset, prop::option::of(any_chunk())),
        any::<bool>(),
        prop::option::of(".{0,30}"),
        prop::collection::vec(name, 0..3),
        prop::collection::vec(".{1,10}", 0..4),
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec((any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>()), 0..5),
    )
        .prop_map(|((first, last, at, step, chunk), ends, resume, only, names, body, runs)| {
            let tables: Vec<_> = names.iter().map(|name| table(name)).collect();
            let inside = |point: u16| u32::from(point) % (body.len() as u32 + 1);
            let runs = runs.into_iter().filter(|_| !tables.is_empty()).map(|(table, count, a, b)| RunIndex {
                table: table % tables.len() as u32,
                count,
                start: inside(a).min(inside(b)),
                end: inside(a).max(inside(b)),
            });
            Block {
                head: BlockHead { first, last, at, step, chunk },
                ends,
                resume: resume.map(|text| Resume(text.into())),
                only,
                runs: runs.collect(),
                tables,
                body,
            }
        })
}
