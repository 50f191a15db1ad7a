//! The text of statements. Values are literals in the text: several statements go out in one round trip, and each literal
//! has the type of its column, which parameters do not have in comparisons (a number bound as text is compared as a double).

use rowbridge_schema::{Cell, TableName};

use super::binding::Binding;
use super::form::{Note, quote};
use crate::apply::clock;

/// `` `name` ``
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// `` `database`.`table` ``
pub(super) fn qualified(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", ident(schema), ident(&name.name)),
        None => ident(&name.name),
    }
}

/// A string literal under `NO_BACKSLASH_ESCAPES`.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A value that its column cannot hold: the source's column, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadValue {
    pub(super) column: u16,
    pub(super) reason: &'static str,
}

/// Statements under construction.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub(super) bytes: Vec<u8>,
    /// How many error values of enums are in it.
    pub(super) enum_errors: u16,
}

impl Sql {
    pub(super) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Separates the items of a list.
    pub(super) fn separate(&mut self, first: &mut bool, separator: &str) {
        if !std::mem::take(first) {
            self.push(separator);
        }
    }

    /// The literal of a cell for the target's column of source column `column`.
    pub(super) fn value(
        &mut self,
        binding: &Binding,
        column: u16,
        cell: Option<&Cell<'_>>,
    ) -> Result<(), BadValue> {
        let Some(bound) = binding.column(column) else { return Ok(()) };
        let Some(value) = cell.and_then(Cell::as_str) else {
            if bound.not_null {
                let reason = "the target's column is NOT NULL and gets no value";
                return Err(BadValue { column, reason });
            }
            self.push("NULL");
            return Ok(());
        };
        let note =
            bound.form.literal(value, &mut self.bytes).map_err(|reason| BadValue { column, reason })?;
        if note == Note::EnumError {
            self.enum_errors += 1;
        }
        Ok(())
    }

