//! The files in `testdata/wire` are the format, byte for byte: what we write equals them, what they say is read. Both
//! directions are pinned apart, so that a mistake in one does not hide one in the other. A file has no line break at its
//! end, as a body has none. `docs/wire.md` explains them.

use super::*;
use crate::cell::{Cell, Class};
use crate::signature::{SignedHeaders, VerifyError, batch_id, sign, verify};
use crate::table::{Column, Dialect, TableDef, TableName, TypeDefinition};
use crate::{Position, SigningKey, SourceId};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../testdata/wire/", $name, ".json"))
    };
}

const HANDSHAKE: &str = golden!("handshake");
const EMPTY: &str = golden!("empty");
const ROWS: &str = golden!("rows");
const SNAPSHOT: &str = golden!("snapshot");
const PART: &str = golden!("part");
const SQLITE: &str = golden!("sqlite");
const APPLIED: &str = golden!("answer-applied");
const STAGED: &str = golden!("answer-staged");
const GAP: &str = golden!("answer-gap");
const REJECTED: &str = golden!("answer-rejected");
const SIGNATURES: &str = golden!("signatures");

/// 2026-01-02T03:04:05.678901Z
const AT: i64 = 1_767_323_045_678_901;

fn at(ordinal: u64) -> Position {
    Position::new(2, 0x1a_7f00_c2b8, ordinal)
}

fn head(prev: Option<Position>, to: Option<Position>) -> DeliveryHead {
    DeliveryHead {
        rowbridge: WIRE_VERSION,
        stream: "shop".parse().unwrap(),
        endpoint: "warehouse".parse().unwrap(),
        source: SourceId("postgres:7301122334455667788:rowbridge_shop".into()),
        prev,
        to,
        open: false,
        split: false,
    }
}

fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: name.into(),
        type_name: type_name.into(),
        not_null: false,
        generated: None,
        collation: None,
    }
}

fn orders() -> TableDef {
    let mood = TableName::new("public", "mood");
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: vec![
            Column { not_null: true, ..column("id", "bigint") },
            column("total", "numeric(10,2)"),
            column("note", "text"),
            column("mood", "public.mood"),
            Column { generated: Some("total * 0.19".into()), ..column("tax", "numeric") },
        ],
        key: vec![0],
        types: vec![TypeDefinition::Enum { name: mood, labels: vec!["sad".into(), "happy".into()] }],
        options: vec![],
    }
}

fn items() -> TableDef {
    TableDef {
        dialect: Dialect::Sqlite,
        name: TableName::bare("items"),
        columns: vec![
            Column { not_null: true, collation: Some("NOCASE".into()), ..column("code", "TEXT") },
            column("value", ""),
        ],
        key: vec![0],
        types: vec![],
        options: vec!["WITHOUT ROWID".into()],
    }
}

fn written(head: &DeliveryHead, blocks: &[(BlockHead, &TableDef, Vec<u8>)]) -> String {
    let mut tables = Vec::new();
    for (_, def, _) in blocks {
        if !tables.iter().any(|(id, _)| *id == def.id()) {
            tables.push((def.id(), def.to_json()));
        }
    }
    let bodies: Vec<[&[u8]; 1]> = blocks.iter().map(|(_, _, body)| [&body[..]]).collect();
    let blocks = blocks.iter().zip(&bodies).map(|((head, ..), body)| (head, &body[..]));
    let bytes = encode_delivery(head, tables.iter().map(|(id, json)| (*id, json.as_str())), blocks, 0);
    String::from_utf8(bytes).unwrap()
}

fn run(def: &TableDef, op: Op) -> RunKind<'static> {
    RunKind { table: def.id(), table_index: 0, op, old: &[], new: &[0, 1, 2, 3], maybe_missing: false }
}

#[test]
fn handshakes_and_empty_deliveries() {
    assert_eq!(written(&head(None, None), &[]), HANDSHAKE);
    let delivery = parse_delivery(HANDSHAKE.as_bytes()).unwrap();
    assert_eq!((delivery.head, delivery.blocks.len()), (head(None, None), 0));

    let empty = head(Some(at(7)), Some(Position::new(2, 0x1a_7f00_d000, 3)));
    assert_eq!(written(&empty, &[]), EMPTY);
    let delivery = parse_delivery(EMPTY.as_bytes()).unwrap();
    assert_eq!((delivery.head, delivery.blocks.len()), (empty, 0));
}

