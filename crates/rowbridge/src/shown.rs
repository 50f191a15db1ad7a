//! Attempts, dead letters, jobs and endpoints as commands show them: a line for people, an object for programs.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_publisher::deliveries::{EndpointRow, Job, JobSpec, Letter, Recorded};
use serde::Serialize;

use crate::moment::Moment;

/// One line of JSON. The keys stand in the order of the fields.
pub(crate) fn json(value: &impl Serialize) -> String {
    // Nothing here can fail to be JSON: no maps, no foreign types.
    serde_json::to_string(value).unwrap_or_default()
}

/// Bytes as text where they are text.
#[derive(Debug, Serialize)]
pub(crate) struct Bytes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> Bytes<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: Some(text), base64: None },
            Err(_) => Self { text: None, base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ShownAttempt<'a> {
    id: i64,
    started_at: Moment,
    endpoint: &'a str,
    outcome: &'static str,
    status: Option<u16>,
    attempt: u32,
    origin: &'static str,
    webhook_id: &'a str,
    event: &'a str,
    events: u32,
    position: Option<String>,
    table: Option<&'a str>,
    error_class: Option<&'a str>,
    error: Option<&'a str>,
    dns_us: Option<u64>,
    connect_us: Option<u64>,
    tls_us: Option<u64>,
    first_byte_us: Option<u64>,
    total_us: u64,
    request_bytes: u64,
    response: Bytes<'a>,
}

impl<'a> ShownAttempt<'a> {
    pub(crate) fn of(recorded: &'a Recorded) -> Self {
        let attempt = &recorded.attempt;
        Self {
            id: recorded.id,
            started_at: Moment(attempt.started_at_ms),
            endpoint: attempt.endpoint.as_str(),
            outcome: attempt.outcome.name(),
            status: attempt.status,
            attempt: attempt.attempt,
            origin: attempt.origin.name(),
            webhook_id: &attempt.webhook_id,
            event: attempt.event(),
            events: attempt.events,
            position: attempt.position.map(|position| position.to_string()),
            table: attempt.table.as_deref(),
            error_class: attempt.class.as_deref(),
            error: attempt.error.as_deref(),
            dns_us: attempt.timings.dns_us,
            connect_us: attempt.timings.connect_us,
            tls_us: attempt.timings.tls_us,
            first_byte_us: attempt.timings.first_byte_us,
            total_us: attempt.timings.total_us,
            request_bytes: attempt.request_bytes,
            response: Bytes::of(&attempt.excerpt),
        }
    }

    pub(crate) fn json(&self) -> String {
        json(self)
    }

    /// `dns 1.0 ms, connect 0.3 ms, first byte 12.0 ms, total 13.5 ms`
    pub(crate) fn timings(&self) -> String {
        let phases = [
            ("dns", self.dns_us),
            ("connect", self.connect_us),
            ("tls", self.tls_us),
            ("first byte", self.first_byte_us),
            ("total", Some(self.total_us)),
        ];
        let shown = phases.iter().filter_map(|(name, us)| us.map(|us| format!("{name} {}", millis(us))));
        shown.collect::<Vec<_>>().join(", ")
    }
}

fn millis(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

impl fmt::Display for ShownAttempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        write!(f, "{}  {}  {}  {status}  ", self.started_at, self.endpoint, self.outcome)?;
        write!(f, "{}  attempt {}  {}", millis(self.total_us), self.attempt, self.event)?;
        if self.events > 1 {
            write!(f, " and {} more", self.events - 1)?;
        }
        if self.origin != "stream" {
            write!(f, "  ({})", self.origin)?;
        }
        self.error.map_or(Ok(()), |error| write!(f, "  {}", one_line(error)))
    }
}

