//! Connections that wait for the next request.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connection::Connection;

/// An idle connection is given up before servers with the customary timeout of 10 s close it, so that a request is seldom
/// written into a connection that is just being closed.
pub(super) const IDLE: Duration = Duration::from_secs(8);

/// Idle connections, the last used first, so that the others get old and go.
pub(super) struct Pool {
    state: Mutex<State>,
    most: usize,
    idle: Duration,
}

struct State {
    /// The longest idle first.
    connections: Vec<(Instant, Box<Connection>)>,
    /// Whether somebody will come and close what is too old.
    watched: bool,
}

impl Pool {
    pub(super) fn new(most: usize, idle: Duration) -> Arc<Self> {
        let state = Mutex::new(State { connections: Vec::new(), watched: false });
        Arc::new(Self { state, most, idle })
    }

    /// One that is open as far as is known here.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.locked().connections.pop()?;
            if since.elapsed() < self.idle && connection.is_open() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection if it is still open. Within a runtime only.
    pub(super) fn put(self: &Arc<Self>, mut connection: Box<Connection>) {
        if self.most == 0 || !connection.is_open() {
            return;
        }
        let mut state = self.locked();
        if state.connections.len() >= self.most {
            state.connections.remove(0);
        }
        let now = Instant::now();
        state.connections.push((now, connection));
        if !state.watched {
            state.watched = true;
            tokio::spawn(close_idle(Arc::downgrade(self), now + self.idle));
        }
    }

    /// Closes what is too old; the moment to come again, or nothing if there is no need to.
    fn sweep(&self) -> Option<Instant> {
        let mut state = self.locked();
        let now = Instant::now();
        let old = state.connections.partition_point(|(since, _)| *since + self.idle <= now);
        state.connections.drain(..old);
        let next = state.connections.first().map(|(since, _)| *since + self.idle);
        state.watched = next.is_some();
        next
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.locked().connections.len()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs while there is something to close, and no longer than the pool.
async fn close_idle(pool: Weak<Pool>, first: Instant) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(pool) = pool.upgrade() else { return };
        next = pool.sweep();
    }
}
