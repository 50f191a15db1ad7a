//! The files in `config/`.

use super::*;

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
        "outbox.toml",
        "postgres-publisher.toml",
        "postgres-subscriber.toml",
        "rowbridge.default.toml",
        "sqlite-both.toml",
        "webhooks.toml",
    ];
    assert_eq!(names, expected);
}

/// The default file without its example of an endpoint that is not Rowbridge.
fn without_webhook(text: &str) -> String {
    let (before, rest) = text.split_once("#[[endpoint]]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    format!("{before}\n\n{after}")
}

/// The default file with every `#key` and `#[section]` that `keep` lets through made active.
fn uncommented(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
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
        "max_retained",
        "messages ",
        "[[outbox]]",
        "table ",
        "id ",
        "type ",
        "key ",
        "payload ",
        "json ",
        "headers ",
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
    let plain = without_webhook(DEFAULT_TOML);
    let postgres = uncommented(&plain, |line| !is_example(line) && !line.starts_with("max_log_rows"));
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
    let all = uncommented(&plain, |line| {
        !is_example(line) && !line.starts_with("slot") && !line.starts_with("publication")
    });
    assert!(all.contains("\nmax_log_rows = "));
    assert_eq!(
        format!("{:?}", read(&sqlite(&all)).unwrap()),
        format!("{:?}", read(&sqlite(DEFAULT_TOML)).unwrap())
    );

    // The examples are valid too.
    let config = read(&uncommented(DEFAULT_TOML, |line| !line.starts_with("max_log_rows"))).unwrap();
    assert_eq!(config.publisher.as_ref().unwrap().source.max_retained, Some(20 << 30));
    // The first one is for logical messages.
    let outbox = &config.publisher.as_ref().unwrap().source.outboxes[1];
    let columns = [&outbox.id, &outbox.kind, &outbox.key].map(|name| name.as_deref());
    assert_eq!((columns, outbox.json), ([Some("id"), Some("type"), Some("aggregateid")], false));
    let endpoints = &config.publisher.as_ref().unwrap().endpoints;
    let webhook = endpoints[1].webhook.as_ref().unwrap();
    let shown = WebhookPolicy { rate: webhook.policy.rate, ..WebhookPolicy::default() };
    assert_eq!(webhook.policy, shown, "the example shows the defaults");
    let chat = endpoints[2].webhook.as_ref().unwrap();
    assert!(chat.request.signer.is_none() && chat.request.body.is_some() && chat.request.path.is_some());
    assert_eq!((endpoints[0].start, endpoints[1].start), (Start::Snapshot, Start::Now));
    assert_eq!(config.admin.unwrap().listen.port(), 9400);
    assert_eq!(config.subscriber.unwrap().maps.len(), 1);
}
