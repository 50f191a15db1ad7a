//! One request, check by check; see [`Routes::receive`] for the order.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use ipnet::IpNet;
use rowbridge_schema::config::ReceiveConfig;
use rowbridge_schema::wire::{self, Delivery, DeliveryHead, parse_delivery};
use rowbridge_schema::{EndpointName, SigningKey, StreamName};
use serde::Deserialize;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::address::{client_address, is_allowed};
use super::body::{Budget, Encoding, InflateError, ReadError, read_body};
use super::limits::Limits;
use super::refusal::{Refusal, RefusalLog};
use super::server::{Handled, Handler};
use crate::answer::{LaneRef, Verdict};
use crate::apply::{Applied, ApplyTarget};
use crate::lanes::{LaneOutcome, Lanes};
use crate::metrics::SubscriberMetrics;
use crate::verify::{RawDelivery, VerifiedDelivery};

/// From this size on, hashing, inflating and parsing would hold up the other tasks of a runtime thread noticeably.
const HEAVY_BYTES: usize = 256 * 1024;

/// A configured `[[receive]]`.
struct Route {
    stream: StreamName,
    keys: RwLock<Arc<[SigningKey]>>,
    allow_from: Option<Vec<IpNet>>,
    max_body: u64,
    tolerance_seconds: u64,
}

impl Route {
    fn new(config: &ReceiveConfig) -> Self {
        Self {
            stream: config.stream.clone(),
            keys: RwLock::new(config.secrets.clone().into()),
            allow_from: config.allow_from.clone(),
            max_body: config.max_body,
            tolerance_seconds: config.tolerance.as_secs(),
        }
    }

