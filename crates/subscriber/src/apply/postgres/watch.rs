//! A bound on silence: a server that takes what we send and never answers must not hold a lane for ever.
//!
//! Row locks have a bound of their own at the server, which says what it waited for; this one is for what no setting of the
//! server covers, such as a stopped process or a proxy without a server behind it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::error::PostgresError;

/// How long one round trip may take. Far above what a statement of a delivery needs, since one that is given up is tried
/// again from the start: an UPDATE that scans a large table without an index is slow and still gets on.
const SILENCE: Duration = Duration::from_secs(30 * 60);

/// Counts a session's answers and ends its connection when none comes.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    answers: Arc<AtomicU64>,
    silence: Duration,
    connection: AbortHandle,
}

impl Watch {
    /// Watches the task that drives a connection.
    pub(super) fn new(connection: AbortHandle) -> Self {
        Self { answers: Arc::default(), silence: SILENCE, connection }
    }

    /// Something was answered.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Does the work as long as the server answers. Whether a COMMIT that was under way took effect, the next session
    /// reads from progress; a transaction that the server still has open keeps the progress row locked until then.
    pub(super) async fn over<T>(
        &self,
        work: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        let mut work = pin!(work);
        loop {
            let before = self.answers.load(Ordering::Relaxed);
            if let Ok(done) = timeout(self.silence, &mut work).await {
                return done;
            }
            if self.answers.load(Ordering::Relaxed) == before {
                self.connection.abort();
                return Err(PostgresError::Silent { minutes: self.silence.as_secs() / 60 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_gets_answers_may_take_long_and_silence_ends_the_connection() {
        let connection = tokio::spawn(std::future::pending::<()>());
        let watch = Watch { silence: Duration::from_millis(20), ..Watch::new(connection.abort_handle()) };
        let slow = async {
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                watch.answered();
            }
            Ok(())
        };
        watch.over(slow).await.unwrap();
        assert!(!connection.is_finished());
        let silent = watch.over(std::future::pending::<Result<(), PostgresError>>()).await;
        assert!(matches!(silent, Err(PostgresError::Silent { .. })), "{silent:?}");
        assert!(connection.await.unwrap_err().is_cancelled());
    }
}
