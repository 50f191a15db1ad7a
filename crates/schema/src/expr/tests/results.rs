//! What programs say about rows.

use super::*;

#[test]
fn numbers_are_compared_exactly() {
    all_hold(
        &Change::update(),
        &[
            "after.id == 9007199254740993",
            "NOT after.id == 9007199254740992.0",
            "after.id > 9007199254740992.0",
            "9007199254740993 > 9007199254740992.0",
            "0.1 + 0.2 == 0.3",
            "after.rate == 0.1",
            "after.rate + 0.2 == 0.3",
            "after.total == 1234567890123456789012345678.0000000001",
            "after.total > 1234567890123456789012345678",
            "after.total < 1234567890123456789012345678.00000000011",
            "1.0 == 1 && 1e3 == 1000u && 0x10 == 16 && .5 == 0.5 && 1.50 == 15e-1",
            "-0.0 == 0 && 0 == -0",
        ],
    );
    all_hold(
        &Change::update(),
        &[
            "NOT before.rate == before.rate",
            "before.rate != before.rate",
            "NOT before.rate < 1 || before.rate >= 1",
            "18446744073709551616 > 18446744073709551615u",
            "7 / 2 == 3.5 && 7 % 4 == 3 && -7 % 4 == -3 && 2 * 3 + 4 == 10 && 2 + 3 * 4 == 14",
            "1 / 3 == 0.33333333333333333333",
            "2 - 3 - 4 == -5 && 100 / 10 / 5 == 2",
            "after.doc.customer.n == 9007199254740993",
        ],
    );
}

#[test]
fn texts_times_and_json() {
    all_hold(
        &Change::update(),
        &[
            "op == 'update' && table == 'orders' && schema == 'public' && stream == 'shop' && endpoint == \"chat\"",
            "position == '00000001-000000020000000000000003-0000000004'",
            "after.status in ['paid', 'sent'] && !(before.status in ['paid', 'sent'])",
            "after.code == 'ab'",
            "after['odd name'] == '00000000-0000-0000-0000-000000000001'",
            "after.paid && !before.paid && after.paid == true && after.paid > before.paid",
            "after.status.startsWith('pa') && after.status.endsWith('id') && after.status.contains('ai')",
            "after.status.matches('^p.*d$')",
            "NOT after.status.matches('^a')",
            "matches(after.status, r'\\w{4}')",
            "size('caf\u{e9}') == 4 && 'abc'.size() == 3 && size([1, 2]) == 2 && size(after.doc.tags) == 3",
            "'  \u{e4}B '.trim().lowerAscii() == '\u{e4}b' && 'aB'.upperAscii() == 'AB'",
            "'a' + 'b' == 'ab' && 'a' < 'b' && 'B' < 'a'",
            "int('42') == 42 && int(-1.9) == -1 && double('1.50') == 1.5 && string(1.50) == '1.50' && string(true) == 'true'",
            "int(commit_time) == 1710072000 && commit_time == '2024-03-10T12:00:00Z' && commit_time == timestamp(1710072000)",
            "after.created > '2024-03-10T12:00:00Z' && after.created == '2024-03-10T13:00:00.5+01:00'",
            "after.created > commit_time && after.created - commit_time == duration('500ms')",
            "after.created < commit_time + duration('1s') && commit_time - duration('24h') < '2024-03-10'",
            "before.created > '9999-12-31' && before.created > after.created",
            "after.day == '2024-02-29' && after.day > before.day && after.day < after.created",
            "after.day in ['2024-02-29', '2024-03-01'] && '2024-02-29' in [after.day]",
            "string(after.created) == '2024-03-10 12:00:00.5+00' && string(commit_time) == '2024-03-10T12:00:00Z'",
            "string(duration('1h30m')) == '5400s' && -duration('1.5s') == duration('-1500ms')",
            "after.doc.customer.tier == 'gold' && after.doc['customer']['tier'] == 'gold'",
            "after.doc.tags[1] == 2 && after.doc.tags[0] == 'a' && after.doc.tags[2] == true && after.doc.tags[9] == null",
            "'a' in after.doc.tags && 2.0 in after.doc.tags && !('b' in after.doc.tags) && 'customer' in after.doc",
            "after.doc.tags == ['a', 2, true] && before.doc == [] && after.doc.tags != ['a', 2]",
            "has(after.doc.customer.none) && !has(after.doc.customer.nothing) && after.doc.customer.none == null",
            "after.doc.nothing.deeper == null && !(after.doc.tags.x > 1)",
            "json('{\"a\": [1]}').a[0] == 1 && json('no').a == null",
            "changed('status') && !changed('code') && !changed('note')",
            "has(after.note) && !has(before.note) && key.id == after.id",
            "after.total > 5 ? after.status == 'paid' : false",
            "[1, 'a'][1] == 'a' && [1, 2] == [1, 2.0] && [] != [1]",
            "after.doc.tags[0] != 1 && !(after.doc.tags[0] < 1) && !(after.doc.tags[0] >= 1)",
        ],
    );
    all_hold(
        &Change::insert(),
        &["before == null && op == 'insert'", "NOT changed('status')", "after != null"],
    );
    all_hold(
        &Change::delete(),
        &[
            "after == null && before != null && key.id == 9007199254740993",
            "!has(after.status) && before.status == 'open' && !changed('status')",
        ],
    );
}

