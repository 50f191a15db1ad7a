//! Entry points of the fuzz targets of this crate (`tests/fuzz`): one per parser of outside bytes.
//!
//! Each takes any bytes at all. It never panics on what the parser says of them; it does where something does not hold
//! that must, such as that what was read and is written again reads the same. `cargo test` runs the committed samples
//! through them.

pub use crate::capture::mysql::fuzz::{binlog, event, json, statement};
pub use crate::capture::postgres::walsender::fuzz::{certificate, pgoutput, replication};
pub use crate::http::fuzz::response;
pub use crate::journal::fuzz::journal;
pub use crate::lane::fuzz::answer;

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn samples_of_answer() {
        replay("answer", super::answer);
    }

    #[test]
    fn samples_of_binlog() {
        replay("binlog", super::binlog);
    }

    #[test]
    fn samples_of_certificate() {
        replay("certificate", super::certificate);
    }

    #[test]
    fn samples_of_event() {
        replay("event", super::event);
    }

    #[test]
    fn samples_of_journal() {
        replay("journal", super::journal);
    }

    #[test]
    fn samples_of_json() {
        replay("json", super::json);
    }

    #[test]
    fn samples_of_pgoutput() {
        replay("pgoutput", super::pgoutput);
    }

    #[test]
    fn samples_of_replication() {
        replay("replication", super::replication);
    }

    #[test]
    fn samples_of_response() {
        replay("response", super::response);
    }

    #[test]
    fn samples_of_statement() {
        replay("statement", super::statement);
    }
}
