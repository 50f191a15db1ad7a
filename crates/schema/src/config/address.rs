//! Where a delivery may go, as far as the file's own text tells. What a name resolves to is checked by the lane whenever
//! it connects: a check of the name alone is beaten by DNS that changes its mind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

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
    const V4: [Ipv4Addr; 8] = [
        Ipv4Addr::new(169, 254, 169, 254), // AWS, Azure, Google, OpenStack, DigitalOcean
        Ipv4Addr::new(169, 254, 170, 2),   // AWS ECS task credentials
        Ipv4Addr::new(169, 254, 170, 23),  // AWS EKS pod identity
        Ipv4Addr::new(169, 254, 0, 23),    // Tencent
        Ipv4Addr::new(169, 254, 42, 42),   // Scaleway
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(url: &str, allow: &[&str]) -> Result<(), AddressError> {
        let allow: Vec<IpNet> = allow.iter().map(|network| network.parse().unwrap()).collect();
        check_url(&url.parse().unwrap(), &allow)
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
}
