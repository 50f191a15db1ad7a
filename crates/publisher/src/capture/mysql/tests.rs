//! Events that a MariaDB 10.11 wrote, for
//! `CREATE TABLE types (id INT PRIMARY KEY, u UUID, i4 INET4, i6 INET6, y YEAR, b BIGINT UNSIGNED, e ENUM(...), g POINT,
//! c VARCHAR(100) COMPRESSED, t TEXT COMPRESSED, bn BINARY(16), h CHAR(200) CHARACTER SET utf8mb4, s SET('p','q'))`.

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Column, Dialect, Position, TableDef, TableName, wire};

use super::bytes::Bytes;
use super::catalog::Collations;
use super::shape::{self, Shape};
use super::table_map::{self, kind};
use super::transaction::{RowError, Transaction};
use super::value::Converted;
use super::{query, rows};
use crate::capture::TxToken;
use crate::journal::Resume;

const TABLE_MAP: &str = "12000000000001000473686f7000057479706573000d03fefefe0d08feff8d8cfefefe12fe10fe04fe10f70104650002fe10\
    ce20f801fe1f01016002073f04080508072d070101041e026964017502693402693601790162016501670163017402626e01\
    6801730a010805050201700171060e0304615c5c620378277903630a64080100";

const WRITE_ROWS: &str = "12000000000001000dff1f00e00100000010f47ac10b58cc4372a5670e02b2c3d479030102030420010db87cffffffffffffffff0219000000e6\
    1000000101000000000000000000f03f00000000000000400889644b4ca43d00000b008a01f44b4a1a05230d0000016102007a7a03";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn table_map() -> Vec<u8> {
    bytes(TABLE_MAP)
}

fn def() -> TableDef {
    let column = |name: &str, type_name: &str, collation: Option<&str>| Column {
        name: name.into(),
        type_name: type_name.into(),
        not_null: name == "id",
        generated: None,
        collation: collation.map(Into::into),
    };
    let latin1 = Some("latin1_swedish_ci");
    TableDef {
        dialect: Dialect::Mysql,
        name: TableName::new("shop", "types"),
        columns: vec![
            column("id", "int(11)", None),
            column("u", "uuid", None),
            column("i4", "inet4", None),
            column("i6", "inet6", None),
            column("y", "year(4)", None),
            column("b", "bigint(20) unsigned", None),
            column("e", r"enum('a\\\\b','x''y','c\nd')", latin1),
            column("g", "point", None),
            column("c", "varchar(100)", latin1),
            column("t", "text", latin1),
            column("bn", "binary(16)", None),
            column("h", "char(200)", Some("utf8mb4_general_ci")),
            column("s", "set('p','q')", latin1),
        ],
        key: vec![0],
        types: vec![],
        options: vec![],
    }
}

fn collations() -> Collations {
    Collations::of(&[(8, "latin1_swedish_ci", "latin1", 1), (45, "utf8mb4_general_ci", "utf8mb4", 4)])
}

fn shape() -> Shape {
    let map = table_map::parse(&table_map(), true).unwrap();
    let decode = shape::fits(&map, &def(), &collations()).expect("the catalog fits");
    Shape::new(def(), decode, true, false)
}

fn body(event: u8, data: &[u8]) -> Result<String, RowError> {
    let mut transaction = Transaction::begin(TxToken::Xid(1), Position::ZERO, 0);
    let rows = rows::parse(event, data)?;
    transaction.rows(&rows, &shape(), true, &mut Converted::default())?;
    let block = transaction.commit(Resume("".into())).map(|captured| captured.block);
    Ok(block.map_or(String::new(), |block| String::from_utf8(block.body).unwrap()))
}

#[test]
fn a_table_map_says_what_its_columns_are() {
    let map = table_map::parse(&table_map(), true).unwrap();
    assert_eq!(
        (map.name.to_string().as_str(), map.primary.as_slice(), map.named),
        ("shop.types", &[0][..], true)
    );
    let signs: Vec<bool> = map.columns.iter().map(|column| column.unsigned).collect();
    assert!(!signs[0] && signs[4] && signs[5]);
    assert_eq!((map.columns[6].kind, map.columns[6].labels[2].as_slice()), (kind::ENUM, &b"c\nd"[..]));
    assert_eq!((map.columns[7].geometry, map.columns[7].kind), (Some(1), kind::GEOMETRY));
    assert_eq!((map.columns[11].meta, map.columns[11].collation), (800, Some(45)));
    assert_eq!((map.columns[8].collation, map.columns[10].collation), (Some(8), Some(63)));
    assert!(map.columns[1].nullable && !map.columns[0].nullable);
}

