//! The byte stream below the protocol: TCP, TLS over TCP, or a unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::auth;
use super::connect::{ConnectOptions, TlsMode};
use super::error::{ProtocolError, TlsError, WalsenderError};

pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Transport {
    /// Connects and, where asked for, secures the connection. TLS is never spoken over a unix socket, as in libpq.
    pub(super) async fn open(options: &ConnectOptions) -> Result<Self, WalsenderError> {
        let address = options.address();
        if options.is_unix_socket() {
            return match UnixStream::connect(&address).await {
                Ok(stream) => Ok(Self::Unix(stream)),
                Err(source) => Err(WalsenderError::Connect { address, source }),
            };
        }
        let stream = match dial(options).await {
            Ok(stream) => stream,
            Err(source) => return Err(WalsenderError::Connect { address, source }),
        };
        secure(stream, options, address).await
    }

    /// Data for `tls-server-end-point` channel binding; `None` without TLS or for a certificate that has no defined
    /// hash.
    pub(super) fn server_end_point(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        auth::server_end_point(session.peer_certificates()?.first()?)
    }
}

/// Tries every address of the host, each with its share of the time: one dead address family must not use it all up.
async fn dial(options: &ConnectOptions) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((options.host.as_str(), options.port)).await?.collect();
    let share = options.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no addresses");
    for address in addresses {
        let attempt = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // The kernel's keepalive is slow (two hours by default); it only cleans up what nobody watches. Who
            // streams asks for replies in good time, see `STATUS_INTERVAL`.
            socket.set_keepalive(true)?;
            let stream = socket.connect(address).await?;
            // Status updates are 39 bytes: without this they wait for the answer to an earlier one.
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match timeout(share.max(Duration::from_millis(1)), attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn secure(
    mut stream: TcpStream,
    options: &ConnectOptions,
    address: String,
) -> Result<Transport, WalsenderError> {
    let (settings, required) = match &options.tls {
        TlsMode::Disable => return Ok(Transport::Tcp(stream)),
        TlsMode::Prefer(settings) => (settings, false),
        TlsMode::Require(settings) => (settings, true),
    };
    let io = |source| WalsenderError::Io { during: "asking for TLS", source };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(io)?;
    // Exactly one byte is read without TLS, so nothing that somebody slips in before the handshake is ever believed.
    match stream.read_u8().await.map_err(io)? {
        b'S' => {}
        b'N' if required => return Err(TlsError::NotOffered { address }.into()),
        b'N' => return Ok(Transport::Tcp(stream)),
        found => return Err(ProtocolError::BadTlsAnswer { found }.into()),
    }
    match TlsConnector::from(settings.config.clone()).connect(settings.server_name.clone(), stream).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
        // Also under `Prefer`: who spoils handshakes must not get plain text for it.
        Err(source) => Err(TlsError::Handshake { address, source }.into()),
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
