//! What the columns of a table are at a point of the log.
//!
//! A table map says names, types, signs, charsets, labels and the primary key as they were when its rows were written; the
//! catalog says the rest (generated columns, exact types, types that travel as bytes), but as it is *now*. So a table map is
//! held against the catalog and the shapes that were known before, newest first. Where none fits as a whole, each column is
//! taken from one that has it; a column that nobody knows is described by the table map alone, if that is certain.

use std::sync::Arc;

use rowbridge_schema::{Column, Dialect, TableDef};

use super::catalog::{Collations, labels};
use super::table_map::{BINARY_COLLATION, MapColumn, TableMap, kind};
use super::value::{self, Charset, Decode, length_bytes};
use crate::journal::TableRef;

/// A table at a point of the log.
#[derive(Debug)]
pub(super) struct Shape {
    pub def: TableDef,
    pub table: Arc<TableRef>,
    pub decode: Vec<Decode>,
    /// Columns whose values are sent: all but the generated ones.
    pub sent: Vec<bool>,
    /// Columns of the key; those of the whole row for a table without one.
    pub identity: Vec<u16>,
    /// Columns of an old row that are sent, as far as the log has them: all of them, or those of `identity`.
    pub old: Vec<u16>,
    /// Columns by which a snapshot knows a row: the key, also where its rows are not told by it.
    pub noted: Vec<u16>,
    /// It was not certain then what the key was.
    pub doubtful: bool,
    /// The same with the key that it probably had, for rows that do not come with all of their values.
    pub keyed: Option<Arc<Shape>>,
    /// The server must convert some texts.
    pub foreign: bool,
    /// Rows of a transaction that is rolled back go.
    pub transactional: bool,
}

impl Shape {
    pub(super) fn new(def: TableDef, decode: Vec<Decode>, transactional: bool, old_rows: bool) -> Self {
        let sent: Vec<bool> = def.columns.iter().map(|column| column.generated.is_none()).collect();
        let identity = if def.key.is_empty() { def.sent_columns() } else { def.key.clone() };
        let old = if old_rows { def.sent_columns() } else { identity.clone() };
        let foreign = decode.iter().any(Decode::is_foreign);
        let (table, noted) = (Arc::new(TableRef::new(&def)), def.key.clone());
        let (doubtful, keyed) = (false, None);
        Self { table, decode, sent, identity, old, noted, doubtful, keyed, foreign, transactional, def }
    }

    /// A shape whose key is not certain; `keyless` says that there was no primary key.
    pub(super) fn doubtful(
        mut def: TableDef,
        decode: Vec<Decode>,
        transactional: bool,
        old_rows: bool,
        keyless: bool,
    ) -> Self {
        let mut keyed = None;
        let noted = def.key.clone();
        if keyless && !noted.is_empty() {
            keyed = Some(Arc::new(Self::new(def.clone(), decode.clone(), transactional, old_rows)));
            def.key.clear();
        }
        Self { noted, doubtful: true, keyed, ..Self::new(def, decode, transactional, old_rows) }
    }

    /// The shape for rows of which these columns were logged as they were before.
    pub(super) fn told_by(self: Arc<Self>, before: &[bool]) -> Arc<Self> {
        let all = || self.sent.iter().zip(before).all(|(sent, there)| *there || !sent);
        match &self.keyed {
            Some(keyed) if !before.is_empty() && !all() => Arc::clone(keyed),
            _ => self,
        }
    }

    /// Whether rows are told by all of their values although there is a key.
    pub(super) fn distrusts_key(&self) -> bool {
        self.def.key.is_empty() && !self.noted.is_empty()
    }
}

/// Decoders of the table's columns, if all are as the definition says, and so is the primary key. A unique index that is
/// the key instead is not in a table map.
pub(super) fn fits(map: &TableMap, def: &TableDef, collations: &Collations) -> Option<Vec<Decode>> {
    let same_key = || map.primary.iter().copied().eq(def.key.iter().map(|&at| usize::from(at)));
    if map.columns.len() != def.columns.len() || !map.primary.is_empty() && !same_key() {
        return None;
    }
    let columns = map.columns.iter().zip(&def.columns);
    columns
        .map(|(found, column)| {
            (found.name == column.name).then(|| column_fits(found, column, collations)).flatten()
        })
        .collect()
}

/// Type's first word, its arguments and whether it is unsigned.
fn parts(type_name: &str) -> (&str, Vec<u32>, bool) {
    let end = type_name.find(['(', ' ']).unwrap_or(type_name.len());
    let arguments = type_name[end..]
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inside, _)| inside.split(',').filter_map(|number| number.trim().parse().ok()).collect());
    (&type_name[..end], arguments.unwrap_or_default(), type_name.contains(" unsigned"))
}

