//! What can go wrong with a delivery. Texts are for the operator: names and positions, never values or secrets.

use std::fmt::Write as _;

use rowbridge_schema::signature::VerifyError;
use rowbridge_schema::wire::FailingChange;
use rowbridge_schema::{Class, Classified, EndpointName, Position, StreamName, TableName};

use super::attempt::AttemptError;
use crate::journal::JournalError;

/// Why a delivery is not done. Every variant is classed by [`Classified`].
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No answer.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// An answer that asks for patience, or one that nothing is known about.
    #[error("the endpoint answered {status}{}", said(.message.as_ref()))]
    Busy {
        /// HTTP status.
        status: u16,
        /// What a signed answer said.
        message: Option<String>,
    },
    /// An answer that counts only if it is signed.
    #[error("the endpoint answered {status} without a valid signature, which counts for nothing")]
    Unsigned {
        /// HTTP status.
        status: u16,
        /// What is wrong with the signature.
        #[source]
        source: VerifyError,
    },
    /// A signed answer to something else than this delivery.
    #[error("the endpoint's signed {status} does not fit the delivery: {reason}")]
    Unfit {
        /// HTTP status.
        status: u16,
        /// What does not fit.
        reason: Unfit,
    },
    /// A proxy, route or firewall in the way.
    #[error("the endpoint answered {status}{}", said(.message.as_ref()))]
    Refused {
        /// HTTP status.
        status: u16,
        /// What a signed answer said.
        message: Option<String>,
    },
    /// The endpoint took itself out, signed.
    #[error("the endpoint answered a signed 410: it takes no more deliveries{}", said(.message.as_ref()))]
    Disabled {
        /// What it said.
        message: Option<String>,
    },
    /// The target cannot take a change.
    #[error("the target cannot take a change{}{}", said(.message.as_ref()), changes(.failing))]
    Rejected {
        /// What the subscriber said.
        message: Option<String>,
        /// The changes.
        failing: Vec<FailingChange>,
    },
    /// The lane at the target belongs to another source database.
    #[error("the target's lane belongs to another source database{}", said(.message.as_ref()))]
    ForeignSource {
        /// What the subscriber said.
        message: Option<String>,
        /// Where the target stands.
        stands: Option<Position>,
    },
    /// The target has already seen a later life of the source.
    #[error("the target has already seen a later epoch of this stream{}", said(.message.as_ref()))]
    OldEpoch {
        /// What the subscriber said.
        message: Option<String>,
        /// Where the target stands.
        stands: Option<Position>,
    },
    /// One block is more than the endpoint takes.
    #[error("changes of {} up to {at} need a body of {bytes} bytes, {}", names(.tables), bound(.max_body))]
    TooLarge {
        /// Tables in the block.
        tables: Vec<TableName>,
        /// The block's last position.
        at: Position,
        /// Size of the body before compression.
        bytes: usize,
        /// The told bound; `None` where the endpoint answered 413 below it.
        max_body: Option<u64>,
    },
    /// The journal cannot be read.
    #[error("the journal cannot be read")]
    Journal(#[source] JournalError),
}

/// How a signed answer misses the delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not an answer of a wire version that we read.
    #[error("its body is not an answer that this release reads")]
    Body,
    /// Another lane.
    #[error("it names lane {stream}/{endpoint}")]
    Lane {
        /// Stream named.
        stream: StreamName,
        /// Endpoint named.
        endpoint: EndpointName,
    },
    /// It acknowledges less than was sent.
    #[error("it acknowledges less than {to}")]
    Short {
        /// What had to be acknowledged.
        to: Position,
    },
    /// Its status is not one for this HTTP status.
    #[error("its status contradicts the HTTP status")]
    Status,
}

fn said(message: Option<&String>) -> String {
    message.map(|text| format!(": {text}")).unwrap_or_default()
}

fn names(tables: &[TableName]) -> String {
    let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn bound(max_body: &Option<u64>) -> String {
    match max_body {
        Some(max) => format!("the endpoint takes {max}: raise receive.max_body"),
        None => "something before the endpoint answered 413: raise its body limit".to_owned(),
    }
}

fn changes(failing: &[FailingChange]) -> String {
    let mut text = String::new();
    for change in failing.iter().take(3) {
        let _ = write!(text, "; {} at {}", change.table, change.position);
        if !change.key.is_empty() {
            let _ = write!(text, " ({})", change.key.join(", "));
        }
        if let Some(column) = &change.column {
            let _ = write!(text, ", column {column}");
        }
        let _ = write!(text, ": {}", change.reason);
    }
    text
}

impl Classified for Fault {
    fn class(&self) -> Class {
        match self {
            Self::Attempt(error) => error.class(),
            Self::Busy { .. } | Self::Unsigned { .. } | Self::Unfit { .. } => Class::RETRYABLE,
            Self::Refused { .. }
            | Self::Disabled { .. }
            | Self::Rejected { .. }
            | Self::ForeignSource { .. }
            | Self::OldEpoch { .. }
            | Self::TooLarge { .. }
            | Self::Journal(_) => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Attempt(error) => return error.hint(),
            Self::Refused { status: 401, .. } => {
                "Compare the secrets of both ends, and their clocks. The lane asks again every minute."
            }
            Self::Refused { status: 404 | 405, .. } => {
                "Compare endpoint.url with receive.path at the subscriber. The lane asks again every minute."
            }
            Self::Refused { status: 300..=399, .. } => {
                "Redirects are not followed: write the final address into endpoint.url."
            }
            Self::Refused { .. } => "Find who answered. The lane asks again every minute.",
            Self::Rejected { .. } => {
                "Correct the target's table or row. The lane tries again every minute and keeps the order."
            }
            Self::ForeignSource { .. } => {
                "Give this publisher another stream name, or remove the lane's row from the target's rowbridge_progress."
            }
            Self::OldEpoch { .. } => {
                "Stop the other publisher of this stream, or run `rowbridge snapshot --all`."
            }
            Self::Disabled { .. } => {
                "Remove the endpoint, or restart the publisher once it takes deliveries again."
            }
            Self::TooLarge { .. } => "Raise the limit and wait a minute; the lane tries again.",
            Self::Journal(_) => "Repair the journal's disk, or run `rowbridge snapshot --all`.",
            Self::Busy { .. } | Self::Unsigned { .. } | Self::Unfit { .. } => return None,
        };
        Some(text.to_owned())
    }
}

impl Fault {
    /// A label from a closed set, for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Attempt(error) => error.label(),
            Self::Busy { status: 429, .. } => "rate_limited",
            Self::Busy { .. } => "busy",
            Self::Unsigned { .. } => "unsigned",
            Self::Unfit { .. } => "unfit",
            Self::Refused { .. } => "refused",
            Self::Disabled { .. } => "disabled",
            Self::Rejected { .. } => "rejected",
            Self::ForeignSource { .. } => "foreign_source",
            Self::OldEpoch { .. } => "old_epoch",
            Self::TooLarge { .. } => "too_large",
            Self::Journal(_) => "journal",
        }
    }

    /// The text with everything below it, for states and logs.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let part = error.to_string();
            // Some libraries print their source themselves.
            if !text.ends_with(&part) {
                let _ = write!(text, ": {part}");
            }
            source = error.source();
        }
        text
    }
}
