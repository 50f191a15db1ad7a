//! What one would write by hand to send webhooks as fast as possible: keep-alive connections, a signature, a JSON body, one
//! request after another. No database, no retries, no timeout, no log.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rowbridge_tests::webhook::{now, secret};
use sha2::Sha256;
use tokio::net::TcpStream;

use super::KEYS;
use super::receiver::{Receiver, Seen};

/// Sends `requests`, on one connection in order, on several in order of each key. In the process of the measuring program,
/// on a thread of its own.
pub(super) async fn by_hand(requests: usize, skipped: usize, connections: usize, body_bytes: usize) -> Seen {
    let receiver = Receiver::start(requests, skipped).await;
    let port = receiver.port();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        for connection in 0..connections {
            local.spawn_local(send(port, requests, connection, connections, body_bytes));
        }
        runtime.block_on(local);
    });
    let seen = receiver.seen().await;
    thread.join().unwrap();
    seen
}

/// Sends what falls to one connection.
async fn send(port: u16, requests: usize, connection: usize, connections: usize, body_bytes: usize) {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(driver);
    let secret = secret(1);
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signer = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let path = if connections == 1 { "/strict/hand" } else { "/key/hand" };
    for number in (0..requests).filter(|number| number % KEYS % connections == connection) {
        let id = format!("shop:{number:040}");
        let body = event(&id, number, body_bytes);
        let timestamp = now().to_string();
        let mut mac = signer.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body.as_bytes()] {
            mac.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let request = hyper::Request::post(path)
            .header("host", format!("127.0.0.1:{port}"))
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert!(response.status().is_success());
        response.into_body().collect().await.unwrap();
    }
}

/// An event as the format `json` has it, filled up to a size.
fn event(id: &str, number: usize, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 64);
    let key = number % KEYS;
    let _ = write!(
        text,
        "{{\"id\":\"{id}\",\"type\":\"row.update\",\"timestamp\":\"2026-01-02T03:04:05.678901Z\",\"stream\":\"shop\",\
         \"data\":{{\"op\":\"update\",\"key\":{{\"id\":{key}}},\"after\":{{\"id\":{key},\"round\":{number},\"note\":\""
    );
    let end = "\"}}}";
    while text.len() + end.len() < bytes {
        text.push('x');
    }
    text + end
}