/// The column's decoder, if the log's type is the one that the definition names.
fn column_fits(found: &MapColumn, column: &Column, collations: &Collations) -> Option<Decode> {
    let (base, arguments, unsigned) = parts(&column.type_name);
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    let plain = || value::plain(found.kind, found.meta, found.unsigned);
    let number = |code: u8| (found.kind == code && found.unsigned == unsigned).then(plain).flatten();
    let meta = u32::from(found.meta);
    let timed = |code: u8, old: u8| {
        let fits = found.kind == code && meta == argument(0) || found.kind == old && argument(0) == 0;
        fits.then(plain).flatten()
    };
    let bytes = found.collation.is_none_or(|id| id == BINARY_COLLATION);
    let charset = || {
        let (name, charset) = collations.get(found.collation?)?;
        (Some(name) == column.collation.as_deref()).then_some(charset)
    };
    let length = length_bytes(found.meta);
    let fixed =
        |size: u16, decode: Decode| (found.kind == kind::STRING && found.meta == size).then_some(decode);
    match base {
        "tinyint" => number(kind::TINY),
        "smallint" => number(kind::SHORT),
        "mediumint" => number(kind::INT24),
        "int" => number(kind::LONG),
        "bigint" => number(kind::LONGLONG),
        "float" => number(kind::FLOAT),
        "double" => number(kind::DOUBLE),
        "decimal" => {
            let same = meta >> 8 == argument(0) && meta & 0xff == argument(1);
            number(kind::NEWDECIMAL).filter(|_| same)
        }
        "bit" => (found.kind == kind::BIT && meta == argument(0).max(1)).then(plain).flatten(),
        "year" => (found.kind == kind::YEAR).then(plain).flatten(),
        "date" => matches!(found.kind, kind::DATE | kind::NEWDATE).then(plain).flatten(),
        "time" => timed(kind::TIME2, kind::TIME),
        "datetime" => timed(kind::DATETIME2, kind::DATETIME),
        "timestamp" => timed(kind::TIMESTAMP2, kind::TIMESTAMP),
        "char" => {
            let charset = charset()?;
            (found.kind == kind::STRING && meta == argument(0) * charset.max_len).then(|| Decode::Text {
                length,
                charset: Charset::named(&charset.name),
                compressed: false,
                trim: true,
            })
        }
        "varchar" => {
            let charset = charset()?;
            let compressed = found.kind == kind::VARCHAR_COMPRESSED;
            let size = argument(0) * charset.max_len;
            let fits = found.kind == kind::VARCHAR && meta == size || compressed && meta.abs_diff(size) <= 1;
            fits.then(|| Decode::Text {
                length,
                charset: Charset::named(&charset.name),
                compressed,
                trim: false,
            })
        }
        "tinytext" | "text" | "mediumtext" | "longtext" => {
            let charset = charset()?;
            let compressed = found.kind == kind::BLOB_COMPRESSED;
            ((found.kind == kind::BLOB || compressed) && meta == blob_width(base)).then(|| Decode::Text {
                length: usize::from(found.meta),
                charset: Charset::named(&charset.name),
                compressed,
                trim: false,
            })
        }
        "binary" => (found.kind == kind::STRING && bytes && meta == argument(0)).then(|| Decode::Binary {
            length,
            fill: usize::from(found.meta),
            compressed: false,
        }),
        "varbinary" => {
            let compressed = found.kind == kind::VARCHAR_COMPRESSED;
            let size = argument(0);
            let fits = found.kind == kind::VARCHAR && meta == size || compressed && meta.abs_diff(size) <= 1;
            (fits && bytes).then_some(Decode::Binary { length, fill: 0, compressed })
        }
        "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            let compressed = found.kind == kind::BLOB_COMPRESSED;
            let fits = (found.kind == kind::BLOB || compressed) && bytes && meta == blob_width(base);
            fits.then_some(Decode::Binary { length: usize::from(found.meta), fill: 0, compressed })
        }
        "enum" | "set" => {
            let (code, width) =
                (if base == "enum" { kind::ENUM } else { kind::SET }, usize::from(found.meta));
            let charset = charset()?;
            let labels = labels(&column.type_name);
            let same = labels.len() == found.labels.len()
                && match label_texts(found, &charset.name) {
                    Some(texts) => texts == labels,
                    // The server converts values, not labels; those that are not plain ASCII are trusted to the rest.
                    None => true,
                };
            let decode = if code == kind::ENUM {
                Decode::Enum { width, labels }
            } else {
                Decode::Set { width, labels }
            };
            (found.kind == code && same).then_some(decode)
        }
        "json" => (found.kind == kind::JSON).then(plain).flatten(),
        "vector" => match found.kind {
            kind::VECTOR => plain(),
            kind::VARCHAR if bytes && meta == 4 * argument(0) => Some(Decode::Vector { length }),
            _ => None,
        },
        "uuid" => fixed(16, Decode::Uuid),
        "inet6" => fixed(16, Decode::Inet6),
        "inet4" => fixed(4, Decode::Inet4),
        _ => {
            let at = GEOMETRIES.iter().position(|name| *name == base)?;
            let same = found.geometry.is_none_or(|code| code == at as u64);
            (found.kind == kind::GEOMETRY && same).then(plain).flatten()
        }
    }
}

