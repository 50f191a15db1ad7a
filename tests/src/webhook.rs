//! Webhooks from outside: an implementation of Standard Webhooks of the harness's own, to forge good and bad requests,
//! and a receiver that answers what the test says.
//!
//! Nothing here uses the product's code, so that a mistake on both ends of the product shows.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::port::free_port;

/// A secret in the form `whsec_BASE64` of 32 fixed bytes, different for each `seed`.
#[must_use]
pub fn secret(seed: u8) -> String {
    format!("whsec_{}", STANDARD.encode([seed; 32]))
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The `v1` signature of Standard Webhooks 1.0.0: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with
/// the bytes that the part of the secret after `whsec_` encodes as key.
///
/// # Panics
/// When the secret is no base64.
#[must_use]
pub fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(mac(secret, id, timestamp, body).finalize().into_bytes()))
}

/// Whether one of the signatures in a `webhook-signature` header is a right `v1`. Looks at no clock.
///
/// # Panics
/// When the secret is no base64.
#[must_use]
pub fn signature_holds(secret: &str, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
    header.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|one| {
        STANDARD.decode(one).is_ok_and(|given| mac(secret, id, timestamp, body).verify_slice(&given).is_ok())
    })
}

fn mac(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

/// A request to forge. Each header is left out when its field is `None`.
#[derive(Clone, Debug)]
pub struct Forged {
    /// `webhook-id`.
    pub id: Option<String>,
    /// `webhook-timestamp`.
    pub timestamp: Option<String>,
    /// `webhook-signature`.
    pub signature: Option<String>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body as sent.
    pub body: Vec<u8>,
}

impl Forged {
    /// A request that is signed as it should be, now.
    #[must_use]
    pub fn signed(secret: &str, id: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::signed_at(secret, id, now(), body)
    }

    /// A request signed for another time.
    #[must_use]
    pub fn signed_at(secret: &str, id: &str, timestamp: i64, body: impl Into<Vec<u8>>) -> Self {
        let (timestamp, body) = (timestamp.to_string(), body.into());
        Self {
            id: Some(id.into()),
            signature: Some(sign(secret, id, &timestamp, &body)),
            timestamp: Some(timestamp),
            content_type: Some("application/json".into()),
            headers: Vec::new(),
            body,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends it by POST and gives status, headers and body.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, url: &str) -> Result<Answer, reqwest::Error> {
        let named = [
            ("webhook-id", &self.id),
            ("webhook-timestamp", &self.timestamp),
            ("webhook-signature", &self.signature),
            ("content-type", &self.content_type),
        ];
        let mut request = crate::metrics::http_client().post(url).body(self.body.clone());
        for (name, value) in named {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await?;
        let headers = answer.headers().iter();
        let headers =
            headers.map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer.bytes().await?.to_vec(),
        })
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Sends bytes as they are and gives what comes back until the server closes or `wait` has passed: for requests that no
/// HTTP client would send.
///
/// # Errors
/// When the connection fails before anything came back.
pub async fn send_raw(port: u16, bytes: &[u8], wait: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // A server that refuses early may close before it has read everything; its answer counts all the same.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    match tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await {
        Ok(Err(error)) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

/// A request that a [`Receiver`] got.
#[derive(Clone, Debug)]
pub struct Received {
    /// Counted from 1 over all connections.
    pub number: usize,
    /// Which connection carried it, counted from 1.
    pub connection: usize,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as sent, without its transfer encoding.
    pub body: Vec<u8>,
    /// When it was complete.
    pub at: std::time::Instant,
}

impl Received {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body inflated as its `content-encoding` says.
    ///
    /// # Panics
    /// When it is not what it says.
    #[must_use]
    pub fn inflated(&self) -> Vec<u8> {
        match self.header("content-encoding") {
            Some("zstd") => zstd::decode_all(self.body.as_slice()).unwrap(),
            Some("gzip") => {
                let mut body = Vec::new();
                io::Read::read_to_end(&mut flate2::read::GzDecoder::new(self.body.as_slice()), &mut body)
                    .unwrap();
                body
            }
            None | Some("identity") => self.body.clone(),
            Some(other) => panic!("unknown content-encoding {other}"),
        }
    }

    /// The inflated body as JSON.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.inflated()).unwrap()
    }

    /// Whether the request carries a right `v1` signature.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let parts =
            (self.header("webhook-id"), self.header("webhook-timestamp"), self.header("webhook-signature"));
        let (Some(id), Some(timestamp), Some(signature)) = parts else { return false };
        signature_holds(secret, id, timestamp, &self.body, signature)
    }
}

/// What a [`Receiver`] does with a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers besides `content-length`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Waited before the answer.
    pub delay: Duration,
    /// No answer: the connection is reset.
    pub reset: bool,
}

impl Reply {
    /// An answer with this status and no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO, reset: false }
    }

    /// The request is taken and the connection reset, as when an answer is lost.
    #[must_use]
    pub fn reset() -> Self {
        Self { reset: true, ..Self::status(200) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers late.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type AnswerWith = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;

/// An HTTP/1.1 server on 127.0.0.1 that records every complete request and answers what a closure says. Dropping it
/// stops it.
pub struct Receiver {
    port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    answer: Mutex<AnswerWith>,
    requests: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    closing: watch::Sender<bool>,
}

impl Receiver {
    /// Listens on a free port.
    #[must_use]
    pub fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let port = free_port();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(Arc::new(answer)),
            requests: Mutex::default(),
            count: watch::Sender::new(0),
            closing: watch::Sender::new(false),
        });
        let task = crate::background().spawn(accept(listener, Arc::clone(&state)));
        Self { port, state, task }
    }

    /// Says 204 to everything.
    #[must_use]
    pub fn accepting() -> Self {
        Self::start(|_| Reply::status(204))
    }

    /// Changes the answer from the next request on.
    pub fn answer_with(&self, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.state.answer.lock().unwrap() = Arc::new(answer);
    }

    /// `http://127.0.0.1:PORT` and the path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far, in the order they were complete.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until there are at least `count` requests, and gives all.
    ///
    /// # Panics
    /// At the deadline, with what came.
    pub async fn wait_for_requests(&self, count: usize, deadline: Duration) -> Vec<Received> {
        let mut counted = self.state.count.subscribe();
        let wait = counted.wait_for(|now| *now >= count);
        if tokio::time::timeout_at(Instant::now() + deadline, wait).await.is_err() {
            let mut came = String::new();
            for Received { number, method, path, body, .. } in self.requests() {
                let _ = writeln!(came, "{number}: {method} {path} ({} bytes)", body.len());
            }
            panic!("fewer than {count} requests in {deadline:?}:\n{came}");
        }
        self.requests()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
        self.state.closing.send_replace(true);
    }
}

