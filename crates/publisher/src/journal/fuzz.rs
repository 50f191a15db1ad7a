//! Entry point for what is read from a journal's files; see [`crate::fuzz`].

use rowbridge_schema::{Column, Dialect, TableDef, TableName};

use super::TableRef;
use super::codec::{Tables, put_block, put_table, read_block, read_mark, read_table};
use super::segment::{self, HEADER_LEN, Header};

/// A segment's header, or a frame's payload by the first byte: 0 header, 1 block, 2 mark, anything else a table's.
pub fn journal(data: &[u8]) {
    let Some((&kind, payload)) = data.split_first() else { return };
    let tables = Tables::default();
    let mut known = Vec::new();
    put_table(&mut known, &TableRef::new(&orders()));
    read_table(&known, &tables).expect("our own table");
    match kind {
        0 => {
            let Some(bytes) = payload.first_chunk::<{ HEADER_LEN as usize }>() else { return };
            let Ok((header, _)) = Header::decode(bytes) else { return };
            let mut out = Vec::new();
            header.encode(&mut out);
            // Unknown flags are let through; the checksum covers them.
            assert_eq!(out[16..48], bytes[16..48]);
        }
        segment::BLOCK => {
            let Ok(block) = read_block(payload, &tables) else { return };
            for run in &block.runs {
                assert!(block.body.get(run.start as usize..run.end as usize).is_some());
                assert!(block.tables.get(run.table as usize).is_some());
            }
            let mut out = Vec::new();
            put_block(&mut out, &block);
            assert_eq!(read_block(&out, &tables).as_ref(), Ok(&block), "a block is read as another");
        }
        segment::MARK => {
            if let Ok(resume) = read_mark(payload) {
                assert_eq!(resume.0.as_bytes(), payload);
            }
        }
        _ => {
            if let Ok(id) = read_table(payload, &tables) {
                assert_eq!(read_table(payload, &tables), Ok(id));
            }
        }
    }
}

/// The table that blocks may name.
fn orders() -> TableDef {
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: vec![Column { not_null: true, ..Column::new("id", "bigint") }],
        key: vec![0],
        types: vec![],
        options: vec![],
    }
}