#[test]
fn columns_of_mysql_and_sqlite() {
    all_hold(
        &mysql(),
        &[
            "after.id == 18446744073709551615 && after.id > 9223372036854775807",
            "after.active == true && after.active != false && after.active && after.active == 1 && !after.off",
            "NOT after.off == true || after.off",
            "after.price == -0.5 && after.price < 0 && -after.price == .5",
            "after.at == '2024-03-10T12:00:00.5Z' && after.at > commit_time",
            "NOT after.zero < '2024-01-01' || after.zero >= '2024-01-01' || after.zero == '1970-01-01'",
            "after.zero != null && string(after.zero) == '0000-00-00'",
            "after.kind == 'a' && after.year == 2155 && after.active in [true] && true in [after.active]",
        ],
    );
    all_hold(
        &sqlite(),
        &[
            "after.id == 1 && after.price == 1 && after.active && after.active == true && schema == null",
            "after.at == '2024-03-10 12:00:00' && after.at > timestamp('2024-03-10') && timestamp(after.at) == commit_time",
            "after.name == '12' && after.any == 12 && after.any != after.name",
            "after.data == '00ff' && after.n != 1 && !(after.n > 0) && !(after.n <= 0)",
            "string(after.n) == 'n/a'",
        ],
    );
    assert_eq!(
        sqlite().passes("after.n + 1 > 0"),
        Err(Failure::Operand { expected: "a number", found: Type::Text })
    );
}

#[test]
fn failures_are_said_and_decided_conditions_hide_them() {
    let change = Change::update();
    let fails = "1 / (after.id - after.id) > 0";
    assert_eq!(change.passes(fails), Err(Failure::DivisionByZero));
    assert_eq!(change.passes("1 % 0 == 0"), Err(Failure::DivisionByZero));
    for text in ["F && false", "false && F", "!(F || true)", "!(true || F)", "true && F && false"] {
        assert_eq!(change.passes(&text.replace('F', fails)), Ok(false), "{text}");
    }
    for text in
        ["F && true", "true && F", "F || false", "false || F", "F ? true : true", "!(F)", "1 in [1 / 0]"]
    {
        assert_eq!(change.passes(&text.replace('F', fails)), Err(Failure::DivisionByZero), "{text}");
    }
    assert_eq!(change.passes("1 in [1 / 0, 1]"), Ok(true));
    assert_eq!(change.passes("true ? true : 1 / 0 == 1"), Ok(true));
    let number = Failure::Conversion { expected: "number" };
    assert_eq!(change.passes("int(after.status) == 1"), Err(number));
    assert_eq!(change.passes("int(before.rate) == 1"), Err(number));
    assert_eq!(
        change.passes("timestamp(after.status) == commit_time"),
        Err(Failure::Conversion { expected: "time" })
    );
    assert_eq!(change.passes("before.created - after.created > duration('1s')"), Err(Failure::TimeRange));
    assert_eq!(
        change.passes("after.doc.tags[1].contains('x')"),
        Err(Failure::Operand { expected: "a string", found: Type::Number })
    );
    let long = format!("{} * {} > 0", "9".repeat(600), "9".repeat(600));
    assert_eq!(change.passes(&long), Err(Failure::TooManyDigits));
    let program = Program::parse("true && 1 / 0 > 0").unwrap();
    let bound = program.bind(&change.table, Purpose::Condition).unwrap();
    let error = bound.matches(&change.input()).unwrap_err();
    assert_eq!(error.to_string(), "division by zero at byte 8 of the expression");
}