/// What came from outside stays on its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Debug, Serialize)]
pub(crate) struct ShownLetter<'a> {
    id: i64,
    state: &'static str,
    endpoint: &'a str,
    dead_at: Moment,
    first_at: Moment,
    done_at: Option<Moment>,
    attempts: u32,
    status: Option<u16>,
    error_class: Option<&'a str>,
    reason: &'a str,
    webhook_id: &'a str,
    event: &'a str,
    events: u32,
    position: String,
    table: Option<&'a str>,
    op: Option<&'a str>,
    key: Option<&'a str>,
    job: Option<i64>,
    content_type: &'a str,
    headers: &'a [(String, String)],
    body_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Bytes<'a>>,
}

impl<'a> ShownLetter<'a> {
    pub(crate) fn of(letter: &'a Letter, with_body: bool) -> Self {
        let Letter { id, letter, body_bytes, state, job, done_at_ms } = letter;
        Self {
            id: *id,
            state: state.name(),
            endpoint: letter.endpoint.as_str(),
            dead_at: Moment(letter.dead_at_ms),
            first_at: Moment(letter.first_at_ms),
            done_at: done_at_ms.map(Moment),
            attempts: letter.attempts,
            status: letter.status,
            error_class: letter.class.as_deref(),
            reason: &letter.reason,
            webhook_id: &letter.webhook_id,
            event: &letter.event,
            events: letter.events,
            position: letter.position.to_string(),
            table: letter.table.as_deref(),
            op: letter.op.as_deref(),
            key: letter.key.as_deref(),
            job: *job,
            content_type: &letter.content_type,
            headers: &letter.headers,
            body_bytes: *body_bytes,
            body: with_body.then(|| Bytes::of(&letter.body)),
        }
    }

    pub(crate) fn json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for ShownLetter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}  {}  {}  ", self.id, self.state, self.dead_at, self.endpoint)?;
        write!(f, "{} {}  ", self.op.unwrap_or("events"), self.table.unwrap_or("several tables"))?;
        let attempts = if self.attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "{} {attempts}  {}", self.attempts, one_line(self.reason))
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ShownJob<'a> {
    id: i64,
    kind: &'static str,
    endpoint: &'a str,
    state: &'static str,
    sent: u64,
    failed: u64,
    total: Option<u64>,
    position: Option<String>,
    created_at: Moment,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
    error: Option<&'a str>,
    spec: &'a JobSpec,
}

impl<'a> ShownJob<'a> {
    pub(crate) fn of(job: &'a Job) -> Self {
        Self {
            id: job.id,
            kind: job.spec.kind(),
            endpoint: job.endpoint.as_str(),
            state: job.state.name(),
            sent: job.progress.sent,
            failed: job.progress.failed,
            total: job.progress.total,
            position: job.progress.position.map(|position| position.to_string()),
            created_at: Moment(job.created_at_ms),
            started_at: job.started_at_ms.map(Moment),
            finished_at: job.finished_at_ms.map(Moment),
            error: job.error.as_deref(),
            spec: &job.spec,
        }
    }

    pub(crate) fn json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for ShownJob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}  {}  {}  {} sent", self.kind, self.id, self.endpoint, self.state, self.sent)?;
        if let Some(total) = self.total {
            write!(f, " of {total}")?;
        }
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if let Some(position) = &self.position {
            write!(f, "  at {position}")?;
        }
        self.error.map_or(Ok(()), |error| write!(f, "  {}", one_line(error)))
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ShownEndpoint<'a> {
    name: &'a str,
    state: &'static str,
    paused_at: Option<Moment>,
    disabled_at: Option<Moment>,
    disabled_reason: Option<&'a str>,
    failing_since: Option<Moment>,
    breaker_open_since: Option<Moment>,
    last_success_at: Option<Moment>,
    last_failure_at: Option<Moment>,
    last_error: Option<&'a str>,
    dead_letters: u64,
}

