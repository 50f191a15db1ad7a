//! TLS towards endpoints: never weaker than the web's rules, and what its refusals mean.

use std::fmt;
use std::sync::Arc;

use rowbridge_schema::tls::{self, Identity, TlsError};

/// How servers are verified, and what is shown to those that ask who calls. TLS 1.2 or higher; there is no way to make one
/// that verifies less. Reads the system's authorities, so make it once and share it: clones share sessions, too.
#[derive(Clone)]
pub struct Tls {
    pub(super) target: Arc<rustls::ClientConfig>,
    /// A proxy is somebody else: it is not shown the client certificate.
    pub(super) proxy: Arc<rustls::ClientConfig>,
}

impl Tls {
    /// The system's authorities and those of `ca_pem`; `identity` for mTLS.
    ///
    /// # Errors
    /// The system trusts nobody and there is no PEM, or one of the PEMs is of no use.
    pub fn new(ca_pem: Option<&[u8]>, identity: Option<Identity<'_>>) -> Result<Self, TlsError> {
        let mut proxy = tls::https_client(ca_pem)?;
        // HTTP/2 is not spoken here, and some servers choose it when the client does not say so.
        proxy.alpn_protocols = vec![b"http/1.1".to_vec()];
        let proxy = Arc::new(proxy);
        let target = match identity {
            None => Arc::clone(&proxy),
            Some(_) => {
                let mut target = tls::https_client_as(ca_pem, identity)?;
                target.alpn_protocols.clone_from(&proxy.alpn_protocols);
                Arc::new(target)
            }
        };
        Ok(Self { target, proxy })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// An I/O error gives the source of what it wraps as its own, so that what it wraps is passed over: it is asked for it.
pub(crate) fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => error.downcast_ref(),
    }
}

pub(crate) fn tls_hint(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as A, CertificateError as C, Error as E};
    match error {
        E::InvalidCertificate(C::UnknownIssuer) => {
            "Name the PEM file of the authority that issued the server's certificate in endpoint.ca."
        }
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "Use a host in endpoint.url that the server's certificate is for, or give the server one for this host."
        }
        E::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => "Renew the server's certificate, or correct the clock of this machine.",
        E::InvalidMessage(_) => {
            "What answers there speaks no TLS: compare scheme and port of endpoint.url with the server."
        }
        E::AlertReceived(
            A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied,
        ) => "The server asks who calls: give the endpoint a client certificate that the server trusts.",
        E::AlertReceived(A::ProtocolVersion) => "The server speaks no TLS 1.2: it needs an update.",
        E::AlertReceived(A::NoApplicationProtocol) => "The server speaks no HTTP/1.1: allow it there.",
        _ => "Correct the server's certificate, or endpoint.ca.",
    }
}

/// The system's authorities with the ring provider. Without https nothing is read from disk.
pub(crate) fn default_tls(https: bool) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    if https {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
