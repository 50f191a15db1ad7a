//! Who is asking: the peer, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that `allow_from` is held against.
///
/// `X-Forwarded-For` counts only if the peer itself is a trusted proxy; then it is read from the right, because every
/// proxy appends and only what trusted ones appended is known to be true: the first address that is not a trusted
/// proxy is the client. `None` if a trusted proxy sent something that is not an address.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut client = peer.to_canonical();
    if !contains(trusted, client) {
        return Some(client);
    }
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for entry in value.to_str().ok()?.rsplit(',') {
            client = parse_entry(entry.trim())?;
            if !contains(trusted, client) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// Whether a client may send. Without a list everybody with a valid signature may.
pub(crate) fn is_allowed(client: Option<IpAddr>, allow_from: Option<&[IpNet]>) -> bool {
    allow_from.is_none_or(|networks| client.is_some_and(|client| contains(networks, client)))
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An address, with a port behind some proxies: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address =
        bare.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_for_what_they_added() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("192.0.2.9", &["203.0.113.1"], &proxies), ip("192.0.2.9"));
        assert_eq!(client("10.0.0.1", &["203.0.113.1"], &[]), ip("10.0.0.1"));
        assert_eq!(client("10.0.0.1", &["203.0.113.1"], &proxies), ip("203.0.113.1"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 203.0.113.1 , 10.0.0.2"], &proxies), ip("203.0.113.1"));
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "203.0.113.1,10.0.0.2"], &proxies), ip("203.0.113.1"));
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &proxies), ip("10.0.0.3"));
        assert_eq!(client("10.0.0.1", &[], &proxies), ip("10.0.0.1"));
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db8::1]:443"], &proxies), ip("2001:db8::1"));
        assert_eq!(client("fd00::1", &["203.0.113.1:9"], &proxies), ip("203.0.113.1"));
        assert_eq!(client("10.0.0.1", &["203.0.113.1, unknown"], &proxies), None);
    }

    #[test]
    fn a_list_lets_only_its_networks_in() {
        let list: Vec<IpNet> = vec!["203.0.113.0/24".parse().unwrap()];
        assert!(is_allowed(ip("203.0.113.7"), Some(&list)));
        assert!(!is_allowed(ip("203.0.114.7"), Some(&list)));
        assert!(!is_allowed(None, Some(&list)));
        assert!(!is_allowed(ip("203.0.113.7"), Some(&[])));
        assert!(is_allowed(None, None));
    }
}
