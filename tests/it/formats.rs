//! Events as other people's libraries read them. What is read are the golden files of `crates/schema/testdata/events`, which
//! are what the formats write, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowbridge_schema::SigningKey;
use rowbridge_schema::event::{cloudevents, json, xml, xml_schema};
use rowbridge_schema::signature::sign;
use serde_json::{Map, Value};

use rowbridge_tests::webhook::secret;

/// The endings of golden files, the kinds of request that they are, their content types and schemas.
const KINDS: [(&str, &str, &str, &[&str]); 5] = [
    (
        ".cloudevents.json",
        "cloudevents.structured",
        cloudevents::STRUCTURED_CONTENT_TYPE,
        &["cloudevents", "cloudevents-tables"],
    ),
    (".cloudevents.http", "cloudevents.binary", cloudevents::BINARY_CONTENT_TYPE, &[]),
    (".debezium.json", "debezium", json::CONTENT_TYPE, &[]),
    (".json", "json", json::CONTENT_TYPE, &["json", "json-tables"]),
    (".xml", "xml", xml::CONTENT_TYPE, &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A golden file as a signed request.
fn request(path: &Path, now: u64) -> Value {
    let file = path.file_name().unwrap().to_str().unwrap();
    let messages = path.parent().unwrap().ends_with("messages");
    let text = &std::fs::read_to_string(path).unwrap();
    let (ending, kind, content_type, schemas) = *KINDS
        .iter()
        .find(|(ending, ..)| file.ends_with(ending))
        .unwrap_or_else(|| panic!("what is {file}?"));
    let name = file.strip_suffix(ending).unwrap();
    let batch = name == "batch" && kind == "cloudevents.structured";
    let (kind, content_type) =
        if batch { ("cloudevents.batch", cloudevents::BATCH_CONTENT_TYPE) } else { (kind, content_type) };
    let mut headers = Map::new();
    let body = match text.split_once("\n\n").filter(|_| kind == "cloudevents.binary") {
        Some((lines, body)) => {
            for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
                headers.insert(name.into(), value.into());
            }
            body
        }
        None => text,
    };
    let bytes =
        headers.get("content-type").is_some_and(|content_type| content_type == "application/octet-stream");
    let body = match bytes {
        false => body.as_bytes().to_vec(),
        // A golden file is a text: what is none is in the file beside it.
        true => {
            let beside = std::fs::read(path.with_extension("json")).unwrap();
            let beside: Value = serde_json::from_slice(&beside).unwrap();
            STANDARD.decode(beside["data_base64"].as_str().unwrap()).unwrap()
        }
    };
    headers.entry("content-type").or_insert(content_type.into());
    let key = SigningKey::parse(&secret(7)).unwrap();
    let name = if messages { format!("message-{name}") } else { name.to_owned() };
    let id = format!("shop:{name}");
    headers.insert("webhook-signature".into(), sign(&[key], &id, now, &body).into());
    headers.insert("webhook-id".into(), id.into());
    headers.insert("webhook-timestamp".into(), now.to_string().into());
    serde_json::json!({
        "name": name, "kind": kind, "headers": headers, "body": STANDARD.encode(body), "secret": secret(7),
        "schemas": schemas,
    })
}

#[test]
fn other_peoples_libraries_read_every_format() {
    let python = root().join("target/interop/bin/python");
    if !python.exists() {
        println!("skipped: {} is not there; tests/interop/setup makes it", python.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let golden = root().join("crates/schema/testdata/events");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut lines = String::new();
    for folder in [golden.clone(), golden.join("messages")] {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.is_file()) {
            lines += &format!("{}\n", request(&path, now));
        }
    }
    assert!(lines.lines().count() > 60);
    std::fs::write(folder.path().join("requests.jsonl"), lines).unwrap();
    std::fs::write(folder.path().join("event.xsd"), xml_schema::xsd()).unwrap();
    for entry in std::fs::read_dir(golden.join("schema")).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let script = root().join("tests/interop/formats.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
