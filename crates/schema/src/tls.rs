//! TLS of connections that Rowbridge makes: to PostgreSQL by libpq's five modes, to endpoints by the web's rules.
//!
//! The ring provider is named everywhere. rustls can pick one by itself only while exactly one is compiled in, and then
//! a dependency that brings another would turn every connection into a panic.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::{ServerUrl, SslMode};

/// Why no TLS configuration could be made. All are permanent until the file or the machine changes.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file that `sslrootcert` names is not there, or not for us.
    #[error("cannot read {} (sslrootcert)", .path.display())]
    Read {
        /// As written.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is there and of no use.
    #[error("cannot use {} (sslrootcert)", .path.display())]
    Use {
        /// As written.
        path: PathBuf,
        /// Why.
        source: Box<TlsError>,
    },
    /// The PEM has no certificate in it: another file, a key, or DER.
    #[error("the PEM file contains no certificate (it needs a -----BEGIN CERTIFICATE----- section)")]
    NoCertificate,
    /// A section is cut off or not base64.
    #[error("the PEM file cannot be read: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// A certificate that cannot serve as an authority.
    #[error("certificate {number} of the PEM file cannot be used: {source}")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: rustls::Error,
    },
    /// The operating system trusts nobody; usual in a container without `ca-certificates`.
    #[error(
        "the system has no trusted certificate authorities{reason} (install its ca-certificates package, or name a \
         PEM file: sslrootcert= in a database URL, ca = \"...\" of an endpoint)"
    )]
    NoSystemRoots {
        /// What the system's store said, with `: ` in front, or nothing.
        reason: String,
    },
    /// What should hold a client certificate holds none.
    #[error(
        "the PEM of the client certificate contains none (it needs a -----BEGIN CERTIFICATE----- section)"
    )]
    NoClientCertificate,
    /// No private key that could be read.
    #[error(
        "the key of the client certificate cannot be read (it needs a -----BEGIN PRIVATE KEY----- section): {0}"
    )]
    ClientKey(rustls_pki_types::pem::Error),
    /// Certificate and key do not belong together, or are of a kind that is not spoken.
    #[error("the client certificate cannot be used with its key: {0}")]
    ClientCertificate(rustls::Error),
    /// The provider lacks the protocol versions; cannot happen with ring.
    #[error("TLS cannot be set up: {0}")]
    Versions(rustls::Error),
}

/// How far a server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Not at all: encryption against listeners, none against impostors.
    Nothing,
    /// The chain to a trusted authority.
    Chain,
    /// The chain, and that the certificate is for the host that was meant.
    ChainAndName,
}

/// For connections to the server of this URL, by its `sslmode` and the file that its `sslrootcert` names.
///
/// # Errors
/// As [`postgres_client`], and what is wrong with the file.
pub fn of_url(url: &ServerUrl) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let Some(path) = &url.ssl_root_cert else { return postgres_client(url.ssl_mode, None) };
    let pem = std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })?;
    postgres_client(url.ssl_mode, Some(&pem))
        .map_err(|source| TlsError::Use { path: path.clone(), source: Box::new(source) })
}

/// For a PostgreSQL connection. `None` for [`SslMode::Disable`]. `roots_pem` is what `sslrootcert` names: these
/// authorities are trusted instead of the system's. `Prefer` and `Require` look at neither.
///
/// The caller decides what to do when the server refuses TLS: `Prefer` goes on without, all others give up.
///
/// # Errors
/// See [`TlsError`]. Reads the system's store if it needs it, so call it once and not per connection.
pub fn postgres_client(
    mode: SslMode,
    roots_pem: Option<&[u8]>,
) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let check = match mode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer | SslMode::Require => Check::Nothing,
        SslMode::VerifyCa => Check::Chain,
        SslMode::VerifyFull => Check::ChainAndName,
    };
    let roots = match (check, roots_pem) {
        (Check::Nothing, _) => RootCertStore::empty(),
        (_, Some(pem)) => {
            let mut roots = RootCertStore::empty();
            add_pem(&mut roots, pem)?;
            roots
        }
        (_, None) => system_roots()?,
    };
    Ok(Some(Arc::new(client(roots, check)?)))
}

