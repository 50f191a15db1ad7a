//! `rowbridge check` for outboxes: their tables and columns as they are, and who gets their messages.

use std::path::Path;

use rowbridge_schema::TableDef;
use rowbridge_schema::config::{CloudEventsMode, EventFormat, PublisherConfig};
use rowbridge_schema::event::outbox::{Outbox, OutboxConfig, logical_message};
use rowbridge_schema::event::{EventOp, cloudevents};

use crate::check::Finding;

/// What the file says of outboxes, compared with the tables that there are.
pub(crate) fn check_outboxes(file: &Path, publisher: &PublisherConfig, tables: &[TableDef]) -> Vec<Finding> {
    let outboxes = publisher.source.outboxes.iter();
    outboxes
        .flat_map(|outbox| {
            let finding = check(file, publisher, outbox, tables);
            [finding].into_iter().chain(check_attributes(file, publisher, outbox, tables))
        })
        .collect()
}

fn check(file: &Path, publisher: &PublisherConfig, outbox: &OutboxConfig, tables: &[TableDef]) -> Finding {
    let section = if outbox.is_logical() { "source" } else { "outbox" };
    let place = |key: &str| format!("{}:{}: {section}.{key}: ", file.display(), outbox.lines.of(key));
    let logical = outbox.is_logical().then(logical_message);
    let Some(def) = tables.iter().chain(&logical).find(|def| outbox.is(&def.name)) else {
        return Finding::warning(
            format!("{}there is no table {}", place("table"), outbox.table),
            "Create it, or correct the name: schema.table, for MySQL database.table, for SQLite the table alone.",
        );
    };
    if let Err(error) = Outbox::compile(outbox, def) {
        return Finding::error(format!("{}{error}", place(error.key())), error.fix());
    }
    let takes = |op: EventOp| {
        publisher.endpoints.iter().any(|endpoint| {
            let webhook = endpoint.webhook.as_ref();
            webhook.is_some_and(|webhook| webhook.operations.contains(&op))
                && endpoint.tables.matches(&def.name)
        })
    };
    if !takes(EventOp::Message) {
        let key = if outbox.is_logical() { "messages" } else { "table" };
        return Finding::warning(
            format!("{}no endpoint takes the messages of {}", place(key), outbox.table),
            "Name the table in tables of an endpoint, and \"message\" in its operations, or leave both out.",
        );
    }
    if outbox.is_logical() {
        return Finding::ok("logical messages are sent");
    }
    Finding::ok(format!("{} is an outbox: new rows are messages", outbox.table))
}

