//! Login: trust, cleartext password, MD5, SCRAM-SHA-256 with and without channel binding.

use bytes::{Buf, Bytes};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::pgoutput::Tag;
use super::connect::{ConnectOptions, zero_byte};
use super::error::{AuthError, ProtocolError, WalsenderError, cstr};
use super::wire::{Parameters, Wire};

const MALFORMED: ProtocolError = ProtocolError::Malformed { what: "authentication request" };

/// Answers authentication requests until the server is content. `end_point` is the connection's data for channel
/// binding, see [`server_end_point`].
pub(super) async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    parameters: &mut Parameters,
    options: &ConnectOptions,
    end_point: Option<Vec<u8>>,
) -> Result<(), WalsenderError> {
    loop {
        let (method, mut body) = request(wire, parameters).await?;
        match method {
            0 => return Ok(()),
            3 => send_password(wire, password(options)?.as_bytes()).await?,
            5 => {
                let mut salt = [0; 4];
                body.try_copy_to_slice(&mut salt).map_err(|_| MALFORMED)?;
                let hash = md5_hash(options.user.as_bytes(), password(options)?.as_bytes(), salt);
                send_password(wire, hash.as_bytes()).await?;
            }
            10 => return scram(wire, parameters, options, end_point, body).await,
            method => return Err(AuthError::UnsupportedMethod { method }.into()),
        }
    }
}

/// One authentication request: its code and what follows.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    parameters: &mut Parameters,
) -> Result<(u32, Bytes), WalsenderError> {
    loop {
        let raw = wire.message().await?;
        match parameters.absorb(raw)? {
            None => {}
            Some(mut raw) if raw.tag == b'R' => {
                let method = raw.body.try_get_u32().map_err(|_| MALFORMED)?;
                return Ok((method, raw.body));
            }
            Some(raw) => {
                return Err(
                    ProtocolError::UnexpectedMessage { tag: Tag(raw.tag), during: "logging in" }.into()
                );
            }
        }
    }
}

fn password(options: &ConnectOptions) -> Result<&str, AuthError> {
    options.password.as_deref().ok_or_else(|| AuthError::PasswordMissing { user: options.user.clone() })
}

async fn send_password<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    password: &[u8],
) -> Result<(), WalsenderError> {
    frontend::password_message(password, wire.output()).map_err(|_| zero_byte("the password"))?;
    wire.flush().await
}

/// The whole SCRAM exchange, and only in its order: a peer that skips its own proof is refused, because it may not
/// know the password.
async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    parameters: &mut Parameters,
    options: &ConnectOptions,
    end_point: Option<Vec<u8>>,
    mut offer: Bytes,
) -> Result<(), WalsenderError> {
    let mut offered = Vec::new();
    loop {
        let mechanism = cstr(&mut offer).ok_or(MALFORMED)?;
        if mechanism.is_empty() {
            break;
        }
        offered.push(String::from_utf8_lossy(&mechanism).into_owned());
    }
    let (mechanism, channel) = choose(&offered, end_point)?;
    let failed = |source| AuthError::Scram { source };
    let mut exchange = ScramSha256::new(password(options)?.as_bytes(), channel);
    frontend::sasl_initial_response(mechanism, exchange.message(), wire.output()).map_err(failed)?;
    wire.flush().await?;

    let body = step(wire, parameters, 11).await?;
    exchange.update(&body).map_err(failed)?;
    frontend::sasl_response(exchange.message(), wire.output()).map_err(failed)?;
    wire.flush().await?;

    let body = step(wire, parameters, 12).await?;
    exchange.finish(&body).map_err(failed)?;
    step(wire, parameters, 0).await.map(drop)
}

async fn step<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    parameters: &mut Parameters,
    expected: u32,
) -> Result<Bytes, WalsenderError> {
    match request(wire, parameters).await? {
        (found, body) if found == expected => Ok(body),
        (0, _) => Err(AuthError::ServerNotProven.into()),
        _ => Err(MALFORMED.into()),
    }
}

/// The strongest mechanism both sides have. RFC 5802, section 6: a client that could bind but is not offered to says
/// so in the signed exchange, so that nobody in between can hide the offer.
fn choose(
    offered: &[String],
    end_point: Option<Vec<u8>>,
) -> Result<(&'static str, ChannelBinding), AuthError> {
    let has = |mechanism: &str| offered.iter().any(|name| name == mechanism);
    match end_point {
        Some(data) if has(SCRAM_SHA_256_PLUS) => {
            Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data)))
        }
        Some(_) if has(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        _ if has(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(AuthError::UnsupportedMechanism { offered: offered.to_vec() }),
    }
}

