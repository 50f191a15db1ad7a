//! How many requests may go out: a bucket of tokens that fills at the configured rate.

use std::time::Duration;

use rowbridge_schema::config::Rate;
use tokio::time::Instant;

/// Holds at most what the rate gives in a second, at least one: after a pause no burst goes out that the endpoint would
/// see as more than its rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    every: Duration,
    burst: u32,
    /// When the bucket was, or will be, full to the brim of one token less than it has: the classic arrival time of GCRA.
    due: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        let every = rate.per / rate.count.max(1);
        let burst =
            (Duration::from_secs(1).as_nanos() / every.as_nanos().max(1)).clamp(1, u128::from(u32::MAX));
        Self { every, burst: burst as u32, due: now }
    }

    /// When the next request may go out; not later than `now` if at once.
    pub(crate) fn next(&self) -> Instant {
        let slack = self.every * (self.burst - 1);
        self.due.checked_sub(slack).unwrap_or(self.due)
    }

    /// A request goes out.
    pub(crate) fn take(&mut self, now: Instant) {
        self.due = self.due.max(now) + self.every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rate: Rate, seconds: u64) -> u64 {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate, start);
        let mut now = start;
        let mut count = 0;
        loop {
            now = now.max(bucket.next());
            if now >= start + Duration::from_secs(seconds) {
                return count;
            }
            bucket.take(now);
            count += 1;
        }
    }

    #[test]
    fn no_second_has_more_than_twice_the_rate_and_the_mean_holds() {
        let rate = |count, per| Rate { count, per: Duration::from_secs(per) };
        assert_eq!(sent(rate(100, 1), 10), 1099);
        assert_eq!(sent(rate(1, 1), 10), 10);
        assert_eq!(sent(rate(30, 60), 60), 30);
        assert_eq!(sent(rate(100_000, 1), 1), 199_999);
    }

    #[test]
    fn a_pause_does_not_save_up_more_than_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { count: 10, per: Duration::from_secs(1) }, start);
        let later = start + Duration::from_secs(3600);
        let mut burst = 0;
        while bucket.next() <= later {
            bucket.take(later);
            burst += 1;
        }
        assert_eq!(burst, 10);
    }
}
