//! Addresses that are not called, whatever leads to them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn socket(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_seen_at_the_next_connection() {
    let address = listen(|mut stream, _| async move {
        // One answer per connection, so that each request dials.
        read_request(&mut stream).await.unwrap();
        let text = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(text.as_bytes()).await.unwrap();
    })
    .await;
    let (asked, dialled) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&dialled);
    // Public at first, then this machine. What is dialled is the test's server in any case.
    let rebinding = dialer(
        move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => vec![socket("93.184.215.14")],
            1 => vec![socket("127.0.0.1")],
            _ => vec![socket("169.254.169.254")],
        },
        move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            address
        },
    );
    let (tls, server) = super::tls::pair(&["crm.example"]);
    let secure = super::tls::listen_tls(server, address).await;
    let rebinding = Dialer {
        connector: {
            let inner = Arc::clone(&rebinding.connector);
            Arc::new(move |address| {
                drop(inner(address));
                Box::pin(TcpStream::connect(secure))
            })
        },
        ..rebinding
    };
    let config = ClientConfig { tls: Some(tls), ..config("https://crm.example/") };
    let client = with_dialer(config, rebinding);
    let first = client.send(&request("x")).await;
    assert_eq!(first.result.unwrap().status, 200);
    assert!(first.timing.dns.is_some() && first.timing.tls.is_some());
    let error = client.send(&request("x")).await.result.unwrap_err();
    assert!(matches!(error, AttemptError::Address(AddressError::NotPublic { .. })), "{error:?}");
    assert_eq!(error.label(), "address");
    let error = client.send(&request("x")).await.result.unwrap_err();
    assert!(matches!(error, AttemptError::Address(AddressError::Metadata { .. })), "{error:?}");
    assert_eq!(dialled.load(Ordering::SeqCst), 1, "nothing was dialled but the public address");
}

#[tokio::test]
async fn names_do_not_lead_to_this_machine_or_its_network() {
    for ip in ["127.0.0.1", "10.1.2.3", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "fe80::1"] {
        let dialer = dialer(move |_| vec![socket(ip)], |_| panic!("dialled"));
        let client = with_dialer(config("https://crm.example/"), dialer);
        let error = client.send(&request("x")).await.result.unwrap_err();
        assert!(matches!(error, AttemptError::Address(AddressError::NotPublic { .. })), "{ip}: {error:?}");
    }
    // What is allowed among what is not.
    let address = listen_http(|_, _| OK.into()).await;
    let mixed = dialer(
        |_| vec![socket("192.168.0.1"), socket("10.0.0.7")],
        move |dialled| {
            assert_eq!(dialled, SocketAddr::new("10.0.0.7".parse().unwrap(), 8080));
            address
        },
    );
    let allow_networks = vec!["10.0.0.0/8".parse().unwrap()];
    let client = with_dialer(ClientConfig { allow_networks, ..config("http://crm.internal:8080/") }, mixed);
    client.send(&request("x")).await.result.unwrap();
}

#[test]
fn literals_are_read_in_every_spelling() {
    let refused = |url: &str| match Client::new(config(url)) {
        Err(SetupError::Address(error)) => error,
        other => panic!("{url}: {other:?}"),
    };
    for url in [
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://0xa9.254.0251.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
    ] {
        assert!(matches!(refused(url), AddressError::Metadata { .. }), "{url}");
    }
    for url in ["http://8.8.8.8/", "http://134744072/", "http://[2606:4700::1]/"] {
        assert!(matches!(refused(url), AddressError::PlainHttp { .. }), "{url}");
    }
    for url in ["ftp://crm.example/", "file:///etc/passwd", "data:x"] {
        assert!(matches!(Client::new(config(url)), Err(SetupError::Url)), "{url}");
    }
    for url in
        ["http://127.0.0.1/", "http://2130706433/", "http://10.0.0.1/", "http://[::1]/", "http://localhost/"]
    {
        assert!(Client::new(config(url)).is_ok(), "{url}");
    }
}

#[tokio::test]
async fn a_working_address_is_found_among_dead_ones() {
    let address = listen_http(|_, _| OK.into()).await;
    let dialer = Dialer {
        connector: Arc::new(move |dialled| {
            Box::pin(async move {
                match dialled.ip().to_string().as_str() {
                    // One that is never heard of again, and one that refuses.
                    "fd12::1" => std::future::pending().await,
                    "10.0.0.1" => Err(io::ErrorKind::ConnectionRefused.into()),
                    _ => TcpStream::connect(address).await,
                }
            })
        }),
        ..dialer(|_| vec![socket("fd12::1"), socket("10.0.0.1"), socket("10.0.0.2")], |address| address)
    };
    let allow_networks = vec!["10.0.0.0/8".parse().unwrap(), "fd12::/16".parse().unwrap()];
    let client = with_dialer(ClientConfig { allow_networks, ..config("http://crm.internal/") }, dialer);
    let exchange = client.send(&request("x")).await;
    exchange.result.unwrap();
    assert!(exchange.timing.connect.unwrap() >= Duration::from_millis(250), "{:?}", exchange.timing);
}
