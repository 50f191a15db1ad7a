//! What both ends of Rowbridge must agree on: names, positions, tables and values, the wire, signatures and
//! configuration. No I/O and no runtime, so that either end can be used and tested alone.

pub mod cell;
pub mod class;
pub mod config;
pub mod event;
pub mod expr;
pub mod failpoint;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod header;
pub mod name;
pub mod pattern;
pub mod position;
pub mod secret;
pub mod signature;
pub mod sql;
pub mod sqlite_type;
mod suggest;
pub mod table;
pub mod tls;
pub mod types;
pub mod wire;

pub use cell::{Cell, Class as StorageClass};
pub use class::{Class, Classified};
pub use failpoint::Failpoint;
pub use name::{EndpointName, NameError, SourceId, StreamName};
pub use pattern::TablePatterns;
pub use position::{Offset, Position, PositionError};
pub use secret::{Secret, SigningKey, SigningKeyError, VerifyingKey};
pub use table::{Column, Dialect, TableDef, TableId, TableName, TypeDefinition};
