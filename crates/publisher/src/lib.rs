//! The publishing end: capture, snapshot, journal, lanes.

pub mod capture;
pub mod check;
mod check_outbox;
pub mod deliveries;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod http;
pub mod journal;
pub mod lane;
pub mod metrics;
mod publisher;
pub mod pump;
mod reread;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod tables;
pub mod webhook;

pub use publisher::{OpenError, Publisher, PublisherStatus};
