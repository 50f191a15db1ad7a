//! Messages, which have no rows, and rows, which are no messages.

use super::*;

fn input<'a>(row: &'a dyn Row, table: &'a TableName) -> Input<'a> {
    Input {
        op: EventOp::Message,
        before: None,
        after: None,
        message: Some(row),
        table,
        stream: "shop",
        endpoint: "chat",
        position: Position { epoch: 1, offset: Offset { file: 2, at: 3 }, ordinal: 4 },
        committed_at: 0,
    }
}

fn passes(text: &str) -> bool {
    let row =
        cells(&["6a0f", "order.paid", "~", "{\"total\": 19.90, \"lines\": [1]}", "{\"tenant\": \"a\"}"]);
    let table = TableName::new("public", "outbox");
    Program::parse(text).unwrap().bind_message().unwrap().matches(&input(&row, &table)).unwrap()
}

#[test]
fn conditions_ask_for_what_a_message_says() {
    for text in [
        "op == 'message'",
        "message != null",
        "message.type == 'order.paid'",
        "message.type.startsWith('order.') && message.id == '6a0f'",
        "message.key == null",
        "message.payload.total > 19.8 && message.payload.lines[0] == 1",
        "message['headers'].tenant in ['a', 'b']",
        "has(message.payload.total) && !has(message.payload.vat)",
        "after == null && before == null && after.total == null",
        "table == 'outbox'",
    ] {
        assert!(passes(text), "{text}");
    }
    // What speaks of rows picks no message, whatever their columns.
    for text in
        ["after.total > 1", "op == 'insert'", "changed('status')", "key.id == 1", "message.payload.x > 0"]
    {
        assert!(!passes(text), "{text}");
    }
}

#[test]
fn a_row_is_no_message() {
    let table = orders();
    let bound =
        Program::parse("message.type == 'order.paid'").unwrap().bind(&table, Purpose::Condition).unwrap();
    let row = cells(&NEW);
    let input = Input { op: EventOp::Insert, after: Some(&row), message: None, ..input(&row, &table.name) };
    assert!(!bound.matches(&input).unwrap());
    let bound = Program::parse("message == null").unwrap().bind(&table, Purpose::Condition).unwrap();
    assert!(bound.matches(&input).unwrap());
}

#[test]
fn names_that_a_message_does_not_have_are_told_without_a_table() {
    let scope = Scope { table: None, purpose: Purpose::Condition };
    let told = |text: &str| Program::parse(text).unwrap().check(&scope).unwrap_err().to_string();
    assert_eq!(told("message.kye == 'a'"), "a message has no `kye` (did you mean `key`?)");
    assert_eq!(told("has(message.topic)"), "a message has no `topic`");
    assert!(told("message.type > 1").contains("cannot be compared"), "{}", told("message.type > 1"));
}
