//! What an apply came to, as a signed answer.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use rowbridge_schema::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, sign};
use rowbridge_schema::wire::{Answer, AnswerStatus, DeliveryHead, WIRE_VERSION};
use rowbridge_schema::{Class, EndpointName, Position, SigningKey, StreamName};

use crate::apply::Applied;
use crate::lanes::{LaneError, LaneOutcome};

const FORMATS: [&str; 1] = ["bridge"];
const ENCODINGS: [&str; 2] = ["zstd", "gzip"];
/// What an answer that has no lane says, because the body could not be read.
const NO_ENDPOINT: &str = "unknown";
/// Seconds to wait before the next attempt, where nobody knows better.
const RETRY_SECONDS: u64 = 1;

/// An answer before it is signed.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) http: StatusCode,
    pub(crate) answer: Answer,
    retry_after_seconds: Option<u64>,
}

/// Whose lane an answer is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneRef<'a> {
    pub(crate) stream: &'a StreamName,
    /// `None` if the body did not say.
    pub(crate) endpoint: Option<&'a EndpointName>,
    /// The route's bound.
    pub(crate) max_body: u64,
}

impl Verdict {
    fn new(lane: LaneRef<'_>, http: StatusCode, status: AnswerStatus, position: Option<Position>) -> Self {
        let endpoint = lane.endpoint.cloned();
        let endpoint = endpoint.unwrap_or_else(|| NO_ENDPOINT.parse().expect("the constant is a valid name"));
        let answer = Answer {
            rowbridge: WIRE_VERSION,
            stream: lane.stream.clone(),
            endpoint,
            status,
            position,
            staged: None,
            formats: FORMATS.map(str::to_owned).to_vec(),
            encodings: ENCODINGS.map(str::to_owned).to_vec(),
            max_body: Some(lane.max_body),
            message: None,
            failing: Vec::new(),
        };
        Self { http, answer, retry_after_seconds: None }
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.answer.message = Some(message.into());
        self
    }

    fn conflict(lane: LaneRef<'_>, status: AnswerStatus, position: Option<Position>) -> Self {
        Self::new(lane, StatusCode::CONFLICT, status, position)
    }

    fn unavailable(lane: LaneRef<'_>, retry_after_seconds: u64, message: impl Into<String>) -> Self {
        let verdict = Self::new(lane, StatusCode::SERVICE_UNAVAILABLE, AnswerStatus::Unavailable, None);
        Self { retry_after_seconds: Some(retry_after_seconds), ..verdict.message(message) }
    }

    /// The body is not a delivery for this route: 400.
    pub(crate) fn malformed(lane: LaneRef<'_>, message: impl Into<String>) -> Self {
        Self::new(lane, StatusCode::BAD_REQUEST, AnswerStatus::Malformed, None).message(message)
    }

    /// The body inflates to more than the route takes: 413.
    pub(crate) fn too_large(lane: LaneRef<'_>, message: impl Into<String>) -> Self {
        Self::new(lane, StatusCode::PAYLOAD_TOO_LARGE, AnswerStatus::Malformed, None).message(message)
    }

    /// What the lane said.
    pub(crate) fn of(
        lane: LaneRef<'_>,
        head: &DeliveryHead,
        outcome: Result<LaneOutcome, LaneError>,
    ) -> Self {
        let applied = match outcome {
            Ok(LaneOutcome::Handshake { position }) => {
                return Self::new(lane, StatusCode::OK, AnswerStatus::Applied, position);
            }
            Ok(LaneOutcome::Applied(applied)) => applied,
            Err(error) => return Self::of_error(lane, &error),
        };
        match applied {
            Applied::Committed { position, .. } => {
                Self::new(lane, StatusCode::OK, AnswerStatus::Applied, Some(position))
            }
            Applied::Staged { position, staged, .. } => {
                let mut verdict = Self::new(lane, StatusCode::OK, AnswerStatus::Staged, position);
                verdict.answer.staged = Some(staged);
                verdict
            }
            Applied::Gap { position } => {
                let message = match position {
                    Some(position) => {
                        format!(
                            "the delivery begins beyond {position}, up to where this target has committed"
                        )
                    }
                    None => "this target has never heard of this lane: begin at the beginning".to_owned(),
                };
                Self::conflict(lane, AnswerStatus::Gap, position).message(message)
            }
            Applied::ForeignSource { expected, position } => {
                let message = format!(
                    "this lane belongs to source {expected}, the delivery comes from source {}: two databases \
                     cannot share a stream; give one of the publishers another `publisher.stream`, or remove the \
                     lane from this target and take a new snapshot",
                    head.source
                );
                Self::conflict(lane, AnswerStatus::ForeignSource, Some(position)).message(message)
            }
            Applied::OldEpoch { position } => {
                let message = format!(
                    "this target has reached epoch {}, the delivery is older: a publisher of a former primary is \
                     still sending; stop it",
                    position.epoch
                );
                Self::conflict(lane, AnswerStatus::OldEpoch, Some(position)).message(message)
            }
            Applied::Rejected { position, failing } => {
                let mut verdict =
                    Self::new(lane, StatusCode::UNPROCESSABLE_ENTITY, AnswerStatus::Rejected, position)
                        .message("the target cannot take a change; nothing of this delivery was applied");
                verdict.answer.failing = failing;
                verdict
            }
        }
    }

    fn of_error(lane: LaneRef<'_>, error: &LaneError) -> Self {
        let message = error.to_string();
        match error {
            LaneError::Busy | LaneError::TooMany { .. } => Self::unavailable(lane, RETRY_SECONDS, message),
            LaneError::Target(failure) => match failure.class {
                Class::Retryable { after } => {
                    let seconds = after.map_or(RETRY_SECONDS, |after| after.as_secs().max(RETRY_SECONDS));
                    Self::unavailable(lane, seconds, message)
                }
                Class::Permanent => {
                    Self::new(lane, StatusCode::UNPROCESSABLE_ENTITY, AnswerStatus::Rejected, None)
                        .message(message)
                }
            },
        }
    }

    /// Signs the answer under the request's own id.
    pub(crate) fn into_response(
        self,
        keys: &[SigningKey],
        id: &HeaderValue,
        now_seconds: u64,
    ) -> Response<Full<Bytes>> {
        let body = serde_json::to_vec(&self.answer).expect("an answer holds only names and positions");
        let signature = sign(keys, id.to_str().unwrap_or_default(), now_seconds, &body);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static(HEADER_ID), id.clone());
        headers.insert(HeaderName::from_static(HEADER_TIMESTAMP), HeaderValue::from(now_seconds));
        if let Ok(value) = HeaderValue::from_str(&signature) {
            headers.insert(HeaderName::from_static(HEADER_SIGNATURE), value);
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
