//! Against the recording of Debezium's PostgreSQL connector.

use super::super::{NEW_KEY_HEADER, OLD_KEY_HEADER};
use super::recording::Recording;

/// Every field that differs, as the module's documentation explains.
const DIFFERENT: &[&str] = &[
    "after arrays.bi5",
    "after arrays.bo",
    "after arrays.i",
    "after arrays.t",
    "after arrays.ti",
    "after defaults.a",
    "after numbers.nneg",
    "after texts.na",
    "after times.ts",
    "before defaults.a",
    "before defaults.b",
    "key by_index",
    "source.lsn",
    "source.lsn (read)",
    "source.sequence",
    "source.sequence (read)",
    "source.snapshot (read)",
    "source.ts_ms (read)",
    "source.ts_ns (read)",
    "source.ts_us (read)",
    "source.txId",
    "source.txId (read)",
    "source.version",
    "source.version (read)",
    "ts_ms",
    "ts_ns",
    "ts_us",
];

fn recording() -> Recording {
    Recording::read(
        include_str!("../../../../testdata/debezium/postgres.tables.json"),
        include_str!("../../../../testdata/debezium/postgres.changes.jsonl"),
        include_str!("../../../../testdata/debezium/postgres.events.jsonl"),
    )
}

#[test]
fn events_are_those_of_debezium_but_for_the_listed_fields() {
    let found = recording().differences("shop");
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, DIFFERENT);
}

/// `__debezium.newkey` and `__debezium.oldkey`, as `RelationalChangeRecordEmitter` of Debezium adds them. The recorded JSON
/// engine does not hand headers out.
#[test]
fn a_key_change_is_a_delete_and_a_create_with_headers() {
    let recording = recording();
    let split: Vec<_> = recording
        .changes
        .iter()
        .filter(|change| change.table == "pair")
        .map(|change| recording.messages(change, "shop"))
        .filter(|messages| messages.len() == 2)
        .collect();
    assert_eq!(split.len(), 1);
    let [delete, create] = &split[0][..] else { panic!("two messages") };
    let (old, new) = (br#"{"a":1,"b":"b"}"#.to_vec(), br#"{"a":1,"b":"e"}"#.to_vec());
    assert_eq!((delete.key.as_ref(), create.key.as_ref()), (Some(&old), Some(&new)));
    let http = ("x-debezium-__debezium.newkey".to_owned(), "eyJhIjoxLCJiIjoiZSJ9".to_owned());
    assert_eq!(delete.http_header(), Some(http));
    assert_eq!(delete.header, Some((NEW_KEY_HEADER, new)));
    assert_eq!(create.header, Some((OLD_KEY_HEADER, old)));
    let text = String::from_utf8_lossy(&delete.value);
    assert!(text.starts_with(r#"{"before":{"b":"b","a":1,"c":null},"after":null,"source":{"#), "{text}");
}
