//! Kills at random moments, and the count of deliveries that they repeat.

use std::time::Duration;

use rand::RngExt as _;

use crate::metrics::Metrics;
use crate::scenario::Pair;

/// Deliveries that a subscriber has got again, as its present process counts them.
pub async fn repeated(pair: &Pair) -> f64 {
    let Ok(metrics) = Metrics::scrape(pair.subscriber_config.admin_port).await else { return 0.0 };
    metrics.value("rowbridge_receive_repeated_deliveries_total", &[]).unwrap_or(0.0)
}

/// What a run of kills came to.
#[derive(Debug, Default)]
pub struct Kills {
    /// Publisher processes killed.
    pub publisher: u32,
    /// Subscriber processes killed.
    pub subscriber: u32,
    /// Restarts of the target's server, each of which may take an answer with it.
    pub servers: u32,
    /// Deliveries that brought changes which the target had already.
    pub repeated: u32,
}

/// Kills publisher and subscriber in turn with SIGKILL, each time after a random while, and starts it again at once.
///
/// Counters die with their process, so they are read right before a subscriber is killed: what it got again between the
/// reading and the kill is missed, never counted twice.
pub async fn kill_in_turn(pair: &Pair, times: u32, longest_wait: Duration) -> Kills {
    kill_on(pair, Kills::default(), times, longest_wait).await
}

/// As [`kill_in_turn`], after others.
pub async fn kill_on(pair: &Pair, mut kills: Kills, times: u32, longest_wait: Duration) -> Kills {
    for round in 0..times {
        let wait = rand::rng().random_range(Duration::from_millis(50)..longest_wait);
        tokio::time::sleep(wait).await;
        if round % 2 == 0 {
            pair.publisher().kill9();
            pair.publisher().start();
            kills.publisher += 1;
        } else {
            kills.repeated += repeated(pair).await as u32;
            pair.subscriber().kill9();
            pair.subscriber().start();
            kills.subscriber += 1;
        }
    }
    kills
}

/// The end of the account: what the last subscriber process has counted.
pub async fn account(pair: &Pair, mut kills: Kills) -> Kills {
    kills.repeated += repeated(pair).await as u32;
    eprintln!(
        "{} kills of the publisher, {} of the subscriber, {} restarts of servers, {} deliveries repeated",
        kills.publisher, kills.subscriber, kills.servers, kills.repeated
    );
    assert!(
        kills.repeated <= kills.publisher + kills.subscriber + kills.servers,
        "more than one delivery per kill was repeated: {kills:?}"
    );
    kills
}
