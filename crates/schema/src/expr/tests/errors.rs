//! Every message with its place.

use super::*;

/// The marked text and the message.
fn error(text: &str) -> (String, String) {
    let table = orders();
    let scope = Scope { table: Some(&table), purpose: Purpose::Condition };
    let found = match Program::parse(text) {
        Err(error) => error,
        Ok(program) => program.check(&scope).expect_err(text),
    };
    (text[found.span.start..found.span.end].to_owned(), found.to_string())
}

fn expect(cases: &[(&str, &str, &str)]) {
    for (text, marked, message) in cases {
        assert_eq!(error(text), ((*marked).to_owned(), (*message).to_owned()), "{text}");
    }
}

#[test]
fn what_other_languages_write() {
    expect(&[
        ("op = 'insert'", "=", "`=` is no operator (write `==`)"),
        ("op === 'insert'", "===", "`===` is no operator (write `==`)"),
        ("after.id <> 1", "<>", "`<>` is no operator (write `!=`)"),
        ("true & false", "&", "`&` is no operator (write `&&`)"),
        ("true | false", "|", "`|` is no operator (write `||`)"),
        ("after.id => 1", "=>", "`=>` is no operator (write `>=`)"),
        ("true and false", "and", "`and` means nothing here (write `&&`)"),
        ("true OR false", "OR", "`OR` means nothing here (write `||`)"),
        ("not true", "not", "`not` means nothing here (write `!`)"),
        ("after.id IS NULL", "IS", "`IS` means nothing here (write `x == null` or `x != null`)"),
        ("after.id == NULL", "NULL", "`NULL` means nothing here (write `null`)"),
        ("after.paid == TRUE", "TRUE", "`TRUE` means nothing here (write `true`)"),
        (
            "after.status LIKE 'a%'",
            "LIKE",
            "`LIKE` means nothing here (write `x.contains('part')`, `x.startsWith('begin')` or `x.matches('pattern')`)",
        ),
        (
            "after.id BETWEEN 1 AND 2",
            "BETWEEN",
            "`BETWEEN` means nothing here (write `x >= low && x <= high`)",
        ),
        ("after.id IN [1]", "IN", "`IN` means nothing here (write `in`, in small letters)"),
        ("after.id not in [1]", "not", "`not` means nothing here (write `!(x in [..])`)"),
        ("after.id in (1, 2)", ",", "`,` means nothing here (write a list in brackets, `x in [1, 2]`)"),
        ("lower(after.status) == 'a'", "lower", "there is no function `lower` (write `x.lowerAscii()`)"),
        ("after.doc.tags.exists(x, x == 1)", "exists", "there is no function `exists` (write `x in [..]`)"),
        ("after.total > now()", "now", "there is no function `now` (write `commit_time`)"),
        (
            "b'a' == 'a'",
            "b'",
            "bytes have no place in filters (a bytes column is compared with its text, such as after.data == '\\\\xdeadbeef')",
        ),
        (
            "{'a': 1} == null",
            "{",
            "maps have no place in filters (`x in [..]` asks for one of several values)",
        ),
        ("after.`a` == 1", "`", "backticks have no place in filters (write after['odd name'])"),
        (
            ".op == 'read'",
            ".",
            "names that begin with a point have no place in filters (names stand by themselves, such as after.total)",
        ),
        (
            "op == \u{2018}insert\u{2019}",
            "\u{2018}",
            "unexpected character '\u{2018}' (write straight quotes, ' or \")",
        ),
        ("true;", ";", "unexpected character ';' (an expression has no end mark)"),
        ("true @", "@", "unexpected character '@'"),
        ("# a\ntrue", "#", "unexpected character '#' (comments begin with //)"),
        (
            "after.gr\u{f6}\u{df}e > 1",
            "\u{f6}",
            "unexpected character '\u{f6}' (write after['name'] for a column with such a name)",
        ),
    ]);
}

