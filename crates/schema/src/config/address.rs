//! Where a delivery may go. The loader checks what the file writes, the lane checks what a name resolves to, each time
//! it connects: a check of the name alone is beaten by DNS that changes its mind.
//!
//! Ranges: IANA special-purpose address registries, RFC 6890 and its updates; metadata services by their vendors' manuals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

use super::EndpointConfig;

/// Why a delivery must not go somewhere. Names the rule, not the address, which may come from a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither https nor http.
    #[error("an endpoint's URL starts with https://")]
    Scheme,
    /// `https://user:password@host`.
    #[error("an endpoint's URL has no user and no password (the signature proves who sends)")]
    UserInfo,
    /// `#...`, which is never sent.
    #[error("an endpoint's URL has no #fragment (it would not be sent)")]
    Fragment,
    /// A cloud's metadata service, which hands out credentials to whoever asks.
    #[error("the address belongs to a cloud's metadata service; nothing is ever sent there")]
    Metadata,
    /// http towards an address that is neither loopback nor allowed.
    #[error(
        "https is required, except towards loopback and allow_networks (write https://, or name the network: \
         allow_networks = [\"10.0.0.0/8\"])"
    )]
    HttpsRequired,
    /// A name that resolves to a private, loopback or otherwise special address.
    #[error(
        "the name resolves to an address that is not public (allow its network: allow_networks = [\"10.0.0.0/8\"])"
    )]
    NotPublic,
}

impl EndpointConfig {
    /// Whether a connection to `ip`, which the URL's host resolved to, may be made. To be asked for every address that
    /// is connected to, on every connection.
    ///
    /// # Errors
    /// The rule that forbids it; permanent until the file or the name's address changes.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), AddressError> {
        let ip = ip.to_canonical();
        if is_metadata(ip) {
            return Err(AddressError::Metadata);
        }
        let written = match self.url.host() {
            Some(Host::Ipv4(literal)) => IpAddr::V4(literal) == ip,
            Some(Host::Ipv6(literal)) => IpAddr::V6(literal).to_canonical() == ip,
            Some(Host::Domain(name)) => is_localhost(name) && ip.is_loopback(),
            None => false,
        };
        if contains(&self.allow_networks, ip) || (written && ip.is_loopback()) {
            return Ok(());
        }
        match (self.url.scheme(), written || is_public(ip)) {
            ("https", true) => Ok(()),
            ("https", false) => Err(AddressError::NotPublic),
            _ => Err(AddressError::HttpsRequired),
        }
    }
}

/// What can be told from the text alone.
pub(super) fn check_url(url: &Url, allow_networks: &[IpNet]) -> Result<(), AddressError> {
    if !matches!(url.scheme(), "https" | "http") {
        return Err(AddressError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(AddressError::Fragment);
    }
    let http_is_fine = match url.host() {
        Some(Host::Domain(name)) => {
            if is_metadata_name(name) {
                return Err(AddressError::Metadata);
            }
            // Whether it resolves into those networks is checked when it is connected to.
            is_localhost(name) || !allow_networks.is_empty()
        }
        Some(Host::Ipv4(ip)) => check_literal(IpAddr::V4(ip), allow_networks)?,
        Some(Host::Ipv6(ip)) => check_literal(IpAddr::V6(ip), allow_networks)?,
        None => return Err(AddressError::Scheme),
    };
    if url.scheme() == "http" && !http_is_fine { Err(AddressError::HttpsRequired) } else { Ok(()) }
}

fn check_literal(ip: IpAddr, allow_networks: &[IpNet]) -> Result<bool, AddressError> {
    let ip = ip.to_canonical();
    if is_metadata(ip) {
        return Err(AddressError::Metadata);
    }
    Ok(ip.is_loopback() || contains(allow_networks, ip))
}

fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// RFC 6761, 6.3: this name is loopback, whatever a resolver says.
fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

fn is_metadata_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    matches!(name.as_str(), "metadata.google.internal" | "instance-data.ec2.internal" | "metadata.goog")
}

