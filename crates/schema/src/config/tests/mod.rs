//! The loader as a whole: shipped files, exact error texts, and what must hold for any text.

mod any;
mod outbox;
mod shipped;
mod texts;

use std::io;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::load::SECTIONS;
use super::*;
use crate::table::TableName;

/// A valid secret: 24 zero bytes.
const SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER_SECRET: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

fn env(name: &str) -> Option<String> {
    match name {
        "UNSET" => None,
        "TRICKY_PASSWORD" => Some("p@ss/w?rd#%41:".to_owned()),
        "WHOLE_URL" => Some("postgres://u:p%40@127.0.0.1/shop".to_owned()),
        _ if name.ends_with("_OLD") => Some(OTHER_SECRET.to_owned()),
        _ if name.ends_with("PARTNER_WEBHOOK_SECRET") => Some(OTHER_SECRET.to_owned()),
        _ if name.ends_with("SECRET") => Some(SECRET.to_owned()),
        _ => Some("dummy".to_owned()),
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    if path.starts_with("/run/secrets") {
        Ok(format!("{SECRET}\n"))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str) -> Result<Config, String> {
    load(Path::new("rowbridge.toml"), text, &env, &read_file).map_err(|errors| errors.to_string())
}

fn errors(text: &str) -> String {
    read(text).expect_err("the file has errors")
}

/// A file of both ends on SQLite with one line changed or added.
fn with(section: &str, line: &str) -> String {
    let mut file = String::new();
    let key = line.split(' ').next().unwrap();
    let mut here = "";
    let base = format!(
        "[publisher]\nstream = \"shop\"\nstate_dir = \"/s\"\n[source]\nkind = \"sqlite\"\nurl = \"sqlite:/a.db\"\n\
         tables = [\"*\"]\n[journal]\n[[endpoint]]\nname = \"copy\"\nurl = \"http://127.0.0.1:9500/in\"\n\
         secret = \"{SECRET}\"\n[subscriber]\nlisten = \"127.0.0.1:9500\"\n[target]\nkind = \"sqlite\"\n\
         url = \"sqlite:/b.db\"\n[[receive]]\npath = \"/in\"\nstream = \"shop\"\nsecret = \"{SECRET}\"\n\
         [[map]]\nfrom = \"a\"\nto = \"b\"\n[admin]\nlisten = \"127.0.0.1:9400\"\n"
    );
    for old in base.lines() {
        if old.starts_with('[') {
            here = old.trim_matches(['[', ']']);
        }
        if !(here == section && old.split(' ').next() == Some(key)) {
            file.push_str(old);
            file.push('\n');
        }
        if old.starts_with('[') && here == section {
            file.push_str(line);
            file.push('\n');
        }
    }
    file
}

/// The error about that one line, without its place; panics if there is none or more than one.
fn error_of(section: &str, line: &str) -> String {
    let text = errors(&with(section, line));
    assert_eq!(text.lines().count(), 1, "{text}");
    text.splitn(4, ':').nth(3).unwrap().trim_start().to_owned()
}

fn publisher(text: &str) -> PublisherConfig {
    read(text).unwrap().publisher.unwrap()
}

#[test]
fn what_is_filled_in_reaches_the_value() {
    let password = |url: &str| {
        let file = DEFAULT_TOML.replace("${SOURCE_DB_PASSWORD}@127.0.0.1:5432/shop", url);
        match publisher(&file).source.database {
            DatabaseUrl::Postgres(url) => (url.password.unwrap().expose().to_owned(), url.host, url.database),
            other => panic!("not PostgreSQL but {}", other.kind()),
        }
    };
    let tricky = env("TRICKY_PASSWORD").unwrap();
    assert_eq!(password("${TRICKY_PASSWORD}@h/d"), (tricky.clone(), "h".to_owned(), "d".to_owned()));
    assert_eq!(
        password("${TRICKY_PASSWORD}@${HOST}:5432/${DB}"),
        (tricky, "dummy".to_owned(), "dummy".to_owned())
    );
    assert_eq!(password("a%40b@h/d?sslrootcert=/${X}").0, "a@b", "what the file writes is decoded");

    let whole = DEFAULT_TOML
        .replace("postgres://rowbridge:${SOURCE_DB_PASSWORD}@127.0.0.1:5432/shop", "${WHOLE_URL}");
    match publisher(&whole).source.database {
        DatabaseUrl::Postgres(url) => assert_eq!(url.password, Some(Secret::new("p@"))),
        other => panic!("not PostgreSQL but {}", other.kind()),
    }

    let config = read(&with("endpoint", "secret = [\"${A_OLD}\", \"${file:/run/secrets/a}\"]")).unwrap();
    let secrets = config.publisher.unwrap().endpoints.remove(0).secrets;
    assert_eq!(secrets, [SigningKey::parse(OTHER_SECRET).unwrap(), SigningKey::parse(SECRET).unwrap()]);
}

#[test]
fn values_are_read_as_written() {
    let text = with("source", "tables = [\"public.*\", \"!public.audit_*\"]")
        .replace("to = \"b\"", "to = \"b\"\ncolumns = { z = \"y\", a = false, b = { to = \"c\", as = \"text\" }, d = { as = \"utc\" } }\ndelete = \"soft:gone_at\"")
        .replace(
            "path = ",
            "allow_from = [\"10.0.0.0/8\", \"::1\"]\ntolerance = \"1m\"\nmax_body = \"1 MiB\"\npath = ",
        );
    let config = read(&format!("\u{feff}shutdown_grace = \"0s\"\r\n{text}")).unwrap();
    assert_eq!(config.shutdown_grace, Duration::ZERO);
    assert!(!config.publisher.unwrap().source.tables.matches(&TableName::new("public", "audit_a")));
    let subscriber = config.subscriber.unwrap();
    let map = &subscriber.maps[0];
    let convert = |to: Option<&str>, form| ColumnMap::Convert { to: to.map(str::to_owned), form };
    let columns = [
        ("z".to_owned(), ColumnMap::Rename("y".to_owned())),
        ("a".to_owned(), ColumnMap::Drop),
        ("b".to_owned(), convert(Some("c"), Form::Text)),
        ("d".to_owned(), convert(None, Form::Utc)),
    ];
    assert_eq!(
        (map.columns.as_slice(), &map.delete),
        (&columns[..], &DeletePolicy::Soft("gone_at".to_owned()))
    );
    let receive = &subscriber.receives[0];
    assert_eq!((receive.max_body, receive.tolerance), (1 << 20, Duration::from_secs(60)));
    assert_eq!(receive.allow_from.as_ref().unwrap()[1], "::1/128".parse().unwrap());
}
