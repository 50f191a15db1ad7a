//! What an endpoint that is not a Rowbridge subscriber may be told: format, order, rate, retries.

use std::time::Duration;

use super::defaults;
use super::request::{RequestConfig, Templated};
use crate::event::EventOp;
use crate::event::shape::ShapeConfig;
use crate::expr::Program;

/// How events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// One plain JSON object.
    Json,
    /// CloudEvents 1.0.
    CloudEvents(CloudEventsMode),
    /// Debezium's envelope.
    Debezium,
    /// One XML element.
    Xml,
    /// The operator's own text.
    Template,
}

impl EventFormat {
    /// As `format` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::CloudEvents(_) => "cloudevents",
            Self::Debezium => "debezium",
            Self::Xml => "xml",
            Self::Template => "template",
        }
    }
}

/// Where a CloudEvent's attributes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudEventsMode {
    /// In the body, beside the data (default).
    Structured,
    /// In headers; the body is the data.
    Binary,
    /// In the body, a list of events.
    Batch,
}

/// Which events may overtake others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// None: one request at a time, in commit order (default).
    Strict,
    /// Those of other rows: in order within a key.
    Key,
    /// All.
    None,
}

/// Most requests in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests, at least 1.
    pub count: u32,
    /// In so long.
    pub per: Duration,
}

/// Most that one request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Events, at least 1.
    pub max_events: usize,
    /// Bytes of all bodies, unless one alone is larger.
    pub max_bytes: usize,
    /// How long a batch that is not full waits for more.
    pub max_wait: Duration,
}

/// Waits between attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetrySchedule {
    /// Doubling, with full jitter.
    Exponential {
        /// Most that the first wait may take.
        first: Duration,
        /// Most that any wait may take.
        max: Duration,
    },
    /// These, and then no more.
    List(Vec<Duration>),
}

/// What becomes of an event that fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPermanentError {
    /// It is set aside, and the lane goes on (default).
    DeadLetter,
    /// The lane waits for a person and asks again every minute.
    Halt,
}

/// How events are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookPolicy {
    /// Events per request.
    pub batch: Batch,
    /// Which may overtake others.
    pub order: Order,
    /// Requests under way at a time.
    pub concurrency: usize,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Waits between attempts.
    pub retry: RetrySchedule,
    /// Statuses that are tried again although they are permanent errors by themselves.
    pub retry_on: Vec<u16>,
    /// An event that fails when it is older than this is given up; `None`: never.
    pub max_age: Option<Duration>,
    /// What becomes of an event that fails for good.
    pub on_permanent_error: OnPermanentError,
}

impl Default for WebhookPolicy {
    fn default() -> Self {
        Self {
            batch: Batch { max_events: 1, max_bytes: defaults::BATCH_MAX_BYTES, max_wait: Duration::ZERO },
            order: Order::Strict,
            concurrency: 1,
            rate: None,
            retry: RetrySchedule::Exponential { first: defaults::RETRY_FIRST, max: defaults::RETRY_MAX },
            retry_on: Vec::new(),
            max_age: Some(defaults::MAX_AGE),
            on_permanent_error: OnPermanentError::DeadLetter,
        }
    }
}

/// An endpoint that is not a Rowbridge subscriber.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// How events look.
    pub format: EventFormat,
    /// Which operations.
    pub operations: Vec<EventOp>,
    /// Which rows; all if left out.
    pub when: Option<Program>,
    /// Which columns, and how; everything as it is if left out.
    pub shape: ShapeConfig,
    /// How they are delivered.
    pub policy: WebhookPolicy,
    /// What their requests look like.
    pub request: RequestConfig,
    /// Lines of the file where `when`, columns and templates stand, for errors about tables that are known later.
    pub lines: Lines,
}

/// Where in the file an endpoint says what depends on its tables; from 1, 0 where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    /// `when`
    pub when: usize,
    /// `columns`, or `keep` where there are none.
    pub columns: usize,
    /// `url`
    pub url: usize,
    /// `headers`
    pub headers: usize,
    /// `body`
    pub body: usize,
}

impl Lines {
    /// Where a template stands.
    #[must_use]
    pub fn of(&self, templated: &Templated) -> usize {
        match templated {
            Templated::Url => self.url,
            Templated::Header(_) => self.headers,
            Templated::Body => self.body,
        }
    }
}
