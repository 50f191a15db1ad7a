//! Names of headers that an operator may write (RFC 9110, sections 5.1 and 5.6.2).

use crate::signature::{HEADER_GITHUB, HEADER_STRIPE};

/// Headers that frame the message or steer the connection: nobody but the HTTP client writes them.
const FRAMING: [&str; 9] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
];
/// Longest name: those in use have some twenty characters.
const MAX_NAME_BYTES: usize = 100;

/// Why a header cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderNameError {
    /// Not a name of HTTP.
    #[error("a header's name has letters, digits and hyphens only, such as \"X-Shop\"")]
    Name,
    /// It would frame the message otherwise than its body is.
    #[error("this header frames the request and is written by Rowbridge alone: remove it")]
    Framing,
    /// It would be mistaken for a signature.
    #[error("headers of signatures are written by Rowbridge alone: remove it, or see `signature`")]
    Signature,
    /// It says what the body is.
    #[error("what the body is follows from `format`, and from `content_type` of a template: remove it")]
    ContentType,
}

/// A header's name in lower case.
///
/// # Errors
/// Not a name, or one that is reserved: what frames a message, `proxy-*`, `content-type`, `webhook-*`, the headers of the
/// other signatures and Rowbridge's own.
pub fn check_name(name: &str) -> Result<String, HeaderNameError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(token) {
        return Err(HeaderNameError::Name);
    }
    let name = name.to_ascii_lowercase();
    if is_framing(&name) {
        return Err(HeaderNameError::Framing);
    }
    if matches!(name.as_str(), "content-type" | "content-encoding") {
        return Err(HeaderNameError::ContentType);
    }
    let signed = name.starts_with("webhook-") || name.starts_with("rowbridge-");
    if signed || [HEADER_GITHUB, HEADER_STRIPE].contains(&name.as_str()) {
        return Err(HeaderNameError::Signature);
    }
    Ok(name)
}

/// Whether a header, named in lower case, belongs to the HTTP client.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    FRAMING.contains(&name) || name.starts_with("proxy-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_http_and_free() {
        assert_eq!(check_name("X-Api-Key").unwrap(), "x-api-key");
        assert_eq!(check_name("Authorization").unwrap(), "authorization");
        for name in ["", "a b", "a:b", "a\r\nhost", "ä", "x\0", &"x".repeat(101)] {
            assert_eq!(check_name(name), Err(HeaderNameError::Name), "{name:?}");
        }
        for name in ["Host", "CONTENT-LENGTH", "Transfer-Encoding", "proxy-authorization", "TE"] {
            assert_eq!(check_name(name), Err(HeaderNameError::Framing), "{name}");
        }
        for name in
            ["webhook-id", "Webhook-Extra", "X-Hub-Signature-256", "Stripe-Signature", "rowbridge-replay"]
        {
            assert_eq!(check_name(name), Err(HeaderNameError::Signature), "{name}");
        }
        assert_eq!(check_name("Content-Type"), Err(HeaderNameError::ContentType));
    }
}
