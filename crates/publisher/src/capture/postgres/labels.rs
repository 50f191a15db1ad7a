//! Labels of enums: a new one is announced nowhere in the stream, and a target must have it before its first row.

use std::borrow::Cow;
use std::collections::HashSet;

use rowbridge_schema::{TableName, TypeDefinition};
use tokio_postgres::Client;

use super::error::PostgresError;
use super::pgoutput::{Cell, Tuple};
use super::relation::Announced;

/// Types below are the server's own; source: `FirstNormalObjectId` in `access/transam.h`.
const FIRST_USER_OID: u32 = 16384;

/// A column of an enum, or of arrays or of a domain of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnumColumn {
    /// Where it stands in the relation.
    at: usize,
    is_array: bool,
    name: TableName,
    known: HashSet<String>,
}

/// Which of the announced columns hold labels, and the labels that there are now.
pub(super) async fn enum_columns(
    announced: &Announced,
    client: &Client,
) -> Result<Vec<EnumColumn>, PostgresError> {
    let oids: Vec<u32> = announced.columns.iter().map(|column| column.type_oid).collect();
    if oids.iter().all(|oid| *oid < FIRST_USER_OID) {
        return Ok(Vec::new());
    }
    let failed = |source| PostgresError::query("read the labels of enums", source);
    let rows = client
        .query(
            "SELECT a.at - 1, b.typcategory = 'A', n.nspname::text, l.typname::text, pg_catalog.array_agg(e.enumlabel::text)
             FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY AS a(type, at)
             JOIN pg_catalog.pg_type t ON t.oid = a.type
             JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
             JOIN pg_catalog.pg_type l ON l.oid = CASE WHEN b.typcategory = 'A' THEN b.typelem ELSE b.oid END
             JOIN pg_catalog.pg_namespace n ON n.oid = l.typnamespace
             JOIN pg_catalog.pg_enum e ON e.enumtypid = l.oid
             GROUP BY 1, 2, 3, 4",
            &[&oids],
        )
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let at: i64 = row.try_get(0).map_err(failed)?;
            let schema: String = row.try_get(2).map_err(failed)?;
            let name: String = row.try_get(3).map_err(failed)?;
            let labels: Vec<String> = row.try_get(4).map_err(failed)?;
            Ok(EnumColumn {
                at: usize::try_from(at).unwrap_or(usize::MAX),
                is_array: row.try_get(1).map_err(failed)?,
                name: TableName::new(&schema, &name),
                known: labels.into_iter().collect(),
            })
        })
        .collect()
}

/// Takes for known what a shape tells the target, which may have been read before the labels were.
pub(super) fn know_only(columns: &mut [EnumColumn], told: &[TypeDefinition]) {
    for column in columns {
        let labels = told.iter().find_map(|definition| match definition {
            TypeDefinition::Enum { name, labels } => (*name == column.name).then_some(labels),
            _ => None,
        });
        if let Some(labels) = labels {
            column.known = labels.iter().cloned().collect();
        }
    }
}

/// Labels of a row that are not known.
pub(super) fn unknown<'a>(columns: &'a [EnumColumn], row: &Tuple<'a>) -> Vec<(usize, Cow<'a, str>)> {
    let mut unknown = Vec::new();
    if columns.is_empty() {
        return unknown;
    }
    let cells: Vec<Cell<'a>> = row.cells().collect();
    for (index, column) in columns.iter().enumerate() {
        let Some(Cell::Text(text)) = cells.get(column.at) else { continue };
        let labels = if column.is_array { elements(text) } else { vec![Cow::Borrowed(*text)] };
        let new = labels.into_iter().filter(|label| !column.known.contains(&**label));
        unknown.extend(new.map(|label| (index, label)));
    }
    unknown
}

/// Takes a label for known: one that was renamed after the row was written is in no catalog.
pub(super) fn accept(columns: &mut [EnumColumn], labels: Vec<(usize, String)>) {
    for (index, label) in labels {
        if let Some(column) = columns.get_mut(index) {
            column.known.insert(label);
        }
    }
}

/// What an array's text holds, whatever its dimensions and bounds. Source: PostgreSQL manual, "Array Input and Output
/// Syntax".
fn elements(text: &str) -> Vec<Cow<'_, str>> {
    let mut found = Vec::new();
    let Some(begin) = text.find('{') else { return found };
    let mut rest = &text[begin..];
    while let Some(next) = rest.chars().next() {
        match next {
            '{' | '}' | ',' => rest = &rest[1..],
            '"' => {
                let mut label = String::new();
                let mut chars = rest[1..].char_indices();
                let mut end = rest.len();
                while let Some((at, char)) = chars.next() {
                    match char {
                        '"' => {
                            end = at + 2;
                            break;
                        }
                        '\\' => label.extend(chars.next().map(|(_, escaped)| escaped)),
                        _ => label.push(char),
                    }
                }
                found.push(Cow::Owned(label));
                rest = &rest[end..];
            }
            _ => {
                let (element, behind) = rest.split_at(rest.find(['{', '}', ',']).unwrap_or(rest.len()));
                if element != "NULL" {
                    found.push(Cow::Borrowed(element));
                }
                rest = behind;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The catalog's labels are read after the shape: what came in between is news to the target.
    #[test]
    fn a_label_that_the_shape_lacks_is_unknown() {
        let name = TableName::new("public", "mood");
        let known = ["sad", "new"].map(str::to_owned).into();
        let mut columns = [EnumColumn { at: 0, is_array: false, name: name.clone(), known }];
        know_only(&mut columns, &[]);
        assert!(columns[0].known.contains("new"));
        know_only(&mut columns, &[TypeDefinition::Enum { name, labels: vec!["sad".to_owned()] }]);
        assert!(columns[0].known.contains("sad") && !columns[0].known.contains("new"));
        accept(&mut columns, vec![(0, "new".to_owned())]);
        assert!(columns[0].known.contains("new"));
    }

    #[test]
    fn elements_of_an_array_are_found() {
        assert_eq!(elements("{}"), Vec::<String>::new());
        assert_eq!(elements("{a,NULL,\"NULL\",\"b c\"}"), ["a", "NULL", "b c"]);
        assert_eq!(elements("[0:1][1:1]={{\"x\\\"{,\\\\\"},{ä}}"), ["x\"{,\\", "ä"]);
        assert_eq!(elements("broken \""), Vec::<String>::new());
        assert_eq!(elements("{\"broken"), ["broken"]);
    }
}
