//! Entry points of the fuzz targets of this crate (`tests/fuzz`): one per parser of outside bytes.
//!
//! Each takes any bytes at all. It never panics on what the parser says of them; it does where something does not hold
//! that must, such as that a body is never larger than what may be received. `cargo test` runs the committed samples
//! through them.

pub use crate::receive::fuzz::request;

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn samples_of_request() {
        replay("request", super::request);
    }
}
