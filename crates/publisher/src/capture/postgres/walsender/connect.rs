//! Connecting: options, startup packet, login, and a check that the session is as asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::super::pgoutput::Tag;
use super::Walsender;
use super::auth;
use super::error::{ProtocolError, WalsenderError};
use super::transport::Transport;
use super::wire::{Parameters, Wire};

/// Where and as whom to connect. `Debug` leaves out the password.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Host name or address, or the folder of a unix socket when it starts with `/`.
    pub host: String,
    /// Port; with a unix socket it is part of the file name.
    pub port: u16,
    /// Role; needs `LOGIN REPLICATION`.
    pub user: String,
    /// Password, if the server may ask for one.
    pub password: Option<String>,
    /// Database; logical slots belong to one.
    pub database: String,
    /// Shown in `pg_stat_replication`, and the name by which synchronous replication would know this client.
    pub application_name: String,
    /// Use of TLS over TCP; a unix socket never has TLS.
    pub tls: TlsMode,
    /// Limit for all of it: name resolution, connection, TLS, login.
    pub connect_timeout: Duration,
}

/// Use of TLS.
#[derive(Debug, Clone)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// When the server offers it. This protects against nobody who can change packets.
    Prefer(TlsSettings),
    /// Always. What is checked, and whether names are, is up to the settings.
    Require(TlsSettings),
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Roots, verifier, client certificate.
    pub config: Arc<ClientConfig>,
    /// Name that the server's certificate must have, a host name or an address.
    pub server_name: ServerName<'static>,
}

impl ConnectOptions {
    pub(super) fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// What is connected to, for people and for the socket path.
    pub(super) fn address(&self) -> String {
        if self.is_unix_socket() {
            format!("{}/.s.PGSQL.{}", self.host.trim_end_matches('/'), self.port)
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &self.address())
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[hidden]"))
            .field("database", &self.database)
            .field("application_name", &self.application_name)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// Settings on which the text of values, or the life of the session, depends. They go into the startup packet, where
/// they win over defaults of role and database; all can be set by any role and exist in every server since 10.
const SETTINGS: [(&str, &str); 11] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    // The highest value there is: shortest text that reads back as the same float.
    ("extra_float_digits", "3"),
    // Output of `money` follows the locale's currency and decimals.
    ("lc_monetary", "C"),
    // Names in values such as `regclass` come out qualified; the server's own subscriptions do the same.
    ("search_path", ""),
    // Making a slot waits for old transactions, and streaming never ends.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Settings that only newer servers have (14 and 17), where the startup packet would be refused by older ones.
const NEWER_TIMEOUTS: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// Settings that the server reports by itself, and so can be checked for free.
const REPORTED: [(&str, &str); 5] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    // Since version 10 always on; without it all times are floats.
    ("integer_datetimes", "on"),
];

impl Walsender {
    /// Connects and logs in as a logical replication client.
    ///
    /// Errors: a wrong password is [`WalsenderError::Server`] with code 28P01, a missing `pg_hba.conf` line 28000, a
    /// pooler that does not know replication most often 08P01, too many walsenders 53300. Not cancel safe in the
    /// sense that a dropped call is a lost connection; nothing else remains of it.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, WalsenderError> {
        match timeout(options.connect_timeout, establish(options)).await {
            Ok(result) => result,
            Err(_) => Err(WalsenderError::ConnectTimeout {
                address: options.address(),
                after: options.connect_timeout,
            }),
        }
    }
}

async fn establish(options: &ConnectOptions) -> Result<Walsender, WalsenderError> {
    let mut wire = Wire::new(Transport::open(options).await?);
    let end_point = wire.stream().server_end_point();
    let identity = [
        ("user", options.user.as_str()),
        ("database", options.database.as_str()),
        ("replication", "database"),
        ("application_name", options.application_name.as_str()),
    ];
    frontend::startup_message(identity.into_iter().chain(SETTINGS), wire.output())
        .map_err(|_| zero_byte("user, database or application name"))?;
    wire.flush().await?;
    let mut parameters = Parameters::default();
    auth::login(&mut wire, &mut parameters, options, end_point).await?;
    wire.login_done();
    let backend_pid = ready(&mut wire, &mut parameters).await?;
    check(&parameters)?;
    let mut walsender = Walsender { wire, parameters, backend_pid, awaiting: false };
    walsender.simple_query(NEWER_TIMEOUTS).await?;
    Ok(walsender)
}

