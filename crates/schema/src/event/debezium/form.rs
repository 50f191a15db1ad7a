//! Which of Debezium's schema types a column's values take under the connectors' default settings.

use crate::table::{Dialect, TypeDefinition};
use crate::types::{ColumnType, Kind};

/// How a value is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    /// JSON integer; above 2^63 - 1 it wraps, as `bigint.unsigned.handling.mode=long` has it.
    Integer,
    Float32,
    Float64,
    /// `org.apache.kafka.connect.data.Decimal`: base64 of the unscaled value, whose scale only the schema tells.
    Decimal(i32),
    /// `io.debezium.data.VariableScaleDecimal`
    VariableDecimal,
    /// A decimal of scale 2.
    Money,
    Text,
    /// JSON whose blanks outside of strings go, as the MySQL connector prints it.
    CompactJson,
    Bytes,
    /// `io.debezium.time.Date`: days.
    Date,
    /// `io.debezium.time.Time` and `MicroTime`; the flag says milliseconds.
    Time {
        millis: bool,
    },
    ZonedTime,
    /// `io.debezium.time.Timestamp` and `MicroTimestamp`.
    Timestamp {
        millis: bool,
    },
    /// Text with so many digits of the fraction.
    ZonedTimestamp(u32),
    /// `io.debezium.time.MicroDuration`
    Interval,
    Year,
    /// `io.debezium.data.Bits`, little-endian; MySQL fills up to so many bytes.
    Bits(usize),
    /// One bit.
    Flag,
    /// `io.debezium.data.geometry.Point`
    Point,
    /// Geometry from EWKB; MySQL's own splits the SRID off and has `x` and `y` for points.
    Geometry {
        split: bool,
        point: bool,
    },
    /// JSON object in a text.
    Hstore,
    /// Array of numbers.
    Vector,
    Array(Box<Form>),
    /// SQLite: by the class of each value.
    Dynamic,
    /// The connector has no schema for it and leaves the column out.
    Unknown,
}

impl Form {
    pub(super) fn of(column: &ColumnType, types: &[TypeDefinition]) -> Self {
        match column.dialect {
            Dialect::Postgres => postgres(column, types),
            Dialect::Mysql => mysql(column),
            Dialect::Sqlite => Self::Dynamic,
        }
    }
}

/// The type's name without modifiers and without the schema that an extension was put in.
fn bare(name: &str) -> &str {
    let name = name.split('(').next().unwrap_or(name);
    name.rsplit('.').next().unwrap_or(name).trim()
}

fn postgres(column: &ColumnType, types: &[TypeDefinition]) -> Form {
    match &column.kind {
        Kind::Bool => Form::Bool,
        // xid and xid8 have no schema, nor has cid.
        Kind::Integer { unsigned: true, .. } if column.name != "oid" => Form::Unknown,
        Kind::Integer { .. } => Form::Integer,
        Kind::Decimal { size: Some((_, scale)), .. } => Form::Decimal(*scale),
        Kind::Decimal { size: None, .. } => Form::VariableDecimal,
        Kind::Float { bits: 32, .. } => Form::Float32,
        Kind::Float { .. } => Form::Float64,
        Kind::Text { .. } | Kind::Uuid | Kind::Json { .. } | Kind::Enum(_) | Kind::Inet { .. } => Form::Text,
        Kind::Bytes { .. } => Form::Bytes,
        Kind::Date => Form::Date,
        Kind::Time(fraction) => Form::Time { millis: *fraction <= 3 },
        Kind::Timetz(_) => Form::ZonedTime,
        Kind::Timestamp(fraction) => Form::Timestamp { millis: *fraction <= 3 },
        Kind::Timestamptz(fraction) => Form::ZonedTimestamp(*fraction),
        Kind::Interval { .. } => Form::Interval,
        Kind::Bit { length: Some(1), .. } => Form::Flag,
        Kind::Bit { .. } => Form::Bits(0),
        Kind::Geometry => Form::Geometry { split: false, point: false },
        Kind::Vector => Form::Vector,
        Kind::Range => match bare(&column.name) {
            "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => Form::Text,
            _ => Form::Unknown,
        },
        Kind::Array(element) => array(element, types),
        _ => match bare(&column.name) {
            "money" => Form::Money,
            "point" => Form::Point,
            "hstore" => Form::Hstore,
            "halfvec" => Form::Vector,
            "\"char\"" | "citext" | "ltree" | "isbn" | "cidr" | "macaddr" | "macaddr8" | "tsvector"
            | "xml" => Form::Text,
            _ => Form::Unknown,
        },
    }
}

/// Arrays of some types have no schema: of domains, intervals, money, points, names and XML.
fn array(element: &str, types: &[TypeDefinition]) -> Form {
    let inner = ColumnType::parse(Dialect::Postgres, element, None, types);
    let domain = inner.name != element;
    match postgres(&inner, types) {
        Form::Unknown | Form::Money | Form::Point | Form::Interval | Form::Array(_) | Form::Vector => {
            Form::Unknown
        }
        _ if domain || matches!(bare(element), "name" | "xml") => Form::Unknown,
        form => Form::Array(Box::new(form)),
    }
}

fn mysql(column: &ColumnType) -> Form {
    match &column.kind {
        Kind::Integer { .. } => Form::Integer,
        Kind::Decimal { size, .. } => Form::Decimal(size.map_or(0, |(_, scale)| scale)),
        Kind::Float { bits: 32, .. } => Form::Float32,
        Kind::Float { .. } => Form::Float64,
        Kind::Bytes { .. } => Form::Bytes,
        Kind::Date => Form::Date,
        Kind::Duration(_) => Form::Time { millis: false },
        Kind::Timestamp(fraction) => Form::Timestamp { millis: *fraction <= 3 },
        Kind::Timestamptz(fraction) => Form::ZonedTimestamp(*fraction),
        Kind::Year => Form::Year,
        Kind::Bit { length: Some(1), .. } => Form::Flag,
        Kind::Bit { length, .. } => Form::Bits(length.unwrap_or(1).div_ceil(8) as usize),
        Kind::Json { .. } => Form::CompactJson,
        Kind::Geometry => {
            Form::Geometry { split: true, point: column.name.to_ascii_lowercase().starts_with("point") }
        }
        Kind::Vector => Form::Vector,
        _ => Form::Text,
    }
}
