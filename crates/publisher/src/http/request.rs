//! What is sent, and what comes back.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use rowbridge_schema::header::is_framing;

/// A header that frames the message cannot be set: the client writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is written by Rowbridge and cannot be set")]
pub struct FramingHeader(pub HeaderName);

/// One POST. It says where on the server it goes, never to which server: that is the client's.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) path: PathAndQuery,
    /// Each name once.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// Why a path cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It would be something else than a path, such as another server.
    #[error("a path begins with /")]
    Relative,
    /// Something that has to be percent-encoded.
    #[error("a path and its query are visible ASCII without #; anything else is percent-encoded")]
    Character,
    /// No path of HTTP.
    #[error("this is not a path that HTTP knows")]
    Invalid,
}

impl Request {
    /// A POST of `body` to this path and query, which begins with `/` and is percent-encoded.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn new(path_and_query: &str, body: impl Into<Bytes>) -> Result<Self, PathError> {
        if !path_and_query.starts_with('/') {
            return Err(PathError::Relative);
        }
        if !path_and_query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(PathError::Character);
        }
        let path = path_and_query.parse().map_err(|_| PathError::Invalid)?;
        Ok(Self { path, headers: Vec::with_capacity(8), body: body.into() })
    }

    /// Sets a header. Those of the signer are set here, too; names that others choose pass
    /// [`rowbridge_schema::header::check_name`] first.
    ///
    /// # Errors
    /// A header that frames the message.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), FramingHeader> {
        if is_framing(name.as_str()) {
            return Err(FramingHeader(name));
        }
        match self.headers.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value,
            None => self.headers.push((name, value)),
        }
        Ok(())
    }
}

/// An endpoint's wish. Boxed in an answer, since few have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryAfter {
    /// `Retry-After`, as sent.
    pub value: String,
    /// `Date`, as sent: what a date in `value` is compared with.
    pub date: Option<String>,
}

/// An answer, whatever its status. A redirect is one: it is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// What it says about the next attempt.
    pub retry_after: Option<Box<RetryAfter>>,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// `Location`, as sent.
    pub location: Option<String>,
    /// The beginning of the body, at most 8 KiB.
    pub body: Bytes,
    /// Whether the body is longer than that.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_another_server() {
        for path in ["", "hook", "http://evil.example/", "@evil.example/", "?x", "*", ":80/"] {
            assert_eq!(Request::new(path, "").unwrap_err(), PathError::Relative, "{path}");
        }
        for path in ["/a b", "/a\r\nhost: evil", "/a\0", "/ä", "/a#b", "/a\tb", "/\u{7f}"] {
            assert_eq!(Request::new(path, "").unwrap_err(), PathError::Character, "{path:?}");
        }
        for path in ["/", "/a/b?c=d%20e&f", "//evil.example/x", "/%0d%0a", "/a?b=http://x@y/"] {
            assert_eq!(Request::new(path, "").unwrap().path, path, "{path}");
        }
    }

    #[test]
    fn nobody_frames_a_message_by_hand() {
        let mut request = Request::new("/", "x").unwrap();
        for name in ["host", "content-length", "transfer-encoding", "connection", "proxy-authorization"] {
            let name = HeaderName::from_static(name);
            let refused = request.set(name.clone(), HeaderValue::from_static("x"));
            assert_eq!(refused, Err(FramingHeader(name)));
        }
        request.set(HeaderName::from_static("webhook-id"), HeaderValue::from_static("x")).unwrap();
    }
}
