//! One request: read in bounds, checked, shown, answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use rowbridge_schema::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP};
use rowbridge_schema::wire::Answer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::clock;
use super::content::{self, Content};
use super::inflate::inflate;
use super::options::Options;
use super::recorder::{Complete, Decision, Recorder};
use super::request::Head;
use super::save::Folder;
use super::signature::Verdict;
use crate::failure::Failure;

/// From the head to the body's last byte.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of bodies that may be held at a time over all connections; at least two of the largest.
const BUFFERED: u64 = 256 << 20;
/// What the budget counts in: a permit per byte would not fit a semaphore on every machine.
const UNIT: u64 = 1024;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
pub(super) struct Closed;

/// An answer, and whether the body may still be on its way.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Full<Bytes>>,
    pub(super) body_unread: bool,
}

/// How the command ends by what a request brings.
#[derive(Debug)]
pub(super) enum End {
    /// `--count` is reached.
    Counted,
    Failed(Failure),
}

/// Receives for all connections.
#[derive(Debug)]
pub(super) struct Receiver {
    options: Options,
    recorder: Recorder,
    folder: Option<Folder>,
    budget: Arc<Semaphore>,
    end: mpsc::UnboundedSender<End>,
}

enum Unread {
    TooLarge,
    Late,
    NoMemory,
    Broken,
}

impl Receiver {
    pub(super) fn new(options: Options, folder: Option<Folder>, end: mpsc::UnboundedSender<End>) -> Self {
        let units = BUFFERED.max(options.max_body.saturating_mul(2)) / UNIT;
        let units = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let recorder = Recorder::new(&options);
        Self { options, recorder, folder, budget: Arc::new(Semaphore::new(units)), end }
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// # Errors
    /// The connection is to be closed.
    pub(super) async fn receive(
        &self,
        peer: SocketAddr,
        request: http::Request<Incoming>,
    ) -> Result<Answered, Closed> {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let head = Head {
            at: SystemTime::now(),
            peer,
            method: parts.method.to_string(),
            target,
            headers: parts.headers,
        };
        if let Some(path) = self.options.path.as_deref().filter(|path| *path != parts.uri.path()) {
            let note = format!("another path than --path {path}");
            return self.refuse(&head, 0, StatusCode::NOT_FOUND, &note);
        }
        let max = self.options.max_body;
        let (status, note) = match self.read(body).await {
            Ok((bytes, _held)) => return self.complete(&head, &bytes).await,
            Err(Unread::TooLarge) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than --max-body ({max} bytes)"))
            }
            Err(Unread::Late) => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the body was not there within {} s", BODY_TIMEOUT.as_secs()),
            ),
            Err(Unread::NoMemory) => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many bodies at a time".to_owned())
            }
            Err(Unread::Broken) => return Err(Closed),
        };
        self.refuse(&head, 0, status, &note)
    }

    /// Memory grows with what arrives, not with what is announced.
    async fn read(&self, mut body: Incoming) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Unread> {
        let max = self.options.max_body;
        if body.size_hint().lower() > max {
            return Err(Unread::TooLarge);
        }
        let deadline = Instant::now() + BODY_TIMEOUT;
        let (mut bytes, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
        loop {
            let frame = match timeout_at(deadline, body.frame()).await {
                Err(_) => return Err(Unread::Late),
                Ok(None) => return Ok((bytes, held)),
                Ok(Some(Err(_))) => return Err(Unread::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() as u64 + data.len() as u64;
            if length > max {
                return Err(Unread::TooLarge);
            }
            let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64;
            let wants = u32::try_from(length.div_ceil(UNIT).saturating_sub(has)).unwrap_or(u32::MAX);
            let more =
                Arc::clone(&self.budget).try_acquire_many_owned(wants).map_err(|_| Unread::NoMemory)?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
    }

    async fn complete(&self, head: &Head, bytes: &[u8]) -> Result<Answered, Closed> {
        let decision = tokio::task::block_in_place(|| self.look(head, bytes));
        let decision = match decision {
            Ok(Some(decision)) => decision,
            Ok(None) => return Err(Closed),
            Err(failure) => {
                let _ = self.end.send(End::Failed(failure));
                return Err(Closed);
            }
        };
        if decision.is_last {
            // What is being answered, this one too, is answered before the end.
            let _ = self.end.send(End::Counted);
        }
        if !decision.plan.delay.is_zero() {
            tokio::time::sleep(decision.plan.delay).await;
        }
        let Some(status) = decision.plan.status else { return Err(Closed) };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        if let Some(seconds) = decision.plan.retry_after_seconds {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some((answer, id)) = decision.answer.zip(head.headers.get(HEADER_ID)) {
            self.sign(&mut response, &answer, id);
        }
        Ok(Answered { response, body_unread: false })
    }

    /// Verifies, inflates, understands, counts, prints and saves.
    fn look(&self, head: &Head, bytes: &[u8]) -> Result<Option<Decision>, Failure> {
        let verdict = self.options.verifier.check(&head.headers, bytes, clock::seconds(head.at));
        let inflated = inflate(&head.headers, bytes, self.options.max_body);
        let note = inflated.as_ref().err().map(ToString::to_string);
        let content = content::read(&head.headers, inflated.as_deref().unwrap_or(bytes));
        let complete = Complete {
            head,
            verdict: &verdict,
            wire_bytes: bytes.len() as u64,
            note: note.as_deref(),
            content: &content,
            refused: None,
        };
        let decision = self.recorder.record(&complete)?;
        if let Some((folder, decision)) = self.folder.as_ref().zip(decision.as_ref()) {
            folder.write(decision.number, head, bytes)?;
        }
        Ok(decision)
    }

    fn refuse(
        &self,
        head: &Head,
        wire_bytes: u64,
        status: StatusCode,
        note: &str,
    ) -> Result<Answered, Closed> {
        let content = Content::nothing();
        let complete = Complete {
            head,
            verdict: &Verdict::Unchecked,
            wire_bytes,
            note: Some(note),
            content: &content,
            refused: Some(status),
        };
        match self.recorder.record(&complete) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Closed),
            Err(failure) => {
                let _ = self.end.send(End::Failed(failure));
                return Err(Closed);
            }
        }
        let mut response = Response::new(Full::from(format!("{note}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(Answered { response, body_unread: true })
    }

    /// Puts a subscriber's answer in, signed under the request's own id.
    fn sign(&self, response: &mut Response<Full<Bytes>>, answer: &Answer, id: &HeaderValue) {
        let body = serde_json::to_vec(answer).expect("an answer holds only names and positions");
        let now = clock::seconds(SystemTime::now());
        let signature = self.options.verifier.sign(id.to_str().unwrap_or_default(), now, &body);
        let Some(signature) = signature.and_then(|text| HeaderValue::from_str(&text).ok()) else { return };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static(HEADER_ID), id.clone());
        headers.insert(HeaderName::from_static(HEADER_TIMESTAMP), HeaderValue::from(now));
        headers.insert(HeaderName::from_static(HEADER_SIGNATURE), signature);
        *response.body_mut() = Full::new(Bytes::from(body));
    }
}
