//! The files in `testdata/events` are the formats, byte for byte. `ROWBRIDGE_WRITE_GOLDEN=1` writes them anew; what
//! changed is for whoever reads the diff to judge, and for the libraries of others (`tests/interop`).

use std::path::PathBuf;

use serde_json::Value;

use super::{bodies, samples, text};
use crate::event::json_schema::{cloudevents_schema, json_schema};
use crate::event::{Event, cloudevents, json, xml};
use crate::table::TableDef;

pub(super) fn compare(name: &str, written: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/events").join(name);
    if std::env::var_os("ROWBRIDGE_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(written == expected, "{name} differs:\n{written}\nis not\n{expected}");
}

#[test]
fn events_are_written_as_the_files_say() {
    for sample in samples::all() {
        for (ending, body) in bodies(&sample.event()) {
            compare(&format!("{}.{ending}", sample.name), &body);
        }
    }
}

#[test]
fn batches_are_written_as_the_files_say() {
    let samples = samples::orders_events();
    let events: Vec<Event<'_>> = samples.iter().map(samples::Sample::event).collect();
    compare("batch.json", &text(|out| json::BATCH.body(out, &events, json::write_event)));
    let batch = text(|out| cloudevents::BATCH.body(out, &events, cloudevents::write_structured));
    compare("batch.cloudevents.json", &batch);
    compare("batch.xml", &text(|out| xml::BATCH.body(out, &events, xml::write_event)));
}

#[test]
fn schemas_are_printed_as_the_files_say() {
    let mut tables: Vec<TableDef> = samples::all().into_iter().map(|sample| sample.def).collect();
    tables.dedup();
    for (name, schema) in [
        ("json", json_schema(&[])),
        ("json-tables", json_schema(&tables)),
        ("cloudevents", cloudevents_schema(&[])),
        ("cloudevents-tables", cloudevents_schema(&tables)),
    ] {
        compare(
            &format!("schema/{name}.schema.json"),
            &(serde_json::to_string_pretty(&schema).unwrap() + "\n"),
        );
        references(&schema, &schema["$defs"]);
    }
}

/// Every reference leads somewhere.
fn references(schema: &Value, definitions: &Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                let name = target.strip_prefix("#/$defs/").unwrap();
                assert!(definitions.get(name).is_some(), "{target}");
            }
            members.values().for_each(|member| references(member, definitions));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, definitions)),
        _ => {}
    }
}

#[test]
fn bodies_are_well_formed_and_say_what_they_are_about() {
    for sample in samples::all() {
        let event = sample.event();
        let [(_, plain), (_, structured), (_, binary), (_, xml)] = bodies(&event);
        // Numbers that no double holds make serde_json refuse a document; JSON columns have some.
        let plain = plain.replace("1e400", "1");
        let plain: Value =
            serde_json::from_str(&plain).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let structured: Value = serde_json::from_str(&structured.replace("1e400", "1")).unwrap();
        let (headers, data) = binary.split_once("\n\n").unwrap();
        let data: Value = serde_json::from_str(&data.replace("1e400", "1")).unwrap();
        assert_eq!((&plain["data"], &structured["data"]), (&data, &data));
        assert_eq!(plain["id"], structured["id"]);
        assert_eq!(plain["type"], event.op.event_type());
        assert!(headers.bytes().all(|b| b == b'\n' || (b' '..0x7f).contains(&b)), "{headers}");
        let document =
            roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let root = document.root_element();
        assert_eq!((root.tag_name().name(), root.attribute("id")), ("event", Some(event.id)));
        let columns = |row: &str| {
            let row = root.children().find(|child| child.has_tag_name(row));
            row.map(|row| row.children().count())
        };
        assert_eq!(columns("before"), event.before.as_ref().map(Vec::len));
        assert_eq!(columns("after"), event.after.as_ref().map(Vec::len));
    }
}
