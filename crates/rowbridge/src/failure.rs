//! How a command ends when it does not end well.

use std::error::Error;
use std::fmt;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 1: it was tried and failed, or what was asked about is not so.
    Failed,
    /// 2: the arguments or the configuration file.
    Usage,
    /// 3: a server, a file or an address that has to be there is not. Only for commands that end by themselves.
    Environment,
    /// 0: whoever read standard output has gone, so there is nobody to tell.
    NobodyReads,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::NobodyReads => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
        }
    }
}

/// Why a command ended.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, to what, and what to do. Empty if everything has been said.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { exit: Exit::Environment, message: message.into() }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.message = format!("{}\n  {hint}", self.message);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries print their cause themselves.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read shop.db")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once_and_hints_stand_below() {
        let cause = || std::io::Error::other("disk is gone");
        assert_eq!(chain(&Outer(cause())), "cannot read shop.db: disk is gone");
        assert_eq!(chain(&cause()), "disk is gone");
        let failure = Failure::environment("no server").hint(Some("Start it.".into()));
        assert_eq!((failure.exit.code(), failure.to_string()), (3, "no server\n  Start it.".to_owned()));
    }
}
