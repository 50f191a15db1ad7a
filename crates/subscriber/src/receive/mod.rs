//! HTTP in front of the lanes: who may send what, checked from the cheapest to the dearest, bytes before content.

mod address;
pub(crate) mod body;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub(crate) mod limits;
mod refusal;
pub(crate) mod route;
pub(crate) mod server;

#[cfg(test)]
mod tests;

pub use limits::Limits;
