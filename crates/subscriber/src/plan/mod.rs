//! Planning: from a delivery and the operator's mapping to what a target has to do. Pure, no I/O.

pub mod mapping;

pub use mapping::{MapError, MappedTable, Mapping};
