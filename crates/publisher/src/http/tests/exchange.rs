//! Requests, answers, connections.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_the_second_reuses_the_connection() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = listen_http(move |connection, arrived| {
        log.lock().unwrap().push((connection, arrived.clone()));
        "HTTP/1.1 202 Accepted\r\ncontent-type: text/plain\r\nretry-after: 7\r\ndate: today\r\ncontent-length: 5\r\n\r\nhello".into()
    })
    .await;
    let client = client(address);
    let first = client.send(&request("{}")).await;
    let answer = first.result.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.truncated), (202, &b"hello"[..], false));
    assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
    let wish = RetryAfter { value: "7".into(), date: Some("today".into()) };
    assert_eq!(answer.retry_after.as_deref(), Some(&wish));
    let timing = first.timing;
    assert!(!first.reused && timing.connect.is_some() && timing.first_byte.is_some(), "{timing:?}");
    assert_eq!((timing.dns, timing.tls, timing.token), (None, None, None));
    assert!(timing.total >= timing.connect.unwrap() + timing.first_byte.unwrap());
    let second = client.clone().send(&request("{}")).await;
    assert!(second.result.is_ok() && second.reused);
    assert_eq!((second.timing.dns, second.timing.connect, second.timing.tls), (None, None, None));
    assert!(second.timing.first_byte.is_some());

    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 0]);
    let arrived = &seen[0].1;
    assert_eq!(arrived.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(arrived.header("host"), Some(address.to_string().as_str()));
    assert_eq!(arrived.header("user-agent"), Some(concat!("rowbridge/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(arrived.header("content-length"), Some("2"));
    assert_eq!(arrived.header("webhook-id"), Some("msg_1"));
    assert_eq!((arrived.header("accept-encoding"), arrived.header("authorization")), (None, None));
    assert_eq!(arrived.body, b"{}");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let address = listen_http(|connection, _| {
        assert_eq!(connection, 0);
        "HTTP/1.1 307 Moved\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n".into()
    })
    .await;
    let answer = client(address).send(&request("")).await.result.unwrap();
    assert_eq!((answer.status, answer.location.as_deref()), (307, Some("http://169.254.169.254/latest")));
}

#[tokio::test]
async fn concurrent_requests_have_connections_of_their_own_and_few_are_kept() {
    let gate = Arc::new(tokio::sync::Barrier::new(3));
    let address = listen(move |mut stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            read_request(&mut stream).await.unwrap();
            // Answers only once all three are there.
            gate.wait().await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_request(&mut stream).await;
        }
    })
    .await;
    let client = Client::new(ClientConfig { concurrency: 2, ..to(address) }).unwrap();
    let request = request("x");
    let (a, b, c) = tokio::join!(client.send(&request), client.send(&request), client.send(&request));
    assert!([a, b, c].iter().all(|exchange| exchange.result.is_ok() && !exchange.reused));
    assert_eq!(client.idle(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    // Closed and seen: the next request begins with a new one.
    let closed = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&closed);
    let address = listen(move |mut stream, _| {
        let told = Arc::clone(&told);
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            told.notify_one();
        }
    })
    .await;
    let client = client(address);
    for _ in 0..3 {
        let exchange = client.send(&request("x")).await;
        assert!(exchange.result.is_ok() && !exchange.reused);
        closed.notified().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_close_that_crosses_the_request_is_repeated_once_on_a_new_connection() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    // The first connection answers once, reads the second request and closes without a word.
    let address = listen(move |mut stream, connection| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(arrived) = read_request(&mut stream).await {
                assert_eq!(arrived.header("webhook-id"), Some("msg_1"));
                if counted.fetch_add(1, Ordering::SeqCst) == 1 {
                    return;
                }
                assert!(connection < 2);
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let client = client(address);
    client.send(&request("x")).await.result.unwrap();
    let second = client.send(&request("x")).await;
    assert_eq!(second.result.unwrap().status, 200);
    assert!(!second.reused && second.timing.connect.is_some());
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn nothing_is_repeated_on_a_new_connection_or_once_the_answer_began() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = listen(move |mut stream, _| {
        let counted = Arc::clone(&counted);
        async move {
            read_request(&mut stream).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let error = client(address).send(&request("x")).await.result.unwrap_err();
    assert!(matches!(error, AttemptError::Broken { status: None, .. }), "{error:?}");
    assert_eq!((error.label(), count.load(Ordering::SeqCst)), ("broken", 1));

    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let address = listen(move |mut stream, _| {
        let counted = Arc::clone(&counted);
        async move {
            while read_request(&mut stream).await.is_some() {
                if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                } else {
                    // One byte is enough: somebody read the request.
                    stream.write_all(b"H").await.unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let client = client(address);
    client.send(&request("x")).await.result.unwrap();
    let second = client.send(&request("x")).await;
    assert!(matches!(second.result, Err(AttemptError::Broken { .. })), "{:?}", second.result);
    assert!(second.reused && second.timing.first_byte.is_some());
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let (told, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let address = listen(move |mut stream, connection| {
        let told = told.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
            told.send(connection).unwrap();
        }
    })
    .await;
    let idle = Duration::from_millis(100);
    let client = Client::with_dialer(to(address), Dialer::system(), idle).unwrap();
    client.send(&request("x")).await.result.unwrap();
    assert_eq!(client.idle(), 1);
    assert_eq!(closed.recv().await, Some(0), "nobody sends, and it is closed all the same");
    assert_eq!(client.idle(), 0);
    assert!(!client.send(&request("x")).await.reused);
    drop(client);
    assert_eq!(closed.recv().await, Some(1), "the last client takes its connections with it");
}

#[tokio::test]
async fn a_reset_within_the_body_keeps_the_status() {
    let address = listen(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await.unwrap();
    })
    .await;
    let exchange = client(address).send(&request("x")).await;
    let error = exchange.result.unwrap_err();
    assert!(matches!(error, AttemptError::Broken { status: Some(200), .. }), "{error:?}");
    assert_eq!(error.status(), Some(200));
    assert!(error.report().starts_with("the exchange with 127.0.0.1 broke off within its answer 200: "));
    assert!(exchange.timing.first_byte.is_some());
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 999999 x\r\n\r\n", "\0\0\0\0"] {
        let address = listen(move |mut stream, _| async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
        })
        .await;
        let error = client(address).send(&request("x")).await.result.unwrap_err();
        assert!(matches!(error, AttemptError::Broken { .. }), "{garbage:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_refused_before_it_is_read_has_an_answer() {
    // More than sockets hold: the server answers while it is still being sent, and reads none of it.
    let body = "x".repeat(32 << 20);
    let address = listen(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await.unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let client = client(address);
    let answer = client.send(&Request::new("/", body).unwrap()).await.result.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"big"[..]));
    assert_eq!(client.idle(), 0, "half a request is on it");
}

#[tokio::test]
async fn a_long_body_arrives_whole_and_an_empty_one_too() {
    let address = listen_http(|_, arrived| {
        let sum: usize = arrived.body.iter().map(|byte| usize::from(*byte)).sum();
        let text = format!("{} {sum}", arrived.body.len());
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
    })
    .await;
    let client = client(address);
    for (body, told) in [("\u{7}".repeat(5 << 20), "5242880 36700160"), (String::new(), "0 0")] {
        let exchange = client.send(&Request::new("/", body).unwrap()).await;
        assert_eq!(exchange.result.unwrap().body, told.as_bytes());
    }
    assert_eq!(client.idle(), 1);
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_chunks_keep_the_connection() {
    let address = listen_http(|connection, _| {
        assert_eq!(connection, 0);
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nretry-after: 5\r\n\r\n\
         HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n"
            .into()
    })
    .await;
    let client = client(address);
    for used in [false, true] {
        let exchange = client.send(&request("x")).await;
        assert_eq!(exchange.reused, used);
        let answer = exchange.result.unwrap();
        assert_eq!((answer.status, &answer.body[..], answer.retry_after), (200, &b"abcde"[..], None));
    }
}

#[tokio::test]
async fn a_connection_on_which_more_came_than_was_asked_for_is_not_used_again() {
    let extra = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for answer in [
        format!("{extra}{extra}"),
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        let sent = answer.clone();
        let address = listen_http(move |_, _| sent.clone()).await;
        let client = client(address);
        assert!(client.send(&request("x")).await.result.is_ok(), "{answer:?}");
        assert_eq!(client.idle(), 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_may_end_with_the_connection() {
    let address = listen(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it").await.unwrap();
    })
    .await;
    let answer = client(address).send(&request("x")).await.result.unwrap();
    assert_eq!(&answer.body[..], b"all of it");
}

#[tokio::test]
async fn headers_of_the_endpoint_go_before_those_of_an_event() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = listen_http(move |_, arrived| {
        log.lock().unwrap().push(arrived.head.clone());
        OK.into()
    })
    .await;
    let auth = Auth::Bearer(rowbridge_schema::Secret::new("mine"));
    let client = Client::new(ClientConfig { auth, ..to(address) }).unwrap();
    let mut request = request("x");
    for (name, value) in [("authorization", "Bearer other"), ("user-agent", "shop/1")] {
        request.set(HeaderName::from_static(name), HeaderValue::from_static(value)).unwrap();
    }
    client.send(&request).await.result.unwrap();
    let heads = seen.lock().unwrap();
    let named = |name: &str| -> Vec<_> { heads[0].lines().filter(|line| line.starts_with(name)).collect() };
    assert_eq!(named("authorization"), ["authorization: Bearer mine"]);
    assert_eq!(named("user-agent"), ["user-agent: shop/1"]);
}
