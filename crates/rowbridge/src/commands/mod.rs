//! One file per command.

pub(crate) mod attempts;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod dead_letter;
pub(crate) mod demo;
pub(crate) mod endpoint;
pub(crate) mod listen;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod snapshot;
pub(crate) mod teardown;

#[cfg(test)]
mod operate_tests;