#[test]
fn syntax() {
    expect(&[
        ("", "", "the expression is empty (write a condition, such as `op == 'insert'`)"),
        (" // none\n", " // none\n", "the expression is empty (write a condition, such as `op == 'insert'`)"),
        ("(true", "(", "`(` is not closed"),
        ("after.id in [1, 2", "[", "`[` is not closed"),
        ("op == ", "", "expected a value, found the end"),
        ("true true", "true", "expected an operator or the end, found `true`"),
        ("true ? 1", "", "expected `:`, found the end"),
        ("after.", "", "expected a name after `.`, found the end"),
        ("after.in == 1", "in", "`in` means nothing here (write x['in'], x['true'] ..)"),
        ("for == 1", "for", "expected a value, found `for`"),
        ("[1 2]", "2", "expected `,` or `]`, found `2`"),
        (
            "op == 'insert",
            "'",
            "the string does not end (close it with '; one that spans lines has three quotes at both ends)",
        ),
        (
            "op == '\\d'",
            "\\d",
            "`\\d` is no escape (write `\\\\` for a backslash, or a raw string such as r'\\d+')",
        ),
        (
            "op == '\\ud800'",
            "\\u",
            "this escape names no character (`\\xHH`, `\\uHHHH`, `\\UHHHHHHHH` and `\\ooo` name a Unicode character)",
        ),
        (
            "1abc == 1",
            "1abc",
            "not a number (write 12, 12.5, 1.5e3 or 0x1F; names do not begin with a digit)",
        ),
        ("1e == 1", "1e", "not a number (write 12, 12.5, 1.5e3 or 0x1F; names do not begin with a digit)"),
        (
            "1.5u == 1",
            "1.5u",
            "not a number (write 12, 12.5, 1.5e3 or 0x1F; names do not begin with a digit)",
        ),
        (
            "1e999 > 1",
            "1e999",
            "the number is too large (its exponent is at most 400, a hexadecimal one has at most 32 digits)",
        ),
        ("siez('a') == 1", "siez", "there is no function `siez` (did you mean `size`?)"),
        (
            "after.status.startswith('a')",
            "startswith",
            "there is no function `startswith` (did you mean `startsWith`?)",
        ),
        ("frobnicate(1)", "frobnicate", "there is no function `frobnicate`"),
        (
            "contains(after.status, 'a')",
            "contains(after.status, 'a')",
            "`contains` takes other arguments (write `x.contains('part')`)",
        ),
        ("has(after)", "has(after)", "`has` takes other arguments (write `has(after.column)`)"),
        (
            "changed(after.id)",
            "changed(after.id)",
            "`changed` takes other arguments (write `changed('column')`)",
        ),
        (
            "after.status.matches(op)",
            "after.status.matches(op)",
            "`matches` takes other arguments (write `x.matches('pattern')`)",
        ),
        ("op.matches('(')", "'('", "not a pattern: unclosed group"),
        (
            "op.matches('(a{1000}){1000}')",
            "'(a{1000}){1000}'",
            "not a pattern: it is too large when compiled",
        ),
    ]);
    let long = format!("op == '{}'", "a".repeat(MAX_LENGTH));
    assert_eq!(
        error(&long).1,
        "the expression has 16392 bytes, more than 16384 (split it over several endpoints)"
    );
    let deep = "the expression is nested more than 100 levels deep (write `x in [..]` instead of chains)";
    for text in [
        format!("{}true{}", "(".repeat(101), ")".repeat(101)),
        format!("{}true", "!".repeat(101)),
        format!("1 == {}1", "1 + ".repeat(120)),
        format!("{}1", "true ? 1 : ".repeat(101)),
        format!("after.doc{} == 1", ".a".repeat(101)),
        "(".repeat(MAX_LENGTH),
        "-".repeat(MAX_LENGTH),
        "[".repeat(MAX_LENGTH),
    ] {
        assert_eq!(error(&text).1, deep);
    }
}

