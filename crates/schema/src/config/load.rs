//! The whole file: sections, what they need of each other, and the result.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeValue;

use super::error::{ConfigErrors, Problem};
use super::reader::{Field, Keys, Reader, Section};
use super::substitute::{Piece, Sources};
use super::{AdminConfig, Config, DatabaseUrl, defaults, load_publisher, load_subscriber};
#[cfg(test)]
use super::{alert, load_endpoint, load_outbox};
use crate::pattern::TablePatterns;
use crate::secret::SigningKey;

/// The top level.
const ROOT: Keys = Keys {
    section: "",
    keys: &[
        "shutdown_grace",
        "publisher",
        "source",
        "journal",
        "attempts",
        "dead_letters",
        "outbox",
        "endpoint",
        "alert",
        "subscriber",
        "target",
        "receive",
        "map",
        "admin",
    ],
};

const ADMIN: Keys = Keys { section: "admin", keys: &["listen"] };

/// Every section, for the test that compares them with the default file.
#[cfg(test)]
pub(super) const SECTIONS: [&Keys; 14] = [
    &ROOT,
    &load_publisher::PUBLISHER,
    &load_publisher::SOURCE,
    &load_publisher::JOURNAL,
    &load_publisher::ATTEMPTS,
    &load_publisher::DEAD_LETTERS,
    &load_outbox::OUTBOX,
    &load_endpoint::ENDPOINT,
    &alert::ALERT,
    &load_subscriber::SUBSCRIBER,
    &load_subscriber::TARGET,
    &load_subscriber::RECEIVE,
    &load_subscriber::MAP,
    &ADMIN,
];

/// Reads a file's text. `path` only names it in errors; `env` and `read_file` answer `${NAME}` and `${file:/path}`.
/// Relative paths stay relative: they mean what they mean to the process that uses them.
///
/// # Errors
/// Everything that is wrong, in the file's order. No text shows a secret.
pub fn load(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Config, ConfigErrors> {
    let mut reader =
        Reader::new(path, text.strip_prefix('\u{feff}').unwrap_or(text), Sources { env, read_file });
    match read(&mut reader) {
        Some(config) if reader.is_clean() => Ok(config),
        _ => Err(reader.into_errors()),
    }
}

/// `None` always comes with an error.
fn read(reader: &mut Reader<'_>) -> Option<Config> {
    let table = reader.parse()?;
    let root = reader.open(table.get_ref(), 0, &ROOT);
    let shutdown_grace =
        root.get("shutdown_grace").map_or(Some(defaults::SHUTDOWN_GRACE), |field| reader.duration(&field));

    needs(reader, &root, "publisher", "source", "[source]", "say which database to capture");
    needs(reader, &root, "publisher", "endpoint", "[[endpoint]]", "say where changes are sent");
    for part in ["source", "journal", "attempts", "dead_letters", "outbox", "endpoint", "alert"] {
        needs(reader, &root, part, "publisher", "[publisher]", "or remove this section");
    }
    needs(reader, &root, "subscriber", "target", "[target]", "say which database is written");
    needs(reader, &root, "subscriber", "receive", "[[receive]]", "say what is received");
    for part in ["target", "receive", "map"] {
        needs(reader, &root, part, "subscriber", "[subscriber]", "or remove this section");
    }

    let publisher = load_publisher::read(reader, &root);
    let subscriber = load_subscriber::read(reader, &root);
    let admin = root.get("admin").map(|field| admin(reader, &field));
    if publisher.is_none() && subscriber.is_none() && reader.is_clean() {
        reader.push(0, "", Problem::NothingToRun);
    }
    if let (Some(Some((admin, field))), Some(Some(subscriber))) = (&admin, &subscriber)
        && admin.listen == subscriber.listen
        && admin.listen.port() != 0
    {
        same_as(reader, &root, "subscriber", field, "deliveries and the admin pages never share a port");
    }
    if let (Some(Some(publisher)), Some(Some(subscriber)), Some(field)) =
        (&publisher, &subscriber, root.get("target"))
        && let DatabaseUrl::Sqlite(source) = &publisher.source.database
        && let DatabaseUrl::Sqlite(target) = &subscriber.target.database
        && source == target
    {
        same_as(reader, &root, "source", &field, "a database is not copied into itself");
    }
    Some(Config {
        publisher: settled(publisher)?,
        subscriber: settled(subscriber)?,
        admin: settled(admin)?.map(|(admin, _)| admin),
        shutdown_grace: shutdown_grace?,
    })
}

/// A section that is there must have been read: `Some(None)` is one that left errors.
fn settled<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

/// Reports that `field` repeats something of the section `first`.
fn same_as(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    first: &'static str,
    field: &Field<'_>,
    rule: &'static str,
) {
    let (line, _) = reader.place(root.get(first).map_or(0, |section| section.at));
    reader.report(field, Problem::Duplicate { line, rule });
}

fn needs(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    present: &'static str,
    other: &'static str,
    needed: &'static str,
    way_out: &'static str,
) {
    if let (Some(field), None) = (root.get(present), root.get(other)) {
        reader.report(&field, Problem::Needs { needed, way_out });
    }
}

fn admin<'t>(reader: &mut Reader<'_>, field: &Field<'t>) -> Option<(AdminConfig, Field<'t>)> {
    let section = reader.section(field, &ADMIN)?;
    let listen = section.require(reader, "listen", "listen = \"127.0.0.1:9400\"")?;
    Some((AdminConfig { listen: socket_address(reader, &listen)? }, listen))
}

