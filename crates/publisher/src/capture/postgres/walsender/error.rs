//! What can go wrong on a replication connection.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::super::pgoutput::Tag;

/// Failure of a replication connection. Each one is final for the connection it came from: drop it and connect again.
#[derive(Debug, thiserror::Error)]
pub enum WalsenderError {
    /// No connection could be made; look at the source's kind for "refused" and "not found".
    #[error("cannot connect to PostgreSQL at {address}")]
    Connect {
        /// Host and port, or socket path.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Connecting, the TLS handshake or the login took too long.
    #[error("PostgreSQL at {address} did not accept a login within {after:?}")]
    ConnectTimeout {
        /// Host and port, or socket path.
        address: String,
        /// The limit that passed.
        after: Duration,
    },
    /// An established connection failed.
    #[error("connection to PostgreSQL failed while {during}")]
    Io {
        /// What was being done.
        during: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// No TLS, or not the TLS that was asked for.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The login could not be tried or finished. A wrong password is a [`WalsenderError::Server`] with code 28P01.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The server, or a pooler before it, refused.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
    /// The peer does not speak the protocol as expected.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection is over.
    #[error("replication connection closed: {0}")]
    Closed(CloseReason),
}

impl WalsenderError {
    /// SQLSTATE, when the server sent one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }
}

/// Why a TLS connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// TLS is required and the server has none.
    #[error("PostgreSQL at {address} does not offer TLS, which is required here; enable ssl at the server")]
    NotOffered {
        /// Host and port.
        address: String,
    },
    /// The handshake failed, most often because of the certificate.
    #[error("TLS handshake with PostgreSQL at {address} failed")]
    Handshake {
        /// Host and port.
        address: String,
        /// rustls' reason is inside.
        source: io::Error,
    },
}

/// Why a login could not be tried or finished.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The server asks for a password and none is configured.
    #[error("PostgreSQL asks user {user} for a password and none is configured")]
    PasswordMissing {
        /// The role.
        user: String,
    },
    /// A method that this client does not have, such as GSSAPI.
    #[error(
        "PostgreSQL asks for authentication method {method}, which is not supported; \
         use scram-sha-256, md5, password, cert or trust in pg_hba.conf"
    )]
    UnsupportedMethod {
        /// Code of the authentication request.
        method: u32,
    },
    /// SASL without a SCRAM-SHA-256 variant.
    #[error("PostgreSQL offers only the SASL mechanisms {offered:?}; SCRAM-SHA-256 is needed")]
    UnsupportedMechanism {
        /// What it offers.
        offered: Vec<String>,
    },
    /// SCRAM went wrong; also when the server could not prove that it knows the password.
    #[error("SCRAM authentication with PostgreSQL failed")]
    Scram {
        /// The exchange's error.
        source: io::Error,
    },
    /// The server said that all is well before it proved that it knows the password.
    #[error("PostgreSQL ended the SCRAM exchange without proving that it knows the password")]
    ServerNotProven,
}

/// A deviation from the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A message that has no place here.
    #[error("unexpected message {tag} from PostgreSQL while {during}")]
    UnexpectedMessage {
        /// Its tag.
        tag: Tag,
        /// What was being done.
        during: &'static str,
    },
    /// A message longer than allowed, or shorter than its own header.
    #[error(
        "message {tag} from PostgreSQL has a length of {length_bytes} bytes, allowed are 4 to {limit_bytes}"
    )]
    BadLength {
        /// Its tag.
        tag: Tag,
        /// The length in its header.
        length_bytes: usize,
        /// The most that is accepted at this point.
        limit_bytes: usize,
    },
    /// A message whose content does not have the documented form.
    #[error("malformed {what} from PostgreSQL")]
    Malformed {
        /// Which one.
        what: &'static str,
    },
    /// The answer to `SSLRequest` is neither yes nor no.
    #[error("the peer answers the TLS request with {found:#04x}; it may not be PostgreSQL")]
    BadTlsAnswer {
        /// The byte.
        found: u8,
    },
    /// A session setting on which the text form of values depends was not taken over, as poolers do.
    #[error(
        "setting {name} of the session is {actual:?} instead of {expected:?}; connect directly, not by a pooler"
    )]
    SettingIgnored {
        /// Setting.
        name: &'static str,
        /// What was asked for.
        expected: &'static str,
        /// What the server reported.
        actual: String,
    },
    /// A command's answer is larger than any answer that is expected here.
    #[error("the answer to a command is longer than {limit_bytes} bytes")]
    AnswerTooLong {
        /// The bound.
        limit_bytes: usize,
    },
    /// An earlier command was given up halfway, so that answers cannot be told apart any more.
    #[error("an earlier command on this connection was given up before its answer")]
    OutOfStep,
    /// A name or text with a zero byte, which cannot be sent.
    #[error("{what} contains a zero byte, which PostgreSQL cannot take")]
    ZeroByte {
        /// Which one.
        what: &'static str,
    },
}

