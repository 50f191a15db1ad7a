//! Whether a request is signed as it should be, and if not, why.

use http::HeaderMap;
use rowbridge_schema::signature::{
    DEFAULT_TOLERANCE_SECONDS, HEADER_GITHUB, HEADER_ID, HEADER_SIGNATURE, HEADER_STRIPE, HEADER_TIMESTAMP,
    SignedHeaders, VerifyError, sign, verify_github, verify_stripe, verify_with,
};
use rowbridge_schema::{Secret, SigningKey, VerifyingKey};

use super::options::Preset;
use crate::failure::Failure;

/// Holds requests against the secrets of one scheme.
#[derive(Debug)]
pub(super) enum Verifier {
    /// No secret was given.
    None,
    Standard {
        verifying: Vec<VerifyingKey>,
        /// For answers; a public key cannot sign.
        signing: Vec<SigningKey>,
    },
    Github(Vec<Secret>),
    Stripe(Vec<Secret>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no secret to check with.
    Unchecked,
    Holds,
    /// These headers are not there.
    Missing(Vec<&'static str>),
    Wrong(VerifyError),
}

impl Verdict {
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Wrong(_))
    }

    /// One word for programs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Holds => "holds",
            Self::Missing(_) => "missing",
            Self::Wrong(VerifyError::Headers) => "malformed",
            Self::Wrong(VerifyError::Stale { .. }) => "stale",
            Self::Wrong(VerifyError::Mismatch) => "mismatch",
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unchecked => "signature not checked (no --secret)".to_owned(),
            Self::Holds => "signature holds".to_owned(),
            Self::Missing(names) => format!("not signed: no {}", names.join(", ")),
            Self::Wrong(VerifyError::Headers) => {
                "signature malformed: a header of the signature is there, but not as the scheme wants it"
                    .to_owned()
            }
            Self::Wrong(VerifyError::Stale { skew_seconds }) => {
                let direction = if *skew_seconds < 0 { "old" } else { "in the future" };
                format!(
                    "signature stale: its timestamp is {} s {direction} ({DEFAULT_TOLERANCE_SECONDS} s are allowed; \
                     compare both clocks)",
                    skew_seconds.unsigned_abs()
                )
            }
            Self::Wrong(VerifyError::Mismatch) => {
                "signature does not match: another secret, or the body was changed on the way".to_owned()
            }
        }
    }
}

impl Verifier {
    /// # Errors
    /// A secret that is none in this scheme.
    pub(super) fn new(preset: Preset, secrets: Vec<Secret>) -> Result<Self, Failure> {
        if secrets.is_empty() {
            return Ok(Self::None);
        }
        Ok(match preset {
            Preset::Standard => Self::Standard {
                verifying: secrets.iter().map(standard_key).collect::<Result<_, _>>()?,
                signing: secrets
                    .iter()
                    .filter_map(|secret| SigningKey::parse(secret.expose()).ok())
                    .collect(),
            },
            Preset::Github => Self::Github(secrets),
            Preset::Stripe => Self::Stripe(secrets),
        })
    }

    /// Checks the bytes as they came over the wire.
    pub(super) fn check(&self, headers: &HeaderMap, body: &[u8], now_seconds: u64) -> Verdict {
        let result = match self {
            Self::None => return Verdict::Unchecked,
            Self::Standard { verifying, .. } => match standard_headers(headers) {
                Ok(signed) => verify_with(verifying, signed, body, now_seconds, DEFAULT_TOLERANCE_SECONDS),
                Err(verdict) => return verdict,
            },
            Self::Github(secrets) => match only(headers, HEADER_GITHUB) {
                Ok(value) => verify_github(secrets, value, body),
                Err(verdict) => return verdict,
            },
            Self::Stripe(secrets) => match only(headers, HEADER_STRIPE) {
                Ok(value) => verify_stripe(secrets, value, body, now_seconds, DEFAULT_TOLERANCE_SECONDS),
                Err(verdict) => return verdict,
            },
        };
        result.map_or_else(Verdict::Wrong, |()| Verdict::Holds)
    }

    /// Whether there is a key that signs.
    pub(super) fn can_sign(&self) -> bool {
        matches!(self, Self::Standard { signing, .. } if !signing.is_empty())
    }

    /// The `webhook-signature` of an answer; `None` without a key that signs.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        match self {
            Self::Standard { signing, .. } if !signing.is_empty() => Some(sign(signing, id, timestamp, body)),
            Self::None | Self::Standard { .. } | Self::Github(_) | Self::Stripe(_) => None,
        }
    }
}

fn standard_key(secret: &Secret) -> Result<VerifyingKey, Failure> {
    let hint = "--preset github and --preset stripe take any text as a secret.";
    VerifyingKey::parse(secret.expose())
        .map_err(|error| Failure::usage(format!("--secret: {error}")).hint(Some(hint.to_owned())))
}

