//! A way out through an HTTP proxy: a tunnel by CONNECT for https, whole URLs for http (RFC 9110 sections 9.3.6 and 7.1).
//!
//! The proxy resolves the target's name, so that the address guard sees only addresses that stand in the URL; where a
//! name may lead is then the proxy's to say. Nothing is taken from the environment.

use std::fmt;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use rowbridge_schema::Secret;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::{Host, Url};

use super::error::AttemptError;

/// Longest answer to CONNECT, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// A proxy: `http://` or `https://`, with user and password where it asks for them. Its own address may be any but that
/// of a metadata service, since it was written on purpose.
#[derive(Clone)]
pub struct Proxy {
    pub(super) host: Host,
    pub(super) name: Arc<str>,
    pub(super) port: u16,
    pub(super) https: bool,
    pub(super) authorization: Option<HeaderValue>,
}

/// What is wrong with a proxy's URL. Never contains it, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a URL.
    #[error("the proxy is no URL (such as http://proxy.example.com:3128)")]
    Url,
    /// SOCKS, most likely.
    #[error("a proxy's URL begins with http:// or https://")]
    Scheme,
    /// Something behind host and port.
    #[error("a proxy's URL ends behind its port")]
    Path,
    /// `%` and something that is no text.
    #[error("user or password of the proxy is not percent-encoded UTF-8, or holds a control character")]
    Credentials,
}

impl Proxy {
    /// Reads `http[s]://[USER:PASSWORD@]HOST[:PORT]`; user and password are percent-encoded.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn parse(url: &Secret) -> Result<Self, ProxyError> {
        let url = Url::parse(url.expose()).map_err(|_| ProxyError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProxyError::Scheme);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError::Path);
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(ProxyError::Url);
        };
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| ProxyError::Credentials);
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let (user, password) = (decoded(user)?, decoded(password.unwrap_or_default())?);
                if user.contains(':') || [&user, &password].iter().any(|text| text.contains(char::is_control))
                {
                    return Err(ProxyError::Credentials);
                }
                Some(basic(&user, &password))
            }
        };
        let name = host.to_string().into();
        Ok(Self { host: host.to_owned(), name, port, https: url.scheme() == "https", authorization })
    }

    /// Asks for a tunnel to `authority` (`host:port`) and returns once there is one.
    pub(super) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        authority: &str,
    ) -> Result<(), AttemptError> {
        let broken = |source| AttemptError::ProxyBroken { proxy: Arc::clone(&self.name), source };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        match answer(stream).await.map_err(broken)? {
            200..=299 => Ok(()),
            status => Err(AttemptError::ProxyRefused { proxy: Arc::clone(&self.name), status }),
        }
    }
}

/// Reads an answer's head and gives its status. A target speaks only once it is spoken to, so that bytes behind the head of
/// a 2xx come from somebody else and end the connection.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u16> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..count]);
        let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if end.is_none() && head.len() <= MAX_ANSWER {
            continue;
        }
        let end = end.ok_or_else(invalid)? + 4;
        let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).ok_or_else(invalid)?;
        let status =
            std::str::from_utf8(status).ok().and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
        // What was read past a refusal is its body.
        return if end < head.len() && (200..300).contains(&status) { Err(invalid()) } else { Ok(status) };
    }
}

/// The value of an `Authorization` header by the Basic scheme (RFC 7617), marked as a secret.
pub(super) fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::try_from(text).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.name, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Proxy, ProxyError> {
        Proxy::parse(&Secret::new(url))
    }

    #[test]
    fn urls_are_read_and_never_shown() {
        let proxy = parse("http://us%40er:p%C3%A4ss@proxy.example:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:3128)");
        assert_eq!(proxy.authorization, Some(basic("us@er", "päss")));
        assert!(proxy.authorization.unwrap().is_sensitive());
        let plain = parse("https://[::1]").unwrap();
        assert_eq!((plain.port, plain.https, plain.authorization), (443, true, None));
        assert_eq!(parse("proxy:3128").unwrap_err(), ProxyError::Scheme);
        assert_eq!(parse("socks5://proxy:1080").unwrap_err(), ProxyError::Scheme);
        assert_eq!(parse("http://proxy/path").unwrap_err(), ProxyError::Path);
        assert_eq!(parse("").unwrap_err(), ProxyError::Url);
        assert_eq!(parse("http://a%0d%0ab:c@proxy").unwrap_err(), ProxyError::Credentials);
        assert_eq!(parse("http://a:%ff@proxy").unwrap_err(), ProxyError::Credentials);
        assert_eq!(parse("http://a%3ab:c@proxy").unwrap_err(), ProxyError::Credentials);
    }

    #[tokio::test]
    async fn answers_of_proxies_are_read() {
        let read = |text: &'static str| async move {
            answer(&mut text.as_bytes()).await.map_err(|error| error.kind())
        };
        assert_eq!(read("HTTP/1.1 200 Connection established\r\n\r\n").await, Ok(200));
        assert_eq!(read("HTTP/1.0 407 No\r\nContent-Length: 2\r\n\r\nno").await, Ok(407));
        for wrong in
            ["HTTP/1.1 200 OK\r\n\r\nearly", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2\r\n\r\n", "HTTP/1.\r\n\r\n"]
        {
            assert_eq!(read(wrong).await, Err(io::ErrorKind::InvalidData), "{wrong}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\r\n").await, Err(io::ErrorKind::UnexpectedEof));
        let endless = answer(&mut tokio::io::repeat(b'x')).await;
        assert_eq!(endless.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
