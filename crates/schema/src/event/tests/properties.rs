//! Whatever a cell holds, bodies are well-formed and texts come back.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::text;
use crate::cell::{Cell, Class};
use crate::event::natural::{of, write_json, write_text};
use crate::event::{Event, EventOp, Field, cloudevents, json, xml};
use crate::name::SourceId;
use crate::position::Position;
use crate::table::{Dialect, TableName};
use crate::types::tests as types;
use crate::types::{ColumnType, Kind};

fn any_column() -> impl Strategy<Value = ColumnType> {
    let all: Vec<ColumnType> = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite]
        .into_iter()
        .flat_map(|dialect| {
            types::samples::of(dialect).iter().map(move |(name, _)| types::column(dialect, name))
        })
        .collect();
    prop::sample::select(all)
}

/// Values of any type, whole, cut, joined, and anything else.
fn any_text() -> impl Strategy<Value = String> {
    let all: Vec<&str> = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite]
        .into_iter()
        .flat_map(|dialect| types::samples::of(dialect).iter().flat_map(|(_, values)| values.iter().copied()))
        .collect();
    let sample = prop::sample::select(all);
    prop_oneof![
        any::<String>(),
        sample.clone().prop_map(str::to_owned),
        (sample.clone(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
            let length = text.chars().count();
            text.chars().take(at.index(length + 1)).collect()
        }),
        (sample.clone(), any::<char>(), sample).prop_map(|(one, c, other)| format!("{one}{c}{other}")),
        "[-0-9.eE+{}\\[\\],\"\\\\nul:]{0,12}",
    ]
}

fn any_cell() -> impl Strategy<Value = Cell<'static>> {
    let classes = [Class::Integer, Class::Real, Class::Text, Class::Blob, Class::RawText];
    prop_oneof![
        1 => Just(Cell::Null),
        6 => any_text().prop_map(|text| Cell::Text(text.into())),
        3 => (prop::sample::select(classes.to_vec()), any_text())
            .prop_map(|(class, text)| Cell::Classed(class, text.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_cell_is_well_formed_json(column in any_column(), cell in any_cell()) {
        let mut out = Vec::new();
        write_json(&mut out, &column, &cell);
        let read = serde_json::from_slice::<IgnoredAny>(&out);
        prop_assert!(read.is_ok(), "{:?}", String::from_utf8_lossy(&out));
        // Numbers, strings and arrays are what everybody reads; a JSON column's own numbers may be beyond it.
        let of_json = matches!(&column.kind, Kind::Json { .. })
            || matches!(&column.kind, Kind::Array(element) if element.starts_with("json"));
        if !of_json {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
        }
        prop_assert!(String::from_utf8(text(|out| write_text(out, &of(&column, &cell))).into_bytes()).is_ok());
    }

    #[test]
    fn texts_come_back(value in any::<String>()) {
        let column = types::column(Dialect::Postgres, "text");
        let written = text(|out| write_json(out, &column, &Cell::text(&value)));
        prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), value);
    }

    #[test]
    fn any_event_is_well_formed(
        columns in proptest::collection::vec((any_text(), any_column(), any_cell()), 0..4),
        (schema, table, source) in (any_text(), any_text(), any_text()),
        (at, replay, dialect) in (any::<i64>(), any::<bool>(), 0..3_usize),
    ) {
        let row = || -> Vec<Field<'_>> {
            columns.iter().map(|(name, column, cell)| Field { name, column, cell: cell.clone() }).collect()
        };
        let (stream, endpoint) = ("s".parse().unwrap(), "e".parse().unwrap());
        let event = Event {
            id: "s:1",
            op: EventOp::Update,
            stream: &stream,
            endpoint: &endpoint,
            source: &SourceId(source.clone()),
            database: &schema,
            dialect: [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite][dialect],
            table: &TableName::new(&schema, &table),
            position: Position::new(1, 2, 3),
            committed_at: at,
            replay,
            key: row(),
            before: Some(row()),
            after: Some(row()),
            changed: Some(columns.iter().map(|(name, ..)| name.as_str()).collect()),
            message: None,
        };
        for write in [json::write_event, cloudevents::write_structured, cloudevents::write_binary] {
            let body = text(|out| write(out, &event));
            prop_assert!(serde_json::from_str::<IgnoredAny>(&body).is_ok(), "{}", body);
        }
        for (name, value) in cloudevents::binary_headers(&event) {
            prop_assert!(value.bytes().all(|b| (0x21..0x7f).contains(&b)), "{name}: {value:?}");
            prop_assert!(!value.is_empty(), "{name}");
            let decoded = percent_encoding::percent_decode_str(&value).decode_utf8();
            prop_assert!(decoded.is_ok_and(|text| !text.chars().any(char::is_control)), "{name}: {value:?}");
        }
        let body = text(|out| xml::BATCH.body(out, [&event], xml::write_event));
        let document = match roxmltree::Document::parse(&body) {
            Ok(document) => document,
            Err(error) => return Err(TestCaseError::fail(format!("{error}: {body}"))),
        };
        let element = document.root_element().first_element_child().unwrap();
        prop_assert_eq!(plain(element, "table"), table);
        prop_assert_eq!(plain(element, "source"), source);
        let after = element.children().find(|child| child.has_tag_name("after")).unwrap();
        for (child, (name, column, cell)) in after.children().zip(&columns) {
            prop_assert_eq!(&plain(child, "name"), name);
            if let (Kind::Text { .. }, Cell::Text(value)) = (&column.kind, cell) {
                let read = child.text().unwrap_or_default();
                let read = decoded(child.attribute("encoding"), read);
                prop_assert_eq!(&read, value.as_ref());
            }
        }
    }
}

/// An attribute's text, out of base64 where it says so.
fn plain(node: roxmltree::Node<'_, '_>, name: &str) -> String {
    decoded(node.attribute(format!("{name}-encoding").as_str()), node.attribute(name).unwrap())
}

fn decoded(encoding: Option<&str>, text: &str) -> String {
    use base64::Engine as _;
    match encoding {
        None => text.to_owned(),
        Some(encoding) => {
            assert_eq!(encoding, "base64");
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            String::from_utf8(bytes).unwrap()
        }
    }
}
