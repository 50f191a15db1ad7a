//! Bounds: of every phase, and of what is read.

use super::*;

fn short(address: SocketAddr) -> ClientConfig {
    ClientConfig { timeout: Duration::from_millis(200), ..to(address) }
}

#[tokio::test]
async fn no_answer_ends_at_the_timeout() {
    let address = listen(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let exchange = Client::new(short(address)).unwrap().send(&request("x")).await;
    let error = exchange.result.unwrap_err();
    assert_eq!(error.to_string(), "no answer from 127.0.0.1 within 0.2 s (endpoint.timeout)");
    assert!(matches!(error, AttemptError::Timeout { phase: Phase::Answer, status: None, .. }));
    assert!(exchange.timing.connect.is_some() && exchange.timing.first_byte.is_none());
    assert!(exchange.timing.total >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_body_that_drips_ends_at_the_timeout() {
    let address = listen(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let client = Client::new(short(address)).unwrap();
    let exchange = client.send(&request("x")).await;
    let error = exchange.result.unwrap_err();
    assert!(
        matches!(error, AttemptError::Timeout { phase: Phase::Body, status: Some(200), .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "127.0.0.1 answered 200, but the answer did not end within 0.2 s (endpoint.timeout)"
    );
    assert!(exchange.timing.first_byte.is_some());
    assert_eq!(client.idle(), 0, "a connection with half an answer on it is of no use");
}

#[tokio::test]
async fn an_endless_body_is_cut_and_the_connection_closed() {
    let address = listen(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        while stream.write_all(b"400\r\n").await.is_ok()
            && stream.write_all(&[b'x'; 0x400]).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok()
        {}
    })
    .await;
    let client = client(address);
    let answer = client.send(&request("x")).await.result.unwrap();
    assert_eq!((answer.status, answer.body.len(), answer.truncated), (500, 8 * 1024, true));
    assert_eq!(client.idle(), 0);
}

#[tokio::test]
async fn a_long_body_is_cut_and_the_connection_kept() {
    let body = "x".repeat(60 * 1024);
    let address =
        listen_http(move |_, _| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
            .await;
    let client = client(address);
    let answer = client.send(&request("x")).await.result.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (8 * 1024, true));
    assert!(client.send(&request("x")).await.reused);
}

#[tokio::test]
async fn every_step_towards_a_connection_is_bounded() {
    let limits = Limits {
        resolve: Duration::from_millis(50),
        connect: Duration::from_millis(50),
        tls: Duration::from_millis(50),
    };
    // A name that is never resolved.
    let silent =
        Dialer { lookup: Arc::new(|_| Box::pin(std::future::pending())), limits, ..Dialer::system() };
    let exchange = with_dialer(config("https://crm.example/"), silent).send(&request("x")).await;
    let error = exchange.result.unwrap_err();
    assert_eq!(error.to_string(), "the name of crm.example was not resolved within 0.05 s");
    assert!(exchange.timing.dns.is_some() && exchange.timing.connect.is_none());
    // An address that does not answer.
    let deaf =
        Dialer { connector: Arc::new(|_| Box::pin(std::future::pending())), limits, ..Dialer::system() };
    let exchange = with_dialer(config("http://127.0.0.1:9/"), deaf).send(&request("x")).await;
    assert_eq!(exchange.result.unwrap_err().to_string(), "no connection to 127.0.0.1 within 0.05 s");
    assert!(exchange.timing.connect.unwrap() >= Duration::from_millis(50) && exchange.timing.tls.is_none());
    // A server that does not shake hands.
    let address = listen(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let slow = Dialer { limits, ..Dialer::system() };
    let exchange = with_dialer(config(&format!("https://{address}/")), slow).send(&request("x")).await;
    let error = exchange.result.unwrap_err();
    assert_eq!(error.to_string(), "no TLS with 127.0.0.1 within 0.05 s");
    assert!(matches!(error, AttemptError::Timeout { phase: Phase::Tls, .. }));
    assert!(exchange.timing.tls.is_some() && exchange.timing.first_byte.is_none());
}

#[tokio::test]
async fn nobody_there_is_told_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address).send(&request("x")).await.result.unwrap_err();
    assert!(matches!(&error, AttemptError::Connect { source, .. }
        if source.kind() == io::ErrorKind::ConnectionRefused));
    assert!(error.report().starts_with("cannot connect to 127.0.0.1: "), "{}", error.report());
    let nowhere = dialer(|_| vec![], |address| address);
    let error = with_dialer(config("https://crm.example/"), nowhere).send(&request("x")).await;
    let error = error.result.unwrap_err();
    assert_eq!(error.report(), "cannot resolve the name of crm.example: the name has no addresses");
}
