//! What is answered before a signature has been checked: unsigned, short, and the same to everybody.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use rowbridge_schema::signature::VerifyError;
use tokio::time::Instant;

/// A request that never became a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownPath,
    Method,
    Address,
    TooLarge { max: u64 },
    ContentType,
    ContentEncoding,
    BodyTimeout,
    BodyBroken,
    NoMemory,
    Unauthorized(VerifyError),
    Internal,
}

/// One text for every way in which a signature can be wrong: a difference would help to find the right one.
const UNAUTHORIZED: &str = "not authorized: the signature headers are missing, stale or wrong";

impl Refusal {
    const KINDS: usize = 11;

    fn kind(self) -> usize {
        match self {
            Self::UnknownPath => 0,
            Self::Method => 1,
            Self::Address => 2,
            Self::TooLarge { .. } => 3,
            Self::ContentType => 4,
            Self::ContentEncoding => 5,
            Self::BodyTimeout => 6,
            Self::BodyBroken => 7,
            Self::NoMemory => 8,
            Self::Unauthorized(_) => 9,
            Self::Internal => 10,
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Address => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the sender reads.
    fn text(self) -> String {
        match self {
            Self::UnknownPath => "nothing is received at this path".to_owned(),
            Self::Method => "deliveries are sent with POST".to_owned(),
            Self::Address => "this address may not send here".to_owned(),
            Self::TooLarge { max } => format!("the body is larger than {max} bytes"),
            Self::ContentType => "the content type must be application/json".to_owned(),
            Self::ContentEncoding => "the content encoding must be zstd, gzip or identity".to_owned(),
            Self::BodyTimeout => "the body did not arrive in time".to_owned(),
            Self::BodyBroken => "the body broke off or is framed wrongly".to_owned(),
            Self::NoMemory => "too many bodies are being received, try again".to_owned(),
            Self::Unauthorized(_) => UNAUTHORIZED.to_owned(),
            Self::Internal => "internal error, try again".to_owned(),
        }
    }

    /// What our operator reads.
    fn reason(self) -> String {
        match self {
            Self::Unauthorized(error) => error.to_string(),
            other => other.text(),
        }
    }

    /// Whether the body may still be on its way, so that the connection cannot be used again.
    pub(crate) fn leaves_body_unread(self) -> bool {
        !matches!(self, Self::Unauthorized(_) | Self::Internal)
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "error": self.text() }).to_string();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::Method => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
            Self::ContentEncoding => {
                drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd, gzip")));
            }
            Self::NoMemory => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => {}
        }
        if self.leaves_body_unread() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Lines per kind and [`WINDOW`]: strangers must not be able to fill a disk with our log.
const LINES_PER_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

/// Logs refusals, a bounded number of lines per kind.
#[derive(Debug)]
pub(crate) struct RefusalLog {
    windows: Mutex<[Window; Refusal::KINDS]>,
}

impl RefusalLog {
    pub(crate) fn new() -> Self {
        let window = Window { since: Instant::now(), lines: 0, suppressed: 0 };
        Self { windows: Mutex::new([window; Refusal::KINDS]) }
    }

    /// `client` is `None` where a trusted proxy sent no address.
    pub(crate) fn log(&self, refusal: Refusal, peer: IpAddr, client: Option<IpAddr>, path: &str) {
        let Some(suppressed) = self.admit(refusal, Instant::now()) else { return };
        // A path is the sender's text: escaped and cut.
        let path: String = path.chars().take(200).flat_map(char::escape_default).collect();
        let client = client.map(|client| client.to_string()).unwrap_or_default();
        let (status, reason) = (refusal.status().as_u16(), refusal.reason());
        tracing::info!(%peer, client, path, status, reason, suppressed, "request refused");
    }

    /// How many lines were left out before this one; `None` leaves this one out.
    fn admit(&self, refusal: Refusal, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = &mut windows[refusal.kind()];
        if now.duration_since(window.since) >= WINDOW {
            (window.since, window.lines) = (now, 0);
        }
        if window.lines == LINES_PER_WINDOW {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_a_signature_looks_the_same() {
        let all = [VerifyError::Headers, VerifyError::Stale { skew_seconds: 400 }, VerifyError::Mismatch];
        let texts =
            all.map(|error| (Refusal::Unauthorized(error).status(), Refusal::Unauthorized(error).text()));
        assert!(texts.iter().all(|text| *text == (StatusCode::UNAUTHORIZED, UNAUTHORIZED.to_owned())));
    }

    #[test]
    fn the_log_is_bounded_per_kind_and_says_what_it_left_out() {
        let log = RefusalLog::new();
        let now = Instant::now();
        for _ in 0..LINES_PER_WINDOW {
            assert_eq!(log.admit(Refusal::UnknownPath, now), Some(0));
        }
        assert_eq!(log.admit(Refusal::UnknownPath, now), None);
        assert_eq!(log.admit(Refusal::UnknownPath, now), None);
        assert_eq!(log.admit(Refusal::Method, now), Some(0));
        let later = now + WINDOW;
        assert_eq!(log.admit(Refusal::UnknownPath, later), Some(2));
        assert_eq!(log.admit(Refusal::UnknownPath, later), Some(0));
    }
}
