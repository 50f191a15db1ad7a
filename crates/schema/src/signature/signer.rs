//! The headers that sign a request, whatever scheme its receiver knows.

use super::{
    HEADER_GITHUB, HEADER_ID, HEADER_SIGNATURE, HEADER_STRIPE, HEADER_TIMESTAMP, github, standard, stripe,
};
use crate::secret::{Secret, SigningKey};

/// Signs requests in one scheme. Cheap enough to make per request; it keeps nothing between two.
#[derive(Debug, Clone)]
pub struct Signer(Scheme);

#[derive(Debug, Clone)]
enum Scheme {
    Standard(Vec<SigningKey>),
    Github(Secret),
    Stripe(Vec<Secret>),
}

/// Why secrets cannot sign. Never contains one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Nothing to sign with.
    #[error("a signature needs a secret (make one with `rowbridge secret`)")]
    None,
    /// A secret that everybody knows.
    #[error("the secret is empty")]
    Empty,
    /// Pasted with a line end, most likely; the receiver's copy has none.
    #[error("the secret begins or ends with white space: remove it")]
    Whitespace,
    /// The scheme has room for one signature.
    #[error(
        "GitHub's scheme holds one signature, so that its secret cannot be a list: write the one that signs"
    )]
    Several,
}

impl Signer {
    /// `webhook-signature` with one entry per key, `v1` or `v1a` by its kind.
    ///
    /// # Errors
    /// No key.
    pub fn standard(keys: Vec<SigningKey>) -> Result<Self, SignerError> {
        if keys.is_empty() { Err(SignerError::None) } else { Ok(Self(Scheme::Standard(keys))) }
    }

    /// `X-Hub-Signature-256` as GitHub makes it. The key is the secret's text.
    ///
    /// # Errors
    /// Not exactly one secret, an empty one, or white space around it.
    pub fn github(secrets: &[Secret]) -> Result<Self, SignerError> {
        match secrets {
            [] => Err(SignerError::None),
            [secret] => Ok(Self(Scheme::Github(checked(secret)?))),
            _ => Err(SignerError::Several),
        }
    }

    /// `Stripe-Signature` as Stripe makes it, with one `v1` per secret, the first first. The key is the secret's whole
    /// text: a `whsec_` in front belongs to it.
    ///
    /// # Errors
    /// No secret, an empty one, or white space around one.
    pub fn stripe(secrets: &[Secret]) -> Result<Self, SignerError> {
        if secrets.is_empty() {
            return Err(SignerError::None);
        }
        let secrets = secrets.iter().map(checked).collect::<Result<_, _>>()?;
        Ok(Self(Scheme::Stripe(secrets)))
    }

    /// The headers to send, with lower-case names: `webhook-id`, `webhook-timestamp` and the scheme's signature. Every
    /// scheme sends the first two, since an id is what a receiver tells a repetition by. `timestamp` is that of this
    /// attempt, in seconds since 1970; `body` is what goes over the wire. All values are visible ASCII if the id is.
    #[must_use]
    pub fn headers(&self, id: &str, timestamp: u64, body: &[u8]) -> [(&'static str, String); 3] {
        let signature = match &self.0 {
            Scheme::Standard(keys) => (HEADER_SIGNATURE, standard::sign(keys, id, timestamp, body)),
            Scheme::Github(secret) => (HEADER_GITHUB, github::sign(secret, body)),
            Scheme::Stripe(secrets) => (HEADER_STRIPE, stripe::sign(secrets, timestamp, body)),
        };
        [(HEADER_ID, id.to_owned()), (HEADER_TIMESTAMP, timestamp.to_string()), signature]
    }
}

fn checked(secret: &Secret) -> Result<Secret, SignerError> {
    let text = secret.expose();
    if text.is_empty() {
        return Err(SignerError::Empty);
    }
    if text.trim() != text {
        return Err(SignerError::Whitespace);
    }
    Ok(secret.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_names_the_message_and_the_attempt() {
        let secrets = [Secret::new("old"), Secret::new("new")];
        for (signer, header) in [
            (Signer::standard(vec![SigningKey::generate()]).unwrap(), "webhook-signature"),
            (Signer::github(&secrets[..1]).unwrap(), "x-hub-signature-256"),
            (Signer::stripe(&secrets).unwrap(), "stripe-signature"),
        ] {
            let [id, timestamp, signature] = signer.headers("msg_1", 1_700_000_000, b"x");
            assert_eq!(id, ("webhook-id", "msg_1".to_owned()));
            assert_eq!(timestamp, ("webhook-timestamp", "1700000000".to_owned()));
            assert_eq!(signature.0, header);
            assert!(!format!("{signer:?}").contains("old"));
        }
    }

    #[test]
    fn secrets_that_cannot_work_are_refused() {
        let signer = |text: &str| [Secret::new(text)];
        assert_eq!(Signer::standard(vec![]).unwrap_err(), SignerError::None);
        assert_eq!(Signer::github(&[]).unwrap_err(), SignerError::None);
        assert_eq!(Signer::stripe(&[]).unwrap_err(), SignerError::None);
        assert_eq!(Signer::github(&signer("")).unwrap_err(), SignerError::Empty);
        assert_eq!(Signer::stripe(&signer("whsec_x\n")).unwrap_err(), SignerError::Whitespace);
        assert_eq!(Signer::github(&signer(" x")).unwrap_err(), SignerError::Whitespace);
        let two = [Secret::new("a"), Secret::new("b")];
        assert_eq!(Signer::github(&two).unwrap_err(), SignerError::Several);
    }
}
