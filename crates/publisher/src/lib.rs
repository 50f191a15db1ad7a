//! The publishing end: capture, snapshot, journal, lanes.

pub mod capture;
pub mod journal;
pub mod lane;
pub mod metrics;
pub mod snapshot;
