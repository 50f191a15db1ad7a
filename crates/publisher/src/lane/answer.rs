//! What an endpoint's answer means.

use std::time::{Duration, SystemTime};

use rowbridge_schema::signature::{DEFAULT_TOLERANCE_SECONDS, SignedHeaders, verify};
use rowbridge_schema::wire::{Answer, AnswerStatus, WIRE_VERSION};
use rowbridge_schema::{EndpointName, Position, SigningKey, StreamName};

use super::fault::{Fault, Unfit};
use super::retry::retry_after;

/// An HTTP response, read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) retry_after: Option<String>,
    /// The server's clock.
    pub(crate) date: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What the answer must fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) stream: &'a StreamName,
    pub(crate) endpoint: &'a EndpointName,
    pub(crate) keys: &'a [SigningKey],
    /// The request's `webhook-id`.
    pub(crate) id: &'a str,
    /// What must be acknowledged; `None` in a handshake.
    pub(crate) to: Option<Position>,
    /// Whether the delivery leaves a transaction open, so that `staged` is an answer.
    pub(crate) open: bool,
    /// Where a snapshot of everything begins, if there is one.
    pub(crate) begins: Option<Position>,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Committed up to the answer's position, which is not below what was sent.
    Done(Box<Answer>),
    /// In the target's open transaction.
    Staged(Box<Answer>),
    /// Go on behind the answer's position.
    Rewind(Box<Answer>),
    /// Send less at once.
    TooLarge,
    /// The same again, later.
    Retry { fault: Fault, after: Option<Duration> },
    /// A person is needed; ask again every now and then.
    Halt(Fault),
    /// Never again.
    Disable(Fault),
}

/// Classes an answer. This is the only place that does.
///
/// | answer | signed | meaning |
/// | --- | --- | --- |
/// | 200 `applied`, position not below `to` | yes | done |
/// | 200 `staged`, exactly `to`, in answer to an open delivery | yes | staged |
/// | any other 2xx | either | retry: a proxy's welcome page must not trim a journal |
/// | 3xx | either | halt: redirects are not followed |
/// | 408, 425, 429, 5xx | either | retry, not before `Retry-After` |
/// | 409 `gap` | yes | rewind |
/// | 409 `foreign_source`, `old_epoch` | yes | halt |
/// | any other 409 | either | retry: a proxy's conflict says nothing about the lane |
/// | 410 | yes | disable |
/// | 413 | either | send less at once |
/// | 422 `rejected` | yes | halt, naming the changes |
/// | other 4xx | either | halt |
/// | anything else | either | retry |
///
/// Signed means: by one of the endpoint's keys, under the request's own id, with a timestamp within 300 s, and with a body
/// that names this lane. Nothing in an unsigned body is read.
pub(crate) fn judge(reply: &Reply, expected: &Expected<'_>, now: SystemTime) -> Verdict {
    let status = reply.status;
    let signed = signed_answer(reply, expected, now);
    let message = || signed.as_ref().ok().and_then(|answer| answer.message.clone());
    let wish =
        || reply.retry_after.as_deref().and_then(|value| retry_after(value, reply.date.as_deref(), now));
    match status {
        200 | 409 => match signed {
            Ok(answer) => judge_signed(status, answer, expected),
            Err(fault) => Verdict::Retry { fault, after: wish() },
        },
        201..=299 => {
            let fault = signed.err().unwrap_or(Fault::Unfit { status, reason: Unfit::Status });
            Verdict::Retry { fault, after: wish() }
        }
        300..=399 => Verdict::Halt(Fault::Refused { status, message: None }),
        408 | 425 | 429 | 500..=599 => {
            Verdict::Retry { fault: Fault::Busy { status, message: message() }, after: wish() }
        }
        410 if signed.is_ok() => Verdict::Disable(Fault::Disabled { message: message() }),
        413 => Verdict::TooLarge,
        422 => match signed {
            Ok(answer) if answer.status == AnswerStatus::Rejected => {
                Verdict::Halt(Fault::Rejected { message: answer.message, failing: answer.failing })
            }
            Ok(answer) => Verdict::Halt(Fault::Refused { status, message: answer.message }),
            Err(_) => Verdict::Halt(Fault::Refused { status, message: None }),
        },
        400..=499 => Verdict::Halt(Fault::Refused { status, message: message() }),
        _ => Verdict::Retry { fault: Fault::Busy { status, message: None }, after: wish() },
    }
}

