//! The `bridge` format: what a publisher and a Rowbridge subscriber say to each other. See `docs/wire.md`.
//!
//! ```text
//! delivery {"rowbridge":1,"stream":..,"endpoint":..,"source":..,"prev":P|null,"to":P|null,
//!           "open":bool,"split":bool,"tables":{ID:DEF,..},"blocks":[BLOCK,..]}
//! block    {"first":P,"last":P,"at":MICROS,"step":"ordinal"|"offset","chunk":CHUNK?,"runs":[RUN,..]}
//! run      {"t":ID,"n":NUMBER,"op":"i"|"u"|"d"|"r"|"t","k":[COLUMN..],"c":[COLUMN..],"m":true?,"r":[ROW,..]}
//! row      [CELL,..]   the cells of the old columns `k`, then those of the new columns `c`
//! cell     null | "text" | {"i"|"r"|"t"|"b"|"u":"text"}
//! ```
//!
//! Blocks are encoded once, when they are captured, and travel unchanged from the journal to every bridge endpoint.

mod answer;
mod delivery;
#[cfg(test)]
mod golden;
mod part;
mod run;
mod scan;

pub use answer::{Answer, AnswerStatus, FailingChange};
pub use delivery::{
    Block, BlockHead, Chunk, Delivery, DeliveryHead, KeyRange, Run, Sweep, WireError, encode_delivery,
    parse_delivery,
};
pub use part::{RunPart, run_part};
pub use run::{Op, RowWriter, RunIndex, RunKind, RunWriter, Step, read_run};

/// Version of the wire; a release reads the one before.
pub const WIRE_VERSION: u32 = 1;
/// The content type of a `bridge` delivery.
pub const CONTENT_TYPE: &str = "application/json";
