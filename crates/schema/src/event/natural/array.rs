//! PostgreSQL's text form of arrays (manual, "Array Input and Output Syntax"): `{1,NULL,"a \"b\""}`, with the bounds
//! before it where one of the lower ones is not 1: `[0:1]={1,2}`.

use std::borrow::Cow;

/// Most dimensions that PostgreSQL has (`MAXDIM`).
const MAX_DEPTH: usize = 6;

/// An array whose text was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a> {
    /// From the first brace on.
    body: &'a str,
    /// The type of its elements, as the server names it.
    element: &'a str,
}

/// What comes next in an array.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::event) enum Token<'a> {
    /// A dimension begins.
    Open,
    /// A dimension ends.
    Close,
    /// A NULL.
    Null,
    /// An element's canonical text.
    Item(Cow<'a, str>),
}

impl<'a> Array<'a> {
    /// `None` if the text is no array.
    pub(super) fn parse(text: &'a str, element: &'a str) -> Option<Self> {
        let start = if text.starts_with('[') { text.find("={")? + 1 } else { 0 };
        let array = Self { body: &text[start..], element };
        array.walk(|_| {})?;
        Some(array)
    }

    /// The type of its elements, as the server names it.
    #[must_use]
    pub fn element(&self) -> &'a str {
        self.element
    }

    /// `box` is the one type that is separated otherwise, since its text contains commas.
    fn delimiter(&self) -> u8 {
        if self.element == "box" { b';' } else { b',' }
    }

    /// Tells all tokens in order. `None` where the text ends being an array.
    pub(in crate::event) fn walk(&self, mut tell: impl FnMut(Token<'a>)) -> Option<()> {
        let (body, delimiter) = (self.body, self.delimiter());
        let bytes = body.as_bytes();
        let (mut at, mut depth) = (0, 0);
        loop {
            // A value or a dimension.
            match *bytes.get(at)? {
                b'{' if depth < MAX_DEPTH => {
                    tell(Token::Open);
                    (at, depth) = (at + 1, depth + 1);
                    if bytes.get(at) != Some(&b'}') {
                        continue;
                    }
                }
                _ if depth == 0 => return None,
                b'"' => {
                    let (item, end) = quoted(body, at + 1)?;
                    tell(Token::Item(item));
                    at = end;
                }
                _ => {
                    let plain = |b: &u8| *b == delimiter || matches!(*b, b'{' | b'}' | b'"' | b'\\');
                    let end = at + bytes[at..].iter().position(plain)?;
                    match &body[at..end] {
                        "" => return None,
                        text if text.eq_ignore_ascii_case("null") => tell(Token::Null),
                        text => tell(Token::Item(text.into())),
                    }
                    at = end;
                }
            }
            // What ends here, and whether another one follows.
            while bytes.get(at) == Some(&b'}') {
                tell(Token::Close);
                (at, depth) = (at + 1, depth - 1);
                if depth == 0 {
                    return (at == bytes.len()).then_some(());
                }
            }
            if bytes.get(at) != Some(&delimiter) {
                return None;
            }
            at += 1;
        }
    }
}

/// An element in quotes, from behind the first one: its text, and where it ends behind the last one.
fn quoted(body: &str, start: usize) -> Option<(Cow<'_, str>, usize)> {
    let mut item = Cow::Borrowed("");
    let mut from = start;
    loop {
        let at = from + body.as_bytes().get(from..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        let piece = &body[from..at];
        if item.is_empty() {
            item = piece.into();
        } else {
            item.to_mut().push_str(piece);
        }
        if body.as_bytes()[at] == b'"' {
            return Some((item, at + 1));
        }
        let escaped = body[at + 1..].chars().next()?;
        item.to_mut().push(escaped);
        from = at + 1 + escaped.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, element: &str) -> Option<String> {
        let mut out = String::new();
        Array::parse(text, element)?.walk(|token| match token {
            Token::Open => out.push('<'),
            Token::Close => out.push('>'),
            Token::Null => out.push_str("(~)"),
            Token::Item(text) => out.push_str(&format!("({text})")),
        })?;
        Some(out)
    }

    #[test]
    fn arrays_are_taken_apart() {
        let array = |text| told(text, "text");
        assert_eq!(array("{}").as_deref(), Some("<>"));
        assert_eq!(array("{1,NULL,-3}").as_deref(), Some("<(1)(~)(-3)>"));
        assert_eq!(array("[0:0][5:6]={{1,2}}").as_deref(), Some("<<(1)(2)>>"));
        assert_eq!(array("{{1,2},{3,4}}").as_deref(), Some("<<(1)(2)><(3)(4)>>"));
        assert_eq!(
            array("{NULL,\"NULL\",\"\",\"a,b\",\"q\\\"\\\\\",\"\u{e4}\\\u{e4}}\"}").as_deref(),
            Some("<(~)(NULL)()(a,b)(q\"\\)(\u{e4}\u{e4}})>")
        );
        assert_eq!(told("{(1,1),(0,0);(2,2),(1,1)}", "box").as_deref(), Some("<((1,1),(0,0))((2,2),(1,1))>"));
        for wrong in [
            "",
            "{",
            "}",
            "{1",
            "{1,}",
            "{,1}",
            "{1}x",
            "1",
            "{\"a}",
            "{\"a\\",
            "{a\"b\"}",
            "{\"a\"b}",
            "[0:0]",
            "{{{{{{{1}}}}}}}",
            "{1}{2}",
            "{{1}2}",
        ] {
            assert_eq!(array(wrong), None, "{wrong}");
        }
    }
}