/// Geometry types by their code; MySQL 8 says `geomcollection` for the last one.
const GEOMETRIES: [&str; 9] = [
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
];

fn blob_width(base: &str) -> u32 {
    match base {
        "tinytext" | "tinyblob" => 1,
        "text" | "blob" => 2,
        "mediumtext" | "mediumblob" => 3,
        _ => 4,
    }
}

/// Labels as text, where that needs no server.
fn label_texts(found: &MapColumn, charset: &str) -> Option<Vec<String>> {
    let text = |label: &Vec<u8>| match Charset::named(charset) {
        Charset::Utf8 => String::from_utf8(label.clone()).ok(),
        Charset::Latin1 => {
            let mut text = String::new();
            value::latin1(label, &mut text);
            Some(text)
        }
        Charset::Foreign(_) => None,
    };
    found.labels.iter().map(text).collect()
}

/// A column as the table map alone describes it; `None` where that is not certain.
fn derived(found: &MapColumn, collations: &Collations, mariadb: bool) -> Option<Column> {
    let sign = if found.unsigned { " unsigned" } else { "" };
    let meta = found.meta;
    let digits = |name: &str| if meta == 0 { name.to_owned() } else { format!("{name}({meta})") };
    let bytes = found.collation.is_none_or(|id| id == BINARY_COLLATION);
    let collation = found.collation.and_then(|id| collations.get(id));
    let mut column = Column {
        name: found.name.clone(),
        type_name: String::new(),
        not_null: !found.nullable,
        generated: None,
        collation: collation.filter(|_| !bytes).map(|(name, _)| name.to_owned()),
    };
    let characters = |size: u16| collation.map(|(_, charset)| u32::from(size) / charset.max_len.max(1));
    let quoted = |name: &str| -> Option<String> {
        let texts = label_texts(found, &collation?.1.name)?;
        let texts: Vec<String> = texts.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
        Some(format!("{name}({})", texts.join(",")))
    };
    let sized =
        |names: [&str; 4]| names.get(usize::from(meta).checked_sub(1)?).map(|name| (*name).to_owned());
    column.type_name = match found.kind {
        kind::TINY => format!("tinyint{sign}"),
        kind::SHORT => format!("smallint{sign}"),
        kind::INT24 => format!("mediumint{sign}"),
        kind::LONG => format!("int{sign}"),
        kind::LONGLONG => format!("bigint{sign}"),
        kind::FLOAT => format!("float{sign}"),
        kind::DOUBLE => format!("double{sign}"),
        kind::NEWDECIMAL => format!("decimal({},{}){sign}", meta >> 8, meta & 0xff),
        kind::BIT => format!("bit({meta})"),
        kind::YEAR => "year(4)".to_owned(),
        kind::DATE | kind::NEWDATE => "date".to_owned(),
        // MariaDB's old forms have other lengths with a fraction, and the table map does not say.
        kind::TIME | kind::DATETIME | kind::TIMESTAMP if mariadb => return None,
        kind::TIME | kind::TIME2 => digits("time"),
        kind::DATETIME | kind::DATETIME2 => digits("datetime"),
        kind::TIMESTAMP | kind::TIMESTAMP2 => digits("timestamp"),
        kind::JSON => "json".to_owned(),
        kind::GEOMETRY => (*GEOMETRIES.get(found.geometry? as usize)?).to_owned(),
        // UUID and the addresses travel as bytes of these lengths.
        kind::STRING if bytes && mariadb && matches!(meta, 4 | 16) => return None,
        kind::STRING if bytes => format!("binary({meta})"),
        kind::STRING => format!("char({})", characters(meta)?),
        // So does MariaDB's vector.
        kind::VARCHAR if bytes && mariadb && meta.is_multiple_of(4) => return None,
        kind::VARCHAR if bytes => format!("varbinary({meta})"),
        kind::VARCHAR => format!("varchar({})", characters(meta)?),
        kind::BLOB if bytes => sized(["tinyblob", "blob", "mediumblob", "longblob"])?,
        kind::BLOB => sized(["tinytext", "text", "mediumtext", "longtext"])?,
        kind::ENUM => quoted("enum")?,
        kind::SET => quoted("set")?,
        _ => return None,
    };
    Some(column)
}

