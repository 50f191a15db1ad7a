//! TABLE_MAP events: a table's shape as the server had it when it wrote the rows that follow.
//!
//! Post-header: table id (6 bytes), flags (2). Body: database and table as length, bytes, NUL; number of columns; one type
//! byte each; their metadata; a bitmap of nullable columns; then, with `binlog_row_metadata = FULL`, optional fields as type,
//! length, value. Sources: MySQL `libbinlogevents/include/rows_event.h` (class `Table_map_event`), MariaDB `sql/log_event.h`.

use rowbridge_schema::TableName;

use super::bytes::{Broken, Bytes, utf8};

/// Column types as the log has them (`enum_field_types`).
pub(super) mod kind {
    pub(in super::super) const TINY: u8 = 1;
    pub(in super::super) const SHORT: u8 = 2;
    pub(in super::super) const LONG: u8 = 3;
    pub(in super::super) const FLOAT: u8 = 4;
    pub(in super::super) const DOUBLE: u8 = 5;
    pub(in super::super) const TIMESTAMP: u8 = 7;
    pub(in super::super) const LONGLONG: u8 = 8;
    pub(in super::super) const INT24: u8 = 9;
    pub(in super::super) const DATE: u8 = 10;
    pub(in super::super) const TIME: u8 = 11;
    pub(in super::super) const DATETIME: u8 = 12;
    pub(in super::super) const YEAR: u8 = 13;
    pub(in super::super) const NEWDATE: u8 = 14;
    pub(in super::super) const VARCHAR: u8 = 15;
    pub(in super::super) const BIT: u8 = 16;
    pub(in super::super) const TIMESTAMP2: u8 = 17;
    pub(in super::super) const DATETIME2: u8 = 18;
    pub(in super::super) const TIME2: u8 = 19;
    /// MariaDB: a `COMPRESSED` column.
    pub(in super::super) const BLOB_COMPRESSED: u8 = 140;
    /// MariaDB: a `COMPRESSED` column.
    pub(in super::super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(in super::super) const VECTOR: u8 = 242;
    pub(in super::super) const JSON: u8 = 245;
    pub(in super::super) const NEWDECIMAL: u8 = 246;
    pub(in super::super) const ENUM: u8 = 247;
    pub(in super::super) const SET: u8 = 248;
    pub(in super::super) const BLOB: u8 = 252;
    pub(in super::super) const STRING: u8 = 254;
    pub(in super::super) const GEOMETRY: u8 = 255;
}

/// The collation number of bytes.
pub(super) const BINARY_COLLATION: u64 = 63;

/// One column of a table map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MapColumn {
    /// Real type: ENUM and SET are told from STRING.
    pub kind: u8,
    /// What the type needs: bytes of the longest value (strings), of the length (blobs) or of the number (ENUM, SET), bits,
    /// digits of a second's fraction, precision << 8 | scale.
    pub meta: u16,
    pub nullable: bool,
    pub unsigned: bool,
    /// Collation number of a text or label column.
    pub collation: Option<u64>,
    pub name: String,
    /// Labels of ENUM and SET, in the column's charset.
    pub labels: Vec<Vec<u8>>,
    /// Which geometry.
    pub geometry: Option<u64>,
}

impl MapColumn {
    /// Whether the server says a sign for it.
    fn has_sign(&self) -> bool {
        matches!(
            self.kind,
            kind::TINY
                | kind::SHORT
                | kind::INT24
                | kind::LONG
                | kind::LONGLONG
                | kind::YEAR
                | kind::NEWDECIMAL
                | kind::FLOAT
                | kind::DOUBLE
        )
    }

    /// Whether the server says a charset for it. MariaDB counts geometries among them, MySQL does not.
    fn has_charset(&self, geometry: bool) -> bool {
        matches!(
            self.kind,
            kind::STRING
                | kind::VARCHAR
                | kind::BLOB
                | kind::VECTOR
                | kind::BLOB_COMPRESSED
                | kind::VARCHAR_COMPRESSED
        ) || (geometry && self.kind == kind::GEOMETRY)
    }

    fn has_labels(&self) -> bool {
        matches!(self.kind, kind::ENUM | kind::SET)
    }
}

/// A table map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableMap {
    pub id: u64,
    pub name: TableName,
    pub columns: Vec<MapColumn>,
    /// Columns of the primary key, if metadata names one.
    pub primary: Vec<usize>,
    /// Whether the columns have names.
    pub named: bool,
}

/// The table's id and name alone: what is needed to pass a table that is not captured.
pub(super) fn head(data: &[u8]) -> Result<(u64, TableName, Bytes<'_>), Broken> {
    let mut bytes = Bytes(data);
    let id = bytes.uint(6)?;
    bytes.u16()?;
    let mut name = || -> Result<String, Broken> {
        let length = usize::from(bytes.u8()?);
        let name = utf8(bytes.take(length)?)?.to_owned();
        bytes.u8()?;
        Ok(name)
    };
    let (database, table) = (name()?, name()?);
    Ok((id, TableName::new(database, table), bytes))
}

