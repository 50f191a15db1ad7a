//! The threads of webhook lanes.
//!
//! Such a lane writes a small request and waits for its answer, thousands of times a second. In a runtime of several
//! threads each answer that ends a wait wakes one more thread, which is to look for work and finds none: a sixth of what a
//! delivery costs. So these lanes have threads with a runtime each, and stay where they were put.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// More would take the machine from its database.
const MAX_THREADS: usize = 4;

/// Dropping it gives up whatever still runs there.
#[derive(Debug, Default)]
pub(super) struct LaneThreads {
    runtimes: Vec<Runtime>,
    next: usize,
}

#[derive(Debug)]
struct Runtime {
    handle: Handle,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

impl LaneThreads {
    /// Where the next lane runs: on each thread in turn, one for two processors.
    pub(super) fn next(&mut self) -> Handle {
        if self.runtimes.is_empty() {
            let processors = thread::available_parallelism().map_or(1, usize::from);
            let started = (0..(processors / 2).clamp(1, MAX_THREADS)).map(|_| start()).collect();
            match started {
                Ok(runtimes) => self.runtimes = runtimes,
                Err(error) => {
                    let error: io::Error = error;
                    tracing::warn!(%error, "cannot start a thread for webhooks; they share those of everything else");
                    return Handle::current();
                }
            }
        }
        self.next = (self.next + 1) % self.runtimes.len();
        self.runtimes[self.next].handle.clone()
    }
}

fn start() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
        let _ = runtime.block_on(stopped);
        // A file on a dead network disk does not hold up the end.
        runtime.shutdown_background();
    })?;
    Ok(Runtime { handle, _stop: stop })
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn lanes_stay_on_threads_that_end_with_their_owner() {
        let mut threads = LaneThreads::default();
        let mut tasks = JoinSet::new();
        for _ in 0..9 {
            tasks.spawn_on(async { thread::current().name().map(str::to_owned) }, &threads.next());
        }
        for name in tasks.join_all().await {
            assert_eq!(name.as_deref(), Some("webhooks"));
        }
        tasks = JoinSet::new();
        tasks.spawn_on(std::future::pending(), &threads.next());
        drop(threads);
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
}
