//! Against servers that the test makes.

mod exchange;
mod guard;
mod limits;
mod proxy;
mod tls;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rowbridge_schema::config::{Auth, AuthMethod, ClientCredentials, ProxyUrl};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::connect::{Dialer, Limits};
use super::pool::IDLE;
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What arrived.
#[derive(Debug, Clone)]
struct Arrived {
    /// The request line.
    line: String,
    /// All headers, names as sent.
    head: String,
    body: Vec<u8>,
}

impl Arrived {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Reads one request; `None` when the client has closed the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Arrived> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let (line, head) = text.split_once("\r\n").unwrap();
    let mut arrived = Arrived { line: line.to_owned(), head: head.to_owned(), body: Vec::new() };
    let length = arrived.header("content-length").map_or(0, |text| text.parse().unwrap());
    arrived.body.resize(length, 0);
    stream.read_exact(&mut arrived.body).await.ok()?;
    Some(arrived)
}

/// Answers every request of every connection with what `answer` says, which is told the connection (from 0).
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    answer: impl Fn(usize, &Arrived) -> String,
) {
    while let Some(arrived) = read_request(&mut stream).await {
        let text = answer(connection, &arrived);
        if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Accepts on loopback for as long as the test runs.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    handle: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(handle(stream, connection));
        }
    });
    address
}

async fn listen_http(
    answer: impl Fn(usize, &Arrived) -> String + Clone + Send + Sync + 'static,
) -> SocketAddr {
    listen(move |stream, connection| serve(stream, connection, answer.clone())).await
}

fn config(url: &str) -> ClientConfig {
    ClientConfig {
        timeout: Duration::from_secs(10),
        ..ClientConfig::new("crm".parse().unwrap(), Url::parse(url).unwrap())
    }
}

fn to(address: SocketAddr) -> ClientConfig {
    config(&format!("http://{address}/"))
}

fn client(address: SocketAddr) -> Client {
    Client::new(to(address)).unwrap()
}

fn request(body: &'static str) -> Request {
    let mut request = Request::new("/hook?a=b", body).unwrap();
    request.set(HeaderName::from_static("webhook-id"), HeaderValue::from_static("msg_1")).unwrap();
    request
}

/// Names lead where the test says, each time anew; real addresses are dialled as `dialled` says.
fn dialer(
    lookup: impl Fn(&str) -> Vec<SocketAddr> + Send + Sync + 'static,
    dialled: impl Fn(SocketAddr) -> SocketAddr + Send + Sync + 'static,
) -> Dialer {
    Dialer {
        lookup: Arc::new(move |name| {
            let found: io::Result<_> = Ok(lookup(&name));
            Box::pin(async move { found })
        }),
        connector: Arc::new(move |address| {
            let address = dialled(address);
            Box::pin(async move { TcpStream::connect(address).await })
        }),
        limits: Limits::default(),
    }
}

fn with_dialer(config: ClientConfig, dialer: Dialer) -> Client {
    Client::with_dialer(config, dialer, IDLE).unwrap()
}
