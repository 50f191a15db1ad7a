//! Conditions on keys, by the server's own order.
//!
//! Equality and order of a key are the column's: a collation may hold `a` and `A`, or a text with and without trailing
//! spaces, for one key. So every comparison is made by the column itself with a constant of its kind, which also lets the
//! server use the key's index. Constants are written in digits: no quoting, no mode of the session can change them.

use rowbridge_schema::sql::backticked;
use rowbridge_schema::{Column, TableDef};

use super::form::base;
use crate::capture::Key;
use crate::capture::mysql::catalog::labels;

/// The key's columns, for ORDER BY.
pub(super) fn key_list(def: &TableDef) -> String {
    let names: Vec<String> = columns(def).map(|column| backticked(&column.name)).collect();
    names.join(", ")
}

fn columns(def: &TableDef) -> impl Iterator<Item = &Column> {
    def.key.iter().map(|&at| &def.columns[usize::from(at)])
}

/// Whether the keys order the same in every database: whole numbers that fit a signed 64-bit integer.
pub(super) fn is_portable(def: &TableDef) -> bool {
    columns(def).all(|column| {
        let type_name = column.type_name.as_str();
        matches!(base(type_name), "tinyint" | "smallint" | "mediumint" | "int")
            || base(type_name) == "bigint" && !type_name.contains("unsigned")
    })
}

/// Whether a key's text surely leads back to it. What charsets, enums and the like make of it is asked from the server.
pub(super) fn is_exact(def: &TableDef) -> bool {
    columns(def).all(|column| {
        matches!(base(&column.type_name), "tinyint" | "smallint" | "mediumint" | "int" | "bigint")
    })
}

/// Rows whose key is greater: `a > 1 OR a = 1 AND b > 2`, which both servers read as ranges of one index; a comparison of
/// rows they would answer by looking at all of it.
pub(super) fn above(def: &TableDef, key: &Key) -> String {
    let parts: Vec<(&Column, &str)> = columns(def).zip(key.iter().map(String::as_str)).collect();
    let mut equal = String::new();
    let mut alternatives = Vec::with_capacity(parts.len());
    for (column, text) in &parts {
        alternatives.push(format!("({equal}{})", greater(column, text)));
        equal = format!("{equal}{} AND ", is(column, text));
    }
    format!("({})", alternatives.join(" OR "))
}

/// Rows with one of these keys.
pub(super) fn any_of(def: &TableDef, keys: &[Key]) -> String {
    let rows: Vec<String> = keys
        .iter()
        .map(|key| {
            let equal: Vec<String> = columns(def).zip(key).map(|(column, text)| is(column, text)).collect();
            format!("({})", equal.join(" AND "))
        })
        .collect();
    format!("({})", rows.join(" OR "))
}

fn is(column: &Column, text: &str) -> String {
    format!("{} = {}", backticked(&column.name), constant(column, text))
}

fn greater(column: &Column, text: &str) -> String {
    let name = backticked(&column.name);
    if base(&column.type_name) != "enum" {
        return format!("{name} > {}", constant(column, text));
    }
    // Enums lie in the order of their definition, by which no server searches its index; single labels it finds.
    let labels = labels(&column.type_name);
    let later = labels.iter().position(|label| label == text).map_or(0, |at| at + 1);
    if later == labels.len() {
        return "FALSE".to_owned();
    }
    let later: Vec<String> = labels[later..].iter().map(|label| characters(label)).collect();
    format!("{name} IN ({})", later.join(", "))
}

