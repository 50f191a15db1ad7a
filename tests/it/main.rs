//! End-to-end tests: one binary, real servers, one harness.

mod faults;
mod harness;
mod large;
mod pgbench;
