//! Database URLs: `postgres://user:pass@host:port/db?sslmode=...`, `mysql://` of the same form, and `sqlite:/path`.
//!
//! The form is libpq's "Connection URIs" (manual, 32.1.1.2), less what Rowbridge has no use for: several
//! hosts, and parameters that it would ignore. Ignoring one silently is how `sslmode` gets lost, so every other
//! parameter is refused. No error contains a part of the URL that might be a piece of a badly escaped password.

use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::{DatabaseUrl, ServerUrl, SslMode};
use crate::secret::Secret;

/// PostgreSQL's registered port.
pub const POSTGRES_PORT: u16 = 5432;

/// MySQL's registered port.
pub const MYSQL_PORT: u16 = 3306;

/// Why a text is no database URL. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// None of the known schemes.
    #[error("a database URL starts with postgres://, mysql:// or sqlite:")]
    Scheme,
    /// A broken `%xx`, or one that is not UTF-8 or NUL.
    #[error("the {part} is not valid percent-encoding of UTF-8")]
    Encoding {
        /// Which part of the URL.
        part: &'static str,
    },
    /// No role.
    #[error("the URL names no user (postgres://USER:PASSWORD@HOST:5432/DATABASE)")]
    UserMissing,
    /// Neither a host nor a socket folder.
    #[error("the URL names no host (postgres://USER@HOST:5432/DATABASE, or ?host=/var/run/postgresql)")]
    HostMissing,
    /// A host in the authority and another one in `?host=`.
    #[error("the URL names two hosts, one before the database and one in ?host=")]
    HostTwice,
    /// `a,b`: libpq's list of hosts.
    #[error("the URL lists several hosts; name the one to use")]
    HostList,
    /// Characters that no host has, or a bracket without its twin.
    #[error("the host is not a name, an address or a [bracketed] IPv6 address")]
    Host,
    /// Not a number from 1 to 65535.
    #[error(
        "the port is not a number from 1 to 65535 (a / ? # @ or % in a password is written %2F %3F %23 %40 %25)"
    )]
    Port,
    /// A stray `/`, `@` or `#` behind the host: nearly always a password that was not escaped.
    #[error("there is a / @ or # too many (in a password they are written %2F %40 %23)")]
    Delimiter,
    /// A parameter without `=`, or one that is not known.
    #[error("there is a parameter that is not known (known are sslmode, sslrootcert and host)")]
    Parameter,
    /// The same parameter a second time.
    #[error("the parameter {name} is given twice")]
    ParameterTwice {
        /// Its name.
        name: &'static str,
    },
    /// `host` as a parameter names a socket's folder only.
    #[error(
        "?host= is the folder of a unix socket and starts with / (other hosts stand before the database)"
    )]
    SocketPath,
    /// Not one of the five.
    #[error("sslmode is disable, prefer, require, verify-ca or verify-full")]
    SslMode,
    /// A root certificate that would never be looked at.
    #[error("sslrootcert has no effect with this sslmode (write sslmode=verify-full or verify-ca)")]
    UnusedRootCert,
    /// TLS on a unix socket, which PostgreSQL does not have.
    #[error("a unix socket has no TLS (leave out sslmode and sslrootcert)")]
    TlsOnSocket,
    /// `sqlite:` and nothing, or a database that only one connection can see.
    #[error("a SQLite URL names a file (sqlite:/var/lib/app/shop.db)")]
    SqlitePath,
    /// `sqlite://host/...`
    #[error("a SQLite URL has no host (sqlite:/absolute/path or sqlite:relative/path)")]
    SqliteHost,
    /// `sqlite:...?...`
    #[error("a SQLite URL has no parameters")]
    SqliteParameters,
}

impl DatabaseUrl {
    /// Reads either form.
    ///
    /// # Errors
    /// What is wrong with the text, without the text.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        if let Some(rest) = text.strip_prefix("sqlite:") {
            return sqlite(rest).map(Self::Sqlite);
        }
        if let Some(rest) = text.strip_prefix("mysql://").or_else(|| text.strip_prefix("mariadb://")) {
            return ServerUrl::parse(rest, MYSQL_PORT).map(Self::Mysql);
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let mut url = ServerUrl::parse(rest.ok_or(DatabaseUrlError::Scheme)?, POSTGRES_PORT)?;
        if url.database.is_empty() {
            url.database.clone_from(&url.user);
        }
        Ok(Self::Postgres(url))
    }

    /// The driver's name, as `kind` spells it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Sqlite(_) => "sqlite",
        }
    }
}

