use rowbridge_schema::wire::{BlockHead, RunKind, RunWriter, Step, encode_delivery};
use rowbridge_schema::{Column, Dialect, Position, SourceId, TableDef, TableName};

use super::*;

fn headers(content_type: &str, others: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
    for (name, value) in others {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn summary(content_type: &str, body: &str) -> (&'static str, String) {
    let content = read(&headers(content_type, &[]), body.as_bytes());
    (content.format, content.summary.join("\n"))
}

#[test]
fn plain_events_are_told_by_table_key_and_changes() {
    let one = r#"{"id":"shop:1","type":"row.update","schema":"public","table":"orders","replay":true,
        "data":{"op":"update","key":{"id":42},"before":null,"after":{"id":42},"changed":["total","note"]}}"#;
    let line = "row.update  public.orders  id=42  changed total, note  replay";
    assert_eq!(summary("application/json", one), ("json", line.to_owned()));
    let bare = r#"{"type":"table.truncate","schema":null,"table":"orders",
        "data":{"op":"truncate","key":null,"before":null,"after":null,"changed":null}}"#;
    assert_eq!(
        summary("application/json", &format!("[{one},{bare}]")),
        ("json", format!("{line}\ntable.truncate  orders"))
    );
    let message = r#"{"type":"message","schema":"public","table":"outbox","data":{"op":"message",
        "message":{"id":"a","type":"order.paid","key":"42","payload":{},"encoding":null,"headers":{}}}}"#;
    assert_eq!(
        summary("application/json", message),
        ("json", "message  public.outbox  order.paid  key=42".to_owned())
    );
    let many = vec![one; MAX_LINES + 3].join(",");
    assert!(summary("application/json", &format!("[{many}]")).1.ends_with("replay\nand 3 more"));
}

#[test]
fn cloud_events_are_told_in_all_three_modes() {
    let data = r#"{"op":"insert","key":{"id":42},"before":null,"after":{"id":42},"changed":null}"#;
    let event = format!(
        r#"{{"specversion":"1.0","type":"row.insert","source":"/shop/db/public/orders","subject":"42","data":{data}}}"#
    );
    let line = "row.insert  /shop/db/public/orders  id=42".to_owned();
    assert_eq!(summary("application/cloudevents+json", &event), ("cloudevents", line.clone()));
    assert_eq!(
        summary("application/cloudevents-batch+json", &format!("[{event},{event}]")),
        ("cloudevents", format!("{line}\n{line}"))
    );
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-type", "row.insert"),
        ("ce-source", "/shop/db/public/orders"),
        ("ce-subject", "42"),
    ];
    let content = read(&headers("application/json", &binary), data.as_bytes());
    assert_eq!((content.format, content.summary), ("cloudevents", vec![line]));
    let content = read(&headers("text/plain", &binary), b"hello");
    let line = "row.insert  /shop/db/public/orders  subject 42".to_owned();
    assert_eq!((content.format, content.summary), ("cloudevents", vec![line]));
}

#[test]
fn debezium_events_are_told_with_and_without_schema() {
    let event = r#"{"before":{"id":1,"note":"a","n":1},"after":{"id":1,"note":"b","n":1},"op":"u",
        "source":{"db":"shop","schema":"public","table":"orders"}}"#;
    let expected = ("debezium", "update  public.orders  changed note".to_owned());
    assert_eq!(summary("application/json", event), expected);
    assert_eq!(summary("application/json", &format!(r#"{{"schema":{{}},"payload":{event}}}"#)), expected);
}

#[test]
fn what_is_not_known_is_shown_as_it_is() {
    for (body, format, shown) in [
        (&b""[..], "empty", Shown::Empty),
        (b"{\"op\":1}", "other-json", Shown::Json("{\"op\":1}")),
        (b"[]", "other-json", Shown::Json("[]")),
        (b"{\"rowbridge\":1}", "other-json", Shown::Json("{\"rowbridge\":1}")),
        (b"<event/>", "text", Shown::Text("<event/>")),
        (b"\xff\xfe", "binary", Shown::Binary(b"\xff\xfe")),
    ] {
        let content = read(&headers("application/json", &[]), body);
        assert_eq!((content.format, content.shown), (format, shown));
        assert!(content.summary.is_empty() && content.bridge.is_none());
    }
}

#[test]
fn a_bridge_delivery_is_told_change_by_change() {
    let table = TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: ["id", "note", "total"].map(|name| Column::new(name, "text")).to_vec(),
        key: vec![0],
        types: vec![],
        options: vec![],
    };
    let id = table.id();
    let insert = RunKind {
        table: id,
        table_index: 0,
        op: Op::Insert,
        old: &[],
        new: &[0, 1, 2],
        maybe_missing: false,
    };
    let mut writer = RunWriter::new();
    let cells = |row: &mut rowbridge_schema::wire::RowWriter<'_>, texts: &[&str]| {
        texts.iter().for_each(|text| row.text(text));
    };
    writer.row(insert, 1, |row| cells(row, &["1", "a", "5"]));
    writer.row(RunKind { op: Op::Update, old: &[0, 1, 2], ..insert }, 2, |row| {
        cells(row, &["1", "a", "5", "1", "b", "5"]);
    });
    writer.row(RunKind { op: Op::Update, new: &[0, 2], ..insert }, 3, |row| cells(row, &["1", "6"]));
    writer.row(RunKind { op: Op::Delete, old: &[0], new: &[], ..insert }, 4, |row| row.text("1"));
    writer.truncate(id, 0, 5);
    let (runs, _) = writer.finish();
    let first = Position::new(1, 100, 1);
    let head = DeliveryHead {
        rowbridge: 1,
        stream: "shop".parse().unwrap(),
        endpoint: "copy".parse().unwrap(),
        source: SourceId("pg-1".into()),
        prev: Some(Position::ZERO),
        to: Some(first.with_ordinal(5)),
        open: false,
        split: false,
    };
    let block = BlockHead { first, last: first.with_ordinal(5), at: 5, step: Step::Ordinal, chunk: None };
    let (json, pieces) = (table.to_json(), [&runs[..]]);
    let body =
        encode_delivery(&head, [(id, json.as_str())].into_iter(), [(&block, &pieces[..])].into_iter(), 0);
    let content = read(&headers("application/json", &[]), &body);
    assert_eq!((content.format, content.bridge.as_ref()), ("bridge", Some(&head)));
    assert_eq!(
        content.summary,
        [
            "shop/copy 00000000-000000000000000000000000-0000000000 .. 00000001-000000000000000000000064-0000000005",
            "row.insert  public.orders  id=1",
            "row.update  public.orders  id=1  changed note",
            "row.update  public.orders  id=1",
            "row.delete  public.orders  id=1",
            "table.truncate  public.orders",
        ]
    );
    let asking = DeliveryHead { prev: None, to: None, ..head };
    let body = encode_delivery(&asking, std::iter::empty(), std::iter::empty(), 0);
    let content = read(&headers("application/json", &[]), &body);
    assert_eq!(content.summary, ["shop/copy asks for the position"]);
}
