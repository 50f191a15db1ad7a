//! Which addresses may be called.
//!
//! A URL is written by the operator, but what its host resolves to is decided by whoever runs its DNS. So a name may lead
//! to public addresses only, unless the operator allowed a network; an address that stands in the URL is allowed by being
//! written; the metadata services of clouds, which hand out credentials, are never called. The check stands between the
//! resolver and the connection, so that the address that was checked is the one that is connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use rowbridge_schema::EndpointName;
use rowbridge_schema::config::address::is_metadata;
use url::{Host, Url};

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A name leads into a private network.
    #[error("endpoint {endpoint} resolves to {ip}, which is not public: add it to endpoint.allow_networks")]
    NotPublic {
        /// The endpoint.
        endpoint: EndpointName,
        /// What its host resolves to.
        ip: IpAddr,
    },
    /// The metadata service of a cloud.
    #[error(
        "endpoint {endpoint} leads to {ip}, a cloud's metadata service, which is never called: correct endpoint.url"
    )]
    Metadata {
        /// The endpoint.
        endpoint: EndpointName,
        /// The address.
        ip: IpAddr,
    },
    /// Rows would cross a public network in the clear.
    #[error(
        "endpoint {endpoint} leads to {ip} over http: write https, which only loopback and allowed networks do without"
    )]
    PlainHttp {
        /// The endpoint.
        endpoint: EndpointName,
        /// The address.
        ip: IpAddr,
    },
}

/// The IPv4 address that a packet to `ip` ends up at: mapped, compatible, NAT64 and 6to4 forms carry one.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

/// Whether the address is one that the whole internet agrees on (the IANA special-purpose registries say what is not).
fn is_public(ip: IpAddr) -> bool {
    match embedded(ip) {
        IpAddr::V4(v4) => !matches!(
            v4.octets(),
            [0 | 10 | 127 | 224..=255, ..]
                | [100, 64..=127, ..]
                | [169, 254, ..]
                | [172, 16..=31, ..]
                | [192, 168, ..]
                | [192, 0, 0 | 2, _]
                | [192, 88, 99, _]
                | [198, 18 | 19, ..]
                | [198, 51, 100, _]
                | [203, 0, 113, _]
        ),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            // 2000::/3 is all that was ever given out; Teredo, ORCHID and documentation lie inside it.
            s[0] & 0xe000 == 0x2000
                && !(s[0] == 0x2001 && s[1] < 0x200)
                && !(s[0] == 0x2001 && s[1] == 0xdb8)
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

fn literal(host: Host) -> Option<IpAddr> {
    match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

/// Whether the URL's own text says loopback.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => embedded(IpAddr::V6(ip)).is_loopback(),
        Some(Host::Domain(name)) => is_localhost(name),
        None => false,
    }
}

/// Finds the addresses of a name.
pub(crate) type Lookup =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// The system's resolver, with its hosts file.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }))
}

/// The addresses that one endpoint may be reached at.
#[derive(Debug, Clone)]
pub(crate) struct AddressGuard {
    endpoint: EndpointName,
    allow: Vec<IpNet>,
    plain_http: bool,
    /// Everything but metadata services.
    open: bool,
}

impl AddressGuard {
    /// The guard for an endpoint whose URL is `url`.
    ///
    /// # Errors
    /// The URL itself holds an address that is never called.
    pub(crate) fn new(endpoint: EndpointName, url: &Url, allow: Vec<IpNet>) -> Result<Self, AddressError> {
        let guard = Self { endpoint, allow, plain_http: url.scheme() == "http", open: false };
        if let Some(ip) = url.host().and_then(|host| literal(host.to_owned())) {
            guard.check_written(ip)?;
        }
        Ok(guard)
    }

    /// The guard for a proxy: whatever the operator's name for it resolves to is meant, but no metadata service.
    ///
    /// # Errors
    /// The address of a metadata service.
    pub(crate) fn for_proxy(endpoint: EndpointName, host: &Host) -> Result<Self, AddressError> {
        let guard = Self { endpoint, allow: Vec::new(), plain_http: false, open: true };
        if let Some(ip) = literal(host.clone()) {
            guard.check(ip, true)?;
        }
        Ok(guard)
    }

    /// An address that stands in the URL: a private one that somebody wrote is meant, a public one still deserves TLS.
    pub(crate) fn check_written(&self, ip: IpAddr) -> Result<(), AddressError> {
        self.check(ip, !is_public(ip))
    }

