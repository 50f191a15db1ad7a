//! Walks the TOML tree with places, and keeps every error instead of stopping at the first. A method that reports an
//! error returns `None` or the default, so that the caller goes on; a file with errors never becomes a `Config`.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::bytes::parse_bytes;
use super::duration::parse_duration;
use super::error::{ConfigError, ConfigErrors, Found, Problem};
use super::substitute::{Piece, Sources, substitute};
use crate::suggest::nearest;

/// What may stand in a section. The only list of keys: unknown ones are refused by it, and the test of the default file
/// reads it.
#[derive(Debug)]
pub(super) struct Keys {
    /// `endpoint`; empty for the top level.
    pub(super) section: &'static str,
    /// Every key that works.
    pub(super) keys: &'static [&'static str],
}

/// One file being read.
pub(super) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    sources: Sources<'a>,
    errors: Vec<(usize, String, Problem)>,
}

/// A table of the file. Its place is that of its header.
pub(super) struct Section<'t> {
    keys: &'static Keys,
    pub(super) at: usize,
    table: &'t DeTable<'t>,
}

/// A key's value and where it stands.
#[derive(Clone)]
pub(super) struct Field<'t> {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) value: &'t DeValue<'t>,
    /// Its text is never shown: it is, or may contain, a secret.
    sensitive: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, sources: Sources<'a>) -> Self {
        Self { file, text, sources, errors: Vec::new() }
    }

    /// Parses the text; reports every syntax error, and then nothing else, since what the parser recovers is a guess.
    pub(super) fn parse(&mut self) -> Option<Spanned<DeTable<'a>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().map_or(self.text.len(), |span| span.start);
            let message = error.message().trim().replace('\n', ", ");
            self.push(at, String::new(), Problem::Syntax { message });
        }
        errors.is_empty().then_some(table)
    }

    pub(super) fn push(&mut self, at: usize, key: impl Into<String>, problem: impl Into<Problem>) {
        self.errors.push((at, key.into(), problem.into()));
    }

    pub(super) fn report(&mut self, field: &Field<'_>, problem: impl Into<Problem>) {
        self.push(field.at, field.key.clone(), problem);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// All errors in the file's order.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.errors.sort_by_key(|(at, ..)| *at);
        let errors = std::mem::take(&mut self.errors);
        let located = errors.into_iter().map(|(at, key, problem)| {
            let (line, column) = self.place(at);
            ConfigError { file: self.file.to_owned(), line, column, key, problem }
        });
        ConfigErrors(located.collect())
    }

    /// A section that may stand once.
    pub(super) fn section<'t>(&mut self, field: &Field<'t>, keys: &'static Keys) -> Option<Section<'t>> {
        match field.value {
            DeValue::Table(table) => Some(self.open(table, field.at, keys)),
            _ => {
                let way_out = format!("write [{}] once", keys.section);
                self.unexpected(field, "a section", way_out)
            }
        }
    }

    /// A section that may stand several times.
    pub(super) fn sections<'t>(&mut self, field: &Field<'t>, keys: &'static Keys) -> Vec<Section<'t>> {
        let name = keys.section;
        let expected = "a list of sections";
        let way_out = format!("write [[{name}]], once for each");
        let DeValue::Array(items) = field.value else {
            self.unexpected::<()>(field, expected, way_out);
            return Vec::new();
        };
        if items.is_empty() {
            self.report(field, Problem::EmptyList { way_out: "write its sections, or leave it out" });
        }
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(self.open(table, item.span().start, keys)),
                _ => {
                    let element = field.element(item);
                    self.unexpected::<()>(&element, "a section", way_out.clone());
                }
            }
        }
        sections
    }

    /// Reports unknown keys at once, so that reading the known ones is all that is left to do.
    pub(super) fn open<'t>(&mut self, table: &'t DeTable<'t>, at: usize, keys: &'static Keys) -> Section<'t> {
        let section = Section { keys, at, table };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !keys.keys.contains(&name) {
                let problem = Problem::UnknownKey {
                    suggestion: nearest(name, keys.keys.iter().copied()),
                    known: keys.keys,
                };
                self.push(key.span().start, section.path(&quoted_key(name)), problem);
            }
        }
        section
    }

    /// Reports a wrong type or form.
    pub(super) fn unexpected<T>(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        way_out: impl Display,
    ) -> Option<T> {
        let found = field.found();
        self.report(field, Problem::Expected { expected, found, way_out: way_out.to_string() });
        None
    }

    /// A string with everything filled in, in pieces.
    pub(super) fn pieces(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        example: &str,
    ) -> Option<Vec<Piece>> {
        let DeValue::String(text) = field.value else {
            return self.unexpected(field, expected, format_args!("such as {example}"));
        };
        match substitute(text, self.sources) {
            Ok(pieces) => Some(pieces),
            Err(errors) => {
                for error in errors {
                    self.report(field, error);
                }
                None
            }
        }
    }

    /// A string with everything filled in. `expected` and `example` are for the error about another type.
    pub(super) fn text(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        example: &str,
    ) -> Option<String> {
        let pieces = self.pieces(field, expected, example)?;
        Some(pieces.into_iter().map(|piece| piece.text).collect())
    }

    /// A string that is not empty.
    pub(super) fn filled_text(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        example: &str,
    ) -> Option<String> {
        let text = self.text(field, expected, example)?;
        if text.is_empty() || text.contains('\0') {
            return self.unexpected(field, expected, format_args!("such as {example}"));
        }
        Some(text)
    }

    /// A string that a type reads. The type's own error is not shown, because it may quote what was filled in.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        example: &str,
    ) -> Option<T> {
        let text = self.text(field, expected, example)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => self.unexpected(field, expected, format_args!("such as {example}")),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        choices: &[(&str, T)],
        way_out: &str,
    ) -> Option<T> {
        let DeValue::String(_) = field.value else {
            return self.unexpected(field, expected, way_out);
        };
        let text = self.text(field, expected, "")?;
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Some(*value),
            None => self.unexpected(field, expected, way_out),
        }
    }

    /// A duration with its unit.
    pub(super) fn duration(&mut self, field: &Field<'_>) -> Option<Duration> {
        const EXPECTED: &str = "a duration";
        let DeValue::String(_) = field.value else {
            return self.unexpected(field, EXPECTED, "write a unit, such as \"15s\"");
        };
        let text = self.text(field, EXPECTED, "\"15s\"")?;
        parse_duration(&text).map_err(|error| self.unexpected::<()>(field, EXPECTED, error)).ok()
    }

    /// A size with its unit.
    pub(super) fn bytes(&mut self, field: &Field<'_>) -> Option<u64> {
        const EXPECTED: &str = "a size";
        let DeValue::String(_) = field.value else {
            return self.unexpected(field, EXPECTED, "write a unit, such as \"8 MiB\"");
        };
        let text = self.text(field, EXPECTED, "\"8 MiB\"")?;
        parse_bytes(&text).map_err(|error| self.unexpected::<()>(field, EXPECTED, error)).ok()
    }

    /// A whole number of rows that is not negative.
    pub(super) fn count(&mut self, field: &Field<'_>) -> Option<u64> {
        self.count_of(field, "a number of rows", "such as 1000000")
    }

    /// A whole number that is not negative.
    pub(super) fn count_of(
        &mut self,
        field: &Field<'_>,
        expected: &'static str,
        way_out: &str,
    ) -> Option<u64> {
        let count = match field.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        count.or_else(|| self.unexpected(field, expected, way_out))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, field: &Field<'_>) -> Option<bool> {
        match field.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.unexpected(field, "true or false", "without quotes"),
        }
    }

    /// A list's elements.
    pub(super) fn list<'t>(
        &mut self,
        field: &Field<'t>,
        expected: &'static str,
        example: &str,
    ) -> Option<Vec<Field<'t>>> {
        match field.value {
            DeValue::Array(items) => Some(items.iter().map(|item| field.element(item)).collect()),
            _ => self.unexpected(field, expected, format_args!("such as {example}")),
        }
    }

    /// Reports the second of two equal things. `seen` holds where each stands.
    pub(super) fn unique<T: PartialEq>(
        &mut self,
        seen: &mut Vec<(T, usize)>,
        value: T,
        field: &Field<'_>,
        rule: &'static str,
    ) {
        match seen.iter().find(|(other, _)| *other == value) {
            Some(&(_, first)) => {
                let (line, _) = self.place(first);
                self.report(field, Problem::Duplicate { line, rule });
            }
            None => seen.push((value, field.at)),
        }
    }
}

