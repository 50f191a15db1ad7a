//! The URL of an HTTP proxy.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::secret::Secret;

/// A proxy: `http://` or `https://`, with user and password where it asks for them. Its own address may be any but that
/// of a metadata service, since it was written on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken with it.
    pub https: bool,
    /// User and password.
    pub credentials: Option<(String, Secret)>,
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

impl ProxyUrl {
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
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let (user, password) = (decoded(user)?, decoded(password.unwrap_or_default())?);
                if user.contains(':') || [&user, &password].iter().any(|text| text.contains(char::is_control))
                {
                    return Err(ProxyError::Credentials);
                }
                Some((user.into_owned(), Secret::new(password)))
            }
        };
        Ok(Self { host: host.to_owned(), port, https: url.scheme() == "https", credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_passwords_never_shown() {
        let parse = |url: &str| ProxyUrl::parse(&Secret::new(url));
        let proxy = parse("http://us%40er:p%C3%A4ss@proxy.example:3128").unwrap();
        assert!(!format!("{proxy:?}").contains("päss"));
        assert_eq!(proxy.credentials, Some(("us@er".to_owned(), Secret::new("päss"))));
        let plain = parse("https://[::1]").unwrap();
        assert_eq!((plain.port, plain.https, plain.credentials), (443, true, None));
        assert_eq!(parse("proxy:3128").unwrap_err(), ProxyError::Scheme);
        assert_eq!(parse("socks5://proxy:1080").unwrap_err(), ProxyError::Scheme);
        assert_eq!(parse("http://proxy/path").unwrap_err(), ProxyError::Path);
        assert_eq!(parse("").unwrap_err(), ProxyError::Url);
        assert_eq!(parse("http://a%0d%0ab:c@proxy").unwrap_err(), ProxyError::Credentials);
        assert_eq!(parse("http://a:%ff@proxy").unwrap_err(), ProxyError::Credentials);
        assert_eq!(parse("http://a%3ab:c@proxy").unwrap_err(), ProxyError::Credentials);
    }
}