/// The constant that a key's canonical text stands for.
fn constant(column: &Column, text: &str) -> String {
    match base(&column.type_name) {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" if is_number(text) => {
            text.to_owned()
        }
        // What is compared is the double that a float widens to; its short text is another one.
        "float" => {
            text.parse::<f32>().map_or_else(|_| characters(text), |number| format!("{:e}", f64::from(number)))
        }
        "double" => text.parse::<f64>().map_or_else(|_| characters(text), |number| format!("{number:e}")),
        "bit" => u64::from_str_radix(text, 2).map_or_else(|_| characters(text), |number| number.to_string()),
        "timestamp" => characters(text.strip_suffix("+00").unwrap_or(text)),
        "binary" | "varbinary" => match text.strip_prefix("\\x") {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => format!("x'{digits}'"),
            _ => characters(text),
        },
        "enum" => match labels(&column.type_name).iter().any(|label| label == text) {
            true => characters(text),
            // The error value, which is no label.
            false => "0".to_owned(),
        },
        "set" => {
            let chosen: Vec<&str> = text.split(',').collect();
            let labels = labels(&column.type_name);
            let bits =
                labels.iter().take(64).enumerate().filter(|(_, label)| chosen.contains(&label.as_str()));
            bits.fold(0u64, |sum, (at, _)| sum | 1 << at).to_string()
        }
        _ => characters(text),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

/// A text, which the server brings to the charset and collation of the column that it is compared with.
fn characters(text: &str) -> String {
    use std::fmt::Write as _;
    let mut literal = String::with_capacity(12 + 2 * text.len());
    literal.push_str("_utf8mb4 x'");
    for byte in text.bytes() {
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Dialect, TableName};

    use super::*;

    fn def(types: &[&str]) -> TableDef {
        let column = |(at, type_name): (usize, &&str)| Column {
            name: format!("k{at}"),
            type_name: (*type_name).to_owned(),
            not_null: true,
            generated: None,
            collation: None,
        };
        TableDef {
            dialect: Dialect::Mysql,
            name: TableName::new("shop", "t"),
            columns: types.iter().enumerate().map(column).collect(),
            key: (0..types.len() as u16).collect(),
            types: vec![],
            options: vec![],
        }
    }

    fn key(texts: &[&str]) -> Key {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn ranges_are_spelled_out_for_the_index() {
        let ids = def(&["int(11)", "bigint(20) unsigned"]);
        assert_eq!(above(&ids, &key(&["1", "2"])), "((`k0` > 1) OR (`k0` = 1 AND `k1` > 2))");
        assert_eq!(
            any_of(&ids, &[key(&["1", "2"]), key(&["-3", "4"])]),
            "((`k0` = 1 AND `k1` = 2) OR (`k0` = -3 AND `k1` = 4))"
        );
        assert!(
            !is_portable(&ids) && is_exact(&ids) && is_portable(&def(&["int(10) unsigned", "bigint(20)"]))
        );
        assert!(!is_portable(&def(&["varchar(9)"])) && !is_exact(&def(&["enum('a')"])));
    }

    #[test]
    fn constants_are_of_their_columns_kind() {
        for (type_name, text, expected) in [
            ("float", "0.1", "`k0` > 1.0000000149011612e-1"),
            ("double", "-0", "`k0` > -0e0"),
            ("decimal(5,2)", "-1.50", "`k0` > -1.50"),
            ("bit(4)", "0101", "`k0` > 5"),
            ("year(4)", "0000", "`k0` > 0000"),
            (
                "timestamp",
                "2024-01-01 00:00:00+00",
                "`k0` > _utf8mb4 x'323032342d30312d30312030303a30303a3030'",
            ),
            ("binary(2)", "\\x6100", "`k0` > x'6100'"),
            ("set('a','b','c')", "a,c", "`k0` > 5"),
            ("set('a','b','c')", "", "`k0` > 0"),
            ("enum('a','b','c')", "b", "`k0` IN (_utf8mb4 x'63')"),
            ("enum('a','b')", "b", "FALSE"),
            ("enum('a','b')", "", "`k0` IN (_utf8mb4 x'61', _utf8mb4 x'62')"),
            ("varchar(9)", "' --", "`k0` > _utf8mb4 x'27202d2d'"),
            ("int(11)", "1 OR 1=1", "`k0` > _utf8mb4 x'31204f5220313d31'"),
            ("binary(2)", "\\x' OR", "`k0` > _utf8mb4 x'5c7827204f52'"),
        ] {
            assert_eq!(
                above(&def(&[type_name]), &key(&[text])),
                format!("(({expected}))"),
                "{type_name} {text}"
            );
        }
        assert_eq!(any_of(&def(&["enum('a','b')"]), &[key(&[""])]), "((`k0` = 0))");
    }
}
