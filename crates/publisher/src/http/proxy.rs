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
use rowbridge_schema::config::ProxyUrl;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::Host;

use super::error::AttemptError;

/// Longest answer to CONNECT, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// A proxy. Its own address may be any but that of a metadata service, since it was written on purpose.
#[derive(Clone)]
pub struct Proxy {
    pub(super) host: Host,
    pub(super) name: Arc<str>,
    pub(super) port: u16,
    pub(super) https: bool,
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy of a URL.
    #[must_use]
    pub fn new(url: &ProxyUrl) -> Self {
        let authorization = url.credentials.as_ref().map(|(user, password)| basic(user, password.expose()));
        Self {
            host: url.host.clone(),
            name: url.host.to_string().into(),
            port: url.port,
            https: url.https,
            authorization,
        }
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
    use rowbridge_schema::Secret;

    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        let url = ProxyUrl::parse(&Secret::new("http://us%40er:p%C3%A4ss@proxy.example:3128")).unwrap();
        let proxy = Proxy::new(&url);
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:3128)");
        assert_eq!(proxy.authorization, Some(basic("us@er", "päss")));
        assert!(proxy.authorization.unwrap().is_sensitive());
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
