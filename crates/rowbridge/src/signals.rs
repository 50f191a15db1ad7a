//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, from the moment that this exists.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and says what a shell would make of it as exit code. Cancel safe.
    pub(crate) async fn next(&mut self) -> u8 {
        const SHELL: u8 = 128;
        tokio::select! {
            _ = self.terminate.recv() => SHELL + 15,
            _ = self.interrupt.recv() => SHELL + 2,
        }
    }
}