/// Columns that travel along, but are no attributes of the CloudEvents that some endpoint gets.
fn check_attributes(
    file: &Path,
    publisher: &PublisherConfig,
    outbox: &OutboxConfig,
    tables: &[TableDef],
) -> Vec<Finding> {
    let def = tables.iter().find(|def| outbox.is(&def.name));
    let compiled = def.and_then(|def| Some((def, Outbox::compile(outbox, def).ok()?)));
    let Some((def, compiled)) = compiled else { return Vec::new() };
    let mut findings = Vec::new();
    let mut told = false;
    for endpoint in publisher.endpoints.iter().filter(|endpoint| endpoint.tables.matches(&def.name)) {
        let Some(webhook) = &endpoint.webhook else { continue };
        let EventFormat::CloudEvents(mode) = webhook.format else { continue };
        if !webhook.operations.contains(&EventOp::Message) {
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            let place = format!("{}:{}: outbox.headers: ", file.display(), outbox.lines.of("headers"));
            findings.extend(cloudevents::left_out(compiled.headers()).into_iter().map(|left| {
                Finding::warning(
                    format!("{place}{} of {} is left out of CloudEvents: {}", left.column, outbox.table, left.why),
                    "Rename the column, or list in outbox.headers the columns that are to travel, without it.",
                )
            }));
        }
        if mode != CloudEventsMode::Binary {
            continue;
        }
        let left_out = cloudevents::left_out(compiled.headers());
        for column in compiled.headers().filter(|column| left_out.iter().all(|left| left.column != *column)) {
            let header = cloudevents::extension_header(column);
            if webhook.request.headers.iter().any(|(name, _)| *name == header) {
                findings.push(Finding::warning(
                    format!(
                        "{}:{}: endpoint.headers.{header}: messages of {} have the column {column} in this header",
                        file.display(),
                        webhook.lines.headers,
                        outbox.table
                    ),
                    format!("The column's value is sent. Rename the header of endpoint {}.", endpoint.name),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::config::{Config, load};
    use rowbridge_schema::{Column, Dialect, TableName};

    use super::*;
    use crate::check::Severity;

    fn config(outbox: &str, endpoint: &str) -> Config {
        let format = if endpoint.contains("format") { "" } else { "format = \"json\"\n" };
        let text = format!(
            "[publisher]\nstream = \"shop\"\nstate_dir = \"/s\"\n[source]\nkind = \"sqlite\"\nurl = \"sqlite:/a.db\"\n\
             tables = [\"orders\"]\n[[outbox]]\ntable = \"outbox\"\n{outbox}\n[[endpoint]]\nname = \"crm\"\n\
             url = \"http://127.0.0.1:1/\"\nsecret = \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n{format}{endpoint}"
        );
        load(Path::new("f"), &text, &|_| None, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    fn told(outbox: &str, endpoint: &str, tables: &[TableDef]) -> Finding {
        let publisher = config(outbox, endpoint).publisher.unwrap();
        check_outboxes(Path::new("f"), &publisher, tables).remove(0)
    }

    fn table() -> TableDef {
        TableDef {
            dialect: Dialect::Sqlite,
            name: TableName::bare("outbox"),
            columns: ["id", "type", "aggregateid", "payload"].map(|name| Column::new(name, "TEXT")).to_vec(),
            key: vec![0],
            types: Vec::new(),
            options: Vec::new(),
        }
    }

    #[test]
    fn what_is_missing_is_told_with_line_and_key() {
        assert_eq!(told("", "", &[table()]).severity, Severity::Ok);
        let missing = told("", "", &[]);
        assert_eq!(
            (missing.severity, missing.what.as_str()),
            (Severity::Warning, "f:9: outbox.table: there is no table outbox")
        );
        let column = told("\nkey = \"order_id\"", "", &[table()]);
        assert_eq!(column.severity, Severity::Error);
        assert!(column.what.starts_with("f:11: outbox.key: outbox has no column order_id"), "{column:?}");
        let unread = told("", "operations = [\"insert\"]", &[table()]);
        assert_eq!(unread.severity, Severity::Warning, "{unread:?}");
        assert_eq!(told("", "tables = [\"orders\"]", &[table()]).severity, Severity::Warning);
    }

    #[test]
    fn columns_that_are_no_attributes_are_told() {
        let mut table = table();
        table.columns.extend(["source", "tenant", "Tenant_", "-"].map(|name| Column::new(name, "TEXT")));
        let told = |outbox: &str, endpoint: &str| -> Vec<String> {
            let publisher = config(outbox, endpoint).publisher.unwrap();
            let findings = check_outboxes(Path::new("f"), &publisher, std::slice::from_ref(&table));
            let warnings = findings.into_iter().filter(|finding| finding.severity == Severity::Warning);
            warnings.map(|finding| finding.what).collect()
        };
        let cloud = "format = \"cloudevents\"";
        let left = |column: &str, why: &str| {
            format!("f:8: outbox.headers: {column} of outbox is left out of CloudEvents: {why}")
        };
        assert_eq!(
            told("", cloud),
            [
                left("source", "the attribute source is the event's own"),
                left("Tenant_", "the attribute tenant is the column tenant already"),
                left(
                    "-",
                    "an attribute's name consists of the letters a to z and digits, and nothing of this one does"
                ),
            ]
        );
        assert_eq!(told("headers = [\"tenant\"]", cloud), [""; 0]);
        assert_eq!(told("", "format = \"json\""), [""; 0]);
        let binary =
            format!("{cloud}\nmode = \"binary\"\nheaders = {{ CE-Tenant = \"a\", ce-other = \"b\" }}");
        assert_eq!(
            told("headers = [\"tenant\"]", &binary),
            ["f:17: endpoint.headers.ce-tenant: messages of outbox have the column tenant in this header"]
        );
    }
}
