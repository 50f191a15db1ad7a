//! A program's text as tokens.
//!
//! Syntax: CEL language definition, "Syntax" (<https://github.com/google/cel-spec/blob/master/doc/langdef.md>).

use super::error::{ExprError, Problem, Span};
use super::escape;
use super::number::{MAX_EXPONENT, Number};

/// A token and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Name(String),
    /// As it was written.
    Number(String),
    Text(String),
    Symbol(&'static str),
    End,
}

impl Kind {
    /// As a message names it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Number(text) => format!("`{text}`"),
            Self::Text(_) => "a string".to_owned(),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", "(", ")", "[", "]",
    ".", ",",
];

/// What other languages write, and what CEL writes for it. Tried before [`SYMBOLS`].
const FOREIGN: &[(&str, &str)] = &[
    ("===", "`==`"),
    ("!==", "`!=`"),
    ("<>", "`!=`"),
    ("=>", "`>=`"),
    ("=<", "`<=`"),
    ("=~", "`x.matches('pattern')`"),
    ("**", "`*`"),
    ("::", "`int(x)`, `string(x)` or `timestamp(x)`"),
    (":=", "`==`"),
];

/// The same, where no longer symbol begins so.
const FOREIGN_SINGLE: &[(&str, &str)] =
    &[("=", "`==`"), ("&", "`&&`"), ("|", "`||`"), ("~", "`x.matches('pattern')`")];

/// All tokens; the last one is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.blanks();
        let start = lexer.at;
        let kind = lexer.token()?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, span: Span::new(start, lexer.at) });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn token(&mut self) -> Result<Kind, ExprError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Kind::End) };
        let second = rest.as_bytes().get(1).copied().unwrap_or_default();
        if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit()) {
            return self.number();
        }
        if let Some(raw) = escape::opening(rest) {
            let (text, length) = escape::read(rest, raw).map_err(|(at, problem)| {
                ExprError::new(Span::new(self.at + at.start, self.at + at.end), problem)
            })?;
            self.at += length;
            return Ok(Kind::Text(text));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            let name = &rest[..length];
            if matches!(rest.as_bytes().get(length), Some(b'\'' | b'"')) {
                return Err(self.prefixed(name, length));
            }
            self.at += length;
            return Ok(Kind::Name(name.to_owned()));
        }
        self.symbol(rest, first)
    }

    fn prefixed(&self, name: &str, length: usize) -> ExprError {
        let bytes = name.bytes().all(|b| matches!(b, b'b' | b'B' | b'r' | b'R'));
        let problem = if bytes {
            let instead = "a bytes column is compared with its text, such as after.data == '\\\\xdeadbeef'";
            Problem::Unsupported { what: "bytes", instead }
        } else {
            Problem::Expected { expected: "an operator", found: "a string".to_owned() }
        };
        let end = self.at + length;
        ExprError::new(if bytes { Span::new(self.at, end + 1) } else { Span::new(end, end + 1) }, problem)
    }

    fn symbol(&mut self, rest: &str, first: char) -> Result<Kind, ExprError> {
        let foreign = |list: &'static [(&'static str, &'static str)]| {
            list.iter().find(|(found, _)| rest.starts_with(found)).map(|&(found, write)| {
                let span = Span::new(self.at, self.at + found.len());
                ExprError::new(span, Problem::Operator { found, write })
            })
        };
        if let Some(error) = foreign(FOREIGN) {
            return Err(error);
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(Kind::Symbol(symbol));
        }
        if let Some(error) = foreign(FOREIGN_SINGLE) {
            return Err(error);
        }
        let problem = match first {
            '{' | '}' => {
                Problem::Unsupported { what: "maps", instead: "`x in [..]` asks for one of several values" }
            }
            '`' => Problem::Unsupported { what: "backticks", instead: "write after['odd name']" },
            ';' => Problem::Character { found: first, write: Some("an expression has no end mark") },
            '#' => Problem::Character { found: first, write: Some("comments begin with //") },
            '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
                Problem::Character { found: first, write: Some("write straight quotes, ' or \"") }
            }
            _ if first.is_alphabetic() => Problem::Character {
                found: first,
                write: Some("write after['name'] for a column with such a name"),
            },
            _ => Problem::Character { found: first, write: None },
        };
        Err(ExprError::new(Span::new(self.at, self.at + first.len_utf8()), problem))
    }

    fn number(&mut self) -> Result<Kind, ExprError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits =
            |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut length;
        if rest.starts_with("0x") || rest.starts_with("0X") {
            length = 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        } else {
            length = digits(0);
            if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
                length += 1 + digits(length + 1);
            }
            if matches!(bytes.get(length), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
                length += 1 + sign + digits(length + 1 + sign);
            }
        }
        if matches!(bytes.get(length), Some(b'u' | b'U')) {
            length += 1;
        }
        let glued = bytes[length..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let span = Span::new(self.at, self.at + length + glued);
        if glued > 0 {
            return Err(ExprError::new(span, Problem::Number));
        }
        match Number::literal(&rest[..length]) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(ExprError::new(span, Problem::Number)),
            Err(_) => return Err(ExprError::new(span, Problem::NumberSize { most: MAX_EXPONENT })),
        }
        self.at += length;
        Ok(Kind::Number(rest[..length].to_owned()))
    }
}