impl<'t> Section<'t> {
    /// `section.key`
    pub(super) fn path(&self, key: &str) -> String {
        if self.keys.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.keys.section) }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'t>> {
        debug_assert!(self.keys.keys.contains(&key), "{key} is read but not listed");
        let (name, value) = self.table.get_key_value(key)?;
        // A section's place is its name in the header, a value's place is the value.
        let is_section = self.keys.section.is_empty() && !matches!(key, "shutdown_grace");
        let at = if is_section { name.span().start } else { value.span().start };
        let sensitive = matches!(key, "secret" | "url");
        Some(Field { key: self.path(key), at, value: value.get_ref(), sensitive })
    }

    /// The value of a key that must be there.
    pub(super) fn require(
        &self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &'static str,
    ) -> Option<Field<'t>> {
        let field = self.get(key);
        if field.is_none() {
            reader.push(self.at, self.path(key), Problem::Missing { example });
        }
        field
    }
}

impl<'t> Field<'t> {
    /// An element of this list; it is called what the list is called, its place tells it apart.
    pub(super) fn element(&self, item: &'t Spanned<DeValue<'t>>) -> Self {
        self.child(self.key.clone(), item)
    }

    /// The same value, never shown.
    pub(super) fn secret(&self) -> Self {
        Self { sensitive: true, ..self.clone() }
    }

