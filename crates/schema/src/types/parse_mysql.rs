//! MySQL's and MariaDB's types, as `COLUMN_TYPE` of the information schema writes them.

use super::kind::{Charset, Kind, Limit, split};

/// What a collation's charset holds. Its name begins with the charset's.
fn charset(collation: Option<&str>) -> Charset {
    let Some(collation) = collation else { return Charset::Utf8 };
    match collation.split('_').next().unwrap_or_default() {
        "utf8mb4" | "utf16" | "utf16le" | "utf32" | "gb18030" => Charset::Utf8,
        "utf8" | "utf8mb3" | "ucs2" => Charset::Plane0,
        "latin1" => Charset::Latin1,
        "ascii" => Charset::Ascii,
        _ => Charset::Other,
    }
}

/// The labels of `enum('a','b')` or `set(...)`: quotes are doubled, nothing else is escaped.
fn labels(list: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut rest = list;
    while let Some(start) = rest.find('\'') {
        let mut label = String::new();
        let mut chars = rest[start + 1..].char_indices().peekable();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            if c != '\'' {
                label.push(c);
            } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
                label.push('\'');
            } else {
                end = start + 1 + at + 1;
                break;
            }
        }
        labels.push(label);
        rest = &rest[end..];
    }
    labels
}

pub(super) fn parse(type_name: &str, collation: Option<&str>) -> Kind {
    // MariaDB adds a comment to the types of very old tables.
    let type_name = type_name.split("/*").next().unwrap_or_default().trim();
    let lower = type_name.to_ascii_lowercase();
    for (prefix, make) in [("enum(", Kind::Enum as fn(Vec<String>) -> Kind), ("set(", Kind::Set)] {
        if lower.starts_with(prefix) {
            return make(labels(&type_name[prefix.len()..]));
        }
    }
    let (full, modifiers) = split(&lower);
    let unsigned = full.contains(" unsigned") || full.contains(" zerofill");
    let name = full.split(' ').next().unwrap_or_default();
    let first = modifiers.first().and_then(|&number| u32::try_from(number).ok());
    let second = modifiers.get(1).and_then(|&number| u32::try_from(number).ok());
    let fraction = first.unwrap_or(0).min(6);
    let integer = |bits| Kind::Integer { bits, unsigned };
    let float = |bits| Kind::Float { bits, scale: second, unsigned };
    let text = |limit, padded| Kind::Text { limit, padded, charset: charset(collation) };
    let bytes = |limit, fixed| Kind::Bytes { limit, fixed };
    let length = u64::from(first.unwrap_or(1));
    match name {
        "tinyint" | "bool" | "boolean" => integer(8),
        "smallint" => integer(16),
        "mediumint" => integer(24),
        "int" | "integer" => integer(32),
        "bigint" => integer(64),
        "decimal" | "numeric" => {
            let scale = i32::try_from(second.unwrap_or(0)).unwrap_or(0);
            let size = Some((first.unwrap_or(10), scale))
                .filter(|(precision, scale)| *precision <= 65 && *scale <= 38);
            Kind::Decimal { size, unsigned }
        }
        "float" => float(32),
        "double" | "real" => float(64),
        "bit" => Kind::Bit { length: Some(first.unwrap_or(1)), varying: false },
        "year" => Kind::Year,
        "date" => Kind::Date,
        "datetime" => Kind::Timestamp(fraction),
        "timestamp" => Kind::Timestamptz(fraction),
        "time" => Kind::Duration(fraction),
        "char" => text(Limit::Chars(first.unwrap_or(1)), true),
        "varchar" => text(Limit::Chars(first.unwrap_or(0)), false),
        "tinytext" => text(Limit::Bytes(255), false),
        "text" => text(Limit::Bytes(65_535), false),
        "mediumtext" => text(Limit::Bytes(16_777_215), false),
        "longtext" => text(Limit::None, false),
        "binary" => bytes(Limit::Bytes(length), true),
        "varbinary" => bytes(Limit::Bytes(length), false),
        "tinyblob" => bytes(Limit::Bytes(255), false),
        "blob" => bytes(Limit::Bytes(65_535), false),
        "mediumblob" => bytes(Limit::Bytes(16_777_215), false),
        "longblob" => bytes(Limit::None, false),
        "json" => Kind::Json { verbatim: false },
        "uuid" => Kind::Uuid,
        "inet4" => Kind::Inet { version: 4, masks: false },
        "inet6" => Kind::Inet { version: 6, masks: false },
        "vector" => Kind::Vector,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => Kind::Geometry,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_quotes_commas_and_case() {
        let kind = parse("enum('a','It''s','x,y','','\u{e4}')", None);
        let labels = ["a", "It's", "x,y", "", "\u{e4}"].map(str::to_owned);
        assert_eq!(kind, Kind::Enum(labels.to_vec()));
        assert_eq!(parse("set('a')", None), Kind::Set(vec!["a".into()]));
        // Forged ones end somewhere.
        assert_eq!(parse("enum('a", None), Kind::Enum(vec!["a".into()]));
    }
}
