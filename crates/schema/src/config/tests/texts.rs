//! Exact error texts.

use super::*;

#[test]
fn a_broken_file_is_told_everything_at_once() {
    let file = include_str!("../../../testdata/config/broken.toml");
    let expected = include_str!("../../../testdata/config/broken.txt");
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
        (
            "source",
            "max_retained = \"1 GiB\"",
            "source.max_retained: has no effect with kind = \"sqlite\" (the change log is bounded in rows: use max_log_rows)",
        ),
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
    for line in ["compress = true", "snapshot = \"initial\""] {
        let error = error_of("endpoint", line);
        assert!(error.contains(": unknown key ("), "{error}");
    }
}

#[test]
fn a_bridge_has_no_use_for_what_other_endpoints_have() {
    for line in [
        "mode = \"binary\"",
        "when = \"true\"",
        "batch = {}",
        "order = \"key\"",
        "rate = \"1/s\"",
        "max_age = \"1h\"",
        "body = \"a\"",
        "headers = {}",
        "auth = \"a\"",
        "signature = \"none\"",
        "client_cert = \"a\"",
        "proxy = \"a\"",
        "compression = \"gzip\"",
    ] {
        let error = error_of("endpoint", line);
        assert!(error.ends_with("has no effect with format = \"bridge\" (remove it)"), "{error}");
    }
}

/// The errors of an endpoint of its own with these lines, without their places.
fn told_of(header: &str, lines: &str) -> Vec<String> {
    let file = with("nothing", "");
    let url = if lines.contains("url = ") { "" } else { "url = \"https://a.example/\"\n" };
    match read(&format!("{file}[[{header}]]\nname = \"x\"\n{url}{lines}\n")) {
        Ok(_) => Vec::new(),
        Err(text) => {
            text.lines().map(|line| line.splitn(4, ':').nth(3).unwrap().trim_start().to_owned()).collect()
        }
    }
}

#[test]
fn requests_are_checked_where_they_are_written() {
    let told = |lines: &str| told_of("endpoint", &format!("signature = \"none\"\n{lines}"));
    assert_eq!(told("format = \"json\""), [""; 0]);
    let template = |rest: &str| told(&format!("format = \"template\"\n{rest}"));
    assert_eq!(template("body = '{{ after.id }}'"), [""; 0]);
    assert_eq!(
        template(""),
        ["endpoint.body: missing (write body = '{\"text\": \"Order {{ after.id }}\"}')"]
    );
    assert_eq!(
        template("body = '{{ aftr.id }}'"),
        ["endpoint.body: there is no aftr (did you mean after?) at line 1, column 4 of the template"]
    );
    assert_eq!(
        template("content_type = \"json\"\nbody = ''"),
        ["endpoint.content_type: not a content type; write one such as application/json"]
    );
    let binary =
        "format = \"cloudevents\"\nmode = \"binary\"\nheaders = { Ce-Type = \"a\", ce-tenant = \"b\" }";
    assert_eq!(
        told(binary),
        [
            "endpoint.headers.Ce-Type: this header is an attribute of each event and is written by Rowbridge alone: \
          remove it, or rename it"
        ]
    );
    assert_eq!(told(&binary.replace("binary", "structured")), [""; 0]);
    let json = |rest: &str| told(&format!("format = \"json\"\n{rest}"));
    for (lines, expected) in [
        ("body = ''", "endpoint.body: goes with format = \"template\" only (write that, or remove this)"),
        (
            "url = \"https://{{ after.id }}.example/\"",
            "endpoint.url: scheme, host and port of a URL cannot be templated; write them out",
        ),
        (
            "headers = { \"Content-Length\" = \"1\" }",
            "endpoint.headers.Content-Length: this header frames the request and is written by Rowbridge alone: remove it",
        ),
        (
            "headers = { X-A = \"1\", x-a = \"2\" }",
            "endpoint.headers.x-a: this header stands here twice: letter case counts for nothing (remove one)",
        ),
        (
            "headers = { Authorization = \"1\" }\nauth = { bearer = \"t\" }",
            "endpoint.headers.Authorization: does not go with auth (remove one of them)",
        ),
        (
            "auth = { user = \"a:b\", password = \"hunter2\" }",
            "endpoint.auth: the user of basic authentication contains a colon or a control character",
        ),
        (
            "compression = \"brotli\"",
            "endpoint.compression: expected \"gzip\" or \"zstd\", found \"brotli\" (the receiver has to understand it)",
        ),
        ("auth = { user = \"a\" }", "endpoint.auth.password: missing (write password = \"${PASSWORD}\")"),
        (
            "client_cert = \"/a.pem\"",
            "endpoint.client_cert: needs client_key as well (a certificate and its key go together)",
        ),
        (
            "proxy = \"socks5://u:hunter2@p:1\"",
            "endpoint.proxy: a proxy's URL begins with http:// or https://",
        ),
        (
            "secret = \"x\"",
            "endpoint.secret: does not go with signature = \"none\" (remove the secret, or say how it signs)",
        ),
    ] {
        assert_eq!(json(lines), [expected], "{lines}");
    }
    assert_eq!(
        told_of("endpoint", "format = \"json\"\nsignature = \"github\"\nsecret = [\"a\", \"b\"]"),
        [
            "endpoint.secret: GitHub's scheme holds one signature, so that its secret cannot be a list: write the one that signs"
        ]
    );
    assert_eq!(
        told_of(
            "endpoint",
            &format!("url = \"https://a.example/{{{{ after.id }}}}\"\nsecret = \"{SECRET}\"")
        ),
        [
            "endpoint.url: has tags, which only endpoints with another format than \"bridge\" can have (write them out)"
        ]
    );
}

#[test]
fn alerts_are_checked_like_endpoints() {
    let told = |lines: &str| told_of("alert", &format!("signature = \"none\"\n{lines}"));
    assert_eq!(told("on = [\"failing\"]\nafter = \"0s\""), [""; 0]);
    assert_eq!(
        told("format = \"template\"\nbody = '{{ after.endpont }}'"),
        [
            "alert.body: no column endpont in rowbridge.alert; nearest: endpoint at line 1, column 4 of the template"
        ]
    );
    assert_eq!(told("on = []"), ["alert.on: is an empty list (leave it out to be told of all)"]);
    assert!(told("on = [\"dead\"]")[0].starts_with("alert.on: expected \"failing\", \"recovered\""));
    let url = "url = \"https://a.example\"\nsignature = \"none\"";
    let twice = told_of("alert", &format!("{url}\n[[alert]]\nname = \"copy\"\n{url}"));
    assert_eq!(twice, ["alert.name: the same as in line 10 (attempts are recorded under the name)"]);
    let file = with("attempts", "") + "[attempts]\nmax_bytes = \"1 KiB\"\nretain = \"never\"\n";
    assert!(errors(&file).ends_with("attempts.max_bytes: is too small (at least 1 MiB)"));
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
