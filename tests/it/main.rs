//! End-to-end tests: one binary, real servers, one harness.

mod cli;
mod deploy;
mod faults;
mod harness;
mod hostile;
mod large;
mod pgbench;
