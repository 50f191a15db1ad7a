//! What can go wrong at a PostgreSQL source.

use rowbridge_schema::{Class, Classified};
use tokio_postgres::error::SqlState;

use super::pgoutput::PgOutputError;
use super::walsender::WalsenderError;

/// Why capture or snapshot stopped.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No session.
    #[error("cannot connect to the source at {at}")]
    Connect {
        /// `host:port/database`
        at: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A statement failed.
    #[error("cannot {action} at the source")]
    Query {
        /// What the statement was for.
        action: &'static str,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A statement got no answer.
    #[error("the source has not answered for {seconds} s: cannot {action}")]
    Silent {
        /// What the statement was for.
        action: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The replication connection failed.
    #[error("the replication connection failed")]
    Walsender(#[from] WalsenderError),
    /// A message of the stream is not understood.
    #[error("a message of the replication stream is not understood")]
    Decode(#[from] PgOutputError),
    /// The stream refers to something that was not announced.
    #[error("the replication stream is inconsistent: {what}")]
    Stream {
        /// What does not fit.
        what: &'static str,
    },
    /// A server setting or privilege is missing.
    #[error("the source is not ready: {problem}")]
    NotReady {
        /// What is missing.
        problem: String,
        /// The statement or setting that mends it.
        fix: String,
    },
    /// The slot is gone although the journal knows it.
    #[error("replication slot {slot} does not exist any more, changes since {since} are lost")]
    SlotGone {
        /// The slot.
        slot: String,
        /// Last confirmed LSN.
        since: String,
    },
    /// The slot was invalidated by the server.
    #[error(
        "replication slot {slot} was invalidated by the server ({reason}), changes since {since} are lost"
    )]
    SlotLost {
        /// The slot.
        slot: String,
        /// `wal_status` or invalidation reason.
        reason: String,
        /// Last confirmed LSN.
        since: String,
    },
    /// Somebody else moved the slot, or the journal is not the one that belongs to it.
    #[error(
        "replication slot {slot} stands at {slot_at}, but the journal ends at {journal_at}: what lies between is lost"
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// `confirmed_flush_lsn`
        slot_at: String,
        /// Our last resume point.
        journal_at: String,
    },
    /// The slot exists, but the journal is new: its state was lost, or the name is taken.
    #[error("replication slot {slot} exists (at {slot_at}), but the journal is empty")]
    SlotWithoutJournal {
        /// The slot.
        slot: String,
        /// `confirmed_flush_lsn`
        slot_at: String,
    },
    /// Another process reads the slot.
    #[error("replication slot {slot} is in use by process {pid} of the server")]
    SlotInUse {
        /// The slot.
        slot: String,
        /// Server process.
        pid: i32,
    },
}

impl PostgresError {
    pub(crate) fn query(action: &'static str, source: tokio_postgres::Error) -> Self {
        Self::Query { action, source }
    }
}

/// Which server errors need a person. Side: source. Everything unknown is retried.
fn class_of(error: &tokio_postgres::Error) -> Class {
    match error.code() {
        Some(code)
            if *code == SqlState::INVALID_PASSWORD
                || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                || *code == SqlState::INSUFFICIENT_PRIVILEGE
                || *code == SqlState::INVALID_CATALOG_NAME =>
        {
            Class::Permanent
        }
        _ => Class::RETRYABLE,
    }
}

impl Classified for PostgresError {
    fn class(&self) -> Class {
        match self {
            Self::Connect { source, .. } | Self::Query { source, .. } => class_of(source),
            Self::Silent { .. } | Self::Walsender(_) | Self::SlotInUse { .. } => Class::RETRYABLE,
            Self::Decode(_)
            | Self::Stream { .. }
            | Self::NotReady { .. }
            | Self::SlotGone { .. }
            | Self::SlotLost { .. }
            | Self::SlotAhead { .. }
            | Self::SlotWithoutJournal { .. } => Class::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { fix, .. } => Some(fix.clone()),
            Self::SlotGone { .. } | Self::SlotLost { .. } | Self::SlotAhead { .. } => Some(
                "Run `rowbridge snapshot --all`: it makes a new slot and sends all tables again, \
                 also removing what was deleted meanwhile."
                    .to_owned(),
            ),
            Self::SlotWithoutJournal { slot, .. } => Some(format!(
                "If state_dir was lost or is new, run `rowbridge snapshot --all` to take over the slot and send all \
                 tables again; if another stream uses this slot, set source.slot to another name than {slot}."
            )),
            Self::Connect { source, .. } => match source.code() {
                Some(code)
                    if *code == SqlState::INVALID_PASSWORD
                        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
                {
                    Some("Correct user and password in source.url, or the server's pg_hba.conf.".to_owned())
                }
                Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                    Some("Correct the database's name in source.url.".to_owned())
                }
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                    Some("Grant CONNECT on the database to the user in source.url.".to_owned())
                }
                None => Some("Start the server, or correct host and port in source.url.".to_owned()),
                _ => None,
            },
            Self::SlotInUse { .. } => {
                Some(
                    "Stop the other publisher, or give this one another source.slot. With journal.confirm = \"delivered\" at \
                     both, this one would be a standby."
                        .to_owned(),
                )
            }
            _ => None,
        }
    }
}
