//! A block: a self-contained piece of the stream, encoded once.

use std::sync::Arc;

use rowbridge_schema::wire::{BlockHead, RunIndex};
use rowbridge_schema::{EndpointName, TableDef, TableId, TableName};

/// What the capture must be told to go on behind a block: PostgreSQL the commit's end LSN, SQLite a change-log id.
/// Opaque to the journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resume(pub Arc<str>);

/// A table as blocks refer to it: parsed once, shared by all blocks and lanes.
#[derive(Debug, PartialEq, Eq)]
pub struct TableRef {
    /// Fingerprint of the definition.
    pub id: TableId,
    /// The table at the source.
    pub name: TableName,
    /// The definition's canonical JSON.
    pub json: String,
}

impl TableRef {
    /// The reference of a definition.
    #[must_use]
    pub fn new(def: &TableDef) -> Self {
        let json = def.to_json();
        Self { id: TableId::of_json(&json), name: def.name.clone(), json }
    }
}

/// A transaction, a part of one, or a chunk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Positions, commit time and chunk, as they go on the wire.
    pub head: BlockHead,
    /// Whether the transaction ends here. A part that ends nothing carries no `resume`.
    pub ends: bool,
    /// Where the source may be confirmed once this block is durable.
    pub resume: Option<Resume>,
    /// Only these endpoints take the block (a snapshot for a new lane); all if empty.
    pub only: Vec<EndpointName>,
    /// Tables that the runs refer to by index.
    pub tables: Vec<Arc<TableRef>>,
    /// Where each run lies in `body`.
    pub runs: Vec<RunIndex>,
    /// The runs' JSON, comma separated.
    pub body: Vec<u8>,
}

impl Block {
    /// Changes in the block.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.count)).sum()
    }
}