/// `ve (id INT PRIMARY KEY, v VECTOR(3), y YEAR, g GEOMETRY, u BIGINT UNSIGNED, b BIT(9), t TIME(2), c CHAR(3) CHARACTER SET
/// gbk, e ENUM('x','y'))` of MySQL 9.7: it counts vectors among the texts, and years among the numbers.
#[test]
fn mysql_counts_vectors_as_texts_and_years_as_numbers() {
    let map = bytes(
        "7b000000000001000473686f7000027665000903f20dff081013fefe090404010102fe06f701fe0101016003023f1c0701000d0103\
         0413026964017601790167017501620174016301650a03fcff00060502017801790801000c02ff80",
    );
    let map = table_map::parse(&map, false).unwrap();
    let signs: Vec<bool> = map.columns.iter().map(|column| column.unsigned).collect();
    assert_eq!(signs, [false, false, true, false, true, false, false, false, false]);
    let collations: Vec<Option<u64>> = map.columns.iter().map(|column| column.collation).collect();
    assert_eq!(collations, [None, Some(63), None, None, None, None, None, Some(28), Some(255)]);
    assert_eq!((map.columns[5].meta, map.columns[6].meta), (9, 2));
}

#[test]
fn rows_become_canonical_texts() {
    let body = body(23, &bytes(WRITE_ROWS)).unwrap();
    let run = wire::read_run(body.as_bytes()).unwrap();
    assert_eq!((run.op, run.changes()), (Op::Insert, 1));
    let (_, new) = run.row(0);
    let texts: Vec<&str> = new.iter().map(|cell| cell.as_str().unwrap()).collect();
    let (a, b) = ("a".repeat(100), "b".repeat(500));
    assert_eq!(
        texts,
        [
            "1",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "1.2.3.0",
            "2001:db8::",
            "2024",
            "18446744073709551615",
            "x'y",
            "0101000020E6100000000000000000F03F0000000000000040",
            a.as_str(),
            b.as_str(),
            "\\x61000000000000000000000000000000",
            "zz",
            "p,q",
        ]
    );
}

#[test]
fn no_cut_or_changed_event_panics_or_runs_off() {
    let (map, row) = (table_map(), bytes(WRITE_ROWS));
    for cut in 0..map.len() {
        let _ = table_map::parse(&map[..cut], true);
    }
    for cut in 0..row.len() {
        // Behind the bitmaps it is an event without rows.
        assert!(body(23, &row[..cut]).is_err() || cut == 11, "cut at {cut}");
    }
    // Rows of no columns would never end.
    let mut nothing = row.clone();
    nothing[9..11].fill(0);
    assert!(body(23, &nothing).is_err());
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let (mut map, mut row) = (map.clone(), row.clone());
        for _ in 0..3 {
            let (at, value) = (random(map.len()), random(256) as u8);
            map[at] = value;
            let (at, value) = (random(row.len()), random(256) as u8);
            row[at] = value;
        }
        if let Ok(map) = table_map::parse(&map, true) {
            let _ = shape::fits(&map, &def(), &collations());
            let _ = shape::assemble(&map, &[&def()], &collations(), true);
        }
        for event in [23, 24, 25, 30, 31, 166, 168] {
            let _ = body(event, &row);
        }
        let _ = query::parse(2, &row);
        let _ = query::parse(165, &row);
        let _ = Bytes(&row).packed_bytes();
    }
}

#[test]
fn compressed_rows_are_the_same_rows() {
    use std::io::Write as _;
    let row = bytes(WRITE_ROWS);
    // Post-header, width and bitmap stay, the rest is compressed.
    let (head, rest) = row.split_at(8 + 1 + 2);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(rest).unwrap();
    let packed = encoder.finish().unwrap();
    let length = (rest.len() as u16).to_be_bytes();
    let event = [head, &[0x82], &length, &packed].concat();
    assert_eq!(body(166, &event).unwrap(), body(23, &row).unwrap());
    let wrong = [head, &[0x82], &[0, 9], &packed].concat();
    assert!(body(166, &wrong).is_err());
    let unknown = [head, &[0x92], &length, &packed].concat();
    assert!(body(166, &unknown).is_err());
}
