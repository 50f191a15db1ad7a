//! TLS: who is believed, and who we are.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rowbridge_schema::tls::Identity;
use rowbridge_schema::{Class, Classified};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) key_pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn issue(&self, hosts: &[&str]) -> Issued {
        self.issue_as(params("server", hosts))
    }

    fn issue_as(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(issued.pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    (chain, PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap())
}

pub(super) fn server(issued: &Issued) -> ServerConfig {
    let (chain, key) = chain(issued);
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap()
}

/// A client that trusts, and a server that is trusted.
pub(super) fn pair(hosts: &[&str]) -> (Tls, ServerConfig) {
    let authority = Authority::new("ours");
    let tls = Tls::new(Some(authority.pem().as_bytes()), None).unwrap();
    (tls, server(&authority.issue(hosts)))
}

/// TLS in front of a server that speaks none.
pub(super) async fn listen_tls(config: ServerConfig, upstream: SocketAddr) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut plain = TcpStream::connect(upstream).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
        }
    })
    .await
}

fn https(address: SocketAddr, tls: &Tls) -> Client {
    Client::new(ClientConfig { tls: Some(tls.clone()), ..config(&format!("https://{address}/")) }).unwrap()
}

#[tokio::test]
async fn a_trusted_server_is_talked_to_and_its_connection_kept() {
    let upstream = listen_http(|_, _| OK.into()).await;
    let (tls, config) = pair(&["127.0.0.1"]);
    let client = https(listen_tls(config, upstream).await, &tls);
    let first = client.send(&request("x")).await;
    first.result.unwrap();
    assert!(first.timing.tls.is_some() && first.timing.connect.is_some());
    let second = client.send(&request("x")).await;
    assert!(second.reused && second.timing.tls.is_none());
}

#[tokio::test]
async fn untrusted_servers_are_refused_with_the_way_out() {
    let upstream = listen_http(|_, _| panic!("a request went out")).await;
    let authority = Authority::new("ours");
    let tls = Tls::new(Some(authority.pem().as_bytes()), None).unwrap();
    let mut old = params("server", &["127.0.0.1"]);
    (old.not_before, old.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let mut young = params("server", &["127.0.0.1"]);
    (young.not_before, young.not_after) = (date_time_ymd(2999, 1, 1), date_time_ymd(3000, 1, 1));
    for (issued, hint) in [
        (Authority::new("theirs").issue(&["127.0.0.1"]), "endpoint.ca"),
        (authority.issue(&["other.example"]), "endpoint.url"),
        (authority.issue_as(old), "Renew"),
        (authority.issue_as(young), "clock"),
    ] {
        let client = https(listen_tls(server(&issued), upstream).await, &tls);
        let exchange = client.send(&request("x")).await;
        let error = exchange.result.unwrap_err();
        assert!(matches!(error, AttemptError::Tls { .. }), "{error:?}");
        assert_eq!((error.label(), error.class()), ("tls", Class::RETRYABLE));
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert!(error.report().starts_with("cannot set up TLS with 127.0.0.1: "), "{}", error.report());
        assert!(exchange.timing.tls.is_some() && exchange.timing.first_byte.is_none());
    }
    // Somebody who speaks no TLS at all.
    let plain = listen(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let error = https(plain, &tls).send(&request("x")).await.result.unwrap_err();
    assert!(error.hint().unwrap().contains("speaks no TLS"), "{error:?}");
    // And one who hangs up.
    let gone = listen(|stream, _| async move { drop(stream) }).await;
    let error = https(gone, &tls).send(&request("x")).await.result.unwrap_err();
    assert!(matches!(error, AttemptError::Handshake { .. }), "{error:?}");
    assert_eq!(error.label(), "tls");
}

#[tokio::test]
async fn tls_1_2_is_spoken_and_nothing_below_exists() {
    let upstream = listen_http(|_, _| OK.into()).await;
    let authority = Authority::new("ours");
    let (chain, key) = chain(&authority.issue(&["127.0.0.1"]));
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let tls = Tls::new(Some(authority.pem().as_bytes()), None).unwrap();
    https(listen_tls(config, upstream).await, &tls).send(&request("x")).await.result.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_is_shown_a_certificate() {
    let upstream = listen_http(|_, _| OK.into()).await;
    let authority = Authority::new("ours");
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let (chain, key) = chain(&authority.issue(&["127.0.0.1"]));
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
        let address = listen_tls(builder.with_single_cert(chain, key).unwrap(), upstream).await;
        let ca = authority.pem();
        let show = |issued: Option<Issued>| {
            let identity = issued.as_ref().map(|issued| Identity {
                certificates_pem: issued.pem.as_bytes(),
                key_pem: issued.key_pem.as_bytes(),
            });
            https(address, &Tls::new(Some(ca.as_bytes()), identity).unwrap())
        };
        show(Some(authority.issue(&["us.example"]))).send(&request("x")).await.result.unwrap();
        for client in [show(None), show(Some(Authority::new("theirs").issue(&["us.example"])))] {
            let error = client.send(&request("x")).await.result.unwrap_err();
            assert!(matches!(error, AttemptError::Tls { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("client certificate"), "{error:?}");
        }
    }
}
