//! Whether a value of a source's type can be kept exactly in a target's type. Where the server would round, cut or pad
//! in silence, the value is checked before it is written.

use rowbridge_schema::{TableDef, TypeDefinition};

/// What has to hold of a value before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: same type, or the server refuses what does not fit.
    None,
    /// `numeric(p,s)`: at most this many digits after the point.
    Scale(u32),
    /// Times: at most this many digits of a second's fraction.
    Fraction(u32),
    /// A float4 must read back as the same number.
    Float4,
    /// Integers of so many bits. The server refuses what is beyond, but does not say in which column.
    Integer(u32),
    /// `varchar(n)`: the server cuts blanks in excess without a word.
    Length(u32),
    /// `char(n)`: trailing blanks are not kept, unless the source pads too.
    Padded {
        /// Length of the column.
        length: u32,
        /// The source pads too.
        both: bool,
    },
}

impl Check {
    /// What is wrong with a value, if anything.
    pub(super) fn fault(self, text: &str) -> Option<&'static str> {
        let fits = match self {
            Self::None => return None,
            Self::Scale(scale) => fraction_digits(text) <= scale as usize,
            Self::Fraction(digits) => fraction_digits(text) <= digits as usize,
            Self::Float4 => text.parse::<f64>().is_ok_and(|value| {
                let narrow = value as f32;
                f64::from(narrow) == value || value.is_nan()
            }),
            // What is no integer at all the server refuses with a better reason.
            Self::Integer(bits) => text.parse::<i64>().map_or(true, |value| {
                let unused = i64::BITS.saturating_sub(bits);
                value << unused >> unused == value
            }),
            Self::Length(length) => text.chars().count() <= length as usize,
            Self::Padded { length, both } => {
                let kept = text.trim_end_matches(' ');
                kept.chars().count() <= length as usize && (both || kept.len() == text.len())
            }
        };
        (!fits).then_some(match self {
            Self::None => "",
            Self::Scale(_) => "the value has more digits after the point than the target's type keeps",
            Self::Fraction(_) => "the value has a finer fraction of a second than the target's type keeps",
            Self::Float4 => "the value is not exact in the target's type real",
            Self::Integer(_) => "the value is out of range for the target's type",
            Self::Length(_) => "the value is longer than the target's type allows",
            Self::Padded { .. } => "the value does not fit the target's padded type",
        })
    }
}

/// Digits after the point that mean something. Intervals and times have one point at most.
fn fraction_digits(text: &str) -> usize {
    let Some((_, rest)) = text.split_once('.') else { return 0 };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.trim_end_matches('0').len()
}

/// A type's name without its modifiers, and the modifiers.
fn split(type_name: &str) -> (String, Vec<u32>) {
    let Some(start) = type_name.find('(').filter(|_| !type_name.contains('"')) else {
        return (type_name.to_owned(), Vec::new());
    };
    let Some(end) = type_name[start..].find(')').map(|end| start + end) else {
        return (type_name.to_owned(), Vec::new());
    };
    let modifiers =
        type_name[start + 1..end].split(',').filter_map(|text| text.trim().parse().ok()).collect();
    (format!("{}{}", &type_name[..start], &type_name[end + 1..]), modifiers)
}

/// What lies under a domain of the source.
fn resolve<'a>(def: &'a TableDef, type_name: &'a str) -> &'a str {
    let mut current = type_name;
    // A definition can hold a cycle only if it is forged.
    for _ in 0..def.types.len() {
        let base = def.types.iter().find_map(|t| match t {
            TypeDefinition::Domain { name, base }
                if name.to_string() == current || rowbridge_schema::sql::qualified(name) == current =>
            {
                Some(base.as_str())
            }
            _ => None,
        });
        match base {
            Some(base) => current = base,
            None => break,
        }
    }
    current
}

