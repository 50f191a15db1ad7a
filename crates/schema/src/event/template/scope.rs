//! What names mean: for the reader of templates, who checks them, and for the values that take their place.

/// What an event has. Same for the only event of a request and for each of `events`.
pub(super) const EVENT: &[&str] = &[
    "op",
    "type",
    "id",
    "table",
    "schema",
    "database",
    "stream",
    "source",
    "endpoint",
    "position",
    "commit_time",
    "before",
    "after",
    "key",
    "changed",
    "message",
    "replay",
];

/// What all events of a batch have in common.
pub(super) const COMMON: &[&str] = &["stream", "source", "database", "endpoint"];

/// The list of events.
pub(super) const EVENTS: &str = "events";

/// A row of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RowName {
    Before,
    After,
    Key,
}

impl RowName {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "before" => Some(Self::Before),
            "after" => Some(Self::After),
            "key" => Some(Self::Key),
            _ => None,
        }
    }
}

/// What an expression is, as far as that is known before there is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// All events of the request.
    Events,
    /// One of them.
    Event,
    /// A row of one.
    Row(RowName),
    /// The names of the changed columns.
    Changed,
    /// The variable `loop`.
    Loop,
    /// Any value.
    Any,
}

impl What {
    /// What an event's member is.
    pub(super) fn member(name: &str) -> Self {
        match (RowName::of(name), name) {
            (Some(row), _) => Self::Row(row),
            (None, "changed") => Self::Changed,
            _ => Self::Any,
        }
    }

    /// What an element is of.
    pub(super) fn element(self) -> Self {
        if self == Self::Events { Self::Event } else { Self::Any }
    }
}
