//! Who we are, for endpoints that ask beyond the signature.

use http::HeaderValue;
use rowbridge_schema::config::{Auth, AuthError};

use super::proxy::basic;

/// `Bearer TOKEN`, marked as a secret.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The fixed value of `Authorization`, where it is fixed.
pub(super) fn fixed(auth: &Auth) -> Result<Option<HeaderValue>, AuthError> {
    auth.check()?;
    match auth {
        Auth::None | Auth::OAuth2(_) => Ok(None),
        Auth::Bearer(token) => bearer(token.expose()).map(Some).ok_or(AuthError::Bearer),
        Auth::Basic { user, password } => Ok(Some(basic(user, password.expose()))),
    }
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::Secret;

    use super::*;

    #[test]
    fn fixed_values_are_hidden() {
        let basic = Auth::Basic { user: "Aladdin".to_owned(), password: Secret::new("open sesame") };
        // RFC 7617 section 2.
        let value = fixed(&basic).unwrap().unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{value:?}").contains("QWx"));
        let bearer = fixed(&Auth::Bearer(Secret::new("mF_9.B5f-4.1JqM")));
        assert_eq!(bearer.unwrap().unwrap(), "Bearer mF_9.B5f-4.1JqM");
        assert_eq!(fixed(&Auth::Bearer(Secret::new("a b"))), Err(AuthError::Bearer));
    }
}
