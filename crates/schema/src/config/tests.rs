//! The loader as a whole: shipped files, exact error texts, and what must hold for any text.

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
fn every_shipped_file_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(errors) = load(&path, &text, &env, &read_file) {
            panic!("{errors}");
        }
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    let expected = [
        "mapping.toml",
        "mysql-publisher.toml",
        "postgres-publisher.toml",
        "postgres-subscriber.toml",
        "rowbridge.default.toml",
        "sqlite-both.toml",
    ];
    assert_eq!(names, expected);
}

/// The default file with every `#key` and `#[section]` that `keep` lets through made active.
fn uncommented(keep: impl Fn(&str) -> bool) -> String {
    let lines = DEFAULT_TOML.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '#']) && keep(setting) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_is_in_the_default_file() {
    for section in SECTIONS {
        let lines = DEFAULT_TOML.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
        let mut here = "";
        let mut keys = Vec::new();
        for line in lines {
            if let Some(header) = line.strip_prefix('[') {
                here = header.trim_matches(['[', ']']);
                if section.section.is_empty() {
                    keys.push(here);
                }
            } else if here == section.section {
                keys.extend(line.split_once(" = ").map(|(key, _)| key));
            }
        }
        for key in section.keys {
            assert!(keys.contains(key), "[{}] {key} is not in the default file", section.section);
        }
    }
}

