//! Published vectors, some of our own that OpenSSL confirmed, and what every verifier must refuse.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::secret::{Secret, SigningKey, VerifyingKey};

const K1: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const K2: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const PRIVATE: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const SVIX_PRIVATE: &str =
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
const SVIX_PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

struct Vector {
    /// What signs, and what verifies it.
    key: &'static str,
    verifier: &'static str,
    id: &'static str,
    timestamp: u64,
    body: &'static [u8],
    signature: &'static str,
}

const ZOE: &str =
    r#"{"type":"row.updated","timestamp":"2025-01-01T00:00:00Z","data":{"id":1,"name":"Zoë – 東京"}}"#;

const STANDARD_VECTORS: [Vector; 9] = [
    // svix-docs, "verifying payloads: how-manual"
    Vector {
        key: "whsec_plJ3nmyCDGBKInavdOK15jsl",
        verifier: "whsec_plJ3nmyCDGBKInavdOK15jsl",
        id: "msg_loFOjxBNrRLzqYUf",
        timestamp: 1_731_705_121,
        body: br#"{"event_type":"ping","data":{"success":true}}"#,
        signature: "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    },
    // standard-webhooks, libraries/rust
    Vector {
        key: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        verifier: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp: 1_649_367_553,
        body: br#"{"email":"test@example.com","username":"test_user"}"#,
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    },
    // svix-webhooks, src/worker.rs, for both kinds of key
    Vector {
        key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        verifier: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: br#"{"test": 2432232314}"#,
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
    Vector {
        key: SVIX_PRIVATE,
        verifier: SVIX_PUBLIC,
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: br#"{"test": 2432232314}"#,
        signature: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    },
    // Our own: text beyond ASCII, three keys.
    Vector {
        key: K1,
        verifier: K1,
        id: "msg_own_0001",
        timestamp: 1_735_689_600,
        body: ZOE.as_bytes(),
        signature: "v1,e4jb6LeRxJ//2/2NZMgI4E81FDpkZwn2GtzFlMD4Hc8=",
    },
    Vector {
        key: K2,
        verifier: K2,
        id: "msg_own_0001",
        timestamp: 1_735_689_600,
        body: ZOE.as_bytes(),
        signature: "v1,+VfNdORJnaoSI2jd8wnOeWdxtHpYqJdjW4Ts85+vBDk=",
    },
    Vector {
        key: PRIVATE,
        verifier: PUBLIC,
        id: "msg_own_0001",
        timestamp: 1_735_689_600,
        body: ZOE.as_bytes(),
        signature: "v1a,kmmBtrMalE4X6D3sfS2WmIvgY9OcwSHrHrgoXU55Kae0hzjNrt8uKoeqrb9lEfCQCXLANOStDUcTVpx/RQhrBQ==",
    },
    // Our own: no text at all, and nothing.
    Vector {
        key: K1,
        verifier: K1,
        id: "msg_own_0002",
        timestamp: 1_735_689_600,
        body: &[0xff, 0xfe, 0x00, 0x0a],
        signature: "v1,Vqz31CXEycKRe09xN4D8ca6n5oZYfz39yYscvaZQYiQ=",
    },
    Vector {
        key: K1,
        verifier: K1,
        id: "msg_own_0003",
        timestamp: 1_735_689_600,
        body: b"",
        signature: "v1,FJVGdAdSwCRljrY+EqXXM69TJArJ8t7MvsnxA1osAao=",
    },
];

#[test]
fn standard_vectors_sign_and_verify() {
    for Vector { key, verifier, id, timestamp, body, signature } in STANDARD_VECTORS {
        // The first was published with a key of 18 bytes, which is too short for us to take from a file.
        let short = key == STANDARD_VECTORS[0].key;
        let (key, verifier) = if short {
            let key = SigningKey::from_bytes(STANDARD.decode(&key[6..]).unwrap());
            (key.clone(), key.verifying())
        } else {
            (SigningKey::parse(key).unwrap(), VerifyingKey::parse(verifier).unwrap())
        };
        assert_eq!(key.verifying(), verifier);
        assert_eq!(sign(std::slice::from_ref(&key), id, timestamp, body), signature);
        let text = timestamp.to_string();
        let headers = SignedHeaders { id, timestamp: &text, signature };
        let at = |now: u64, keys: &[VerifyingKey]| verify_with(keys, headers, body, now, 300);
        let keys = [verifier];
        assert_eq!(at(timestamp, &keys), Ok(()));
        assert_eq!(at(timestamp + 300, &keys), Ok(()));
        assert_eq!(at(timestamp - 300, &keys), Ok(()));
        assert_eq!(at(timestamp + 301, &keys), Err(VerifyError::Stale { skew_seconds: -301 }));
        assert_eq!(at(timestamp - 301, &keys), Err(VerifyError::Stale { skew_seconds: 301 }));
        assert_eq!(verify(&[key], headers, body, timestamp, 300), Ok(()));
        let others = [SigningKey::generate().verifying(), SigningKey::generate_ed25519().verifying()];
        assert_eq!(at(timestamp, &others), Err(VerifyError::Mismatch));
    }
}

#[test]
fn keys_of_both_kinds_sign_in_their_order() {
    let keys: Vec<_> = [K1, PRIVATE, K2].iter().map(|text| SigningKey::parse(text).unwrap()).collect();
    let signatures: Vec<_> = [4, 6, 5].map(|at| STANDARD_VECTORS[at].signature).to_vec();
    let signed = sign(&keys, "msg_own_0001", 1_735_689_600, ZOE.as_bytes());
    assert_eq!(signed, signatures.join(" "));
    // A receiver that knows one of the three is content.
    for verifier in [K1, PUBLIC, K2] {
        let headers = SignedHeaders { id: "msg_own_0001", timestamp: "1735689600", signature: &signed };
        let keys = [VerifyingKey::parse(verifier).unwrap()];
        assert_eq!(verify_with(&keys, headers, ZOE.as_bytes(), 1_735_689_600, 300), Ok(()));
    }
}

/// What is left when one thing about a good message is wrong.
fn standard_with(
    at: usize,
    change: impl FnOnce(&mut String, &mut String, &mut String, &mut Vec<u8>),
) -> Result<(), VerifyError> {
    let vector = &STANDARD_VECTORS[at];
    let (mut id, mut timestamp) = (vector.id.to_owned(), vector.timestamp.to_string());
    let (mut signature, mut body) = (vector.signature.to_owned(), vector.body.to_vec());
    change(&mut id, &mut timestamp, &mut signature, &mut body);
    let headers = SignedHeaders { id: &id, timestamp: &timestamp, signature: &signature };
    verify_with(&[VerifyingKey::parse(vector.verifier).unwrap()], headers, &body, vector.timestamp, 300)
}

#[test]
fn standard_refuses() {
    use VerifyError::{Headers, Mismatch, Stale};
    for at in [2, 3] {
        let version = if at == 2 { "v1" } else { "v1a" };
        assert_eq!(standard_with(at, |_, _, _, _| {}), Ok(()));
        assert_eq!(standard_with(at, |_, _, s, _| *s = format!("{version},")), Err(Mismatch));
        assert_eq!(standard_with(at, |_, _, s, _| s.truncate(version.len() + 9)), Err(Mismatch));
        for other in ["v2", "v0", "V1", "v1b", "", "v1 "] {
            let changed =
                standard_with(at, |_, _, s, _| *s = s.replace(&format!("{version},"), &format!("{other},")));
            assert_eq!(changed, Err(Mismatch), "{other}");
        }
        assert_eq!(standard_with(at, |_, _, s, _| *s = s.replacen("v1", "v1,v1", 1)), Err(Mismatch));
        assert_eq!(
            standard_with(at, |_, t, _, _| *t = "1614265029".to_owned()),
            Err(Stale { skew_seconds: -301 })
        );
        assert_eq!(
            standard_with(at, |_, t, _, _| *t = "1614265631".to_owned()),
            Err(Stale { skew_seconds: 301 })
        );
        for wrong in [
            "Infinity",
            "NaN",
            "1614265330.0",
            "-1614265330",
            "+1614265330",
            " 1614265330",
            "1614265330 ",
            "16142653301614265330",
            "99999999999999999999999",
            "1e9",
            "0x6037a",
            "",
            // The same header twice, joined as HTTP allows.
            "1614265330, 1614265330",
        ] {
            let error = standard_with(at, |_, t, _, _| *t = wrong.to_owned()).unwrap_err();
            assert!(error == Headers || matches!(error, Stale { .. }), "{wrong}: {error:?}");
        }
        assert_eq!(standard_with(at, |id, _, _, _| id.clear()), Err(Headers));
        assert_eq!(standard_with(at, |_, _, s, _| s.clear()), Err(Mismatch));
        assert_eq!(standard_with(at, |id, _, _, _| id.push('x')), Err(Mismatch));
        assert_eq!(standard_with(at, |id, _, _, _| *id = format!("{id}, {id}")), Err(Mismatch));
        assert_eq!(standard_with(at, |_, _, _, body| body.push(b' ')), Err(Mismatch));
        // Within the tolerance, but not what was signed.
        assert_eq!(standard_with(at, |_, t, _, _| *t = "1614265331".to_owned()), Err(Mismatch));
        let two_wrong = standard_with(at, |_, _, s, _| {
            let other = s.replace("hn", "nh").replace("g0", "0g");
            *s = format!("{other} {other}");
        });
        assert_eq!(two_wrong, Err(Mismatch));
        // Accepted: the right one among others, unknown versions, malformed ones.
        let among =
            standard_with(at, |_, _, s, _| *s = format!("v1,AAAA v9,abc v1,=, {version} v1a,AAAA {s} v2,x"));
        assert_eq!(among, Ok(()));
        // Refused: the right one behind more than anybody sends.
        assert_eq!(
            standard_with(at, |_, _, s, _| *s = format!("{}{s}", "v1,AAAA ".repeat(16))),
            Err(Mismatch)
        );
    }
}

const SEEN: u64 = 1_700_000_000;
const EVENT: &[u8] = br#"{"id":"evt_test_webhook","object":"event"}"#;
const PRETTY: &[u8] = b"{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}";
const NEW: &str = "d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990";
const OLD: &str = "e016b64cc4263f90e0336f3975e8d4ac9cc185935edc3ebdd405db64ad0bb1c5";

fn stripe(signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    verify_stripe(&[Secret::new("whsec_test_secret")], signature, body, SEEN, 300)
}

#[test]
fn stripe_vectors_sign_and_verify() {
    let secrets = ["whsec_test_secret", "whsec_old_secret"].map(Secret::new);
    let signed = |secrets: &[Secret], body: &[u8]| {
        let [_, _, (header, value)] = Signer::stripe(secrets).unwrap().headers("evt_1", SEEN, body);
        assert_eq!(header, "stripe-signature");
        value
    };
    let pretty = "4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150";
    assert_eq!(signed(&secrets[..1], EVENT), format!("t=1700000000,v1={NEW}"));
    assert_eq!(signed(&secrets, EVENT), format!("t=1700000000,v1={NEW},v1={OLD}"));
    assert_eq!(signed(&secrets[..1], PRETTY), format!("t=1700000000,v1={pretty}"));
    assert_eq!(stripe(&format!("t=1700000000,v1={pretty}"), PRETTY), Ok(()));
    assert_eq!(stripe(&format!("t=1700000000,v1={pretty}"), EVENT), Err(VerifyError::Mismatch));
    for secret in &secrets {
        let both = signed(&secrets, EVENT);
        assert_eq!(verify_stripe(std::slice::from_ref(secret), &both, EVENT, SEEN + 300, 300), Ok(()));
    }
}

#[test]
fn stripe_refuses() {
    use VerifyError::{Headers, Mismatch, Stale};
    let good = format!("t=1700000000,v1={NEW}");
    assert_eq!(stripe(&good, EVENT), Ok(()));
    assert_eq!(stripe("", EVENT), Err(Headers));
    assert_eq!(stripe("t=1700000000", EVENT), Err(Headers));
    assert_eq!(stripe(&format!("v1={NEW}"), EVENT), Err(Headers));
    assert_eq!(stripe(&format!("1700000000,v1={NEW}"), EVENT), Err(Headers));
    assert_eq!(stripe(&format!("t=1700000000,t=1700000001,v1={NEW}"), EVENT), Err(Headers));
    // A signature of digits is no timestamp.
    assert_eq!(stripe(&format!("v1=1700000000,v1={NEW}"), EVENT), Err(Headers));
    assert_eq!(stripe("t=1700000000,v1=", EVENT), Err(Mismatch));
    assert_eq!(stripe(&format!("t=1700000000,v1={}", &NEW[..8]), EVENT), Err(Mismatch));
    assert_eq!(stripe(&format!("t=1700000000,v0={NEW}"), EVENT), Err(Headers));
    assert_eq!(stripe(&format!("t=1700000000,v1={OLD},v1={OLD}"), EVENT), Err(Mismatch));
    assert_eq!(stripe(&good, &[EVENT, b" "].concat()), Err(Mismatch));
    for wrong in ["Infinity", "1700000000.0", "-1700000000", "99999999999999999999999", ""] {
        assert_eq!(stripe(&format!("t={wrong},v1={NEW}"), EVENT), Err(Headers), "{wrong}");
    }
    let at = |now: u64| verify_stripe(&[Secret::new("whsec_test_secret")], &good, EVENT, now, 300);
    assert_eq!(at(SEEN + 301), Err(Stale { skew_seconds: -301 }));
    assert_eq!(at(SEEN - 301), Err(Stale { skew_seconds: 301 }));
    let padded = verify_stripe(&[Secret::new(" whsec_test_secret ")], &good, EVENT, SEEN, 300);
    assert_eq!(padded, Err(Mismatch));
    // Accepted: any order, unknown schemes beside, one right signature of several.
    assert_eq!(stripe(&format!("v1={NEW},t=1700000000"), EVENT), Ok(()));
    assert_eq!(stripe(&format!("v0={OLD}, v1={OLD}, v1={NEW}, t=1700000000, v2=x"), EVENT), Ok(()));
}

const GITHUB: [(&str, &[u8], &str); 3] = [
    // GitHub Docs
    (
        "It's a Secret to Everybody",
        b"Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    ),
    // octokit, webhooks-methods.js
    ("mysecret", br#"{"foo":"bar"}"#, "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3"),
    // convoy, pkg/verifier
    ("Convoy", b"Test Payload Body", "d7a154547e7c35e31c4c820e20237650939c3d34dae136e30a7757ca61abb4cf"),
];

#[test]
fn github_vectors_sign_and_verify() {
    for (secret, body, digits) in GITHUB {
        let secrets = [Secret::new(secret)];
        let [_, _, (header, value)] = Signer::github(&secrets).unwrap().headers("msg_1", 1, body);
        assert_eq!((header, value.as_str()), ("x-hub-signature-256", format!("sha256={digits}").as_str()));
        assert_eq!(verify_github(&secrets, &value, body), Ok(()));
        assert_eq!(verify_github(&[Secret::new("other"), secrets[0].clone()], &value, body), Ok(()));
    }
}

#[test]
fn github_refuses() {
    use VerifyError::{Headers, Mismatch};
    for (secret, body, digits) in GITHUB {
        let check = |value: &str, body: &[u8]| verify_github(&[Secret::new(secret)], value, body);
        let good = format!("sha256={digits}");
        assert_eq!(check("", body), Err(Headers));
        assert_eq!(check(digits, body), Err(Headers));
        assert_eq!(check(&format!("sha1={digits}"), body), Err(Headers));
        assert_eq!(check("sha256=", body), Err(Mismatch));
        assert_eq!(check(&good[..15], body), Err(Mismatch));
        assert_eq!(check(&format!("{good}00"), body), Err(Mismatch));
        assert_eq!(check(&format!("{good}, {good}"), body), Err(Mismatch));
        assert_eq!(check(&good, &[body, b" "].concat()), Err(Mismatch));
        assert_eq!(verify_github(&[Secret::new(format!(" {secret}"))], &good, body), Err(Mismatch));
        assert_eq!(verify_github(&[], &good, body), Err(Mismatch));
    }
}
