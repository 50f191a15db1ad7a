//! `rowbridge schema`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rowbridge_publisher::tables::source_tables;
use rowbridge_schema::TableDef;
use rowbridge_schema::config::PublisherConfig;
use rowbridge_schema::event::json_schema::{cloudevents_schema, json_schema};
use rowbridge_schema::event::xml_schema::xsd;

use crate::failure::{Failure, chain};
use crate::load::ConfigOption;
use crate::output;

/// A server that has said nothing for so long will not.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Cloudevents,
    Xml,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// What the endpoints' `format` is
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// Ask the source of this file for the columns of its captured tables; without it, rows are any objects
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only these tables, as `schema.table` (SQLite: `table`)
    #[arg(value_name = "TABLE", requires = "config")]
    tables: Vec<String>,
}

impl SchemaArgs {
    /// Prints a schema: JSON Schema, or XSD for `xml`, which is the same for all tables.
    ///
    /// # Errors
    /// The configuration, a source that is away, or a table that is not captured.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let tables = match &self.config {
            Some(path) => {
                let option = ConfigOption::of(path.clone());
                let publisher = option.publisher(option.load()?)?;
                let mut tables = asked(&publisher).await?;
                let outboxes = &publisher.source.outboxes;
                // What an outbox holds is a message: its schema is there in any case.
                tables.retain(|def| !outboxes.iter().any(|outbox| outbox.is(&def.name)));
                match tables.is_empty() && !outboxes.is_empty() && self.tables.is_empty() {
                    true => tables,
                    false => chosen(tables, &self.tables)?,
                }
            }
            None => Vec::new(),
        };
        let schema = match self.format {
            Format::Json => json_schema(&tables),
            Format::Cloudevents => cloudevents_schema(&tables),
            Format::Xml => return output::text(xsd()),
        };
        output::line(format_args!("{schema:#}"))
    }
}

async fn asked(publisher: &PublisherConfig) -> Result<Vec<TableDef>, Failure> {
    match tokio::time::timeout(PATIENCE, source_tables(&publisher.source)).await {
        Ok(Ok(tables)) => Ok(tables),
        Ok(Err(error)) => Err(Failure::environment(format!("source: {}", chain(&error))).hint(error.hint())),
        Err(_) => Err(Failure::environment(format!("source: no answer within {} s", PATIENCE.as_secs()))
            .hint(Some("Check host and port of source.url, and the firewalls on the way.".into()))),
    }
}

/// The tables that were named, or all. A schema without tables would describe any row, which nobody asked for here.
fn chosen(mut tables: Vec<TableDef>, names: &[String]) -> Result<Vec<TableDef>, Failure> {
    if tables.is_empty() {
        return Err(Failure::failed(
            "source.tables matches no table of the source; `rowbridge check` says more",
        ));
    }
    let captured = |name: &&String| tables.iter().any(|def| def.name.to_string() == **name);
    if let Some(missing) = names.iter().find(|name| !captured(name)) {
        let known: Vec<String> = tables.iter().map(|def| def.name.to_string()).take(20).collect();
        return Err(Failure::usage(format!(
            "{missing} is not a captured table; there are {}",
            known.join(", ")
        )));
    }
    if !names.is_empty() {
        tables.retain(|def| names.contains(&def.name.to_string()));
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Column, Dialect, TableName};

    use super::*;

    fn table(name: &str) -> TableDef {
        TableDef {
            dialect: Dialect::Postgres,
            name: TableName::new("public", name),
            columns: vec![Column::new("id", "bigint")],
            key: vec![0],
            types: vec![],
            options: vec![],
        }
    }

    #[test]
    fn tables_are_chosen_by_name_and_unknown_ones_are_told() {
        let all = || vec![table("items"), table("orders")];
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(all(), &names)
        };
        assert_eq!(names(&[]).unwrap(), all());
        assert_eq!(names(&["public.orders"]).unwrap(), [table("orders")]);
        let failure = names(&["orders"]).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        assert_eq!(failure.message, "orders is not a captured table; there are public.items, public.orders");
        assert_eq!(chosen(vec![], &[]).unwrap_err().exit.code(), 1);
    }
}