#[test]
fn the_default_file_shows_the_defaults() {
    let examples = [
        "allow_networks",
        "ca ",
        "trusted_proxies",
        "allow_from",
        "[[map]]",
        "from",
        "to ",
        "columns",
        "delete",
    ];
    let is_example = |line: &str| {
        examples.iter().any(|key| line.starts_with(key))
            || line.starts_with("[admin")
            || line.starts_with("listen")
    };
    let as_it_is = read(DEFAULT_TOML).unwrap();
    let postgres = uncommented(|line| !is_example(line) && !line.starts_with("max_log_rows"));
    assert!(postgres.contains("\nstart = ") && postgres.contains("\n[journal]"), "{postgres}");
    assert_eq!(format!("{:?}", read(&postgres).unwrap()), format!("{as_it_is:?}"));

    let sqlite = |text: &str| {
        let lines = text.lines().map(|line| match line {
            "kind = \"postgres\"" => "kind = \"sqlite\"",
            line if line.contains("/shop\"") && line.starts_with("url = \"postgres") => {
                "url = \"sqlite:/a.db\""
            }
            line if line.starts_with("url = \"postgres") => "url = \"sqlite:/b.db\"",
            line => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let all = uncommented(|line| {
        !is_example(line) && !line.starts_with("slot") && !line.starts_with("publication")
    });
    assert!(all.contains("\nmax_log_rows = "));
    assert_eq!(
        format!("{:?}", read(&sqlite(&all)).unwrap()),
        format!("{:?}", read(&sqlite(DEFAULT_TOML)).unwrap())
    );

    // The examples are valid too.
    let config = read(&uncommented(|line| !line.starts_with("max_log_rows"))).unwrap();
    assert_eq!(config.admin.unwrap().listen.port(), 9400);
    assert_eq!(config.subscriber.unwrap().maps.len(), 1);
}

#[test]
fn a_broken_file_is_told_everything_at_once() {
    let file = include_str!("../../testdata/config/broken.toml");
    let expected = include_str!("../../testdata/config/broken.txt");
    let found = errors(file) + "\n";
    assert_eq!(found, expected, "found:\n{found}");
    assert!(!found.contains("hunter2") && !found.contains("whsec_short"), "a secret is shown");
}

#[test]
fn broken_toml_is_placed_and_nothing_is_guessed_from_it() {
    assert_eq!(
        errors("[publisher]\nstream = \nbogus = 1\n[source\n"),
        "rowbridge.toml:2:10: not TOML: string values must be quoted, expected literal string\n\
         rowbridge.toml:4:8: not TOML: unclosed table, expected `]`"
    );
    assert_eq!(errors("a = 1\na = 2"), "rowbridge.toml:2:1: not TOML: duplicate key");
}

#[test]
fn sections_need_each_other() {
    assert_eq!(
        errors(""),
        "rowbridge.toml:1:1: there is nothing to run (add [publisher], [subscriber] or both; `rowbridge config \
         default` prints them)"
    );
    assert_eq!(
        errors("[publisher]\nstream = \"shop\"\nstate_dir = \"/s\""),
        "rowbridge.toml:1:2: publisher: needs [source] as well (say which database to capture)\n\
         rowbridge.toml:1:2: publisher: needs [[endpoint]] as well (say where changes are sent)"
    );
    assert_eq!(
        errors("[subscriber]\nlisten = \"127.0.0.1:1\""),
        "rowbridge.toml:1:2: subscriber: needs [target] as well (say which database is written)\n\
         rowbridge.toml:1:2: subscriber: needs [[receive]] as well (say what is received)"
    );
    assert_eq!(
        errors("[journal]\n[endpoint]\n[[subscriber]]"),
        "rowbridge.toml:1:2: journal: needs [publisher] as well (or remove this section)\n\
         rowbridge.toml:2:2: endpoint: needs [publisher] as well (or remove this section)\n\
         rowbridge.toml:2:2: endpoint: expected a list of sections, found a table (write [[endpoint]], once for \
         each)\n\
         rowbridge.toml:3:3: subscriber: needs [target] as well (say which database is written)\n\
         rowbridge.toml:3:3: subscriber: needs [[receive]] as well (say what is received)\n\
         rowbridge.toml:3:3: subscriber: expected a section, found a list (write [subscriber] once)"
    );
    assert_eq!(
        errors("admin = 1\nendpoint = []\nreceive = [2]").lines().count(),
        5,
        "admin, endpoint twice, receive twice"
    );
}

#[test]
fn the_base_of_the_next_tests_is_valid() {
    let config = read(&with("nothing", "")).unwrap();
    assert_eq!(config.shutdown_grace, defaults::SHUTDOWN_GRACE);
    let publisher = config.publisher.unwrap();
    assert_eq!(publisher.source.slot, "rowbridge_shop");
    assert_eq!(publisher.source.snapshot, SnapshotMode::Initial);
    assert_eq!(publisher.journal.retain, Duration::from_secs(86_400));
    assert_eq!(publisher.journal.confirm, ConfirmPolicy::Journaled);
    assert_eq!(publisher.endpoints[0].start, Start::Snapshot);
    assert!(publisher.endpoints[0].tables.matches(&TableName::new("public", "orders")));
    let subscriber = config.subscriber.unwrap();
    assert!(subscriber.target.create);
    assert_eq!(subscriber.receives[0].max_body, 64 << 20);
    assert!(subscriber.receives[0].allow_from.is_none());
    assert_eq!(subscriber.maps[0].delete, DeletePolicy::Hard);
}

#[test]
fn each_rule_has_its_text() {
    for (section, line, expected) in [
        (
            "source",
            "kind = \"postgres\"",
            "source.kind: is \"postgres\", but the URL is one of sqlite (make them agree)",
        ),
        ("source", "slot = \"a\"", "source.slot: has no effect with kind = \"sqlite\" (remove it)"),
        ("source", "max_log_rows = 0", "source.max_log_rows: is too small (at least 1)"),
        (
            "source",
            "max_log_rows = -1",
            "source.max_log_rows: expected a number of rows, found -1 (such as 1000000)",
        ),
        (
            "source",
            "max_log_rows = \"1\"",
            "source.max_log_rows: expected a number of rows, found \"1\" (such as 1000000)",
        ),
        (
            "source",
            "max_transaction = 5",
            "source.max_transaction: expected a size, found 5 (write a unit, such as \"8 MiB\")",
        ),
        ("source", "tables = []", "source.tables: is an empty list (write [\"*\"] for every table)"),
        (
            "source",
            "tables = [\"!a\"]",
            "source.tables: selects nothing, as every pattern excludes (begin with \"*\")",
        ),
        (
            "source",
            "url = \"sqlite://a.db\"",
            "source.url: a SQLite URL has no host (sqlite:/absolute/path or sqlite:relative/path)",
        ),
        (
            "source",
            "url = 5",
            "source.url: expected a database URL, found an integer (such as \"sqlite:/path/file.db\")",
        ),
        (
            "source",
            "snapshot = \"once\"",
            "source.snapshot: expected \"initial\" or \"never\", found \"once\" (initial sends existing rows first)",
        ),
        (
            "journal",
            "confirm = true",
            "journal.confirm: expected \"journaled\" or \"delivered\", found true (delivered is for disks that may vanish)",
        ),
        (
            "journal",
            "max_bytes = \"0 B\"",
            "journal.max_bytes: is too small (at least 1 B, better \"1 GiB\")",
        ),
        (
            "journal",
            "retain = \"1 day\"",
            "journal.retain: expected a duration, found \"1 day\" (units are ms, s, m, h and d, such as \"15s\" or \"1h 30m\")",
        ),
        ("endpoint", "timeout = \"0s\"", "endpoint.timeout: is too small (at least 1ms, better \"30s\")"),
        (
            "endpoint",
            "url = \"https://169.254.169.254/\"",
            "endpoint.url: the address belongs to a cloud's metadata service; nothing is ever sent there",
        ),
        (
            "endpoint",
            "url = \"warehouse\"",
            "endpoint.url: not a URL: relative URL without a base (write \"https://host/path\")",
        ),
        (
            "endpoint",
            "secret = 12345",
            "endpoint.secret: expected a webhook secret or a list of them, found an integer (such as \"${WEBHOOK_SECRET}\")",
        ),
        (
            "endpoint",
            "secret = \"${UNSET}\"",
            "endpoint.secret: the environment variable UNSET is not set (set it, or write $${ for a literal ${)",
        ),
        (
            "endpoint",
            "ca = \"\"",
            "endpoint.ca: expected the path of a PEM file, found \"\" (such as \"/etc/rowbridge/ca.pem\")",
        ),
        (
            "subscriber",
            "listen = \"localhost:9500\"",
            "subscriber.listen: expected an IP address and a port, found \"localhost:9500\" (such as \"127.0.0.1:9500\" or \"[::]:9500\")",
        ),
        (
            "subscriber",
            "trusted_proxies = [1]",
            "subscriber.trusted_proxies: expected a network or an address, found 1 (such as \"10.0.0.0/8\" or \"192.0.2.7\")",
        ),
        (
            "target",
            "create = \"yes\"",
            "target.create: expected true or false, found \"yes\" (without quotes)",
        ),
        ("target", "evolve = \"none\"", "target.evolve: unknown key (known here are kind, url, create)"),
        (
            "receive",
            "allow_from = []",
            "receive.allow_from: is an empty list (it lets nobody in; leave it out to let in any peer with a valid signature)",
        ),
        (
            "receive",
            "max_body = \"1 B\"",
            "receive.max_body: is too small (at least 1 KiB, better \"64 MiB\")",
        ),
        (
            "receive",
            "path = \"/in?a=b\"",
            "receive.path: expected a path that starts with /, of visible ASCII without ? # { }, found \"/in?a=b\" (such as \"/in/shop\")",
        ),
        (
            "map",
            "columns = { a = \"x\", b = \"x\" }",
            "map.columns.b: the same as in line 23 (two columns cannot become one)",
        ),
        (
            "map",
            "columns = [\"a\"]",
            "map.columns: expected a table of columns, found a list (such as { customer_id = \"client_id\", note = false })",
        ),
        (
            "map",
            "columns = { a = { as = \"jsonn\" } }",
            "map.columns.a.as: expected \"text\", \"utc\" or \"null_if_zero\", found \"jsonn\" (a column that is only renamed takes the name alone: client = \"customer\")",
        ),
        ("map", "columns = { a = { to = \"b\" } }", "map.columns.a.as: missing (write as = \"text\")"),
        (
            "admin",
            "listen = \"127.0.0.1:9500\"",
            "admin.listen: the same as in line 13 (deliveries and the admin pages never share a port)",
        ),
        ("admin", "token = \"x\"", "admin.token: unknown key (known here are listen)"),
    ] {
        assert_eq!(error_of(section, line), expected, "{section}: {line}");
    }
}

#[test]
fn what_is_missing_is_placed_at_its_section() {
    let file = with("nothing", "") + "[[endpoint]]\nname = \"b\"\n[[receive]]\nsecret = []\n";
    assert_eq!(
        errors(&file),
        "rowbridge.toml:27:1: endpoint.url: missing (write url = \"https://warehouse.internal:9500/in/shop\")\n\
         rowbridge.toml:27:1: endpoint.secret: missing (write secret = \"${WEBHOOK_SECRET}\")\n\
         rowbridge.toml:29:1: receive.path: missing (write path = \"/in/shop\")\n\
         rowbridge.toml:29:1: receive.stream: missing (write stream = \"shop\")\n\
         rowbridge.toml:30:10: receive.secret: is an empty list (nothing is sent or taken without a signature; make \
         one with `rowbridge secret`)"
    );
}

#[test]
fn a_file_is_not_copied_into_itself() {
    assert_eq!(
        errors(&with("target", "url = \"sqlite:/a.db\"")),
        "rowbridge.toml:15:2: target: the same as in line 4 (a database is not copied into itself)"
    );
}

#[test]
fn keys_that_do_not_work_yet_are_unknown() {
    let lines = [
        "when = \"a\"",
        "body = \"a\"",
        "batch = 1",
        "retry = 1",
        "order = 1",
        "concurrency = 1",
        "on_permanent_error = \"halt\"",
        "snapshot = \"initial\"",
    ];
    for line in lines {
        let error = error_of("endpoint", line);
        assert!(error.contains(": unknown key (known here are name, url"), "{error}");
    }
    assert!(error_of("source", "max_retained = \"1 GiB\"").contains("unknown key"));
}

#[test]
fn what_must_be_unique_is() {
    let again =
        |section: &str, lines: &str| errors(&(with("nothing", "") + &format!("[[{section}]]\n{lines}")));
    assert_eq!(
        again("endpoint", &format!("name = \"copy\"\nurl = \"https://a.example\"\nsecret = \"{SECRET}\"")),
        "rowbridge.toml:28:8: endpoint.name: the same as in line 10 (the name tells endpoints apart)"
    );
    assert_eq!(
        again(
            "receive",
            &format!("path = \"/in\"\nstream = \"shop\"\nsecret = [\"{OTHER_SECRET}\", \"{SECRET}\"]")
        ),
        "rowbridge.toml:28:8: receive.path: the same as in line 19 (the path tells what is received apart)\n\
         rowbridge.toml:29:10: receive.stream: the same as in line 20 (a stream is received in one place)\n\
         rowbridge.toml:30:10: receive.secret: the same as in line 21 (a secret belongs to one [[receive]]; make \
         another with `rowbridge secret`)"
    );
    assert_eq!(
        again("map", "from = \"a\"\nto = \"b\""),
        "rowbridge.toml:28:8: map.from: the same as in line 23 (a table is mapped once)\n\
         rowbridge.toml:29:6: map.to: the same as in line 24 (two tables cannot become one)"
    );
}

#[test]
fn names_made_from_the_stream_fit_the_server() {
    let file = |stream: &str| DEFAULT_TOML.replace("stream = \"shop\"", &format!("stream = {stream:?}"));
    assert_eq!(publisher(&file("shop-2")).source.publication, "rowbridge_shop_2");
    let longest = "a".repeat(45);
    assert_eq!(publisher(&file(&longest)).source.publication.len(), 55);
    let text = errors(&file(&"a".repeat(60)));
    assert!(
        text.contains("source.slot: missing, and rowbridge_STREAM is longer than 63 bytes (write slot = "),
        "{text}"
    );
    assert!(
        text.contains("source.publication: missing, and rowbridge_STREAM is longer than 55 bytes"),
        "{text}"
    );
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

/// Lines that reach far into the loader, and pieces that break it.
fn line() -> impl Strategy<Value = String> {
    let headers: Vec<String> = SECTIONS
        .iter()
        .flat_map(|keys| [format!("[{}]", keys.section), format!("[[{}]]", keys.section)])
        .collect();
    let keys: Vec<&str> = SECTIONS.iter().flat_map(|keys| keys.keys.iter().copied()).collect();
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("1979-05-27".to_owned()),
        "[a-z:/@$%{}.0-9é -]{0,20}".prop_map(|text| format!("{text:?}")),
        "[a-z:/@${}.0-9]{0,9}".prop_map(|text| format!("[{text:?}, {{ a = {text:?} }}]")),
        "\\PC{0,12}",
    ];
    prop_oneof![
        1 => prop::sample::select(headers),
        3 => (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn anything_like_a_file_is_read_or_refused(lines in prop::collection::vec(line(), 0..40)) {
        let text = lines.join("\n");
        if let Err(errors) = load(Path::new("f"), &text, &env, &read_file) {
            prop_assert!(!errors.0.is_empty());
            prop_assert_eq!(errors.to_string().lines().count(), errors.0.len(), "one line each");
        }
    }

    /// Whatever a variable holds, wherever it is filled in: no error shows it.
    #[test]
    fn what_is_filled_in_is_never_shown(secret in "[a-zA-Z0-9:/@?#%!. -]{0,8}XYZZY[a-zA-Z0-9:/@?#%!. -]{0,8}") {
        let env = |_: &str| Some(secret.clone());
        for section in SECTIONS.iter().filter(|keys| !keys.section.is_empty()) {
            for key in section.keys {
                for value in ["\"${S}\"", "[\"${S}\"]", "\"postgres://u:${S}@h/${S}\"", "\"postgres://u:x${S}\"", "{ a = \"${S}\" }"] {
                    let text = with(section.section, &format!("{key} = {value}"));
                    if let Err(errors) = load(Path::new("f"), &text, &env, &read_file) {
                        prop_assert!(!errors.to_string().contains("XYZZY"), "{errors}");
                        prop_assert!(!format!("{errors:?}").contains("XYZZY"), "{errors:?}");
                    }
                }
            }
        }
    }
}
