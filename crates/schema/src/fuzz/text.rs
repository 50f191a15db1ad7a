//! Texts of an operator, of headers and of rows.

use std::io;
use std::path::Path;
use std::str;

use crate::cell::Cell;
use crate::config::bytes::parse_bytes;
use crate::config::duration::parse_duration;
use crate::config::{DatabaseUrl, ProxyUrl, load};
use crate::event::template::EndpointUrl;
use crate::header;
use crate::name::{EndpointName, StreamName};
use crate::pattern::TablePatterns;
use crate::position::Position;
use crate::secret::{Secret, SigningKey, VerifyingKey};
use crate::signature::{self, SignedHeaders, verify_github, verify_stripe};
use crate::table::{Dialect, TableName};
use crate::types::{ColumnType, Conversion, Server, made_as};

/// What every variable and every file holds; nothing may show it.
const HIDDEN: &str = "whsec_aGlkZGVuaGlkZGVuaGlkZGVuaGlkZGVu";

/// A configuration file is read, its variables and files filled in with a secret. No error may show it.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let env = |name: &str| (name != "UNSET").then(|| HIDDEN.to_owned());
    let read_file = |path: &Path| match path.starts_with("/run") {
        true => Ok(format!("{HIDDEN}\n")),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    match load(Path::new("rowbridge.toml"), text, &env, &read_file) {
        Ok(config) => assert!(config.publisher.is_some() || config.subscriber.is_some()),
        Err(errors) => {
            let shown = errors.to_string();
            assert!(!shown.is_empty());
            assert!(text.contains("GlkZGVu") || !shown.contains("GlkZGVu"), "a secret is shown: {shown}");
        }
    }
}

/// URLs of databases, proxies and endpoints.
pub fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url) | DatabaseUrl::Mysql(url)) => {
            assert!(!url.user.is_empty() && !url.host.is_empty());
        }
        Ok(DatabaseUrl::Sqlite(path)) => assert!(!path.as_os_str().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(proxy) = ProxyUrl::parse(&Secret::new(text))
        && let Some((user, password)) = proxy.credentials
    {
        // They end up in a header.
        assert!(![&*user, password.expose()].iter().any(|text| text.contains(char::is_control)));
    }
    if let Ok(url) = EndpointUrl::parse(text)
        && matches!(url.base().scheme(), "http" | "https")
    {
        assert!(url.base().has_host() && url.base().query().is_none() && url.base().fragment().is_none());
    }
}

/// Positions, names, patterns, durations, sizes, header names and keys: what is read shows itself as it was.
pub fn names(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
    }
    if let Ok(name) = text.parse::<StreamName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(name) = text.parse::<EndpointName>() {
        assert_eq!(name.as_str(), text);
    }
    let lines: Vec<&str> = text.lines().collect();
    if let Ok(patterns) = TablePatterns::new(&lines) {
        let table = TableName::new("public", "orders_2026");
        let _ = patterns.matches(&table);
        patterns.unmatched(&[table]).count();
    }
    let _ = parse_duration(text);
    let _ = parse_bytes(text);
    if let Ok(name) = header::check_name(text) {
        assert_eq!(name, text.to_ascii_lowercase());
    }
    if let Ok(key) = SigningKey::parse(text) {
        let again = SigningKey::parse(&key.to_text()).expect("a key that was read is shown as one");
        assert!(again == key);
    }
    if let Ok(key) = VerifyingKey::parse(text) {
        VerifyingKey::parse(&key.to_text()).expect("a key that was read is shown as one");
    }
}

const NOW: u64 = 1_700_000_000;
const TOLERANCE: u64 = 300;

/// `id`, `timestamp` and `signature` on a line each, then the body, against fixed keys. What is accepted must be what the
/// keys sign.
pub fn signature(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || parts.next().and_then(|part| str::from_utf8(part).ok()).unwrap_or_default();
    let headers = SignedHeaders { id: line(), timestamp: line(), signature: line() };
    let body = parts.next().unwrap_or_default();
    let keys = [
        SigningKey::parse(HIDDEN).expect("a key"),
        SigningKey::parse("whsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect("a key"),
    ];
    let secrets = [Secret::new("shared")];
    if signature::verify(&keys, headers, body, NOW, TOLERANCE).is_ok() {
        let seconds: u64 = headers.timestamp.parse().expect("an accepted timestamp is a number");
        assert!(seconds.abs_diff(NOW) <= TOLERANCE);
        let ours = signature::sign(&keys, headers.id, seconds, body);
        let theirs: Vec<&str> = headers.signature.split(' ').collect();
        assert!(ours.split(' ').any(|entry| theirs.contains(&entry)), "a signature that we do not make");
    }
    let ours = signature::sign(&keys, "msg_1", NOW, body);
    let mine = SignedHeaders { id: "msg_1", timestamp: "1700000000", signature: &ours };
    signature::verify(&keys, mine, body, NOW, TOLERANCE).expect("our own signature is accepted");
    let _ = verify_github(&secrets, headers.signature, body);
    let _ = verify_stripe(&secrets, headers.signature, body, NOW, TOLERANCE);
}

/// `SOURCE\nTARGET\nVALUE`, where the first two are types with `p `, `m ` or `s ` before them, for their dialect: types'
/// names and canonical texts of any database.
pub fn conversion(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(source), Some(target), Some(value)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let column = |text: &str| {
        let (dialect, name) = text.split_once(' ')?;
        let dialect = match dialect {
            "p" => Dialect::Postgres,
            "m" => Dialect::Mysql,
            "s" => Dialect::Sqlite,
            _ => return None,
        };
        Some(ColumnType::parse(dialect, name, Some("utf8mb4_general_ci"), &[]))
    };
    let (Some(source), Some(target)) = (column(source), column(target)) else { return };
    for server in [Server::Postgres, Server::Mysql, Server::Mariadb, Server::Sqlite] {
        let _ = made_as(&source, server, 1, None);
        let Ok(conversion) = Conversion::between(&source, &target) else { continue };
        let conversion = conversion.at(server);
        match conversion.convert(Cell::text(value)) {
            Ok(converted) if conversion.is_identity() => assert_eq!(converted, Cell::text(value)),
            Ok(converted) => assert!(converted.is_null() || converted.as_str().is_some()),
            Err(why) => assert!(!conversion.refusal(why).is_empty()),
        }
    }
}
