//! Whether the source sends the old values that filters ask for.

use std::path::Path;

use rowbridge_schema::config::{DatabaseUrl, PublisherConfig, WebhookConfig};
use rowbridge_schema::expr::{Program, Usage};
use rowbridge_schema::sql::qualified;
use rowbridge_schema::{TableDef, TableName};

use super::{Finding, chain};
use crate::capture::{OldRows, mysql, postgres, sqlite};
use crate::source::connector;
use crate::webhook::is_membership;

/// What an expression of an endpoint asks of a table's old rows.
struct Asked<'a> {
    /// File, line and key.
    place: String,
    table: &'a TableName,
    /// Columns outside the key, of which no source is without the old values.
    columns: Vec<&'a str>,
    /// It says which rows, not which events.
    membership: bool,
}

impl Asked<'_> {
    fn warning(&self, who: &str, fix: String) -> Finding {
        let Self { place, table, columns, membership } = self;
        let columns = columns.join(", ");
        let seen = match membership {
            true => {
                "whether a row was in the filter before is not known: one that enters it arrives as an update, and each \
                 update of one that is not in it as a delete"
            }
            false => "before is null there, and changed(...) is false",
        };
        Finding::warning(format!("{place}{who} does not send old values of {table} ({columns}): {seen}"), fix)
    }
}

/// Compares what endpoints' filters and computed columns ask of old rows with what the source sends. `file` names the
/// configuration, `tables` are those of the source. Asks the source only if something is asked of it.
pub async fn check_old_rows(file: &Path, publisher: &PublisherConfig, tables: &[TableDef]) -> Vec<Finding> {
    let mut asked = Vec::new();
    for endpoint in &publisher.endpoints {
        let Some(webhook) = &endpoint.webhook else { continue };
        for def in tables.iter().filter(|def| endpoint.tables.matches(&def.name)) {
            asked.extend(of_table(file, webhook, def));
        }
    }
    let failed = |error: &dyn std::error::Error| {
        vec![Finding::warning(format!("whether old rows are sent is not known: {}", chain(error)), "")]
    };
    match &publisher.source.database {
        DatabaseUrl::Sqlite(_) => logged_rows(publisher, tables),
        _ if asked.is_empty() => Vec::new(),
        DatabaseUrl::Postgres(url) => {
            let names: Vec<&TableName> = asked.iter().map(|asked| asked.table).collect();
            let connector = match connector(url) {
                Ok(connector) => connector,
                Err(error) => return failed(&error),
            };
            match postgres::check::without_old_rows(&connector, &names).await {
                Ok(without) => asked.iter().filter_map(|asked| in_postgres(asked, &without)).collect(),
                Err(error) => failed(&error),
            }
        }
        DatabaseUrl::Mysql(url) => {
            let connector = match mysql::client::Connector::new(url) {
                Ok(connector) => connector,
                Err(error) => return failed(&error),
            };
            match mysql::check::without_old_rows(&connector).await {
                Ok(None) => Vec::new(),
                Ok(Some((setting, fix))) => {
                    asked.iter().map(|asked| asked.warning(&setting, fix.clone())).collect()
                }
                Err(error) => failed(&error),
            }
        }
    }
}

fn of_table<'a>(file: &Path, webhook: &'a WebhookConfig, def: &'a TableDef) -> Vec<Asked<'a>> {
    let place = |line: usize, key: &str| format!("{}:{line}: endpoint.{key}: ", file.display());
    let ask = |place: String, program: &'a Program, membership: bool| {
        let columns = columns(program, def, membership);
        (!columns.is_empty()).then_some(Asked { place, table: &def.name, columns, membership })
    };
    let when = webhook.when.as_ref();
    let when = when.and_then(|when| ask(place(webhook.lines.when, "when"), when, is_membership(when)));
    let computed = webhook.shape.computed.iter();
    let computed =
        computed.filter_map(|made| ask(place(webhook.lines.columns, "columns"), &made.program, false));
    when.into_iter().chain(computed).collect()
}

/// Columns outside the key whose old values a program asks for.
fn columns<'a>(program: &'a Program, def: &TableDef, membership: bool) -> Vec<&'a str> {
    let in_key = |name: &str| {
        def.key.iter().any(|&at| def.columns.get(usize::from(at)).is_some_and(|c| c.name == name))
    };
    let mut names = Vec::new();
    for used in program.columns() {
        let asks = match used.usage {
            Usage::Before | Usage::Changed => true,
            Usage::After => membership,
            Usage::Key => false,
        };
        if asks && !in_key(used.name) && !names.contains(&used.name) {
            names.push(used.name);
        }
    }
    names
}

/// `without` are the tables that do not send old rows, each with the relations that must be altered.
fn in_postgres(asked: &Asked<'_>, without: &[(TableName, Vec<TableName>)]) -> Option<Finding> {
    let (_, relations) = without.iter().find(|(name, _)| name == asked.table)?;
    let statement = |name: &TableName| format!("ALTER TABLE {} REPLICA IDENTITY FULL;", qualified(name));
    let statements: Vec<String> = relations.iter().map(statement).collect();
    Some(asked.warning("the server", statements.join("\n")))
}

/// SQLite's triggers log what is asked of them; what that takes of the log is worth a line.
fn logged_rows(publisher: &PublisherConfig, tables: &[TableDef]) -> Vec<Finding> {
    let old_rows = OldRows::of(&publisher.endpoints);
    let logged = tables.iter().filter(|def| !def.key.is_empty() && old_rows.of_table(&def.name));
    logged
        .map(|def| {
            let rows = sqlite::rows_per_update(2 * def.sent_columns().len());
            Finding::ok(format!(
                "{}: updates are logged with the whole old row ({rows} of source.max_log_rows each)",
                def.name
            ))
        })
        .collect()
}
