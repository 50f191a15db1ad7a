//! `rowbridge check` for outboxes: their tables and columns as they are, and who gets their messages.

use std::path::Path;

use rowbridge_schema::TableDef;
use rowbridge_schema::config::PublisherConfig;
use rowbridge_schema::event::EventOp;
use rowbridge_schema::event::outbox::{Outbox, OutboxConfig, logical_message};

use crate::check::Finding;

/// What the file says of outboxes, compared with the tables that there are.
pub(crate) fn check_outboxes(file: &Path, publisher: &PublisherConfig, tables: &[TableDef]) -> Vec<Finding> {
    publisher.source.outboxes.iter().map(|outbox| check(file, publisher, outbox, tables)).collect()
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

#[cfg(test)]
mod tests {
    use rowbridge_schema::config::{Config, load};
    use rowbridge_schema::{Column, Dialect, TableName};

    use super::*;
    use crate::check::Severity;

    fn config(outbox: &str, endpoint: &str) -> Config {
        let text = format!(
            "[publisher]\nstream = \"shop\"\nstate_dir = \"/s\"\n[source]\nkind = \"sqlite\"\nurl = \"sqlite:/a.db\"\n\
             tables = [\"orders\"]\n[[outbox]]\ntable = \"outbox\"\n{outbox}\n[[endpoint]]\nname = \"crm\"\n\
             url = \"http://127.0.0.1:1/\"\nsecret = \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\nformat = \"json\"\n\
             {endpoint}"
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
}
