//! What is remembered over all requests, and the one place that prints them: in the order in which they were complete.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use rowbridge_schema::signature::HEADER_ID;
use rowbridge_schema::wire::Answer;

use super::behave::{Behavior, Plan};
use super::content::Content;
use super::lanes::Lanes;
use super::line;
use super::options::Options;
use super::render::Style;
use super::request::{Head, Request};
use super::seen::Seen;
use super::signature::{Verdict, delivery_id};
use super::summary::Summary;
use crate::failure::Failure;
use crate::output;

const BRIDGE_HINT: &str = "hint: this is a delivery of the format bridge. Its publisher takes only a 200 that is signed \
    with the endpoint's secret: start listen with that --secret, and it answers as a subscriber that applies everything";

/// A request that is complete, or refused before it was.
#[derive(Debug)]
pub(super) struct Complete<'a> {
    pub(super) head: &'a Head,
    pub(super) verdict: &'a Verdict,
    pub(super) wire_bytes: u64,
    pub(super) note: Option<&'a str>,
    pub(super) content: &'a Content<'a>,
    /// Refused: not a delivery, so it is not counted towards `--count` and no dice are thrown.
    pub(super) refused: Option<StatusCode>,
}

/// What is to be done with it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) number: u64,
    pub(super) plan: Plan,
    /// The answer's body, where one is expected.
    pub(super) answer: Option<Answer>,
    /// It was the last of `--count`.
    pub(super) is_last: bool,
}

/// Everything that lasts from one request to the next. Bounded, see [`Seen`] and [`Lanes`].
#[derive(Debug)]
pub(super) struct Recorder {
    json: bool,
    style: Style,
    max_body: u64,
    count: Option<u64>,
    can_sign: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    seen: Seen,
    behavior: Behavior,
    lanes: Lanes,
    summary: Summary,
    deliveries: u64,
    hinted: bool,
}

impl Recorder {
    pub(super) fn new(options: &Options) -> Self {
        let state = State {
            seen: Seen::new(),
            behavior: Behavior::new(options.answers.clone()),
            lanes: Lanes::default(),
            summary: Summary::default(),
            deliveries: 0,
            hinted: false,
        };
        Self {
            json: options.json,
            style: Style { colors: !options.json && output::takes_colors(), full: options.full },
            max_body: options.max_body,
            count: options.count,
            can_sign: options.verifier.can_sign(),
            state: Mutex::new(state),
        }
    }

    /// Counts and prints one request. `None` if `--count` has been reached: then it is not answered.
    ///
    /// # Errors
    /// Nobody reads standard output.
    pub(super) fn record(&self, complete: &Complete<'_>) -> Result<Option<Decision>, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let is_delivery = complete.refused.is_none();
        if self.count.is_some_and(|count| state.deliveries >= count) {
            return Ok(None);
        }
        state.deliveries += u64::from(is_delivery);
        let plan = match complete.refused {
            None => state.behavior.next(),
            Some(status) => Plan { status: Some(status), ..Plan::default() },
        };
        let id = delivery_id(&complete.head.headers).filter(|_| is_delivery);
        let id = id.map(|id| (id, state.seen.attempt(id)));
        state.summary.requests += 1;
        match id {
            Some((_, 1)) => state.summary.distinct += 1,
            Some(_) => state.summary.repeats += 1,
            None => {}
        }
        state.summary.bad_signatures += u64::from(complete.verdict.is_bad());
        match plan.status {
            Some(status) => *state.summary.by_status.entry(status.as_u16()).or_default() += 1,
            None => state.summary.dropped += 1,
        }
        let answer = complete.content.bridge.as_ref().zip(plan.status).and_then(|(head, status)| {
            // What cannot be signed under the request's id, or comes from nobody known, gets the bare status.
            let is_known =
                *complete.verdict == Verdict::Holds && complete.head.headers.contains_key(HEADER_ID);
            (is_known && self.can_sign).then(|| state.lanes.answer(head, status, self.max_body))
        });
        let request = Request {
            head: complete.head,
            number: state.summary.requests,
            id,
            verdict: complete.verdict,
            wire_bytes: complete.wire_bytes,
            note: complete.note,
            content: complete.content,
            plan,
        };
        match self.json {
            true => output::line(line::request(&request))?,
            false => output::text(&self.style.request(&request))?,
        }
        if complete.content.bridge.is_some()
            && answer.is_none()
            && !std::mem::replace(&mut state.hinted, true)
        {
            output::say(BRIDGE_HINT);
        }
        let is_last = is_delivery && self.count == Some(state.deliveries);
        Ok(Some(Decision { number: request.number, plan, answer, is_last }))
    }

    /// Prints what was counted.
    ///
    /// # Errors
    /// Nobody reads standard output.
    pub(super) fn summarize(&self) -> Result<(), Failure> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        output::line(if self.json { state.summary.json() } else { state.summary.text() })
    }
}