#[test]
fn rows_of_one_transaction() {
    let def = orders();
    let mut writer = RunWriter::new();
    writer.row(run(&def, Op::Insert), 1, |row| {
        row.text("41");
        row.text("19.90");
        row.text("say \"hi\"\n\u{1}\u{fc}\u{1f600}");
        row.null();
    });
    writer.row(run(&def, Op::Insert), 2, |row| {
        row.text("42");
        row.text("NaN");
        row.text("");
        row.text("happy");
    });
    // The key changed, so that the old one goes along; `note` is out of line and unchanged, and was not sent.
    writer.row(RunKind { old: &[0], new: &[0, 1, 3], ..run(&def, Op::Update) }, 3, |row| {
        for text in ["42", "43", "20.00", "sad"] {
            row.text(text);
        }
    });
    // Number 4 is a change of a table that is not captured.
    let maybe = RunKind { new: &[0, 1, 2, 3], maybe_missing: true, ..run(&def, Op::Update) };
    writer.row(maybe, 5, |row| {
        row.text("7");
        row.text("1.00");
        row.null();
        row.null();
    });
    writer.row(RunKind { old: &[0], new: &[], ..run(&def, Op::Delete) }, 6, |row| row.text("41"));
    writer.truncate(def.id(), 0, 7);
    let (body, _) = writer.finish();
    let block = BlockHead { first: at(1), last: at(7), at: AT, step: Step::Ordinal, chunk: None };
    let head = head(Some(Position::new(2, 0x1a_7f00_0000, 2)), Some(at(7)));
    assert_eq!(written(&head, &[(block, &def, body)]), ROWS);

    let delivery = parse_delivery(ROWS.as_bytes()).unwrap();
    assert_eq!(delivery.head, head);
    assert_eq!(delivery.tables[&def.id()], def);
    let block = &delivery.blocks[0];
    assert_eq!((block.head.at, block.head.first, block.head.last), (AT, at(1), at(7)));
    let ops: Vec<Op> = block.runs.iter().map(|run| run.op).collect();
    assert_eq!(ops, [Op::Insert, Op::Update, Op::Update, Op::Delete, Op::Truncate]);
    let positions: Vec<Position> = block.runs.iter().map(|run| block.position(run, 0)).collect();
    assert_eq!(positions, [at(1), at(3), at(5), at(6), at(7)]);
    assert_eq!(block.position(&block.runs[0], 1), at(2));
    let [inserts, moved, maybe, gone, all] = &block.runs[..] else { panic!("five runs") };
    assert_eq!(inserts.changes(), 2);
    assert_eq!(inserts.row(0).1[2], Cell::text("say \"hi\"\n\u{1}\u{fc}\u{1f600}"));
    assert_eq!(inserts.row(0).1[3], Cell::Null);
    assert_eq!(inserts.row(1).1[2], Cell::text(""));
    assert_eq!((&moved.old[..], &moved.new[..]), (&[0][..], &[0, 1, 3][..]));
    assert_eq!(moved.row(0), (&[Cell::text("42")][..], &["43", "20.00", "sad"].map(Cell::text)[..]));
    assert_eq!((moved.maybe_missing, maybe.maybe_missing), (false, true));
    assert_eq!(gone.row(0), (&[Cell::text("41")][..], &[][..]));
    assert_eq!(all.changes(), 1);
}

#[test]
fn a_range_of_a_snapshot() {
    let def = orders();
    let mut writer = RunWriter::new();
    for (i, id) in ["10", "12"].into_iter().enumerate() {
        writer.row(run(&def, Op::Read), 8 + i as u64, |row| {
            row.text(id);
            row.text("1.00");
            row.null();
            row.text("sad");
        });
    }
    let (body, _) = writer.finish();
    let key = |text: &str| vec![text.to_owned()];
    let chunk = Chunk {
        table: def.id(),
        clear: false,
        sweep: Some(Sweep::Next),
        prune: Some(KeyRange { after: Some(key("9")), upto: Some(key("12")) }),
        skipped: vec![key("11")],
        done: true,
    };
    let block =
        BlockHead { first: at(8), last: at(10), at: AT, step: Step::Ordinal, chunk: Some(chunk.clone()) };
    let head = head(Some(at(7)), Some(at(10)));
    assert_eq!(written(&head, &[(block, &def, body)]), SNAPSHOT);

    let delivery = parse_delivery(SNAPSHOT.as_bytes()).unwrap();
    let block = &delivery.blocks[0];
    assert_eq!(block.head.chunk, Some(chunk));
    assert_eq!((block.runs[0].op, block.runs[0].changes()), (Op::Read, 2));
    assert_eq!(block.position(&block.runs[0], 1), at(9));
}

#[test]
fn a_part_of_a_transaction() {
    let def = orders();
    let mut writer = RunWriter::new();
    writer.row(RunKind { old: &[0], new: &[], ..run(&def, Op::Delete) }, 1, |row| row.text("1"));
    let (body, _) = writer.finish();
    let block = BlockHead { first: at(1), last: at(1), at: AT, step: Step::Ordinal, chunk: None };
    let head = DeliveryHead { open: true, ..head(Some(Position::ZERO), Some(at(1))) };
    assert_eq!(written(&head, &[(block, &def, body)]), PART);
    assert_eq!(parse_delivery(PART.as_bytes()).unwrap().head, head);
    let split = PART.replace("\"open\":true", "\"split\":true");
    let expected = DeliveryHead { open: false, split: true, ..head };
    assert_eq!(parse_delivery(split.as_bytes()).unwrap().head, expected);
}

