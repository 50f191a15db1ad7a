//! Client of PostgreSQL's logical replication protocol.
//!
//! One connection in replication mode: [`Walsender::connect`], then commands, then [`Walsender::start_replication`],
//! which turns it into a [`ReplicationStream`]. The general PostgreSQL drivers have no replication mode, so this is
//! our own, on their message writer and SCRAM code.
//!
//! Limits: protocol 3.0; no GSSAPI, no OAuth, no SHA-1 era authentication besides MD5; TLS only by `SSLRequest`; no
//! message above 1 GiB + 64 KiB, none above 64 KiB before the login is done. Text is UTF-8 whatever the database's
//! encoding is. Nothing here keeps time once the stream runs, reconnects, or interprets a message's content.
//!
//! Source: PostgreSQL manual, "Frontend/Backend Protocol", chapters "Message Flow", "Streaming Replication Protocol"
//! and "SASL Authentication".

mod auth;
mod command;
mod connect;
mod copy;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod transport;
mod wire;

pub use command::{
    ANSWER_MAX_BYTES, CreatedSlot, SlotOptions, SystemInfo, format_lsn, parse_lsn, quote_identifier,
    quote_literal,
};
pub use connect::{ConnectOptions, TlsMode, TlsSettings};
pub use copy::{CLOSE_WAIT, Frame, ReplicationStream, SILENCE_LIMIT, STATUS_INTERVAL};
pub use error::{AuthError, CloseReason, ProtocolError, ServerError, TlsError, WalsenderError};

use transport::Transport;
use wire::{Parameters, Wire};

/// A connection in replication mode that takes commands.
pub struct Walsender {
    wire: Wire<Transport>,
    parameters: Parameters,
    backend_pid: i32,
    /// A command was sent and its answer not read to the end.
    awaiting: bool,
}
