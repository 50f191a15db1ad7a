//! End-to-end tests: one binary, real servers, one harness.

mod harness;
mod large;
mod pgbench;
mod semantics;
mod types;
