//! Rows of all three databases as messages.

use super::*;
use crate::cell::Class;
use crate::event::message::Payload;
use crate::table::Column as Declared;

fn config() -> OutboxConfig {
    OutboxConfig {
        table: "public.outbox".into(),
        id: Some("id".into()),
        kind: Some("type".into()),
        key: Some("aggregateid".into()),
        payload: "payload".into(),
        json: false,
        headers: None,
        lines: OutboxLines::default(),
    }
}

fn table(dialect: Dialect, payload: &str) -> TableDef {
    let types = match dialect {
        Dialect::Postgres => ["uuid", "text", "bigint", "text"],
        Dialect::Mysql => ["char(36)", "varchar(255)", "bigint", "varchar(255)"],
        Dialect::Sqlite => ["TEXT", "TEXT", "INTEGER", "TEXT"],
    };
    let names = ["id", "type", "aggregateid", "aggregatetype"];
    let mut columns: Vec<_> =
        names.iter().zip(types).map(|(name, kind)| Declared::new(*name, kind)).collect();
    columns.push(Declared::new("payload", payload));
    columns.push(Declared { generated: Some("1".into()), ..Declared::new("made", "text") });
    let name = TableName::new("public", "outbox");
    TableDef { dialect, name, columns, key: vec![0], types: vec![], options: vec![] }
}

fn row(payload: Cell<'static>) -> Vec<Option<Cell<'static>>> {
    let texts = ["6a0f", "order.paid", "42", "order"].map(|text| Some(Cell::text(text)));
    texts.into_iter().chain([Some(payload), None]).collect()
}

fn json(payload: Payload<'_>) -> String {
    let mut out = Vec::new();
    payload.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_row_says_id_type_key_and_what_else_there_is() {
    for dialect in [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite] {
        let outbox = Outbox::compile(&config(), &table(dialect, "text")).unwrap();
        let row = row(Cell::text("hello"));
        let message = outbox.message(&row);
        let texts = [&message.id, &message.kind, &message.key].map(|text| text.as_deref());
        assert_eq!(texts, [Some("6a0f"), Some("order.paid"), Some("42")], "{dialect}");
        let headers: Vec<_> = message.headers.iter().map(|field| (field.name, field.cell.as_str())).collect();
        assert_eq!(headers, [("aggregatetype", Some("order"))], "{dialect}");
        assert_eq!(message.payload(), Payload::Text("hello"));
    }
}

#[test]
fn a_payload_is_json_where_its_column_or_the_file_says_so() {
    let told = |dialect, kind: &str, json_is_told, cell: Cell<'static>| {
        let config = OutboxConfig { json: json_is_told, ..config() };
        let outbox = Outbox::compile(&config, &table(dialect, kind)).unwrap();
        json(outbox.message(&row(cell)).payload())
    };
    let document = || Cell::text("{\"a\": 1}");
    assert_eq!(told(Dialect::Postgres, "jsonb", false, document()), "{\"a\": 1}");
    assert_eq!(told(Dialect::Mysql, "json", false, document()), "{\"a\": 1}");
    for (dialect, kind) in
        [(Dialect::Postgres, "text"), (Dialect::Mysql, "longtext"), (Dialect::Sqlite, "TEXT")]
    {
        assert_eq!(told(dialect, kind, false, document()), "\"{\\\"a\\\": 1}\"", "{kind}");
        assert_eq!(told(dialect, kind, true, document()), "{\"a\": 1}", "{kind}");
        assert_eq!(told(dialect, kind, true, Cell::text("{a")), "\"{a\"", "not JSON, not lost");
        assert_eq!(told(dialect, kind, true, Cell::Null), "null");
    }
    // The same document as bytes, and bytes that are none.
    let bytes = |hex: &'static str| [Cell::text(hex), Cell::Classed(Class::Blob, hex[2..].into())];
    for (dialect, kind, at) in
        [(Dialect::Postgres, "bytea", 0), (Dialect::Mysql, "blob", 0), (Dialect::Sqlite, "TEXT", 1)]
    {
        let cell = |hex| bytes(hex)[at].clone();
        assert_eq!(told(dialect, kind, true, cell("\\x7b2261223a317d")), "{\"a\":1}", "{kind}");
        assert_eq!(told(dialect, kind, false, cell("\\x7b2261223a317d")), "\"eyJhIjoxfQ==\"", "{kind}");
        assert_eq!(told(dialect, kind, true, cell("\\x00ff")), "\"AP8=\"", "{kind}");
    }
}

#[test]
fn content_of_logical_messages_shows_what_it_is() {
    let outbox = Outbox::compile(&OutboxConfig::logical(1), &logical_message()).unwrap();
    let told = |content: &'static str| {
        let row = vec![Some(Cell::text("order.paid")), Some(Cell::text(content))];
        let message = outbox.message(&row);
        assert_eq!(
            (message.kind.as_deref(), message.id.as_deref(), message.logical),
            (Some("order.paid"), None, true)
        );
        let mut base64 = Vec::new();
        message.payload().write_base64(&mut base64);
        (json(message.payload()), String::from_utf8(base64).unwrap())
    };
    let shown = |content, json: &str, base64: &str| assert_eq!(told(content), (json.into(), base64.into()));
    shown("\\x7b2261223a20317d", "{\"a\": 1}", "\"eyJhIjogMX0=\"");
    shown("\\x6869", "\"hi\"", "\"aGk=\"");
    shown("\\x00ff10", "\"AP8Q\"", "\"AP8Q\"");
    shown("\\x", "\"\"", "\"\"");
}

#[test]
fn columns_that_are_not_there_are_told_by_their_key() {
    let told =
        |config: OutboxConfig| Outbox::compile(&config, &table(Dialect::Postgres, "text")).unwrap_err();
    let error = told(OutboxConfig { key: Some("aggregate_id".into()), ..config() });
    assert_eq!(error.key(), "key");
    assert_eq!(error.to_string(), "public.outbox has no column aggregate_id (did you mean aggregateid?)");
    assert!(error.fix().contains("key = false"), "{}", error.fix());
    let error = told(OutboxConfig { headers: Some(vec!["made".into()]), ..config() });
    assert!(matches!(error, OutboxError::Generated { key: "headers", .. }), "{error}");
    let none = OutboxConfig { id: None, kind: None, key: None, headers: Some(vec![]), ..config() };
    let outbox = Outbox::compile(&none, &table(Dialect::Postgres, "text")).unwrap();
    let row = row(Cell::text("x"));
    let message = outbox.message(&row);
    assert!(message.id.is_none() && message.kind.is_none() && message.key.is_none());
    assert!(message.headers.is_empty());
}
