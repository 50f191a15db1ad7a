//! Column types of MySQL and MariaDB.

/// A `COLUMN_TYPE` taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeName {
    pub(super) base: String,
    pub(super) numbers: Vec<u32>,
    /// Of `enum` and `set`.
    pub(super) labels: Vec<String>,
    pub(super) unsigned: bool,
    zerofill: bool,
}

impl TypeName {
    /// Reads what `information_schema.COLUMNS.COLUMN_TYPE` says; `None` if it is no such text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let base = text[..end].to_ascii_lowercase();
        let mut name =
            Self { base, numbers: Vec::new(), labels: Vec::new(), unsigned: false, zerofill: false };
        let mut rest = &text[end..];
        if let Some(inside) = rest.strip_prefix('(') {
            rest =
                if inside.starts_with('\'') { name.read_labels(inside)? } else { name.read_numbers(inside)? };
        }
        let mut words = rest.split_ascii_whitespace();
        let known = !name.base.is_empty()
            && words.all(|word| match word.to_ascii_lowercase().as_str() {
                "unsigned" => {
                    name.unsigned = true;
                    true
                }
                "zerofill" => {
                    name.unsigned = true;
                    name.zerofill = true;
                    true
                }
                // MariaDB: how a column is stored, not what it holds.
                "compressed" | "/*m!100301" | "compressed*/" | "precision" => true,
                _ => false,
            });
        known.then_some(name)
    }

    fn read_numbers<'t>(&mut self, inside: &'t str) -> Option<&'t str> {
        let (list, rest) = inside.split_once(')')?;
        for number in list.split(',') {
            self.numbers.push(number.trim().parse().ok()?);
        }
        Some(rest)
    }

    /// Both servers double quotes, and escape NUL, line ends and backslashes by a backslash.
    fn read_labels<'t>(&mut self, inside: &'t str) -> Option<&'t str> {
        let mut rest = inside;
        loop {
            rest = rest.strip_prefix('\'')?;
            let mut label = String::new();
            let mut chars = rest.char_indices().peekable();
            let end = loop {
                match chars.next()? {
                    (_, '\'') if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                        chars.next();
                        label.push('\'');
                    }
                    (at, '\'') => break at,
                    (_, '\\') => label.push(match chars.next()?.1 {
                        '0' => '\0',
                        'n' => '\n',
                        'r' => '\r',
                        other => other,
                    }),
                    (_, other) => label.push(other),
                }
            };
            self.labels.push(label);
            rest = &rest[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.strip_prefix(')'),
            }
        }
    }

    pub(super) fn number(&self, index: usize, default: u32) -> u32 {
        self.numbers.get(index).copied().unwrap_or(default)
    }

    /// The type as a statement under `NO_BACKSLASH_ESCAPES` names it.
    pub(super) fn sql(&self) -> String {
        let mut sql = self.base.clone();
        if !self.labels.is_empty() {
            let labels: Vec<_> =
                self.labels.iter().map(|label| format!("'{}'", label.replace('\'', "''"))).collect();
            sql.push_str(&format!("({})", labels.join(",")));
        } else if !self.numbers.is_empty() {
            let numbers: Vec<_> = self.numbers.iter().map(u32::to_string).collect();
            sql.push_str(&format!("({})", numbers.join(",")));
        }
        if self.zerofill {
            sql.push_str(" unsigned zerofill");
        } else if self.unsigned {
            sql.push_str(" unsigned");
        }
        sql
    }

    pub(super) fn family(&self) -> Option<Family> {
        Some(match self.base.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => Family::Integer,
            "decimal" | "numeric" => Family::Decimal,
            "float" => Family::Float,
            "double" | "real" => Family::Double,
            "bit" => Family::Bit,
            "year" => Family::Year,
            "date" => Family::Date,
            "datetime" => Family::DateTime,
            "timestamp" => Family::Timestamp,
            "time" => Family::Time,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Family::Text,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Family::Bytes,
            "enum" => Family::Enum,
            "set" => Family::Set,
            "json" => Family::Json,
            "uuid" => Family::Uuid,
            "inet4" | "inet6" => Family::Inet,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Family::Geometry,
            "vector" => Family::Vector,
            _ => return None,
        })
    }
}

/// Types whose canonical texts have one grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Integer,
    Decimal,
    Float,
    Double,
    Bit,
    Year,
    Date,
    DateTime,
    Timestamp,
    Time,
    Text,
    Bytes,
    Enum,
    Set,
    Json,
    Uuid,
    Inet,
    Geometry,
    Vector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_and_written_again() {
        for text in ["int(10) unsigned", "decimal(65,30)", "bit(64)", "datetime(6)", "enum('a','b''c')"] {
            assert_eq!(TypeName::parse(text).unwrap().sql(), text);
        }
        let labels = |text: &str| TypeName::parse(text).unwrap().labels;
        assert_eq!(labels(r"set('a\\b','c,d','(')"), [r"a\b", "c,d", "("]);
        assert_eq!(labels(r"enum('x\ny','''')"), ["x\ny", "'"]);
        assert_eq!(TypeName::parse("int; DROP TABLE t"), None);
        assert_eq!(TypeName::parse("enum('a') CHARACTER SET x"), None);
        assert_eq!(TypeName::parse("enum('a"), None);
        assert_eq!(TypeName::parse(""), None);
        assert_eq!(TypeName::parse("varchar(10) /*M!100301 COMPRESSED*/").unwrap().sql(), "varchar(10)");
    }
}
