//! From a host to a TCP connection: resolved, checked and dialled each time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use url::Host;

use super::address::{AddressGuard, Lookup, system_lookup};
use super::error::{AttemptError, Peer};
use super::timing::{Phase, Stopwatch};

/// How long an address is waited for before the next is tried beside it (RFC 8305 recommends 250 ms): one family of
/// addresses is often broken where the other works.
const STAGGER: Duration = Duration::from_millis(250);

/// Opens a connection to an address.
pub(super) type Connector =
    Arc<dyn Fn(SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>> + Send + Sync>;

/// How long each step towards a connection may take. The endpoint's timeout bounds them all together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) resolve: Duration,
    pub(super) connect: Duration,
    pub(super) tls: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
        }
    }
}

/// How connections are made; tests put their own in.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) lookup: Lookup,
    pub(super) connector: Connector,
    pub(super) limits: Limits,
}

impl Dialer {
    pub(super) fn system() -> Self {
        let connector: Connector = Arc::new(|address| {
            Box::pin(async move {
                let stream = TcpStream::connect(address).await?;
                // A small request must not wait for the acknowledgement of the one before.
                stream.set_nodelay(true)?;
                Ok(stream)
            })
        });
        Self { lookup: system_lookup(), connector, limits: Limits::default() }
    }

    /// Connects to one of the host's addresses that the guard allows.
    pub(super) async fn dial(
        &self,
        guard: &AddressGuard,
        host: &Host,
        port: u16,
        peer: &Peer,
        watch: &mut Stopwatch,
    ) -> Result<TcpStream, AttemptError> {
        let written = |ip: IpAddr| guard.check_written(ip).map(|()| vec![SocketAddr::new(ip, port)]);
        let addresses = match host {
            Host::Ipv4(ip) => written(IpAddr::V4(*ip))?,
            Host::Ipv6(ip) => written(IpAddr::V6(*ip))?,
            Host::Domain(name) => {
                watch.enter(Phase::Resolve);
                let found = self.resolve(name, peer).await?;
                let mut kept = guard.filter(name, found)?;
                kept.iter_mut().for_each(|address| address.set_port(port));
                kept
            }
        };
        watch.enter(Phase::Connect);
        let connected = timeout(self.limits.connect, race(&self.connector, alternate(addresses))).await;
        connected
            .map_err(|_| self.late(peer, Phase::Connect, self.limits.connect))?
            .map_err(|source| AttemptError::Connect { peer: peer.clone(), source })
    }

    async fn resolve(&self, name: &str, peer: &Peer) -> Result<Vec<SocketAddr>, AttemptError> {
        let failed = |source| AttemptError::Resolve { peer: peer.clone(), source };
        let found = timeout(self.limits.resolve, (self.lookup)(name.to_owned())).await;
        let found =
            found.map_err(|_| self.late(peer, Phase::Resolve, self.limits.resolve))?.map_err(failed)?;
        if found.is_empty() {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")));
        }
        Ok(found)
    }

    pub(super) fn late(&self, peer: &Peer, phase: Phase, after: Duration) -> AttemptError {
        AttemptError::Timeout { peer: peer.clone(), phase, after, status: None }
    }
}

/// The families in turn, each in the resolver's order, beginning with the one that it prefers.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (None, None) => return all,
            (first, second) => all.extend(first.into_iter().chain(second)),
        }
    }
}

/// The first address that answers; the next is tried when one fails or takes long.
async fn race(connector: &Connector, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut queue = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = queue.next() {
            running.push(connector(address));
        } else if running.is_empty() {
            return Err(last);
        }
        tokio::select! {
            biased;
            Some(result) = running.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(STAGGER), if queue.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 1)).collect()
        };
        let mixed = parse(&["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"]);
        assert_eq!(alternate(mixed), parse(&["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]));
        assert_eq!(alternate(parse(&["1.1.1.1", "::1"])), parse(&["1.1.1.1", "::1"]));
        assert_eq!(alternate(vec![]), vec![]);
    }
}