    fn keys(&self) -> Arc<[SigningKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Everything that a request meets on its way to its lane.
pub(crate) struct Routes<T: ApplyTarget> {
    routes: HashMap<String, Arc<Route>>,
    trusted_proxies: Vec<IpNet>,
    lanes: Arc<Lanes<T>>,
    metrics: SubscriberMetrics,
    limits: Limits,
    budget: Arc<Budget>,
    log: RefusalLog,
    /// Deliveries at work. They belong to us and not to their connections: a client that goes away must not interrupt
    /// a transaction.
    work: Mutex<JoinSet<()>>,
}

impl<T: ApplyTarget> Routes<T> {
    pub(crate) fn new(
        receives: &[ReceiveConfig],
        trusted_proxies: Vec<IpNet>,
        lanes: Arc<Lanes<T>>,
        metrics: SubscriberMetrics,
        limits: Limits,
    ) -> Self {
        let largest = receives.iter().map(|receive| receive.max_body).max().unwrap_or(0);
        let budget = Budget::new(limits.max_buffered_bytes.max(largest.saturating_mul(2)));
        Self {
            routes: receives
                .iter()
                .map(|config| (config.path.clone(), Arc::new(Route::new(config))))
                .collect(),
            trusted_proxies,
            lanes,
            metrics,
            limits,
            budget,
            log: RefusalLog::new(),
            work: Mutex::new(JoinSet::new()),
        }
    }

    /// Takes over the secrets of the routes that exist; everything else of a route stays until a restart.
    pub(crate) fn replace_secrets(&self, receives: &[ReceiveConfig]) {
        for config in receives {
            if let Some(route) = self.routes.get(&config.path) {
                *route.keys.write().unwrap_or_else(PoisonError::into_inner) = config.secrets.clone().into();
            }
        }
    }

    /// Waits until `deadline` for deliveries whose clients are gone, then gives up on them: the target rolls back.
    pub(crate) async fn finish_work(&self, deadline: Instant) {
        let mut work = std::mem::take(&mut *self.work.lock().unwrap_or_else(PoisonError::into_inner));
        let done = async { while work.join_next().await.is_some() {} };
        if timeout_at(deadline, done).await.is_err() {
            tracing::warn!(deliveries = work.len(), "deliveries were given up when the grace was over");
        }
        work.shutdown().await;
    }

    /// From the cheapest check to the dearest; nothing that a stranger sends is inflated or parsed.
    async fn receive(
        self: &Arc<Self>,
        peer: IpAddr,
        route: Option<&Arc<Route>>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        // 1. Path and method.
        let route = route.ok_or(Refusal::UnknownPath)?;
        if request.method() != Method::POST {
            return Err(Refusal::Method);
        }
        // 2. Address.
        let client = client_address(peer, request.headers(), &self.trusted_proxies);
        if !is_allowed(client, route.allow_from.as_deref()) {
            return Err(Refusal::Address);
        }
        // 3. What the head says of the body.
        let too_large = Refusal::TooLarge { max: route.max_body };
        if request.body().size_hint().lower() > route.max_body {
            return Err(too_large);
        }
        if !is_json(request.headers()) {
            return Err(Refusal::ContentType);
        }
        let encoding = content_encoding(request.headers()).ok_or(Refusal::ContentEncoding)?;
        // 4. The body's bytes.
        let (head, body) = request.into_parts();
        let deadline = Instant::now() + self.limits.body_timeout;
        let body =
            read_body(body, route.max_body, deadline, &self.budget).await.map_err(|error| match error {
                ReadError::TooLarge => too_large,
                ReadError::Timeout => Refusal::BodyTimeout,
                ReadError::NoMemory => Refusal::NoMemory,
                ReadError::Broken => Refusal::BodyBroken,
            })?;
        // 5. Signature headers, age, signature.
        let keys = route.keys();
        let raw = RawDelivery::new(head.headers, encoding, body);
        let now = seconds_now();
        let verified = heavy(raw.wire_bytes(), || raw.verify(&keys, now, route.tolerance_seconds))
            .map_err(Refusal::Unauthorized)?;
        self.metrics.clock_skew(route.stream.as_str(), verified.sent_seconds() as f64 - now as f64);
        // 6. Everything else, signed from here on.
        let id = verified.id().clone();
        let verdict = self.spawn(Arc::clone(route), verified).await.ok_or(Refusal::Internal)?;
        Ok(verdict.into_response(&keys, &id, seconds_now()))
    }

    /// Runs a delivery to its end, whether or not somebody still waits for the answer. `None` if it panicked.
    async fn spawn(self: &Arc<Self>, route: Arc<Route>, verified: VerifiedDelivery) -> Option<Verdict> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let this = Arc::clone(self);
        // The publisher's log has the same id, so that a delivery can be followed across both ends.
        let delivery_id = verified.id().to_str().unwrap_or_default();
        let span = tracing::info_span!("apply", stream = %route.stream, delivery_id);
        {
            let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            while work.try_join_next().is_some() {}
            let work_of_one = async move {
                // Nobody waits any more: the publisher will ask again and be told the position.
                let _ = answer.send(this.deliver(&route, verified).await);
            };
            work.spawn(work_of_one.instrument(span));
        }
        answered.await.ok()
    }

    async fn deliver(&self, route: &Route, verified: VerifiedDelivery) -> Verdict {
        let nobody = LaneRef { stream: &route.stream, endpoint: None, max_body: route.max_body };
        let expected = verified.expected_bytes();
        let body = match heavy(expected, || verified.into_body(route.max_body)) {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(stream = %route.stream, %error, "delivery refused");
                return match error {
                    InflateError::TooLarge { .. } => Verdict::too_large(nobody, error.to_string()),
                    InflateError::Broken { .. } => Verdict::malformed(nobody, error.to_string()),
                };
            }
        };
        let delivery = match heavy(body.len(), || parse_delivery(&body)) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::warn!(stream = %route.stream, %error, "delivery refused");
                // What can be told of the lane is told, so that the answer reaches the right operator.
                let endpoint = heavy(body.len(), || lane_of(&body));
                return Verdict::malformed(
                    LaneRef { endpoint: endpoint.as_ref(), ..nobody },
                    error.to_string(),
                );
            }
        };
        let head = &delivery.head;
        let lane = LaneRef { stream: &head.stream, endpoint: Some(&head.endpoint), max_body: route.max_body };
        if let Err(error) = check_head(head, &route.stream) {
            tracing::warn!(stream = %route.stream, endpoint = %head.endpoint, %error, "delivery refused");
            return Verdict::malformed(lane, error.to_string());
        }
        let outcome = self.lanes.deliver(&delivery).await;
        match &outcome {
            Ok(outcome) => self.count(&delivery, outcome),
            Err(error) => {
                tracing::warn!(stream = %head.stream, endpoint = %head.endpoint, %error, "delivery not applied");
            }
        }
        Verdict::of(lane, head, outcome)
    }

    fn count(&self, delivery: &Delivery<'_>, outcome: &LaneOutcome) {
        let head = &delivery.head;
        let stream = head.stream.as_str();
        let LaneOutcome::Applied(applied) = outcome else {
            tracing::info!(%stream, endpoint = %head.endpoint, "lane asked for its position");
            return;
        };
        let sent: u64 =
            delivery.blocks.iter().flat_map(|block| &block.runs).map(|run| run.changes() as u64).sum();
        match applied {
            Applied::Committed { position, changes } => {
                self.metrics.changes(stream, "applied", *changes);
                self.metrics.repeated(stream, sent.saturating_sub(*changes));
                if *changes > 0 {
                    let now = micros_now();
                    // A snapshot's rows were committed long ago: their age is not a lag.
                    for block in delivery.blocks.iter().filter(|block| block.head.chunk.is_none()) {
                        self.metrics.visible(stream, block.head.at, now);
                    }
                }
                tracing::debug!(%stream, endpoint = %head.endpoint, %position, changes, "delivery applied");
            }
            Applied::Staged { staged, changes, .. } => {
                self.metrics.changes(stream, "applied", *changes);
                self.metrics.repeated(stream, sent.saturating_sub(*changes));
                tracing::debug!(%stream, endpoint = %head.endpoint, %staged, changes, "delivery staged");
            }
            Applied::Gap { position } => {
                let committed = position.map(|position| position.to_string()).unwrap_or_default();
                tracing::info!(%stream, endpoint = %head.endpoint, committed, "delivery lies beyond a gap");
            }
            Applied::ForeignSource { expected, .. } => {
                tracing::error!(%stream, endpoint = %head.endpoint, source = %head.source, %expected,
                    "delivery of a foreign source refused");
            }
            Applied::OldEpoch { position } => {
                tracing::error!(%stream, endpoint = %head.endpoint, committed = %position,
                    "delivery of an old epoch refused");
            }
            Applied::Rejected { failing, .. } => {
                self.metrics.changes(stream, "rejected", failing.len() as u64);
                // Keys and reasons go to the publisher's operator in the signed answer; the log names places only.
                let table = failing.first().map_or("", |change| change.table.as_str());
                let at = failing.first().map(|change| change.position.to_string()).unwrap_or_default();
                tracing::error!(%stream, endpoint = %head.endpoint, table, at, failing = failing.len(),
                    "delivery rejected by the target");
            }
        }
    }
}