#[test]
fn values_of_sqlite() {
    let def = items();
    let cells = [
        Cell::Null,
        Cell::Classed(Class::Integer, "-9223372036854775808".into()),
        Cell::Classed(Class::Real, "0.1".into()),
        Cell::Classed(Class::Text, "text".into()),
        Cell::text("00ff"),
        Cell::Classed(Class::RawText, "ff".into()),
    ];
    let insert = RunKind { new: &[0, 1], ..run(&def, Op::Insert) };
    let mut writer = RunWriter::new();
    for (i, cell) in cells.iter().enumerate() {
        writer.row(insert, 900 + i as u64, |row| {
            row.text(&format!("k{i}"));
            row.cell(cell);
        });
    }
    let (body, _) = writer.finish();
    let position = |id| Position::new(1, id, 1);
    let block =
        BlockHead { first: position(900), last: position(905), at: AT, step: Step::Offset, chunk: None };
    let head = DeliveryHead {
        source: SourceId("sqlite-00112233445566778899aabbccddeeff".into()),
        ..head(Some(position(899)), Some(position(905)))
    };
    assert_eq!(written(&head, &[(block, &def, body)]), SQLITE);

    let delivery = parse_delivery(SQLITE.as_bytes()).unwrap();
    assert_eq!(delivery.tables[&def.id()], def);
    let (block, run) = (&delivery.blocks[0], &delivery.blocks[0].runs[0]);
    for (i, cell) in cells.iter().enumerate() {
        assert_eq!(run.row(i).1[1], *cell);
        assert_eq!(block.position(run, i), position(900 + i as u64));
    }
}

fn answer(status: AnswerStatus, position: Option<Position>) -> Answer {
    Answer {
        rowbridge: WIRE_VERSION,
        stream: "shop".parse().unwrap(),
        endpoint: "warehouse".parse().unwrap(),
        status,
        position,
        staged: None,
        formats: vec!["bridge".into()],
        encodings: vec!["zstd".into(), "gzip".into()],
        max_body: Some(64 << 20),
        message: None,
        failing: vec![],
    }
}

#[test]
fn answers() {
    let failing = FailingChange {
        position: at(2),
        table: "public.orders".into(),
        column: Some("total".into()),
        key: vec!["id=42".into()],
        reason: "the value is out of range for the target's type (SQLSTATE 22003)".into(),
    };
    let message = "the target cannot take a change; nothing of this delivery was applied";
    for (expected, file) in [
        (answer(AnswerStatus::Applied, Some(at(7))), APPLIED),
        (Answer { staged: Some(at(1)), ..answer(AnswerStatus::Staged, None) }, STAGED),
        (Answer { message: Some("begin".into()), ..answer(AnswerStatus::Gap, Some(Position::ZERO)) }, GAP),
        (
            Answer {
                message: Some(message.into()),
                failing: vec![failing],
                ..answer(AnswerStatus::Rejected, Some(Position::ZERO))
            },
            REJECTED,
        ),
    ] {
        assert_eq!(serde_json::to_string(&expected).unwrap(), file);
        assert_eq!(serde_json::from_str::<Answer>(file).unwrap(), expected);
    }
    // What a later release adds is passed over, so that an old publisher reads a new subscriber.
    let extended = APPLIED.replacen('{', "{\"later\":1,", 1);
    assert_eq!(
        serde_json::from_str::<Answer>(&extended).unwrap(),
        answer(AnswerStatus::Applied, Some(at(7)))
    );
}

#[test]
fn a_delivery_and_its_answer_are_signed_under_one_id() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Signatures {
        secret: String,
        #[serde(rename = "webhook-id")]
        id: String,
        #[serde(rename = "webhook-timestamp")]
        timestamp: u64,
        /// `webhook-signature` over `rows.json`.
        delivery: String,
        /// `webhook-signature` over `answer-applied.json`.
        answer: String,
    }
    let file: Signatures = serde_json::from_str(SIGNATURES).unwrap();
    let prev = Position::new(2, 0x1a_7f00_0000, 2).to_string();
    assert_eq!(batch_id("shop", "warehouse", &prev, &at(7).to_string()), file.id);
    let keys = [SigningKey::parse(&file.secret).unwrap()];
    let timestamp = file.timestamp.to_string();
    for (body, signature) in [(ROWS, &file.delivery), (APPLIED, &file.answer)] {
        assert_eq!(sign(&keys, &file.id, file.timestamp, body.as_bytes()), *signature);
        let headers = SignedHeaders { id: &file.id, timestamp: &timestamp, signature };
        assert_eq!(verify(&keys, headers, body.as_bytes(), file.timestamp, 300), Ok(()));
        let other = SignedHeaders { id: "rwb_0", ..headers };
        let refused = verify(&keys, other, body.as_bytes(), file.timestamp, 300);
        assert_eq!(refused, Err(VerifyError::Mismatch), "an answer to one request is none to another");
    }
}
