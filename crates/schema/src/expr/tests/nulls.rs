//! NULL, absent, and no row at all are one thing.

use super::*;

#[test]
fn nothing_is_null_however_it_came_about() {
    // NULL; not sent; no row; a field of a document that is not there; of one that is NULL.
    let update = Change::update();
    let mut null_doc = Change::update();
    null_doc.after.as_mut().unwrap()[8] = Some(Cell::Null);
    let cases = [
        (&update, "after.note"),
        (&update, "before.note"),
        (&Change::insert(), "before.status"),
        (&Change::delete(), "after.status"),
        (&update, "after.doc.x.y"),
        (&null_doc, "after.doc"),
        (&null_doc, "after.doc.x"),
    ];
    let truths = [
        ("N == null", true),
        ("null == N", true),
        ("N != null", false),
        ("N == 'a'", false),
        ("N != 'a'", true),
        ("N < 'a'", false),
        ("N <= 'a'", false),
        ("N > 'a'", false),
        ("N >= 'a'", false),
        ("!(N < 'a')", true),
        ("N == N", true),
        ("N < N", false),
        ("N <= N", false),
        ("N in ['a']", false),
        ("N in ['a', null]", true),
        ("null in [N]", true),
        ("'a' in [N]", false),
        ("N.contains('a')", false),
        ("'a'.contains(N)", false),
        ("N.startsWith('')", false),
        ("N.endsWith('')", false),
        ("N.matches('')", false),
        ("N.lowerAscii() == null", true),
        ("N.trim() == null", true),
        ("size(N) == null", true),
        ("size(N) > 0", false),
        ("int(N) == null", true),
        ("double(N) == null", true),
        ("string(N) == null", true),
        ("timestamp(N) == null", true),
        ("json(N) == null", true),
        ("N + 'a' == null", true),
        ("timestamp(N) < commit_time", false),
    ];
    for (change, null) in cases {
        for (text, wanted) in truths {
            let text = text.replace('N', null);
            assert_eq!(change.passes(&text), Ok(wanted), "{text}");
        }
    }
}

#[test]
fn null_is_false_as_a_condition() {
    let change = Change::insert();
    for (text, wanted) in [
        ("before.paid", false),
        ("!before.paid", true),
        ("before.paid && true", false),
        ("before.paid || true", true),
        ("before.paid || false", false),
        ("before.paid ? false : true", true),
        ("null", false),
        ("!null", true),
        ("before.paid == false", false),
        ("before.paid == null", true),
        ("before.total - 1 == null", true),
        ("-before.total == null", true),
        ("before.total > 0 || before.total <= 0", false),
        ("before.created - commit_time == null", true),
    ] {
        assert_eq!(change.passes(text), Ok(wanted), "{text}");
    }
}
