//! The store as a whole: bounds, kills, several processes, jobs.

mod bounds;
mod claims;
mod endpoints;
mod kill;
mod log;

use rowbridge_schema::{EndpointName, Position};

use super::{Attempt, NewLetter, Origin, Outcome, Timings};

pub(super) fn name(name: &str) -> EndpointName {
    name.parse().unwrap()
}

/// The attempt that delivers (or not) change `number`, begun at `number` milliseconds.
pub(super) fn attempt(endpoint: &str, number: u64, outcome: Outcome) -> Attempt {
    let position = Position::new(1, number, 1);
    let failed = outcome != Outcome::Delivered;
    Attempt {
        endpoint: name(endpoint),
        webhook_id: format!("shop:{position}"),
        event: None,
        events: 1,
        position: Some(position),
        table: Some("public.orders".into()),
        attempt: 1,
        started_at_ms: number as i64,
        outcome,
        status: Some(if failed { 503 } else { 204 }),
        class: failed.then(|| "status_5xx".into()),
        error: failed.then(|| "answered 503 Service Unavailable".into()),
        timings: Timings { total_us: 1_234, first_byte_us: Some(900), ..Timings::default() },
        excerpt: if failed { b"come back later".to_vec() } else { Vec::new() },
        request_bytes: 512,
        origin: Origin::Stream,
    }
}

/// The dead letter of change `number`.
pub(super) fn letter(endpoint: &str, number: u64, body: &[u8]) -> NewLetter {
    let position = Position::new(1, number, 1);
    let id = format!("shop:{position}");
    NewLetter {
        endpoint: name(endpoint),
        webhook_id: id.clone(),
        event: id,
        events: 1,
        position,
        table: Some("public.orders".into()),
        op: Some("insert".into()),
        key: Some(format!("{{\"id\":{number}}}")),
        content_type: "application/json".into(),
        headers: vec![("x-shop".into(), "1".into())],
        body: body.to_vec(),
        source: None,
        class: Some("status_4xx".into()),
        reason: "answered 422 Unprocessable Entity".into(),
        status: Some(422),
        attempts: 1,
        first_at_ms: number as i64,
        dead_at_ms: number as i64 + 5,
    }
}