/// A 200 or 409 that was proved to come from the subscriber of this lane.
fn judge_signed(status: u16, answer: Answer, expected: &Expected<'_>) -> Verdict {
    let unfit = |reason| Verdict::Retry { fault: Fault::Unfit { status, reason }, after: None };
    match (status, answer.status) {
        (200, AnswerStatus::Applied) => match expected.to {
            Some(to) if answer.position.is_none_or(|position| position < to) => unfit(Unfit::Short { to }),
            _ => Verdict::Done(Box::new(answer)),
        },
        (200, AnswerStatus::Staged) => match expected.to {
            Some(to) if expected.open && answer.staged == Some(to) => Verdict::Staged(Box::new(answer)),
            Some(to) if expected.open => unfit(Unfit::Short { to }),
            _ => unfit(Unfit::Status),
        },
        (409, AnswerStatus::Gap) => Verdict::Rewind(Box::new(answer)),
        // Everything is sent again in an epoch above the other source's: that takes the lane over.
        (409, AnswerStatus::ForeignSource)
            if expected.to.is_none()
                && answer
                    .position
                    .zip(expected.begins)
                    .is_some_and(|(stands, begins)| stands.epoch < begins.epoch) =>
        {
            Verdict::Rewind(Box::new(answer))
        }
        (409, AnswerStatus::ForeignSource) => {
            Verdict::Halt(Fault::ForeignSource { message: answer.message, stands: answer.position })
        }
        (409, AnswerStatus::OldEpoch) => {
            Verdict::Halt(Fault::OldEpoch { message: answer.message, stands: answer.position })
        }
        (
            _,
            AnswerStatus::Applied
            | AnswerStatus::Staged
            | AnswerStatus::Gap
            | AnswerStatus::ForeignSource
            | AnswerStatus::OldEpoch
            | AnswerStatus::Rejected
            | AnswerStatus::Malformed
            | AnswerStatus::Unavailable,
        ) => unfit(Unfit::Status),
    }
}

