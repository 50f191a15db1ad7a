//! Against the recording of Debezium's PostgreSQL connector.

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
