//! PostgreSQL's types, as `format_type` writes them under an empty `search_path`.

use super::kind::{Charset, Kind, Limit, split};
use crate::sql;
use crate::table::{TableName, TypeDefinition};

/// PostgreSQL keeps microseconds.
const FRACTION: u32 = 6;

fn name_of(definition: &TypeDefinition) -> &TableName {
    match definition {
        TypeDefinition::Enum { name, .. }
        | TypeDefinition::Domain { name, .. }
        | TypeDefinition::Composite { name, .. }
        | TypeDefinition::Range { name, .. } => name,
    }
}

/// The server quotes only what needs it.
fn is_named(name: &TableName, text: &str) -> bool {
    if name.to_string() == text || sql::qualified(name) == text {
        return true;
    }
    let quoted = |part: &str| {
        let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
        if plain { part.to_owned() } else { sql::ident(part) }
    };
    let schema = name.schema.as_deref().map(|schema| format!("{}.", quoted(schema))).unwrap_or_default();
    format!("{schema}{}", quoted(&name.name)) == text
}

/// The name with domains resolved, and what it holds.
pub(super) fn parse(type_name: &str, types: &[TypeDefinition]) -> (String, Kind) {
    let mut name = type_name;
    // A definition can hold a cycle only if it is forged.
    for _ in 0..=types.len() {
        match types.iter().find(|definition| is_named(name_of(definition), name)) {
            Some(TypeDefinition::Domain { base, .. }) => name = base,
            Some(TypeDefinition::Enum { labels, .. }) => {
                return (name.to_owned(), Kind::Enum(labels.clone()));
            }
            Some(TypeDefinition::Range { .. }) => return (name.to_owned(), Kind::Range),
            Some(TypeDefinition::Composite { .. }) => return (name.to_owned(), Kind::Other),
            None => break,
        }
    }
    (name.to_owned(), built_in(name))
}

/// A longer one is forged.
fn chars(length: u32) -> Limit {
    Limit::Chars(length.min(10_485_760))
}

fn built_in(type_name: &str) -> Kind {
    if let Some(element) = type_name.strip_suffix("[]") {
        return Kind::Array(element.to_owned());
    }
    let (name, modifiers) = split(type_name);
    let first = modifiers.first().and_then(|&number| u32::try_from(number).ok());
    let fraction = first.unwrap_or(FRACTION).min(FRACTION);
    let integer = |bits| Kind::Integer { bits, unsigned: false };
    let text = |limit, padded| Kind::Text { limit, padded, charset: Charset::Utf8 };
    match name.as_str() {
        "boolean" => Kind::Bool,
        "smallint" => integer(16),
        "integer" => integer(32),
        "bigint" => integer(64),
        "oid" | "xid" | "cid" => Kind::Integer { bits: 32, unsigned: true },
        "xid8" => Kind::Integer { bits: 64, unsigned: true },
        "numeric" => {
            let scale = modifiers.get(1).and_then(|&scale| i32::try_from(scale).ok()).unwrap_or(0);
            let size = first.map(|precision| (precision, scale));
            // What the server allows; the rest is forged.
            let size = size.filter(|(precision, scale)| *precision <= 1000 && scale.unsigned_abs() <= 1000);
            Kind::Decimal { size, unsigned: false }
        }
        "real" => Kind::Float { bits: 32, scale: None, unsigned: false },
        "double precision" => Kind::Float { bits: 64, scale: None, unsigned: false },
        "text" | "citext" | "public.citext" => text(Limit::None, false),
        "character varying" => text(first.map_or(Limit::None, chars), false),
        "character" | "bpchar" => text(chars(first.unwrap_or(1)), true),
        // 63 bytes.
        "name" => text(Limit::Bytes(63), false),
        "bytea" => Kind::Bytes { limit: Limit::None, fixed: false },
        "date" => Kind::Date,
        "time without time zone" => Kind::Time(fraction),
        "time with time zone" => Kind::Timetz(fraction),
        "timestamp without time zone" => Kind::Timestamp(fraction),
        "timestamp with time zone" => Kind::Timestamptz(fraction),
        "uuid" => Kind::Uuid,
        "json" => Kind::Json { verbatim: true },
        "jsonb" => Kind::Json { verbatim: false },
        "bit" => Kind::Bit { length: Some(first.unwrap_or(1)), varying: false },
        "bit varying" => Kind::Bit { length: first, varying: true },
        "inet" => Kind::Inet { version: 0, masks: true },
        "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" | "int4multirange"
        | "int8multirange" | "nummultirange" | "tsmultirange" | "tstzmultirange" | "datemultirange" => {
            Kind::Range
        }
        "geometry" | "geography" | "public.geometry" | "public.geography" => Kind::Geometry,
        "vector" | "public.vector" => Kind::Vector,
        other if other == "interval" || other.starts_with("interval ") => {
            Kind::Interval { fraction, limited: other != "interval" }
        }
        _ => Kind::Other,
    }
}