/// Whether `source` can be kept in `target` (whose domains are resolved in `target_base`), and what to check.
pub(super) fn compatible(def: &TableDef, source: &str, target: &str, target_base: &str) -> Result<Check, ()> {
    let source = if source == target { return Ok(Check::None) } else { resolve(def, source) };
    if source == target_base {
        return Ok(Check::None);
    }
    let (from, from_modifiers) = split(source);
    let (to, modifiers) = split(target_base);
    let first = modifiers.first().copied();
    if to.ends_with("[]") {
        return if from == to && modifiers.is_empty() { Ok(Check::None) } else { Err(()) };
    }
    let same = from == to;
    let integer = matches!(from.as_str(), "smallint" | "integer" | "bigint");
    let check = match to.as_str() {
        "text" => Check::None,
        "character varying" => first.map_or(Check::None, Check::Length),
        "character" => Check::Padded { length: first.unwrap_or(1), both: same },
        "numeric" if same || integer || matches!(from.as_str(), "real" | "double precision") => {
            match (first, modifiers.get(1)) {
                (None, _) => Check::None,
                (Some(_), scale) => Check::Scale(scale.copied().unwrap_or(0)),
            }
        }
        "smallint" if integer && !same => Check::Integer(16),
        "integer" if from == "bigint" => Check::Integer(32),
        "smallint" | "integer" | "bigint" if integer || from == "numeric" => Check::None,
        "real" if integer || from == "double precision" => Check::Float4,
        "double precision" if matches!(from.as_str(), "real" | "smallint" | "integer") => Check::None,
        "timestamp without time zone" if same || from == "date" => first.map_or(Check::None, Check::Fraction),
        "timestamp with time zone" | "time without time zone" | "time with time zone" if same => {
            first.map_or(Check::None, Check::Fraction)
        }
        "interval" if from.starts_with("interval") => first.map_or(Check::None, Check::Fraction),
        "json" if from == "jsonb" => Check::None,
        "bit" | "bit varying" if from.starts_with("bit") => Check::None,
        "numeric"
        | "smallint"
        | "integer"
        | "bigint"
        | "real"
        | "double precision"
        | "date"
        | "timestamp without time zone"
        | "timestamp with time zone"
        | "time without time zone"
        | "time with time zone"
        | "json"
        | "jsonb"
        | "bit"
        | "bit varying"
        | "boolean"
        | "money"
        | "bytea"
        | "uuid"
        | "\"char\""
        | "name"
        | "xml"
        | "inet"
        | "cidr"
        | "macaddr"
        | "macaddr8" => {
            if same && modifiers == from_modifiers {
                Check::None
            } else {
                return Err(());
            }
        }
        // `interval` with other fields cuts what lies below them.
        other if other.starts_with("interval") => return Err(()),
        // Enums, composites, ranges and types of extensions: their input is strict.
        _ => Check::None,
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Dialect, TableName};

    use super::*;

    fn check(source: &str, target: &str) -> Result<Check, ()> {
        let def = TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", "t"),
            columns: vec![],
            key: vec![],
            types: vec![TypeDefinition::Domain {
                name: TableName::new("public", "price"),
                base: "numeric(10,2)".into(),
            }],
            options: vec![],
        };
        compatible(&def, source, target, target)
    }

    #[test]
    fn what_could_change_is_checked_or_refused() {
        assert_eq!(check("numeric(10,2)", "numeric(10,2)"), Ok(Check::None));
        assert_eq!(check("public.price", "numeric(10,2)"), Ok(Check::None));
        assert_eq!(check("numeric", "numeric(10,2)"), Ok(Check::Scale(2)));
        assert_eq!(check("integer", "bigint"), Ok(Check::None));
        assert_eq!(check("bigint", "integer"), Ok(Check::Integer(32)));
        assert_eq!(check("double precision", "real"), Ok(Check::Float4));
        assert_eq!(check("bigint", "double precision"), Err(()));
        assert_eq!(
            check("timestamp without time zone", "timestamp(3) without time zone"),
            Ok(Check::Fraction(3))
        );
        assert_eq!(check("timestamp with time zone", "timestamp without time zone"), Err(()));
        assert_eq!(check("timestamp without time zone", "date"), Err(()));
        assert_eq!(check("json", "jsonb"), Err(()));
        assert_eq!(check("text", "character varying(3)"), Ok(Check::Length(3)));
        assert_eq!(check("numeric(9,1)[]", "numeric(9,0)[]"), Err(()));
        assert_eq!(check("public.mood", "sales.mood"), Ok(Check::None));
    }

    #[test]
    fn values_that_would_change_are_found() {
        let faulty = |check: Check, text: &str| check.fault(text).is_some();
        assert!(!faulty(Check::Scale(2), "1.500"));
        assert!(faulty(Check::Scale(2), "1.505"));
        assert!(!faulty(Check::Scale(0), "NaN"));
        assert!(faulty(Check::Fraction(3), "2024-01-01 00:00:00.1234+00"));
        assert!(!faulty(Check::Fraction(3), "2024-01-01 00:00:00.120+00"));
        assert!(faulty(Check::Float4, "0.1"));
        assert!(!faulty(Check::Float4, "0.5"));
        assert!(!faulty(Check::Float4, "Infinity"));
        assert!(!faulty(Check::Integer(16), "-32768"));
        assert!(faulty(Check::Integer(16), "32768"));
        assert!(faulty(Check::Integer(32), "-2147483649"));
        assert!(!faulty(Check::Integer(32), "2147483647"));
        assert!(faulty(Check::Length(3), "ab  "));
        assert!(!faulty(Check::Length(3), "äöü"));
        assert!(faulty(Check::Padded { length: 3, both: false }, "a "));
        assert!(!faulty(Check::Padded { length: 3, both: true }, "a         "));
    }
}