fn signed_answer(reply: &Reply, expected: &Expected<'_>, now: SystemTime) -> Result<Answer, Fault> {
    use rowbridge_schema::signature::VerifyError;
    let status = reply.status;
    if reply.id != expected.id {
        return Err(Fault::Unsigned { status, source: VerifyError::Headers });
    }
    let headers = SignedHeaders { id: &reply.id, timestamp: &reply.timestamp, signature: &reply.signature };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    verify(expected.keys, headers, &reply.body, now, DEFAULT_TOLERANCE_SECONDS)
        .map_err(|source| Fault::Unsigned { status, source })?;
    let unfit = |reason| Fault::Unfit { status, reason };
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| unfit(Unfit::Body))?;
    if answer.rowbridge != WIRE_VERSION {
        return Err(unfit(Unfit::Body));
    }
    if answer.stream != *expected.stream || answer.endpoint != *expected.endpoint {
        return Err(unfit(Unfit::Lane { stream: answer.stream, endpoint: answer.endpoint }));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::signature::sign;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    struct Case {
        key: SigningKey,
        stream: StreamName,
        endpoint: EndpointName,
    }

    impl Case {
        fn new() -> Self {
            let name = |text: &str| text.to_owned();
            Self {
                key: SigningKey::generate(),
                stream: name("shop").try_into().unwrap(),
                endpoint: name("copy").try_into().unwrap(),
            }
        }

        fn answer(&self, status: AnswerStatus, position: u64) -> Answer {
            Answer {
                rowbridge: WIRE_VERSION,
                stream: self.stream.clone(),
                endpoint: self.endpoint.clone(),
                status,
                position: Some(Position::new(1, position, 1)),
                staged: None,
                formats: vec![],
                encodings: vec![],
                max_body: None,
                message: None,
                failing: vec![],
            }
        }

        fn reply(&self, status: u16, answer: &Answer) -> Reply {
            let body = serde_json::to_vec(answer).unwrap();
            Reply {
                status,
                id: "rwb_1".to_owned(),
                timestamp: NOW.to_string(),
                signature: sign(std::slice::from_ref(&self.key), "rwb_1", NOW, &body),
                retry_after: None,
                date: None,
                body,
            }
        }

        fn judge(&self, reply: &Reply, to: u64, open: bool) -> Verdict {
            let keys = [SigningKey::generate(), self.key.clone()];
            let to = Some(Position::new(1, to, 1));
            let expected = Expected {
                stream: &self.stream,
                endpoint: &self.endpoint,
                keys: &keys,
                id: "rwb_1",
                to,
                open,
                begins: None,
            };
            judge(reply, &expected, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
        }
    }

    #[test]
    fn only_a_fitting_signed_200_is_done() {
        let case = Case::new();
        let good = case.reply(200, &case.answer(AnswerStatus::Applied, 7));
        assert!(matches!(case.judge(&good, 7, false), Verdict::Done(_)));
        assert!(matches!(case.judge(&good, 6, false), Verdict::Done(_)));
        assert!(matches!(case.judge(&good, 8, false), Verdict::Retry { .. }));
        let mut broken = Vec::new();
        broken.push(Reply { status: 202, ..good.clone() });
        broken.push(Reply { id: "rwb_2".to_owned(), ..good.clone() });
        broken.push(Reply { id: String::new(), ..good.clone() });
        // The answer to another request, signed as it should be.
        let other = sign(std::slice::from_ref(&case.key), "rwb_2", NOW, &good.body);
        broken.push(Reply { id: "rwb_2".to_owned(), signature: other, ..good.clone() });
        broken.push(Reply { timestamp: (NOW - 301).to_string(), ..good.clone() });
        broken.push(Reply {
            signature: sign(&[SigningKey::generate()], "rwb_1", NOW, &good.body),
            ..good.clone()
        });
        broken.push(Reply { body: [&good.body[..], b" "].concat(), ..good.clone() });
        broken.push(case.reply(
            200,
            &Answer { endpoint: "x".to_owned().try_into().unwrap(), ..case.answer(AnswerStatus::Applied, 7) },
        ));
        broken.push(case.reply(
            200,
            &Answer { stream: "x".to_owned().try_into().unwrap(), ..case.answer(AnswerStatus::Applied, 7) },
        ));
        broken.push(case.reply(200, &Answer { rowbridge: 2, ..case.answer(AnswerStatus::Applied, 7) }));
        broken.push(case.reply(200, &Answer { position: None, ..case.answer(AnswerStatus::Applied, 7) }));
        broken.push(case.reply(200, &case.answer(AnswerStatus::Gap, 7)));
        for reply in broken {
            let verdict = case.judge(&reply, 7, false);
            assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
        }
    }

    #[test]
    fn staged_answers_an_open_delivery_exactly() {
        let case = Case::new();
        let staged = Some(Position::new(1, 7, 1));
        let reply = case.reply(200, &Answer { staged, ..case.answer(AnswerStatus::Staged, 3) });
        assert!(matches!(case.judge(&reply, 7, true), Verdict::Staged(_)));
        assert!(matches!(case.judge(&reply, 7, false), Verdict::Retry { .. }));
        assert!(matches!(case.judge(&reply, 6, true), Verdict::Retry { .. }));
        let applied = case.reply(200, &case.answer(AnswerStatus::Applied, 9));
        assert!(matches!(case.judge(&applied, 7, true), Verdict::Done(_)), "committed in an earlier life");
    }

    #[test]
    fn statuses_are_classed_by_the_table() {
        let case = Case::new();
        let kind = |status: u16, signed: Option<AnswerStatus>| {
            let mut reply = case.reply(status, &case.answer(signed.unwrap_or(AnswerStatus::Gap), 3));
            if signed.is_none() {
                reply.signature.clear();
            }
            match case.judge(&reply, 7, false) {
                Verdict::Done(_) => "done",
                Verdict::Staged(_) => "staged",
                Verdict::Rewind(_) => "rewind",
                Verdict::TooLarge => "less",
                Verdict::Retry { .. } => "retry",
                Verdict::Halt(_) => "halt",
                Verdict::Disable(_) => "disable",
            }
        };
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 204, 299, 600, 101] {
            assert_eq!(kind(status, None), "retry", "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 405, 410, 415, 418, 422] {
            assert_eq!(kind(status, None), "halt", "{status}");
        }
        assert_eq!(kind(409, None), "retry");
        assert_eq!(kind(409, Some(AnswerStatus::Gap)), "rewind");
        assert_eq!(kind(409, Some(AnswerStatus::ForeignSource)), "halt");
        assert_eq!(kind(409, Some(AnswerStatus::OldEpoch)), "halt");
        assert_eq!(kind(410, Some(AnswerStatus::Unavailable)), "disable");
        assert_eq!(kind(413, None), "less");
        assert_eq!(kind(422, Some(AnswerStatus::Rejected)), "halt");
        assert_eq!(kind(400, Some(AnswerStatus::Malformed)), "halt");
        assert_eq!(kind(503, Some(AnswerStatus::Unavailable)), "retry");
    }

    #[test]
    fn retry_after_is_passed_on() {
        let case = Case::new();
        let reply = Reply { status: 503, retry_after: Some("17".to_owned()), ..Reply::default() };
        match case.judge(&reply, 7, false) {
            Verdict::Retry { after, .. } => assert_eq!(after, Some(Duration::from_secs(17))),
            other => panic!("{other:?}"),
        }
    }
}
