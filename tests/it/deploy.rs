//! What the documents and the files in `deploy/` say against what the code has: metric names, configuration keys, links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rowbridge_schema::SigningKey;
use rowbridge_schema::config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// Files below a folder of the repository whose names end so.
fn files(folder: &str, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "nothing in {folder}");
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files("docs", &[".md"]);
    documents.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    documents
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `rowbridge_...` word of a text, with the byte before and the byte behind it.
fn words(text: &str) -> Vec<(Option<u8>, String, Option<u8>)> {
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let starts = text.match_indices("rowbridge_").map(|(at, _)| at);
    let whole = starts.filter(|&at| at == 0 || !part(bytes[at - 1]));
    whole
        .map(|at| {
            let end = (at..bytes.len()).find(|&i| !part(bytes[i])).unwrap_or(bytes.len());
            (at.checked_sub(1).map(|i| bytes[i]), text[at..end].to_owned(), bytes.get(end).copied())
        })
        .collect()
}

/// Names of metrics: string literals of source files that speak of Prometheus.
fn metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("crates", &[".rs"]) {
        let text = read(&path);
        if text.contains("use prometheus::") {
            let quoted = words(&text)
                .into_iter()
                .filter(|(before, _, behind)| *before == Some(b'"') && *behind == Some(b'"'));
            names.extend(quoted.map(|(_, name, _)| name).filter(|name| name != "rowbridge_"));
        }
    }
    assert!(names.len() > 20, "{names:?}");
    names
}

#[test]
fn dashboards_and_alerts_use_metrics_that_exist() {
    let metrics = metrics();
    for path in files("deploy", &["alerts.yml", "rowbridge.json"]) {
        let used: BTreeSet<String> = words(&read(&path)).into_iter().map(|(_, name, _)| name).collect();
        assert!(used.len() > 5, "{}", path.display());
        for name in used {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = metrics.contains(&name) || series.is_some_and(|name| metrics.contains(name));
            assert!(known, "{} uses {name}, which no code registers", path.display());
        }
    }
    let dashboard = read(&root().join("deploy/grafana/rowbridge.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

#[test]
fn every_metric_is_documented() {
    let text = read(&root().join("docs/operations.md"));
    for name in metrics() {
        assert!(text.contains(&format!("\n| `{name}` |")), "the table of docs/operations.md lacks {name}");
    }
}

/// Whole configuration files inside another one: fenced blocks of Markdown, and literal blocks of YAML.
fn embedded(path: &Path) -> Vec<String> {
    let text = read(path);
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "```toml" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            found.push(block.join("\n"));
        } else if line.ends_with(".toml: |") {
            let depth = |line: &str| line.len() - line.trim_start().len();
            let outer = depth(line);
            let mut block = Vec::new();
            while let Some(line) = lines.next_if(|line| line.trim().is_empty() || depth(line) > outer) {
                block.push(line.trim_start());
            }
            found.push(block.join("\n"));
        }
    }
    found
}

#[test]
fn embedded_configurations_are_valid() {
    let mut configurations: BTreeMap<String, String> = BTreeMap::new();
    for path in files("deploy", &[".toml"]) {
        configurations.insert(path.display().to_string(), read(&path));
    }
    let kubernetes = root().join("deploy/kubernetes-sidecar.yaml");
    assert_eq!(embedded(&kubernetes).len(), 2);
    for path in documents().into_iter().chain([kubernetes]) {
        for (i, text) in embedded(&path).into_iter().enumerate() {
            configurations.insert(format!("{}#{i}", path.display()), text);
        }
    }
    assert!(configurations.len() >= 6, "{:?}", configurations.keys());
    let secret = SigningKey::generate().to_text();
    // A single endpoint stands for itself, as does an alert.
    let endpoint =
        "[[endpoint]]\nname = \"a\"\nurl = \"https://a.example/\"\nformat = \"json\"\nsignature = \"none\"\n";
    let publisher = "[publisher]\nstream = \"shop\"\nstate_dir = \"state\"\n\
                     [source]\nkind = \"sqlite\"\nurl = \"sqlite:/shop.db\"\ntables = [\"*\"]\n";
    for (name, text) in configurations {
        let text = match text.lines().next() {
            Some("[[endpoint]]") => format!("{publisher}{text}"),
            Some("[[alert]]") => format!("{publisher}{endpoint}{text}"),
            _ => text,
        };
        let env = |variable: &str| {
            let is_secret = variable.ends_with("_WEBHOOK_SECRET");
            Some(if is_secret { secret.clone() } else { "password".to_owned() })
        };
        let no_file = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        if let Err(errors) = config::load(Path::new(&name), &text, &env, &no_file) {
            panic!("{errors}");
        }
    }
}

/// `section.key` for every line of the default file that sets or explains one.
fn keys() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in config::DEFAULT_TOML.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            keys.insert(format!("{section}{key}"));
        }
    }
    assert!(keys.len() > 30, "{keys:?}");
    keys
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let keys = keys();
    let mut documented = BTreeSet::new();
    let mut list = "";
    for line in read(&root().join("docs/configuration.md")).lines() {
        if let Some((name, _)) = line.strip_prefix("`[[").and_then(|rest| rest.split_once("]]`")) {
            list = ["endpoint", "alert", "outbox", "receive", "map"]
                .into_iter()
                .find(|known| *known == name)
                .unwrap();
        } else if line.starts_with('#') {
            list = "";
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"))
            // The tables of keys have three columns, those of parameters and commands two.
            && rest.matches(" |").count() == 2
        {
            let own = list.is_empty();
            documented.insert(if own { key.to_owned() } else { format!("{list}.{key}") });
        }
    }
    let missing: Vec<_> = keys.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&keys).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not documented: {missing:?}; do not exist: {unknown:?}"
    );

    // Elsewhere a key is named with its section.
    let sections: BTreeSet<&str> =
        keys.iter().filter_map(|key| key.split_once('.')).map(|(s, _)| s).collect();
    for path in documents().into_iter().chain(files("deploy", &[".yml", ".yaml", ".json", ".service"])) {
        // What it calls source.* are members of Debezium's events.
        if path.ends_with("docs/debezium.md") {
            continue;
        }
        let text = read(&path);
        let plain = |c: char| !(c.is_ascii_lowercase() || c == '_' || c == '.');
        for word in text.split(plain).map(|word| word.trim_matches('.')) {
            let Some((section, key)) = word.split_once('.') else { continue };
            let is_file =
                ["db", "env", "internal", "json", "md", "rs", "service", "toml", "yml"].contains(&key);
            let is_event = section == "endpoint" && config::ALERT_KINDS.contains(&key);
            if sections.contains(section) && !is_file && !is_event {
                assert!(keys.contains(word), "{} names {word}, which is no key", path.display());
            }
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    let mut links = 0;
    for path in documents() {
        for link in
            read(&path).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            if link.starts_with("https://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !heading.is_empty() {
                let text = read(&target);
                let found =
                    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
                assert!(found, "{}: {link} has no such heading", path.display());
            }
        }
    }
    assert!(links > 20, "{links}");
}