/// Hash of a certificate for `tls-server-end-point`, RFC 5929, section 4.1: the hash of its signature algorithm, but
/// SHA-256 in place of MD5 and SHA-1. `None` where no single hash is defined (Ed25519) or where it stands in
/// parameters that are not read here (RSA-PSS); the login then goes without channel binding.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // 1.2.840.113549.1.1.x (RSA), 1.2.840.10045.4.1 and 1.2.840.10045.4.3.x (ECDSA)
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    const ECDSA_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let oid = signature_algorithm(certificate)?;
    let (family, last) = oid.split_at_checked(oid.len().checked_sub(1)?)?;
    let sha256 = || Some(Sha256::digest(certificate).to_vec());
    let sha384 = || Some(Sha384::digest(certificate).to_vec());
    let sha512 = || Some(Sha512::digest(certificate).to_vec());
    match last {
        _ if oid == ECDSA_SHA1 => sha256(),
        [4 | 5 | 11] if family == RSA => sha256(),
        [12] if family == RSA => sha384(),
        [13] if family == RSA => sha512(),
        [2] if family == ECDSA_SHA2 => sha256(),
        [3] if family == ECDSA_SHA2 => sha384(),
        [4] if family == ECDSA_SHA2 => sha512(),
        _ => None,
    }
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, ... }, ... }`, RFC 5280.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OID: u8 = 0x06;
    let (certificate, _) = der(certificate, SEQUENCE)?;
    let (_, rest) = der(certificate, SEQUENCE)?;
    let (algorithm, _) = der(rest, SEQUENCE)?;
    der(algorithm, OID).map(|(oid, _)| oid)
}

/// Content of the DER element at the front, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(first.into());
    }
    let (digits, rest) = rest.split_at_checked((first & 0x7f).into())?;
    if !(1..=4).contains(&digits.len()) {
        return None;
    }
    let length = digits.iter().fold(0, |length: usize, &digit| length << 8 | usize::from(digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::connect::TlsMode;
    use super::*;

    /// A certificate as far as it is read here: a long-form length, a body, an algorithm, a signature.
    fn certificate(oid: &[u8]) -> Vec<u8> {
        let mut algorithm = vec![0x06, u8::try_from(oid.len()).unwrap()];
        algorithm.extend_from_slice(oid);
        let mut inner = vec![0x30, 0x82, 0x01, 0x00];
        inner.extend_from_slice(&[0xaa; 256]);
        inner.extend_from_slice(&[0x30, u8::try_from(algorithm.len()).unwrap()]);
        inner.extend_from_slice(&algorithm);
        inner.extend_from_slice(&[0x03, 0x02, 0x00, 0x01]);
        let mut all = vec![0x30, 0x82];
        all.extend_from_slice(&u16::try_from(inner.len()).unwrap().to_be_bytes());
        all.extend_from_slice(&inner);
        all
    }

    #[test]
    fn end_point_hash_follows_the_signature_algorithm() {
        let rsa = |last| certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last]);
        let ecdsa = |last| certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last]);
        let sha1 = rsa(5);
        assert_eq!(server_end_point(&sha1), Some(Sha256::digest(&sha1).to_vec()));
        for (certificate, bytes) in [
            (rsa(11), 32),
            (rsa(12), 48),
            (rsa(13), 64),
            (ecdsa(2), 32),
            (ecdsa(3), 48),
            (ecdsa(4), 64),
            (certificate(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]), 32),
        ] {
            assert_eq!(server_end_point(&certificate).map(|hash| hash.len()), Some(bytes));
        }
        assert_eq!(server_end_point(&rsa(10)), None, "RSA-PSS");
        assert_eq!(server_end_point(&certificate(&[0x2b, 0x65, 0x70])), None, "Ed25519");
    }

    #[test]
    fn mechanism_choice() {
        let pick = |offered: &[&str], data: Option<Vec<u8>>| {
            let offered: Vec<String> = offered.iter().map(|&name| name.to_owned()).collect();
            let (name, channel) = choose(&offered, data)?;
            let first = String::from_utf8(ScramSha256::new(b"", channel).message().to_vec()).unwrap();
            Ok::<_, AuthError>((name, first.split(',').next().unwrap().to_owned()))
        };
        let both = [SCRAM_SHA_256, SCRAM_SHA_256_PLUS];
        assert_eq!(
            pick(&both, Some(vec![1])).unwrap(),
            (SCRAM_SHA_256_PLUS, "p=tls-server-end-point".into())
        );
        assert_eq!(pick(&both, None).unwrap(), (SCRAM_SHA_256, "n".into()));
        assert_eq!(pick(&[SCRAM_SHA_256], Some(vec![1])).unwrap(), (SCRAM_SHA_256, "y".into()));
        assert_eq!(pick(&[SCRAM_SHA_256], None).unwrap(), (SCRAM_SHA_256, "n".into()));
        assert!(matches!(
            pick(&["OAUTHBEARER"], Some(vec![1])),
            Err(AuthError::UnsupportedMechanism { offered }) if offered == ["OAUTHBEARER"]
        ));
    }

    /// Logs in at a peer that sends these authentication requests, each after the first once it got an answer.
    /// Gives the result and what the peer was sent.
    async fn against(
        password: Option<&str>,
        requests: Vec<Vec<u8>>,
    ) -> (Result<(), WalsenderError>, Vec<u8>) {
        let (client, mut server) = tokio::io::duplex(1024);
        let options = ConnectOptions {
            host: "db".into(),
            port: 5432,
            user: "md5_user".into(),
            password: password.map(Into::into),
            database: "shop".into(),
            application_name: "rowbridge".into(),
            tls: TlsMode::Disable,
            connect_timeout: Duration::from_secs(5),
        };
        let peer = tokio::spawn(async move {
            let mut got = Vec::new();
            for request in requests {
                let mut message = vec![b'R'];
                message.extend_from_slice(&u32::try_from(request.len() + 4).unwrap().to_be_bytes());
                message.extend_from_slice(&request);
                server.write_all(&message).await.unwrap();
                let mut answer = [0; 1024];
                let length = server.read(&mut answer).await.unwrap();
                got.extend_from_slice(&answer[..length]);
            }
            got
        });
        let mut wire = Wire::new(client);
        let result = login(&mut wire, &mut Parameters::default(), &options, None).await;
        drop(wire);
        (result, peer.await.unwrap())
    }

    #[tokio::test]
    async fn trust_and_passwords() {
        let ok = || vec![0; 4];
        let (result, sent) = against(None, vec![ok()]).await;
        result.unwrap();
        assert_eq!(sent, b"");
        let (result, sent) = against(Some("x y"), vec![vec![0, 0, 0, 3], ok()]).await;
        result.unwrap();
        assert_eq!(sent, b"p\0\0\0\x08x y\0");
        let (result, sent) =
            against(Some("password"), vec![vec![0, 0, 0, 5, 0x2a, 0x3d, 0x8f, 0xe0], ok()]).await;
        result.unwrap();
        assert_eq!(sent, b"p\0\0\0\x28md562af4dd09bbb41884907a838a3233294\0");
    }

    #[tokio::test]
    async fn logins_that_cannot_be() {
        let sasl = b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec();
        let (result, _) = against(None, vec![sasl.clone()]).await;
        assert!(matches!(result, Err(WalsenderError::Auth(AuthError::PasswordMissing { .. }))), "{result:?}");
        let (result, _) = against(Some("x"), vec![vec![0, 0, 0, 7]]).await;
        assert!(
            matches!(result, Err(WalsenderError::Auth(AuthError::UnsupportedMethod { method: 7 }))),
            "{result:?}"
        );
        let (result, _) = against(Some("x"), vec![sasl.clone(), vec![0; 4]]).await;
        assert!(matches!(result, Err(WalsenderError::Auth(AuthError::ServerNotProven))), "{result:?}");
        let (result, _) =
            against(Some("x"), vec![sasl.clone(), b"\0\0\0\x0br=other,s=AA==,i=1".to_vec()]).await;
        assert!(matches!(result, Err(WalsenderError::Auth(AuthError::Scram { .. }))), "{result:?}");
        for end in 0..sasl.len() {
            let (result, _) = against(Some("x"), vec![sasl[..end].to_vec()]).await;
            assert!(matches!(result, Err(WalsenderError::Protocol(_))), "{end}: {result:?}");
        }
    }

    proptest! {
        #[test]
        fn any_certificate_bytes_are_survived(bytes: Vec<u8>, cut in 0usize..280) {
            let _ = server_end_point(&bytes);
            let whole = certificate(&[0x2b, 0x65, 0x70]);
            prop_assert_eq!(server_end_point(&whole[..cut.min(whole.len() - 1)]), None);
        }
    }
}