impl<T: ApplyTarget> Handler for Routes<T> {
    async fn handle(self: Arc<Self>, peer: IpAddr, request: Request<Incoming>) -> Handled {
        let started = Instant::now();
        let path = request.uri().path().to_owned();
        let route = self.routes.get(&path).cloned();
        let client = client_address(peer, request.headers(), &self.trusted_proxies);
        let handled = match self.receive(peer, route.as_ref(), request).await {
            Ok(response) => Handled { response, body_unread: false },
            Err(refusal) => {
                self.log.log(refusal, peer, client, &path);
                Handled { response: refusal.response(), body_unread: refusal.leaves_body_unread() }
            }
        };
        let stream = route.as_ref().map(|route| route.stream.as_str());
        self.metrics.answered(stream, handled.response.status(), started.elapsed());
        handled
    }

    fn connections(&self, open: usize) {
        self.metrics.connections(open);
    }
}

/// Why a well-formed delivery does not belong here.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    #[error(
        "this path takes stream {expected}, the delivery belongs to stream {found}: compare `endpoint.url` with \
         `receive.path` and `receive.stream`"
    )]
    Stream { expected: StreamName, found: StreamName },
    #[error("prev and to are either both positions or, in a handshake, both null")]
    Bounds,
    #[error("a delivery is either open or split, not both")]
    OpenAndSplit,
}

pub(super) fn check_head(head: &DeliveryHead, expected: &StreamName) -> Result<(), HeadError> {
    if head.stream != *expected {
        return Err(HeadError::Stream { expected: expected.clone(), found: head.stream.clone() });
    }
    let bounded = match (head.prev, head.to) {
        (Some(prev), Some(to)) => prev <= to,
        (None, None) => !head.open && !head.split,
        _ => false,
    };
    if !bounded {
        return Err(HeadError::Bounds);
    }
    if head.open && head.split {
        return Err(HeadError::OpenAndSplit);
    }
    Ok(())
}

/// The endpoint of a delivery that cannot be read as a whole, for example because its wire is newer.
pub(super) fn lane_of(body: &[u8]) -> Option<EndpointName> {
    #[derive(Deserialize)]
    struct EndpointOnly {
        endpoint: EndpointName,
    }
    serde_json::from_slice::<EndpointOnly>(body).ok().map(|head| head.endpoint)
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(wire::CONTENT_TYPE)
}

pub(super) fn content_encoding(headers: &HeaderMap) -> Option<Encoding> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(value), None) => match value.to_str().ok()?.trim().to_ascii_lowercase().as_str() {
            "identity" | "" => Some(Encoding::Identity),
            "zstd" => Some(Encoding::Zstd),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            _ => None,
        },
        _ => None,
    }
}

/// Runs `f` where it does not hold up other tasks, if it is going to take its time.
fn heavy<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
    let many_threads = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if bytes > HEAVY_BYTES && many_threads() { block_in_place(f) } else { f() }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds_now() -> u64 {
    since_epoch().as_secs()
}

fn micros_now() -> i64 {
    i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX)
}
