//! The receiving end over real sockets, against a target in memory.

mod fake;
mod harness;
mod lanes;
mod refusals;