/// Who ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The server ended the stream in order, as it does when it shuts down.
    EndOfStream,
    /// The connection ended without a word: crash, kill, network.
    ConnectionLost,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndOfStream => "the server ended the stream",
            Self::ConnectionLost => "the peer is gone",
        })
    }
}

/// An ErrorResponse. `Display` and `Debug` leave out `detail`, because the server may quote row values there.
#[derive(Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{severity} {code}: {message}")]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, not translated where the server says so.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// Primary message, in the server's language.
    pub message: String,
    /// More facts. May hold row values: not for logs.
    pub detail: Option<String>,
    /// Advice.
    pub hint: Option<String>,
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError")
            .field("severity", &self.severity)
            .field("code", &self.code)
            .field("message", &self.message)
            .field("detail", &self.detail.as_ref().map(|_| "[hidden]"))
            .field("hint", &self.hint)
            .finish()
    }
}

impl ServerError {
    /// Reads the fields of an ErrorResponse. Text is taken as it comes: before the login is done it may be in any
    /// encoding, and an error must not be lost for that.
    pub(super) fn parse(mut body: Bytes) -> Result<Self, ProtocolError> {
        const MALFORMED: ProtocolError = ProtocolError::Malformed { what: "error message" };
        let mut error = Self::default();
        let mut severity_translated = String::new();
        loop {
            let field = body.try_get_u8().map_err(|_| MALFORMED)?;
            if field == 0 {
                break;
            }
            let text = cstr(&mut body).ok_or(MALFORMED)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            match field {
                b'V' => error.severity = text,
                b'S' => severity_translated = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = severity_translated;
        }
        Ok(error)
    }
}

/// Takes a zero-terminated string off the front.
pub(super) fn cstr(body: &mut Bytes) -> Option<Bytes> {
    let end = body.iter().position(|&byte| byte == 0)?;
    let text = body.split_to(end);
    body.advance(1);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_error_keeps_facts_and_hides_detail() {
        let body = Bytes::from_static(
            b"SFEHLER\0VERROR\0C55006\0Mslot is active\0DKey (id)=(7)\0HStop it.\0Fslot.c\0L528\0\0",
        );
        let error = ServerError::parse(body).unwrap();
        assert_eq!(error.to_string(), "ERROR 55006: slot is active");
        assert!(!format!("{error:?}").contains("(7)"));
        assert_eq!(error.detail.as_deref(), Some("Key (id)=(7)"));
        assert_eq!(error.hint.as_deref(), Some("Stop it."));
        assert_eq!(WalsenderError::from(Box::new(error)).code(), Some("55006"));
    }

    #[test]
    fn old_servers_and_poolers_without_v_field() {
        let error =
            ServerError::parse(Bytes::from_static(b"SFATAL\0C08P01\0Munsupported startup parameter\0\0"))
                .unwrap();
        assert_eq!(error.severity, "FATAL");
    }

    #[test]
    fn unreadable_errors_are_typed() {
        for body in [&b""[..], b"S", b"SERROR", b"SERROR\0"] {
            assert_eq!(
                ServerError::parse(Bytes::from_static(body)),
                Err(ProtocolError::Malformed { what: "error message" })
            );
        }
        let latin1 = ServerError::parse(Bytes::from_static(b"SFATAL\0M\xe9chec\0\0")).unwrap();
        assert!(latin1.message.ends_with("chec"));
    }
}
