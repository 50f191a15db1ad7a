//! Syntax and precedence, after the points that CEL's conformance tests ask for.

use super::*;

fn same(text: &str, other: &str) {
    let (a, b) = (Program::parse(text), Program::parse(other));
    let a = a.unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(a, b.unwrap_or_else(|e| panic!("{other}: {e}")), "{text}");
}

#[test]
fn operators_bind_as_in_cel() {
    for (text, explicit) in [
        ("a || b && c", "a || (b && c)"),
        ("a && b == c", "a && (b == c)"),
        ("a == b + c", "a == (b + c)"),
        ("a < b == c", "(a < b) == c"),
        ("a in b == c", "(a in b) == c"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b % c * d", "((a / b) % c) * d"),
        ("-a * b", "(-a) * b"),
        ("!a == b", "(!a) == b"),
        ("-a.b", "-(a.b)"),
        ("!a.b[0].c", "!(((a.b)[0]).c)"),
        ("--a", "-(-a)"),
        ("!!a", "!(!a)"),
        ("a - -b", "a - (-b)"),
        ("a ? b : c ? d : e", "a ? b : (c ? d : e)"),
        ("a ? b || c : d", "a ? (b || c) : d"),
        ("a || b ? c : d", "(a || b) ? c : d"),
        ("a ? (b ? c : d) : e", "a ? (b ? c : d) : e"),
        ("size(a + b) * c", "(size(a + b)) * c"),
        ("[a, b,]", "[a, b]"),
        ("a//x\n==//y\rz\n b", "a == b"),
        ("a\t\r\n\u{c}==b", "a == b"),
    ] {
        same(text, explicit);
    }
    for (text, other) in [
        ("(a || b) && c", "a || b && c"),
        ("a - (b - c)", "a - b - c"),
        ("(a ? b : c) ? d : e", "a ? b : c ? d : e"),
        ("a && (b && c)", "a && b && c"),
    ] {
        assert_ne!(Program::parse(text).unwrap(), Program::parse(other).unwrap());
    }
}

#[test]
fn nesting_goes_as_deep_as_cel_asks_for() {
    let change = Change::update();
    for text in [
        format!("{}true", "false || ".repeat(1000)),
        format!("{}true", "true && ".repeat(1000)),
        format!("{}true", "false ? false : ".repeat(32)),
        format!("{}1 == 33", "1 + ".repeat(32)),
        format!("{}2 == 2", "1 * ".repeat(32)),
        format!("{}true{}", "(".repeat(32), ")".repeat(32)),
        format!("{}true", "!!".repeat(16)),
        format!("{}-1 < 0", "--".repeat(16)),
        format!("after.doc{} == null", ".a".repeat(32)),
        format!("size({}1{}) == 1", "[".repeat(32), "]".repeat(32)),
        format!("7 in [{} 7]", "1, ".repeat(1000)),
    ] {
        assert_eq!(change.passes(&text), Ok(true), "{text}");
    }
}

#[test]
fn strings_are_read_as_in_cel() {
    for (text, value) in [
        ("''", ""),
        ("\"\"", ""),
        ("'\"'", "\""),
        ("\"'\"", "'"),
        ("''''''", ""),
        ("'''a'b''c'''", "a'b''c"),
        ("\"\"\"a\nb\"\"\"", "a\nb"),
        (r"'\a\b\f\n\r\t\v\\\?\'\`'", "\u{7}\u{8}\u{c}\n\r\t\u{b}\\?'`"),
        ("'\\\"'", "\""),
        (r"'\x41\X42\103\u00e4\U0001F600'", "ABC\u{e4}\u{1F600}"),
        (r"'\377'", "\u{ff}"),
        (r"r'\d\'", r"\d\"),
        ("R\"\\n\"", "\\n"),
        ("r'''a\\'b'''", "a\\'b"),
        ("'\u{1F600}//no comment'", "\u{1F600}//no comment"),
    ] {
        let program = Program::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(program.root.kind, ExprKind::Text(value.to_owned()), "{text}");
        assert_eq!(Program::parse(&program.to_string()).unwrap(), program, "{text}");
    }
    for text in
        ["'\\8'", "'\\400'", "'\\x4'", "'\\u12'", "'\\U00110000'", "'a\nb'", "'''a''", "r'a", "'\\", "'\\q'"]
    {
        assert!(Program::parse(text).is_err(), "{text}");
    }
}

#[test]
fn programs_are_written_plainly() {
    for (text, plain) in [
        ("((op))==\"insert\"&&(after.total)>1.50", "op == 'insert' && after.total > 1.50"),
        ("(a||b)&&!(c&&d)", "(a || b) && !(c && d)"),
        ("a-(b-c)*-d", "a - (b - c) * -d"),
        ("(a?b:c)?d:(e?f:g)", "(a ? b : c) ? d : e ? f : g"),
        ("(-a).b['it\\'s']", "(-a).b['it\\'s']"),
        ("(a + b).startsWith(r'\\')", "(a + b).startsWith('\\\\')"),
        ("has( after . x ) // why", "has(after.x)"),
    ] {
        assert_eq!(Program::parse(text).unwrap().to_string(), plain);
    }
}
