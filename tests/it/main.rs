//! End-to-end tests: one binary, real servers, one harness.

mod cli;
mod harness;
mod large;
mod pgbench;
