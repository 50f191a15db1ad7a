//! Entry points for what a MySQL or MariaDB server sends; see [`crate::fuzz`].

use std::sync::Arc;

use mysql_async::binlog::events::{Event, FormatDescriptionEvent, GtidEvent};
use mysql_async::binlog::{BinlogVersion, EventType};
use rowbridge_schema::{Position, wire};

use super::bytes::Bytes;
use super::catalog::Collations;
use super::gtid::ResumePoint;
use super::shape::{self, Shape};
use super::transaction::{self, Transaction};
use super::value::Converted;
use super::{json as binary_json, query, rows, table_map};
use crate::capture::TxToken;
use crate::journal::Resume;

/// Bytes of an event's header.
const HEADER: usize = 19;

/// A row event under a table map: flags (1 MariaDB, 2 whole old rows), the row event's type, the length of the table map's
/// data in two bytes, that data, and the row event's data.
pub fn binlog(data: &[u8]) {
    let mut input = Bytes(data);
    let (Ok(flags), Ok(kind), Ok(length)) = (input.u8(), input.u8(), input.u16()) else { return };
    let Ok(map) = input.take(usize::from(length)) else { return };
    let mariadb = flags & 1 != 0;
    if let Ok((id, name, _)) = table_map::head(map)
        && let Ok(map) = table_map::parse(map, mariadb)
    {
        assert_eq!((id, &name), (map.id, &map.name), "the head alone says something else");
    }
    let _ = rows::table_of(input.0);
    let (Ok(map), Ok(read)) = (table_map::parse(map, mariadb), rows::parse(kind, input.0)) else { return };
    let collations = Collations::of(&[
        (8, "latin1_swedish_ci", "latin1", 1),
        (45, "utf8mb4_general_ci", "utf8mb4", 4),
        (28, "gbk_chinese_ci", "gbk", 2),
        (63, "binary", "binary", 1),
    ]);
    let Ok((def, decode)) = shape::assemble(&map, &[], &collations, mariadb) else { return };
    assert_eq!(def.columns.len(), decode.len());
    if def.columns.len() > usize::from(u16::MAX) {
        return;
    }
    let shape = Arc::new(Shape::new(def, decode, true, flags & 2 != 0)).told_by(&read.before);
    let mut converted = Converted::default();
    let looked = transaction::look(&read, &shape, &mut converted);
    for (charset, bytes) in std::mem::take(&mut converted.missing) {
        converted.add(charset, bytes, "converted".to_owned());
    }
    let mut transaction = Transaction::begin(TxToken::Xid(1), Position::new(1, 42, 0), 0);
    let taken = transaction.rows(&read, &shape, true, &mut converted);
    assert!(looked.is_ok() || taken.is_err(), "what could not be looked at was taken");
    if taken.is_err() {
        return;
    }
    let Some(captured) = transaction.commit(Resume("".into())) else { return };
    for run in &captured.block.runs {
        let json = &captured.block.body[run.start as usize..run.end as usize];
        let run_read = wire::read_run(json).expect("what is captured can be sent");
        assert_eq!(run_read.changes(), run.count as usize);
    }
}

/// An event as it comes in, with a header: type, then its data. What the client's library reads, and GTIDs.
pub fn event(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    // Checksums come first, so that nothing of this is reached by bits that flipped on the way.
    let size = u32::try_from(HEADER + data.len()).expect("inputs are small");
    let mut bytes = vec![0; 4];
    bytes.push(kind);
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(42_u32.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    // The library's own panics are caught where a stream is read, and would end a fuzzer here.
    if kind == EventType::FORMAT_DESCRIPTION_EVENT as u8 {
        return;
    }
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let Ok(event) = Event::read(&format, &bytes[..]) else { return };
    if let Ok(gtid) = event.read_event::<GtidEvent>() {
        let tag = gtid.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        let _ = super::gtid::token_server(gtid.sid(), &tag);
    }
    let _ = super::group::xid(&mut Bytes(event.data()));
}

/// The body of a column of MySQL's binary JSON.
pub fn json(data: &[u8]) {
    let mut out = String::new();
    if binary_json::print(data, &mut out).is_ok() {
        // An escape of a control character is the longest that a byte becomes; numbers have a type byte at least.
        assert!(out.len() <= 64 + 400 * data.len(), "{} bytes of {}", out.len(), data.len());
    }
}

/// A statement (event type, then the event's data), and the same bytes as a resume point.
pub fn statement(data: &[u8]) {
    if let Some((&kind, data)) = data.split_first()
        && let Ok(query) = query::parse(kind, data)
    {
        let read = query::read(&query);
        let _ = (read.names(), read.is_about_an_index());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for mariadb in [false, true] {
            if let Ok(point) = ResumePoint::parse(mariadb, text) {
                let again = ResumePoint::parse(mariadb, &point.to_string());
                assert_eq!(again.as_ref(), Ok(&point), "a resume point shows itself as another");
            }
        }
    }
}
