//! End-to-end tests: one binary, real servers, one harness.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail loudly and print what they measured"
)]

mod alter;
mod bench;
mod chaos;
mod cli;
mod clock;
mod crossing;
mod crossings;
mod damaged;
mod deploy;
mod failpoints;
mod faults;
mod formats;
mod harness;
mod hostile;
mod large;
mod listen;
mod load;
mod mariadb;
mod mysql;
mod mysql_target;
mod pgbench;
mod poolers;
mod reread;
mod resnapshot;
mod room;
mod semantics;
mod sqlite;
mod tls;
mod types;
mod versions;
mod webhook;
