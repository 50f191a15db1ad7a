//! Access tokens by OAuth 2.0 client credentials (RFC 6749 sections 4.4 and 5).
//!
//! One token serves all requests until shortly before its end. While it is fetched, whoever needs it waits for that one
//! fetch and shares what comes of it, an error too: an authorization server that is down is asked once, not once for each
//! event that waits. A token that the endpoint refuses is fetched anew once, unless that has already happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_TYPE};
use rowbridge_schema::config::{AuthMethod, ClientCredentials};
use rowbridge_schema::{Class, Classified};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::form_urlencoded;

use super::auth::bearer;
use super::connection::MAX_READ;
use super::error::AttemptError;
use super::request::{Request, Response};
use super::timing::Stopwatch;
use super::transport::Transport;

/// A token without `expires_in` is fetched again after this; a server that ends it earlier says 401.
const UNTOLD: Duration = Duration::from_secs(3600);
/// A token is not used in the last part of its life, since a request takes time and clocks differ.
const MARGIN: Duration = Duration::from_secs(30);
/// Longest life that is believed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What an authorization server says about a request that it refuses (RFC 6749 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthRefusal {
    /// `invalid_request`
    InvalidRequest,
    /// `invalid_client`
    InvalidClient,
    /// `invalid_grant`
    InvalidGrant,
    /// `unauthorized_client`
    UnauthorizedClient,
    /// `unsupported_grant_type`
    UnsupportedGrantType,
    /// `invalid_scope`
    InvalidScope,
    /// Another word, or none.
    Unnamed,
}

impl OAuthRefusal {
    /// Only the words of the RFC are passed on: an error text may repeat what was sent.
    fn of(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let Ok(Refusal { error }) = serde_json::from_slice(body) else { return Self::Unnamed };
        match error.as_str() {
            "invalid_request" => Self::InvalidRequest,
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "invalid_scope" => Self::InvalidScope,
            _ => Self::Unnamed,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::InvalidRequest => " (invalid_request)",
            Self::InvalidClient => " (invalid_client)",
            Self::InvalidGrant => " (invalid_grant)",
            Self::UnauthorizedClient => " (unauthorized_client)",
            Self::UnsupportedGrantType => " (unsupported_grant_type)",
            Self::InvalidScope => " (invalid_scope)",
            Self::Unnamed => "",
        }
    }
}

/// Why there is no access token. Texts never contain a token or a secret. All are retryable: they say nothing about the
/// event that waits, and an event must not be lost because a client secret has run out.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No answer.
    #[error("cannot fetch an access token from {host}")]
    Attempt {
        /// Host of the token URL.
        host: String,
        /// Why.
        #[source]
        source: AttemptError,
    },
    /// An answer without a token.
    #[error("{host} answered {status} instead of an access token{}", .refusal.suffix())]
    Refused {
        /// Host of the token URL.
        host: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        refusal: OAuthRefusal,
    },
    /// A 200 with something else than RFC 6749 section 5.1 says.
    #[error("the answer of {host} holds no bearer token that can be sent")]
    Malformed {
        /// Host of the token URL.
        host: String,
    },
}

impl Classified for TokenError {
    fn class(&self) -> Class {
        match self {
            Self::Attempt { .. } | Self::Refused { .. } | Self::Malformed { .. } => Class::RETRYABLE,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Attempt { source, .. } => return source.hint(),
            Self::Refused { refusal: OAuthRefusal::InvalidClient, .. }
            | Self::Refused { status: 401, .. } => {
                "Compare client id, client secret and auth_method with what the authorization server knows."
            }
            Self::Refused { refusal: OAuthRefusal::InvalidScope, .. } => {
                "Ask for scopes that the authorization server gives to this client."
            }
            Self::Refused { status: 429 | 500..=599, .. } => return None,
            Self::Refused { .. } => {
                "Allow the client credentials grant to this client at the authorization server, and compare scope and \
                 audience."
            }
            Self::Malformed { .. } => "Compare the token URL with the authorization server's documentation.",
        };
        Some(text.to_owned())
    }
}

/// A token in use.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) value: HeaderValue,
    until: Instant,
    /// Which fetch it is of.
    fetch: u64,
}

/// Where tokens come from.
pub(super) struct TokenSource {
    transport: Transport,
    request: Request,
    host: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    state: Mutex<State>,
    /// Fetches that have ended.
    fetches: AtomicU64,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// What came of the last fetch, if it failed.
    failed: Option<Arc<TokenError>>,
}

