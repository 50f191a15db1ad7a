//! Who a publisher is, for endpoints that ask beyond the signature.

use url::Url;

use crate::secret::Secret;

/// What a request shows of its sender, in `Authorization`.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Nothing but the signature.
    #[default]
    None,
    /// A fixed token (RFC 6750).
    Bearer(Secret),
    /// User and password (RFC 7617).
    Basic {
        /// Without a colon.
        user: String,
        /// Any text without control characters.
        password: Secret,
    },
    /// A token fetched from an authorization server and fetched again in time.
    OAuth2(ClientCredentials),
}

/// OAuth 2.0 client credentials (RFC 6749 section 4.4).
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// Where tokens are fetched; the same rules for addresses hold as for the endpoint's URL.
    pub token_url: Url,
    /// Who asks.
    pub client_id: String,
    /// The proof of it.
    pub client_secret: Secret,
    /// Scopes, separated by spaces.
    pub scope: Option<String>,
    /// For servers that ask for whom the token is (Auth0 and others; not in the RFC).
    pub audience: Option<String>,
    /// Where id and secret stand.
    pub method: AuthMethod,
}

/// Where a client puts id and secret (RFC 6749 section 2.3.1). Every server must take `Basic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMethod {
    /// In `Authorization`.
    #[default]
    Basic,
    /// In the form, as `client_id` and `client_secret`.
    Body,
}

/// Why nothing can be made of the configured authentication. Never contains a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It would not survive the header.
    #[error("the bearer token is empty, or contains a space, a line break or a character beyond ASCII")]
    Bearer,
    /// The receiver splits at the first colon.
    #[error("the user of basic authentication contains a colon or a control character")]
    User,
    /// A line end was pasted with it, most likely.
    #[error("the password of basic authentication contains a control character")]
    Password,
    /// Tokens of nobody.
    #[error("the client id or the client secret of OAuth 2.0 is empty")]
    Client,
}

impl Auth {
    /// Whether it can be sent.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn check(&self) -> Result<(), AuthError> {
        let wrong = match self {
            Self::None => None,
            Self::Bearer(token) => {
                let token = token.expose();
                let fine = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
                (!fine).then_some(AuthError::Bearer)
            }
            Self::Basic { user, .. } if user.contains(|c: char| c == ':' || c.is_control()) => {
                Some(AuthError::User)
            }
            Self::Basic { password, .. } => {
                password.expose().contains(char::is_control).then_some(AuthError::Password)
            }
            Self::OAuth2(client) => (client.client_id.is_empty() || client.client_secret.expose().is_empty())
                .then_some(AuthError::Client),
        };
        wrong.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_survives_is_refused() {
        let basic = |user: &str, password: &str| {
            Auth::Basic { user: user.to_owned(), password: Secret::new(password) }.check()
        };
        assert_eq!(basic("Aladdin", "open sesame"), Ok(()));
        assert_eq!(basic("a:b", "c"), Err(AuthError::User));
        assert_eq!(basic("a", "c\n"), Err(AuthError::Password));
        let bearer = |token: &str| Auth::Bearer(Secret::new(token)).check();
        assert_eq!(bearer("mF_9.B5f-4.1JqM"), Ok(()));
        for token in ["", "a b", "a\r\nhost: evil", "ä"] {
            assert_eq!(bearer(token), Err(AuthError::Bearer), "{token:?}");
        }
        let auth = Auth::Basic { user: "u".to_owned(), password: Secret::new("hunter2") };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