    /// `` `k` = 1 AND .. ``
    pub(super) fn key_is(&mut self, binding: &Binding, key: &[&Cell<'_>]) -> Result<(), BadValue> {
        let mut first = true;
        for (&column, cell) in binding.def.key.iter().zip(key) {
            let Some(bound) = binding.column(column) else { continue };
            self.separate(&mut first, " AND ");
            self.push(&bound.ident);
            self.push(" = ");
            self.in_key(binding, column, cell)?;
        }
        Ok(())
    }

    /// A literal in a comparison: an enum's error value is found by it and not written.
    pub(super) fn in_key(&mut self, binding: &Binding, column: u16, cell: &Cell<'_>) -> Result<(), BadValue> {
        let before = self.enum_errors;
        self.value(binding, column, Some(cell))?;
        self.enum_errors = before;
        Ok(())
    }

    /// `(1, 'a')` or, for one column, `1`.
    pub(super) fn key_tuple(&mut self, binding: &Binding, key: &[&Cell<'_>]) -> Result<(), BadValue> {
        let many = key.len() > 1;
        let mut first = true;
        if many {
            self.push("(");
        }
        for (&column, cell) in binding.def.key.iter().zip(key) {
            self.separate(&mut first, ", ");
            self.in_key(binding, column, cell)?;
        }
        if many {
            self.push(")");
        }
        Ok(())
    }

    /// One more key of a condition that [`Self::end_keys`] ends: `` `k` IN (1, 2) ``, or
    /// `` ((`a` = 1 AND `b` = 2) OR ..) ``, which both servers read as ranges of the key's index.
    pub(super) fn add_key(
        &mut self,
        binding: &Binding,
        key: &[&Cell<'_>],
        first: bool,
    ) -> Result<(), BadValue> {
        if let [column] = binding.def.key[..]
            && let Some(bound) = binding.column(column)
        {
            match first {
                true => {
                    self.push(&bound.ident);
                    self.push(" IN (");
                }
                false => self.push(", "),
            }
            return self.key_tuple(binding, key);
        }
        self.push(if first { "((" } else { " OR (" });
        self.key_is(binding, key)?;
        self.push(")");
        Ok(())
    }

    pub(super) fn end_keys(&mut self) {
        self.push(")");
    }

    /// `` UPDATE t FORCE INDEX (..) SET `` and the assignments of `columns`, and what the server must not set by itself.
    pub(super) fn update_head<'c>(
        &mut self,
        binding: &Binding,
        columns: &[u16],
        cell: impl Fn(u16) -> Option<&'c Cell<'c>>,
    ) -> Result<(), BadValue> {
        self.push("UPDATE ");
        self.push(&binding.table);
        self.push(&binding.force_index);
        self.push(" SET ");
        let mut first = true;
        for &column in columns {
            let Some(bound) = binding.column(column) else { continue };
            self.separate(&mut first, ", ");
            self.push(&bound.ident);
            self.push(" = ");
            self.value(binding, column, cell(column))?;
        }
        for (name, source) in &binding.automatic {
            if !source.is_some_and(|column| columns.contains(&column)) {
                self.separate(&mut first, ", ");
                self.push(&format!("{name} = {name}"));
            }
        }
        if let Some(soft) = &binding.soft {
            self.separate(&mut first, ", ");
            self.push(&soft.ident);
            self.push(" = NULL");
        }
        Ok(())
    }

    /// `` INSERT INTO t (..)  `` up to the values.
    pub(super) fn insert_head(&mut self, binding: &Binding, columns: &[u16]) {
        self.push("INSERT INTO ");
        self.push(&binding.table);
        self.push(" (");
        let mut first = true;
        for bound in columns.iter().filter_map(|&c| binding.column(c)) {
            self.separate(&mut first, ", ");
            self.push(&bound.ident);
        }
        self.push(") ");
    }

    /// The values of some columns, separated by commas.
    pub(super) fn values<'c>(
        &mut self,
        binding: &Binding,
        columns: &[u16],
        cell: impl Fn(u16) -> Option<&'c Cell<'c>>,
    ) -> Result<(), BadValue> {
        let mut first = true;
        for &column in columns {
            if binding.column(column).is_none() {
                continue;
            }
            self.separate(&mut first, ",");
            self.value(binding, column, cell(column))?;
        }
        Ok(())
    }

    /// The end of an upsert of several rows.
    pub(super) fn on_duplicate(&mut self, binding: &Binding, columns: &[u16], row_alias: bool) {
        self.push(if row_alias { " AS n ON DUPLICATE KEY UPDATE " } else { " ON DUPLICATE KEY UPDATE " });
        let mut first = true;
        for &column in columns {
            let Some(bound) = binding.column(column) else { continue };
            if binding.def.key.contains(&column) && !binding.rewrites_key() {
                continue;
            }
            self.separate(&mut first, ", ");
            let name = &bound.ident;
            match row_alias {
                true => self.push(&format!("{name} = n.{name}")),
                false => self.push(&format!("{name} = VALUES({name})")),
            }
        }
        for (name, source) in &binding.automatic {
            if !source.is_some_and(|column| columns.contains(&column)) {
                self.separate(&mut first, ", ");
                self.push(&format!("{name} = {}.{name}", binding.table));
            }
        }
        if let Some(soft) = &binding.soft {
            self.separate(&mut first, ", ");
            self.push(&format!("{} = NULL", soft.ident));
        }
        if first && let Some(name) = binding.key_idents().next() {
            self.push(&format!("{name} = {}.{name}", binding.table));
        }
    }

    /// `` `a` <=> 1 AND .. ``: this very row, told by value and not by collation.
    pub(super) fn same_row<'c>(
        &mut self,
        binding: &Binding,
        columns: &[u16],
        cell: impl Fn(u16) -> Option<&'c Cell<'c>>,
    ) -> Result<(), BadValue> {
        let mut first = true;
        for &column in columns {
            let Some(bound) = binding.column(column) else { continue };
            self.separate(&mut first, " AND ");
            let value = cell(column);
            let before = self.enum_errors;
            if bound.is_json && value.is_some_and(|cell| !cell.is_null()) {
                self.push(&format!("{} <=> CAST(", bound.ident));
                self.value(binding, column, value)?;
                self.push(" AS JSON)");
            } else {
                self.push(&format!("{} <=> ", bound.ident));
                match value.and_then(Cell::as_str) {
                    // Not `value`: a NULL is looked for even where the target has none.
                    None => self.push("NULL"),
                    Some(_) => self.value(binding, column, value)?,
                }
            }
            if bound.is_text
                && let Some(value) = value.and_then(Cell::as_str)
            {
                self.push(&format!(" AND CAST(CONVERT({} USING utf8mb4) AS BINARY) = _binary", bound.ident));
                quote(value.as_bytes(), &mut self.bytes);
            }
            self.enum_errors = before;
        }
        Ok(())
    }
}

/// A commit time as MySQL reads it, with as many digits of a fraction as the column keeps.
pub(super) fn time_text(micros: i64, digits: u32) -> String {
    let mut text = clock::time_text(micros);
    text.truncate(if digits == 0 { 19 } else { 20 + digits.min(6) as usize });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_server_reads_them() {
        assert_eq!(time_text(0, 0), "1970-01-01 00:00:00");
        assert_eq!(time_text(1_709_210_096_000_007, 6), "2024-02-29 12:34:56.000007");
        assert_eq!(time_text(-1, 3), "1969-12-31 23:59:59.999");
    }

    #[test]
    fn names_end_where_they_should() {
        assert_eq!(qualified(&TableName::new("a`b", "c")), "`a``b`.`c`");
        assert_eq!(text("it's"), "'it''s'");
    }
}
