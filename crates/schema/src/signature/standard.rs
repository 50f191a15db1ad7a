//! Standard Webhooks 1.0.0: `v1` and `v1a` over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac as _;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::mac::{HmacSha256, MAX_HEADER, MAX_SIGNATURES, any_matches, check_age, mac};
use super::{SignedHeaders, VerifyError};
use crate::secret::{Check, Kind, SigningKey, VerifyingKey};

/// An id longer than this is not one that anybody makes.
const MAX_ID: usize = 256;

/// `id.timestamp.body`, in parts: only ed25519 needs them in one piece.
fn parts<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

/// The value of `webhook-signature`: one entry per key (`v1` or `v1a`, by the key's kind), the first key first, separated
/// by spaces.
#[must_use]
pub fn sign(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let parts = parts(id, &timestamp, body);
    let signature = |key: &SigningKey| match key.kind() {
        Kind::Shared(bytes) => format!("v1,{}", STANDARD.encode(mac(bytes, &parts).finalize().into_bytes())),
        Kind::Private(private) => format!("v1a,{}", STANDARD.encode(private.pair.sign(&parts.concat()))),
    };
    keys.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// As [`verify_with`], by what belongs to keys that sign. Both ends of a bridge hold the same secret.
///
/// # Errors
/// The reason, for the log.
pub fn verify(
    keys: &[SigningKey],
    headers: SignedHeaders<'_>,
    body: &[u8],
    now_seconds: u64,
    tolerance_seconds: u64,
) -> Result<(), VerifyError> {
    let keys: Vec<VerifyingKey> = keys.iter().map(SigningKey::verifying).collect();
    verify_with(&keys, headers, body, now_seconds, tolerance_seconds)
}

/// Checks headers, age and signature, in this order, against every key: `v1` in constant time by the shared keys, `v1a` by
/// the public ones. An entry of another version is passed over; one entry that matches one key is enough.
///
/// # Errors
/// The reason, for the log.
pub fn verify_with(
    keys: &[VerifyingKey],
    headers: SignedHeaders<'_>,
    body: &[u8],
    now_seconds: u64,
    tolerance_seconds: u64,
) -> Result<(), VerifyError> {
    let SignedHeaders { id, timestamp, signature } = headers;
    if id.is_empty() || id.len() > MAX_ID || id.contains('.') || signature.len() > MAX_HEADER {
        return Err(VerifyError::Headers);
    }
    check_age(timestamp, now_seconds, tolerance_seconds)?;
    let (mut shared, mut public) = (Vec::new(), Vec::new());
    for entry in signature.split(' ').take(MAX_SIGNATURES) {
        // A version without its own comma, such as v1b, is not v1.
        let Some((version, encoded)) = entry.split_once(',') else { continue };
        let list = match version {
            "v1" => &mut shared,
            "v1a" => &mut public,
            _ => continue,
        };
        if let Ok(bytes) = STANDARD.decode(encoded) {
            list.push(bytes);
        }
    }
    let parts = parts(id, timestamp, body);
    // Made only where there is a signature to compare it with.
    let (mut macs, mut publics): (Vec<HmacSha256>, Vec<&[u8; 32]>) = (Vec::new(), Vec::new());
    for key in keys {
        match key.check() {
            Check::Shared(bytes) if !shared.is_empty() => macs.push(mac(bytes, &parts)),
            Check::Public(bytes) if !public.is_empty() => publics.push(bytes),
            Check::Shared(_) | Check::Public(_) => {}
        }
    }
    if any_matches(&macs, &shared) || any_proves(&publics, &public, &parts) {
        Ok(())
    } else {
        Err(VerifyError::Mismatch)
    }
}

/// Nothing here is secret, so the first match ends it.
fn any_proves(keys: &[&[u8; 32]], candidates: &[Vec<u8>], parts: &[&[u8]]) -> bool {
    if keys.is_empty() {
        return false;
    }
    let message = parts.concat();
    keys.iter().any(|key| {
        let key = UnparsedPublicKey::new(&ED25519, *key);
        candidates.iter().any(|candidate| key.verify(&message, candidate).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rotation_accepts_either_key_and_skips_unknown_versions() {
        let (old, new) = (SigningKey::generate(), SigningKey::generate());
        let both = format!("v9,abc {} ", sign(&[old.clone(), new.clone()], "id", 10, b"x"));
        let headers = SignedHeaders { id: "id", timestamp: "10", signature: &both };
        assert_eq!(verify(&[old], headers, b"x", 10, 0), Ok(()));
        assert_eq!(verify(&[new], headers, b"x", 10, 0), Ok(()));
        let headers = SignedHeaders { id: "id.x", ..headers };
        assert_eq!(verify(&[SigningKey::generate()], headers, b"x", 10, 0), Err(VerifyError::Headers));
    }

    #[test]
    fn kinds_do_not_stand_in_for_each_other() {
        let (shared, private) = (SigningKey::generate(), SigningKey::generate_ed25519());
        let mixed = sign(&[private.clone(), shared.clone()], "id", 10, b"x");
        let (first, second) = mixed.split_once(' ').unwrap();
        assert!(first.starts_with("v1a,") && second.starts_with("v1,"), "{mixed}");
        let check = |key: &SigningKey, signature: &str| {
            verify(
                std::slice::from_ref(key),
                SignedHeaders { id: "id", timestamp: "10", signature },
                b"x",
                10,
                0,
            )
        };
        assert_eq!(check(&shared, &mixed), Ok(()));
        assert_eq!(check(&private, &mixed), Ok(()));
        assert_eq!(check(&shared, first), Err(VerifyError::Mismatch));
        assert_eq!(check(&private, second), Err(VerifyError::Mismatch));
        assert_eq!(check(&private, &first.replace("v1a,", "v1,")), Err(VerifyError::Mismatch));
        assert_eq!(check(&shared, &second.replace("v1,", "v1a,")), Err(VerifyError::Mismatch));
        // The bytes of a public key are known to everybody: they must not pass for a shared secret.
        let Check::Public(known) = *private.verifying().check() else { panic!() };
        let forged = sign(&[SigningKey::from_bytes(known.to_vec())], "id", 10, b"x");
        assert_eq!(check(&private, &forged), Err(VerifyError::Mismatch));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(body in proptest::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1u8..) {
            for key in [SigningKey::generate(), SigningKey::generate_ed25519()] {
                let keys = [key];
                let signature = sign(&keys, "id", 10, &body);
                let headers = SignedHeaders { id: "id", timestamp: "10", signature: &signature };
                prop_assert_eq!(verify(&keys, headers, &body, 10, 0), Ok(()));
                let mut changed = body.clone();
                let at = at.index(changed.len());
                changed[at] ^= flip;
                prop_assert_eq!(verify(&keys, headers, &changed, 10, 0), Err(VerifyError::Mismatch));
            }
        }

        #[test]
        fn foreign_headers_never_panic(id in ".*", timestamp in ".*", signature in ".*") {
            let keys = [SigningKey::generate(), SigningKey::generate_ed25519()];
            let headers = SignedHeaders { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert!(verify(&keys, headers, b"", 10, 300).is_err());
        }
    }
}