#[test]
fn names_and_types() {
    expect(&[
        (
            "after.totla > 1",
            "after.totla",
            "table public.orders has no column `totla` (did you mean `total`?)",
        ),
        ("before['x'] == 1", "before['x']", "table public.orders has no column `x`"),
        (
            "changed('statsu')",
            "'statsu'",
            "table public.orders has no column `statsu` (did you mean `status`?)",
        ),
        ("key.total > 1", "key.total", "`total` is no key column of table public.orders (its key: id)"),
        (
            "total > 1",
            "total",
            "`total` is a column (write `after.total` for its new value, `before.total` for its old one)",
        ),
        ("oper == 'insert'", "oper", "there is no variable `oper`"),
        ("tabel == 'a'", "tabel", "there is no variable `tabel` (did you mean `table`?)"),
        (
            "op == 'inserted'",
            "'inserted'",
            "`op` is never 'inserted' (it is insert, update, delete, read, truncate or message)",
        ),
        (
            "op in ['insert', 'upsert']",
            "'upsert'",
            "`op` is never 'upsert' (it is insert, update, delete, read, truncate or message)",
        ),
        (
            "after.id == '5'",
            "after.id == '5'",
            "a number and a string cannot be compared (write the number without quotes, or string(x) for the column)",
        ),
        (
            "after.status > after.id",
            "after.status > after.id",
            "a string and a number cannot be compared (convert one side with string(x) or double(x))",
        ),
        (
            "after.paid == 'true'",
            "after.paid == 'true'",
            "a boolean and a string cannot be compared (write true or false without quotes)",
        ),
        (
            "after.paid == 1",
            "after.paid == 1",
            "a boolean and a number cannot be compared (a boolean is compared with true or false)",
        ),
        (
            "after.id in [1, '2']",
            "'2'",
            "a number and a string cannot be compared (write the number without quotes, or string(x) for the column)",
        ),
        (
            "after.id > null",
            "after.id > null",
            "a number and null cannot be compared (null has no order, ask for `x == null` or `x != null`)",
        ),
        (
            "before == after",
            "before == after",
            "a row and a row cannot be compared (compare their columns, or ask `before == null`; changed('column') says whether one differs)",
        ),
        (
            "after.created > 'soon'",
            "'soon'",
            "`soon` is no time (write it as 2024-01-31T23:59:59Z, 2024-01-31 23:59:59 or 2024-01-31)",
        ),
        (
            "after.day == '2023-02-29'",
            "'2023-02-29'",
            "`2023-02-29` is no time (write it as 2024-01-31T23:59:59Z, 2024-01-31 23:59:59 or 2024-01-31)",
        ),
        (
            "after.created > 5",
            "after.created > 5",
            "a time and a number cannot be compared (write the time as a string, or timestamp(x))",
        ),
        (
            "commit_time > timestamp('x')",
            "'x'",
            "`x` is no time (write it as 2024-01-31T23:59:59Z, 2024-01-31 23:59:59 or 2024-01-31)",
        ),
        (
            "duration('1 h') > duration('1h')",
            "'1 h'",
            "`1 h` is no duration (write it as 1h30m, 90s or 500ms)",
        ),
        (
            "duration('1h') > 'a'",
            "duration('1h') > 'a'",
            "a duration and a string cannot be compared (write duration('1h30m'))",
        ),
        ("[1] < [2]", "[1]", "a list has no order (write `==`, `!=` or `in`)"),
        ("after.id in 5", "5", "expected a list, found a number (write `x in [1, 2]`)"),
        (
            "'a' in after.status",
            "after.status",
            "expected a list, found a string (x.contains('part') asks for a part of a text)",
        ),
        (
            "after.status && true",
            "after.status",
            "expected a condition, found a string (texts are joined with `+`; compare it, such as x == 'a')",
        ),
        ("!after.id", "after.id", "expected a condition, found a number (compare it, such as x > 0)"),
        (
            "after.status + 1 == 'a'",
            "1",
            "expected two numbers or two strings, found a number (write string(x), or double(x))",
        ),
        ("-after.status == 1", "after.status", "expected a number, found a string"),
        (
            "after.created + 1 > commit_time",
            "1",
            "expected a time or a duration, found a number (write timestamp('2024-01-31') or duration('1h30m'))",
        ),
        ("after.id.contains('1')", "after.id", "expected a string, found a number (write string(x))"),
        (
            "after.status.contains(1)",
            "1",
            "expected a string, found a number (write it in quotes, or string(x))",
        ),
        (
            "int(after.paid) == 1",
            "after.paid",
            "expected a number or a string, found a boolean (write x ? 1 : 0)",
        ),
        (
            "size(after) == 1",
            "after",
            "expected a string or a list, found a row (name a column, such as after.total)",
        ),
        ("after[op] == 1", "op", "the name of a column must be a string in quotes"),
        ("after.status.x == 1", "after.status", "a string has no fields (json(x) reads a text as JSON)"),
        (
            "true ? 1 : 'a'",
            "true ? 1 : 'a'",
            "both results of `? :` must be of one type, found a number and a string",
        ),
        (
            "after.total",
            "after.total",
            "a condition must be true or false, this is a number (compare it, such as `after.total > 100`)",
        ),
        (
            "after",
            "after",
            "a condition must be true or false, this is a row (compare it, such as `after.total > 100`)",
        ),
    ]);
    let table = orders();
    let scope = Scope { table: Some(&table), purpose: Purpose::Value };
    for (text, message) in [
        ("after", "a row cannot be a column's value (name a column, such as after.total)"),
        ("[1]", "a list cannot be a column's value"),
        (
            "duration('1h')",
            "a duration cannot be a column's value (write string(x), or int(x) for its seconds)",
        ),
    ] {
        assert_eq!(Program::parse(text).unwrap().check(&scope).unwrap_err().to_string(), message);
    }
}

#[test]
fn places_are_lines_and_columns() {
    let text = "op == 'insert' &&\n  caf == 1";
    let table = orders();
    let scope = Scope { table: Some(&table), purpose: Purpose::Condition };
    let error = Program::parse(text).unwrap().check(&scope).unwrap_err();
    assert_eq!(error.line_column(text), (2, 3));
    assert_eq!(error.excerpt(text), "  caf == 1\n  ^^^");
    let error = Program::parse("'\u{e4}' = 1").unwrap_err();
    assert_eq!(error.excerpt("'\u{e4}' = 1"), "'\u{e4}' = 1\n    ^");
}
