//! JSON laid out anew without being read into numbers: what a double cannot hold stays as it was sent, and so does the
//! order of members.

use serde::de::IgnoredAny;

/// The body as text, if it is JSON.
pub(super) fn valid(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str::<IgnoredAny>(text).is_ok().then_some(text)
}

/// Valid JSON on one line.
pub(super) fn compact(json: &str) -> String {
    lay_out(json, None)
}

/// Valid JSON with one member per line.
pub(super) fn pretty(json: &str) -> String {
    lay_out(json, Some("  "))
}

fn lay_out(json: &str, indent: Option<&str>) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut depth, mut opened) = (0usize, false);
    let (mut in_string, mut escaped) = (false, false);
    let new_line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    for c in json.chars() {
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if matches!(c, '}' | ']') {
            depth = depth.saturating_sub(1);
            // An empty object or array stays on its line.
            if !opened {
                new_line(&mut out, depth);
            }
            opened = false;
            out.push(c);
            continue;
        }
        if std::mem::take(&mut opened) {
            new_line(&mut out, depth);
        }
        out.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => (depth, opened) = (depth + 1, true),
            ',' => new_line(&mut out, depth),
            ':' if indent.is_some() => out.push(' '),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_and_nothing_else() {
        let json =
            " {\"z\" : [1.50, 9007199254740993 ,[ ] ],\n\"a\": {\"q\\\"{,:\\\\\" : \"x : y\"}, \"e\":{ } } ";
        assert_eq!(
            compact(valid(json.as_bytes()).unwrap()),
            r#"{"z":[1.50,9007199254740993,[]],"a":{"q\"{,:\\":"x : y"},"e":{}}"#
        );
        let expected = "{\n  \"z\": [\n    1.50,\n    9007199254740993,\n    []\n  ],\n  \"a\": {\n    \
                        \"q\\\"{,:\\\\\": \"x : y\"\n  },\n  \"e\": {}\n}";
        assert_eq!(pretty(json), expected);
        assert_eq!(compact(&pretty(json)), compact(json));
        assert_eq!(pretty("[[[]],{}]"), "[\n  [\n    []\n  ],\n  {}\n]");
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        assert_eq!(valid(b"null"), Some("null"));
        let deep = "[".repeat(100_000);
        for wrong in [&b""[..], b"{", b"{}{}", b"\xff", deep.as_bytes()] {
            assert_eq!(valid(wrong), None);
        }
    }
}
