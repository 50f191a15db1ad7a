//! Capture from PostgreSQL by logical replication.

pub mod pgoutput;
pub mod walsender;