    /// The same value, called otherwise in messages.
    pub(super) fn named(self, key: String) -> Self {
        Self { key, ..self }
    }

    /// A value below this one.
    pub(super) fn child(&self, key: String, item: &'t Spanned<DeValue<'t>>) -> Self {
        Self { key, at: item.span().start, value: item.get_ref(), sensitive: self.sensitive }
    }

    /// What an error may say about this value.
    fn found(&self) -> Found {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        // Long ones are not read anyway, and a key that was never meant to be secret may hold a certificate.
        const SHOWN_CHARS: usize = 80;
        let shown = match self.value {
            _ if self.sensitive => None,
            DeValue::String(text) => Some(format!("{text:?}")),
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(value) => Some(value.to_string()),
            _ => None,
        };
        shown.filter(|text| text.chars().count() <= SHOWN_CHARS).map_or(Found::Kind(kind), Found::Shown)
    }
}

/// A key as the file would have to write it, so that a line break in one cannot forge an error line.
pub(super) fn quoted_key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_lines() {
        let env = |_: &str| None;
        let read_file = |_: &Path| Ok(String::new());
        let reader =
            Reader::new(Path::new("f"), "a\n\u{e4}\u{f6} b\n", Sources { env: &env, read_file: &read_file });
        assert_eq!(reader.place(0), (1, 1));
        assert_eq!(reader.place(2), (2, 1));
        assert_eq!(reader.place(7), (2, 4));
        assert_eq!(reader.place(9), (3, 1));
        assert_eq!(reader.place(999), (3, 1));
        // Inside a character: never asked for, must not panic.
        assert_eq!(reader.place(3), (3, 1));
    }

    #[test]
    fn keys_are_quoted_where_toml_would() {
        assert_eq!(quoted_key("allow_networks"), "allow_networks");
        assert_eq!(quoted_key("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted_key(""), "\"\"");
    }
}
