//! Whatever a cell holds: no panic, and well-formed JSON.

use proptest::prelude::*;
use serde_json::Value;

use super::super::{ColumnShape, Options, write_events};
use crate::cell::Class;
use crate::event::{Event, EventOp, Field};
use crate::table::{Dialect, TableName};
use crate::types::ColumnType;
use crate::{Cell, EndpointName, Position, SourceId, StreamName};

const TYPES: &[(Dialect, &[&str])] = &[
    (
        Dialect::Postgres,
        &[
            "boolean",
            "integer",
            "oid",
            "numeric",
            "numeric(10,2)",
            "numeric(3,-2)",
            "real",
            "double precision",
            "money",
            "text",
            "bytea",
            "uuid",
            "json",
            "date",
            "time(3) without time zone",
            "time with time zone",
            "timestamp(3) without time zone",
            "timestamp without time zone",
            "timestamp with time zone",
            "interval",
            "bit(1)",
            "bit varying",
            "point",
            "public.geometry",
            "public.vector",
            "public.hstore",
            "integer[]",
            "numeric[]",
            "text[]",
            "bytea[]",
            "timestamp without time zone[]",
            "box",
            "int4range",
        ],
    ),
    (
        Dialect::Mysql,
        &[
            "bigint unsigned",
            "decimal(10,2)",
            "float",
            "double",
            "bit(1)",
            "bit(12)",
            "year",
            "date",
            "datetime(3)",
            "datetime(6)",
            "timestamp",
            "time(6)",
            "json",
            "blob",
            "text",
            "enum('a')",
            "set('a')",
            "geometry",
            "point",
            "vector(2)",
        ],
    ),
    (Dialect::Sqlite, &["INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", ""]),
];

/// Texts near to what the types are written as, and any others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[-+0-9.:eE ,TZ]{0,30}",
        "-?[0-9]{0,40}(\\.[0-9]{0,10})?",
        "[0-9]{4,7}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,7})?)?(\\+00)?( BC)?",
        "[-+]?[0-9]{1,19} (years|mons|days) [-+]?[0-9]{1,12}:[0-9]{2}:[0-9]{2}",
        "[0-9]{2}:[0-9]{2}:[0-9]{2}[-+][0-9]{2}(:[0-9]{2}){0,3}",
        "(\\\\x)?[0-9a-f]{0,60}",
        "01(01|03)000020[0-9a-f]{0,60}",
        "[{}\",\\\\a1N]{0,30}",
        "[\"=>, aNUL\\\\]{0,30}",
        "\\([-0-9.eNaif]{0,8},[-0-9.e]{0,8}\\)",
        "[\\[\\],0-9.einfNa]{0,20}",
        "NaN|-?Infinity|-?infinity|inf|nan|0000-00-00|2024-00-10 00:00:00",
        "[01]{0,80}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_cell_gives_well_formed_json(value in text(), old in text(), not_null in any::<bool>(), kind in 0usize..4) {
        for (dialect, names) in TYPES {
            for name in *names {
                let column = ColumnType::parse(*dialect, name, None, &[]);
                let cell = |text: &str| match kind {
                    0 => Cell::Classed(Class::Real, text.to_owned().into()),
                    1 => Cell::Classed(Class::Blob, text.to_owned().into()),
                    _ => Cell::Text(text.to_owned().into()),
                };
                let field = |text: &str| Field { name: "a \"b\"", column: &column, cell: cell(text) };
                let shapes = [
                    ColumnShape { name: "a \"b\"", column: &column, not_null },
                    ColumnShape { name: "gone", column: &column, not_null },
                ];
                let event = Event {
                    id: "s:1",
                    op: EventOp::Update,
                    stream: &"s".parse::<StreamName>().unwrap(),
                    endpoint: &"e".parse::<EndpointName>().unwrap(),
                    source: &SourceId("d".to_owned()),
                    database: "d\"",
                    dialect: *dialect,
                    table: &TableName::new("s\\", "t\n"),
                    position: Position::new(u32::MAX, u64::MAX, 1),
                    committed_at: i64::MIN,
                    replay: false,
                    key: vec![field(&value)],
                    before: Some(vec![field(&old)]),
                    after: Some(vec![field(&value)]),
                    changed: None,
                    message: None,
                };
                for include_unknown in [false, true] {
                    let options = Options { columns: &shapes, include_unknown, ..Options::default() };
                    let messages = write_events(&event, &options);
                    prop_assert_eq!(messages.len(), if value == old { 1 } else { 2 });
                    for message in messages {
                        let texts = [Some(message.value), message.key, message.header.map(|(_, key)| key)];
                        for text in texts.iter().flatten() {
                            let parsed = serde_json::from_slice::<Value>(text);
                            prop_assert!(parsed.is_ok(), "{name}: {}", String::from_utf8_lossy(text));
                        }
                    }
                }
            }
        }
    }
}
