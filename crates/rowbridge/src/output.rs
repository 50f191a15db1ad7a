//! The two ways out: data to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use crate::failure::{Exit, Failure};

/// Writes one line of data. A reader that has gone (`rowbridge demo | head`) ends the command quietly.
///
/// # Errors
/// Nobody reads, or standard output is a full disk.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    // Flushed at once: lines are what a reader waits for.
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| closed(&error))
}

/// Writes text of several lines as it is.
///
/// # Errors
/// As [`line`].
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are.
///
/// # Errors
/// As [`line`].
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| closed(&error))
}

fn closed(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure { exit: Exit::NobodyReads, message: String::new() },
        _ => Failure::environment(format!("cannot write to standard output: {error}")),
    }
}

/// Tells a person. Where standard error is closed, nothing can be told and nothing is lost.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person looks at standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output is a terminal that wants colours (<https://no-color.org>).
pub(crate) fn takes_colors() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let failure = closed(&io::Error::from(ErrorKind::BrokenPipe));
        assert_eq!((failure.exit.code(), failure.message.as_str()), (0, ""));
        assert_eq!(closed(&io::Error::from(ErrorKind::StorageFull)).exit.code(), 3);
    }
}
