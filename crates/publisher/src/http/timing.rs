//! Where the time of an attempt went.

use std::time::Duration;

use tokio::time::Instant;

/// Where the time of an attempt went. A phase that failed counts with the time until it failed; one that happened twice,
/// because a connection was found closed or a token refused, counts with both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Waiting for an access token; `None` where none had to be fetched.
    pub token: Option<Duration>,
    /// Resolving the name; `None` on a reused connection and for an address in the URL.
    pub dns: Option<Duration>,
    /// Connecting, with a proxy up to where it passes bytes through; `None` on a reused connection.
    pub connect: Option<Duration>,
    /// TLS with the target; `None` on a reused connection and without https.
    pub tls: Option<Duration>,
    /// From the first byte that could be sent to the first byte of the answer; `None` if none came.
    pub first_byte: Option<Duration>,
    /// All of it, the answer's body included.
    pub total: Duration,
}

/// What an attempt is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for an access token.
    Token,
    /// Resolving a name.
    Resolve,
    /// Connecting, and being let through by a proxy.
    Connect,
    /// TLS with the target.
    Tls,
    /// Sending, and waiting for the answer's status and headers.
    Answer,
    /// Reading the answer's body.
    Body,
}

/// Measures one attempt. It lives outside of the attempt's future, so that it still knows where that was when it was
/// dropped for taking too long.
#[derive(Debug)]
pub(super) struct Stopwatch {
    started: Instant,
    phase: Phase,
    since: Option<Instant>,
    timing: Timing,
    /// Whether it is the proxy that is waited for.
    pub(super) at_proxy: bool,
    /// The status, once it is known.
    pub(super) status: Option<u16>,
    /// Whether the last connection had been used before.
    pub(super) reused: bool,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            phase: Phase::Connect,
            since: None,
            timing: Timing::default(),
            at_proxy: false,
            status: None,
            reused: false,
        }
    }

    /// Ends the phase before and begins this one.
    pub(super) fn enter(&mut self, phase: Phase) {
        // The connection sees the first byte, so that no clock has to be asked for these two.
        if matches!(phase, Phase::Answer | Phase::Body) {
            self.leave();
        } else {
            let now = Instant::now();
            self.leave_at(now);
            self.since = Some(now);
        }
        self.phase = phase;
    }

    /// Ends the phase.
    pub(super) fn leave(&mut self) {
        if self.since.is_some() {
            self.leave_at(Instant::now());
        }
    }

    /// Ends the phase as if it had not been: there was nothing to wait for.
    pub(super) fn skip(&mut self) {
        self.since = None;
    }

    fn leave_at(&mut self, now: Instant) {
        let Some(since) = self.since.take() else { return };
        let slot = match self.phase {
            Phase::Token => &mut self.timing.token,
            Phase::Resolve => &mut self.timing.dns,
            Phase::Connect => &mut self.timing.connect,
            Phase::Tls => &mut self.timing.tls,
            Phase::Answer | Phase::Body => return,
        };
        *slot = Some(slot.unwrap_or_default() + (now - since));
    }

    pub(super) fn first_byte(&mut self, after: Option<Duration>) {
        self.timing.first_byte = after;
    }

    pub(super) fn has_first_byte(&self) -> bool {
        self.timing.first_byte.is_some()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn finish(mut self) -> Timing {
        self.leave();
        self.timing.total = self.started.elapsed();
        self.timing
    }
}
