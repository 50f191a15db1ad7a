//! What can go wrong with an attempt. Texts name hosts and numbers, never paths, headers, bodies or secrets.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rowbridge_schema::config::AuthError;
use rowbridge_schema::tls::TlsError;
use rowbridge_schema::{Class, Classified};

use super::address::AddressError;
use super::timing::Phase;
use super::tls::tls_hint;
use super::token::TokenError;

/// Who failed: the target, or the proxy in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// The host of the URL.
    Target(Arc<str>),
    /// The host of the proxy's URL.
    Proxy(Arc<str>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(host) => f.write_str(host),
            Self::Proxy(host) => write!(f, "the proxy {host}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// It took too long.
    #[error("{}", late(.peer, *.phase, *.after, *.status))]
    Timeout {
        /// Who was waited for.
        peer: Peer,
        /// For what.
        phase: Phase,
        /// The bound that was reached.
        after: Duration,
        /// The answer's status, if it had come.
        status: Option<u16>,
    },
    /// The address may not be called.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The name leads nowhere.
    #[error("cannot resolve the name of {peer}")]
    Resolve {
        /// Whose name.
        peer: Peer,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {peer}")]
    Connect {
        /// To whom.
        peer: Peer,
        /// Why, at the last address that was tried.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there, but TLS with him does not come about: his certificate, ours, or he speaks none.
    #[error("cannot set up TLS with {peer}")]
    Tls {
        /// With whom.
        peer: Peer,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The connection ended within the handshake.
    #[error("{peer} broke off the TLS handshake")]
    Handshake {
        /// Who.
        peer: Peer,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The proxy does not let us through, or cannot reach the target.
    #[error("the proxy {proxy} answered {status} instead of connecting")]
    ProxyRefused {
        /// Host of the proxy's URL.
        proxy: Arc<str>,
        /// HTTP status.
        status: u16,
    },
    /// The proxy speaks no HTTP, or hung up.
    #[error("the proxy {proxy} did not answer CONNECT as a proxy does")]
    ProxyBroken {
        /// Host of the proxy's URL.
        proxy: Arc<str>,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what came back is not HTTP.
    #[error("{}", broken(.peer, *.status))]
    Broken {
        /// With whom.
        peer: Peer,
        /// The answer's status, if it had come.
        status: Option<u16>,
        /// How.
        #[source]
        source: ExchangeError,
    },
    /// There is no access token to send.
    #[error(transparent)]
    Token(Arc<TokenError>),
}

/// Why an exchange on an open connection came to no end.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection's own error.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer ended the connection.
    #[error("the connection was closed before the answer had come to its end")]
    Closed,
    /// Something that does not begin as an answer does, or whose head is garbled.
    #[error("what came back is not an answer of HTTP/1.1")]
    NoHttp,
    /// More than anybody has to say.
    #[error("the answer has more than 64 KiB or 100 lines of headers")]
    LongHead,
    /// Its length or its chunks contradict themselves.
    #[error("the answer does not say clearly where its body ends")]
    Framing,
}

fn late(peer: &Peer, phase: Phase, after: Duration, status: Option<u16>) -> String {
    let seconds = after.as_secs_f64();
    match (phase, status) {
        (Phase::Token, _) => format!("no access token within {seconds} s (endpoint.timeout)"),
        (Phase::Resolve, _) => format!("the name of {peer} was not resolved within {seconds} s"),
        (Phase::Connect, _) => format!("no connection to {peer} within {seconds} s"),
        (Phase::Tls, _) => format!("no TLS with {peer} within {seconds} s"),
        (Phase::Answer, _) | (Phase::Body, None) => {
            format!("no answer from {peer} within {seconds} s (endpoint.timeout)")
        }
        (Phase::Body, Some(status)) => {
            format!(
                "{peer} answered {status}, but the answer did not end within {seconds} s (endpoint.timeout)"
            )
        }
    }
}

fn broken(peer: &Peer, status: Option<u16>) -> String {
    match status {
        Some(status) => format!("the exchange with {peer} broke off within its answer {status}"),
        None => format!("the exchange with {peer} broke off"),
    }
}

impl Classified for AttemptError {
    fn class(&self) -> Class {
        match self {
            Self::Address(_) => Class::Permanent,
            // Names, certificates, proxies and tokens come right without our doing, and say nothing about an event.
            Self::Timeout { .. }
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::ProxyRefused { .. }
            | Self::ProxyBroken { .. }
            | Self::Broken { .. } => Class::RETRYABLE,
            Self::Token(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Address(_) => "The name is resolved again at the next connection.",
            Self::Tls { source, .. } => tls_hint(source),
            Self::ProxyRefused { status: 407, .. } => {
                "The proxy wants a user and a password: write them into its URL."
            }
            Self::ProxyRefused { status: 502..=504, .. } => {
                "The proxy cannot reach the target: look at the target first, then at the proxy's own log."
            }
            Self::ProxyRefused { .. } => "Allow the target's host and port at the proxy.",
            Self::ProxyBroken { .. } => "Compare scheme and port of the proxy's URL with the proxy.",
            Self::Token(error) => return error.hint(),
            Self::Timeout { .. }
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Broken { .. } => return None,
        };
        Some(text.to_owned())
    }
}

impl AttemptError {
    /// A label from a closed set, for metrics and the attempt log.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Address(_) => "address",
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } | Self::Handshake { .. } => "tls",
            Self::ProxyRefused { .. } | Self::ProxyBroken { .. } => "proxy",
            Self::Broken { .. } => "broken",
            Self::Token(_) => "token",
        }
    }

    /// The status of an answer that was cut off, if it had come.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Timeout { status, .. } | Self::Broken { status, .. } => *status,
            _ => None,
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

/// Why a client cannot be made. All are permanent until the configuration, or a file that it names, changes.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL holds an address that is never called.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Neither http nor https, or no host.
    #[error("a URL begins with https:// or http:// and a host")]
    Url,
    /// A host that no certificate can be for.
    #[error("{host} is no name that TLS knows")]
    Host {
        /// The host.
        host: String,
    },
    /// The system's authorities, or a PEM.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// What the proxy resolves cannot be checked here.
    #[error(
        "{host} over http through a proxy: the proxy resolves the name, so that nobody knows where the rows go in the clear; \
         write https, or the address itself"
    )]
    PlainThroughProxy {
        /// The host.
        host: String,
    },
    /// User, password or token.
    #[error(transparent)]
    Auth(#[from] AuthError),
}
