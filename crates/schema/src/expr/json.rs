//! Values inside a JSON document, found without reading what is beside them.
//!
//! A document is walked, not built: nothing is allocated but a string with escapes. Each step looks once at each byte.
//! What is no JSON has no fields. Of two keys that are the same the last one counts, as in PostgreSQL.

use std::borrow::Cow;

/// The value at the beginning of `text`, without the blanks around it, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    let text = blanks(text);
    let bytes = text.as_bytes();
    let length = match bytes.first()? {
        b'"' => string_length(bytes)?,
        b'{' | b'[' => {
            let mut open = 0_usize;
            let mut at = 0;
            loop {
                match bytes.get(at)? {
                    b'{' | b'[' => open += 1,
                    b'}' | b']' => open -= 1,
                    b'"' => at += string_length(&bytes[at..])? - 1,
                    _ => {}
                }
                at += 1;
                if open == 0 {
                    break at;
                }
            }
        }
        _ => bytes
            .iter()
            .take_while(|b| !matches!(b, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\n' | b'\r'))
            .count(),
    };
    (length > 0).then_some(())?;
    Some((text.get(..length)?, text.get(length..)?))
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// With both quotes.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A document without the blanks around it; `None` if it is not one value.
pub(super) fn document(text: &str) -> Option<&str> {
    let (found, rest) = value(text)?;
    blanks(rest).is_empty().then_some(found)
}

/// The text of a string with its quotes; `None` for what is no string.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The elements of an array; none of what is no array.
pub(super) fn elements(raw: &str) -> Items<'_> {
    Items { rest: raw.strip_prefix('[').unwrap_or("]") }
}

/// The members of an object, each key with its quotes; none of what is no object.
pub(super) fn members(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut items = Items { rest: raw.strip_prefix('{').unwrap_or("}") };
    std::iter::from_fn(move || {
        let key = items.next()?;
        let rest = blanks(items.rest).strip_prefix(':')?;
        let (member, rest) = value(rest)?;
        items.rest = rest;
        Some((key, member))
    })
}

/// What stands between commas.
pub(super) struct Items<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = blanks(self.rest);
        let rest = rest.strip_prefix(',').unwrap_or(rest);
        let (found, rest) = value(rest)?;
        self.rest = rest;
        Some(found)
    }
}

/// The member of that name.
pub(super) fn member<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    members(raw).filter(|(key, _)| string(key).is_some_and(|key| key == name)).last().map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found() {
        let text = " {\"a\" : {\"b\": [1, \"x,]\\\"}\", {\"c\": null}]}, \"\\u0061b\": true, \"a\": 5e1 } ";
        let whole = document(text).unwrap();
        assert_eq!(member(whole, "a"), Some("5e1"));
        assert_eq!(member(whole, "ab"), Some("true"));
        assert_eq!(member(whole, "b"), None);
        let list: Vec<&str> = elements("[1, \"x,]\\\"}\", {\"c\": null} ]").collect();
        assert_eq!(list, ["1", "\"x,]\\\"}\"", "{\"c\": null}"]);
        assert_eq!(elements("[]").count() + elements("{\"a\":1}").count() + elements("5").count(), 0);
        assert_eq!(members("{}").count() + members("[1]").count(), 0);
        assert_eq!(string("\"\\u00e4\\n\"").unwrap(), "\u{e4}\n");
        for broken in ["", "{", "[1", "\"a", "1 2", "}", ","] {
            assert_eq!(document(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_walked(text in "[\\[\\]{}:,\"\\\\a1é \n]{0,40}", name in "[a1é]{0,2}") {
            if let Some(raw) = document(&text) {
                let _ = (member(raw, &name), elements(raw).count(), members(raw).count(), string(raw));
            }
        }
    }
}
