//! End-to-end tests: one binary, real servers, one harness.

mod cli;
mod deploy;
mod harness;
mod large;
mod pgbench;