/// For drivers that make their own TLS: the authorities to trust, in DER. None are needed by the modes that do not verify.
///
/// # Errors
/// See [`TlsError`]. Reads the system's store if it needs it, so call it once and not per connection.
pub fn authorities(mode: SslMode, roots_pem: Option<&[u8]>) -> Result<Vec<Vec<u8>>, TlsError> {
    let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let found = match roots_pem {
        _ if !verifies => return Ok(Vec::new()),
        Some(pem) => {
            add_pem(&mut RootCertStore::empty(), pem)?;
            CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(TlsError::Pem)?
        }
        None => {
            system_roots()?;
            // A certificate that cannot serve as an authority would make the driver refuse all of them.
            let readable = |certificate: &CertificateDer<'_>| {
                RootCertStore::empty().add(certificate.clone().into_owned()).is_ok()
            };
            rustls_native_certs::load_native_certs().certs.into_iter().filter(readable).collect()
        }
    };
    Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// For HTTPS towards endpoints: the system's authorities, and those of `extra_ca_pem` besides. A machine without
/// any of its own is fine if the PEM has some. By value, as HTTP clients take it.
///
/// # Errors
/// See [`TlsError`].
pub fn https_client(extra_ca_pem: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    https_client_as(extra_ca_pem, None)
}

/// What a client shows to servers that ask who it is (mTLS).
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, and the intermediate ones that lead to its authority.
    pub certificates_pem: &'a [u8],
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key_pem: &'a [u8],
}

/// As [`https_client`], with a certificate of our own for servers that ask for one.
///
/// # Errors
/// See [`TlsError`].
pub fn https_client_as(
    extra_ca_pem: Option<&[u8]>,
    identity: Option<Identity<'_>>,
) -> Result<ClientConfig, TlsError> {
    let mut roots = match (system_roots(), extra_ca_pem) {
        (Ok(roots), _) => roots,
        (Err(_), Some(_)) => RootCertStore::empty(),
        (Err(error), None) => return Err(error),
    };
    if let Some(pem) = extra_ca_pem {
        add_pem(&mut roots, pem)?;
    }
    let builder = builder(roots, Check::ChainAndName)?;
    let Some(Identity { certificates_pem, key_pem }) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(certificates_pem);
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(TlsError::Pem)?;
    if chain.is_empty() {
        return Err(TlsError::NoClientCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(TlsError::ClientKey)?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::ClientCertificate)
}

fn client(roots: RootCertStore, check: Check) -> Result<ClientConfig, TlsError> {
    Ok(builder(roots, check)?.with_no_client_auth())
}

fn builder(
    roots: RootCertStore,
    check: Check,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier { roots, check, provider: Arc::clone(&provider) };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn add_pem(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), TlsError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(TlsError::Pem)?;
        count += 1;
        roots.add(certificate).map_err(|source| TlsError::Certificate { number: count, source })?;
    }
    if count == 0 { Err(TlsError::NoCertificate) } else { Ok(()) }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry a few certificates that no modern library reads; they would only be missed by their own servers.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(TlsError::NoSystemRoots { reason });
    }
    Ok(roots)
}

/// Checks as much of a certificate as the mode asks for. The handshake's signatures are always checked: they prove that
/// the server holds the key of the certificate it shows, without which even channel binding would be worth nothing.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)
            .map_err(explain)?;
        if self.check == Check::ChainAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The one refusal that OpenSSL's users do not expect: `openssl req -x509` makes a certificate that is an authority
