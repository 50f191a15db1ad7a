//! Makes what a target lacks: schemas, user-defined types, tables with their columns and key. No foreign keys, checks,
//! triggers or further indexes: those belong to the operator, and loading without them is faster.

use rowbridge_schema::sql::{ident, literal, qualified};
use rowbridge_schema::{TableDef, TableName, TypeDefinition};
use tokio_postgres::types::Type;
use tracing::info;

use super::catalog::{add_label, missing_labels};
use super::session::Session;
use crate::plan::MappedTable;

/// Why something could not be made.
#[derive(Debug)]
pub(super) enum CreateError {
    /// A text of the definition is no type name.
    NotAType { column: String, type_name: String },
    /// The server says no to a statement.
    Statement { sql: String, source: tokio_postgres::Error },
    /// Something else went wrong.
    Server(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for CreateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

/// unique_violation (in the catalog), duplicate_schema, duplicate_table, duplicate_object.
const MADE_BY_OTHERS: &[&str] = &["23505", "42P06", "42P07", "42710"];

/// Runs one statement: the extended protocol takes no second one behind a semicolon.
async fn run(session: &Session, sql: String) -> Result<(), CreateError> {
    match session.client.execute(sql.as_str(), &[]).await {
        Ok(_) => Ok(()),
        // Another lane makes the same at the same time: IF NOT EXISTS does not look at what is not committed yet.
        Err(error) if error.code().is_some_and(|state| MADE_BY_OTHERS.contains(&state.code())) => Ok(()),
        Err(source) => Err(CreateError::Statement { sql, source }),
    }
}

async fn schema(session: &Session, name: &TableName) -> Result<(), CreateError> {
    let Some(schema) = &name.schema else { return Ok(()) };
    // CREATE SCHEMA IF NOT EXISTS asks for the privilege even when there is nothing to make.
    let exists =
        session.client.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&ident(schema)]).await?;
    if exists.get(0) {
        return Ok(());
    }
    run(session, format!("CREATE SCHEMA IF NOT EXISTS {}", ident(schema))).await
}

/// Types come as text from the publisher: only what the server reads as one type name goes into a statement.
async fn check_type(session: &Session, column: &str, type_name: &str) -> Result<(), CreateError> {
    let statement = session.client.prepare_typed("SELECT to_regtype($1) IS NOT NULL", &[Type::TEXT]).await?;
    let known = match session.client.query_one(&statement, &[&type_name]).await {
        Ok(row) => row.get(0),
        Err(error) if error.code().is_some() => false,
        Err(error) => return Err(error.into()),
    };
    if known {
        return Ok(());
    }
    Err(CreateError::NotAType { column: column.to_owned(), type_name: type_name.to_owned() })
}

/// Makes the user-defined types of a shape that are missing, and the labels that existing enums lack.
///
/// A new label cannot be used in the transaction that adds it: this runs before the one of the rows.
pub(super) async fn types(session: &Session, def: &TableDef) -> Result<(), CreateError> {
    for definition in &def.types {
        let name = match definition {
            TypeDefinition::Enum { name, .. }
            | TypeDefinition::Domain { name, .. }
            | TypeDefinition::Composite { name, .. }
            | TypeDefinition::Range { name, .. } => name,
        };
        if let TypeDefinition::Enum { labels, .. } = definition
            && let Some(missing) = missing_labels(session, name, labels).await?
        {
            for label in &missing {
                run(session, add_label(name, labels, label)).await?;
                info!(r#type = %name, "added an enum label to the target");
            }
            continue;
        }
        let exists =
            session.client.query_one("SELECT to_regtype($1) IS NOT NULL", &[&qualified(name)]).await?;
        if exists.get(0) {
            continue;
        }
        schema(session, name).await?;
        let sql = match definition {
            TypeDefinition::Enum { labels, .. } => {
                let labels: Vec<_> = labels.iter().map(|label| literal(label)).collect();
                format!("CREATE TYPE {} AS ENUM ({})", qualified(name), labels.join(", "))
            }
            TypeDefinition::Domain { base, .. } => {
                check_type(session, &name.name, base).await?;
                format!("CREATE DOMAIN {} AS {base}", qualified(name))
            }
            TypeDefinition::Composite { fields, .. } => {
                let mut list = Vec::with_capacity(fields.len());
                for (field, type_name) in fields {
                    check_type(session, field, type_name).await?;
                    list.push(format!("{} {type_name}", ident(field)));
                }
                format!("CREATE TYPE {} AS ({})", qualified(name), list.join(", "))
            }
            TypeDefinition::Range { subtype, .. } => {
                check_type(session, &name.name, subtype).await?;
                format!("CREATE TYPE {} AS RANGE (SUBTYPE = {subtype})", qualified(name))
            }
        };
        run(session, sql).await?;
        info!(r#type = %name, "made a type at the target");
    }
    Ok(())
}

/// Makes the table.
pub(super) async fn table(
    session: &Session,
    def: &TableDef,
    mapped: &MappedTable,
    target: &TableName,
) -> Result<(), CreateError> {
    schema(session, target).await?;
    for (column, name) in def.columns.iter().zip(&mapped.columns) {
        if name.is_some() || column.generated.is_some() {
            check_type(session, &column.name, &column.type_name).await?;
        }
    }
    run(session, table_sql(def, mapped, target)).await?;
    info!(
        table = %target,
        "made a table at the target: columns and key only, no foreign keys, checks, triggers or other indexes"
    );
    Ok(())
}

/// The statement that makes the table.
pub(super) fn table_sql(def: &TableDef, mapped: &MappedTable, target: &TableName) -> String {
    // Generation expressions name columns as the source does.
    let renamed =
        def.columns.iter().zip(&mapped.columns).any(|(column, name)| {
            column.generated.is_none() && name.as_deref() != Some(column.name.as_str())
        });
    let mut list = Vec::new();
    for (index, (column, name)) in def.columns.iter().zip(&mapped.columns).enumerate() {
        if let Some(expression) = &column.generated {
            if !renamed {
                list.push(format!(
                    "{} {} GENERATED ALWAYS AS ({expression}) STORED",
                    ident(&column.name),
                    column.type_name
                ));
            }
            continue;
        }
        let Some(name) = name else { continue };
        let in_key = def.key.iter().any(|&k| usize::from(k) == index);
        let not_null = if column.not_null || in_key { " NOT NULL" } else { "" };
        list.push(format!("{} {}{not_null}", ident(name), column.type_name));
    }
    if let rowbridge_schema::config::DeletePolicy::Soft(column) = &mapped.delete {
        list.push(format!("{} timestamptz", ident(column)));
    }
    let key: Vec<_> = def.key.iter().filter_map(|&k| mapped.column(k)).map(ident).collect();
    if !key.is_empty() {
        list.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE IF NOT EXISTS {} ({})", qualified(target), list.join(", "))
}
