//! Certificates made by the test that uses them, and a proxy that ends TLS in front of a server that speaks none.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::port::free_port;

/// A certificate and its key, each as PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// A certificate authority of one test.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, with a key of its own.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(authority_params(name, &[]), key).unwrap())
    }

    /// Its certificate, for those who should trust it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for these host names and addresses.
    #[must_use]
    pub fn issue(&self, hosts: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params("server", hosts).signed_by(&key, &self.0).unwrap();
        Certificate { pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// What `openssl req -x509` makes: a server's certificate that signed itself and is an authority (CA:TRUE).
#[must_use]
pub fn self_signed(hosts: &[&str]) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let certificate = authority_params("server", hosts).self_signed(&key).unwrap();
    Certificate { pem: certificate.pem(), key_pem: key.serialize_pem() }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority_params(name: &str, hosts: &[&str]) -> CertificateParams {
    let mut params = params(name, hosts);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// Ends TLS on all of 127.0.0.0/8 and passes what is inside to a port of this machine, as a load balancer in front of a
/// subscriber does. Dropping it closes everything.
#[derive(Debug)]
pub struct Terminator {
    port: u16,
    task: tokio::task::JoinHandle<()>,
    closing: Arc<watch::Sender<bool>>,
}

impl Terminator {
    /// Listens on a free port with this certificate.
    #[must_use]
    pub fn start(certificate: &Certificate, upstream: u16) -> Self {
        Self::with(server_config(certificate, None), upstream)
    }

    /// The same, and refuses whoever shows no certificate of this authority.
    #[must_use]
    pub fn asking(certificate: &Certificate, clients: &Authority, upstream: u16) -> Self {
        Self::with(server_config(certificate, Some(clients)), upstream)
    }

    fn with(config: ServerConfig, upstream: u16) -> Self {
        let port = free_port();
        // Not only 127.0.0.1: a test of a wrong host name takes another address that leads here too.
        let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let closing = Arc::new(watch::Sender::new(false));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = crate::background().spawn(accept(listener, acceptor, upstream, Arc::clone(&closing)));
        Self { port, task, closing }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.task.abort();
        self.closing.send_replace(true);
    }
}

fn server_config(certificate: &Certificate, clients: Option<&Authority>) -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(certificate.pem.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    builder.with_single_cert(chain, key).unwrap()
}

async fn accept(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    upstream: u16,
    closing: Arc<watch::Sender<bool>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (acceptor, mut closing) = (acceptor.clone(), closing.subscribe());
        let pass = async move {
            // A client that trusts somebody else, or speaks no TLS, ends its own connection and nothing more.
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                _ = pass => {}
            }
        });
    }
}
