//! The few pieces of a CREATE statement that no PRAGMA tells: generation expressions, and the expressions and WHERE of an
//! index. A tokenizer that knows SQLite's quoting and comments, nothing more.

/// One token with its place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        match byte {
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = sql[at..].find('\n').map_or(bytes.len(), |n| at + n);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = sql[at + 2..].find("*/").map_or(bytes.len(), |n| at + n + 4);
                continue;
            }
            b'"' | b'\'' | b'`' | b'[' => {
                let close = if byte == b'[' { b']' } else { byte };
                at += 1;
                while at < bytes.len() {
                    if bytes[at] == close {
                        at += 1;
                        if close != b']' && bytes.get(at) == Some(&close) {
                            at += 1;
                            continue;
                        }
                        break;
                    }
                    at += 1;
                }
            }
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ if is_word(byte) => {
                while bytes.get(at).is_some_and(|&b| is_word(b)) {
                    at += 1;
                }
            }
            _ => at += 1,
        }
        found.push(Token { text: &sql[start..at], start });
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// A name without its quotes.
fn unquote(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(quote @ ('"' | '\'' | '`')) if text.len() >= 2 => {
            let inner = text.get(1..text.len() - 1).unwrap_or_default();
            inner.replace(&format!("{quote}{quote}"), &quote.to_string())
        }
        Some('[') if text.len() >= 2 => text.get(1..text.len() - 1).unwrap_or_default().to_owned(),
        _ => text.to_owned(),
    }
}

/// Splits the tokens inside the first parentheses at their commas, and returns the index of the closing one.
fn first_list<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Vec<&'t [Token<'a>]>, usize)> {
    let open = tokens.iter().position(|t| t.text == "(")?;
    let mut parts = Vec::new();
    let (mut depth, mut start) = (1, open + 1);
    for (i, token) in tokens.iter().enumerate().skip(open + 1) {
        match token.text {
            "(" => depth += 1,
            ")" => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&tokens[start..i]);
                    return Some((parts, i));
                }
            }
            "," if depth == 1 => {
                parts.push(&tokens[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    None
}

/// The expression of a generated column, as written in its CREATE TABLE.
pub(crate) fn generation(create_table: &str, column: &str) -> Option<String> {
    let tokens = tokens(create_table);
    let (parts, _) = first_list(&tokens)?;
    let part = parts
        .into_iter()
        .find(|part| part.first().is_some_and(|name| unquote(name.text).eq_ignore_ascii_case(column)))?;
    let mut depth = 0;
    for (i, token) in part.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ if depth == 0 && token.is("as") && part.get(i + 1).is_some_and(|t| t.text == "(") => {
                let mut inner = 0;
                for close in &part[i + 1..] {
                    match close.text {
                        "(" => inner += 1,
                        ")" => inner -= 1,
                        _ => {}
                    }
                    if inner == 0 {
                        return Some(create_table[part[i + 1].end()..close.start].trim().to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// The terms of an index without COLLATE, ASC and DESC, and its WHERE.
pub(crate) fn index_terms(create_index: &str) -> Option<(Vec<String>, Option<String>)> {
    let tokens = tokens(create_index);
    let (parts, close) = first_list(&tokens)?;
    let mut terms = Vec::new();
    for part in parts {
        let mut part = part;
        if part.last().is_some_and(|t| t.is("asc") || t.is("desc")) {
            part = &part[..part.len() - 1];
        }
        if part.len() > 2 && part[part.len() - 2].is("collate") {
            part = &part[..part.len() - 2];
        }
        let (first, last) = (part.first()?, part.last()?);
        terms.push(create_index[first.start..last.end()].to_owned());
    }
    let condition = tokens[close + 1..]
        .iter()
        .find(|t| t.is("where"))
        .map(|t| create_index[t.end()..].trim().trim_end_matches(';').to_owned());
    Some((terms, condition))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn generation_expressions_are_found_whatever_the_quoting() {
        let sql = "CREATE TABLE \"t(\" (a INTEGER, -- (, AS (\n b TEXT DEFAULT (1+(2)) CHECK (b <> ' as ( '),\n \
                   \"c d\" GENERATED ALWAYS AS (a * (2 + 1)) STORED, [e] int as( b || ')' ) /* x */ virtual)";
        assert_eq!(generation(sql, "C D").as_deref(), Some("a * (2 + 1)"));
        assert_eq!(generation(sql, "e").as_deref(), Some("b || ')'"));
        assert_eq!(generation(sql, "a"), None);
    }

    #[test]
    fn index_terms_lose_order_and_collation() {
        let sql = "create unique index i on t(lower(a), \"b\" collate nocase desc, substr(c, 1, 2)) where a > (1) ;";
        let (terms, condition) = index_terms(sql).unwrap();
        assert_eq!(terms, ["lower(a)", "\"b\"", "substr(c, 1, 2)"]);
        assert_eq!(condition.as_deref().map(str::trim), Some("a > (1)"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(sql in "[a-z\"'`\\[\\](),*/\\-ö \n]{0,60}", column in "[a-zö\"]{0,4}") {
            let _ = generation(&sql, &column);
            let _ = index_terms(&sql);
        }
    }
}
