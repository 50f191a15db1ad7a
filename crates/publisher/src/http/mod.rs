//! The HTTP client of lanes that send webhooks to anybody.
//!
//! One [`Client`] serves one endpoint. Scheme, host and port are its own and never change; a [`Request`] brings path,
//! query, headers and body. What holds:
//!
//! - **Time.** Every [`Exchange`] says where its time went ([`Timing`]), whether it succeeded or not. Resolving is bounded
//!   by 5 s, connecting by 10 s, TLS by 10 s, and all of it, the answer's body included, by the endpoint's timeout.
//! - **Addresses.** The guard ([`AddressError`]) sees each address that is dialled, at each connection, so that a name
//!   that changes its mind is seen. Redirects are answers and are not followed. Nothing is taken from the environment.
//! - **A proxy**, if there is one, resolves the target's name. The guard then sees only addresses that stand in the URL,
//!   and a name over plain http is refused, since nobody knows where it leads. Errors say whether proxy or target failed;
//!   with plain http to an address they are told apart only by a 407.
//! - **TLS** is 1.2 or higher and always verified ([`Tls`] cannot be made otherwise).
//! - **Headers** come through typed values, and none that frames a message can be set.
//! - **Answers** are HTTP/1.1, their heads up to 64 KiB. Bodies are read up to 64 KiB, then the connection is closed; 8 KiB
//!   are kept. Nothing asks for compression, so that nothing inflates. An answer may come before the request has left.
//! - **Connections** are HTTP/1.1 with TCP_NODELAY, kept for 8 s when idle, the last used first, as many as requests may be
//!   in flight. A request that finds its connection closed before any byte of an answer is sent once more, on a new
//!   one: the receiver sees the same `webhook-id`.
//! - **Secrets** are in no error, no `Debug` output and no timing. Errors name hosts, never paths or queries.
//!
//! The client decides nothing about an event: what an answer means, and when to try again, is the caller's.
//!
//! ```text
//! Client -> (TokenSource) -> Transport -> Pool -> Connection -> Exchange
//!                                |          ^
//!                                +- Dialer -+  lookup, guard, TCP, (proxy), TLS
//! ```

pub(crate) mod address;
mod alarm;
mod answer;
mod auth;
mod client;
mod connect;
mod connection;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod pool;
mod proxy;
mod request;
#[cfg(test)]
mod tests;
mod timing;
pub(crate) mod tls;
mod token;
mod transport;

pub use address::AddressError;
pub use client::{Client, ClientConfig, DEFAULT_TIMEOUT, Exchange};
pub use error::{AttemptError, ExchangeError, Peer, SetupError};
pub use proxy::Proxy;
pub use request::{FramingHeader, PathError, Request, Response, RetryAfter};
pub use timing::{Phase, Timing};
pub use tls::Tls;
pub use token::{OAuthRefusal, TokenError};
