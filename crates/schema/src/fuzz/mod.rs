//! Entry points of the fuzz targets of this crate (`tests/fuzz`): one per parser of outside bytes.
//!
//! Each takes any bytes at all. It never panics on what the parser says of them; it does where something does not hold
//! that must, such as that what was read and is written again reads the same. `cargo test` runs the committed samples
//! through them.

mod delivery;
mod request;
mod text;
mod world;

pub use delivery::delivery;
pub use request::{filter, template};
pub use text::{config, conversion, names, signature, url};

#[cfg(test)]
#[path = "../../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn samples_of_config() {
        replay("config", super::config);
    }

    #[test]
    fn samples_of_conversion() {
        replay("conversion", super::conversion);
    }

    #[test]
    fn samples_of_delivery() {
        replay("delivery", super::delivery);
    }

    #[test]
    fn samples_of_filter() {
        replay("filter", super::filter);
    }

    #[test]
    fn samples_of_names() {
        replay("names", super::names);
    }

    #[test]
    fn samples_of_signature() {
        replay("signature", super::signature);
    }

    #[test]
    fn samples_of_template() {
        replay("template", super::template);
    }

    #[test]
    fn samples_of_url() {
        replay("url", super::url);
    }
}