impl<'a> ShownEndpoint<'a> {
    pub(crate) fn of(row: &'a EndpointRow, dead_letters: u64) -> Self {
        let state = match row {
            EndpointRow { disabled_at_ms: Some(_), .. } => "disabled",
            EndpointRow { paused_at_ms: Some(_), .. } => "paused",
            EndpointRow { breaker_open_since_ms: Some(_), .. } => "breaker_open",
            EndpointRow { failing_since_ms: Some(_), .. } => "failing",
            _ => "active",
        };
        Self {
            name: row.name.as_str(),
            state,
            paused_at: row.paused_at_ms.map(Moment),
            disabled_at: row.disabled_at_ms.map(Moment),
            disabled_reason: row.disabled_reason.as_deref(),
            failing_since: row.failing_since_ms.map(Moment),
            breaker_open_since: row.breaker_open_since_ms.map(Moment),
            last_success_at: row.last_success_at_ms.map(Moment),
            last_failure_at: row.last_failure_at_ms.map(Moment),
            last_error: row.last_error.as_deref(),
            dead_letters,
        }
    }

    pub(crate) fn json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for ShownEndpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.name, self.state)?;
        let since = match self.state {
            "disabled" => self.disabled_at,
            "paused" => self.paused_at,
            "breaker_open" => self.breaker_open_since,
            _ => self.failing_since,
        };
        if let Some(since) = since {
            write!(f, " since {since}")?;
        }
        if let Some(reason) = self.disabled_reason.or(self.last_error.filter(|_| self.state != "active")) {
            write!(f, ": {}", one_line(reason))?;
        }
        match self.last_success_at {
            Some(at) => write!(f, "  last success {at}")?,
            None => write!(f, "  no success yet")?,
        }
        match self.dead_letters {
            0 => Ok(()),
            1 => write!(f, "  1 dead letter"),
            many => write!(f, "  {many} dead letters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_publisher::deliveries::{
        Attempt, JobState, LetterState, NewLetter, Origin, Outcome, Progress, Replay, Timings,
    };
    use rowbridge_schema::Position;

    use super::*;

    // What programs read: a change here is a change for them.

    #[test]
    fn attempts() {
        let attempt = Attempt {
            endpoint: "crm".parse().unwrap(),
            webhook_id: "shop:00000001-000000000000000000000007-0000000001".into(),
            event: None,
            events: 1,
            position: Some(Position::new(1, 7, 1)),
            table: Some("public.orders".into()),
            attempt: 2,
            started_at_ms: 1_777_636_800_500,
            outcome: Outcome::Retry,
            status: Some(503),
            class: Some("status_5xx".into()),
            error: Some("answered 503\nService Unavailable".into()),
            timings: Timings { first_byte_us: Some(900), total_us: 12_345, ..Timings::default() },
            excerpt: b"later".to_vec(),
            request_bytes: 512,
            origin: Origin::Replay,
        };
        let recorded = Recorded { id: 3, attempt };
        let shown = ShownAttempt::of(&recorded);
        assert_eq!(
            shown.json(),
            concat!(
                r#"{"id":3,"started_at":"2026-05-01T12:00:00.500Z","endpoint":"crm","outcome":"retry","status":503,"#,
                r#""attempt":2,"origin":"replay","webhook_id":"shop:00000001-000000000000000000000007-0000000001","#,
                r#""event":"shop:00000001-000000000000000000000007-0000000001","events":1,"#,
                r#""position":"00000001-000000000000000000000007-0000000001","table":"public.orders","#,
                r#""error_class":"status_5xx","error":"answered 503\nService Unavailable","dns_us":null,"#,
                r#""connect_us":null,"tls_us":null,"first_byte_us":900,"total_us":12345,"request_bytes":512,"#,
                r#""response":{"text":"later"}}"#
            )
        );
        assert_eq!(
            shown.to_string(),
            "2026-05-01T12:00:00.500Z  crm  retry  503  12.3 ms  attempt 2  \
             shop:00000001-000000000000000000000007-0000000001  (replay)  answered 503 Service Unavailable"
        );
        assert_eq!(shown.timings(), "first byte 0.9 ms, total 12.3 ms");
    }

    #[test]
    fn letters() {
        let letter = NewLetter {
            endpoint: "crm".parse().unwrap(),
            webhook_id: "msg_1".into(),
            event: "shop:x".into(),
            events: 1,
            position: Position::new(1, 7, 1),
            table: Some("public.orders".into()),
            op: Some("insert".into()),
            key: Some(r#"{"id":7}"#.into()),
            content_type: "application/json".into(),
            headers: vec![("ce-id".into(), "1".into())],
            body: vec![0xff, 0],
            source: None,
            class: Some("status_4xx".into()),
            reason: "answered 422".into(),
            status: Some(422),
            attempts: 1,
            first_at_ms: 0,
            dead_at_ms: 5,
        };
        let letter =
            Letter { id: 4, letter, body_bytes: 2, state: LetterState::Dead, job: None, done_at_ms: None };
        let head = concat!(
            r#"{"id":4,"state":"dead","endpoint":"crm","dead_at":"1970-01-01T00:00:00.005Z","#,
            r#""first_at":"1970-01-01T00:00:00.000Z","done_at":null,"attempts":1,"status":422,"#,
            r#""error_class":"status_4xx","reason":"answered 422","webhook_id":"msg_1","event":"shop:x","events":1,"#,
            r#""position":"00000001-000000000000000000000007-0000000001","table":"public.orders","op":"insert","#,
            r#""key":"{\"id\":7}","job":null,"content_type":"application/json","headers":[["ce-id","1"]],"#,
            r#""body_bytes":2"#
        );
        assert_eq!(ShownLetter::of(&letter, false).json(), format!("{head}}}"));
        assert_eq!(ShownLetter::of(&letter, true).json(), format!(r#"{head},"body":{{"base64":"/wA="}}}}"#));
        assert_eq!(
            ShownLetter::of(&letter, false).to_string(),
            "4  dead  1970-01-01T00:00:00.005Z  crm  insert public.orders  1 attempt  answered 422"
        );
    }

    #[test]
    fn jobs_and_endpoints() {
        let job = Job {
            id: 2,
            endpoint: "crm".parse().unwrap(),
            spec: JobSpec::Replay(Replay { since_ms: Some(1), per_second: Some(50), ..Replay::default() }),
            state: JobState::Running,
            created_at_ms: 0,
            started_at_ms: Some(1),
            finished_at_ms: None,
            progress: Progress { position: None, sent: 3, failed: 1, total: Some(9) },
            attempt: None,
            error: None,
        };
        assert_eq!(
            ShownJob::of(&job).json(),
            concat!(
                r#"{"id":2,"kind":"replay","endpoint":"crm","state":"running","sent":3,"failed":1,"total":9,"#,
                r#""position":null,"created_at":"1970-01-01T00:00:00.000Z","started_at":"1970-01-01T00:00:00.001Z","#,
                r#""finished_at":null,"error":null,"spec":{"kind":"replay","from":null,"to":null,"since_ms":1,"#,
                r#""until_ms":null,"per_second":50,"tables":[]}}"#
            )
        );
        assert_eq!(ShownJob::of(&job).to_string(), "replay 2  crm  running  3 sent of 9, 1 failed");
        let mut row = EndpointRow::new("crm".parse().unwrap());
        assert_eq!(ShownEndpoint::of(&row, 0).to_string(), "crm  active  no success yet");
        row.disabled_at_ms = Some(5);
        row.disabled_reason = Some("answered 410".into());
        row.last_success_at_ms = Some(1);
        assert_eq!(
            ShownEndpoint::of(&row, 2).json(),
            concat!(
                r#"{"name":"crm","state":"disabled","paused_at":null,"disabled_at":"1970-01-01T00:00:00.005Z","#,
                r#""disabled_reason":"answered 410","failing_since":null,"breaker_open_since":null,"#,
                r#""last_success_at":"1970-01-01T00:00:00.001Z","last_failure_at":null,"last_error":null,"#,
                r#""dead_letters":2}"#
            )
        );
        assert_eq!(
            ShownEndpoint::of(&row, 2).to_string(),
            "crm  disabled since 1970-01-01T00:00:00.005Z: answered 410  last success 1970-01-01T00:00:00.001Z  \
             2 dead letters"
        );
    }
}
