//! Ways out through a proxy.

use std::sync::Mutex;

use rowbridge_schema::{Classified, Secret};

use super::*;

type Log = Arc<Mutex<Vec<Arrived>>>;

/// A proxy that tunnels everything to `target` once user and password are right.
async fn tunnel(target: SocketAddr, log: &Log) -> SocketAddr {
    let log = Arc::clone(log);
    listen(move |mut stream, _| {
        let log = Arc::clone(&log);
        async move {
            let Some(arrived) = read_request(&mut stream).await else { return };
            let right = arrived.header("proxy-authorization") == Some("Basic dXM6cEBzcw==");
            log.lock().unwrap().push(arrived);
            if !right {
                let text = b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(text).await.unwrap();
                return;
            }
            stream.write_all(b"HTTP/1.1 200 Go\r\n\r\n").await.unwrap();
            let mut target = TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
        }
    })
    .await
}

fn through(url: &str, proxy: &str) -> ClientConfig {
    ClientConfig { proxy: Some(Proxy::new(&ProxyUrl::parse(&Secret::new(proxy)).unwrap())), ..config(url) }
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let arrived = Arc::clone(&seen);
    let upstream = listen_http(move |_, request| {
        arrived.lock().unwrap().push(request.clone());
        OK.into()
    })
    .await;
    let (tls, server) = super::tls::pair(&["crm.example"]);
    let log = Log::default();
    let proxy = tunnel(super::tls::listen_tls(server, upstream).await, &log).await;
    let config = through("https://crm.example/", &format!("http://us:p%40ss@{proxy}"));
    // The name is the proxy's to resolve.
    let dialer = dialer(|name| panic!("{name} was resolved"), |address| address);
    let client = with_dialer(ClientConfig { tls: Some(tls), ..config }, dialer);
    let first = client.send(&request("x")).await;
    first.result.unwrap();
    assert!(first.timing.connect.is_some() && first.timing.tls.is_some() && first.timing.dns.is_none());
    assert!(client.send(&request("x")).await.reused);
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].line, "CONNECT crm.example:443 HTTP/1.1");
    let seen = seen.lock().unwrap();
    assert_eq!(
        (seen[0].line.as_str(), seen[0].header("host")),
        ("POST /hook?a=b HTTP/1.1", Some("crm.example"))
    );
    assert_eq!(seen[0].header("proxy-authorization"), None, "the target is not told");
}

#[tokio::test]
async fn a_proxy_may_speak_tls_itself() {
    let upstream = listen_http(|_, _| OK.into()).await;
    let authority = super::tls::Authority::new("ours");
    let tls = Tls::new(Some(authority.pem().as_bytes()), None).unwrap();
    let target =
        super::tls::listen_tls(super::tls::server(&authority.issue(&["crm.example"])), upstream).await;
    let proxy = tunnel(target, &Log::default()).await;
    let proxy = super::tls::listen_tls(super::tls::server(&authority.issue(&["127.0.0.1"])), proxy).await;
    let config = through("https://crm.example/", &format!("https://us:p%40ss@{proxy}"));
    let client = Client::new(ClientConfig { tls: Some(tls), ..config }).unwrap();
    client.send(&request("x")).await.result.unwrap();
}

#[tokio::test]
async fn a_refusal_says_that_it_was_the_proxy() {
    let proxy = tunnel("127.0.0.1:9".parse().unwrap(), &Log::default()).await;
    let (tls, _) = super::tls::pair(&["crm.example"]);
    let send = async |proxy: String| {
        let config = ClientConfig { tls: Some(tls.clone()), ..through("https://crm.example/", &proxy) };
        Client::new(config).unwrap().send(&request("x")).await.result.unwrap_err()
    };
    let error = send(format!("http://us:wrong@{proxy}")).await;
    assert_eq!(error.to_string(), "the proxy 127.0.0.1 answered 407 instead of connecting");
    assert!(error.hint().unwrap().contains("password"));
    assert_eq!(error.label(), "proxy");
    assert!(!format!("{error:?} {}", error.report()).contains("wrong"));
    for (status, hint) in [(403, "Allow"), (502, "reach the target")] {
        let address =
            listen_http(move |_, _| format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n")).await;
        let error = send(format!("http://{address}")).await;
        assert!(matches!(error, AttemptError::ProxyRefused { status: found, .. } if found == status));
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
    let mute = listen(|stream, _| async move { drop(stream) }).await;
    let error = send(format!("http://{mute}")).await;
    assert!(matches!(error, AttemptError::ProxyBroken { .. }), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    let error = send(format!("http://{gone}")).await;
    assert_eq!(error.to_string(), "cannot connect to the proxy 127.0.0.1");
    let plain = listen(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let error = send(format!("https://{plain}")).await;
    assert_eq!(error.to_string(), "cannot set up TLS with the proxy 127.0.0.1");
}

#[tokio::test]
async fn http_to_an_address_goes_as_a_whole_url() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let arrived = Arc::clone(&seen);
    let proxy = listen_http(move |_, request| {
        arrived.lock().unwrap().push(request.clone());
        if request.header("proxy-authorization").is_some() {
            OK.into()
        } else {
            "HTTP/1.1 407 Who?\r\ncontent-length: 0\r\n\r\n".into()
        }
    })
    .await;
    let client = Client::new(through("http://10.0.0.7:8080/", &format!("http://us:p%40ss@{proxy}"))).unwrap();
    client.send(&request("x")).await.result.unwrap();
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0].line, "POST http://10.0.0.7:8080/hook?a=b HTTP/1.1");
        assert_eq!(seen[0].header("host"), Some("10.0.0.7:8080"));
        assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dXM6cEBzcw=="));
    }
    let client = Client::new(through("http://10.0.0.7:8080/", &format!("http://{proxy}"))).unwrap();
    let error = client.send(&request("x")).await.result.unwrap_err();
    assert!(matches!(error, AttemptError::ProxyRefused { status: 407, .. }), "{error:?}");
}

#[test]
fn the_guard_holds_for_what_is_written() {
    let refused = |url: &str, proxy: &str| Client::new(through(url, proxy)).unwrap_err();
    let metadata = refused("https://169.254.169.254/", "http://proxy.internal:3128");
    assert!(matches!(metadata, SetupError::Address(AddressError::Metadata { .. })));
    let metadata = refused("https://crm.example/", "http://169.254.169.254:3128");
    assert!(matches!(metadata, SetupError::Address(AddressError::Metadata { .. })));
    let plain = refused("http://crm.example/", "http://proxy.internal:3128");
    assert!(matches!(plain, SetupError::PlainThroughProxy { .. }));
}

#[tokio::test]
async fn a_proxy_that_resolves_to_a_private_address_is_meant_but_no_metadata_service() {
    let address = listen_http(|_, _| "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n".into()).await;
    let (tls, _) = super::tls::pair(&["crm.example"]);
    for (ip, meant) in [("10.0.0.9", true), ("169.254.169.254", false)] {
        let found = SocketAddr::new(ip.parse().unwrap(), 0);
        let dialer = dialer(move |_| vec![found], move |_| address);
        let config = through("https://crm.example/", "http://proxy.internal:3128");
        let client = with_dialer(ClientConfig { tls: Some(tls.clone()), ..config }, dialer);
        let error = client.send(&request("x")).await.result.unwrap_err();
        assert_eq!(matches!(error, AttemptError::ProxyRefused { .. }), meant, "{error:?}");
        assert_eq!(
            matches!(error, AttemptError::Address(AddressError::Metadata { .. })),
            !meant,
            "{error:?}"
        );
    }
}
