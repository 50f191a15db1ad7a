//! One request as it is shown, written down and counted.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};

use super::behave::Plan;
use super::content::Content;
use super::signature::Verdict;

/// What a request is before its body is read.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) at: SystemTime,
    pub(super) peer: SocketAddr,
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

/// A request and what becomes of it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) head: &'a Head,
    /// From 1, in the order in which requests were complete.
    pub(super) number: u64,
    /// The id of the delivery, where the sender gave one, and the how manieth attempt this is.
    pub(super) id: Option<(&'a str, u64)>,
    pub(super) verdict: &'a Verdict,
    /// Bytes of the body as sent.
    pub(super) wire_bytes: u64,
    /// What else there is to say: too large, another path, not inflated.
    pub(super) note: Option<&'a str>,
    pub(super) content: &'a Content<'a>,
    pub(super) plan: Plan,
}

impl Head {
    pub(super) fn content_type(&self) -> Option<String> {
        self.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Names and values in the order of arrival, without credentials: what is shown here is pasted into chats.
    pub(super) fn shown_headers(&self) -> impl Iterator<Item = (&str, String)> {
        self.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str(), if is_credential(name) { masked(&value) } else { value.into_owned() })
        })
    }
}

fn is_credential(name: &HeaderName) -> bool {
    *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION || *name == COOKIE
}

/// The scheme stays: `Bearer ***`.
fn masked(value: &str) -> String {
    match value.split_once(' ') {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!("{scheme} ***")
        }
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked() {
        assert_eq!(masked("Bearer abc"), "Bearer ***");
        assert_eq!(masked("abc"), "***");
        assert_eq!(masked("session=abc; x=y"), "***");
        assert!(is_credential(&AUTHORIZATION) && !is_credential(&CONTENT_TYPE));
    }
}
