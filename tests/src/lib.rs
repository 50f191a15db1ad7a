//! Harness of the end-to-end tests: real servers, the real binary, faults on purpose, and oracles.
//!
//! Everything here is test support. What cannot work panics with the facts (the tail of a server's log, the last lines
//! of a daemon, the rows that differ), because a test that goes on after a broken set-up only hides the reason.
//!
//! Nothing outlives a test: every child process gets `SIGKILL` from the kernel when the test process ends, however it
//! ends ([`process::spawn_guarded`]), and files live in temporary folders.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test support: a broken set-up must stop the test, and its facts belong on stderr"
)]

pub mod binlog;
pub mod clock;
pub mod compare;
pub mod config;
mod files;
pub mod kills;
pub mod mariadb;
pub mod metrics;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scenario;
pub mod size;
pub mod sqlite;
pub mod tls;
mod versions;
pub mod wait;
pub mod webhook;

/// Runs the harness's own servers (proxies, fake receivers) on threads of their own, so that a test on a
/// single-threaded runtime may block without stopping them.
pub(crate) fn background() -> &'static tokio::runtime::Handle {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("harness")
                .enable_all()
                .build()
                .unwrap()
        })
        .handle()
}
