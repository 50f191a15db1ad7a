//! What `rowbridge check` says of a source.

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a consequence that an operator should know.
    Warning,
    /// Does not work.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at and found.
    pub what: String,
    /// What to run or set.
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, what: what.into(), fix: None }
    }

    /// Works, with a consequence.
    pub fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    /// Does not work.
    pub fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), fix: Some(fix.into()) }
    }
}
