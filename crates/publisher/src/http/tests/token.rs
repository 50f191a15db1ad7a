//! OAuth 2.0 client credentials, and fixed credentials on the wire.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rowbridge_schema::{Class, Classified, Secret};

use super::*;

fn json(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn credentials(server: SocketAddr) -> ClientCredentials {
    ClientCredentials {
        token_url: Url::parse(&format!("http://{server}/oauth/token?tenant=7")).unwrap(),
        client_id: "us:er".to_owned(),
        client_secret: Secret::new("hunter2 &"),
        scope: Some("hooks.write hooks.read".to_owned()),
        audience: None,
        method: AuthMethod::Basic,
    }
}

fn client(endpoint: SocketAddr, credentials: ClientCredentials) -> Client {
    Client::new(ClientConfig { auth: Auth::OAuth2(credentials), concurrency: 8, ..to(endpoint) }).unwrap()
}

/// Counts what it grants: token-1, token-2 and so on.
async fn granting(expires_in: &'static str) -> (SocketAddr, Arc<Mutex<Vec<Arrived>>>) {
    let log = Arc::new(Mutex::new(Vec::<Arrived>::new()));
    let seen = Arc::clone(&log);
    let address = listen(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(arrived) = read_request(&mut stream).await {
                let count = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(arrived);
                    seen.len()
                };
                // Long enough for others to ask meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let body = format!(
                    r#"{{"access_token":"token-{count}","token_type":"Bearer","expires_in":{expires_in}}}"#
                );
                stream.write_all(json(200, &body).as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, log)
}

#[tokio::test]
async fn one_token_serves_all_requests() {
    let (server, log) = granting("3600").await;
    let endpoint = listen_http(|_, arrived| {
        let right = arrived.header("authorization") == Some("Bearer token-1");
        json(if right { 200 } else { 403 }, "")
    })
    .await;
    let client = client(endpoint, credentials(server));
    let request = request("x");
    let many = futures_util::future::join_all((0..8).map(|_| client.send(&request))).await;
    assert!(many.iter().all(|exchange| exchange.result.as_ref().is_ok_and(|answer| answer.status == 200)));
    assert_eq!(many.iter().filter(|exchange| exchange.timing.token.is_some()).count(), 1);
    assert_eq!(client.send(&request).await.timing.token, None);
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 1, "one fetch for all of them");
    assert_eq!(log[0].line, "POST /oauth/token?tenant=7 HTTP/1.1");
    assert_eq!(log[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    // us%3Aer:hunter2+%26
    assert_eq!(log[0].header("authorization"), Some("Basic dXMlM0FlcjpodW50ZXIyKyUyNg=="));
    assert_eq!(log[0].body, b"grant_type=client_credentials&scope=hooks.write+hooks.read");
}

#[tokio::test]
async fn id_and_secret_may_stand_in_the_form() {
    let (server, log) = granting("3600").await;
    let endpoint = listen_http(|_, _| OK.into()).await;
    let credentials = ClientCredentials {
        scope: None,
        audience: Some("https://api.example/".to_owned()),
        method: AuthMethod::Body,
        ..credentials(server)
    };
    client(endpoint, credentials).send(&request("x")).await.result.unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log[0].header("authorization"), None);
    let form = "grant_type=client_credentials&audience=https%3A%2F%2Fapi.example%2F&client_id=us%3Aer&\
                client_secret=hunter2+%26";
    assert_eq!(log[0].body, form.as_bytes());
}

#[tokio::test]
async fn a_token_near_its_end_is_not_used() {
    let (server, log) = granting("0").await;
    let endpoint = listen_http(|_, _| OK.into()).await;
    let client = client(endpoint, credentials(server));
    for _ in 0..2 {
        assert!(client.send(&request("x")).await.timing.token.is_some());
    }
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once() {
    let (server, log) = granting("3600").await;
    let revoked = Arc::new(Mutex::new(String::new()));
    let no_more = Arc::clone(&revoked);
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let endpoint = listen_http(move |_, arrived| {
        count.fetch_add(1, Ordering::SeqCst);
        let shown = arrived.header("authorization").unwrap();
        let revoked = no_more.lock().unwrap();
        let refused = !revoked.is_empty() && (revoked.as_str() == "all" || shown.ends_with(revoked.as_str()));
        json(if refused { 401 } else { 200 }, "")
    })
    .await;
    let client = client(endpoint, credentials(server));
    let send = async || client.send(&request("x")).await.result.unwrap().status;
    assert_eq!(send().await, 200);
    *revoked.lock().unwrap() = "token-1".to_owned();
    assert_eq!(send().await, 200);
    assert_eq!((log.lock().unwrap().len(), requests.load(Ordering::SeqCst)), (2, 3));
    // One who refuses everything is asked twice, and is believed.
    *revoked.lock().unwrap() = "all".to_owned();
    assert_eq!(send().await, 401);
    assert_eq!((log.lock().unwrap().len(), requests.load(Ordering::SeqCst)), (3, 5));
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = listen(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            while read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                let text =
                    json(401, r#"{"error":"invalid_client","error_description":"hunter2 & is wrong"}"#);
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let endpoint = listen_http(|_, _| panic!("a request went out without a token")).await;
    let client = client(endpoint, credentials(server));
    let request = request("x");
    let many = futures_util::future::join_all((0..8).map(|_| client.send(&request))).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    for exchange in many {
        let error = exchange.result.unwrap_err();
        assert_eq!(error.to_string(), "127.0.0.1 answered 401 instead of an access token (invalid_client)");
        assert_eq!((error.label(), error.class()), ("token", Class::RETRYABLE));
        assert!(error.hint().unwrap().contains("client secret"));
        assert!(!format!("{error:?} {}", error.report()).contains("hunter2"));
        assert!(exchange.timing.token.is_some() && exchange.timing.connect.is_none());
    }
    // The next who comes asks again.
    client.send(&request).await.result.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_no_token_is_an_error_that_shows_nothing() {
    let endpoint = listen_http(|_, _| panic!("a request went out without a token")).await;
    for (answer, expected) in [
        (json(200, "<html>hunter2"), "the answer of 127.0.0.1 holds no bearer token that can be sent"),
        (json(503, "hunter2"), "127.0.0.1 answered 503 instead of an access token"),
        (json(302, ""), "127.0.0.1 answered 302 instead of an access token"),
    ] {
        let server = listen_http(move |_, _| answer.clone()).await;
        let error = client(endpoint, credentials(server)).send(&request("x")).await.result.unwrap_err();
        assert_eq!(error.report(), expected);
    }
    let credentials = ClientCredentials {
        token_url: Url::parse("https://login.example/token").unwrap(),
        ..credentials(endpoint)
    };
    let (tls, _) = super::tls::pair(&["login.example"]);
    let private = dialer(|_| vec!["10.0.0.1:0".parse().unwrap()], |_| panic!("dialled"));
    let config = ClientConfig { auth: Auth::OAuth2(credentials), tls: Some(tls), ..to(endpoint) };
    let error = with_dialer(config, private).send(&request("x")).await.result.unwrap_err();
    assert!(
        error.report().contains("cannot fetch an access token from login.example: endpoint crm resolves to")
    );
}

#[test]
fn a_token_server_is_guarded_like_an_endpoint() {
    let credentials = ClientCredentials {
        token_url: Url::parse("http://169.254.169.254/token").unwrap(),
        ..credentials("127.0.0.1:9".parse().unwrap())
    };
    let config = ClientConfig { auth: Auth::OAuth2(credentials), ..config("http://127.0.0.1:9/") };
    assert!(matches!(Client::new(config), Err(SetupError::Address(AddressError::Metadata { .. }))));
}

#[tokio::test]
async fn fixed_credentials_are_sent() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = listen_http(move |_, arrived| {
        log.lock().unwrap().push(arrived.header("authorization").unwrap().to_owned());
        OK.into()
    })
    .await;
    for auth in [
        Auth::Bearer(Secret::new("abc")),
        Auth::Basic { user: "Aladdin".to_owned(), password: Secret::new("open sesame") },
    ] {
        let client = Client::new(ClientConfig { auth, ..to(address) }).unwrap();
        client.send(&request("x")).await.result.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), ["Bearer abc", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]);
}