/// The id that makes a repeated delivery known as one, by any of the schemes.
pub(super) fn delivery_id(headers: &HeaderMap) -> Option<&str> {
    [HEADER_ID, "svix-id", "x-github-delivery"].into_iter().find_map(|name| headers.get(name)?.to_str().ok())
}

fn standard_headers(headers: &HeaderMap) -> Result<SignedHeaders<'_>, Verdict> {
    // Svix sends its older names; the scheme is the same.
    let old_names = !headers.contains_key(HEADER_ID) && headers.contains_key("svix-id");
    let names = match old_names {
        true => ["svix-id", "svix-timestamp", "svix-signature"],
        false => [HEADER_ID, HEADER_TIMESTAMP, HEADER_SIGNATURE],
    };
    let missing: Vec<_> = names.into_iter().filter(|name| !headers.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Verdict::Missing(missing));
    }
    let [id, timestamp, signature] = names;
    Ok(SignedHeaders {
        id: only(headers, id)?,
        timestamp: only(headers, timestamp)?,
        signature: only(headers, signature)?,
    })
}

/// A header's only value: which of two would have been signed?
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Verdict> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Verdict::Missing(vec![name])),
        (Some(value), None) => value.to_str().map_err(|_| Verdict::Wrong(VerifyError::Headers)),
        _ => Err(Verdict::Wrong(VerifyError::Headers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_public_key_checks_but_signs_nothing() {
        let public = Secret::new("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
        let verifier = Verifier::new(Preset::Standard, vec![public]).unwrap();
        let signature =
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
        let headers = headers(&[
            (HEADER_ID, "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            (HEADER_TIMESTAMP, "1614265330"),
            (HEADER_SIGNATURE, signature),
        ]);
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(verifier.check(&headers, body, 1_614_265_330), Verdict::Holds);
        assert_eq!(verifier.check(&headers, b"{}", 1_614_265_330).name(), "mismatch");
        assert_eq!(verifier.sign("id", 1, b""), None);
    }

    #[test]
    fn presets_read_their_own_headers() {
        let github = Verifier::new(Preset::Github, vec![Secret::new("mysecret")]).unwrap();
        let value = "sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3";
        let signed = headers(&[("x-hub-signature-256", value), ("x-github-delivery", "d1")]);
        assert_eq!(github.check(&signed, br#"{"foo":"bar"}"#, 0), Verdict::Holds);
        assert_eq!(github.check(&signed, b"{}", 0).name(), "mismatch");
        assert_eq!(delivery_id(&signed), Some("d1"));
        assert_eq!(github.check(&headers(&[]), b"{}", 0), Verdict::Missing(vec![HEADER_GITHUB]));
        let stripe = Verifier::new(Preset::Stripe, vec![Secret::new("whsec_test_secret")]).unwrap();
        let value = "t=1700000000,v1=d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990";
        let signed = headers(&[("stripe-signature", value)]);
        let body = br#"{"id":"evt_test_webhook","object":"event"}"#;
        assert_eq!(stripe.check(&signed, body, 1_700_000_000), Verdict::Holds);
        assert_eq!(stripe.check(&signed, body, 1_700_000_301).name(), "stale");
    }

    #[test]
    fn each_reason_is_told_apart() {
        let verifier =
            Verifier::new(Preset::Standard, vec![Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")])
                .unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let (id, time) = ("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553");
        let signature = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        let good = headers(&[(HEADER_ID, id), (HEADER_TIMESTAMP, time), (HEADER_SIGNATURE, signature)]);
        let svix = headers(&[("svix-id", id), ("svix-timestamp", time), ("svix-signature", signature)]);
        for headers in [&good, &svix] {
            assert_eq!(verifier.check(headers, body, 1_649_367_553), Verdict::Holds);
            assert_eq!(verifier.check(headers, &body[1..], 1_649_367_553).name(), "mismatch");
            assert_eq!(delivery_id(headers), Some(id));
        }
        let stale = verifier.check(&good, body, 1_649_367_953);
        assert!(stale.text().contains("400 s old"), "{}", stale.text());
        let early = verifier.check(&good, body, 1_649_367_053);
        assert!(early.text().contains("500 s in the future"), "{}", early.text());
        let mut half = good.clone();
        half.remove(HEADER_TIMESTAMP);
        assert_eq!(verifier.check(&half, body, 0), Verdict::Missing(vec![HEADER_TIMESTAMP]));
        let mut twice = good.clone();
        twice.append(HEADER_ID, "other".parse().unwrap());
        assert_eq!(verifier.check(&twice, body, 1_649_367_553).name(), "malformed");
        assert_eq!(Verifier::None.check(&good, body, 0), Verdict::Unchecked);
        assert!(!Verdict::Unchecked.is_bad() && !Verdict::Holds.is_bad() && stale.is_bad());
    }
}
