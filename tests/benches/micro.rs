//! The parts by themselves, in this process: what decoding, encoding, signing, verifying, parsing and planning take for a
//! thousand rows of six columns. `tests/bench micro` runs them.

use bytes::{BufMut as _, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rowbridge_publisher::capture::postgres::pgoutput::{Cell, Message, parse};
use rowbridge_schema::event::shape::{Shape as Columns, ShapeConfig};
use rowbridge_schema::event::{Event, EventOp, json};
use rowbridge_schema::expr::Sent;
use rowbridge_schema::signature::{SignedHeaders, sign, verify};
use rowbridge_schema::wire::{
    BlockHead, DeliveryHead, Op, RunKind, RunWriter, Step, encode_delivery, parse_delivery,
};
use rowbridge_schema::{Cell as Value, Column, Dialect, Position, SigningKey, SourceId, TableDef, TableName};
use rowbridge_subscriber::plan::{Equality, Shape, Step as PlanStep, fold, plan};

const ROWS: u64 = 1_000;
const COLUMNS: [(&str, &str); 6] = [
    ("id", "bigint"),
    ("note", "text"),
    ("amount", "numeric"),
    ("at", "timestamp with time zone"),
    ("data", "jsonb"),
    ("ok", "boolean"),
];

fn main() {
    divan::main();
}

fn def() -> TableDef {
    let column = |(name, type_name): &(&str, &str)| Column {
        name: (*name).into(),
        type_name: (*type_name).into(),
        not_null: *name == "id",
        generated: None,
        collation: None,
    };
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "bench"),
        columns: COLUMNS.iter().map(column).collect(),
        key: vec![0],
        types: vec![],
        options: vec![],
    }
}

fn row(id: u64) -> [String; 6] {
    [
        id.to_string(),
        format!("note number {id}"),
        format!("{}.25", id * 5 / 4),
        "2026-01-02 03:04:05.678901+00".to_owned(),
        format!("{{\"n\": {id}, \"tag\": \"abc\"}}"),
        if id.is_multiple_of(2) { "t" } else { "f" }.to_owned(),
    ]
}

fn rows() -> Vec<[String; 6]> {
    (1..=ROWS).map(row).collect()
}

/// Inserts as the server streams them.
fn inserts() -> Vec<BytesMut> {
    let insert = |row: [String; 6]| {
        let mut message = BytesMut::new();
        message.put_u8(b'I');
        message.put_u32(16_384);
        message.put_u8(b'N');
        message.put_u16(row.len() as u16);
        for cell in row {
            message.put_u8(b't');
            message.put_u32(cell.len() as u32);
            message.put_slice(cell.as_bytes());
        }
        message
    };
    rows().into_iter().map(insert).collect()
}

fn run(def: &TableDef, rows: &[[String; 6]]) -> Vec<u8> {
    let new: Vec<u16> = (0..COLUMNS.len() as u16).collect();
    let kind = RunKind {
        table: def.id(),
        table_index: 0,
        op: Op::Insert,
        old: &[],
        new: &new,
        maybe_missing: false,
    };
    let mut writer = RunWriter::new();
    for (number, row) in (1..).zip(rows) {
        writer.row(kind, number, |writer| row.iter().for_each(|cell| writer.text(cell)));
    }
    writer.finish().0
}

fn delivery() -> Vec<u8> {
    let def = def();
    let position = |ordinal| Position::new(1, 77, ordinal);
    let head = DeliveryHead {
        rowbridge: 1,
        stream: "shop".parse().expect("a name"),
        endpoint: "copy".parse().expect("a name"),
        source: SourceId("pg".into()),
        prev: None,
        to: Some(position(ROWS)),
        open: false,
        split: false,
    };
    let block =
        BlockHead { first: position(1), last: position(ROWS), at: 0, step: Step::Ordinal, chunk: None };
    let (body, json) = (run(&def, &rows()), def.to_json());
    encode_delivery(
        &head,
        [(def.id(), json.as_str())].into_iter(),
        [(&block, &[body.as_slice()][..])].into_iter(),
        0,
    )
}

#[divan::bench]
fn decode_pgoutput(bencher: Bencher<'_, '_>) {
    let messages = inserts();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let length = |message| match parse(message) {
            Ok(Message::Insert { new, .. }) => new.cells().fold(0, |sum, cell| match cell {
                Cell::Text(text) => sum + text.len(),
                _ => sum,
            }),
            other => panic!("{other:?}"),
        };
        messages.iter().map(|message| length(message)).sum::<usize>()
    });
}

#[divan::bench]
fn encode_run(bencher: Bencher<'_, '_>) {
    let (def, rows) = (def(), rows());
    bencher.counter(ItemsCount::new(ROWS)).bench(|| run(&def, &rows));
}

#[divan::bench]
fn parse_bridge_delivery(bencher: Bencher<'_, '_>) {
    let body = delivery();
    let counted = bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::of_slice(&body));
    counted.bench(|| parse_delivery(&body).expect("our own delivery").blocks.len());
}

#[divan::bench]
fn plan_and_fold(bencher: Bencher<'_, '_>) {
    let body = delivery();
    let delivery = parse_delivery(&body).expect("our own delivery");
    let shape = Shape { key: &[0], equality: &[Equality::Text], complete: COLUMNS.len(), deferrable: false };
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let plan = plan(&delivery, None);
        let rows = |step: &PlanStep<'_>| match step {
            PlanStep::Rows(events) => fold(shape, events.iter()).expect("inserts").upserts.len(),
            _ => 0,
        };
        plan.steps.iter().map(rows).sum::<usize>()
    });
}

#[divan::bench]
fn event_json(bencher: Bencher<'_, '_>) {
    let (def, rows) = (def(), rows());
    let columns = Columns::compile(&ShapeConfig::default(), &def).expect("all columns");
    let sent = def.sent_columns();
    let (stream, endpoint) = ("shop".parse().expect("a name"), "crm".parse().expect("a name"));
    let source = SourceId("pg".into());
    bencher.counter(ItemsCount::new(ROWS)).bench(|| {
        let mut out = Vec::new();
        for row in &rows {
            let cells: Vec<Value<'_>> = row.iter().map(|cell| Value::Text(cell.into())).collect();
            let new = Sent { columns: &sent, cells: &cells };
            let event = Event {
                id: "shop:1",
                op: EventOp::Insert,
                stream: &stream,
                endpoint: &endpoint,
                source: &source,
                database: "shop",
                dialect: def.dialect,
                table: &def.name,
                position: Position::new(1, 77, 1),
                committed_at: 1_700_000_000_000_000,
                replay: false,
                key: columns.key(&new),
                before: None,
                after: columns.apply(&new, None).ok(),
                changed: None,
                message: None,
            };
            json::write_event(&mut out, &event);
        }
        out.len()
    });
}

#[divan::bench]
fn sign_a_delivery(bencher: Bencher<'_, '_>) {
    let (body, key) = (delivery(), SigningKey::generate());
    let keys = std::slice::from_ref(&key);
    bencher.counter(BytesCount::of_slice(&body)).bench(|| sign(keys, "id", 1_700_000_000, &body));
}

#[divan::bench]
fn verify_a_delivery(bencher: Bencher<'_, '_>) {
    let (body, key) = (delivery(), SigningKey::generate());
    let keys = std::slice::from_ref(&key);
    let signature = sign(keys, "id", 1_700_000_000, &body);
    let headers = SignedHeaders { id: "id", timestamp: "1700000000", signature: &signature };
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        verify(keys, headers, &body, 1_700_000_000, 300).expect("our own signature");
    });
}