/// Whether the address is a cloud's metadata or credential service, in any of its IPv6 disguises.
#[must_use]
pub fn is_metadata(ip: IpAddr) -> bool {
    const V4: [Ipv4Addr; 6] = [
        Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, Google, OpenStack, DigitalOcean
        Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
        Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
        Ipv4Addr::new(100, 100, 100, 200), // Alibaba
        Ipv4Addr::new(192, 0, 0, 192),     // Oracle
        Ipv4Addr::new(168, 63, 129, 16),   // Azure host agent
    ];
    const V6: [Ipv6Addr; 3] = [
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS EKS pod identity
        Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google
    ];
    match ip {
        IpAddr::V4(ip) => V4.contains(&ip),
        IpAddr::V6(ip) => V6.contains(&ip) || embedded_v4(ip).is_some_and(|ip| V4.contains(&ip)),
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, NAT64 (RFC 6052, RFC 8215 with a /96), 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 1, _, _, _, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Whether the address is one that anybody on the internet may have.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        [0 | 10 | 127, ..] | [224..=255, ..] => true,
        [100, second, ..] => second & 0b1100_0000 == 64, // carrier-grade NAT
        [169, 254, ..] | [192, 168, ..] => true,
        [172, second, ..] => second & 0b1111_0000 == 16,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => true,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let special = match ip.segments() {
        [0, ..] => true, // unspecified, loopback, IPv4-compatible
        [0x64, 0xff9b, ..] | [0x100, 0, 0, 0, ..] => true,
        [0x2001, 0 | 0xdb8, ..] | [0x2002, ..] | [0x5f00, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        [first, ..] => {
            // Unique local, link-local, the old site-local, multicast.
            first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                || first & 0xff00 == 0xff00
        }
    };
    !special
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Start;
    use crate::pattern::TablePatterns;

    fn endpoint(url: &str, allow: &[&str]) -> EndpointConfig {
        EndpointConfig {
            name: "a".parse().unwrap(),
            url: url.parse().unwrap(),
            secrets: Vec::new(),
            tables: TablePatterns::all(),
            allow_networks: allow.iter().map(|network| network.parse().unwrap()).collect(),
            ca: None,
            timeout: Duration::ZERO,
            start: Start::Now,
        }
    }

    fn written(url: &str, allow: &[&str]) -> Result<(), AddressError> {
        let endpoint = endpoint(url, allow);
        check_url(&endpoint.url, &endpoint.allow_networks)
    }

    #[test]
    fn what_the_file_may_write() {
        for (url, allow) in [
            ("https://hooks.example.com/in", &[][..]),
            ("https://10.0.0.5/in", &[]),
            ("https://[fd00::5]/in", &[]),
            ("http://127.0.0.1:9500/in", &[]),
            ("http://[::1]:9500/in", &[]),
            ("http://localhost:9500/in", &[]),
            ("http://10.0.0.5/in", &["10.0.0.0/8"]),
            ("http://warehouse.internal/in", &["10.0.0.0/8"]),
        ] {
            assert_eq!(written(url, allow), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_the_file_may_not_write() {
        use AddressError as E;
        for (url, allow, error) in [
            ("ftp://hooks.example.com/", &[][..], E::Scheme),
            ("https://me:pw@hooks.example.com/", &[], E::UserInfo),
            ("https://hooks.example.com/#a", &[], E::Fragment),
            ("http://hooks.example.com/", &[], E::HttpsRequired),
            ("http://10.0.0.5/", &[], E::HttpsRequired),
            ("http://10.0.0.5/", &["10.1.0.0/16"], E::HttpsRequired),
            ("https://169.254.169.254/", &["0.0.0.0/0"], E::Metadata),
            ("https://[fd00:ec2::254]/", &["::/0"], E::Metadata),
            ("https://[::ffff:169.254.169.254]/", &[], E::Metadata),
            ("https://[64:ff9b::a9fe:a9fe]/", &[], E::Metadata),
            ("https://[2002:a9fe:a9fe::1]/", &[], E::Metadata),
            // Spellings that a check of the text would miss.
            ("https://2852039166/", &[], E::Metadata),
            ("https://0xa9.0376.43518/", &[], E::Metadata),
            ("https://METADATA.google.internal./", &[], E::Metadata),
        ] {
            assert_eq!(written(url, allow), Err(error), "{url}");
        }
    }

    #[test]
    fn what_may_be_connected_to() {
        use AddressError as E;
        for (url, allow, ip, expected) in [
            ("https://a.example/", &[][..], "93.184.216.34", Ok(())),
            ("https://a.example/", &[], "2606:2800:220:1::1", Ok(())),
            ("https://a.example/", &[], "10.0.0.5", Err(E::NotPublic)),
            ("https://a.example/", &[], "127.0.0.1", Err(E::NotPublic)),
            ("https://a.example/", &[], "::ffff:10.0.0.5", Err(E::NotPublic)),
            ("https://a.example/", &["10.0.0.0/8"], "::ffff:10.0.0.5", Ok(())),
            ("https://a.example/", &["0.0.0.0/0", "::/0"], "169.254.169.254", Err(E::Metadata)),
            ("https://a.example/", &["0.0.0.0/0", "::/0"], "64:ff9b::a9fe:a9fe", Err(E::Metadata)),
            ("http://a.example/", &["10.0.0.0/8"], "10.0.0.5", Ok(())),
            ("http://a.example/", &["10.0.0.0/8"], "93.184.216.34", Err(E::HttpsRequired)),
            ("https://10.0.0.5/", &[], "10.0.0.5", Ok(())),
            ("https://10.0.0.5/", &[], "10.0.0.6", Err(E::NotPublic)),
            ("http://localhost/", &[], "127.0.0.1", Ok(())),
            ("http://localhost/", &[], "10.0.0.6", Err(E::HttpsRequired)),
        ] {
            assert_eq!(endpoint(url, allow).check_address(ip.parse().unwrap()), expected, "{url} -> {ip}");
        }
    }

    #[test]
    fn special_ranges_end_where_the_registries_say() {
        for ip in [
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "223.0.0.1",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "10.0.0.0",
            "100.64.0.0",
            "100.127.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "198.19.1.1",
            "240.0.0.1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["2a00::1", "2001:4860::8888", "3fff:1000::"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "::",
            "::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff:fff::1",
            "2002::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
