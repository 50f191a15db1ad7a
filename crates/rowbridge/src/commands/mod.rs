//! One file per command.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod listen;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod snapshot;
pub(crate) mod teardown;
