//! What lies between a lane and its endpoint: compression and TLS.

use rowbridge_schema::tls::https_client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority, and a certificate that it gave to db.example and 127.0.0.1; see the crate's tests of TLS.
const CA: &[u8] = include_bytes!("../../../../schema/testdata/tls/ca.pem");
const SERVER: &[u8] = include_bytes!("../../../../schema/testdata/tls/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("../../../../schema/testdata/tls/server.key");
const STRANGER: &[u8] = include_bytes!("../../../../schema/testdata/tls/selfsigned.pem");

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(SERVER).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

/// A lane over a TLS line, to this host, which leads to the target whatever it is.
fn run_tls(target: &Target, host: &str, ca: &[u8], journal: &Arc<MemoryJournal>) -> Running {
    let mut config = config(target);
    config.endpoint.url = format!("https://{host}:{}/in/shop", target.port).parse().unwrap();
    run_towards(config, Some(Arc::new(https_client(Some(ca)).unwrap())), journal)
}

/// As [`run`], but every host name leads to this machine.
fn run_towards(
    mut config: LaneConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    journal: &Arc<MemoryJournal>,
) -> Running {
    config.endpoint.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    let registry = Registry::new();
    let metrics = PublisherMetrics::new(&registry).unwrap();
    let endpoint = config.endpoint.clone();
    let (mut lane, handle) = Lane::new(config, Arc::clone(journal), tls.clone(), &metrics).unwrap();
    let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let lookup: address::Lookup = Arc::new(move |_| Box::pin(async move { Ok(vec![here]) }));
    lane.client = Client::with_lookup(&endpoint, tls, lookup).unwrap();
    let (stop, stopped) = watch::channel(false);
    Running { handle, stop, task: tokio::spawn(lane.run(stopped)), registry }
}

#[tokio::test]
async fn what_the_endpoint_can_inflate_is_compressed_and_signed_as_sent() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    target.with(|state| state.encodings = vec!["br".to_owned()]);
    let mut elsewhere = config(&target);
    elsewhere.endpoint.url = format!("http://warehouse.example:{}/in/shop", target.port).parse().unwrap();
    let lane = run_towards(elsewhere, None, &journal);
    journal.push(part(1, 1, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(1, 3))).await;
    // Any answer may say more than the one before.
    target.with(|state| state.encodings = vec!["br".to_owned(), "zstd".to_owned()]);
    journal.push(change(2, "orders"));
    lane.until(|status| status.acked == Some(at(2, 1))).await;
    journal.push(part(3, 1, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(3, 3))).await;
    // The answer to a compressed delivery gets lost: the same bytes come again, and are taken for what they are.
    target.with(|state| state.faults.push_back(Trick::CutAnswer));
    journal.push(part(4, 1, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(4, 3))).await;
    // Parts of a long transaction, too.
    journal.push(part(5, 1, &["orders"; 3], 20_000, false));
    lane.until(|status| status.staged == Some(at(5, 3))).await;
    journal.push(part(5, 4, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(5, 6))).await;
    lane.stop().await;
    target.with(|state| {
        assert_eq!(state.bad_signatures, 0, "what is signed is what is sent");
        assert_eq!(commits(&state.applied), [1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5]);
        let data = state.seen.iter().filter(|seen| !seen.changes.is_empty());
        let encodings: Vec<_> =
            data.map(|seen| (seen.changes[0].offset.at, seen.encoding.as_deref())).collect();
        let zstd = Some("zstd");
        assert_eq!(encodings, [(1, None), (2, None), (3, zstd), (4, zstd), (4, zstd), (5, zstd), (5, zstd)]);
    });
}

#[tokio::test]
async fn nothing_is_compressed_on_loopback() {
    let (target, journal) = (Target::start().await, MemoryJournal::new());
    let lane = run(config(&target), &journal);
    lane.until(|status| status.acked.is_some()).await;
    journal.push(part(1, 1, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(1, 3))).await;
    lane.stop().await;
    target.with(|state| assert!(state.seen.iter().all(|seen| seen.encoding.is_none())));
}

#[tokio::test]
async fn deliveries_go_over_tls_on_one_connection() {
    let (target, journal) = (Target::start_with(Some(acceptor())).await, MemoryJournal::new());
    journal.push(part(1, 1, &["orders"; 3], 20_000, true));
    let lane = run_tls(&target, "db.example", CA, &journal);
    lane.until(|status| status.acked == Some(at(1, 3))).await;
    journal.push(part(2, 1, &["orders"; 3], 20_000, true));
    lane.until(|status| status.acked == Some(at(2, 3))).await;
    lane.stop().await;
    target.with(|state| {
        assert_eq!(commits(&state.applied), [1, 1, 1, 2, 2, 2]);
        assert_eq!((state.bad_signatures, state.connections), (0, 1));
        assert_eq!(state.seen[1].encoding.as_deref(), Some("zstd"));
    });
    // An address in the URL is a name, too: the certificate has it.
    journal.push(change(3, "orders"));
    let lane = run_tls(&target, "127.0.0.1", CA, &journal);
    lane.until(|status| status.acked == Some(at(3, 1))).await;
    lane.stop().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_gets_no_byte_of_a_delivery() {
    let (target, journal) = (Target::start_with(Some(acceptor())).await, MemoryJournal::new());
    journal.push(change(1, "orders"));
    for (host, ca, expected) in
        [("db.example", STRANGER, "UnknownIssuer"), ("other.example", CA, "not valid for name")]
    {
        let lane = run_tls(&target, host, ca, &journal);
        // Retried and not halted: certificates are renewed without our doing.
        let status =
            lane.until(|status| matches!(status.state, LaneState::Retrying { attempt: 2.., .. })).await;
        let text = status.state.to_string();
        assert!(
            text.contains(&format!("cannot set up TLS with {host}")) && text.contains(expected),
            "{text}"
        );
        lane.stop().await;
    }
    target.with(|state| assert!(state.seen.is_empty() && state.bad_signatures == 0));
}
