//! Entry point for what anybody may send to the listener; see [`crate::fuzz`].

use std::net::IpAddr;

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use rowbridge_schema::SigningKey;
use rowbridge_schema::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, sign};
use rowbridge_schema::wire::parse_delivery;

use super::address::{client_address, is_allowed};
use super::body::ReceivedBody;
use super::route::{check_head, content_encoding, is_json, lane_of};
use crate::verify::RawDelivery;

const NOW: u64 = 1_700_000_000;
/// Bytes that a body may have, unpacked.
const MOST: u64 = 1 << 20;

/// Headers, `name: value` on a line each, an empty line, and the body. It is judged as it came, and again as if the right
/// key had signed it.
pub fn request(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    let proxies = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    for peer in ["10.0.0.1", "192.0.2.1", "fd00::1"] {
        let peer: IpAddr = peer.parse().expect("an address");
        let client = client_address(peer, &headers, &proxies);
        if client.is_none() {
            assert!(!is_allowed(client, Some(&proxies)), "nobody knows who it is, and it is let in");
        }
        if !proxies.iter().any(|network| network.contains(&peer)) {
            assert_eq!(client, Some(peer), "a stranger names another address");
        }
    }
    let _ = is_json(&headers);
    let Some(encoding) = content_encoding(&headers) else {
        assert!(headers.contains_key(CONTENT_ENCODING));
        return;
    };
    let keys = [SigningKey::parse("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").expect("24 bytes are a secret")];
    let raw = |headers: &HeaderMap| RawDelivery::new(headers.clone(), encoding, ReceivedBody::for_test(body));
    if let Ok(verified) = raw(&headers).verify(&keys, NOW, 300) {
        assert!(verified.sent_seconds().abs_diff(NOW) <= 300);
    }
    let signature = HeaderValue::try_from(sign(&keys, "rwb_1", NOW, body)).expect("base64");
    headers.insert(HEADER_ID, HeaderValue::from_static("rwb_1"));
    headers.insert(HEADER_TIMESTAMP, HeaderValue::from(NOW));
    headers.insert(HEADER_SIGNATURE, signature);
    let verified = raw(&headers).verify(&keys, NOW, 300).expect("signed by the right key");
    let Ok(body) = verified.into_body(MOST) else { return };
    assert!(body.len() as u64 <= MOST, "{} bytes were unpacked", body.len());
    let _ = lane_of(&body);
    if let Ok(delivery) = parse_delivery(&body) {
        let _ = check_head(&delivery.head, &"shop".parse().expect("a name"));
    }
}
