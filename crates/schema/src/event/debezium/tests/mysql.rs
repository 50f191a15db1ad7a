//! Against the recording of Debezium's MySQL connector.

use super::recording::Recording;

/// Every field that differs, as the module's documentation explains. The recording has neither commit times nor offsets.
const DIFFERENT: &[&str] = &[
    "after numbers.y",
    "after texts.en",
    "after times.ts3",
    "source.file",
    "source.file (read)",
    "source.gtid",
    "source.pos",
    "source.pos (read)",
    "source.row",
    "source.server_id",
    "source.snapshot (read)",
    "source.thread",
    "source.ts_ms",
    "source.ts_ms (read)",
    "source.ts_ns",
    "source.ts_ns (read)",
    "source.ts_us",
    "source.ts_us (read)",
    "source.version",
    "source.version (read)",
    "ts_ms",
    "ts_ns",
    "ts_us",
];

#[test]
fn events_are_those_of_debezium_but_for_the_listed_fields() {
    let recording = Recording::read(
        include_str!("../../../../testdata/debezium/mysql.tables.json"),
        include_str!("../../../../testdata/debezium/mysql.changes.jsonl"),
        include_str!("../../../../testdata/debezium/mysql.events.jsonl"),
    );
    let found = recording.differences("shop");
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, DIFFERENT);
}