/// Reads what comes between login and the first command; gives the backend's process id, 0 if it was not told.
async fn ready(wire: &mut Wire<Transport>, parameters: &mut Parameters) -> Result<i32, WalsenderError> {
    let mut backend_pid = 0;
    loop {
        let raw = wire.message().await?;
        match parameters.absorb(raw)? {
            None => {}
            Some(mut raw) if raw.tag == b'K' => {
                // The cancel key after it is not needed: to stop a command, the connection is dropped.
                let malformed = ProtocolError::Malformed { what: "backend key data" };
                backend_pid = raw.body.try_get_i32().map_err(|_| malformed)?;
            }
            Some(raw) if raw.tag == b'Z' => return Ok(backend_pid),
            Some(raw) => {
                return Err(ProtocolError::UnexpectedMessage {
                    tag: Tag(raw.tag),
                    during: "starting a session",
                }
                .into());
            }
        }
    }
}

fn check(parameters: &Parameters) -> Result<(), ProtocolError> {
    for (name, expected) in REPORTED {
        match parameters.get(name) {
            Some(actual) if actual != expected => {
                return Err(ProtocolError::SettingIgnored { name, expected, actual: actual.to_owned() });
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn zero_byte(what: &'static str) -> WalsenderError {
    ProtocolError::ZeroByte { what }.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::error::TlsError;
    use super::*;

    fn options(host: &str) -> ConnectOptions {
        ConnectOptions {
            host: host.into(),
            port: 5432,
            user: "app".into(),
            password: Some("hunter2".into()),
            database: "shop".into(),
            application_name: "rowbridge".into(),
            tls: TlsMode::Disable,
            connect_timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(options("/run/postgresql/").address(), "/run/postgresql/.s.PGSQL.5432");
        assert_eq!(options("db.internal").address(), "db.internal:5432");
        assert_eq!(options("::1").address(), "[::1]:5432");
    }

    #[test]
    fn debug_hides_the_password() {
        let text = format!("{:?}", options("db"));
        assert!(!text.contains("hunter2") && text.contains("hidden"), "{text}");
    }

    #[tokio::test]
    async fn nobody_listens() {
        let socket = tempfile::tempdir().unwrap();
        let error = Walsender::connect(&options(socket.path().to_str().unwrap())).await.err().unwrap();
        assert!(
            matches!(&error, WalsenderError::Connect { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound),
            "{error:?}"
        );
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    /// A peer that reads a first packet, writes `answer` and stays silent; gives the error of connecting to it.
    async fn against(answer: &[u8], change: impl FnOnce(&mut ConnectOptions)) -> WalsenderError {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut options = options("127.0.0.1");
        options.port = listener.local_addr().unwrap().port();
        change(&mut options);
        let answer = answer.to_vec();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(&answer).await.unwrap();
            stream
        });
        let error = Walsender::connect(&options).await.err().unwrap();
        drop(peer.await.unwrap());
        error
    }

    fn require(options: &mut ConnectOptions) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let server_name = ServerName::try_from("localhost").unwrap();
        options.tls = TlsMode::Require(TlsSettings { config: Arc::new(config), server_name });
    }

    #[tokio::test]
    async fn a_silent_peer_times_out() {
        let error = against(b"", |options| options.connect_timeout = Duration::from_millis(50)).await;
        assert!(matches!(error, WalsenderError::ConnectTimeout { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_pooler_that_refuses_keeps_its_code() {
        let refusal = message(b'E', b"SFATAL\0C08P01\0Munsupported startup parameter: replication\0\0");
        assert_eq!(against(&refusal, |_| {}).await.code(), Some("08P01"));
    }

    #[tokio::test]
    async fn tls_that_is_required_is_never_given_up() {
        let error = against(b"N", require).await;
        assert!(matches!(error, WalsenderError::Tls(TlsError::NotOffered { .. })), "{error:?}");
        let error = against(b"H", require).await;
        assert!(
            matches!(error, WalsenderError::Protocol(ProtocolError::BadTlsAnswer { found: b'H' })),
            "{error:?}"
        );
        // Plain text after the yes is fed to TLS, not believed.
        let injected = [b"S".to_vec(), message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let error = against(&injected, require).await;
        assert!(matches!(error, WalsenderError::Tls(TlsError::Handshake { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_session_with_other_settings_is_refused() {
        let login = [message(b'R', &[0; 4]), message(b'S', b"DateStyle\0SQL, DMY\0"), message(b'Z', b"I")];
        let error = against(&login.concat(), |_| {}).await;
        assert!(
            matches!(
                &error,
                WalsenderError::Protocol(ProtocolError::SettingIgnored { name: "DateStyle", .. })
            ),
            "{error:?}"
        );
    }
}
