//! `keep` and `columns` of an endpoint: what it sees of its tables' columns.

use toml::de::DeValue;

use super::error::Problem;
use super::reader::{Field, Keys, Reader, Section, quoted_key};
use crate::event::shape::{Action, ColumnRule, ComputedColumn, ShapeConfig};
use crate::expr::{Program, Purpose, Scope};
use crate::secret::Secret;

const COLUMN: Keys =
    Keys { section: "endpoint.columns", keys: &["to", "mask", "mask_all_but", "hash", "truncate", "value"] };

const EXPECTED: &str = "false, a new name, or what becomes of the column";
const WAY_OUT: &str = "such as false, \"client_id\", { mask = true }, { hash = \"${KEY}\" }, { truncate = 100 } or \
                       { value = \"after.price * after.count\" }";

pub(super) fn shape(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<ShapeConfig> {
    let keep = match section.get("keep") {
        None => Some(None),
        Some(field) => keep(reader, &field).map(Some),
    };
    let mut shape = ShapeConfig::default();
    let columns = match section.get("columns") {
        None => Some(()),
        Some(field) => columns(reader, &field, &mut shape),
    };
    columns?;
    shape.keep = keep?;
    Some(shape)
}

fn keep(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<Vec<String>> {
    let elements = reader.list(field, "a list of columns", "[\"id\", \"total\"]")?;
    if elements.is_empty() {
        reader.report(field, Problem::EmptyList { way_out: "leave it out to send all columns" });
        return None;
    }
    elements.iter().map(|element| reader.filled_text(element, "a column's name", "\"id\"")).collect()
}

fn columns(reader: &mut Reader<'_>, field: &Field<'_>, shape: &mut ShapeConfig) -> Option<()> {
    let DeValue::Table(table) = field.value else {
        return reader.unexpected(
            field,
            "a table of columns",
            "such as { email = { mask = true }, note = false }",
        );
    };
    let mut fine = Some(());
    for (name, value) in table.iter() {
        let name = name.get_ref().as_ref();
        let child = field.child(format!("{}.{}", field.key, quoted_key(name)), value);
        fine = column(reader, &child, name, shape).and(fine);
    }
    fine
}

fn column(reader: &mut Reader<'_>, field: &Field<'_>, name: &str, shape: &mut ShapeConfig) -> Option<()> {
    let rule = match field.value {
        DeValue::Boolean(false) => ColumnRule { action: Action::Drop, rename: None },
        DeValue::String(_) => {
            let to = reader.filled_text(field, EXPECTED, "\"client_id\"")?;
            ColumnRule { action: Action::Pass, rename: Some(to) }
        }
        DeValue::Table(table) => {
            let section = reader.open(table, field.at, &COLUMN);
            if let Some(value) = section.get("value") {
                return computed(reader, &section, &value, name, shape);
            }
            rule(reader, field, &section)?
        }
        _ => return reader.unexpected(field, EXPECTED, WAY_OUT),
    };
    shape.columns.push((name.to_owned(), rule));
    Some(())
}

fn rule(reader: &mut Reader<'_>, field: &Field<'_>, section: &Section<'_>) -> Option<ColumnRule> {
    let rename = match section.get("to") {
        None => None,
        Some(field) => Some(reader.filled_text(&field, "a column's name", "\"client_id\"")?),
    };
    let mut actions = Vec::new();
    if let Some(field) = section.get("mask")
        && reader.boolean(&field)?
    {
        actions.push(Action::Mask);
    }
    if let Some(field) = section.get("mask_all_but") {
        let last = reader.count_of(&field, "a number of characters", "such as 4")?;
        actions.push(Action::MaskAllBut { last: usize::try_from(last).ok()? });
    }
    if let Some(field) = section.get("hash") {
        let key = reader.filled_text(&field.secret(), "a key", "\"${HASH_KEY}\"")?;
        if key.len() < ShapeConfig::HASH_KEY_BYTES {
            reader.report(&field, Problem::TooSmall { least: "16 bytes: shorter keys can be tried out" });
            return None;
        }
        actions.push(Action::Hash { key: Secret::new(key) });
    }
    if let Some(field) = section.get("truncate") {
        let chars = reader.count_of(&field, "a number of characters", "such as 100")?;
        actions.push(Action::Truncate { chars: usize::try_from(chars).ok()? });
    }
    if actions.len() > 1 || actions.is_empty() && rename.is_none() {
        return reader.unexpected(field, "one of to, mask, mask_all_but, hash, truncate or value", WAY_OUT);
    }
    Some(ColumnRule { action: actions.pop().unwrap_or_default(), rename })
}

fn computed(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    value: &Field<'_>,
    name: &str,
    shape: &mut ShapeConfig,
) -> Option<()> {
    let others = ["to", "mask", "mask_all_but", "hash", "truncate"];
    if let Some(other) = others.iter().find_map(|key| section.get(key)) {
        let way_out = "a computed column is named by its key";
        reader.report(&other, Problem::Contradicts { other: "value", way_out });
        return None;
    }
    let text = reader.filled_text(value, "an expression", "\"after.price * after.count\"")?;
    let program = Program::parse(&text).and_then(|program| {
        program.check(&Scope { table: None, purpose: Purpose::Value })?;
        Ok(program)
    });
    let program = program.map_err(|error| reader.report(value, Problem::expression(&text, error))).ok()?;
    shape.computed.push(ComputedColumn { name: name.to_owned(), program });
    Some(())
}
