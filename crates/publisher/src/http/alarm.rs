//! The timeout of a whole exchange, without a new timer for each.
//!
//! A timer that is made and dropped with each request costs the runtime a wake-up by system call each time, a tenth of
//! what a small request costs altogether. One that is moved further into the future costs nearly nothing.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// Timers that were used before. They may go off while nobody waits for them: whoever waited last is woken for nothing.
pub(super) struct Alarms {
    idle: Mutex<Vec<Pin<Box<Sleep>>>>,
    most: usize,
}

impl Alarms {
    pub(super) fn new(most: usize) -> Self {
        Self { idle: Mutex::default(), most }
    }

    /// What `future` gives, or `None` if `deadline` comes first.
    pub(super) async fn until<F: Future>(&self, deadline: Instant, future: F) -> Option<F::Output> {
        let used = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut alarm = match used {
            Some(mut alarm) => {
                alarm.as_mut().reset(deadline);
                alarm
            }
            None => Box::pin(sleep_until(deadline)),
        };
        let mut future = std::pin::pin!(future);
        let result = std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            alarm.as_mut().poll(context).map(|()| None)
        })
        .await;
        if result.is_some() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.most {
                idle.push(alarm);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_used_alarm_goes_off_again() {
        let alarms = Alarms::new(1);
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        assert_eq!(alarms.until(Instant::now() + long, ready(1)).await, Some(1));
        // Sooner than it was set to, and later, and after it has gone off while nobody waited.
        assert_eq!(alarms.until(Instant::now() + short, pending::<()>()).await, None);
        assert_eq!(alarms.until(Instant::now() + short, ready(2)).await, Some(2));
        tokio::time::sleep(short * 2).await;
        let slow = tokio::time::sleep(short * 2);
        assert_eq!(alarms.until(Instant::now() + long, slow).await, Some(()));
        let begun = Instant::now();
        assert_eq!(alarms.until(Instant::now() + short, pending::<()>()).await, None);
        assert!(begun.elapsed() >= short);
    }
}