    fn check(&self, ip: IpAddr, written: bool) -> Result<(), AddressError> {
        let endpoint = self.endpoint.clone();
        if is_metadata(ip) {
            return Err(AddressError::Metadata { endpoint, ip });
        }
        let plain = embedded(ip);
        if written || self.open || self.allow.iter().any(|net| net.contains(&ip) || net.contains(&plain)) {
            return Ok(());
        }
        if !is_public(ip) {
            return Err(AddressError::NotPublic { endpoint, ip });
        }
        if self.plain_http {
            return Err(AddressError::PlainHttp { endpoint, ip });
        }
        Ok(())
    }

    /// Keeps what may be called; an error if that is nothing.
    pub(crate) fn filter(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressError> {
        let localhost = is_localhost(host);
        let (mut kept, mut refused) = (Vec::with_capacity(found.len()), None);
        for address in found {
            match self.check(address.ip(), localhost && embedded(address.ip()).is_loopback()) {
                Ok(()) => kept.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if kept.is_empty() => Err(error),
            _ => Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(url: &str, allow: &[&str]) -> Result<AddressGuard, AddressError> {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        AddressGuard::new("crm".parse().unwrap(), &Url::parse(url).unwrap(), allow)
    }

    fn resolves(guard: &AddressGuard, host: &str, ips: &[&str]) -> Result<usize, AddressError> {
        let found = ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        guard.filter(host, found).map(|kept| kept.len())
    }

    #[test]
    fn names_lead_to_public_addresses_only() {
        let guard = guard("https://crm.example.com/", &[]).unwrap();
        assert_eq!(resolves(&guard, "crm.example.com", &["93.184.215.14", "2606:2800::1"]), Ok(2));
        for ip in [
            "127.0.0.1",
            "10.0.0.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.3",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.3",
            "2002:a00:3::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "100::1",
            "64:ff9b:1::1",
        ] {
            let refused = resolves(&guard, "crm.example.com", &[ip]);
            assert!(matches!(refused, Err(AddressError::NotPublic { .. })), "{ip}: {refused:?}");
        }
        let error = resolves(&guard, "crm.example.com", &["10.0.0.3"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "endpoint crm resolves to 10.0.0.3, which is not public: add it to endpoint.allow_networks"
        );
        assert_eq!(resolves(&guard, "crm.example.com", &["10.0.0.3", "93.184.215.14"]), Ok(1));
    }

    #[test]
    fn allowed_networks_are_allowed_in_every_spelling() {
        let guard = guard("http://crm.internal/", &["10.0.0.0/8", "fd12::/16"]).unwrap();
        for ip in ["10.0.0.3", "::ffff:10.0.0.3", "fd12::7"] {
            assert_eq!(resolves(&guard, "crm.internal", &[ip]), Ok(1), "{ip}");
        }
        assert!(resolves(&guard, "crm.internal", &["192.168.0.1"]).is_err());
        let public = resolves(&guard, "crm.internal", &["93.184.215.14"]);
        assert!(matches!(public, Err(AddressError::PlainHttp { .. })));
    }

    #[test]
    fn metadata_is_never_called() {
        let open = guard("https://crm.example.com/", &["0.0.0.0/0", "::/0"]).unwrap();
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "fd00:ec2::254",
        ] {
            let refused = resolves(&open, "crm.example.com", &[ip]);
            assert!(matches!(refused, Err(AddressError::Metadata { .. })), "{ip}: {refused:?}");
        }
        assert!(guard("http://169.254.169.254/latest", &["169.254.0.0/16"]).is_err());
        assert!(guard("http://[::ffff:169.254.169.254]/latest", &[]).is_err());
        // The URL parser reads the forms that filters of text miss.
        assert!(guard("http://2852039166/latest", &[]).is_err());
        assert!(guard("http://0xa9.0xfe.0xa9.0xfe/latest", &[]).is_err());
    }

    #[test]
    fn what_is_written_is_meant() {
        for url in
            ["http://127.0.0.1:9500/in", "http://10.1.2.3/in", "http://[::1]:9500/in", "https://8.8.8.8/"]
        {
            assert!(guard(url, &[]).is_ok(), "{url}");
        }
        assert!(matches!(guard("http://8.8.8.8/", &[]), Err(AddressError::PlainHttp { .. })));
        let local = guard("http://localhost:9500/in", &[]).unwrap();
        assert_eq!(resolves(&local, "localhost", &["127.0.0.1", "::1"]), Ok(2));
        assert!(resolves(&local, "localhost", &["10.0.0.3"]).is_err());
        assert!(resolves(&local, "localhost.example.com", &["127.0.0.1"]).is_err());
    }
}
