//! String literals: what their quotes and escapes mean, and how they are written.

use std::ops::Range;

use super::error::Problem;

/// How a literal begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// No escapes.
    raw: bool,
    /// `'`, `"`, `'''` or `"""`.
    quote: &'static str,
}

/// Whether a string literal begins here.
pub(super) fn opening(text: &str) -> Option<Opening> {
    let unprefixed = text.strip_prefix(['r', 'R']);
    let body = unprefixed.unwrap_or(text);
    let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| body.starts_with(quote))?;
    Some(Opening { raw: unprefixed.is_some(), quote })
}

/// The value of the literal at the beginning of `text`, and the bytes that it takes.
pub(super) fn read(text: &str, opening: Opening) -> Result<(String, usize), (Range<usize>, Problem)> {
    let Opening { raw, quote } = opening;
    let unclosed = || (0..quote.len() + usize::from(raw), Problem::UnclosedString { quote });
    let mut at = quote.len() + usize::from(raw);
    let mut value = String::new();
    loop {
        let rest = text.get(at..).ok_or_else(unclosed)?;
        if rest.starts_with(quote) {
            return Ok((value, at + quote.len()));
        }
        let next = rest.chars().next().ok_or_else(unclosed)?;
        if matches!(next, '\n' | '\r') && quote.len() == 1 {
            return Err(unclosed());
        }
        if next == '\\' && !raw {
            let escaped = rest[1..].chars().next().ok_or_else(unclosed)?;
            let (c, length) =
                escape(escaped, &rest[1..]).map_err(|problem| (at..at + 1 + escaped.len_utf8(), problem))?;
            value.push(c);
            at += 1 + length;
        } else {
            value.push(next);
            at += next.len_utf8();
        }
    }
}

/// What follows a backslash: the character and the bytes that name it.
fn escape(first: char, rest: &str) -> Result<(char, usize), Problem> {
    let code = |from: usize, length: usize, radix: u32| {
        let digits = rest.get(from..from + length).filter(|text| text.chars().all(|c| c.is_digit(radix)));
        let code = digits.and_then(|text| u32::from_str_radix(text, radix).ok());
        let code = code.filter(|code| radix != 8 || *code < 256);
        code.and_then(char::from_u32).map(|c| (c, from + length)).ok_or(Problem::EscapeCode)
    };
    let plain = match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '?' | '"' | '\'' | '`' => first,
        'x' | 'X' => return code(1, 2, 16),
        'u' => return code(1, 4, 16),
        'U' => return code(1, 8, 16),
        '0'..='3' => return code(0, 3, 8),
        _ => return Err(Problem::Escape { found: first }),
    };
    Ok((plain, 1))
}

/// The literal of a text, in single quotes.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