fn unknown(found: &MapColumn) -> String {
    match found.kind {
        kind::TIME | kind::DATETIME | kind::TIMESTAMP => format!(
            "column {0} has a fraction of a second in the format of MariaDB 5.3, or is not there any more; with \
             mysql56_temporal_format = ON, ALTER TABLE ... FORCE changes it to the present format",
            found.name
        ),
        _ => format!("nobody knows any more what column {} was", found.name),
    }
}

/// The shape that none of the known ones is, put together column by column; else which column is not certain.
pub(super) fn assemble(
    map: &TableMap,
    known: &[&TableDef],
    collations: &Collations,
    mariadb: bool,
) -> Result<(TableDef, Vec<Decode>), String> {
    let mut columns = Vec::with_capacity(map.columns.len());
    let mut decode = Vec::with_capacity(map.columns.len());
    for found in &map.columns {
        let same = known.iter().flat_map(|def| &def.columns).filter(|column| column.name == found.name);
        let mut fitting =
            same.filter_map(|column| Some((column.clone(), column_fits(found, column, collations)?)));
        let (column, reads) = fitting
            .next()
            .map(|(column, reads)| (Column { not_null: !found.nullable, ..column }, reads))
            .or_else(|| {
                let column = derived(found, collations, mariadb)?;
                let reads = column_fits(found, &column, collations)?;
                Some((column, reads))
            })
            .ok_or_else(|| unknown(found))?;
        columns.push(column);
        decode.push(reads);
    }
    let at = |name: &str| columns.iter().position(|column| column.name == name);
    let mut key: Vec<u16> = map.primary.iter().map(|at| *at as u16).collect();
    if key.is_empty() {
        // A unique index counts as long as its columns are there; table maps do not name it.
        let names = |def: &TableDef| -> Option<Vec<u16>> {
            let column = |key: &u16| def.columns.get(usize::from(*key));
            let whole = |at: &usize| columns[*at].not_null && columns[*at].generated.is_none();
            def.key.iter().map(|key| at(&column(key)?.name).filter(whole).map(|at| at as u16)).collect()
        };
        key = known.first().and_then(|def| names(def)).unwrap_or_default();
    }
    let def = TableDef {
        dialect: Dialect::Mysql,
        name: map.name.clone(),
        columns,
        key,
        types: vec![],
        options: vec![],
    };
    Ok((def, decode))
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::TableName;

    use super::*;

    fn collations() -> Collations {
        Collations::of(&[
            (8, "latin1_swedish_ci", "latin1", 1),
            (45, "utf8mb4_general_ci", "utf8mb4", 4),
            (28, "gbk_chinese_ci", "gbk", 2),
            (63, "binary", "binary", 1),
        ])
    }

    fn found(name: &str, code: u8, meta: u16) -> MapColumn {
        MapColumn { kind: code, meta, name: name.to_owned(), ..MapColumn::default() }
    }

    fn column(name: &str, type_name: &str, collation: Option<&str>) -> Column {
        Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            not_null: true,
            generated: None,
            collation: collation.map(str::to_owned),
        }
    }

    fn def(columns: Vec<Column>, key: Vec<u16>) -> TableDef {
        let name = TableName::new("shop", "t");
        TableDef { dialect: Dialect::Mysql, name, columns, key, types: vec![], options: vec![] }
    }

    fn map(columns: Vec<MapColumn>) -> TableMap {
        TableMap { id: 1, name: TableName::new("shop", "t"), columns, primary: vec![0], named: true }
    }

    #[test]
    fn a_moved_or_retyped_column_does_not_fit() {
        let text = MapColumn { collation: Some(45), ..found("b", kind::VARCHAR, 80) };
        let now = def(
            vec![column("a", "int(11)", None), column("b", "varchar(20)", Some("utf8mb4_general_ci"))],
            vec![0],
        );
        let then = map(vec![found("a", kind::LONG, 0), text.clone()]);
        assert!(fits(&then, &now, &collations()).is_some());
        let moved = map(vec![text.clone(), found("a", kind::LONG, 0)]);
        assert!(fits(&moved, &now, &collations()).is_none());
        let unsigned = MapColumn { unsigned: true, ..found("a", kind::LONG, 0) };
        assert!(fits(&map(vec![unsigned, text.clone()]), &now, &collations()).is_none());
        let wider = MapColumn { meta: 84, ..text.clone() };
        assert!(fits(&map(vec![found("a", kind::LONG, 0), wider]), &now, &collations()).is_none());
        let other = MapColumn { collation: Some(8), ..text };
        assert!(fits(&map(vec![found("a", kind::LONG, 0), other]), &now, &collations()).is_none());
    }

    #[test]
    fn a_key_that_came_went_or_moved_does_not_fit() {
        let columns = || vec![column("a", "int(11)", None), column("b", "int(11)", None)];
        let logged = |primary: &[usize]| TableMap {
            primary: primary.to_vec(),
            ..map(vec![found("a", kind::LONG, 0), found("b", kind::LONG, 0)])
        };
        let fits = |primary: &[usize], key: &[u16]| {
            fits(&logged(primary), &def(columns(), key.to_vec()), &collations()).is_some()
        };
        assert!(fits(&[0], &[0]) && fits(&[1, 0], &[1, 0]) && fits(&[], &[]));
        assert!(!fits(&[0], &[]) && !fits(&[0], &[1]) && !fits(&[0, 1], &[1, 0]) && !fits(&[0], &[0, 1]));
        assert!(fits(&[], &[1]), "the key is a unique index");
        let keyless = def(columns(), vec![]);
        let (shape, _) = assemble(&logged(&[1, 0]), &[&keyless], &collations(), true).unwrap();
        assert_eq!(shape.key, [1, 0]);
    }

    #[test]
    fn an_old_shape_is_put_together_from_what_is_known() {
        let mut generated = column("g", "int(11)", None);
        generated.generated = Some("`a` + 1".into());
        let now =
            def(vec![column("a", "int(11)", None), generated, column("c", "bigint(20)", None)], vec![0]);
        let labelled =
            MapColumn { labels: vec![b"x'y".to_vec()], collation: Some(8), ..found("e", kind::ENUM, 1) };
        let then = map(vec![
            labelled,
            MapColumn { nullable: true, ..found("g", kind::LONG, 0) },
            found("c", kind::LONG, 0),
            found("a", kind::LONG, 0),
        ]);
        let then = TableMap { primary: vec![3], ..then };
        let (shape, decode) = assemble(&then, &[&now], &collations(), true).unwrap();
        let types: Vec<&str> = shape.columns.iter().map(|column| column.type_name.as_str()).collect();
        assert_eq!(types, ["enum('x''y')", "int(11)", "int", "int(11)"]);
        assert!(shape.columns[1].generated.is_some() && !shape.columns[1].not_null);
        assert_eq!((shape.key.as_slice(), decode.len()), (&[3][..], 4));
    }

    #[test]
    fn a_key_that_is_not_certain_is_used_only_where_nothing_else_tells_a_row() {
        let def = def(vec![column("a", "int(11)", None), column("b", "int(11)", None)], vec![1]);
        let shape = |keyless| Arc::new(Shape::doubtful(def.clone(), vec![], true, false, keyless));
        let doubtful = shape(true);
        assert!(doubtful.distrusts_key() && doubtful.def.key.is_empty() && doubtful.noted == [1]);
        assert_eq!(doubtful.clone().told_by(&[true, true]).identity, [0, 1]);
        assert_eq!(doubtful.clone().told_by(&[]).identity, [0, 1]);
        assert_eq!(doubtful.told_by(&[false, true]).identity, [1]);
        let certain = shape(false);
        assert!(!certain.distrusts_key() && certain.told_by(&[false, true]).def.key == [1]);
    }

    #[test]
    fn what_travels_as_bytes_is_not_guessed() {
        let bytes = MapColumn { collation: Some(63), ..found("u", kind::STRING, 16) };
        let map = map(vec![bytes]);
        assert!(assemble(&map, &[], &collations(), true).is_err());
        assert!(assemble(&map, &[], &collations(), false).is_ok());
        let known = def(vec![column("u", "uuid", None)], vec![]);
        let (_, decode) = assemble(&map, &[&known], &collations(), true).unwrap();
        assert_eq!(decode, [Decode::Uuid]);
    }
}
