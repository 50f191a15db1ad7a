//! When a failed request is made again, and when no more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowbridge_schema::config::{RetrySchedule, WebhookPolicy};

/// Longest wish of an endpoint that is granted; a longer one is a mistake more often than a maintenance window.
const LONGEST_WISH: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a request that failed and may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Again after this.
    After(Duration),
    /// The list of waits is used up, or the event is too old.
    GiveUp,
}

/// The wait after attempt number `attempts` (from 1). `oldest` is the commit time of the oldest event of the request in
/// microseconds since 1970: what is older than `max_age` is given up. The endpoint's wish is a floor and jitter lies above
/// it, so that many that were told the same moment do not all come back in it.
pub(crate) fn next(
    policy: &WebhookPolicy,
    attempts: u32,
    oldest: i64,
    wish: Option<Duration>,
    now: SystemTime,
) -> Next {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let age = u64::try_from(since).unwrap_or(u64::MAX).saturating_sub(u64::try_from(oldest).unwrap_or(0));
    if policy.max_age.is_some_and(|most| Duration::from_micros(age) > most) {
        return Next::GiveUp;
    }
    let wish = wish.unwrap_or_default().min(LONGEST_WISH);
    match &policy.retry {
        RetrySchedule::Exponential { first, max } => {
            let ceiling = first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(*max);
            Next::After(wish + ceiling.mul_f64(rand::random::<f64>()))
        }
        RetrySchedule::List(waits) => match waits.get(attempts.saturating_sub(1) as usize) {
            // A fifth more at most: the list is what somebody wants to see.
            Some(wait) => Next::After((*wait).max(wish) + wait.mul_f64(0.2 * rand::random::<f64>())),
            None => Next::GiveUp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry: RetrySchedule) -> WebhookPolicy {
        WebhookPolicy { retry, max_age: Some(Duration::from_secs(72 * 3600)), ..WebhookPolicy::default() }
    }

    fn seconds(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn waits_double_with_full_jitter_up_to_the_longest() {
        let policy = policy(RetrySchedule::Exponential {
            first: Duration::from_millis(200),
            max: Duration::from_secs(300),
        });
        for (attempts, ceiling) in
            [(1, 200), (2, 400), (3, 800), (11, 204_800), (12, 300_000), (4_000_000_000, 300_000)]
        {
            let waits: Vec<_> = (0..300)
                .map(|_| match next(&policy, attempts, 0, None, seconds(1)) {
                    Next::After(wait) => wait,
                    Next::GiveUp => panic!("given up"),
                })
                .collect();
            let ceiling = Duration::from_millis(ceiling);
            assert!(waits.iter().all(|wait| *wait <= ceiling), "{attempts}");
            assert!(
                waits.iter().any(|wait| *wait < ceiling / 4) && waits.iter().any(|wait| *wait > ceiling / 2)
            );
        }
    }

    #[test]
    fn a_list_is_followed_and_then_used_up() {
        let policy = policy(RetrySchedule::List(vec![Duration::from_secs(5), Duration::from_secs(300)]));
        let after = |attempts, wish| next(&policy, attempts, 0, wish, seconds(1));
        let between = |next, low: u64, high: u64| {
            let Next::After(wait) = next else { panic!("given up") };
            assert!((Duration::from_secs(low)..=Duration::from_secs(high)).contains(&wait), "{wait:?}");
        };
        between(after(1, None), 5, 6);
        between(after(2, None), 300, 360);
        between(after(1, Some(Duration::from_secs(60))), 60, 61);
        assert_eq!(after(3, None), Next::GiveUp);
    }

    #[test]
    fn what_is_too_old_is_given_up_and_wishes_are_a_floor() {
        let policy = policy(RetrySchedule::Exponential {
            first: Duration::from_secs(1),
            max: Duration::from_secs(300),
        });
        let at = |seconds_later: u64| next(&policy, 1, 1_000_000, None, seconds(1 + seconds_later));
        assert!(matches!(at(72 * 3600), Next::After(_)));
        assert_eq!(at(72 * 3600 + 1), Next::GiveUp);
        for wish in [7, 90_000] {
            let Next::After(wait) = next(&policy, 1, 0, Some(Duration::from_secs(wish)), seconds(1)) else {
                panic!("given up")
            };
            assert!(wait >= Duration::from_secs(wish.min(86_400)) && wait <= Duration::from_secs(wish + 1));
        }
    }
}