#[test]
fn computed_columns_have_cells() {
    let change = Change::update();
    for (text, cell, type_name) in [
        ("after.total", Some("1234567890123456789012345678.0000000001"), "numeric(38,10)"),
        ("after.code", Some("ab   "), "character(5)"),
        ("after.created", Some("2024-03-10 12:00:00.5+00"), "timestamp with time zone"),
        ("before.total * 1.10", Some("5.50"), "numeric"),
        ("after.paid || false", Some("t"), "boolean"),
        ("before.rate + 1", Some("NaN"), "numeric"),
        ("after.status + '!'", Some("paid!"), "text"),
        ("commit_time", Some("2024-03-10 12:00:00+00"), "timestamp with time zone"),
        ("after.day + duration('36h')", Some("2024-03-01 12:00:00+00"), "timestamp with time zone"),
        ("after.doc.customer.tier", Some("\"gold\""), "json"),
        ("after.doc.customer.n", Some("9007199254740993"), "json"),
        ("after.doc.tags", Some("[\"a\", 2, true]"), "json"),
        ("after.doc.customer.none", None, "json"),
        ("after.note", None, "text"),
        ("before.note", None, "text"),
        ("after.note != null ? after.note : 'none'", Some("none"), "text"),
    ] {
        assert_eq!(change.computed(text), Ok(cell.map(str::to_owned)), "{text}");
        let bound = Program::parse(text).unwrap().bind(&change.table, Purpose::Value).unwrap();
        assert_eq!(bound.column_type().name, type_name, "{text}");
    }
    let program = Program::parse("before.note").unwrap();
    let bound = program.bind(&change.table, Purpose::Value).unwrap();
    assert_eq!(bound.cell(&change.input()), Ok(None));
}

#[test]
fn rows_of_the_wire_are_read_by_column() {
    let cells = [Cell::text("5"), Cell::text("paid")];
    let sent = Sent { columns: &[0, 3], cells: &cells };
    let change = Change::update();
    let input = Input { after: Some(&sent), before: None, ..change.input() };
    let passes = |text: &str| {
        let program = Program::parse(text).unwrap();
        program.bind(&change.table, Purpose::Condition).unwrap().matches(&input)
    };
    assert_eq!(
        passes("after.id == 5 && after.status == 'paid' && !has(after.total) && after.total == null"),
        Ok(true)
    );
}

#[test]
fn the_columns_of_a_program_are_known() {
    let text =
        "before.a == 1 && after['b'] == 2 || key.c == 3 || changed('d') || has(after.e) || before == null";
    let program = Program::parse(text).unwrap();
    let uses: Vec<_> = program.columns().into_iter().map(|column| (column.usage, column.name)).collect();
    assert_eq!(
        uses,
        [
            (Usage::Before, "a"),
            (Usage::After, "b"),
            (Usage::Key, "c"),
            (Usage::Changed, "d"),
            (Usage::After, "e"),
        ]
    );
    assert_eq!(&text[program.columns()[1].span.start..program.columns()[1].span.end], "after['b']");
    let unknown = Scope { table: None, purpose: Purpose::Condition };
    assert_eq!(program.check(&unknown), Ok(Type::Bool));
}
