//! Waiting for a condition with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a wait may take when the test does not say: far above what a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks at a condition that nobody announces.
pub const POLL: Duration = Duration::from_millis(50);

/// Asks `condition` every 50 ms until it gives `Ok`; its last `Err` is the text of the panic at the deadline.
///
/// # Panics
/// At the deadline, with `what` and the last reason.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return value,
            Err(reason) if started.elapsed() >= deadline => {
                panic!("waited {deadline:?} for {what}: {reason}");
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