fn sqlite(rest: &str) -> Result<PathBuf, DatabaseUrlError> {
    let path = match rest.strip_prefix("//") {
        // The habit of other tools: sqlite:///absolute.
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(DatabaseUrlError::SqliteHost),
        None => rest,
    };
    if path.is_empty() || path.ends_with('/') || path.contains('\0') || path == ":memory:" {
        return Err(DatabaseUrlError::SqlitePath);
    }
    if path.contains('?') {
        return Err(DatabaseUrlError::SqliteParameters);
    }
    Ok(PathBuf::from(path))
}

impl ServerUrl {
    /// Reads what follows the scheme: `user:pass@host:port/db?sslmode=...&sslrootcert=...&host=/socket`. User, password,
    /// host, database and values are percent-decoded; IPv6 addresses stand in brackets. A left-out database is empty.
    fn parse(rest: &str, default_port: u16) -> Result<Self, DatabaseUrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let (host, port) = host_and_port(host_port, default_port)?;
        if [database, query].iter().any(|part| part.contains(['@', '#'])) || database.contains('/') {
            return Err(DatabaseUrlError::Delimiter);
        }
        let parameters = Parameters::parse(query)?;

        let (user, password) = match user_info.unwrap_or("").split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info.unwrap_or(""), None),
        };
        let user = decode(user, "user")?;
        if user.is_empty() {
            return Err(DatabaseUrlError::UserMissing);
        }
        let password = match password {
            Some(password) if !password.is_empty() => Some(Secret::new(decode(password, "password")?)),
            _ => None,
        };
        let database = decode(database, "database")?;
        let host = match (host.is_empty(), parameters.host) {
            (false, None) => host,
            (true, Some(folder)) => folder,
            (false, Some(_)) => return Err(DatabaseUrlError::HostTwice),
            (true, None) => return Err(DatabaseUrlError::HostMissing),
        };
        let ssl_mode = ssl_mode(&host, parameters.ssl_mode, parameters.ssl_root_cert.is_some())?;
        let ssl_root_cert = parameters.ssl_root_cert.map(PathBuf::from);
        Ok(Self { host, port, user, password, database, ssl_mode, ssl_root_cert })
    }

    /// Whether the server is reached through a unix socket; `host` is then its folder or file.
    #[must_use]
    pub fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// A left-out mode verifies everything, except where nobody can listen in. Naming authorities asks for verification,
/// wherever the server is.
fn ssl_mode(host: &str, written: Option<SslMode>, has_root: bool) -> Result<SslMode, DatabaseUrlError> {
    let verifies = |mode| matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if host.starts_with('/') {
        return match written {
            _ if has_root => Err(DatabaseUrlError::TlsOnSocket),
            Some(mode) if verifies(mode) || mode == SslMode::Require => Err(DatabaseUrlError::TlsOnSocket),
            mode => Ok(mode.unwrap_or(SslMode::Prefer)),
        };
    }
    match written {
        Some(mode) if has_root && !verifies(mode) => Err(DatabaseUrlError::UnusedRootCert),
        Some(mode) => Ok(mode),
        None if is_loopback(host) && !has_root => Ok(SslMode::Prefer),
        None => Ok(SslMode::VerifyFull),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// Splits `host:port`; the host is empty if it is left out.
fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), DatabaseUrlError> {
    if text.contains(',') {
        return Err(DatabaseUrlError::HostList);
    }
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or(DatabaseUrlError::Host)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| DatabaseUrlError::Host)?;
        (address.to_string(), port)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        (decode(&text[..end], "host")?, &text[end..])
    };
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.starts_with('/') && !host.chars().all(allowed) {
        return Err(DatabaseUrlError::Host);
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        None => return Err(DatabaseUrlError::Host),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|&port| port != 0).ok_or(DatabaseUrlError::Port)?
        }
        Some(_) => return Err(DatabaseUrlError::Port),
    };
    Ok((host, port))
}

