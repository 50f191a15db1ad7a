//! SQLite values as cells, keys and the other way.

use std::borrow::Cow;

use rowbridge_schema::sqlite_type::{natural_class, parse_hex, parse_real, push_hex, push_real};
use rowbridge_schema::wire::RowWriter;
use rowbridge_schema::{Cell, Column, StorageClass};
use rusqlite::types::{Value, ValueRef};

/// The class and text of a value; `None` for NULL. Text that needs no change is borrowed.
pub(crate) fn text(value: ValueRef<'_>) -> Option<(StorageClass, Cow<'_, str>)> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => (StorageClass::Integer, Cow::Owned(number.to_string())),
        ValueRef::Real(number) => {
            let mut out = String::new();
            push_real(&mut out, number);
            (StorageClass::Real, Cow::Owned(out))
        }
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (StorageClass::Text, Cow::Borrowed(text)),
            Err(_) => (StorageClass::RawText, Cow::Owned(hex(bytes))),
        },
        ValueRef::Blob(bytes) => (StorageClass::Blob, Cow::Owned(hex(bytes))),
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    push_hex(&mut out, bytes);
    out
}

/// The cell of a value in a column whose natural class is `natural`.
pub(crate) fn cell(natural: StorageClass, value: ValueRef<'_>) -> Cell<'_> {
    match text(value) {
        None => Cell::Null,
        Some((class, text)) if class == natural => Cell::Text(text),
        Some((class, text)) => Cell::Classed(class, text),
    }
}

/// Writes the cell of a value.
pub(crate) fn write(row: &mut RowWriter<'_>, natural: StorageClass, value: ValueRef<'_>) {
    row.cell(&cell(natural, value));
}

/// The text of a key column.
pub(crate) fn key_text(value: ValueRef<'_>) -> String {
    text(value).map(|(_, text)| text.into_owned()).unwrap_or_default()
}

/// Whether two values are the same in class and bits; SQL's `=` calls 1 and 1.0, or 'a' and 'A', equal.
pub(crate) fn same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// What a key's text may stand for, in SQLite's order (numbers, text, blobs). A key carries no class, so a column that
/// takes any class may have several readings; the first is the lowest.
pub(crate) fn readings(column: &Column, text: &str) -> Vec<Value> {
    let natural = natural_class(&column.type_name);
    let mut all = Vec::new();
    if natural != StorageClass::Text {
        if let Ok(number) = text.parse::<i64>() {
            all.push(Value::Integer(number));
        } else if let Some(number) = parse_real(text) {
            all.push(Value::Real(number));
        }
    }
    let settled = natural == StorageClass::Integer && matches!(all[..], [Value::Integer(_)]);
    if !settled {
        all.push(Value::Text(text.to_owned()));
        all.extend(parse_hex(text).map(Value::Blob));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_the_column_carries_its_class() {
        assert_eq!(
            cell(StorageClass::Integer, ValueRef::Integer(i64::MIN)),
            Cell::text("-9223372036854775808")
        );
        assert_eq!(
            cell(StorageClass::Integer, ValueRef::Text(b"x")),
            Cell::Classed(StorageClass::Text, "x".into())
        );
        assert_eq!(cell(StorageClass::Text, ValueRef::Text(b"a\0b")), Cell::text("a\0b"));
        assert_eq!(
            cell(StorageClass::Text, ValueRef::Text(b"\xff")),
            Cell::Classed(StorageClass::RawText, "ff".into())
        );
        assert_eq!(cell(StorageClass::Blob, ValueRef::Blob(b"\x00\xff")), Cell::text("00ff"));
        assert_eq!(cell(StorageClass::Real, ValueRef::Null), Cell::Null);
        assert!(!same(ValueRef::Real(0.0), ValueRef::Real(-0.0)));
        assert!(!same(ValueRef::Integer(1), ValueRef::Real(1.0)));
    }

    #[test]
    fn a_key_is_read_back_in_every_way_that_it_may_mean() {
        let column = |type_name: &str| Column { not_null: true, ..Column::new("k", type_name) };
        assert_eq!(readings(&column("INTEGER"), "12"), [Value::Integer(12)]);
        assert_eq!(readings(&column("TEXT"), "12"), [Value::Text("12".into()), Value::Blob(vec![0x12])]);
        assert_eq!(
            readings(&column(""), "12"),
            [Value::Integer(12), Value::Text("12".into()), Value::Blob(vec![0x12])]
        );
    }
}
