//! A request for programs: one JSON object on one line. `docs/listen.md` lists the members.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_schema::signature::VerifyError;
use serde::Serialize;
use serde_json::value::RawValue;

use super::clock;
use super::content::Shown;
use super::json;
use super::request::Request;
use super::signature::Verdict;

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    number: u64,
    time: String,
    peer: String,
    method: &'a str,
    path: &'a str,
    content_type: Option<String>,
    webhook_id: Option<&'a str>,
    attempt: Option<u64>,
    signature: Signature,
    /// `null`: closed without an answer.
    status: Option<u16>,
    delay_ms: u128,
    bytes: u64,
    note: Option<&'a str>,
    format: &'static str,
    summary: &'a [String],
    headers: Vec<(&'a str, String)>,
    body_is: &'static str,
    body: Body<'a>,
}

#[derive(Serialize)]
struct Signature {
    verdict: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_seconds: Option<i64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    None(()),
    Json(Box<RawValue>),
    Text(&'a str),
    Base64(String),
}

/// Without a line break at its end.
pub(super) fn request(request: &Request<'_>) -> String {
    let head = request.head;
    let skew_seconds = match request.verdict {
        Verdict::Wrong(VerifyError::Stale { skew_seconds }) => Some(*skew_seconds),
        _ => None,
    };
    let (body_is, body) = match request.content.shown {
        Shown::Empty => ("empty", Body::None(())),
        // What was valid is valid on one line; were it not, the text is still told.
        Shown::Json(text) => match RawValue::from_string(json::compact(text)) {
            Ok(raw) => ("json", Body::Json(raw)),
            Err(_) => ("text", Body::Text(text)),
        },
        Shown::Text(text) => ("text", Body::Text(text)),
        Shown::Binary(bytes) => ("base64", Body::Base64(STANDARD.encode(bytes))),
    };
    let line = Line {
        event: "request",
        number: request.number,
        time: clock::rfc3339(head.at),
        peer: head.peer.to_string(),
        method: &head.method,
        path: &head.target,
        content_type: head.content_type(),
        webhook_id: request.id.map(|(id, _)| id),
        attempt: request.id.map(|(_, attempt)| attempt),
        signature: Signature { verdict: request.verdict.name(), text: request.verdict.text(), skew_seconds },
        status: request.plan.status.map(|status| status.as_u16()),
        delay_ms: request.plan.delay.as_millis(),
        bytes: request.wire_bytes,
        note: request.note,
        format: request.content.format,
        summary: &request.content.summary,
        headers: head.shown_headers().collect(),
        body_is,
        body,
    };
    serde_json::to_string(&line).expect("texts, numbers and valid JSON can be written")
}
