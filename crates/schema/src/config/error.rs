//! What can be wrong with a file. Every text is an interface: place, key, rule and way out.

use std::fmt;
use std::path::PathBuf;

use super::address::AddressError;
use super::auth::AuthError;
use super::proxy::ProxyError;
use super::server_url::DatabaseUrlError;
use super::substitute::SubstituteError;
use crate::event::template::ContentTypeError;
use crate::header::HeaderNameError;
use crate::secret::SigningKeyError;
use crate::signature::SignerError;

/// All errors of one file, in its order, one line each. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One error: `rowbridge.toml:14:19: endpoint.timeout: ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// As the caller named it.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// `section.key`; empty for what concerns the whole file.
    pub key: String,
    /// What is wrong and what to do.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        self.problem.fmt(f)
    }
}

/// What stands where something else was expected. Text is shown as the file has it, before anything is filled in, and
/// not at all where it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// As written.
    Shown(String),
    /// Only its kind: `a string`, `a table`.
    Kind(&'static str),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown(text) => f.write_str(text),
            Self::Kind(kind) => f.write_str(kind),
        }
    }
}

/// What is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML.
    #[error("not TOML: {message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// A key that nothing reads.
    #[error("unknown key ({})", UnknownKeyAdvice { suggestion: *suggestion, known })]
    UnknownKey {
        /// A known key that is spelled nearly so.
        suggestion: Option<&'static str>,
        /// What the section knows.
        known: &'static [&'static str],
    },
    /// A key that must be there.
    #[error("missing (write {example})")]
    Missing {
        /// The line to write.
        example: &'static str,
    },
    /// A wrong type, or a text of the wrong form.
    #[error("expected {expected}, found {found} ({way_out})")]
    Expected {
        /// What belongs here.
        expected: &'static str,
        /// What is here.
        found: Found,
        /// A valid value, or the rule.
        way_out: String,
    },
    /// `${...}` that cannot be filled in.
    #[error(transparent)]
    Substitute(#[from] SubstituteError),
    /// Not a database URL.
    #[error(transparent)]
    Database(#[from] DatabaseUrlError),
    /// Not a signing key.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// Not what the scheme of `signature` takes.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Not a header's name, or one of ours.
    #[error(transparent)]
    HeaderName(#[from] HeaderNameError),
    /// One header, written in two ways.
    #[error("this header stands here twice: letter case counts for nothing (remove one)")]
    HeaderTwice,
    /// A header that says something of each event in the binary mode of CloudEvents.
    #[error(
        "this header is an attribute of each event and is written by Rowbridge alone: remove it, or rename it"
    )]
    EventAttribute,
    /// Not a content type.
    #[error(transparent)]
    ContentType(#[from] ContentTypeError),
    /// Not a proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Not something that `Authorization` could say.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Not a template.
    #[error("{message}")]
    Template {
        /// What is wrong, where in the template, and what to write instead.
        message: String,
    },
    /// Tags where there are no events to take values from.
    #[error("has tags, which only endpoints with another format than \"bridge\" can have (write them out)")]
    TemplateForBridge,
    /// Keys of a template.
    #[error("goes with format = \"template\" only (write that, or remove this)")]
    ForTemplate,
    /// Not a URL at all.
    #[error("not a URL: {0} (write \"https://host/path\")")]
    Url(#[from] url::ParseError),
    /// Somewhere no delivery may go.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What must be unique is not.
    #[error("the same as in line {line} ({rule})")]
    Duplicate {
        /// Where it stands first.
        line: usize,
        /// Why it must differ.
        rule: &'static str,
    },
    /// A section that does not work alone.
    #[error("needs {needed} as well ({way_out})")]
    Needs {
        /// The missing section's header.
        needed: &'static str,
        /// What to write, or to remove.
        way_out: &'static str,
    },
    /// `kind` and `url` name two databases.
    #[error("is {kind:?}, but the URL is one of {url_kind} (make them agree)")]
    KindMismatch {
        /// What `kind` says.
        kind: &'static str,
        /// What `url` says.
        url_kind: &'static str,
    },
    /// A key that this kind of database has no use for.
    #[error("has no effect with kind = {kind:?} (remove it)")]
    NotForKind {
        /// The configured kind.
        kind: &'static str,
    },
    /// A key that only endpoints other than Rowbridge have.
    #[error("has no effect with format = \"bridge\" (remove it)")]
    NotForBridge,
    /// A key that this format has no use for.
    #[error("has no effect with format = {format:?} (remove it)")]
    NotForFormat {
        /// The configured format.
        format: &'static str,
    },
    /// Not an expression, or none that can be true of a row.
    #[error("{error} (line {line}, column {column} of the expression)")]
    Expression {
        /// What is wrong.
        error: crate::expr::ExprError,
        /// In the expression's own text, from 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// Two keys that contradict each other.
    #[error("does not go with {other} ({way_out})")]
    Contradicts {
        /// The other key and its value.
        other: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// A bound in bytes for a log that is counted in rows.
    #[error("has no effect with kind = \"sqlite\" (the change log is bounded in rows: use max_log_rows)")]
    RetainedRows,
    /// Below what works.
    #[error("is too small (at least {least})")]
    TooSmall {
        /// The least value.
        least: &'static str,
    },
    /// An empty list where that means nothing good.
    #[error("is an empty list ({way_out})")]
    EmptyList {
        /// What to do instead.
        way_out: &'static str,
    },
    /// Patterns that only exclude.
    #[error("selects nothing, as every pattern excludes (begin with \"*\")")]
    SelectsNothing,
    /// A name made from the stream that the server would cut off.
    #[error("missing, and rowbridge_STREAM is longer than {limit} bytes (write {example})")]
    NameTooLong {
        /// PostgreSQL's limit, less what we append.
        limit: usize,
        /// The line to write.
        example: &'static str,
    },
    /// Neither end.
    #[error(
        "there is nothing to run (add [publisher], [subscriber] or both; `rowbridge config default` prints them)"
    )]
    NothingToRun,
}

impl Problem {
    /// What is wrong with a template, with its causes.
    pub(super) fn template(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        if let Some(source) = error.source() {
            message = format!("{message}: {source}");
        }
        Self::Template { message }
    }

    /// What is wrong with an expression, and where in its text.
    pub(super) fn expression(text: &str, error: crate::expr::ExprError) -> Self {
        let (line, column) = error.line_column(text);
        Self::Expression { error, line, column }
    }
}

struct UnknownKeyAdvice<'a> {
    suggestion: Option<&'static str>,
    known: &'a [&'static str],
}

impl fmt::Display for UnknownKeyAdvice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suggestion {
            Some(suggestion) => write!(f, "did you mean {suggestion:?}?"),
            None => write!(f, "known here are {}", self.known.join(", ")),
        }
    }
}