/// (CA:TRUE), which RFC 5280 does not let a server show. rustls says `CaUsedAsEndEntity`, to be read in its text only.
fn explain(error: rustls::Error) -> rustls::Error {
    match &error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            rustls::Error::General(
                "the server's certificate is an authority's own (CA:TRUE), as `openssl req -x509` makes it; give the \
                 server one with -addext basicConstraints=critical,CA:FALSE"
                    .to_owned(),
            )
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    // Made for these tests with openssl, valid for a hundred years: an authority, a server certificate by it for
    // db.example and 127.0.0.1, and a self-signed one (CA:TRUE) for db.example.
    const CA: &[u8] = include_bytes!("../testdata/tls/ca.pem");
    const SERVER: &[u8] = include_bytes!("../testdata/tls/server.pem");
    const SERVER_KEY: &[u8] = include_bytes!("../testdata/tls/server.key");
    const SELF_SIGNED: &[u8] = include_bytes!("../testdata/tls/selfsigned.pem");
    const SELF_SIGNED_KEY: &[u8] = include_bytes!("../testdata/tls/selfsigned.key");

    fn server(certificate: &[u8], key: &[u8]) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    /// A whole handshake in memory.
    fn shake_hands(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        name: &str,
    ) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        for _ in 0..10 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                client.process_new_packets()?;
            }
            if !client.is_handshaking() && !server.is_handshaking() {
                let mut nothing = [0];
                assert!(client.reader().read(&mut nothing).is_err());
                return Ok(());
            }
        }
        panic!("the handshake does not end");
    }

    fn postgres(mode: SslMode, pem: &[u8]) -> Arc<ClientConfig> {
        postgres_client(mode, Some(pem)).unwrap().unwrap()
    }

    #[test]
    fn each_mode_checks_what_it_says() {
        use SslMode::{Prefer, Require, VerifyCa, VerifyFull};
        let good = server(SERVER, SERVER_KEY);
        let foreign = server(SELF_SIGNED, SELF_SIGNED_KEY);
        for (mode, name, ours, unknown) in [
            (Prefer, "other.example", true, true),
            (Require, "other.example", true, true),
            (VerifyCa, "other.example", true, false),
            (VerifyFull, "other.example", false, false),
            (VerifyFull, "db.example", true, false),
            (VerifyFull, "127.0.0.1", true, false),
            (VerifyFull, "127.0.0.2", false, false),
        ] {
            let client = postgres(mode, CA);
            let result = shake_hands(Arc::clone(&client), Arc::clone(&good), name);
            assert_eq!(result.is_ok(), ours, "{mode:?} {name}: {result:?}");
            let result = shake_hands(client, Arc::clone(&foreign), name);
            assert_eq!(result.is_ok(), unknown, "{mode:?} {name}: {result:?}");
        }
        assert!(postgres_client(SslMode::Disable, Some(CA)).unwrap().is_none());
    }

    #[test]
    fn tls_1_2_is_checked_alike() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap();
        let chain = CertificateDer::pem_slice_iter(SERVER).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).unwrap();
        let server = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let full = postgres(SslMode::VerifyFull, CA);
        shake_hands(Arc::clone(&full), Arc::clone(&server), "db.example").unwrap();
        shake_hands(full, Arc::clone(&server), "other.example").unwrap_err();
        shake_hands(postgres(SslMode::Require, CA), server, "other.example").unwrap();
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_even_where_nothing_is_verified() {
        // A server that shows somebody else's certificate and signs with its own key.
        let chain = CertificateDer::pem_slice_iter(SERVER).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(SELF_SIGNED_KEY).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let signer = provider.key_provider.load_private_key(key).unwrap();
        let impostor = rustls::sign::CertifiedKey::new(chain, signer);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(impostor)));
        let error = shake_hands(postgres(SslMode::Require, CA), Arc::new(config), "db.example").unwrap_err();
        assert_eq!(error, rustls::Error::InvalidCertificate(CertificateError::BadSignature));
    }

    #[test]
    fn a_self_signed_authority_as_server_is_explained() {
        let server = server(SELF_SIGNED, SELF_SIGNED_KEY);
        let error =
            shake_hands(postgres(SslMode::VerifyFull, SELF_SIGNED), server, "db.example").unwrap_err();
        assert!(error.to_string().contains("CA:FALSE"), "{error}");
    }

    #[test]
    fn an_endpoint_is_always_verified() {
        let good = server(SERVER, SERVER_KEY);
        let client = Arc::new(https_client(Some(CA)).unwrap());
        shake_hands(Arc::clone(&client), Arc::clone(&good), "db.example").unwrap();
        shake_hands(client, Arc::clone(&good), "other.example").unwrap_err();
        // The machine that runs this may have no authorities of its own; that is an answer too.
        match https_client(None) {
            Ok(client) => assert!(shake_hands(Arc::new(client), good, "db.example").is_err()),
            Err(error) => assert!(matches!(error, TlsError::NoSystemRoots { .. })),
        }
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let client = |certificates_pem, key_pem| {
            https_client_as(Some(CA), Some(Identity { certificates_pem, key_pem }))
        };
        assert!(client(SERVER, SERVER_KEY).unwrap().client_auth_cert_resolver.has_certs());
        assert!(matches!(client(SERVER, SELF_SIGNED_KEY), Err(TlsError::ClientCertificate(_))));
        assert!(matches!(client(SERVER_KEY, SERVER_KEY), Err(TlsError::NoClientCertificate)));
        assert!(matches!(client(SERVER, SERVER), Err(TlsError::ClientKey(_))));
        assert!(!https_client(Some(CA)).unwrap().client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn what_is_no_certificate_says_so() {
        let error = |pem: &[u8]| postgres_client(SslMode::VerifyFull, Some(pem)).unwrap_err();
        assert!(matches!(error(b""), TlsError::NoCertificate));
        assert!(matches!(error(b"no PEM at all"), TlsError::NoCertificate));
        assert!(matches!(error(SERVER_KEY), TlsError::NoCertificate));
        assert!(matches!(error(b"-----BEGIN CERTIFICATE-----\nMIIB"), TlsError::Pem(_)));
        let not_der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(not_der), TlsError::Certificate { number: 1, .. }));
        assert!(matches!(https_client(Some(b"")).unwrap_err(), TlsError::NoCertificate));
    }
}
