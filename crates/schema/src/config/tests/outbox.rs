//! Who captures and who gets an outbox.

use super::*;
use crate::event::outbox::LOGICAL_MESSAGE;

fn file(endpoints: &str, outbox: &str) -> String {
    format!(
        "[publisher]\nstream = \"shop\"\nstate_dir = \"/s\"\n[source]\nkind = \"postgres\"\n\
         url = \"postgres://u@127.0.0.1/shop\"\ntables = [\"public.*\", \"!public.out*\"]\n\
         [[outbox]]\ntable = \"public.outbox\"\n{outbox}\n{endpoints}"
    )
}

fn endpoint(name: &str, more: &str) -> String {
    format!("[[endpoint]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1/\"\nsecret = \"{SECRET}\"\n{more}\n")
}

#[test]
fn an_outbox_is_captured_and_no_bridge_copies_it_unless_it_is_named() {
    let endpoints = [
        endpoint("all", ""),
        endpoint("pattern", "tables = [\"public.*\"]"),
        endpoint("named", "tables = [\"public.*\", \"public.outbox\"]"),
        endpoint("crm", "format = \"json\""),
        endpoint("orders", "format = \"json\"\ntables = [\"public.orders\"]"),
    ];
    let publisher = publisher(&file(&endpoints.concat(), ""));
    let (outbox, orders) = (TableName::new("public", "outbox"), TableName::new("public", "orders"));
    let tables = &publisher.source.tables;
    assert!(tables.matches(&outbox) && tables.matches(&orders));
    assert!(!tables.matches(&TableName::new("public", "outgoing")), "only the outbox is taken");
    let takes: Vec<_> = publisher.endpoints.iter().map(|endpoint| endpoint.tables.matches(&outbox)).collect();
    assert_eq!(takes, [false, false, true, true, false]);
    assert!(publisher.endpoints.iter().all(|endpoint| endpoint.tables.matches(&orders)));
}

#[test]
fn columns_have_defaults_and_may_be_missing() {
    let crm = endpoint("crm", "format = \"json\"\noperations = [\"message\"]");
    let usual = publisher(&file(&crm, "")).source.outboxes.remove(0);
    let names = [&usual.id, &usual.kind, &usual.key].map(|name| name.as_deref());
    assert_eq!(names, [Some("id"), Some("type"), Some("aggregateid")]);
    assert_eq!((usual.payload.as_str(), usual.json, usual.headers), ("payload", false, None));
    assert_eq!((usual.lines.table, usual.lines.of("key")), (9, 8));
    let own = publisher(&file(&crm, "type = false\nkey = \"order_id\"\njson = true\nheaders = []"));
    let own = &own.source.outboxes[0];
    assert_eq!((&own.kind, own.key.as_deref(), own.json), (&None, Some("order_id"), true));
    assert_eq!((own.headers.as_deref(), own.lines.of("key")), (Some(&[][..]), 11));
}

#[test]
fn logical_messages_are_for_webhooks_and_for_postgres() {
    let endpoints = [endpoint("copy", ""), endpoint("crm", "format = \"json\"")].concat();
    let text = file(&endpoints, "").replace("tables = [", "messages = [\"app.*\"]\ntables = [");
    let publisher = publisher(&text);
    let logical = &publisher.source.outboxes[0];
    assert!(logical.is_logical() && publisher.source.outboxes.len() == 2, "{logical:?}");
    let takes = |at: usize| publisher.endpoints[at].tables.matches(&TableName::bare(LOGICAL_MESSAGE));
    assert_eq!((takes(0), takes(1)), (false, true));
    assert!(!publisher.source.tables.names(LOGICAL_MESSAGE), "no table of the source is called so");
    let told = |line: &str| error_of("source", line);
    assert_eq!(
        told("messages = [\"app.*\"]"),
        "source.messages: has no effect with kind = \"sqlite\" (remove it)"
    );
    let postgres = |value: &str| errors(&text.replace("[\"app.*\"]", value));
    assert!(postgres("[]").contains("source.messages: is an empty list (leave it out to send none)"));
    assert!(postgres("\"app\"").contains("source.messages: expected a list of prefixes, found \"app\""));
    assert!(postgres("[\"!app\"]").contains("source.messages: selects nothing"));
    let bridge = text.replace("format = \"json\"", "");
    assert!(
        errors(&bridge).contains("source.messages: needs an [[endpoint]] with another format"),
        "{}",
        errors(&bridge)
    );
}

#[test]
fn an_outbox_that_nobody_reads_is_told() {
    let text = errors(&file(&endpoint("copy", ""), ""));
    assert_eq!(
        text,
        "rowbridge.toml:8:3: outbox: needs an [[endpoint]] with another format than bridge as well (messages go to \
         endpoints of any format but bridge)"
    );
    let crm = endpoint("crm", "format = \"json\"");
    let twice = errors(&file(&crm, "[[outbox]]\ntable = \"public.outbox\""));
    assert_eq!(twice, "rowbridge.toml:11:9: outbox.table: the same as in line 9 (a table is one outbox)");
    let own = errors(&file(&crm, "[[outbox]]\ntable = \"public.rowbridge_outbox\""));
    assert!(own.contains("expected a table of yours"), "{own}");
}