impl TokenSource {
    pub(super) fn new(client: &ClientCredentials, transport: Transport, timeout: Duration) -> Self {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", &client.scope), ("audience", &client.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let authorization = match client.method {
            AuthMethod::Body => {
                form.append_pair("client_id", &client.client_id);
                form.append_pair("client_secret", client.client_secret.expose());
                None
            }
            AuthMethod::Basic => {
                // Encoded as in a form before they are joined, so that a colon in the id is none.
                let coded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", coded(&client.client_id), coded(client.client_secret.expose()));
                let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
                let mut value = value.expect("base64 is visible ASCII");
                value.set_sensitive(true);
                Some(value)
            }
        };
        let url = &client.token_url;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::new(&path, form.finish()).expect("the path of a URL is percent-encoded");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers = vec![(CONTENT_TYPE, form), (ACCEPT, HeaderValue::from_static("application/json"))];
        Self {
            transport,
            request,
            host: url.host_str().unwrap_or_default().to_owned(),
            authorization,
            timeout,
            state: Mutex::default(),
            fetches: AtomicU64::new(0),
        }
    }

    /// A token that is good now and is not `refused`, and whether it was fetched for this call.
    /// Cancel safety: a fetch that is dropped is begun again by the next that waits.
    pub(super) async fn get(&self, refused: Option<&Token>) -> Result<(Token, bool), Arc<TokenError>> {
        let before = self.fetches.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let good = |token: &&Token| {
            token.until > Instant::now() && refused.is_none_or(|refused| refused.fetch != token.fetch)
        };
        if let Some(token) = state.token.as_ref().filter(good) {
            return Ok((token.clone(), false));
        }
        if let Some(error) = state.failed.as_ref()
            && self.fetches.load(Ordering::Acquire) > before
        {
            // The fetch that was waited for.
            return Err(Arc::clone(error));
        }
        state.token = None;
        let fetched = self.fetch().await;
        let fetch = self.fetches.fetch_add(1, Ordering::AcqRel) + 1;
        match fetched {
            Ok((value, life)) => {
                let token = Token { value, until: Instant::now() + life, fetch };
                *state = State { token: Some(token.clone()), failed: None };
                Ok((token, true))
            }
            Err(error) => {
                let error = Arc::new(error);
                *state = State { token: None, failed: Some(Arc::clone(&error)) };
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<(HeaderValue, Duration), TokenError> {
        let mut watch = Stopwatch::start();
        let exchange =
            self.transport.exchange(&self.request, self.authorization.as_ref(), MAX_READ, &mut watch);
        let answer = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(AttemptError::Timeout {
                peer: self.transport.waited_for(&watch),
                phase: watch.phase(),
                after: self.timeout,
                status: watch.status,
            }),
        };
        let answer = answer.map_err(|source| TokenError::Attempt { host: self.host.clone(), source })?;
        if answer.status != 200 {
            let refusal = OAuthRefusal::of(&answer.body);
            return Err(TokenError::Refused { host: self.host.clone(), status: answer.status, refusal });
        }
        read(&answer).ok_or_else(|| TokenError::Malformed { host: self.host.clone() })
    }
}

/// The token as a header and how long it is used.
fn read(answer: &Response) -> Option<(HeaderValue, Duration)> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        token_type: Option<String>,
        expires_in: Option<Box<RawValue>>,
    }
    let granted: Granted = serde_json::from_slice(&answer.body).ok()?;
    // Required by the RFC and left out by some; another type than bearer would need another header.
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return None;
    }
    let life = match &granted.expires_in {
        None => UNTOLD,
        // A number by the RFC, quoted by some servers; what is neither is not told.
        Some(raw) => match raw.get().trim_matches('"').parse::<f64>() {
            Ok(seconds) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST),
            _ => UNTOLD,
        },
    };
    let life = life.min(LONGEST);
    // Half of a very short life.
    Some((bearer(&granted.access_token)?, life - MARGIN.min(life / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<(HeaderValue, Duration)> {
        read(&Response {
            status: 200,
            retry_after: None,
            content_type: None,
            location: None,
            body: body.to_owned().into(),
            truncated: false,
        })
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let life = |body: &str| of(body).map(|(_, life)| life.as_secs());
        // RFC 6749 section 4.4.3.
        let example = r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"example","expires_in":3600}"#;
        assert_eq!(life(example), None);
        let example = example.replace("example", "Bearer");
        assert_eq!(of(&example).unwrap().0, "Bearer 2YotnFZFEjr1zCsicMWpAA");
        assert!(of(&example).unwrap().0.is_sensitive());
        assert_eq!(life(&example), Some(3570));
        assert_eq!(life(&example.replace("3600", "\"3600\"")), Some(3570));
        assert_eq!(life(&example.replace("3600", "20")), Some(10));
        assert_eq!(life(&example.replace("3600", "0")), Some(0));
        assert_eq!(life(&example.replace("3600", "-1")), Some(3570));
        assert_eq!(life(&example.replace("3600", "1e300")), Some(86_370));
        assert_eq!(life(&example.replace("3600", "null")), Some(3570));
        assert_eq!(life(r#"{"access_token":"x"}"#), Some(3570));
        for wrong in ["", "x", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\r\nb"}"#, "[]"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn refusals_pass_on_only_known_words() {
        assert_eq!(OAuthRefusal::of(br#"{"error":"invalid_client"}"#), OAuthRefusal::InvalidClient);
        assert_eq!(OAuthRefusal::of(br#"{"error":"secret hunter2 is wrong"}"#), OAuthRefusal::Unnamed);
        assert_eq!(OAuthRefusal::of(b"hunter2"), OAuthRefusal::Unnamed);
    }
}
