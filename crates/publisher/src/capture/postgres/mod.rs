//! Capture from PostgreSQL by logical replication.

pub mod pgoutput;
pub mod walsender;
pub mod catalog;
pub mod client;
pub mod error;
