//! The publishing end: capture, snapshot, journal, lanes.

pub mod capture;
pub mod journal;
pub mod pump;
pub mod snapshot;
pub mod state;
