//! Row events: which columns each image has, and where a row's values lie.
//!
//! Post-header: table id (6 bytes), flags (2), and with version 2 the length of extra data and that data. Body: number of
//! columns, a bitmap of the columns present (two for an update), then per row and image a bitmap of NULLs among the present
//! columns and the values. MariaDB's compressed events have the head of version 1 and a compressed rest.

use std::borrow::Cow;
use std::io::Read as _;

use rowbridge_schema::wire::Op;

use super::bytes::{Broken, Bytes};

/// A row event's head and its rows.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub op: Op,
    /// Number of columns in the bitmaps.
    pub width: usize,
    /// Present columns of the image before, empty for an insert.
    pub before: Vec<bool>,
    /// Present columns of the image after, empty for a delete.
    pub after: Vec<bool>,
    pub body: Cow<'a, [u8]>,
}

/// What one byte of an event's type says of its rows.
pub(super) fn op_of(event: u8) -> Option<(Op, bool, bool)> {
    // type -> operation, version 2, compressed
    Some(match event {
        23 => (Op::Insert, false, false),
        24 => (Op::Update, false, false),
        25 => (Op::Delete, false, false),
        30 => (Op::Insert, true, false),
        31 => (Op::Update, true, false),
        32 => (Op::Delete, true, false),
        166 => (Op::Insert, false, true),
        167 => (Op::Update, false, true),
        168 => (Op::Delete, false, true),
        169 => (Op::Insert, true, true),
        170 => (Op::Update, true, true),
        171 => (Op::Delete, true, true),
        _ => return None,
    })
}

/// Longest inflated event that is taken: what a server may send whole.
const MAX_INFLATED: u64 = 1 << 30;

/// MariaDB's compressed bytes: `0x80 | algorithm << 4 | n`, the length in n bytes, big-endian, and a zlib stream.
pub(super) fn inflate(data: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut bytes = Bytes(data);
    let head = bytes.u8()?;
    if head & 0xe0 != 0x80 || head >> 4 & 7 != 0 {
        return Err(Broken("it is compressed by an algorithm that is not known"));
    }
    let length = bytes.uint_be(usize::from(head & 7))?;
    if length > MAX_INFLATED {
        return Err(Broken("its uncompressed length is beyond 1 GiB"));
    }
    // Only what is there takes memory: a length alone is not believed.
    let mut inflated = Vec::new();
    let read = flate2::read::ZlibDecoder::new(bytes.0).take(length + 1).read_to_end(&mut inflated);
    if read.is_err() || inflated.len() as u64 != length {
        return Err(Broken("it cannot be uncompressed"));
    }
    Ok(inflated)
}

fn bitmap(bytes: &mut Bytes<'_>, width: usize) -> Result<Vec<bool>, Broken> {
    let bits = bytes.take(width.div_ceil(8))?;
    Ok((0..width).map(|at| bits[at / 8] >> (at % 8) & 1 == 1).collect())
}

/// The table's id alone.
pub(super) fn table_of(data: &[u8]) -> Result<u64, Broken> {
    Bytes(data).uint(6)
}

/// Reads the head; `event` is one that [`op_of`] knows.
pub(super) fn parse(event: u8, data: &[u8]) -> Result<Rows<'_>, Broken> {
    let (op, second, compressed) = op_of(event).ok_or(Broken("it is no row event"))?;
    let mut bytes = Bytes(data);
    bytes.take(8)?;
    if second {
        let extra = usize::from(bytes.u16()?);
        bytes.take(extra.checked_sub(2).ok_or(Broken("its extra data has no length"))?)?;
    }
    let width = usize::try_from(bytes.packed()?).map_err(|_| Broken("it has too many columns"))?;
    let first = bitmap(&mut bytes, width)?;
    let (before, after) = match op {
        Op::Insert => (vec![], first),
        Op::Update => (first, bitmap(&mut bytes, width)?),
        _ => (first, vec![]),
    };
    if !before.iter().chain(&after).any(|present| *present) {
        return Err(Broken("its rows have no columns"));
    }
    let body = if compressed { Cow::Owned(inflate(bytes.0)?) } else { Cow::Borrowed(bytes.0) };
    Ok(Rows { op, width, before, after, body })
}

/// Reads which of the present columns are NULL. Calls `value` for each column in order with whether it is NULL.
pub(super) fn image(
    bytes: &mut Bytes<'_>,
    present: &[bool],
    mut value: impl FnMut(usize, bool, &mut Bytes<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let count = present.iter().filter(|present| **present).count();
    let nulls = bytes.take(count.div_ceil(8))?;
    let columns = present.iter().enumerate().filter(|(_, present)| **present);
    for (bit, (at, _)) in columns.enumerate() {
        let null = nulls[bit / 8] >> (bit % 8) & 1 == 1;
        value(at, null, bytes)?;
    }
    Ok(())
}