/// `address:port`; names are not resolved, since a listener that moves with DNS surprises.
pub(super) fn socket_address(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<SocketAddr> {
    reader.parsed(field, "an IP address and a port", "\"127.0.0.1:9500\" or \"[::]:9500\"")
}

/// One secret or a list of them.
pub(super) fn signing_keys(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<SigningKey>> {
    const EXPECTED: &str = "a webhook secret or a list of them";
    const EXAMPLE: &str = "\"${WEBHOOK_SECRET}\"";
    if matches!(field.value, DeValue::String(_)) {
        return Some(vec![signing_key(reader, field, EXPECTED, EXAMPLE)?]);
    }
    let elements = reader.list(field, EXPECTED, EXAMPLE)?;
    if elements.is_empty() {
        let way_out = "nothing is sent or taken without a signature; make one with `rowbridge secret`";
        reader.report(field, Problem::EmptyList { way_out });
        return None;
    }
    let keys: Vec<_> =
        elements.iter().map(|element| signing_key(reader, element, "a webhook secret", EXAMPLE)).collect();
    keys.into_iter().collect()
}

fn signing_key(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    expected: &'static str,
    example: &str,
) -> Option<SigningKey> {
    let text = reader.text(field, expected, example)?;
    SigningKey::parse(&text).map_err(|error| reader.report(field, error)).ok()
}

/// Patterns of which at least one includes.
pub(super) fn table_patterns(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<TablePatterns> {
    const EXAMPLE: &str = "[\"public.*\", \"!public.audit_*\"]";
    let elements = reader.list(field, "a list of table patterns", EXAMPLE)?;
    if elements.is_empty() {
        reader.report(field, Problem::EmptyList { way_out: "write [\"*\"] for every table" });
        return None;
    }
    let patterns: Vec<_> = elements
        .iter()
        .map(|element| {
            let text = reader.filled_text(element, "a table pattern", "\"public.*\"")?;
            if text == "!" {
                return reader.unexpected(element, "a table pattern", "such as \"!public.audit_*\"");
            }
            Some(text)
        })
        .collect();
    let patterns = patterns.into_iter().collect::<Option<Vec<_>>>()?;
    if patterns.iter().all(|pattern| pattern.starts_with('!')) {
        reader.report(field, Problem::SelectsNothing);
        return None;
    }
    TablePatterns::new(&patterns).ok()
}

/// `kind` and `url`, which must agree.
pub(super) fn database(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<DatabaseUrl> {
    let kind_field = section.require(reader, "kind", "kind = \"postgres\", \"mysql\" or \"sqlite\"");
    let kind = kind_field.as_ref().and_then(|field| {
        let choices = [("postgres", "postgres"), ("mysql", "mysql"), ("sqlite", "sqlite")];
        reader.choice(field, "\"postgres\", \"mysql\" or \"sqlite\"", &choices, "mysql is MariaDB too")
    });
    let example =
        "url = \"postgres://rowbridge:${DB_PASSWORD}@127.0.0.1:5432/shop\" or \"sqlite:/path/file.db\"";
    let url_field = section.require(reader, "url", example)?;
    let pieces = reader.pieces(&url_field, "a database URL", "\"sqlite:/path/file.db\"")?;
    let url = match DatabaseUrl::parse(&join_url(&pieces)) {
        Ok(url) => url,
        Err(error) => {
            reader.report(&url_field, error);
            return None;
        }
    };
    if let (Some(kind), Some(field)) = (kind, kind_field)
        && kind != url.kind()
    {
        reader.report(&field, Problem::KindMismatch { kind, url_kind: url.kind() });
    }
    Some(url)
}

/// Joins a URL. What is filled in before the `@` is a user or a password as people have it, with any `@`, `/` or `%`
/// in it, so it is percent-encoded here; a URL that comes from one variable as a whole is taken as it is.
fn join_url(pieces: &[Piece]) -> String {
    let Some(last_user_info) = pieces.iter().rposition(|piece| {
        let after_scheme = piece.text.split_once("://").map_or(piece.text.as_str(), |(_, rest)| rest);
        let authority = after_scheme.split(['/', '?']).next().unwrap_or("");
        !piece.filled_in && authority.contains('@')
    }) else {
        return pieces.iter().map(|piece| piece.text.as_str()).collect();
    };
    let mut url = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        if piece.filled_in && index < last_user_info {
            let all = percent_encoding::NON_ALPHANUMERIC;
            url.extend(percent_encoding::utf8_percent_encode(&piece.text, all));
        } else {
            url.push_str(&piece.text);
        }
    }
    url
}