/// Reads a table map whole.
pub(super) fn parse(data: &[u8], mariadb: bool) -> Result<TableMap, Broken> {
    let (id, name, mut bytes) = head(data)?;
    let count = usize::try_from(bytes.packed()?).map_err(|_| Broken("it has too many columns"))?;
    let kinds = bytes.take(count)?;
    let mut metadata = Bytes(bytes.packed_bytes()?);
    let mut columns: Vec<MapColumn> =
        kinds.iter().map(|kind| column(*kind, &mut metadata)).collect::<Result<_, _>>()?;
    let nullable = bytes.take(count.div_ceil(8))?;
    for (at, column) in columns.iter_mut().enumerate() {
        column.nullable = nullable[at / 8] >> (at % 8) & 1 == 1;
    }
    let mut map = TableMap { id, name, columns, primary: vec![], named: false };
    while !bytes.is_empty() {
        let field = bytes.u8()?;
        let value = Bytes(bytes.packed_bytes()?);
        optional(&mut map, field, value, mariadb)?;
    }
    Ok(map)
}

fn column(code: u8, metadata: &mut Bytes<'_>) -> Result<MapColumn, Broken> {
    let mut column = MapColumn { kind: code, ..MapColumn::default() };
    column.meta = match code {
        kind::TINY
        | kind::SHORT
        | kind::INT24
        | kind::LONG
        | kind::LONGLONG
        | kind::YEAR
        | kind::DATE
        | kind::NEWDATE
        | kind::TIME
        | kind::DATETIME
        | kind::TIMESTAMP => 0,
        kind::FLOAT
        | kind::DOUBLE
        | kind::BLOB
        | kind::BLOB_COMPRESSED
        | kind::GEOMETRY
        | kind::JSON
        | kind::VECTOR
        | kind::TIME2
        | kind::DATETIME2
        | kind::TIMESTAMP2 => u16::from(metadata.u8()?),
        kind::VARCHAR | kind::VARCHAR_COMPRESSED => metadata.u16()?,
        kind::NEWDECIMAL => metadata.uint_be(2)? as u16,
        kind::BIT => {
            let (bits, whole) = (metadata.u8()?, metadata.u8()?);
            u16::from(whole) * 8 + u16::from(bits)
        }
        kind::STRING | kind::ENUM | kind::SET => {
            let (first, second) = (metadata.u8()?, u16::from(metadata.u8()?));
            // A CHAR beyond 255 bytes keeps two bits of its length, inverted, in the type.
            if first & 0x30 == 0x30 {
                column.kind = first;
                second
            } else {
                column.kind = first | 0x30;
                second | u16::from(first & 0x30 ^ 0x30) << 4
            }
        }
        _ => return Err(Broken("a column has a type that is not known")),
    };
    if !matches!(column.kind, kind::STRING | kind::ENUM | kind::SET) && code == kind::STRING {
        return Err(Broken("a text column has a type that is not known"));
    }
    Ok(column)
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

fn optional(map: &mut TableMap, field: u8, mut value: Bytes<'_>, mariadb: bool) -> Result<(), Broken> {
    let columns = &mut map.columns;
    match field {
        1 => {
            let signed: Vec<&mut MapColumn> = columns.iter_mut().filter(|column| column.has_sign()).collect();
            if value.0.len() != signed.len().div_ceil(8) {
                return Err(Broken("its signs are not those of its columns"));
            }
            for (at, column) in signed.into_iter().enumerate() {
                column.unsigned = bit(value.0, at);
            }
        }
        2 | 10 => {
            let wanted = |column: &&mut MapColumn| {
                if field == 2 { column.has_charset(mariadb) } else { column.has_labels() }
            };
            let default = value.packed()?;
            let mut texts: Vec<&mut MapColumn> = columns.iter_mut().filter(wanted).collect();
            texts.iter_mut().for_each(|column| column.collation = Some(default));
            while !value.is_empty() {
                let at = value.packed()? as usize;
                let collation = value.packed()?;
                let column = texts.get_mut(at).ok_or(Broken("a charset has no column"))?;
                column.collation = Some(collation);
            }
        }
        3 | 11 => {
            let wanted = |column: &&mut MapColumn| {
                if field == 3 { column.has_charset(mariadb) } else { column.has_labels() }
            };
            for column in columns.iter_mut().filter(wanted) {
                column.collation = Some(value.packed()?);
            }
            // One too many is a kind of column that we do not count: all behind it would have another's charset.
            if !value.is_empty() {
                return Err(Broken("its charsets are not those of its columns"));
            }
        }
        4 => {
            for column in columns.iter_mut() {
                column.name = utf8(value.packed_bytes()?)?.to_owned();
            }
            map.named = true;
        }
        5 | 6 => {
            let wanted = if field == 5 { kind::SET } else { kind::ENUM };
            for column in columns.iter_mut().filter(|column| column.kind == wanted) {
                let count = value.packed()?;
                column.labels =
                    (0..count).map(|_| value.packed_bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
            }
        }
        7 => {
            for column in columns.iter_mut().filter(|column| column.kind == kind::GEOMETRY) {
                column.geometry = Some(value.packed()?);
            }
        }
        8 | 9 => {
            while !value.is_empty() {
                let at = value.packed()? as usize;
                if field == 9 {
                    value.packed()?;
                }
                if at >= columns.len() {
                    return Err(Broken("a key has no column"));
                }
                map.primary.push(at);
            }
        }
        // Visibility (12), dimensions of vectors (13), and what later servers add besides: rows are read without.
        _ => {}
    }
    Ok(())
}