#[derive(Default)]
struct Parameters {
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<String>,
    host: Option<String>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, DatabaseUrlError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(DatabaseUrlError::Parameter)?;
            match name {
                "sslmode" => {
                    let mode = ssl_mode_name(value).ok_or(DatabaseUrlError::SslMode)?;
                    once(&mut parameters.ssl_mode, mode, "sslmode")?;
                }
                "sslrootcert" => {
                    let path = decode(value, "sslrootcert")?;
                    if path.is_empty() {
                        return Err(DatabaseUrlError::Encoding { part: "sslrootcert" });
                    }
                    once(&mut parameters.ssl_root_cert, path, "sslrootcert")?;
                }
                "host" => {
                    let folder = decode(value, "host")?;
                    if !folder.starts_with('/') {
                        return Err(DatabaseUrlError::SocketPath);
                    }
                    once(&mut parameters.host, folder, "host")?;
                }
                _ => return Err(DatabaseUrlError::Parameter),
            }
        }
        Ok(parameters)
    }
}

fn once<T>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), DatabaseUrlError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DatabaseUrlError::ParameterTwice { name }),
    }
}

fn ssl_mode_name(text: &str) -> Option<SslMode> {
    Some(match text {
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => return None,
    })
}

/// Percent-decodes strictly: a `%` that begins no `%xx` is an unescaped one, and guessing would change a password.
fn decode(text: &str, part: &'static str) -> Result<String, DatabaseUrlError> {
    let error = DatabaseUrlError::Encoding { part };
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3).ok_or(error)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error);
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| error)?;
    if decoded.contains('\0') { Err(error) } else { Ok(decoded.into_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn postgres(text: &str) -> Result<ServerUrl, DatabaseUrlError> {
        match DatabaseUrl::parse(text)? {
            DatabaseUrl::Postgres(url) => Ok(url),
            other => panic!("not PostgreSQL but {}", other.kind()),
        }
    }

    fn parse(text: &str) -> ServerUrl {
        postgres(text).unwrap()
    }

    #[test]
    fn mysql_has_its_own_port_and_needs_no_database() {
        for scheme in ["mysql", "mariadb"] {
            let Ok(DatabaseUrl::Mysql(url)) = DatabaseUrl::parse(&format!("{scheme}://u:p@h/")) else {
                panic!("not MySQL");
            };
            assert_eq!((url.port, url.database.as_str(), url.user.as_str()), (MYSQL_PORT, "", "u"));
        }
    }

    #[test]
    fn all_parts() {
        let url = parse(
            "postgres://row%40bridge:p%2Fw%25%3A@db.example:6432/my%20shop?sslmode=verify-ca&sslrootcert=/etc/ca%20.pem",
        );
        assert_eq!((url.host.as_str(), url.port), ("db.example", 6432));
        assert_eq!((url.user.as_str(), url.database.as_str()), ("row@bridge", "my shop"));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p/w%:"));
        assert_eq!(url.ssl_mode, SslMode::VerifyCa);
        assert_eq!(url.ssl_root_cert, Some(PathBuf::from("/etc/ca .pem")));
        assert!(!format!("{url:?}").contains("p/w"));
    }

    #[test]
    fn what_may_be_left_out() {
        let url = parse("postgresql://shop@db.example");
        assert_eq!((url.port, url.database.as_str()), (5432, "shop"));
        assert_eq!((url.password, url.ssl_mode), (None, SslMode::VerifyFull));
        assert_eq!(parse("postgres://u:@h/").password, None);
        // A colon in a password needs no escape: the first one separates.
        assert_eq!(parse("postgres://u:a:b@h").password, Some(Secret::new("a:b")));
    }

    #[test]
    fn the_default_mode_verifies_wherever_somebody_could_listen() {
        for (host, mode) in [
            ("127.0.0.1", SslMode::Prefer),
            ("127.9.9.9:5433", SslMode::Prefer),
            ("localhost", SslMode::Prefer),
            ("[::1]", SslMode::Prefer),
            ("%2Frun%2Fpostgresql", SslMode::Prefer),
            ("10.0.0.5", SslMode::VerifyFull),
            ("[fd00::1]:5432", SslMode::VerifyFull),
            ("localhost.example", SslMode::VerifyFull),
        ] {
            assert_eq!(parse(&format!("postgres://u@{host}/d")).ssl_mode, mode, "{host}");
        }
        assert_eq!(parse("postgres://u@127.0.0.1/d?sslrootcert=/ca.pem").ssl_mode, SslMode::VerifyFull);
        assert_eq!(parse("postgres://u@db.example/d?sslmode=disable").ssl_mode, SslMode::Disable);
    }

    #[test]
    fn addresses_and_sockets() {
        let url = parse("postgres://u@[2001:db8::1]:5433/d");
        assert_eq!((url.host.as_str(), url.port), ("2001:db8::1", 5433));
        let url = parse("postgres://u@/d?host=/var/run/postgresql");
        assert_eq!((url.host.as_str(), url.is_unix_socket()), ("/var/run/postgresql", true));
        let url = parse("postgres://u@:5444/d?host=/tmp/my%20socket");
        assert_eq!((url.host.as_str(), url.port), ("/tmp/my socket", 5444));
        assert_eq!(parse("postgres://u@%2Ftmp/d").host, "/tmp");
    }

    #[test]
    fn refusals() {
        use DatabaseUrlError as E;
        for (text, error) in [
            ("oracle://u@h/d", E::Scheme),
            ("postgres:u@h/d", E::Scheme),
            ("", E::Scheme),
            ("postgres://h/d", E::UserMissing),
            ("postgres://:pw@h/d", E::UserMissing),
            ("postgres://u@/d", E::HostMissing),
            ("postgres://u@h/d?host=/tmp", E::HostTwice),
            ("postgres://u@a,b/d", E::HostList),
            ("postgres://u@[::1/d", E::Host),
            ("postgres://u@[::1]x/d", E::Host),
            ("postgres://u@h h/d", E::Host),
            ("postgres://u@h:0/d", E::Port),
            ("postgres://u@h:65536/d", E::Port),
            ("postgres://u@h:+1/d", E::Port),
            ("postgres://u:hunter/2@h/d", E::Port),
            ("postgres://u:5/hunter@h/d", E::Delimiter),
            ("postgres://u:a@b/hunter@h/d", E::Delimiter),
            ("postgres://u:a@b?hunter=2@h/d", E::Delimiter),
            ("postgres://u@h/a/b", E::Delimiter),
            ("postgres://u@h/d#x", E::Delimiter),
            ("postgres://u@h/d?connect_timeout=1", E::Parameter),
            ("postgres://u@h/d?sslmode", E::Parameter),
            ("postgres://u@h/d?sslmode=allow", E::SslMode),
            ("postgres://u@h/d?sslmode=prefer&sslmode=prefer", E::ParameterTwice { name: "sslmode" }),
            ("postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem", E::UnusedRootCert),
            ("postgres://u@/d?host=/tmp&sslmode=verify-full", E::TlsOnSocket),
            ("postgres://u@/d?host=/tmp&sslrootcert=/ca.pem", E::TlsOnSocket),
            ("postgres://u@/d?host=tmp", E::SocketPath),
            ("postgres://u:100%@h/d", E::Encoding { part: "password" }),
            ("postgres://u:%ff@h/d", E::Encoding { part: "password" }),
            ("postgres://u%00:x@h/d", E::Encoding { part: "user" }),
        ] {
            assert_eq!(postgres(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn sqlite_paths() {
        let path = |text: &str| match DatabaseUrl::parse(text) {
            Ok(DatabaseUrl::Sqlite(path)) => Ok(path.to_string_lossy().into_owned()),
            Ok(other) => panic!("not SQLite but {}", other.kind()),
            Err(error) => Err(error),
        };
        assert_eq!(path("sqlite:/var/lib/shop.db").unwrap(), "/var/lib/shop.db");
        assert_eq!(path("sqlite:shop.db").unwrap(), "shop.db");
        assert_eq!(path("sqlite:///var/lib/shop.db").unwrap(), "/var/lib/shop.db");
        for (text, error) in [
            ("sqlite:", DatabaseUrlError::SqlitePath),
            ("sqlite:/var/lib/", DatabaseUrlError::SqlitePath),
            ("sqlite::memory:", DatabaseUrlError::SqlitePath),
            ("sqlite://shop.db", DatabaseUrlError::SqliteHost),
            ("sqlite:/shop.db?mode=ro", DatabaseUrlError::SqliteParameters),
        ] {
            assert_eq!(path(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(rest in ".{0,60}") {
            let _ = postgres(&format!("postgres://{rest}"));
            let _ = DatabaseUrl::parse(&format!("sqlite:{rest}"));
            let _ = DatabaseUrl::parse(&rest);
        }

        #[test]
        fn an_encoded_password_comes_back(password in "[^\0]{1,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC);
            let url = postgres(&format!("postgres://u:{encoded}@h/d")).unwrap();
            prop_assert_eq!(url.password.as_ref().map(Secret::expose), Some(password.as_str()));
        }
    }
}
