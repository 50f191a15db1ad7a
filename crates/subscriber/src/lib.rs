//! The receiving end: receive, verify, plan, apply.

pub mod apply;
pub mod plan;