async fn accept(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).unwrap();
    for connection in 1.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut closing = state.closing.subscribe();
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                // A client that goes away or speaks no HTTP ends its connection, nothing else.
                _ = serve(stream, connection, &state) => {}
            }
        });
    }
}

/// Serves requests on one connection until it is closed.
async fn serve(stream: TcpStream, connection: usize, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some((mut received, keep_alive)) = read_request(&mut stream).await? {
        let answer = Arc::clone(&*state.answer.lock().unwrap());
        received.connection = connection;
        {
            let mut requests = state.requests.lock().unwrap();
            received.number = requests.len() + 1;
            requests.push(received.clone());
            state.count.send_replace(requests.len());
        }
        let reply = answer(&received);
        tokio::time::sleep(reply.delay).await;
        if reply.reset {
            stream.get_ref().set_zero_linger()?;
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} answer\r\n", reply.status);
        for (name, value) in &reply.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        // 1xx and 204 have no body and no length (RFC 9110, 8.6).
        if reply.status != 204 {
            let _ = write!(head, "content-length: {}\r\n", reply.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&reply.body);
        stream.get_mut().write_all(&bytes).await?;
        if !keep_alive {
            return stream.get_mut().shutdown().await;
        }
    }
    Ok(())
}

/// One request and whether the connection stays open; `None` at the end of the stream.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<(Received, bool)>> {
    let Some(first) = read_line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut keep_alive = words.next() == Some("HTTP/1.1");
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    keep_alive &= header(&headers, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    if header(&headers, "expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let body = if header(&headers, "transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        read_chunked(stream).await?
    } else {
        let length = header(&headers, "content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().map_err(|_| io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut body).await?;
        body
    };
    let received = Received {
        number: 0,
        connection: 0,
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body,
        at: std::time::Instant::now(),
    };
    Ok(Some((received, keep_alive)))
}

async fn read_chunked(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..]).await?;
        // The line end after the data, or after the trailers of the last chunk.
        while read_line(stream).await?.is_some_and(|line| !line.is_empty()) {}
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
}
