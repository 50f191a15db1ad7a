//! Headers that others write: in a configuration, or from a row.

use http::header::{self, HeaderName, HeaderValue};

/// Longest value that is sent; many servers take 8 KiB for all of them.
const MAX_VALUE: usize = 4096;

/// Headers that frame the message or steer the connection: nobody but the client itself writes them.
const FRAMING: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];
/// Headers that say who sends and what: only the signer writes them.
const SIGNED: [&str; 2] =
    [rowbridge_schema::signature::HEADER_GITHUB, rowbridge_schema::signature::HEADER_STRIPE];

/// Why a header cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a name of HTTP.
    #[error("{name:?} is no header name: letters, digits and hyphens only")]
    Name {
        /// What was written, cut to 64 characters.
        name: String,
    },
    /// Rowbridge writes it itself.
    #[error("the header {name} is written by Rowbridge and cannot be set: remove it")]
    Reserved {
        /// In lower case.
        name: HeaderName,
    },
    /// The value could end the header and begin another.
    #[error("the value of header {name} contains a line break or another control character")]
    Control {
        /// In lower case.
        name: HeaderName,
    },
    /// The value is longer than servers take.
    #[error("the value of header {name} has {len} bytes, more than {MAX_VALUE}")]
    Long {
        /// In lower case.
        name: HeaderName,
        /// Its length.
        len: usize,
    },
}

/// A name for a header of the operator's own.
///
/// # Errors
/// Not a header name, or one that is reserved: `host`, `content-length`, `connection`, `keep-alive`, `transfer-encoding`,
/// `upgrade`, `te`, `trailer`, `expect`, `proxy-*`, `webhook-*`, `x-hub-signature-256`, `stripe-signature`.
pub fn check_header_name(name: &str) -> Result<HeaderName, HeaderError> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| HeaderError::Name { name: name.chars().take(64).collect() })?;
    let text = parsed.as_str();
    if is_framing(&parsed) || text.starts_with("webhook-") || SIGNED.contains(&text) {
        return Err(HeaderError::Reserved { name: parsed });
    }
    Ok(parsed)
}

/// A value for the header `name`: any text without control characters (a tab is none). Text beyond ASCII goes as UTF-8.
/// The error names the header and never shows the value.
///
/// # Errors
/// CR, LF, NUL and their like; more than 4,096 bytes.
pub fn check_header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, HeaderError> {
    if value.len() > MAX_VALUE {
        return Err(HeaderError::Long { name: name.clone(), len: value.len() });
    }
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| HeaderError::Control { name: name.clone() })
}

pub(super) fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(name) || name == "keep-alive" || name.as_str().starts_with("proxy-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reserved_names_are_refused_in_any_case() {
        for name in [
            "Host",
            "content-length",
            "Connection",
            "Keep-Alive",
            "Transfer-Encoding",
            "upgrade",
            "TE",
            "trailer",
            "Expect",
            "Proxy-Authorization",
            "proxy-connection",
            "Webhook-Id",
            "webhook-signature",
            "webhook-anything",
            "X-Hub-Signature-256",
            "Stripe-Signature",
        ] {
            let error = check_header_name(name).unwrap_err();
            assert!(matches!(&error, HeaderError::Reserved { name: found } if found == name), "{name}");
            assert!(error.to_string().contains(&name.to_lowercase()), "{error}");
        }
        for name in ["X-Api-Key", "authorization", "content-type", "user-agent", "ce-id", "x-webhook-id"] {
            assert_eq!(check_header_name(name).unwrap(), name);
        }
    }

    #[test]
    fn nothing_can_be_put_behind_a_header() {
        for name in ["", "a b", "a:", "a\r\nb", "ä", "a\0"] {
            assert!(matches!(check_header_name(name), Err(HeaderError::Name { .. })), "{name:?}");
        }
        let name = check_header_name("x-note").unwrap();
        for value in ["a\r\nhost: evil", "a\nb", "a\rb", "a\0", "\u{7f}", "\u{1b}[0m"] {
            let error = check_header_value(&name, value).unwrap_err();
            assert_eq!(error, HeaderError::Control { name: name.clone() }, "{value:?}");
            assert_eq!(
                error.to_string(),
                "the value of header x-note contains a line break or another control character"
            );
        }
        for value in ["", "a\tb", "Zoë – 東京", &"x".repeat(4096)] {
            assert_eq!(check_header_value(&name, value).unwrap().as_bytes(), value.as_bytes());
        }
        let long = check_header_value(&name, &"x".repeat(4097));
        assert_eq!(long, Err(HeaderError::Long { name, len: 4097 }));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_on_its_line(name in ".*", value in "(?s).*") {
            if let Ok(name) = check_header_name(&name) {
                prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
                if let Ok(value) = check_header_value(&name, &value) {
                    prop_assert!(value.as_bytes().iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
                }
            }
        }
    }
}
