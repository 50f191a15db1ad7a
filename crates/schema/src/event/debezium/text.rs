//! Texts inside of texts: PostgreSQL's arrays and hstores, and JSON.

/// Appends a JSON string.
pub(super) fn push_json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text is written to memory");
}

/// One element of an array's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element {
    Null,
    Value(String),
    List(Vec<Element>),
}

/// Deeper arrays than PostgreSQL's (6) are forged.
const MAX_DEPTH: usize = 6;

/// Reads an array's text, `[2:3]={1,NULL,"a \"b\""}`.
pub(super) fn array(text: &str) -> Option<Vec<Element>> {
    let start = if text.starts_with('[') { text.find("]={")? + 2 } else { 0 };
    let mut chars = text[start..].chars().peekable();
    let Element::List(list) = element(&mut chars, 0)? else { return None };
    chars.next().is_none().then_some(list)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn element(chars: &mut Chars<'_>, depth: usize) -> Option<Element> {
    match chars.peek()? {
        '{' if depth < MAX_DEPTH => {
            chars.next();
            let mut list = Vec::new();
            if chars.next_if_eq(&'}').is_some() {
                return Some(Element::List(list));
            }
            loop {
                list.push(element(chars, depth + 1)?);
                match chars.next()? {
                    ',' => {}
                    '}' => return Some(Element::List(list)),
                    _ => return None,
                }
            }
        }
        '{' => None,
        '"' => Some(Element::Value(quoted(chars)?)),
        _ => {
            let mut plain = String::new();
            while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '}' | '{')) {
                plain.push(if c == '\\' { chars.next()? } else { c });
            }
            Some(if plain == "NULL" { Element::Null } else { Element::Value(plain) })
        }
    }
}

fn quoted(chars: &mut Chars<'_>) -> Option<String> {
    chars.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// An hstore's text as the JSON object of its pairs.
pub(super) fn hstore(text: &str) -> Option<String> {
    let mut out = vec![b'{'];
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        if out.len() > 1 {
            out.push(b',');
        }
        push_json(&mut out, &quoted(&mut chars)?);
        (chars.next()? == '=' && chars.next()? == '>').then_some(())?;
        out.push(b':');
        if chars.peek() == Some(&'"') {
            push_json(&mut out, &quoted(&mut chars)?);
        } else {
            for expected in "NULL".chars() {
                chars.next_if_eq(&expected)?;
            }
            out.extend_from_slice(b"null");
        }
        if chars.peek().is_some() {
            (chars.next()? == ',' && chars.next()? == ' ').then_some(())?;
        }
    }
    out.push(b'}');
    String::from_utf8(out).ok()
}

/// JSON without the blanks outside of its strings.
pub(super) fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            if inside {
                inside = escaped || c != '"';
                escaped = !escaped && c == '\\';
                return true;
            }
            inside = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_hstores_are_taken_apart_or_refused() {
        let value = |text: &str| Element::Value(text.to_owned());
        assert_eq!(
            array(r#"{a,NULL,"NULL","q\"\\",""}"#),
            Some(vec![value("a"), Element::Null, value("NULL"), value("q\"\\"), value("")])
        );
        assert_eq!(array("[2:3]={1,2}"), Some(vec![value("1"), value("2")]));
        assert_eq!(array("{{1},{2}}").map(|list| list.len()), Some(2));
        for forged in ["", "{", "{a", "a", "{a}b", "{\"a", "{{{{{{{{1}}}}}}}}", "[", "{a\\"] {
            assert_eq!(array(forged), None, "{forged}");
        }
        assert_eq!(hstore(r#""a"=>"1", "b"=>NULL"#).as_deref(), Some(r#"{"a":"1","b":null}"#));
        for forged in ["a", "\"a\"", "\"a\"=>", "\"a\"=>NUL", "\"a\"=>\"1\","] {
            assert_eq!(hstore(forged), None, "{forged}");
        }
        assert_eq!(compact(r#"{"a b": "c \" d", "e": [1, 2]}"#), r#"{"a b":"c \" d","e":[1,2]}"#);
    }
}
