//! Requests to one server: a connection is taken or made, used, and kept.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::Authority;
use rowbridge_schema::EndpointName;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::address::{AddressGuard, is_loopback};
use super::connect::Dialer;
use super::connection::{Broken, Connection, Stream};
use super::error::{AttemptError, Peer, SetupError};
use super::pool::Pool;
use super::proxy::Proxy;
use super::request::{Request, Response};
use super::timing::{Phase, Stopwatch};
use super::tls::{Tls, tls_error};

const AGENT: &str = concat!("rowbridge/", env!("CARGO_PKG_VERSION"));

/// What the client of an endpoint and that of its token server have in common.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) endpoint: EndpointName,
    pub(super) allow: Vec<ipnet::IpNet>,
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<Proxy>,
    pub(super) dialer: Dialer,
    pub(super) pool: Arc<Pool>,
}

/// One server: scheme, host and port never change.
pub(super) struct Transport {
    guard: AddressGuard,
    host: Host,
    port: u16,
    peer: Peer,
    authority: Authority,
    /// `Host`, without a port that goes without saying.
    host_header: HeaderValue,
    /// With whom TLS is spoken; `None` without https.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<Through>,
    dialer: Dialer,
    pool: Arc<Pool>,
}

struct Through {
    proxy: Proxy,
    guard: AddressGuard,
    peer: Peer,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Transport {
    pub(super) fn new(url: &Url, way: Way) -> Result<Self, SetupError> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(SetupError::Url),
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(SetupError::Url);
        };
        let (host, name) = (host.to_owned(), host.to_string());
        let guard = AddressGuard::new(way.endpoint.clone(), url, way.allow)?;
        if way.proxy.is_some() && !https && matches!(host, Host::Domain(_)) && !is_loopback(url) {
            return Err(SetupError::PlainThroughProxy { host: name });
        }
        let proxy_https = way.proxy.as_ref().is_some_and(|proxy| proxy.https);
        let tls = match way.tls {
            None if https || proxy_https => Some(Tls::new(None, None)?),
            tls => tls,
        };
        let session = |wanted: bool, config: fn(&Tls) -> &Arc<rustls::ClientConfig>, host: &Host| match tls
            .as_ref()
            .filter(|_| wanted)
        {
            Some(tls) => Ok(Some((TlsConnector::from(Arc::clone(config(tls))), server_name(host)?))),
            None => Ok::<_, SetupError>(None),
        };
        let proxy = match way.proxy {
            None => None,
            Some(proxy) => Some(Through {
                guard: AddressGuard::for_proxy(way.endpoint, &proxy.host)?,
                peer: Peer::Proxy(Arc::clone(&proxy.name)),
                tls: session(proxy.https, |tls| &tls.proxy, &proxy.host)?,
                proxy,
            }),
        };
        let text = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        };
        Ok(Self {
            tls: session(https, |tls| &tls.target, &host)?,
            guard,
            port,
            peer: Peer::Target(name.as_str().into()),
            authority: Authority::try_from(format!("{name}:{port}")).map_err(|_| SetupError::Url)?,
            host_header: HeaderValue::try_from(text).map_err(|_| SetupError::Url)?,
            host,
            proxy,
            dialer: way.dialer,
            pool: way.pool,
        })
    }

    /// One request and its answer. A connection that the server closed while it was idle is replaced once: nothing of an
    /// answer had come, so that nothing is known of it having been read; and if it was, it carries the same `webhook-id`,
    /// by which a receiver knows that it is the same. (RFC 9112 section 9.3.1 lets a client do so where it knows that
    /// repeating is harmless.)
    pub(super) async fn exchange(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
        keep: usize,
        watch: &mut Stopwatch,
    ) -> Result<Response, AttemptError> {
        watch.status = None;
        let write = |head: &mut Vec<u8>| self.write_head(request, authorization, head);
        if let Some(mut connection) = self.pool.take() {
            match connection.exchange(write, &request.body, keep, watch).await {
                Err(broken) if broken.silent => {}
                result => return self.done(connection, result),
            }
        }
        // On the heap, since the future of a handshake has many kilobytes, which would be moved with every request.
        let mut connection = Box::pin(self.connect(watch)).await?;
        let result = connection.exchange(write, &request.body, keep, watch).await;
        self.done(connection, result)
    }

    fn done(
        &self,
        connection: Box<Connection>,
        result: Result<Response, Broken>,
    ) -> Result<Response, AttemptError> {
        let response = result.map_err(|broken| self.broken(broken))?;
        match &self.proxy {
            // In front of plain http it is the proxy that asks who calls (RFC 9110 section 15.5.8).
            Some(through) if response.status == 407 && self.tls.is_none() => {
                let proxy = Arc::clone(&through.proxy.name);
                Err(AttemptError::ProxyRefused { proxy, status: response.status })
            }
            _ => {
                self.pool.put(connection);
                Ok(response)
            }
        }
    }

    fn broken(&self, Broken { source, status, .. }: Broken) -> AttemptError {
        let peer = match &self.proxy {
            Some(through) if self.tls.is_none() => through.peer.clone(),
            _ => self.peer.clone(),
        };
        // A server that speaks TLS 1.3 refuses our certificate when the handshake is over for us.
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(inner) = error {
            if let Some(tls) = tls_error(inner) {
                return AttemptError::Tls { peer, source: tls.clone() };
            }
            error = inner.source();
        }
        AttemptError::Broken { peer, status, source }
    }

    /// The request line and the headers. To a proxy that is no tunnel, the whole URL is said.
    fn write_head(&self, request: &Request, authorization: Option<&HeaderValue>, head: &mut Vec<u8>) {
        let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
        write(&[b"POST "]);
        if self.proxy.is_some() && self.tls.is_none() {
            write(&[b"http://", self.authority.as_str().as_bytes()]);
        }
        write(&[
            request.path.as_str().as_bytes(),
            b" HTTP/1.1\r\nhost: ",
            self.host_header.as_bytes(),
            b"\r\n",
        ]);
        let mut named = false;
        for (name, value) in &request.headers {
            named |= *name == USER_AGENT;
            // That of the configuration goes before one of the event.
            if authorization.is_none() || *name != AUTHORIZATION {
                write(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
            }
        }
        if !named {
            write(&[b"user-agent: ", AGENT.as_bytes(), b"\r\n"]);
        }
        if let Some(value) = authorization {
            write(&[b"authorization: ", value.as_bytes(), b"\r\n"]);
        }
        if let (Some(through), None) = (&self.proxy, &self.tls)
            && let Some(value) = &through.proxy.authorization
        {
            write(&[b"proxy-authorization: ", value.as_bytes(), b"\r\n"]);
        }
        write(&[b"content-length: ", request.body.len().to_string().as_bytes(), b"\r\n\r\n"]);
    }

    pub(super) async fn connect(&self, watch: &mut Stopwatch) -> Result<Box<Connection>, AttemptError> {
        let mut stream: Box<dyn Stream> = match &self.proxy {
            None => Box::new(self.dialer.dial(&self.guard, &self.host, self.port, &self.peer, watch).await?),
            Some(through) => {
                watch.at_proxy = true;
                let stream = self.through(through, watch).await?;
                watch.at_proxy = false;
                stream
            }
        };
        if let Some(session) = &self.tls {
            watch.enter(Phase::Tls);
            stream = self.secure(session, stream, &self.peer, Phase::Tls).await?;
        }
        watch.leave();
        Ok(Connection::new(stream))
    }

    /// A way through the proxy; counts as connecting, all of it.
    async fn through(
        &self,
        Through { proxy, guard, peer, tls }: &Through,
        watch: &mut Stopwatch,
    ) -> Result<Box<dyn Stream>, AttemptError> {
        let dialled = self.dialer.dial(guard, &proxy.host, proxy.port, peer, watch).await?;
        let mut stream: Box<dyn Stream> = Box::new(dialled);
        if let Some(session) = tls {
            stream = self.secure(session, stream, peer, Phase::Connect).await?;
        }
        if self.tls.is_some() {
            let limit = self.dialer.limits.connect;
            let tunnel = timeout(limit, proxy.tunnel(&mut stream, self.authority.as_str())).await;
            tunnel.map_err(|_| self.dialer.late(peer, Phase::Connect, limit))??;
        }
        Ok(stream)
    }

    async fn secure(
        &self,
        (connector, name): &(TlsConnector, ServerName<'static>),
        stream: Box<dyn Stream>,
        peer: &Peer,
        phase: Phase,
    ) -> Result<Box<dyn Stream>, AttemptError> {
        let limit = self.dialer.limits.tls;
        let shaken = timeout(limit, connector.connect(name.clone(), stream)).await;
        let stream = shaken.map_err(|_| self.dialer.late(peer, phase, limit))?.map_err(|error| {
            match tls_error(&error).cloned() {
                Some(source) => AttemptError::Tls { peer: peer.clone(), source },
                None => AttemptError::Handshake { peer: peer.clone(), source: error },
            }
        })?;
        Ok(Box::new(stream))
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.pool.len()
    }

    /// Who is waited for, when all of it took too long.
    pub(super) fn waited_for(&self, watch: &Stopwatch) -> Peer {
        match &self.proxy {
            Some(through) if watch.at_proxy || self.tls.is_none() => through.peer.clone(),
            _ => self.peer.clone(),
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, SetupError> {
    match host {
        Host::Ipv4(ip) => Ok(ServerName::from(std::net::IpAddr::V4(*ip))),
        Host::Ipv6(ip) => Ok(ServerName::from(std::net::IpAddr::V6(*ip))),
        Host::Domain(name) => {
            // A certificate names no root.
            let plain = name.strip_suffix('.').unwrap_or(name).to_owned();
            ServerName::try_from(plain).map_err(|_| SetupError::Host { host: name.clone() })
        }
    }
}
