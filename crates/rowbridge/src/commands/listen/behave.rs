//! What each request is answered.

use std::time::Duration;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::options::Answers;

/// What becomes of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// `None` closes the connection instead.
    pub(super) status: Option<StatusCode>,
    pub(super) delay: Duration,
    pub(super) retry_after_seconds: Option<u64>,
}

/// Decides request by request.
#[derive(Debug)]
pub(super) struct Behavior {
    answers: Answers,
    dice: StdRng,
    asked: u64,
}

impl Behavior {
    pub(super) fn new(answers: Answers) -> Self {
        let dice = StdRng::seed_from_u64(answers.seed.unwrap_or_else(rand::random));
        Self { answers, dice, asked: 0 }
    }

    /// The next request's.
    pub(super) fn next(&mut self) -> Plan {
        self.asked += 1;
        // Both are thrown for every request, so that one rate does not shift what the other one hits.
        let (drop, fail) = (self.dice.random::<f64>(), self.dice.random::<f64>());
        let answers = &self.answers;
        let status = if answers.gone_after.is_some_and(|served| self.asked > served) {
            Some(StatusCode::GONE)
        } else if drop < answers.drop_rate {
            None
        } else if fail < answers.fail_rate {
            Some(answers.fail_status)
        } else {
            Some(answers.status)
        };
        let may_retry = status.is_some_and(|status| status.as_u16() >= 400 && status != StatusCode::GONE);
        let retry_after_seconds = answers.retry_after_seconds.filter(|_| may_retry);
        Plan { status, delay: answers.delay, retry_after_seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        Answers {
            status: StatusCode::OK,
            delay: Duration::ZERO,
            fail_rate: 0.0,
            fail_status: StatusCode::INTERNAL_SERVER_ERROR,
            drop_rate: 0.0,
            gone_after: None,
            retry_after_seconds: Some(5),
            seed: Some(7),
        }
    }

    fn codes(answers: &Answers, count: usize) -> Vec<u16> {
        let mut behavior = Behavior::new(answers.clone());
        (0..count).map(|_| behavior.next().status.map_or(0, |status| status.as_u16())).collect()
    }

    #[test]
    fn a_seed_repeats_itself_and_rates_do_not_shift_each_other() {
        let failing = Answers { fail_rate: 0.5, ..answers() };
        let list = codes(&failing, 1_000);
        assert_eq!(list, codes(&failing, 1_000));
        assert_ne!(list, codes(&Answers { seed: Some(8), ..failing.clone() }, 1_000));
        let failed = list.iter().filter(|code| **code == 500).count();
        assert!((400..600).contains(&failed), "{failed}");
        let both = codes(&Answers { drop_rate: 0.1, ..failing }, 1_000);
        let dropped = both.iter().filter(|code| **code == 0).count();
        assert!((50..150).contains(&dropped), "{dropped}");
        assert!(list.iter().zip(&both).all(|(one, other)| one == other || *other == 0));
    }

    #[test]
    fn the_ends_of_the_range_are_never_and_always() {
        assert!(codes(&answers(), 1_000).iter().all(|code| *code == 200));
        assert!(codes(&Answers { fail_rate: 1.0, ..answers() }, 1_000).iter().all(|code| *code == 500));
        assert!(codes(&Answers { drop_rate: 1.0, ..answers() }, 1_000).iter().all(|code| *code == 0));
        let gone = Answers { drop_rate: 1.0, gone_after: Some(2), ..answers() };
        assert_eq!(codes(&gone, 4), [0, 0, 410, 410]);
    }

    #[test]
    fn retry_after_goes_with_what_may_be_retried() {
        let wish = |answers: Answers| Behavior::new(answers).next().retry_after_seconds;
        assert_eq!(wish(answers()), None);
        assert_eq!(wish(Answers { status: StatusCode::TOO_MANY_REQUESTS, ..answers() }), Some(5));
        assert_eq!(wish(Answers { gone_after: Some(0), ..answers() }), None);
    }
}
