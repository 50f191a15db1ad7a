//! Types, made types and conversions against tables of values.

mod conversions;
mod crossings;
mod properties;
pub(crate) mod samples;

use super::{ColumnType, Conversion, Form, Server, Unholdable, made_as};
use crate::cell::{Cell, Class};
use crate::table::{Dialect, TableName, TypeDefinition};

/// User-defined types of the samples.
pub(crate) fn types() -> Vec<TypeDefinition> {
    let name = |name: &str| TableName::new("public", name);
    vec![
        TypeDefinition::Enum {
            name: name("mood"),
            labels: vec!["it's".into(), "a \"b\"".into(), String::new()],
        },
        TypeDefinition::Domain { name: name("price"), base: "numeric(10,2)".into() },
        TypeDefinition::Domain { name: name("Net price"), base: "public.price".into() },
        TypeDefinition::Composite { name: name("address"), fields: vec![("street".into(), "text".into())] },
        TypeDefinition::Range { name: name("floatrange"), subtype: "double precision".into() },
    ]
}

/// Parses a type as a test writes it: MySQL's text types with `@collation` behind them.
pub(crate) fn column(dialect: Dialect, text: &str) -> ColumnType {
    let (name, collation) = match text.split_once('@') {
        Some((name, collation)) => (name, Some(collation)),
        None => (text, None),
    };
    ColumnType::parse(dialect, name, collation, &types())
}

/// Cells as tests write them: `~` is NULL, `r:1.5` a cell with its class (SQLite only).
pub(crate) fn cell(dialect: Dialect, text: &str) -> Cell<'_> {
    if text == "~" {
        return Cell::Null;
    }
    match text.split_once(':').filter(|(tag, _)| dialect == Dialect::Sqlite && tag.len() == 1) {
        Some((tag, rest)) => {
            Class::from_tag(tag).map_or(Cell::text(text), |class| Cell::Classed(class, rest.into()))
        }
        None => Cell::text(text),
    }
}

/// The same the other way.
fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "~".into(),
        Cell::Text(text) => text.to_string(),
        Cell::Classed(class, text) => format!("{}:{text}", class.tag()),
    }
}

/// The type that is made for a type.
fn made(source: &ColumnType, server: Server, form: Option<Form>) -> ColumnType {
    let made = made_as(source, server, 0, form);
    ColumnType::parse(server.dialect(), &made.type_name, made.collation, &[])
}

/// Converts one value into a type.
fn converted(source: &ColumnType, target: &ColumnType, value: &str) -> Result<String, Unholdable> {
    let conversion = Conversion::between(source, target).unwrap_or_else(|error| panic!("{error}"));
    let converted = conversion.convert(cell(source.dialect, value))?;
    // An owned text comes to the same.
    assert_eq!(conversion.convert(cell(source.dialect, value).into_owned()), Ok(converted.clone()));
    Ok(shown(&converted))
}
