//! What a sender may cost before it has proved who it is.

use std::time::Duration;

/// Bounds of the listener and of the lanes. The defaults are what an operator gets; tests shorten them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the connection (or from the first byte of a later request) to the end of the request's head, then closed.
    pub header_timeout: Duration,
    /// From the head to the body's last byte, then 408 and closed.
    pub body_timeout: Duration,
    /// How long a connection may wait between requests. Above the 10 s between two empty deliveries of an idle lane.
    pub idle_timeout: Duration,
    /// How long a connection that was answered before its body had arrived goes on swallowing it: closed at once, the
    /// kernel would send a reset that can overtake the answer.
    pub linger: Duration,
    /// Connections at a time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Bytes of bodies held at a time, over all connections. More is a 503: without this bound, strangers could fill
    /// the memory with bodies that no signature covers. Raised to twice the largest `max_body` where that is more.
    pub max_buffered_bytes: u64,
    /// How long a request waits for its lane's running request, then 503.
    pub lane_wait: Duration,
    /// How long an open transaction may wait for its next part before it is rolled back, so that a publisher that died
    /// half-way does not hold locks in the target.
    pub staged_timeout: Duration,
    /// Lanes with a session per route; beyond, the one that has been idle longest makes room.
    pub max_lanes: usize,
    /// How long opening a session at the target may take.
    pub open_timeout: Duration,
}

/// Header lines in one request: a signed delivery has about ten, proxies add some.
pub(crate) const MAX_HEADERS: usize = 64;
/// Bytes of a request's head.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Read buffer per connection; large enough that big bodies are not read in crumbs.
pub(crate) const READ_BUFFER_BYTES: usize = 128 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            linger: Duration::from_secs(2),
            max_connections: 1024,
            max_buffered_bytes: 256 << 20,
            lane_wait: Duration::from_secs(5),
            staged_timeout: Duration::from_secs(60),
            max_lanes: 64,
            open_timeout: Duration::from_secs(20),
        }
    }
}
