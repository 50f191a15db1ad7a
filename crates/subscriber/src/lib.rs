//! The receiving end: receive, verify, plan, apply.

mod answer;
pub mod apply;
pub mod cross;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod lanes;
mod metrics;
pub mod plan;
mod receive;
mod subscriber;
mod verify;

pub use lanes::TargetHealth;
pub use metrics::SubscriberMetrics;
pub use receive::Limits;
pub use subscriber::{SecretsHandle, Subscriber, SubscriberError};
